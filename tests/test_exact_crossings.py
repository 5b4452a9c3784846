"""When one neuron reaches its threshold: against 40 digits of mpmath, and against sampling of many trajectories."""

import itertools

import mpmath as mp
import numba
import numpy as np
import pytest

from mtt_brian.engines.exact import dynamics
from mtt_brian.engines.exact.dynamics import time_to_threshold
from mtt_brian.engines.lowered.rules import CURRENT, LEAK, LINE


def peak(tau, tau_syn):
    """The highest point of the response to a unit drive (a bound that the search may use)."""
    tau, tau_syn = mp.mpf(float(tau)), mp.mpf(float(tau_syn))
    if tau == tau_syn:
        return float(mp.e**-1)
    q = tau_syn / tau
    return float(q ** (-1 / (q - 1)))


def crossing(v, drive, threshold, rest, tau, tau_syn):
    return time_to_threshold(CURRENT, v, drive, threshold, rest, tau, tau_syn, peak(tau, tau_syn))


def exact_potential(t, v, drive, rest, tau, tau_syn):
    """v(t) with 40 digits."""
    t, v, drive, rest, tau, tau_syn = (mp.mpf(x) for x in (t, v, drive, rest, tau, tau_syn))
    decay = mp.exp(-t / tau)
    grown = t / tau * decay if tau == tau_syn else tau_syn / (tau_syn - tau) * (mp.exp(-t / tau_syn) - decay)
    return rest + (v - rest) * decay + drive * grown


@pytest.fixture(autouse=True)
def _forty_digits():
    with mp.workdps(40):
        yield


@numba.njit
def response(t, tau, tau_syn):
    """What is inlined in kernels cannot be called from Python."""
    return dynamics.response(t, tau, tau_syn)


@pytest.mark.parametrize("ratio", [1e-3, 0.3, 0.999999, 1 - 1e-15, 1.0, 1 + 1e-12, 1.000001, 3.0, 1e3])
@pytest.mark.parametrize("t", [1e-9, 1e-3, 0.05, 1.0, 5.0])
def test_response_loses_no_digits(ratio, t):
    # Up to 500 time constants, where the difference of the two exponentials has none left.
    tau, tau_syn = 0.01, 0.01 * ratio
    exact = exact_potential(t, 0, 1, 0, tau, tau_syn)
    steps = t / tau + t / tau_syn  # an exponent is only known to one part in 2 ** 53
    assert abs(response(t, tau, tau_syn) - exact) <= (4 + steps) * 2.3e-16 * exact + 1e-300


def test_integrator_and_leaky_neuron_against_their_formulas():
    assert time_to_threshold(LINE, 0.25, 0, 1.0, 3.0, 1, 1, 0) == 0.25
    assert time_to_threshold(LINE, 0.25, 0, 1.0, -3.0, 1, 1, 0) == np.inf
    assert time_to_threshold(LINE, 1.25, 0, 1.0, 3.0, 1, 1, 0) == np.inf  # above, and it stays there
    assert time_to_threshold(LEAK, 0.0, 0, 1.0, 1.0, 0.01, 1, 0) == np.inf  # tends to the threshold, never reaches it
    for v, rest in ((0.0, 1.5), (-3.0, 1 + 1e-12), (1 - 1e-12, 7.0)):
        exact = mp.mpf("0.01") * mp.log((mp.mpf(rest) - mp.mpf(v)) / (mp.mpf(rest) - 1))
        assert abs(time_to_threshold(LEAK, v, 0, 1.0, rest, 0.01, 1, 0) - exact) < 1e-12


def well_conditioned(rng, count):
    """Trajectories that pass the threshold at an angle, from near and from far, with all orders of time constants."""
    cases = []
    while len(cases) < count:
        tau = 10 ** rng.uniform(-3, -1)
        tau_syn = tau * (1.0 if rng.random() < 0.2 else 10 ** rng.uniform(-2, 2) if rng.random() < 0.5 else 1 + 1e-9)
        rest, v = rng.choice([0.0, 0.5, 1.2]), rng.uniform(-1, 0.99)
        drive = rng.choice([-1, 1]) * 10 ** rng.uniform(-1, 1) / peak(tau, tau_syn)
        t = crossing(v, drive, 1.0, rest, tau, tau_syn)
        if np.isfinite(t):
            slope = (rest - 1 + drive * np.exp(-t / tau_syn)) / tau
            if slope * tau > 0.05:
                cases.append((t, v, drive, rest, tau, tau_syn))
    return cases


def test_crossing_times_to_a_picosecond():
    worst = 0
    for t, v, drive, rest, tau, tau_syn in well_conditioned(np.random.default_rng(0), 300):
        exact = mp.findroot(lambda s, c=(v, drive, rest, tau, tau_syn): exact_potential(s, *c) - 1, mp.mpf(t))
        worst = max(worst, abs(exact - mp.mpf(t)))
    assert worst < 1e-12


def test_a_neuron_above_its_threshold_has_to_dip_below_it_first():
    # From 1.2 with rest 1.5: a strong negative current takes it below 1 and it comes back; a weak one does not.
    t = crossing(1.2, -4.0, 1.0, 1.5, 0.010, 0.002)
    assert abs(exact_potential(t, 1.2, -4.0, 1.5, 0.010, 0.002) - 1) < 1e-15
    before, after = (exact_potential(t * f, 1.2, -4.0, 1.5, 0.010, 0.002) for f in (0.9, 1.1))
    assert before < 1 < after
    assert crossing(1.2, -0.5, 1.0, 1.5, 0.010, 0.002) == np.inf
    assert crossing(1.2, 2.0, 1.0, 0.0, 0.010, 0.002) == np.inf  # above and falling for good


@pytest.mark.parametrize("excess", [1e-4, 1.1e-5, 1e-7, 1e-9, 1e-12])
@pytest.mark.parametrize("ratio", [0.01, 0.5, 1.0, 1 + 1e-10, 2.0, 50.0])
def test_grazing_crossings_are_found(excess, ratio):
    # A hump whose top, found with 40 digits, lies `excess` above the threshold, or as much below.
    tau, tau_syn, v, drive, rest = 0.010, 0.010 * ratio, 0.3, 5.0, 0.1
    a, b = 1 / mp.mpf(tau), 1 / mp.mpf(tau_syn)
    slope = mp.mpf(rest) - v + drive
    top = slope / (b * drive) if a == b else mp.log(1 + (a - b) * slope / (b * drive)) / (a - b)
    height = mp.mpf(rest) + drive * mp.exp(-b * top)
    t = crossing(v, drive, float(height - excess), rest, tau, tau_syn)
    assert 0 < t <= float(top) * (1 + 1e-12)
    assert abs(exact_potential(t, v, drive, rest, tau, tau_syn) - (height - excess)) < 2e-15
    assert crossing(v, drive, float(height + max(excess, 1e-14)), rest, tau, tau_syn) == np.inf


def check_random_trajectories(count, seed):
    """No crossing is missed or invented, by an independent decision: the extremum and the ends of every trajectory.

    The extremum comes from bisecting the sign of the derivative on dense samples, not from the engine's formula.
    """
    rng = np.random.default_rng(seed)
    tau = 10 ** rng.uniform(-3, -1, count)
    kind = rng.random(count)
    tau_syn = np.where(
        kind < 0.1, tau, np.where(kind < 0.2, tau * (1 + 1e-7), tau * 10 ** rng.uniform(-1.5, 1.5, count))
    )
    rest = rng.choice([0.0, 0.5, -0.5, 1.3], count)
    v = rng.uniform(-2, 1 - 1e-6, count)
    drive = rng.choice([-1, 1], count) * 10 ** rng.uniform(-1, 2, count)
    a, b = 1 / tau, 1 / tau_syn
    slow = np.maximum(tau, tau_syn)

    def potential(t):
        with np.errstate(divide="ignore", invalid="ignore"):
            grown = np.where(a == b, t, -np.expm1(-np.abs(a - b) * t) / np.abs(a - b))
        return rest + (v - rest) * np.exp(-a * t) + drive * a * np.exp(-np.minimum(a, b) * t) * grown

    def climbs(t):
        # v' has the sign of this; at least as accurate as the trajectory itself.
        return rest - potential(t) + drive * np.exp(-b * t) > 0

    # Where v' changes sign (once at most): in one of 400 intervals up to 60 time constants, then by bisection.
    grid = np.concatenate([[0], np.geomspace(1e-7, 60, 400)])
    low, high, found = np.zeros(count), np.zeros(count), np.zeros(count, dtype=bool)
    first = climbs(np.zeros(count))
    for left, right in itertools.pairwise(grid):
        turned = ~found & (climbs(right * slow) != first)
        low[turned], high[turned], found[turned] = left * slow[turned], right * slow[turned], True
    for _ in range(80):
        middle = (low + high) / 2
        same = climbs(middle) == first
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    extremum = np.where(found, potential(high), v)
    # One trajectory in two is moved up or down so that its hump or its plateau grazes the threshold.
    top = np.maximum(np.where(first & found, extremum, -np.inf), np.maximum(v, rest))
    threshold = np.ones(count)
    graze = (rng.random(count) < 0.5) & found & first & (extremum > np.maximum(v, rest) + 1e-6)
    threshold[graze] = extremum[graze] + rng.choice([-1, 1], graze.sum()) * 10 ** rng.uniform(-9, -3, graze.sum())
    ok = v < threshold
    must, margin = top > threshold, np.abs(top - threshold)
    peaks = np.exp(np.where(a == b, -1.0, -np.log(tau_syn / tau) / np.where(a == b, 1.0, tau_syn / tau - 1)))
    missed = invented = wrong = 0
    for k in np.flatnonzero(ok):
        t = time_to_threshold(CURRENT, v[k], drive[k], threshold[k], rest[k], tau[k], tau_syn[k], peaks[k])
        if margin[k] < 1e-13 * (1 + abs(drive[k])):
            continue  # closer than the resolution of the test
        if must[k] and not np.isfinite(t):
            missed += 1
        elif not must[k] and np.isfinite(t):
            invented += 1
        elif must[k]:
            # At the threshold, and coming from below.
            grown = t if a[k] == b[k] else -np.expm1(-abs(a[k] - b[k]) * t) / abs(a[k] - b[k])
            at = rest[k] + (v[k] - rest[k]) * np.exp(-a[k] * t) + drive[k] * a[k] * np.exp(-min(a[k], b[k]) * t) * grown
            climbing = rest[k] - at + drive[k] * np.exp(-b[k] * t)
            wrong += abs(at - threshold[k]) > 1e-13 * (1 + abs(drive[k])) or climbing < -1e-12 * (1 + abs(drive[k]))
    assert graze.sum() > count / 20
    assert (missed, invented, wrong) == (0, 0, 0)


def test_no_crossing_is_missed():
    check_random_trajectories(30_000, seed=1)


@pytest.mark.slow
def test_no_crossing_is_missed_in_a_million_trajectories():
    for seed in range(20):
        check_random_trajectories(50_000, seed=100 + seed)
