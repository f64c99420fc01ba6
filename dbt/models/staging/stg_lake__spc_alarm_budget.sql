select
    characteristic_id,
    equipment_id,
    chart,
    rule_set,
    points_per_day,
    arl0,
    method,
    standard_error,
    expected_false_alarms_per_day,
    observed_signals_per_day,
    p_value_adjusted,
    is_discovery,
    shift_sigma,
    shift_standard_error,
    rank
from {{ source('lake', 'spc_alarm_budget') }}
