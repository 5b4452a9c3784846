"""Binning all recordings of a training set, once, by several processes."""

from __future__ import annotations

import math
import mmap
import os
import signal
import tempfile
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.collections import Recordings
from mtt_brian.events.frames import to_frames
from mtt_brian.files import cache_folder
from mtt_brian.progress import progress_bar

#: Frames of more bytes than this are kept in a temporary file without a name; the system caches in memory what fits.
IN_MEMORY = 1 << 30
#: Recordings per task of a worker.
_CHUNK = 16


def bin_recordings(recordings: Recordings, time_steps: int, workers: int = 0) -> np.ndarray:
    """Every recording as ``time_steps`` frames of event counts.

    Args:
        recordings: N of them.
        time_steps: T.
        workers: processes that share the work (started by joblib, not forked); 0: this process. The result does not
            depend on the number.

    Returns:
        [N, T, C, H, W] with channels innermost in memory, uint8, or int32 if a pixel has more than 255 events in a bin.

    Raises:
        InputError: if there is no recording, one cannot be read, or the frames do not fit on the disk.
    """
    if not len(recordings):
        raise InputError(f"{recordings.title}: no recordings")
    channels, height, width = recordings.sensor_size
    shape = (len(recordings), time_steps, height, width, channels)
    for dtype in (np.uint8, np.int32):
        frames = _zeros(shape, np.dtype(dtype)).transpose(0, 1, 4, 2, 3)
        if _fill(frames, recordings, workers):
            return frames
    raise AssertionError("unreachable: no bin holds 2^31 events")


def _fill(frames: np.ndarray, recordings: Recordings, workers: int) -> bool:
    """Bin ``recordings`` into ``frames``; False if a count does not fit."""
    chunks = [recordings[start : start + _CHUNK] for start in range(0, len(recordings), _CHUNK)]
    done = 0
    with progress_bar(total=len(recordings), description="binning", unit="recordings", leave=False) as bar:
        for binned in _binned(chunks, frames.shape[1], frames.dtype, min(workers, len(chunks))):
            for counts in binned:
                if counts is None:
                    return False
                if isinstance(counts, InputError):
                    raise counts
                frames[done] = counts
                done += 1
                bar.update()
    return True


#: The counts [T, C, H, W] of a recording; None where they do not fit the type; the error of an unreadable recording.
_Binned: TypeAlias = np.ndarray | InputError | None


def _binned(chunks: list[Recordings], time_steps: int, dtype: np.dtype, workers: int) -> Iterator[Iterable[_Binned]]:
    if not workers:
        yield from (_bin(chunk, time_steps, dtype) for chunk in chunks)
        return
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=workers, backend="loky", return_as="generator", pre_dispatch="4*n_jobs")
    yield from parallel(delayed(_bin_in_worker)(chunk, time_steps, dtype) for chunk in chunks)


def _bin(recordings: Recordings, time_steps: int, dtype: np.dtype) -> Iterator[_Binned]:
    """Each recording's counts; ends with the first error."""
    try:
        for recording in recordings:
            counts = to_frames(recording, time_steps, recordings.sensor_size)
            yield counts.astype(dtype) if counts.max() <= np.iinfo(dtype).max else None
    except InputError as error:
        yield error


def _bin_in_worker(recordings: Recordings, time_steps: int, dtype: np.dtype) -> list[_Binned]:
    """As `_bin`, in a worker, which leaves Ctrl-C to the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return list(_bin(recordings, time_steps, dtype))


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
    except OSError as error:
        raise InputError(f"no room for {size / 1e9:.1f} GB of frames under {cache_folder()}: {error}") from None
