"""Whole runs of the exact engine: results do not depend on threads, pieces and batches; `record` selects the spikes."""

import re
import subprocess
import sys
from concurrent.futures import CancelledError
from threading import Event

import numpy as np
import pytest

from mtt_brian import machine
from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Conv2d, Delay, Dense, Scale, pool2d
from mtt_brian.engines.base import InputSpikes
from mtt_brian.engines.exact import ExactEngine, loops
from mtt_brian.engines.exact import engine as engine_module
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF

SENSOR = (2, 8, 8)


def play(rng, events=300, duration=0.1, shape=SENSOR):
    """A random recording with about every third instant shared."""
    t = np.sort(rng.choice(np.round(np.linspace(0, duration, 2 * events), 9), events))
    code, order, n = np.unique(
        t + 1j * rng.integers(0, np.prod(shape), events), return_inverse=True, return_counts=True
    )
    return InputSpikes(code.real.copy(), code.imag.astype(np.int64), n, order, duration)


def mixed(seed=0):
    """Every kind of neuron and connection, with a pooling, a residual branch and a delayed loop."""
    rng = np.random.default_rng(seed)
    conv = Conv2d(rng.normal(0.2, 0.6, (4, 2, 3, 3)), (1, 1), ((1, 1), (1, 1)), (1, 1), 1, SENSOR)
    pool = pool2d((2, 2), (2, 2), ((0, 0), (0, 0)), conv.output_shape, average=False)
    second = Conv2d(rng.normal(0.1, 0.5, (3, 4, 2, 2)), (2, 2), ((0, 0), (0, 0)), (1, 1), 1, pool.output_shape)
    tau = rng.uniform(0.005, 0.02, second.output_shape)
    size = int(np.prod(second.output_shape))
    populations = (
        Population("drift", conv.output_shape, IF(bias=20.0, spikes="many", lower_bound=-1.0)),
        Population("leak", second.output_shape, LIF(tau=tau, r=tau, v_leak=0.1, lower_bound=-0.5, refractory=0.001)),
        Population("current", (6,), CubaLIF(tau=0.01, tau_syn=0.004, w_in=0.01, bias=0.3, reset="zero")),
        Population("readout", (3,), CubaLIF(threshold=None, tau=0.02, tau_syn=0.02, w_in=0.02)),
    )

    def dense(n_out, n_in, mean):
        return Dense(rng.normal(mean, 1.0, (n_out, n_in)), (n_in,))

    drift = populations[0].size
    connections = (
        Connection("input", "drift", (conv,), (), int(np.prod(SENSOR))),
        Connection("drift", "leak", (pool, second), (), drift),
        Connection("leak", "current", (dense(6, size, 0.5),), (), size),
        Connection("drift", "current", (pool, dense(6, 64, 0.1), Scale(rng.uniform(0.05, 0.1, 6))), (), drift),
        Connection("current", "current", (dense(6, 6, -0.2), Delay(rng.uniform(0.001, 0.004, 6))), (), 6),
        Connection("current", "readout", (dense(3, 6, 0),), (), 6),
    )
    return Circuit("input", SENSOR, populations, connections, "readout")


def assert_close(a, b, shift=0.0, tolerance=1e-9):
    assert a.spikes.keys() == b.spikes.keys()
    for name in a.spikes:
        assert np.array_equal(a.spikes[name].i, b.spikes[name].i), name
        assert np.array_equal(a.spikes[name].n, b.spikes[name].n), name
        np.testing.assert_allclose(b.spikes[name].t - shift, a.spikes[name].t, rtol=0, atol=tolerance)
    np.testing.assert_allclose(a.readout, b.readout, atol=1e-8)


def assert_identical(a, b):
    assert a.spikes.keys() == b.spikes.keys()
    for name in a.spikes:
        assert all(np.array_equal(x, y) for x, y in zip(a.spikes[name], b.spikes[name], strict=True))
    assert all(np.array_equal(a.counts[name], b.counts[name]) for name in a.counts)
    assert np.array_equal(a.readout, b.readout)
    assert a.synops == b.synops


def test_the_mixed_network_fires_everywhere():
    (result,) = ExactEngine(mixed()).run([play(np.random.default_rng(1))])
    assert all(len(result.spikes[name].t) > 30 for name in ("drift", "leak", "current"))
    # Not only at input instants.
    assert not np.isin(result.spikes["current"].t, play(np.random.default_rng(1)).t).all()


def test_threads_and_the_order_of_recordings_change_nothing():
    rng = np.random.default_rng(2)
    trains = [play(rng, events=int(n)) for n in rng.integers(0, 400, 40)]
    circuit = mixed()
    alone = [next(ExactEngine(circuit, threads=1).run([train])) for train in trains]
    engine = ExactEngine(circuit, threads=3)
    for result, expected in zip(engine.run(trains), alone, strict=True):
        assert_identical(result, expected)
    for result, expected in zip(engine.run(trains[::-1]), alone[::-1], strict=True):
        assert_identical(result, expected)


def reacting(order):
    """The mixed network, or one for the order "fifo" with a readout that leaks."""
    if order == "sum":
        return mixed()
    rng = np.random.default_rng(9)
    populations = (
        Population("a", (12,), IF(spikes="many", lower_bound=-1.0)),
        Population("readout", (3,), LIF(tau=0.01, r=0.01, threshold=None)),
    )
    connections = (
        Connection("input", "a", (Dense(rng.normal(0.5, 1, (12, 128)), (128,)),), (), 128),
        Connection("a", "readout", (Dense(rng.normal(0, 1, (3, 12)), (12,)),), (), 12),
    )
    return Circuit("input", SENSOR, populations, connections, "readout")


@pytest.mark.parametrize("record", ["all", "output", "counts"])
@pytest.mark.parametrize("order", ["sum", "fifo"])
def test_recordings_that_are_run_together_do_not_meet(order, record):
    """Short ones in front of long ones, so that states, delayed spikes, crossings and full buffers would be seen."""
    rng = np.random.default_rng(10)
    trains = [play(rng, events=events) for events in (40, 0, 900, 3, 400, 2000, 0)]
    engine = ExactEngine(reacting(order), order=order, record=record, threads=1)
    together = engine.start().run(trains)
    assert sum(result.synops for result in together) > 1000
    for result, train in zip(together, trains, strict=True):
        assert_identical(result, engine.start().feed(train))
        assert result.duration == train.duration


def test_the_recording_that_fails_is_named_and_the_run_can_be_used_again():
    circuit = Circuit(
        "input",
        (2,),
        (Population("a", (2,), IF(spikes="many")), Population("readout", (2,), IF(threshold=None))),
        (
            Connection("input", "a", (Dense(np.diag([1.0, 2.0**60]), (2,)),), (), 2),
            Connection("a", "readout", (Dense(np.diag([1e308, 1.0]), (2,)),), (), 2),
        ),
        "readout",
    )

    def train(name, *pixels):
        each = np.arange(len(pixels))
        return InputSpikes(1.0 * each, np.array(pixels, np.int64), np.ones(len(each), np.int64), each, 9.0, name)

    good = train("good", 0)
    run = ExactEngine(circuit).start()
    for bad, message in (
        (train("fast", 0, 1), r"^fast: population 'a', neuron 1 .*, at 1 s: more spikes at once"),
        (train("large", 0, 0), r"^large: population 'readout': a potential or current grew larger"),
    ):
        with pytest.raises(InputError, match=message):
            run.run([good, bad, good])
        for result in run.run([good, good]):
            assert result.readout.tolist() == [1e308, 0]
            assert result.counts["a"].tolist() == [1, 0]


def test_input_spikes_of_other_types_and_strides():
    train = play(np.random.default_rng(11))
    engine = ExactEngine(mixed())
    every_second = [np.repeat(column, 2)[::2] for column in train[:4]]
    (expected, strided, small) = engine.start().run(
        [
            train,
            InputSpikes(*every_second, train.duration),
            train._replace(i=train.i.astype(np.uint16), n=train.n.astype(np.int8), order=train.order.astype(np.int32)),
        ]
    )
    assert_identical(strided, expected)
    assert_identical(small, expected)


def test_results_stream_and_a_run_can_be_left_early():
    engine = ExactEngine(mixed(), threads=2)
    run = engine.run([play(np.random.default_rng(k)) for k in range(30)])
    next(run)
    run.close()


def exploding(events):
    """One event causes 10**6 spikes in single order: each of three layers sends a spike for every arrival."""
    sizes = [1, 100, 100, 100]
    populations = [Population(name, (100,), IF()) for name in "abc"] + [Population("out", (1,), IF(threshold=None))]
    names = ["input", *(p.name for p in populations)]
    connections = [
        Connection(source, target.name, (Dense(np.full((target.size, size), 2.0), (size,)),), (), size)
        for source, target, size in zip(names, populations, sizes, strict=False)
    ]
    t = np.arange(1, events + 1) * 1e-6
    each = np.arange(events)
    train = InputSpikes(t, 0 * each, np.ones(events, np.int64), each, 1.0)
    return Circuit("input", (1,), tuple(populations), tuple(connections), "out"), train


def test_what_nobody_reads_is_not_computed_to_its_end(monkeypatch):
    """Each of the others would take minutes, and the pool waits for its threads."""
    circuit, long = exploding(100_000)
    engine = ExactEngine(circuit, order="fifo", record="counts", threads=2)
    _, short = exploding(1)
    run_them, begun, ends = engine_module.Run.run, Event(), []

    def watched(run, recordings, stop=None):
        if recordings[0] is long:
            begun.set()
        try:
            (end,) = results = run_them(run, recordings, stop)
        except CancelledError as stopped:
            end = stopped
            raise
        finally:
            ends.append(end)
        return results

    monkeypatch.setattr(engine_module.Run, "run", watched)
    run = engine.run([short, long, long, long])
    assert next(run).counts["c"].sum() == 10**6
    assert begun.wait(600)
    run.close()
    first, *others = ends
    assert first.counts["c"].sum() == 10**6
    assert others
    assert all(isinstance(end, CancelledError) for end in others)
    stop = Event()
    stop.set()
    with pytest.raises(CancelledError):
        engine.start().feed(long, stop)
    (again,) = engine.run([short])
    assert again.counts["c"].sum() == 10**6


@pytest.mark.parametrize("order", ["sum", "fifo"])
def test_a_long_run_is_the_same_in_one_piece_and_reports_its_progress(order, monkeypatch, caplog):
    rng = np.random.default_rng(7)
    weight = Dense(rng.normal(0.2, 1, (4, 9)), (9,))
    connections = (Connection("input", "a", (weight,), (), 9),)
    circuit = Circuit("input", (9,), (Population("a", (4,), IF(spikes="many", lower_bound=-1.0)),), connections, "a")
    train = play(rng, events=3 * loops.PAUSE, duration=1.0, shape=(9,))
    half = train.t <= 0.5
    events = train.order < half.sum()
    first = InputSpikes(train.t[half], train.i[half], train.n[half], train.order[events], 0.5)
    later = InputSpikes(train.t[~half], train.i[~half], train.n[~half], train.order[~events] - half.sum(), 1.0)
    run = ExactEngine(circuit, order=order).start()
    parts = [run.feed(piece) for piece in (first, later)]  # compiles the kernels, which has a notice of its own
    monkeypatch.setattr(engine_module, "_SECONDS_WITHOUT_NOTICE", 0.0)
    with caplog.at_level("INFO", "mtt_brian"):
        (whole,) = ExactEngine(circuit, order=order).run([train])
    assert caplog.messages
    assert all(
        re.fullmatch(r"one recording has been running for \d+ s: [\d,]+ of its [\d,]+ input spikes are done", message)
        for message in caplog.messages
    )
    for k in range(3):
        assert np.array_equal(np.concatenate([part.spikes["a"][k] for part in parts]), whole.spikes["a"][k])
    assert parts[1].readout.tolist() == whole.readout.tolist()


def test_runs_side_by_side_share_the_free_memory(monkeypatch):
    """What one of them has allocated and not written to yet counts as free for the system."""
    monkeypatch.setattr(machine, "available_bytes", lambda: 100)
    engine = ExactEngine(mixed(), threads=2)
    first, second = engine.start(), engine.start()
    assert engine._memory.reserve(first, 40) is None
    assert engine._memory.reserve(second, 40) == 60
    assert engine._memory.reserve(first, 50) is None
    first.reset()
    assert engine._memory.reserve(second, 40) is None
    monkeypatch.setattr(machine, "available_bytes", lambda: 1000)
    with pytest.raises(InputError, match="the spikes of this run need more than the 0 MiB of memory that are free; "):
        list(engine.run([play(np.random.default_rng(1), events=3000)]))


@pytest.mark.parametrize("cut", [0.0, 0.0123, 0.05, 0.0999])
def test_a_recording_in_two_pieces_gives_the_same_spikes(cut):
    train = play(np.random.default_rng(3))
    engine = ExactEngine(mixed())
    (whole,) = engine.run([train])
    early = train.t <= cut
    run = engine.start()
    first = run.feed(InputSpikes(train.t[early], train.i[early], train.n[early], np.zeros(0, np.int64), cut))
    second = run.feed(
        InputSpikes(train.t[~early], train.i[~early], train.n[~early], np.zeros(0, np.int64), train.duration)
    )
    for name, spikes in whole.spikes.items():
        for k in range(3):
            both = np.concatenate([first.spikes[name][k], second.spikes[name][k]])
            # The readout alone is brought up to date at the cut; every spike is the same to the last bit.
            assert np.array_equal(both, spikes[k]), name
    assert second.synops == whole.synops
    np.testing.assert_allclose(second.readout, whole.readout, rtol=1e-12)


def test_cutting_in_the_middle_of_delays_and_queues_keeps_what_is_under_way():
    # Ten pieces, so that spikes wait in the delayed loop at many of the cuts.
    train = play(np.random.default_rng(4))
    engine = ExactEngine(mixed())
    (whole,) = engine.run([train])
    run, parts, begin = engine.start(), [], -1.0
    for end in np.linspace(0, train.duration, 11)[1:]:
        part = (train.t > begin) & (train.t <= end)
        parts.append(run.feed(InputSpikes(train.t[part], train.i[part], train.n[part], np.zeros(0, np.int64), end)))
        begin = end
    for name, spikes in whole.spikes.items():
        assert np.array_equal(np.concatenate([p.spikes[name].t for p in parts]), spikes.t)


def test_shifting_all_times_shifts_all_spikes():
    # Without drift or leak towards a rest other than 0 a silent beginning does nothing.
    rng = np.random.default_rng(5)
    weight = Dense(rng.normal(0.3, 1, (20, 30)), (30,))
    second = Dense(rng.normal(0.2, 1, (8, 20)), (20,))
    populations = (
        Population("a", (20,), CubaLIF(tau=0.01, tau_syn=0.003, w_in=0.01)),
        Population("b", (8,), CubaLIF(tau=0.01, tau_syn=0.01, w_in=0.01, reset="zero")),
    )
    connections = (Connection("input", "a", (weight,), (), 30), Connection("a", "b", (second,), (), 20))
    circuit = Circuit("input", (30,), populations, connections, "b")
    train = play(rng, shape=(30,))
    shift = 0.75
    later = train._replace(t=train.t + shift, duration=train.duration + shift)
    engine = ExactEngine(circuit)
    (a,), (b,) = engine.run([train]), engine.run([later])
    assert len(a.spikes["b"].t) > 20
    assert_close(a, b, shift=shift)


def test_renumbering_neurons_renumbers_their_spikes():
    rng = np.random.default_rng(6)
    weight, second = rng.normal(0.3, 1, (20, 30)), rng.normal(0.2, 1, (8, 20))
    bias = rng.uniform(0, 30, 20)
    train = play(rng, shape=(30,))

    def circuit(order):
        populations = (Population("a", (20,), IF(bias=bias[order])), Population("b", (8,), IF(lower_bound=-1.0)))
        first, last = Dense(weight[order], (30,)), Dense(second[:, order], (20,))
        connections = (Connection("input", "a", (first,), (), 30), Connection("a", "b", (last,), (), 20))
        return Circuit("input", (30,), populations, connections, "b")

    order = rng.permutation(20)
    (plain,) = ExactEngine(circuit(np.arange(20))).run([train])
    (renumbered,) = ExactEngine(circuit(order)).run([train])
    assert np.array_equal(plain.counts["a"][order], renumbered.counts["a"])
    assert np.array_equal(plain.spikes["b"].t, renumbered.spikes["b"].t)
    assert np.array_equal(plain.spikes["b"].i, renumbered.spikes["b"].i)


def test_what_is_recorded():
    circuit, train = mixed(), play(np.random.default_rng(7))
    everything, output, counts = (
        next(ExactEngine(circuit, record=record).run([train])) for record in ("all", "output", "counts")
    )
    assert list(everything.spikes) == ["drift", "leak", "current"]
    assert list(output.spikes) == ["current"]
    assert list(counts.spikes) == []
    assert everything.synops == output.synops == counts.synops
    for name, spikes in everything.spikes.items():
        total = np.bincount(spikes.i, spikes.n, minlength=counts.counts[name].size)
        assert np.array_equal(total.reshape(counts.counts[name].shape), counts.counts[name])
        assert np.all(np.lexsort((spikes.i, spikes.t)) == np.arange(len(spikes.t)))
    assert counts.counts["input"].sum() == train.n.sum()
    assert counts.synops == sum(
        int(counts.counts[c.source].ravel() @ np.diff(c.matrix.tocsc().indptr)) for c in circuit.connections
    )


def test_two_ways_to_hold_the_same_weights_give_the_same_spikes():
    # A convolution as a stencil, and written out as one matrix; likewise with a pooling in front.
    rng = np.random.default_rng(8)
    conv = Conv2d(rng.integers(-4, 8, (4, 1, 3, 3)) / 8, (2, 1), ((1, 0), (2, 1)), (1, 1), 2, SENSOR)
    pool = pool2d((2, 2), (2, 2), ((0, 0), (0, 0)), conv.output_shape, average=True)
    second = Conv2d(rng.integers(-4, 9, (3, 4, 2, 2)) / 8, (1, 1), ((1, 1), (0, 0)), (1, 1), 1, pool.output_shape)
    train = play(rng, events=1000)
    for rule in (IF(spikes="many"), IF(spikes="one", lower_bound=0.0), IF(reset="zero", v_reset=-0.25)):
        results = []
        for written_out in (False, True):
            n_in = int(np.prod(SENSOR))
            chains = [(conv,), (pool, second)]
            connections = [Connection(a, b, c, (), n) for a, b, c, n in zip(("input", "a"), "ab", chains,
                           (n_in, int(np.prod(conv.output_shape))), strict=True)]  # fmt: skip
            shapes = [conv.output_shape, second.output_shape]
            if written_out:
                connections = [
                    Connection(c.source, c.target, (Dense(c.matrix.toarray(), (c.source_size,)),), (), c.source_size)
                    for c in connections
                ]
                shapes = [(int(np.prod(shape)),) for shape in shapes]
            populations = tuple(Population(name, shape, rule) for name, shape in zip("ab", shapes, strict=True))
            sensor = (n_in,) if written_out else SENSOR
            circuit = Circuit("input", sensor, populations, tuple(connections), "b")
            for order in ("sum", "fifo"):
                results.append(next(ExactEngine(circuit, order=order).run([train])))
        for a, b in zip(results[:2], results[2:], strict=True):
            assert len(a.spikes["b"].t) > 50
            for name in "ab":
                assert all(np.array_equal(x, y) for x, y in zip(a.spikes[name], b.spikes[name], strict=True))
            assert a.synops == b.synops


def test_a_burst_larger_than_every_buffer():
    # One event makes 50 neurons fire at every instant; the records outgrow the first buffer many times.
    circuit = Circuit(
        "input",
        (1,),
        (Population("a", (50,), IF()),),
        (Connection("input", "a", (Dense(np.ones((50, 1)), (1,)),), (), 1),),
        "a",
    )
    t = np.arange(200) / 1024
    train = InputSpikes(t, np.zeros(200, np.int64), np.ones(200, np.int64), np.arange(200), 1.0)
    for order in ("sum", "fifo"):
        (result,) = ExactEngine(circuit, order=order).run([train])
        assert np.array_equal(result.spikes["a"].t, np.repeat(t, 50))
        assert np.array_equal(result.spikes["a"].i, np.tile(np.arange(50), 200))
        assert np.array_equal(result.readout, np.full(50, 200.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "lifo"}, "order must be one of 'sum', 'fifo', not 'lifo'"),
        ({"record": "some"}, "record must be one of"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"threads": 10**6}, "threads must be at most 1024, not 1000000"),
        ({"threads": 1.5}, "threads must be a whole number, not 1.5"),
        ({"threads": "4"}, "threads must be a whole number, not '4'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        ExactEngine(mixed(), **options)


def test_importing_the_package_does_not_load_numba():
    code = "import sys, mtt_brian, mtt_brian.engines; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
