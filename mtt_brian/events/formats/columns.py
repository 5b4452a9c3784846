"""What the readers of file formats share: columns of a file as a recording, and errors that name the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.recording import EVENT_DTYPE

Read = TypeVar("Read")


def to_events(t: np.ndarray, x: np.ndarray, y: np.ndarray | int, p: np.ndarray | int) -> np.ndarray:
    """Columns of a file, of whole numbers of any type, as a recording; values too large for `EVENT_DTYPE` are clipped.

    A clipped coordinate stays outside the sensor and is refused by the check against it; a cast could wrap it into
    range.
    """
    recording = np.empty(len(t), dtype=EVENT_DTYPE)
    for name, column in (("t", t), ("x", x), ("y", y), ("p", p)):
        if np.ndim(column) and np.shape(column) != np.shape(t):
            raise ValueError(f"{len(t)} times, but {np.size(column)} values {name}")
        column = np.asarray(column)
        if column.dtype.kind not in "iub" and np.any(wrong := column != np.rint(column)):
            raise ValueError(f"{name}[{int(np.argmax(wrong))}] = {column[wrong][0]} is no whole number")
        limits = np.iinfo(EVENT_DTYPE[name])
        recording[name] = np.clip(column.astype(np.int64), limits.min, limits.max)
    return recording


def from_seconds(seconds: np.ndarray, name: str, exact: bool = False) -> np.ndarray:
    """Times in seconds, of any floating-point type, as whole microseconds next to them: int64.

    Args:
        seconds: times [E].
        name: of the column in messages.
        exact: refuse times whose type does not hold every microsecond there.

    Raises:
        InputError: for integers, and for times that are not finite or too late for int64.
    """
    if seconds.dtype.kind != "f":
        raise InputError(f"{name} holds {seconds.dtype}; accepted are seconds in floating point")
    as_float64 = seconds.astype(np.float64)
    if np.any(wrong := ~(np.abs(as_float64) < 2**53 / 1e6)):
        k = int(np.argmax(wrong))
        raise InputError(f"{name}[{k}] = {seconds[k]}; accepted are seconds below {2**53 // 10**6:,}")
    if exact and len(seconds) and np.spacing(np.abs(seconds).max()) > 1e-6:
        raise InputError(
            f"{name} holds {seconds.dtype}, which does not hold every microsecond at {np.abs(seconds).max()} s"
        )
    return np.rint(as_float64 * 1e6).astype(np.int64)


def from_first_event(recording: np.ndarray) -> np.ndarray:
    """The recording, changed in place so that its first event has time 0: for clocks without a defined start."""
    if recording.size:
        recording["t"] -= recording["t"][0]
    return recording


def read_checked(path: Path, kind: str, read: Callable[[], Read]) -> Read:
    """The result of ``read()``; any error that it raises becomes an InputError that names the file."""
    try:
        if not path.is_file():
            kind = "is a folder" if path.is_dir() else "is a pipe or a device" if path.exists() else "no such file"
            raise InputError(f"{path}: {kind}")
        if not path.stat().st_size:
            raise InputError(f"{path}: empty file, perhaps an incomplete copy")
        return read()
    except InputError:
        raise
    except Exception as error:  # readers raise any type for a damaged file, from struct.error to UnboundLocalError
        if isinstance(error, OSError) and error.strerror:  # of the system: too long a name, a folder without access
            raise InputError(f"{path}: {error.strerror}") from error
        reason = " ".join(str(error).split()) or "no reason given"
        raise InputError(f"{path}: cannot be read as {kind} ({type(error).__name__}: {reason})") from error
