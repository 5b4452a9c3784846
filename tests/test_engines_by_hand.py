"""Spike trains that one can check on paper, for every rule and every engine.

One graph holds one neuron of each rule; all hear the same six pixels, whose weights are given below.
"""

import functools
import math

import nir
import numpy as np
import pytest

from tests.engines import ENGINES, microseconds, run_of, simulator, trains, with_the_code_of_a_gpu

HALF, ONE, MINUS, FALL, QUARTER, BIG = range(6)
WEIGHTS = np.array([[0.5, 1.0, -1.0, -3.0, 0.25, 2.5]])
TAU = 0.010


def neuron(kind=nir.IF, reset="subtract", spikes="many", bound=None, **parameters):
    metadata = {"reset": reset, "spikes": spikes} | ({} if bound is None else {"lower_bound": bound})
    ones = {"r": np.ones(1), "v_threshold": np.ones(1)}
    return kind(**(ones | {k: np.array([v]) for k, v in parameters.items()}), metadata=metadata)


GRAPH = nir.NIRGraph(
    nodes={
        "input": nir.Input(input_type=np.array([6])),
        "weights": nir.Linear(weight=WEIGHTS),
        "many": neuron(),
        "bounded": neuron(bound=-1.0),
        "one": neuron(spikes="one"),
        "one bounded": neuron(spikes="one", bound=-1.0),
        "zero": neuron(reset="zero", v_reset=-0.25),
        # A weight w makes a LIF jump by r * w / tau: with r = tau, by w.
        "leaky": neuron(nir.LIF, tau=TAU, r=TAU, v_leak=0.0, bound=-1.0),
        "resting": neuron(nir.LIF, tau=TAU, r=TAU, v_leak=0.5),
        "first": nir.Linear(weight=np.array([[1.0]])),
        "second": neuron(),
        "halved": nir.Linear(weight=np.array([[0.5]])),
        "third": neuron(spikes="one"),
        "last": nir.Linear(weight=np.array([[2.0], [-1.0]])),
        "output": nir.Output(output_type=np.array([2])),
    },
    edges=[
        ("input", "weights"),
        *[("weights", name) for name in ("many", "bounded", "one", "one bounded", "zero", "leaky", "resting")],
        ("many", "first"), ("first", "second"), ("second", "halved"), ("halved", "third"),
        ("third", "last"), ("last", "output"),
    ],
    type_check=False,
)  # fmt: skip


def make_on(engine, graph):
    name, _, gpus_code = engine.partition(" with ")
    return with_the_code_of_a_gpu(graph) if gpus_code else simulator(graph, name)


@functools.cache
def made_once(engine):
    return make_on(engine, GRAPH)


with_every_engine = pytest.fixture(params=[*ENGINES, "brian2 with a GPU's code"])


@with_every_engine
def make(request):
    """``make(graph)``: a simulator."""
    return functools.partial(make_on, request.param)


@with_every_engine
def run(request):
    return run_of(lambda: made_once(request.param))


def spikes(result, name):
    return microseconds(trains(result)[name])


def test_a_jump_of_two_and_a_half_thresholds(run):
    result = run([(10, BIG), (20, QUARTER), (30, QUARTER)])
    # many: 2 spikes, 0.5 left, 0.75, then exactly 1.0
    assert spikes(result, "many") == [(10, 2), (30, 1)]
    # one: 1 spike, 1.5 left and silent; 1.75 at the next arrival fires, 0.75 left; then exactly 1.0
    assert spikes(result, "one") == [(10, 1), (20, 1), (30, 1)]
    # zero: 1 spike, then -0.25, 0.0, 0.25
    assert spikes(result, "zero") == [(10, 1)]


def test_with_one_spike_per_update_a_neuron_is_silent_between_its_arrivals(run):
    # The neuron stays above its threshold (1.5 left) while nothing arrives, whatever the clock does in between.
    result = run([(10, BIG)], duration=0.1)
    assert spikes(result, "one") == [(10, 1)]


def test_paths_that_cancel_are_no_synapse(make):
    """Pixel 0 reaches the neuron with 1 - 1 = 0, pixel 1 with 2 * 1.5: 3 thresholds, of which one spike takes one."""
    graph = nir.NIRGraph(
        nodes={
            "input": nir.Input(input_type=np.array([2])),
            "spread": nir.Linear(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])),
            "gather": nir.Linear(np.array([[1.0, -1.0, 1.5]])),
            "one": neuron(spikes="one"),
            "output": nir.Output(output_type=np.array([1])),
        },
        edges=[("input", "spread"), ("spread", "gather"), ("gather", "one"), ("one", "output")],
        type_check=False,
    )
    result = run_of(lambda: make(graph))([(10, 1), (20, 0), (30, 1)])
    assert spikes(result, "one") == [(10, 1), (30, 1)]
    assert result.synops == 2


def test_synapses_of_different_delays_count_one_by_one(make):
    """Two synapses of a pair, 2 after 10 us and -2 after 20 us: their sum of 0 is not their number."""
    graph = nir.NIRGraph(
        nodes={
            "input": nir.Input(input_type=np.array([1])),
            "spread": nir.Linear(np.array([[1.0], [1.0]])),
            "late": nir.Delay(np.array([10e-6, 20e-6])),
            "gather": nir.Linear(np.array([[2.0, -2.0]])),
            "one": neuron(),
            "output": nir.Output(output_type=np.array([1])),
        },
        edges=[("input", "spread"), ("spread", "late"), ("late", "gather"), ("gather", "one"), ("one", "output")],
        type_check=False,
    )
    result = run_of(lambda: make(graph))([(10, 0)], 1e-3)
    assert spikes(result, "one") == [(20, 2)]
    assert result.synops == 2


def test_jumps_at_one_instant_are_summed_before_anything_happens(run):
    # +1 and -1 cancel, in either order; -3 and +2.5 meet the lower bound together, as -0.5.
    result = run([(10, ONE), (10, MINUS), (20, MINUS), (20, ONE), (30, FALL), (30, BIG), (40, ONE), (50, HALF)])
    assert spikes(result, "many") == [(50, 1)]
    assert spikes(result, "bounded") == [(50, 1)]


def test_an_exact_hit_fires(run):
    result = run([(10, HALF), (20, HALF)])
    for name in ("many", "bounded", "one", "zero"):
        assert spikes(result, name) == [(20, 1)], name


def test_two_events_of_one_pixel_at_one_instant_count_twice(run):
    assert spikes(run([(10, HALF), (10, HALF)]), "many") == [(10, 1)]


def test_the_lower_bound_catches_the_fall(run):
    result = run([(10, FALL), (20, BIG)])
    assert spikes(result, "bounded") == [(20, 1)]  # -1 + 2.5 = 1.5
    assert spikes(result, "one bounded") == [(20, 1)]
    assert spikes(result, "many") == []  # -3 + 2.5 = -0.5


def test_the_bound_holds_after_every_arrival(run):
    # Without it between the two falls, v would be -6 + 2.5 + 2.5.
    assert spikes(run([(10, FALL), (20, FALL), (30, BIG)]), "bounded") == [(30, 1)]


def test_a_neuron_driven_at_every_instant_fires_at_every_instant(run):
    result = run([(t, ONE) for t in range(1, 9)])
    for name in ("many", "bounded", "one"):
        assert spikes(result, name) == [(t, 1) for t in range(1, 9)], name
    # From v_reset = -0.25 it needs two.
    assert spikes(result, "zero") == [(1, 1), (3, 1), (5, 1), (7, 1)]


def test_spikes_cross_three_populations_in_one_instant(run):
    result = run([(7, BIG), (7, BIG), (7, BIG)])
    # 7.5 -> 7 spikes -> 7 spikes -> 3.5 -> one spike, 2.5 left.
    assert spikes(result, "many") == spikes(result, "second") == [(7, 7)]
    assert spikes(result, "third") == [(7, 1)]
    assert result.readout.tolist() == [2.0, -1.0]


def test_the_leak_between_arrivals(run):
    # 0.5 decays for one time constant to 0.5 / e; then 0.5 / e + 0.5 < 1 and, two steps later, the third half fires.
    assert 0.5 / math.e + 0.5 < 1 < (0.5 / math.e + 0.5) * math.exp(-0.1) + 0.5
    result = run([(0, HALF), (10_000, HALF), (11_000, HALF)])
    assert spikes(result, "leaky") == [(11_000, 1)]
    # Without the leak the second would have fired.
    assert spikes(result, "many") == [(10_000, 1)]


def test_a_leak_to_a_resting_potential(run):
    # From 0 towards 0.5: after n time constants 0.5 (1 - exp(-n)). With 0.5 it crosses 1 only if it were there already.
    result = run([(30_000, HALF), (30_000, QUARTER)])
    assert spikes(result, "resting") == [(30_000, 1)]  # 0.475 + 0.75
    assert spikes(run([(0, HALF)], duration=1.0), "resting") == []  # 0.5, and stays there


def test_the_bound_acts_before_the_leak(run):
    # -3 is caught at -1 and decays to -1 / e, not to -3 / e.
    assert -1 / math.e + 1.5 > 1 > -3 / math.e + 1.5
    assert spikes(run([(0, FALL), (10_000, ONE), (10_000, HALF)]), "leaky") == [(10_000, 1)]


def test_recordings_are_independent(run):
    probe = [(10, BIG), (20, HALF)]
    alone = trains(run.many([probe])[0])
    first, again, empty, last = run.many([[(5, HALF)], probe, [], probe])
    assert trains(again) == trains(last) == alone
    assert all(train == [] for train in trains(empty).values())
    assert spikes(first, "many") == []


def test_counts_synops_and_the_readout_over_time(run):
    result = run([(10, BIG), (20, BIG), (30, BIG)])
    # many: 2.5 -> 2, 3.0 -> 3, 2.5 -> 2 spikes; the input of third is 1.0, 1.5, 1.0: it fires each time (0, 0.5, 0.5
    # left).
    assert result.counts["input"].tolist() == [0, 0, 0, 0, 0, 3]
    assert {k: int(v[0]) for k, v in result.counts.items() if k in ("many", "second", "third")} == {
        "many": 7, "second": 7, "third": 3,
    }  # fmt: skip
    # Each input event reaches 7 neurons; many -> second -> third is one synapse each; third has two.
    assert result.synops == 3 * 7 + 7 + 7 + 3 * 2
    assert result.readout_at(np.array([0, 10e-6, 19e-6, 20e-6, 1.0])).tolist() == [
        [0, 0], [2, -1], [2, -1], [4, -2], [6, -3],
    ]  # fmt: skip


def test_a_duration_cuts_later_events_off(run):
    result = run([(10, ONE), (20, ONE)], duration=15e-6)
    assert spikes(result, "many") == [(10, 1)]
    assert result.duration == 15e-6
    assert spikes(run([(10, ONE), (20, ONE)], duration=20e-6), "many") == [(10, 1), (20, 1)]


def test_a_convolution_along_one_axis(make):
    """Two channels, x along the axis, y the channel; out[o, j] = sum_i w[o, i] in[o, 2 j - 1 + i]."""
    ones = np.ones((2, 3))
    graph = nir.NIRGraph(
        nodes={
            "input": nir.Input(input_type=np.array([2, 4])),
            "conv": nir.Conv1d(4, np.array([[[1.0, 0.5]], [[0.25, 2.0]]]), 2, 1, 1, 2, np.zeros(2)),
            "fires": nir.IF(r=ones, v_threshold=ones, metadata={"reset": "subtract", "spikes": "many"}),
            "flatten": nir.Flatten(np.array([2, 3]), start_dim=0),
            "last": nir.Linear(np.arange(1.0, 7.0)[None]),
            "output": nir.Output(output_type=np.array([1])),
        },
        edges=[("input", "conv"), ("conv", "fires"), ("fires", "flatten"), ("flatten", "last"), ("last", "output")],
        type_check=False,
    )
    t, x, y = np.array([(10, 0, 0), (20, 0, 0), (30, 1, 0), (40, 2, 1), (50, 3, 0), (60, 2, 0), (70, 2, 0)]).T
    recording = np.zeros(len(t), dtype=[("t", int), ("x", int), ("y", int)])
    recording["t"], recording["x"], recording["y"] = t, x, y
    (result,) = make(graph).run([recording])
    # 0.5 + 0.5 into (0, 0); 1 into (0, 1); 2 into (1, 1); 1 into (0, 2); 0.5 + 0.5 into (0, 1).
    expected = [(20, 0, 1), (30, 1, 1), (40, 4, 2), (50, 2, 1), (70, 1, 1)]
    assert [(round(t * 1e6), i, n) for t, i, n in trains(result)["fires"]] == expected
    assert result.counts["fires"].tolist() == [[1, 2, 1], [0, 2, 0]]
    assert result.readout.tolist() == [1 * 1 + 2 * 2 + 5 * 2 + 3 * 1]
    # Every event reaches one neuron here, and every spike the readout.
    assert result.synops == len(t) + 6
