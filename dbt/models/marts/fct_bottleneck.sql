select
    equipment_id,
    production_date,
    shift_id,
    work_center_id,
    active_s,
    momentary_s,
    sole_s,
    shifting_s,
    is_bottleneck
from {{ ref('stg_lake__bottleneck') }}
