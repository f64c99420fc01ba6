with dates as (
    select production_date from {{ ref('stg_lake__spc_points') }}
    union
    select production_date from {{ ref('stg_lake__spc_vector_points') }}
),

recent as (
    select production_date
    from dates
    order by production_date desc
    limit 7
),

signals as (
    select
        point.characteristic_id,
        point.equipment_id,
        max(point.production_date) as last_production_date,
        count(distinct point.subgroup_id) filter (where recent.production_date is not null) as n_samples_7d,
        count(distinct point.subgroup_id) filter (where recent.production_date is not null and point.rules is not null) as n_signals_7d,
        max(point.subgroup_at) filter (where point.rules is not null) as last_signal_at
    from {{ ref('stg_lake__spc_points') }} as point
    left join recent on point.production_date = recent.production_date
    group by point.characteristic_id, point.equipment_id
),

newest_capability as (
    select *
    from {{ ref('stg_lake__spc_capability') }}
    qualify row_number() over (partition by characteristic_id, equipment_id order by specification_version desc) = 1
),

multivariate_chart as (
    select
        chart_id,
        equipment_id,
        chart,
        string_agg(characteristic_id, ', ' order by characteristic_id) as description
    from {{ ref('stg_site__multivariate') }}
    group by chart_id, equipment_id, chart
),

multivariate_signals as (
    select
        point.chart_id,
        max(point.production_date) as last_production_date,
        count(*) filter (where recent.production_date is not null) as n_samples_7d,
        count(*) filter (where recent.production_date is not null and point.is_signal) as n_signals_7d,
        max(point.vector_at) filter (where point.is_signal) as last_signal_at
    from {{ ref('stg_lake__spc_vector_points') }} as point
    left join recent on point.production_date = recent.production_date
    group by point.chart_id
),

multivariate_version as (
    select chart_id, limit_version, effective_from, approved_by
    from {{ ref('stg_lake__spc_vector_limits') }}
    qualify row_number() over (partition by chart_id order by limit_version desc, characteristic_id, other_characteristic_id) = 1
)

select
    chart.characteristic_id as chart_id,
    chart.equipment_id,
    chart.characteristic_id,
    equipment.work_center_id,
    chart.description,
    chart.unit,
    chart.chart,
    chart.rule_set,
    false as is_multivariate,
    budget.rank,
    coalesce(budget.is_discovery, false) as is_discovery,
    budget.p_value_adjusted,
    budget.shift_sigma,
    budget.shift_standard_error,
    coalesce(signals.n_samples_7d, 0) as n_samples_7d,
    coalesce(signals.n_signals_7d, 0) as n_signals_7d,
    signals.last_signal_at,
    signals.last_production_date,
    budget.expected_false_alarms_per_day,
    budget.observed_signals_per_day,
    version.limit_version,
    version.effective_from as limits_from,
    version.approved_by as limits_approved_by,
    version.warning as limits_warning,
    fitness.verdict as fitness_verdict,
    fitness.reasons as fitness_reasons,
    fitness.suggested_chart,
    fitness.implied_false_alarm_rate,
    drift.verdict as drift_verdict,
    drift.shift as drift_shift,
    drift.ratio as drift_ratio,
    capability.specification_version,
    capability.stability,
    capability.cpk,
    capability.cpk_ci_low,
    capability.cpk_ci_high,
    capability.ppk,
    capability.ppk_ci_low,
    capability.ppk_ci_high,
    capability.reason as capability_reason
from {{ ref('dim_characteristic') }} as chart
left join {{ ref('dim_equipment') }} as equipment
    on chart.equipment_id = equipment.equipment_id
left join signals
    on chart.characteristic_id = signals.characteristic_id and chart.equipment_id = signals.equipment_id
left join {{ ref('stg_lake__spc_alarm_budget') }} as budget
    on chart.characteristic_id = budget.characteristic_id and chart.equipment_id = budget.equipment_id
left join {{ ref('stg_lake__spc_limits') }} as version
    on
        chart.characteristic_id = version.characteristic_id
        and chart.equipment_id = version.equipment_id
        and version.effective_to is null
left join {{ ref('stg_lake__spc_chart_fitness') }} as fitness
    on chart.characteristic_id = fitness.characteristic_id and chart.equipment_id = fitness.equipment_id
left join {{ ref('stg_lake__spc_limit_drift') }} as drift
    on chart.characteristic_id = drift.characteristic_id and chart.equipment_id = drift.equipment_id
left join newest_capability as capability
    on chart.characteristic_id = capability.characteristic_id and chart.equipment_id = capability.equipment_id

union all by name

select
    chart.chart_id,
    chart.equipment_id,
    equipment.work_center_id,
    chart.description,
    '1' as unit,
    chart.chart,
    true as is_multivariate,
    false as is_discovery,
    coalesce(signals.n_samples_7d, 0) as n_samples_7d,
    coalesce(signals.n_signals_7d, 0) as n_signals_7d,
    signals.last_signal_at,
    signals.last_production_date,
    version.limit_version,
    version.effective_from as limits_from,
    version.approved_by as limits_approved_by
from multivariate_chart as chart
left join {{ ref('dim_equipment') }} as equipment
    on chart.equipment_id = equipment.equipment_id
left join multivariate_signals as signals
    on chart.chart_id = signals.chart_id
left join multivariate_version as version
    on chart.chart_id = version.chart_id
