"""A recording by its name: the path of a file, or its number in a data set."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.collections import Recordings
from mtt_brian.events.datasets import load
from mtt_brian.events.files import FORMATS, read
from mtt_brian.events.resolution import at_resolution
from mtt_brian.files import as_path

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
    others: Iterable[str] = (),
) -> NamedRecording:
    """A recording from a file (`read`), or from a data set.

    Args:
        name: a path, or a `Reference`.
        data_root: folder that holds the data set.
        resolution: of a recording of a data set, see `at_resolution`.
        others: endings of further files that the caller reads, for the message.

    Raises:
        InputError: if there is no such recording, or it cannot be read.
    """
    text = str(as_path(name, "name"))
    if (place := reference(text)) is not None:
        return _of_a_data_set(text, place, data_root, resolution)
    if Path(text).suffix.lower() not in FORMATS:
        raise InputError(
            f"{text}: a recording is a file that ends in {', '.join([*FORMATS, *others])}, or DATASET:SPLIT:NUMBER, "
            "for instance digits:test:0"
        )
    return NamedRecording(text, read(text))


def _of_a_data_set(text: str, place: Reference, root: str | None, resolution: int | None) -> NamedRecording:
    data = load(place.dataset, root=root, split=place.split)
    if not isinstance(data, Recordings):
        raise InputError(f"{text}: {data.title} are still images, without events")
    if place.number >= len(data):
        raise InputError(f"{text}: {data.title} has {len(data)} {data.split} recordings here, numbered from 0")
    chosen = data[place.number : place.number + 1]
    if resolution is not None:
        chosen = at_resolution(chosen, resolution)
    return NamedRecording(f"{text} ({chosen.ids[0]})", chosen[0], int(data.labels[place.number]), tuple(data.classes))
