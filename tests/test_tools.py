"""Options and presets for graphs that other tools wrote, on networks that can be checked by hand."""

from itertools import pairwise

import brian2
import nir
import numpy as np
import pytest

import mtt_brian as mb
from mtt_brian.cli import entry_point
from mtt_brian.cli.description import peak_of_spike
from mtt_brian.errors import InputError
from mtt_brian.neuron import CubaLIF, LinearNeuron
from tests.engines import FAST_TO_START

read = mb.translate.read_nir
ZERO = {"reset": "zero"}


def if_node(threshold=1.0, r=1.0, **metadata):
    return nir.IF(r=np.array([r]), v_threshold=np.array([threshold]), metadata=metadata)


def lif(tau, r, threshold=1.0):
    return nir.LIF(*(np.array([v]) for v in (tau, r, 0.0, threshold)))


def cuba(tau_syn, tau, r=1.0, w_in=1.0, threshold=1.0):
    given = dict(tau_syn=tau_syn, tau_mem=tau, r=r, v_leak=0.0, v_threshold=threshold, w_in=w_in)
    return nir.CubaLIF(**{key: np.array([value]) for key, value in given.items()})


def li(tau, r):
    return nir.LI(*(np.array([v]) for v in (tau, r, 0.0)))


def affine(weight, bias=0.0):
    return nir.Affine(np.array([[weight]]), np.array([bias]))


def chain(*nodes):
    names = ["input", *(f"n{k}" for k in range(len(nodes))), "output"]
    ends = nir.Input({"input": np.array([1])}), nir.Output({"output": np.array([1])})
    everything = dict(zip(names, [ends[0], *nodes, ends[1]], strict=True))
    return nir.NIRGraph(everything, list(pairwise(names)), type_check=False)


def loop(node, weight=1.0, delay=0.0):
    graph = chain(affine(1.0), node)
    graph.nodes["w"] = nir.Delay(np.array([delay])) if delay else affine(weight)
    graph.edges += [("n1", "w"), ("w", "n1")]
    return graph


def run(graph, *milliseconds, duration=0.01, **options):
    recording = mb.events.make_recording([round(1000 * t) for t in milliseconds], [0] * len(milliseconds))
    return mb.simulate(graph, recording, engine="exact", duration=duration, **options)


def fired(result, name):
    """Milliseconds."""
    return (1e3 * result.spikes[name].t).round(9).tolist()


# ----- lower bounds


@pytest.mark.parametrize(
    ("given", "bound"),
    [(-0.5, -0.5), ("-0.5", -0.5), ("-1 thresholds", -2.0), ("-0.5 threshold", -1.0), ("none", None), (None, None)],
)
def test_lower_bounds(given, bound):
    graph = chain(affine(-3.0), if_node(2.0))
    result = run(graph, 1, **ZERO, lower_bound=given)
    assert result.circuit.population["n1"].rule.lower_bound == bound


def test_the_lower_bound_of_sinabs():
    """-3 and then three times 1: without a bound v is 0, with the bound of -1 it is 2 and has fired twice."""
    graph = chain(nir.Linear(np.array([[-3.0, 1.0]])), if_node())
    graph.nodes["input"] = nir.Input({"input": np.array([2])})
    recording = mb.events.make_recording([1_000_000, *[2_000_000] * 3], [0, 1, 1, 1])
    for options, spikes in (({}, 2), ({"lower_bound": "none"}, 0), ({"lower_bound": -2.0}, 1)):
        result = mb.simulate(graph, recording, tool="sinabs", **options)
        assert result.counts["n1"].tolist() == [spikes]
    assert any("lower bound is minus the threshold" in a for a in read(graph, tool="sinabs").assumptions)
    assert read(chain(affine(1.0), lif(20.0, 1.0)), tool="sinabs").readout.rule.lower_bound is None


# ----- biases


def test_a_bias_per_step_counts_like_a_spike_in_every_step():
    graph = chain(affine(1.0, 0.25), if_node())
    assert fired(run(graph, 9, tool="norse"), "n1") == [4.0, 8.0, 9.0]  # 0.25 per ms, 0.25 + 1 at 9 ms
    assert fired(run(graph, 9, tool="norse", time_per_step=2e-3), "n1") == [8.0, 9.0]
    assert fired(run(graph, 9, tool="norse", file_time_per_step=2e-3), "n1") == [8.0, 9.0]
    assert fired(run(graph, 9, **ZERO, bias="per-step", file_time_per_step=1e-3), "n1") == [4.0, 8.0, 9.0]
    assert fired(run(graph, 9, tool="norse", bias="per-second"), "n1") == [9.0]
    assert fired(run(graph, 9, **ZERO), "n1") == [9.0]


def test_the_length_of_a_step_is_the_width_of_a_spike():
    """Norse's LIFBoxCell: tau dv/dt = -v + w z + b in steps of dt; b alone drives v to b."""
    graph = chain(affine(1.0, 2.0), lif(0.02, 1.0))
    for options in ({"spike_integral": 1e-4}, {"file_time_per_step": 1e-4}, {}):
        first = fired(run(graph, duration=0.02, tool="norse", **options), "n1")[0]
        assert first == pytest.approx(20 * np.log(2))  # v = 2 (1 - exp(-t / tau)) reaches 1


def test_the_bias_of_norses_lif():
    """Weights add to the current; so b adds b * tau_syn / dt to it, and v goes there."""
    node = nir.CubaLI(*(np.array([v]) for v in (0.008, 0.02, 1.0, 0.0, 1.0)))
    result = run(chain(affine(1.0, 0.01), node), duration=1.0, tool="norse")
    assert result.readout[0] == pytest.approx(0.01 * 0.008 / 0.001, rel=1e-9)
    assert result.circuit.readout.rule.gain * result.circuit.readout.rule.r == pytest.approx(1)


def test_a_bias_at_a_readout_that_sums_up():
    """One spike of weight 2 and ten steps of 0.1 are 3 in the units of the tool, whatever a spike is in the file."""
    graph = chain(affine(1.0), if_node(r=1e4), affine(2.0, 0.1))
    result = run(graph, 0.5, duration=0.001, tool="spikingjelly")
    assert result.readout.tolist() == pytest.approx([3e-4])
    assert result.tool_readout.tolist() == pytest.approx([3.0])
    assert run(chain(affine(1.0), if_node(), affine(2.0, 0.1)), 0.5, duration=0.01, tool="norse").tool_readout == [3.0]


# ----- the integral of a spike


def test_the_readout_in_the_units_of_the_tool():
    graph = chain(affine(1.0), if_node(r=1e4), affine(2.5))
    result = run(graph, 1, 2, 3, **ZERO, spike_integral=1e-4)
    assert result.readout.tolist() == pytest.approx([7.5e-4])
    assert result.tool_readout.tolist() == pytest.approx([7.5])
    # A potential and a count are the tool's own already.
    potential = run(chain(affine(2.5), nir.I(np.array([1e4]))), 1, 2, spike_integral=1e-4)
    assert potential.tool_readout.tolist() == potential.readout.tolist() == pytest.approx([5.0])
    counts = run(chain(affine(1.0), if_node(r=1e4)), 1, 2, 3, **ZERO, spike_integral=1e-4)
    assert counts.tool_readout.tolist() == [3.0]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((if_node(r=1e4), if_node(r=1e3)), r"is 0\.0001 s in node 'n1' and 0\.001 s in 'n3'"),
        ((lif(0.02, 1.0), lif(0.02, 1.0)), "no node contains"),
        ((if_node(r=1e4), if_node(r=-1e4)), r"of node 'n3' is -0\.0001 s, which is no time"),
    ],
)
def test_constants_that_are_not_one_number(nodes, message):
    graph = chain(affine(1.0), nodes[0], affine(1.0), nodes[1])
    with pytest.raises(InputError, match=message):
        read(graph, **ZERO, spike_integral="infer")


def test_one_constant_for_all_nodes_is_inferred_and_listed():
    graph = chain(affine(1.0), lif(0.02, 200.0), affine(1.0), cuba(0.008, 0.02, w_in=80.0))
    circuit = read(graph, **ZERO, spike_integral="infer")
    assert circuit.population["n1"].rule.gain == pytest.approx(1.0)
    assert circuit.population["n3"].rule.gain == pytest.approx(1.0)
    assert next(a for a in circuit.assumptions if "inferred" in a).startswith("the integral of one spike is 0.0001 s")
    # Nothing is inferred without the option, but an assumption hints at it.
    plain = read(graph, **ZERO)
    assert plain.population["n1"].rule.gain == pytest.approx(1e4)
    assert [a for a in plain.assumptions if "though" in a] == [
        "spike_integral is 1 s, though tau / r is 0.0001 s: check how far a spike moves (node 'n1')",
        "spike_integral is 1 s, though tau_syn / w_in is 0.0001 s: check how far a spike moves (node 'n3')",
    ]
    assert not any("though" in a for a in read(graph, **ZERO, spike_integral=1e-4).assumptions)


def test_a_given_integral_has_priority_over_the_tools():
    graph = chain(affine(1.0), lif(0.02, 200.0))
    circuit = read(graph, tool="snntorch", spike_integral=1e-3)
    assert circuit.population["n1"].rule.gain == pytest.approx(10.0)
    assert any("spike_integral is 0.001 s, though tool='snntorch' gives 0.0001 s" in a for a in circuit.assumptions)


@pytest.mark.parametrize(("node", "pointed_out"), [(lif(0.02, 200.0), True), (lif(0.02, 1.0), False)])
def test_a_given_step_has_priority_over_the_files(node, pointed_out):
    """SpikingJelly writes r = 1 for decay_input=True, and then the step is not in the file."""
    circuit = read(chain(affine(1.0), node), tool="spikingjelly", file_time_per_step=1e-3)
    assert circuit.time_step == 1e-3
    said = "file_time_per_step is 0.001 s, though tool='spikingjelly' gives 0.0001 s: check how far a spike moves"
    assert (f"{said} (node 'n1')" in circuit.assumptions) == pointed_out


# ----- presets


@pytest.mark.parametrize(
    ("tool", "node", "moved", "reset", "spikes"),
    [
        ("snntorch", lif(0.02, 200.0), 1.0, "subtract", "many"),
        ("snntorch", cuba(0.008, 0.02, 200.0, 80.0), 1.0, "subtract", "many"),
        ("norse", if_node(), 1.0, "zero", "one"),
        ("norse", lif(0.02, 1.0), 1e-3 / 0.02, "zero", "one"),
        ("norse", cuba(0.008, 0.02), 1.0, "zero", "one"),
        ("sinabs", if_node(), 1.0, "subtract", "many"),
        ("sinabs", lif(20.0, 1.0), 1 / 20, "subtract", "many"),
        ("spikingjelly", if_node(r=1e4), 1.0, "zero", "one"),
        ("spikingjelly", lif(0.02, 1.0), 1e-4 / 0.02, "zero", "one"),
        ("spikingjelly", lif(0.02, 200.0), 1.0, "zero", "one"),
        ("rockpool", lif(0.02, 20 * np.exp(-1 / 20)), np.exp(-1 / 20), "subtract", "many"),
        ("rockpool", cuba(0.008, 0.02, 20 * np.exp(-1 / 20)), 1.0, "subtract", "many"),
        ("nir", lif(0.02, 0.02), 1.0, "zero", "one"),
    ],
)
def test_what_a_preset_makes_of_a_neuron(tool, node, moved, reset, spikes):
    """``moved``: what a spike of weight 1 adds to the membrane, or to the synaptic current."""
    circuit = read(chain(affine(1.0), node), tool=tool)
    rule = circuit.readout.rule
    assert (float(rule.gain), rule.reset, rule.spikes) == (pytest.approx(moved, rel=1e-4), reset, spikes)
    assert any(f"reset='{reset}' is assumed" in a for a in circuit.assumptions)
    assert read(chain(affine(1.0), node), tool=tool, reset="zero").readout.rule.reset == "zero"


def test_rockpools_synapse_in_front_of_a_neuron():
    """ExpSyn is an LI, whose spikes are one time step wide; its time constant gives the length of a step."""
    r = 8 * np.exp(-1 / 8)  # tau 8 ms, dt 1 ms
    circuit = read(chain(affine(1.0), li(0.008, r), lif(0.02, 20 * np.exp(-1 / 20))), tool="rockpool")
    rule = circuit.readout.rule
    assert circuit.time_step == pytest.approx(1e-3)
    (connection,) = circuit.into(circuit.output)
    assert connection.matrix.toarray() * rule.gain == pytest.approx(np.exp(-1 / 8))  # of the synapse, per spike
    assert float(rule.r) == pytest.approx(20 * np.exp(-1 / 20))  # a current, which has no integral


def test_a_loop_has_a_delay_of_one_step_of_the_tool():
    graph = loop(lif(1e9, 1e13))
    assert fired(run(graph, 1, tool="snntorch", reset="zero", duration=0.00125), "n1") == [1.0, 1.1, 1.2]
    late = run(graph, 1, tool="snntorch", reset="zero", time_per_step=2e-3, duration=0.006)
    assert fired(late, "n1") == [1.0, 3.0, 5.0]


# ----- the time of the recording


@pytest.mark.parametrize(
    "nodes",
    [
        (affine(0.4, 300.0), if_node(r=1e4, refractory=2e-4)),
        (affine(0.4, 0.01), lif(0.002, 20.0)),
        (affine(0.9, 0.03), cuba(0.0008, 0.002, 20.0, 8.0)),
        (affine(9.0, 0.9), li(0.0008, 1.0), lif(0.002, 20.0)),
        (affine(9.0, 0.9), li(0.0008, 1.0), if_node(r=1e4)),
        (affine(0.7), nir.Delay(np.array([3e-4])), lif(0.002, 20.0)),
    ],
)
def test_another_length_of_a_step_stretches_everything(nodes):
    """The same steps, 1 ms long instead of 0.1 ms: all times are ten times as long, and nothing else changes."""
    graph, steps = chain(*nodes), np.array([1, 2, 3, 5, 5, 6, 7, 9, 12, 20])
    options = ZERO | {"spike_integral": 1e-4}
    own = run(graph, *0.1 * steps, duration=0.005, **options)
    stretched = run(graph, *steps, duration=0.05, time_per_step=1e-3, **options)
    (name,) = (p.name for p in own.circuit.populations)
    assert len(own.spikes[name].t) >= 2
    np.testing.assert_allclose(stretched.spikes[name].t, 10 * own.spikes[name].t, rtol=1e-9)
    assert stretched.duration == 0.05


def test_results_are_in_the_time_of_the_recording():
    """sinabs: tau is 20 steps. Two spikes of 0.6 three steps apart do not reach the threshold; 0.7 do."""
    graph = chain(affine(14.0), lif(20.0, 1.0))
    result = run(graph, 1, 4, tool="sinabs", time_per_step=1e-3)
    assert fired(result, "n1") == [4.0]  # 0.7 exp(-3 / 20) + 0.7 = 1.30
    assert result.circuit.readout.rule.tau == pytest.approx(0.02)
    assert result.circuit.time_step == 1e-3
    assert any("1 s of the file" in a and "0.001 s of the recording" in a for a in result.assumptions)
    assert fired(run(chain(affine(10.0), lif(20.0, 1.0)), 1, 10, tool="sinabs", time_per_step=1e-3), "n1") == []


# ----- bad input


@pytest.mark.parametrize(
    ("graph", "options", "message"),
    [
        (chain(affine(1.0), cuba(0.008, 0.02)), {"tool": "sinabs"}, r"'n1' is a CubaLIF, which sinabs does not write"),
        (chain(affine(1.0), if_node()), {"tool": "snntorch"}, r"'n1' is a IF, which snnTorch does not write.*LIF, Cub"),
        (chain(affine(1.0), li(1.0, 1.0)), {"tool": "spikingjelly"}, "LI, which SpikingJelly does not write"),
        (chain(affine(1.0), nir.I(np.ones(1))), {"tool": "norse"}, "I, which Norse does not write"),
        (
            chain(nir.Scale(np.ones(1)), lif(0.02, 200.0)),
            {"tool": "snntorch"},
            "'n0' is a Scale, which snnTorch does not",
        ),
        (
            chain(nir.Flatten({"input": np.array([1])}, 0, -1), lif(0.02, 200.0)),
            {"tool": "rockpool"},
            "'n0' is a Flatten, which Rockpool does not write",
        ),
        (
            chain(affine(1.0), if_node()),
            {"reset": "zero", "spikes": "many"},
            "no neuron of the graph resets by subtract",
        ),
        (chain(affine(1.0), nir.I(np.ones(1))), {"lower_bound": -1.0}, "no neuron of the graph fires; leave it out"),
        (chain(affine(1.0), if_node()), {"tool": "nest"}, "tool must be one of 'snntorch', 'norse', 'sinabs'"),
        (chain(affine(1.0), if_node()), {"tool": ["nir"]}, "tool must be one of"),
        (chain(affine(1.0), if_node()), {"tool": "nir", "time_per_step": 1e-3}, "tool='nir' has no time steps"),
        (
            chain(affine(1.0), if_node()),
            ZERO | {"time_per_step": 1e-3},
            "needs the length of a step in the time of the",
        ),
        (chain(affine(1.0), if_node()), ZERO | {"time_per_step": 0}, "time_per_step must be one number > 0, not 0"),
        (chain(affine(1.0), if_node()), ZERO | {"bias": "per-step"}, "bias='per-step' needs the length of a step"),
        (chain(affine(1.0), if_node()), ZERO | {"bias": "always"}, "bias must be one of 'per-second', 'per-step'"),
        (chain(affine(1.0), if_node()), ZERO | {"spike_integral": "guess"}, "spike_integral is not numeric: 'guess'"),
        (chain(affine(1.0), if_node()), ZERO | {"lower_bound": "two thresholds"}, "lower_bound must be a potential"),
        (chain(affine(1.0), if_node()), ZERO | {"lower_bound": "-1 mV"}, "lower_bound must be a potential"),
        (chain(affine(1.0), if_node()), ZERO | {"lower_bound": "nan"}, "lower_bound must be a potential"),
        (chain(affine(1.0), if_node()), ZERO | {"lower_bound": "2 thresholds"}, "must lie below the threshold"),
        (chain(affine(1.0), if_node()), ZERO | {"loop_delay": 1e-4}, "the graph has no loop; leave it out"),
        (
            chain(affine(1.0), if_node(reset="zero")),
            {"reset": "subtract"},
            "reset='subtract' contradicts the metadata of",
        ),
        (
            chain(affine(1.0), if_node(reset="subtract", spikes="one")),
            {"spikes": "many"},
            "spikes='many' contradicts the",
        ),
        (
            chain(affine(1.0), if_node(lower_bound=-1.0)),
            ZERO | {"lower_bound": "none"},
            "lower_bound='none' contradicts",
        ),
        (
            chain(affine(1.0), li(0.01, 1.0), affine(1.0), if_node()),
            {"tool": "norse"},
            "what its potential amounts to in",
        ),
        (
            chain(affine(1.0), lif(0.02, 1.0)),
            {"tool": "snntorch"},
            "tau / r of node 'n1' is 0.02 s; snnTorch writes 0.0001",
        ),
        (chain(affine(1.0), lif(0.02, 200.0)), {"tool": "norse"}, "r of node 'n1' is 200; Norse writes r = 1"),
        (
            chain(affine(1.0), cuba(0.01, 0.02, w_in=2.0)),
            {"tool": "norse"},
            "w_in of node 'n1' is 2; Norse writes w_in",
        ),
        (chain(affine(1.0), lif(0.02, 200.0)), {"tool": "sinabs"}, "r of node 'n1' is 200; sinabs writes r = 1"),
        (
            chain(affine(1.0), lif(0.02, 1.0)),
            {"tool": "rockpool"},
            "r of node 'n1' is 1, from which no time step follows",
        ),
        (
            chain(affine(1.0), lif(0.02, 200.0), affine(1.0), lif(0.02, 20.0)),
            {"tool": "snntorch"},
            "no single number fits; pass spike_integral=",
        ),
    ],
)
def test_one_line_for_options_that_do_not_fit(graph, options, message):
    with pytest.raises(InputError, match=message) as caught:
        read(graph, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("node", "options", "named"),
    [
        (if_node(r=1e10), {"spike_integral": 1e308}, r"with spike_integral=1e\+308"),
        (lif(0.02, 1.0), {"spike_integral": 1e308}, r"with spike_integral=1e\+308"),
        (cuba(0.02, 0.02), {"spike_integral": 1e308}, r"with spike_integral=1e\+308"),
        (if_node(), {"spike_integral": 1e-305}, "with spike_integral=1e-305"),
        (
            if_node(),
            {"spike_integral": 1e-200, "time_per_step": 1e200},
            r"with spike_integral=1e-200, time_per_step=1e\+200",
        ),
        (
            if_node(),
            {"spike_integral": 1e200, "file_time_per_step": 1e-200, "bias": "per-step"},
            r"with spike_integral=1e\+200, file_time_per_step=1e-200, bias='per-step'",
        ),
    ],
)
def test_options_that_make_values_too_large_are_named(node, options, named):
    with pytest.raises(InputError, match=rf"^node 'n1'.*\({named}\)$"):
        read(chain(affine(1.0, 1e10), node), **ZERO, **options)


def test_metadata_of_some_neurons_come_before_an_option():
    graph = chain(affine(1.0), if_node(reset="zero"), affine(1.0), if_node())
    circuit = read(graph, reset="subtract")
    assert [p.rule.reset for p in circuit.populations] == ["zero", "subtract"]
    assert "metadata have reset='zero', so that reset='subtract' is not used (node 'n1')" in circuit.assumptions
    # The same value is no contradiction, and a loop may have a delay already.
    assert read(graph, reset="zero").readout.rule.reset == "zero"
    assert read(loop(if_node(), delay=1e-3), **ZERO, loop_delay=1e-4).input_shape == (1,)


def test_a_circuit_accepts_no_options():
    circuit = read(chain(affine(1.0), if_node()), **ZERO)
    assert read(circuit) is circuit
    with pytest.raises(InputError, match="tool is for graphs and files; a circuit has been read already"):
        run(circuit, 1, tool="sinabs")


def test_presets_on_all_engines(monkeypatch):
    monkeypatch.setitem(brian2.prefs, "codegen.target", "numpy")
    graph, options = chain(affine(0.6), lif(0.002, 20.0)), {"tool": "snntorch", "time_per_step": 1e-3}
    recording = mb.events.make_recording([1000, 2000, 9000], [0, 0, 0])
    for engine in ("exact", "brian2"):
        result = mb.simulate(graph, recording, engine=engine, duration=0.01, **options, **FAST_TO_START[engine])
        assert fired(result, "n1") == [2.0]  # 0.6 exp(-1 / 20) + 0.6 = 1.17, then 0.17 exp(-7 / 20) + 0.6
    for build in (
        mb.translate.to_brian2,
        lambda *given, **more: mb.translate.to_clock_driven(given[0], [given[1]], **more),
    ):
        network = build(graph, recording, **options)
        network.run(network.duration)
        assert network.circuit.time_step == 1e-3
        assert network.circuit.readout.rule.tau == pytest.approx(0.02)


def test_a_run_shorter_than_a_step_of_the_tool():
    graph = chain(affine(1.0), if_node())
    with pytest.raises(
        InputError, match=r"recording 0: the run lasts 0\.01 s, less than one time step of the tool, 1 s"
    ):
        run(graph, 1, 2, tool="sinabs")
    assert run(graph, 1, 2, tool="sinabs", time_per_step=1e-3).counts["n1"].tolist() == [2]
    assert run(graph, 1, tool="sinabs", duration=1.0).counts["n1"].tolist() == [1]
    assert run(graph, 1, 2, **ZERO, duration=1e-3).counts["n1"].tolist() == [1]  # no steps, nothing to be shorter than


# ----- how far a spike moves


@pytest.mark.parametrize("taus", [(0.008, 0.02), (0.02, 0.008), (0.02, 0.02)])
def test_the_peak_behind_a_synapse(taus):
    rule = CubaLIF(threshold=0.5, tau_syn=taus[0], tau=taus[1], r=3.0, w_in=0.1)
    times = np.linspace(0, 0.1, 20001)
    x = np.exp(-times / taus[0]) * 3.0 * 0.1 / taus[0]
    v = np.cumsum(x * np.exp(times / taus[1])) * np.exp(-times / taus[1]) * (times[1] / taus[1])
    assert peak_of_spike(rule, 1) == pytest.approx([v.max() / 0.5], rel=1e-3)
    system = CubaLIF(threshold=None, tau_syn=taus[0], tau=taus[1], r=3.0, w_in=0.1).linear_system()
    sampled = peak_of_spike(LinearNeuron(threshold=0.5, systems=(system,)), 2)
    np.testing.assert_allclose(sampled, 2 * [v.max() / 0.5], rtol=1e-3)


# ----- the command line


@pytest.fixture
def saved(tmp_path):
    weights = nir.Affine(np.array([[0.4], [-0.6], [2.0]]), np.zeros(3))
    node = nir.LIF(*(np.full(3, v) for v in (0.02, 200.0, 0.0, 2.0)))
    graph = chain(weights, node, nir.Linear(np.array([[1.5, 0.0, 0.0], [0.0, 0.0, 3.0]])))
    graph.nodes["output"] = nir.Output({"output": np.array([2])})
    nir.write(tmp_path / "m.nir", graph)
    (tmp_path / "e.csv").write_text("t,x,y,p\n1000,0,0,0\n2000,0,0,0\n3000,0,0,0\n")
    return tmp_path


def test_info_shows_the_jump_of_a_spike(saved, capsys):
    assert entry_point(["info", str(saved / "m.nir"), "--tool", "snntorch"]) == 0
    out = capsys.readouterr().out
    assert "| 0.3 (1) thresholds" in out  # 0.4, 0.6 and 2 against a threshold of 2
    assert "assumed: a time step of snnTorch is 0.0001 s of the file" in out
    assert entry_point(["info", str(saved / "m.nir"), "--reset", "zero"]) == 0
    out = capsys.readouterr().out
    assert "| 3e+03 (1e+04) thresholds" in out
    assert "assumed: spike_integral is 1 s, though tau / r is 0.0001 s" in out


@pytest.mark.parametrize(
    "options",
    [
        ["--tool", "snntorch", "--lower-bound", "-1 thresholds"],
        ["--reset", "subtract", "--spike-integral", "infer", "--lower-bound", "-2", "--bias", "per-second"],
        ["--reset", "subtract", "--spike-integral", "1e-4", "--file-time-per-step", "1e-4", "--bias", "per-step"],
    ],
)
def test_simulate_with_a_preset_and_with_options(saved, options, capsys):
    files = [str(saved / "m.nir"), str(saved / "e.csv")]
    out = ["--out", str(saved / "out")]
    assert entry_point(["simulate", *files, *options, "--time-per-step", "1e-3", "--duration", "0.004", *out]) == 0
    said = capsys.readouterr().out
    assert "prediction 1, ahead of 0 by 9 (in weights of the tool)" in said
    with np.load(saved / "out" / "spikes.npz") as written:
        assert written["n1_counts"].tolist() == [0, 0, 3]
        assert written["tool_readout"].tolist() == pytest.approx([0, 9])
        assert written["readout"].tolist() == pytest.approx([0, 9e-4])
        assert "0.001 s of the recording" in str(written["assumptions"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tool", "snntorch", "--loop-delay", "1e-4"], "the graph has no loop"),
        (["--tool", "rockpool", "--time-per-step", "10"], "the run lasts 0.004 s, less than one time step"),
        (["--reset", "zero", "--bias", "per-step"], "bias='per-step' needs"),
    ],
)
def test_one_line_on_the_command_line(saved, options, message, capsys):
    command = ["simulate", str(saved / "m.nir"), str(saved / "e.csv"), "--duration", "0.004", *options]
    assert entry_point([*command, "--out", str(saved / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert message in error


# ----- one object for all options


def test_an_object_and_keyword_arguments_are_equivalent():
    graph = chain(affine(1.0), lif(0.02, 200.0))
    conventions = mb.Conventions(tool="snntorch", reset="zero", time_per_step=1e-3)
    assert conventions.given == {"tool": "snntorch", "reset": "zero", "time_per_step": 1e-3}
    with_object = run(graph, 1, 2, 3, conventions=conventions)
    beside_it = run(graph, 1, 2, 3, conventions=mb.Conventions(tool="snntorch"), reset="zero", time_per_step=1e-3)
    for result in (with_object, beside_it):
        assert result.assumptions == run(graph, 1, 2, 3, **conventions.given).assumptions
        assert fired(result, "n1") == fired(run(graph, 1, 2, 3, **conventions.given), "n1")
    assert mb.translate.read_nir(graph, conventions).assumptions == with_object.assumptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resett": "zero"}, "takes no option 'resett'; its options: .*; options for graphs: tool, reset"),
        ({"conventions": {"reset": "zero"}}, "conventions must be a Conventions object"),
        ({"conventions": mb.Conventions(reset="zero"), "reset": "zero"}, "reset is given twice, in conventions="),
    ],
)
def test_options_that_do_not_exist_or_are_given_twice_are_refused(options, message):
    with pytest.raises(mb.InputError, match=message):
        run(chain(affine(1.0), if_node()), 1, **options)


def test_an_option_that_does_not_exist_is_refused_before_a_graph_is_read():
    with pytest.raises(mb.InputError, match="there is no option 'resett'; options for graphs are tool, reset, spikes"):
        mb.translate.read_nir("nowhere.nir", resett="zero")


def test_a_field_is_set_at_its_beginning_only():
    with pytest.raises(AttributeError):
        mb.Conventions().reset = "zero"


# ----- where a membrane starts


def starting(kind, **values):
    """A neuron of threshold 1 with a slow leak, which an arrival of weight 1 moves by 0.3 in its tool."""
    given = {"r": 300.0, "v_threshold": 1.0, "v_reset": 0.5} if kind is nir.IF else {"tau": 1e6, "r": 3e8}
    given |= {} if kind is nir.IF else {"v_leak": 0.5, "v_threshold": 1.0, "v_reset": 0.5}
    return kind(**{key: np.array([value]) for key, value in (given | values).items()})


STEPS = {"tool": "spikingjelly", "spike_integral": 0.001}
NORSE = {"tool": "norse"}


@pytest.mark.parametrize(
    ("weight", "node", "options", "expected"),
    [
        (1, starting(nir.IF), STEPS, [2, 4]),  # 0.5, 0.8, 1.1
        (1, starting(nir.LIF), STEPS, [2, 4]),
        (1, starting(nir.IF, v_reset=-0.2), STEPS, [4]),  # -0.2, 0.1, 0.4, 0.7, 1.0
        (0.3, starting(nir.IF, r=1.0), NORSE, [2, 4]),
        (3e8, starting(nir.LIF, r=1.0), NORSE, [2, 4]),
        (3e8, starting(nir.LIF, r=1.0, v_leak=0.9), NORSE, [1, 3]),  # 0.9, 1.2; 0.5, 0.8, 1.1
        (1, starting(nir.IF), {"reset": "zero", "spike_integral": 0.001}, [4]),  # 0, 0.3, 0.6, 0.9, 1.2
    ],
)
def test_a_membrane_starts_where_its_tool_starts_it(weight, node, options, expected):
    result = run(chain(affine(float(weight)), node), 1, 2, 3, 4, duration=0.005, **options)
    assert fired(result, "n1") == expected
    assert any("membrane starts at v_" in sentence for sentence in result.assumptions) == ("tool" in options)


def test_a_lower_bound_is_counted_from_the_start_too():
    options = STEPS | {"lower_bound": "-1 thresholds"}
    rule = read(chain(affine(1.0), starting(nir.IF)), **options).population["n1"].rule
    assert (rule.threshold, rule.v_reset, rule.lower_bound) == (0.5, 0.0, -1.5)


@pytest.mark.parametrize(
    ("node", "options"),
    [
        (starting(nir.LIF, r=1.0, v_reset=0.0), NORSE | {"reset": "subtract"}),  # 1 is subtracted, whatever the start
        (starting(nir.LIF, r=1.0, v_leak=2.0), NORSE),  # starts above its threshold
        (nir.LI(np.ones(1), np.ones(1), np.ones(1)), NORSE),
    ],
)
def test_a_start_that_cannot_be_is_listed(node, options):
    circuit = read(chain(affine(1.0), node), **options)
    assert "the membrane starts at 0, and in Norse at v_leak (node 'n1')" in circuit.assumptions


def test_a_start_is_stated():
    options = mb.Conventions(**STEPS, lower_bound="-1 thresholds")
    stated = mb.translate.stated(chain(affine(1.0), starting(nir.IF, r=1000.0)), options)
    rule = read(stated, spike_integral=0.001).population["n1"].rule
    assert (rule.threshold, rule.v_reset, rule.lower_bound, rule.reset) == (0.5, 0.0, -1.5, "zero")


def test_a_start_that_a_tool_has_is_listed():
    graph = chain(affine(0.3), nir.IF(np.ones(1), np.ones(1), np.full(1, 0.5), metadata=ZERO))
    _, lost = mb.translate.for_tool(graph, "spikingjelly", step=0.001)
    assert lost == ("SpikingJelly starts the membrane at v_reset, a run here at 0 (nodes 'n1')",)


@pytest.mark.parametrize(("v_reset", "listed"), [(0.0, True), (-0.5, False)])
def test_a_reset_that_norse_leaves_out_is_listed(v_reset, listed):
    circuit = read(chain(affine(1.0), starting(nir.LIF, r=1.0, v_reset=v_reset)), **NORSE)
    sentence = "v_reset is 0, because Norse's exporter does not write it (node 'n1')"
    assert (sentence in circuit.assumptions) == listed


def test_a_step_that_a_graph_without_neurons_does_not_hold():
    with pytest.raises(
        InputError, match=r"no neuron in the graph tells the length of a step .*: pass file_time_per_step="
    ):
        read(chain(affine(1.0)), tool="snntorch", time_per_step=1e-3)
