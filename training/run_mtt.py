"""Train a spiking network with mixed time steps (MTT), or with SDT or NMT to compare.

python training/run_mtt.py                                   # built-in data (a simulated event camera), MTT
python training/run_mtt.py --method sdt                      # the same network with one fixed number of time steps
python training/run_mtt.py --dataset nmnist --data-root DIR  # N-MNIST from a local folder, complete or in part
python training/run_mtt.py --config my.toml --seed 1         # settings from a file; the command line overrides them
python training/run_mtt.py --resume runs/digits-mtt-0-001    # go on where a run was stopped (Ctrl-C)
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# OpenMP threads that spin while they wait take the cores from each other as soon as anything else runs on the machine:
# an epoch of 3 s was seen to take 40. Read when torch is imported, so it has to be said first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


from mtt_brian import evaluate, mtt, runs
from mtt_brian.errors import InputError
from mtt_brian.events import Recordings
from mtt_brian.mtt import Checkpoint, TrainConfig
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
    sizes = f"{len(splits.train)} training, {len(splits.validation)} validation, {len(splits.test)} test recordings"
    print(f"{splits.train.title}: {sizes}")
    weights = sum(p.numel() for p in model.parameters())
    print(f"{config.model}, {weights} parameters, {config.method.upper()}, T <= {config.time_steps} -> {run}")
    try:
        runs.train(model, config, splits, run, resume)
    except KeyboardInterrupt:
        print(f"\nstopped; the finished epochs are kept. Go on with:\n  python {sys.argv[0]} --resume {run}")
        sys.exit(130)
    print_accuracies(model, splits.test)
    print(f"\nNext, the same weights event by event, without a time grid:\n  python studies/event_driven_eval.py {run}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; the training settings come from `TrainConfig`."""
    assert __doc__ is not None
    summary, _, examples = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog="examples:\n" + examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", metavar="FILE", help="settings from a .toml file, or a run's config.json")
    parser.add_argument("--out", metavar="RUN", help="new run folder [runs/<dataset>-<method>-<seed>-<number>]")
    parser.add_argument("--resume", metavar="RUN", help="go on with this run; its settings stay")
    mtt.config.add_options(parser)
    return parser.parse_args(arguments)


def settle_config(options: argparse.Namespace, resume: Checkpoint | None) -> TrainConfig:
    """Defaults < the resumed run's settings < the file < the command line."""
    settings: dict[str, Any] = {}
    if resume is not None:
        if options.out:
            raise InputError("--out names a new run folder and --resume an old one: give one of them")
        settings |= mtt.config.check_values(resume.config, options.resume)
    if options.config:
        settings |= mtt.config.read_config(options.config)
    return TrainConfig(**settings | mtt.config.given_options(options))


def run_folder(out: str | None, config: TrainConfig) -> Path:
    """``out``, which may not hold anything yet, or a new number under runs/."""
    if out is None:
        return runs.new_folder(runs.RUNS, f"{config.dataset}-{config.method}-{config.seed}")
    run = Path(out)
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise InputError(f"{run} is not an empty folder; name another one, or continue a run with --resume {run}")
    return run


def print_accuracies(model: Staged, test: Recordings) -> None:
    """Time-stepped accuracy on the test recordings, binned anew for each number of time steps."""
    print(f"\ntest accuracy, time-stepped, {len(test)} recordings\n   T   accuracy   standard error")
    for time_steps in TEST_TIME_STEPS:
        measured = evaluate.accuracy(mtt.predict(model, test, time_steps).argmax(1), test.labels)
        print(f"{time_steps:4d}   {measured.value:7.1%}    {measured.standard_error:7.1%}")


if __name__ == "__main__":
    try:
        main()
    except (InputError, mtt.Diverged) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
