select
    reason_code,
    description,
    time_element,
    loss_category
from {{ ref('stg_site__reasons') }}
