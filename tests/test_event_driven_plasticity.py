"""Plastic synapses on the device event_driven: on paper, against a plain simulator, and against Brian2's own clock."""

import math

import brian2
import numpy as np
import pytest
from brian2 import ms, second
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mtt_brian.event_driven  # noqa: F401 - registers the device
from mtt_brian.errors import InputError
from tests.plain_brian2 import Neuron, PlasticSynapse, simulate

TRACES = """w : 1
dApre/dt = -Apre / (20*ms) : 1 (event-driven)
dApost/dt = -Apost / (30*ms) : 1 (event-driven)"""
ON_PRE = "Apre += 0.1\nw = clip(w + Apost, 0, 1)"
ON_POST = "Apost -= 0.12\nw = clip(w + Apre, 0, 1)"


@pytest.fixture(autouse=True)
def _device(event_driven):
    """See conftest."""


def generator(*milliseconds, n=1, neurons=None, **options):
    """Spikes of neuron 0, or of these neurons."""
    neurons = np.zeros(len(milliseconds), int) if neurons is None else neurons
    return brian2.SpikeGeneratorGroup(n, neurons, np.array(milliseconds) * ms, **options)


def connected(source, target, model=TRACES, on_pre=ON_PRE, on_post=ON_POST, w=0.5, connect=None, **options):
    synapses = brian2.Synapses(source, target, model, on_pre=on_pre, on_post=on_post, **options)
    synapses.connect(**(connect or {}))
    if "w" in synapses.variables:
        synapses.w = w
    return synapses


def integrators(n=1, level=100.0, **options):
    return brian2.NeuronGroup(n, "v : 1", threshold=f"v >= {level}", reset="v = 0", **options)


# ----- on paper


def test_two_neurons_and_one_synapse():
    """The source fires after 1 and 11 ms, the target after 6 and 16 ms."""
    source, target = generator(1, 11), generator(6, 16)
    way = connected(source, target)
    brian2.Network(source, target, way).run(20 * ms)
    pre = [0.1 * math.exp(-5 / 20), 0.1 * (math.exp(-15 / 20) + math.exp(-5 / 20))]
    post = -0.12 * math.exp(-5 / 30)
    assert way.w[0] == pytest.approx(0.5 + pre[0] + post + pre[1], rel=1e-15)
    assert way.Apre[0] == pytest.approx(pre[1], rel=1e-15)  # at the last spike, as in Brian2
    assert way.Apost[0] == pytest.approx(-0.12 * (1 + math.exp(-10 / 30)), rel=1e-15)
    assert way.lastupdate_[0] == 0.016


def test_a_weight_acts_on_the_neuron_as_it_is_at_that_instant():
    """The second spike adds what the first one has left; the neuron fires by itself in between."""
    source = generator(1, 4)
    cells = brian2.NeuronGroup(
        1, "dv/dt = (1.5 - v) / (10*ms) : 1 (unless refractory)", threshold="v > 1", reset="v = 0", refractory=50 * ms
    )
    cells.v = 1.5 - 0.5 * math.exp(0.2)  # fires after 2 ms
    way = connected(source, cells, "w : 1", "v_post += w\nw *= 0.5", "w += 2", w=0.0)
    states = brian2.StateMonitor(cells, "v", record=True, dt=1 * ms)
    fired = brian2.SpikeMonitor(cells)
    weights = brian2.StateMonitor(way, "w", record=True, dt=1 * ms)
    brian2.Network(source, cells, way, states, weights, fired).run(6 * ms)
    assert fired.t_[0] == pytest.approx(0.002, abs=1e-15)
    assert list(weights.w[0]) == [0, 0, 0, 2, 2, 1]
    assert list(states.v[0][3:]) == [0, 0, 0]  # refractory: what arrives is lost, and the weight changes still


def test_short_term_depression():
    """x recovers with 50 ms and loses half at every spike: the third one finds what is computed here."""
    source, cells = generator(10, 20, 40), integrators()
    way = connected(
        source, cells, "w : 1\ndx/dt = (1 - x) / (50*ms) : 1 (event-driven)", "v_post += w*x\nx *= 0.5", None, w=2.0
    )
    way.x = 1
    brian2.Network(source, cells, way).run(50 * ms)
    second_x = 1 - 0.5 * math.exp(-0.2)
    third_x = 1 - (1 - 0.5 * second_x) * math.exp(-0.4)
    assert cells.v[0] == pytest.approx(2 * (1 + second_x + third_x), rel=1e-15)
    assert way.x[0] == pytest.approx(0.5 * third_x, rel=1e-15)


def test_pre_comes_before_post_unless_order_says_otherwise():
    """Both spikes at one instant: the weight is first doubled, then 1 is added."""
    found = []
    for swapped in (False, True):
        source, target = generator(1), generator(1)
        way = connected(source, target, "w : 1", "w *= 2", "w += 1", w=1.0)
        if swapped:
            way.pre.order, way.post.order = 1, -1
        brian2.Network(source, target, way).run(2 * ms)
        found.append(way.w[0])
    assert found == [3, 4]


def test_a_spike_that_it_causes_comes_after_the_arrival():
    """The arrival makes the target fire at the same instant; then on_post finds the trace of this spike."""
    source, cells = generator(1), integrators(level=1)
    way = connected(source, cells, TRACES, "v_post += 1\n" + ON_PRE)
    brian2.Network(source, cells, way).run(2 * ms)
    assert (way.w[0], way.Apre[0], way.Apost[0]) == (0.6, 0.1, -0.12)


def test_delays_of_both_pathways_and_of_every_synapse():
    source, target = generator(1), generator(1)
    way = connected(
        source, target, "seen : second\nw : 1", "seen = t", "w = w + int(seen > 0*ms)", w=0, connect={"n": 3}
    )
    way.pre.delay, way.post.delay = [1, 2, 3] * ms, 2 * ms
    brian2.Network(source, target, way).run(10 * ms)
    assert list(way.seen_) == [0.002, 0.003, 0.004]
    assert list(way.w) == [1, 1, 0]  # at one instant, pre comes first


def test_several_pathways_with_delays_of_their_own():
    source, cells = generator(1), integrators()
    way = connected(source, cells, "w : 1", {"up": "v_post += w", "later": "w += 3"}, None, w=2.0)
    way.later.delay = 1 * ms
    again = generator(3, n=1)
    other = connected(again, cells, "w : 1", "v_post += 10*w", None, w=1.0)
    states = brian2.StateMonitor(cells, "v", record=True, dt=1 * ms)
    brian2.Network(source, again, cells, way, other, states).run(5 * ms)
    assert list(states.v[0]) == [0, 0, 2, 2, 12]
    assert way.w[0] == 5


def test_on_post_can_change_both_ends():
    cells = brian2.NeuronGroup(2, "v : 1\nn : 1", threshold="v >= 1", reset="v = 0")
    cells.v = [0, 1]
    way = connected(cells, cells, "", None, "n_pre += 1; n_post += 10", connect={"i": 0, "j": 1})
    brian2.Network(cells, way).run(1 * ms)
    assert list(cells.n) == [1, 10]


def test_local_names_subexpressions_and_parameters_of_both_ends():
    source = brian2.NeuronGroup(2, "v : 1\ngain : 1", threshold="v >= 1", reset="v = 0")
    cells = brian2.NeuronGroup(2, "u : 1\nscale : 1")
    source.v, source.gain, cells.scale = 1, [2, 3], [5, 7]
    way = connected(
        source,
        cells,
        "w : 1\neffective = w*gain_pre : 1",
        "old = w\nw += 1\nu_post += effective*scale_post + old + i + 10*j",
        None,
    )
    way.w = "i + 2*j"
    brian2.Network(source, cells, way).run(1 * ms)
    assert list(cells.u) == [2 * 1 * 5 + 0 + 3 * 2 * 5 + 1 + 1, 2 * 3 * 7 + 2 + 10 + 3 * 4 * 7 + 3 + 11]


def test_subgroups_count_in_the_whole_groups():
    source, cells = integrators(4, 1, name="source"), integrators(5)
    source.v = [0, 0, 1, 1]
    way = connected(source[2:], cells[3:], "w : 1", "v_post += w\nw += i + j", None, w=1.0, connect={"j": "i"})
    brian2.Network(source, cells, way).run(2 * ms)
    assert list(cells.v) == [0, 0, 0, 1, 1]
    assert list(way.w) == [1, 3]


def test_an_equation_with_a_variable_that_spikes_change():
    """y follows w, which the first spike sets from 0 to 1."""
    source, target = generator(10, 15), generator()
    way = connected(source, target, "w : 1\ndy/dt = (w - y) / (5*ms) : 1 (event-driven)", "w = 1", None, w=0)
    brian2.Network(source, target, way).run(20 * ms)
    assert way.y[0] == pytest.approx(1 - math.exp(-1), rel=1e-15)


def test_a_drift():
    source, target = generator(10), generator()
    way = connected(source, target, "dy/dt = 3/second : 1 (event-driven)", "y += 1", None)
    brian2.Network(source, target, way).run(20 * ms)
    assert way.y[0] == pytest.approx(1.03, rel=1e-15)


FUNCTIONS = {
    "clip(x, 0.1, 0.2)": 0.2,
    "clip(-x, 0.1, 0.2)": 0.1,
    "abs(-x) + sign(-x)": -0.7,
    "int(x > 0.2) + 2*int(x <= 0.2) + 4*int(x == 0.3) + 8*int(x != 0.3)": 5,
    "int(x < 1 and x >= 0.3) + 2*int(x < 0.1 or not (x > 1))": 3,
    "int(7.9*x) + floor(-x) + ceil(x)": 2,
    "sqrt(x) + exp(x) + expm1(x) + exprel(x)": math.sqrt(0.3) + math.exp(0.3) + math.expm1(0.3) * (1 + 1 / 0.3),
    "log(x) + log10(x) + log1p(x)": math.log(0.3) + math.log10(0.3) + math.log1p(0.3),
    "sin(x) + cos(x) + tan(x)": math.sin(0.3) + math.cos(0.3) + math.tan(0.3),
    "sinh(x) + cosh(x) + tanh(x)": math.sinh(0.3) + math.cosh(0.3) + math.tanh(0.3),
    "arcsin(x) + arccos(x) + arctan(x)": math.asin(0.3) + math.acos(0.3) + math.atan(0.3),
    "-x**2 / 4 - +x": -0.09 / 4 - 0.3,
    "(-7*x) % 2 + (-7*x) // 2": -2.1 % 2 + -2.1 // 2,
    "exprel(0*x) + pi": 1 + math.pi,
    "t/ms": 1,
}


@pytest.mark.parametrize("text", FUNCTIONS)
def test_arithmetic(text):
    """Of more synapses than are computed together."""
    source, target = generator(1), generator()
    way = connected(source, target, "w : 1\nx : 1", f"w = {text}", None, connect={"n": 150})
    way.x = 0.3
    brian2.Network(source, target, way).run(2 * ms)
    np.testing.assert_allclose(way.w, FUNCTIONS[text], rtol=1e-14)


# ----- runs


def three_ways(duration, cut):
    """A network in one run, in several, and after store and restore."""
    for kind in ("one", "several", "restored"):
        source = generator(*np.arange(1, 40, 3.7))
        cells = brian2.NeuronGroup(3, "dv/dt = -v / (7*ms) : 1", threshold="v > 1", reset="v = 0", name="cells")
        way = connected(source, cells, TRACES, "v_post += w\n" + ON_PRE, w=[0.5, 0.8, 0.9], delay=0.7 * ms)
        back = connected(cells, cells, TRACES, "v_post += 0.1*w\n" + ON_PRE, connect={"condition": "i != j"})
        back.delay = "(1 + i)*0.4*ms"
        fired = brian2.SpikeMonitor(cells)
        traces = brian2.StateMonitor(way, ["w", "Apre"], record=[0, 2], dt=0.9 * ms)
        network = brian2.Network(source, cells, way, back, fired, traces)
        if kind == "restored":
            network.run(cut)
            network.store()
            network.run(5 * ms)
            network.restore()
            network.run(duration - cut)
        else:
            for part in [duration] if kind == "one" else [cut, 0 * ms, duration - cut]:
                network.run(part)
        yield [*map(np.array, (fired.t_, fired.i, way.w, way.Apre, back.w, back.lastupdate_, traces.w, traces.Apre))]


def test_several_runs_and_restored_ones_are_one_run_bit_for_bit():
    one, *others = three_ways(40 * ms, 17.3 * ms)
    assert len(one[0]) > 5
    for other in others:
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_values_can_be_changed_between_runs():
    source, cells = generator(1, 3, 5), integrators(level=1e6)
    way = connected(source, cells, "w : 1\ngain : 1", "v_post += w*gain\nw += 1", None, w=1.0)
    way.gain = 1
    network = brian2.Network(source, cells, way)
    network.run(2 * ms)
    way.w = 10
    network.run(2 * ms)
    way.gain = 100
    network.run(2 * ms)
    assert (cells.v[0], way.w[0]) == (1 + 10 + 1100, 12)


def test_pathways_can_be_switched_off_and_on():
    source, target = generator(1, 3), generator(2, 4)
    way = connected(source, target, "w : 1", "w *= 3", "w += 1", w=1)
    network = brian2.Network(source, target, way)
    way.post.active = False
    network.run(2.5 * ms)
    assert way.w[0] == 3
    way.post.active = True
    network.run(2.5 * ms)
    assert way.w[0] == 10


def test_a_run_that_fails_leaves_the_synapses_as_they_were():
    source, target = generator(1, 2), generator()
    way = connected(source, target, "w : 1", "w = w / (w - 2)", None, w=1.0, name="wires")
    network = brian2.Network(source, target, way)
    way.w = 2
    with pytest.raises(InputError, match="wires_pre: synapse 0 sets w to a value that is not finite, at 0"):
        network.run(5 * ms)
    assert way.w[0] == 2
    way.w = 1
    network.run(1.5 * ms)
    assert way.w[0] == -1
    source, cells = generator(1), integrators(name="cells")
    way = connected(source, cells, "w : 1", "v_post += 1/w\nw = 2", None, w=[0.0], name="others")
    with pytest.raises(InputError, match="others_pre: synapse 0 adds a value that is not finite, at 0"):
        brian2.Network(source, cells, way).run(5 * ms)


def test_synapses_without_connections():
    source, cells = generator(1), integrators()
    way = connected(source, cells, connect={"condition": "False"})
    brian2.Network(source, cells, way).run(2 * ms)
    assert len(way) == 0


# ----- against Brian2's own clock

RULES = {
    "additive": (TRACES, ON_PRE, ON_POST),
    "multiplicative": (
        TRACES,
        "Apre += 0.1\nw -= 0.4*Apost*w*int(w > 0.05)",
        "Apost += 0.1\nw += Apre*(1 - w)**1.5",
    ),
    "nearest spikes": (TRACES, "Apre = 0.1\nw = clip(w + Apost, 0, 1)", "Apost = -0.12\nw = clip(w + Apre, 0, 1)"),
    "short-term": (
        "w : 1\ntau_f : second\nU = 0.2 : 1\ndu/dt = (U - u) / tau_f : 1 (event-driven)\n"
        "dx/dt = (1 - x) / (40*ms) : 1 (event-driven)",
        "u += U*(1 - u)\nreleased = u*x\nx -= released\nw += released",
        None,
    ),
    "last spikes": (
        "w : 1\nt_source : second\nt_target : second",
        "t_source = t\nw -= 0.1*exp(-(t - t_target)/(10*ms))",
        "t_target = t\nw += 0.1*exp(-(t - t_source)/(10*ms))",
    ),
}


def on_a_grid(device, rule, seed):
    """Random spikes at multiples of 0.1 ms, with delays; the variables of all synapses, and those recorded."""
    brian2.set_device(device)
    rng = np.random.default_rng(seed)
    groups = []
    for _ in range(2):
        neurons, steps = np.nonzero(rng.random((3, 600)) < 0.03)
        groups.append(brian2.SpikeGeneratorGroup(3, neurons, steps * 0.1 * ms))
    model, on_pre, on_post = RULES[rule]
    way = connected(*groups, model, on_pre, on_post, w=0.5, connect={"p": 1.0})
    if rule == "short-term":
        way.tau_f = "(10 + 20*i)*ms"
    way.pre.delay = rng.integers(0, 30, 9) * 0.1 * ms
    if on_post:
        way.post.delay = rng.integers(0, 30, 9) * 0.1 * ms
    monitor = brian2.StateMonitor(way, "w", record=True)
    brian2.Network(groups, way, monitor).run(60 * ms)
    names = [*way.equations.parameter_names, *(way.event_driven.diff_eq_names if way.event_driven else [])]
    return {name: np.array(way.variables[name].get_value()) for name in names} | {"recorded": np.array(monitor.w)}


@pytest.mark.parametrize("rule", RULES)
def test_spikes_on_a_grid_give_what_the_clock_gives(rule):
    for seed in range(3):
        found, expected = (on_a_grid(device, rule, seed) for device in ("event_driven", "runtime"))
        assert np.ptp(expected["w"]) > 0.01
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-12, atol=1e-13, err_msg=f"{rule} {name}")


def song(device, step):
    """Brian2's example ``synapses/STDP.py``, small, with linear neurons and frozen inputs: the weights at the end."""
    brian2.set_device(device)
    brian2.defaultclock.dt = step * ms
    rng = np.random.default_rng(3)
    n = 40
    counts = rng.poisson(4, n)
    times = np.concatenate([np.sort(rng.choice(200, k, replace=False)) for k in counts])
    inputs = brian2.SpikeGeneratorGroup(n, np.repeat(np.arange(n), counts), times * ms)
    cells = brian2.NeuronGroup(
        1,
        "dv/dt = (1.2 + ge - v) / (10*ms) : 1\ndge/dt = -ge / (5*ms) : 1",
        threshold="v > 1",
        reset="v = 0",
        method="exact",
    )
    fired = brian2.SpikeMonitor(cells)
    way = connected(inputs, cells, TRACES, "ge += 0.1*w\n" + ON_PRE, ON_POST, w=rng.random(n))
    brian2.Network(inputs, cells, way, fired).run(200 * ms)
    brian2.defaultclock.dt = 0.1 * ms
    return np.array(way.w), len(fired.t)


def test_the_clock_converges_to_it():
    """A tenth of the step has about a tenth of the distance; an order of two spikes that a step turns has more."""
    exact, fired = song("event_driven", 0.1)
    distances = []
    for step in (0.5, 0.05, 0.005):
        weights, count = song("runtime", step)
        assert count == fired == 15
        distances.append(np.abs(weights - exact).mean())
    assert distances[0] > 4 * distances[1] > 16 * distances[2] > 0


# ----- random scripts against the plain simulator


def clip(x, low, high):
    return min(max(x, low), high)


def additive_pre(s):
    s["Apre"] += 0.1
    s["w"] = clip(s["w"] + s["Apost"], 0, 1)
    return s["w"]


def additive_post(s):
    s["Apost"] -= 0.12
    s["w"] = clip(s["w"] + s["Apre"], 0, 1)


def multiplicative_pre(s):
    added = s["w"] * s["gain"]
    s["Apre"] += 0.1
    if s["w"] > 0.1:
        s["w"] -= s["Apost"] * s["w"] / 2
    return added


def multiplicative_post(s):
    s["Apost"] += 0.1 * s["gain"]
    s["w"] += s["Apre"] * (1 - s["w"]) ** 2


def short_term(s):
    s["u"] += (1 - s["u"]) * s["gain"] / 4
    released = s["u"] * s["x"]
    s["x"] -= released
    return s["w"] * released


#: Equations, on_pre, on_post; the same as functions; slopes a and b per second.
PLASTIC = {
    "additive": (
        TRACES,
        ON_PRE + "\n{v}_post += w",
        ON_POST,
        additive_pre,
        additive_post,
        {"Apre": (-50.0, 0.0), "Apost": (-1 / 0.03, 0.0)},
    ),
    "multiplicative": (
        TRACES + "\ngain : 1",
        "{v}_post += w*gain\nApre += 0.1\nw -= int(w > 0.1)*Apost*w/2",
        "Apost += 0.1*gain\nw += Apre*(1 - w)**2",
        multiplicative_pre,
        multiplicative_post,
        {"Apre": (-50.0, 0.0), "Apost": (-1 / 0.03, 0.0)},
    ),
    "short-term": (
        "w : 1\ngain : 1\ndu/dt = (0.2 - u) / (20*ms) : 1 (event-driven)\ndx/dt = (1 - x) / (8*ms) : 1 (event-driven)",
        "u += (1 - u)*gain/4\nr = u*x\nx -= r\n{v}_post += w*r",
        None,
        short_term,
        None,
        {"u": (-50.0, 10.0), "x": (-125.0, 125.0)},
    ),
}


def compare(seed, conductances=False):
    """Spikes and variables of a random network with inputs, delays of 0 and others, and loops."""
    rng = np.random.default_rng([7, seed])
    duration = 0.03
    groups, plain, first = [], [], []
    for k in range(int(rng.integers(1, 3))):
        size, refractory = int(rng.integers(1, 3)), float(rng.choice([0.0, 1.0, 2.5]))
        drive, x = rng.uniform(0, 1.3, size), rng.uniform(0, 0.9, size)
        group = brian2.NeuronGroup(
            size,
            "dx0/dt = (drive - x0 + x1*(2 - x0)) / (8*ms) : 1 (unless refractory)\ndx1/dt = -x1 / (4*ms) : 1\ndrive : 1"
            if conductances
            else "dx0/dt = (drive - x0) / (8*ms) : 1 (unless refractory)\ndrive : 1",
            threshold="x0 > 1",
            reset="x0 -= 1.3",
            refractory=refractory * ms or False,
            name=f"g{k}",
        )
        group.drive, group.x0 = drive, x
        first.append(len(plain))
        groups.append(group)
        plain += [
            Neuron([[-125.0]], [125 * d], [1.0], 1.0, [[1.0, -1.3]], refractory / 1000, [refractory > 0], [v])
            for d, v in zip(drive.tolist(), x.tolist(), strict=True)
        ]
        if conductances:
            for neuron in plain[first[-1] :]:
                neuron.matrix, neuron.offset = [[-125.0, 250.0], [0.0, -250.0]], [*neuron.offset, 0.0]
                neuron.row, neuron.x, neuron.held = [1.0, 0.0], [*neuron.x, 0.0], [*neuron.held, False]
                neuron.reset, neuron.products = [[1.0, 0.0, -1.3], [0.0, 1.0, 0.0]], ((0, 0, 1, -125.0),)
    times, sources = np.sort(rng.uniform(0, duration, 20)), rng.integers(0, 3, 20)
    inputs = brian2.SpikeGeneratorGroup(3, sources, times * second, name="inputs")
    ends = [(inputs, -1, k) for k in range(len(groups))]
    ends += [(groups[a], a, b) for a in range(len(groups)) for b in range(len(groups)) if rng.random() < 0.6]
    ways, wires, state = [], [], int(conductances)
    for source, a, b in ends:
        target = groups[b]
        model, on_pre, on_post, pre, post, slopes = PLASTIC[str(rng.choice(list(PLASTIC)))]
        pairs = [(i, j) for i in range(len(source)) for j in range(len(target)) if rng.random() < 0.8]
        if not pairs:
            continue
        i, j = np.array(pairs).T
        way = brian2.Synapses(source, target, model, on_pre=on_pre.format(v=f"x{state}"), on_post=on_post)
        way.connect(i=i, j=j)
        delays = rng.uniform(0.1, 6, (2, len(i)))
        if rng.random() < 0.5:  # at once, but for what could go on for ever
            delays[0, i < j if a == b else np.full(len(i), a < b)] = 0.0
        if rng.random() < 0.5:
            delays[1] = 0.0
        way.pre.delay = delays[0] * ms
        if on_post:
            way.post.delay = delays[1] * ms
        values = {name: rng.uniform(0.1, 0.6, len(i)) for name in ("w", "gain", *slopes) if name in way.variables}
        for name, start in values.items():
            setattr(way, name, start)
        ways.append((way, values, len(wires)))
        for k, (p, q) in enumerate(pairs):
            wires.append(
                PlasticSynapse(
                    source=-1 - p if a == -1 else first[a] + p,
                    target=first[b] + q,
                    state=state,
                    values={name: float(start[k]) for name, start in values.items()},
                    slopes=slopes,
                    on_pre=pre,
                    on_post=post,
                    delays=tuple(float(d * ms / second) for d in delays[:, k]),
                )
            )
    monitors = [brian2.SpikeMonitor(group) for group in groups]
    brian2.Network(groups, inputs, [way for way, _, _ in ways], monitors).run(duration * second)
    found = sorted(
        (float(t), first[k] + int(i)) for k, m in enumerate(monitors) for t, i in zip(m.t_, m.i, strict=True)
    )
    events = [(float(t), -1 - int(s)) for t, s in zip(times, sources, strict=True)]
    expected = simulate(plain, [], events, duration, 1e-4, wires)
    assert [i for _, i in found] == [i for _, i in expected], seed
    np.testing.assert_allclose([t for t, _ in found], [t for t, _ in expected], rtol=0, atol=1e-13)
    changed = 0
    for way, values, at in ways:
        for name, start in values.items():
            mine = np.array(way.variables[name].get_value())
            theirs = [float(wires[at + k].values[name]) for k in range(len(way))]
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-13, err_msg=f"{seed} {name}")
            changed += np.count_nonzero(mine != start)
    return len(expected), changed


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**6))
def test_random_scripts(seed):
    compare(seed)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(10**6, 10**9))
def test_many_random_scripts(seed):
    compare(seed)


def test_the_random_scripts_fire_and_learn():
    spikes, changed = np.sum([compare(seed) for seed in (1, 2)], axis=0)
    assert spikes > 10
    assert changed > 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_random_scripts_with_conductances(seed):
    compare(seed, conductances=True)
