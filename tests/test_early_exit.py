"""Early exit: traces, confidences and decisions that can be checked by hand, and the two modes against each other."""

import math

import nir
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import mtt_brian as mb  # noqa: E402
from mtt_brian import events, snn  # noqa: E402
from mtt_brian.engines import Spikes  # noqa: E402
from mtt_brian.errors import InputError  # noqa: E402
from mtt_brian.evaluate.early_exit import (  # noqa: E402
    RULES,
    ReadoutTrace,
    event_driven_trace,
    exit_when_confident,
    stop_after,
    synops_until,
    time_stepped_trace,
)
from mtt_brian.experiments.inference import MODES, readout_traces  # noqa: E402
from mtt_brian.neuron import IF  # noqa: E402
from mtt_brian.snn.observe import over_time  # noqa: E402
from tests import random_networks  # noqa: E402

LN3 = math.log(3)


@pytest.fixture
def trace():
    """Two steps of 50 ms; each adds ln 3 to class 1, and the second one takes twice the operations."""
    return time_stepped_trace(np.array([[0, LN3], [0, LN3]]), np.array([10, 20]), duration=0.1)


class TestConfidence:
    def test_by_hand(self, trace):
        # softmax of (0, ln 3) is (1/4, 3/4), that of (0, ln 3 / 2) is (1, sqrt 3) / (1 + sqrt 3)
        assert trace.confidence("mean") == pytest.approx([3 / 4, 3 / 4])
        assert trace.confidence("total") == pytest.approx([math.sqrt(3) / (1 + math.sqrt(3)), 3 / 4])

    def test_within_the_first_step_nothing_is_divided(self):
        readouts = np.array([[0, 0], [0, LN3], [0, LN3], [0, LN3]])
        trace = ReadoutTrace(2, np.array([0, 0.01, 0.05, 0.1]), readouts, np.zeros(4))
        assert trace.steps == pytest.approx([0, 0.2, 1, 2])
        half = math.sqrt(3) / (1 + math.sqrt(3))
        assert trace.confidence("mean") == pytest.approx([1 / 2, 3 / 4, 3 / 4, half])
        assert trace.confidence("total") == pytest.approx([1 / 2, half, half, half])

    def test_unknown_rule(self, trace):
        with pytest.raises(InputError, match="'mean', 'total', not 'median'"):
            trace.confidence("median")


class TestDecisions:
    def test_the_threshold_must_be_exceeded(self):
        trace = time_stepped_trace(np.array([[0, 0], [0, 4.0]]), np.array([10, 20]), duration=0.1)
        any_evidence, never = exit_when_confident([trace], [1], [0.5, 1.0], "mean")
        assert any_evidence == never == ((1.0, 0.0), 2.0, 100.0, 30.0)

    def test_means_over_recordings(self, trace):
        # the second recording has a confident wrong prediction at first, the correct one at the end
        hasty = time_stepped_trace(np.array([[9.0, 0], [0, 20.0]]), np.array([2, 4]), duration=0.3)
        (early,) = exit_when_confident([trace, hasty], [1, 1], [0.7], "mean")
        assert early == ((0.5, pytest.approx(math.sqrt(1 / 8))), 1.0, pytest.approx(100.0), 6.0)
        (late,) = exit_when_confident([trace, hasty], [1, 1], [0.7], "total")
        assert late == ((0.5, pytest.approx(math.sqrt(1 / 8))), 1.5, pytest.approx(125.0), 16.0)
        assert stop_after([trace, hasty], [1, 1], [0.5, 1.0]) == [
            ((0.5, pytest.approx(math.sqrt(1 / 8))), 1.0, pytest.approx(100.0), 6.0),
            ((1.0, 0.0), 2.0, pytest.approx(200.0), 18.0),
        ]

    def test_steps_end_where_they_should_in_floating_point(self):
        for duration in np.random.default_rng(0).uniform(0.1, 1, 50):
            trace = time_stepped_trace(np.zeros((7, 2)), np.ones(7), duration)
            stopped = stop_after([trace], [0], [k / 7 for k in range(1, 8)])
            assert [decisions.synops for decisions in stopped] == [1, 2, 3, 4, 5, 6, 7]


def test_synops_until_by_hand():
    spikes = {
        "input": Spikes(np.array([0.1, 0.2, 0.2]), np.array([0, 0, 1]), np.array([1, 1, 2])),
        "a": Spikes(np.array([0.2, 0.3]), np.array([1, 1]), np.array([1, 3])),
    }
    fan_out = {"input": np.array([5, 7]), "a": np.array([100, 1000])}
    # 0.1: 5;  0.2: 5 + 2 * 7 + 1000 more;  0.3: 3 * 1000 more
    assert synops_until(np.array([0, 0.1, 0.15, 0.2, 1.0]), spikes, fan_out).tolist() == [0, 5, 5, 1024, 4024]


def one_neuron():
    """Pixel -> 0.5 -> neuron with threshold 1 -> readout (2, -2): every second event is a spike."""
    neuron = nir.IF(r=np.ones(1), v_threshold=np.ones(1), v_reset=np.zeros(1), metadata={"reset": "subtract"})
    nodes = {
        "input": nir.Input({"input": np.array([1])}),
        "up": nir.Linear(np.array([[0.5]])),
        "neuron": neuron,
        "down": nir.Linear(np.array([[2.0], [-2.0]])),
        "output": nir.Output({"output": np.array([2])}),
    }
    return nir.NIRGraph(nodes, [("input", "up"), ("up", "neuron"), ("neuron", "down"), ("down", "output")])


@pytest.mark.parametrize("order", ["sum", "fifo"])
def test_one_event_driven_neuron(order):
    played = events.make_recording([10_000, 20_000, 50_000, 80_000, 100_000], [0] * 5)
    (result,) = mb.Simulator(one_neuron(), engine="exact", order=order, record="all").run([played])
    trace = event_driven_trace(result, played, time_steps=2)
    at = np.searchsorted(trace.seconds, [0.0, 0.015, 0.02, 0.079, 0.08, 0.1])
    assert trace.readouts[at].tolist() == [[0, 0], [0, 0], [2, -2], [2, -2], [4, -4], [4, -4]]
    assert trace.steps[at] == pytest.approx([0, 0.3, 0.4, 1.58, 1.6, 2])
    # an event reaches the neuron, a spike both classes
    assert trace.synops[at].tolist() == [0, 1, 4, 5, 8, 9]
    assert trace.synops[-1] == result.synops
    # 1 / (1 + exp(-4)) = 0.982 at 20 ms already under "mean", 1 / (1 + exp(-2)) = 0.881 under "total"
    for rule, threshold, seconds in (("mean", 0.98, 0.02), ("total", 0.88, 0.02), ("total", 0.98, 0.08)):
        (decisions,) = exit_when_confident([trace], [0], [threshold], rule)
        assert decisions.milliseconds == pytest.approx(1e3 * seconds)


def test_an_empty_recording_gives_a_result_at_once():
    silence = events.make_recording([], [])
    (result,) = mb.Simulator(one_neuron(), engine="exact", record="all").run([silence])
    trace = event_driven_trace(result, silence, time_steps=2)
    for rule in RULES:
        assert exit_when_confident([trace], [0], [0.9], rule) == [((1.0, 0.0), 2.0, 0.0, 0.0)]


STEPS = 12
SENSOR = (2, 12, 14)


@pytest.fixture
def exact_network():
    """Weights are multiples of 1/64, so that float32 sums are exact in any order."""
    torch.manual_seed(0)
    model = mb.models.nmnist_3c1fc(sensor_size=SENSOR, num_classes=4, neuron=IF(spikes="many", lower_bound=-1.0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.round(parameter * 128) / 64)
    return model


def recordings_of(played):
    return events.Recordings(
        name="random",
        title="Random",
        split="test",
        classes=["a", "b", "c", "d"],
        sensor_size=SENSOR,
        duration_us=STEPS * 1000,
        ids=[str(k) for k in range(len(played))],
        labels=np.arange(len(played)) % 4,
        read=lambda identifier: played[int(identifier)],
    )


def test_with_one_instant_per_step_both_modes_have_one_trace(exact_network):
    played = []
    for seed in range(3):
        recording = random_networks.recording(seed, SENSOR, events=400)
        steps = np.sort(np.random.default_rng(seed).integers(0, STEPS, len(recording)))
        steps[-1] = STEPS - 1
        recording["t"] = (steps + 1) * 1000  # at the end of a step, as the time-stepped readout is
        played.append(recording)
    graph = mb.export.to_nir(exact_network)
    found = {mode: readout_traces(graph, recordings_of(played), mode, STEPS) for mode in MODES[:2]}
    for on_grid, without in zip(found["time-stepped"], found["sum"], strict=True):
        assert on_grid.seconds == pytest.approx(np.arange(1, STEPS + 1) / 1000)
        at = [np.argmin(np.abs(without.seconds - t)) for t in on_grid.seconds]
        assert without.seconds[at] == pytest.approx(on_grid.seconds)
        assert without.readouts[at] == pytest.approx(on_grid.readouts)
        assert without.synops[at].tolist() == on_grid.synops.tolist()
        assert on_grid.readouts[-1].any()
        for rule in RULES:
            assert without.confidence(rule)[at] == pytest.approx(on_grid.confidence(rule))


@pytest.mark.parametrize("mode", MODES)
def test_traces_do_not_depend_on_the_size_of_a_batch(mode, exact_network):
    recordings = recordings_of([random_networks.recording(seed, SENSOR, events=100) for seed in range(3)])
    graph = mb.export.to_nir(exact_network)
    together, apart = (readout_traces(graph, recordings, mode, STEPS, batch_size) for batch_size in (None, 2))
    for one, other in zip(together, apart, strict=True):
        assert one.seconds.tolist() == other.seconds.tolist()
        assert one.readouts == pytest.approx(other.readouts)
        assert one.synops.tolist() == other.synops.tolist()


def test_confidence_rises_only_where_the_readout_changes(exact_network):
    recording = random_networks.recording(5, SENSOR, events=400)
    (trace,) = readout_traces(mb.export.to_nir(exact_network), recordings_of([recording]), "sum", STEPS)
    unchanged = ~np.any(np.diff(trace.readouts, axis=0), axis=1)
    assert 10 < unchanged.sum() < len(unchanged)
    for rule in RULES:
        assert np.all(np.diff(trace.confidence(rule))[unchanged] <= 1e-15)


@pytest.mark.parametrize("time_steps", [3, [2, 5, 1]])
def test_over_time_adds_up(exact_network, time_steps):
    frames = torch.randint(0, 3, (4, 2, *SENSOR))
    kept = over_time(exact_network, frames, time_steps)
    logits, counts = snn.spike_counts(exact_network, frames, time_steps)
    assert torch.equal(kept.pop("output").mean(0), logits)
    assert kept.keys() == counts.keys()
    for name, count in counts.items():
        assert torch.equal(kept[name].sum(0), count)
    steps = exact_network.steps(time_steps)
    assert [len(kept[name]) for name in exact_network.populations()] == list(steps)
    assert len(kept["input"]) == steps[0]
