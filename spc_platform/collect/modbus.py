"""Modbus devices, polled by a register map: TCP, RTU over TCP, and RTU or ASCII on a serial line.

``base_url`` is ``tcp://host:502``, ``rtu+tcp://host:502``, or ``rtu:///dev/ttyUSB0`` and ``ascii:///dev/ttyUSB0``. The device
has no clock and no memory: a reading has the time of its answer, and what passed while it was away is a gap.

``limits``
    ``poll_s = 1.0`` between two polls; ``timeout_s = 3.0`` for one answer; ``retries = 2``; ``baudrate = 19200``,
    ``bytesize = 8``, ``parity = "N"``, ``stopbits = 1`` of a serial line.

A request that the device refuses (an address that it does not have) gives bad readings with the exception's name and
leaves the other requests as they are; registers that are read together are then asked for one by one. Of several
devices on one line or gateway those that are silent give bad readings; when all are, the source is away.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from spc_platform.collect.readings import Reading
from spc_platform.collect.registers import Block, Register, blocks, parse_register
from spc_platform.collect.sink import Sink
from spc_platform.collect.spool import Gap
from spc_platform.errors import SiteError, TransientError
from spc_platform.settings import Settings
from spc_platform.site.model import Source
from spc_platform.sources.rest_config import checked

LIMITS: dict[str, Any] = {
    "poll_s": 1.0,
    "timeout_s": 3.0,
    "retries": 2,
    "baudrate": 19200,
    "bytesize": 8,
    "parity": "N",
    "stopbits": 1,
}
EXCEPTIONS = {
    1: "IllegalFunction",
    2: "IllegalDataAddress",
    3: "IllegalDataValue",
    4: "ServerDeviceFailure",
    5: "Acknowledge",
    6: "ServerDeviceBusy",
    8: "MemoryParityError",
    10: "GatewayPathUnavailable",
    11: "GatewayTargetDeviceFailedToRespond",
}
"""Exception codes of the Modbus Application Protocol V1.1b3, section 7."""
NOT_A_NUMBER = "NotANumber"
SILENT = "NoResponse"
AWAY = "the device did not answer"
_ABSENT = frozenset({1, 2, 3})
_SEEN = "seen"


class _Client(Protocol):
    def connect(self) -> bool: ...
    def close(self) -> None: ...


class ModbusConnector:
    """Polls one device or gateway. Raises SiteError for options that are wrong or a client that is not installed."""

    def __init__(self, config: Source, settings: Settings) -> None:
        self._source_id = config.source_id
        self._limits = checked(config.source_id, "limits", config.limits, LIMITS)
        if self._limits["poll_s"] == 0 or self._limits["timeout_s"] == 0:
            raise SiteError(f"source {config.source_id!r}: limits.poll_s and limits.timeout_s must be above 0", code="SPC-470")
        if config.auth or config.pagination:
            raise SiteError(
                f"source {config.source_id!r}: Modbus knows neither auth nor pagination; remove them", code="SPC-470"
            )
        self._url = config.base_url
        self._client = _client(config.source_id, config.base_url, self._limits)

    def __repr__(self) -> str:
        return f"ModbusConnector({self._source_id!r}, {self._url!r})"

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Poll until ``stop``. Raises TransientError when no device answers, SiteError for a tag that is no register."""
        wanted = list(blocks(self._registers(sink.addresses)))
        if not self._client.connect():
            raise TransientError(f"source {self._source_id!r}: nothing answers at {self._url}", code="SPC-160")
        try:
            gaps: list[Gap] | None = self._gaps(sink)
            while not stop.is_set():
                began = time.monotonic()
                readings = self._poll(wanted)
                if gaps is not None:
                    sink.connected(f"polling {self._url}")
                at = max(reading.observed_at for reading in readings)
                sink.put(readings, state={_SEEN: at.isoformat()}, gaps=gaps or ())
                gaps = None
                stop.wait(max(0.0, self._limits["poll_s"] - (time.monotonic() - began)))
        finally:
            self._client.close()

    def _gaps(self, sink: Sink) -> list[Gap]:
        seen = sink.state().get(_SEEN)
        return [] if seen is None else [Gap("*", datetime.fromisoformat(seen), datetime.now(UTC), AWAY)]

    def _registers(self, addresses: tuple[str, ...]) -> list[Register]:
        registers, problems = [], []
        for address in addresses:
            try:
                registers.append(parse_register(address))
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise SiteError(f"tags.csv, source {self._source_id!r}:\n  " + "\n  ".join(problems), code="SPC-471")
        return registers

    def _poll(self, wanted: list[Block]) -> list[Reading]:
        """A reading of every register. Raises TransientError when no device answers."""
        readings: list[Reading] = []
        silent: dict[int, TransientError] = {}
        waiting = deque(wanted)
        while waiting:
            block = waiting.popleft()
            entries: list[int] = []
            exception: int | None = None
            if block.device not in silent:
                try:
                    entries, exception = self._read(block)
                except TransientError as error:
                    silent[block.device] = error
            at = datetime.now(UTC)
            if block.device in silent:
                readings += [Reading(each.address, None, at, SILENT) for each in block.registers]
            elif exception in _ABSENT and block.parts():
                # One register that the device does not have refuses the whole block: from now on each by itself.
                wanted.remove(block)
                wanted.extend(block.parts())
                waiting.extend(block.parts())
            elif exception is not None:
                quality = EXCEPTIONS.get(exception, f"Exception{exception}")
                readings += [Reading(each.address, None, at, quality) for each in block.registers]
            else:
                readings += [
                    Reading(register.address, value, at, NOT_A_NUMBER if value is None else "")
                    for register, value in block.values(entries)
                ]
        if silent.keys() == {block.device for block in wanted}:
            raise next(iter(silent.values()))
        return readings

    def _read(self, block: Block) -> tuple[list[int], int | None]:
        """Entries of a block, or the code of the exception with which the device refused."""
        from pymodbus.exceptions import ModbusException

        reads = {
            "coil": "read_coils",
            "discrete": "read_discrete_inputs",
            "input": "read_input_registers",
            "holding": "read_holding_registers",
        }
        try:
            answer = getattr(self._client, reads[block.table])(block.start, count=block.count, device_id=block.device)
        except (ModbusException, OSError) as error:
            raise TransientError(
                f"source {self._source_id!r}: device {block.device} at {self._url} does not answer: {error}", code="SPC-160"
            ) from error
        if answer.isError():
            code = getattr(answer, "exception_code", None)
            if code is None:
                raise TransientError(f"source {self._source_id!r}: {self._url} answered {answer}", code="SPC-160")
            return [], int(code)
        entries = [int(bit) for bit in answer.bits] if block.table in ("coil", "discrete") else list(answer.registers)
        if len(entries) < block.count:
            raise TransientError(
                f"source {self._source_id!r}: {self._url} answered {len(entries)} of {block.count} entries", code="SPC-160"
            )
        return entries, None


def _client(source_id: str, url: str, limits: dict[str, Any]) -> _Client:
    try:
        from pymodbus import FramerType
        from pymodbus.client import ModbusSerialClient, ModbusTcpClient
    except ImportError:
        raise SiteError(
            f"source {source_id!r}: the Modbus client is not installed; install the extra: spc_platform[modbus]", code="SPC-472"
        ) from None
    parts = urlsplit(url)
    common: dict[str, Any] = {"timeout": float(limits["timeout_s"]), "retries": int(limits["retries"])}
    try:
        if parts.scheme in ("tcp", "rtu+tcp") and parts.hostname:
            framer = FramerType.SOCKET if parts.scheme == "tcp" else FramerType.RTU
            return cast("_Client", ModbusTcpClient(parts.hostname, port=parts.port or 502, framer=framer, **common))
        if parts.scheme in ("rtu", "ascii") and parts.path.startswith("/"):
            line: dict[str, Any] = {key: limits[key] for key in ("baudrate", "bytesize", "parity", "stopbits")}
            framer = FramerType.RTU if parts.scheme == "rtu" else FramerType.ASCII
            return cast("_Client", ModbusSerialClient(parts.path, framer=framer, **line, **common))
    except (ValueError, RuntimeError, ImportError) as error:
        raise SiteError(f"source {source_id!r}: base_url {url!r}: {error}", code="SPC-470") from error
    raise SiteError(
        f"source {source_id!r}: base_url {url!r} is no Modbus address; write tcp://host:502, rtu+tcp://host:502, rtu:///dev/ttyUSB0"
        " or ascii:///dev/ttyUSB0",
        code="SPC-470",
    )
