"""Optional site table ``rules``: a site's own sets of run rules, every convention as data."""

from __future__ import annotations

import polars as pl

from spc_platform.contracts.table import Column, Table, code, count, identifier, number, text

KINDS = ("beyond", "within", "trend", "alternate", "span")
RULE_SIDES = ("same", "either", "above", "below")
TIES = ("break", "ignore", "continue")
ON_CENTRE = ("break", "skip")
FLAGS = ("last", "window")
RESETS = ("segment", "signal")

RULES = Table(
    name="rules",
    description="A site's own sets of run rules; characteristics name them in rule_set, beside the published sets.",
    columns=(
        identifier("rule_set", "Name of the set; not one of the published sets."),
        identifier("rule", "Number or name of the rule within the set."),
        code(
            "kind",
            "beyond: k of m beyond the zone; within: k of m not beyond it; trend: m rising or falling; alternate: m up and down; span: one of m beyond +zone and another beyond -zone.",
            KINDS,
        ),
        count("k", "Points of the window that must fit.", ge=1),
        count("m", "Points of the window; a trend of 6 points has 5 steps.", ge=1),
        number("zone", "Distance from the centre line; empty: the control limits.", unit="1", nullable=True, ge=0),
        code(
            "side",
            "same: all on one side; either: sides may mix; above, below: that side only, or rising, falling. Empty: same for beyond, otherwise either.",
            RULE_SIDES,
            nullable=True,
        ),
        Column(
            "strict",
            pl.Boolean,
            "A point on the line of a zone is not beyond it; false: it is. Empty: true.",
            nullable=True,
        ),
        code("ties", "Equal neighbours in a trend or alternation. Empty: break.", TIES, nullable=True),
        code("on_centre", "A point exactly on the centre line in a run. Empty: break.", ON_CENTRE, nullable=True),
        code(
            "flag", "Whether the flagged point must itself be beyond (last) or not (window). Empty: last.", FLAGS, nullable=True
        ),
        code(
            "reset",
            "Whether a rule starts anew at a segment only, or also after its signal. Empty: segment.",
            RESETS,
            nullable=True,
        ),
        text("text", "The rule in words; empty: composed from the columns.", nullable=True),
    ),
    key=("rule_set", "rule"),
    partitioned=False,
)
