"""Neurons given by equations: propagation, arrivals, and the times at which their threshold condition holds.

The state ``x`` of a neuron is kept in coordinates ``m`` of its parameter set, ``x = origin + out m``, and the condition
is ``f = base + row . m > 0``.

*Modes.* If no state acts on an earlier one and the time constants of coupled states differ by a fifth or more,
the coordinates are the amplitudes of the modes: ``m_k`` decays with the rate ``rate_k <= 0`` (or drifts, for a rate of
0), a jump adds a fixed vector, and ``f`` is a sum of exponentials. Let ``p_k = row_k m_k`` and let ``M`` be the sum of
``rate_k ** 2 p_k`` over the positive ``p_k``, which only decay. Then ``f'' <= M`` for all later times, so

    f(t + h) <= f(t) + f'(t) h + M h ** 2 / 2,

and the condition cannot hold before the zero of the right side. Steps of that length reach the first crossing from
below and cannot pass it; next to it they are Newton steps. One such step without any exponential is enough for most
arrivals: the neuron has no crossing before its next event.

*All other linear sets* keep the states themselves, with the fixed point as origin if there is one, and use the general
linear rule (`mtt_brian.engines.exact.crossing_search`).

*Sets with products or functions of states* keep the states themselves and use Taylor series
(`mtt_brian.engines.exact.taylor`). The membrane of an exponential neuron crosses its threshold faster than float64
resolves times, and has no state a moment later: where a crossing is so steep, the neuron gets the states that it has
there, whatever rounding makes of the time.

*Barriers.* To cross its threshold from below, ``f`` must be 0 while ``f' >= 0``. Often ``f'``, where ``f`` is 0, is a
linear function of states that decay on their own: that of a membrane with conductances is the sum of ``g_k (E_k -
threshold)`` plus a constant. It is then a sum of modes, and the bound above gives a time before which it stays
negative, whatever the membrane does: no series is needed to see that an inhibited neuron does not fire.

A neuron has two sets: one for its refractory period, in which some states are constant, and one for all other times.
Where a condition ends the refractory period, that is the condition of the first set. Often both sets have the same
condition, from the two sides: ``v > Vt``. Then ``f`` is 0 up to rounding whenever one set follows the other, and its
slope tells on which side the neuron is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mtt_brian.circuit.model import Circuit
from mtt_brian.engines.exact.crossing_search import first_crossing
from mtt_brian.engines.exact.instant import tolerance
from mtt_brian.engines.exact.jit import address, call, device_kernel, inlined, kernel, piece
from mtt_brian.engines.exact.propagation import Scratch, evolve, new_scratch
from mtt_brian.engines.exact.queues import CrossingQueue, schedule_crossing
from mtt_brian.engines.exact.taylor import (
    AT,
    AT_ONCE,
    BEFORE,
    CURVATURE,
    LENGTH,
    LISTED,
    ORDER,
    SPAN,
    STATES,
    F,
    SeriesSystem,
    TaylorRule,
    X,
    expand,
    expand_one,
    first_zero,
    soonest,
    state_at,
    steepness,
    taylor_rule,
    write_states_at,
)
from mtt_brian.engines.exact.vectors import LANES
from mtt_brian.engines.lowered.linear_sets import LinearSets, linear_sets
from mtt_brian.errors import InputError
from mtt_brian.neuron import LinearSystem
from mtt_brian.neuron.equation_neuron import MOST_STATES, PRODUCT, EquationNeuron, Operation, Systems
from mtt_brian.progress import notice

#: Coordinates of the neurons of a network, unless some have more states.
_FEW = 4
#: Time constants of coupled states that differ by less than this, relative to the shorter one, go to the general rule.
_APART = 0.2
#: Parameter sets for the general rule, some milliseconds each, above which a notice is given.
MANY_GENERAL = 500
#: Spikes that a neuron may fire at one instant.
MOST_AT_ONCE = 1000
#: Two conditions whose numbers differ by less than this, relatively, are the same.
_SAME = 1e-14
#: Steps after which a search for a crossing ends without a result.
_STEPS = 100_000
_ULP = 2.0**-53
#: A step of this many times the fastest time constant is close enough to a crossing to compute it.
_NEAR = 1e-6
#: Largest rounding error of the condition at a computed crossing, relative to the size of its terms.
_ROUNDED = 1e-9
#: A barrier whose terms sum to less than minus this share of their size is clear of rounding.
_CLEAR = 1e-3
#: Cells of a series between two events of a neuron above which its time constants are too short for these.
_MOST_CELLS = 20_000_000
#: A cell ends before a time if it does by so many windows; and by so many it ends before all events later than that.
_PASSED, _BEFORE = 2.0, 8.0
#: A series is used up to here on its cell, which begins at 0 and ends at 1 up to the windows above.
_LAST_PLACE = 1.0 + 2.0**-20
#: Cells in a row that are too short for float64 to resolve their times, after which states grow without bound.
_MOST_AT_ONCE = 10_000

# Columns of `Equations.y`: the time of the coordinates, the end of the refractory period; the coordinates from M on.
LAST, FREE, M = 0, 1, 4
# Columns of `Equations.z`: the parameter set now, outside and inside the refractory period; whether the neuron is
# refractory, up to a time (`TIMED`) or to a crossing of f (`CONDITIONAL`); the instant k at which it reached its
# threshold on its own, or -2 - k if its refractory period ended then; whether the time in the queue is its crossing
# (else no crossing comes before it; `STEEP`: it is too steep for float64); the instant at which it was touched; whether
# the condition is > (bit 0), that of the end of a refractory period (bit 1).
CURRENT, ACTIVE, HELD, REFRACTORY, DUE, EXACT, STAMP, STRICT = range(8)
TIMED, CONDITIONAL = 1, 2
STEEP = 2
#: How `holds` takes a condition that is 0 up to rounding: as float64 has it; as fulfilled; as fulfilled if it rises.
AS_IT_IS, REACHED, TURNED = range(3)
# Columns of `Equations.sets`: constant of f (-inf: never fires), the fastest rate, the refractory period (inf: f of the
# other set ends it), the constants of f' and f'', whether f is -f of the other set when that becomes the current one.
# Then rows with a number for each coordinate.
BASE, FASTEST, DEAD, SLOPE_CONSTANT, BEND_CONSTANT, TURNS, _HEAD = 0, 1, 2, 3, 4, 5, 8
# These rows: rates, drifts, weights in f, states at the origin, weights in f' and f'', constants of the reset; then
# those of the first state in four matrices. Those of the next state follow after `_NEXT` rows.
RATE, DRIFT, ROW, ORIGIN, SLOPE, BEND, SHIFT, ENTER, INTO, OUT, RESET = range(11)
_NEXT = 4


class Equations(NamedTuple):
    """All populations of `EquationNeuron`: N neurons, numbered together, and S parameter sets.

    Attributes:
        y: what changes, float64 [N, 4 + w] for w coordinates; the columns are named above.
        z: the same, int64 [N, 8].
        sets: float64 [S, columns], see above. The matrices: what a jump of a state adds to the coordinates (0 for a
            held state); the same for all states; the states of the coordinates; the reset.
        kind: number of coordinates, the number in `GeneralRule` of a set without modes, else -1, the number in
            `TaylorRule` of a set with products, else -1, and the row of its barrier in ``sets``, else -1, int64 [S, 4].
        own: memory of this run, float64 [2 w].
        wide: w empty tuples. So kernels are compiled for a width, and loops over coordinates have a known length.
    """

    y: np.ndarray
    z: np.ndarray
    sets: np.ndarray
    kind: np.ndarray
    own: np.ndarray
    wide: tuple[tuple[()], ...]


class GeneralRule(NamedTuple):
    """The sets without modes.

    Kernels accept ``GeneralRule | None``. None is for networks whose sets all have modes: numba then compiles the
    kernels without the code of the general rule, which is most of it.
    """

    sets: LinearSets
    scratch: Scratch


# ---- The kernels -----------------------------------------------------------------------------------------------------


@inlined
def _at(eq: Equations, row: int) -> int:
    """Where a row of a set begins."""
    return _HEAD + len(eq.wide) * row


@inlined
def _moved(eq: Equations, s: int, k: int, m: float, dt: float) -> float:
    rate = eq.sets[s, _at(eq, RATE) + k]
    if rate == 0.0:
        return m + eq.sets[s, _at(eq, DRIFT) + k] * dt
    return m * math.exp(rate * dt)


@piece
def carry_by_general_rule(eq: Equations, general: GeneralRule, v: int, s: int, dt: float) -> None:
    """Advances a neuron without modes by ``dt``."""
    x = eq.own
    for k in range(len(eq.wide)):
        x[k] = eq.y[v, M + k]
    evolve(general.sets, eq.kind[s, 1], x, 0, 1, dt, general.scratch)
    for k in range(len(eq.wide)):
        eq.y[v, M + k] = x[k]


@piece
def _give_up(eq: Equations, taylor: TaylorRule, v: int, grows: bool) -> None:
    """Notes a neuron whose states grow without bound, or that needs too many cells, and makes its states NaN."""
    if taylor.alarm[0] < 0:
        taylor.alarm[0], taylor.alarm[1], taylor.alarm[2] = v, eq.y[v, LAST], 1.0 if grows else 0.0
    for k in range(len(eq.wide)):
        eq.y[v, M + k] = np.nan


@inlined
def _copy_states(eq: Equations, taylor: TaylorRule, place: int, v: int) -> None:
    """Lets a cell begin with the states that a neuron has."""
    for q in range(len(eq.wide)):
        taylor.cells[place, X + q, 0] = eq.y[v, M + q]


@inlined
def _carry_linear(eq: Equations, general: GeneralRule | None, v: int, s: int, t: float) -> None:
    """Advances a neuron without products to ``t``."""
    dt = t - eq.y[v, LAST]
    if dt <= 0.0:
        return
    eq.y[v, LAST] = t
    if general is not None:  # noqa: SIM102 - numba removes the branch only for a plain test for None
        if eq.kind[s, 1] >= 0:
            carry_by_general_rule(eq, general, v, s, dt)
            return
    for k in range(eq.kind[s, 0]):
        eq.y[v, M + k] = _moved(eq, s, k, eq.y[v, M + k], dt)


@inlined
def _goes_on(taylor: TaylorRule, place: int, begin: float, end: float) -> bool:
    """Whether a neuron can go on after a cell: not after too many that begin and end at the same time."""
    taylor.span[place, AT_ONCE] = taylor.span[place, AT_ONCE] + 1.0 if end == begin else 0.0
    return taylor.span[place, AT_ONCE] <= _MOST_AT_ONCE


@inlined
def _time_on_cell(
    eq: Equations, taylor: TaylorRule, v: int, span: float, t: float, last: float, stored: int, again: bool
) -> float:
    """Moves the time of a neuron to ``t``, or to the end of its cell if that comes before ``last``.

    Returns:
        the new time, on the cell; -1 if its states stay what they are. `LISTED` tells whether it must go on.
    """
    place, begin = v - taylor.first, eq.y[v, LAST]
    end = begin + span
    taylor.span[place, LISTED] = 0.0
    ends = span == 0.0 or not _goes_on(taylor, place, begin, end)
    if (ends and begin <= last) or not again:
        _give_up(eq, taylor, v, ends)
        return -1.0
    if end <= last:
        taylor.span[place, LISTED] = 1.0
        eq.y[v, LAST] = end
        return 1.0
    if stored:
        return -1.0
    eq.y[v, LAST] = t
    if ends:  # too close to `t` to tell
        return -1.0
    return min((t - begin) / span, _LAST_PLACE)


@inlined
def _leave_cell(eq: Equations, taylor: TaylorRule, v: int, at: float) -> None:
    """Gives a neuron its states at the time ``at`` of its stored cell, which is stored no more."""
    place = v - taylor.first
    for q in range(eq.kind[eq.z[v, CURRENT], 0]):
        eq.y[v, M + q] = state_at(taylor.cells, place, q, at)
    taylor.span[place, SPAN] = 0.0


@piece
def _advance(eq: Equations, taylor: TaylorRule, waiting: int, t: float, stored: int) -> float:
    """Moves the neurons of `TaylorRule.waiting` to ``t``.

    With ``stored`` it moves them to the last cells that begin `_BEFORE` windows before ``t``, and stores these. What
    follows from the states of a neuron does not depend on whether it is moved to the begin of a cell.
    """
    last = t - (_BEFORE if stored else _PASSED) * tolerance(t)
    cells = 0
    while waiting > 0:
        cells += 1
        lanes = 0
        while waiting > 0 and lanes < LANES:
            v = taylor.waiting[waiting - 1]
            place, s = v - taylor.first, eq.kind[eq.z[v, CURRENT], 2]
            span = taylor.span[place, SPAN]
            if span > 0.0:
                at = _time_on_cell(eq, taylor, v, span, t, last, stored, cells < _MOST_CELLS)
                if at >= 0.0:
                    _leave_cell(eq, taylor, v, at)
                if not taylor.span[place, LISTED]:
                    waiting -= 1
                continue
            if lanes > 0 and taylor.kind[s] != taylor.kind[taylor.lane[1, 0]]:
                break
            _copy_states(eq, taylor, place, v)
            taylor.lane[0, lanes], taylor.lane[1, lanes] = place, s
            lanes += 1
            waiting -= 1
        if lanes == 0:
            break
        expand(taylor, lanes, stored)
        for lane in range(lanes):
            v, span = taylor.first + taylor.lane[0, lane], taylor.own[LENGTH, lane]
            taylor.own[AT, lane] = _time_on_cell(eq, taylor, v, span, t, last, stored, cells < _MOST_CELLS)
        write_states_at(taylor)
        for lane in range(lanes):
            place = taylor.lane[0, lane]
            v = taylor.first + place
            if taylor.own[AT, lane] >= 0.0:
                taylor.span[place, SPAN] = 0.0
                for q in range(eq.kind[eq.z[v, CURRENT], 0]):
                    eq.y[v, M + q] = taylor.own[STATES + q, lane]
            if taylor.span[place, LISTED]:
                taylor.waiting[waiting] = v
                waiting += 1
    return 0.0


@inlined
def advance_listed(eq: Equations, taylor: TaylorRule, waiting: int, t: float, stored: int) -> None:
    """See `_advance`."""
    if waiting > 0:
        call(taylor.advance, (eq, taylor, waiting, t, stored), 0.0)


@inlined
def _on_stored_cell(eq: Equations, taylor: TaylorRule, v: int, t: float) -> bool:
    """Whether the cell that contains ``t`` is stored."""
    span = taylor.span[v - taylor.first, SPAN]
    return span > 0.0 and eq.y[v, LAST] + span > t


@piece
def list_to_carry(eq: Equations, taylor: TaylorRule, waiting: int, v: int, t: float) -> int:
    """Lists a neuron for `advance_listed` if that computes a cell to carry it to ``t``; the length of the list."""
    if eq.kind[eq.z[v, CURRENT], 2] < 0 or t <= eq.y[v, LAST] or _on_stored_cell(eq, taylor, v, t):
        return waiting
    return _list(taylor, waiting, v)


@piece
def list_to_predict(eq: Equations, taylor: TaylorRule, waiting: int, v: int) -> int:
    """Lists a neuron for `advance_listed` if `predict_crossing` uses its cell; the length of the list."""
    s = eq.z[v, CURRENT]
    if eq.kind[s, 2] < 0 or eq.z[v, REFRACTORY] == TIMED or eq.sets[s, BASE] == -np.inf:
        return waiting
    if _below_barrier(eq, s, v) > taylor.span[v - taylor.first, BEFORE]:
        return waiting
    return _list(taylor, waiting, v)


@inlined
def _list(taylor: TaylorRule, waiting: int, v: int) -> int:
    if taylor.span[v - taylor.first, LISTED]:
        return waiting
    taylor.span[v - taylor.first, LISTED] = 1.0
    taylor.waiting[waiting] = v
    return waiting + 1


@piece
def _carry_any(eq: Equations, general: GeneralRule | None, taylor: TaylorRule, v: int, t: float) -> None:
    """Advances a neuron of any kind to ``t``."""
    s, place = eq.z[v, CURRENT], v - taylor.first
    if eq.kind[s, 2] < 0:
        _carry_linear(eq, general, v, s, t)
        return
    if t > eq.y[v, LAST]:
        if _on_stored_cell(eq, taylor, v, t):
            _leave_cell(eq, taylor, v, (t - eq.y[v, LAST]) / taylor.span[place, SPAN])
            eq.y[v, LAST] = t
        else:
            taylor.waiting[0] = v
            advance_listed(eq, taylor, 1, t, 0)
    taylor.span[place, SPAN] = 0.0


@inlined
def carry(eq: Equations, general: GeneralRule | None, taylor: TaylorRule | None, v: int, t: float) -> None:
    """Advances the coordinates of a neuron to ``t``."""
    if taylor is None:
        _carry_linear(eq, general, v, eq.z[v, CURRENT], t)
    else:  # not inlined: faster to compile
        _carry_any(eq, general, taylor, v, t)


@piece
def read_states(eq: Equations, v: int, x: np.ndarray, at: int) -> None:
    """Writes the states of a neuron, at the time of its coordinates, into ``x[at : at + w]``."""
    s = eq.z[v, CURRENT]
    for q in range(len(eq.wide)):
        total = eq.sets[s, _at(eq, ORIGIN) + q]
        for k in range(len(eq.wide)):
            total += eq.sets[s, _at(eq, OUT + _NEXT * q) + k] * eq.y[v, M + k]
        x[at + q] = total


@piece
def write_states(eq: Equations, v: int, x: np.ndarray, at: int) -> None:
    """Sets the coordinates of a neuron from its states ``x[at : at + w]``."""
    s = eq.z[v, CURRENT]
    for k in range(len(eq.wide)):
        total = 0.0
        for q in range(len(eq.wide)):
            total += eq.sets[s, _at(eq, INTO + _NEXT * q) + k] * (x[at + q] - eq.sets[s, _at(eq, ORIGIN) + q])
        eq.y[v, M + k] = total


@inlined
def jump(eq: Equations, v: int, q: int, amount: float) -> None:
    """Adds ``amount`` to state q of a neuron, unless it is held."""
    s = eq.z[v, CURRENT]
    for k in range(len(eq.wide)):
        eq.y[v, M + k] += amount * eq.sets[s, _at(eq, ENTER + _NEXT * q) + k]


@piece
def _change_set(eq: Equations, v: int, s: int) -> None:
    if eq.z[v, CURRENT] != s:
        read_states(eq, v, eq.own, 0)
        eq.z[v, CURRENT] = s
        write_states(eq, v, eq.own, 0)


@piece
def listen_again(eq: Equations, v: int) -> None:
    """The refractory period of a neuron ends at the time of its coordinates."""
    eq.z[v, REFRACTORY] = 0
    _change_set(eq, v, eq.z[v, ACTIVE])


@piece
def hold(eq: Equations, crossings: CrossingQueue, v: int, t: float) -> None:
    """The refractory period of a neuron that fires at ``t`` begins, if it has one."""
    s = eq.z[v, ACTIVE]
    if eq.sets[s, DEAD] == 0.0:
        return
    free = t + eq.sets[s, DEAD]
    eq.y[v, FREE] = free
    eq.z[v, REFRACTORY] = eq.z[v, EXACT] = 1
    if free == np.inf:
        eq.z[v, REFRACTORY], eq.z[v, EXACT] = CONDITIONAL, 0
    _change_set(eq, v, eq.z[v, HELD])
    schedule_crossing(crossings, v, free)


@piece
def end_conditional(eq: Equations, taylor: TaylorRule | None, crossings: CrossingQueue, v: int, fired: bool) -> None:
    """Ends the refractory period of a neuron if its condition no longer holds, at the time of its coordinates.

    ``fired``: whether it began at this instant.
    """
    turned = fired and eq.sets[eq.z[v, CURRENT], TURNS] != 0.0
    if holds(eq, taylor, v, TURNED if turned else AS_IT_IS):
        listen_again(eq, v)
        eq.z[v, EXACT] = 0
        schedule_crossing(crossings, v, np.inf)


@piece
def reset(eq: Equations, v: int) -> None:
    """Resets a neuron that has fired."""
    s, x = eq.z[v, ACTIVE], eq.own
    read_states(eq, v, x, 0)
    for q in range(len(eq.wide)):
        total = eq.sets[s, _at(eq, SHIFT) + q]
        for k in range(len(eq.wide)):
            total += eq.sets[s, _at(eq, RESET + _NEXT * q) + k] * x[k]
        x[len(eq.wide) + q] = total
    write_states(eq, v, x, len(eq.wide))


@inlined
def holds(eq: Equations, taylor: TaylorRule | None, v: int, rounding: int) -> bool:
    """Whether the condition of a neuron holds, at the time of its coordinates.

    It is that of the threshold, or of the end of the refractory period. For ``rounding`` see `AS_IT_IS`.
    """
    s = eq.z[v, CURRENT]
    f = eq.sets[s, BASE]
    size = abs(f)
    for k in range(len(eq.wide)):
        p = eq.sets[s, _at(eq, ROW) + k] * eq.y[v, M + k]
        f += p
        size += abs(p)
    near = 0.0 if rounding == AS_IT_IS else _ROUNDED * size
    if f > near or (rounding == REACHED and f >= -near):
        return True
    if not f >= -near:
        return False
    if rounding != TURNED and (eq.z[v, STRICT] >> (1 if eq.z[v, REFRACTORY] else 0)) & 1 == 0:
        return True
    if taylor is not None:  # noqa: SIM102
        if eq.kind[s, 2] >= 0:
            return _rises_by_series(eq, taylor, v, s)
    return _rises(eq, v)


@piece
def _rises_by_series(eq: Equations, taylor: TaylorRule, v: int, s: int) -> bool:
    """Whether a neuron with products that is at its threshold is above it right afterwards."""
    place = len(taylor.cells) - 1
    _copy_states(eq, taylor, place, v)
    if not expand_one(taylor, eq.kind[s, 2], place):
        return False
    for k in range(1, ORDER + 1):
        if taylor.cells[place, F, k] != 0.0:
            return bool(taylor.cells[place, F, k] > 0.0)
    return False


@piece
def _rises(eq: Equations, v: int) -> bool:
    """Whether a neuron at its threshold is above it right afterwards."""
    s = eq.z[v, CURRENT]
    slope, bend = eq.sets[s, SLOPE_CONSTANT], eq.sets[s, BEND_CONSTANT]
    for k in range(len(eq.wide)):
        slope += eq.sets[s, _at(eq, SLOPE) + k] * eq.y[v, M + k]
        bend += eq.sets[s, _at(eq, BEND) + k] * eq.y[v, M + k]
    return slope > 0.0 or (slope == 0.0 and bend > 0.0)


@inlined
def _step(eq: Equations, s: int, v: int, dt: float) -> tuple[float, float, float]:
    """A time for which the condition cannot hold, from ``dt`` after the time of the coordinates; neurons with modes.

    Returns:
        the step (inf: never), f, and the sum of the sizes of its terms.
    """
    f = rest = eq.sets[s, BASE]
    slope, bend, most, size, drift = 0.0, 0.0, 0.0, abs(f), 0.0
    for k in range(eq.kind[s, 0]):
        rate, weight, m = eq.sets[s, _at(eq, RATE) + k], eq.sets[s, _at(eq, ROW) + k], eq.y[v, M + k]
        if dt > 0.0:
            m = _moved(eq, s, k, m, dt)
        p = weight * m
        f += p
        size += abs(p)
        if rate == 0.0:
            rest += p
            drift += weight * eq.sets[s, _at(eq, DRIFT) + k]
        else:
            slope += rate * p
            if p > 0.0:
                most += p
                bend += rate * rate * p
    slope += drift
    if drift <= 0.0 and (rest + most < -1e-12 * size or (most == 0.0 and rest <= 0.0 and f < 0.0)):
        return np.inf, f, size
    if bend == 0.0:
        return (max(-f, 0.0) / slope if slope > 0.0 else np.inf), f, size
    if f >= 0.0:  # at the threshold: its distance below it
        return (-2.0 * slope / bend if slope < 0.0 else 0.0), f, size
    root = math.sqrt(slope * slope - 2.0 * bend * f)
    return (-2.0 * f / (slope + root) if slope > 0.0 else (root - slope) / bend), f, size


@piece
def _crossing(eq: Equations, s: int, v: int) -> float:
    """Seconds from the time of the coordinates to the first crossing; inf for none, nan if it is undecided."""
    dt = 0.0
    for _ in range(_STEPS):
        step, f, size = _step(eq, s, v, dt)
        if step == np.inf:
            return np.inf
        if f >= -_ULP * size and dt > 0.0:
            return dt + step if f < 0.0 else dt
        if dt + step == dt:
            if dt > 0.0:
                return dt
            step = 1e-9 / eq.sets[s, FASTEST]  # it leaves the threshold downwards, slower than float64 resolves
        dt += step
    return np.nan


@piece
def _below_barrier(eq: Equations, s: int, v: int) -> float:
    """Seconds from the time of the coordinates in which the barrier of a set keeps a neuron below its threshold."""
    if eq.kind[s, 3] < 0:
        return 0.0
    step, f, size = _step(eq, eq.kind[s, 3], v, 0.0)
    return step * (1.0 - _ROUNDED) if f < -_CLEAR * size else 0.0


@piece
def _find_crossing(eq: Equations, taylor: TaylorRule, v: int, until: float) -> float:
    """The first crossing of a neuron with products; or a time after ``until`` that is before it.

    Moves the neuron to the last cell that begins before ``until``, which no event of any neuron precedes.

    Returns:
        seconds; `EXACT` tells which of both it is, and the states at the crossing are in `Equations.own`. NaN if it is
        undecided, or the states grow without bound.
    """
    s = eq.z[v, CURRENT]
    ahead = len(taylor.cells) - 1
    place, begin = v - taylor.first, eq.y[v, LAST]
    following = place + len(taylor.waiting)
    movable = until - _BEFORE * tolerance(until)
    eq.z[v, EXACT] = 1
    fresh, grows = taylor.span[place, SPAN] == 0.0, False
    if fresh:
        _copy_states(eq, taylor, place, v)
    for _ in range(_MOST_CELLS):
        if place != ahead:
            soon = begin + _below_barrier(eq, s, v)
            if soon > until:
                eq.z[v, EXACT] = 0
                return float(soon)
        if fresh and not expand_one(taylor, eq.kind[s, 2], place):
            grows = True
            break
        soon = begin + min(soonest(taylor, place), 1.0) * taylor.span[place, SPAN]
        if soon > until:
            eq.z[v, EXACT] = 0
            return float(soon)
        size = abs(eq.sets[s, BASE])
        for q in range(len(eq.wide)):
            size += abs(eq.sets[s, _at(eq, ROW) + q] * taylor.cells[place, X + q, 0])
        wait = first_zero(taylor, place, size)
        end = begin + taylor.span[place, SPAN]
        if wait <= 1.0:
            for q in range(len(eq.wide)):
                eq.own[q] = state_at(taylor.cells, place, q, wait)
            if steepness(taylor, place, wait) * tolerance(end) > _ROUNDED * size * taylor.span[place, SPAN]:
                eq.z[v, EXACT] = STEEP
            return float(begin + wait * taylor.span[place, SPAN])
        if math.isnan(wait):
            break
        f = eq.sets[s, BASE]
        for q in range(len(eq.wide)):
            eq.own[q] = state_at(taylor.cells, place, q, 1.0)
            f += eq.sets[s, _at(eq, ROW) + q] * eq.own[q]
        if f >= 0.0:
            return float(end)
        if end > until:
            eq.z[v, EXACT] = 0
            return float(end)
        grows = not _goes_on(taylor, v - taylor.first, begin, end)
        if grows:
            break
        begin, fresh = end, True
        if end > movable:
            place = ahead
        else:
            eq.y[v, LAST], taylor.span[place, SPAN] = end, 0.0
            for q in range(len(eq.wide)):
                eq.y[v, M + q] = eq.own[q]
            if taylor.span[following, SPAN] > 0.0:
                fresh = False
                for q in range(taylor.cells.shape[1]):
                    for k in range(ORDER + 1):
                        taylor.cells[place, q, k] = taylor.cells[following, q, k]
                for column in (SPAN, CURVATURE):
                    taylor.span[place, column] = taylor.span[following, column]
                taylor.span[following, SPAN] = 0.0
        if fresh:
            for q in range(len(eq.wide)):
                taylor.cells[place, X + q, 0] = eq.own[q]
    _give_up(eq, taylor, v, grows)
    return np.nan


@inlined
def _crossing_by_series(eq: Equations, taylor: TaylorRule, v: int, until: float) -> float:
    """See `_find_crossing`."""
    return float(call(taylor.cross, (eq, taylor, v, until), 0.0))


@piece
def put_at_crossing(eq: Equations, taylor: TaylorRule, v: int, time: float, t: float) -> None:
    """A neuron that crosses its threshold at ``time`` has the states of this crossing at ``t``, if it is steep."""
    if eq.z[v, EXACT] == STEEP:
        _crossing_by_series(eq, taylor, v, time + tolerance(time))
        for q in range(len(eq.wide)):
            eq.y[v, M + q] = eq.own[q]
        eq.y[v, LAST], eq.z[v, EXACT] = t, 1
        taylor.span[v - taylor.first, SPAN] = 0.0


@inlined
def predict_crossing(
    eq: Equations, general: GeneralRule | None, taylor: TaylorRule | None, crossings: CrossingQueue, v: int, anew: bool
) -> bool:
    """Predicts the next crossing of a neuron whose refractory period is not timed, or a time that comes before it.

    Args:
        eq, general, crossings: of the run.
        v: the neuron.
        anew: whether the time in the queue is invalid. Otherwise it is before the crossing, unless an arrival has moved
            the crossing to an earlier time.

    Returns:
        whether the search has succeeded.
    """
    s = eq.z[v, CURRENT]
    if eq.sets[s, BASE] == -np.inf:
        return True
    if general is not None:  # noqa: SIM102
        if eq.kind[s, 1] >= 0:
            for k in range(len(eq.wide)):
                eq.own[k] = eq.y[v, M + k]
            wait = first_crossing(general.sets, eq.kind[s, 1], eq.own, 0, 1, -eq.sets[s, BASE], general.scratch)
            eq.z[v, EXACT] = 1
            schedule_crossing(crossings, v, np.inf if math.isnan(wait) else eq.y[v, LAST] + wait)
            return not math.isnan(wait)
    if taylor is None:
        time = eq.y[v, LAST] + _step(eq, s, v, 0.0)[0]
    else:
        time = _soonest(eq, taylor, s, v)
        if math.isnan(time):
            return False
    eq.z[v, EXACT] = 0
    if anew or time < crossings.time[v]:
        schedule_crossing(crossings, v, time)
    return True


@piece
def _soonest(eq: Equations, taylor: TaylorRule, s: int, v: int) -> float:
    """A time that comes before the next crossing of a neuron; NaN if its states grow without bound."""
    if eq.kind[s, 2] < 0:
        return float(eq.y[v, LAST] + _step(eq, s, v, 0.0)[0])
    place = v - taylor.first
    wait = _below_barrier(eq, s, v)
    if wait <= taylor.span[place, BEFORE]:
        if taylor.span[place, SPAN] == 0.0:
            _copy_states(eq, taylor, place, v)
            if not expand_one(taylor, eq.kind[s, 2], place):
                _give_up(eq, taylor, v, v >= 0)
                return np.nan
        wait = max(wait, min(soonest(taylor, place), 1.0) * taylor.span[place, SPAN])
    return float(eq.y[v, LAST] + wait)


@piece
def _predict_anew(
    eq: Equations, general: GeneralRule | None, taylor: TaylorRule | None, crossings: CrossingQueue, v: int
) -> bool:
    """The next crossing of a neuron with new states, at once if its condition holds; False if it is undecided."""
    if holds(eq, taylor, v, AS_IT_IS):
        eq.z[v, EXACT] = 1
        schedule_crossing(crossings, v, eq.y[v, LAST])
        return True
    return bool(predict_crossing(eq, general, taylor, crossings, v, v >= 0))


@device_kernel
def predict_all_crossings(
    eq: Equations, general: GeneralRule | None, taylor: TaylorRule | None, crossings: CrossingQueue
) -> int:
    """Predicts the first event of every neuron from its states; -1, or the neuron whose crossing is undecided."""
    for v in range(len(eq.y)):
        if eq.z[v, REFRACTORY] == TIMED:
            eq.z[v, EXACT] = 1
            schedule_crossing(crossings, v, eq.y[v, FREE])
        elif not _predict_anew(eq, general, taylor, crossings, v):
            return v
    return -1


@inlined
def _next_crossing(eq: Equations, taylor: TaylorRule | None, v: int, until: float) -> float:
    """The first crossing of a neuron, or a time after ``until`` that is before it; NaN if it is undecided."""
    s = eq.z[v, CURRENT]
    if taylor is not None:  # noqa: SIM102
        if eq.kind[s, 2] >= 0:
            return _crossing_by_series(eq, taylor, v, until)
    return eq.y[v, LAST] + _crossing(eq, s, v)


@device_kernel
def change_sets(
    eq: Equations,
    general: GeneralRule | None,
    taylor: TaylorRule | None,
    crossings: CrossingQueue,
    neurons: np.ndarray,
    shift: np.ndarray,
    t: float,
) -> int:
    """Gives some neurons other parameter sets at ``t``, which has no event of theirs before it.

    A neuron that reaches its threshold at ``t`` under the old set fires there, whatever rounding makes of the two
    times, unless its condition is no longer fulfilled under the new one.

    Args:
        eq, general, crossings: of the run.
        neurons, shift: numbers of the neurons, and what is added to those of their sets.
        t: seconds.

    Returns:
        -1, or the neuron whose crossing is undecided.
    """
    for j in range(len(neurons)):
        v = neurons[j]
        timed = eq.z[v, REFRACTORY] == TIMED
        reaches = False
        if not timed and crossings.time[v] <= t + tolerance(t):
            time = crossings.time[v]
            if not eq.z[v, EXACT]:
                time = _next_crossing(eq, taylor, v, t + tolerance(t))
                if math.isnan(time):
                    return v
            reaches = time <= t + tolerance(t)
            if taylor is not None:  # noqa: SIM102
                if reaches:
                    put_at_crossing(eq, taylor, v, time, t)
        carry(eq, general, taylor, v, t)
        eq.z[v, ACTIVE] += shift[j]
        eq.z[v, HELD] += shift[j]
        _change_set(eq, v, eq.z[v, HELD] if eq.z[v, REFRACTORY] else eq.z[v, ACTIVE])
        if timed:
            continue  # the end of its refractory period is in the queue
        if reaches or holds(eq, taylor, v, AS_IT_IS):
            eq.z[v, EXACT] = 1
            schedule_crossing(crossings, v, eq.y[v, LAST])
        elif not predict_crossing(eq, general, taylor, crossings, v, v >= 0):
            return v
    return -1


@piece
def _compute_following_cells(eq: Equations, taylor: TaylorRule, crossings: CrossingQueue) -> None:
    """If the first neuron of ``crossings`` is at the end of its cell, computes the following cells of several such."""
    lanes = 0
    for k in range(min(crossings.size[0], 2 * LANES)):
        v = crossings.heap[k]
        s, place = eq.z[v, CURRENT], v - taylor.first
        following = place + len(taylor.waiting)
        # Most of those with a barrier need no further cell.
        wanted = eq.kind[s, 2] >= 0 and eq.kind[s, 3] < 0 and eq.z[v, REFRACTORY] != TIMED and not eq.z[v, EXACT]
        if wanted:
            end = eq.y[v, LAST] + taylor.span[place, SPAN]
            wanted = taylor.span[place, SPAN] > 0.0 and taylor.span[following, SPAN] == 0.0 and end <= crossings.time[v]
        if wanted and lanes > 0:
            wanted = taylor.kind[eq.kind[s, 2]] == taylor.kind[taylor.lane[1, 0]]
        if wanted:
            for q in range(len(eq.wide)):
                taylor.cells[following, X + q, 0] = state_at(taylor.cells, place, q, 1.0)
            taylor.lane[0, lanes], taylor.lane[1, lanes] = following, eq.kind[s, 2]
            lanes += 1
        if lanes == 0 or lanes == LANES:
            break
    if lanes > 0:
        expand(taylor, lanes, 1)


@piece
def refine(eq: Equations, taylor: TaylorRule | None, crossings: CrossingQueue, until: float) -> int:
    """Computes the crossings that may come before ``until``, so that the earliest time in ``crossings`` is exact.

    A crossing is always computed from the same state in the same way, whatever ``until`` is and was.

    Returns:
        -1, or the neuron whose crossing is undecided.
    """
    while crossings.size[0] > 0:
        v = crossings.heap[0]
        time = crossings.time[v]
        if time > until or eq.z[v, EXACT]:
            return -1
        s, last = eq.z[v, CURRENT], eq.y[v, LAST]
        following = until
        for k in range(1, min(crossings.size[0], 3)):
            following = min(following, crossings.time[crossings.heap[k]])
        if taylor is not None:  # noqa: SIM102
            if eq.kind[s, 2] >= 0:
                _compute_following_cells(eq, taylor, crossings)
                time = _crossing_by_series(eq, taylor, v, following)
                if math.isnan(time):
                    return v
                schedule_crossing(crossings, v, time)
                continue
        while True:
            step, f, _ = _step(eq, s, v, max(time - last, 0.0))
            if f >= 0.0 or step * eq.sets[s, FASTEST] < _NEAR or time + step == time:
                wait = _crossing(eq, s, v)
                if math.isnan(wait):
                    return v
                eq.z[v, EXACT] = 1
                schedule_crossing(crossings, v, last + wait)
                break
            time += step
            if time > following:  # another neuron may come first
                schedule_crossing(crossings, v, time)
                break
    return -1


@kernel
def states_at(
    eq: Equations,
    general: GeneralRule | None,
    taylor: TaylorRule | None,
    neurons: np.ndarray,
    t: float,
    out: np.ndarray,
) -> None:
    """States of some neurons at ``t``, which has no event of theirs before it, into ``out`` [w per neuron]."""
    for j in range(len(neurons)):
        v = neurons[j]
        if taylor is not None:  # noqa: SIM102
            if eq.kind[eq.z[v, CURRENT], 2] >= 0:
                taylor.waiting[0] = v
                advance_listed(eq, taylor, 1, t, 1)
        last = eq.y[v, LAST]
        for k in range(len(eq.wide)):
            out[len(eq.wide) * j + k] = eq.y[v, M + k]
        carry(eq, general, taylor, v, t)
        read_states(eq, v, eq.own, 0)
        eq.y[v, LAST] = last
        for k in range(len(eq.wide)):
            eq.y[v, M + k] = out[len(eq.wide) * j + k]
            out[len(eq.wide) * j + k] = eq.own[k]


@device_kernel
def start_from(eq: Equations, neurons: np.ndarray, x: np.ndarray, free: np.ndarray, t: float) -> None:
    """Sets the states of some neurons to ``x`` [w per neuron] at ``t``.

    They are refractory until ``free``, or for inf until their condition ends it.
    """
    for j in range(len(neurons)):
        v = neurons[j]
        eq.y[v, LAST], eq.y[v, FREE] = t, free[j]
        refractory = free[j] > t
        eq.z[v, REFRACTORY] = (CONDITIONAL if free[j] == np.inf else TIMED) if refractory else 0
        eq.z[v, CURRENT] = eq.z[v, HELD] if refractory else eq.z[v, ACTIVE]
        eq.z[v, DUE] = eq.z[v, STAMP] = -1
        write_states(eq, v, x, len(eq.wide) * j)


@device_kernel
def change_states(
    eq: Equations,
    general: GeneralRule | None,
    taylor: TaylorRule | None,
    crossings: CrossingQueue,
    neurons: np.ndarray,
    x: np.ndarray,
    t: float,
) -> int:
    """Sets the states of some neurons to ``x`` [w per neuron] at ``t``, which has no event of theirs before it.

    Returns:
        -1, or the neuron whose crossing is undecided.
    """
    for j in range(len(neurons)):
        v = neurons[j]
        carry(eq, general, taylor, v, t)
        write_states(eq, v, x, len(eq.wide) * j)
        # The end of a refractory period is in the queue.
        if eq.z[v, REFRACTORY] != TIMED and not _predict_anew(eq, general, taylor, crossings, v):
            return v
    return -1


# ---- Preparation -----------------------------------------------------------------------------------------------------


def equations_of(circuit: Circuit) -> tuple[Equations, GeneralRule | None, TaylorRule | None]:
    """The arrays of the kernels; the neurons have no states yet (`start_from`).

    Raises:
        InputError: names the population whose equations cannot be run, and why.
    """
    rules = [population.rule for population in circuit.populations]
    most = max((len(rule.states) for rule in rules if isinstance(rule, EquationNeuron)), default=1)
    w = _FEW if most <= _FEW else MOST_STATES
    columns, kinds, which, systems = [np.zeros((0, _columns(w)))], [np.zeros((0, 4), np.int64)], [], []
    general: dict[bytes, tuple[int, LinearSystem]] = {}
    curved: list[SeriesSystem] = []
    barriers: list[np.ndarray] = []
    for population in circuit.populations:
        rule = population.rule
        assert isinstance(rule, EquationNeuron)
        known = len(general)
        active = sum(map(len, kinds)) + rule.system
        parts = [_sets(rule, False, w, general, curved, barriers)]
        held = active
        dead = rule.systems.refractory
        if np.any(np.isinf(dead)) or (np.any(dead) and any(rule.held)):
            held = active + len(parts[0][1])
            parts.append(_sets(rule, True, w, general, curved, barriers))
        columns += [part[0] for part in parts]
        kinds += [part[1] for part in parts]
        # A refractory condition that is > no longer holds where both sides are equal.
        which.append((active, held, np.full(population.size, rule.strict + 2 * (not rule.refractory_strict))))
        systems.append((population.name, [system for _, system in list(general.values())[known:]]))
    z = np.zeros((sum(p.size for p in circuit.populations), 8), np.int64)
    for column, values in zip((ACTIVE, HELD, STRICT), zip(*which, strict=True), strict=False):
        z[:, column] = np.concatenate(values)
    kind = np.concatenate(kinds)
    kind[kind[:, 3] >= 0, 3] += len(kind)
    for columns_of_one in barriers:
        columns.append(columns_of_one[None])
    kind = np.concatenate([kind, np.full((len(barriers), 4), [w, -1, -1, -1])])
    equations = Equations(
        y=np.zeros((len(z), M + w)),
        z=z,
        sets=np.concatenate(columns),
        kind=kind,
        own=np.zeros(2 * w),
        wide=((),) * w,
    )
    by_series = equations.kind[:, 2] >= 0
    cells = np.flatnonzero(by_series[z[:, ACTIVE]] | by_series[z[:, HELD]])
    taylor = None
    if len(cells):
        taylor = taylor_rule(curved, int(cells[0]), int(np.ptp(cells)) + 1, w)
        taylor = taylor._replace(
            advance=address(_advance, equations, taylor, 0, 0.0, 0),
            cross=address(_find_crossing, equations, taylor, 0, 0.0),
        )
    return equations, GeneralRule(_general_sets(systems), new_scratch()) if general else None, taylor


def _general_sets(systems: Sequence[tuple[str, Sequence[LinearSystem]]]) -> LinearSets:
    """The systems of all populations, given with their names."""
    count = sum(len(added) for _, added in systems)
    if count > MANY_GENERAL:
        notice(
            f"event_driven: preparing {count} parameter sets of coupled states for the general rule, about 10 ms each; "
            "sets that differ in a constant current only need one"
        )
    try:
        return linear_sets([system for _, added in systems for system in added])
    except InputError:
        for name, added in systems:  # again, to name the population
            try:
                linear_sets(added)
            except InputError as error:
                raise InputError(f"population {name!r}: {error}") from None
        raise


def _columns(w: int) -> int:
    """Columns of `Equations.sets` for ``w`` coordinates."""
    return _HEAD + w * (ENTER + _NEXT * w)


def _sets(
    rule: EquationNeuron,
    refractory: bool,
    w: int,
    general: dict[bytes, tuple[int, LinearSystem]],
    curved: list[SeriesSystem],
    barriers: list[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """The parameter sets of a population, in or outside its refractory period: rows of `Equations.sets` and ``kind``.

    Args:
        rule: its neurons.
        refractory: whether they are; the condition is then that of the end of this, if a condition ends it.
        w: coordinates.
        general: systems for the general rule by their distinguishing values; new ones are added.
        curved: systems for series; new ones are added.
        barriers: rows of `Equations.sets` of barriers; new ones are added.
    """
    systems = rule.systems
    count, n = systems.offset.shape
    held = np.array(rule.held) & refractory
    conditional = np.isinf(systems.refractory)
    weights, level = systems.row, systems.level
    if refractory:
        weights = np.where(conditional[:, None], -systems.refractory_row, weights)
        level = np.where(conditional, -systems.refractory_level, level)
    matrix = np.where(held[:, None], 0.0, systems.matrix)
    offset = np.where(held, 0.0, systems.offset)
    rate, out, into, modal = _modes(matrix)
    rate[~modal] = 0.0
    number, series = np.full(count, -1), np.full(count, -1)
    product = np.where(held[:, None], 0.0, systems.product)
    by_series = np.zeros(count, bool)
    if rule.operations or n > _FEW:  # a linear part without modes needs no further rule, or is too large for it
        by_series = np.any(product, axis=(1, 2)) | ~modal
        modal &= ~by_series
        series[by_series] = len(curved) + np.arange(by_series.sum())
        rate[by_series] = 0.0
    push = np.einsum("skq,sq->sk", into, offset)
    fixed, drift = np.zeros((count, n)), np.where(rate == 0, push, 0.0)
    np.divide(-push, rate, out=fixed, where=rate != 0)
    origin = np.einsum("sqk,sk->sq", out, fixed)
    for s in np.flatnonzero(~modal):
        out[s] = into[s] = np.eye(n)
        origin[s], drift[s] = 0.0, offset[s]
        if series[s] >= 0:
            continue
        if np.linalg.matrix_rank(_balanced(matrix[s])) == n:
            origin[s], drift[s] = np.linalg.solve(matrix[s], -offset[s]), 0.0
        key = np.concatenate([matrix[s].ravel(), drift[s], weights[s]]).tobytes()
        if key not in general:
            ones = np.ones(n)
            system = LinearSystem(matrix=matrix[s], offset=drift[s], drive=0 * ones, row=weights[s], tau=ones)
            general[key] = len(general), system
        number[s] = general[key][0]
    row = np.einsum("sq,sqk->sk", weights, out)
    base = np.einsum("sq,sq->s", weights, origin) - level
    size = np.einsum("sq,sq->s", np.abs(weights), np.abs(origin)) + np.abs(level)
    base[np.abs(base) <= 4 * 2.0**-52 * size] = 0.0  # a fixed point that is the threshold up to rounding
    base[np.isinf(level)] = -np.inf
    if np.any(by_series):
        slopes = np.concatenate([matrix, offset[:, :, None], product], axis=2)
        right = np.concatenate([slopes, systems.sums], axis=1)
        used = np.any(right[by_series] != 0, axis=0)
        curved += [
            SeriesSystem(right[s], used, rule.operations, weights[s], base[s]) for s in np.flatnonzero(by_series)
        ]
    moves = np.where(modal[:, None, None], rate[:, :, None] * np.eye(n), matrix)
    slope = np.einsum("sk,skq->sq", row, moves)
    bend = np.einsum("sk,skq->sq", slope, moves)
    columns = np.zeros((count, _columns(w)))
    columns[:, BASE], columns[:, DEAD] = base, systems.refractory
    columns[:, FASTEST] = np.abs(moves).sum(axis=2).max(axis=1)
    columns[:, SLOPE_CONSTANT] = np.einsum("sk,sk->s", row, drift)
    columns[:, BEND_CONSTANT] = np.einsum("sk,sk->s", slope, drift)
    turns = _turns(systems) & (refractory <= _keep_condition(systems))
    columns[:, TURNS] = turns & conditional
    rows = columns[:, _HEAD:].reshape(count, -1, w)
    shift = systems.reset[:, :, n]
    for at, values in ((RATE, rate), (DRIFT, drift), (ROW, row), (ORIGIN, origin), (SLOPE, slope), (BEND, bend)):
        rows[:, at, :n] = values
    rows[:, SHIFT, :n] = shift
    states = into.transpose(0, 2, 1)
    entered = np.where(held[:, None], 0.0, states)
    for at, matrices in ((ENTER, entered), (INTO, states), (OUT, out), (RESET, systems.reset[:, :, :n])):
        rows[:, at::_NEXT][:, :n, :n] = matrices
    barrier = np.full(count, -1)
    for s in np.flatnonzero(by_series):
        found = _barrier(matrix[s], offset[s], product[s], rule.operations, weights[s], base[s], w)
        if found is not None:
            barrier[s] = len(barriers)
            barriers.append(found)
    return columns, np.stack([np.full(count, n), number, series, barrier], axis=1)


def _barrier(
    matrix: np.ndarray,
    offset: np.ndarray,
    product: np.ndarray,
    operations: Sequence[Operation],
    row: np.ndarray,
    base: float,
    w: int,
) -> np.ndarray | None:
    """The slope of the condition at the threshold as a condition of its own, a row of `Equations.sets`; None for none.

    It exists where the condition is one of a single state and the slope, there, is linear in other states, which decay
    on their own.
    """
    if any(operation.kind != PRODUCT for operation in operations):
        return None
    n = len(row)
    others = np.flatnonzero(row == 0)
    alone = np.all(matrix[others] == np.diag(np.diag(matrix))[others])
    if len(others) != n - 1 or np.isinf(base) or not alone or np.any(np.diag(matrix)[others] > 0):
        return None
    if np.any(offset[others]) or np.any(product[others]):
        return None
    v = int(np.flatnonzero(row)[0])
    level = -base / row[v]
    powers = [np.eye(n, dtype=int)[k] for k in range(n)]
    for _, left, right in operations:
        powers.append(powers[left] + powers[right])
    slope, constant = np.where(np.arange(n) == v, 0.0, matrix[v]), offset[v] + matrix[v, v] * level
    for value, power in zip(product[v], powers[n:], strict=True):
        degree = power.sum() - power[v]
        if degree == 0:
            constant += value * level ** power[v]
        elif degree == 1:
            slope[np.flatnonzero(np.where(np.arange(n) == v, 0, power))[0]] += value * level ** power[v]
        elif value:
            return None
    columns = np.zeros(_columns(w))
    rows = columns[_HEAD:].reshape(-1, w)
    rows[RATE, :n] = np.where(np.arange(n) == v, 0.0, np.diag(matrix))
    rows[ROW, :n] = row[v] * slope
    columns[BASE] = row[v] * constant
    return columns


def _turns(systems: Systems) -> np.ndarray:
    """Where the refractory condition and that of the threshold are the same, up to rounding [S]."""
    with np.errstate(all="ignore"):
        one, other = (
            np.concatenate([row, level[:, None]], axis=1) / np.abs(row).max(axis=1, keepdims=True)
            for row, level in ((systems.row, systems.level), (systems.refractory_row, systems.refractory_level))
        )
        return np.all(np.abs(one - other) <= _SAME * np.abs(one), axis=1)


def _keep_condition(systems: Systems) -> np.ndarray:
    """Where a reset leaves the two sides of the threshold condition as they are [S]."""
    after = np.einsum("sq,sqk->sk", systems.row, systems.reset)
    return np.all(after[:, :-1] == systems.row, axis=1) & (after[:, -1] == 0)


def _balanced(matrix: np.ndarray) -> np.ndarray:
    """Rows of about the same size: the rank does not depend on units of time."""
    size = np.abs(matrix).max(axis=1, keepdims=True)
    return matrix / np.where(size == 0, 1.0, size)


def _modes(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rates of the modes [S, n], states of the modes and the inverse [S, n, n], and which sets have modes [S]."""
    count, n = len(matrix), matrix.shape[1]
    coupled = np.any(matrix != 0, axis=0) & ~np.eye(n, dtype=bool)
    order: list[int] = []
    while len(order) < n:
        free = [k for k in range(n) if k not in order and all(q in order for q in np.flatnonzero(coupled[k]))]
        if not free:
            return np.zeros((count, n)), *np.zeros((2, count, n, n)), np.zeros(count, bool)
        order += free
    lower = matrix[:, order][:, :, order]
    rate = np.einsum("skk->sk", lower).copy()
    modal = np.all(rate <= 0, axis=1)
    out = np.zeros((count, n, n))
    for k in range(n):
        out[:, k, k] = 1.0
        for i in range(k + 1, n):
            reached = np.einsum("sj,sj->s", lower[:, i, k:i], out[:, k:i, k])
            gap = rate[:, k] - rate[:, i]
            apart = np.abs(gap) >= _APART * np.maximum(np.abs(rate[:, k]), np.abs(rate[:, i]))
            modal &= (reached == 0) | (apart & (gap != 0))
            np.divide(reached, gap, out=out[:, i, k], where=(reached != 0) & (gap != 0))
    into = np.zeros((count, n, n))
    for k in range(n):  # the inverse of a triangular matrix with ones on its diagonal
        into[:, k, k] = 1.0
        for i in range(k + 1, n):
            into[:, i, k] = -np.einsum("sj,sj->s", out[:, i, k:i], into[:, k:i, k])
    back = np.argsort(order)
    return rate, out[:, back], into[:, :, back], modal
