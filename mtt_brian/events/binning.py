"""Binning all recordings of a training set, once, by several processes."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from mtt_brian.errors import InputError, MachineError, check_whole
from mtt_brian.events.collections import Recordings
from mtt_brian.events.frames import bin_index, check_frames, to_frames
from mtt_brian.events.recording import SensorSize
from mtt_brian.files import cache_folder, message_of
from mtt_brian.progress import progress_bar
from mtt_brian.workers import in_workers

#: Frames of more bytes than this are kept in a temporary file without a name; the system caches in memory what fits.
IN_MEMORY = 1 << 30
#: Recordings per task of a worker.
_CHUNK = 16


def bin_recordings(recordings: Recordings, time_steps: int, workers: int = 0) -> np.ndarray:
    """Every recording as ``time_steps`` frames of event counts.

    Args:
        recordings: N of them.
        time_steps: T.
        workers: processes that share the work (`workers.in_workers`); 0: this process. The result does not depend on
            the number.

    Returns:
        [N, T, C, H, W] with channels innermost in memory, uint8, or int32 if a pixel has more than 255 events in a bin.

    Raises:
        InputError: if there is no recording, one cannot be read, or the frames do not fit on the disk.
    """
    if not len(recordings):
        raise InputError(f"{recordings.title}: no recordings")
    time_steps = check_whole("time_steps", time_steps, np.iinfo(np.int64).max, least=1)
    check_frames(time_steps, recordings.sensor_size)
    channels, height, width = recordings.sensor_size
    shape = (len(recordings), time_steps, height, width, channels)
    for dtype in (np.uint8, np.int32):
        frames = _zeros(shape, np.dtype(dtype)).transpose(0, 1, 4, 2, 3)
        if _fill(frames, recordings, workers):
            return frames
    raise AssertionError("unreachable: no bin holds 2^31 events")


def _fill(frames: np.ndarray, recordings: Recordings, workers: int) -> bool:
    """Bin ``recordings`` into ``frames``; False if a count does not fit."""
    done = 0
    with progress_bar(
        total=len(recordings), description=f"binning {recordings.title}", unit="recordings", leave=False
    ) as bar:
        for counts in _made(partial(_counts, frames.shape[1], frames.dtype), recordings, workers):
            if counts is None:
                return False
            frames[done] = counts
            done += 1
            bar.update()
    return True


def bin_indices(recordings: Recordings, grids: Sequence[int], workers: int = 0) -> Iterator[tuple[np.ndarray, ...]]:
    """`frames.bin_index` of every recording for several numbers of time steps, each recording read once.

    They need a fraction of the memory of frames. If T is a multiple of another number of steps T', the bin k of T gives
    the bin of T', ``k // (T / T')``, exactly.

    Args:
        recordings: N of them.
        grids: numbers of time steps.
        workers: as for `bin_recordings`.

    Raises:
        InputError: if one cannot be read.
    """
    yield from _made(partial(_indices, grids), recordings, workers)


#: What is made of a recording.
_Make: TypeAlias = Callable[[np.ndarray, SensorSize], Any]


def _made(make: _Make, recordings: Recordings, workers: int) -> Iterator[Any]:
    """``make(recording, sensor_size)`` of every recording.

    Raises:
        InputError: of the first recording that cannot be read.
    """
    chunks = [recordings[start : start + _CHUNK] for start in range(0, len(recordings), _CHUNK)]
    if not workers:
        results: Iterator[Iterable[Any]] = (_of_each(make, chunk) for chunk in chunks)
    else:
        results = in_workers(partial(_list_of_each, make), chunks, workers)
    for made in results:
        for result in made:
            if isinstance(result, InputError):
                raise result
            yield result


def _of_each(make: _Make, recordings: Recordings) -> Iterator[Any]:
    """Ends with the first error, as an item."""
    try:
        for recording in recordings:
            yield make(recording, recordings.sensor_size)
    except InputError as error:
        yield error


def _list_of_each(make: _Make, recordings: Recordings) -> list[Any]:
    return list(_of_each(make, recordings))


def _counts(time_steps: int, dtype: np.dtype, recording: np.ndarray, sensor_size: SensorSize) -> np.ndarray | None:
    """[T, C, H, W]; None if a count does not fit the type."""
    counts = to_frames(recording, time_steps, sensor_size)
    return counts.astype(dtype) if counts.max() <= np.iinfo(dtype).max else None


def _indices(grids: Sequence[int], recording: np.ndarray, sensor_size: SensorSize) -> tuple[np.ndarray, ...]:
    """As 32 bits where they suffice: half as much is sent between processes."""
    return tuple(
        bin_index(recording, steps, sensor_size).astype(
            np.int32 if steps * math.prod(sensor_size) < 2**31 else np.int64, copy=False
        )
        for steps in grids
    )


def _zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros in memory, or in a file without a name, which the system deletes when the array is gone."""
    size = math.prod(shape) * dtype.itemsize
    if size <= IN_MEMORY:
        return np.zeros(shape, dtype)
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache_folder()) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # reports a full disk here, not by a SIGBUS later
            return np.frombuffer(mmap.mmap(file.fileno(), size), dtype).reshape(shape)
    except (OSError, OverflowError) as error:
        raise MachineError(
            f"no room for {size / 1e9:,.1f} GB of frames under {cache_folder()}: {message_of(error)}"
        ) from None
