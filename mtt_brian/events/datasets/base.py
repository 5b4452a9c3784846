"""What a data set is to this package, and what its readers share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.recording import EVENT_DTYPE, SensorSize

SPLITS = ("train", "test")


class Source(NamedTuple):
    """Recordings found at one place.

    Attributes:
        ids: one per recording, in stable order.
        labels: class index of each.
        read: gives the recording for an id; raises InputError, with the file's name, where it cannot.
    """

    ids: list[str]
    labels: list[int]
    read: Callable[[str], np.ndarray]


class Stills(NamedTuple):
    """Still images found at one place.

    Attributes:
        ids: one per image, in stable order.
        labels: class index of each, int64 [N].
        pixels: uint8 [N, C, H, W].
    """

    ids: list[str]
    labels: np.ndarray
    pixels: np.ndarray


Found = TypeVar("Found", Source, Stills)


@dataclass(frozen=True, kw_only=True)
class Dataset(Generic[Found]):
    """How to find and read one data set: an `EventDataset` or an `ImageDataset`.

    Attributes:
        name: as `load` takes it.
        title: for people.
        sensor_size: (C, H, W).
        classes: class names; a label is an index into them.
        open: finds the data of a split in a folder (folder, split), empty if there are none; None for built-in data.
        folders: where, below ``root``, the data may lie ("" is ``root`` itself).
        layout: what is looked for in these folders.
        how_to_get: how to obtain the data by hand.
        download: fetches a split into ``root``; None where no working download exists.
    """

    name: str
    title: str
    sensor_size: SensorSize
    classes: tuple[str, ...]
    open: Callable[[Path, str], Found] | None = None
    folders: tuple[str, ...] = ("",)
    layout: str = ""
    how_to_get: str = ""
    download: Callable[[Path, str], None] | None = None


@dataclass(frozen=True, kw_only=True)
class EventDataset(Dataset[Source]):
    """Recordings: `load` gives `Recordings`.

    Attributes:
        duration_us: the usual length of a recording (not an upper bound).
        generate: makes a split of built-in data (split, progress); None for data in a folder.
    """

    duration_us: int
    generate: Callable[[str, bool], Source] | None = None


@dataclass(frozen=True, kw_only=True)
class ImageDataset(Dataset[Stills]):
    """Still images: `load` gives `Images`.

    Attributes:
        mean, std: of every channel of the training images, for intensities 0..1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


def require(module: str, install: str = 'pip install "mtt_brian[train]"') -> ModuleType:
    """Import an optional dependency now that something needs it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(f"this data set needs the package {module!r} ({error}); get it with: {install}") from None


def natural_order(names: Iterable[str]) -> list[str]:
    """Sorted with runs of digits compared as numbers: a2 before a10."""
    return sorted(names, key=lambda name: [(int(s), s) if s.isdigit() else (-1, s) for s in re.split(r"(\d+)", name)])


def files_by_class(folder: Path, classes: Iterable[str], suffixes: tuple[str, ...]) -> list[tuple[str, int]]:
    """(file name relative to ``folder``, label) of every ``folder/<class>/*<suffix>``, by class, then number."""
    found = []
    for label, name in enumerate(classes):
        if (folder / name).is_dir():
            files = [path.name for path in (folder / name).iterdir() if path.name.endswith(suffixes)]
            found += [(f"{name}/{file}", label) for file in natural_order(files)]
    return found


def to_events(t: np.ndarray, x: np.ndarray, y: np.ndarray | int, p: np.ndarray | int) -> np.ndarray:
    """Columns of a file, in whatever integer types, as a recording; values too large for `EVENT_DTYPE` are clipped.

    Clipping keeps a wild coordinate wild: the check against the sensor refuses it; a cast could wrap it into range.
    """
    recording = np.empty(len(t), dtype=EVENT_DTYPE)
    for name, column in (("t", t), ("x", x), ("y", y), ("p", p)):
        if np.ndim(column) and np.shape(column) != np.shape(t):
            raise ValueError(f"{len(t)} times, but {np.size(column)} values {name}")
        limits = np.iinfo(EVENT_DTYPE[name])
        recording[name] = np.clip(np.asarray(column).astype(np.int64), limits.min, limits.max)
    return recording


def from_first_event(recording: np.ndarray) -> np.ndarray:
    """The same recording with time 0 at its first event, for files whose clock starts anywhere."""
    if recording.size:
        recording["t"] -= recording["t"][0]
    return recording


def check_labels(labels: np.ndarray, classes: int, path: Path) -> None:
    """Refuse class indices outside 0..classes-1, naming the file they are from."""
    if labels.size and labels.max() >= classes:
        wrong = int(np.flatnonzero(labels >= classes)[0])
        raise InputError(f"{path}: label {labels[wrong]} of image {wrong}, expected 0..{classes - 1}")


def read_checked(path: Path, kind: str, read: Callable[[], np.ndarray]) -> np.ndarray:
    """Run a reader of somebody else's: whatever it stumbles over becomes an InputError that names the file."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not path.stat().st_size:
        raise InputError(f"{path}: empty file, truncated on its way here?")
    try:
        return read()
    except InputError:
        raise
    except Exception as error:  # readers meet a broken file with anything from struct.error to UnboundLocalError
        reason = " ".join(str(error).split()) or "no reason given"
        raise InputError(f"{path}: cannot be read as {kind} ({type(error).__name__}: {reason})") from error
