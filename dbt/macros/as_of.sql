{#
  Until when the plant was known for figures of a production date: all tables made of its states and counts share it.
#}
{% macro as_of_dates() -%}
(select production_date, max(as_of) as as_of from {{ ref('stg_lake__oee_elements') }} group by production_date)
{%- endmacro %}
