"""Equations with products of states on the device event_driven: closed forms, quadrature in 30 digits, grazing."""

import math

import brian2
import mpmath
import numpy as np
import pytest
from brian2 import ms, second

import mtt_brian.event_driven
from mtt_brian.circuit.model import Circuit, Population
from mtt_brian.engines.exact.equation_neurons import LAST
from mtt_brian.engines.exact.equation_run import EquationRun
from mtt_brian.engines.exact.taylor import SPAN
from mtt_brian.errors import InputError
from mtt_brian.neuron import EquationNeuron
from mtt_brian.neuron.equation_neuron import PRODUCT, Operation, Systems

CONDUCTANCE = "dv/dt = (g*(E - v) - v) / (10*ms) : 1\ndg/dt = -g / (4*ms) : 1\nE : 1 (constant)"


@pytest.fixture(autouse=True)
def _device(event_driven):
    """See conftest."""


def spikes_of(group, duration, *others):
    monitor = brian2.SpikeMonitor(group)
    brian2.Network(group, monitor, *others).run(duration)
    return monitor


def times(equation, start, threshold, reset, duration=30, **parameters):
    """Spike times in ms of a neuron with one state."""
    names = "".join(f"\n{name} : 1" for name in parameters)
    group = brian2.NeuronGroup(1, f"dv/dt = {equation}/ms : 1{names}", threshold=f"v > {threshold}", reset=reset)
    group.v = start
    for name, value in parameters.items():
        setattr(group, name, value)
    return spikes_of(group, duration * ms).t / ms


# ----- numbers on paper


@pytest.mark.parametrize("current", [0.25, 1.0, 40.0])
def test_a_quadratic_neuron_fires_after_the_arctangent(current):
    """dv/dt = v^2 + I from -5 to 10: v = sqrt(I) tan(sqrt(I) t + c)."""
    root = math.sqrt(current)
    period = (math.atan(10 / root) + math.atan(5 / root)) / root
    found = times("(v**2 + I)", -5, 10, "v = -5", I=current)
    np.testing.assert_allclose(found, period * np.arange(1, len(found) + 1), rtol=3e-14)
    assert len(found) == int(30 / period)


@pytest.mark.parametrize(
    ("equation", "start", "threshold", "expected"),
    [
        ("v*(1 - v)", 0.01, 0.99, 2 * math.log(99)),  # logistic
        ("v**3", 0.5, 10, (4 - 0.01) / 2),
        ("-(v - 2)*(v + 3)", 0, 1, math.log(8 / 3) / 5),
        ("v**2.0", 0.25, 4, 4 - 0.25),
        # From 0 most coefficients are 0: those of degree 1, 1 + d, 1 + 2 d, ..
        *((f"(1 + v**{d})", 0, 2, mpmath.quad(lambda v, d=d: 1 / (1 + v**d), [0, 1, 2])) for d in (3, 4, 5, 6)),
    ],
)
def test_the_time_of_one_state_is_an_integral(equation, start, threshold, expected):
    found = times(equation, start, threshold, f"v = {start}", duration=float(expected) + 0.01)
    np.testing.assert_allclose(found, [float(expected)], rtol=2e-14)


def test_a_conductance_that_is_constant_is_a_linear_neuron():
    """Spikes change g, so it is a state; as a parameter of its own it is none."""
    equation = "dv/dt = (g*(3 - v) - v) / (10*ms) : 1\ng : 1"
    curved, linear = (
        brian2.NeuronGroup(3, equation, threshold="v > 1", reset=f"v = 0{more}", refractory=1 * ms)
        for more in ("; g = 1*g", "")
    )
    curved.g = linear.g = [0.6, 1, 2.5]
    found, expected = spikes_of(curved, 50 * ms), spikes_of(linear, 50 * ms)
    assert len(found.t) > 20
    assert np.array_equal(found.i, expected.i)
    np.testing.assert_allclose(found.t / ms, expected.t / ms, rtol=1e-13)


# ----- a conductance that decays, by quadrature


def membrane(t, g=3, E=4):
    """v(t) in ms from v = 0, with g exp(-t / 4) and a membrane of 10 ms, by the integrating factor."""
    t = mpmath.mpf(t)

    def factor(s):
        return mpmath.exp(s / 10 - g * mpmath.mpf("0.4") * mpmath.exp(-s / 4))

    return mpmath.quad(lambda s: factor(s) * g * mpmath.exp(-s / 4) * E / 10, [0, t / 2, t]) / factor(t)


def test_a_conductance_that_decays():
    with mpmath.workdps(30):
        group = brian2.NeuronGroup(1, CONDUCTANCE, threshold="v > 1", reset="v = -50")
        group.g, group.E = 3, 4
        watch = brian2.StateMonitor(group, ["v", "g"], record=True, dt=0.25 * ms)
        monitor = brian2.SpikeMonitor(group, variables=["v", "g"])
        brian2.Network(group, watch, monitor).run(3 * ms)
        first = mpmath.findroot(lambda t: membrane(t) - 1, (0.5, 2), solver="anderson")
        assert abs(monitor.t[0] / ms - float(first)) < 1e-14
        assert abs(monitor.v[0] - 1) < 1e-15
        assert abs(monitor.g[0] - float(3 * mpmath.exp(-first / 4))) < 1e-15
        before = watch.t / ms < float(first)
        expected = [float(membrane(float(t))) if t else 0.0 for t in watch.t[before] / ms]
        np.testing.assert_allclose(watch.v[0, before], expected, atol=1e-15, rtol=1e-14)


def test_a_hump_within_a_cell_that_touches_or_misses_the_threshold():
    """v of `membrane` has one top; the threshold lies around it."""
    with mpmath.workdps(30):
        top = mpmath.findroot(lambda t: mpmath.diff(membrane, t), 5)
        most = membrane(top)
        bend = mpmath.diff(membrane, top, 2)
        for distance, fires in ((1e-3, True), (1e-9, True), (1e-12, True), (-1e-12, False), (-1e-9, False)):
            theta = float(most) - distance
            group = brian2.NeuronGroup(1, CONDUCTANCE, threshold=f"v > {theta!r}", reset="v = -50")
            group.g, group.E = 3, 4
            found = spikes_of(group, 40 * ms).t / ms
            assert len(found) == fires
            if distance == 1e-9:
                before = mpmath.sqrt(-2 * (most - theta) / bend)
                assert abs(found[0] - float(top - before)) < 1e-8
            elif fires:
                assert 0 < float(top) - found[0] < 5 * math.sqrt(distance / float(-bend))


def test_arrivals_in_several_rounds_of_one_instant():
    """One neuron gets 1 and, through another neuron, 2 more at the same instant; the other neuron gets 3 at once."""
    source = brian2.SpikeGeneratorGroup(1, [0], [1] * ms)
    relay = brian2.NeuronGroup(1, "v : 1", threshold="v > 1", reset="v = 0")
    cells = brian2.NeuronGroup(2, CONDUCTANCE, threshold="v > 1", reset="v = 0")
    cells.E = 4
    ways = []
    for origin, target, code, j in (
        (source, relay, "v += 2", 0),
        (source, cells, "g += 1", 0),
        (relay, cells, "g += 2", 0),
        (source, cells, "g += 3", 1),
    ):
        ways.append(brian2.Synapses(origin, target, on_pre=code))
        ways[-1].connect(i=0, j=j)
    found = spikes_of(cells, 10 * ms, source, relay, *ways).spike_trains()
    assert len(found[0]) > 0
    assert np.array_equal(found[0], found[1])


def test_an_orbit_returns():
    """dx/dt = x - x y, dy/dt = x y - y (Lotka and Volterra): x + y - log(x y) is constant."""
    lotka = brian2.NeuronGroup(1, "dx/dt = (x - x*y)/ms : 1\ndy/dt = (x*y - y)/ms : 1")
    lotka.x, lotka.y = 0.5, 0.5
    watch = brian2.StateMonitor(lotka, ["x", "y"], record=True, dt=0.5 * ms)
    brian2.Network(lotka, watch).run(100 * ms)
    x, y = watch.x[0], watch.y[0]
    assert x.max() > 1.8
    np.testing.assert_allclose(x + y - np.log(x * y), 1 - math.log(0.25), atol=2e-13)


# ----- pieces of a run


def network(monitored):
    """Neurons with conductances that excite and inhibit each other, with and without delays, and inputs."""
    rng = np.random.default_rng(5)
    model = """dv/dt = (ge*(4 - v) + gi*(-1 - v) + drive - v) / (10*ms) : 1 (unless refractory)
    dge/dt = -ge / (3*ms) : 1
    dgi/dt = -gi / (6*ms) : 1
    drive : 1"""
    cells = brian2.NeuronGroup(12, model, threshold="v > 1", reset="v = 0; ge += 0.01", refractory=2 * ms)
    cells.drive, cells.v = rng.uniform(0.6, 1.4, 12), rng.uniform(0, 0.9, 12)
    source = brian2.SpikeGeneratorGroup(4, rng.integers(0, 4, 200), np.sort(rng.uniform(0, 100, 200)) * ms)
    parts = [cells, source]
    for origin, code in ((source, "ge += 0.2"), (cells[:9], "ge += 0.1"), (cells[9:], "gi += 0.3")):
        wires = brian2.Synapses(origin, cells, on_pre=code)
        pre, post = np.nonzero(rng.random((len(origin), 12)) < 0.4)
        wires.connect(i=pre, j=post)
        wires.delay = rng.uniform(0, 4, len(wires)) * ms if origin is not source else 0 * ms
        parts.append(wires)
    monitor = brian2.SpikeMonitor(cells, variables=["v", "ge", "gi"])
    watch = brian2.StateMonitor(cells, ["v", "ge"], record=True, dt=0.13 * ms)
    return brian2.Network(*parts, monitor, *([watch] if monitored else [])), monitor, cells, watch


def trace(monitored, *durations, stored=False):
    brian2.seed(1)
    net, monitor, cells, watch = network(monitored)
    for duration in durations:
        if stored:
            net.store()
            net.run(7 * ms)
            net.restore()
        net.run(duration * ms)
    values = monitor.t_, monitor.i, monitor.v, monitor.ge, monitor.gi, cells.v, cells.gi
    return [np.array(each[:]) for each in values], watch  # views would end with the network


@pytest.mark.parametrize("monitored", [False, True])
def test_several_runs_give_the_bits_of_one(monitored):
    one, _ = trace(False, 100)
    assert len(one[0]) > 50
    several, watch = trace(monitored, 20, 0.1, 13.07, 1e-9, 6.83, 60 - 1e-9)
    assert all(np.array_equal(a, b) for a, b in zip(one, several, strict=True))
    if monitored:
        kept, other = trace(True, 33, 67)
        assert all(np.array_equal(a, b) for a, b in zip(one, kept, strict=True))
        assert np.array_equal(watch.v, other.v)


def test_store_and_restore_give_the_bits_of_one_run():
    one, _ = trace(False, 40)
    stored, _ = trace(False, 25, 15, stored=True)
    assert all(np.array_equal(a, b) for a, b in zip(one, stored, strict=True))


def test_a_run_of_a_circuit_goes_back_to_a_kept_state():
    """In the middle of cells, which are those of a later time then."""
    one = np.ones((1, 1))
    reset = np.array([[[0.0, -5.0]]])
    none = np.zeros((1, 0, 3))
    systems = Systems(
        0 * one[None], 1e3 * one, one, 10 * one[0], reset, 0 * one[0], 1e3 * one[None], none, 0 * one, 0 * one[0]
    )
    square = Operation(PRODUCT, 0, 0)
    rule = EquationNeuron(systems=systems, system=np.zeros(3, int), states=("v",), held=(False,), operations=(square,))
    run = EquationRun(Circuit("in", (1,), (Population("cells", (3,), rule),), (), "cells"))
    run.start("cells", np.arange(3), np.array([[-5.0], [-3.0], [0.5]]), np.full(3, -1.0), 0.0)
    run.predict_crossings()
    nothing = np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)
    run.advance(*nothing, 0.0037)
    run.fetch()
    kept, found = run.keep(), []
    for _ in range(2):
        run.advance(*nothing, 0.0291)
        found.append(run.fetch()["cells"])
        run.restore(kept)
    assert len(found[0].t) > 20
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_cells_end_at_the_end_of_a_run():
    """Runs that end where a cell does, up to one unit in the last place."""
    whole, steps = [], []
    for runs in (whole, steps):
        group = brian2.NeuronGroup(1, "dv/dt = (v**2 + 1)/ms : 1", threshold="v > 10", reset="v = -5")
        monitor = brian2.SpikeMonitor(group)
        net = brian2.Network(group, monitor)
        if runs is whole:
            net.run(6 * ms)
        else:
            for k in range(24):
                engine = None if k == 0 else mtt_brian.event_driven.device._sessions[net].run
                at = float(net.t_) if k == 0 else engine._equations.y[0, LAST] + engine._taylor.span[0, SPAN]
                net.run(max(at - float(net.t_), 1e-5) * second)
            net.run(6 * ms - net.t)
        runs += monitor.t_[:].tolist()
    assert whole == steps
    assert len(whole) >= 1


# ----- refusals


def test_states_that_grow_without_bound():
    """dv/dt = v^2 from 1 ends at 1 ms."""
    group = brian2.NeuronGroup(2, "dv/dt = v**2/ms : 1", name="cells")
    group.v = [0, 1]
    net = brian2.Network(group)
    with pytest.raises(InputError, match=r"neuron 1 of 'cells' has states that grow without bound at 0\.001 s; give"):
        net.run(2 * ms)
    assert group.v[1] == 1
    group.v = [0, 0.4]
    net.run(2 * ms)
    np.testing.assert_allclose(group.v, [0, 2], rtol=1e-14)
    other = brian2.NeuronGroup(1, "dv/dt = v**2/ms : 1\ndu/dt = -u/ms : 1", threshold="u > 1", reset="u = 0", name="o")
    other.v = 1
    with pytest.raises(InputError, match=r"neuron 0 of 'o' has states that grow without bound at 0\.001 s"):
        brian2.Network(other).run(2 * ms)


@pytest.mark.slow
def test_an_orbit_of_some_picoseconds_does_not_run_for_hours():
    model = "dx/dt = (x - x*y) / (1e-12*second) : 1\ndy/dt = (x*y - y) / (1e-12*second) : 1"
    group = brian2.NeuronGroup(1, model, name="orbit")
    group.x = group.y = 0.5
    with pytest.raises(InputError, match=r"neuron 0 of 'orbit' changes too fast at .* s for the time"):
        brian2.Network(group).run(1 * ms)
