"""Series of several neurons at once, and what spares the search for crossings: nothing of it changes a bit."""

import brian2
import mpmath
import numpy as np
import pytest
from brian2 import ms, second

from mtt_brian.engines.exact import equation_neurons
from mtt_brian.engines.exact.equation_neurons import _HEAD, BASE, RATE, ROW
from mtt_brian.engines.exact.jit import kernel
from mtt_brian.engines.exact.taylor import LENGTH, ORDER, F, SeriesSystem, X, expand, taylor_rule
from mtt_brian.engines.exact.vectors import LANES
from mtt_brian.neuron.equation_neuron import PRODUCT, Operation


@pytest.fixture(autouse=True)
def _device(event_driven):
    """See conftest."""


def trains(*groups, duration, others=()):
    """Spikes of every group, one array of times per neuron."""
    monitors = [brian2.SpikeMonitor(group) for group in groups]
    brian2.Network(*groups, *monitors, *others).run(duration)
    return [[np.array(t / second) for t in monitor.spike_trains().values()] for monitor in monitors]


# ----- cells


@kernel
def compute(rule, lanes):
    return expand(rule, lanes, 1)


def products_of(factors):
    return tuple(Operation(PRODUCT, *pair) for pair in factors)


def random_system(rng, states, products):
    """A set whose solutions oscillate, grow or decay within milliseconds, and its factors."""
    factors = [sorted(rng.integers(0, states + k, 2).tolist()) for k in range(products)]
    right = rng.normal(0, 200, (states, states + 1 + products)) * (rng.random((states, states + 1 + products)) < 0.7)
    row = np.eye(states)[0]
    return SeriesSystem(right, right != 0, products_of(factors), row, -0.5)


def in_40_digits(system, x, t):
    """The states after ``t`` seconds, by steps of order 40."""
    with mpmath.workdps(40):
        right = mpmath.matrix(system.right.tolist())
        n, steps = len(system.row), 8
        h, x = mpmath.mpf(float(t)) / steps, [mpmath.mpf(float(one)) for one in x]
        for _ in range(steps):
            series = [[one] for one in x] + [[] for _ in system.operations]
            for k in range(40):
                for p, (_, left, other) in enumerate(system.operations):
                    series[n + p].append(sum(series[left][j] * series[other][k - j] for j in range(k + 1)))
                ones = [*(series[q][k] for q in range(n)), mpmath.mpf(k == 0), *(z[k] for z in series[n:])]
                for q in range(n):
                    series[q].append(sum(right[q, c] * one for c, one in enumerate(ones)) / (k + 1))
            x = [sum(c * h**k for k, c in enumerate(series[q])) for q in range(n)]
        return np.array([float(one) for one in x])


@pytest.mark.parametrize("seed", range(9))
def test_a_cell_is_exact_and_does_not_depend_on_the_other_lanes(seed):
    rng = np.random.default_rng(seed)
    states, products = int(rng.integers(1, 5)) if seed < 6 else seed - 1, int(rng.integers(1, 5))
    system = random_system(rng, states, products)
    rule = taylor_rule([system], 0, LANES, 4 if states <= 4 else 8)
    begin = rng.normal(0, 1, (LANES, states)) * 10.0 ** rng.integers(-3, 2, (LANES, 1))
    begin[0] = 0.0
    rule.cells[:LANES, X : X + states, 0] = begin
    rule.lane[0] = range(LANES)
    compute(rule, LANES)
    together, lengths = rule.cells[:LANES].copy(), rule.own[LENGTH].copy()
    assert np.all(lengths > 0)
    rule.cells[:LANES, :, 1:] = 0.0
    for lane in rng.permutation(LANES):
        rule.lane[0, 0] = lane
        assert compute(rule, 1) == lengths[lane]
    assert np.array_equal(rule.cells[:LANES], together)
    for lane in range(0, LANES, 5):
        expected, found = in_40_digits(system, begin[lane], lengths[lane]), together[lane, X : X + states].sum(axis=1)
        size = np.abs(together[lane, X : X + states]).max(axis=1)
        assert np.all(
            np.abs(found - expected) <= 1e-14 * np.maximum(size, np.abs(together[lane, X : X + states]).max() / 100)
        )
        f = together[lane, F]
        np.testing.assert_allclose(f[1:], together[lane, X, 1:], rtol=0, atol=0)
        assert f[0] == together[lane, X, 0] - 0.5


def test_lanes_of_states_that_overflow_do_not_disturb_the_others():
    """dv/dt = v^2 / ms from 1e200, between lanes from 0.5."""
    system = SeriesSystem(np.array([[0, 0, 1e3]]), np.array([[False, False, True]]), products_of([[0, 0]]), [1.0], -1.0)
    rule = taylor_rule([system], 0, 3, 4)
    rule.cells[:3, X, 0] = 0.5, 1e200, 0.5
    rule.lane[0, :3] = range(3)
    compute(rule, 3)
    assert rule.own[LENGTH, 0] == rule.own[LENGTH, 2] > 0
    assert rule.own[LENGTH, 1] < 1e-200
    k = np.arange(ORDER + 1)
    expected = 0.5 * (0.5e3 * rule.own[LENGTH, 0]) ** k  # v = 1 / (2 - t)
    np.testing.assert_allclose(rule.cells[[0, 2], X], [expected, expected], rtol=1e-13)


# ----- networks


IZHIKEVICH = "dv/dt = (0.04*v**2 + 5*v + 140 - u + I)/ms : 1\ndu/dt = a*(0.2*v - u)/ms : 1\nI : 1\na : 1"
QUADRATIC = "dv/dt = (v**2 + I)/ms : 1\nI : 1"


def quiet(neurons):
    """Some of 40 Izhikevich and 20 quadratic neurons without input, each with other parameters."""
    first = brian2.NeuronGroup(len(neurons[0]), IZHIKEVICH, threshold="v > 30", reset="v = -65; u = u + 8")
    first.v, first.u = -65, -13
    first.I, first.a = np.linspace(3, 15, 40)[neurons[0]], np.linspace(0.02, 0.1, 40)[neurons[0]]
    second = brian2.NeuronGroup(len(neurons[1]), QUADRATIC, threshold="v > 10", reset="v = -5", refractory=0.3 * ms)
    second.v, second.I = -5, np.linspace(-0.1, 3, 20)[neurons[1]]
    return first, second


def test_a_neuron_among_others_has_the_bits_of_the_neuron_alone():
    together = trains(*quiet([np.arange(40), np.arange(20)]), duration=150 * ms)
    assert min(sum(map(len, group)) for group in together) > 100
    for k in (0, 11, 19):
        alone = trains(*quiet([[2 * k], [k]]), duration=150 * ms)
        assert np.array_equal(alone[0][0], together[0][2 * k])
        assert np.array_equal(alone[1][0], together[1][k])


SYNAPSES = """dv/dt = (ge*(0 - v) + gi*(-80 - v) + (El - v)) / (20*ms) : 1 (unless refractory)
dge/dt = -ge / (5*ms) : 1
dgi/dt = -gi / (10*ms) : 1
El : 1"""


def balanced():
    """60 neurons with conductances, excited and inhibited at random, some by negative conductances; two per target."""
    rng = np.random.default_rng(3)
    cells = brian2.NeuronGroup(60, SYNAPSES, threshold="v > -50", reset="v = -60", refractory=2 * ms)
    cells.v, cells.El = rng.choice([-80, -60, -55, -50.5], 60), rng.choice([-80, -60, -51, -45], 60)
    others = []
    for code, count in (("ge += 0.3", 4), ("gi += 1.5", 4), ("gi -= 0.4", 1), ("ge += 0.05", 0)):
        origin = cells
        if count > 0:
            when = np.sort(rng.uniform(0, 200, 160 * count)) * ms
            origin = brian2.SpikeGeneratorGroup(count, rng.integers(0, count, len(when)), when)
            others.append(origin)
        wires = brian2.Synapses(origin, cells, on_pre=code)
        pre, post = np.nonzero(rng.random((len(origin), 60)) < 0.3)
        wires.connect(i=np.repeat(pre, 2), j=np.repeat(post, 2))
        others.append(wires)
    return trains(cells, duration=200 * ms, others=others)[0]


def test_a_barrier_changes_no_bit(monkeypatch):
    kept, found = equation_neurons._barrier, []

    def barrier(*arguments):
        found.append(kept(*arguments))
        return found[-1]

    monkeypatch.setattr(equation_neurons, "_barrier", barrier)
    with_barrier = balanced()
    assert len(found) > 0
    assert all(one is not None for one in found)
    monkeypatch.setattr(equation_neurons, "_barrier", lambda *_: None)
    without = balanced()
    assert sum(map(len, without)) > 300
    assert all(np.array_equal(a, b) for a, b in zip(with_barrier, without, strict=True))


# ----- the barrier


CONDUCTANCES = ((0, 1), (0, 2))


def barrier(matrix=None, offset=None, product=None, factors=CONDUCTANCES, row=(2, 0, 0), base=100.0):
    """That of ``dv/dt = (ge (0 - v) + gi (-80 - v) - 60 - v) / 20`` with the threshold -50."""
    matrix = np.array([[-1 / 20, 0, -4], [0, -1 / 5, 0], [0, 0, -1 / 10]]) if matrix is None else matrix
    offset = np.array([-3.0, 0, 0]) if offset is None else offset
    product = np.array([[-1 / 20, -1 / 20], [0, 0], [0, 0]]) if product is None else product
    return equation_neurons._barrier(matrix, offset, product, products_of(factors), np.array(row, float), base, 4)


def test_a_barrier_is_the_slope_at_the_threshold():
    """There dv/dt = (50 ge - 30 gi - 10) / 20; the condition is 2 (v + 50) > 0."""
    found = barrier()
    rows = found[_HEAD:].reshape(-1, 4)
    np.testing.assert_allclose(rows[ROW], [0, 5, -3, 0], rtol=1e-14)
    np.testing.assert_allclose(rows[RATE], [0, -1 / 5, -1 / 10, 0])
    np.testing.assert_allclose(found[BASE], -1, rtol=1e-14)


@pytest.mark.parametrize(
    "changed",
    [
        {"row": (1, 1, 0)},  # not a threshold of v alone
        {"base": -np.inf},  # no threshold
        {"offset": np.array([-3.0, 0.1, 0])},  # ge does not decay to 0
        {"factors": ((0, 1), (1, 2))},  # ge gi in dv/dt
        {"product": np.array([[-0.05, -0.05], [0, 0.1], [0, 0]])},  # gi v in dge/dt
        {"matrix": np.array([[-0.05, 0, -4], [0.1, -0.2, 0], [0, 0, -0.1]])},  # v in dge/dt
        {"matrix": np.array([[-0.05, 0, -4], [0, 0.2, 0], [0, 0, -0.1]])},  # ge grows
    ],
)
def test_other_equations_have_no_barrier(changed):
    assert barrier(**changed) is None


def test_a_membrane_that_inhibition_holds_back_fires_when_it_has_decayed():
    """The drive is above the threshold; by quadrature in 30 digits, for weak to strong inhibition."""
    strengths = [0, 1e-9, 0.5, 3, 40, 900]
    cells = brian2.NeuronGroup(6, SYNAPSES, threshold="v > -50", reset="v = -1000")
    cells.v, cells.El, cells.gi = -60, -45, strengths
    with mpmath.workdps(30):
        for found, g in zip(trains(cells, duration=150 * ms)[0], strengths, strict=True):
            # In ms; the factor is exp of the integral of (1 + gi) / 20.
            exponent = lambda s, g=g: s / 20 - mpmath.mpf(g) / 2 * mpmath.exp(-s / 10)  # noqa: E731

            def distance(t, exponent=exponent, g=g):
                def part(s):
                    return mpmath.exp(exponent(s) - exponent(t)) * (-80 * g * mpmath.exp(-s / 10) - 45) / 20

                pieces = [0, *(t * k / 8 for k in range(1, 9))]
                return mpmath.exp(exponent(mpmath.mpf(0)) - exponent(t)) * -60 + mpmath.quad(part, pieces) + 50

            t = mpmath.mpf(float(found[0])) * 1000
            slope = (distance(t + mpmath.mpf("1e-12")) - distance(t)) / mpmath.mpf("1e-12")
            assert abs(distance(t) / slope) < 1e-13 * t


def test_short_and_long_intervals_between_jumps_of_stiff_conductances():
    """From a nanosecond to a second, jumps up to 300 times the leak; against steps of order 40 in 40 digits."""
    rng = np.random.default_rng(8)
    at = np.cumsum(rng.permutation([1e-9, 1e-9, 1e-6, 1e-4, 1e-4, 2e-3, 2e-3, 5e-3, 0.05, 1.0]))
    jumps = rng.choice([0.0, 0.1, 5, 300], (len(at), 2))
    cell = brian2.NeuronGroup(1, SYNAPSES.replace("(unless refractory)", ""), threshold="v > 1")
    cell.v = cell.El = -60
    parts = [cell]
    for name, weights in zip(("ge", "gi"), jumps.T, strict=True):
        source = brian2.SpikeGeneratorGroup(len(at), np.arange(len(at)), at * second)
        wires = brian2.Synapses(source, cell, "w : 1", on_pre=f"{name} += w")
        wires.connect()
        wires.w = weights
        parts += [source, wires]
    brian2.Network(*parts).run((at[-1] + 3e-3) * second)
    system = SeriesSystem(
        np.array([[-50, 0, -4000, -3000, -50, -50], [0, -200, 0, 0, 0, 0], [0, 0, -100, 0, 0, 0]]),
        None,
        products_of(CONDUCTANCES),
        np.array([1.0, 0, 0]),
        0.0,
    )
    x, t = np.array([-60.0, 0, 0]), 0.0
    for time, jump in [*zip(at, jumps, strict=True), (at[-1] + 3e-3, np.zeros(2))]:
        while t < time:
            step = min(time - t, 8.0 / (50 * (1 + x[1] + x[2])))
            x, t = in_40_digits(system, x, step), (time if step == time - t else t + step)
        x[1:] += jump
    np.testing.assert_allclose([cell.v[0], cell.ge[0], cell.gi[0]], x, rtol=1e-13)
