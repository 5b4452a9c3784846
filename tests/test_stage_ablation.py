"""The ablation of stages and samples through its command line, with tiny trainings."""

import importlib
import json
import shlex

import numpy as np
import pytest
from matplotlib import image

from mtt_brian.errors import InputError
from mtt_brian.mtt.config import read_config
from tests.test_gap_attribution import STUDIES


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(STUDIES)
    return importlib.import_module("stage_ablation")


def test_study(three_runs, study, tmp_path, monkeypatch, capsys):
    options = f"--dataset nmnist --data-root '{three_runs}'/data --epochs 1 --time-steps 3 --fine 6"
    options += f" --vary-blocks all 1 --vary-samples 2 --seeds 0 4 --out '{tmp_path}'"
    study.main(shlex.split(options))
    variants = {
        "g = all, s = 3": {"blocks_per_stage": None, "samples": 3},
        "g = 1, s = 3": {"blocks_per_stage": 1, "samples": 3},
        "g = 1, s = 2": {"blocks_per_stage": 1, "samples": 2},
    }
    trained = {
        (name, seed): f"{name.replace(' = ', '-').replace(', ', '-')}-{seed}" for name in variants for seed in (0, 4)
    }
    assert sorted(folder.name for folder in (tmp_path / "runs").iterdir()) == sorted(trained.values())
    for (name, seed), folder in trained.items():
        config = read_config(tmp_path / "runs" / folder / "config.json")
        expected = {**variants[name], "seed": seed, "method": "mtt", "epochs": 1, "time_steps": 3}
        assert expected.items() <= config.items()

    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["dataset"], report["n_recordings"], report["seeds"]) == ("nmnist", 8, [0, 4])
    assert list(report["variants"]) == list(variants)
    base = report["variants"]["g = 1, s = 3"]["results"]
    for name, variant in report["variants"].items():
        assert variants[name].items() <= variant.items()
        assert list(variant["results"]) == ["T = 1", "T = 3", "T = 6", "sum", "fifo"]
        for condition, result in variant["results"].items():
            by_seed = [accuracy["value"] for accuracy in result["accuracy_by_seed"]]
            error = abs(by_seed[0] - by_seed[1]) / 2
            assert result["accuracy"] == pytest.approx({"value": np.mean(by_seed), "standard_error": error})
            difference = result["accuracy"]["value"] - base[condition]["accuracy"]["value"]
            assert result["change"]["value"] == pytest.approx(difference)
            assert result["synops_per_recording"] > 0
    assert image.imread(tmp_path / "stage_ablation.png").std() > 0.05
    assert "| g = all, s = 3 |" in (tmp_path / "report.md").read_text()

    monkeypatch.setattr(study.mtt, "fit", None)  # again: nothing is trained, nothing is tested
    monkeypatch.setattr(study.inference, "predict", None)
    study.main(shlex.split(options))
    said = capsys.readouterr().out
    assert said.splitlines()[0].endswith(f" -> {tmp_path}")
    assert f"{tmp_path}: report.json, report.md, results.jsonl, runs, stage_ablation.png" in said
    with pytest.raises(InputError, match="epochs"):
        study.main(shlex.split(options.replace("--epochs 1", "--epochs 2")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--samples 2", "--samples: this study sets it itself; see --seeds and --vary-"),
        ("--method sdt", "--method: this study sets it"),
        ("--fine 0", "--fine must be at least 1, not 0"),
        ("--vary-samples 0", "samples"),
        ("--vary-blocks 0", "blocks_per_stage"),
        ("--vary-calibration 0", "--vary-calibration: nmnist_3c1fc has no batch norms"),
    ],
)
def test_bad_options(options, message, study, tmp_path):
    with pytest.raises(InputError, match=message):
        study.main([*shlex.split(options), "--limit", "4", "--epochs", "1", "--out", str(tmp_path)])
