select
    reason_code,
    description,
    time_element,
    loss_category
from {{ source('site', 'reasons') }}
