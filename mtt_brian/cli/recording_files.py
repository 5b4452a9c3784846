"""The recording that a command is given: a file of events, or one of a data set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtt_brian import events
from mtt_brian.circuit.model import Circuit
from mtt_brian.cli.spike_files import NIR_DATA
from mtt_brian.errors import InputError
from mtt_brian.events import Recordings
from mtt_brian.translate.nir_data import recording_of

_NIR_DATA = re.compile(rf"(?P<path>.+({'|'.join(map(re.escape, NIR_DATA))}))(:(?P<sample>\d+))?", re.IGNORECASE)
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


def open_recording(
    text: str, data_root: str | None, config: Mapping[str, Any], circuit: Circuit | None = None
) -> Recording:
    """A recording from a file, or from a data set.

    Args:
        text: a path, or ``DATASET:SPLIT:NUMBER`` with numbers from 0; DATASET may be ``package.module:NAME``.
        data_root: folder that holds the data set; by default the one that the network was trained from.
        config: settings of the run that trained the network: recordings come at its resolution.
        circuit: the network that is to play it; needed for NIRData, which does not say the shape of the input.

    Raises:
        InputError: if there is no such recording, or it cannot be read.
    """
    path = Path(text)
    if (reference := _REFERENCE.fullmatch(text)) and not path.exists():
        name, split, number = reference["name"], reference["split"], int(reference["number"])
        root = data_root or (config.get("data_root") if config.get("dataset") == name else None)
        return _of_a_data_set(text, events.load(name, root=root, split=split), number, config.get("resolution"))
    if circuit is not None and (data := _NIR_DATA.fullmatch(text)):
        sample = None if data["sample"] is None else int(data["sample"])
        return Recording(text, recording_of(data["path"], circuit.input, circuit.input_shape, sample))
    if path.suffix.lower() not in events.FORMATS:
        raise InputError(
            f"{text}: a recording is a file that ends in {', '.join([*events.FORMATS, *NIR_DATA])}, or "
            "DATASET:SPLIT:NUMBER, for instance digits:test:0"
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
