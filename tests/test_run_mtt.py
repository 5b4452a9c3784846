"""training/run_mtt.py through the command line, at small size."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nir
import pytest

from mtt_brian import mtt

ROOT = Path(__file__).parents[1]
SCRIPT = str(ROOT / "training" / "run_mtt.py")
SMALL = ["--limit", "24", "--epochs", "2", "--time-steps", "3", "--samples", "2", "--threads", "1"]
PROMISED = {"config.json", "versions.json", "metrics.jsonl", "checkpoint.pt", "model.nir", "training.png"}


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run in its default folder, and what it printed."""
    cwd = tmp_path_factory.mktemp("cwd")
    done = run(*SMALL, "--validation", "0.25", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "runs" / "digits-mtt-0-001", done.stdout


def test_every_promised_file_is_there(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    assert {path.name for path in folder.iterdir()} == PROMISED
    config = json.loads((folder / "config.json").read_text())
    assert mtt.TrainConfig(**config).as_dict() == config
    assert (config["method"], config["time_steps"], config["epochs"]) == ("mtt", 3, 2)
    versions = json.loads((folder / "versions.json").read_text())
    assert {"python", "platform", "mtt_brian", "torch", "numpy"} <= versions.keys()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(0 <= row["validation_accuracy"] <= 1 for row in rows)
    assert (folder / "training.png").read_bytes().startswith(b"\x89PNG")
    assert isinstance(nir.read(folder / "model.nir"), nir.NIRGraph)
    assert mtt.load_model(folder).num_stages == 3


def test_it_ends_with_a_table_and_the_next_command(finished: tuple[Path, str]) -> None:
    _, output = finished
    table = [line.split() for line in output.splitlines() if "%" in line]
    assert [int(row[0]) for row in table] == [1, 2, 5, 10, 20, 50, 150]
    assert all(0 <= float(row[1].rstrip("%")) <= 100 for row in table)
    assert output.splitlines()[-1].strip() == f"python studies/event_driven_eval.py {Path('runs/digits-mtt-0-001')}"


def test_resuming_a_stopped_run_gives_the_same_weights(finished: tuple[Path, str], tmp_path: Path) -> None:
    """Ctrl-C as soon as the first epoch is on disk, then --resume; wherever it hit, the result is the same."""
    arguments = [sys.executable, SCRIPT, *SMALL, "--validation", "0.25", "--out", "stopped"]
    process = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    if process.returncode:  # a fast machine may have finished before the signal came
        assert process.returncode == 130
        assert f"--resume {Path('stopped')}" in output
    resumed = run("--resume", "stopped", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    a, b = (mtt.load_model(folder).state_dict() for folder in (finished[0], tmp_path / "stopped"))
    assert all(a[name].equal(b[name]) for name in a)
    assert {path.name for path in (tmp_path / "stopped").iterdir()} == PROMISED


def test_settings_from_a_file_and_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text('method = "sdt"\nlimit = 12\nepochs = 3\ntime_steps = 2\nthreads = 1\n')
    done = run("--config", "small.toml", "--epochs", "1", "--out", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "here" / "config.json").read_text())
    assert (config["method"], config["limit"], config["epochs"]) == ("sdt", 12, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--time-steps", "0"], "error: command line: time_steps must be at least 1, not 0"),
        (["--dataset", "nowhere"], "error: unknown data set 'nowhere'"),
        (["--dataset", "nmnist", "--data-root", "nowhere"], "nowhere"),
        (["--limit", "4", "--model", "resnet"], "error: unknown model 'resnet'"),
        (["--config", "nowhere.toml"], "error: nowhere.toml: No such file"),
        (["--resume", "nowhere"], "error: no checkpoint at nowhere"),
        (["--resume", "runs/x", "--out", "there"], "error: no checkpoint at"),
        (["--out", ".."], "is not an empty folder"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    done = run(*arguments, cwd=cwd)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in done.stderr
    assert not any(cwd.iterdir()), "a refused run leaves no folder"


def test_a_resumed_run_keeps_its_settings(finished: tuple[Path, str]) -> None:
    done = run("--resume", str(finished[0]), "--lr", "0.5", cwd=finished[0].parent)
    assert done.returncode == 2
    assert "another config: lr is" in done.stderr
    assert "0.5 here" in done.stderr
    assert json.loads((finished[0] / "config.json").read_text())["lr"] != 0.5


def test_help_teaches_by_example() -> None:
    done = run("--help", cwd=ROOT)
    assert done.returncode == 0
    assert "--config my.toml" in done.stdout
    assert "--time-steps" in done.stdout


def test_environment_is_not_needed(tmp_path: Path) -> None:
    """The script finds the installed package from any folder."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([sys.executable, SCRIPT, "--help"], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0
