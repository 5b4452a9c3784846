"""DVS-Gesture: 11 hand gestures of 29 people under several lights, recorded with a DVS128.

Amir et al., "A Low Power, Fully Event-Based Gesture Recognition System", CVPR 2017. Read from the authors' files (one
long AEDAT 3.1 file per person and light, with a table of its trials) or from tonic's copy (one .npy file per trial,
times rounded to milliseconds). The official split is by person: 1-23 for training, 24-29 for testing.
"""

from __future__ import annotations

import re
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.datasets.base import (
    EventDataset,
    RecordingIndex,
    check_copies,
    data_names,
    is_folder_there,
    warn_of_unused,
)
from mtt_brian.events.formats.aedat import read_aedat3
from mtt_brian.events.formats.columns import from_first_event, read_checked, to_events
from mtt_brian.events.formats.table import load_numpy
from mtt_brian.files import warn_of_data

FIRST_TEST_USER = 24
_NPY_FOLDER = {"train": "ibmGestureTrain", "test": "ibmGestureTest"}
#: The camera is not silent for so long, so that a file whose last event is earlier ends early.
_SILENCE_US = 100_000
_CSV_COLUMNS = ["class", "startTime_usec", "endTime_usec"]

CLASSES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counterclockwise",
    "left arm clockwise",
    "left arm counterclockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)


def read_npy(folder: Path, identifier: str) -> np.ndarray:
    """One trial of tonic's copy: an array [E, 4] of x, y, p and t in milliseconds. Time 0 is the first event."""
    path = folder / identifier
    return from_first_event(read_checked(path, "an array of events", partial(_read_npy, path)))


def _read_npy(path: Path) -> np.ndarray:
    events = load_numpy(path)
    if not isinstance(events, np.ndarray) or events.dtype.kind not in "iuf":
        raise InputError(f"{path}: not an array of numbers [events, 4] of x, y, p and t in milliseconds")
    if events.ndim != 2 or events.shape[1] != 4 or not np.all(np.isfinite(events)):
        raise InputError(f"{path}: not an array [events, 4] of x, y, p and t in milliseconds, but {events.shape}")
    if np.any(fractions := events[:, :3] != np.rint(events[:, :3])):
        k = int(np.argmax(fractions.any(axis=1)))
        raise InputError(f"{path}: event {k} has x, y, p = {events[k, :3].tolist()}, which are not all whole numbers")
    x, y, p, t = np.rint(events * [1, 1, 1, 1000]).T
    return to_events(t, x, y, p)


def read_trial(folder: Path, identifier: str) -> np.ndarray:
    """One trial of the authors' files; ``identifier`` is "<file>.aedat#<row of its table of trials>".

    Time 0 is the start of the trial in the table. A file that ends during the trial gives a warning.

    Raises:
        InputError: for a file that cannot be read, or ends before the trial.
    """
    file, _, row = identifier.partition("#")
    _, start, end = _trials(folder / file)[int(row)]
    events = _events(folder / file)
    last = int(events["t"].max(initial=0))
    if last < end - _SILENCE_US:
        text = (
            f"{folder / file}: it ends at {last} us, and trial {int(row) + 1} of its table is from {start} to {end} us"
        )
        if last < start:
            raise InputError(f"{text}: an incomplete copy?")
        warn_of_data(f"{text}: the rest of the trial is missing")
    trial = events[(events["t"] >= start) & (events["t"] < end)]
    trial["t"] -= start
    return trial


@lru_cache(maxsize=1)  # the trials of a file are usually read one after the other
def _events(path: Path) -> np.ndarray:
    return read_checked(path, "AEDAT 3.1", partial(read_aedat3, path))


def _trials(path: Path) -> list[tuple[int, int, int]]:
    """(label, start, end in microseconds) of every trial in an .aedat file, from the table beside it."""
    table = _table_of(path)
    if not table.is_file():
        raise InputError(f"{table}: no such file; it lists the trials in {path.name}")
    return read_checked(table, "a table of trials", partial(_read_trials, table))


def _table_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}_labels.csv")


def _read_trials(table: Path) -> list[tuple[int, int, int]]:
    header, *rows = table.read_text(encoding="utf-8-sig").split() or [""]
    if header.split(",") != _CSV_COLUMNS:
        raise InputError(f"{table}: the first line must be {','.join(_CSV_COLUMNS)}, not {header}")
    trials = []
    for row in rows:
        match = re.fullmatch(r"(\d+),(\d+),(\d+)", row)
        if not match or not 1 <= int(match[1]) <= len(CLASSES):
            raise InputError(f"{table}: {row!r} is not class (1..{len(CLASSES)}), start and end in microseconds")
        if int(match[2]) >= int(match[3]):
            raise InputError(f"{table}: {row!r} is a trial that ends before it starts")
        trial = int(match[1]) - 1, int(match[2]), int(match[3])
        if trial in trials:
            raise InputError(f"{table}: {row!r} is there twice")
        trials.append(trial)
    return trials


def _user(name: str) -> int | None:
    match = re.match(r"user(\d+)_", name)
    return int(match[1]) if match else None


def _split_of(user: int) -> str:
    return "test" if user >= FIRST_TEST_USER else "train"


def _open(folder: Path, split: str) -> RecordingIndex:
    files = [name for name in data_names(folder) if re.search(r"\.aedat|_labels\.csv", name, re.IGNORECASE)]
    files = [name for name in files if (user := _user(name)) is None or _split_of(user) == split]
    if is_folder_there(folder / _NPY_FOLDER[split]):
        warn_of_unused(folder, files, f"the arrays in {_NPY_FOLDER[split]}")
        return _open_npy(folder, split)
    recorded = [name for name in files if _user(name) is not None and name.lower().endswith(".aedat")]
    check_copies(folder, recorded)
    ids, labels = [], []
    for name in recorded:
        for row, (label, _, _) in enumerate(_trials(folder / name)):
            ids.append(f"{name}#{row}")
            labels.append(label)
    read = {*recorded, *(_table_of(folder / name).name for name in recorded)}
    if recorded:
        unused = [name for name in files if name not in read]
        warn_of_unused(folder, unused, "user<number>_<light>.aedat with user<number>_<light>_labels.csv")
    return RecordingIndex(ids, labels, partial(read_trial, folder))


def _open_npy(folder: Path, split: str) -> RecordingIndex:
    """tonic reads whatever is in the folder of a split; a person of the other split would be in both."""
    ids: list[str] = []
    labels: list[int] = []
    unused: list[str] = []
    part = _NPY_FOLDER[split]
    people = [name for name in data_names(folder / part) if is_folder_there(folder / part / name)]
    for name in (f"{person}/{file}" for person in people for file in data_names(folder / part / person)):
        label, user = Path(name).stem, _user(name)
        if user is None or not name.lower().endswith(".npy"):
            unused.append(name)
            continue
        if _split_of(user) != split:
            raise InputError(
                f"{folder / part / name}: user {user} belongs to the {_split_of(user)} split (users below "
                f"{FIRST_TEST_USER} are for training); move the folder to {_NPY_FOLDER[_split_of(user)]}"
            )
        if not label.isdigit() or int(label) >= len(CLASSES):
            raise InputError(f"{folder / part / name}: must be called <label>.npy, label 0..{len(CLASSES) - 1}")
        ids.append(f"{part}/{name}")
        labels.append(int(label))
    check_copies(folder / part, (identifier.removeprefix(f"{part}/") for identifier in ids))
    warn_of_unused(folder / part, unused, "user<number>_<light>/<label>.npy")
    return RecordingIndex(ids, labels, partial(read_npy, folder))


DVSGESTURE = EventDataset(
    name="dvsgesture",
    title="DVS-Gesture",
    sensor_size=(2, 128, 128),
    classes=CLASSES,
    duration_us=6_000_000,
    open=_open,
    folders=("", "DVSGesture", "DvsGesture"),
    layout="user<number>_<light>.aedat beside user<number>_<light>_labels.csv, or"
    " ibmGestureTrain/user<number>_<light>/<label>.npy and ibmGestureTest/...",
    how_to_get="the automatic download has been broken for some time; in a browser, download DvsGesture.tar.gz from"
    " https://research.ibm.com/interactive/dvsgesture/ (or tonic's ibmGestureTrain.tar.gz and ibmGestureTest.tar.gz,"
    " files 38022171 and 38020584 of figshare) and unpack it",
)
