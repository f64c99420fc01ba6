"""Which test answers a quality engineer's question about groups: one entry for the command line and for reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from spc_platform.errors import ContractError
from spc_platform.spc.count_tests import many_proportions, one_proportion, two_proportions, two_rates
from spc_platform.spc.mean_tests import one_sample_t, one_way_anova, paired_t, two_sample_t
from spc_platform.spc.normality_tests import anderson_darling, shapiro_wilk
from spc_platform.spc.rank_tests import kruskal_wallis, mann_whitney
from spc_platform.spc.results import TestResult
from spc_platform.spc.variance_tests import bartlett, f_test, levene

__all__ = [
    "QUESTIONS",
    "anderson_darling",
    "bartlett",
    "compare",
    "f_test",
    "kruskal_wallis",
    "levene",
    "mann_whitney",
    "many_proportions",
    "one_proportion",
    "one_sample_t",
    "one_way_anova",
    "paired_t",
    "shapiro_wilk",
    "two_proportions",
    "two_rates",
    "two_sample_t",
]

Groups = Mapping[str, Any]
Ask = Callable[["Asked"], tuple[TestResult, ...]]


@dataclass(frozen=True)
class Asked:
    """The groups and what is asked of them."""

    groups: Groups
    null_value: float | None
    equal_variances: bool
    alternative: str
    confidence: float

    def null(self, default: float) -> float:
        """The hypothetical value, or the default of the test."""
        return default if self.null_value is None else self.null_value

    def pair(self) -> tuple[Any, Any]:
        """Both groups; ``ContractError`` SPC-361 unless there are exactly two."""
        if len(self.groups) != 2:
            raise ContractError(
                f"{len(self.groups)} group(s) given ({', '.join(map(repr, self.groups))}); this test needs exactly 2",
                code="SPC-361",
            )
        first, second = self.groups.values()
        return first, second

    @property
    def names(self) -> tuple[str, str]:
        """Names of the two groups."""
        first, second = (str(name) for name in self.groups)
        return first, second

    def options(self) -> dict[str, Any]:
        """What every test of two groups takes."""
        self.pair()
        return {"names": self.names, "alternative": self.alternative, "confidence": self.confidence}

    def only_two_sided(self) -> float:
        """The confidence of a test of many groups; ``ContractError`` SPC-365 when a side or a value is asked of it."""
        if self.alternative != "two-sided" or self.null_value is not None:
            raise ContractError(
                f"a test of {len(self.groups)} groups has no side and no hypothetical value; leave them out or give two groups",
                code="SPC-365",
            )
        return self.confidence


def _means(asked: Asked) -> tuple[TestResult, ...]:
    if len(asked.groups) == 1:
        ((name, values),) = asked.groups.items()
        return (
            one_sample_t(values, asked.null(0.0), name=str(name), alternative=asked.alternative, confidence=asked.confidence),
        )
    if len(asked.groups) == 2:
        return (two_sample_t(*asked.pair(), asked.null(0.0), equal_variances=asked.equal_variances, **asked.options()),)
    return (one_way_anova(asked.groups, equal_variances=asked.equal_variances, confidence=asked.only_two_sided()),)


def _pairs(asked: Asked) -> tuple[TestResult, ...]:
    return (paired_t(*asked.pair(), asked.null(0.0), **asked.options()),)


def _variances(asked: Asked) -> tuple[TestResult, ...]:
    """Levene's verdict, robust against non-normal values, and beside it the sharp one under normality."""
    if len(asked.groups) == 2:
        sharp = f_test(*asked.pair(), asked.null(1.0), **asked.options())
        is_plain = asked.alternative == "two-sided" and asked.null_value is None
        return (levene(asked.groups, confidence=asked.confidence), sharp) if is_plain else (sharp,)
    confidence = asked.only_two_sided()
    return levene(asked.groups, confidence=confidence), bartlett(asked.groups, confidence=confidence)


def _medians(asked: Asked) -> tuple[TestResult, ...]:
    if len(asked.groups) == 2:
        return (mann_whitney(*asked.pair(), asked.null(0.0), **asked.options()),)
    return (kruskal_wallis(asked.groups, confidence=asked.only_two_sided()),)


def _proportions(asked: Asked) -> tuple[TestResult, ...]:
    if len(asked.groups) == 1:
        ((name, (count, n)),) = asked.groups.items()
        if asked.null_value is None:
            raise ContractError("one proportion needs a hypothetical value to be compared with; give one", code="SPC-365")
        found = one_proportion(
            count, n, asked.null_value, name=str(name), alternative=asked.alternative, confidence=asked.confidence
        )
        return (found,)
    if len(asked.groups) == 2:
        if asked.null_value not in {None, 0.0}:
            raise ContractError(
                "two proportions are compared for equality only; leave the hypothetical value out", code="SPC-365"
            )
        return (two_proportions(*asked.pair(), **asked.options()),)
    return (many_proportions(asked.groups, confidence=asked.only_two_sided()),)


def _rates(asked: Asked) -> tuple[TestResult, ...]:
    return (two_rates(*asked.pair(), null_value=asked.null(1.0), **asked.options()),)


def _normality(asked: Asked) -> tuple[TestResult, ...]:
    asked.only_two_sided()
    return tuple(
        test(values, name=str(name)) for name, values in asked.groups.items() for test in (anderson_darling, shapiro_wilk)
    )


QUESTIONS: dict[str, Ask] = {
    "means": _means,
    "paired": _pairs,
    "variances": _variances,
    "medians": _medians,
    "proportions": _proportions,
    "rates": _rates,
    "normality": _normality,
}
"""What can be asked, and how it is answered by the number of groups."""


def compare(
    groups: Groups,
    question: str,
    *,
    null_value: float | None = None,
    equal_variances: bool = False,
    alternative: str = "two-sided",
    confidence: float = 0.95,
) -> tuple[TestResult, ...]:
    """Answer one question about named groups with the test that fits their number; the first result answers it.

    ``groups``: name -> values; for proportions name -> (count, units); for rates name -> (events, exposure).
    means: 1 group t, 2 Welch (or t), 3+ Welch ANOVA with Games-Howell (``equal_variances``: ANOVA with Tukey). paired: 2.
    variances: Levene first, then F (2) or Bartlett. medians: Mann-Whitney (2), Kruskal-Wallis. proportions: exact
    binomial (1), Fisher (2), chi-square. rates: 2. normality: Anderson-Darling and Shapiro-Wilk of each group. Errors: SPC-361
    (no or a wrong number of groups), SPC-365 (an option that the test does not have), SPC-366 (unknown question), and those
    of the tests.

    >>> (result,) = compare({"A": [1.0, 2.0, 3.0], "B": [2.0, 4.0, 6.0]}, "means")
    >>> result.test, result.estimate
    ('Welch t', -2.0)
    """
    if question not in QUESTIONS:
        raise ContractError(f"question {question!r} is unknown; ask one of {', '.join(QUESTIONS)}", code="SPC-366")
    if not groups:
        raise ContractError("no groups given; check the grouping column", code="SPC-361")
    return QUESTIONS[question](Asked(groups, null_value, equal_variances, alternative, confidence))
