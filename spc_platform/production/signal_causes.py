"""Which late word of a machine changed the state of a piece of time."""

from __future__ import annotations

import polars as pl

from spc_platform.contracts.signals import SIGNALS
from spc_platform.contracts.table import UTC
from spc_platform.production.signals import UNAVAILABLE

MADE_BY_SIGNALS = "signals:"
"""How the event_id of a state that signals made begins."""
_WORD = {"equipment_id": pl.String, "at": UTC, "signal": pl.String, "value": pl.String, "id": pl.String}


def signal_words(signal_event: pl.DataFrame) -> pl.DataFrame:
    """Accepted signal events as equipment_id, at, signal, value, id: of several words at one instant the one that holds."""
    said = pl.col("value").fill_null(UNAVAILABLE)
    return (
        signal_event.select(
            "equipment_id",
            "signal",
            at="occurred_at",
            value=said,
            id=pl.concat_str("source_id", pl.lit(":"), "record_id"),
        )
        .cast(_WORD)  # type: ignore[arg-type]
        .sort("equipment_id", "at", "signal", pl.col("value") != UNAVAILABLE, "value", "id")
        .unique(["equipment_id", "at", "signal"], keep="last", maintain_order=True)
    )


def signal_causes(pieces: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame, late: pl.Series) -> pl.Series:
    """For each piece the id of the late signal record that changed what held at its start; null where none did.

    ``pieces``: equipment_id, start_at, and the event_id in force on both sides, ``_b_event`` and ``_a_event``. ``before``
    and ``after`` are ``signal_words`` of both times, ``late`` the ids of signal records recorded between. Where several
    signals changed it is the one that spoke last. Where none changed at that instant, but the state is made of signals
    and was known before, debouncing or silence moved it: then it is the last late word up to the piece, else the next.
    """
    ids = late.implode()
    found = pieces.select("equipment_id", "start_at", "_b_event", "_a_event").with_row_index("_piece")
    for side, words in (("b", before), ("a", after)):
        for signal in SIGNALS:
            spoken = words.filter(signal=signal)
            found = _held(found, spoken, f"_{side}_{signal}", "backward")
    speakers = [_speaker(signal, ids) for signal in SIGNALS]
    found = found.with_columns(_word=pl.max_horizontal(speakers))
    late_words = pl.concat([before, after]).filter(pl.col("id").is_in(ids)).sort("at", "id")
    for strategy in ("backward", "forward"):
        found = _held(found, late_words, f"_{strategy}", strategy)
    made = pl.any_horizontal(pl.col(f"_{side}_event").str.starts_with(MADE_BY_SIGNALS).fill_null(value=False) for side in "ab")
    near = pl.when(made & pl.col("_b_event").is_not_null()).then(pl.coalesce("_backward_id", "_forward_id"))
    chosen = pl.coalesce(pl.col("_word").str.slice(_STAMP), near)
    return found.sort("_piece").select(cause=chosen)["cause"]


_ISO = "%Y-%m-%dT%H:%M:%S%.6f"
_STAMP = 26
"""Characters of an instant written by ``_ISO``."""


def _held(pieces: pl.DataFrame, words: pl.DataFrame, prefix: str, strategy: str) -> pl.DataFrame:
    """Add the word of ``words`` that holds at the start of each piece: at, value and id, named with ``prefix``."""
    named = words.select("equipment_id", *(pl.col(name).alias(f"{prefix}_{name}") for name in ("at", "value", "id")))
    return pieces.sort("start_at").join_asof(
        named.sort(f"{prefix}_at", maintain_order=True),
        left_on="start_at",
        right_on=f"{prefix}_at",
        by="equipment_id",
        strategy="backward" if strategy == "backward" else "forward",
        coalesce=False,
        check_sortedness=False,
    )


def _speaker(signal: str, late: pl.Series | pl.Expr) -> pl.Expr:
    """Instant and id, as one text that sorts by instant, of the late word that changed a signal's value; else null."""
    stamped = {
        side: pl.concat_str(pl.col(f"_{side}_{signal}_at").dt.strftime(_ISO), pl.col(f"_{side}_{signal}_id")) for side in "ab"
    }
    changed = pl.col(f"_a_{signal}_value").ne_missing(pl.col(f"_b_{signal}_value"))
    by = {side: changed & pl.col(f"_{side}_{signal}_id").is_in(late).fill_null(value=False) for side in "ab"}
    return pl.when(by["a"]).then(stamped["a"]).when(by["b"]).then(stamped["b"])
