"""Capability of values that are not normal, by percentiles (ISO 22514): fitted ones or those of the values themselves."""

from __future__ import annotations

import numpy as np
from scipy import special

from spc_platform.spc.distributions import ENOUGH_FOR_TAILS, HIGH, LOW, MIDDLE
from spc_platform.spc.sequence import Flags, Floats, Spans


def percentile_indices(low: Floats, middle: Floats, high: Floats, lsl: Floats, usl: Floats) -> dict[str, Floats]:
    """Pp, PpL, PpU, Ppk from the 0.135, 50 and 99.865 percentiles; NaN where a limit or a percentile is missing.

    Pp = (USL - LSL) / (high - low), PpU = (USL - middle) / (high - middle), PpL = (middle - LSL) / (middle - low), Ppk the
    smaller. Keys: pp_percentile, ppl_percentile, ppu_percentile, ppk_percentile. Source: ISO 22514-4.

    >>> one = percentile_indices(*(np.array([value]) for value in (1.0, 2.0, 5.0, 0.0, 8.0)))
    >>> {name: value.tolist() for name, value in one.items()}
    {'pp_percentile': [2.0], 'ppl_percentile': [2.0], 'ppu_percentile': [2.0], 'ppk_percentile': [2.0]}
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        upper = (usl - middle) / np.where(high > middle, high - middle, np.nan)
        lower = (middle - lsl) / np.where(middle > low, middle - low, np.nan)
        both = (usl - lsl) / np.where(high > low, high - low, np.nan)
    return {
        "pp_percentile": both,
        "ppl_percentile": lower,
        "ppu_percentile": upper,
        "ppk_percentile": np.fmin(lower, upper),
    }


def empirical_percentiles(values: Floats, spans: Spans) -> tuple[Floats, Floats, Floats, Flags]:
    """The 0.135, 50 and 99.865 percentiles of the values of each span, and whether there are too few for the tails.

    ``values``: ascending within each span. Position (n + 1) p between the values (Hyndman and Fan 6, as NIST and Minitab);
    beyond the outermost value, which needs n of at least 740, that value is taken. Flag: fewer than 2,000 values.

    >>> low, middle, high, too_few = empirical_percentiles(np.array([1.0, 2.0, 4.0]), Spans(np.array([0]), 3))
    >>> low.tolist(), middle.tolist(), high.tolist(), too_few.tolist()
    ([1.0], [2.0], [4.0], [True])
    """
    sizes = spans.sizes
    found = []
    for share in (LOW, MIDDLE, HIGH):
        position = np.clip((sizes + 1.0) * share - 1.0, 0.0, sizes - 1.0)
        before = np.minimum(np.floor(position).astype(np.int64), np.maximum(sizes - 2, 0))
        after = np.minimum(before + 1, sizes - 1)
        low, high = values[spans.starts + before], values[spans.starts + after]
        found.append(low + (position - before) * (high - low))
    return found[0], found[1], found[2], np.asarray(sizes < ENOUGH_FOR_TAILS, dtype=np.bool_)


def z_score_ppk(below: Floats, above: Floats) -> Floats:
    """Ppk of the normal distribution with the same tails: min(-z(below), -z(above)) / 3; NaN tails do not count.

    ``below`` and ``above``: shares of the fitted distribution outside the limits; a share that underflows to 0 does not
    count either. Source: Minitab's Z-score method for non-normal capability.

    >>> z_score_ppk(np.array([0.0013498980316301]), np.array([np.nan])).round(9).tolist()
    [1.0]
    """
    lower, upper = (-special.ndtri(np.where(share > 0, share, np.nan)) / 3.0 for share in (below, above))
    return np.asarray(np.fmin(lower, upper), dtype=np.float64)
