"""Train a spiking network with mixed time steps (MTT), or with SDT or NMT to compare.

mtt-brian train                                   # built-in data (a simulated event camera), MTT
mtt-brian train --method sdt                      # the same network with one fixed number of time steps
mtt-brian train --dataset nmnist --data-root DIR  # N-MNIST from a local folder, complete or in part
mtt-brian train --config training/configs/small/mnist_vgg14.toml --data-root DIR   # still images
mtt-brian train --config training/configs/small/nmnist.toml --seed 1   # a file; options override it
mtt-brian train --init RUN --phase bias-removal --epochs 20 --lr 1e-3  # RUN's settings, where not given anew
mtt-brian train --resume runs/digits-mtt-0-001    # go on where a run was stopped (Ctrl-C)
torchrun --nproc-per-node 2 -m mtt_brian train --batch-size 16  # two processes share every iteration, 2 x 16
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtt_brian import cli, evaluate, files, mtt
from mtt_brian.cli import exit_status
from mtt_brian.errors import InputError
from mtt_brian.events import Recordings, find_dataset
from mtt_brian.events.datasets import is_reference
from mtt_brian.experiments import run_folder
from mtt_brian.mtt import Checkpoint, Data, TrainConfig
from mtt_brian.mtt.distributed import processes as distributed
from mtt_brian.snn import Staged

#: The grids of the closing table. The last ones are far finer than anything trained on.
TEST_TIME_STEPS = (1, 2, 5, 10, 20, 50, 150)


def main(arguments: Sequence[str] | None = None) -> None:
    with distributed.join() as processes:
        options, resume, config = processes.from_first(lambda: settle(arguments, processes.count))
        with processes.together():
            processes.settle(config)
        splits = processes.in_turn(lambda: run_folder.load_splits(config))
        with processes.together():
            mtt.build.check_computes(config.device)
            model = mtt.build_model(config, splits.train)
        run = processes.from_first(lambda: resumed(options.resume) if resume else new_run_folder(options.out, config))
        kind = "recordings" if isinstance(splits.train, Recordings) else "images"
        sizes = f"{len(splits.train)} training, {len(splits.validation)} validation, {len(splits.test)} test {kind}"
        print(f"{splits.train.title}: {sizes}")
        weights = sum(p.numel() for p in model.parameters())
        print(f"{config.model}, {weights} parameters, {config.method.upper()}, T <= {config.time_steps} -> {run}")
        if processes.count > 1:
            print(f"{processes.count} processes, batches of {processes.count} x {config.batch_size} {kind}")
        try:
            run_folder.train(model, config, splits, run, resume, processes)
        except KeyboardInterrupt as stop:
            print(f"\n{exit_status.stopped(stop)}; {what_is_kept(run, processes.launcher, config)}")
            sys.exit(exit_status.status(stop))
    if not processes.first:
        return
    print_accuracies(model, splits.test)
    if isinstance(splits.test, Recordings):
        print("\nNext, the same weights event by event, without a time grid:")
        dataset = f" --dataset {config.dataset}" if is_reference(config.dataset) else ""
        print(f"  mtt-brian eval {run}{dataset}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; the training settings come from `TrainConfig`."""
    parser = cli.parser(__doc__, "train")
    parser.add_argument("--config", metavar="FILE", help="settings from a .toml file, or a run's config.json")
    parser.add_argument("--out", metavar="RUN", help="new run folder [runs/<dataset>-<method>-<seed>-<number>]")
    parser.add_argument("--resume", metavar="RUN", help="go on with this run; its settings stay")
    mtt.config.add_options(parser)
    return parser.parse_args(arguments)


def settle(
    arguments: Sequence[str] | None, processes: int = 1
) -> tuple[argparse.Namespace, Checkpoint | None, TrainConfig]:
    """What the command line says: the options, the run to go on with, and the settings."""
    options = parse(arguments)
    resume = mtt.checkpoint.load(options.resume) if options.resume else None
    return options, resume, settle_config(options, resume, processes)


def settle_config(options: argparse.Namespace, resume: Checkpoint | None, processes: int) -> TrainConfig:
    """Defaults < settings of the run that is resumed or that gives the first weights < the file < the command line."""
    given = mtt.config.read_config(options.config) if options.config else {}
    given |= mtt.config.given_options(options)
    before: dict[str, Any] = {}
    if resume is not None:
        if options.out:
            raise InputError("--out names a new run folder and --resume an old one: give one of them")
        before = mtt.config.check_values(resume.config, options.resume)
    elif given.get("init") is not None:
        before = mtt.config.check_values(mtt.checkpoint.load(given["init"]).config, given["init"])
        del before["phase"]
    if "dataset" not in given and is_reference(name := before.get("dataset")):
        # A checkpoint can come from anywhere; what it names is not imported.
        raise InputError(f"the run was trained on the data set {name}; to import that module, give --dataset {name}")
    return TrainConfig(**before | {"processes": processes} | given)


def what_is_kept(run: Path, launcher: str, config: TrainConfig) -> str:
    """What a stopped training leaves, and the command that goes on with it."""
    if not (run / mtt.checkpoint.FILE_NAME).is_file():
        return "there is no checkpoint yet: start anew"
    dataset = f" --dataset {config.dataset}" if is_reference(config.dataset) else ""
    script = "-m mtt_brian train"
    return f"the finished epochs are kept. Go on with:\n  {launcher} {script} --resume {shlex.quote(str(run))}{dataset}"


def new_run_folder(out: str | None, config: TrainConfig) -> Path:
    """``out``, which may not hold anything yet, or a new number under runs/; made, and written to, for this run alone.

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
            run.mkdir(parents=True, exist_ok=True)
        with files.removed_if_empty(run):
            files.check_writable(run)
            try:
                run_folder.claim(run, config)
            except FileExistsError:  # another training was faster
                raise _taken(run) from None
    except InputError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL or half a surrogate pair in the name
        raise InputError(f"--out {out or run_folder.RUNS}: {getattr(error, 'strerror', None) or error}") from None
    return run


def _taken(run: Path) -> InputError:
    return InputError(f"{run} is not an empty folder; name another one, or continue a run with --resume {run}")


def resumed(name: str) -> Path:
    """The folder of the run to go on with, of which ``name`` may be the checkpoint.

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


def print_accuracies(model: Staged, test: Data) -> None:
    """Time-stepped accuracy on the test data; recordings are binned anew for each number of time steps."""
    print(f"\ntest accuracy, time-stepped, {len(test)} of {test.title}\n   T   accuracy   standard error")
    # More steps show recordings more finely, but a still image only longer.
    for time_steps in TEST_TIME_STEPS if isinstance(test, Recordings) else (1, 2, 5, 10, 20):
        measured = evaluate.accuracy(mtt.predict(model, test, time_steps).argmax(1), test.labels)
        print(f"{time_steps:4d}   {measured.value:7.1%}    {measured.standard_error:7.1%}")
