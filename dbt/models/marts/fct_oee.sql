with elements as (
    select
        *,
        case when pq = 0 then 0 else pri_s * pq end as ideal_pq_s,
        case when pq = 0 then 0 else pri_s * gq end as ideal_gq_s
    from {{ ref('stg_lake__oee_elements') }}
)

select
    equipment_id,
    production_date,
    shift_id,
    material_definition_id,
    work_center_id,
    pot_s,
    pdt_s,
    pbt_s,
    apt_s,
    aust_s,
    adet_s,
    minor_stop_s,
    adot_s,
    unknown_s,
    pri_s,
    pq,
    gq,
    sq,
    rq,
    ideal_pq_s,
    ideal_gq_s,
    {{ oee_ratios() }},
    data_quality,
    as_of
from elements
