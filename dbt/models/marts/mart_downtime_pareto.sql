with losses as (
    select
        work_center_id,
        equipment_id,
        coalesce(reason_code, '(none)') as reason_code,
        any_value(reason_description) as reason_description,
        any_value(loss_category) as loss_category,
        count(*) as n_stops,
        count(*) filter (where stop_class = 'micro_stop') as n_micro_stops,
        sum(duration_s) as duration_s,
        max(duration_s) as longest_s,
        min(production_date) as first_production_date,
        max(production_date) as last_production_date,
        max(as_of) as as_of
    from {{ ref('fct_downtime') }}
    where is_loss
    group by 1, 2, 3
)

select
    equipment_id,
    reason_code,
    work_center_id,
    reason_description,
    loss_category,
    n_stops,
    n_micro_stops,
    duration_s,
    duration_s / n_stops as mean_stop_s,
    longest_s,
    row_number() over ranked as pareto_rank,
    case when sum(duration_s) over unit > 0 then duration_s / sum(duration_s) over unit end as share,
    case when sum(duration_s) over unit > 0 then sum(duration_s) over ranked / sum(duration_s) over unit end as cumulative_share,
    first_production_date,
    last_production_date,
    as_of
from losses
window
    unit as (partition by equipment_id),
    ranked as (partition by equipment_id order by duration_s desc, reason_code rows unbounded preceding)
