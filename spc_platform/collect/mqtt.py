"""MQTT brokers: a persistent session of QoS 1 in which a message is acknowledged once its records are durable.

The keys of an ``mqtt`` source are those of ``mqtt_config``.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from spc_platform.collect.mqtt_config import read_options
from spc_platform.errors import SiteError
from spc_platform.settings import Settings
from spc_platform.site.model import Source

if TYPE_CHECKING:
    from spc_platform.collect.sink import Sink


class MqttConnector:
    """Collects the topics of a source's tags. Raises SiteError for options that are wrong and for a missing client."""

    def __init__(self, config: Source, settings: Settings) -> None:
        self._options = read_options(config, settings)
        try:
            # The client is an extra: a site without brokers needs none.
            from spc_platform.collect.mqtt_session import Session
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("paho"):
                raise
            raise SiteError(
                f"source {config.source_id!r}: the MQTT client is not installed; install spc-platform[mqtt]", code="SPC-466"
            ) from None
        self._session = Session

    def __repr__(self) -> str:
        return f"MqttConnector({self._options.broker})"

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Collect until ``stop``. Raises TransientError when the broker went away, PermanentError when it refuses us."""
        self._session(self._options, sink, stop).run()
