with sums as (
    select
        equipment_id,
        production_date,
        shift_id,
        any_value(work_center_id) as work_center_id,
        {{ summed_seconds('pot_s') }},
        {{ summed_seconds('pdt_s') }},
        {{ summed_seconds('pbt_s') }},
        {{ summed_seconds('apt_s') }},
        {{ summed_seconds('aust_s') }},
        {{ summed_seconds('adet_s') }},
        {{ summed_seconds('minor_stop_s') }},
        {{ summed_seconds('adot_s') }},
        {{ summed_seconds('unknown_s') }},
        sum(pq)::bigint as pq,
        sum(gq)::bigint as gq,
        sum(sq)::bigint as sq,
        sum(rq)::bigint as rq,
        -- one unknown ideal cycle leaves the whole sum unknown
        case when count(*) = count(ideal_pq_s) then sum(ideal_pq_s order by material_definition_id) end as ideal_pq_s,
        case when count(*) = count(ideal_gq_s) then sum(ideal_gq_s order by material_definition_id) end as ideal_gq_s,
        string_agg(distinct data_quality, ';' order by data_quality) as data_quality,
        max(as_of) as as_of
    from {{ ref('fct_oee') }}
    group by equipment_id, production_date, shift_id
)

select
    sums.equipment_id,
    sums.production_date,
    sums.shift_id,
    sums.work_center_id,
    shift.start_at as shift_start_at,
    shift.end_at as shift_end_at,
    sums.pot_s,
    sums.pdt_s,
    sums.pbt_s,
    sums.apt_s,
    sums.aust_s,
    sums.adet_s,
    sums.minor_stop_s,
    sums.adot_s,
    sums.unknown_s,
    sums.pq,
    sums.gq,
    sums.sq,
    sums.rq,
    sums.ideal_pq_s,
    sums.ideal_gq_s,
    {{ oee_ratios() }},
    sums.data_quality,
    sums.as_of
from sums
left join {{ ref('stg_lake__shift_calendar') }} as shift
    on
        sums.equipment_id = shift.equipment_id
        and sums.production_date = shift.production_date
        and sums.shift_id = shift.shift_id
