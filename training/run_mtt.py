"""Train a spiking network with mixed time steps (MTT), or with SDT or NMT to compare.

python training/run_mtt.py                                   # built-in data (a simulated event camera), MTT
python training/run_mtt.py --method sdt                      # the same network with one fixed number of time steps
python training/run_mtt.py --dataset nmnist --data-root DIR  # N-MNIST from a local folder, complete or in part
python training/run_mtt.py --config my.toml --seed 1         # settings from a file; the command line overrides them
python training/run_mtt.py --resume runs/digits-mtt-0-001    # go on where a run was stopped (Ctrl-C)
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

# OpenMP threads that spin while they wait take the cores from each other as soon as anything else runs on the machine:
# an epoch of 3 s was seen to take 40. Read when torch is imported, so it has to be said first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from matplotlib.figure import Figure

from mtt_brian import evaluate, events, export, mtt, plotting
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

    train, validation, test = load_recordings(config)
    model = mtt.build_model(config, train)
    if resume is None:
        run = new_run_folder(options.out, config)
        save_json(run / "config.json", config.as_dict())
        save_json(run / "versions.json", versions())
    else:
        run = Path(options.resume)
    weights = sum(p.numel() for p in model.parameters())
    print(f"{train.title}: {len(train)} training, {len(validation)} validation, {len(test)} test recordings")
    print(f"{config.model}, {weights} parameters, {config.method.upper()}, T <= {config.time_steps} -> {run}")

    try:
        done = mtt.fit(model, train, config, run, validation, resume)
    except KeyboardInterrupt:
        print(f"\nstopped; the finished epochs are kept. Go on with:\n  python {sys.argv[0]} --resume {run}")
        sys.exit(130)

    graph = export.to_nir(model, time_steps=config.time_steps, duration=train.duration_us * 1e-6)
    export.write(run / "model.nir", graph)
    plot_training(done, run / "training.png")
    print_accuracies(model, test)
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


def load_recordings(config: TrainConfig) -> tuple[Recordings, Recordings, Recordings]:
    """Training, validation (empty without ``validation``) and test recordings."""

    def load(split: str) -> Recordings:
        recordings = events.load(
            config.dataset, root=config.data_root, split=split, skip_bad=config.skip_bad, download=config.download
        )
        for name, reason in recordings.bad:
            print(f"left out: {name}: {reason}", file=sys.stderr)
        if config.limit is None or config.limit >= len(recordings):
            return recordings
        chosen = np.random.default_rng(config.seed).permutation(len(recordings))[: config.limit]
        return recordings.subset(np.sort(chosen))

    train = load("train")
    validation = train.subset([])
    if config.validation:
        train, validation = events.split_validation(train, config.validation, config.seed)
    return train, validation, load("test")


def new_run_folder(out: str | None, config: TrainConfig) -> Path:
    """``out``, or the first free number under runs/; made here."""
    if out is not None:
        run = Path(out)
        if run.exists() and (not run.is_dir() or any(run.iterdir())):
            raise InputError(f"{run} is not an empty folder; name another one, or continue a run with --resume {run}")
        run.mkdir(parents=True, exist_ok=True)
        return run
    for number in itertools.count(1):
        run = Path("runs") / f"{config.dataset}-{config.method}-{config.seed}-{number:03d}"
        try:
            run.mkdir(parents=True)
        except FileExistsError:
            continue
        return run
    raise AssertionError("unreachable")


def versions() -> dict[str, str]:
    """What computed this run."""
    packages = ("mtt_brian", "torch", "numpy", "tonic", "nir")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: metadata.version(name) for name in packages},
    }


def save_json(path: Path, content: dict[str, Any]) -> None:
    with mtt.replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def plot_training(done: Checkpoint, path: Path) -> None:
    """Loss and accuracy over the epochs."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    plotting.training_curve(done.history, ax=figure.subplots())
    with mtt.replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


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
