"""Neurons that are linear systems: how their state moves, and when it reaches a linear threshold.

A neuron with up to four states follows ``dx/dt = A x + b`` and is at its threshold when ``f = c . x - theta`` comes up
to 0 (`mtt_brian.neuron.LinearSystem`). The eigenvalues of ``A`` may be real or complex, equal, nearly equal or 0.

*Divided differences.* Let ``E[S](t)`` be the divided difference of ``exp(z t)`` over a set ``S`` of eigenvalues. By
Newton's interpolation (Putzer's formula) every solution is a finite sum of them,

    x(t) = sum over k of E[l1 .. lk](t) (A - l1) .. (A - l(k-1)) x(0),

and the constant ``b`` counts as one more eigenvalue, 0. Equal eigenvalues are no special case of it. Two things make
it accurate. The matrix products are formed once per parameter set in exact arithmetic and then rounded. The
eigenvalues go from the fastest to the slowest: then no term is much larger than the solution itself, however stiff the
system is. (Scaling and squaring of ``A t`` would lose the slow part of a stiff system.) ``E[S]`` comes from the Taylor
series around one end of ``S`` where the two farthest members lie closer than `_CLOSE` / t, and from the recursion over
these two members otherwise. All terms of the series are positive for real eigenvalues, and the recursion cancels at
most two bits.

*Crossings.* The same coefficients, with the eigenvalue 0 first, give ``f`` and a chain of functions that begins with
its derivative, ``g0 = f`` and ``g(j+1) = g(j)' - lj g(j)``:

    gj(t) = sum over k >= j of E[lj .. lk](t) Fk,    Fk = c A (A - l1) .. (A - l(k-1)) (x, 1).

``exp(-lj t) gj(t)`` is monotonic between two zeros of ``g(j+1)``, and the last function has no zero. So all zeros
are found from the last function to the first, at most one between two neighbours, by Newton's method in a bracket.
A pair of complex eigenvalues ``m +- i w`` takes two steps of the chain on a window shorter than half a period. Let
``s = sin(w (t - t0))``, positive there. Then ``exp(-m t) g / s`` is monotonic between the zeros of
``s (g' - m g) - s' g``, and that function times ``exp(-m t)`` between the zeros of ``g'' - 2 m g' + (m m + w w) g``.
The windows follow each other until the threshold is out of reach, or until the oscillation has decayed below the
rounding of the potential; then the real eigenvalues remain.

Refused by `prepare`, by name: systems that grow (an eigenvalue with a positive real part); an oscillation together with
two eigenvalues 0; undamped oscillations in resonance with each other; two damped ones, one of them much faster than the
other decays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from mtt_brian.engines.exact.jit import inlined, kernel
from mtt_brian.errors import InputError
from mtt_brian.neuron import LinearSystem

#: Up to this distance times t the Taylor series is used.
_CLOSE = 2.0
#: Steps after which a root counts as found; bisection alone needs about 60, more where the bracket begins at 0.
_STEPS = 200
#: Windows of a quarter period after which an oscillating neuron is given up; the crossing is then nan.
_WINDOWS = 1_000_000
#: exp(-_FAR) is nothing next to any number that matters.
_FAR = 600.0
_ULP = 2.0**-53
#: 1 / k
_INVERSE = np.array([0.0, *(1.0 / k for k in range(1, 64))])
_INVERSE_FACTORIAL = np.array([1.0 / math.factorial(k) for k in range(8)])

# Layout of `Scratch.real` and `Scratch.complex`: divided differences by bit mask, a series, its nodes,
# two rows of coefficients, the limit with its slope and whether there is one.
_SERIES, _NODES, _FORWARD, _BACKWARD, _LIMIT, _ROOM = 32, 37, 42, 47, 52, 56
#: Layout of `Scratch.zeros`: zeros of one function of the chain, those of the next, the state at time 0.
_NEXT, _ORIGIN = 8, 16
# Layout of the values of a set: l0 = 0, l1 .. ln; the differences (row b, column a: la - lb); the matrices of the
# propagation (n + 1 of n x (n + 1)); the rows of F1 .. Fn; the rows of the same sum from the limit; with one damped
# pair also the row of its amplitude. Of the reals: row c; row of the limit; row of its slope; bounds of E[l1 .. lk];
# bounds of E[0, l1 .. lk]; rate of the slowest decay; longest window; time after which an oscillation shows nothing
# new; damping of the pair.
# Layout of the integers of a parameter set.
_N, _ZEROS, _OPEN, _ALL, _AFFINE, _ROLE, _OPS = 0, 1, 2, 3, 4, 5, 10
#: What an eigenvalue is.
_REAL, _FIRST, _SECOND = range(3)


class Linear(NamedTuple):
    """What the kernels read of all parameter sets; only read, shared by threads.

    Attributes:
        oscillates: flag [sets]: the set has complex eigenvalues and stands in ``complexes``, else in ``values``.
        after: the set of real eigenvalues that remains when an oscillation is over; -1 without one [sets].
        integer_at, value_at, real_at: where a set begins in the arrays that follow [sets].
        integers: numbers of states and of steps, kinds of eigenvalues, steps.
        values, complexes: eigenvalues, their differences, and matrices, as float64 and as complex128.
        reals: rows of the potential and of its limit, bounds and times, float64.
    """

    oscillates: np.ndarray
    after: np.ndarray
    integer_at: np.ndarray
    value_at: np.ndarray
    real_at: np.ndarray
    integers: np.ndarray
    values: np.ndarray
    complexes: np.ndarray
    reals: np.ndarray


class Scratch(NamedTuple):
    """Memory of one thread; it keeps nothing from one call to the next.

    Attributes:
        real, complex: divided differences and coefficients.
        zeros: zeros of one function of the chain and of the next, and the values there.
        matrix: n rows of n + 1, the last transition, float64 [20]: ``x(t + dt)`` is the matrix times ``(x(t), 1)``.
        state: a state, float64 [4].
    """

    real: np.ndarray
    complex: np.ndarray
    zeros: np.ndarray
    matrix: np.ndarray
    state: np.ndarray


def new_scratch() -> Scratch:
    """Memory for one thread."""
    return Scratch(np.zeros(_ROOM), np.zeros(_ROOM, np.complex128), np.zeros(20), np.zeros(20), np.zeros(4))


# ---- The kernels -----------------------------------------------------------------------------------------------------
# `z` is an array of float64 or complex128 with the set at `v`; `m` holds integers with the set at `i`; `e` is `real` or
# `complex` of the scratch. A run of eigenvalues j .. k has the bit mask 2 ** (k + 1) - 2 ** j; 0 is the constant.


@kernel
def _differences(z: np.ndarray, v: int, m: np.ndarray, i: int, e: np.ndarray, t: float, steps: int) -> None:
    """The divided differences of exp(l t) over the sets of eigenvalues of the first ``steps`` steps, into ``e``."""
    n1 = m[i + _N] + 1
    for k in range(n1):
        e[1 << k] = np.exp(z[v + k] * t)
    for step in range(steps):
        at = i + _OPS + 5 * step
        members, a, b = m[at], m[at + 3], m[at + 4]
        gap = z[v + n1 + b * n1 + a]
        reach = abs(gap) * t
        if reach > _CLOSE:
            e[members] = (e[m[at + 1]] - e[m[at + 2]]) / gap
            continue
        # h(q) = complete symmetric polynomial of degree q of the distances to member b; the sum of h(q) / (order + q)!
        size = 0
        for k in range(n1):
            if k != b and (members >> k) & 1:
                e[_NODES + size] = z[v + n1 + b * n1 + k] * t
                size += 1
        scale = 1.0
        for k in range(size):
            e[_SERIES + k] = _INVERSE_FACTORIAL[size]
            scale *= t
        total = e[_SERIES + size - 1]
        bound, q = 1.0, 1
        while q < 60:
            bound *= reach * _INVERSE[q]
            if bound < 1e-18:
                break
            inverse = _INVERSE[size + q]
            e[_SERIES] *= e[_NODES] * inverse
            for k in range(1, size):
                e[_SERIES + k] = e[_SERIES + k - 1] + e[_NODES + k] * e[_SERIES + k] * inverse
            total += e[_SERIES + size - 1]
            q += 1
        e[members] = e[1 << b] * scale * total


@kernel
def _transition(z: np.ndarray, v: int, m: np.ndarray, i: int, e: np.ndarray, dt: float, matrix: np.ndarray) -> None:
    n, affine = m[i + _N], m[i + _AFFINE]
    n1 = n + 1
    _differences(z, v, m, i, e, dt, m[i + _ALL] if affine else m[i + _OPEN])
    at = v + n1 + n1 * n1
    for q in range(n * n1):
        matrix[q] = 0.0
    for k in range(n1 if affine else n):
        factor = e[(1 << (k + 2)) - 2] if k < n else e[(1 << n1) - 1]
        for q in range(n * n1):
            matrix[q] += (factor * z[at + k * n * n1 + q]).real


@kernel
def transition(linear: Linear, s: int, dt: float, scratch: Scratch) -> None:
    """Writes what ``dt`` >= 0 seconds do with parameter set ``s`` into ``scratch.matrix``, n rows of n + 1."""
    i, v = linear.integer_at[s], linear.value_at[s]
    if linear.oscillates[s]:
        _transition(linear.complexes, v, linear.integers, i, scratch.complex, dt, scratch.matrix)
    else:
        _transition(linear.values, v, linear.integers, i, scratch.real, dt, scratch.matrix)


@inlined
def carry(y: np.ndarray, at: int, stride: int, n: int, scratch: Scratch) -> None:
    """Applies ``scratch.matrix`` to the states ``y[at + stride * k]``, k < n, of one neuron."""
    for k in range(n):
        scratch.state[k] = y[at + stride * k]
    for k in range(n):
        total = scratch.matrix[k * (n + 1) + n]
        for q in range(n):
            total += scratch.matrix[k * (n + 1) + q] * scratch.state[q]
        y[at + stride * k] = total


@kernel
def propagate(linear: Linear, s: int, y: np.ndarray, at: int, stride: int, dt: float, scratch: Scratch) -> None:
    """Carries the states ``y[at + stride * k]``, k < n, of a neuron with parameter set ``s`` over ``dt`` >= 0."""
    transition(linear, s, dt, scratch)
    carry(y, at, stride, linear.integers[linear.integer_at[s] + _N], scratch)


@kernel
def first_crossing(
    linear: Linear, s: int, y: np.ndarray, at: int, stride: int, threshold: float, scratch: Scratch
) -> float:
    """Seconds until the potential comes up to the threshold from below; inf if it never does.

    A neuron at or above its threshold now has to sink below it first.

    Args:
        linear, s: the parameter set.
        y, at, stride: state k of the neuron is ``y[at + stride * k]``.
        threshold: threshold.
        scratch: memory of this thread.

    Returns:
        Seconds >= 0; nan where an oscillation with almost no damping leaves it open after a million quarter periods.
    """
    i, v, r = linear.integer_at[s], linear.value_at[s], linear.real_at[s]
    n = linear.integers[i + _N]
    f, limit = -threshold, linear.reals[r + 2 * n] - threshold
    for k in range(n):
        x = y[at + stride * k]
        scratch.state[k] = x
        f += linear.reals[r + k] * x
        limit += linear.reals[r + n + k] * x
    if linear.oscillates[s]:
        return _oscillating_crossing(linear, s, f, limit, threshold, scratch)
    rows = v + (n + 1) * (n + 1) * (n + 1) + n + 1
    _rows(linear.values, rows, n, n, scratch.state, scratch.real, _FORWARD + 1)
    _rows(linear.values, rows + n * (n + 1), n, n, scratch.state, scratch.real, _BACKWARD + 1)
    return _real_crossing(linear.values, v, linear.integers, i, linear.reals, r, f, limit, scratch)


@inlined
def _rows(z: np.ndarray, at: int, count: int, n: int, x: np.ndarray, e: np.ndarray, to: int) -> None:
    """Products of ``count`` rows of n + 1 numbers with (x, 1)."""
    for k in range(count):
        row = at + k * (n + 1)
        total = z[row + n]
        for q in range(n):
            total += z[row + q] * x[q]
        e[to + k] = total


@kernel
def _called_rows(z: np.ndarray, at: int, count: int, n: int, x: np.ndarray, e: np.ndarray, to: int) -> None:
    # Not inlined: rare, and quicker to compile.
    _rows(z, at, count, n, x, e, to)


@kernel
def _g(e: np.ndarray, j: int, n: int) -> tuple[float, float]:
    """gj at the time of the divided differences in ``e``, and the sum of the sizes of its terms."""
    total, size = 0.0, 0.0
    for k in range(j, n + 1):
        term = (e[(1 << (k + 1)) - (1 << j)] * e[_FORWARD + k]).real
        total += term
        size += abs(term)
    return total, size


@kernel
def _level(
    z: np.ndarray, v: int, m: np.ndarray, i: int, e: np.ndarray, t: float, j: int, begin: float
) -> tuple[float, float, float]:
    """Function ``j`` of the chain at ``t``: its value, its slope, the size of its terms.

    The potential (0) is summed up from now and back from its limit, and the sum with the smaller terms is taken: the
    first is accurate soon, the second late. ``begin`` is where the window of an oscillation begins.
    """
    n = m[i + _N]
    _differences(z, v, m, i, e, t, m[i + _ALL] if j == 0 else m[i + _OPEN])
    value, size = _g(e, j, n)
    following, _ = _g(e, j + 1, n)
    if j == 0:
        if e[_LIMIT + 2].real != 0.0:
            late = e[_LIMIT].real + e[_LIMIT + 1].real * t
            size_late = abs(e[_LIMIT].real) + abs(late - e[_LIMIT].real)
            for k in range(1, n + 1):
                term = (e[(1 << (k + 1)) - 2] * e[_BACKWARD + k]).real
                late += term
                size_late += abs(term)
            if size_late < size:
                value, size = late, size_late
        return value, following, size
    if m[i + _ROLE + j] == _SECOND:
        frequency = abs(z[v + j].imag)
        phase = frequency * (t - begin) + 0.25 * math.pi
        sine, cosine = math.sin(phase), frequency * math.cos(phase)
        before, size_before = _g(e, j - 1, n)
        value = sine * value - cosine * before
        return value, z[v + j].real * value + sine * following, abs(sine) * size + abs(cosine) * size_before
    return value, following + z[v + j].real * value, size


@kernel
def _root(
    z: np.ndarray,
    v: int,
    m: np.ndarray,
    i: int,
    e: np.ndarray,
    j: int,
    low: float,
    high: float,
    t: float,
    rises: bool,
    begin: float,
) -> float:
    """The zero of function ``j`` between ``low`` and ``high``: Newton's method from ``t``, kept inside by bisection."""
    if not low < t < high:
        t = 0.5 * (low + high)
    sign = 1.0 if rises else -1.0
    close = 1e-16 if j == 0 else 1e-12
    step = high - low
    for _ in range(_STEPS):
        value, slope, size = _level(z, v, m, i, e, t, j, begin)
        value, slope = sign * value, sign * slope
        if value < 0.0:
            low = t
        else:
            high = t
        new = t - value / slope if slope > 0.0 else high
        if abs(value) <= _ULP * size:  # no more can be said
            return min(max(new, low), high) if slope > 0.0 else t
        if not low < new < high or abs(new - t) > 0.5 * step:
            new = 0.5 * (low + high)
            if not low < new < high:
                return high  # two neighbouring floats
            step = high - low
        else:
            step = abs(new - t)
        if abs(new - t) <= close * new:
            return new
        t = new
    return high


@kernel
def _sign_after_0(e: np.ndarray, j: int, n: int) -> float:
    """The sign of gj just after time 0 (real eigenvalues): that of the first coefficient that is not 0."""
    for k in range(j, n + 1):
        if e[_FORWARD + k].real != 0.0:
            return e[_FORWARD + k].real
    return 0.0


@kernel
def _sign_at_end(e: np.ndarray, j: int, n: int) -> float:
    """The sign of gj after a long time (real eigenvalues, the slowest last): that of the last one that is not 0."""
    for k in range(n, j - 1, -1):
        if e[_FORWARD + k].real != 0.0:
            return e[_FORWARD + k].real
    return 0.0


@kernel
def _guess(low: float, value_low: float, bend_low: float, high: float, value_high: float, bend_high: float) -> float:
    """Where a zero between two turning points may lie: on a parabola around the one that is closer to zero."""
    guess = low
    if value_high * bend_high < 0.0 and abs(value_high) <= abs(value_low):
        guess = high - math.sqrt(-2.0 * value_high / bend_high)
    elif value_low * bend_low < 0.0:
        guess = low + math.sqrt(-2.0 * value_low / bend_low)
    return guess


@kernel
def _real_crossing(
    z: np.ndarray,
    v: int,
    m: np.ndarray,
    i: int,
    reals: np.ndarray,
    r: int,
    f: float,
    limit: float,
    scratch: Scratch,
) -> float:
    # The coefficients stand in the scratch memory.
    e, zeros, n = scratch.real, scratch.zeros, m[i + _N]
    n1 = n + 1
    e[_FORWARD] = f
    # What does not decay: 1 if the potential grows without end, -1 if it sinks.
    fading = n - m[i + _ZEROS]
    growth = _sign_at_end(e, fading + 1, n)
    if n == 1:
        if f >= 0.0:
            return np.inf
        if fading == 0:
            return -f / growth if growth > 0.0 else np.inf
        return -math.log1p(-f / limit) / z[v + 1] if limit > 0.0 else np.inf
    e[_LIMIT], e[_LIMIT + 1], e[_LIMIT + 2] = limit, 0.0, 1.0 if growth == 0.0 else 0.0
    grows = False
    for k in range(fading + 1, n1):
        grows = grows or e[_FORWARD + k] > 0.0
    if f < 0.0 and not grows:
        # Fast and safe: no more than this can come, seen from now and seen from the end.
        up, scale = f, abs(f)
        for k in range(1, fading + 1):
            up += max(e[_FORWARD + k], 0.0) * reals[r + 4 * n + 1 + k]
            scale += abs(e[_FORWARD + k]) * reals[r + 4 * n + 1 + k]
        if up < -1e-9 * scale:
            return np.inf
        if growth == 0.0:
            up, scale = limit, abs(limit)
            for k in range(1, fading + 1):
                up += max(e[_BACKWARD + k], 0.0) * reals[r + 3 * n + 1 + k]
                scale += abs(e[_BACKWARD + k]) * reals[r + 3 * n + 1 + k]
            if up < -1e-9 * scale:
                return np.inf
    slow = reals[r + 5 * n + 2]
    # What decays has no sign any more where it underflows. The search for turning points ends before.
    far = np.inf
    if growth == 0.0:
        for k in range(1, fading + 1):
            if e[_FORWARD + k] != 0.0:
                far = _FAR / abs(z[v + k])
    # The zeros of the last function but one, in closed form.
    count = 0
    first, last = e[_FORWARD + n - 1], e[_FORWARD + n]
    if first * last < 0.0:
        gap = z[v + n1 + (n - 1) * n1 + n]
        zeros[0] = -first / last if gap == 0.0 else math.log1p(-gap * (first / last)) / gap
        if 0.0 < zeros[0] < far:
            count = 1
    for j in range(n - 2, -1, -1):
        # The zeros of gj into zeros[_NEXT:], from those of g(j + 1) in zeros[:count].
        found = 0
        low, value_low, bend_low = 0.0, _sign_after_0(e, j, n), 0.0
        for k in range(count + 1):
            start = -1.0
            if k < count:
                high = zeros[k]
                value, slope, _ = _level(z, v, m, i, e, high, j, 0.0)
                bend, _ = _g(e, j + 2, n)
                changes = (value >= 0.0) != (value_low >= 0.0)
            else:
                high, value, bend = np.inf, _sign_at_end(e, j, n), 0.0
                if j == 0 and growth == 0.0:
                    value = limit
                elif far < np.inf:
                    value, _, _ = _level(z, v, m, i, e, far, j, 0.0)
                # At the end 0 is not reached from below.
                changes = (value > 0.0 and value_low < 0.0) or (value < 0.0 and value_low > 0.0)
            if changes and (j > 0 or value_low < 0.0):
                if low == 0.0:
                    slope = e[_FORWARD + j + 1] + z[v + j] * e[_FORWARD + j]
                    start = -e[_FORWARD + j] / slope if slope != 0.0 else -1.0
                    if k < count and not 0.0 < start < high:
                        start = _guess(low, value_low, 0.0, high, value, bend)
                    elif k < count and abs(value) < 0.1 * abs(e[_FORWARD + j]):
                        start = _guess(low, np.inf, 0.0, high, value, bend)
                else:
                    start = _guess(low, value_low, bend_low, high, value, bend)
                lost = False
                if k == count:
                    step = 1.0 / slow if slow > 0.0 else (start - low if start > low else 1.0)
                    end = far if j > 0 else np.inf
                    high = min(low + step, end)
                    while not lost:
                        reached, _, _ = _level(z, v, m, i, e, high, j, 0.0)
                        if (value > 0.0 and reached >= 0.0) or (value < 0.0 and reached < 0.0):
                            break
                        low = high
                        step *= 2.0
                        high = min(low + step, end)
                        lost = high == np.inf or high == low  # later than any number can say
                if not lost:
                    root = _root(z, v, m, i, e, j, low, high, start, value_low < 0.0, 0.0)
                    if j == 0:
                        return root
                    zeros[_NEXT + found] = root
                    found += 1
            low, value_low, bend_low = high, value, bend
        for k in range(found):
            zeros[k] = zeros[_NEXT + k]
        count = found
    return np.inf


@kernel
def _oscillating_crossing(linear: Linear, s: int, f: float, limit: float, threshold: float, scratch: Scratch) -> float:
    z, m, reals = linear.complexes, linear.integers, linear.reals
    i, v, r = linear.integer_at[s], linear.value_at[s], linear.real_at[s]
    e, zeros, x, n = scratch.complex, scratch.zeros, scratch.state, m[i + _N]
    n1 = n + 1
    forward = v + n1 + n1 * n1 + n1 * n * n1
    backward = forward + n * n1
    _called_rows(z, forward, n, n, x, e, _FORWARD + 1)
    e[_FORWARD] = f
    drift = reals[r + 3 * n + 1]
    for k in range(n):
        drift += reals[r + 2 * n + 1 + k] * x[k]
    e[_LIMIT], e[_LIMIT + 1], e[_LIMIT + 2] = limit, drift, 1.0
    _called_rows(z, backward, n, n, x, e, _BACKWARD + 1)
    # When the oscillation is over: its amplitude is below the rounding of the potential. Real eigenvalues remain.
    over, after = np.inf, linear.after[s]
    if after >= 0:
        scale = abs(threshold)
        for k in range(n):
            scale += abs(reals[r + k] * x[k])
        _called_rows(z, backward + n * n1, 1, n, x, e, _SERIES)
        amplitude = 2.0 * abs(e[_SERIES])
        over = 0.0
        if amplitude > 1e-18 * scale:
            over = math.log(amplitude / (1e-18 * scale)) / reals[r + 5 * n + 5] if scale > 0.0 else np.inf
    longest, patience = reals[r + 5 * n + 3], reals[r + 5 * n + 4]
    # Windows begin short: what is fast does not decay to 0 within one.
    window = min(longest, 20.0 / abs(z[v + 1]))
    begin, potential = 0.0, np.int64(0)
    value_begin = f
    for k in range(n):
        zeros[_ORIGIN + k] = x[k]
    for _ in range(_WINDOWS):
        if begin > 0.0:
            value_begin, _, _ = _level(z, v, m, i, e, begin, potential, begin)
        # The state at the begin of the window, for two bounds: what can come at all, and what can come in this window.
        _transition(z, v, m, i, e, begin, scratch.matrix)
        for k in range(n):
            x[k] = scratch.matrix[k * n1 + n]
            for q in range(n):
                x[k] += scratch.matrix[k * n1 + q] * zeros[_ORIGIN + q]
        rest = limit + drift * begin
        swing = 0.0
        _called_rows(z, backward, n, n, x, e, _SERIES)
        for k in range(n):
            swing += abs(e[_SERIES + k]) * reals[r + 3 * n + 2 + k]
        if rest + swing < -1e-12 * (abs(rest) + swing):
            if drift <= 0.0:
                return np.inf
            wait = -(rest + swing) / drift
            if wait > 2.0 * longest:  # nothing can happen until then
                begin += wait - longest
                continue
        if begin >= over:
            w = linear.value_at[after]
            size = m[linear.integer_at[after] + _N]
            rows = w + (size + 1) * (size + 2)
            _called_rows(linear.values, rows, size, n, x, scratch.real, _FORWARD + 1)
            _called_rows(linear.values, rows + size * n1, size, n, x, scratch.real, _BACKWARD + 1)
            for k in range(n):
                limit += reals[r + n + k] * (x[k] - zeros[_ORIGIN + k])
            return begin + _real_crossing(
                linear.values,
                w,
                m,
                linear.integer_at[after],
                reals,
                linear.real_at[after],
                value_begin,
                limit,
                scratch,
            )
        end = begin + window
        if value_begin < 0.0:
            up, size, power = value_begin, abs(value_begin), 1.0
            _called_rows(z, forward, n, n, x, e, _SERIES)
            for k in range(n):
                power *= window * _INVERSE[k + 1]
                up += abs(e[_SERIES + k]) * power
            if up < -1e-9 * size:
                begin = end
                window = min(longest, 2.0 * window)
                continue
        count = 0
        for j in range(n - 1, -1, -1):
            found = 0
            low, value_low = begin, 0.0
            for k in range(-1, count + 1):  # the begin, the zeros of the next function, the end
                high = begin if k < 0 else (zeros[k] if k < count else end)
                value, _, _ = _level(z, v, m, i, e, high, j, begin)
                if k < 0:
                    value_low = value_begin if j == 0 else value
                    continue
                if (value >= 0.0) != (value_low >= 0.0) and (j > 0 or value_low < 0.0):
                    root = _root(z, v, m, i, e, j, low, high, -1.0, value_low < 0.0, begin)
                    if j == 0:
                        return root
                    zeros[_NEXT + found] = root
                    found += 1
                low, value_low = high, value
            for k in range(found):
                zeros[k] = zeros[_NEXT + k]
            count = found
        begin = end
        window = min(longest, 2.0 * window)
        if begin > patience and drift <= 0.0:
            return np.inf
    return np.nan


# ---- Preparation -----------------------------------------------------------------------------------------------------


def prepare(systems: Sequence[LinearSystem], exchange: bool = False) -> Linear:
    """What the kernels read, one parameter set per system.

    The work is done in exact rational arithmetic where no state acts back on one before it (cascades), and with 120
    digits otherwise. It takes 0.1 ms to 20 ms per set: prepare equal ones once.

    Args:
        systems: the systems.
        exchange: let the potential take the place of a state (`potential_last`); otherwise the states are those of the
            systems.

    Raises:
        InputError: for a system that grows, or an undamped one that the search cannot bound.
    """
    parts: list[Part] = []
    remains: list[Part] = []
    after: list[int] = []
    for system in systems:
        part, remain = _prepared(system, exchange)
        parts.append(part)
        after.append(-1 if remain is None else len(systems) + len(remains))
        remains += [] if remain is None else [remain]
    parts += remains
    integers = [p[0] for p in parts]
    real = [p[1] for p in parts if p[1].dtype == np.float64]
    paired = [p[1] for p in parts if p[1].dtype != np.float64]
    at = {np.dtype(np.float64): 0, np.dtype(np.complex128): 0}
    value_at = []
    for _, values, _ in parts:
        value_at.append(at[values.dtype])
        at[values.dtype] += len(values)
    return Linear(
        oscillates=np.array([p[1].dtype != np.float64 for p in parts], dtype=bool),
        after=np.array(after + [-1] * len(remains), dtype=np.int64),
        integer_at=_begins(integers),
        value_at=np.array(value_at, dtype=np.int64),
        real_at=_begins([p[2] for p in parts]),
        integers=np.concatenate([np.zeros(0, np.int64), *integers]),
        values=np.concatenate([np.zeros(0), *real]),
        complexes=np.concatenate([np.zeros(0, np.complex128), *paired]),
        reals=np.concatenate([np.zeros(0), *(p[2] for p in parts)]),
    )


def _begins(parts: list[np.ndarray]) -> np.ndarray:
    return np.cumsum([0, *(len(p) for p in parts)])[:-1].astype(np.int64)


Matrix = list[list[Any]]
#: Integers, values (float64, or complex128 with complex eigenvalues) and reals of a parameter set.
Part = tuple[np.ndarray, np.ndarray, np.ndarray]


def _product(left: Matrix, right: Matrix) -> Matrix:
    return [
        [sum(a * b for a, b in zip(row, column, strict=True)) for column in zip(*right, strict=True)] for row in left
    ]


def _minus(matrix: Matrix, number: Any) -> Matrix:
    return [[a - number if p == q else a for q, a in enumerate(row)] for p, row in enumerate(matrix)]


def _eigenvalues(system: LinearSystem) -> tuple[Matrix, list[Any]]:
    """The augmented matrix ((A, b), (0, 0)) and the eigenvalues of A, fastest first, pairs together.

    As fractions for a cascade, else as numbers of mpmath.
    """
    n = len(system.offset)
    taus = [Fraction(float(tau)) for tau in system.tau]
    exact = [[Fraction(float(a)) / tau for a in row] for row, tau in zip(system.matrix, taus, strict=True)]
    column = [Fraction(float(b)) / tau for b, tau in zip(system.offset, taus, strict=True)]
    left = set(range(n))  # without those that nothing acts on but themselves and the ones taken before
    while left:
        free = [p for p in left if all(exact[p][q] == 0 for q in left if q != p)]
        if not free:
            break
        left.difference_update(free)
    augmented: Matrix = [[*row, b] for row, b in zip(exact, column, strict=True)] + [[Fraction(0)] * (n + 1)]
    if not left:
        return augmented, sorted((exact[p][p] for p in range(n)), key=lambda value: -abs(value))

    import mpmath

    context = mpmath.MPContext()
    context.dps = 120
    augmented = [[context.mpf(a.numerator) / a.denominator for a in row] for row in augmented]
    found = context.eig(context.matrix([row[:n] for row in augmented[:n]]), left=False, right=False)
    size = max(abs(a) for row in augmented[:n] for a in row[:n])
    eigenvalues = []
    for value in found:
        if abs(value.imag) <= size * context.mpf(10) ** -25:
            value = value.real  # equal ones come out as a pair, apart by less than this
        if abs(value) <= size * context.mpf(10) ** -25:
            value = context.zero
        if context.im(value) < 0:
            continue
        eigenvalues += [value, context.conj(value)] if context.im(value) > 0 else [value]
    if len(eigenvalues) != n:
        raise InputError(f"the eigenvalues of a linear neuron could not be paired: {[complex(x) for x in found]}")
    # Nearly equal pairs stay pairs: sorted by size and sign of the first member, the second follows.
    blocks = []
    k = 0
    while k < n:
        width = 2 if context.im(eigenvalues[k]) != 0 else 1
        blocks.append(eigenvalues[k : k + width])
        k += width
    blocks.sort(key=lambda block: -abs(block[0]))
    return augmented, [value for block in blocks for value in block]


def potential_last(system: LinearSystem) -> tuple[Matrix, Matrix]:
    """The change to states whose last one is the potential, and the way back, as fractions.

    The potential takes the place of the state with the largest weight in it (of several, the first one).
    """
    row = [Fraction(float(c)) for c in system.row]
    n = len(row)
    out = max(range(n), key=lambda k: abs(row[k]))
    others = [k for k in range(n) if k != out]
    to = [[Fraction(int(k == q)) for q in range(n)] for k in others] + [row]
    back = [[Fraction(0)] * n for _ in range(n)]
    for place, k in enumerate(others):
        back[k][place] = Fraction(1)
        back[out][place] = -row[k] / row[out]
    back[out][n - 1] = 1 / row[out]
    return to, back


def _exchanged(system: LinearSystem, augmented: Matrix) -> Matrix:
    """The augmented matrix for the states of `potential_last`."""
    n = len(system.offset)
    one = augmented[n][n] + 1
    to, back = (
        [[a.numerator * one / a.denominator for a in row] + [0 * one] for row in matrix] + [[0 * one] * n + [one]]
        for matrix in potential_last(system)
    )
    return _product(_product(to, augmented), back)


def _prepared(system: LinearSystem, exchange: bool) -> tuple[Part, Part | None]:
    """Integers, values and reals of one set, and of what remains of it when its oscillation is over."""
    n = len(system.offset)
    n1 = n + 1
    augmented, eigenvalues = _eigenvalues(system)
    weights = system.row
    if exchange:
        augmented, weights = _exchanged(system, augmented), np.eye(n)[-1]
    zero = augmented[n][n]
    one = zero + 1
    size = max(float(abs(a)) for row in augmented[:n] for a in row[:n])
    push = max(float(abs(row[n])) for row in augmented)
    for k, value in enumerate(eigenvalues):
        if float(value.real) > 0.0:
            if float(value.real) > 4 * 2.0**-52 * size:
                raise InputError(
                    f"a linear neuron must not grow: the eigenvalue {complex(value):.6g} of its matrix has a positive "
                    "real part"
                )
            eigenvalues[k] = value - value.real
    eigenvalues.sort(key=lambda value: value == 0)  # zeros last; stable
    nodes = [zero, *eigenvalues]
    oscillates = any(value.imag != 0 for value in nodes)
    zeros = sum(value == 0 for value in eigenvalues)
    fading = n - zeros
    roles = [_REAL] * 5
    k = 1
    while k <= n:
        if nodes[k].imag != 0:
            roles[k], roles[k + 1] = _FIRST, _SECOND
            k += 1
        k += 1
    points = [complex(value) for value in nodes]
    distance = [[complex(a - b) for a in nodes] for b in nodes]  # row b, column a

    # Q_k = (A~ - l1) .. (A~ - lk), without its last row, n x (n + 1).
    identity = [[one if p == q else zero for q in range(n1)] for p in range(n1)]
    products = [identity]
    for value in eigenvalues:
        products.append(_product(products[-1], _minus(augmented, value)))
    products = [_clean(p, size**k, size ** max(k - 1, 0) * push) for k, p in enumerate(products)]
    fades = _clean(_projector(augmented, [zero] * (zeros + 1), eigenvalues[:fading]), 1.0, push / size if size else 0.0)
    row: Matrix = [
        [*(one * Fraction(float(c)) if isinstance(one, Fraction) else one * float(c) for c in weights), zero]
    ]
    weight = max(abs(c) for c in weights)
    forward = [
        _clean(_product(row, _product(augmented, p)), weight * size ** (k + 1), weight * size**k * push)[0]
        for k, p in enumerate(products[:n])
    ]
    backward = [_product(row, _product(p, fades))[0] for p in products[:n]]
    backward = [r if k < fading else [zero] * n1 for k, r in enumerate(backward)]
    stays = [[a - b for a, b in zip(row[0], _product(row, fades)[0], strict=True)]]
    drift = _clean(_product(stays, augmented), weight * size, weight * push)[0]

    if oscillates and zeros > 1:
        raise InputError("a linear neuron with an oscillation and two eigenvalues 0 is not supported")
    bound = _bounds(points)
    peaks = [bound[2 ** (k + 1) - 2] for k in range(1, n1)]
    if oscillates and any(np.isinf(peaks[:fading])):
        raise InputError("a linear neuron with undamped oscillations in resonance with each other is not supported")
    rates = [abs(point.real) for point in points[1 : fading + 1]]
    longest = max((1 / rate for rate in rates if rate), default=0.0)
    window = 0.0
    if oscillates:
        window = 0.5 * math.pi / max(abs(point.imag) for point in points)
        window = min(window, 40.0 * longest) if longest else window
    pairs = roles.count(_FIRST)
    if pairs > 1 and 0.0 not in rates and 60.0 * longest > _WINDOWS * window:
        raise InputError(
            "a linear neuron with two oscillations, one much faster or hardly damped, is not supported: the slowest "
            f"decay takes {longest:.3g} s, the shortest period {2 * math.pi / max(abs(p.imag) for p in points):.3g} s"
        )
    patience = 4 * _FAR * longest
    if 0.0 in rates:  # once the rest is over, one undamped oscillation has shown everything in one period
        patience = 40.0 * longest + 5 * window if pairs == 1 else np.inf
    steps_open, steps_all = _steps(points, n)
    affine = any(products[k][p][n] != 0 for k in range(n1) for p in range(n))
    integers = np.array(
        [n, zeros, len(steps_open), len(steps_all), affine, *roles, *(x for step in steps_all for x in step)], np.int64
    )
    values = [
        *points,
        *(d for r in distance for d in r),
        *(complex(a) for p in products for r in p[:n] for a in r),
        *(complex(a) for r in (*forward, *backward) for a in r),
    ]
    reals = [
        *weights,
        *(complex(a).real for a in stays[0]),
        *(complex(a).real for a in drift),
        *_reaches(points, fading),
        0.0 if 0.0 in rates else min(rates, default=0.0),
        window,
        patience,
    ]
    if not oscillates:
        return (integers, np.array(values).real.copy(), np.array(reals)), None
    first = roles.index(_FIRST)
    remaining = [value for k, value in enumerate(eigenvalues) if k not in (first - 1, first)]
    if pairs > 1 or not points[first].real or not remaining:
        return (integers, np.array(values), np.array(reals)), None
    pair = _projector(augmented, [zero] * (zeros + 1) + remaining[: fading - 2], eigenvalues[first - 1 : first + 1])
    share = _product(row, _product(_minus(augmented, eigenvalues[first]), pair))[0]
    values += [complex(a / (eigenvalues[first - 1] - eigenvalues[first])) for a in share]
    reals.append(abs(points[first].real))
    rest = [[a - b for a, b in zip(x, y, strict=True)] for x, y in zip(identity, pair, strict=True)]
    fades = [[a - b for a, b in zip(x, y, strict=True)] for x, y in zip(fades, pair, strict=True)]
    forward, backward = [], []
    product = identity
    for k, value in enumerate(remaining):
        moves = _product(row, _product(_product(augmented, product), rest))
        forward += _clean(moves, weight * size ** (k + 1), weight * size**k * push)
        backward += _product(row, _product(product, fades)) if k < fading - 2 else [[zero] * n1]
        product = _product(product, _minus(augmented, value))
    points = [0j, *(complex(value) for value in remaining)]
    size_after = len(remaining)
    steps_open, steps_all = _steps(points, size_after)
    head = [size_after, zeros, len(steps_open), len(steps_all), False, *[_REAL] * 5]
    distance = [[complex(a - b) for a in [zero, *remaining]] for b in [zero, *remaining]]
    rates = [abs(point.real) for point in points[1 : fading - 1]]
    remain = (
        np.array([*head, *(x for step in steps_all for x in step)], np.int64),
        np.array(
            [*points, *(d for r in distance for d in r), *(complex(a) for r in (*forward, *backward) for a in r)]
        ).real.copy(),
        np.array([*[0.0] * (3 * size_after + 2), *_reaches(points, fading - 2), min(rates, default=0.0), 0.0, 0.0]),
    )
    return (integers, np.array(values), np.array(reals)), remain


def _reaches(points: list[complex], fading: int) -> list[float]:
    """How large E[l1 .. lk](t) and E[0, l1 .. lk](t) become at most, for k = 1 .. n; 0 where it is not used."""
    n = len(points) - 1
    bound = _bounds(points)
    peaks = [bound[2 ** (k + 1) - 2] if k <= fading else 0.0 for k in range(1, n + 1)]
    sums = [1.0]
    for k in range(1, n + 1):
        sums.append(sums[-1] / abs(points[k].real) if k <= fading and points[k].real else 0.0)
    return [*peaks, *sums[1:]]


def _projector(augmented: Matrix, off: list[Any], on: list[Any]) -> Matrix:
    """The polynomial of the matrix that is 0 at the eigenvalues ``off`` and 1 at the eigenvalues ``on``."""
    zero = augmented[-1][-1]
    n1 = len(augmented)
    nodes = off + on
    table = [zero] * len(off) + [zero + 1] * len(on)
    total = [[zero] * n1 for _ in range(n1)]
    power = [[zero + 1 if p == q else zero for q in range(n1)] for p in range(n1)]
    for k, value in enumerate(nodes):
        total = [[a + table[0] * b for a, b in zip(x, y, strict=True)] for x, y in zip(total, power, strict=True)]
        power = _product(power, _minus(augmented, value))
        table = [
            zero if table[q] == table[q + 1] else (table[q + 1] - table[q]) / (nodes[q + k + 1] - nodes[q])
            for q in range(len(table) - 1)
        ]
    return total


def _clean(matrix: Matrix, size: float, constant: float) -> Matrix:
    """Sets to 0 what is 0 by the theorem of Cayley and Hamilton, also where 120 digits left a remainder.

    Args:
        matrix: rows of n + 1.
        size, constant: how large the first n columns and the last one could have become.
    """
    return [
        [a * 0 if abs(a) <= 1e-60 * (constant if q == len(row) - 1 else size) else a for q, a in enumerate(row)]
        for row in matrix
    ]


def _steps(points: list[complex], n: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The sets of eigenvalues whose divided differences are needed, smaller ones first: without 0, and all.

    A step is (set, set without b, set without a, a, b), where a and b are the members farthest from each other.
    """

    def farthest(members: int) -> tuple[int, int]:
        inside = [k for k in range(n + 1) if members >> k & 1]
        a, b = max(combinations(inside, 2), key=lambda pair: abs(points[pair[0]] - points[pair[1]]))
        return (a, b) if points[a].real >= points[b].real else (b, a)

    def closure(wanted: set[int]) -> list[tuple[int, ...]]:
        needed: dict[int, tuple[int, ...]] = {}
        while wanted:
            members = wanted.pop()
            if members.bit_count() < 2 or members in needed:
                continue
            a, b = farthest(members)
            needed[members] = (members, members & ~(1 << b), members & ~(1 << a), a, b)
            wanted |= {members & ~(1 << a), members & ~(1 << b)}
        return [needed[key] for key in sorted(needed, key=lambda key: (key.bit_count(), key))]

    opened = closure({2 ** (k + 1) - 2**j for j in range(1, n + 1) for k in range(j, n + 1)})
    everything = closure({2 ** (k + 1) - 2**j for j in range(n + 1) for k in range(j, n + 1)})
    return opened, opened + [step for step in everything if step not in opened]


def _bounds(points: list[complex]) -> dict[int, float]:
    """Upper bounds of |E[S](t)| over all t >= 0, for sets of eigenvalues without number 0."""
    n = len(points) - 1
    bound: dict[int, float] = {1 << k: 1.0 for k in range(1, n + 1)}
    for members in sorted(range(2, 2 ** (n + 1), 2), key=int.bit_count):
        inside = [k for k in range(1, n + 1) if members >> k & 1]
        if len(inside) < 2:
            continue
        best = np.inf
        for k in inside:  # a convolution with exp(points[k] t)
            if points[k].real < 0:
                best = min(best, bound[members & ~(1 << k)] / -points[k].real)
        for a, b in combinations(inside, 2):
            gap = abs(points[a] - points[b])
            if gap:
                best = min(best, (bound[members & ~(1 << a)] + bound[members & ~(1 << b)]) / gap)
            if len(inside) == 2 and points[a].conjugate() == points[b] and points[a].imag:
                best = min(best, 1 / abs(points[a].imag))
            if len(inside) == 2 and not points[a].imag and not points[b].imag and points[a] and points[b]:
                q = max(points[a].real / points[b].real, points[b].real / points[a].real)
                slow = min(-points[a].real, -points[b].real)
                power = 1.0 if q - 1 < 1e-9 else math.log(q) / (q - 1)
                best = min(best, math.exp(-power) / (slow * q) * (1 + 1e-9))
        bound[members] = best
    return bound
