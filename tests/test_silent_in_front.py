"""Silent nodes (LI, I, CubaLI) in front of others: NIR's equations in steps of 1 us, and what is refused."""

import itertools

import nir
import numpy as np
import pytest

import mtt_brian as mb
from mtt_brian.errors import InputError
from mtt_brian.neuron import CubaLIF, LinearNeuron

DT = 1e-6
ARRIVALS = np.arange(1, 31) * 2000  # microseconds
END = 0.07


def node(kind, n=1, **changes):
    """A NIR node with time constants of some milliseconds, whose potential reaches about 1 for an input of about 1."""
    ones = np.ones(n)
    values = {
        "I": {"r": 50 * ones},
        "LI": {"tau": 0.005 * ones, "r": 0.8 * ones, "v_leak": 0 * ones},
        "CubaLI": {
            "tau_syn": 0.003 * ones, "tau_mem": 0.006 * ones, "r": 0.5 * ones, "v_leak": 0 * ones, "w_in": 2 * ones,
        },
        "IF": {"r": 60 * ones, "v_threshold": ones},
        "LIF": {"tau": 0.01 * ones, "r": 1.5 * ones, "v_leak": 0 * ones, "v_threshold": ones},
        "CubaLIF": {
            "tau_syn": 0.004 * ones, "tau_mem": 0.01 * ones, "r": ones, "v_leak": 0 * ones, "w_in": 1.5 * ones,
            "v_threshold": ones,
        },
    }[kind]  # fmt: skip
    return getattr(nir, kind)(**(values | {k: v * ones for k, v in changes.items()}))


class Stepped:
    """One population, advanced in Euler steps by NIR's equations; its input is a current."""

    def __init__(self, node):
        self.node, self.kind = node, type(node).__name__
        n = node.r.size
        self.v, self.current, self.fires = np.zeros(n), np.zeros(n), self.kind in ("IF", "LIF", "CubaLIF")
        self.spikes = []

    def step(self, drive, pulse, t, reset):
        """``drive``: current; ``pulse``: sum of weights of the pulses that arrive in this step."""
        node = self.node
        if self.kind in ("CubaLIF", "CubaLI"):
            self.current = self.current + (DT * (node.w_in * drive - self.current) + node.w_in * pulse) / node.tau_syn
            self.v = self.v + DT * (node.v_leak - self.v + node.r * self.current) / node.tau_mem
        elif self.kind in ("LIF", "LI"):
            self.v = self.v + (DT * (node.v_leak - self.v + node.r * drive) + node.r * pulse) / node.tau
        else:
            self.v = self.v + node.r * (DT * drive + pulse)
        if not self.fires:
            return self.v
        over = self.v >= node.v_threshold
        self.spikes += [(t, k) for k in np.flatnonzero(over)]
        self.v = np.where(over, self.v - node.v_threshold if reset == "subtract" else 0.0, self.v)
        return over


def stepped(first, weights, behind, bias_in, bias_between, reset, pixels):
    """Spikes of the last population, and its potential at the end."""
    w_in, between = weights
    a, b = Stepped(first), Stepped(behind)
    events = {round(t): x for t, x in zip(ARRIVALS, pixels, strict=True)}
    for step in range(round(END / DT)):
        pulse = w_in[:, events[step]] if step in events else np.zeros(len(w_in))
        signal = a.step(bias_in, pulse, step * DT, reset)
        b.step(between @ signal + bias_between, 0.0, step * DT, reset)
    return b.spikes, b.v


def graph(first, weights, behind, bias_in=0.0, bias_between=0.0):
    w_in, between = weights
    nodes = {
        "input": nir.Input(input_type=np.array([w_in.shape[1]])),
        "w": nir.Affine(weight=w_in, bias=bias_in * np.ones(len(w_in))),
        "first": first,
        "between": nir.Affine(weight=between, bias=bias_between * np.ones(len(between))),
        "behind": behind,
        "output": nir.Output(output_type=np.array([len(between)])),
    }
    names = list(nodes)
    return nir.NIRGraph(nodes, list(itertools.pairwise(names)), type_check=False)


@pytest.mark.parametrize("reset", ["subtract", pytest.param("zero", marks=pytest.mark.slow)])  # Euler steps take long
@pytest.mark.parametrize("behind", ["IF", "LIF", "CubaLIF"])
@pytest.mark.parametrize("first", ["LI", "CubaLI"])
def test_a_silent_population_is_the_current_of_the_next(first, behind, reset):
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 2, len(ARRIVALS))
    weights = np.array([[0.004, 0.002], [0.003, 0.005], [0.001, 0.001]]), np.array([[1.0, 0.5, -0.5], [0.3, 1.2, 1.0]])
    front = node(first, 3, r=np.array([1.0, 0.8, 1.2]), v_leak=np.array([0.0, 0.1, 0.0]))
    last = node(behind, 2, r=np.array([1.0, 1.3]) * (60 if behind == "IF" else 1.5))
    biases = (0.3, 0.1)
    expected, _ = stepped(front, weights, last, *biases, reset, pixels)
    net = graph(front, weights, last, *biases)
    circuit = mb.translate.read_nir(net, reset=reset, spikes="one")
    assert [p.name for p in circuit.populations] == ["behind"]
    rule = circuit.population["behind"].rule
    assert isinstance(rule, CubaLIF if (first, behind) == ("LI", "LIF") else LinearNeuron)
    result = mb.simulate(circuit, mb.events.make_recording(ARRIVALS, pixels), duration=END)
    got = sorted(zip(result.spikes["behind"].t, result.spikes["behind"].i, strict=True))
    assert len(expected) > 10
    for k in (0, 1):
        times = [t for t, i in got if i == k]
        assert len(times) == sum(i == k for _, i in expected)
        # Euler steps are off by about half a step per time constant.
        np.testing.assert_allclose(times, [t for t, i in expected if i == k], atol=1e-4)


@pytest.mark.parametrize("behind", ["LI", "CubaLI", "I"])
@pytest.mark.parametrize("first", ["LI", "CubaLI", "I"])
def test_a_silent_population_in_front_of_a_silent_readout(first, behind):
    pixels = np.zeros(len(ARRIVALS), int)
    weights = np.full((2, 1), 0.004), np.array([[1.0, 0.5]])
    front, last = node(first, 2), node(behind, 1)
    _, expected = stepped(front, weights, last, 0.2, 0.1, "zero", pixels)
    net = graph(front, weights, last, 0.2, 0.1)
    result = mb.simulate(net, mb.events.make_recording(ARRIVALS, pixels), duration=END)
    np.testing.assert_allclose(result.readout, expected, rtol=2e-3)


def test_two_synapses_of_one_kind_feed_one_neuron():
    # Excitation and inhibition through separate LI nodes, as in Rockpool and PyNN.
    def two(behind, taus=(0.005, 0.005)):
        nodes = {
            "input": nir.Input(input_type=np.array([1])),
            "up": nir.Linear(weight=np.array([[0.02]])),
            "down": nir.Linear(weight=np.array([[-0.005]])),
            "excitation": node("LI", tau=taus[0]),
            "inhibition": node("LI", tau=taus[1]),
            "neuron": behind,
            "output": nir.Output(output_type=np.array([1])),
        }
        edges = [("input", "up"), ("up", "excitation"), ("excitation", "neuron"), ("neuron", "output")]
        edges += [("input", "down"), ("down", "inhibition"), ("inhibition", "neuron")]
        return nir.NIRGraph(nodes, edges, type_check=False)

    events = mb.events.make_recording(ARRIVALS, 0)
    one = graph(node("LI"), (np.array([[0.015]]), np.ones((1, 1))), node("LIF"))
    expected = mb.simulate(one, events, reset="zero", duration=END).spikes["behind"].t
    assert len(expected) > 3
    got = mb.simulate(two(node("LIF")), events, reset="zero", duration=END).spikes["neuron"].t
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    with pytest.raises(InputError, match=r"'inhibition'.*'excitation' feeds the same node and differs"):
        mb.translate.read_nir(two(node("LIF"), (0.005, 0.006)), reset="zero")


def test_a_linear_layer_behind_a_leaky_readout_shows_its_potential():
    weights = np.full((2, 1), 0.004), np.array([[1.0, 0.5], [2.0, -1.0], [0.0, 0.25]])
    net = graph(node("LI", 2), weights, node("LI", 3))
    shown = nir.NIRGraph(
        {name: n for name, n in net.nodes.items() if name != "behind"},
        [("input", "w"), ("w", "first"), ("first", "between"), ("between", "output")],
        type_check=False,
    )
    events = mb.events.make_recording(ARRIVALS, 0)
    result = mb.simulate(shown, events, duration=END)
    # v = sum of r w / tau exp(-(T - t) / tau) over all arrivals, in each of the two neurons.
    v = (0.8 * 0.004 / 0.005 * np.exp(-(END - ARRIVALS / 1e6) / 0.005)).sum()
    np.testing.assert_allclose(result.readout, weights[1] @ [v, v], rtol=1e-12)


def test_the_integral_of_a_spike_scales_spikes_and_no_current():
    weights = np.full((2, 1), 0.004), np.array([[1.0, 0.5]])
    events = mb.events.make_recording(ARRIVALS, 0)
    for first, behind in (("LI", "LIF"), ("LI", "IF"), ("CubaLI", "CubaLIF")):
        strong = graph(node(first, 2), (1000 * weights[0], weights[1]), node(behind), 0.2, 0.1)
        weak = graph(node(first, 2), weights, node(behind), 0.2, 0.1)
        a = mb.simulate(strong, events, reset="zero", spike_integral=1e-3, duration=END).spikes["behind"].t
        b = mb.simulate(weak, events, reset="zero", duration=END).spikes["behind"].t
        assert len(b) > 2
        np.testing.assert_allclose(a, b, rtol=1e-9)


def refused(net, message):
    for engine in ("exact", "brian2", "brian2-cpp"):
        with pytest.raises(InputError, match=message):
            mb.Simulator(net, engine, reset="zero")


def test_what_cannot_be_folded_is_refused_on_every_engine():
    weights = np.full((2, 1), 0.004), np.array([[1.0, 0.5]])
    refused(
        graph(node("LI", 2, tau=np.array([0.005, 0.006])), weights, node("LIF")),
        r"node 'first' \(LI\) never fires and feeds node 'behind' \(LIF\).*its tau differs from neuron to neuron",
    )
    bounded = node("LI", 2)
    bounded.metadata["lower_bound"] = -1.0
    refused(graph(bounded, weights, node("LIF")), r"node 'first' \(LI\).*lower bound")
    mixed = graph(node("LI", 2), weights, node("LIF"))
    mixed.nodes["direct"] = nir.Linear(weight=np.ones((1, 1)))
    mixed.edges += [("input", "direct"), ("direct", "behind")]
    refused(mixed, r"node 'first' \(LI\).*'input' feeds the same node with spikes")
    late = graph(node("LI", 2, v_leak=0.5), weights, node("LIF"))
    late.nodes["late"] = nir.Delay(delay=np.array([0.001]))
    late.edges = [e for e in late.edges if e != ("between", "behind")] + [("between", "late"), ("late", "behind")]
    refused(late, r"node 'first' \(LI\).*a delay follows its constant current")
    loop = graph(node("LI", 1), (np.full((1, 1), 0.004), np.ones((1, 1))), node("LI"))
    loop.edges.append(("behind", "first"))
    refused(loop, "never fires and lies on a cycle")
    refused(shown_with_bias(), r"'first'.*a bias follows it")


def shown_with_bias():
    net = graph(node("LI", 1), (np.full((1, 1), 0.004), np.ones((1, 1))), node("LI"), 0.0, 0.5)
    del net.nodes["behind"]
    net.edges = [("input", "w"), ("w", "first"), ("first", "between"), ("between", "output")]
    return net


def test_a_delay_behind_a_filter_delays_its_spikes():
    weights = np.full((2, 1), 0.02), np.array([[1.0, 0.5]])
    plain = graph(node("LI", 2), weights, node("LIF"))
    late = graph(node("LI", 2), weights, node("LIF"))
    late.nodes["late"] = nir.Delay(delay=np.array([0.001]))
    late.edges = [e for e in late.edges if e != ("between", "behind")] + [("between", "late"), ("late", "behind")]
    events = mb.events.make_recording(ARRIVALS, 0)
    a = mb.simulate(plain, events, reset="zero", duration=END).spikes["behind"].t
    b = mb.simulate(late, events, reset="zero", duration=END + 0.001).spikes["behind"].t
    assert len(a) > 3
    np.testing.assert_allclose(b, a + 0.001, atol=1e-12)
