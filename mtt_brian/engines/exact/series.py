"""Operations on series of several neurons at once: one row per coefficient, one lane per neuron.

The coefficients of a result follow from those of its arguments up to the same order, and from its own before (Griewank
and Walther, Evaluating Derivatives, 2008, table 13.2; Jorba and Zou 2005). The slope of ``z = exp(u)``, for example, is
``z u'``, so ``k z_k`` is the sum of ``j u_j z_(k - j)`` for j = 1..k.

*Sizes.* Rounding errors of the arguments of an operation go on into its result. The size of a number is its error in
units of 2 ** -53. That of a state is its absolute value, and operations change it as they do errors: an exponential of
30, or the reciprocal of a difference, has fewer correct digits than float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mtt_brian.engines.exact.jit import call, inlined, piece
from mtt_brian.engines.exact.propagation import INVERSE
from mtt_brian.engines.exact.vectors import minus, over, plus, put_row, row_of, same, size_of, times, where_below_1
from mtt_brian.neuron.equation_neuron import EXP, EXPREL, MOMENT, MOMENTS, MOST_STATES, PRODUCT, RECIPROCAL, SUM

#: Order of the series; an `EXPREL` needs a moment for each coefficient.
ORDER = len(MOMENTS)
#: Rows of one series.
ROWS = ORDER + 1
#: Series after those of the states: the constant 1, and the result of the first operation.
ONE, RESULTS = MOST_STATES, MOST_STATES + 1
#: A divisor whose size is this many times its value has too few correct digits.
_MOST_LOST = 2.0**20
#: Terms of the series of a moment, the last of which is below rounding between -1 and 1.
_TERMS = 20


@inlined
def _product(series: np.ndarray, left: int, right: int, k: int) -> Any:
    """Coefficient k of a product."""
    left, right = ROWS * left, ROWS * right + k
    even = odd = same(0.0)
    for j in range(0, k, 2):  # two sums, of which a processor computes one while it waits for the other
        even = plus(even, times(row_of(series, left + j), row_of(series, right - j)))
        odd = plus(odd, times(row_of(series, left + j + 1), row_of(series, right - j - 1)))
    if k % 2 == 0:
        even = plus(even, times(row_of(series, left + k), row_of(series, right - k)))
    return plus(even, odd)


@inlined
def _with_slope(series: np.ndarray, left: int, right: int, k: int) -> Any:
    """Coefficient k, 1 or more, of the integral of a factor times the slope of the ``left`` one."""
    left, right = ROWS * left, ROWS * right + k
    even = odd = same(0.0)
    for j in range(1, k, 2):
        even = plus(even, times(times(same(1.0 * j), row_of(series, left + j)), row_of(series, right - j)))
        odd = plus(odd, times(times(same(j + 1.0), row_of(series, left + j + 1)), row_of(series, right - j - 1)))
    if k % 2 == 1:
        even = plus(even, times(times(same(1.0 * k), row_of(series, left + k)), row_of(series, right - k)))
    return times(same(INVERSE[k]), plus(even, odd))


@inlined
def _exprel(u: float) -> float:
    """``(exp(u) - 1) / u``."""
    return 1.0 if u == 0.0 else math.expm1(u) / u


@inlined
def _write_moment(series: np.ndarray, left: int, n: int, z: int, lanes: int, k: int) -> None:
    """Coefficient k of series z, moment n of the ``left`` one, in the lanes where that begins between -1 and 1.

    The slope of moment n is moment n + 1, the series before, times u'. Of this only `ORDER` - n coefficients are used.
    """
    near = False
    for lane in range(lanes):
        near = near or abs(series[ROWS * left, lane]) < 1.0
    if not near or n + k > ORDER:
        return
    if k > 0:
        put_row(series, ROWS * z + k, _with_slope(series, left, z - 1, k))
        return
    for lane in range(lanes):
        u, power, total = series[ROWS * left, lane], 1.0, 0.0
        for m in range(_TERMS):
            total += power / (m + n + 1.0)
            power *= u / (m + 1.0)
        series[ROWS * z, lane] = total


@piece
def write_other(
    series: np.ndarray, lists: np.ndarray, factor: np.ndarray, terms: int, p: int, z: int, lanes: int, k: int
) -> float:
    """Coefficient k of series z, the result of operation ``p``, which is no product; see `write_results`."""
    kind, left, right = lists[p, 0], lists[p, 1], lists[p, 2]
    if kind == SUM:
        total = same(0.0)
        for i in range(left, right):
            total = plus(total, times(row_of(factor, i), row_of(series, ROWS * lists[terms + i, 1] + k)))
        put_row(series, ROWS * z + k, total)
    elif kind == RECIPROCAL:
        if k == 0:
            put_row(series, ROWS * z, over(same(1.0), row_of(series, ROWS * left)))
        else:
            put_row(series, ROWS * z + k, same(0.0))
            rest = times(row_of(series, ROWS * z), _product(series, left, z, k))
            put_row(series, ROWS * z + k, minus(same(0.0), rest))
    elif kind == MOMENT:
        _write_moment(series, left, right, z, lanes, k)
    elif k == 0:
        for lane in range(lanes):
            u = series[ROWS * left, lane]
            series[ROWS * z, lane] = math.exp(u) if kind == EXP else _exprel(u) if kind == EXPREL else math.tanh(u)
    elif kind == EXPREL:  # u z = exp(u) - 1; but near u = 0 its slope is the first moment times u'
        put_row(series, ROWS * z + k, same(0.0))
        rest = minus(row_of(series, ROWS * right + k), _product(series, left, z, k))
        u = row_of(series, ROWS * left)
        put_row(series, ROWS * z + k, where_below_1(u, _with_slope(series, left, z - 1, k), over(rest, u)))
    elif kind == EXP:
        put_row(series, ROWS * z + k, _with_slope(series, left, z, k))
    else:  # its slope is (1 - z ** 2) u', and its square is known up to k - 1
        put_row(series, ROWS * z + k, minus(row_of(series, ROWS * left + k), _with_slope(series, left, right, k)))
    return 0.0


@inlined
def write_results(
    other: int,
    series: np.ndarray,
    lists: np.ndarray,
    factor: np.ndarray,
    terms: int,
    begin: int,
    end: int,
    lanes: int,
    k: int,
) -> None:
    """Coefficient k of the results of all operations.

    Args:
        other: address of `write_other`, which would slow down products if it were compiled with them.
        series: float64 [rows, `LANES`]; those of the states are known up to k.
        lists: see `TaylorRule`.
        factor: of the terms.
        terms: where these begin in ``lists``.
        begin, end: where the operations begin and end in ``lists``.
        lanes: how many are used.
        k: 0 to `ORDER`.
    """
    for p in range(begin, end):
        z = RESULTS + p - begin
        if lists[p, 0] == PRODUCT:
            put_row(series, ROWS * z + k, _product(series, lists[p, 1], lists[p, 2], k))
        else:
            call(other, (series, lists, factor, terms, p, z, lanes, k), 0.0)


@piece
def write_other_value(
    value: np.ndarray, size: np.ndarray, lists: np.ndarray, factor: np.ndarray, terms: int, p: int, z: int, lanes: int
) -> float:
    """The result of operation ``p``, which is no product, and its size; see `write_values`."""
    kind, left, right = lists[p, 0], lists[p, 1], lists[p, 2]
    if kind == SUM:
        total = most = same(0.0)
        for i in range(left, right):
            weight, q = row_of(factor, i), lists[terms + i, 1]
            total = plus(total, times(weight, row_of(value, q)))
            most = plus(most, times(size_of(weight), row_of(size, q)))
        put_row(value, z, total)
        put_row(size, z, most)
        return 0.0
    for lane in range(lanes):
        u, error = value[left, lane], size[left, lane]
        if kind == MOMENT:  # no right side has them
            value[z, lane] = size[z, lane] = 0.0
        elif kind == EXPREL:
            value[z, lane] = _exprel(u)
            slope = value[z, lane] if abs(u) < 1.0 else (math.exp(u) - value[z, lane]) / u
            size[z, lane] = value[z, lane] + slope * error
        elif kind == RECIPROCAL:
            value[z, lane] = 1.0 / u
            size[z, lane] = error / (u * u) if error <= _MOST_LOST * abs(u) else np.nan
        elif kind == EXP:
            value[z, lane] = math.exp(u)
            size[z, lane] = value[z, lane] * (1.0 + error)
        else:
            value[z, lane] = math.tanh(u)
            size[z, lane] = abs(value[z, lane]) + (1.0 - value[z, lane] * value[z, lane]) * error
    return 0.0


@inlined
def write_values(
    other: int,
    value: np.ndarray,
    size: np.ndarray,
    lists: np.ndarray,
    factor: np.ndarray,
    terms: int,
    begin: int,
    end: int,
    lanes: int,
) -> None:
    """The results of all operations and their sizes from those of the states, float64 [series, `LANES`].

    The size of the reciprocal of a number with too few correct digits is NaN.

    Args:
        other: address of `write_other_value`.
        value, size: of all series.
        lists, factor, terms, begin, end, lanes: see `write_results`.
    """
    for p in range(begin, end):
        z = RESULTS + p - begin
        if lists[p, 0] == PRODUCT:
            left, right = row_of(value, lists[p, 1]), row_of(value, lists[p, 2])
            result = times(left, right)
            put_row(value, z, result)
            # The error of one factor and that of the other; their own roundings are those of the result.
            both = plus(
                times(size_of(left), row_of(size, lists[p, 2])), times(row_of(size, lists[p, 1]), size_of(right))
            )
            put_row(size, z, minus(both, size_of(result)))
        else:
            call(other, (value, size, lists, factor, terms, p, z, lanes), 0.0)
