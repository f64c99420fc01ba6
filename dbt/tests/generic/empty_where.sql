{# Rows in which one of the columns is filled although the condition says that it has no meaning there. #}
{% test empty_where(model, columns, condition) %}
select *
from {{ model }}
where ({{ condition }}) and coalesce({{ columns | join(', ') }}) is not null
{% endtest %}
