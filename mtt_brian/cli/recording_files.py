"""The recording that a command is given: a file of events, or one of a data set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtt_brian import events
from mtt_brian.errors import InputError
from mtt_brian.events import Recordings

_REFERENCE = re.compile(r"(?P<name>[\w-]+|[\w.]+:\w+):(?P<split>\w+):(?P<number>\d+)")


@dataclass(frozen=True, eq=False)
class Recording:
    """Events, and what is known about them.

    Attributes:
        name: for people.
        events: structured array ``t`` [us], ``x`` and, where the file has them, ``y`` and ``p``; not checked against
            any sensor.
        label: the right class, where a data set tells it.
        classes: names of the classes, likewise.
    """

    name: str
    events: np.ndarray
    label: int | None = None
    classes: tuple[str, ...] = ()


def open_recording(text: str, data_root: str | None, config: Mapping[str, Any]) -> Recording:
    """A recording from a file, or from a data set.

    Args:
        text: a path, or ``DATASET:SPLIT:NUMBER`` with numbers from 0; DATASET may be ``package.module:NAME``.
        data_root: folder that holds the data set; by default the one that the network was trained from.
        config: settings of the run that trained the network: recordings come at its resolution.

    Raises:
        InputError: if there is no such recording, or it cannot be read.
    """
    path = Path(text)
    if (reference := _REFERENCE.fullmatch(text)) and not path.exists():
        name, split, number = reference["name"], reference["split"], int(reference["number"])
        root = data_root or (config.get("data_root") if config.get("dataset") == name else None)
        return _of_a_data_set(text, events.load(name, root=root, split=split), number, config.get("resolution"))
    if path.suffix.lower() not in events.FORMATS:
        raise InputError(
            f"{text}: a recording is a file that ends in {', '.join(events.FORMATS)}, or DATASET:SPLIT:NUMBER, for "
            "instance digits:test:0"
        )
    return Recording(text, events.read(path))


def _of_a_data_set(text: str, data: Recordings | events.Images, number: int, resolution: int | None) -> Recording:
    if not isinstance(data, Recordings):
        raise InputError(f"{text}: {data.title} are still images, without events")
    if number >= len(data):
        raise InputError(f"{text}: {data.title} has {len(data)} {data.split} recordings here, numbered from 0")
    chosen = data[number : number + 1]
    if resolution is not None:
        chosen = events.at_resolution(chosen, resolution)
    return Recording(f"{text} ({chosen.ids[0]})", chosen[0], int(data.labels[number]), tuple(data.classes))
