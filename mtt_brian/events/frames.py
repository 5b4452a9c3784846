"""Binning: recordings become frames of event counts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sized

import numpy as np

from mtt_brian.errors import InputError, check_whole
from mtt_brian.events.recording import SensorSize, check_recording, check_recordings, check_sensor_size
from mtt_brian.machine import check_room

#: Bytes per number of a frame while it is made: an int64 that counts, and the float32.
_BYTES = 12


def to_frames(
    recording: np.ndarray, time_steps: int, sensor_size: SensorSize, duration_us: int | None = None
) -> np.ndarray:
    """Events per bin, channel and pixel.

    The event at time t falls in bin ``floor(t * T / D)``, in exact integer arithmetic, so that every event falls in
    exactly one of the T bins.

    Args:
        recording: structured array [E], sorted by time.
        time_steps: T >= 1.
        sensor_size: (C, H, W).
        duration_us: D in microseconds; default: the last event's time + 1.

    Returns:
        float32 [T, C, H, W].

    Raises:
        InputError: if T < 1, D < 1, the recording does not fit the sensor, an event comes at or after D, or the frames
            do not fit into the free memory.
    """
    return _bin(recording, _positive(time_steps, "time_steps"), sensor_size, duration_us, "recording")


def frames_batch(
    recordings: Iterable[np.ndarray], time_steps: int, sensor_size: SensorSize, duration_us: int | None = None
) -> np.ndarray:
    """`to_frames` of several recordings as a batch.

    Args:
        recordings: N of them, for instance a `Recordings`.
        time_steps, sensor_size, duration_us: as for `to_frames`; without ``duration_us`` each recording has its own.

    Returns:
        float32 [T, N, C, H, W].
    """
    steps = _positive(time_steps, "time_steps")
    several = check_recordings(recordings)
    several = several if isinstance(several, Sized) else list(several)
    check_frames(steps, sensor_size, len(several))
    frames = np.empty((steps, len(several), *check_sensor_size(sensor_size)), dtype=np.float32)
    for n, recording in enumerate(several):
        frames[:, n] = _bin(recording, steps, sensor_size, duration_us, f"recording {n}")
    return frames


def on_time_steps(
    recording: np.ndarray, time_steps: int, sensor_size: SensorSize, duration_us: int | None = None
) -> np.ndarray:
    """The recording with every event at the end of its bin, the bins being those of `to_frames`.

    An event-driven run with ``order="sum"`` then gives the time-stepped result on these frames, if all neurons are IF
    without a bias and no connection has a delay.

    Args:
        recording, time_steps, sensor_size, duration_us: as for `to_frames`.

    Returns:
        structured array [E] in the order of ``recording``; the end of bin k is ``(k + 1) * D / T``, rounded up to whole
        microseconds.

    Raises:
        InputError: as `to_frames`, and if a bin is shorter than a microsecond.
    """
    steps = _positive(time_steps, "time_steps")
    index, duration = _bin_of_each(recording, steps, sensor_size, duration_us, "recording")
    if duration < steps:
        raise InputError(f"recording: {steps} time steps of {duration} us are shorter than a microsecond")
    # Times of few bits do not hold the end of the last bin.
    names = recording.dtype.names or ()
    wide = [(name, "<i8" if name == "t" else recording.dtype[name]) for name in names]
    moved = recording.astype(wide)
    moved["t"] = -(-(index + 1) * duration // steps)
    return moved


def bin_index(
    recording: np.ndarray,
    time_steps: int,
    sensor_size: SensorSize,
    duration_us: int | None = None,
    name: str = "recording",
) -> np.ndarray:
    """Where each event is counted in the frames of `to_frames`.

    Args:
        recording, time_steps, sensor_size, duration_us: as for `to_frames`.
        name: of the recording, for messages.

    Returns:
        int64 [E], the index in frames [T, C, H, W] that are flattened.

    Raises:
        InputError: as `to_frames`, and if the frames have 2^63 numbers or more.
    """
    steps, sizes = _positive(time_steps, "time_steps"), check_sensor_size(sensor_size)
    if steps * math.prod(sizes) > np.iinfo(np.int64).max:
        raise InputError(f"{name}: {steps} frames of {sizes} have more numbers than 64-bit integers count")
    index, _ = _bin_of_each(recording, steps, sensor_size, duration_us, name)
    for field, size in zip(("p", "y", "x"), sizes, strict=True):
        index *= size
        index += recording[field].astype(np.int64)
    return index


def check_frames(time_steps: int, sensor_size: SensorSize, recordings: int = 1) -> None:
    """Refuses frames that do not fit into the free memory.

    Raises:
        InputError: with the numbers.
    """
    sizes = check_sensor_size(sensor_size)
    several = f" for {recordings:,} recordings" if recordings > 1 else ""
    # The frames of one recording are counted at a time.
    numbers = time_steps * math.prod(sizes)
    of_batch = 4 * recordings if several else 0
    check_room(f"time_steps = {time_steps:,}: the frames of {sizes}{several}", numbers * (_BYTES + of_batch))


def _bin(recording: np.ndarray, steps: int, sensor_size: SensorSize, duration_us: int | None, name: str) -> np.ndarray:
    index = bin_index(recording, steps, sensor_size, duration_us, name)
    check_frames(steps, sensor_size)
    shape = (steps, *check_sensor_size(sensor_size))
    return np.bincount(index, minlength=math.prod(shape)).astype(np.float32).reshape(shape)


def _bin_of_each(
    recording: np.ndarray, steps: int, sensor_size: SensorSize, duration_us: int | None, name: str
) -> tuple[np.ndarray, int]:
    """The bin of every event, int64 [E], and the duration D in microseconds."""
    check_recording(recording, sensor_size, name)
    t = recording["t"].astype(np.int64)
    if duration_us is None:
        duration = int(t[-1]) + 1 if t.size else 1
    else:
        duration = _positive(duration_us, "duration_us")
        if t.size and t[-1] >= duration:
            raise InputError(f"{name}: the last event comes at {t[-1]} us, outside the duration of {duration} us")
    if duration > np.iinfo(np.int64).max // steps:
        raise InputError(f"{name}: {steps} time steps over {duration} us overflow 64-bit integers")
    return t * steps // duration, duration


def _positive(value: int, name: str) -> int:
    return check_whole(name, value, np.iinfo(np.int64).max, least=1)
