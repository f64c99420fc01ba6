"""Average run lengths of rule sets on independent normal points: the oracle of the rules, and of alarm budgets.

Champ and Woodall, Technometrics 29 (1987) 393: what zone rules remember of the past is a finite state, so the run length
is the absorption time of a Markov chain. Trends and alternations compare values, not zones: alone they are exact for any
continuous distribution (``pattern_run_length``), together with zones they are simulated (``simulated_run_length``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse import csr_array, eye_array
from scipy.sparse.linalg import spsolve
from scipy.special import ndtr, roots_legendre

from spc_platform.errors import ContractError
from spc_platform.spc.rules import Rule, evaluate
from spc_platform.spc.sequence import Flags, Floats

State = tuple[tuple[int, ...], ...]

PATTERNS = ("trend", "alternate")
"""Kinds of rules that compare successive values: their memory is not a finite set of zones."""

_NODES = 32
_BLOCK = 32


def is_exact(rules: Sequence[Rule]) -> bool:
    """Whether ``average_run_length`` knows these rules.

    >>> from spc_platform.spc.rules import RULE_SETS
    >>> is_exact(RULE_SETS["western_electric"]), is_exact(RULE_SETS["nelson"])
    (True, False)
    """
    return bool(rules) and all(rule.kind not in PATTERNS for rule in rules)


def transitions(rules: Sequence[Rule], shift: float = 0.0, width: float = 3.0) -> csr_array:
    """Matrix of moving between states without a signal; row 0 is the state without a past.

    ``shift``: of the mean, in standard errors; ``width``: of the limits. Rules of kind beyond, within and span; a trend, an
    alternation or no rule at all raises ``ContractError`` SPC-318. Conventions on ties, points on a line and resets do
    not matter: they have probability 0 or act after the first signal.
    """
    if not is_exact(rules):
        named = ", ".join(rule.name for rule in rules if rule.kind in PATTERNS) or "an empty rule set"
        raise ContractError(
            f"exact run lengths are known for rules of zones, not for {named}; leave other rules out or simulate them",
            code="SPC-318",
        )
    zones = {width if rule.zone is None else rule.zone for rule in rules}
    edges = np.array(sorted({sign * zone for zone in zones for sign in (-1.0, 1.0)}))
    bounds = np.concatenate(([-np.inf], edges, [np.inf]))
    share = np.diff(ndtr(bounds - shift))
    middle = (np.concatenate(([edges[0] - 1.0], edges)) + np.concatenate((edges, [edges[-1] + 1.0]))) / 2.0
    memories = [(rule, sign) for rule in rules for sign in _signs(rule)]
    # what each zone of the chart adds to each memory
    marks = [[_mark(rule, sign, point, width) for rule, sign in memories] for point in middle.tolist()]
    start: State = tuple(() for _ in memories)
    index: dict[State, int] = {start: 0}
    waiting, moves = [start], []
    while waiting:
        state = waiting.pop()
        for probability, mark in zip(share.tolist(), marks, strict=True):
            after = _after(state, mark, [rule for rule, _ in memories])
            if after is None:
                continue
            if after not in index:
                index[after] = len(index)
                waiting.append(after)
            moves.append((index[state], index[after], probability))
    if not moves:
        return csr_array((1, 1))
    rows, columns, values = zip(*moves, strict=True)
    return csr_array((values, (rows, columns)), shape=(len(index), len(index)))


def average_run_length(rules: Sequence[Rule], shift: float = 0.0, width: float = 3.0) -> float:
    """Mean number of points until the first signal of any of ``rules``, from a start without a past.

    ``shift``: of the mean of independent normal points, in standard errors; ``width``: limits in standard errors. Exact, by
    the Markov chain of ``transitions``, which raises for rules that it cannot follow. Source: Champ and Woodall,
    Technometrics 29 (1987) 393.

    >>> from spc_platform.spc.rules import RULE_SETS
    >>> round(average_run_length(RULE_SETS["limits_only"]), 4)
    370.3983
    """
    stay = transitions(rules, shift, width)
    size = stay.shape[0]
    lengths: Floats = np.atleast_1d(spsolve((eye_array(size) - stay).tocsc(), np.ones(size)))
    return float(lengths[0])


def survival(rules: Sequence[Rule], points: int, shift: float = 0.0, width: float = 3.0) -> float:
    """Probability that the first ``points`` points give no signal; arguments, errors and source of ``average_run_length``."""
    stay = transitions(rules, shift, width)
    alive: Floats = np.ones(stay.shape[0])
    for _ in range(points):
        alive = stay @ alive
    return float(alive[0])


def pattern_run_length(rule: Rule) -> float:
    """Mean number of points until a trend or an alternation alone signals, for independent values of any continuous law.

    Only the order of the values matters, so they may be taken as uniform; the expected further points are smooth functions
    of the last value and solve linear integral equations, by collocation in Legendre nodes (exact to about 12 digits).
    Another kind of rule raises ``ContractError`` SPC-318.

    >>> from spc_platform.spc.rules import RULE_SETS
    >>> round(pattern_run_length(RULE_SETS["nelson"][3]), 1)
    601.0
    """
    if rule.kind not in PATTERNS:
        raise ContractError(f"{rule.name} is no trend and no alternation; use average_run_length", code="SPC-318")
    weight, below, above = _collocation()
    # states: a value that continues nothing, then 2 .. m - 1 points that end in a step up, and in a step down
    counted = {"up": rule.side != "below", "down": rule.side != "above"}
    states = [("", 1)] + [(step, j) for step in counted if counted[step] for j in range(2, rule.m)]
    place = {state: position for position, state in enumerate(states)}
    n = len(weight)
    system = np.eye(n * len(states))
    for (last, j), row in place.items():
        for step, integral in (("up", above), ("down", below)):
            goes_on = bool(last) and (step == last) == (rule.kind == "trend")
            reached = j + 1 if goes_on else 2
            if reached == rule.m and counted[step]:
                continue
            column = place[(step, reached) if counted[step] else ("", 1)]
            system[row * n : (row + 1) * n, column * n : (column + 1) * n] -= integral
    further = np.linalg.solve(system, np.ones(len(system)))
    return float(1.0 + weight @ further[:n])


def simulated_run_length(
    rules: Sequence[Rule], replications: int = 20_000, seed: int = 1, shift: float = 0.0, width: float = 3.0
) -> tuple[float, float]:
    """Mean number of points until the first signal, and its standard error, from ``replications`` seeded sequences.

    The sequences are judged by ``rules.evaluate`` itself, all at once, until each has signalled: the same seed gives the
    same figures. Raises ``ContractError`` SPC-317 for fewer than 2 replications or no rule.
    """
    if replications < 2 or not rules:
        raise ContractError(
            f"{replications} replications of {len(rules)} rules have no standard error; give at least 2 and one rule",
            code="SPC-317",
        )

    def signals(z: Floats) -> Flags:
        is_first = np.zeros(z.shape, dtype=np.bool_)
        is_first[:, 0] = True
        flags = np.zeros(z.size, dtype=np.bool_)
        flags[evaluate(z.ravel(), is_first.ravel(), rules, width).point] = True
        return flags.reshape(z.shape)

    return simulated_waits(signals, max(rule.m for rule in rules) - 1, replications, seed, shift)


def simulated_waits(
    signals: Callable[[Floats], Flags], memory: int, replications: int, seed: int, shift: float = 0.0
) -> tuple[float, float]:
    """Mean wait for the first signal of seeded normal sequences, and its standard error.

    ``signals`` flags the points of a block (replications, points); each row begins with up to ``memory`` points of the past.
    """
    random = np.random.default_rng(seed)
    lengths = np.zeros(replications)
    active = np.arange(replications)
    past = np.zeros((replications, 0))
    passed = 0
    while len(active):
        z = np.concatenate((past, random.standard_normal((len(active), _BLOCK)) + shift), axis=1)
        new = signals(z)[:, past.shape[1] :]
        hit = new.any(axis=1)
        lengths[active[hit]] = passed + new[hit].argmax(axis=1) + 1
        active, past = active[~hit], z[~hit][:, max(z.shape[1] - memory, 0) :]
        passed += _BLOCK
    return float(lengths.mean()), float(lengths.std(ddof=1) / np.sqrt(replications))


def _signs(rule: Rule) -> tuple[int, ...]:
    """What a rule remembers apart: each side of its own, or both together (0)."""
    if rule.kind != "beyond" or rule.side == "either":
        return (0,)
    return {"above": (1,), "below": (-1,)}.get(rule.side, (1, -1))


def _mark(rule: Rule, sign: int, point: float, width: float) -> int:
    zone = width if rule.zone is None else rule.zone
    if rule.kind == "span":
        return int(point > zone) - int(point < -zone)
    if rule.kind == "within":
        return int(abs(point) < zone)
    return int(abs(point) > zone if sign == 0 else sign * point > zone)


def _after(state: State, mark: Sequence[int], memories: Sequence[Rule]) -> State | None:
    """Memory after one more point, or None when a rule signals."""
    after = []
    for past, new, rule in zip(state, mark, memories, strict=True):
        window = (*past, new)
        if rule.kind == "span":
            if new and -new in window:
                return None
            # of several points beyond one side only the latest matters
            window = (0,) * (len(window) - 1) + (new,) if new else window
        elif new and sum(window) >= rule.k:
            return None
        after.append(_needed(window[-(rule.m - 1) :] if rule.m > 1 else (), rule))
    return tuple(after)


def _needed(window: tuple[int, ...], rule: Rule) -> tuple[int, ...]:
    """Drop the oldest points that can no longer be part of a signal, so that equal futures are equal states."""
    least = 0 if rule.kind == "span" else rule.k
    while window and (not window[0] or (least and sum(window) + rule.m - len(window) < least)):
        window = window[1:]
    return window


def _collocation() -> tuple[Floats, Floats, Floats]:
    """Weights of Legendre nodes on 0 to 1, and the matrices that integrate a function from 0 to each node, and on to 1."""
    node, weight = roots_legendre(_NODES)
    values = np.polynomial.legendre.legvander(node, _NODES)
    order = np.arange(1, _NODES)
    integral = np.empty((_NODES, _NODES))
    integral[:, 0] = node + 1.0
    integral[:, 1:] = (values[:, 2:] - values[:, :-2]) / (2 * order + 1)
    below = integral @ np.linalg.inv(values[:, :_NODES]) / 2.0
    return weight / 2.0, below, weight / 2.0 - below
