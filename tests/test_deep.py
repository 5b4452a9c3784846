"""The deep experiment: its plan, its frames, its archives, and all steps at a tiny size."""

import concurrent.futures
import contextlib
import importlib
import json
import multiprocessing
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import nir
import numpy as np
import pytest

from mtt_brian import events
from mtt_brian.errors import InputError
from mtt_brian.experiments import perturb_networks
from mtt_brian.experiments.deep import event_driven, finished, frames, packing, plan, report, training
from mtt_brian.experiments.deep.event_driven import Results
from mtt_brian.experiments.deep.plan import Epochs, Network, Second, Setting, Speed
from mtt_brian.experiments.deep.recordings import load_recordings
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.files import write_json
from mtt_brian.mtt import Trainer
from tests import deep_jobs
from tests.test_gap_attribution import STUDIES


def setting(folder, root, **changes):
    usual = {"size": "tiny", "device": "cpu", "recordings": 6, "test": 5}
    return Setting(Path(folder), dataset="nmnist", data_root=str(root), **usual | changes)


def has_processes(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class TestPlan:
    def test_every_network_comes_behind_its_first_phase(self):
        every = plan.networks(3)
        assert len(every) == len({network.name for network in every}) == 5 + 12
        for number, network in enumerate(every):
            assert network.seed == 3
            assert network.init is None or network.init in every[:number]

    def test_the_question_comes_first(self):
        assert [network.label for network in plan.networks(0, groups=(1,))] == [
            "first phase, SDT, bound -1",
            "SDT, bound -1",
            "MTT, bound -1",
            "first phase, SDT, no bound",
            "SDT, no bound",
            "MTT, no bound",
        ]
        seeds = [network.seed for network in plan.second_phases([0, 1])]
        assert seeds[:8] == [0] * 4 + [1] * 4

    def test_names_of_rows(self):
        longer = Network("sdt", None, 0, Second("sdt", None, longer=True))
        assert (longer.label, longer.name) == ("SDT, equal compute, no bound", "sdt-sdt-longer-unbound-seed0")
        start = Network("mtt", -1.0, 2, Second("mtt", -1.0, "mtt"))
        assert (start.label, start.name) == ("MTT from the start, bound -1", "mtt-mtt-bound1-seed2")

    def test_equal_compute(self):
        """MTT: 3 configurations of 5.5 steps on average; SDT: 10 steps."""
        epochs = Epochs(20, 12)
        assert epochs.of(Network("sdt", -1.0, 0, Second("sdt", -1.0, longer=True))) == 12 * 3 * 5.5 // 10 + 1 == 20
        assert epochs.of(Network("sdt", -1.0, 0, Second("mtt", -1.0))) == 12
        assert epochs.of(Network("sdt", -1.0, 0)) == 20

    def test_both_phases_have_the_same_bound(self, tmp_path):
        network = Network("sdt", -4.0, 1, Second("mtt", -4.0))
        here = setting(tmp_path, "data")
        first, second = (here.config(one, Epochs(2, 1)) for one in (network.init, network))
        assert (first.method, first.phase, first.lower_bound, first.epochs) == ("sdt", "train", -4, 2)
        assert (second.method, second.phase, second.lower_bound, second.epochs) == ("mtt", "bias-removal", -4, 1)
        assert second.init == str(here.run(network.init))

    def test_epochs_that_fit(self):
        """The first group: 2 x 20 and 2 x 12 epochs of SDT, 2 x 12 of MTT; with one and two seconds each: 112 s."""
        speed = Speed(1, 2)
        enough = 1e6
        assert plan.epochs_within(enough, speed) == plan.USUAL
        half = 0.5 * 112 / plan.MARGIN
        assert plan.epochs_within(half, speed, overhead=0) == Epochs(10, 6, groups=(1,))
        assert plan.epochs_within(half + 6 * 5 / plan.MARGIN, speed, overhead=5) == Epochs(10, 6, groups=(1,))
        assert plan.epochs_within(0, speed) == Epochs(1, 1, groups=(1,))
        # Two groups: 20 of SDT and 12 of NMT more, 156 s.
        assert plan.epochs_within(2 * half, speed, overhead=0) == Epochs(14, 8, groups=(1, 2))

    @pytest.mark.parametrize("seconds", [30, 100, 200, 400, 800])
    def test_the_plan_fits(self, seconds):
        speed = Speed(1.3, 2.1)
        found = plan.epochs_within(seconds, speed)
        every = plan.networks(0, found.groups)
        needed = sum(speed.seconds(network, found) for network in every) + 5 * len(every)
        assert needed <= seconds or found == Epochs(1, 1, (1,))

    def test_unknown_size(self, tmp_path):
        with pytest.raises(InputError, match=r"--size must be one of 'full', 'half', .*, 'tiny', not 'big'"):
            setting(tmp_path, "data", size="big")


class TestFrames:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MTT_BRIAN_CACHE", str(tmp_path / "cache"))

    def test_other_recordings_in_the_same_folder_are_binned_anew(self, three_runs, tmp_path):
        other = tmp_path / "other"
        shutil.copytree(three_runs / "data", other)
        next((other / "Test").rglob("*.bin")).unlink()
        for root in (three_runs / "data", other):
            here = setting(tmp_path, root)
            frames.prepare(here, workers=0)
            recordings = load_recordings("nmnist", here.data_root, "test", 5)
            expected = events.frames_batch(list(recordings), 200, recordings.sensor_size).transpose(1, 0, 2, 3, 4)
            (part,) = frames.test_frames(here)
            assert np.array_equal(part[200].frames.numpy(), expected), root

    def test_fewer_steps_are_sums(self, three_runs, tmp_path, monkeypatch):
        """In parts of 2, 2 and 1 recordings."""
        monkeypatch.setattr(frames, "_PART", 2)
        here = setting(tmp_path, three_runs / "data")
        frames.prepare(here, workers=0)
        recordings = load_recordings("nmnist", here.data_root, "test", 5)
        parts = list(frames.test_frames(here))
        assert [len(part[1]) for part in parts] == [2, 2, 1]
        for t in frames.MEASURED:
            expected = events.frames_batch(list(recordings), t, recordings.sensor_size).transpose(1, 0, 2, 3, 4)
            assert np.array_equal(np.concatenate([part[t].frames.numpy() for part in parts]), expected), t
            assert np.concatenate([part[t].labels for part in parts]).tolist() == recordings.labels.tolist()

    def test_a_smaller_number_is_the_beginning_of_a_larger_one(self, three_runs):
        root = str(three_runs / "data")
        assert load_recordings("nmnist", root, "test", 3).ids == load_recordings("nmnist", root, "test", 7).ids[:3]

    def test_too_many(self, three_runs):
        with pytest.raises(InputError, match="8 recordings, fewer than the 9"):
            load_recordings("nmnist", str(three_runs / "data"), "test", 9)

    def test_still_images(self):
        pytest.importorskip("torch")
        root = Path(__file__).parents[1].parent / "shared" / "data" / "mnist"
        if not root.is_dir():
            pytest.skip(f"no {root}")
        with pytest.raises(InputError, match="still images, without events"):
            load_recordings("mnist", str(root), "test", 1)


class TestReport:
    """Six test recordings of class 0; event-driven runs of the first four."""

    @pytest.fixture
    def groups(self):
        def network(bound, method, stepped, summed):
            by_t = {10: stepped, 200: [None, *stepped[1:]]}
            bits = "".join("1" if k == 0 else "0" for k in summed)
            cell = {"right": bits, "synops_per_recording": 2e6, "median_decision_seconds": None}
            ran = [Results([0, 1, 2, 3], {report.SUM: cell}), Results([], {})]
            one = Network("sdt", bound, 0, Second(method, bound))
            return report.measured(one, by_t, [0] * 6, ran, Results([], {}))

        sdt = network(-1.0, "sdt", [0, 0, 0, 0, 0, 1], [0, 1, 1, 0])
        mtt = network(-1.0, "mtt", [0, 0, 0, 1, 1, 1], [0, 0, 0, 0])
        return report.by_label([sdt, mtt])

    def test_accuracies(self, groups):
        (row, _), columns = list(report.accuracies(groups).rows), report.accuracies(groups).columns
        found = dict(zip([column.heading for column in columns], map(str, row), strict=True))
        assert found["T = 10"] == "83.3 ± 15.2"  # 5 of 6
        assert found["T = 200"] == "80.0 ± 17.9"  # 4 of 5, one was not run
        assert found["event-driven, sum"] == "50.0 ± 25.0"
        assert found["T = 1"] == found["fifo"] == "-"
        assert [found[f"recordings, {kind}"] for kind in ("T", "sum", "fifo")] == ["0", "4", "0"]

    def test_differences_are_those_of_the_same_recordings(self, groups):
        (loss, gain) = report.losses(groups).rows
        assert str(loss[1]) == "-50.0 ± 25.0 (2, 0; 0.500)"  # of the first four, all of which were right
        assert str(gain[1]) == "+25.0 ± 21.7 (0, 1; 1.000)"
        (row,) = [row for row in report.comparisons(groups).rows if str(row[0]) == "MTT - SDT, bound -1"]
        assert str(row[2]) == "-33.3 ± 19.2 (2, 0; 0.500)"  # T = 10, all six
        assert str(row[4]) == "+50.0 ± 25.0 (0, 2; 0.500)"  # event-driven

    def test_no_score_where_a_number_of_time_steps_is_missing(self, groups):
        assert all(one.score is None for seeds in groups.values() for one in seeds)

    def test_costs(self, groups):
        (row, _) = report.costs(groups).rows
        assert [str(cell) for cell in row] == ["SDT, bound -1", "-", "2.00", "-", "-", "-", "-"]


class TestArchives:
    def test_there_and_back(self, tmp_path, monkeypatch, capsys):
        folder, rng = tmp_path / "here", np.random.default_rng(0)
        models = []
        for number in range(5):
            model = folder / "networks" / f"n{number}" / "model.nir"
            model.parent.mkdir(parents=True)
            model.write_bytes(rng.bytes(1000))
            model.with_name("config.json").write_text(f"{number}")
            model.with_name("checkpoint.pt").write_bytes(b"not needed")
            models.append(model)
        (folder / "event_driven.jsonl").write_text("results")
        monkeypatch.setattr(packing, "ARCHIVES", 2)
        monkeypatch.setattr(packing, "MOST_BYTES", 3200)  # two models each, with their entries
        packing.pack(folder, tmp_path / "out", models)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "networks-0.zip",
            "networks-1.zip",
            "results.zip",
        ]
        assert all(path.stat().st_size <= 3200 for path in (tmp_path / "out").glob("networks-*"))
        assert "no room for networks/n4/model.nir" in capsys.readouterr().out
        packing.unpack(tmp_path / "out", tmp_path / "there")
        for number, model in enumerate(models[:4]):
            copy = tmp_path / "there" / model.relative_to(folder)
            assert copy.read_bytes() == model.read_bytes()
            assert copy.with_name("config.json").read_text() == f"{number}"
        assert not list((tmp_path / "there").rglob("checkpoint.pt"))
        assert (tmp_path / "there" / "event_driven.jsonl").read_text() == "results"

    def test_what_is_there_is_kept(self, tmp_path):
        """By the same command again: results since, and archives of earlier runs."""
        here, there, out = tmp_path / "here", tmp_path / "there", tmp_path / "out"
        (here / "networks" / "n").mkdir(parents=True)
        (here / "networks" / "n" / "config.json").write_text("{}")
        (here / "event_driven.jsonl").write_text("old")
        packing.pack(here, out, [])
        packing.unpack(out, there)
        (there / "event_driven.jsonl").write_text("old and new")
        packing.unpack(out, there)
        assert (there / "event_driven.jsonl").read_text() == "old and new"
        (tmp_path / "empty").mkdir()
        before = (out / "results.zip").read_bytes()
        packing.pack(tmp_path / "empty", out, [])
        assert (out / "results.zip").read_bytes() == before

    def test_archives_that_cannot_be(self, tmp_path):
        for folder in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(InputError, match=r"no archives \(\*\.zip\) there; name the folder that --pack wrote"):
                packing.unpack(folder, tmp_path / "there")
        archive = tmp_path / "results.zip"
        for name in ("../up.json", "networks/n/checkpoint.pt", "/top.json", "a/b.json", "networks/../x.json"):
            with zipfile.ZipFile(archive, "w") as file:
                file.writestr(name, "{}")
            with pytest.raises(InputError, match=r"results\.zip: .* is no file of the experiment"):
                packing.unpack(tmp_path, tmp_path / "there")
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("epochs.json", "0123456789" * 100)
        whole = archive.read_bytes()
        for damaged in (whole[:-30], whole[:50] + bytes([whole[50] ^ 255]) + whole[51:], b"", b"PK"):
            archive.write_bytes(damaged)
            with pytest.raises(InputError, match=r"results\.zip: not a readable archive: "):
                packing.unpack(tmp_path, tmp_path / "there")
        assert not (tmp_path / "there").exists() or not any((tmp_path / "there").iterdir())

    def test_archives_of_an_earlier_run_are_removed(self, tmp_path, monkeypatch):
        monkeypatch.setattr(packing, "MOST_BYTES", 1600)  # a model each
        models = []
        for number in range(2):
            models.append(tmp_path / "here" / "networks" / f"n{number}" / "model.nir")
            models[-1].parent.mkdir(parents=True)
            models[-1].write_bytes(np.random.default_rng(number).bytes(1000))
        for count, expected in ((2, ["networks-0.zip", "networks-1.zip"]), (1, ["networks-0.zip"])):
            packing.pack(tmp_path / "here", tmp_path / "out", models[:count])
            assert sorted(path.name for path in (tmp_path / "out").glob("networks-*")) == expected

    @pytest.mark.parametrize("name", ["model.nir", "time_stepped.json"])
    def test_a_network_that_was_trained_in_both_places(self, tmp_path, name):
        here, there = (tmp_path / place / "networks" / "n" for place in ("here", "there"))
        for folder in (here, there):
            folder.mkdir(parents=True)
            (folder / "model.nir").write_bytes(b"weights")
            (folder / "time_stepped.json").write_text("predictions")
            (folder / "config.json").write_text(f"{folder}")
        packing.pack(tmp_path / "here", tmp_path / "out", [here / "model.nir"])
        packing.unpack(tmp_path / "out", tmp_path / "there")
        assert (there / "config.json").read_text() == f"{there}"
        (there / name).write_text("others")
        with pytest.raises(InputError, match=rf"networks/n/{name} is of another training than .*; give another --out"):
            packing.unpack(tmp_path / "out", tmp_path / "there")

    def test_a_network_that_is_finished_in_the_archive_only(self, tmp_path):
        """All its files are those of the archive: settings and weights belong together."""
        here, there = (tmp_path / place / "networks" / "n" for place in ("here", "there"))
        for folder in (here, there):
            folder.mkdir(parents=True)
            (folder / "model.nir").write_text(f"{folder}")
            (folder / "config.json").write_text(f"{folder}")
        (here / "time_stepped.json").write_text("predictions")
        packing.pack(tmp_path / "here", tmp_path / "out", [here / "model.nir"])
        packing.unpack(tmp_path / "out", tmp_path / "there")
        assert {path.name: path.read_text() for path in there.iterdir()} == {
            "model.nir": f"{here}",
            "config.json": f"{here}",
            "time_stepped.json": "predictions",
        }


class TestOtherSettings:
    """A folder with the networks of the first group; nothing is trained or run."""

    TRAINED = Epochs(2, 1, (1,))
    NETWORK = "networks/sdt-mtt-bound1-seed0"

    @pytest.fixture
    def root(self, three_runs):
        return three_runs / "data"

    @pytest.fixture
    def out(self, root, tmp_path):
        here = setting(tmp_path / "out", root)
        recordings = load_recordings("nmnist", str(root), "test", 5)
        for network in plan.networks(0, groups=(1,)):
            model = here.run(network) / "model.nir"
            model.parent.mkdir(parents=True)
            model.write_text(network.name)
            write_json(model.with_name("config.json"), here.config(network, self.TRAINED).as_dict())
            finished.write(model, recordings, {t: recordings.labels.tolist() for t in frames.MEASURED})
        return tmp_path / "out"

    @pytest.fixture
    def run(self, monkeypatch, root, out):
        monkeypatch.syspath_prepend(STUDIES)
        study = importlib.import_module("deep")

        def run(*options, steps=("report",)):
            usual = (
                f"--dataset nmnist --data-root '{root}' --size tiny --recordings 6 --test 5 --workers 1 --out '{out}'"
            )
            usual += " --epochs 2 1"
            study.main([*shlex.split(usual), "--steps", *steps, *options])

        return run

    def test_the_same_settings(self, run, out):
        run("--epochs", "9", "9")  # not of a report
        written = json.loads((out / "report.json").read_text())
        assert set(written["epochs"].values()) == {2, 1}
        assert written["networks"]["sdt-mtt-bound1-seed0"]["accuracy"]["T = 10"]["value"] == 1
        assert "VGG9, tiny size: N-MNIST, test, 5 recordings" in (out / "report.md").read_text()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("--size eighth", r"sdt-bound1-seed0\): width_multiplier is 0.0625 in the checkpoint, 0.125 here; give"),
            ("--recordings 8", "limit is 6 in the checkpoint, 8 here"),
            ("--batch-size 3", "batch_size is 64 in the checkpoint, 3 here"),
            ("--test 4", "time_stepped.json: predictions of 5 test recordings, not of the 4 of --test"),
            ("--test 1", "predictions of 5 test recordings, not of the 1 of --test"),
        ],
    )
    @pytest.mark.parametrize("step", ["train", "evaluate", "report"])
    def test_other_ones_are_refused(self, run, out, options, message, step):
        before = sorted(out.rglob("*"))
        with pytest.raises(InputError, match=message):
            run(*shlex.split(options), steps=[step])
        assert sorted(out.rglob("*")) == before

    def test_other_epochs_and_another_device_are_refused_where_networks_are_trained(self, run, out):
        with pytest.raises(
            InputError, match=r"seed0\): epochs is 2 in the checkpoint, 20 here; give the options of its training, or"
        ):
            run("--epochs", "20", "1", steps=["train"])
        write_json(out / "epochs.json", self.TRAINED._asdict())
        before = (out / "epochs.json").read_text()
        for given in (Epochs(3, 1, (1,)), Epochs(2, 2, (1,))):
            with pytest.raises(InputError, match="epochs is"):
                training.train(setting(out, "data"), [0], given, False, float("inf"), 1)
        with pytest.raises(InputError, match="amp is False in the checkpoint, True here"):
            training.check_settings(setting(out, "data", device="cuda"), [0], self.TRAINED)
        training.check_settings(setting(out, "data", device="cuda"), [0])
        assert (out / "epochs.json").read_text() == before

    def test_other_recordings_of_the_same_number(self, run, root, tmp_path):
        shutil.copytree(root, tmp_path / "other")
        next((tmp_path / "other" / "Test").rglob("*.bin")).unlink()
        with pytest.raises(InputError, match="other test recordings than those of --dataset and --data-root"):
            run("--data-root", str(tmp_path / "other"))

    @pytest.mark.parametrize(
        "content",
        [
            *(b"", b'{"model": "ab', b"\xff", b"[" * 100_000, b"[]", b"{}", b'{"model": 3, "predictions": {}}'),
            *(b'{"model": "", "predictions": []}', b'{"model": "", "predictions": {"7": [0]}}'),
            *(b'{"model": "", "predictions": {"x": [0]}}', b'{"model": "", "predictions": {"10": ["0"]}}'),
            *(b'{"model": "", "predictions": {"10": 5}}', b'{"model": "", "recordings": 5, "predictions": {}}'),
        ],
    )
    def test_damaged_predictions(self, run, out, content):
        (out / self.NETWORK / "time_stepped.json").write_bytes(content)
        with pytest.raises(InputError, match=f"{self.NETWORK}/time_stepped.json: not the predictions of a finished"):
            run()

    def test_damaged_settings(self, run, out):
        (out / self.NETWORK / "config.json").write_text('{"method": "sd')
        with pytest.raises(InputError, match=f"{self.NETWORK}/config.json: not a well-formed JSON file"):
            run()

    def test_another_model_than_the_one_that_was_measured(self, run, out):
        (out / self.NETWORK / "model.nir").write_text("of another training")
        with pytest.raises(InputError, match=r"model\.nir: another network than the one of time_stepped\.json"):
            run()

    def test_networks_without_a_model_are_named(self, run, out, capsys):
        for model in out.glob("networks/*/model.nir"):
            model.unlink()
        run(steps=["evaluate"])  # nothing to run
        printed = capsys.readouterr().out
        assert "not run event by event, because model.nir is not there: sdt-sdt-bound1-seed0, sdt-mtt-bound1" in printed
        assert " sdt-bound1-seed0" not in printed

    @pytest.mark.parametrize("steps", [["evaluate"], ["report"], ["data", "evaluate", "report"]])
    def test_no_network_at_all(self, run, out, steps):
        with pytest.raises(InputError, match="no trained network of the seeds 3; the step train makes them, and"):
            run("--seeds", "3", steps=steps)

    @pytest.mark.parametrize("content", ["", '{"first": 1', "[]", '{"first": 1, "second": "x", "groups": [1]}'])
    def test_damaged_epochs(self, tmp_path, content):
        (tmp_path / "epochs.json").write_text(content)
        with pytest.raises(InputError, match=r"epochs\.json: not the epochs of an earlier start .*; --epochs gives"):
            training.train(setting(tmp_path, "data"), [0], plan.USUAL, True, float("inf"), 1)

    def test_the_epochs_of_an_earlier_start_for_some_of_its_groups(self, tmp_path):
        write_json(tmp_path / "epochs.json", Epochs(5, 3, (1, 2, 3))._asdict())
        assert training._read_epochs(tmp_path / "epochs.json", (2, 3, 4)) == Epochs(5, 3, (2, 3))

    def test_a_device_that_is_not_there(self, run):
        with pytest.raises(InputError, match="device 'nonsense' cannot be used"):
            run("--device", "nonsense", steps=["data", "train"])

    def test_a_first_phase_without_its_checkpoint(self, out, root, capsys):
        """That of an archive."""
        training.train_seed(setting(out, root), 0, Epochs(2, 1, (2,)), ends=0)
        assert capsys.readouterr().out.splitlines() == [
            f"{name}: left out, because sdt-bound1-seed0 is not there with its checkpoint"
            for name in ("sdt-nmt-bound1-seed0", "sdt-sdt-longer-bound1-seed0")
        ]

    def test_a_folder_of_archives_that_cannot_be(self, run, tmp_path):
        """That is known before hours of computation."""
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match=r"--pack .*file: File exists"):
            run("--pack", str(tmp_path / "file"), "--test", "100")

    def test_out_is_a_file(self, run, out, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match=r"--out .*file: File exists"):
            run("--out", str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--seeds", "1", "1"], "--seeds: 1 is given twice"),
        (["--seeds", "-1"], "--seeds must be numbers from 0 to 2"),
        (["--seeds", str(2**64)], "--seeds must be numbers from 0 to 2"),
        (["--minutes", "0"], "--minutes must be a number > 0, not 0"),
        (["--minutes", "nan"], "--minutes must be a number > 0, not nan"),
    ],
)
def test_options_that_cannot_be(monkeypatch, given, message):
    monkeypatch.syspath_prepend(STUDIES)
    with pytest.raises(InputError, match=message):
        importlib.import_module("deep").parse(given)


class TestRoundedWeights:
    def test_by_hand(self):
        weights = np.array([[1.0, 1 + 2**-3, 1 + 2**-4, -3.3, 0.0, 1e-30]], dtype=np.float32)
        graph = nir.NIRGraph({"w": nir.Linear(weights)}, [], type_check=False)
        found = perturb_networks.rounded_weights(graph, 3).nodes["w"].weight
        # 3 significant bits: steps of 1/4 from 1 to 2, of 1/2 from 2 to 4; ties to even.
        assert found[0, :5].tolist() == [1, 1, 1, -3.5, 0]
        assert found.dtype == np.float32
        assert found[0, 5] == pytest.approx(1e-30, rel=2**-3)
        assert graph.nodes["w"].weight is weights

    def test_11_bits_are_those_of_float16(self):
        weights = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
        graph = nir.NIRGraph({"w": nir.Linear(weights)}, [], type_check=False)
        found = perturb_networks.rounded_weights(graph, 11).nodes["w"].weight
        large = np.abs(weights) > 2**-14  # float16 has fewer bits below
        assert np.array_equal(found[large], weights.astype(np.float16).astype(np.float32)[large])

    def test_bad_input(self):
        with pytest.raises(InputError, match="the significant bits of a weight must be at least 1, not 0"):
            perturb_networks.rounded_weights(nir.NIRGraph({}, []), 0)


class TestProcesses:
    """Processes that fail, are killed, or are stopped."""

    @pytest.mark.slow
    def test_a_training_that_is_killed_does_not_end_the_others(self, tmp_path, monkeypatch, capfd):
        monkeypatch.setattr(training, "train_seed", deep_jobs.train_seed)
        with pytest.raises(BrokenExecutor):
            training.train(setting(tmp_path, "data"), [1, 2, 3, 4], Epochs(1, 1, (1,)), False, float("inf"), 4)
        assert sorted(path.name for path in tmp_path.glob("seed*")) == ["seed2", "seed3", "seed4"]
        printed = capfd.readouterr().out
        assert "seed 1: not done, A process in the process pool was terminated" in printed
        assert all(f"seed {seed}: done" in printed for seed in (2, 3, 4))

    @pytest.fixture
    def store(self, tmp_path):
        return ResultStore(tmp_path / "event_driven.jsonl", {})

    @pytest.fixture
    def evaluate(self, monkeypatch, store, tmp_path):
        """Runs `deep_jobs.run_job` for the jobs of recordings with these numbers, in as many processes."""
        monkeypatch.setattr(event_driven, "_run_job", deep_jobs.run_job)
        monkeypatch.setattr(event_driven, "digest", str)
        test = event_driven.Recorded("nmnist", None, 100, 10)

        def evaluate(*starts):
            jobs = [event_driven.Job(tmp_path / "model.nir", event_driven.WAY, k, k + 1) for k in starts]
            monkeypatch.setattr(event_driven, "jobs_of", lambda *_: jobs)
            event_driven.evaluate(lambda: [], lambda: True, test, store, len(jobs), float("inf"))

        return evaluate

    def test_results_beside_an_error_are_kept(self, evaluate, store, monkeypatch):
        def first_two(running, **_):
            failed, done, slow = running
            concurrent.futures.wait([failed, done])
            return [failed, done], [slow]

        monkeypatch.setattr(event_driven, "wait", first_two)
        started = time.time()
        with pytest.raises(ValueError, match="of the first job"):
            evaluate(0, 1, 8)  # does not wait for the slow one
        assert time.time() - started < 600
        assert [key[2] for key in store] == [1]

    def test_a_killed_process(self, evaluate, store, monkeypatch):
        """It is noticed while the other one works, also if the thread that watches them is faster than its start."""
        spawn = ProcessPoolExecutor._spawn_process
        monkeypatch.setattr(ProcessPoolExecutor, "_spawn_process", lambda self: (time.sleep(0.3), spawn(self)))
        started = time.time()
        with pytest.raises(BrokenExecutor):
            evaluate(8, 4)
        assert time.time() - started < 600
        assert not store

    def test_a_signal(self, evaluate, store, tmp_path, monkeypatch):
        def keep(key, result):
            ResultStore.keep(store, key, result)
            raise KeyboardInterrupt

        monkeypatch.setattr(store, "keep", keep)
        started = time.time()
        with pytest.raises(KeyboardInterrupt):
            evaluate(1, 8)
        assert time.time() - started < 600
        assert [key[2] for key in ResultStore(store.path, {})] == [1]
        assert not multiprocessing.active_children()

    def test_stopped_while_a_process_starts(self):
        """One that is started behind the first look for processes is ended, too."""

        def late():
            time.sleep(0.3)
            process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
            process.start()
            process.join()

        with ThreadPoolExecutor(1) as background:
            training.stop(background.submit(late))
        assert not multiprocessing.active_children()

    @pytest.mark.parametrize("function", ["sleep_in_a_pool", "sleep_in_workers"])
    def test_processes_end_with_the_one_that_started_them(self, tmp_path, function):
        place, script = tmp_path / "number", tmp_path / "script.py"
        call = f"if __name__ == '__main__':\n    {function}({str(place)!r})"
        script.write_text(f"from tests.deep_jobs import {function}\n{call}")
        repository = Path(__file__).parents[1]
        started = subprocess.Popen([sys.executable, str(script)], env=os.environ | {"PYTHONPATH": str(repository)})
        while not (place.exists() and place.read_text()):
            assert started.poll() is None
            time.sleep(0.05)
        worker = Path("/proc") / place.read_text()
        assert worker.exists()
        started.kill()
        started.wait()
        ends = time.time() + 300  # its task ends after twice that
        while worker.exists() and "zombie" not in (worker / "status").read_text() and time.time() < ends:
            time.sleep(0.05)
        assert not worker.exists() or "zombie" in (worker / "status").read_text()


@pytest.mark.slow
class TestStudy:
    @pytest.fixture
    def study(self, monkeypatch):
        monkeypatch.syspath_prepend(STUDIES)
        return importlib.import_module("deep")

    def test_all_steps_then_elsewhere(self, three_runs, study, tmp_path, monkeypatch, capsys):
        root, here, out, there = three_runs / "data", tmp_path / "here", tmp_path / "out", tmp_path / "there"
        options = (
            f"--groups 1 --dataset nmnist --data-root '{root}' --size tiny --recordings 8 --test 8 --workers 1"
            " --seeds 0 --batch-size 4"
        )
        with monkeypatch.context() as patch:
            patch.setenv("MTT_BRIAN_CACHE", str(tmp_path / "cache"))
            study.main(shlex.split(f"{options} --epochs 1 1 --steps data train --out '{here}' --pack '{out}'"))
        names = [network.name for network in plan.networks(0, groups=(1,))]
        assert len(names) == 6
        stepped = {name: json.loads((here / "networks" / name / "time_stepped.json").read_text()) for name in names}
        stepped = {name: kept["predictions"] for name, kept in stepped.items()}
        assert all([*map(int, by_t)] == list(frames.MEASURED) for by_t in stepped.values())

        # A GPU is asked for; without one the CPU does its part.
        study.main(
            shlex.split(f"{options} --steps evaluate report --engine exact-cuda --unpack '{out}' --out '{there}'")
        )
        written = json.loads((there / "report.json").read_text())
        labels = load_recordings("nmnist", str(root), "test", 8).labels
        for name in names:
            found = written["networks"][name]
            for t, predicted in stepped[name].items():
                assert found["accuracy"][f"T = {t}"]["value"] == np.mean(np.equal(predicted, labels))
            first = len(name.split("-")) == 3
            assert found["recordings"]["instants"] == found["recordings"]["fifo"] == (0 if first else 8)
            assert (found["flexibility"] is None) == first
            if not first:
                assert found["event_driven"]["instants"]["synops_per_recording"] > 0
                assert found["way"]["time-stepped"]["spike_difference"]["output"] == 0
                assert found["way"]["instants"]["spike_difference"]["spikes1"] > 0
        text = (there / "report.md").read_text()
        assert "MTT - SDT, no bound" in text
        assert "From time steps to a chip" in text

        # The exact engine on bins is the time-stepped network of torch.
        model = there / "networks" / "sdt-mtt-bound1-seed0" / "model.nir"
        assert model.exists()
        store = [json.loads(line) for line in (there / "event_driven.jsonl").read_text().splitlines()[1:]]
        found = {tuple(entry["key"]): entry["result"] for entry in store}
        digest = study.event_driven.digest(model)
        halves = [found[digest, "way", *part]["time-stepped"]["predictions"] for part in ((0, 4), (4, 8))]
        assert [*halves[0], *halves[1]] == stepped["sdt-mtt-bound1-seed0"]["10"]

        monkeypatch.setattr(study.event_driven, "_run_job", None)  # again: nothing is run
        study.main(shlex.split(f"{options} --steps evaluate --out '{there}'"))

    def test_a_training_goes_on_where_it_stopped(self, three_runs, tmp_path, monkeypatch):
        root, epochs, first = three_runs / "data", Epochs(3, 1, (1,)), Network("sdt", -1.0, 0)
        monkeypatch.setenv("MTT_BRIAN_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(training, "SAVED_EVERY", 0.0)
        whole, parts = (setting(tmp_path / name, root, batch_size=3) for name in ("whole", "parts"))
        for each in (whole, parts):
            frames.prepare(each, workers=1)
        assert training.train_network(whole, first, epochs, ends=float("inf"))
        run_epoch = Trainer.run_epoch

        def interrupted(trainer):
            if trainer.last.epoch == 2:
                raise KeyboardInterrupt
            run_epoch(trainer)

        monkeypatch.setattr(Trainer, "run_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            training.train_network(parts, first, epochs, ends=float("inf"))
        monkeypatch.setattr(Trainer, "run_epoch", run_epoch)
        training.train_network(parts, first, epochs, ends=float("inf"))
        one, other = (json.loads((each.run(first) / "time_stepped.json").read_text()) for each in (whole, parts))
        assert one == other  # the digest of the network, too
        assert len((parts.run(first) / "metrics.jsonl").read_text().splitlines()) == 3

        stopped = setting(tmp_path / "parts", root, batch_size=2)
        (stopped.run(first) / "time_stepped.json").unlink()
        with pytest.raises(InputError, match="batch_size"):
            training.train_network(stopped, first, epochs, ends=float("inf"))

    def test_a_report_without_networks_names_the_step_that_makes_them(self, three_runs, study, tmp_path):
        options = (
            f"--dataset nmnist --data-root '{three_runs / 'data'}' --size tiny --test 8 --seeds 3 4 --steps report"
        )
        with pytest.raises(InputError, match="no trained network of the seeds 3, 4; the step train makes them"):
            study.main([*shlex.split(options), "--out", str(tmp_path / "out")])

    def test_a_signal_ends_the_trainings(self, three_runs, tmp_path):
        options = (
            f"--dataset nmnist --data-root '{three_runs / 'data'}' --size tiny --recordings 8 --test 8 --batch-size 4"
            f" --steps data train --epochs 100000 1 --out {tmp_path / 'out'}"
        )
        study = subprocess.Popen(
            [sys.executable, f"{STUDIES}/deep.py", *shlex.split(options)],
            env=os.environ | {"MTT_BRIAN_CACHE": str(tmp_path / "cache")},
            start_new_session=True,
        )
        try:
            while not (tmp_path / "out" / "networks" / "sdt-bound1-seed0" / "config.json").exists():
                assert study.poll() is None
                time.sleep(0.1)
            study.terminate()
            assert study.wait(3600) == 143
            ends = time.time() + 300
            while has_processes(study.pid) and time.time() < ends:
                time.sleep(0.1)
            assert not has_processes(study.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(study.pid, signal.SIGKILL)

    def test_the_time_is_over(self, three_runs, study, tmp_path, monkeypatch, capfd):
        monkeypatch.setenv("MTT_BRIAN_CACHE", str(tmp_path / "cache"))
        root = three_runs / "data"
        study.main(
            shlex.split(
                f"--dataset nmnist --data-root '{root}' --size tiny --recordings 8 --test 4 --batch-size 4 --workers 1"
                f" --minutes 0.01 --steps data train --out '{tmp_path / 'here'}' --pack '{tmp_path / 'out'}'"
            )
        )
        assert "the time is over" in capfd.readouterr().out
        assert (tmp_path / "out" / "results.zip").exists()
