"""The engine `exact-cuda`: on an emulated GPU (tests/emulated_cuda), and on a real one where there is one.

Every comparison with `exact` is to the last bit, for weights whose sums round as well.
"""

import functools
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mtt_brian as mb
from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Conv2d, Delay, Dense, Synapses
from mtt_brian.circuit.spikes import InputSpikes
from mtt_brian.engines.exact import ExactEngine
from mtt_brian.engines.exact_cuda import ExactCudaEngine, layers, queue
from mtt_brian.engines.exact_cuda.arrays import Block, kernel_arrays
from mtt_brian.engines.exact_cuda.gpu import CupyGpu
from mtt_brian.engines.lowered import arrays as lowered_arrays
from mtt_brian.engines.lowered.arrays import lower_circuit
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF
from tests import engines, random_networks, test_engines_by_hand
from tests.emulated_gpu import EmulatedGpu
from tests.engines import trains
from tests.reference import Reference

needs_a_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile with")


@pytest.fixture(scope="session")
def emulated(tmp_path_factory):
    """An emulated GPU whose threads run in shuffled order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMULATED_CUDA_SEED", "1")
        yield EmulatedGpu(tmp_path_factory.mktemp("emulated"))


@pytest.fixture(
    scope="session",
    params=[pytest.param("emulated", marks=needs_a_compiler), pytest.param("real", marks=pytest.mark.gpu)],
)
def gpu(request):
    if request.param == "emulated":
        return request.getfixturevalue("emulated")
    try:
        return CupyGpu()
    except InputError as error:
        pytest.skip(str(error))


def engine_of(gpu, circuit, **options):
    """The engine; on the emulated GPU with small blocks, so that every thread has several targets."""
    block = Block(8, 2) if isinstance(gpu, EmulatedGpu) else None
    return ExactCudaEngine(circuit, gpu=gpu, **{"block": block} | options)


def play(gpu, circuit, recordings, record="all", order="sum", **options):
    """Runs input spikes on the GPU and on `exact`; returns the number of spikes of all populations."""
    engine = engine_of(gpu, circuit, record=record, order=order, **options)
    return assert_same(engine.run(recordings), ExactEngine(circuit, record=record, order=order).run(recordings))


def assert_same(ours, expected):
    total = 0
    for ours_one, one in zip(ours, expected, strict=True):
        assert list(ours_one.spikes) == list(one.spikes)
        assert trains(ours_one) == trains(one)
        for name, counts in one.counts.items():
            assert ours_one.counts[name].shape == counts.shape
            assert np.array_equal(ours_one.counts[name], counts), name
            total += counts.sum() * (name != one.circuit.input)
        assert np.array_equal(ours_one.readout, one.readout)
        assert ours_one.synops == one.synops
        assert ours_one.duration == one.duration
    return total


def random_spikes(size, events, duration=0.05, instants=None, seed=0):
    """Input spikes at random; with a number of instants many coincide."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.choice(rng.integers(0, round(duration * 1e6), instants or events), events))
    rows, order, n = np.unique(t * size + rng.integers(0, size, events), return_inverse=True, return_counts=True)
    return InputSpikes(rows // size / 1e6, rows % size, n, order, duration)


def chain(rules, seed=0, size=6, weights=None, sizes=None):
    """Populations one after another, densely connected; by default of five neurons, and with weights as they come."""
    rng = np.random.default_rng(seed)
    populations, connections, source = [], [], "input"
    for k, (rule, own) in enumerate(zip(rules, sizes or [5] * len(rules), strict=True)):
        weight = rng.normal(0.3, 0.6, (own, size)) if weights is None else weights(rng, (own, size))
        populations.append(Population(str(k), (own,), rule))
        connections.append(Connection(source, str(k), (Dense(weight, (size,)),), (), size))
        source, size = str(k), own
    return Circuit("input", (connections[0].source_size,), tuple(populations), tuple(connections), source)


MANY, ONE, SUM = IF(spikes="many"), IF(spikes="one"), IF(threshold=None)


# ----- every neuron on paper


def simulator_of(gpu, graph):
    made = mb.Simulator(graph)
    made.engine = engine_of(gpu, made.circuit)
    return made


@pytest.fixture(scope="module")
def by_hand(gpu):
    return simulator_of(gpu, test_engines_by_hand.GRAPH)


class TestByHand:
    """The networks of test_engines_by_hand.py."""

    @pytest.fixture
    def make(self, gpu):
        return functools.partial(simulator_of, gpu)

    @pytest.fixture
    def run(self, by_hand):
        return engines.run_of(lambda: by_hand)


for _name, _test in vars(test_engines_by_hand).items():
    if _name.startswith("test_") and "delays" not in _name:  # which it refuses
        setattr(TestByHand, _name, staticmethod(_test))


# ----- random networks


def check_random(gpu, seed, leaky, highest_bound, rounded, order="sum"):
    """A random convolutional network; unless ``rounded`` its sums depend on their order."""
    graph = random_networks.graph(seed, leaky, highest_bound)
    rng = np.random.default_rng(seed)
    for node in graph.nodes.values():
        if not rounded and hasattr(node, "weight"):
            node.weight = node.weight * rng.uniform(0.7, 1.3, node.weight.shape)  # a zero stays one
    shape = graph.nodes["input"].input_type["input"]
    recordings = [random_networks.recording(seed + k, shape, events=120 - 40 * k) for k in range(3)]
    made = mb.Simulator(graph, order=order)
    expected = list(made.run(recordings))
    made.engine = engine_of(gpu, made.circuit, order=order)
    ours = list(made.run(recordings))
    if rounded:
        for recording, result in zip(recordings, ours, strict=True):
            assert trains(result) == Reference(graph).run(recording, order=order).spikes
    return assert_same(ours, expected)


a_network = given(
    seed=st.integers(0, 2**32 - 1),
    leaky=st.booleans(),
    highest_bound=st.sampled_from([-0.25, 0.0, 0.125]),
    rounded=st.booleans(),
)
every_order = pytest.mark.parametrize("order", ["sum", "fifo"])


@every_order
@settings(max_examples=12)
@a_network
def test_random_networks_equal_exact(gpu, order, seed, leaky, highest_bound, rounded):
    check_random(gpu, seed, leaky, highest_bound, rounded, order)


@pytest.mark.slow
@every_order
@settings(max_examples=200)
@a_network
def test_random_networks_equal_exact_often(gpu, order, seed, leaky, highest_bound, rounded):
    check_random(gpu, seed, leaky, highest_bound, rounded, order)


def test_the_random_networks_do_fire(gpu):
    assert sum(check_random(gpu, seed, leaky, -0.25, False) for seed in range(3) for leaky in (False, True)) > 500


def test_sums_in_another_order_would_differ():
    """The comparisons above would prove nothing if the sums of the random weights were exact."""
    weight = np.random.default_rng(0).normal(0.3, 0.6, 100)
    assert weight.sum() != weight[::-1].cumsum()[-1]


@pytest.mark.slow
@every_order
@pytest.mark.parametrize("block", [Block(1, 1), Block(2, 4), Block(32, 1)])
def test_the_shape_of_a_block_does_not_matter(emulated, block, order):
    circuit = chain([MANY, replace(ONE, lower_bound=-0.5), LIF(tau=0.01, r=0.01), SUM])
    assert play(emulated, circuit, [random_spikes(6, 300, instants=40)], order=order, block=block) > 300


@needs_a_compiler
def test_the_kernel_for_networks_without_leak(emulated):
    """Whatever a network does not have is left out of its kernel."""
    gpu = EmulatedGpu(emulated.folder, general=False)
    circuit = chain([MANY, replace(ONE, lower_bound=-0.5), SUM])
    assert play(gpu, circuit, [random_spikes(6, 300, instants=40)]) > 300


@pytest.mark.parametrize(("sizes", "aligned"), [((8, 12, 1), [1, 1, 0]), ((7, 8, 2), [0, 0, 0])])
def test_neighbouring_neurons_are_read_together_where_they_are_aligned(emulated, sizes, aligned):
    """The readout makes the number of neurons odd: without a gap, every second recording would begin between two
    multiples of 16 bytes."""

    def single(rng, shape):
        return rng.normal(0.2, 0.6, shape).astype(np.float32).astype(np.float64)

    circuit, block = chain([MANY, MANY, SUM], size=6, sizes=sizes, weights=single), Block(8, 4)
    arrays = kernel_arrays(circuit, lower_circuit(circuit, frozenset(), True), queued=True, block=block)
    assert arrays.arrays[1][:, -1].tolist() == aligned
    assert arrays.neurons % 2 == 1
    recordings = [random_spikes(6, 60, seed=k, instants=20) for k in range(3)]
    assert play(emulated, circuit, recordings, order="fifo", block=block) > 50


def test_a_batch_of_a_large_network_is_fetched_while_others_run(emulated):
    """A thousand neurons: 512 recordings together. A million: 8 MB of counts each, 33 recordings together."""
    for size, together in ((1_000, 512), (1_000_000, 33)):
        circuit = chain([MANY], size=1, sizes=(size,))
        assert ExactCudaEngine(circuit, gpu=emulated)._most == together


@pytest.mark.slow
@every_order
@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc to compile with")
def test_nvcc_compiles_the_kernels_without_a_warning(tmp_path, order, architecture):
    circuit = chain([MANY, LIF(tau=0.01, r=0.01), SUM], sizes=(200, 8, 1))
    program = layers if order == "sum" else queue
    macros = ExactCudaEngine(circuit, order=order)._sizes.macros()
    source = tmp_path / "kernels.cu"
    source.write_text("".join(path.read_text() for path in program.SOURCES))
    command = ["nvcc", "-cubin", "-std=c++17", "--fmad=false", f"-arch={architecture}", "-Xptxas", "-v"]
    command += [*(f"-D{name}={value}" for name, value in macros.items()), str(source), "-o", str(tmp_path / "cubin")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ".cu(" not in done.stderr  # where a warning or an error is
    assert set(program.FUNCTIONS) == set(re.findall(r"entry function '(\w+)'", done.stderr))


def test_leaks_of_any_length_have_the_bits_of_exact(gpu):
    """Decays from almost 1 down to subnormal numbers and 0: exp(-dt / tau) for 40,000 pairs."""
    tau = 10.0 ** np.random.default_rng(0).uniform(-9, 9, 5)
    readout = LIF(tau=tau, r=tau, threshold=None)
    circuit = chain([readout], size=1, weights=lambda rng, shape: np.ones(shape))
    rng = np.random.default_rng(1)
    recordings = []
    for duration in 10.0 ** rng.uniform(-6, 3.0, 200):
        recordings.append(random_spikes(1, 40, duration, seed=len(recordings))._replace(duration=2 * duration))
    play(gpu, circuit, recordings, "counts")


# ----- parts of a network


@pytest.mark.parametrize(
    "readout",
    [SUM, MANY, replace(SUM, lower_bound=-0.5), replace(SUM, bias=3.0), LIF(tau=0.01, r=0.01, threshold=None),
     LIF(tau=0.02, r=0.01, threshold=None, bias=2.0, v_leak=-0.25)],
    ids=["sum", "firing", "bounded", "drift", "leak", "leak and bias"],
)  # fmt: skip
@pytest.mark.parametrize("record", ["all", "output", "counts"])
def test_readouts(gpu, readout, record):
    circuit = chain([MANY, LIF(tau=0.01, r=0.01, spikes="one"), readout], seed=1)
    recordings = [random_spikes(6, events, instants=30, seed=events) for events in (200, 0, 50)]
    assert play(gpu, circuit, recordings, record) > 50


@pytest.mark.parametrize("rule", [ONE, replace(ONE, lower_bound=-0.25), LIF(tau=0.01, r=0.01, spikes="one")])
def test_a_neuron_above_its_threshold_waits_for_an_arrival_through_a_weight_that_is_not_zero(gpu, rule):
    """Zero weights within a dense matrix are no arrivals."""

    def sparse(rng, shape):
        return rng.normal(1.0, 1.0, shape) * (rng.random(shape) < 0.5)

    circuit = chain([rule, rule, SUM], weights=sparse)
    assert lower_circuit(circuit, frozenset(), False).marked.any()
    for order in ("sum", "fifo"):
        assert play(gpu, circuit, [random_spikes(6, 400, instants=100)], order=order) > 200


def test_an_upper_bound(gpu):
    circuit = chain([replace(ONE, upper_bound=1.5, lower_bound=-1.0), SUM])
    assert play(gpu, circuit, [random_spikes(6, 400, instants=100)]) > 100


def test_parameters_per_neuron(gpu):
    rng = np.random.default_rng(0)
    rules = [
        IF(threshold=rng.uniform(0.5, 2, 5), spikes="many", r=rng.uniform(0.5, 2, 5)),
        LIF(tau=rng.uniform(0.01, 0.03, 5), r=0.02, threshold=rng.uniform(0.5, 2, 5), v_leak=0.25),
        IF(threshold=rng.uniform(0.5, 2, 5), reset="zero", v_reset=rng.uniform(-1, 0, 5)),
    ]
    assert play(gpu, chain([*rules, SUM]), [random_spikes(6, 400, instants=100)]) > 200


def test_a_readout_that_the_input_feeds_as_well(gpu):
    circuit = chain([MANY, SUM])
    weight = np.random.default_rng(1).normal(size=(5, 6))
    circuit = replace(
        circuit, connections=(*circuit.connections, Connection("input", "1", (Dense(weight, (6,)),), (), 6))
    )
    assert play(gpu, circuit, [random_spikes(6, 100, instants=20)], "output") > 50


def test_many_neurons_that_fire_at_one_instant_are_sorted(gpu):
    """Each of 300 neurons fires; the next population adds their weights in ascending order."""
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0.5, 3, (300, 2)), rng.normal(0, 0.3, (40, 300))
    circuit = Circuit(
        "input", (2,),
        (Population("a", (300,), MANY), Population("b", (40,), MANY)),
        (
            Connection("input", "a", (Dense(first, (2,)),), (), 2),
            Connection("a", "b", (Dense(second, (300,)),), (), 300),
        ),
        "b",
    )  # fmt: skip
    assert play(gpu, circuit, [random_spikes(2, 30)]) > 5000


def test_a_list_that_is_too_short_is_written_again(gpu):
    """30,000 spikes, more than a population was expected to fire; then fewer, in the longer lists."""
    circuit = chain([MANY, MANY, SUM], weights=lambda rng, shape: rng.uniform(0.3, 1.0, shape))
    recordings = [random_spikes(6, events, seed=events) for events in (3000, 10, 1500, 20, 100)]
    assert play(gpu, circuit, recordings, batch_size=2) > 15_000


@needs_a_compiler
def test_recordings_for_which_there_is_too_little_memory_are_run_one_after_the_other(emulated):
    """Buffers of 100 kB hold the hits of one recording, and not of four."""
    circuit = chain([MANY, MANY, SUM], weights=lambda rng, shape: rng.uniform(0.3, 1.0, shape))
    recordings = [random_spikes(6, 600, seed=k) for k in range(4)]
    small = EmulatedGpu(emulated.folder, largest=100_000)
    assert play(small, circuit, recordings) > 9_000
    tiny = engine_of(EmulatedGpu(emulated.folder, largest=10_000), circuit)
    with pytest.raises(InputError, match=r"with 600 events causes more spikes than its memory holds; use engine='ex"):
        list(tiny.run(recordings))


def test_blocks_of_weights_of_different_lengths_reach_one_population(gpu):
    """96 channels at once, 32 in each of three groups, and single synapses: units of 32 neurons."""
    rng = np.random.default_rng(0)

    def conv(groups):
        weight = rng.normal(0.1, 0.4, (96, 3 // groups, 3, 3))
        return Conv2d(weight, (1, 1), ((1, 1), (1, 1)), (1, 1), groups, (3, 3, 3))

    source, target = np.unique(rng.integers(0, [27, 864], (200, 2)), axis=0).T
    synapses = Synapses(source, target, rng.normal(0.5, 0.5, len(source)), 0 * source, (3, 3, 3), (96, 3, 3))
    connections = [Connection("input", "a", (operator,), (), 27) for operator in (conv(1), conv(3), synapses)]
    circuit = Circuit("input", (3, 3, 3), (Population("a", (96, 3, 3), MANY),), tuple(connections), "a")
    assert {units.size for units in engine_of(gpu, circuit)._sizes.units[1:]} == {32}
    assert play(gpu, circuit, [random_spikes(27, 60, instants=20, seed=k) for k in range(2)]) > 1000


def test_hits_beyond_32_bits_are_refused(gpu, monkeypatch):
    circuit = chain([MANY, SUM])
    engine = engine_of(gpu, circuit)
    object.__setattr__(engine._sizes, "units", tuple(replace(units, hits=2**30) for units in engine._sizes.units))
    monkeypatch.setattr(type(engine._sizes), "bytes_per_event", 24)
    with pytest.raises(InputError, match=r"with 10 events causes more spikes than its memory holds"):
        list(engine.run([random_spikes(6, 10)]))


@pytest.mark.parametrize("record", ["all", "counts"])
def test_a_queue_over_several_buffers(gpu, record):
    circuit = chain([MANY, MANY, SUM], weights=lambda rng, shape: rng.uniform(0.1, 0.6, shape))
    recordings = [random_spikes(6, events, instants=40, seed=events) for events in (1500, 10, 700)]
    assert play(gpu, circuit, recordings, record, "fifo") > 9_000


def test_a_queue_that_grows_beyond_its_room_is_run_by_exact(gpu):
    circuit = chain([MANY, MANY, MANY, MANY, SUM], weights=lambda rng, shape: np.ones(shape))
    assert play(gpu, circuit, [random_spikes(6, 4), random_spikes(6, 0)], order="fifo") > 2000
    (result,) = engine_of(gpu, circuit, order="fifo").run([random_spikes(6, 4)])
    assert result.engine == "exact-cuda"


def test_more_recordings_than_a_batch_and_lazy_reading(gpu):
    circuit = chain([MANY, SUM])
    recordings = [random_spikes(6, 10 * k, seed=k) for k in range(21)]
    read = []

    def lazily():
        for k, recording in enumerate(recordings):
            read.append(k)
            yield recording

    results = engine_of(gpu, circuit, batch_size=2).run(lazily())
    first = next(results)
    assert read == list(range(17))  # eight batches of two, and the recording that begins the next
    assert_same([first, *results], ExactEngine(circuit).run(recordings))


def test_no_recordings(gpu):
    assert list(engine_of(gpu, chain([MANY, SUM])).run([])) == []


def test_events_after_the_end_are_left_out(gpu):
    recording = random_spikes(6, 200)._replace(duration=0.02)
    assert play(gpu, chain([MANY, LIF(tau=0.01, r=0.01, threshold=None)]), [recording]) > 10


def test_many_weights_of_single_precision_are_stored_so(monkeypatch):
    monkeypatch.setattr(lowered_arrays, "NARROWED", 55)

    def single(rng, shape):
        return rng.normal(size=shape).astype(np.float32).astype(np.float64)

    for weights, dtype in ((single, np.float32), (None, np.float64)):
        circuit = chain([MANY, SUM], weights=weights)
        arrays = kernel_arrays(circuit, lower_circuit(circuit, frozenset(), False))
        assert arrays.single == (dtype == np.float32)
        assert sum(array.dtype == dtype and array.shape == (55,) for array in arrays.arrays) == 1


# ----- refusals


def test_neurons_that_fire_between_arrivals_are_refused(gpu):
    for rule, reason in (
        (IF(bias=1.0), "a bias"),
        (IF(bias=-1.0), "a bias"),
        (IF(refractory=0.001), "a refractory period"),
        (LIF(tau=0.01, v_leak=2.0), "a leak towards a potential above its threshold"),
        (CubaLIF(tau=0.01, tau_syn=0.005), "a synaptic current"),
    ):
        with pytest.raises(InputError, match=f"population '0' has {reason}, which engine='exact-cuda'"):
            engine_of(gpu, chain([rule, SUM]))


def test_a_delay_is_refused(gpu):
    circuit = chain([MANY, SUM])
    delayed = replace(circuit.connections[1], operators=(Delay(np.full(5, 0.001)), *circuit.connections[1].operators))
    with pytest.raises(InputError, match="'0' -> '1' has a delay, which engine='exact-cuda' does not compute"):
        engine_of(gpu, replace(circuit, connections=(circuit.connections[0], delayed)))


def test_two_synapses_between_the_same_neurons_are_refused(gpu):
    def connected(target):
        synapses = Synapses(np.array([0, 0, 1]), np.array(target), np.ones(3), np.zeros(3), (6,), (5,))
        connection = Connection("input", "0", (synapses,), (), 6)
        return Circuit("input", (6,), (Population("0", (5,), MANY),), (connection,), "0")

    play(gpu, connected([0, 1, 1]), [random_spikes(6, 50)])
    with pytest.raises(InputError, match="'input' -> '0' has several synapses between the same two neurons"):
        engine_of(gpu, connected([3, 3, 1]))


def test_without_cupy_one_line_says_what_to_do(monkeypatch):
    simulator = mb.Simulator(chain([MANY, SUM]), "exact-cuda")  # describes the network without a GPU
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package CuPy .* and an NVIDIA GPU; use engine='exact'") as raised:
        list(simulator.run([engines.recording([(1, 0)])]))
    assert "\n" not in str(raised.value)


@needs_a_compiler
def test_a_network_that_does_not_fit_is_refused_with_numbers(emulated):
    small = EmulatedGpu(emulated.folder, memory=2**10)
    circuit = chain([MANY], size=1, sizes=(20_000,))
    with pytest.raises(InputError, match=r"recording need 1.8 MiB of its memory, of which 0.0 MiB are free"):
        list(engine_of(small, circuit).run([random_spikes(1, 10)]))


@needs_a_compiler
def test_a_recording_that_does_not_fit_is_refused_with_numbers(emulated):
    small = EmulatedGpu(emulated.folder, memory=2**20)
    engine = engine_of(small, chain([MANY, SUM]), record="counts")
    with pytest.raises(InputError, match=r"60,000 events needs 6 MiB of its memory, and 0 MiB are left for it"):
        list(engine.run([random_spikes(6, 60_000)]))


def test_a_batch_size_that_is_none(gpu):
    with pytest.raises(InputError, match="batch_size must be at least 1, not 0"):
        engine_of(gpu, chain([MANY, SUM]), batch_size=0)


def test_a_run_that_cannot_continue_ends_with_the_message_of_exact(gpu):
    circuit = chain([MANY, SUM], weights=lambda rng, shape: np.full(shape, 1e18))
    recordings = [random_spikes(6, 0), random_spikes(6, 10)]
    results = engine_of(gpu, circuit).run(recordings)
    assert next(results).synops == 0
    with pytest.raises(InputError) as ours:
        next(results)
    with pytest.raises(InputError) as expected:
        list(ExactEngine(circuit).run(recordings))
    assert str(ours.value) == str(expected.value)
