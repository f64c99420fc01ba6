select
    clock_id,
    measured_at,
    offset_s,
    uncertainty_s,
    method,
    samples,
    round_trip_s
from {{ ref('stg_lake__clock_offset') }}
