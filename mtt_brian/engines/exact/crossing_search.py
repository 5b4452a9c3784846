"""The instant at which a neuron that is a linear system reaches its threshold.

A neuron is at its threshold when ``f = c . x - theta`` rises to 0. The coefficients of its propagation (`propagation`),
with the eigenvalue 0 first, give ``f`` and a chain of functions that begins with its derivative, ``g0 = f`` and
``g(j+1) = g(j)' - lj g(j)``:

    gj(t) = sum over k >= j of E[lj .. lk](t) Fk,    Fk = c A (A - l1) .. (A - l(k-1)) (x, 1).

``exp(-lj t) gj(t)`` is monotonic between two zeros of ``g(j+1)``, and the last function has no zero. So all zeros
are found from the last function to the first, at most one between two neighbours, by Newton's method in a bracket.
A pair of complex eigenvalues ``m +- i w`` takes two steps of the chain on a window shorter than half a period. Let
``s = sin(w (t - t0))``, positive there. Then ``exp(-m t) g / s`` is monotonic between the zeros of
``s (g' - m g) - s' g``, and that function times ``exp(-m t)`` between the zeros of ``g'' - 2 m g' + (m m + w w) g``.
The windows follow each other until the threshold is out of reach, or until the oscillation has decayed below the
rounding of the potential; then the real eigenvalues remain.
"""

from __future__ import annotations

import math

import numpy as np

from mtt_brian.engines.exact.jit import inlined, kernel, piece
from mtt_brian.engines.exact.propagation import (
    BACKWARD,
    FORWARD,
    INVERSE,
    LIMIT,
    SERIES,
    Scratch,
    differences,
    write_transition,
)
from mtt_brian.engines.lowered.linear_sets import ALL, FAR, OPEN, ROLE, SECOND, STATES, WINDOWS, ZEROS, LinearSets

#: Steps after which a root counts as found; bisection alone needs about 60, more where the bracket begins at 0.
_STEPS = 200
_ULP = 2.0**-53
#: Layout of `Scratch.zeros`: zeros of one function of the chain, those of the next, the state at time 0.
_NEXT, _ORIGIN = 8, 16


@kernel
def first_crossing(
    linear: LinearSets, s: int, y: np.ndarray, at: int, stride: int, threshold: float, scratch: Scratch
) -> float:
    """Seconds until the potential rises to the threshold; inf if it never does.

    A neuron at or above its threshold must first fall below it.

    Args:
        linear, s: the parameter set.
        y, at, stride: state k of the neuron is ``y[at + stride * k]``.
        threshold: threshold.
        scratch: memory of this thread.

    Returns:
        Seconds >= 0; nan if an oscillation with almost no damping is undecided after a million quarter periods.
    """
    i, v, r = linear.integer_at[s], linear.value_at[s], linear.real_at[s]
    n = linear.integers[i + STATES]
    f, limit, drift = -threshold, linear.reals[r + 2 * n] - threshold, linear.reals[r + 3 * n + 1]
    for k in range(n):
        x = y[at + stride * k]
        scratch.state[k] = x
        f += linear.reals[r + k] * x
        limit += linear.reals[r + n + k] * x
        drift += linear.reals[r + 2 * n + 1 + k] * x
    if linear.oscillates[s]:
        return _oscillating_crossing(linear, s, f, limit, drift, threshold, scratch)
    rows = v + (n + 1) * (n + 1) * (n + 1) + n + 1
    _rows(linear.values, rows, n, n, scratch.state, scratch.real, FORWARD + 1)
    _rows(linear.values, rows + n * (n + 1), n, n, scratch.state, scratch.real, BACKWARD + 1)
    return _real_crossing(linear.values, v, linear.integers, i, linear.reals, r, f, limit, drift, scratch)


@inlined
def _rows(z: np.ndarray, at: int, count: int, n: int, x: np.ndarray, e: np.ndarray, to: int) -> None:
    """Products of ``count`` rows of n + 1 numbers with (x, 1)."""
    for k in range(count):
        row = at + k * (n + 1)
        total = z[row + n]
        for q in range(n):
            total += z[row + q] * x[q]
        e[to + k] = total


@piece
def _called_rows(z: np.ndarray, at: int, count: int, n: int, x: np.ndarray, e: np.ndarray, to: int) -> None:
    # Not inlined: rarely called, and faster to compile.
    _rows(z, at, count, n, x, e, to)


@piece
def _g(e: np.ndarray, j: int, n: int) -> tuple[float, float]:
    """gj at the time of the divided differences in ``e``, and the sum of the sizes of its terms."""
    total, size = 0.0, 0.0
    for k in range(j, n + 1):
        term = (e[(1 << (k + 1)) - (1 << j)] * e[FORWARD + k]).real
        total += term
        size += abs(term)
    return total, size


@piece
def _level(
    z: np.ndarray, v: int, m: np.ndarray, i: int, e: np.ndarray, t: float, j: int, begin: float
) -> tuple[float, float, float]:
    """Function ``j`` of the chain at ``t``: its value, its slope, the size of its terms.

    The potential (0) is summed from its value now and from its limit, and the sum with the smaller terms is used: the
    first is accurate at early times, the second at late ones. ``begin`` is the begin of the window of an oscillation.
    """
    n = m[i + STATES]
    differences(z, v, m, i, e, t, m[i + ALL] if j == 0 else m[i + OPEN])
    value, size = _g(e, j, n)
    following, _ = _g(e, j + 1, n)
    if j == 0:
        if e[LIMIT + 2].real != 0.0:
            late = e[LIMIT].real + e[LIMIT + 1].real * t
            size_late = abs(e[LIMIT].real) + abs(late - e[LIMIT].real)
            for k in range(1, n + 1):
                term = (e[(1 << (k + 1)) - 2] * e[BACKWARD + k]).real
                late += term
                size_late += abs(term)
            if size_late < size:
                value, size = late, size_late
        return value, following, size
    if m[i + ROLE + j] == SECOND:
        frequency = abs(z[v + j].imag)
        phase = frequency * (t - begin) + 0.25 * math.pi
        sine, cosine = math.sin(phase), frequency * math.cos(phase)
        before, size_before = _g(e, j - 1, n)
        value = sine * value - cosine * before
        return value, z[v + j].real * value + sine * following, abs(sine) * size + abs(cosine) * size_before
    return value, following + z[v + j].real * value, size


@piece
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
        if abs(value) <= _ULP * size:  # the limit of rounding
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


@piece
def _sign_after_0(e: np.ndarray, j: int, n: int) -> float:
    """The sign of gj just after time 0 (real eigenvalues): that of the first coefficient that is not 0."""
    for k in range(j, n + 1):
        if e[FORWARD + k].real != 0.0:
            return e[FORWARD + k].real
    return 0.0


@piece
def _sign_at_end(e: np.ndarray, j: int, n: int) -> float:
    """The sign of gj after a long time (real eigenvalues, the slowest last): that of the last one that is not 0."""
    for k in range(n, j - 1, -1):
        if e[FORWARD + k].real != 0.0:
            return e[FORWARD + k].real
    return 0.0


@piece
def _guess(low: float, value_low: float, bend_low: float, high: float, value_high: float, bend_high: float) -> float:
    """A first guess of a zero between two turning points: on a parabola around the one that is closer to zero."""
    guess = low
    if value_high * bend_high < 0.0 and abs(value_high) <= abs(value_low):
        guess = high - math.sqrt(-2.0 * value_high / bend_high)
    elif value_low * bend_low < 0.0:
        guess = low + math.sqrt(-2.0 * value_low / bend_low)
    return guess


@piece
def _real_crossing(
    z: np.ndarray,
    v: int,
    m: np.ndarray,
    i: int,
    reals: np.ndarray,
    r: int,
    f: float,
    limit: float,
    drift: float,
    scratch: Scratch,
) -> float:
    # The coefficients are in the scratch memory.
    e, zeros, n = scratch.real, scratch.zeros, m[i + STATES]
    n1 = n + 1
    e[FORWARD] = f
    # The part that does not decay: positive if the potential grows without end, negative if it sinks.
    fading = n - m[i + ZEROS]
    growth = _sign_at_end(e, fading + 1, n)
    if n == 1:
        if f >= 0.0:
            return np.inf
        if fading == 0:
            return -f / growth if growth > 0.0 else np.inf
        return -math.log1p(-f / limit) / z[v + 1] if limit > 0.0 else np.inf
    # With two eigenvalues 0 and more, what does not decay is no line.
    e[LIMIT], e[LIMIT + 1], e[LIMIT + 2] = limit, drift, 1.0 if m[i + ZEROS] <= 1 else 0.0
    grows = False
    for k in range(fading + 1, n1):
        grows = grows or e[FORWARD + k] > 0.0
    if f < 0.0 and not grows:
        # Fast and safe: upper bounds of the potential, from its value now and from its limit.
        up, scale = f, abs(f)
        for k in range(1, fading + 1):
            up += max(e[FORWARD + k], 0.0) * reals[r + 4 * n + 1 + k]
            scale += abs(e[FORWARD + k]) * reals[r + 4 * n + 1 + k]
        if up < -1e-9 * scale:
            return np.inf
        if growth == 0.0:
            up, scale = limit, abs(limit)
            for k in range(1, fading + 1):
                up += max(e[BACKWARD + k], 0.0) * reals[r + 3 * n + 1 + k]
                scale += abs(e[BACKWARD + k]) * reals[r + 3 * n + 1 + k]
            if up < -1e-9 * scale:
                return np.inf
    slow = reals[r + 5 * n + 2]
    # A decayed term that underflows has no sign. The search for turning points ends before.
    far = np.inf
    if growth == 0.0:
        for k in range(1, fading + 1):
            if e[FORWARD + k] != 0.0:
                far = FAR / abs(z[v + k])
    # The zeros of the last function but one, in closed form.
    count = 0
    first, last = e[FORWARD + n - 1], e[FORWARD + n]
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
                    slope = e[FORWARD + j + 1] + z[v + j] * e[FORWARD + j]
                    start = -e[FORWARD + j] / slope if slope != 0.0 else -1.0
                    if k < count and not 0.0 < start < high:
                        start = _guess(low, value_low, 0.0, high, value, bend)
                    elif k < count and abs(value) < 0.1 * abs(e[FORWARD + j]):
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
                        lost = high == np.inf or high == low  # later than float64 can hold
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


@piece
def _oscillating_crossing(
    linear: LinearSets, s: int, f: float, limit: float, drift: float, threshold: float, scratch: Scratch
) -> float:
    z, m, reals = linear.complexes, linear.integers, linear.reals
    i, v, r = linear.integer_at[s], linear.value_at[s], linear.real_at[s]
    e, zeros, x, n = scratch.complex, scratch.zeros, scratch.state, m[i + STATES]
    n1 = n + 1
    forward = v + n1 + n1 * n1 + n1 * n * n1
    backward = forward + n * n1
    _called_rows(z, forward, n, n, x, e, FORWARD + 1)
    e[FORWARD] = f
    e[LIMIT], e[LIMIT + 1], e[LIMIT + 2] = limit, drift, 1.0
    _called_rows(z, backward, n, n, x, e, BACKWARD + 1)
    # The oscillation is over when its amplitude is below the rounding of the potential. Real eigenvalues remain.
    over, after = np.inf, linear.after[s]
    if after >= 0:
        scale = abs(threshold)
        for k in range(n):
            scale += abs(reals[r + k] * x[k])
        _called_rows(z, backward + n * n1, 1, n, x, e, SERIES)
        amplitude = 2.0 * abs(e[SERIES])
        over = 0.0
        if amplitude > 1e-18 * scale:
            over = math.log(amplitude / (1e-18 * scale)) / reals[r + 5 * n + 5] if scale > 0.0 else np.inf
    longest, horizon = reals[r + 5 * n + 3], reals[r + 5 * n + 4]
    # The first windows are short, so that fast terms do not decay to 0 within one.
    window = min(longest, 20.0 / abs(z[v + 1]))
    begin, potential = 0.0, np.int64(0)
    value_begin, above = f, 0.0  # above: begin of the last window that begins above the threshold
    for k in range(n):
        zeros[_ORIGIN + k] = x[k]
    for _ in range(WINDOWS):
        if begin > 0.0:
            value_begin, _, _ = _level(z, v, m, i, e, begin, potential, begin)
        if value_begin >= 0.0:
            above = begin
        # The state at the begin of the window, for two bounds: of all later values, and of the values in this window.
        write_transition(z, v, m, i, e, begin, scratch.matrix)
        for k in range(n):
            x[k] = scratch.matrix[k * n1 + n]
            for q in range(n):
                x[k] += scratch.matrix[k * n1 + q] * zeros[_ORIGIN + q]
        rest = limit + drift * begin
        swing = 0.0
        _called_rows(z, backward, n, n, x, e, SERIES)
        for k in range(n):
            swing += abs(e[SERIES + k]) * reals[r + 3 * n + 2 + k]
        # The potential at its closest to the threshold from now on, apart from the drift; 0: it may reach it.
        closest = 0.0
        if rest + swing < -1e-12 * (abs(rest) + swing):
            closest = rest + swing
        elif value_begin >= 0.0 and rest - swing > 1e-12 * (abs(rest) + swing):
            closest = rest - swing
        if closest != 0.0:
            if drift == 0.0 or (drift > 0.0) == (closest > 0.0):
                return np.inf
            wait = -closest / drift
            if wait > 2.0 * longest:  # no crossing until then
                begin += wait - longest
                continue
        if begin >= over:
            w = linear.value_at[after]
            size = m[linear.integer_at[after] + STATES]
            rows = w + (size + 1) * (size + 2)
            _called_rows(linear.values, rows, size, n, x, scratch.real, FORWARD + 1)
            _called_rows(linear.values, rows + size * n1, size, n, x, scratch.real, BACKWARD + 1)
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
                drift,
                scratch,
            )
        end = begin + window
        if value_begin < 0.0:
            up, size, power = value_begin, abs(value_begin), 1.0
            _called_rows(z, forward, n, n, x, e, SERIES)
            for k in range(n):
                power *= window * INVERSE[k + 1]
                up += abs(e[SERIES + k]) * power
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
        # From then on it has been below the threshold for a period, or goes on as in the last one.
        if drift <= 0.0 and begin > horizon + (above if drift < 0.0 else 0.0):
            return np.inf
    return np.nan
