"""OPC UA servers and collections from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spc_platform.collect.opcua import OpcUaConnector
from spc_platform.collect.readings import Recorder
from spc_platform.collect.spool import Spool
from spc_platform.settings import Settings
from spc_platform_tests.collect.conftest import subscription
from spc_platform_tests.collect.opcua.collection import DIAMETER, FAST, PLAIN, Collection, free_port
from spc_platform_tests.collect.opcua.peer import Peer


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def make(**options: Any) -> Peer:
        peers.append(Peer(free_port(), **options))
        return peers[-1].start()

    yield make
    for each in peers:
        each.kill()


@pytest.fixture
def collect(recorder: Callable[..., Recorder], tmp_path: Path) -> Callable[..., Collection]:
    """Makes a collection from a peer (or an address); every one of a test continues on the same spool."""

    def make(peer: Peer | str, *rows: dict[str, Any], auth: dict[str, Any] = PLAIN, **limits: Any) -> Collection:
        url = peer if isinstance(peer, str) else peer.url
        config = subscription(base_url=url, auth=auth, limits=FAST | limits)
        settings = Settings(data=tmp_path / "data", site=tmp_path)
        made = recorder(*(rows or (DIAMETER,)), source=config)
        return Collection(OpcUaConnector(config, settings), made, Spool(settings.spool_root, "line1", min_free_bytes=0))

    return make
