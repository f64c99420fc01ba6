"""Values per second from a real OPC UA server into the spool, and that none is missing."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from spc_platform.collect.opcua import OpcUaConnector
from spc_platform.collect.readings import Recorder, Tag
from spc_platform.collect.spool import Spool
from spc_platform.settings import Settings
from spc_platform_tests.bench.folders import scratch
from spc_platform_tests.bench.result import Figures, Result, number
from spc_platform_tests.collect.conftest import subscription
from spc_platform_tests.collect.opcua.collection import DIA, Collection, free_port
from spc_platform_tests.collect.opcua.peer import Peer

LIVE = 30_000
QUEUED = 9_000
"""asyncua's server lets at most 10,000 values wait."""
DEADLINE_S = 60.0


def _collection(peer: Peer, folder: Path) -> Collection:
    limits = {"publishing_ms": 100.0, "queue_size": 10_000}
    config = subscription(base_url=peer.url, auth={"security": "None"}, limits=limits)
    tag = Tag(DIA, "measurement", "SHAFT-DIA", "L1-LATHE", "mm")
    settings = Settings(data=folder)
    return Collection(OpcUaConnector(config, settings), Recorder(config, (tag,)), Spool(settings.spool_root, "line1"))


def _until(collection: Collection, records: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while collection.spool.totals().get("measurements", 0) < records:
        assert time.monotonic() < deadline, f"{collection.spool.totals()} of {records} after {DEADLINE_S:g} s"
        time.sleep(0.01)


def _live(peer: Peer, folder: Path) -> float:
    """Seconds from the first write to the last durable record, while the server writes as fast as it can."""
    with _collection(peer, folder) as collection:
        collection.connected()
        _until(collection, 1)
        began = time.perf_counter()
        writing = threading.Thread(target=peer.tell, kwargs={"blast": ("dia", 1, LIVE, 0)})
        writing.start()
        _until(collection, LIVE + 1)
        seconds = time.perf_counter() - began
        writing.join()
    _complete(collection, LIVE)
    return seconds


def _queued(peer: Peer, folder: Path) -> float:
    """Seconds from connecting to the last durable record of what waited in the server while nobody collected."""
    with _collection(peer, folder) as collection:
        collection.connected()
        _until(collection, 1)
    peer.tell(blast=("dia", 1, QUEUED, 0))
    began = time.perf_counter()
    with _collection(peer, folder) as collection:
        _until(collection, QUEUED + 1)
        seconds = time.perf_counter() - began
    _complete(collection, QUEUED)
    return seconds


def _complete(collection: Collection, last: int) -> None:
    values = collection.values()
    assert values == [float(value) for value in range(last + 1)], f"{len(values)} of {last + 1} values"
    assert collection.spool.gaps() == []


def bench() -> Result:
    """One repetition of each, every value compared with what was written."""
    rows = []
    for name, count, measure in (("as they are written", LIVE, _live), ("from the server's queue", QUEUED, _queued)):
        peer = Peer(free_port()).start()
        try:
            seconds = measure(peer, scratch(f"opcua-{count}"))
        finally:
            peer.kill()
        rows.append((name, number(count), number(seconds), number(count / seconds), "0"))
    return Result(
        "OPC UA into the spool",
        "One node of asyncua's server, in a process of its own, written as fast as that server can; the collector acknowledges "
        "a message once its records are durable (SQLite, synchronous FULL). Every value is compared with what was written. The "
        "server is Python too and shares the cores: its rate bounds the first line.",
        [Figures("values", ("variant", "values", "wall s", "values per s", "lost"), rows)],
        f"{rows[0][3]} values a second arrive while they are written, none is lost.",
    )
