"""Types of data sets: `EventDataset` and `ImageDataset`, and helpers for their readers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.recording import SensorSize
from mtt_brian.files import warn_of_data
from mtt_brian.repository import pip_install
from mtt_brian.text import listed

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


#: Names of files and folders that systems and authors put beside data.
_CLUTTER = re.compile(
    r"\..*|thumbs\.db|desktop\.ini|__macosx|@eadir|lost\+found|\$recycle\.bin|system volume information"
    r"|(readme|licen[cs]e|copying|citation|changelog)\b.*",
    re.IGNORECASE,
)
#: What a copy has at the end of its name: "00001 (1).bin", "00001 - Copy.bin", "00001 copy 2.bin".
_COPY = re.compile(r"( \(\d+\)|[ _-]+copy( ?\d+)?)+$", re.IGNORECASE)


def data_names(folder: Path) -> list[str]:
    """Names in a folder in `natural_order`, without hidden ones, files of the system, readme and licence.

    macOS puts a ``._name`` beside a file that it copies to another file system.
    """
    return natural_order(path.name for path in folder.iterdir() if not _CLUTTER.fullmatch(path.name))


def files_by_class(folder: Path, classes: Iterable[str], suffixes: tuple[str, ...]) -> dict[str, int]:
    """File name relative to ``folder`` -> label of every ``folder/<class>/*<suffix>``, by class, then number.

    The suffix may be in upper case. What else is in these folders or beside them gives a warning.

    Args:
        folder: of the folders of the classes; those of some classes may be missing.
        classes: their names, in the order of the labels.
        suffixes: in lower case.

    Raises:
        InputError: if a class is no folder, or two files are one recording.
    """
    found: dict[str, int] = {}
    unused: list[str] = []
    read: set[tuple[int, int]] = set()
    for label, name in enumerate(classes):
        if not is_folder_there(folder / name):
            continue
        read.add(_place(folder / name))
        inside = data_names(folder / name)
        files = [file for file in inside if file.lower().endswith(suffixes)]
        unused += [f"{name}/{file}" for file in inside if not file.lower().endswith(suffixes)]
        check_copies(folder / name, files)
        found |= {f"{name}/{file}": label for file in files}
    if read:  # a name in another case may be the same folder
        others = [name for name in data_names(folder) if (folder / name).is_dir()]
        unused += [name for name in others if _place(folder / name) not in read]
    warn_of_unused(folder, unused, f"<class>/*{' and *'.join(suffixes)}")
    return found


def _place(path: Path) -> tuple[int, int]:
    """What tells a folder from others, whatever its name is."""
    about = os.stat(path)
    return about.st_dev, about.st_ino


def is_folder_there(path: Path) -> bool:
    """Whether there is a folder of this name.

    Raises:
        InputError: for a file, or a link to nothing.
    """
    if not path.is_dir() and os.path.lexists(path):
        what = "a link to nothing" if not path.exists() else "no folder"
        raise InputError(f"{path}: is {what}; accepted is a folder, or nothing of this name")
    return path.is_dir()


def check_copies(folder: Path, files: Iterable[str]) -> None:
    """Refuses two files whose names differ in the ending, in upper and lower case, or in the mark of a copy.

    Raises:
        InputError: naming both.
    """
    first: dict[str, str] = {}
    stems = [(os.path.splitext(file)[0].lower(), file) for file in files]
    pairs = [(first.setdefault(stem, file), file) for stem, file in stems]
    pairs += [(first.get(_COPY.sub("", stem), file), file) for stem, file in stems]
    for other, file in pairs:
        if other != file:
            raise InputError(f"{folder}: {other} and {file} are one recording, by their names; keep one of them")


def warn_of_unused(folder: Path, names: Sequence[str], read: str) -> None:
    """Warns of what is in a folder of a data set and is not read, if there is something.

    Args:
        folder: that holds it.
        names: relative to the folder.
        read: what is read.
    """
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        warn_of_data(f"{folder}: not read: {listed(names[:_NAMED])}{more}; read are {read}")


#: Most names in a warning.
_NAMED = 5


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
