"""The evaluation through its command line: train two small networks, then run them event-driven."""

import argparse
import itertools
import json
import math
import re
import shlex
import sys
from pathlib import Path

import nir
import numpy as np
import pytest
from matplotlib import image

from mtt_brian import events, mtt
from mtt_brian.cli import evaluate
from mtt_brian.engines import Simulator
from mtt_brian.engines.brian2 import compilers
from mtt_brian.errors import CacheWarning, InputError
from mtt_brian.evaluate import EventDrivenAccumulator, Report, TimeSteppedAccumulator
from mtt_brian.experiments import evaluation, run_folder, study_cli
from tests import commands
from tests.engines import quick_compiler

STUDY = "studies/event_driven_eval.py"
RECORDINGS_PER_CLASS = 4
TIMES = ("milliseconds_per_recording", "compile_seconds")
PNGS = ("accuracy.png", "accuracy_over_time.png", "confusion.png", "raster.png", "time_step_sweep.png")


def write_bin(path, t, x, y, p):
    """The N-MNIST format: five bytes per event, 23 bits of them for the time."""
    columns = [x, y, (p << 7) | (t >> 16), (t >> 8) & 255, t & 255]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.stack(columns, axis=1).astype(np.uint8).tobytes())


def write_recordings(folder):
    """Recordings in N-MNIST's layout: class 3 is seen on the left of the sensor, class 7 on the right."""
    rng = np.random.default_rng(1)
    for split in ("Train", "Test"):
        for label, left in ((3, 4), (7, 20)):
            for number in range(RECORDINGS_PER_CLASS):
                t = np.sort(rng.integers(0, 300_000, 400))
                x, y, p = rng.integers(left, left + 10, 400), rng.integers(5, 29, 400), rng.integers(0, 2, 400)
                write_bin(folder / split / str(label) / f"{number:05d}.bin", t, x, y, p)


def without_times(folder):
    """The text of a report without what may differ between two of the same: times, date and command."""
    report, text = ((folder / name).read_text() for name in ("report.json", "report.md"))
    return (
        re.sub(rf'"({"|".join(TIMES)}|date|command)": .*', "", report),
        re.sub(r"(?m)^(\| (milliseconds per recording|compilation|date)|    mtt-brian).*", "", text),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nmnist")
    write_recordings(folder)
    return folder


@pytest.fixture(scope="module")
def workspace(data, tmp_path_factory):
    """A folder with two finished runs, runs/sdt and (newer) runs/mtt."""
    folder = tmp_path_factory.mktemp("workspace")
    for method in ("sdt", "mtt"):
        options = f"--method {method} --dataset nmnist --data-root '{data}' --epochs 6 --batch-size 4 --time-steps 4"
        done = commands.call("training/run_mtt.py", *shlex.split(options), "--out", f"runs/{method}", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def side_by_side(workspace):
    """Both runs evaluated with the default engine: (status and output, results folder)."""
    done = commands.call(STUDY, "runs/sdt", "runs/mtt", "--time-steps", 1, 3, 20, cwd=workspace)
    assert done.returncode == 0, done.stderr
    return done, workspace / "results" / "event_driven_eval-001"


def check_contract(report, engine):
    """What report.json promises (README); extra keys are allowed."""
    assert {"dataset", "split", "engine", "versions", "runs"} <= report.keys()
    assert (report["dataset"], report["split"], report["engine"]) == ("nmnist", "test", engine)
    assert all(isinstance(version, str) for version in report["versions"].values())
    for run in report["runs"]:
        assert {"run", "method", "n_recordings", "time_stepped", "event_driven"} <= run.keys()
        assert run["method"] in ("sdt", "nmt", "mtt")
        assert all(re.fullmatch("[1-9][0-9]*", t) for t in run["time_stepped"])
        measured = [value for key, value in run.items() if key.startswith("event_driven")]
        estimates = [*run["time_stepped"].values(), *(m["accuracy"] for m in measured)]
        assert all(estimate.keys() == {"value", "standard_error"} for estimate in estimates)
        accuracies = [estimate["value"] for estimate in estimates]
        accuracies += [a for m in measured for a in m["accuracy_over_time"]["accuracy"]]
        assert all(type(a) is float and 0 <= a <= 1 for a in accuracies)
        for m in measured:
            n = run["n_recordings"]
            p = m["accuracy"]["value"]
            assert m["accuracy"]["standard_error"] == pytest.approx(math.sqrt(p * (1 - p) / n))
            assert set(m["spike_difference"]) == {"spikes1", "spikes2", "spikes3", "output"}
            assert all(value >= 0 for value in m["spike_difference"].values())
            assert m["synops_per_recording"] > 0
            assert m["milliseconds_per_recording"] > 0
            assert np.sum(m["confusion_matrix"]) == n
            assert np.trace(m["confusion_matrix"]) / n == pytest.approx(p)
            stepped = run["time_stepped"][str(run["time_stepped_at_t_max"]["time_steps"])]["value"]
            assert m["change"]["gained"] - m["change"]["lost"] == round(n * (p - stepped))
            assert 0 <= m["change"]["p"] <= 1


class TestSideBySide:
    def test_report_keeps_its_contract(self, side_by_side):
        report = json.loads((side_by_side[1] / "report.json").read_text())
        check_contract(report, "exact")
        assert [(run["run"], run["method"]) for run in report["runs"]] == [("sdt", "sdt"), ("mtt", "mtt")]
        for run in report["runs"]:
            assert run["n_recordings"] == 2 * RECORDINGS_PER_CLASS
            assert list(run["time_stepped"]) == ["1", "3", "4", "20"]  # T_max = 4 is always among them
            assert run["event_driven"]["order"] == "sum"
            assert run["event_driven_fifo"]["order"] == "fifo"
        assert not re.search(r'"/', (side_by_side[1] / "report.json").read_text())  # no machine's paths

    def test_event_driven_numbers_are_those_of_the_simulator(self, side_by_side, workspace, data):
        report = json.loads((side_by_side[1] / "report.json").read_text())
        recordings = events.load("nmnist", root=data, split="test")
        for run in report["runs"]:
            model = workspace / "runs" / run["run"] / "model.nir"
            results = list(Simulator(model, engine="exact").run(recordings))
            right = [int(np.argmax(r.readout)) == label for r, label in zip(results, recordings.labels, strict=True)]
            assert run["event_driven"]["accuracy"]["value"] == pytest.approx(np.mean(right))
            assert run["event_driven"]["synops_per_recording"] == pytest.approx(np.mean([r.synops for r in results]))

    def test_time_stepped_numbers_are_those_of_the_trained_network(self, side_by_side, workspace, data):
        # The study rebuilds the network from model.nir; here it comes from the checkpoint.
        report = json.loads((side_by_side[1] / "report.json").read_text())
        recordings = events.load("nmnist", root=data, split="test")
        for run in report["runs"]:
            model = mtt.load_model(workspace / "runs" / run["run"])
            for t, accuracy in run["time_stepped"].items():
                predicted = mtt.predict(model, recordings, int(t)).argmax(1)
                assert accuracy["value"] == pytest.approx(np.mean(predicted == recordings.labels))

    def test_flexibility_with_the_default_time_steps(self, workspace, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(workspace)
        evaluate.main(shlex.split(f"runs/sdt --order sum --out '{tmp_path}'"))
        (run,) = json.loads((tmp_path / "report.json").read_text())["runs"]
        accuracies = [run["time_stepped"][str(t)]["value"] for t in (1, 2, 5, 10, 20, 50, 100, 200)]
        accuracies.append(run["event_driven"]["accuracy"]["value"])
        assert run["flexibility"]["value"] == pytest.approx(np.mean(accuracies) / np.max(accuracies))
        assert "temporal flexibility" in capsys.readouterr().out

    def test_the_input_is_the_same_in_both_modes(self, side_by_side):
        for run in json.loads((side_by_side[1] / "report.json").read_text())["runs"]:
            assert run["event_driven"]["spikes_per_recording"]["input"] == 400
            assert run["time_stepped_at_t_max"]["spikes_per_recording"]["input"] == 400

    def test_report_json_can_be_read_back(self, side_by_side):
        text = (side_by_side[1] / "report.json").read_text()
        assert Report.from_json(text).json() == text

    def test_the_command_gives_the_report_of_the_script(self, side_by_side, workspace, tmp_path, monkeypatch):
        monkeypatch.chdir(workspace)
        evaluate.main(shlex.split(f"runs/sdt runs/mtt --time-steps 1 3 20 --out '{tmp_path}'"))
        assert without_times(tmp_path) == without_times(side_by_side[1])

    def test_figures(self, side_by_side):
        for name in PNGS:
            pixels = image.imread(side_by_side[1] / name)
            assert min(pixels.shape[:2]) > 300
            assert pixels.std() > 0.05  # something is drawn

    def test_prints_a_verdict_and_where_it_went(self, side_by_side):
        done, folder = side_by_side
        assert re.search(r"^Without time steps sdt (loses|gains|keeps|goes) .*, mtt .*\.$", done.stdout, re.MULTILINE)
        assert re.search(r"\|\s+\| sdt +\| mtt +\|", done.stdout)
        rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
        assert len(rows) == 2 + 8
        for row in ("time-stepped, T = 20", "event-driven, fifo", "SynOps"):
            assert any(row in line for line in rows)
        assert "All tables: --verbose, or report.md" in done.stdout
        assert "results/event_driven_eval-001: " in done.stdout
        assert sorted(path.name for path in folder.iterdir()) == sorted([*PNGS, "report.json", "report.md"])
        # Progress: 2 runs, 8 recordings, 4 grids and 2 conventions.
        assert "evaluating: 96 of 96 run, 2 of 2 shards\n" in done.stderr


@pytest.mark.parametrize(
    ("engine", "compiled"),
    [("brian2", False), *(pytest.param(engine, True, marks=pytest.mark.slow) for engine in ("brian2", "brian2-cpp"))],
)
def test_brian2_engines_report_what_the_exact_one_does(
    engine, compiled, side_by_side, workspace, tmp_path, monkeypatch, unoptimised
):
    if not compiled:
        monkeypatch.setattr(compilers, "missing_for_cython", lambda: ["a compiler"])
    elif engine == "brian2-cpp":
        monkeypatch.setenv("CXX", quick_compiler())
    options = f"'{workspace}'/runs/mtt --engine {engine} --time-steps 4 --out '{tmp_path}'"
    evaluate.main(shlex.split(options))
    report = json.loads((tmp_path / "report.json").read_text())
    check_contract(report, engine)
    (run,) = report["runs"]
    assert "event_driven_fifo" not in run
    exact = json.loads((side_by_side[1] / "report.json").read_text())["runs"][1]["event_driven"]
    for key in ("accuracy", "synops_per_recording", "spikes_per_recording"):
        assert run["event_driven"][key] == exact[key]
    for name, value in exact["spike_difference"].items():
        assert run["event_driven"]["spike_difference"][name] == pytest.approx(value)


class Counted:
    """Notes the recordings of every shard that is computed, and raises ``reason`` instead of the one at ``stop``."""

    def __init__(self, monkeypatch):
        self.shards, self.stop, self.reason = [], None, None
        evaluate_shard = evaluation.Evaluator.evaluate

        def counted(evaluator, recordings, progress):
            if len(self.shards) == self.stop:
                raise self.reason
            self.shards.append(recordings.ids)
            return evaluate_shard(evaluator, recordings, progress)

        monkeypatch.setattr(evaluation.Evaluator, "evaluate", counted)


#: 8 recordings of two runs: shards of 3, 3 and 2, twice.
IN_THREES = "runs/sdt runs/mtt --time-steps 1 3 20 --shard 3"


@pytest.fixture(scope="module")
def in_threes(workspace):
    done = commands.call(STUDY, *shlex.split(IN_THREES), "--out", "in_threes", cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert "evaluating: 96 of 96 run, " in done.stderr  # the last shard is kept after this line
    return workspace / "in_threes"


class TestShards:
    def test_the_report_is_that_of_all_recordings_together(self, side_by_side, in_threes):
        whole, divided = (json.loads((out / "report.json").read_text())["runs"] for out in (side_by_side[1], in_threes))
        for one, other in zip(whole, divided, strict=True):
            assert one["time_stepped"] == other["time_stepped"]
            for mode in ("event_driven", "event_driven_fifo"):
                difference, same = one[mode].pop("spike_difference"), other[mode].pop("spike_difference")
                assert difference == pytest.approx(same, rel=1e-6)  # torch may round differently in other batches
                assert {k: v for k, v in one[mode].items() if k not in TIMES} == {
                    k: v for k, v in other[mode].items() if k not in TIMES
                }

    @pytest.mark.parametrize("reason", [KeyboardInterrupt(), InputError("3/00002.bin: damaged")])
    def test_finished_results_are_kept_after_a_stop(self, reason, in_threes, workspace, tmp_path, monkeypatch, caplog):
        monkeypatch.chdir(workspace)
        computed = Counted(monkeypatch)
        arguments = shlex.split(f"{IN_THREES} --out '{tmp_path}'")
        computed.stop, computed.reason = 4, reason
        with pytest.raises(type(reason)):
            evaluate.main(arguments)
        assert f"4 of 6 shards are kept; --out {tmp_path} continues with the rest" in caplog.messages
        assert [path.name for path in tmp_path.iterdir()] == ["shards.jsonl"]

        computed.stop = None
        evaluate.main(arguments)
        assert [len(ids) for ids in computed.shards] == [3, 3, 2, 3, *(3, 2)]
        assert without_times(tmp_path) == without_times(in_threes)
        assert not (tmp_path / "shards.jsonl").exists()

    def test_merged_states_equal_one_accumulator_bit_for_bit(self, workspace, data):
        recordings = events.load("nmnist", root=data, split="test")
        simulator = Simulator(workspace / "runs/mtt/model.nir", engine="exact", record="output")
        results = list(simulator.run(recordings))
        rng = np.random.default_rng(0)
        counts = [{name: rng.poisson(1, c.shape) for name, c in r.counts.items()} for r in results]
        logits = rng.normal(size=(len(results), 10))

        def accumulated(chosen):
            stepped, driven = TimeSteppedAccumulator(4), EventDrivenAccumulator(np.linspace(0, 0.3, 7), "sum")
            for k in chosen:
                label = int(recordings.labels[k])
                stepped.add_correct(4, logits[[k]].argmax(1) == label)
                stepped.add_spikes({name: count[None] for name, count in counts[k].items()}, np.array([0.1 * k]), 0.5)
                driven.add(results[k], label, counts[k], logits[k], 0.25)
            return stepped, driven

        for mode in (0, 1):
            merged, whole = accumulated([])[mode], accumulated(range(8))[mode]
            for chosen in (range(3), range(3, 4), range(4, 8)):
                merged.merge(json.loads(json.dumps(accumulated(chosen)[mode].state_dict())))
            assert repr(merged.state_dict()) == repr(whole.state_dict())
            assert repr(merged.compute()) == repr(whole.compute())

    def test_of_other_settings_are_refused(self, workspace, tmp_path, monkeypatch):
        monkeypatch.chdir(workspace)
        computed = Counted(monkeypatch)
        out = f"--shard 3 --out '{tmp_path}'"
        computed.stop, computed.reason = 2, InputError("stopped")
        with pytest.raises(InputError, match="stopped"):
            evaluate.main(shlex.split(f"runs/mtt --time-steps 1 {out}"))
        computed.stop = None
        computed.shards.clear()
        for options in ("runs/mtt --time-steps 2", "runs/sdt --time-steps 1", "runs/mtt --time-steps 1 --order sum"):
            with pytest.raises(InputError, match=r"shards\.jsonl holds results of other settings: runs was .*--out"):
                evaluate.main(shlex.split(f"{options} {out}"))
        assert not computed.shards
        evaluate.main(shlex.split(f"runs/mtt --time-steps 1 {out}"))
        assert len(computed.shards) == 1
        evaluate.main(shlex.split(f"runs/mtt --time-steps 2 {out}"))  # finished results do not block a new run

    def test_a_damaged_one_is_computed_again_and_other_files_stay(self, workspace, tmp_path, monkeypatch):
        monkeypatch.chdir(workspace)
        computed = Counted(monkeypatch)
        arguments = shlex.split(f"runs/mtt --time-steps 1 --shard 3 --out '{tmp_path}'")
        computed.stop, computed.reason = 2, InputError("stopped")
        with pytest.raises(InputError, match="stopped"):
            evaluate.main(arguments)
        store = tmp_path / "shards.jsonl"
        settings, first, second = store.read_text().splitlines()
        store.write_text("\n".join([settings, first[:100], second, ""]))
        (tmp_path / "mine.txt").touch()
        computed.stop = None
        with pytest.warns(CacheWarning, match=r"shards\.jsonl: line 2 is damaged"):
            evaluate.main(arguments)
        assert len(computed.shards) == 2 + 2
        assert not store.exists()
        assert {"mine.txt", "report.json"} < {path.name for path in tmp_path.iterdir()}


def test_without_arguments_the_newest_run_is_taken(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    (workspace / "runs" / "unfinished").mkdir(exist_ok=True)
    assert run_folder.newest() == Path("runs/mtt")


def test_limit_split_and_one_convention(workspace, tmp_path):
    options = f"'{workspace}'/runs/mtt --limit 3 --split train --order fifo --time-steps 2 --html --out '{tmp_path}'"
    evaluate.main(shlex.split(options))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["split"] == "train"
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == len(PNGS) - 1  # confusions are tables
    assert "--limit 3 --split train --order fifo --time-steps 2 --html" in page
    (run,) = report["runs"]
    assert run["n_recordings"] == 3
    assert list(run["time_stepped"]) == ["2", "4"]
    assert run["event_driven"]["order"] == "fifo"


def test_a_folder_with_model_and_config_is_enough(workspace, tmp_path):
    run = tmp_path / "copy"
    run.mkdir()
    for name in ("model.nir", "config.json"):
        (run / name).write_bytes((workspace / "runs" / "mtt" / name).read_bytes())
    evaluate.main(shlex.split(f"'{run}' --limit 2 --time-steps 1 --out '{tmp_path / 'out'}'"))
    assert json.loads((tmp_path / "out" / "report.json").read_text())["runs"][0]["run"] == "copy"


def test_runs_of_one_name_get_numbers(workspace, tmp_path):
    evaluate.main(
        shlex.split(f"'{workspace}'/runs/mtt '{workspace}'/runs/mtt --limit 1 --time-steps 1 --out '{tmp_path}'")
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert [run["run"] for run in report["runs"]] == ["mtt", "mtt (2)"]


def test_a_number_is_not_the_name_of_another_run(workspace, tmp_path):
    """One of two runs of one name would replace the other in the report."""
    named = tmp_path / "mtt (2)"
    named.mkdir()
    for name in ("model.nir", "config.json"):
        (named / name).write_bytes((workspace / "runs" / "mtt" / name).read_bytes())
    mtt_run = workspace / "runs" / "mtt"
    for folders, names in (
        ([mtt_run, mtt_run, named], ["mtt", "mtt (3)", "mtt (2)"]),
        ([named, mtt_run, mtt_run, named], ["mtt (2)", "mtt", "mtt (3)", "mtt (2) (2)"]),
    ):
        assert [run.name for run in run_folder.load_all(folders)] == names


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_computed(workspace, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    computed = Counted(monkeypatch)
    with pytest.raises(InputError, match=r"^--out .*file/out: Not a directory$"):
        evaluate.main(shlex.split(f"'{workspace}'/runs/mtt --limit 2 --out '{tmp_path}'/file/out"))
    assert not computed.shards


@pytest.mark.parametrize(
    ("taken", "message"),
    [
        (lambda out: (out / "report.json").mkdir(), r"report\.json: is a folder"),
        (lambda out: (out / "raster.png").mkdir(), r"raster\.png: is a folder"),
        (lambda out: (out / "report.html").mkdir(), r"report\.html: is a folder"),
    ],
)
def test_a_name_that_is_taken_is_refused_before_anything_is_computed(taken, message, workspace, tmp_path, monkeypatch):
    taken(tmp_path)
    computed = Counted(monkeypatch)
    with pytest.raises(InputError, match=message):
        evaluate.main(shlex.split(f"'{workspace}'/runs/mtt --limit 2 --html --out '{tmp_path}'"))
    assert not computed.shards


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("'{runs}'/nowhere", "nowhere: no such run folder"),
            ("'{runs}'/mtt --engine brian2 --order fifo", "--order fifo needs --engine exact"),
            ("'{runs}'/mtt --dataset cifar", "unknown data set 'cifar'.*nmnist"),
            ("'{runs}'/mtt --split validation", "unknown split 'validation'.*train, test"),
            ("'{runs}'/mtt --data-root '{runs}'", "no test data of N-MNIST"),
            ("'{runs}'/mtt --time-steps 0", "--time-steps must be at least 1, not 0"),
            ("'{runs}'/mtt --limit 0", "--limit must be at least 1, not 0"),
            ("'{runs}'/mtt --shard 0", "--shard must be at least 1, not 0"),
            ("'{runs}'/mtt --time-steps 1 1000000000", "--time-steps must be at most 100000, not 1000000000$"),
            (f"'{{runs}}'/mtt --time-steps {10**30}", f"--time-steps must be at most 100000, not {10**30}$"),
            (
                f"'{{runs}}'/mtt --limit {10**400}",
                "--limit must be at most 2147483647, not a whole number of 1329 bits$",
            ),
            (f"'{{runs}}'/mtt --shard {2**31}", "--shard must be at most 2147483647, not 2147483648$"),
            ("'{runs}'/mtt --limit 1 --out=", "--out: the name of the folder is empty"),
            ("'{runs}'/mtt --limit 1 --out '{runs}'/mtt/model.nir", "--out .*model.nir"),
        ],
    )
    def test_options(self, options, message, workspace, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(InputError, match=message):
            evaluate.main(shlex.split(options.format(runs=workspace / "runs")))

    @pytest.mark.parametrize(("lost", "message"), [("model.nir", "no model.nir"), ("config.json", "no config.json")])
    def test_incomplete_run(self, lost, message, workspace, tmp_path):
        for path in (workspace / "runs" / "mtt").iterdir():
            if path.name != lost:
                (tmp_path / path.name).write_bytes(path.read_bytes())
        with pytest.raises(InputError, match=message):
            run_folder.load(tmp_path)

    def test_config_without_the_method(self, workspace, tmp_path):
        (tmp_path / "model.nir").touch()
        (tmp_path / "config.json").write_text('{"dataset": "nmnist"}')
        with pytest.raises(InputError, match=r"config\.json: no method, time_steps"):
            run_folder.load(tmp_path)

    def test_damaged_model(self, workspace, tmp_path):
        (tmp_path / "model.nir").write_bytes(b"not HDF5")
        (tmp_path / "config.json").write_bytes((workspace / "runs" / "mtt" / "config.json").read_bytes())
        with pytest.raises(InputError, match=r"model\.nir"):
            evaluate.main(shlex.split(f"'{tmp_path}' --out '{tmp_path}'/out"))

    def test_another_sensor(self, workspace, tmp_path, monkeypatch):
        other = events.Recordings(
            name="other",
            title="Other",
            split="test",
            classes=["a"],
            sensor_size=(2, 5, 5),
            duration_us=1000,
            ids=["0"],
            labels=np.zeros(1, dtype=np.int64),
            read=lambda identifier: events.make_recording([1], [1]),
        )
        monkeypatch.setattr(events, "load", lambda *arguments, **options: other)
        with pytest.raises(InputError, match=r"\(2, 34, 34\).*Other.*\(2, 5, 5\)"):
            evaluate.main(shlex.split(f"'{workspace}'/runs/mtt --out '{tmp_path}'"))

    @pytest.mark.parametrize("outputs", [1, 3, 12])
    def test_another_number_of_outputs_than_classes(self, outputs, workspace, tmp_path, monkeypatch):
        nodes = {
            "input": nir.Input(np.array([2, 34, 34])),
            "flatten": nir.Flatten({"input": np.array([2, 34, 34])}, 0, -1),
            "weight": nir.Linear(np.ones((outputs, 2312))),
            "output": nir.Output(np.array([outputs])),
        }
        nir.write(tmp_path / "model.nir", nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), type_check=False))
        (tmp_path / "config.json").write_bytes((workspace / "runs" / "mtt" / "config.json").read_bytes())
        message = rf"model\.nir: outputs of shape \({outputs},\); N-MNIST has 10 classes"
        with pytest.raises(InputError, match=message):
            evaluate.main(shlex.split(f"'{tmp_path}' --out '{tmp_path}'/out"))
        assert not (tmp_path / "out").exists()
        options = argparse.Namespace(runs=[tmp_path], dataset=None, data_root=None, split="test", limit=2)
        with pytest.raises(InputError, match=message):  # as all studies of finished runs do it
            study_cli.load_circuits(*study_cli.load_runs_and_recordings(options))

    def test_dask_that_is_not_installed(self, workspace, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "distributed", None)
        with pytest.raises(
            InputError, match=r"--dask needs the package 'distributed' .*pip install \"mtt_brian\[dask\]\""
        ):
            evaluate.main(shlex.split(f"'{workspace}'/runs/mtt --dask --out '{tmp_path}'"))

    def test_no_run_at_all(self, tmp_path):
        done = commands.call(STUDY, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.strip() == "error: no finished run under runs/; train one with: mtt-brian train"

    def test_help_explains_the_conventions(self, tmp_path):
        done = commands.call(STUDY, "--help", cwd=tmp_path)
        assert done.returncode == 0
        assert re.search(r"sum\s+all jumps of one instant are summed", done.stdout)
        assert re.search(r"fifo\s+every event is applied alone", done.stdout)
