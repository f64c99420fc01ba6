select
    characteristic_id,
    equipment_id,
    description,
    unit,
    chart,
    subgrouping,
    subgroup_size,
    estimator,
    rule_set,
    sensor_min,
    sensor_max,
    iqr_multiplier,
    hampel_window,
    hampel_multiplier
from {{ source('site', 'characteristics') }}
