select
    characteristic_id,
    equipment_id,
    subgroup_id,
    subgroup_at at time zone 'UTC' as subgroup_at,
    panel,
    rule_set,
    rule,
    rule_text,
    verdict,
    limit_version,
    shadow_version,
    z_in_force,
    z_shadow,
    production_date
from {{ source('lake', 'spc_shadow') }}
