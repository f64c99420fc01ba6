select
    budget.characteristic_id,
    budget.equipment_id,
    budget.chart,
    budget.rule_set,
    budget.points_per_day,
    budget.arl0,
    budget.method,
    budget.standard_error,
    budget.expected_false_alarms_per_day,
    budget.observed_signals_per_day,
    budget.p_value_adjusted,
    budget.is_discovery,
    budget.shift_sigma,
    budget.shift_standard_error,
    budget.rank
from {{ ref('stg_lake__spc_alarm_budget') }} as budget
