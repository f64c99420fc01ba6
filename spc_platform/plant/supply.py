"""What goes into a lot: material of suppliers, and valves of line B in the housings of line A."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

DAY_S = 86_400
SHELF_S = 3600
"""A finished lot of valves reaches line A an hour later at the earliest."""


class Used(NamedTuple):
    """Material that goes into a lot, with its amount in the parent's unit."""

    parent: str
    link: str
    quantity: float


SUPPLIES: dict[tuple[str, int], tuple[tuple[str, int, float], ...]] = {
    ("HSG", 0): (("CST", 2, 1.0),),
    ("HSG", 1): (("SEA", 5, 1.0),),
    ("HSG", 3): (("SCR", 7, 4.0),),
    ("VLV", 0): (("BDY", 3, 1.0),),
    ("VLV", 1): (("SPR", 7, 1.0),),
}
"""(product family, operation) -> (material, days that a supplier's lot lasts, pieces per part)."""


def components(product: str, operation: int, quantity: int, at: int) -> list[Used]:
    """Supplier lots that go into ``quantity`` parts at an operation at a time (seconds since 1970).

    A lot that is drawn within two hours after a supplier's lot was opened takes a fifth of the parts from the old one.
    """
    used: list[Used] = []
    for material, days, per_part in SUPPLIES.get((product[:3], operation), ()):
        lot, age = divmod(at - 6 * 3600, days * DAY_S)
        old = quantity // 5 if age < 2 * 3600 else 0
        if old:
            used.append(Used(f"SUP-{material}-{lot - 1}", "consumed", old * per_part))
        used.append(Used(f"SUP-{material}-{lot}", "consumed", (quantity - old) * per_part))
    return used


@dataclass(frozen=True, slots=True)
class Pool:
    """Finished lots of valves that wait to be assembled, oldest first, as (lot, parts left, finished at)."""

    lots: tuple[tuple[str, int, int], ...] = ()

    def with_lot(self, lot: str, quantity: int, at: int) -> Pool:
        return Pool((*self.lots, (lot, quantity, at)))

    def take(self, quantity: int, at: int) -> tuple[list[Used], Pool]:
        """What of the pool goes into ``quantity`` parts, and the pool after it; what it lacks comes from a supplier."""
        used: list[Used] = []
        left: list[tuple[str, int, int]] = []
        for lot, parts, finished in sorted(self.lots, key=lambda each: (each[2], each[0])):
            taken = min(parts, quantity) if finished + SHELF_S <= at else 0
            if taken:
                used.append(Used(lot, "assembled", float(taken)))
                quantity -= taken
            if parts > taken:
                left.append((lot, parts - taken, finished))
        if quantity:
            used.append(Used(f"SUP-VLV-{at // (4 * DAY_S)}", "consumed", float(quantity)))
        return used, Pool(tuple(left))
