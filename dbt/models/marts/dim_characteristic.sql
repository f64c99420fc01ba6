with newest_specification as (
    select *
    from {{ ref('stg_site__specifications') }}
    qualify row_number() over (partition by characteristic_id order by version desc) = 1
)

select
    characteristic.characteristic_id,
    characteristic.equipment_id,
    characteristic.description,
    characteristic.unit,
    characteristic.chart,
    characteristic.subgrouping,
    characteristic.subgroup_size,
    characteristic.estimator,
    characteristic.rule_set,
    characteristic.counted,
    characteristic.weight,
    characteristic.span,
    characteristic.reference,
    characteristic.decision,
    characteristic.head_start,
    characteristic.distribution,
    specification.version as specification_version,
    specification.lsl,
    specification.target,
    specification.usl,
    specification.effective_from as specification_from,
    characteristic.iqr_multiplier,
    characteristic.hampel_window,
    characteristic.hampel_multiplier
from {{ ref('stg_site__characteristics') }} as characteristic
left join newest_specification as specification
    on characteristic.characteristic_id = specification.characteristic_id
