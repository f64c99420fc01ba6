"""How often work units fail and how long repairs take, from stops and production time.

A failure is a stop of class breakdown: a delay no shorter than the policy's micro stop, outside the calendar's
planned downtime and not sorted to setup by its reason. It counts once, in the shift and on the date on which
it began, however many shifts it lasts; a stop seen open by one date and ended by another is the same event.

Times between failures are operating time (APT), as in IEC 60050-192 "mean operating time between failures":
breaks, nights, setups and time without an order wear nothing out. The limits assume a constant failure rate
(NIST/SEMATECH e-Handbook 8.4.5.1): a window of dates is a test that ends by time, so with T of operating time
and r failures they are 2T/χ²(1-α/2; 2r+2) and 2T/χ²(α/2; 2r). Repairs end by themselves, so both limits of
their mean have 2r degrees of freedom.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
from scipy import stats

from spc_platform.contracts.performance import RELIABILITY
from spc_platform.errors import ContractError
from spc_platform.production.intervals import US_PER_S, in_seconds
from spc_platform.production.losses import latest_events, reason_losses
from spc_platform.site.model import Site

_UNIT = "equipment_id"


def failures(downtime: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Pick the failures from DOWNTIME_EVENT: breakdowns, each once, without those that a reason calls setup."""
    stops = latest_events(downtime).filter(pl.col("stop_class") == "breakdown")
    sorted_ = stops.join(reason_losses(site), on="reason_code", how="left")
    return sorted_.filter(pl.col("loss").ne_missing("setup_and_adjustment")).select(downtime.columns)


def reliability(downtime: pl.DataFrame, intervals: pl.DataFrame, site: Site, first: date, last: date) -> pl.DataFrame:
    """Estimate MTBF, MTTF, MTTR and availability of each work unit over production dates: RELIABILITY.

    ``downtime`` is a DOWNTIME_EVENT frame and ``intervals`` a STATE_INTERVAL frame; of both the rows of
    production dates ``first`` to ``last`` (inclusive) count. Per work unit with any row:
    mtbf_s = APT / failures; mttf_s = APT before the last failure / failures, so the run that has not failed yet
    is left out; mttr_s = mean length of the ended failures. A failure still open at as_of counts as one, and
    its repair does not: how long it will take is not known. availability = MTBF / (MTBF + MTTR). Lengths of
    repairs are those of the records, also through breaks and nights. Limits hold ``policies.confidence``.
    Reasons: NO_FAILURE (mtbf_low_s is still given), NO_REPAIR_ENDED, NEVER_RAN (no APT in the window:
    nothing was observed between failures).
    Raises ContractError SPC-627 when ``last`` is before ``first`` or the confidence is not between 0 and 1.
    """
    confidence = site.policies.confidence
    if last < first or not 0 < confidence < 1:
        raise ContractError(
            f"reliability: window {first} to {last} at confidence {confidence}; give a window that does not end before it "
            "begins, and a confidence between 0 and 1 (policies.confidence)",
            code="SPC-627",
        )
    within = pl.col("production_date").is_between(first, last)
    stops = failures(downtime.filter(within), site)
    runs = intervals.filter(within & (pl.col("time_element") == "APT"))
    units = pl.concat([intervals.filter(within).select(_UNIT), stops.select(_UNIT)]).unique()
    summed = (
        units.join(_failed(stops), on=_UNIT, how="left")
        .join(_ran(runs, stops), on=_UNIT, how="left")
        .with_columns(pl.col("failures", "open_failures", "_repair", "_run", "_run_before").fill_null(0))
    )
    return RELIABILITY.conform(
        _estimates(summed, confidence).with_columns(window_start=pl.lit(first), production_date=pl.lit(last))
    )


def _failed(stops: pl.DataFrame) -> pl.DataFrame:
    """Failures, open failures and microseconds of ended repairs per work unit."""
    length = (pl.col("end_at") - pl.col("start_at")).dt.total_microseconds()
    return stops.group_by(_UNIT).agg(
        failures=pl.len().cast(pl.Int64),
        open_failures=pl.col("is_open").sum().cast(pl.Int64),
        _repair=length.filter(~pl.col("is_open")).sum(),
    )


def _ran(runs: pl.DataFrame, stops: pl.DataFrame) -> pl.DataFrame:
    """Microseconds of operating time per work unit, in all and before its last failure."""
    last = stops.group_by(_UNIT).agg(_last=pl.col("start_at").max())
    start, end = pl.col("start_at"), pl.col("end_at")
    before = (pl.min_horizontal(end, "_last") - start).dt.total_microseconds().clip(lower_bound=0)
    return (
        runs.join(last, on=_UNIT, how="left")
        .group_by(_UNIT)
        .agg(
            _run=(end - start).dt.total_microseconds().sum(),
            _run_before=pl.when(pl.col("_last").is_not_null()).then(before).otherwise(0).sum(),
        )
    )


def _estimates(summed: pl.DataFrame, confidence: float) -> pl.DataFrame:
    """Means, limits and availability from sums."""
    half = (1 - confidence) / 2
    failed, ended = pl.col("failures"), pl.col("failures") - pl.col("open_failures")
    run, repair = in_seconds(pl.col("_run")), in_seconds(pl.col("_repair"))
    ran = pl.col("_run") > 0
    counted = summed["failures"].to_numpy()
    repaired = counted - summed["open_failures"].to_numpy()
    quantiles = summed.with_columns(
        _upper=pl.Series(np.asarray(stats.chi2.isf(half, 2 * counted + 2), dtype=np.float64)),
        _lower=pl.Series(np.asarray(stats.chi2.ppf(half, 2 * counted), dtype=np.float64)),
        _repair_upper=pl.Series(np.asarray(stats.chi2.isf(half, 2 * repaired), dtype=np.float64)),
        _repair_lower=pl.Series(np.asarray(stats.chi2.ppf(half, 2 * repaired), dtype=np.float64)),
    )
    means = quantiles.with_columns(
        operating_s=run,
        repair_s=repair,
        mtbf_s=pl.when(ran & (failed > 0)).then(run / failed),
        mtbf_low_s=pl.when(ran).then(2 * run / pl.col("_upper")),
        mtbf_high_s=pl.when(ran & (failed > 0)).then(2 * run / pl.col("_lower")),
        mttf_s=pl.when(ran & (failed > 0)).then(pl.col("_run_before") / failed / US_PER_S),
        mttr_s=pl.when(ended > 0).then(repair / ended),
        mttr_low_s=pl.when(ended > 0).then(2 * repair / pl.col("_repair_upper")),
        mttr_high_s=pl.when(ended > 0).then(2 * repair / pl.col("_repair_lower")),
        confidence=pl.lit(confidence),
    )
    both = pl.col("mtbf_s") + pl.col("mttr_s")
    codes = {"NEVER_RAN": ~ran, "NO_FAILURE": failed == 0, "NO_REPAIR_ENDED": (failed > 0) & (ended == 0)}
    reason = pl.concat_str(
        [pl.when(holds).then(pl.lit(code)) for code, holds in codes.items()], separator=";", ignore_nulls=True
    )
    return means.with_columns(
        availability=pl.when(both > 0).then(pl.col("mtbf_s") / both), reason=pl.when(reason != "").then(reason)
    )
