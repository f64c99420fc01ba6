"""What one panel of a control chart shows: the plotted statistic with its centre line, limits and standard error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spc_platform.spc.sequence import Floats


@dataclass(frozen=True)
class PanelPoints:
    """Points of one panel, flat over all charts; every array has one entry per point, NaN where there is none.

    ``value``, ``cl``, ``lcl``, ``ucl`` and ``standard_error`` are in the unit of the statistic. ``lcl`` is NaN on a
    panel that has no lower limit, ``ucl`` on one that has no upper limit.
    """

    value: Floats
    cl: Floats
    lcl: Floats
    ucl: Floats
    standard_error: Floats

    @property
    def z(self) -> Floats:
        """(value - centre line) / standard error; NaN where the standard error is 0 or unknown."""
        error = np.where(self.standard_error > 0, self.standard_error, np.nan)
        return (self.value - self.cl) / error
