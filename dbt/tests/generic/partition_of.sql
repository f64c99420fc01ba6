{# Rows whose parts do not add up to the total, within the rounding of one microsecond a part. #}
{% test partition_of(model, total, parts) %}
select *
from {{ model }}
where abs({{ total }} - ({{ parts | join(' + ') }})) > 1e-6 * {{ parts | length }}
{% endtest %}
