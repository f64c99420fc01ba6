"""NIST Statistical Reference Datasets: data with certified statistics, for the checks of numerical accuracy.

Small sets lie beside this module in ``strd/``; those that NIST constructed are constructed here from their
definition. Source: https://www.itl.nist.gov/div898/strd/ (a work of the US government, in the public domain).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from spc_platform.errors import ContractError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Certified:
    """Values in the order of NIST's file with their certified statistics (15 digits, or exact by construction).

    ``sd`` has n - 1 in its denominator; ``autocorrelation`` is that of lag 1.
    """

    name: str
    values: Floats
    mean: float
    sd: float
    autocorrelation: float


@dataclass(frozen=True, eq=False)
class CertifiedAnova:
    """One-way analysis of variance: ``values`` and the ``treatment`` (1, 2, ...) of each, with what NIST certifies.

    ``df_*``, ``ss_*`` and ``ms_*``: degrees of freedom, sums of squares and mean squares between and within
    treatments; ``f`` their ratio; ``r_squared``; ``residual_sd`` the root of the mean square within.
    """

    name: str
    values: Floats
    treatment: Ints
    df_between: int
    ss_between: float
    ms_between: float
    f: float
    df_within: int
    ss_within: float
    ms_within: float
    r_squared: float
    residual_sd: float


def load(name: str) -> Certified:
    """Data set ``name`` of NIST's univariate summary statistics, one of ``UNIVARIATE``.

    Raises ``ContractError`` for any other name.

    >>> load("NumAcc4").values[:3].tolist(), load("NumAcc4").sd
    ([10000000.2, 10000000.1, 10000000.3], 0.1)
    """
    if name in _CONSTRUCTED:
        construct, *exact = _CONSTRUCTED[name]
        return Certified(name, construct(), *exact)
    _known(name, UNIVARIATE)
    head, rows = _read(name)
    values = np.array([float(word) for row in rows for word in row])
    mean, sd, autocorrelation = (float(head[part][0]) for part in ("mean", "sd", "autocorrelation"))
    return Certified(name, values, mean, sd, autocorrelation)


def load_anova(name: str) -> CertifiedAnova:
    """Data set ``name`` of NIST's one-way analyses of variance, one of ``ANOVA``.

    Raises ``ContractError`` for any other name. SmLs (Simon and Lesage 1989) are nine treatments of 21, 201 or
    2,001 values with 1, 7 or 13 constant leading digits.

    >>> load_anova("SmLs07").values[:3].tolist()
    [1000000000000.4, 1000000000000.3, 1000000000000.5]
    """
    _known(name, ANOVA)
    if name in _SIMON_LESAGE:
        return _simon_lesage(name)
    head, rows = _read(name)
    between, within = head["between"], head["within"]
    return CertifiedAnova(
        name=name,
        values=np.array([float(word) for row in rows for word in row[1:]]),
        treatment=np.array([int(row[0]) for row in rows for _ in row[1:]], dtype=np.int64),
        df_between=int(between[0]),
        ss_between=float(between[1]),
        ms_between=float(between[2]),
        f=float(between[3]),
        df_within=int(within[0]),
        ss_within=float(within[1]),
        ms_within=float(within[2]),
        r_squared=float(head["r_squared"][0]),
        residual_sd=float(head["residual_sd"][0]),
    )


def correct_digits(found: float, certified: float) -> float:
    """NIST's measure, the log relative error: -log10 |found - certified| / |certified|, at most 15 (16 when equal).

    >>> round(correct_digits(1.0001, 1.0), 6), correct_digits(0.1, 0.1)
    (4.0, 16.0)
    """
    if found == certified:
        return 16.0
    error = abs(found - certified) / (abs(certified) if certified else 1.0)
    return float(min(-np.log10(error), 15.0))


def _known(name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise ContractError(f"no reference data set {name!r}; NIST's are {', '.join(names)}")


def _read(name: str) -> tuple[dict[str, list[str]], list[list[str]]]:
    """What is said of the set, by its first word, and the rows of its values."""
    text = (files("spc_platform.verification") / "strd" / f"{name}.txt").read_text(encoding="utf-8")
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    border = lines.index(["values"])
    return {words[0]: words[1:] for words in lines[:border]}, lines[border + 1 :]


def _alternating(first: str, low: str, high: str, many: int = 1001) -> Floats:
    """``first``, then ``low`` and ``high`` in turn: the decimal numbers that NIST prints, each rounded once."""
    return np.array([float(first), *[float(low), float(high)] * (many // 2)])


_CONSTRUCTED: dict[str, tuple[Callable[[], Floats], float, float, float]] = {
    "NumAcc1": (lambda: np.array([10000001.0, 10000003.0, 10000002.0]), 10000002.0, 1.0, -0.5),
    "NumAcc2": (lambda: _alternating("1.2", "1.1", "1.3"), 1.2, 0.1, -0.999),
    "NumAcc3": (lambda: _alternating("1000000.2", "1000000.1", "1000000.3"), 1000000.2, 0.1, -0.999),
    "NumAcc4": (lambda: _alternating("10000000.2", "10000000.1", "10000000.3"), 10000000.2, 0.1, -0.999),
}

# replicates, and the certified figures that follow from them: ss between and within, f, r squared
_REPLICATES = {
    21: (1.68, 1.8, 21.0, 0.482758620689655),
    201: (16.08, 18.0, 201.0, 0.471830985915493),
    2001: (160.08, 180.0, 2001.0, 0.470712773465067),
}
_SIMON_LESAGE = {
    f"SmLs0{1 + 3 * step + place}": (leading, many)
    for step, leading in enumerate(("1", "1000000", "1000000000000"))
    for place, many in enumerate(_REPLICATES)
}


def _simon_lesage(name: str) -> CertifiedAnova:
    leading, many = _SIMON_LESAGE[name]
    means = (4, 3, 5, 3, 5, 3, 5, 3, 5)
    rows = [_alternating(f"{leading}.{mean}", f"{leading}.{mean - 1}", f"{leading}.{mean + 1}", many) for mean in means]
    between, within, f, r_squared = _REPLICATES[many]
    return CertifiedAnova(
        name,
        np.concatenate(rows),
        np.repeat(np.arange(1, 10), many),
        8,
        between,
        between / 8,
        f,
        9 * (many - 1),
        within,
        0.01,
        r_squared,
        0.1,
    )


UNIVARIATE = ("Lottery", "Lew", "Mavro", "Michelso", "NumAcc1", "NumAcc2", "NumAcc3", "NumAcc4")
"""In NIST's order. Without PiDigits: its certified mean is not that of the first 5,000 digits of pi (sum 22,674, not
22,679), so the set cannot be constructed from its description."""

ANOVA = ("SiRstv", "AtmWtAg", *sorted(_SIMON_LESAGE))
