select
    equipment_id,
    work_center_id,
    shift_id,
    active_s,
    momentary_s,
    sole_s,
    shifting_s,
    is_bottleneck,
    production_date
from {{ source('lake', 'bottleneck') }}
