"""Neurons whose equations have products or functions of states: Taylor series of high order, and crossings on them.

The right sides are linear in the states and in results of operations on them, ``dx/dt = A x + b + B z``
(`mtt_brian.neuron.equation_neuron.Operation`). The coefficients of the solution follow from each other (Jorba and Zou,
A software package for the numerical integration of ODEs by means of high-order Taylor methods, 2005): those of a
product are sums of those of its factors, for example (`mtt_brian.engines.exact.series`).

*Cells.* From any state a series of order `ORDER` is used on one cell. The terms of its highest orders, compared with
the largest term of the state, give a length for which the rest is below the rounding of float64; and the series must
fulfil the equations at the end of the cell, where the operations are those of numbers. The next cell begins there. So
cells depend on nothing but the state at which they begin: a neuron can be moved to the begin of any cell, and no later
value changes by a bit. On a cell the time is 0 <= s <= 1.

*Lanes.* A series is a chain of short sums, each of which waits for the one before. Therefore those of up to `LANES`
neurons are computed at once, as vector instructions. Where an event touches many neurons, or many reach the ends of
their cells, these fill the lanes.

*Crossings.* On a cell ``f = row . x - level`` is a polynomial. Its second derivative is at most

    M = 2 f_2 + sum over k >= 3 of k (k - 1) max(f_k, 0),

so ``f(s + u) <= f(s) + f'(s) u + M u ** 2 / 2``, and the condition cannot hold before the zero of the right side. As
for modes (`mtt_brian.engines.exact.equation_neurons`) steps of that length reach the first crossing from below and
cannot pass it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mtt_brian.engines.exact.jit import address, call, inlined, piece
from mtt_brian.engines.exact.propagation import INVERSE
from mtt_brian.engines.exact.series import (
    ONE,
    ORDER,
    RESULTS,
    write_other,
    write_other_value,
    write_results,
    write_values,
)
from mtt_brian.engines.exact.series import ROWS as _ROWS
from mtt_brian.engines.exact.vectors import (
    LANES,
    exponent,
    plus,
    positive_part,
    power_of_2,
    put_row,
    row_of,
    same,
    size_of,
    times,
)
from mtt_brian.neuron.equation_neuron import EXPREL, MOMENT, MOST_STATES, PRODUCT, SUM, TANH, Operation

#: Bits by which the last term of a cell is smaller than the largest.
_BITS = 54.0
#: The last orders that give the length of a cell: some coefficients of a symmetric solution are 0.
_LAST = 2
#: Unit of time of the coefficients before the length of the cell is known, seconds; smaller if they overflow.
_UNIT, _SMALLER, _TRIES = 2.0**-10, 2.0**-20, 50
#: Logarithm of the largest length of a cell in these units, and of the smallest.
_LONGEST, _SHORTEST = 40.0, 1000.0
#: 2 ** -(k / 8)
_EIGHTHS = 2.0 ** -(np.arange(8) / 8)
#: Largest defect of the equations at the end of a cell, relative to their terms.
_DEFECT = 2.0**-44
#: How often a cell is halved for that.
_TRIALS = 64
_ULP = 2.0**-53
#: Steps after which a search on a cell ends without a result.
_STEPS = 10_000
#: A state at its threshold that leaves it downwards slower than float64 resolves is looked at again after this time.
_AWAY = 1e-9

#: Rows of a cell: the condition, the first state. Columns of `TaylorRule.span`.
F, X = 0, 1
SPAN, CURVATURE, LISTED, BEFORE, AT_ONCE = range(5)
#: Rows of `TaylorRule.own`: length of the cell in seconds, and what it must be multiplied by; a time on the cell;
#: states there; defects and the sizes of their terms by state; weights and constant of the condition; its coefficients,
#: and the bound of its derivative.
LENGTH, _SHORTER, AT, STATES = range(4)
_SLOPES, _SIZES, _WEIGHTS = STATES + MOST_STATES, STATES + 2 * MOST_STATES, STATES + 3 * MOST_STATES
_CONDITION = _WEIGHTS + MOST_STATES + 1
_BENDS = _CONDITION + _ROWS


class TaylorRule(NamedTuple):
    """The sets with products or functions, and the cells of the neurons that have such sets.

    Kernels accept ``TaylorRule | None``. None is for networks without such sets: numba then compiles the kernels
    without this code.

    The series of up to `LANES` neurons whose sets have the same terms are computed at once, one neuron per lane. What a
    lane computes does not depend on the others.

    Attributes:
        lists: int64 [rows, 3]. Row j: where the terms and the operations of kind j begin, in this array, and its number
            n of states; those of the next kind follow. A term: the state it belongs to, and the series it is a multiple
            of (states, constant 1, results); those of sum l belong to n + l. An operation: its kind and the series of
            its arguments; of a sum, the first of its terms among those of the kind, and the first that is not its own.
        kind: the kind of every set, int64 [sets].
        value: by set: the factors of its terms, the weights and the constant of its condition, float64 [sets, columns];
            the last `MOST_STATES` + 1 columns are those of the condition.
        cells: coefficients of the condition and of w states, float64 [2 neurons + 1, 1 + w, ORDER + 1]: the cells of
            the neurons; the cells that follow (valid if both lengths are not 0); and one more.
        span: length of the cell in seconds, 0 for one that is not stored; an upper bound of the second derivative of
            the condition on it; whether the neuron is in ``waiting``; the length of the last cell that was computed;
            how many cells in a row begin and end at the same time, float64 [2 neurons + 1, 5].
        first: the neuron of the first cell.
        lane: cell and set of every lane, int64 [2, LANES].
        series, factor, end, size, own: memory of the lanes: the series, the factors of the terms, the values at the end
            of a cell and their sizes, and more (the rows are named above), float64 [rows, LANES].
        waiting: memory for numbers of neurons, int64 [neurons].
        alarm: a neuron that cannot go on, else -1; when; 1 if its states grow without bound, else 0, float64 [3].
        other, other_value, expand, advance, cross: addresses of functions (`mtt_brian.engines.exact.jit.call`).
    """

    lists: np.ndarray
    kind: np.ndarray
    value: np.ndarray
    cells: np.ndarray
    span: np.ndarray
    first: int
    lane: np.ndarray
    series: np.ndarray
    factor: np.ndarray
    end: np.ndarray
    size: np.ndarray
    own: np.ndarray
    waiting: np.ndarray
    alarm: np.ndarray
    other: int
    other_value: int
    expand: int
    advance: int
    cross: int


# ---- The kernels -----------------------------------------------------------------------------------------------------


@inlined
def _following(taylor: TaylorRule, kind: int, lanes: int, k: int) -> None:
    """Coefficient k + 1 of the states from those up to k: 1 / (k + 1) times the right sides."""
    series, lists, begin, end = taylor.series, taylor.lists, taylor.lists[kind, 1], taylor.lists[kind + 1, 1]
    write_results(taylor.other, series, lists, taylor.factor, lists[kind, 0], begin, end, lanes, k)
    terms, end, share = lists[kind, 0], lists[kind + 1, 0], same(INVERSE[k + 1])
    i = terms
    for q in range(lists[kind, 2]):
        total = same(0.0)
        while i < end and lists[i, 0] == q:
            total = plus(total, times(row_of(taylor.factor, i - terms), row_of(series, _ROWS * lists[i, 1] + k)))
            i += 1
        put_row(series, _ROWS * q + k + 1, times(share, total))


@inlined
def _halvings(series: np.ndarray, states: int, lane: int) -> float:
    """How often the unit of time must be halved for a cell on which the series ends within rounding."""
    most = -_LONGEST
    for q in range(states):
        begin = _ROWS * q
        first = 0
        while first < ORDER and series[begin + first, lane] == 0.0:
            first += 1
        other = first + 1
        size = exponent(series[begin + first, lane])
        other_size = size - 10_000
        if other < ORDER and series[begin + other, lane] != 0.0:
            other_size = exponent(series[begin + other, lane])
        found = 0
        for k in range(ORDER, other, -1):
            if found > 0 and k <= ORDER - _LAST:
                break
            if series[begin + k, lane] != 0.0:
                # The last terms go on falling as they do from one of the first terms to this one.
                found += 1
                bits = exponent(series[begin + k, lane])
                one = (bits - size) * INVERSE[k - first] + _BITS * INVERSE[ORDER - first]
                two = (bits - other_size) * INVERSE[k - other] + _BITS * INVERSE[ORDER - other]
                most = max(most, min(one, two))
    return most


@inlined
def _slopes(taylor: TaylorRule, kind: int) -> int:
    """How many terms belong to slopes of states; the others belong to sums."""
    lists, i = taylor.lists, taylor.lists[kind, 0]
    while i < lists[kind + 1, 0] and lists[i, 0] < lists[kind, 2]:
        i += 1
    return i - lists[kind, 0]


@inlined
def _shorten(taylor: TaylorRule, kind: int, order: int) -> None:
    """Multiplies the lengths of the cells by those of row `_SHORTER`."""
    series, own, shorter, power = taylor.series, taylor.own, row_of(taylor.own, _SHORTER), same(1.0)
    for k in range(1, order + 1):
        power = times(power, shorter)
        for q in range(taylor.lists[kind, 2]):
            put_row(series, _ROWS * q + k, times(row_of(series, _ROWS * q + k), power))
    for i in range(_slopes(taylor, kind)):
        put_row(taylor.factor, i, times(row_of(taylor.factor, i), shorter))
    put_row(own, LENGTH, times(row_of(own, LENGTH), shorter))


@inlined
def _write_defects(taylor: TaylorRule, kind: int, lanes: int, order: int) -> None:
    """The defects of the equations at the ends of the cells, and the sizes of their terms."""
    series, lists, end, sizes, own = taylor.series, taylor.lists, taylor.end, taylor.size, taylor.own
    terms = lists[kind, 0]
    for q in range(lists[kind, 2]):
        total = row_of(series, _ROWS * q + order)
        for k in range(order - 1, -1, -1):
            total = plus(total, row_of(series, _ROWS * q + k))
        put_row(end, q, total)
        put_row(sizes, q, size_of(total))
    begin, stop, factors = lists[kind, 1], lists[kind + 1, 1], taylor.factor
    write_values(taylor.other_value, end, sizes, lists, factors, terms, begin, stop, lanes)
    i = terms
    for q in range(lists[kind, 2]):
        slope, size = same(0.0), size_of(row_of(end, q))
        for k in range(2):
            size = plus(size, size_of(row_of(series, _ROWS * q + k)))
        while i < lists[kind + 1, 0] and lists[i, 0] == q:
            factor = row_of(factors, i - terms)
            slope = plus(slope, times(factor, row_of(end, lists[i, 1])))
            size = plus(size, times(size_of(factor), row_of(sizes, lists[i, 1])))
            i += 1
        for k in range(1, order + 1):
            slope = plus(slope, times(same(-1.0 * k), row_of(series, _ROWS * q + k)))
        put_row(own, _SLOPES + q, slope)
        put_row(own, _SIZES + q, size)


@inlined
def _fulfils(taylor: TaylorRule, kind: int, lane: int) -> bool:
    """Whether the series of a lane fulfils the equations at the end of its cell, up to rounding."""
    for q in range(taylor.lists[kind, 2]):
        if not abs(taylor.own[_SLOPES + q, lane]) <= _DEFECT * taylor.own[_SIZES + q, lane]:
            return False
    return True


@inlined
def _write_conditions(taylor: TaylorRule, kind: int, order: int) -> None:
    """The condition on every cell, and an upper bound of its second derivative."""
    series, own, bend = taylor.series, taylor.own, same(0.0)
    for k in range(order, -1, -1):
        total = row_of(own, _WEIGHTS + MOST_STATES) if k == 0 else same(0.0)
        for q in range(taylor.lists[kind, 2]):
            total = plus(total, times(row_of(own, _WEIGHTS + q), row_of(series, _ROWS * q + k)))
        put_row(own, _CONDITION + k, total)
        if k > 1:
            bend = plus(bend, times(same(k * (k - 1.0)), positive_part(total) if k > 2 else total))
    put_row(own, _BENDS, bend)


@piece
def _expand(taylor: TaylorRule, lanes: int, stored: int) -> float:
    """Computes the cells of some lanes from the states with which they begin, the coefficients of order 0.

    The length of a cell is 0 if these states, or what follows from them, are larger than float64 can hold.

    Args:
        taylor: the series and lengths of its lanes are computed.
        lanes: how many.
        stored: whether the cells are copied into ``taylor.cells``, with their conditions.

    Returns:
        the length of the first one.
    """
    cells, series, factor, own = taylor.cells, taylor.series, taylor.factor, taylor.own
    kind = taylor.kind[taylor.lane[1, 0]]
    terms, states = taylor.lists[kind + 1, 0] - taylor.lists[kind, 0], taylor.lists[kind, 2]
    slopes = _slopes(taylor, kind)
    order = cells.shape[2] - 1  # a loop whose length is not known is compiled once, not for each k
    condition = taylor.value.shape[1] - MOST_STATES - 1
    for lane in range(lanes):
        place, s = taylor.lane[0, lane], taylor.lane[1, lane]
        for q in range(states):
            series[_ROWS * q, lane] = cells[place, X + q, 0]
        for i in range(terms):
            factor[i, lane] = taylor.value[s, i] * (_UNIT if i < slopes else 1.0)
        for q in range(states):
            own[_WEIGHTS + q, lane] = taylor.value[s, condition + q]
        own[_WEIGHTS + MOST_STATES, lane] = taylor.value[s, condition + MOST_STATES]
        own[LENGTH, lane] = _UNIT
    for trial in range(_TRIES):
        for k in range(order):
            _following(taylor, kind, lanes, k)
        again = False
        for lane in range(lanes):
            finite = True
            for q in range(states):
                for k in range(_ROWS * q + order - 1, _ROWS * q + order + 1):
                    finite = finite and abs(series[k, lane]) < np.inf
            own[_SHORTER, lane] = 1.0
            if finite:
                eighths = math.ceil(8.0 * min(_halvings(series, states, lane), _SHORTEST))
                own[_SHORTER, lane] = _EIGHTHS[eighths & 7] * power_of_2(-(eighths >> 3))
            elif trial == _TRIES - 1:
                own[LENGTH, lane] = 0.0
            else:
                again = True
                own[LENGTH, lane] *= _SMALLER
                for i in range(slopes):
                    factor[i, lane] *= _SMALLER
        if not again:
            break
    for _ in range(_TRIALS):
        _shorten(taylor, kind, order)
        _write_defects(taylor, kind, lanes, order)
        again = False
        for lane in range(lanes):
            own[_SHORTER, lane] = 1.0
            if own[LENGTH, lane] > 0.0 and not _fulfils(taylor, kind, lane):
                own[_SHORTER, lane] = 0.5
                again = True
        if not again:
            break
    for lane in range(lanes):
        if own[_SHORTER, lane] != 1.0:
            own[LENGTH, lane] = 0.0
        taylor.span[taylor.lane[0, lane], BEFORE] = own[LENGTH, lane]
    if stored:
        _write_conditions(taylor, kind, order)
        for lane in range(lanes):
            place = taylor.lane[0, lane]
            for q in range(states):
                for k in range(1, order + 1):
                    cells[place, X + q, k] = series[_ROWS * q + k, lane]
            for k in range(order + 1):
                cells[place, F, k] = own[_CONDITION + k, lane]
            taylor.span[place, SPAN], taylor.span[place, CURVATURE] = own[LENGTH, lane], own[_BENDS, lane]
            if place < len(taylor.waiting):
                taylor.span[place + len(taylor.waiting), SPAN] = 0.0
    return float(own[LENGTH, 0])


@inlined
def expand(taylor: TaylorRule, lanes: int, stored: int) -> float:
    """See `_expand`."""
    return float(call(taylor.expand, (taylor, lanes, stored), 0.0))


@inlined
def write_states_at(taylor: TaylorRule) -> None:
    """The states of the lanes that were computed last at their times in row `AT`, into the rows from `STATES` on."""
    at, states, order = (
        row_of(taylor.own, AT),
        taylor.lists[taylor.kind[taylor.lane[1, 0]], 2],
        taylor.cells.shape[2] - 1,
    )
    for q in range(states):
        total = row_of(taylor.series, _ROWS * q + order)
        for k in range(order - 1, -1, -1):
            total = plus(times(total, at), row_of(taylor.series, _ROWS * q + k))
        put_row(taylor.own, STATES + q, total)


@inlined
def expand_one(taylor: TaylorRule, s: int, place: int) -> bool:
    """Computes one cell; False if its states grow without bound."""
    taylor.lane[0, 0], taylor.lane[1, 0] = place, s
    return expand(taylor, 1, 1) > 0.0


@inlined
def state_at(cells: np.ndarray, place: int, q: int, s: float) -> float:
    """A state at the time ``s`` of a cell."""
    total = cells[place, X + q, ORDER]
    for k in range(ORDER - 1, -1, -1):
        total = total * s + cells[place, X + q, k]
    return total


@inlined
def _third(cells: np.ndarray, place: int) -> float:
    """An upper bound of the third derivative of the condition on a cell."""
    most = 0.0
    for k in range(ORDER, 2, -1):
        f = cells[place, F, k]
        most += k * (k - 1.0) * (k - 2.0) * (max(f, 0.0) if k > 3 else f)
    return most


@inlined
def _until_zero(f: float, slope: float, bend: float) -> float:
    """The first zero of ``f + slope u + bend u ** 2 / 2`` at u >= 0 that is reached from below; inf for none."""
    if f >= 0.0:  # at the threshold: its distance below it
        if slope < 0.0:
            return -2.0 * slope / bend if bend > 0.0 else np.inf
        return 0.0 if slope > 0.0 or bend > 0.0 else np.inf
    inside = slope * slope - 2.0 * bend * f
    if inside < 0.0 or (slope <= 0.0 and bend <= 0.0):
        return np.inf
    root = math.sqrt(inside)
    return -2.0 * f / (slope + root) if slope > 0.0 else (root - slope) / bend


@piece
def steepness(taylor: TaylorRule, place: int, s: float) -> float:
    """The size of the slope of the condition at the time ``s`` of a cell."""
    slope = 0.0
    for k in range(ORDER, 0, -1):
        slope = slope * s + k * taylor.cells[place, F, k]
    return abs(slope)


@piece
def soonest(taylor: TaylorRule, place: int) -> float:
    """A time ``s`` of a cell before which the condition cannot hold; above 1 if it cannot hold on the cell."""
    cells = taylor.cells
    return _until_zero(cells[place, F, 0], cells[place, F, 1], taylor.span[place, CURVATURE])


@piece
def first_zero(taylor: TaylorRule, place: int, size: float) -> float:
    """The first time ``s`` of a cell at which the condition rises to 0; inf for none, nan if it is undecided.

    Args:
        taylor, place: the cell, at whose begin the condition is 0 or less.
        size: the sum of the sizes of the terms of the condition there.
    """
    cells = taylor.cells
    most, third = taylor.span[place, CURVATURE], max(_third(cells, place), 0.0)
    s, value, slope, bend = 0.0, cells[place, F, 0], cells[place, F, 1], 2.0 * cells[place, F, 2]
    for _ in range(_STEPS):
        # A bound for the rest of the cell, or for half of it, where that is lower.
        rest = 1.0 - s
        step = _until_zero(value, slope, min(most, bend + third * rest))
        near = _until_zero(value, slope, min(most, bend + 0.5 * third * rest))
        step = max(step, min(near, 0.5 * rest))
        if s > 0.0 and value >= -_ULP * size:
            return s + step if value < 0.0 and s + step <= 1.0 else s
        if not step <= rest:
            return np.inf
        if s + step == s:
            if s > 0.0:
                return s
            step = _AWAY
        s += step
        value, slope, bend = cells[place, F, ORDER], 0.0, 0.0
        for k in range(ORDER - 1, -1, -1):
            bend = bend * s + 2.0 * slope
            slope = slope * s + value
            value = value * s + cells[place, F, k]
    return np.nan


# ---- Preparation -----------------------------------------------------------------------------------------------------


class SeriesSystem(NamedTuple):
    """One set: ``dx/dt = right . (x, 1, z)`` with the results ``z`` of operations.

    Attributes:
        right: the slopes of the n states, then the L sums, float64 [n + L, n + 1 + P].
        used: terms that are computed, the same in all sets of a population, bool [n + L, n + 1 + P].
        operations: of the neuron.
        row, base: of the condition, float64 [n] and float.
    """

    right: np.ndarray
    used: np.ndarray
    operations: tuple[Operation, ...]
    row: np.ndarray
    base: float


def taylor_rule(systems: Sequence[SeriesSystem], first: int, count: int, w: int) -> TaylorRule:
    """The arrays of the kernels.

    Args:
        systems: the sets, by their numbers.
        first, count: the neurons that have a cell.
        w: coordinates of a neuron.
    """
    kinds: dict[tuple[Any, ...], int] = {}
    kind: list[int] = []
    terms: list[np.ndarray] = []
    operations: list[np.ndarray] = []
    states: list[int] = []
    for system in systems:
        key = system.used.tobytes(), system.used.shape, system.operations
        kind.append(kinds.setdefault(key, len(kinds)))
        if len(terms) < len(kinds):
            n = len(system.row)
            numbers = np.array([*range(n), ONE, *range(RESULTS, RESULTS + len(system.operations))])
            row, column = np.nonzero(system.used)
            terms.append(np.stack([row, numbers[column]], axis=1))
            operations.append(
                _numbered(
                    system.operations, np.delete(numbers, n), np.searchsorted(row, np.arange(n, len(system.used) + 1))
                )
            )
            states.append(n)
    begin = np.zeros((len(kinds) + 1, 3), np.int64)
    begin[1:, :2] = np.cumsum([[len(t), len(p)] for t, p in zip(terms, operations, strict=True)], axis=0)
    begin[:, :2] += [len(begin), len(begin) + begin[-1, 0]]
    begin[:-1, 2] = states
    lists = np.zeros((begin[-1, 1], 3), np.int64)
    lists[: len(begin)] = begin
    lists[len(begin) : begin[0, 1], :2] = np.concatenate(terms)
    lists[begin[0, 1] :] = np.concatenate(operations)
    most_terms, most_operations = max(map(len, terms)), max(map(len, operations))
    value = np.zeros((len(systems), most_terms + MOST_STATES + 1))
    for s, system in enumerate(systems):
        values = system.right[system.used]
        value[s, : len(values)] = values
        value[s, most_terms : most_terms + len(system.row)] = system.row
        value[s, -1] = system.base
    series = _lanes((RESULTS + most_operations) * _ROWS)
    series[ONE * _ROWS] = 1.0
    end, size = _lanes(RESULTS + most_operations), _lanes(RESULTS + most_operations)
    end[ONE] = size[ONE] = 1.0
    rule = TaylorRule(
        lists=lists,
        kind=np.array(kind),
        value=value,
        cells=np.zeros((2 * count + 1, X + w, ORDER + 1)),
        span=np.zeros((2 * count + 1, 5)),
        first=first,
        lane=np.zeros((2, LANES), np.int64),
        series=series,
        factor=_lanes(most_terms),
        end=end,
        size=size,
        own=_lanes(_BENDS + 1),
        waiting=np.zeros(count, np.int64),
        alarm=np.array([-1.0, 0.0, 0.0]),
        other=0,
        other_value=0,
        expand=0,
        advance=0,
        cross=0,
    )
    given = rule.lists, rule.factor, 0, 0, 0, 0
    return rule._replace(
        other=address(write_other, series, *given, 0),
        other_value=address(write_other_value, end, size, *given),
        expand=address(_expand, rule, 0, 0),
    )


def _numbered(operations: Sequence[Operation], series: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Rows of `TaylorRule.lists`.

    Args:
        operations: of a set.
        series: of the states and of the results.
        first: the first term of every sum, and the number of terms.
    """
    rows = np.zeros((len(operations), 3), np.int64)
    for p, (kind, left, right) in enumerate(operations):
        if kind == SUM:
            rows[p] = kind, first[left], first[left + 1]
        else:
            other = series[right] if kind in (PRODUCT, TANH, EXPREL) else right if kind == MOMENT else 0
            rows[p] = kind, series[left], other
    return rows


def _lanes(rows: int) -> np.ndarray:
    """Zeros, float64 [rows, LANES], from the begin of a cache line on."""
    line = 8
    memory = np.zeros(rows * LANES + line)
    begin = -(memory.ctypes.data // memory.itemsize) % line
    return memory[begin : begin + rows * LANES].reshape(rows, LANES)
