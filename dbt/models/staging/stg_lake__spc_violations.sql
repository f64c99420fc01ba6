select
    characteristic_id,
    equipment_id,
    subgroup_id,
    subgroup_at at time zone 'UTC' as subgroup_at,
    panel,
    rule_set,
    rule,
    rule_text,
    side,
    z,
    window_subgroup_ids,
    limit_version,
    production_date
from {{ source('lake', 'spc_violations') }}
