{# Rows whose value lies outside [minimum, maximum]. #}
{% test in_range(model, column_name, minimum, maximum) %}
select *
from {{ model }}
where {{ column_name }} < {{ minimum }} or {{ column_name }} > {{ maximum }}
{% endtest %}
