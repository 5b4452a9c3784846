"""What hostile or clumsy users do: old names, strange arguments, and files that never end; one clear line each."""

import copy
import importlib
import itertools
import os
import pickle
import warnings

import nir
import numpy as np
import pytest

import mtt_brian as mb
from mtt_brian import cli, evaluate, events, plotting
from mtt_brian.errors import InputError
from mtt_brian.events import named
from mtt_brian.events.formats import table
from mtt_brian.experiments import run_folder
from mtt_brian.experiments.result_store import ResultStore
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
