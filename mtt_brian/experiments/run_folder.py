"""Run folders: the files of a training run.

A run folder holds ``config.json`` (the settings), ``versions.json``, ``metrics.jsonl`` (a line per epoch),
``checkpoint.pt``, and, once the training has ended, ``model.nir`` and ``training.png``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import nir

from mtt_brian import events, export, mtt, plotting
from mtt_brian.errors import InputError
from mtt_brian.evaluate.statistics import same_but_seed
from mtt_brian.events import Images, Recordings
from mtt_brian.events.collections import SomeCollection, some_of
from mtt_brian.events.datasets import check_not_a_reference, names_of_recordings
from mtt_brian.experiments.run_files import CONFIG, MODEL, VERSIONS
from mtt_brian.files import as_path, create_text, file_digest, json_text, versions, write_json
from mtt_brian.mtt import Checkpoint, Data, TrainConfig
from mtt_brian.mtt.config import FREE_TO_CHANGE
from mtt_brian.mtt.distributed.processes import ALONE, Processes
from mtt_brian.snn import Staged

#: The parent folder of runs without --out.
RUNS = Path("runs")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Run:
    """A finished training run.

    Attributes:
        name: of the folder.
        folder: its path.
        config: its ``config.json``.
    """

    name: str
    folder: Path
    config: dict[str, Any]

    @property
    def model(self) -> Path:
        """Path of its ``model.nir``."""
        return self.folder / MODEL

    @property
    def digest(self) -> str:
        """SHA-256 of the model."""
        return file_digest(self.model)


class Splits(NamedTuple):
    """Recordings or images of one training; ``validation`` is empty if the settings have no validation data."""

    train: Data
    validation: Data
    test: Data


def load_splits(config: TrainConfig) -> Splits:
    """The recordings or images of the settings; a warning is logged for every skipped file."""

    def load(split: str) -> Data:
        data = report_bad(
            events.load(
                config.dataset, root=config.data_root, split=split, skip_bad=config.skip_bad, download=config.download
            )
        )
        if config.resolution is not None:
            data = events.at_resolution(data, config.resolution)
        return some_of(data, config.limit, config.seed)

    train = load("train")
    validation: Data = train.subset([])
    if config.validation:
        train, validation = events.split_validation(train, config.validation, config.seed)
    return Splits(train, validation, load("test"))


def report_bad(data: SomeCollection) -> SomeCollection:
    """Log a warning for every item that could not be read."""
    for name, reason in data.bad:
        _log.warning("left out: %s: %s", name, reason)
    return data


def train(
    model: Staged,
    config: TrainConfig,
    splits: Splits,
    folder: Path,
    resume: Checkpoint | None = None,
    processes: Processes = ALONE,
) -> Checkpoint:
    """Trains a network and writes a complete run folder.

    Args:
        model: of `mtt.build_model`; trained in place.
        config: the settings.
        splits: of `load_splits`.
        folder: of the run; created if necessary. It must be empty except for a `claim`, or be that of ``resume``. It is
            removed if the training ends before its first checkpoint.
        resume: checkpoint to continue from.
        processes: of the training, see `mtt.fit`; the first one writes the files.

    Returns:
        The last checkpoint.

    Raises:
        InputError, mtt.Diverged, KeyboardInterrupt: see `mtt.fit`; InputError too for a network that `export.to_nir`
            refuses, before the training.
    """

    def to_nir() -> nir.NIRGraph:
        return export.to_nir(model, time_steps=config.time_steps, duration=_duration(splits.train, config.time_steps))

    if resume is None and processes.first:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG, config.as_dict())
        write_json(folder / VERSIONS, versions("torch", "numpy", "tonic", "nir"))
    try:
        with processes.together():
            to_nir()  # what cannot be exported is refused before the training
        done = mtt.fit(model, splits.train, config, folder, splits.validation, resume, processes)
    except BaseException:
        if resume is None and processes.first:
            remove_unstarted(folder)
        raise
    with processes.together():
        if processes.first:
            write_json(folder / CONFIG, config.as_dict())  # a resumed run may have another folder of the data
            graph = to_nir()
            with plotting.figure(folder / "training.png") as figure:
                plotting.training_curve(done.history, ax=figure.subplots())
            export.write(folder / MODEL, graph)  # last: its presence marks the end of the run
    return done


def claim(folder: Path, config: TrainConfig) -> None:
    """Claims an empty folder for one run: if several trainings try it at once, one succeeds.

    Raises:
        FileExistsError: if another run has claimed it.
    """
    create_text(folder / CONFIG, json_text(config.as_dict()))


def remove_unstarted(folder: Path) -> None:
    """Removes the files of a training without a checkpoint, which cannot be continued; keeps all others."""
    if (folder / mtt.checkpoint.FILE_NAME).exists():
        return
    with contextlib.suppress(OSError):
        for name in (CONFIG, VERSIONS):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _duration(data: Data, time_steps: int) -> float:
    """Seconds that ``time_steps`` steps cover; a step of a still image counts as a millisecond."""
    return data.duration_us / 1e6 if isinstance(data, Recordings) else time_steps * 1e-3


def trained(config: TrainConfig, splits: Splits, folder: Path) -> Run:
    """The run of these settings: read from ``folder`` if it is finished, continued if it was stopped, else trained.

    Raises:
        InputError: if the folder contains a run with other settings.
    """
    resume = mtt.checkpoint.load(folder) if (folder / mtt.checkpoint.FILE_NAME).is_file() else None
    if resume is not None:
        mtt.checkpoint.check_same(f"config ({folder})", resume.config, config.as_dict(), FREE_TO_CHANGE)
    if not (folder / MODEL).is_file():
        train(mtt.build_model(config, splits.train), config, splits, folder, resume)
    return load(folder)


def newest() -> Path:
    """The run below `RUNS` with the newest model.

    Raises:
        InputError: if there is none.
    """
    models = sorted(RUNS.glob(f"*/{MODEL}"), key=lambda path: path.stat().st_mtime_ns)
    if not models:
        raise InputError(f"no finished run under {RUNS}/; train one with: mtt-brian train")
    return models[-1].parent


def load(folder: Path) -> Run:
    """A run folder, checked for the files that studies need."""
    if not folder.is_dir():
        is_file = folder.is_file()
        raise InputError(f"{folder}: {'is a file, not the folder of a run' if is_file else 'no such run folder'}")
    if not (folder / MODEL).is_file():
        raise InputError(f"{folder}: no {MODEL}; a finished run has one{resume_advice(folder)}")
    config_file = folder / CONFIG
    if not config_file.is_file():
        raise InputError(f"{folder}: no {CONFIG}, which contains the settings of the training")
    config = mtt.config.read_config(config_file)
    missing = [key for key in ("method", "dataset", "time_steps") if key not in config]
    if missing:
        raise InputError(f"{config_file}: no {', '.join(missing)}")
    return Run(folder.resolve().name, folder, config)


def resume_advice(folder: Path) -> str:
    """The command that continues the run in a folder, for the end of a message; nothing if it has no checkpoint."""
    if not (folder / mtt.checkpoint.FILE_NAME).is_file():
        return ""
    return f"; continue a run with: mtt-brian train --resume {shlex.quote(str(folder))}"


def load_all(folders: Sequence[str | Path]) -> list[Run]:
    """Run folders, by default the newest; runs of one name get numbers, because tables and legends use the names."""
    runs = [load(as_path(folder, "folder")) for folder in folders or [newest()]]
    own = {run.name for run in runs}
    apart: dict[str, Run] = {}
    for run in runs:
        name, number = run.name, 2
        while name in apart or (name != run.name and name in own):  # a folder may be named "x (2)", too
            name, number = f"{run.name} ({number})", number + 1
        apart[name] = dataclasses.replace(run, name=name)
    return list(apart.values())


def by_method(runs: Mapping[str, Run]) -> dict[str, list[str]]:
    """Names of the runs that may be averaged, by a label: see `evaluate.statistics.same_but_seed`."""
    return same_but_seed({name: run.config for name, run in runs.items()}, FREE_TO_CHANGE)


def recordings_for(
    runs: Sequence[Run],
    *,
    dataset: str | None = None,
    data_root: str | None = None,
    split: str = "test",
    limit: int | None = None,
    skip_bad: bool = False,
) -> Recordings:
    """The test recordings of all runs.

    Args:
        runs: their data set and its folder are the defaults of the other arguments.
        dataset, data_root, split, skip_bad: as for `events.load`.
        limit: number of recordings, the same ones every time.

    Raises:
        InputError: if the runs were trained on different data and ``dataset`` is not given, if the data are still
            images, which have no events, or if there is no recording.
    """
    trained_on = {run.config["dataset"] for run in runs}
    if dataset is None and len(trained_on) > 1:
        raise InputError(f"the runs were trained on different data ({', '.join(sorted(trained_on))}): give --dataset")
    if not dataset:
        dataset = trained_on.pop()
        check_not_a_reference(dataset)
    root = data_root_for(runs, dataset, data_root)
    recordings = with_events(report_bad(events.load(dataset, root=root, split=split, skip_bad=skip_bad)))
    resolutions = {run.config.get("resolution") for run in runs}
    if len(resolutions) > 1:
        raise InputError(f"the runs use recordings at different resolutions: {', '.join(map(str, resolutions))}")
    if (resolution := resolutions.pop()) is not None:
        recordings = events.at_resolution(recordings, resolution)
    recordings = some_of(recordings, limit, seed=0)
    if not len(recordings):
        raise InputError(f"{recordings.title}, {recordings.split}: no recordings")
    return recordings


def data_root_for(runs: Sequence[Run], dataset: str, given: str | None) -> str | None:
    """The folder of a data set: the one ``given``, or that of the first run which was trained on this data set."""
    # The folder in a run is that of the run's data set, not of another one given here.
    roots = [run.config.get("data_root") for run in runs if run.config["dataset"] == dataset]
    return given or next((root for root in roots if root), None)


def with_events(data: Data) -> Recordings:
    """``data``, if they are recordings.

    Raises:
        InputError: for still images.
    """
    if isinstance(data, Images):
        recorded = ", ".join(names_of_recordings())
        raise InputError(
            f"{data.title} are still images: they have no events and no time, so no network can run on them event by"
            f" event; data sets of recordings: {recorded}"
        )
    return data
