select
    measurement.source_id,
    measurement.record_id,
    measurement.revision,
    measurement.production_date,
    measurement.measured_at,
    measurement.characteristic_id,
    measurement.equipment_id,
    measurement.work_center_id,
    measurement.shift_id,
    measurement.value,
    measurement.unit,
    measurement.unit_conversion,
    measurement.serial_number,
    measurement.material_lot_id,
    measurement.job_order_id,
    measurement.subgroup_key,
    case
        when characteristic.subgrouping <> 'key' or measurement.subgroup_key is not null
            then last_value(started.subgroup_id ignore nulls) over subgroup
    end as subgroup_id,
    measurement.specification_version,
    specification.lsl,
    specification.target,
    specification.usl,
    case
        when specification.lsl is not null or specification.usl is not null
            then not (coalesce(measurement.value < specification.lsl, false) or coalesce(measurement.value > specification.usl, false))
    end as is_within_specification,
    flags.is_masked,
    flags.mask_reason,
    flags.iqr_low,
    flags.iqr_high,
    flags.hampel_score,
    flags.value_cleaned,
    measurement.updated_at,
    measurement.page_sha256,
    measurement.page_row
from {{ ref('stg_lake__measurement') }} as measurement
left join {{ ref('stg_lake__measurement_flags') }} as flags
    on
        measurement.production_date = flags.production_date
        and measurement.source_id = flags.source_id
        and measurement.record_id = flags.record_id
left join {{ ref('stg_site__specifications') }} as specification
    on
        measurement.characteristic_id = specification.characteristic_id
        and measurement.specification_version = specification.version
left join {{ ref('dim_characteristic') }} as characteristic
    on
        measurement.characteristic_id = characteristic.characteristic_id
        and measurement.equipment_id = characteristic.equipment_id
-- a subgroup is named after its first record; the values that follow it belong to it until the next begins
left join {{ ref('stg_lake__spc_subgroups') }} as started
    on
        measurement.characteristic_id || '|' || measurement.equipment_id || '|' || measurement.source_id || ':' || measurement.record_id
        = started.subgroup_id
window subgroup as (
    partition by
        measurement.characteristic_id,
        measurement.equipment_id,
        measurement.production_date,
        measurement.specification_version,
        case when characteristic.subgrouping = 'key' then measurement.subgroup_key end
    order by measurement.measured_at, measurement.source_id, measurement.record_id
    rows between unbounded preceding and current row
)
