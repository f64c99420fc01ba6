select
    chart_id,
    equipment_id,
    characteristic_id,
    chart
from {{ source('site', 'multivariate') }}
