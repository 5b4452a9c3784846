"""Recordings downsampled to fewer pixels than their sensor has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mtt_brian.errors import InputError, check_whole
from mtt_brian.events.collections import Images, Recordings


def at_resolution(recordings: Recordings | Images, side: int) -> Recordings:
    """The same events at ``x * side // W`` and ``y * side // H``: frames of side x side, as many events as before.

    The code of the MTT paper uses 48 for CIFAR10-DVS and N-Caltech101. A sensor with a single row keeps it.

    Raises:
        InputError: if the resolution is not a whole number >= 1, the sensor has fewer pixels, or there are no events.
    """
    if not isinstance(recordings, Recordings):
        given = getattr(recordings, "title", f"a {type(recordings).__name__}")
        raise InputError(f"resolution: {given} has no events that could be moved to a coarser grid")
    channels, height, width = recordings.sensor_size
    side = check_whole("resolution", side, most=2**31 - 1, least=1)
    if side > max(height, width):
        raise InputError(f"resolution must not exceed the sensor's {height} x {width} of {recordings.title}: {side}")
    rows, columns = min(side, height), min(side, width)
    read = _ReadCoarser(recordings.read, (height, width), (rows, columns))
    return replace(recordings, sensor_size=(channels, rows, columns), read=read)


@dataclass(frozen=True)
class _ReadCoarser:
    """Reads a recording and downsamples it; an object, so that it can be pickled.

    Attributes:
        read: gives the recording of the sensor for an id.
        sensor: rows and columns of the sensor.
        coarser: rows and columns afterwards.
    """

    read: Callable[[str], np.ndarray]
    sensor: tuple[int, int]
    coarser: tuple[int, int]

    def __call__(self, identifier: str) -> np.ndarray:
        recording = self.read(identifier).copy()
        for field, size, pixels in zip(("y", "x"), self.sensor, self.coarser, strict=True):
            recording[field] = recording[field].astype(np.int64) * pixels // size
        return recording
