"""The layout of a gauge study: measurements in any order become one balanced block of part x operator x replicate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spc_platform.errors import ContractError
from spc_platform.spc.results import centred, sample, text_list
from spc_platform.spc.sequence import Floats, Ints


@dataclass(frozen=True)
class Cube:
    """A balanced study: values centred by ``shift`` with axes part, operator, replicate (nested: part within operator)."""

    values: Floats
    shift: float

    @property
    def mean(self) -> float:
        return self.shift + float(self.values.mean())


Labels = Sequence[Any] | npt.NDArray[Any]


def balanced(values: npt.ArrayLike, parts: Labels, operators: Labels, *, nested: bool) -> Cube:
    """The study as a block, replicates in ascending order; SPC-360, 361, 363 (unbalanced, with the cell), 364.

    ``nested``: a part label means another part under each operator, so the axis of parts only numbers them.
    """
    data = sample(values, "measured values", 1, keep_order=True)
    part, operator = text_list(parts, "part", data.size), text_list(operators, "operator", data.size)
    operator_names, operator_index = np.unique(operator, return_inverse=True)
    if nested:
        key, part_index = _nested_index(part, operator_names, operator_index)
    else:
        key, part_index = np.unique(part, return_inverse=True)
    if key.size < 2 or operator_names.size < 2:
        raise ContractError(
            f"the study has {key.size} part(s) and {operator_names.size} operator(s); at least 2 of each "
            "show reproducibility; with one operator use a type 1 or a bias study",
            code="SPC-361",
        )
    counts = np.bincount(part_index * operator_names.size + operator_index, minlength=key.size * operator_names.size)
    _refuse_unbalanced(counts, key, operator_names)
    order = np.lexsort((data, operator_index, part_index))
    shift, (deviations,) = centred(data[order])
    return Cube(deviations.reshape(key.size, operator_names.size, int(counts[0])), shift)


def _nested_index(
    part: npt.NDArray[np.str_], operator_names: npt.NDArray[Any], operator_index: Ints
) -> tuple[npt.NDArray[Any], Ints]:
    """Number the parts of each operator from 0: a label means another part under each operator."""
    _, label = np.unique(part, return_inverse=True)
    pairs, inverse = np.unique(operator_index * (int(label.max()) + 1) + label, return_inverse=True)
    owner = pairs // (int(label.max()) + 1)
    sizes = np.bincount(owner, minlength=operator_names.size)
    if np.any(sizes != sizes[0]):
        odd = int(np.argmax(sizes != sizes[0]))
        raise ContractError(
            f"operator {operator_names[odd]} measured {sizes[odd]} parts, operator {operator_names[0]} {sizes[0]}; "
            "a nested study needs the same number for each: complete it or leave parts out",
            code="SPC-363",
        )
    rank = np.arange(pairs.size) - (np.cumsum(sizes) - sizes)[owner]
    return np.arange(sizes[0]), rank[inverse]


def _refuse_unbalanced(counts: Ints, parts: npt.NDArray[Any], operators: npt.NDArray[Any]) -> None:
    expected = int(np.bincount(counts).argmax())
    odd = np.flatnonzero(counts != expected)
    if odd.size or expected < 1:
        cell = int(odd[0])
        raise ContractError(
            f"part {parts[cell // operators.size]}, operator {operators[cell % operators.size]}: {counts[cell]} values where "
            f"the other cells hold {expected} ({odd.size} such cells); a gauge study must be complete: measure again or leave "
            "that part out for all operators",
            code="SPC-363",
        )
    if expected < 2:
        raise ContractError(
            "every part was measured once by each operator: repeatability needs at least 2 replicates per cell; measure again",
            code="SPC-361",
        )
