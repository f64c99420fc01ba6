{#
  Ratios of ISO 22400-2 and of TPM (Nakajima) from sums of their elements, never from other ratios: the same
  rules, names and reason codes as spc_platform.production.oee, which a test holds them to.
  Expects the columns pbt_s, apt_s, aust_s, minor_stop_s, pq, ideal_pq_s = sum(PRI * PQ) and
  ideal_gq_s = sum(PRI * GQ); the latter two are empty when the ideal cycle of a produced item is unknown.

    availability  = APT / PBT                      tpm_availability = (APT + minor stops) / PBT
    effectiveness = sum(PRI * PQ) / APT            tpm_performance  = sum(PRI * PQ) / (APT + minor stops)
    quality       = sum(PRI * GQ) / sum(PRI * PQ)
    oee           = sum(PRI * GQ) / PBT            nee = (APT + AUST) / PBT * effectiveness * quality

  A ratio that has no meaning is empty, with its reason: neither 0 nor 1. No ratio is capped.
#}
{% macro oee_ratios() %}
    case when pbt_s > 0 then apt_s / pbt_s end as availability,
    case when apt_s > 0 then ideal_pq_s / apt_s end as effectiveness,
    case when pq > 0 then ideal_gq_s / ideal_pq_s end as quality,
    case when pbt_s > 0 and (apt_s > 0 or pq = 0) then ideal_gq_s / pbt_s end as oee,
    case
        when pbt_s > 0 and apt_s > 0 then (apt_s + aust_s) / pbt_s * (ideal_gq_s / apt_s)
        when pbt_s > 0 and pq = 0 then 0
    end as nee,
    case when pbt_s > 0 then (apt_s + minor_stop_s) / pbt_s end as tpm_availability,
    case
        when apt_s + minor_stop_s > 0 and (apt_s > 0 or pq = 0) then ideal_pq_s / (apt_s + minor_stop_s)
    end as tpm_performance,
    nullif(
        concat_ws(
            ';',
            case when pbt_s = 0 then 'NO_BUSY_TIME' end,
            case when apt_s = 0 and pq > 0 then 'COUNT_WITHOUT_RUN' end,
            case when apt_s = 0 and pq = 0 then 'NOT_RUN' end,
            case when pq = 0 then 'NOTHING_PRODUCED' end,
            case when ideal_pq_s is null then 'NO_IDEAL_CYCLE' end
        ),
        ''
    ) as reason,
    coalesce(apt_s > 0 and ideal_pq_s > apt_s * (1 + 1e-9), false) as suspect_ideal_cycle
{% endmacro %}

{# Exact in any order: whole microseconds are added, not fractions of seconds. #}
{% macro summed_seconds(name) -%}
    sum(round({{ name }} * 1e6)::bigint) / 1e6 as {{ name }}
{%- endmacro %}

{# The same, but one unknown value leaves the whole sum unknown. #}
{% macro summed_seconds_if_all_known(name) -%}
    case when count(*) = count({{ name }}) then sum(round({{ name }} * 1e6)::bigint) / 1e6 end as {{ name }}
{%- endmacro %}
