"""Neurons with 5 to 8 states on the device event_driven."""

from decimal import Decimal

import brian2
import numpy as np
import pytest
from brian2 import ms, second
from scipy.linalg import expm
from scipy.optimize import brentq

from tests.lazy_series import exp, spikes


@pytest.fixture(autouse=True)
def _device(event_driven):
    """See conftest."""


def trains(cells, duration, *others):
    """Spike times of every neuron in ms, and the monitor."""
    monitor = brian2.SpikeMonitor(cells, variables="v")
    brian2.Network(cells, monitor, *others).run(duration * ms)
    return [np.array(t / second) * 1000 for t in monitor.spike_trains().values()], monitor


def driven(cells, times, statement):
    """A source that fires at these times in ms, and synapses from it to all cells."""
    source = brian2.SpikeGeneratorGroup(1, [0] * len(times), times * ms)
    wires = brian2.Synapses(source, cells, on_pre=statement)
    wires.connect()
    return source, wires


@pytest.mark.parametrize("n", [5, 6, 7, 8])
def test_a_chain_of_filters(n):
    """Linear states with time constants n, n - 1, .. ms: the matrix exponential and a root finder find the crossing."""
    equations = [f"dx{k}/dt = (x{k + 1} - x{k})/({n - k}*ms) : 1" for k in range(1, n - 1)]
    model = [f"dv/dt = (x1 - v)/({n}*ms) : 1", *equations, f"dx{n - 1}/dt = (5 - x{n - 1})/ms : 1"]
    cells = brian2.NeuronGroup(1, "\n".join(model), threshold="v > 1", reset="v = 0")
    (found,), _ = trains(cells, 60)
    matrix = np.diag([-1 / (n - k) for k in range(n)]) + np.diag([1 / (n - k) for k in range(n - 1)], 1)
    limit, x, t, expected = np.full(n, 5.0), np.zeros(n), 0.0, []

    def later(s):
        return limit + expm(matrix * s) @ (x - limit)

    while later(60 - t)[0] > 1:
        s = brentq(lambda s: later(s)[0] - 1, 0, 60 - t, xtol=1e-15)
        t, x = t + s, later(s)
        x[0] = 0
        expected.append(t)
    assert len(expected) >= 2
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_oscillations_of_6_states():
    """Three independent pairs, sin and cos; v sums them through a threshold on three states."""
    model = "\n".join(f"dx{k}/dt = {k}*y{k}/ms : 1\ndy{k}/dt = -{k}*x{k}/ms : 1" for k in (1, 2, 3))
    cells = brian2.NeuronGroup(1, f"{model}", threshold="x1 + x2 + x3 > 1.5", refractory="x1 + x2 + x3 > 1.5")
    cells.y1 = cells.y2 = cells.y3 = 1
    monitor = brian2.SpikeMonitor(cells)
    brian2.Network(cells, monitor).run(20 * ms)

    def f(t):
        return np.sin(t) + np.sin(2 * t) + np.sin(3 * t) - 1.5

    grid = np.linspace(0, 20, 20_001)
    rises = np.flatnonzero((f(grid[:-1]) < 0) & (f(grid[1:]) >= 0))
    expected = [brentq(f, grid[k], grid[k + 1], xtol=1e-15) for k in rises]
    assert len(expected) == 4
    np.testing.assert_allclose(monitor.t / ms, expected, rtol=1e-13)


COBAHH = """dv/dt = (0.1*(3 - v) + ge*(63 - v) + gi*(-17 - v) - 100*(m*m*m)*h*(v - 113) - 30*(n*n*n*n)*(v + 27))/ms : 1
    dm/dt = (0.32*4/exprel((13 - v)/4)*(1 - m) - 0.28*5/exprel((v - 40)/5)*m)/ms : 1
    dn/dt = (0.032*5/exprel((15 - v)/5)*(1 - n) - 0.5*exp((10 - v)/40)*n)/ms : 1
    dh/dt = (0.128*exp((17 - v)/18)*(1 - h) - 4/(1 + exp((40 - v)/5))*h)/ms : 1
    dge/dt = -ge/(5*ms) : 1
    dgi/dt = -gi/(10*ms) : 1"""


def cells_of(size=1):
    """Neurons of Brian2's example COBAHH; potentials from -63 mV in mV, conductances by that of the leak times 10."""
    cells = brian2.NeuronGroup(size, COBAHH, threshold="v > 43", refractory=3 * ms)
    cells.h = 0.9
    return cells


ARRIVALS = [(1.0, 4, "0.5"), (2.25, 5, "0.75"), (7.5, 4, "0.75"), (9.0, 4, "0.5"), (14.125, 4, "1")]


def test_hodgkin_and_huxley_with_conductances_in_40_digits():
    cells = cells_of()
    parts = [driven(cells, [t], f"{'ge' if p == 4 else 'gi'}_post += {jump}") for t, p, jump in ARRIVALS]
    (found,), _ = trains(cells, 25, *(part for pair in parts for part in pair))

    def right(v, m, n, h, ge, gi):
        a, b, c = (x / (exp(x / k) - 1) for x, k in ((13 - v, 4), (v - 40, 5), (15 - v, 5)))
        ionic = 100 * (m * m * m) * h * (v - 113) + 30 * (n * n * n * n) * (v + 27)
        return (
            (3 - v) / 10 + ge * (63 - v) + gi * (-17 - v) - ionic,
            Decimal("0.32") * a * (1 - m) - Decimal("0.28") * b * m,
            Decimal("0.032") * c * (1 - n) - exp((10 - v) / 40) * n / 2,
            Decimal("0.128") * exp((17 - v) / 18) * (1 - h) - 4 / (1 + exp((40 - v) / 5)) * h,
            -ge / 5,
            -gi / 10,
        )

    start = (0, 0, 0, Decimal("0.9"), 0, 0)
    arrivals = [(Decimal(t), p, Decimal(jump)) for t, p, jump in ARRIVALS]
    expected = spikes(right, start, 43, lambda *x: x, 25, arrivals, held=right, refractory=3)
    assert len(expected) >= 2
    np.testing.assert_allclose(found / 1000, np.array(expected) / 1000, rtol=0, atol=1e-14)


def test_alone_or_among_others_of_fewer_states():
    """The network has room for 8 states then, and other neurons in its vectors."""
    cells, times = cells_of(5), np.arange(1, 30, 1.5)
    cells.v = [0, 1, 2, 3, 4]
    others = brian2.NeuronGroup(3, "dv/dt = (1 + v**2)/ms : 1", threshold="v > 10", reset="v = -1")
    monitor = brian2.SpikeMonitor(others)
    together, _ = trains(cells, 30, others, monitor, *driven(cells, times, "ge_post += 0.2*(1 + j)"))
    assert min(map(len, together)) > 0
    for k in (0, 4):
        one = cells_of()
        one.v = k
        (alone,), _ = trains(one, 30, *driven(one, times, f"ge_post += 0.2*(1 + {k})"))
        assert np.array_equal(alone, together[k])
    alone = brian2.NeuronGroup(1, "dv/dt = (1 + v**2)/ms : 1", threshold="v > 10", reset="v = -1")
    (train,), _ = trains(alone, 30)
    assert np.array_equal(train, monitor.t[monitor.i == 1] / second * 1000)
