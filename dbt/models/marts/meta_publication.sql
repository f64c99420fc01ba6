with counted as (
    select
        (select count(*) from {{ ref('fct_measurement') }}) as measurements,
        (select count(*) from {{ ref('fct_subgroup') }}) as subgroups,
        (select count(*) from {{ ref('mart_control_chart_point') }}) as points,
        (select count(*) from {{ ref('fct_spc_violation') }}) as violations,
        (select count(*) from {{ ref('fct_control_limit') }}) as limit_versions,
        (select count(*) from {{ ref('mart_oee_by_shift') }}) as oee_shifts,
        (select count(*) from {{ ref('fct_downtime') }}) as stops,
        (select count(distinct (refused_by, source_id, record_id, revision)) from {{ ref('mart_rejected') }}) as rejected_records,
        (select min(production_date) from {{ ref('dim_date') }}) as first_production_date,
        (select max(production_date) from {{ ref('dim_date') }}) as last_production_date,
        greatest(
            (select max(measured_at) from {{ ref('fct_measurement') }}),
            (select max(updated_at) from {{ ref('fct_measurement') }}),
            (select max(as_of) from {{ ref('fct_oee') }})
        ) as as_of
)

select
    '{{ env_var('SPC_PUBLISHED_VERSION', '') | replace("'", "''") }}' as published_version,
    '{{ env_var('SPC_RUN_ID', '') | replace("'", "''") }}' as run_id,
    *
from counted
