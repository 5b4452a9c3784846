"""Perturbations with numbers that can be checked by hand; the input is not changed."""

import nir
import numpy as np
import pytest

from mtt_brian import events, translate
from mtt_brian.errors import InputError
from mtt_brian.events import perturb
from mtt_brian.experiments import perturb_networks
from mtt_brian.experiments.perturb_networks import (
    mismatched_thresholds,
    noisy_weights,
    quantised_weights,
    without_bound,
)

SENSOR = (2, 3, 4)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def network(weight, threshold=1.0):
    """input -> linear -> IF, "many" spikes, lower bound -1."""
    weight = np.asarray(weight, dtype=np.float32)
    nodes = {
        "input": nir.Input(np.array([weight.shape[1]])),
        "linear": nir.Linear(weight),
        "if": nir.IF(
            r=np.ones(len(weight)),
            v_threshold=np.full(len(weight), threshold),
            metadata={"reset": "subtract", "spikes": "many", "lower_bound": -1.0},
        ),
        "output": nir.Output(np.array([len(weight)])),
    }
    return nir.NIRGraph(nodes, [("input", "linear"), ("linear", "if"), ("if", "output")])


def weights(graph):
    return graph.nodes["linear"].weight


def rule(graph):
    (population,) = translate.read_nir(graph).populations
    return population.rule


class TestWeights:
    def test_three_bits_by_hand(self):
        # The step is 3 / (2^2 - 1) = 1.
        graph = quantised_weights(network([[3.0, 1.4, -0.4], [-3.0, 0.6, -2.6]]), 3)
        assert weights(graph).tolist() == [[3, 1, 0], [-3, 1, -3]]
        assert weights(graph).dtype == np.float32

    @pytest.mark.parametrize("bits", [2, 4, 8])
    def test_few_values_the_largest_kept_none_far_away(self, bits, rng):
        graph = network(rng.standard_normal((30, 40)))
        before, after = weights(graph), weights(quantised_weights(graph, bits))
        assert len(np.unique(after)) <= 2**bits - 1
        assert np.abs(after).max() == np.abs(before).max()
        step = np.abs(before).max() / (2 ** (bits - 1) - 1)
        assert np.abs(after - before).max() <= step / 2 * (1 + 1e-6)
        again = weights(quantised_weights(quantised_weights(graph, bits), bits))
        assert np.array_equal(after, again)

    def test_silent_weights_stay_silent(self):
        assert not weights(quantised_weights(network(np.zeros((2, 2))), 4)).any()

    def test_noise_is_relative_to_the_layer(self, rng):
        graph = network(5 * rng.standard_normal((200, 200)))
        change = weights(noisy_weights(graph, 0.1, rng)) - weights(graph)
        assert change.std() == pytest.approx(0.5, rel=0.02)
        assert abs(change.mean()) < 0.01

    def test_no_noise_is_no_change(self, rng):
        graph = network([[1.0, -2.0]])
        assert np.array_equal(weights(noisy_weights(graph, 0, rng)), weights(graph))

    def test_pools_are_no_weights(self, rng):
        graph = network([[1.0, -2.0]])
        graph.nodes["pool"] = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
        changed = noisy_weights(graph, 1.0, rng)
        assert np.array_equal(changed.nodes["pool"].kernel_size, [2, 2])
        assert not np.array_equal(weights(changed), weights(graph))

    def test_weights_of_nested_graphs_change_too(self, rng):
        inner = network([[1.0, 2.0]])
        outer = nir.NIRGraph({"inner": inner}, [], type_check=False)
        changed = noisy_weights(outer, 0.5, rng).nodes["inner"]
        assert not np.array_equal(weights(changed), weights(inner))

    def test_the_order_of_the_nodes_does_not_matter(self):
        graph = network([[1.0, 2.0]])
        graph.nodes["another"] = nir.Linear(np.ones((3, 3)))
        turned = nir.NIRGraph(dict(reversed(graph.nodes.items())), graph.edges, type_check=False)
        both = [noisy_weights(g, 0.5, np.random.default_rng(7)) for g in (graph, turned)]
        assert np.array_equal(weights(both[0]), weights(both[1]))


class TestRules:
    def test_no_bound(self):
        graph = network([[1.0]])
        assert (rule(graph).spikes, rule(graph).lower_bound) == ("many", -1.0)
        changed = rule(without_bound(graph))
        assert (changed.spikes, changed.lower_bound) == ("many", None)
        assert (rule(graph).spikes, rule(graph).lower_bound) == ("many", -1.0)  # left as it was

    def test_thresholds_differ_from_neuron_to_neuron(self, rng):
        threshold = rule(mismatched_thresholds(network(np.ones((10_000, 1)), 2.0), 0.1, rng)).threshold
        assert threshold.shape == (10_000,)
        assert threshold.mean() == pytest.approx(2.0, rel=0.01)
        assert threshold.std() == pytest.approx(0.2, rel=0.03)

    def test_no_threshold_falls_to_zero(self, rng):
        threshold = rule(mismatched_thresholds(network(np.ones((1000, 1)), 2.0), 5.0, rng)).threshold
        assert threshold.min() == pytest.approx(2.0 * 0.1)


@pytest.fixture
def recording(rng):
    n = 1000
    t = np.sort(rng.integers(0, 50_000, n))
    return events.make_recording(t, rng.integers(0, 4, n), rng.integers(0, 3, n), rng.integers(0, 2, n))


def pixels(recording):
    return sorted(recording[["x", "y", "p"]].tolist())


class TestRecordings:
    def test_jitter_keeps_the_events_and_sorts_them(self, recording, rng):
        before = recording.copy()
        moved = perturb.jittered(recording, 3000, rng)
        events.check_recording(moved, SENSOR)
        assert pixels(moved) == pixels(recording)
        assert 0 <= moved["t"].min() <= moved["t"].max() <= recording["t"][-1]
        assert np.array_equal(recording, before)

    def test_jitter_has_the_given_width(self, rng):
        # Every event has its own pixel; the first and the last event are far away in time.
        t = np.concatenate([[0], np.full(30_000, 500_000), [1_000_000]])
        moved = perturb.jittered(events.make_recording(t, np.arange(len(t))), 1000, rng)
        assert (moved["t"] - t)[1:-1].std() == pytest.approx(1000, rel=0.05)

    def test_no_jitter_is_no_change(self, recording, rng):
        assert np.array_equal(perturb.jittered(recording, 0, rng), recording)

    def test_only_ties_are_shuffled(self, rng):
        recording = events.make_recording([5, 7, 7, 7, 9], [0, 1, 2, 3, 4])
        orders = {tuple(perturb.shuffled_ties(recording, rng)["x"].tolist()) for _ in range(200)}
        assert {(order[0], order[-1]) for order in orders} == {(0, 4)}
        assert len(orders) == 6

    @pytest.mark.parametrize(("fraction", "left"), [(0, 1000), (0.25, 750), (0.0004, 1000), (0.0006, 999), (1, 0)])
    def test_dropping_p_of_n(self, fraction, left, recording, rng):
        kept = perturb.dropped(recording, fraction, rng)
        assert len(kept) == left
        assert set(pixels(kept)) <= set(pixels(recording))
        events.check_recording(kept, SENSOR)

    def test_spurious_events_come_at_their_rate(self, recording, rng):
        # 50 ms, 24 addresses, 1000 per second: 1200 on average, their standard deviation 35.
        noisy = perturb.with_spurious(recording, 1000, SENSOR, rng)
        events.check_recording(noisy, SENSOR)
        expected = 1000 * recording["t"][-1] * 1e-6 * 24
        assert len(noisy) - len(recording) == pytest.approx(expected, abs=4 * np.sqrt(expected))
        assert noisy["t"][-1] == recording["t"][-1]
        addresses = set(pixels(perturb.with_spurious(recording[[0, -1]], 10_000, SENSOR, rng)))
        assert len(addresses) == 24

    def test_nothing_happens_to_nothing(self, rng):
        nothing = events.make_recording([], [])
        for changed in (
            perturb.jittered(nothing, 10, rng),
            perturb.shuffled_ties(nothing, rng),
            perturb.dropped(nothing, 0.5, rng),
            perturb.with_spurious(nothing, 10, SENSOR, rng),
        ):
            assert len(changed) == 0

    def test_each_recording_is_changed_once(self):
        made = {"a": events.make_recording([1], [1]), "b": events.make_recording([2, 3], [1, 1])}
        recordings = events.Recordings(
            name="n",
            title="N",
            split="test",
            classes=["c"],
            sensor_size=(1, 1, 4),
            duration_us=10,
            ids=["a", "b"],
            labels=np.zeros(2, dtype=np.int64),
            read=made.__getitem__,
        )
        calls = []
        changed = perturb.each(recordings, lambda r: calls.append(len(r)) or r[:1])
        assert [len(r) for r in changed] == [len(r) for r in changed] == [1, 1]
        assert calls == [1, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: quantised_weights(network([[1.0]]), 1), "the bits of a signed weight must be at least 2, not 1"),
        (
            lambda rng: noisy_weights(network([[1.0]]), -0.1, rng),
            "weight noise must be at least 0, not -0.1",
        ),
        (
            lambda rng: mismatched_thresholds(network([[1.0]]), -1, rng),
            "threshold mismatch must be at least 0",
        ),
        (lambda rng: perturb.jittered(events.make_recording([1], [1]), -1, rng), "jitter must lie between 0 and 1e"),
        (lambda rng: perturb.dropped(events.make_recording([1], [1]), 1.1, rng), "between 0 and 1, not 1.1"),
        (lambda rng: perturb.with_spurious(events.make_recording([1], [1]), -1, SENSOR, rng), "rate of spurious"),
        (
            lambda rng: perturb.with_spurious(events.make_recording([1], [1]), 1e30, SENSOR, rng),
            "rate of .* must lie between 0 and 1e",
        ),
        (
            lambda rng: perturb.with_spurious(events.make_recording([10**9], [1]), 1e6, SENSOR, rng),
            "at most 100,000,000",
        ),
        (
            lambda rng: perturb.jittered(events.make_recording([1], [1]), np.inf, rng),
            "jitter must lie between 0 and 1e",
        ),
        (lambda rng: perturb.jittered(events.make_recording([1], [1]), "1", rng), "jitter must be a number, not '1'"),
        (lambda rng: perturb.jittered(events.make_recording([1], [1]), np.nan, rng), "jitter must lie between"),
        (
            lambda rng: perturb.dropped(events.make_recording([1], [1]), True, rng),
            "fraction must be a number, not True",
        ),
        (lambda rng: quantised_weights(network([[1.0]]), 10**6), "bits .* must be at most 52"),
        (
            lambda rng: quantised_weights(network([[1.0]]), 2.5),
            "bits .* must be a whole number, not 2.5",
        ),
        (lambda rng: noisy_weights(network([[1.0]]), np.inf, rng), "weight noise must be at most"),
        (
            lambda rng: mismatched_thresholds(network([[1.0]]), None, rng),
            "mismatch must be a number, not None",
        ),
    ],
)
def test_bad_levels(call, message, rng):
    with pytest.raises(InputError, match=message):
        call(rng)


@pytest.mark.parametrize(
    ("down", "message"), [(1.5, "whole number, not 1.5"), (True, "not True"), (-(2**32), "at least")]
)
def test_a_shift_is_a_whole_number_of_pixels(down, message):
    recording = events.make_recording([1], [0], [0])
    with pytest.raises(InputError, match=f"down must be .*{message}"):
        perturb.shifted(recording, down, 0, SENSOR)


@pytest.mark.parametrize("bits", [np.int8(8), np.uint8(8), np.int64(8)])
def test_bits_of_any_integer_type(bits):
    """2^7 overflows int8."""
    weight = [[1.0, -0.3, 0.77]]
    for change in (perturb_networks.quantised_weights, perturb_networks.rounded_weights):
        found, expected = (change(network(weight), b).nodes["linear"].weight for b in (bits, 8))
        assert found.tolist() == expected.tolist()
    assert np.allclose(
        perturb_networks.quantised_weights(network(weight), bits).nodes["linear"].weight, weight, atol=4e-3
    )


def test_background_activity_fits_the_recording(rng):
    """Columns up to 299 wrapped around in 8 bits."""
    narrow = np.array([(5000, 1, 1, 1)], [("t", "i8"), ("x", "i1"), ("y", "i1"), ("p", "i1")])
    with pytest.raises(InputError, match="the field x holds int8, too few bits for a sensor of 300"):
        perturb.with_spurious(narrow, 1000, (2, 3, 300), rng)
    with pytest.raises(InputError, match="has no field 'y'"):
        perturb.with_spurious(narrow[["t", "x"]], 1000, SENSOR, rng)


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        ([1, 2], "recording: a recording is a one-dimensional structured array"),
        (None, "recording: a recording is a one-dimensional structured array"),
        (events.make_recording([3, 1], [0, 0]), r"times go backwards at event 1 \(t = 1 after 3 us\)"),
        (events.make_recording([-1], [0]), "event 0 has t = -1"),
        (np.stack([events.make_recording([1], [0])] * 2), r"has the shape \(2, 1\)"),
        (np.zeros(1, [("t", "f8"), *[(axis, "i2") for axis in "xyp"]]), "the field t must hold integers, not float64"),
    ],
)
def test_only_sorted_recordings_are_perturbed(recording, message):
    rng = np.random.default_rng(0)
    for change in (
        lambda: perturb.jittered(recording, 1.0, rng),
        lambda: perturb.shuffled_ties(recording, rng),
        lambda: perturb.dropped(recording, 0.5, rng),
        lambda: perturb.with_spurious(recording, 1.0, (1, 4, 4), rng),
        lambda: perturb.shifted(recording, 1, 1, (1, 4, 4)),
    ):
        with pytest.raises(InputError, match=message):
            change()


@pytest.mark.parametrize("rng", [None, 0, "x", np.random.RandomState(0)])
def test_what_is_no_random_generator(rng):
    recording = events.make_recording([1], [0])
    for change in (
        lambda: perturb.jittered(recording, 1.0, rng),
        lambda: perturb.shuffled_ties(recording, rng),
        lambda: perturb.dropped(recording, 0.5, rng),
        lambda: perturb.with_spurious(recording, 1.0, (1, 4, 4), rng),
    ):
        with pytest.raises(InputError, match="rng must be a random generator"):
            change()


def test_only_events_of_the_sensor_are_shifted():
    recording = events.make_recording([1], [0])
    for sensor in ((4, 4), None, "abc", (1, 4, 4.0), (1, -1, 4)):
        with pytest.raises(InputError, match="sensor_size must be three whole numbers >= 1"):
            perturb.shifted(recording, 1, 1, sensor)
    with pytest.raises(InputError, match="recordings must be a data set"):
        perturb.each([recording], lambda same: same)
