with sums as (
    select
        work_center_id,
        production_date,
        {{ summed_seconds_if_all_known('pbt_s') }},
        {{ summed_seconds_if_all_known('value_adding_s') }},
        {{ summed_seconds_if_all_known('equipment_failure_s') }},
        {{ summed_seconds_if_all_known('setup_and_adjustment_s') }},
        {{ summed_seconds_if_all_known('idling_and_minor_stops_s') }},
        {{ summed_seconds_if_all_known('reduced_speed_s') }},
        {{ summed_seconds_if_all_known('process_defects_s') }},
        {{ summed_seconds_if_all_known('reduced_yield_s') }},
        {{ summed_seconds_if_all_known('no_order_s') }},
        {{ summed_seconds_if_all_known('unknown_s') }},
        max(as_of) as as_of
    from {{ ref('fct_oee_loss') }}
    group by work_center_id, production_date
),

losses as (
    select
        sums.work_center_id,
        sums.production_date,
        each.loss.name as loss,
        each.loss.kind as loss_group,
        each.loss.seconds as lost_s,
        sums.pbt_s,
        sums.value_adding_s,
        sums.as_of
    from sums
    cross join lateral (
        select unnest([
            {name: 'equipment_failure', kind: 'availability', seconds: sums.equipment_failure_s},
            {name: 'setup_and_adjustment', kind: 'availability', seconds: sums.setup_and_adjustment_s},
            {name: 'idling_and_minor_stops', kind: 'performance', seconds: sums.idling_and_minor_stops_s},
            {name: 'reduced_speed', kind: 'performance', seconds: sums.reduced_speed_s},
            {name: 'process_defects', kind: 'quality', seconds: sums.process_defects_s},
            {name: 'reduced_yield', kind: 'quality', seconds: sums.reduced_yield_s},
            {name: 'no_order', kind: 'none', seconds: sums.no_order_s},
            {name: 'unknown', kind: 'none', seconds: sums.unknown_s}
        ]) as loss
    ) as each
)

select
    work_center_id,
    production_date,
    loss,
    loss_group,
    lost_s,
    case when pbt_s > 0 then lost_s / pbt_s end as share,
    row_number() over (
        partition by work_center_id, production_date
        order by loss_group = 'none', lost_s desc nulls last, loss
    ) as loss_rank,
    pbt_s,
    value_adding_s,
    as_of
from losses
