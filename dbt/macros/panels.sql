{#
  Unit of a plotted value: that of the characteristic, but for statistics that are shares or numbers of standard errors.
  Expects the columns statistic and chart of the relation point, and unit of the relation characteristic.
#}
{% macro statistic_unit(point, characteristic) -%}
    case
        when {{ point }}.statistic in ('z', 'cusum_upper', 'cusum_lower', 'p', 'np') or {{ point }}.chart = 'z_mr' then '1'
        else {{ characteristic }}.unit
    end
{%- endmacro %}

{#
  Line of a zone: the centre line plus a number of standard errors, where the statistic has such a line at all.
  A CUSUM has a decision interval and no zones; g and t charts have limits of their distribution and no standard error.
  The line stops where no value can be: greatest() and least() pass over empty values, hence the case.
#}
{% macro zone_line(point, standard_errors) -%}
    case
        when
            {{ point }}.panel not in ('upper', 'lower')
            and {{ point }}.cl is not null
            and {{ point }}.standard_error is not null
            then least(
                greatest({{ point }}.cl + ({{ standard_errors }}) * {{ point }}.standard_error, {{ point }}.smallest_value),
                {{ point }}.largest_value
            )
    end
{%- endmacro %}
