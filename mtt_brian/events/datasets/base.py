"""Types of data sets: `EventDataset` and `ImageDataset`, and helpers for their readers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.recording import SensorSize
from mtt_brian.repository import pip_install

SPLITS = ("train", "test")


class RecordingIndex(NamedTuple):
    """The recordings of one split in a folder, each read on access.

    Attributes:
        ids: one per recording, in stable order.
        labels: class index of each.
        read: gives the recording for an id; may raise any error if it is unreadable.
    """

    ids: list[str]
    labels: list[int]
    read: Callable[[str], np.ndarray]


class ImageArrays(NamedTuple):
    """The still images of one split in a folder, in memory.

    Attributes:
        ids: one per image, in stable order.
        labels: class index of each, int64 [N].
        pixels: uint8 [N, C, H, W].
    """

    ids: list[str]
    labels: np.ndarray
    pixels: np.ndarray


Found = TypeVar("Found", RecordingIndex, ImageArrays)


@dataclass(frozen=True, kw_only=True)
class Dataset(Generic[Found]):
    """How to find and read one data set: an `EventDataset` or an `ImageDataset`.

    Attributes:
        name: as in `load`.
        title: for texts and figures.
        sensor_size: (C, H, W).
        classes: class names; a label is an index into them.
        open: finds the data of a split in a folder (folder, split), empty if there are none; None for built-in data.
        folders: folders below ``root`` that may contain the data ("" is ``root`` itself).
        layout: description of the expected files in these folders.
        how_to_get: how to obtain the data by hand.
        download: fetches a split into ``root``; None if no working download exists.
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
class EventDataset(Dataset[RecordingIndex]):
    """Recordings: `load` gives `Recordings`.

    Attributes:
        duration_us: the usual length of a recording (not an upper bound).
        generate: makes a split of built-in data (split, progress); None for data in a folder.
    """

    duration_us: int
    generate: Callable[[str, bool], RecordingIndex] | None = None


@dataclass(frozen=True, kw_only=True)
class ImageDataset(Dataset[ImageArrays]):
    """Still images: `load` gives `Images`.

    Attributes:
        mean, std: of every channel of the training images, for intensities 0..1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


def require(module: str) -> ModuleType:
    """Import an optional dependency.

    Raises:
        InputError: if it is not installed; the message contains the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        install = pip_install('"mtt_brian[train]"')
        raise InputError(f"this data set needs the package {module!r} ({error}); get it with: {install}") from None


def natural_order(names: Iterable[str]) -> list[str]:
    """Sorted with runs of digits compared as numbers: a2 before a10."""
    return sorted(names, key=lambda name: [(int(s), s) if s.isdigit() else (-1, s) for s in re.split(r"(\d+)", name)])


def files_by_class(folder: Path, classes: Iterable[str], suffixes: tuple[str, ...]) -> dict[str, int]:
    """File name relative to ``folder`` -> label of every ``folder/<class>/*<suffix>``, by class, then number.

    Hidden files are left out: macOS puts a ``._name`` beside a file that it copies to another file system.
    """
    found: dict[str, int] = {}
    for label, name in enumerate(classes):
        if (folder / name).is_dir():
            files = [path.name for path in (folder / name).iterdir() if path.name.endswith(suffixes)]
            files = [file for file in files if not file.startswith(".")]
            found |= {f"{name}/{file}": label for file in natural_order(files)}
    return found


def files_there(folder: Path, names: Iterable[str]) -> list[Path]:
    """The files of a folder with these names; those that are missing are left out.

    Raises:
        InputError: if a name is that of a folder, of a link to nothing or of a device.
    """
    found = []
    for path in (folder / name for name in names):
        if path.is_file():
            found.append(path)
        elif os.path.lexists(path):
            what = "a folder" if path.is_dir() else "a link to nothing" if path.is_symlink() else "no regular file"
            raise InputError(f"{path}: is {what}; accepted is a file, or nothing of this name")
    return found


def check_labels(labels: np.ndarray, classes: int, path: Path) -> None:
    """Refuse class indices outside 0..classes-1, naming the file they are from."""
    if labels.size and labels.max() >= classes:
        wrong = int(np.flatnonzero(labels >= classes)[0])
        raise InputError(f"{path}: label {labels[wrong]} of image {wrong}, expected 0..{classes - 1}")
