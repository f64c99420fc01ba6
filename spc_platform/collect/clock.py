"""What collected sources say of their clocks, for the published offsets."""

from __future__ import annotations

from datetime import datetime

from spc_platform.lake.clock_log import ClockLog
from spc_platform.prepare.clock import ClockExchange
from spc_platform.settings import Settings

SERVER_TIME_STEP_S = 1.0
"""An OPC UA server may refresh CurrentTime only once a second (asyncua's does), so it stands up to that much later."""


def record_server_time(
    settings: Settings, source_id: str, sent_at: datetime, server_time: datetime, received_at: datetime
) -> None:
    """Keep one reading of an OPC UA server's CurrentTime between two looks at our clock, all aware."""
    exchange = ClockExchange(source_id, "opcua_server_time", sent_at, server_time, server_time, received_at, SERVER_TIME_STEP_S)
    ClockLog(settings.ledger_path.parent).record([exchange])
