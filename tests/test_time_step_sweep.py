"""The time-step sweep through its command line, on three tiny runs."""

import importlib
import json
import shlex

import numpy as np
import pytest
from matplotlib import image

from mtt_brian import events, mtt
from mtt_brian.errors import InputError
from tests.test_gap_attribution import STUDIES


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(STUDIES)
    return importlib.import_module("time_step_sweep")


@pytest.fixture
def swept(three_runs, study, tmp_path):
    chosen = " ".join(f"'{three_runs}'/runs/{name}" for name in ("sdt-0", "sdt-1", "mtt-0"))
    study.main(shlex.split(f"{chosen} --time-steps 5 1 --out '{tmp_path}'"))
    return tmp_path


class TestStudy:
    def test_report(self, swept, three_runs, capsys):
        report = json.loads((swept / "report.json").read_text())
        assert (report["dataset"], report["split"], report["n_recordings"]) == ("nmnist", "test", 8)
        places = ["T = 1", "T = 5", "sum", "fifo", "gap sum", "gap fifo", "flexibility"]
        recordings = events.load("nmnist", root=three_runs / "data", split="test")
        for name, run in report["runs"].items():
            assert [key for key in run if key != "method"] == places
            assert run["flexibility"] == []  # T = 2, 10 .. 200 were not run
            model = mtt.load_model(three_runs / "runs" / name)
            for t in (1, 5):
                right = np.mean(mtt.predict(model, recordings, t).argmax(1) == recordings.labels)
                assert run[f"T = {t}"] == pytest.approx(
                    {"value": right, "standard_error": np.sqrt(right * (1 - right) / 8)}
                )
            for order in ("sum", "fifo"):
                assert run[f"gap {order}"]["value"] == pytest.approx(run["T = 5"]["value"] - run[order]["value"])
        first, second = (report["runs"][name]["sum"]["value"] for name in ("sdt-0", "sdt-1"))
        sdt, mtt_ = report["groups"]["sdt"], report["groups"]["mtt"]
        assert sdt["runs"] == ["sdt-0", "sdt-1"]
        assert sdt["sum"] == pytest.approx({"value": (first + second) / 2, "standard_error": abs(first - second) / 2})
        assert mtt_["sum"] == report["runs"]["mtt-0"]["sum"]

    def test_table_figure_and_where_they_are(self, swept, capsys):
        text = (swept / "report.md").read_text()
        assert "| sdt (2)" in text
        assert "| mtt (1)" in text
        assert "gap fifo" in text
        assert image.imread(swept / "time_step_sweep.png").std() > 0.05

    def test_flexibility(self, three_runs, study, tmp_path):
        chosen = " ".join(f"'{three_runs}'/runs/{name}" for name in ("sdt-0", "sdt-1", "mtt-0"))
        study.main(shlex.split(f"{chosen} --time-steps 1 2 5 10 20 50 100 200 --out '{tmp_path}'"))
        report = json.loads((tmp_path / "report.json").read_text())
        conditions = [*(f"T = {t}" for t in (1, 2, 5, 10, 20, 50, 100, 200)), "sum"]
        for run in report["runs"].values():
            (score,) = run["flexibility"]
            accuracies = [run[condition]["value"] for condition in conditions]
            assert score["value"] == pytest.approx(np.mean(accuracies) / np.max(accuracies))
            assert score["low"] <= score["value"] <= score["high"]
        assert len(report["groups"]["sdt"]["flexibility"]) == 2
        assert "Temporal flexibility" in (tmp_path / "report.md").read_text()

    def test_again_only_what_is_missing(self, swept, three_runs, study, monkeypatch, capsys):
        asked = []
        predict = study.inference.predict
        monkeypatch.setattr(
            study.inference, "predict", lambda *arguments: (asked.append(arguments[2:]), predict(*arguments))[1]
        )
        chosen = " ".join(f"'{three_runs}'/runs/{name}" for name in ("sdt-0", "sdt-1", "mtt-0"))
        study.main(shlex.split(f"{chosen} --time-steps 1 5 7 --out '{swept}'"))
        assert asked == [("time-stepped", 7)] * 3
        assert f"{swept}: report.json, report.md, results.jsonl, time_step_sweep.png" in capsys.readouterr().out
        with pytest.raises(InputError, match="recordings was 8, is 3"):
            study.main(shlex.split(f"{chosen} --limit 3 --out '{swept}'"))


@pytest.mark.parametrize("options", ["--limit 0", "--time-steps 3 0"])
def test_bad_options(options, study):
    with pytest.raises(InputError, match="must be at least 1, not 0"):
        study.main(shlex.split(options))
