"""What hostile or clumsy users do: old names, strange arguments, and files that never end; one clear line each."""

import copy
import importlib
import itertools
import os
import pickle
import warnings
from dataclasses import replace

import nir
import numba
import numpy as np
import pytest

import mtt_brian as mb
from mtt_brian import cli, evaluate, events, kernel_cache, neuron, plotting
from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Delay, Dense, Synapses
from mtt_brian.errors import InputError
from mtt_brian.events import named, perturb
from mtt_brian.events.formats import table
from mtt_brian.experiments import run_folder
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.neuron import IF, LIF
from mtt_brian.translate import nir_files

RECORDING = events.make_recording([1, 2, 3], x=[0, 1, 0])[["t", "x"]]


def chain(*nodes, size=2):
    named = {"input": nir.Input({"input": np.array([size])})}
    named |= {f"n{k}": node for k, node in enumerate(nodes)}
    named["output"] = nir.Output({"output": np.array([size])})
    names = list(named)
    return nir.NIRGraph(named, list(itertools.pairwise(names)), type_check=False)


def one_layer(v_reset=0.0, **metadata):
    ones = np.ones(2)
    metadata = {"reset": "zero", **metadata}
    return chain(nir.Linear(np.eye(2)), nir.IF(ones, ones, v_reset * ones, metadata=metadata))


class TestOldNames:
    def test_the_old_module_is_imported_in_every_way(self):
        import mtt_brian.simulate as old

        assert (old.Simulator, old.simulate, old.ENGINES) == (mb.Simulator, mb.simulate, mb.engines.ENGINES)
        with pytest.warns(DeprecationWarning, match=r"mtt_brian.simulate has moved to mtt_brian.engines"):
            from mtt_brian.simulate import Simulator
        assert Simulator is mb.Simulator
        assert old is mb.simulate

    @pytest.mark.parametrize(
        ("name", "holds"), [("mtt_brian.simulate", "Simulator"), ("mtt_brian.translate.nir_reader", "read_nir")]
    )
    def test_everything_of_an_old_module(self, name, holds):
        found = {}
        with pytest.warns(DeprecationWarning, match="has moved"):
            exec(f"from {name} import *", found)
        assert holds in found
        with pytest.raises(AttributeError, match="nothing"):
            getattr(importlib.import_module(name), "nothing")  # noqa: B009 - not useless: it raises


@pytest.mark.parametrize(
    ("engine", "options"), [("exact", {"order": "fifo", "threads": 1}), ("brian2", {"target": "numpy"})]
)
def test_a_simulator_can_be_pickled_and_copied(engine, options):
    """For other processes; the options come along, and the circuit is not read again."""
    simulator = mb.Simulator(one_layer(), engine, record="counts", lower_bound=-0.5, **options)
    (expected,) = simulator.run([RECORDING])
    for other in (pickle.loads(pickle.dumps(simulator)), copy.deepcopy(simulator), copy.copy(simulator)):
        (found,) = other.run([RECORDING])
        assert {name: counts.tolist() for name, counts in found.counts.items()} == {
            name: counts.tolist() for name, counts in expected.counts.items()
        }
        assert found.spikes.keys() == expected.spikes.keys()
        assert (repr(other), other.circuit.assumptions) == (repr(simulator), simulator.circuit.assumptions)


@pytest.mark.parametrize("t", ["x", [[1], [1, 2]], {}, object()])
def test_times_of_a_readout_that_are_none(t):
    with pytest.raises(InputError, match=r"readout_at\(\) needs times in seconds, not "):
        mb.simulate(one_layer(), RECORDING).readout_at(t)


def test_a_result_can_be_pickled_and_copied():
    result = mb.simulate(one_layer(), RECORDING)
    assert result.synops == 3  # from a cached value, which is left out
    for again in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert again.readout.tolist() == result.readout.tolist()
        assert again.circuit.population["n1"].size == 2
        assert mb.simulate(again.circuit, RECORDING).spikes["n1"].t.tolist() == result.spikes["n1"].t.tolist()


@pytest.mark.parametrize("integers", [8, (8, 16), True, "8"])
def test_integers_are_an_object(integers):
    with pytest.raises(InputError, match=r"integers must be an Integers object, such as Integers\(8, 16\), not "):
        mb.simulate(one_layer(), RECORDING, integers=integers)


@pytest.mark.parametrize(
    ("options", "what"), [({"v_reset": 0.999}, "reset potential"), ({"lower_bound": 0.999}, "lower bound")]
)
def test_integers_that_are_too_few_name_the_population(options, what):
    with pytest.raises(InputError, match=f"population 'n1': its {what} and its threshold round to the same integer"):
        mb.simulate(one_layer(**options), RECORDING, integers=mb.Integers(2, 3))


def test_a_loop_delay_that_is_no_time_is_refused():
    with pytest.raises(InputError, match="loop_delay must be one number > 0, not 1e-300"):
        mb.Conventions(loop_delay=1e-300)
    assert mb.Conventions(loop_delay=1e-9).loop_delay == 1e-9


def test_the_remedy_is_not_what_was_passed_already():
    graph = chain(nir.Linear(np.eye(2)))
    with pytest.raises(
        InputError, match="needs the length of a step in the time of the file: pass file_time_per_step="
    ):
        mb.simulate(graph, RECORDING, tool="snntorch")
    result = mb.simulate(graph, RECORDING, duration=1e-3, tool="snntorch", file_time_per_step=1e-4)
    assert result.tool_readout.tolist() == [2, 1]


class TestRecordings:
    @pytest.mark.parametrize("path", [None, 3, b"x.csv", ["x.csv"]])
    def test_what_is_no_path(self, path):
        with pytest.raises(InputError, match="path must be the path of a file or folder, not "):
            events.read(path)

    @pytest.mark.parametrize("path", [3, b"x", ["x"], object(), "", "a\0b"])
    def test_what_is_no_path_anywhere(self, path):
        graph = chain(nir.Linear(np.eye(2)))
        taking = {
            "root": [lambda p: events.load("nmnist", root=p)],
            "run_dir": [lambda p: mb.mtt.fit(None, None, None, p)],
            "folder": [lambda p: run_folder.load_all([p]), lambda p: evaluate.write_report(None, p)],
            "name": [named.reference, named.open_recording],
            "path": [
                *(events.read, mb.mtt.checkpoint.load, mb.mtt.load_model, mb.mtt.config.read_config),
                *(nir_files.load_data_tree, lambda p: mb.export.write(p, graph)),
                lambda p: plotting.figure(p if isinstance(p, str) else [p]).__enter__(),
            ],
        }
        for name, functions in taking.items():
            for function in functions:
                with pytest.raises(InputError, match=f"^{name} must be the path of a file or folder, not "):
                    function(path)

    @pytest.mark.parametrize("given", [3, "x", [1, 2], {}, float("nan"), np.float64(2), np.zeros((2, 2))])
    def test_what_is_of_another_class(self, given, tmp_path):
        mtt, data = pytest.importorskip("mtt_brian.mtt"), events.load("digits", split="test").subset([0])
        config = mtt.TrainConfig(time_steps=2)
        model = mtt.build_model(config, data)
        refusing = {
            "config": [lambda v: mtt.build_model(v, data), lambda v: mtt.fit(model, data, v, tmp_path)],
            "data": [lambda v: mtt.build_model(config, v), lambda v: mtt.fit(model, v, config, tmp_path)],
            "model": [lambda v: mtt.fit(v, data, config, tmp_path)],
            "validation": [lambda v: mtt.fit(model, data, config, tmp_path, v)],
            "resume": [lambda v: mtt.fit(model, data, config, tmp_path, None, v)],
            "epoch": [lambda v: mtt.load_model(tmp_path, v)],
            "result": [evaluate.readout_trace],
            "report": [evaluate.verdict, lambda v: evaluate.write_report(v, tmp_path)],
            r"spikes\['a'\]": [lambda v: plotting.raster({"a": v})],
        }
        for name, functions in refusing.items():
            for function in functions:
                with pytest.raises(InputError, match=f"^{name} must be "):
                    function(given)
        with pytest.raises(InputError, match=r"needs a sensor of size \(2, height, width\), not"):
            mb.models.nmnist_3c1fc(given)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("duration", [0, -1.0, float("nan"), float("inf"), "1", [1.0], True])
    def test_what_is_no_duration_of_a_rebuilt_network(self, duration):
        with pytest.raises(InputError, match=r"^duration must be "):
            mb.export.from_nir(one_layer(reset="subtract"), duration=duration)

    @pytest.mark.parametrize("time_steps", [0, -1, 2.0, "2", [2], None, True])
    def test_what_is_no_number_of_time_steps_of_frames(self, time_steps):
        with pytest.raises(InputError, match=r"^time_steps must be "):
            mb.mtt.load_frames(events.load("digits", split="test").subset([0]), time_steps)

    def test_a_number_is_no_list_of_recordings(self):
        with pytest.raises(InputError, match=r"^recordings: give a list of recordings"):
            events.frames_batch(np.float64(2), 3, (2, 34, 34))

    @pytest.mark.parametrize("ending", list(events.FORMATS))
    def test_what_is_no_file(self, ending, tmp_path):
        folder, pipe = tmp_path / f"folder{ending}", tmp_path / f"pipe{ending}"
        folder.mkdir()
        os.mkfifo(pipe)  # a reader that opens it waits for ever
        loop = tmp_path / f"loop{ending}"
        loop.symlink_to(loop)
        for path, message in (
            (folder, "is a folder"),
            (pipe, "is a pipe or a device"),
            (loop, "no such file"),
            (tmp_path / f"{'a' * 300}{ending}", "File name too long"),
        ):
            with pytest.raises(InputError, match=f"{path.name}: {message}"):
                events.read(path)

    def test_an_archive_larger_than_the_memory(self, tmp_path, monkeypatch):
        zeros = np.zeros(10_000, dtype=np.int64)
        np.savez_compressed(tmp_path / "bomb.npz", t=zeros, x=zeros)
        assert len(events.read(tmp_path / "bomb.npz")) == 10_000
        monkeypatch.setattr(table, "available_bytes", lambda: 100_000)
        with pytest.raises(InputError, match=r"bomb.npz: its arrays are 160,\d+ bytes, more than half of the memory"):
            events.read(tmp_path / "bomb.npz")


@pytest.fixture
def files(tmp_path):
    nir.write(tmp_path / "net.nir", one_layer())
    for k, x in enumerate((0, 1)):
        t = np.arange(1000, 50_000, 1000)
        np.save(tmp_path / f"{k}.npy", events.make_recording(t, x=x)[["t", "x"]])
    return tmp_path


@pytest.mark.parametrize("engine", ["exact", "brian2"])
def test_a_run_that_fails_names_its_recording(engine):
    """2**53 spikes at once in the second one; Brian2 runs a batch of recordings as one."""
    ones = np.ones(2)
    graph = chain(nir.Linear(2.0**53 * np.eye(2)), nir.IF(ones, ones, 0 * ones))
    options = {"target": "numpy"} if engine == "brian2" else {}
    simulator = mb.Simulator(graph, engine, reset="subtract", spikes="many", **options)
    recordings = [events.make_recording(t, 0)[["t", "x"]] for t in ([], [1000], [])]
    for names, called in (
        (None, ["recording 0", "recording 1", "recording 2"]),
        (["a.npy", "b.npy", "c.npy"], ["a.npy", "b.npy", "c.npy"]),
        (["a.npy"], ["a.npy", "recording 1", "recording 2"]),
    ):
        named = called[1] if engine == "exact" else f"{called[0]} .. {called[2]}"
        with pytest.raises(InputError, match=f"^{named}: population 'n1', neuron 0"):
            list(simulator.run(recordings, 0.01, names=names))


class TestGap:
    def run(self, files, *arguments):
        return cli.entry_point(["gap", str(files / "net.nir"), *arguments, "--out", str(files / "out")])

    def test_recordings_may_follow_options(self, files, capsys):
        recordings = [str(files / f"{k}.npy") for k in range(2)]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert self.run(files, "--step", "1e-3", *recordings, "--steps", "1e-2") == 0
        assert "Of 2 recordings" in capsys.readouterr().out
        with pytest.raises(SystemExit, match="2"):
            self.run(files, "--nothing", *recordings)
        assert "unknown option --nothing" in capsys.readouterr().err

    def test_recordings_that_have_changed_are_not_resumed(self, files, capsys, monkeypatch):
        arguments = [str(files / "0.npy"), str(files / "1.npy"), "--shard", "1", "--step", "1e-3", "--steps"]
        monkeypatch.setattr(ResultStore, "remove", lambda self: None)  # as if the command had been killed
        assert self.run(files, *arguments) == 0
        assert self.run(files, *arguments) == 0
        np.save(files / "1.npy", np.load(files / "0.npy")[:20])
        assert self.run(files, *arguments) == 2
        assert "holds results of other settings: events was" in capsys.readouterr().err

    def test_an_event_that_is_too_late_is_named(self, files, capsys):
        """By default it is the end of the run."""
        np.save(files / "1.npy", events.make_recording([1000, 2**52], x=0)[["t", "x"]])
        assert self.run(files, *(str(files / f"{k}.npy") for k in range(2)), "--step", "1e-3") == 2
        assert f"error: {files / '1.npy'}: event 1 has t = {2**52 // 1000 * 1000}; " in capsys.readouterr().err

    def test_the_name_of_a_recording_that_does_not_fit(self, files, capsys):
        np.save(files / "1.npy", events.make_recording(np.arange(0, 50_000, 1000), x=7)[["t", "x"]])
        recordings = [str(files / f"{k}.npy") for k in range(2)]
        assert self.run(files, *recordings, "--shard", "1", "--step", "1e-3") == 2
        assert f"error: {files / '1.npy'}: " in capsys.readouterr().err


class TestReplay:
    def run(self, files, *arguments):
        net, recording, out = (str(files / name) for name in ("net.nir", "0.npy", "out"))
        return cli.entry_point(["simulate", net, recording, "--out", out, *arguments])

    def test_a_tolerance_without_a_replay(self, files, capsys):
        assert self.run(files, "--tolerance", "1e-6") == 2
        assert "--tolerance needs --replay" in capsys.readouterr().err

    def test_what_was_not_recorded_is_said_with_its_spikes(self, files, capsys):
        nir.write(files / "net.nir", chain(*(nir.IF(np.ones(2), np.ones(2), metadata={"reset": "zero"}) for _ in "ab")))
        (files / "one.csv").write_text("population,t,i,n\nn0,0.001,0,1\n")
        assert self.run(files, "--replay", str(files / "one.csv")) == 1
        assert "not compared, because it is not in the file: 'n1' (49 spikes here)" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ("", "a .csv file has no line for a population without spikes; .npz and .h5 files hold it"),
            (f"n1,0.001,0,{10**15}\n", "spikes.csv: 'n1': 1e+15 spikes; at most 1,000,000,000 can be compared"),
        ],
    )
    def test_what_cannot_be_compared(self, files, rows, message, capsys):
        (files / "spikes.csv").write_text(f"population,t,i,n\n{rows}")
        assert self.run(files, "--replay", str(files / "spikes.csv")) == 2
        assert message in capsys.readouterr().err

    def test_a_recording_of_too_many_events(self, files, capsys):
        index, time, number = np.array([[0]]), np.array([[0.001]]), np.array([[2**52]])
        spikes = nir.ValuedEventData(idx=index, time=time, n_neurons=2, t_max=0.1, value=number)
        nir.write_data(files / "many.h5", nir.NIRGraphData({"input": nir.NIRNodeData({"spikes": spikes})}))
        assert cli.entry_point(["simulate", str(files / "net.nir"), str(files / "many.h5")]) == 2
        assert "many.h5: 4.5036e+15 spikes; a recording has at most" in capsys.readouterr().err


class TestForTool:
    @pytest.mark.parametrize("allow", ["reset", ["reset"], {"reset"}])
    def test_the_remedy_in_the_message_is_accepted(self, allow):
        graph = one_layer(reset="subtract", spikes="one")
        with pytest.raises(InputError, match="allow='reset' lets it be lost"):
            mb.translate.for_tool(graph, "snntorch")
        _, lost = mb.translate.for_tool(graph, "snntorch", allow=allow)
        assert lost == ("lost is the reset by subtraction: snnTorch resets to a value (nodes 'n1')",)

    @pytest.mark.parametrize("allow", [None, 3, "foo", [3]])
    def test_what_names_no_loss(self, allow):
        with pytest.raises(InputError, match="allow names what may be lost, of 'reset', 'spikes', 'lower_bound', "):
            mb.translate.for_tool(one_layer(), "snntorch", allow=allow)

    def test_a_tool_that_is_no_text(self):
        with pytest.raises(InputError, match="for_tool must be one of 'snntorch', "):
            mb.translate.for_tool(one_layer(), ["snntorch"])

    @pytest.mark.parametrize("tool", ["snntorch", "nir"])
    def test_metadata_that_are_left_out_are_listed(self, tool):
        graph = one_layer(author="me")
        graph.metadata = {"note": "keep me", "duration": 0.1}
        written, lost = mb.translate.for_tool(graph, tool)
        assert lost == (
            "left out are the metadata 'author' (nodes 'n1')",
            "left out are the metadata 'note' of the graph",
        )
        assert "author" not in written.nodes["n1"].metadata


@pytest.mark.parametrize("name", ["time_per_step", "spike_integral", "loop_delay", "file_time_per_step", "lower_bound"])
def test_options_with_a_unit_are_refused(name):
    """One volt was one second."""
    import brian2

    with pytest.raises(InputError, match=f"{name} must be a number, not 1. \\* volt; divide a Brian2 time"):
        mb.Conventions(**{name: 1 * brian2.volt})


@pytest.mark.parametrize("t", ["1", True, None, [1, None]])
def test_times_of_a_readout_that_are_no_numbers(t):
    with pytest.raises(InputError, match=r"readout_at\(\) needs times in seconds, not"):
        mb.simulate(one_layer(), RECORDING).readout_at(t)


def test_a_batch_size_may_be_an_integer_of_numpy():
    (result,) = mb.Simulator(one_layer(), "brian2", target="numpy", batch_size=np.int64(2)).run([RECORDING])
    assert result.counts["n1"].tolist() == [2, 1]


EYE = (Dense(np.eye(2), (2,)),)
INTO = Connection("input", "p", EYE, (), 2)


def by_hand(rule=None, shape=(2,), connections=(INTO,), name="p", **fields):
    population = Population(name, shape, IF() if rule is None else rule)
    return Circuit(
        **{"input": "input", "input_shape": (2,), "output": "p"}
        | fields
        | {
            "populations": fields.get("populations", (population,)),
            "connections": connections,
        }
    )


@pytest.mark.parametrize(
    ("circuit", "message"),
    [
        # Ran, with wrong spikes, once: a signal that was dropped, shifted, read beyond an array.
        (
            lambda: by_hand(connections=[replace(INTO, operators=(Dense(np.ones((1, 2)), (2,)),))]),
            "1 elements where",
        ),
        (lambda: by_hand(shape=(3,), connections=[replace(INTO, operators=())]), "2 elements where 'p' has 3"),
        (
            lambda: replace(INTO, operators=(Delay(np.full(5, 1e-6)), *EYE)),
            "2 elements arrive at the Delay",
        ),
        (lambda: by_hand(name="input", output="input", connections=()), "'input' names two parts of the circuit"),
        (lambda: by_hand(connections=[replace(INTO, port=1)]), "port of .* must be at most 0, not 1"),
        (lambda: Dense(1j * np.eye(2), (2,)), r"Dense.weight must be real numbers, not array\(\[\[0\.\+1\.j"),
        (
            lambda: Synapses([5], [0], np.ones(1), np.zeros(1), (2,), (2,)),
            r"Synapses.source must be 0\.\.1, not 5",
        ),
        (
            lambda: by_hand(
                populations=(Population("q", (2,), IF(threshold=None)), Population("p", (2,), IF())),
                connections=[replace(INTO, target="q"), replace(INTO, source="q")],
            ),
            "'q' has no threshold, and nothing leaves it",
        ),
        # Tracebacks.
        (lambda: by_hand(output="x"), "the output 'x' must be a population; there are 'p'"),
        (lambda: by_hand(populations=(Population("p", (2,), IF()),) * 2), "'p' names two parts of the circuit"),
        (lambda: by_hand(connections=[replace(INTO, target="q")]), "there is no population 'q'; there are 'p'"),
        (
            lambda: by_hand(connections=[replace(INTO, source="q")]),
            "no population 'q'; there are 'input', 'p'",
        ),
        (lambda: replace(INTO, source_size=5), "5 elements arrive at the Dense, which is for 2"),
        (lambda: by_hand(shape=(0,)), "population 'p' needs a shape of whole numbers >= 1"),
        (lambda: by_hand(shape=2), "population 'p' needs a shape of whole numbers >= 1"),
        (lambda: by_hand(input_shape=(2.0,)), "the input 'input' needs a shape of whole numbers >= 1"),
        (lambda: by_hand(IF), "population 'p' needs a rule of mtt_brian.neuron"),
        (lambda: by_hand(IF(threshold=np.ones(3))), r"population 'p' has the shape \(2,\), and its threshold \(3,\)"),
        (lambda: by_hand(name=3), "the name of a population must be a text, not 3"),
        (lambda: IF(bias="x"), "IF.bias must be a finite number, or one for each neuron, not 'x'"),
        (lambda: IF(threshold=1 + 0j), "IF.threshold must be a finite number"),
        (lambda: IF(threshold=True), "IF.threshold must be a finite number"),
        (lambda: IF(refractory=None), "IF.refractory must be a finite number"),
        (lambda: IF(reset=None), "reset must be one of 'subtract', 'zero', not None"),
        (lambda: LIF(tau=None), "LIF.tau must be a finite number"),
    ],
)
def test_circuits_by_hand_are_checked(circuit, message):
    with pytest.raises(InputError, match=message):
        circuit()


def test_lists_are_accepted_in_circuits_by_hand():
    circuit = by_hand(
        IF(threshold=[1, 2]), shape=[2], connections=[replace(INTO, operators=[Dense([[1, 0], [0, 1]], (2,))])]
    )
    assert mb.simulate(circuit, RECORDING).counts["p"].tolist() == [2, 0]


def test_a_rule_does_not_change_with_the_array_it_was_made_of():
    threshold = np.ones(2)
    circuit = by_hand(IF(threshold=threshold))
    threshold[:] = 9
    assert mb.simulate(circuit, RECORDING).counts["p"].tolist() == [2, 1]
    with pytest.raises(ValueError, match="read-only"):
        circuit.population["p"].rule.threshold[0] = 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate", "net.nir", "0.npy", "--data-root", "."], "--data-root has no effect: the recording is a file"),
        (
            ["gap", "net.nir", "0.npy", "--step", "1e-3", "--data-root", "."],
            "--data-root has no effect: all",
        ),
        (
            ["gap", "net.nir", "0.npy", "--step", "1e-3", "--split", "test"],
            "--split has no effect: recordings",
        ),
        (["gap", "net.nir", "--steps", "--within", "1", "--step", "1e-3"], "--within has no effect: --steps without"),
        *(
            (["repair", "net.nir", "--epochs", "0", option, "1"], f"{option} has no effect: --epochs 0 trains nothing")
            for option in ("--batch-size", "--lr", "--gradient-steps", "--shift", "--seed", "--threads")
        ),
        (["convert", "net.nir", "nir", "--step", "1", "--out", "x.nir"], "step has no effect on tool 'nir'"),
        (["train", "--resume", "RUN", "--init", "RUN"], "--init gives a new run its weights, and --resume continues"),
    ],
)
def test_options_without_effect_are_refused(arguments, message, files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    monkeypatch.setattr("mtt_brian.mtt.checkpoint.load", lambda path: object())
    assert cli.entry_point(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_rule_of_biases_without_a_bias_is_named():
    circuit = mb.translate.read_nir(one_layer(), bias="per-step", file_time_per_step=1e-3)
    assert "bias='per-step' has no effect, because no node of the graph has a bias" in circuit.assumptions


def test_settings_of_a_training_without_effect_are_named():
    config = mb.mtt.TrainConfig(method="sdt", samples=3, momentum=0.5)
    given = {"samples", "momentum", "lr", "together"}
    assert mb.mtt.config.without_effect(given, config) == [
        "--samples has no effect with --method sdt",
        "--momentum has no effect with --optimizer adamw",
        "--together has no effect with --method sdt",
    ]
    mixed = mb.mtt.TrainConfig(method="nmt", samples=3, momentum=0.5, optimizer="sgd")
    assert mb.mtt.config.without_effect(given, mixed) == []


def test_docstrings_may_be_left_out():
    """As python -OO does."""
    assert cli.parser(None, "info").format_help().startswith("usage: mtt-brian info")


def test_kernels_need_numbas_compiler(monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    with pytest.raises(InputError, match="NUMBA_DISABLE_JIT is set, and kernels would not be compiled: unset it"):
        kernel_cache.kept([])(lambda: None)


def test_kernels_need_a_thread(monkeypatch):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 0)
    with pytest.raises(InputError, match="NUMBA_NUM_THREADS is 0; accepted are whole numbers >= 1"):
        kernel_cache.kept([])(lambda: None)


@pytest.mark.parametrize("engine", ["exact", "brian2"])
def test_an_underflow_is_no_error_where_numpy_raises_it(engine):
    """np.seterr(all="raise"): a leak within 1 ns ends at 0, a weight of 1e-310 is 0 in single precision."""
    ones = np.ones(2)
    leaky = nir.LIF(1e-9 * ones, 1e-9 * ones, 0 * ones, ones, metadata={"reset": "zero"})
    graph = chain(nir.Linear(np.diag([1.0, 1e-310])), leaky)
    with np.errstate(all="raise"):
        options = {"target": "numpy"} if engine == "brian2" else {}
        result = mb.simulate(graph, RECORDING, engine, **options)
        assert mb.simulate(graph, RECORDING, engine, 5e-324, **options).duration == 0
        assert result.readout_at(1e-320).tolist() == [0, 0]
    assert result.counts["n1"].tolist() == [2, 0]


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        (
            "exact",
            {"max_rate": 10**400},
            "max_rate must be a number that float64 holds, not a whole number of",
        ),
        *(
            ("brian2-cpp", {"flags": flags}, "flags must be a list of compiler flags")
            for flags in ("-O2", 1, None, [1], iter(["-O2"]))
        ),
    ],
)
def test_options_of_engines_of_another_kind(engine, options, message):
    with pytest.raises(InputError, match=message):
        mb.Simulator(one_layer(), engine, **options)


@pytest.mark.parametrize("batch_size", [0, 1.5, True, 10**9])
def test_the_batch_size_of_an_estimate(batch_size):
    circuit = mb.translate.read_nir(one_layer())
    with pytest.raises(InputError, match="batch_size must be "):
        mb.translate.estimate(circuit, batch_size)
    with pytest.raises(InputError, match=r"circuit must be a Circuit, as translate.read_nir\(graph\) gives it"):
        mb.translate.estimate(one_layer())


@pytest.mark.parametrize("small", [np.int8, np.uint8, np.int16])
def test_small_integers_of_numpy_do_not_overflow(small):
    """A shift of uint8(100) moved to one side only, because 2 * 100 + 1 was computed in 8 bits."""
    mtt = pytest.importorskip("mtt_brian.mtt")
    rng = np.random.default_rng
    one, other = (mtt.Augmentation(shift=n, roll=n) for n in (100, small(100)))
    drawn, again = (each.draw(rng(0), 50, (300, 300)) for each in (one, other))
    assert drawn.shifts.tolist() == again.shifts.tolist()
    assert drawn.rolls.tolist() == again.rolls.tolist()
    assert mtt.MTT(small(127), small(1), small(2)).sample(rng(0), 3) == mtt.MTT(127, 1, 2).sample(rng(0), 3)
    recording = events.make_recording(np.arange(0, 90_000, 900), [0] * 100)
    for rate in (1, 100):
        noisy, too = (perturb.with_spurious(recording, n, (2, 4, 4), rng(0)) for n in (rate, small(rate)))
        assert noisy.tobytes() == too.tobytes()
    moved, too = (perturb.jittered(recording, n, rng(0)) for n in (100, small(100)))
    assert moved.tobytes() == too.tobytes()
    assert events.Camera(width=small(40), sample_us=small(100)).width + 32_000 == 32_040


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "1", None, True, [1.0], np.ones(2)])
@pytest.mark.parametrize("name", ["tau", "steps", "duration"])
def test_what_is_no_time_constant_or_number_of_steps(name, value):
    given = {"tau": 0.02, "steps": 10, "duration": 0.3} | {name: value}
    with pytest.raises(InputError, match=f"^{name} must be "):
        neuron.decay_per_step(**given)
    del given["tau"]
    if name != "tau":
        with pytest.raises(InputError, match=f"^{name} must be "):
            neuron.tau_from_decay(0.5, **given)


def test_decay_and_time_constant_are_inverse():
    decay = neuron.decay_per_step(np.float32(0.02), np.int8(100), 3)
    assert decay == np.exp(-3 / (100 * np.float64(np.float32(0.02))))
    assert neuron.tau_from_decay(decay, 100, 3) == pytest.approx(np.float64(np.float32(0.02)))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plotting.change_matrix(["a"], np.eye(2)), r"1 names of changes for accuracies of the shape \(2, 2\)"),
        (lambda: plotting.change_matrix(["a", "b"], "x"), "accuracy must be numbers, not 'x'"),
        (lambda: plotting.readout([0, 1], [[1, 2], [3, 4]], label=2), "label must be at most 1, not 2"),
        (lambda: plotting.readout([0, 1], [1, 2]), r"values must have the shape \[K, classes\] for times \[K\]"),
        (lambda: plotting.accuracy_over_time([0, 1], [0.5]), "one fraction for each of the times"),
        (lambda: plotting.loss_line([0, 1], [[1, 2, 3]]), r"losses must have the shape \[directions, K\]"),
        (lambda: plotting.loss_surface([0, 1], np.eye(3), [1, 2]), r"losses must have the shape \[K, K\]"),
        (lambda: plotting.loss_surface([0, 1], np.eye(2), [2, 1]), "levels must be two losses > 0 or more, rising"),
        (lambda: plotting.confusion_matrix("x"), "matrix must be numbers, not 'x'"),
    ],
)
def test_what_cannot_be_drawn(draw, message):
    """Names of another number than rows were written beside the wrong ones."""
    with pytest.raises(InputError, match=message):
        draw()


def test_the_drawn_prediction_is_the_predicted_class():
    """Minus the mean over the classes, the two largest readouts are the same number."""
    values = [[0.0, 1.0, 1.0 + 2**-52, 3e16 * -1]]
    assert evaluate.predictions(values).tolist() == [2]
    ax = plotting.readout([0.0], values, label=0)
    assert "class 2 (predicted)" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_an_empty_recording_is_no_array_of_numbers():
    with pytest.raises(InputError, match="counts must be numbers, not "):
        evaluate.spike_difference([], RECORDING[:0])
