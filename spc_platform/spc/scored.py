"""Points whose statistic is not normal, with the score that a rule reads instead of (value - centre line) / error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri_exp

from spc_platform.spc.panel import PanelPoints
from spc_platform.spc.sequence import Floats


@dataclass(frozen=True)
class ScoredPoints(PanelPoints):
    """Points with quantile limits: ``z`` is the normal score of the statistic's own distribution.

    A point lies beyond a limit at ``k`` exactly where its score lies beyond ``k``, so a rule needs no second way.
    ``standard_error`` is NaN: the distance to the centre line says nothing where the distribution is skewed.
    """

    score: Floats

    @property
    def z(self) -> Floats:
        """The normal score; NaN where the point has no value or no parameters."""
        return self.score


def normal_score(log_below: Floats, log_above: Floats) -> Floats:
    """Normal score of a value from the logarithms of its two tail probabilities, exact far out in either tail.

    >>> import numpy as np
    >>> normal_score(np.log([0.5, 0.975]), np.log([0.5, 0.025])).round(6).tolist()
    [0.0, 1.959964]
    """
    below, above = np.minimum(log_below, 0.0), np.minimum(log_above, 0.0)
    # the smaller tail of the two keeps its digits
    score = np.where(above < below, -ndtri_exp(above), ndtri_exp(below))
    return np.asarray(score + 0.0, dtype=np.float64)
