"""Exact average run lengths of rule sets on independent normal points: the oracle of the rules, and of alarm budgets.

Champ and Woodall, Technometrics 29 (1987) 393: what rules remember of the past is a finite state, so the run length
is the absorption time of a Markov chain.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array, eye_array
from scipy.sparse.linalg import spsolve
from scipy.special import ndtr

from spc_platform.errors import ContractError
from spc_platform.spc.rules import Rule
from spc_platform.spc.sequence import Floats

State = tuple[tuple[bool, ...], ...]


def transitions(rules: Sequence[Rule], shift: float = 0.0, width: float = 3.0) -> csr_array:
    """Matrix of moving between states without a signal; row 0 is the state without a past.

    ``shift``: of the mean, in standard errors. Rules of kind beyond on one side only; another kind raises
    ``ContractError``, because its memory is not a finite set of zones.
    """
    if any(rule.kind != "beyond" or rule.side != "same" for rule in rules):
        raise ContractError("exact run lengths are known for 'k of m beyond a zone on one side' only; leave other rules out")
    zones = [width if rule.zone is None else rule.zone for rule in rules]
    edges = np.array(sorted({sign * zone for zone in zones for sign in (-1.0, 1.0)}))
    bounds = np.concatenate(([-np.inf], edges, [np.inf]))
    share = np.diff(ndtr(bounds - shift))
    middle = (np.concatenate(([edges[0] - 1.0], edges)) + np.concatenate((edges, [edges[-1] + 1.0]))) / 2.0
    # what each zone of the chart adds to the memory of each rule and side
    marks = [[point > zone for zone in zones] + [point < -zone for zone in zones] for point in middle.tolist()]
    memories = [*rules, *rules]
    start: State = tuple(() for _ in memories)
    index: dict[State, int] = {start: 0}
    waiting, moves = [start], []
    while waiting:
        state = waiting.pop()
        for probability, mark in zip(share.tolist(), marks, strict=True):
            after = _after(state, mark, memories)
            if after is None:
                continue
            if after not in index:
                index[after] = len(index)
                waiting.append(after)
            moves.append((index[state], index[after], probability))
    rows, columns, values = zip(*moves, strict=True)
    return csr_array((values, (rows, columns)), shape=(len(index), len(index)))


def average_run_length(rules: Sequence[Rule], shift: float = 0.0, width: float = 3.0) -> float:
    """Mean number of points until the first signal, from a start without a past.

    >>> from spc_platform.spc.rules import RULE_SETS
    >>> round(average_run_length(RULE_SETS["limits_only"]), 4)
    370.3983
    """
    stay = transitions(rules, shift, width)
    size = stay.shape[0]
    lengths: Floats = np.atleast_1d(spsolve((eye_array(size) - stay).tocsc(), np.ones(size)))
    return float(lengths[0])


def survival(rules: Sequence[Rule], points: int, shift: float = 0.0, width: float = 3.0) -> float:
    """Probability that the first ``points`` points give no signal."""
    stay = transitions(rules, shift, width)
    alive: Floats = np.ones(stay.shape[0])
    for _ in range(points):
        alive = stay @ alive
    return float(alive[0])


def _after(state: State, mark: Sequence[bool], memories: Sequence[Rule]) -> State | None:
    """Memory after one more point, or None when a rule signals."""
    after = []
    for past, beyond, rule in zip(state, mark, memories, strict=True):
        window = (*past, beyond)
        if beyond and sum(window) >= rule.k:
            return None
        after.append(_needed(window[-(rule.m - 1) :] if rule.m > 1 else (), rule))
    return tuple(after)


def _needed(window: tuple[bool, ...], rule: Rule) -> tuple[bool, ...]:
    """Drop the oldest points that can no longer be part of a signal, so that equal futures are equal states."""
    while window and (not window[0] or sum(window) + rule.m - len(window) < rule.k):
        window = window[1:]
    return window
