"""Closed-form solutions of the neuron equations, and when they reach the threshold.

Written for one neuron with ``drive = r * I``; ``a = 1 / tau`` and ``b = 1 / tau_syn``:

* IF: ``v(t) = v + slope * t``;
* LIF: ``v(t) = rest + (v - rest) * exp(-a t)``;
* CubaLIF: ``v(t) = rest + (v - rest) * exp(-a t) + drive * K(t)`` with
  ``K(t) = a * (exp(-b t) - exp(-a t)) / (a - b)``.

``K`` is written with the slower exponential factored out, ``a * exp(-min(a, b) t) * (1 - exp(-|a - b| t)) / |a - b|``:
nothing cancels after many time constants, and the limit of equal ones, ``a t exp(-a t)``, is reached smoothly.
"""

from __future__ import annotations

import math

import numpy as np

from mtt_brian.engines.exact.jit import inlined, kernel, piece
from mtt_brian.engines.lowered.rules import CURRENT, LEAK, LINE

#: Newton steps after which a root counts as found; bisection alone needs about 60. From far below, a step can be as
#: short as a time constant, and exp(-t / tau) is 0 after 745 of them.
_STEPS = 2000


@inlined
def response(t: float, tau: float, tau_syn: float) -> float:
    """K(t): the potential that a unit drive causes after ``t`` seconds."""
    difference = abs(tau_syn - tau) / tau / tau_syn
    slow = math.exp(-t / max(tau, tau_syn))
    grown = t if difference == 0.0 else -math.expm1(-difference * t) / difference
    return slow * grown / tau


@inlined
def factors(kind: int, dt: float, tau: float, tau_syn: float) -> tuple[float, float, float]:
    """Factors of ``dt`` seconds: of the potential above rest, of the current, of the potential per drive."""
    if kind == LEAK:
        return math.exp(-dt / tau), 1.0, 0.0
    return math.exp(-dt / tau), math.exp(-dt / tau_syn), response(dt, tau, tau_syn)


@kernel
def time_to_threshold(
    kind: int, v: float, drive: float, threshold: float, rest: float, tau: float, tau_syn: float, peak: float
) -> float:
    """Seconds until the potential rises to the threshold; inf if it never does.

    A neuron at or above its threshold now (after a spike under the rule "one") must first fall below it.
    """
    if kind == CURRENT:
        # A fast upper bound of the potential.
        if v < threshold and rest + max(v - rest, 0.0) + max(drive, 0.0) * peak < threshold - 1e-9 * abs(threshold):
            return np.inf
        return _current_crossing(v, drive, threshold, rest, tau, tau_syn)
    if v >= threshold:
        return np.inf  # monotonic: it does not return
    if kind == LINE:
        return (threshold - v) / rest if rest > 0.0 else np.inf
    if kind == LEAK:
        return tau * math.log1p((threshold - v) / (rest - threshold)) if rest > threshold else np.inf
    return np.inf


@piece
def _current_crossing(v: float, drive: float, threshold: float, rest: float, tau: float, tau_syn: float) -> float:
    if drive == np.inf:  # r * I is larger than float64 holds
        return 0.0
    # tau v' = rest - v + drive exp(-b t) has at most one zero t*, and there v(t*) = rest + drive exp(-b t*) exactly.
    # So the trajectory is a single hump, a single dip or monotonic, and v(t*) and rest determine the case.
    slope = rest - v + drive
    turn = np.inf
    if drive != 0.0 and slope / drive >= 0.0:
        difference = (tau_syn - tau) / tau / tau_syn  # a - b
        ratio = tau_syn * slope / drive
        # 1 + difference * ratio, which loses its digits where tau_syn is much shorter than tau, written without a 1.
        remains = (v - rest) / drive + tau_syn / tau * (slope / drive)
        if difference == 0.0:
            turn = ratio
        elif abs(difference * ratio) < 0.5:
            turn = math.log1p(difference * ratio) / difference
        elif remains > 0.0:
            turn = math.log(remains) / difference
    low, high = 0.0, np.inf
    start = -1.0
    if slope > 0.0 and v < threshold:
        if turn < np.inf:  # a hump
            bend = drive * math.exp(-turn / tau_syn)
            if rest + bend < threshold:
                return np.inf
            high = turn
            # A parabola at the maximum: close to the crossing of a grazing trajectory, for which Newton alone converges
            # slowly.
            start = turn - math.sqrt(2.0 * (rest + bend - threshold) * tau * tau_syn / bend)
        elif rest <= threshold:
            return np.inf
    elif drive < 0.0 and rest > threshold and turn < np.inf and slope <= 0.0:  # a dip, then up to rest
        if v >= threshold and rest + drive * math.exp(-turn / tau_syn) >= threshold:
            return np.inf
        low = turn
    else:
        return np.inf
    if high == np.inf:
        step = tau + tau_syn
        high = low + step
        while _above(high, v, drive, threshold, rest, tau, tau_syn) < 0.0:
            low = high
            step *= 2.0
            high = low + step
    return _root(low, high, start, v, drive, threshold, rest, tau, tau_syn)


@inlined
def _above(t: float, v: float, drive: float, threshold: float, rest: float, tau: float, tau_syn: float) -> float:
    """How far v(t) lies above the threshold; a large v leaves no rounding behind when it has decayed."""
    own = (v - threshold) * math.exp(-t / tau) - (rest - threshold) * math.expm1(-t / tau)
    return own + drive * response(t, tau, tau_syn)


@piece
def _root(
    low: float, high: float, t: float, v: float, drive: float, threshold: float, rest: float, tau: float, tau_syn: float
) -> float:
    """The crossing between ``low`` (below the threshold) and ``high`` (not below): Newton, kept inside by bisection."""
    if not low < t < high:
        t = low if low > 0.0 else 0.0
    for _ in range(_STEPS):
        above = _above(t, v, drive, threshold, rest, tau, tau_syn)
        if above < 0.0:
            low = t
        else:
            high = t
        slope = (rest - threshold - above + drive * math.exp(-t / tau_syn)) / tau
        new = t - above / slope if slope > 0.0 else high
        if not low < new < high:
            new = 0.5 * (low + high)
            if not low < new < high:
                return high  # two neighbouring floats
        if abs(new - t) <= 1e-16 * new:
            return new
        t = new
    return high
