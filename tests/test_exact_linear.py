"""Linear neurons: how they move and when they reach their threshold, against 40 digits and more."""

import decimal
import math
from decimal import Decimal

import mpmath as mp
import numpy as np
import pytest

from mtt_brian.engines.brian2.functions import current_crossing
from mtt_brian.engines.exact.crossing_search import first_crossing
from mtt_brian.engines.exact.dynamics import time_to_threshold
from mtt_brian.engines.exact.propagation import evolve, new_scratch
from mtt_brian.engines.lowered.linear_sets import linear_sets
from mtt_brian.engines.lowered.rules import CURRENT, LEAK, LINE
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF, LinearSystem

ULP = 2.0**-53
SYNAPSE = LIF(threshold=None, tau=0.005).linear_system()


@pytest.fixture(autouse=True)
def _more_digits():
    with mp.workdps(40), decimal.localcontext(prec=60):
        yield


def system(matrix, *, offset=None, row=None, tau=None):
    n = len(matrix)
    return LinearSystem(
        matrix=np.array(matrix, dtype=float),
        offset=np.zeros(n) if offset is None else np.array(offset),
        drive=np.eye(n)[0],
        row=np.eye(n)[-1] if row is None else np.array(row),
        tau=np.ones(n) if tau is None else np.array(tau),
    )


def moved(linear, x, dt):
    y = np.array(x, dtype=float)
    evolve(linear_sets([linear]), 0, y, 0, 1, dt, new_scratch())
    return y


def crossing(linear, x, threshold=1.0):
    return first_crossing(linear_sets([linear]), 0, np.array(x, dtype=float), 0, 1, threshold, new_scratch())


def random_system(rng, loops):
    """One to four states with time constants from 1e-6 to 1e2 s, near or far, equal to all degrees, or an integrator.

    A cascade (real eigenvalues), or with loops: real and complex ones, damped with at least 1 / 300 of the frequency.
    """
    n = rng.integers(1, 5)
    tau = 10 ** (rng.uniform(-6, 2, n) if rng.random() < 0.5 else rng.uniform(-5, 1) + rng.uniform(-1, 1, n))
    if rng.random() < 0.5:
        equal = rng.integers(1, n + 1)
        tau[:equal] = tau[0] * (1 + rng.choice([0, 1, -1], equal) * 10 ** rng.uniform(-15, -3, equal))
    matrix = np.tril(rng.normal(size=(n, n)) * (rng.random((n, n)) < 0.3), -2)
    matrix += np.diag(rng.normal(size=n - 1), -1) - np.eye(n)
    if rng.random() < 0.2:
        matrix[-1, -1], tau[-1] = 0, 1
        matrix[-1] *= rng.choice([1, 1 / np.median(tau)])
    for _ in range(100 if loops else 0):
        proposed = matrix + rng.normal(size=(n, n)) * rng.choice([0.01, 0.3, 1, 3])
        value = np.linalg.eigvals(proposed / tau[:, None])
        stiff = (value.imag > 0).sum() == 2 and abs(value).max() > 1e4 * abs(value.real).min()
        if (
            value.real.max() < -1e-3 * abs(value).min()
            and np.all(abs(value.imag) <= 300 * abs(value.real))
            and not stiff
        ):
            matrix = proposed
            break
    row = rng.normal(size=n) if rng.random() < 0.2 else None
    return system(matrix, offset=rng.choice([0, 1], n) * rng.normal(size=n), row=row, tau=tau)


def augmented(linear):
    """((A, b), (0, 0)) to 250 digits, of `Decimal`: ten times as fast as matrices of mpmath."""
    n = len(linear.tau)
    full = np.full((n + 1, n + 1), Decimal(0))
    with decimal.localcontext(prec=250):
        for p in range(n):
            for q, a in enumerate([*linear.matrix[p], linear.offset[p]]):
                full[p, q] = Decimal(float(a)) / Decimal(float(linear.tau[p]))
    return full


def exponential(matrix, t):
    """exp(matrix t) by scaling and squaring, with enough digits for both."""
    squarings = int(math.log2(float(abs(matrix).max()) * float(t) + 1)) + 7
    with decimal.localcontext(prec=60 + squarings):
        small = matrix * (Decimal(t) / 2**squarings)
        term = total = np.eye(len(matrix), dtype=int) * Decimal(1)
        for k in range(1, 26):
            term = term @ small / k
            total = total + term
        for _ in range(squarings):
            total = total @ total
        return total


def potential_rows(linear):
    """A function of times: rows r and r' with r(t) . (x, 1) = c . x(t), and the eigenvalues.

    By diagonalising with 240 digits; equal eigenvalues are moved apart by 1e-32 before.
    """
    n = len(linear.tau)
    with mp.workdps(240):
        full = mp.matrix([[mp.mpf(str(a)) for a in row] for row in augmented(linear)])
        largest = max(abs(a) for a in full)
        for p in range(n):
            full[p, p] -= (p + 1) * largest * mp.mpf(10) ** -32
        values, vectors = mp.eig(full)
        left = mp.matrix([[*map(float, linear.row), 0]]) * vectors
        inverse = vectors**-1
        parts = [[left[k] * inverse[k, q] for q in range(n + 1)] for k in range(n + 1)]
        fixed = [_fixed(parts), _fixed([[a * v for a in part] for part, v in zip(parts, values, strict=True)])]

    def rows(times):
        with mp.workdps(160):
            real, imaginary = _fixed([[mp.exp(value * mp.mpf(float(t))) for value in values] for t in times])
        real, imaginary = real.reshape(-1, n + 1), imaginary.reshape(-1, n + 1)
        return np.array([(real @ a - imaginary @ b) / 2 ** (2 * BITS) for a, b in fixed], dtype=float)

    return rows, np.array([complex(value) for value in values])


#: No mode grows, so that numbers with so many binary places, as integers, sum them without loss.
BITS = 700


def _fixed(rows):
    """Real and imaginary parts of numbers of mpmath in units of 2 ** -BITS."""
    return [
        np.array([[int(mp.ldexp(part(a), BITS)) for a in row] for row in rows], dtype=object) for part in (mp.re, mp.im)
    ]


# ---- Motion ----------------------------------------------------------------------------------------------------------


def check_motion(count, seed, loops):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        linear = random_system(rng, loops)
        n = len(linear.tau)
        dt = 10 ** (rng.uniform(-3, 3) + rng.uniform(*np.log10([linear.tau.min(), linear.tau.max()])))
        x = rng.normal(size=n)
        exact = exponential(augmented(linear), dt)
        for got, row in zip(moved(linear, x, dt), exact.tolist(), strict=False):
            terms = [a * Decimal(float(b)) for a, b in zip(row, [*x, 1], strict=True)]
            scale = float(sum(map(abs, terms)))
            if scale < 1e-280:
                continue
            # An exponent is only known to one part in 2 ** 53. Where states act back on one another the terms cancel:
            # of 3,000 such systems one was off by 75 roundings.
            exponent = max(0.0, -math.log(scale / max(abs(x))))
            error = abs(Decimal(float(got)) - sum(terms))
            assert error <= ((100 if loops else 20) + 2 * exponent) * ULP * scale, (linear, dt, x)


@pytest.mark.parametrize("loops", [False, True])
def test_motion_is_exact_to_rounding(loops):
    check_motion(60, 1, loops)


@pytest.mark.slow
@pytest.mark.parametrize("loops", [False, True])
def test_motion_is_exact_to_rounding_for_many(loops):
    check_motion(3000, 2, loops)


@pytest.mark.parametrize("ratio", [1e-3, 0.3, 1 - 1e-9, 1 - 1e-15, 1.0, 1 + 1e-12, 1.001, 3.0, 1e3])
@pytest.mark.parametrize("steps", [0.0, 1e-12, 1e-3, 1.0, 30.0, 500.0])
def test_a_synaptic_current_into_a_membrane(ratio, steps):
    tau, tau_syn = 0.01, 0.01 * ratio
    t = steps * min(tau, tau_syn)
    neuron = CubaLIF(tau=tau, tau_syn=tau_syn, r=2.0, w_in=3.0, bias=0.25, v_leak=0.5)
    current, v = moved(neuron.linear_system(), [1.5, -0.75], t)
    a, b, s = (mp.mpf(x) for x in (tau, tau_syn, t))
    decay, decay_syn = mp.exp(-s / a), mp.exp(-s / b)
    grown = s / a * decay if a == b else b / (b - a) * (decay_syn - decay)
    # I goes from 1.5 to w_in * bias = 0.75, v from -0.75 to v_leak + 2 * 0.75 = 2.
    assert abs(current - (0.75 + 0.75 * decay_syn)) < 4e-16
    assert abs(v - (2 - 2.75 * decay + 2 * 0.75 * grown)) < 2e-15
    if t == 0:
        assert (current, v) == (1.5, -0.75)


def test_integrator_behind_a_synapse_follows_its_formula():
    # v(t) = v + s t + I tau_s (1 - exp(-t / tau_s))
    linear = SYNAPSE.feeding(IF(r=2.0, bias=1.5).linear_system(), weight=4.0)
    for t in (0.0, 1e-9, 1e-3, 0.02, 5e3):
        current, v = moved(linear, [0.5, 0.25], t)
        assert current == pytest.approx(0.5 * np.exp(-t / 0.005), rel=1e-15, abs=1e-300)
        assert v == pytest.approx(0.25 + 3 * t + 8 * 0.5 * 0.005 * -np.expm1(-t / 0.005), rel=4e-16)


def test_a_cascade_of_equal_time_constants():
    # Three in a row from (1, 0, 0): exp(-s), s exp(-s), s s exp(-s) / 2 with s = t / tau.
    linear = SYNAPSE.feeding(SYNAPSE).feeding(SYNAPSE)
    for s in (1e-6, 0.5, 3.0, 200.0):
        expected = np.array([1, s, s * s / 2]) * float(mp.exp(-s))
        np.testing.assert_allclose(moved(linear, [1, 0, 0], s * 0.005), expected, rtol=(4 + s) * ULP)


def test_after_a_million_time_constants_nothing_is_left_but_the_limit():
    neuron = CubaLIF(tau=0.01, tau_syn=0.003, v_leak=0.7).linear_system()
    assert moved(neuron, [5, -3], 1e4).tolist() == [0, 0.7]


def test_every_parameter_set_is_found_again():
    rng = np.random.default_rng(5)
    systems = [random_system(rng, k % 2 == 1) for k in range(12)]
    together, scratch = linear_sets(systems), new_scratch()
    assert 0 < together.oscillates.sum() < 12
    for k, linear in enumerate(systems):
        n = len(linear.tau)
        x = rng.normal(size=n)
        y = np.zeros(3 * n + 2)
        y[2::3] = x
        alone = crossing(linear, x, 0.3)
        np.testing.assert_equal(first_crossing(together, k, y, 2, 3, 0.3, scratch), alone)
        evolve(together, k, y, 2, 3, 0.5, scratch)
        assert y[2::3].tolist() == moved(linear, x, 0.5).tolist()


# ---- Crossings -------------------------------------------------------------------------------------------------------


def test_the_known_rules_cross_as_before():
    rng = np.random.default_rng(3)
    finite = 0
    for _ in range(300):
        tau, rest, v, threshold = 10 ** rng.uniform(-3, -1), rng.uniform(-1, 2), rng.uniform(-1, 0.99), 1.0
        tau_syn = tau * rng.choice([1.0, 1 + 1e-9, 0.1, 3.0])
        drive = rng.choice([-1, 1]) * 10 ** rng.uniform(-1, 1.5)
        q = tau_syn / tau
        peak = np.exp(-1.0 if q == 1 else -np.log1p(q - 1) / (q - 1))
        for kind, linear, x in (
            (LINE, IF(bias=rest).linear_system(), [v]),
            (LEAK, LIF(tau=tau, v_leak=rest).linear_system(), [v]),
            (CURRENT, CubaLIF(tau=tau, tau_syn=tau_syn, v_leak=rest).linear_system(), [drive, v]),
        ):
            expected = time_to_threshold(kind, v, drive, threshold, rest, tau, tau_syn, peak)
            got = crossing(linear, x)
            assert np.isfinite(got) == np.isfinite(expected), (kind, rest, tau, tau_syn, v, drive)
            if np.isfinite(got):
                finite += 1
                slope = {LINE: rest, LEAK: (rest - 1) / tau}.get(
                    kind, (rest - 1 + drive * np.exp(-got / tau_syn)) / tau
                )
                size = abs(rest) + abs(v) + abs(drive) * (kind == CURRENT) + 1
                assert abs(got - expected) <= 8 * ULP * (got + size / abs(slope))
    assert finite > 200


def test_a_limit_at_the_threshold_is_never_reached():
    for tau in (0.003, 0.007, 0.01):
        assert crossing(LIF(tau=tau, v_leak=0.7).linear_system(), [0.1], 0.7) == np.inf
        assert crossing(CubaLIF(tau=tau, tau_syn=0.011, v_leak=0.7).linear_system(), [0, 0.1], 0.7) == np.inf
        above = float(np.nextafter(0.7, 1))
        t = crossing(CubaLIF(tau=tau, tau_syn=0.001, v_leak=above).linear_system(), [0, 0.1], 0.7)
        assert t == pytest.approx(tau * np.log((above - 0.1) / (above - 0.7)), rel=1e-14)


@pytest.mark.parametrize("excess", [1e-4, 1e-7, 1e-10, 1e-12])
def test_grazing_humps_of_a_cascade(excess):
    # s s exp(-s) / 2 is highest at s = 2.
    linear = SYNAPSE.feeding(SYNAPSE).feeding(SYNAPSE)
    top = 2 * mp.exp(-2)
    t = crossing(linear, [1, 0, 0], float(top - excess))
    s = mp.mpf(t) / mp.mpf(0.005)
    assert 0 < s < 2
    assert abs(s * s * mp.exp(-s) / 2 - (top - excess)) < 2e-16
    assert crossing(linear, [1, 0, 0], float(top + max(excess, 1e-15))) == np.inf


def test_turning_points_that_lie_where_all_has_decayed():
    # Two slow states of equal time constants in front of a fast one. From here the second derivative changes its sign
    # after 704 s, when exp(-t / 0.29) is 0 in double precision; the hump is over after milliseconds.
    slow = 0.29434122333656526
    linear = system([[-1, 0, 0], [-0.07, -1, 0], [0, 1.9, -1]], tau=[slow, slow, 4e-4])
    x = [0.0363, 6.0234, -0.0679]
    rows, _ = potential_rows(linear)
    times = np.linspace(0, 0.01, 300)
    f = rows(times)[0] @ [*x, 1]
    t = crossing(linear, x, 0.99 * f.max())
    assert 0 < t < times[f.argmax()]
    assert abs(rows([t])[0, 0] @ [*x, 1] - 0.99 * f.max()) < 1e-14


def test_a_neuron_above_its_threshold_has_to_sink_first():
    linear = SYNAPSE.feeding(IF(bias=10.0).linear_system())
    # v = v0 + 10 t - 100 * 0.005 (1 - exp(-t / 0.005)): dips by more than 0.2, then rises.
    t = crossing(linear, [-100, 1.2])
    assert abs(1.2 + 10 * t + 100 * 0.005 * np.expm1(-t / 0.005) - 1) < 1e-15
    assert 10 - 100 * np.exp(-t / 0.005) > 0
    assert crossing(linear, [-10, 1.2]) == np.inf  # dips to 1.2 at most
    assert crossing(linear, [-10, 1.0]) == np.inf  # at the threshold now, and never below it
    assert 0 < crossing(linear, [-11, 1.0]) < 0.01  # sinks a little below it


def test_a_ramp_that_a_large_decay_hid():
    # 1000 exp(-1000 t) + t: after 0.1 s the first term is 4e-41, and not the rounding of 1000.
    linear = system([[-1000, 0], [0, 0]], offset=[0, 1], row=[1, 1])
    assert crossing(linear, [1000, 0], 0.1) == 0.1


@pytest.mark.parametrize("v", [-1e3, -1e6])
def test_a_current_that_raises_a_membrane_from_far_below(v):
    # tau v' = 2 - v + exp(-t / tau_syn), tau 1 s, tau_syn 2 s: v = 2 + 2 exp(-t / 2) + (v0 - 4) exp(-t).
    at = pytest.approx(2 * np.log((4 - v) / 2), rel=3e-16, abs=0)  # 2 exp(-t / 2) = (4 - v) exp(-t)
    assert time_to_threshold(CURRENT, v, 1.0, 2.0, 2.0, 1.0, 2.0, 1.0) == at
    assert crossing(CubaLIF(tau=1.0, tau_syn=2.0, v_leak=2.0).linear_system(), [1.0, v], 2.0) == at
    assert current_crossing.pyfunc(1.0, v, 1.0, 2.0, 2.0, 1.0, 2.0) == at
    # With equal time constants v - 2 = exp(-t) (v0 - 2 + drive t): after 300 of them.
    drive = (2 - v) / 300
    at = pytest.approx(300, rel=3e-16, abs=0)
    assert time_to_threshold(CURRENT, v, drive, 2.0, 2.0, 1.0, 1.0, 1.0) == at
    assert crossing(CubaLIF(tau=1.0, tau_syn=1.0, v_leak=2.0).linear_system(), [drive, v], 2.0) == at
    assert current_crossing.pyfunc(1.0, v, drive, 2.0, 2.0, 1.0, 1.0) == at


def test_an_undamped_oscillation():
    linear = system([[0, -200], [200, 0]])  # (cos, sin)
    assert crossing(linear, [2, 0]) == pytest.approx(np.arcsin(0.5) / 200, rel=1e-15)
    assert crossing(linear, [-2, 0]) == pytest.approx((np.pi + np.arcsin(0.5)) / 200, rel=1e-15)
    assert crossing(linear, [0.99, 0]) == np.inf
    assert crossing(linear, [0, 1.5]) == pytest.approx((2 * np.pi - np.arccos(1 / 1.5)) / 200, rel=1e-15)


def test_the_search_ends_for_an_oscillation_that_grazes_its_threshold():
    linear = system([[0, -200], [200, 0]])
    assert not np.isnan(crossing(linear, [1.0, 0.0]))  # as high as the threshold, give or take a rounding error
    assert crossing(linear, [1 - 1e-14, 0.0]) == np.inf
    assert abs(crossing(linear, [1 + 1e-14, 0.0]) - np.pi / 400) < 2e-9


def test_oscillations_far_above_their_threshold():
    two = system([[-430, -800, 0, 0], [800, -430, 0, 0], [0, 0, -0.2, -0.03], [0, 0, 0.03, -0.2]], row=[1, 0, 1, 0])
    assert crossing(two, [200, 0, 20, 20], -1e4) == np.inf
    # cos(100 t) - t, a million above its threshold: after 10**8 oscillations it sinks below, and comes back at once.
    ramp = system([[0, -100, 0], [100, 0, 0], [0, 0, 0]], offset=[0, 0, -1], row=[1, 0, 1])
    t = crossing(ramp, [1, 0, 1e6], 0.0)
    assert -1.1 < t - 1e6 < -0.9
    assert abs(mp.cos(100 * mp.mpf(t)) + 1e6 - mp.mpf(t)) < 100 * np.spacing(t)
    assert -100 * mp.sin(100 * mp.mpf(t)) > 1


def test_an_oscillation_that_is_over_long_before_the_threshold_is_reached():
    # A resonator of 100 kHz, over after a millisecond, and a leak of 50 s that takes its time.
    ring = system([[-1e4, -6e5, 0], [6e5, -1e4, 0], [1.0, 0, -0.02]], offset=[0, 0, 0.03])
    t = crossing(ring, [1.0, 1.0, 0.0])
    assert t == pytest.approx(50 * np.log(3), rel=1e-5)
    row = potential_rows(ring)[0]([t])[0, 0]
    assert abs(row @ [1.0, 1.0, 0.0, 1.0] - 1) < 4e-16
    assert crossing(ring, [1.0, 1.0, 0.0], 1.6) == np.inf
    # Into an integrator with hardly any bias: hours until it is there, and an eigenvalue 0.
    drift = system([[-1e4, -6e5, 0], [6e5, -1e4, 0], [1.0, 0, 0]], offset=[0, 0, 1e-4])
    x = float(-6e5 / (1e8 + 3.6e11))  # the integral of the ringing from (0, 1)
    assert crossing(drift, [0, 1.0, 0.5]) == pytest.approx((0.5 - x) / 1e-4, rel=1e-15)


def check_crossings(count, trajectories, seed, loops):
    """No crossing is missed, none is invented, by sampling trajectories whose potential is known to 16 digits.

    Seven thresholds in ten lie at 1e-9 to 1e-1 above or below a sample, most of these the highest one. Returns how
    many trajectories there were and how many crossed.
    """
    finite = total = 0
    scratch = new_scratch()
    for k in range(count):
        rng = np.random.default_rng([seed, k])
        linear = random_system(rng, loops)
        n = len(linear.tau)
        prepared = linear_sets([linear])
        rows, values = potential_rows(linear)
        values = values[abs(values) > 1e-12]
        rates = abs(values.real) if len(values) else np.array([1.0])
        grid = np.concatenate([[0], np.geomspace(1e-3 / max(abs(values), default=1.0), 60 / rates.min(), 100)])
        if np.any(values.imag):
            fastest = np.argmax(abs(values.imag))
            horizon = min(20 / rates[fastest], 100 / abs(values[fastest].imag))
            grid = np.unique(np.concatenate([grid, np.linspace(0, horizon, 200)]))
        x = np.concatenate(
            [rng.normal(size=(n, trajectories)) * 10 ** rng.uniform(-3, 3, (n, 1)), np.ones((1, trajectories))]
        )
        row = rows(grid)[0]
        f = row @ x
        size = (abs(row) @ abs(x)).max(axis=0)
        which = np.where(rng.random(trajectories) < 0.6, f.argmax(axis=0), rng.integers(1, len(grid), trajectories))
        shift = rng.choice([-1, -1, 1], trajectories) * 10 ** rng.uniform(-9, -1, trajectories) * size
        theta = np.where(
            rng.random(trajectories) < 0.7,
            f[which, np.arange(trajectories)] + shift,
            rng.normal(size=trajectories) * size,
        )
        margin = 1e-12 * (size + abs(theta))
        t = np.array(
            [first_crossing(prepared, 0, x[:n, q].copy(), 0, 1, theta[q], scratch) for q in range(trajectories)]
        )
        assert not np.isnan(t).any()
        # Below at some sample and above at a later one: there is a crossing, and no later than there.
        below = np.maximum.accumulate((f < theta - margin) | ((f < theta) & (grid == 0)[:, None]), axis=0)
        above = below & (f > theta + margin)
        latest = np.where(above.any(axis=0), grid[above.argmax(axis=0)], np.inf)
        assert np.all(t <= latest * (1 + 1e-13)), (seed, k)
        # At a reported crossing the potential is at the threshold and rises.
        crossed = np.isfinite(t)
        row, slope_row = rows(t[crossed])
        there = (row * x[:, crossed].T).sum(axis=1) - theta[crossed]
        slope = (slope_row * x[:, crossed].T).sum(axis=1)
        local = (abs(row) * abs(x[:, crossed]).T).sum(axis=1) + abs(theta[crossed])
        # The last part: of a million trajectories none was off by more roundings of the largest value on its way.
        accuracy = 1e-14 * local + 1e-15 * abs(slope) * t[crossed] + 2 * ULP * (size[crossed] + abs(theta[crossed]))
        assert np.all(abs(there) <= accuracy), (seed, k)
        assert np.all(slope * t[crossed] >= -1e-7 * size[crossed]), (seed, k)
        finite += crossed.sum()
        total += trajectories
    return total, finite


@pytest.mark.parametrize("loops", [False, True])
def test_no_crossing_is_missed_or_invented(loops):
    total, finite = check_crossings(8, 30, 10, loops)
    assert 0.2 * total < finite < 0.8 * total


@pytest.mark.slow
@pytest.mark.parametrize("loops", [False, True])
def test_no_crossing_is_missed_or_invented_in_half_a_million_trajectories(loops):
    check_crossings(500, 500, 11, loops)  # each with `loops` or without


def check_times(count, seed, loops):
    """Crossing times against the root found with 40 digits."""
    rng = np.random.default_rng(seed)
    found = 0
    while found < count:
        linear = random_system(rng, loops)
        n = len(linear.tau)
        rows, _ = potential_rows(linear)
        prepared, scratch = linear_sets([linear]), new_scratch()
        for _ in range(10):
            x = rng.normal(size=n) * 10 ** rng.uniform(-1, 1, n)
            theta = float(linear.row @ x + 10 ** rng.uniform(-3, 0) * abs(linear.row @ x))
            t = first_crossing(prepared, 0, x.copy(), 0, 1, theta, scratch)
            if not np.isfinite(t):
                continue
            row, slope_row = rows([t])[:, 0]
            slope, size = slope_row @ [*x, 1], abs(row) @ abs(np.append(x, 1)) + abs(theta)
            if slope * t < 1e-6 * size:
                continue  # grazing: tested by the value above
            full, begin = augmented(linear), np.array([*map(Decimal, map(float, x)), Decimal(1)])
            c = np.array([*map(Decimal, map(float, linear.row)), Decimal(0)])
            root = Decimal(t)
            for _ in range(3):  # Newton from there, with the exact matrix exponential
                state = exponential(full, root) @ begin
                root -= (c @ state - Decimal(theta)) / (c @ full @ state)
            assert abs(root - Decimal(t)) <= 4 * ULP * (t + 4 * size / slope), (linear, x, theta)
            found += 1


@pytest.mark.parametrize("loops", [False, True])
def test_crossing_times_to_the_last_bits(loops):
    check_times(15, 20, loops)


@pytest.mark.slow
@pytest.mark.parametrize("loops", [False, True])
def test_a_thousand_crossing_times_to_the_last_bits(loops):
    check_times(1000, 21, loops)


# ---- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: linear_sets([system([[0.5]])]), "must not grow: the eigenvalue 0.5"),
        (
            lambda: linear_sets([system([[0, 3, 0], [-3, 0, 0], [0, 0, -1.0]]), system([[0, 1], [1, 0]])]),
            "must not grow",
        ),
        (
            lambda: linear_sets([system([[0, 1, 0, 0], [-1, 0, 0, 0], [1, 0, 0, 1], [0, 0, -1, 0]])]),
            "undamped oscillations in resonance",
        ),
        (
            lambda: linear_sets([system([[-1, 1, 0, 0], [-1, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]])]),
            "an oscillation and two eigenvalues 0",
        ),
        (
            lambda: linear_sets([system([[-1, 1e6, 0, 0], [-1e6, -1, 0, 0], [1, 0, -1, 1], [0, 0, -1, -1]])]),
            "one much faster or hardly damped",
        ),
        (lambda: system(-np.eye(5)), "1 to 4 states"),
        (lambda: system([[np.nan]]), "LinearSystem.matrix must be finite"),
        (lambda: system([[-1]], tau=[0.0]), "LinearSystem.tau must be > 0 seconds"),
        (lambda: system([[-1]], row=[1.0, 2.0]), r"LinearSystem.row must have \(1,\)"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(make, message):
    with pytest.raises(InputError, match=message):
        make()
