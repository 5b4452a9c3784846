"""Values that were wrong without a message once: gains, times, counts, constants, biases, records. Checked by hand."""

import itertools
import threading
from fractions import Fraction

import brian2
import mpmath
import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mtt_brian as mb
from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Conv2d, Delay, Dense, Scale, pool2d
from mtt_brian.engines.base import InputSpikes
from mtt_brian.engines.brian2 import runtime
from mtt_brian.engines.exact import ExactEngine
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF
from tests import rational
from tests.engines import every_engine, recording, simulator, trains

TIMES = np.arange(1, 201) * 1000  # a whole number of milliseconds, in microseconds


def chain(*nodes):
    """input -> nodes -> output, whose shapes are those of the first and the last node's numbers."""
    named = {f"n{k}": node for k, node in enumerate(nodes)}
    first, last = nodes[0], nodes[-1]
    sizes = first.weight.shape[1], len(last.weight) if hasattr(last, "weight") else last.r.size
    graph = {"input": nir.Input(input_type=np.array([sizes[0]])), **named}
    graph["output"] = nir.Output(output_type=np.array([sizes[1]]))
    names = list(graph)
    return nir.NIRGraph(graph, list(itertools.pairwise(names)), type_check=False)


def neuron(n=1, threshold=1.0, r=1.0, **metadata):
    return nir.IF(r=np.full(n, r), v_threshold=np.full(n, threshold), metadata={"reset": "subtract"} | metadata)


def train(*events, duration):
    """(microsecond, pixel) pairs."""
    codes, order, n = np.unique(
        np.array([complex(t, i) for t, i in events], dtype=complex), return_inverse=True, return_counts=True
    )
    return InputSpikes(codes.real / 1e6, codes.imag.astype(np.int64), n, order, duration)


# ----- gains


def operators(kind, channels):
    """A chain of operators from (2, 2, 2) to ``channels`` channels, and its shape."""
    rng = np.random.default_rng(channels)
    shape = (2, 2, 2)
    conv = Conv2d(rng.integers(1, 5, (channels, 2, 1, 1)) / 4, (1, 1), ((0, 0), (0, 0)), (1, 1), 1, shape)
    pool = pool2d((2, 2), (2, 2), ((0, 0), (0, 0)), shape, average=False)
    dense = Dense(rng.integers(1, 5, (channels, 8)) / 4, (8,))
    match kind:
        case "conv":
            return (conv,), conv.output_shape
        case "conv, scale":
            return (conv, Scale(rng.integers(1, 4, conv.output_shape) / 2)), conv.output_shape
        case "pool, conv":
            behind = Conv2d(conv.weight, (1, 1), ((0, 0), (0, 0)), (1, 1), 1, pool.output_shape)
            return (pool, behind), behind.output_shape
        case "dense":
            return (dense,), (channels,)
        case "dense, scale":
            return (dense, Scale(np.full(channels, 0.5))), (channels,)
        case "delay":
            return (dense, Delay(np.full(channels, 0.001))), (channels,)
    raise AssertionError(kind)


#: Every gain, on the engine that stores gains in several forms.
GAINS = {"exact": (0.5, 1.0, 2.0, 3.0), "brian2": (0.5, 3.0)}

#: Rule, and the time for which its readout is looked at: what a jump of 1 in its state is then in its potential.
SILENT = {
    "IF": lambda g: (IF(threshold=None, r=g), 1.0),
    "IF on a line": lambda g: (IF(threshold=None, r=g, bias=0.0), 1.0),
    "LIF": lambda g: (LIF(threshold=None, tau=0.01, r=0.01 * g), np.exp(-0.5)),
    "CubaLIF": lambda g: (
        CubaLIF(threshold=None, tau=0.01, tau_syn=0.005, w_in=0.005 * g),
        (np.exp(-1.0) - np.exp(-0.5)) / (1 - 0.01 / 0.005),
    ),
}


engine_and_channels = pytest.mark.parametrize(
    ("engine", "channels"),
    [
        *(("exact", channels) for channels in (1, 2, 3)),
        *(pytest.param("brian2", k, marks=[pytest.mark.slow] if k != 2 else []) for k in (1, 2, 3)),
    ],
)


@engine_and_channels
@pytest.mark.parametrize("kind", ["conv", "conv, scale", "pool, conv", "dense", "dense, scale", "delay"])
@pytest.mark.parametrize("rule", SILENT)
def test_a_silent_readout_is_gain_times_matrix_times_counts(engine, rule, kind, channels):
    chain, shape = operators(kind, channels)
    spikes = np.array([1, 0, 2, 0, 3, 1, 0, 1])
    t = 0.002  # all events at one instant, 5 ms before the end as they arrive
    arrives = t + (0.001 if kind == "delay" else 0.0)
    at = np.flatnonzero(spikes)
    events = InputSpikes(np.full(len(at), t), at, spikes[at], np.zeros(0, np.int64), arrives + 0.005)
    for gain in GAINS[engine]:
        silent, left = SILENT[rule](gain)
        circuit = Circuit(
            "input", (2, 2, 2), (Population("out", shape, silent),), (Connection("input", "out", chain, (), 8),), "out"
        )
        (result,) = simulator(circuit, engine).engine.run([events])
        expected = gain * left * (circuit.into("out")[0].matrix @ spikes)
        np.testing.assert_allclose(result.readout, expected, rtol=1e-12)


@engine_and_channels
@pytest.mark.parametrize("kind", ["conv", "conv, scale", "pool, conv", "dense", "dense, scale"])
@pytest.mark.parametrize("rule", ["IF", "LIF"])
def test_spikes_at_once_are_gain_times_matrix_times_counts(engine, rule, kind, channels):
    chain, shape = operators(kind, channels)
    spikes = np.array([1, 0, 2, 0, 3, 1, 0, 1])
    at = np.flatnonzero(spikes)
    events = InputSpikes(np.full(len(at), 0.002), at, spikes[at], np.zeros(0, np.int64), 0.01)
    largest = 0
    for gain in GAINS[engine]:
        # tau is a power of two, so that r / tau is the gain without rounding.
        many = {"threshold": 1.0, "spikes": "many"}
        fires = IF(r=gain, **many) if rule == "IF" else LIF(tau=2.0**-7, r=gain * 2.0**-7, **many)
        circuit = Circuit(
            "input", (2, 2, 2), (Population("out", shape, fires),), (Connection("input", "out", chain, (), 8),), "out"
        )
        (result,) = simulator(circuit, engine).engine.run([events])
        expected = np.floor(gain * (circuit.into("out")[0].matrix @ spikes))
        largest = max(largest, expected.max())
        np.testing.assert_array_equal(result.counts["out"].ravel(), expected)
    assert largest > 2


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_gain_of_a_spike_integral_counts_once(outputs):
    lif = nir.LIF(tau=np.full(2, 0.001), r=np.full(2, 10.0), v_leak=np.zeros(2), v_threshold=np.full(2, 0.9))
    graph = nir.NIRGraph.from_list(
        nir.Linear(weight=np.ones((2, 1))), lif, nir.Linear(weight=np.full((outputs, 2), 3.0))
    )
    result = mb.simulate(graph, mb.events.make_recording([10], 0), engine="exact", reset="zero", spike_integral=1e-4)
    np.testing.assert_allclose(result.readout, [6e-4] * outputs, rtol=1e-12)
    np.testing.assert_allclose(result.readout_at(1.0), [6e-4] * outputs, rtol=1e-12)


# ----- whole microseconds


@pytest.mark.parametrize("milliseconds", [1, 2, 3, 5, 7])
def test_a_neuron_listens_again_exactly_when_its_refractory_period_is_over(milliseconds, monkeypatch):
    graph = chain(nir.Linear(weight=np.ones((1, 1))), neuron(refractory=milliseconds / 1000))
    expected = TIMES[::milliseconds]
    spikes = mb.simulate(graph, mb.events.make_recording(TIMES, 0), engine="exact").spikes["n1"]
    assert np.rint(spikes.t * 1e6).astype(int).tolist() == expected.tolist()
    monkeypatch.setitem(brian2.prefs, "codegen.target", "numpy")
    network = mb.translate.to_clock_driven(graph, mb.events.make_recording(TIMES, 0), dt=1 * brian2.ms)
    network.run(network.duration)
    (t, _, _) = network.trains()["n1"]
    assert np.rint(t * 1e6).astype(int).tolist() == expected.tolist()


def delayed_and_direct(delay):
    """Pixel 0 arrives ``delay`` later with +1, pixel 1 at once with -1."""
    nodes = {
        "input": nir.Input(input_type=np.array([2])),
        "up": nir.Linear(weight=np.array([[1.0, 0.0]])),
        "delay": nir.Delay(delay=np.array([delay])),
        "down": nir.Linear(weight=np.array([[0.0, -1.0]])),
        "if": neuron(lower_bound=-0.5),
        "output": nir.Output(output_type=np.array([1])),
    }
    edges = [("input", "up"), ("up", "delay"), ("delay", "if"), ("input", "down"), ("down", "if"), ("if", "output")]
    return nir.NIRGraph(nodes, edges, type_check=False)


@settings(max_examples=60)
@given(us=st.integers(1, 10**8), delay=st.integers(1, 10**6))
def test_a_delayed_and_a_direct_arrival_at_one_instant_are_summed(us, delay):
    # +1 and -1 at one instant cancel; the same +1 alone fires.
    graph = delayed_and_direct(delay / 1e6)
    both = mb.events.make_recording([us, us + delay], [0, 1])
    assert len(mb.simulate(graph, both, engine="exact").spikes["if"].t) == 0
    alone = mb.simulate(graph, both[:1], engine="exact", duration=(us + delay) / 1e6).spikes["if"]
    assert alone.t.tolist() == [(us + delay) / 1e6]  # at the very end of the run, and the recorded time bit for bit


@settings(max_examples=60)
@given(us=st.integers(1, 10**8), delay=st.integers(1, 10**6), cut=st.integers(0, 10**6))
def test_a_run_in_two_pieces_keeps_the_instants(us, delay, cut):
    graph = delayed_and_direct(delay / 1e6)
    circuit = mb.translate.read_nir(graph)
    engine = ExactEngine(circuit)
    # Cut between the two events, at the instant of one of them, or anywhere.
    at = us + min(cut, delay - 1)
    run = engine.start()
    first = run.feed(train((us, 0), duration=at / 1e6))
    second = run.feed(train((us + delay, 1), duration=(us + delay) / 1e6))
    assert len(first.spikes["if"].t) == len(second.spikes["if"].t) == 0
    run.reset()
    run.feed(train((us, 0), duration=at / 1e6))
    assert run.feed(train(duration=(us + delay) / 1e6)).spikes["if"].t.tolist() == [(us + delay) / 1e6]


@every_engine
def test_a_duration_computed_in_any_way_keeps_the_last_event(engine):
    graph = chain(nir.Linear(weight=np.ones((1, 1))), neuron())
    run = simulator(graph, engine)
    last = [35, 41, 57, 999_999, 4_107_003]
    recordings = [recording([(1, 0), (t, 0)]) for t in last]
    for result, t in zip(run.run(recordings, [t * 1e-6 for t in last]), last, strict=True):
        assert result.spikes["n1"].t.tolist() == [1e-6, t / 1e6]
        assert result.duration == t / 1e6


# ----- spikes at once


def pairs():
    """20 thresholds, each for a population of 20 neurons with 20 weights; among them multiples of the threshold."""
    rng = np.random.default_rng(0)
    thresholds = np.round(rng.uniform(0.05, 2.0, 20), 2)
    thresholds[:3] = 0.1, 0.3, 0.7
    weights = np.round(rng.uniform(0.1, 5.0, (20, 20)), 2)
    weights[:, :10] = np.round(thresholds[:, None] * rng.integers(1, 30, (20, 10)), 2)
    return thresholds, weights


def check_400_pairs(engine, groups, **options):
    """A population for each group of thresholds; the last one is the output."""
    thresholds, weights = pairs()
    nodes, edges = {"input": nir.Input(input_type=np.array([1]))}, []
    for k, group in enumerate(groups):
        w, each = np.concatenate([weights[j] for j in group])[:, None], np.repeat([thresholds[j] for j in group], 20)
        nodes[f"w{k}"], nodes[f"p{k}"] = nir.Linear(weight=w), neuron(len(w), each, spikes="many")
        edges += [("input", f"w{k}"), (f"w{k}", f"p{k}")]
    nodes["output"], edges = nir.Output(output_type=np.array([len(w)])), [*edges, (f"p{k}", "output")]
    graph = nir.NIRGraph(nodes, edges, type_check=False)
    (result,) = simulator(graph, engine, **options).run([recording([(1000, 0)])])
    for k, group in enumerate(groups):
        expected = [int(np.floor(w / thresholds[j])) for j in group for w in weights[j]]
        assert result.counts[f"p{k}"].tolist() == expected, group


@pytest.mark.parametrize("engine", ["exact", "brian2"])
def test_400_weights_and_thresholds_give_the_floor_of_their_quotient(engine):
    check_400_pairs(engine, [[k] for k in range(20)])


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "options"), [("brian2", {"target": "cython"}), ("brian2-cpp", {})])
def test_400_weights_and_thresholds_on_compiled_engines(engine, options, unoptimised):
    check_400_pairs(engine, [[0], range(1, 20)], **options)  # two populations, for a compiler takes its time for each


@every_engine
def test_counts_beyond_32_bits_are_right_and_those_beyond_float64_are_refused(engine):
    graph = chain(nir.Linear(weight=np.array([[1e10, 1e19]])), neuron(spikes="many"))
    run = simulator(graph, engine)
    (result,) = run.run([recording([(1, 0), (2, 0)])])
    assert trains(result)["n1"] == [(1e-6, 0, 10**10), (2e-6, 0, 10**10)]
    assert result.counts["n1"].tolist() == [2 * 10**10]
    with pytest.raises(
        InputError, match=r"population 'n1', neuron 0 .*at 3e-06 s: more spikes at once.*spike_integral"
    ):
        list(run.run([recording([(3, 1)])]))
    # The simulator is as good as new.
    assert next(iter(run.run([recording([(1, 0)])]))).counts["n1"].tolist() == [10**10]


@every_engine
def test_a_potential_that_float64_cannot_hold_is_refused(engine):
    graph = chain(nir.Linear(weight=np.array([[1e308]])), nir.I(r=np.ones(1)))
    # Brian2 cannot reconstruct a silent potential: these weights are refused there.
    exact = r"population 'n1': a potential.* larger than float64 can hold"
    with pytest.raises(InputError, match=exact if engine == "exact" else r"'input' -> 'n1' has weights above 1e\+280"):
        list(simulator(graph, engine).run([recording([(1, 0), (2, 0)])]))


@every_engine
def test_a_synaptic_drive_that_float64_cannot_hold_is_refused(engine):
    # The current is 3e5, r times that is 3e310: the neuron never fired.
    neurons = CubaLIF(tau=0.02, tau_syn=0.01, r=1e305, reset="zero")
    into = Connection("input", "p", (Dense(np.array([[3e3]]), (1,)),), (), 1)
    circuit = Circuit("input", (1,), (Population("p", (1,), neurons),), (into,), "p")
    with pytest.raises(InputError, match="fires without end" if engine == "exact" else r"has weights above 1e\+280"):
        list(simulator(circuit, engine).run([recording([(1, 0)])]))
    with pytest.raises(InputError, match="a spike of weight 1 would move the CubaLIF by more than float64 holds"):
        CubaLIF(tau=0.02, tau_syn=0.01, r=1e307)


# ----- neurons that hardly leak


def slow(kind, tau):
    """Neurons that count 200 thresholds per second, but for their leak; the options of their rule."""
    more = {"tau_syn": 1e-3} if kind == "CubaLIF" else {}
    return lambda **changed: {"LIF": LIF, "CubaLIF": CubaLIF}[kind](
        **{"tau": tau, "r": tau, "bias": 200.0, "reset": "zero"} | more | changed
    )


@pytest.mark.parametrize("tau", [1e9, 1e15, 1e300])
@pytest.mark.parametrize("kind", ["LIF", "CubaLIF"])
def test_a_leak_is_refused_where_the_resting_potential_leaves_no_digits_for_the_threshold(kind, tau):
    # Between two events, the potential stayed where it was.
    with pytest.raises(
        InputError, match=rf"{kind}: the potential decays to v_leak \+ r \* bias = 2e\+\d+, where float64"
    ):
        slow(kind, tau)()


def test_the_slowest_leak_that_is_accepted_keeps_eight_digits():
    into = Connection("input", "p", (Dense(np.array([[0.25]]), (1,)),), (), 1)
    circuit = Circuit("input", (1,), (Population("p", (1,), slow("LIF", 2e5)()),), (into,), "p")
    times = [1000 * k + 1 for k in range(1, 100)]
    (result,) = ExactEngine(circuit).run([train(*[(t, 0) for t in times], duration=0.1)])
    expected, v, now = [], mpmath.mpf(0), mpmath.mpf(0)
    with mpmath.workdps(40):
        rest, tau = mpmath.mpf(200) * 200_000, mpmath.mpf(200_000)
        for t in [*times, 100_000]:
            end = mpmath.mpf(t) / 10**6
            while now + (due := tau * mpmath.log((rest - v) / (rest - 1))) < end:
                now, v = now + due, mpmath.mpf(0)
                expected.append(now)
            v, now = rest + (v - rest) * mpmath.exp(-(end - now) / tau) + mpmath.mpf("0.25"), end
            if v >= 1:
                expected.append(now)
                v = mpmath.mpf(0)
    assert len(expected) == 40
    assert np.max(np.abs(result.spikes["p"].t - np.array(expected, float))) < 1e-9


@pytest.mark.parametrize("kind", ["LIF", "CubaLIF"])
def test_a_strong_bias_alone_is_no_reason_to_refuse_a_leak(kind):
    rule = slow(kind, 0.02)
    assert rule(bias=1e9).fires
    assert not rule(bias=-1e12, threshold=None).fires


def test_time_constants_whose_inverse_float64_cannot_hold_are_refused():
    for changed in ({"tau": 5e-324}, {"tau_syn": 5e-324}):
        with pytest.raises(InputError, match=rf"CubaLIF\.{next(iter(changed))} must be at least 1e-307 seconds"):
            CubaLIF(**{"tau": 0.02, "tau_syn": 0.01, "r": 0.0, "w_in": 0.0} | changed)


@pytest.mark.filterwarnings("error")
def test_tiny_and_huge_constants_print_no_warning():
    for node in (
        nir.LIF(tau=np.full(1, 1e308), r=np.full(1, 0.02), v_leak=np.zeros(1), v_threshold=np.ones(1)),
        nir.IF(r=np.full(1, 5e-324), v_threshold=np.ones(1)),
    ):
        mb.translate.read_nir(chain(nir.Linear(weight=np.ones((1, 1))), node), reset="zero")


# ----- neurons that fire without end


@pytest.mark.parametrize("spikes", ["one", "many"])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("bias", [1e9, 1e17, 1e300])
@pytest.mark.parametrize("kind", ["IF", "LIF", "CubaLIF"])
def test_a_neuron_that_fires_without_end_is_named(kind, bias, reset, spikes):
    common = {"bias": bias, "reset": reset, "spikes": spikes}
    rule = {
        "IF": lambda: IF(**common),
        "LIF": lambda: LIF(tau=1.0, **common),
        "CubaLIF": lambda: CubaLIF(tau=1.0, tau_syn=1e-3, **common),
    }[kind]()
    circuit = Circuit("input", (1,), (Population("p", (3,), rule),), (), "p")
    with pytest.raises(InputError, match=r"population 'p', neuron \d .*fires without end.*1e\+06 spikes per second"):
        list(ExactEngine(circuit).run([train(duration=1.0)]))


def test_a_loop_with_a_tiny_delay_is_named():
    loop = Connection("p", "p", (Dense(np.ones((1, 1)), (1,)), Delay(np.array([1e-9]))), (), 1)
    start = Connection("input", "p", (Dense(np.ones((1, 1)), (1,)),), (), 1)
    circuit = Circuit("input", (1,), (Population("p", (1,), IF()),), (start, loop), "p")
    with pytest.raises(InputError, match=r"population 'p', neuron 0 .*fires without end"):
        list(ExactEngine(circuit).run([train((1, 0), duration=1.0)]))


def test_a_higher_rate_can_be_allowed():
    circuit = Circuit("input", (1,), (Population("p", (1,), IF(bias=3e6)),), (), "p")
    (result,) = ExactEngine(circuit, max_rate=1e7).run([train(duration=0.01)])
    assert result.counts["p"].tolist() == [30_000]


def test_fast_input_is_no_reason_to_stop():
    # An event at every microsecond, each of which fires a neuron with a bias too: 1e6 spikes per second, for long.
    rule = IF(bias=1.0, spikes="many")
    circuit = Circuit("input", (1,), (Population("p", (1,), rule),), (Connection("input", "p", (), (), 1),), "p")
    t = np.arange(1, 20_001)
    events = InputSpikes(t / 1e6, np.zeros(len(t), np.int64), np.ones(len(t), np.int64), np.arange(len(t)), 0.02)
    (result,) = ExactEngine(circuit).run([events])
    assert result.counts["p"].tolist() == [20_000]


# ----- a bias in front of a synaptic current


def test_the_bias_of_a_cubalif_goes_through_w_in_and_the_synapse():
    # tau_syn I' = -I + w_in b: I = 3 (1 - exp(-t / tau_syn)); v follows it. A long time later both stand at 3.
    tau, tau_syn = 0.01, 0.004
    rule = CubaLIF(threshold=None, tau=tau, tau_syn=tau_syn, w_in=3.0, bias=1.0)
    circuit = Circuit("input", (1,), (Population("p", (1,), rule),), (), "p")
    engine = ExactEngine(circuit)
    for t in (0.002, 0.01, 1.0):
        (result,) = engine.run([train(duration=t)])
        expected = 3.0 * (1 - (tau * np.exp(-t / tau) - tau_syn * np.exp(-t / tau_syn)) / (tau - tau_syn))
        assert result.readout[0] == pytest.approx(expected, rel=1e-13)


def test_a_cubalif_with_a_bias_fires_at_the_solution_of_its_equation():
    rule = CubaLIF(tau=0.01, tau_syn=0.004, w_in=0.5, bias=4.0, reset="zero")
    circuit = Circuit("input", (1,), (Population("p", (1,), rule),), (), "p")
    (result,) = ExactEngine(circuit).run([train(duration=0.2)])
    dt, v, current, expected = 1e-6, 0.0, 0.0, []
    for step in range(200_000):
        current += dt / 0.004 * (0.5 * 4.0 - current)
        v += dt / 0.01 * (current - v)
        if v >= 1:
            v = 0.0
            expected.append((step + 1) * dt)
    assert len(expected) > 20
    np.testing.assert_allclose(result.spikes["p"].t, expected, atol=2e-5)


# ----- what is recorded, readouts, threads


@every_engine
@pytest.mark.parametrize("record", ["all", "output"])
def test_readout_at_includes_an_input_that_feeds_the_readout(engine, record):
    nodes = {
        "input": nir.Input(input_type=np.array([2])),
        "w": nir.Linear(weight=np.eye(2)),
        "if": neuron(2),
        "v": nir.Linear(weight=np.array([[1.0, 0.0], [0.0, 2.0]])),
        "skip": nir.Linear(weight=np.full((2, 2), 0.25)),
        "sum": nir.I(r=np.ones(2)),
        "output": nir.Output(output_type=np.array([2])),
    }
    edges = [
        ("input", "w"),
        ("w", "if"),
        ("if", "v"),
        ("v", "sum"),
        ("input", "skip"),
        ("skip", "sum"),
        ("sum", "output"),
    ]
    graph = nir.NIRGraph(nodes, edges, type_check=False)
    (result,) = simulator(graph, engine, record=record).run([recording([(10, 0), (20, 1)])])
    assert list(result.spikes) == ["input", "if"]
    assert result.readout_at(np.array([5e-6, 1e-5, 2e-5])).tolist() == [[0, 0], [1.25, 0.25], [1.5, 2.5]]
    assert result.readout.tolist() == [1.5, 2.5]


@every_engine
def test_recordings_are_read_just_before_their_run(engine, monkeypatch):
    monkeypatch.setattr(runtime, "_EVENTS_PER_RUN", 100)
    graph = chain(nir.Linear(weight=np.ones((1, 1))), neuron())

    class Counting:
        read = 0

        def __len__(self):
            return 5000

        def __getitem__(self, k):
            if not 0 <= k < len(self):
                raise IndexError(k)
            Counting.read += 1
            return recording([(1, 0)])

    options = {} if engine == "exact" else {"batch_size": 2}
    running = simulator(graph, engine, record="counts", **options).run(Counting())
    next(running)
    assert Counting.read < 600
    running.close()


def test_one_brian2_simulator_in_two_threads_gives_the_same_results():
    graph = chain(nir.Linear(weight=np.full((4, 2), 0.6)), neuron(4))
    recordings = [recording([(1000 * k + 97 * j % 900, k % 2) for k in range(40)]) for j in range(6)]
    run = simulator(graph, "brian2", batch_size=2)
    expected = [trains(result) for result in run.run(recordings)]
    found = {}

    def work(name):
        found[name] = [trains(result) for result in run.run(recordings)]

    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert all(results == expected for results in found.values())


# ----- found by trying to break it


def matrix(weight):
    """The input through a matrix to the population "p"."""
    weight = np.array(weight)
    return Connection("input", "p", (Dense(weight, (weight.shape[1],)),), (), weight.shape[1])


@pytest.mark.parametrize("slope", [-3000.0, -1e-3])
def test_a_negative_bias_alone_is_no_crossing(slope):
    rule = IF(bias=np.array([slope, 0.0, slope]))
    circuit = Circuit(
        "input",
        (1,),
        (Population("p", (3,), rule),),
        (matrix([[0.75]] * 3),),
        "p",
    )
    events = train(*[(1 + k, 0) for k in range(100)], duration=2e-4)
    engine = ExactEngine(circuit)
    first = next(engine.run([events])).counts["p"]
    assert first[1] == 75
    assert all(np.array_equal(next(engine.run([events])).counts["p"], first) for _ in range(50))


@pytest.mark.parametrize("engine", ["exact", "brian2"])
@pytest.mark.parametrize(
    ("shape", "weight", "factor", "events"),
    [
        ((3, 2), [[1.0, 2.0]], [1.0, 10.0, 100.0], [(0, 0), (1, 1), (2, 0), (2, 1)]),
        ((3, 2), [[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [(0, 0), (1, 1), (2, 0), (2, 1)]),
        ((1, 2), [[1.0, 2.0]], [5.0], [(0, 0), (0, 1)]),
        ((2, 3, 2), [[1.0, 2.0]], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [(0, 0, 1), (1, 1, 0), (1, 2, 1)]),
    ],
)
def test_a_matrix_on_the_last_axis_then_one_factor_per_element(engine, shape, weight, factor, events):
    weight, factor = np.array(weight), np.array(factor)
    out = (*shape[:-1], len(weight))
    nodes = {
        "input": nir.Input(input_type=np.array(shape)),
        "linear": nir.Linear(weight=weight),
        "flatten": nir.Flatten(input_type=np.array(out), start_dim=0, end_dim=-1),
        "scale": nir.Scale(scale=factor),
        "output": nir.Output(output_type=np.array([factor.size])),
    }
    graph = nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), type_check=False)
    columns = dict(zip("pyx"[-len(shape) :], np.array(events).T, strict=True))
    x = np.zeros(shape)
    for event in events:
        x[event] += 1
    (result,) = simulator(graph, engine).run([mb.events.make_recording(np.arange(1, 1 + len(events)), **columns)])
    assert result.readout.tolist() == ((x @ weight.T).ravel() * factor).tolist()


@pytest.mark.parametrize(
    ("slope", "threshold", "dead"),
    [
        (1, 0.1, 0),
        (1, 0.1, 0.01),
        (10, 0.1, 0),
        (20, 0.9, 0),
        (50, 1.1, 0.003),
        pytest.param(100, 0.03, 0, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("spikes", ["one", "many"])
def test_a_biased_neuron_keeps_time_for_long(slope, threshold, dead, spikes):
    rule = IF(bias=float(slope), threshold=threshold, refractory=dead, spikes=spikes)
    circuit = Circuit("input", (1,), (Population("p", (1,), rule),), (), "p")
    (result,) = ExactEngine(circuit).run([train(duration=300.0)])
    period = Fraction(threshold) / slope
    k = np.arange(len(result.spikes["p"].t))
    expected = np.array([float((j + 1) * period + j * Fraction(dead)) for j in k.tolist()])
    assert len(k) == int((300 + Fraction(dead)) / (period + Fraction(dead)) + Fraction(1, 10**9))
    assert np.all(np.abs(result.spikes["p"].t - expected) <= 4e-15 * expected + 1e-16)


def test_arrivals_and_a_bias_for_long_equal_rational_arithmetic():
    rng = np.random.default_rng(4)
    weights = [[0.1, -0.3, 0.7]]
    rule = {
        "threshold": 0.3,
        "reset": "subtract",
        "spikes": "many",
        "v_reset": 0,
        "bound": None,
        "dead": 0,
        "slope": [0.9],
    }
    events = sorted(
        {(int(t), int(i)) for t, i in zip(rng.integers(0, 10**9, 2000), rng.integers(0, 3, 2000), strict=True)}
    )
    expected = rational.simulate(
        {"p": (1, rule | {"slope": [0.9]})}, [("input", "p", np.array(weights), 0)], events, 10**9
    )["p"]
    neuron_rule = IF(bias=0.9, threshold=0.3, spikes="many")
    circuit = Circuit(
        "input",
        (3,),
        (Population("p", (1,), neuron_rule),),
        (matrix(weights),),
        "p",
    )
    (result,) = ExactEngine(circuit).run([train(*events, duration=1000.0)])
    assert len(expected) > 2500
    assert [n for *_, n in expected] == result.spikes["p"].n.tolist()
    np.testing.assert_allclose(result.spikes["p"].t, [float(t) for t, *_ in expected], rtol=1e-11)


@pytest.mark.parametrize("start", [10**11, 10**14, 10**15, 1_764_000_000_000_000, 2**32 * 10**6 - 10])
def test_different_whole_microseconds_are_never_one_instant(start):
    # The times of the clock on the wall: microseconds since 1970.
    graph = chain(nir.Linear(weight=np.ones((1, 1))), neuron(refractory=3e-6))
    events = mb.events.make_recording(start + np.arange(5), 0)
    (result,) = mb.Simulator(graph).run([events])
    assert (np.rint(result.spikes["n1"].t * 1e6).astype(np.int64) - start).tolist() == [0, 3]
    graph = delayed_and_direct(2e-6)
    events = mb.events.make_recording(start + np.arange(5), 0)
    (result,) = mb.Simulator(graph).run([events], [(start + 6) / 1e6])
    assert (np.rint(result.spikes["if"].t * 1e6).astype(np.int64) - start).tolist() == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("tau", "tau_syn"), [(1e9, 1e-8), (1.0, 1e-16), (1.0, 1e-9), (1.0, 5e-9), (1e-9, 1.0), (1.0, 1.0)]
)
def test_a_peak_just_above_the_threshold_is_found_for_any_ratio_of_time_constants(tau, tau_syn):
    with mpmath.workdps(60):
        q = mpmath.mpf(tau_syn) / mpmath.mpf(tau)
        peak = q ** (-1 / (q - 1)) if tau != tau_syn else 1 / mpmath.e
    for above, spikes in ((1 + 1e-8, 1), (1 - 1e-8, 0)):
        rule = CubaLIF(tau=tau, tau_syn=tau_syn, w_in=tau_syn, reset="zero")
        weight = np.array([[above / float(peak)]])
        connection = Connection("input", "p", (Dense(weight, (1,)),), (), 1)
        circuit = Circuit("input", (1,), (Population("p", (1,), rule),), (connection,), "p")
        (result,) = ExactEngine(circuit).run([train((0, 0), duration=50 * max(tau, tau_syn))])
        assert len(result.spikes["p"].t) == spikes


def test_a_clock_driven_network_counts_and_rests_right(monkeypatch):
    monkeypatch.setitem(brian2.prefs, "codegen.target", "numpy")
    graph = chain(nir.Linear(weight=np.array([[3e9, 1e19]])), neuron(spikes="many"))
    network = mb.translate.to_clock_driven(graph, recording([(1000, 0)]), dt=1 * brian2.ms)
    network.run(network.duration)
    assert network.trains()["n1"][2].tolist() == [3 * 10**9]
    assert network.readouts().tolist() == [[3 * 10**9]]
    network = mb.translate.to_clock_driven(graph, recording([(1000, 1)]), dt=1 * brian2.ms)
    network.run(network.duration)
    with pytest.raises(InputError, match=r"population 'n1', neuron 0 .*at 0.001 s: more spikes at once"):
        network.trains()
    small = chain(nir.Linear(weight=np.array([[0.25e-6]])), neuron(threshold=1e-6, spikes="many"))
    network = mb.translate.to_clock_driven(small, recording([(1000 * k, 0) for k in range(1, 5)]), dt=1 * brian2.ms)
    network.run(network.duration)
    assert network.trains()["n1"][0].tolist() == [0.004]
    tiny = chain(nir.Linear(weight=np.array([[0.25e-12]])), neuron(threshold=1e-12))
    with pytest.raises(InputError, match=r"population 'n1'.*pass a VoltageScale"):
        mb.translate.to_clock_driven(tiny, recording([(1000, 0)]), dt=1 * brian2.ms)


@pytest.mark.parametrize("engine", ["brian2", "brian2-cpp"])
def test_weights_that_a_hidden_potential_cannot_hold_are_refused(engine):
    graph = chain(nir.Linear(weight=np.array([[1.5e308]])), neuron(), nir.Linear(weight=np.ones((1, 1))))
    with pytest.raises(InputError, match=r"'input' -> 'n1' has weights above 1e\+280.*use engine='exact'"):
        mb.Simulator(graph, engine)


def test_readout_at_accepts_whole_microseconds_and_whole_runs():
    graph = chain(nir.Linear(weight=np.ones((1, 1))), nir.I(r=np.ones(1)))
    result = mb.simulate(graph, recording([(100_000, 0)]), duration=1.0)
    assert 1 - 0.9 < 0.1
    assert result.readout_at(1 - 0.9).tolist() == [1.0]
    assert result.readout_at(0.1 - 1e-9).tolist() == [0.0]
    with pytest.raises(InputError, match="not NaN"):
        result.readout_at(np.nan)
    run = ExactEngine(mb.translate.read_nir(graph)).start()
    run.feed(train((10, 0), duration=2e-5))
    second = run.feed(train((30, 0), duration=4e-5))
    assert second.readout.tolist() == [2.0]
    with pytest.raises(InputError, match="the spikes from 2e-05 s on"):
        second.readout_at(1.0)
    with pytest.raises(InputError, match="must follow the one before it"):
        run.feed(train((10, 0), duration=5e-5))


def test_a_neuron_without_a_bias_is_tested_as_if_its_neighbour_had_none():
    # Ten jumps of 0.1 add up to less than 1: it takes the eleventh, whatever another neuron's bias is.
    for bias in (np.zeros(2), np.array([0.0, 5.0])):
        circuit = Circuit(
            "input",
            (1,),
            (Population("p", (2,), IF(bias=bias)),),
            (matrix([[0.1], [0.0]]),),
            "p",
        )
        (result,) = ExactEngine(circuit).run([train(*[(k, 0) for k in range(1, 12)], duration=1e-4)])
        assert np.rint(result.spikes["p"].t * 1e6).tolist() == [11.0]


def test_a_gain_that_float64_cannot_hold_is_refused():
    with pytest.raises(InputError, match="more than float64 holds"):
        LIF(tau=1e-200, r=1e200)
