"""Recordings: events of a camera (or any other sensor) as a structured array."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.errors import InputError

#: One event: time in microseconds since the start of the recording, column, row, channel (polarity: 0 OFF, 1 ON).
EVENT_DTYPE = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "<i1")])

#: (C, H, W): channels (polarities), rows, columns.
SensorSize: TypeAlias = tuple[int, int, int]


def make_recording(t: ArrayLike, x: ArrayLike, y: ArrayLike = 0, p: ArrayLike = 0) -> np.ndarray:
    """A recording from its columns, in the order given.

    Args:
        t: times in microseconds, [E] (or one number).
        x: columns, [E], or one number for all events.
        y: rows, likewise.
        p: polarities (channels), likewise.

    Returns:
        Structured array [E] of `EVENT_DTYPE`. Nothing is sorted or checked against a sensor: see `check_recording`.

    Raises:
        InputError: if the lengths differ, or a value is not a whole number that its field can hold.
    """
    columns = {"t": t, "x": x, "y": y, "p": p}
    try:
        arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(column)) for column in columns.values()))
    except ValueError:
        lengths = ", ".join(f"{name} {np.shape(column)}" for name, column in columns.items())
        raise InputError(f"t, x, y and p must have one length (or be single numbers), not {lengths}") from None
    recording = np.empty(arrays[0].shape, dtype=EVENT_DTYPE)
    for name, array in zip(columns, arrays, strict=True):
        with np.errstate(invalid="ignore"):  # casting NaN: the comparison below refuses it
            recording[name] = array
        wrong = np.flatnonzero(recording[name] != array)
        if wrong.size:
            raise InputError(
                f"{name}[{wrong[0]}] = {array.flat[wrong[0]]}: not a whole number that fits {EVENT_DTYPE[name]}"
            )
    return recording


def check_recording(recording: np.ndarray, sensor_size: SensorSize, name: str = "recording") -> None:
    """Refuse a recording that does not fit a sensor.

    Args:
        recording: structured array [E] with the fields t, x, y, p.
        sensor_size: (C, H, W): p must lie in [0, C), y in [0, H), x in [0, W).
        name: what the message calls the recording, for instance its file name.

    Raises:
        InputError: on missing or non-integer fields, coordinates outside the sensor, negative times or times that go
            backwards.
    """
    fields = getattr(getattr(recording, "dtype", None), "names", None) or ()
    missing = [field for field in EVENT_DTYPE.names or () if field not in fields]
    if missing or recording.ndim != 1:
        raise InputError(
            f"{name}: a recording is a one-dimensional structured array with the fields t, x, y, p;"
            f" this one lacks {', '.join(missing) or 'one dimension only'}"
        )
    for field in EVENT_DTYPE.names or ():
        if recording.dtype[field].kind not in "iub":
            raise InputError(f"{name}: the field {field} must hold integers, not {recording.dtype[field]}")
    if not recording.size:
        return
    for field, size in zip(("p", "y", "x"), sensor_size, strict=True):
        values = recording[field]
        if values.min() < 0 or values.max() >= size:
            event = int(np.flatnonzero((values < 0) | (values >= size))[0])
            raise InputError(
                f"{name}: event {event} has {field} = {values[event]}, outside the sensor's 0..{size - 1}"
                f" (sensor {tuple(sensor_size)} = channels, rows, columns)"
            )
    t = recording["t"]
    if t[0] < 0:
        raise InputError(f"{name}: event 0 has t = {t[0]}; times are microseconds >= 0")
    backwards = np.flatnonzero(t[1:] < t[:-1])
    if backwards.size:
        event = int(backwards[0]) + 1
        raise InputError(f"{name}: times go backwards at event {event} (t = {t[event]} after {t[event - 1]} us)")
