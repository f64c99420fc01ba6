select
    clock_id,
    measured_at at time zone 'UTC' as measured_at,
    offset_s,
    uncertainty_s,
    method,
    samples,
    round_trip_s
from {{ source('lake', 'clock_offset') }}
