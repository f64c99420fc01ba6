select
    signal.subgroup_id,
    signal.panel,
    signal.rule,
    signal.shadow_version,
    signal.characteristic_id,
    signal.equipment_id,
    signal.subgroup_at,
    signal.rule_set,
    signal.rule_text,
    signal.verdict,
    signal.limit_version,
    signal.z_in_force,
    signal.z_shadow,
    signal.production_date
from {{ ref('stg_lake__spc_shadow') }} as signal
