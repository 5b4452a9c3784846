"""What tests/test_mtt_distributed.py runs in two processes: ``torchrun ... -m tests.shared_training FOLDER``.

Every process leaves what it saw in ``FOLDER/<rank>.pt`` and its runs, if it writes any, in ``FOLDER/runs/<rank>``; the
test trains the same in one process. In the end they are refused for a typing error.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from mtt_brian import mtt
from mtt_brian.cli import train as console
from mtt_brian.errors import InputError
from mtt_brian.mtt import Checkpoint, Diverged, TrainConfig, loop
from mtt_brian.mtt.distributed.processes import ALONE, Processes, join
from tests.test_mtt_fit import small, synthetic

_NORMS: dict[str, Any] = {"model": "vggsnn", "width_multiplier": 0.03, "batch_size": 7, "optimizer": "sgd"}

#: Settings of each of two processes. 27 recordings: shares of 3 and of 4, or with norms of 6 and of 7.
CASES: dict[str, TrainConfig] = {
    "plain": small(batch_size=4, clip=0.05, shift=2, roll=2, flip=True, validation=0.2, keep_best=True),
    "norms": small(**_NORMS, calibration_batches=2, epochs=2, lr=0.02, loss="tet", deterministic=True),
    "bias-removal": small(**_NORMS, phase="bias-removal", init="", epochs=1, lr=0.02, tau=0.001, neuron="lif"),
    "amp": small(batch_size=7, amp=True, epochs=1, lr=0.001),
}

Iterate = Callable[..., Any]


def train(
    config: TrainConfig,
    run: Path,
    processes: Processes = ALONE,
    resume: Checkpoint | None = None,
    iterate: Iterate = mtt.train_iteration,
) -> dict[str, Any]:
    """Final weights, history and configurations of a training, in float64 if not in mixed precision."""
    run.mkdir(exist_ok=True, parents=True)
    data = synthetic(27)
    model = mtt.build_model(config, data).to(torch.float32 if config.amp else torch.float64)
    for weight in model.parameters():
        weight.data += processes.rank  # what the other processes start with must not matter
    drawn: list[Any] = []

    def watched(*arguments: Any) -> Any:
        drawn.append(arguments[4])
        return iterate(*arguments)

    with mock.patch.object(loop, "train_iteration", watched):
        validation = synthetic(5, seed=1) if config.validation else None
        done = loop.fit(model, data, config, run, validation, resume, processes)
    return {"weights": dict(model.state_dict()), "history": done.history, "configurations": drawn}


def at_sixth(act: Callable[[], None]) -> Iterate:
    """Training iterations, before the sixth of which something happens."""
    left = 6

    def iterate(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            act()
        return mtt.train_iteration(*arguments)

    return iterate


def interrupted(config: TrainConfig, run: Path, processes: Processes) -> bool:
    """Whether a Ctrl-C of the last process in the second epoch stops this process."""

    def interrupt() -> None:
        if not processes.first:
            os.kill(os.getpid(), signal.SIGINT)

    try:
        train(config, run, processes, iterate=at_sixth(interrupt))
    except KeyboardInterrupt:
        processes._interrupted = False
        return True
    return False


def diverged(config: TrainConfig, run: Path, processes: Processes) -> str:
    """What stops a training in which the loss of the last process, and only there, is not finite."""

    def nonsense(readouts: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return readouts.sum() * (1.0 if processes.first else float("nan"))

    def iterate(*arguments: Any) -> Any:
        *before, options, batch, meanwhile = arguments
        return mtt.train_iteration(*before, replace(options, loss=nonsense), batch, meanwhile)

    try:
        train(config, run, processes, iterate=iterate)
    except Diverged as error:
        return str(error)
    return "not at all"


def refused(processes: Processes) -> str:
    """An error of the last process alone, as every process raises it."""
    try:
        with processes.together():
            if not processes.first:
                raise InputError("no such folder")
    except InputError as error:
        return str(error)
    return "not at all"


def main(folder: Path) -> None:
    with join() as processes:
        run = folder / "runs" / str(processes.rank)
        seen: dict[str, Any] = {}
        for name, config in CASES.items():
            if config.phase == "bias-removal":  # only the first process has a run folder
                config = replace(config, init=str(folder / "runs" / "0" / "norms") if processes.first else "nowhere")
            seen[name] = train(replace(config, processes=2), run / name, processes)
        config = replace(CASES["plain"], processes=2)
        seen["interrupted"] = interrupted(config, run / "stopped", processes)
        resume = processes.from_first(lambda: mtt.checkpoint.load(run / "stopped"))
        seen["epoch"] = resume.epoch
        seen["resumed"] = train(config, run / "resumed", processes, resume)
        seen["diverged"] = diverged(config, run / "diverged", processes)
        seen["refused"] = refused(processes)
        seen["order"] = processes.in_turn(lambda: len(list((folder / "runs").glob("*.loaded"))) + _touch(run))
        torch.save(seen, folder / f"{processes.rank}.pt")
        processes.from_first(lambda: console.parse_settings(["--time-steps", "0"]))


def _touch(run: Path) -> int:
    run.with_suffix(".loaded").touch()
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
