{# Rows whose stated number of members is not the number of members found: a figure that cannot be traced. #}
{% test traced_to(model, key, count_column, members) %}
select stated.{{ key }}, stated.{{ count_column }}, found.n
from (select * from {{ model }}) as stated
left join (select {{ key }}, count(*) as n from {{ members }} group by {{ key }}) as found
    on stated.{{ key }} = found.{{ key }}
where stated.{{ count_column }} is distinct from found.n
{% endtest %}
