select
    characteristic_id,
    equipment_id,
    subgroup_id,
    subgroup_at at time zone 'UTC' as subgroup_at,
    subgroup_end_at at time zone 'UTC' as subgroup_end_at,
    shift_id,
    job_order_id,
    n_observed,
    count,
    size,
    production_date
from {{ source('lake', 'spc_count_subgroups') }}
