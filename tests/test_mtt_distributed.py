"""Training shared by two processes on gloo, against one process with the batch of both."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mtt_brian import mtt
from mtt_brian.cli import train as console
from mtt_brian.errors import InputError
from mtt_brian.mtt.distributed.processes import ALONE, Processes, join
from tests import shared_training
from tests.shared_training import CASES
from tests.test_mtt_fit import small, synthetic, without_seconds

ROOT = Path(__file__).parents[1]
SCRIPT = str(ROOT / "training" / "run_mtt.py")
#: Seconds after which a process is taken for one that never ends: far more than a busy machine needs.
LONGEST = 3600
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SMALL = ["--limit", "20", "--time-steps", "3", "--samples", "2", "--validation", "0.25", "--lr", "0.001"]

#: Two processes add up gradients in another order than one, hence rounding differs: 1e-16 in float64, enlarged to some
#: 1e-14 by the optimizer and the division of batch norms. 1e-11 leaves room for another order of sums in another torch,
#: but none for a recording, a random number or a weight of the mean that is wrong.
TIGHT = {"rtol": 1e-11, "atol": 1e-11}


def torchrun(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*TORCHRUN, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=LONGEST
    )


def runs(pid: str) -> bool:
    """Whether there is such a process, which has not ended."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder of the trainings of shared_training.py, and how that ended."""
    folder = tmp_path_factory.mktemp("shared")
    return folder, torchrun("-m", "tests.shared_training", str(folder), cwd=folder)


@pytest.fixture(scope="module")
def folder(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> Path:
    return trained[0]


@pytest.fixture(scope="module")
def seen(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> list[dict[str, Any]]:
    """The observations of the two processes."""
    folder, done = trained
    assert (folder / "1.pt").is_file(), done.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_like_one_with_the_batch_of_both(
    seen: list[dict[str, Any]], folder: Path, tmp_path: Path, case: str
) -> None:
    config = replace(CASES[case], batch_size=2 * CASES[case].batch_size)
    if config.init is not None:
        config = replace(config, init=str(folder / "runs" / "0" / "norms"))
    try:
        one = shared_training.train(config, tmp_path)
    finally:
        torch.use_deterministic_algorithms(False)
    # in bfloat16 a layer may give another rounding for another number of recordings
    close = {"rtol": 1e-2, "atol": 1e-3} if config.amp else TIGHT
    assert len(one["configurations"]) == config.epochs * -(-27 // config.batch_size)
    for process in seen:
        two = process[case]
        assert two["configurations"] == one["configurations"]
        for mine, its in zip(without_seconds(two["history"]), without_seconds(one["history"]), strict=True):
            assert mine.pop("train_accuracy") == pytest.approx(its.pop("train_accuracy"), abs=1e-6)  # of float32
            assert mine == pytest.approx(its, rel=close["rtol"], abs=close["atol"])
        for name, weight in one["weights"].items():
            torch.testing.assert_close(two["weights"][name], weight, **close, msg=lambda text, name=name: name + text)


@pytest.mark.slow
def test_all_processes_end_with_the_same_bits(seen: list[dict[str, Any]]) -> None:
    for case in CASES:
        first, second = (process[case]["weights"] for process in seen)
        assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_only_the_first_process_writes(seen: list[dict[str, Any]], folder: Path) -> None:
    for case in CASES:
        assert {path.name for path in (folder / "runs" / "0" / case).iterdir()} == {"checkpoint.pt", "metrics.jsonl"}
        assert not any((folder / "runs" / "1" / case).iterdir())
    saved = mtt.checkpoint.load(folder / "runs" / "0" / "plain")
    assert all(torch.equal(weight, seen[0]["plain"]["weights"][name]) for name, weight in saved.final_weights.items())


@pytest.mark.slow
def test_ctrl_c_of_one_process_stops_all_and_the_run_can_be_resumed(seen: list[dict[str, Any]]) -> None:
    for process in seen:
        assert process["interrupted"]
        assert process["epoch"] == 1
        whole, resumed = process["plain"], process["resumed"]
        assert without_seconds(whole["history"]) == without_seconds(resumed["history"])
        assert all(torch.equal(weight, resumed["weights"][name]) for name, weight in whole["weights"].items())


@pytest.mark.slow
def test_one_process_continues_a_run_of_two(seen: list[dict[str, Any]], folder: Path, tmp_path: Path) -> None:
    stopped = mtt.checkpoint.load(folder / "runs" / "0" / "stopped")
    config = replace(CASES["plain"], batch_size=2 * CASES["plain"].batch_size)
    resumed = shared_training.train(config, tmp_path, resume=stopped)
    for name, weight in seen[0]["plain"]["weights"].items():
        torch.testing.assert_close(resumed["weights"][name], weight, **TIGHT)
    with pytest.raises(InputError, match="batch_size x processes is 8 in the checkpoint, 4 here"):
        shared_training.train(CASES["plain"], tmp_path, resume=stopped)


@pytest.mark.slow
def test_what_stops_one_process_stops_all(seen: list[dict[str, Any]]) -> None:
    for process in seen:
        assert process["diverged"] == f"epoch 1, batch 1 of 4: the loss is nan with time steps {FIRST}"
        assert process["refused"] == "process 1: no such folder"


#: Configuration of the first pass of `CASES`'s "plain".
FIRST = mtt.MTT(4, 1, 2).sample(np.random.default_rng(np.random.SeedSequence(3).spawn(2)[1]), 3)[0]


@pytest.mark.slow
def test_the_first_process_of_a_host_loads_before_the_others(seen: list[dict[str, Any]]) -> None:
    assert [process["order"] for process in seen] == [0, 1]


@pytest.mark.slow
def test_bad_input_gives_one_message(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = trained
    assert done.returncode != 0
    assert done.stderr.count("error: command line: time_steps must be at least 1, not 0\n") == 1
    assert "exitcode  : 2" in done.stderr
    assert done.stderr.count("Traceback") == 1, "torchrun's own"
    assert not done.stdout
    assert {path.name for path in folder.iterdir()} == {"0.pt", "1.pt", "runs"}


@pytest.mark.slow
class TestCommandLine:
    """``torchrun training/run_mtt.py``, in float32."""

    def test_a_run_is_one_run(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        done = torchrun(SCRIPT, *SMALL, "--epochs", "2", "--batch-size", "5", "--out", "two", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        console.main([*SMALL, "--epochs", "2", "--batch-size", "10", "--out", str(tmp_path / "one")])
        alone = capsys.readouterr().out
        assert {path.name for path in (tmp_path / "two").iterdir()} == {
            path.name for path in (tmp_path / "one").iterdir()
        }
        # every line is printed once, and the lines differ only in the folder and the processes
        assert "2 processes, batches of 2 x 5 recordings\n" in done.stdout
        expected = alone.replace(str(tmp_path / "one"), "two").splitlines()
        said = [line for line in done.stdout.splitlines() if "processes" not in line]
        assert [line for line in said if "%" not in line] == [line for line in expected if "%" not in line]
        assert len(said) == len(expected)
        assert done.stderr.count("epoch 2/2: 100%") <= 2, "one progress bar"
        one, two = (
            [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
            for run in ("one", "two")
        )
        # float32: a gradient near zero may change its sign by rounding, and AdamW makes a whole step of it
        assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=1e-3)
        assert json.loads((tmp_path / "two" / "config.json").read_text())["processes"] == 2

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_all_processes_with_the_command_that_continues(
        self, number: signal.Signals, tmp_path: Path
    ) -> None:
        command = [*TORCHRUN, SCRIPT, *SMALL, "--epochs", "1000", "--batch-size", "5", "--out", "stopped"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        metrics = tmp_path / "stopped" / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and metrics.read_text()):
            time.sleep(0.01)
        process.send_signal(number)
        output, errors = process.communicate(timeout=LONGEST)
        assert process.returncode != 0
        assert output.count("torchrun --nproc-per-node 2 -m mtt_brian train --resume stopped") == 1
        assert "KeyboardInterrupt" not in errors
        assert mtt.checkpoint.load(tmp_path / "stopped").epoch >= 1

    def test_processes_stop_after_torchrun_was_killed(self, tmp_path: Path) -> None:
        """They trained to the end."""
        command = [*TORCHRUN, SCRIPT, *SMALL, "--epochs", "1000", "--batch-size", "5", "--out", "stopped"]
        with open(tmp_path / "output", "w") as output:
            process = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=subprocess.DEVNULL)
        metrics = tmp_path / "stopped" / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and metrics.read_text()):
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
        process.wait()
        ends = time.monotonic() + 60
        while any(map(runs, children)) and time.monotonic() < ends:
            time.sleep(0.1)
        assert not any(map(runs, children))
        assert (tmp_path / "output").read_text().count("-m mtt_brian train --resume stopped") == 1
        assert mtt.checkpoint.load(tmp_path / "stopped").epoch >= 1

    def test_a_killed_process_ends_the_others_with_one_line(self, tmp_path: Path) -> None:
        """It was a traceback of torch and an error of gloo that ends in "GLHF!"."""
        command = [*TORCHRUN, SCRIPT, *SMALL, "--epochs", "1000", "--batch-size", "5", "--out", "stopped"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        metrics = tmp_path / "stopped" / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and metrics.read_text()):
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        second = next(pid for pid in children if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes())
        os.kill(int(second), signal.SIGKILL)
        output, errors = process.communicate(timeout=120)
        assert process.returncode != 0
        assert errors.count("error: another process of the training has ended, or does not answer (") == 1
        assert "[rank0]" not in errors
        assert output.count("torchrun --nproc-per-node 2 -m mtt_brian train --resume stopped") == 1
        assert mtt.checkpoint.load(tmp_path / "stopped").epoch >= 1
        assert not any(map(runs, children))


class TestShares:
    """What belongs to which process."""

    @pytest.mark.parametrize("items", [0, 1, 5, 6, 7])
    def test_shares_are_even_and_leave_nothing_out(self, items: int) -> None:
        shares = [list(range(items))[Processes(rank, 3).share(items)] for rank in range(3)]
        assert list(itertools.chain(*shares)) == list(range(items))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1

    def test_random_changes_are_those_of_the_whole_batch(self) -> None:
        """7 items in three shares."""
        changes = mtt.Augmentation(shift=2, roll=3, flip=True).draw(np.random.default_rng(0), 7, (8, 8))
        frames = torch.arange(7 * 8 * 8).reshape(7, 1, 1, 8, 8)
        shares = [np.arange(7)[Processes(rank, 3).batch(7).part] for rank in range(3)]
        parts = [changes[share](frames[share]) for share in shares]
        assert torch.equal(torch.cat(parts), changes(frames))
        assert not torch.equal(torch.cat(parts), frames)

    def test_the_means_of_a_batch_are_weighted_by_the_shares(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Items 0..6 in shares of 2, 2 and 3: the mean of their numbers is 3, and the weights' mean is 1."""
        batches = [Processes(rank, 3).batch(7) for rank in range(3)]
        parts = [torch.arange(7, dtype=torch.float64)[batch.part].mean() for batch in batches]
        assert sum(batch.weight for batch in batches) == pytest.approx(3)
        given: list[float] = []
        monkeypatch.setattr(Processes, "sum", lambda self, *values: given.extend(values) or list(values))
        for batch, mean in zip(batches, parts, strict=True):
            batch.means(mean.reshape(1))
        assert sum(given) == pytest.approx(3)

    def test_too_few_items_for_a_share_are_calibrated_by_all(self) -> None:
        index = np.arange(2)
        assert all(Processes(rank, 3).calibration_part(index).tolist() == [0, 1] for rank in range(3))
        assert [Processes(rank, 2).calibration_part(index).tolist() for rank in range(2)] == [[0], [1]]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"processes": 3}, "processes = 3, but 2 running; torchrun --nproc-per-node 3"),
            ({"processes": 2, "device": "cuda:1"}, "device = 'cuda:1': under torchrun every process has its own"),
            ({"processes": 2, "device": "cuda"}, f"{torch.cuda.device_count()} GPUs are too few"),
        ],
    )
    def test_settings_that_do_not_suit_the_processes(self, changes: dict[str, Any], message: str) -> None:
        config = small(**changes)
        with pytest.raises(InputError, match=message):
            Processes(1, 2, local_rank=100).check(config.processes, config.device)

    def test_settings_for_several_processes_need_torchrun(self, tmp_path: Path) -> None:
        data, config = synthetic(8), small(processes=2)
        with pytest.raises(InputError, match="processes = 2, but 1 running"):
            mtt.fit(mtt.build_model(config, data), data, config, tmp_path)

    @pytest.mark.parametrize(
        ("changes", "validation", "message"),
        [({"batch_size": 1}, 4, "an iteration with 1 "), ({}, 1, "the validation with 1 ")],
    )
    def test_too_little_to_share(self, changes: dict[str, Any], validation: int, message: str) -> None:
        """Refused before anything is exchanged: 5 recordings for two processes, one by one, leave one alone."""
        config = small(processes=2, **changes)
        data, held_back = synthetic(5), synthetic(validation)
        with pytest.raises(InputError, match=message + "of the recordings cannot be shared by 2 processes"):
            mtt.Trainer.prepare(mtt.build_model(config, data), data, config, held_back, processes=Processes(0, 2))


def test_results_of_the_first_process_are_waited_for_but_not_after_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may compute accuracies when the others have ended; an error may be that of one process alone."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    waits: list[Any] = []
    group = SimpleNamespace(
        init_process_group=lambda *_, **__: None,
        get_rank=lambda: 1,
        get_world_size=lambda: 2,
        new_group=lambda **_: None,
        all_reduce=lambda *_, **__: SimpleNamespace(wait=waits.append),
        destroy_process_group=lambda *_: None,
    )
    monkeypatch.setattr("mtt_brian.mtt.distributed.processes.distributed", group)
    with join():
        pass
    with pytest.raises(SystemExit), join():
        raise InputError("no such folder")
    assert waits == [timedelta(hours=2), timedelta(seconds=20)]
    assert not capsys.readouterr().err, "only the first one prints"


class TestAlone:
    """Without torchrun nothing is exchanged, and nothing is different."""

    def test_no_process_to_join(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RANK", raising=False)
        handler = signal.getsignal(signal.SIGINT)
        with join() as processes:
            assert processes is ALONE
            assert signal.getsignal(signal.SIGINT) is handler
            assert not torch.distributed.is_initialized()
        with pytest.raises(InputError, match="as it is"), join():
            raise InputError("as it is")

    def test_torchrun_with_a_single_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", "1")
        with join() as processes:
            assert processes is ALONE

    def test_processes_that_do_not_connect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.delenv("MASTER_ADDR", raising=False)
        with pytest.raises(InputError, match=r"as by torchrun, but the processes do not connect: .*MASTER_ADDR"):
            join().__enter__()
