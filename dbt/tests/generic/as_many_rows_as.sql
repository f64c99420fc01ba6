{# The two row counts, when they differ: a join that multiplied or lost rows. #}
{% test as_many_rows_as(model, other) %}
select mart.n as rows_here, other.n as rows_there
from (select count(*) as n from {{ model }}) as mart
cross join (select count(*) as n from {{ other }}) as other
where mart.n <> other.n
{% endtest %}
