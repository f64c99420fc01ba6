{# Rows in which the given columns do not rise from left to right; empty values are passed over. #}
{% test ordered(model, columns) %}
select *
from {{ model }}
where
    {% for lower in columns[:-1] -%}
    {%- set upper = columns[loop.index] -%}
    {{ lower }} > {{ upper }}{{ " or " if not loop.last }}
    {%- endfor %}
{% endtest %}
