"""Clocks: exchanges of times with another clock, and the offset that follows from them."""

from __future__ import annotations

from spc_platform.contracts.table import Table, code, count, identifier, moment, number

METHODS = ("http_date", "opcua_server_time", "exchange")

CLOCK_EXCHANGE = Table(
    name="clock_exchange",
    description="One question to another clock: our times around its answer. Kept beside the ledger, no table of the lake.",
    columns=(
        identifier("clock_id", "The other clock: a source, or a station."),
        code("method", "How it was asked.", METHODS),
        moment("sent_at", "Our clock when the question left."),
        moment("server_received_at", "The other clock when the question came; the time it said where it said only one."),
        moment("server_sent_at", "The other clock when the answer left."),
        moment("received_at", "Our clock when the answer came."),
        number("resolution_s", "Step of the other clock's times, which are cut down to it.", unit="s", ge=0),
    ),
    key=("clock_id", "method", "sent_at"),
    partitioned=False,
)

CLOCK_OFFSET = Table(
    name="clock_offset",
    description="How far the clocks of sources and stations are from the platform's: one estimate per clock, method and day (UTC).",
    columns=(
        identifier("clock_id", "The other clock: a source, or a station."),
        moment("measured_at", "When the newest exchange of the estimate was made."),
        number("offset_s", "The other clock minus the platform's.", unit="s"),
        number(
            "uncertainty_s",
            "The true offset lies within offset_s ± this: half the round trip and half the resolution.",
            unit="s",
            ge=0,
        ),
        code(
            "method",
            "http_date: Date header; opcua_server_time: CurrentTime; exchange: an exchange entered by hand or script.",
            METHODS,
        ),
        count("samples", "Exchanges of the day; the quickest of them decide.", ge=1),
        number("round_trip_s", "Shortest round trip among them.", unit="s", ge=0),
    ),
    key=("clock_id", "method", "measured_at"),
    sort=("clock_id", "measured_at"),
    partitioned=False,
)
