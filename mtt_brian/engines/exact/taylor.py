"""Neurons whose equations are polynomials of their states: Taylor series of high order, and crossings on them.

The right sides are linear in the states and in products of them, ``dx/dt = A x + b + B z``; a product is that of two
states, of a state and a product, or of two products. The coefficients of the solution follow from each other (Jorba and
Zou, A software package for the numerical integration of ODEs by means of high-order Taylor methods, 2005): those of a
product are sums of those of its factors.

*Cells.* From any state a series of order `ORDER` is used on one cell. The terms of its highest orders, compared with
the largest term of the state, give a length for which the rest is below the rounding of float64; and the series must
fulfil the equations at the end of the cell. The next cell begins there. So cells depend on nothing but the state at
which they begin: a neuron can be moved to the begin of any cell, and no later value changes by a bit. On a cell the
time is 0 <= s <= 1.

*Crossings.* On a cell ``f = row . x - level`` is a polynomial. Its second derivative is at most

    M = 2 f_2 + sum over k >= 3 of k (k - 1) max(f_k, 0),

so ``f(s + u) <= f(s) + f'(s) u + M u ** 2 / 2``, and the condition cannot hold before the zero of the right side. As
for modes (`mtt_brian.engines.exact.equation_neurons`) steps of that length reach the first crossing from below and
cannot pass it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mtt_brian.engines.exact.jit import inlined, piece
from mtt_brian.engines.exact.propagation import INVERSE
from mtt_brian.neuron.equation_neuron import MOST_STATES

#: Order of the series.
ORDER = 20
#: Bits by which the last term of a cell is smaller than the largest.
_BITS = 54.0
#: The last orders that give the length of a cell: some coefficients of a symmetric solution are 0.
_LAST = 2
#: Unit of time of the coefficients before the length of the cell is known, seconds; smaller if they overflow.
_UNIT, _SMALLER, _TRIES = 2.0**-10, 2.0**-20, 4
#: Largest length of a cell in these units.
_LONGEST = 40.0
#: Largest defect of the equations at the end of a cell, relative to their terms.
_DEFECT = 2.0**-44
_ULP = 2.0**-53
#: Steps after which a search on a cell ends without a result.
_STEPS = 10_000
#: A state at its threshold that leaves it downwards slower than float64 resolves is looked at again after this time.
_AWAY = 1e-9


#: Series after those of the states: the constant 1, and the first product.
_ONE, _PRODUCTS = MOST_STATES, MOST_STATES + 1
#: Rows of a cell after those of the states.
F, SPAN = MOST_STATES, MOST_STATES + 1


class TaylorRule(NamedTuple):
    """The sets with products, and the cells of the neurons that have such sets.

    Kernels accept ``TaylorRule | None``. None is for networks without such sets: numba then compiles the kernels
    without this code.

    Attributes:
        lists: int64 [rows, 2]. Row s: where the terms and the products of set s begin, in this array; those of the
            next set follow. A term, by state: the state, and the series it is a multiple of (states, constant 1,
            products). A product: the series of its factors.
        value: factors of the terms, float64 [rows].
        cells: coefficients of the states on the cell of each neuron and on one more, of the condition (`F`), and the
            length of the cell in seconds (`SPAN`), 0 for one that is not computed, float64 [cells + 1, 6, ORDER + 1].
        first: the neuron of the first cell.
        series: memory of this run, float64 [series, ORDER + 1].
        alarm: a neuron that cannot go on, else -1; when; 1 if its states grow without bound, else 0, float64 [3].
    """

    lists: np.ndarray
    value: np.ndarray
    cells: np.ndarray
    first: int
    series: np.ndarray
    alarm: np.ndarray


# ---- The kernels -----------------------------------------------------------------------------------------------------


@inlined
def _following(taylor: TaylorRule, s: int, k: int, scale: float) -> None:
    """Coefficient k + 1 of the states from those up to k: ``scale / (k + 1)`` times the right sides."""
    series, lists, terms, products = taylor.series, taylor.lists, taylor.lists[s, 0], taylor.lists[s, 1]
    for p in range(products, lists[s + 1, 1]):
        left, right, even, odd = lists[p, 0], lists[p, 1], 0.0, 0.0
        for j in range(0, k, 2):  # two sums, of which a processor computes one while it waits for the other
            even += series[left, j] * series[right, k - j]
            odd += series[left, j + 1] * series[right, k - j - 1]
        if k % 2 == 0:
            even += series[left, k] * series[right, 0]
        series[_PRODUCTS + p - products, k] = even + odd
    scale *= INVERSE[k + 1]
    i, end = terms, lists[s + 1, 0]
    for q in range(MOST_STATES):
        total = 0.0
        while i < end and lists[i, 0] == q:
            total += taylor.value[i] * series[lists[i, 1], k]
            i += 1
        series[q, k + 1] = scale * total


@inlined
def _halvings(series: np.ndarray) -> float:
    """How often the unit of time must be halved for a cell on which the series ends within rounding."""
    most = -_LONGEST
    for q in range(MOST_STATES):
        first = 0
        while first < ORDER and series[q, first] == 0.0:
            first += 1
        other = first + 1
        _, size = math.frexp(series[q, first])
        other_size = size - 10_000
        if other < ORDER and series[q, other] != 0.0:
            _, other_size = math.frexp(series[q, other])
        found = 0
        for k in range(ORDER, other, -1):
            if found > 0 and k <= ORDER - _LAST:
                break
            if series[q, k] != 0.0:
                # The last terms go on falling as they do from one of the first terms to this one.
                found += 1
                _, bits = math.frexp(series[q, k])
                one = (bits - size) * INVERSE[k - first] + _BITS * INVERSE[ORDER - first]
                two = (bits - other_size) * INVERSE[k - other] + _BITS * INVERSE[ORDER - other]
                most = max(most, min(one, two))
    return most


@inlined
def _fulfils(taylor: TaylorRule, s: int, place: int, span: float) -> bool:
    """Whether the series fulfils the equations at the end of a cell, up to rounding."""
    cells, series, lists, products = taylor.cells, taylor.series, taylor.lists, taylor.lists[s, 1]
    # Of the coefficients only those of order 0 are overwritten, which are known.
    for q in range(MOST_STATES):
        series[q, 0] = state_at(cells, place, q, 1.0)
    for p in range(products, lists[s + 1, 1]):
        series[_PRODUCTS + p - products, 0] = series[lists[p, 0], 0] * series[lists[p, 1], 0]
    i, end = lists[s, 0], lists[s + 1, 0]
    for q in range(MOST_STATES):
        slope, size = 0.0, abs(series[q, 0]) + abs(cells[place, q, 0]) + abs(cells[place, q, 1])
        while i < end and lists[i, 0] == q:
            part = taylor.value[i] * span * series[lists[i, 1], 0]
            slope += part
            size += abs(part)
            i += 1
        for k in range(1, ORDER + 1):
            slope -= k * cells[place, q, k]
        if not abs(slope) <= _DEFECT * size:
            return False
    return True


@piece
def expand(taylor: TaylorRule, s: int, place: int) -> bool:
    """Computes a cell from the states with which it begins, the coefficients of order 0.

    Returns:
        False if these states, or what follows from them, are larger than float64 can hold.
    """
    cells, series, unit = taylor.cells, taylor.series, _UNIT
    for _ in range(_TRIES):
        finite = True
        for q in range(MOST_STATES):
            series[q, 0] = cells[place, q, 0]
        for k in range(ORDER):
            _following(taylor, s, k, unit)
        for q in range(MOST_STATES):
            finite = finite and abs(series[q, ORDER]) < np.inf and abs(series[q, ORDER - 1]) < np.inf
        if finite:
            length = 2.0 ** -_halvings(series)
            while length > 0.0:
                power = 1.0
                for k in range(1, ORDER + 1):
                    power *= length
                    for q in range(MOST_STATES):
                        cells[place, q, k] = series[q, k] * power
                if _fulfils(taylor, s, place, length * unit):
                    cells[place, SPAN, 0] = length * unit
                    return True
                length *= 0.5
            return False
        unit *= _SMALLER
    return False


@inlined
def state_at(cells: np.ndarray, place: int, q: int, s: float) -> float:
    """A state at the time ``s`` of a cell."""
    total = cells[place, q, ORDER]
    for k in range(ORDER - 1, -1, -1):
        total = total * s + cells[place, q, k]
    return total


@inlined
def _bends(cells: np.ndarray, place: int, order: int) -> float:
    """An upper bound of a derivative of the condition on a cell: the second or the third."""
    most = 0.0
    for k in range(ORDER, order - 1, -1):
        factor = k * (k - 1.0) if order == 2 else k * (k - 1.0) * (k - 2.0)
        most += factor * (max(cells[place, F, k], 0.0) if k > order else cells[place, F, k])
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
def soonest(cells: np.ndarray, place: int) -> float:
    """A time ``s`` of a cell before which the condition cannot hold; above 1 if it cannot hold on the cell."""
    return _until_zero(cells[place, F, 0], cells[place, F, 1], _bends(cells, place, 2))


@piece
def first_zero(cells: np.ndarray, place: int, size: float) -> float:
    """The first time ``s`` of a cell at which the condition rises to 0; inf for none, nan if it is undecided.

    Args:
        cells, place: the cell, at whose begin the condition is 0 or less.
        size: the sum of the sizes of the terms of the condition there.
    """
    most, third = _bends(cells, place, 2), max(_bends(cells, place, 3), 0.0)
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


class PolynomialSystem(NamedTuple):
    """One set: ``dx/dt = matrix x + offset + product z``, with ``z`` the products of ``factors``.

    Attributes:
        matrix: float64 [n, n].
        offset: float64 [n].
        product: float64 [n, P].
        factors: numbers of two series of every product, the states being 0..n-1, int64 [P, 2].
    """

    matrix: np.ndarray
    offset: np.ndarray
    product: np.ndarray
    factors: np.ndarray


def taylor_rule(systems: Sequence[PolynomialSystem], first: int, count: int) -> TaylorRule:
    """The arrays of the kernels.

    Args:
        systems: the sets, by their numbers.
        first, count: the neurons that have a cell.
    """
    begin, terms, values, products = np.zeros((len(systems) + 1, 2), np.int64), [], [], []
    for s, system in enumerate(systems):
        n = len(system.offset)
        numbers = np.array([*range(n), _ONE, *range(_PRODUCTS, _PRODUCTS + len(system.factors))])
        both = np.concatenate([system.matrix, system.offset[:, None], system.product], axis=1)
        state, column = np.nonzero(both)
        terms.append(np.stack([state, numbers[column]], axis=1))
        values.append(both[state, column])
        products.append(np.delete(numbers, n)[system.factors])
        begin[s + 1] = begin[s] + [len(state), len(system.factors)]
    begin += [len(begin), len(begin) + begin[-1, 0]]
    lists, value = np.concatenate([begin, *terms, *products]), np.concatenate(values)
    series = np.zeros((_PRODUCTS + max(len(system.factors) for system in systems), ORDER + 1))
    series[_ONE, 0] = 1.0
    return TaylorRule(
        lists=lists,
        value=np.concatenate([np.zeros(len(begin)), value, np.zeros(len(lists) - len(begin) - len(value))]),
        cells=np.zeros((count + 1, MOST_STATES + 2, ORDER + 1)),
        first=first,
        series=series,
        alarm=np.array([-1.0, 0.0, 0.0]),
    )
