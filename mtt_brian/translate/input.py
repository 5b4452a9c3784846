"""Recordings (integer microseconds) -> input spikes of a circuit (seconds, flat indices)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mtt_brian.errors import InputError


class InputTrain(NamedTuple):
    """Input spikes of one recording, sorted by (t, i), every (t, i) once.

    Attributes:
        t: float64 [K], seconds, >= 0.
        i: int64 [K], flat index into the circuit's input.
        n: int64 [K], events of this pixel at this instant, >= 1.
        order: int64 [E], for each single event of the recording, in the order in which they stand there, the row of
            ``t, i`` it belongs to (what ``order="fifo"`` follows).
        duration: seconds; the run covers [0, duration].
    """

    t: np.ndarray
    i: np.ndarray
    n: np.ndarray
    order: np.ndarray
    duration: float

    @property
    def instants(self) -> np.ndarray:
        """The distinct times, float64 [number of instants]."""
        return np.unique(self.t)


def input_train(
    recording: np.ndarray, input_shape: tuple[int, ...], duration: float | None = None, name: str = "recording"
) -> InputTrain:
    """Merge events of one pixel at one instant and number the pixels in C order.

    Args:
        recording: structured array ``t`` [us], ``x``, ``y``, ``p``, sorted by time; for an input of shape (N,) only
            ``t`` and ``x`` are needed.
        input_shape: (C, H, W), (N,), or any shape of three dimensions that p, y, x index.
        duration: end of the run in seconds; later events are left out. None: the last event.
        name: what to call the recording in messages.

    Raises:
        InputError: for missing fields, coordinates outside the sensor, times that go backwards or are negative.
    """
    axes = {1: ("x",), 2: ("y", "x"), 3: ("p", "y", "x")}.get(len(input_shape))
    if axes is None:
        raise InputError(f"recordings have at most 3 coordinates; the network's input has the shape {input_shape}")
    fields = recording.dtype.names or ()
    if missing := [field for field in ("t", *axes) if field not in fields]:
        raise InputError(
            f"{name} has no field {missing[0]!r}; needed are t, {', '.join(axes)}, there are {list(fields)}"
        )
    t = recording["t"].astype(np.int64)
    if len(t) and (t[0] < 0 or np.any(np.diff(t) < 0)):
        k = 0 if t[0] < 0 else int(np.argmax(np.diff(t) < 0)) + 1
        raise InputError(f"{name}: time goes backwards or is negative at event {k} ({t[k]} us); events must be sorted")
    coordinates = []
    for axis, size in zip(axes, input_shape, strict=True):
        value = recording[axis].astype(np.int64)
        if np.any(outside := (value < 0) | (value >= size)):
            k = int(np.argmax(outside))
            raise InputError(
                f"{name}: event {k} has {axis} = {value[k]}; the network's input {input_shape} allows 0..{size - 1}"
            )
        coordinates.append(value)
    if duration is not None:
        if not (np.isfinite(duration) and duration >= 0):
            raise InputError(f"{name}: the duration must be a number of seconds >= 0, not {duration}")
        kept = t / 1e6 <= duration
        t, coordinates = t[kept], [c[kept] for c in coordinates]
    pixel = np.ravel_multi_index(coordinates, input_shape) if len(t) else np.zeros(0, dtype=np.int64)
    # Events are sorted by time already: a stable sort by pixel within each instant is one sort of one key.
    inputs = int(np.prod(input_shape, dtype=np.int64))
    instant = np.cumsum(np.concatenate([[0], np.diff(t) > 0])) if len(t) else t
    key, order, n = np.unique(instant * inputs + pixel, return_inverse=True, return_counts=True)
    first = np.concatenate([t[:1], t[1:][np.diff(t) > 0]])
    return InputTrain(
        t=first[key // inputs] / 1e6 if len(t) else np.zeros(0),
        i=key % inputs,
        n=n,
        order=order,
        duration=float(duration if duration is not None else (t[-1] / 1e6 if len(t) else 0.0)),
    )
