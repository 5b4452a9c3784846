"""training/run_mtt.py through the command line, at small size."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import nir
import pytest
from torch import nn

from mtt_brian import files, mtt
from mtt_brian.cli import train
from mtt_brian.errors import InputError
from mtt_brian.experiments import run_files, run_folder
from mtt_brian.mtt import loop
from tests import commands

SCRIPT = str(commands.ROOT / "training" / "run_mtt.py")
SMALL = ["--limit", "24", "--epochs", "2", "--time-steps", "3", "--samples", "2", "--threads", "1"]
PROMISED = {"config.json", "versions.json", "metrics.jsonl", "checkpoint.pt", "model.nir", "training.png"}


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return commands.call(SCRIPT, *arguments, cwd=cwd)


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
    assert output.splitlines()[-1].strip() == f"mtt-brian eval {Path('runs/digits-mtt-0-001')}"


def test_printed_commands_can_be_pasted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "two words $x"
    config = mtt.TrainConfig()
    train.print_next_command(folder, config)
    assert shlex.split(capsys.readouterr().out.splitlines()[-1]) == ["mtt-brian", "eval", str(folder)]
    folder.mkdir()
    (folder / "checkpoint.pt").touch()
    for message in (lambda: train.new_run_folder(str(folder), config), lambda: run_folder.load(folder)):
        with pytest.raises(InputError) as refused:
            message()
        assert shlex.split(str(refused.value))[-4:] == ["mtt-brian", "train", "--resume", str(folder)]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_time_steps_of_the_table_can_be_chosen(workers: str, tmp_path: Path) -> None:
    done = run(
        *SMALL, "--epochs", "1", "--workers", workers, "--final-steps", "4", "1", "4", "--out", "r", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if "%" in line]
    assert [int(row[0]) for row in rows] == [4, 1]
    test = run_folder.load_splits(mtt.TrainConfig(**json.loads((tmp_path / "r" / "config.json").read_text()))).test
    correct = {t: mtt.predict(mtt.load_model(tmp_path / "r"), test, t).argmax(1) == test.labels for t in (4, 1)}
    assert [row[1] for row in rows] == [f"{correct[t].mean():.1%}" for t in (4, 1)]


def test_no_table(tmp_path: Path) -> None:
    done = run(*SMALL, "--epochs", "1", "--final-steps", "--out", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "%" not in done.stdout
    assert done.stdout.splitlines()[-1].strip() == "mtt-brian eval r"


every_signal = pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)


@every_signal
def test_resuming_a_stopped_run_gives_the_same_weights(
    number: signal.Signals, status: int, finished: tuple[Path, str], tmp_path: Path
) -> None:
    """A signal in the second epoch, then --resume."""

    def iterate(*arguments: Any) -> Any:
        if (tmp_path / "stopped" / "metrics.jsonl").exists():
            os.kill(os.getpid(), number)
        return mtt.train_iteration(*arguments)

    with mock.patch.object(loop, "train_iteration", iterate):
        done = run(*SMALL, "--validation", "0.25", "--out", "stopped", cwd=tmp_path)
    assert done.returncode == status
    assert f"--resume {Path('stopped')}" in done.stdout
    if number == signal.SIGINT:  # of the others, that they end alike is enough
        check_resumed(finished[0], tmp_path)


def test_a_run_that_is_stopped_in_the_closing_table_is_finished(tmp_path: Path) -> None:
    def stopped(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with mock.patch.object(mtt, "predict_each", stopped):
        done = run(*SMALL, "--epochs", "1", "--out", "run", cwd=tmp_path)
    assert done.returncode == 130
    assert f"the training is finished, and its network is kept: {Path('run') / 'model.nir'}" in done.stdout
    assert "--resume" not in done.stdout


@pytest.mark.slow
@every_signal
def test_resuming_a_stopped_process_gives_the_same_weights(
    number: signal.Signals, status: int, finished: tuple[Path, str], tmp_path: Path
) -> None:
    """A signal as soon as the first epoch is on disk, then --resume; wherever it hit, the result is the same."""
    arguments = [sys.executable, SCRIPT, *SMALL, "--validation", "0.25", "--out", "stopped"]
    process = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=3600)
    if not (tmp_path / "stopped" / "model.nir").exists():  # it may have finished before the signal came
        assert process.returncode == status
        assert f"--resume {Path('stopped')}" in output
    if number == signal.SIGINT:
        check_resumed(finished[0], tmp_path)


def check_resumed(finished: Path, tmp_path: Path) -> None:
    resumed = run("--resume", "stopped", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    a, b = (mtt.load_model(folder).state_dict() for folder in (finished, tmp_path / "stopped"))
    assert all(a[name].equal(b[name]) for name in a)
    assert {path.name for path in (tmp_path / "stopped").iterdir()} == PROMISED


def test_a_finished_run_is_not_trained_and_not_tested_again(
    finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the data are read")

    monkeypatch.setattr(run_folder, "load_splits", never)
    folder = finished[0]
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    epochs = json.loads((folder / "config.json").read_text())["epochs"]
    train.main(["--resume", str(folder)])
    shown = capsys.readouterr().out
    assert shown.startswith(f"{folder}: this run is finished ({epochs} of {epochs} epochs)\n")
    assert shown.endswith(f"\n  mtt-brian eval {shlex.quote(str(folder))}\n")
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    # Without its model it was stopped between the last epoch and the export.
    settings = train.parse_settings(["--resume", str(folder)])
    monkeypatch.setattr(run_files, "MODEL", "other.nir")
    assert not train.is_finished(settings)


def test_a_run_that_was_stopped_before_its_first_checkpoint_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mtt, "fit", stop)
    with pytest.raises(SystemExit) as left:
        train.main([*SMALL, "--out", "run"])
    assert left.value.code == 130
    assert "there is no checkpoint yet: start anew" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", [False, True])
def test_of_two_trainings_one_gets_the_folder(there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one has looked into it just before."""
    config, run = mtt.TrainConfig(), tmp_path / "run"
    if there:
        run.mkdir()
    check = files.check_writable

    def meanwhile(folder: Path) -> None:
        check(folder)
        monkeypatch.setattr(files, "check_writable", check)
        assert train.new_run_folder(str(run), config) == run

    monkeypatch.setattr(files, "check_writable", meanwhile)
    with pytest.raises(InputError, match="is not an empty folder"):
        train.new_run_folder(str(run), config)
    assert json.loads((run / "config.json").read_text()) == config.as_dict()


@pytest.mark.parametrize("out", ["file/x", "file", "/proc/xx", "a" * 300, "a\0b", "\ud800"])
def test_a_folder_that_cannot_be_is_refused_before_training(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError):
        train.new_run_folder(out, mtt.TrainConfig())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_that_cannot_be_written_is_not_resumed(
    finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    monkeypatch.setattr(files, "check_writable", full)
    for name in (finished[0], finished[0] / "checkpoint.pt"):
        with pytest.raises(InputError, match=f"^--resume {finished[0]}: No space left on device$"):
            train.main(["--resume", str(name)])


def test_settings_from_a_file_and_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small.toml").write_text('method = "sdt"\nlimit = 12\nepochs = 3\ntime_steps = 2\nthreads = 1\n')
    monkeypatch.chdir(tmp_path)
    train.main(["--config", "small.toml", "--epochs", "1", "--out", "here"])
    config = json.loads((tmp_path / "here" / "config.json").read_text())
    assert (config["method"], config["limit"], config["epochs"]) == ("sdt", 12, 1)


def test_settings_of_the_package_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train.main(["--config", "small/digits", "--limit", "40", "--epochs", "1", "--out", "here"])
    config = json.loads((tmp_path / "here" / "config.json").read_text())
    assert (config["validation"], config["limit"], config["epochs"], config["dataset"]) == (0.1, 40, 1, "digits")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "small"], "--config 'small': no such file (.toml or .json), and no settings of this package; "),
        (["--config", "list"], "known: cifar100_resnet18, "),
        (["--time-steps", "0"], "command line: time_steps must be at least 1, not 0"),
        (["--final-steps", "3", "0"], "--final-steps must be at least 1, not 0"),
        (["--dataset", "nowhere"], "unknown data set 'nowhere'"),
        (["--dataset", "nmnist", "--data-root", "nowhere"], "nowhere"),
        (["--limit", "4", "--model", "resnet"], "unknown model 'resnet'"),
        (["--limit", "4", "--device", "gpu"], "device 'gpu' cannot be used"),
        (["--limit", "4", "--model", "resnet18_dvs", "--resolution", "99"], "must not exceed the sensor's 34 x 34"),
        (["--limit", "4", "--phase", "bias-removal"], "phase = 'bias-removal' needs init"),
        (["--init", "nowhere"], "no checkpoint at nowhere"),
        (["--config", "nowhere.toml"], "nowhere.toml: No such file"),
        (["--resume", "nowhere"], "no checkpoint at nowhere"),
        (["--out", ".."], "is not an empty folder"),
    ],
)
def test_bad_input_names_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    with pytest.raises(InputError, match=re.escape(message)):
        train.main(arguments)
    assert not any(cwd.iterdir()), "a refused run leaves no folder"


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "typo.toml").write_text("epoch = 3\n")
    done = run("--config", "typo.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: typo.toml: unknown key 'epoch'; did you mean epochs?\n"
    assert not done.stdout


def test_still_images_from_file_to_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """MNIST's own file format, 12 + 4 images: magic number, lengths, bytes."""
    for stem, count in (("train", 12), ("t10k", 4)):
        pixels = bytes(range(256)) * (count * 28 * 28 // 256 + 1)
        header = b"".join(n.to_bytes(4, "big") for n in (0x803, count, 28, 28))
        (tmp_path / f"{stem}-images-idx3-ubyte").write_bytes(header + pixels[: count * 28 * 28])
        labels = bytes(i % 10 for i in range(count))
        (tmp_path / f"{stem}-labels-idx1-ubyte").write_bytes(
            b"".join(n.to_bytes(4, "big") for n in (0x801, count)) + labels
        )
    monkeypatch.chdir(tmp_path)
    settings = [
        "--model",
        "vgg14",
        "--width-multiplier",
        "0.05",
        "--epochs",
        "1",
        "--time-steps",
        "2",
        "--threads",
        "1",
    ]
    train.main(["--dataset", "mnist", "--data-root", ".", "--out", "run", *settings])
    assert {path.name for path in (tmp_path / "run").iterdir()} == PROMISED
    output = capsys.readouterr().out
    assert "12 training, 0 validation, 4 test images" in output
    assert output.count("%") == 2 * 5
    assert "event" not in output.rpartition("%")[2], "there is nothing to run event by event"


def test_the_settings_of_the_first_phase_are_kept_unless_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--limit", "12", "--epochs", "1", "--time-steps", "2", "--threads", "1", "--seed", "5"]
    train.main([*small, "--model", "vggsnn", "--width-multiplier", "0.03", "--out", "first"])
    train.main(["--init", "first", "--phase", "bias-removal", "--lr", "0.001", "--method", "sdt", "--out", "second"])
    first, second = (json.loads((tmp_path / run / "config.json").read_text()) for run in ("first", "second"))
    changed = {key: second[key] for key in first if first[key] != second[key]}
    assert changed == {"init": "first", "phase": "bias-removal", "lr": 0.001, "method": "sdt"}
    shutil.rmtree(tmp_path / "first")
    train.main(["--resume", "second"])


def test_out_and_resume_exclude_each_other(finished: tuple[Path, str]) -> None:
    with pytest.raises(InputError, match="give one of them"):
        train.main(["--resume", str(finished[0]), "--out", "elsewhere"])


def test_a_run_never_overwrites_another(finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="not an empty folder; name another one; continue a run with: mtt-brian train"):
        train.main(["--limit", "4", "--out", str(finished[0])])
    monkeypatch.chdir(finished[0].parents[1])
    assert train.new_run_folder(None, mtt.TrainConfig()) == Path("runs/digits-mtt-0-002")


def test_a_resumed_run_keeps_its_settings(finished: tuple[Path, str]) -> None:
    with pytest.raises(InputError, match=r"another config: lr is .*0\.5 here"):
        train.main(["--resume", str(finished[0]), "--lr", "0.5"])
    assert json.loads((finished[0] / "config.json").read_text())["lr"] != 0.5


def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        train.main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "  mtt-brian train --config small/mnist_vgg14 --data-root DIR" in shown
    assert "--time-steps" in shown


def test_the_settings_of_a_resumed_run_are_those_of_its_end(tmp_path: Path) -> None:
    """Data that have moved meanwhile are found by the commands that read config.json."""
    config = mtt.TrainConfig(data_root="before", epochs=2, limit=8, time_steps=2, width_multiplier=0.1)
    splits = run_folder.load_splits(config)
    epoch = loop.Trainer.run_epoch

    def once(trainer: loop.Trainer) -> None:
        if trainer.last.epoch:
            raise KeyboardInterrupt
        epoch(trainer)

    with mock.patch.object(loop.Trainer, "run_epoch", once), pytest.raises(KeyboardInterrupt):
        run_folder.train(mtt.build_model(config, splits.train), config, splits, tmp_path)
    config = replace(config, data_root="after")
    run_folder.trained(config, splits, tmp_path)
    assert run_folder.load(tmp_path).config["data_root"] == "after"


def test_a_reader_that_ends_before_the_training_leaves_no_folder(tmp_path: Path) -> None:
    """`mtt-brian train | head -0`: the folder was taken for ever, and held nothing to resume."""
    with mock.patch("builtins.print", side_effect=BrokenPipeError), pytest.raises(BrokenPipeError):
        train.load_script("training", "run_mtt").main([*SMALL, "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_checkpoint_is_not_to_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError) as error:
        train.main([*SMALL, "--out", str(tmp_path)])
    assert str(error.value).endswith("is not an empty folder; name another one")
    with pytest.raises(InputError) as error:
        run_folder.load(tmp_path)
    assert str(error.value).endswith("no model.nir; a finished run has one")


def test_a_network_that_cannot_be_exported_is_not_trained(tmp_path: Path) -> None:
    config = mtt.TrainConfig(epochs=1, limit=8, time_steps=2, width_multiplier=0.1)
    splits = run_folder.load_splits(config)
    model = mtt.build_model(config, splits.train)
    model.stages[0].pool1 = nn.MaxPool2d(2)
    with pytest.raises(InputError, match="layer 'pool1' is a MaxPool2d, which cannot be exported"):
        run_folder.train(model, config, splits, tmp_path / "run")
    assert not (tmp_path / "run").exists()
