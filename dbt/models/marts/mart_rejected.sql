{%- set event_time = {
    'measurement': 'measured_at',
    'telemetry': 'observed_at',
    'equipment_state': 'start_at',
    'production_count': 'counted_at',
    'work_order': 'start_at',
    'work_order_event': 'occurred_at',
    'segment_event': 'occurred_at',
    'material_link': 'occurred_at',
    'signal_event': 'occurred_at',
} -%}
{%- set about = {
    'measurement': 'characteristic_id',
    'telemetry': 'stream_id',
    'equipment_state': 'equipment_id',
    'production_count': 'equipment_id',
    'work_order': 'work_center_id',
    'work_order_event': 'job_order_id',
    'segment_event': 'item_id',
    'material_link': 'child_id',
    'signal_event': 'equipment_id',
} -%}
with refused as (
    {%- for table, at in event_time.items() %}
    select
        '{{ table }}' as refused_by,
        source_id,
        record_id,
        revision,
        production_date,
        {{ at }} as event_at,
        {{ about[table] }} as subject_id,
        unnest(string_split(reasons, ';')) as reason,
        raw_record,
        updated_at,
        page_sha256,
        page_row
    from {{ ref('stg_lake__' ~ table ~ '_rejected') }}
    {% if not loop.last %}union all{% endif %}
    {%- endfor %}
)

select distinct
    refused_by,
    source_id,
    record_id,
    revision,
    reason,
    case when contains(reason, ':') then split_part(reason, ':', 1) end as column_name,
    case when contains(reason, ':') then substr(reason, strpos(reason, ':') + 1) else reason end as reason_code,
    production_date,
    event_at,
    subject_id,
    raw_record,
    updated_at,
    page_sha256,
    page_row
from refused
