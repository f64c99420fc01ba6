{#
  Quarantined rows of one lake table: where the row came from, what it is about, when it happened, why it was rejected.
  subject is the column that names the equipment, characteristic or stream; happened_at that of its time.
#}
{% macro rejected_rows(table, subject, happened_at) %}
select
    source_id,
    record_id,
    revision,
    updated_at at time zone 'UTC' as updated_at,
    page_sha256,
    page_row,
    production_date,
    raw_record,
    {{ subject }},
    {{ happened_at }} at time zone 'UTC' as {{ happened_at }},
    reasons
from {{ source('lake', table) }}
{% endmacro %}
