"""Train a spiking network with mixed time steps (MTT), or with SDT or NMT to compare.

mtt-brian train                                   # built-in data (a simulated event camera), MTT
mtt-brian train --method sdt                      # the same network with one fixed number of time steps
mtt-brian train --dataset nmnist --data-root DIR  # N-MNIST from a local folder, complete or in part
mtt-brian train --config small/mnist_vgg14 --data-root DIR    # settings of the package; still images
mtt-brian train --config FILE.toml --seed 1       # settings of a file; options override them
mtt-brian train --init RUN --phase bias-removal --epochs 20 --lr 1e-3  # RUN's settings where no others are given
mtt-brian train --resume runs/digits-mtt-0-001    # continue a stopped run (Ctrl-C)
torchrun --nproc-per-node 2 -m mtt_brian train --batch-size 16   # two processes share every iteration, 2 x 16

All options but --config, --out, --resume and --final-steps are also the keys of a file for --config.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mtt_brian import cli, evaluate, files, mtt
from mtt_brian.cli import exit_status
from mtt_brian.errors import InputError
from mtt_brian.events import EventDataset, Recordings, find_dataset
from mtt_brian.events.datasets import check_not_a_reference, is_reference
from mtt_brian.experiments import option_checks, run_files, run_folder
from mtt_brian.experiments.run_folder import Splits
from mtt_brian.mtt import Checkpoint, Data, TrainConfig
from mtt_brian.mtt.distributed import Processes, is_lost
from mtt_brian.progress import notice
from mtt_brian.repository import load_script
from mtt_brian.snn import Staged

#: The time steps of the closing table. The last ones are much finer than those of any training.
TEST_TIME_STEPS = (1, 2, 5, 10, 20, 50, 150)
#: The same for still images, which more time steps only repeat.
TEST_TIME_STEPS_IMAGES = (1, 2, 5, 10, 20)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs ``training/run_mtt.py``, which calls the functions below one after another."""
    load_script("training", "run_mtt").main(arguments)


class Settings(NamedTuple):
    """The settings of a command line.

    Attributes:
        options: of the command line, beside the training settings.
        resume: the checkpoint of ``--resume``, if it is given.
        config: the training settings.
    """

    options: argparse.Namespace
    resume: Checkpoint | None
    config: TrainConfig


def read_settings(arguments: Sequence[str] | None, processes: Processes) -> Settings:
    """The settings of the command line, read by the first process and checked against the number of processes.

    Raises:
        InputError: for settings that do not fit, in all processes.
    """
    settings = processes.from_first(lambda: parse_settings(arguments, processes.count))
    with processes.together():
        processes.check(settings.config.processes, settings.config.device)
    return settings


def parse_settings(arguments: Sequence[str] | None, processes: int = 1) -> Settings:
    """The settings of a command line, for so many processes."""
    options = make_parser().parse_args(arguments)
    option_checks.at_least_one(options, "final_steps")
    resume = mtt.checkpoint.load(options.resume) if options.resume else None
    return Settings(options, resume, resolve_config(options, resume, processes))


def make_parser() -> cli.Parser:
    """The options of the command line; the training settings come from `TrainConfig`."""
    parser = cli.parser(__doc__, "train")
    run = mtt.config.add_options(parser)["run"]
    names = ", ".join(mtt.config.config_names())
    run.add_argument(
        "--config", metavar="FILE", help=f"settings from a .toml file, from a run's config.json, or one of: {names}"
    )
    run.add_argument("--out", metavar="RUN", help="new run folder [runs/<dataset>-<method>-<seed>-<number>]")
    run.add_argument("--resume", metavar="RUN", help="continue this run with its settings")
    run.add_argument(
        "--final-steps",
        nargs="*",
        type=int,
        metavar="T",
        help="time steps of the closing table of test accuracies; without a number: no table"
        f" [{' '.join(map(str, TEST_TIME_STEPS))}]",
    )
    return parser


def resolve_config(options: argparse.Namespace, resume: Checkpoint | None, processes: int) -> TrainConfig:
    """Defaults < settings of the run that is resumed or that gives the first weights < the file < the command line."""
    given = mtt.config.read_config(mtt.config.find_config(options.config)) if options.config else {}
    given |= mtt.config.given_options(options)
    before: dict[str, Any] = {}
    if resume is not None:
        if options.out:
            raise InputError("--out names a new run folder and --resume an old one: give one of them")
        if hasattr(options, "init"):
            raise InputError("--init gives a new run its weights, and --resume continues an old one: give one of them")
        before = mtt.config.check_values(resume.config, options.resume)
    elif given.get("init") is not None:
        before = mtt.config.check_values(mtt.checkpoint.load(given["init"]).config, given["init"])
        del before["phase"]
    if "dataset" not in given:
        check_not_a_reference(before.get("dataset"))
    config = TrainConfig(**before | {"processes": processes} | given)
    for sentence in mtt.config.without_effect(vars(options), config):
        notice(sentence)
    return config


def is_finished(settings: Settings) -> bool:
    """Whether ``--resume`` names a run with nothing left to do, which is then printed with the next command.

    Raises:
        InputError: if its folder takes no files, or the settings are not those of the run.
    """
    if settings.resume is None or settings.resume.epoch < settings.config.epochs:
        return False
    folder = resumed_folder(settings.options.resume)
    if not (folder / run_files.MODEL).is_file():  # stopped between the last epoch and the export
        return False
    before, config = settings.resume, settings.config
    mtt.checkpoint.check_same("config", before.config, config.as_dict(), mtt.config.FREE_TO_CHANGE)
    print(f"{folder}: this run is finished ({before.epoch} of {config.epochs} epochs)")
    print_next_command(folder, config)
    return True


def build_network(config: TrainConfig, splits: Splits, processes: Processes) -> Staged:
    """A fresh network for the training data, on the device of this process.

    Raises:
        InputError: see `mtt.build_model`, in all processes.
    """
    with processes.together():
        mtt.build.check_computes(config.device)
        return mtt.build_model(config, splits.train)


def open_folder(settings: Settings) -> Path:
    """The folder of the run: that of ``--resume``, or a new one.

    Raises:
        InputError: if it cannot be written, or a new one is not empty.
    """
    if settings.resume is not None:
        return resumed_folder(settings.options.resume)
    return new_run_folder(settings.options.out, settings.config)


def print_summary(config: TrainConfig, splits: Splits, model: Staged, folder: Path) -> None:
    """Data, network and folder, before the training."""
    kind = "recordings" if isinstance(splits.train, Recordings) else "images"
    sizes = f"{len(splits.train)} training, {len(splits.validation)} validation, {len(splits.test)} test {kind}"
    print(f"{splits.train.title}: {sizes}")
    weights = sum(p.numel() for p in model.parameters())
    print(f"{config.model}, {weights} parameters, {config.method.upper()}, T <= {config.time_steps} -> {folder}")
    if config.processes > 1:
        print(f"{config.processes} processes, batches of {config.processes} x {config.batch_size} {kind}")


@contextmanager
def resume_hint(folder: Path, config: TrainConfig, processes: Processes) -> Iterator[None]:
    """A Ctrl-C or signal within prints what is kept and the command that goes on, and exits.

    So does the end of another process.

    A folder without a checkpoint is removed, however the block ends.
    """
    try:
        try:
            yield
        finally:
            if processes.first:
                run_folder.remove_unstarted(folder)
    except KeyboardInterrupt as stop:
        print(f"\n{exit_status.stopped(stop)}; {resume_command(folder, config, processes)}")
        sys.exit(exit_status.status(stop))
    except RuntimeError as error:
        if is_lost(error):
            print(f"\nstopped; {resume_command(folder, config, processes)}", flush=True)
        raise


def resume_command(folder: Path, config: TrainConfig, processes: Processes) -> str:
    """What a stopped training leaves, and the command that goes on with it."""
    if (folder / run_files.MODEL).is_file():  # stopped in the closing table
        return f"the training is finished, and its network is kept: {folder / run_files.MODEL}"
    if not (folder / mtt.checkpoint.FILE_NAME).is_file():
        return "there is no checkpoint yet: start anew"
    command = "mtt-brian train" if processes.count == 1 else f"{processes.launcher} -m mtt_brian train"
    resume = f"{command} --resume {shlex.quote(str(folder))}{_dataset_option(config)}"
    return f"the finished epochs are kept. Go on with:\n  {resume}"


def _dataset_option(config: TrainConfig) -> str:
    """The option that a command needs beside a run folder, because it imports no module that only a run names."""
    return f" --dataset {config.dataset}" if is_reference(config.dataset) else ""


def new_run_folder(out: str | None, config: TrainConfig) -> Path:
    """``out``, which must be empty, or a new folder under runs/; created and reserved for this run.

    Raises:
        InputError: if it holds something, cannot be made, or takes no files.
    """
    if out == "":
        raise InputError("--out: the name of the folder is empty")
    try:
        if out is None:
            run = files.new_folder(
                run_folder.RUNS, f"{find_dataset(config.dataset).name}-{config.method}-{config.seed}"
            )
        else:
            run = Path(out)
            if os.path.lexists(run) and (not run.is_dir() or any(run.iterdir())):
                raise _taken(run)
            files.make_folder(run)
        with files.removed_if_empty(run):
            files.check_writable(run)
            try:
                run_folder.claim(run, config)
            except FileExistsError:  # another training was first
                raise _taken(run) from None
    except InputError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL or half a surrogate pair in the name
        raise InputError(f"--out {out or run_folder.RUNS}: {getattr(error, 'strerror', None) or error}") from None
    return run


def _taken(run: Path) -> InputError:
    return InputError(f"{run} is not an empty folder; name another one{run_folder.resume_advice(run)}")


def resumed_folder(name: str) -> Path:
    """The folder of the run to continue; ``name`` is the folder or its checkpoint.

    Raises:
        InputError: if it takes no files.
    """
    run = Path(name).parent if Path(name).is_file() else Path(name)
    try:
        files.check_writable(run)
    except OSError as error:
        raise InputError(f"--resume {files.reason(error)}") from None
    files.remove_left_behind(run)
    return run


def print_accuracies(model: Staged, test: Data, settings: Settings) -> None:
    """Time-stepped accuracy on the test data; recordings are binned anew for each number of time steps."""
    numbers = final_steps(settings, test)
    if not numbers:
        return
    notice(f"testing at T = {', '.join(map(str, numbers))}")
    logits = mtt.predict_each(model, test, numbers, workers=settings.config.workers)
    print(f"\ntest accuracy, time-stepped, {len(test)} of {test.title}\n   T   accuracy   standard error", flush=True)
    for time_steps in numbers:
        measured = evaluate.accuracy(logits[time_steps].argmax(1), test.labels)
        print(f"{time_steps:4d}   {measured.value:7.1%}    {measured.standard_error:7.1%}", flush=True)


def final_steps(settings: Settings, test: Data) -> Sequence[int]:
    """The time steps of the closing table."""
    if settings.options.final_steps is not None:
        return tuple(dict.fromkeys(settings.options.final_steps))
    return TEST_TIME_STEPS if isinstance(test, Recordings) else TEST_TIME_STEPS_IMAGES


def print_next_command(folder: Path, config: TrainConfig) -> None:
    """The command that evaluates the run event by event; still images have no events."""
    if isinstance(find_dataset(config.dataset), EventDataset):
        print("\nNext, the same weights in continuous time, event by event:")
        print(f"  mtt-brian eval {shlex.quote(str(folder))}{_dataset_option(config)}")
