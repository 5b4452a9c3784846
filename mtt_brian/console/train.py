"""Train a spiking network with mixed time steps (MTT), or with SDT or NMT to compare.

python training/run_mtt.py                                   # built-in data (a simulated event camera), MTT
python training/run_mtt.py --method sdt                      # the same network with one fixed number of time steps
python training/run_mtt.py --dataset nmnist --data-root DIR  # N-MNIST from a local folder, complete or in part
python training/run_mtt.py --dataset mnist --data-root DIR   # still images, the same at every time step
python training/run_mtt.py --config training/configs/small/nmnist.toml --seed 1   # a file; options override it
python training/run_mtt.py --init RUN --phase bias-removal --epochs 20 --lr 1e-3  # RUN's settings, where not given anew
python training/run_mtt.py --resume runs/digits-mtt-0-001    # go on where a run was stopped (Ctrl-C)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtt_brian import evaluate, mtt, runs, study
from mtt_brian.errors import InputError
from mtt_brian.events import Recordings
from mtt_brian.mtt import Checkpoint, Data, TrainConfig
from mtt_brian.snn import Staged

#: The grids of the closing table. The last ones are far finer than anything trained on.
TEST_TIME_STEPS = (1, 2, 5, 10, 20, 50, 150)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    resume = mtt.checkpoint.load(options.resume) if options.resume else None
    config = settle_config(options, resume)

    splits = runs.load_splits(config)
    model = mtt.build_model(config, splits.train)
    run = run_folder(options.out, config) if resume is None else Path(options.resume)
    kind = "recordings" if isinstance(splits.train, Recordings) else "images"
    sizes = f"{len(splits.train)} training, {len(splits.validation)} validation, {len(splits.test)} test {kind}"
    print(f"{splits.train.title}: {sizes}")
    weights = sum(p.numel() for p in model.parameters())
    print(f"{config.model}, {weights} parameters, {config.method.upper()}, T <= {config.time_steps} -> {run}")
    try:
        runs.train(model, config, splits, run, resume)
    except KeyboardInterrupt:
        print(f"\nstopped; the finished epochs are kept. Go on with:\n  python {sys.argv[0]} --resume {run}")
        sys.exit(130)
    print_accuracies(model, splits.test)
    if isinstance(splits.test, Recordings):
        print("\nNext, the same weights event by event, without a time grid:")
        print(f"  python studies/event_driven_eval.py {run}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; the training settings come from `TrainConfig`."""
    parser = study.parser(__doc__)
    parser.add_argument("--config", metavar="FILE", help="settings from a .toml file, or a run's config.json")
    parser.add_argument("--out", metavar="RUN", help="new run folder [runs/<dataset>-<method>-<seed>-<number>]")
    parser.add_argument("--resume", metavar="RUN", help="go on with this run; its settings stay")
    mtt.config.add_options(parser)
    return parser.parse_args(arguments)


def settle_config(options: argparse.Namespace, resume: Checkpoint | None) -> TrainConfig:
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
    return TrainConfig(**before | given)


def run_folder(out: str | None, config: TrainConfig) -> Path:
    """``out``, which may not hold anything yet, or a new number under runs/."""
    if out is None:
        return runs.new_folder(runs.RUNS, f"{config.dataset}-{config.method}-{config.seed}")
    run = Path(out)
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise InputError(f"{run} is not an empty folder; name another one, or continue a run with --resume {run}")
    return run


def print_accuracies(model: Staged, test: Data) -> None:
    """Time-stepped accuracy on the test data; recordings are binned anew for each number of time steps."""
    print(f"\ntest accuracy, time-stepped, {len(test)} of {test.title}\n   T   accuracy   standard error")
    # More steps show recordings more finely, but a still image only longer.
    for time_steps in TEST_TIME_STEPS if isinstance(test, Recordings) else (1, 2, 5, 10, 20):
        measured = evaluate.accuracy(mtt.predict(model, test, time_steps).argmax(1), test.labels)
        print(f"{time_steps:4d}   {measured.value:7.1%}    {measured.standard_error:7.1%}")
