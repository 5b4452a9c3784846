"""A recording by its name: the path of a file, or its number in a data set."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.collections import Recordings
from mtt_brian.events.datasets import open_split
from mtt_brian.events.files import FORMATS, ending_of, read
from mtt_brian.events.resolution import at_resolution
from mtt_brian.files import as_path

#: The number of a recording in a file of several, behind the path.
_NUMBERED = re.compile(r"(?P<path>.+):(?P<number>\d+)")
_REFERENCE = re.compile(r"(?P<dataset>[\w-]+|[\w.]+:\w+):(?P<split>\w+):(?P<number>\d+)")


class Reference(NamedTuple):
    """``DATASET:SPLIT:NUMBER``, with numbers from 0; DATASET may be ``package.module:NAME``."""

    dataset: str
    split: str
    number: int


@dataclass(frozen=True, eq=False)
class NamedRecording:
    """Events with their name and label.

    Attributes:
        name: for texts and figures.
        events: structured array ``t`` [us], ``x`` and, where the file has them, ``y`` and ``p``; not checked against
            any sensor.
        label: the class, if a data set has it.
        classes: names of the classes, likewise.
    """

    name: str
    events: np.ndarray
    label: int | None = None
    classes: tuple[str, ...] = ()


def reference(name: str | os.PathLike[str]) -> Reference | None:
    """The reference to a data set that a name contains; None for the name of a file."""
    path = as_path(name, "name")
    found = _REFERENCE.fullmatch(str(path))
    if found is None or path.exists():
        return None
    return Reference(found["dataset"], found["split"], int(found["number"]))


def open_recording(
    name: str | os.PathLike[str],
    *,
    data_root: str | None = None,
    resolution: int | None = None,
) -> NamedRecording:
    """A recording from a file (`read`), or from a data set.

    Args:
        name: a path, ``FILE:NUMBER`` for a file of several recordings, or a `Reference`.
        data_root: folder that holds the data set.
        resolution: of a recording of a data set, see `at_resolution`.

    Raises:
        InputError: if there is no such recording, or it cannot be read.
    """
    text = str(as_path(name, "name"))
    if (place := reference(text)) is not None:
        return _of_a_data_set(text, place, data_root, resolution)
    path, number = numbered(text)
    if ending_of(Path(path)) is None:
        raise InputError(
            f"{text}: a recording is a file that ends in {', '.join(FORMATS)}, or DATASET:SPLIT:NUMBER, for instance "
            f"digits:test:0"
        )
    return NamedRecording(text, read(path, number=number))


def numbered(text: str) -> tuple[str, int | None]:
    """The path in the name of a file, and the number of the recording behind it, if there is one."""
    found = _NUMBERED.fullmatch(text)
    if found is None or ending_of(Path(text)) is not None:
        return text, None
    return found["path"], int(found["number"])


def _of_a_data_set(text: str, place: Reference, root: str | None, resolution: int | None) -> NamedRecording:
    data = open_split(place.dataset, root=root, split=place.split)
    if not isinstance(data, Recordings):
        raise InputError(f"{text}: {data.title} are still images, without events")
    if place.number >= len(data):
        raise InputError(f"{text}: {data.title} has {len(data)} {data.split} recordings here, numbered from 0")
    chosen = data[place.number : place.number + 1]
    if resolution is not None:
        chosen = at_resolution(chosen, resolution)
    return NamedRecording(f"{text} ({chosen.ids[0]})", chosen[0], int(data.labels[place.number]), tuple(data.classes))
