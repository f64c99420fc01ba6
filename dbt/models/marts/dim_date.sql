with dates as (
    select production_date from {{ ref('stg_lake__shift_calendar') }}
    union all
    select production_date from {{ ref('stg_lake__measurement') }}
    union all
    select production_date from {{ ref('stg_lake__downtime_event') }}
),

span as (
    select min(production_date) as first_date, max(production_date) as last_date
    from dates
)

select
    day::date as production_date,
    isoyear(day) as iso_year,
    weekofyear(day) as iso_week,
    isodow(day) as iso_weekday,
    strftime(day, '%a') as weekday_name,
    year(day) as calendar_year,
    month(day) as calendar_month,
    strftime(day, '%Y-%m') as year_month
from span
cross join unnest(generate_series(span.first_date, span.last_date, interval 1 day)) as series(day)
