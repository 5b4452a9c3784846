"""Early exit through its command line, on three tiny runs; its logic is tested in test_early_exit."""

import importlib
import json

import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure

from mtt_brian import plotting
from mtt_brian.errors import InputError
from mtt_brian.evaluate import Estimate
from mtt_brian.evaluate.early_exit import Curve
from mtt_brian.experiments import inference
from tests.test_gap_attribution import STUDIES


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(STUDIES)
    return importlib.import_module("dynamic_inference")


def test_study(three_runs, study, tmp_path, monkeypatch, capsys):
    options = [*(f"{three_runs}/runs/{name}" for name in ("sdt-0", "sdt-1", "mtt-0")), "--out", str(tmp_path)]
    study.main(options)
    report = json.loads((tmp_path / "report.json").read_text())
    assert {label: group.pop("runs") for label, group in report["groups"].items()} == {
        "sdt": ["sdt-0", "sdt-1"],
        "mtt": ["mtt-0"],
    }
    for group in report["groups"].values():
        assert list(group) == list(inference.MODES)
        for mode, curves in group.items():
            whole = {name: column[-1] for name, column in curves["fixed"].items()}
            assert whole["steps"] == 3
            assert 200 < whole["milliseconds"] < 300
            assert len(curves["fixed"]["steps"]) == (3 if mode == "time-stepped" else 50)
            for rule in ("mean", "total"):
                assert all(len(column) == len(report["thresholds"]) for column in curves[rule].values())
                for name, value in whole.items():
                    assert curves[rule][name][-1] == pytest.approx(value)
                for cost in ("steps", "milliseconds", "synops"):
                    assert np.all(np.diff(curves[rule][cost]) >= 0)  # a higher threshold is never reached earlier
            assert curves["mean"]["steps"][0] <= curves["total"]["steps"][0]
    assert image.imread(tmp_path / "dynamic_inference.png").std() > 0.05
    text = (tmp_path / "report.md").read_text()
    assert "| sdt (2) | time-stepped | mean" in text
    assert "| mtt (1) | fifo         | fixed" in text

    monkeypatch.setattr(study.inference, "readout_traces", None)  # again: nothing is missing
    study.main(options)
    assert f"{tmp_path}: dynamic_inference.png, report.json, report.md, results.jsonl" in capsys.readouterr().out


def test_table_interpolates_and_leaves_out_what_a_curve_does_not_reach(study):
    curve = Curve([Estimate(0.5, 0.1), Estimate(0.7, 0.2)], [1.0, 2.0], [5.0, 10.0], [10.0, 20.0])
    table = study.table("", {"mtt": {"sum": {"mean": curve}}}, "synops", {str(n): n for n in (9, 10, 15, 20, 21)})
    (row,) = table.rows
    assert [*map(str, row)][3:] == ["-", "50.0 ± 10.0", "60.0 ± 15.0", "70.0 ± 20.0", "-"]


def test_limit(study):
    with pytest.raises(InputError, match="--limit must be at least 1, not 0"):
        study.main(["--limit", "0"])


def test_figure_draws_the_curve_its_band_and_fixed_times():
    ax = plotting.early_exit(
        [1e3, 2e3],
        [Estimate(0.5, 0.1), Estimate(0.7, 0.2)],
        name="SynOps",
        style=(1, 1),
        fixed=([1e3, 3e3], [0.4, 0.7]),
        ax=Figure().subplots(),
    )
    curve, fixed = ax.lines
    assert curve.get_ydata().tolist() == [0.5, 0.7]
    assert list(fixed.get_ydata()) == [0.4, 0.7]
    assert curve.get_color() == fixed.get_color() == plotting.COLORS[1]
    (band,) = ax.collections
    assert band.get_paths()[0].get_extents().intervaly == pytest.approx([0.4, 0.9])
    assert ax.get_xlabel() == "SynOps"
