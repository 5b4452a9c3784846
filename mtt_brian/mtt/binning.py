"""Binning all recordings of a training set, once, by several processes, into memory that they share."""

from __future__ import annotations

import math
import mmap
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from mtt_brian import events
from mtt_brian.errors import InputError
from mtt_brian.events import Recordings
from mtt_brian.files import cache_folder
from mtt_brian.progress import progress_bar

#: Frames of more bytes than this lie in a nameless file, which is gone with the process; the system keeps in memory
#: what fits.
IN_MEMORY = 1 << 30
#: Recordings that a process bins before it asks for more.
_TOGETHER = 16


def bin_recordings(recordings: Recordings, time_steps: int, workers: int = 0) -> np.ndarray:
    """Every recording as ``time_steps`` frames of event counts.

    Args:
        recordings: N of them.
        time_steps: T.
        workers: processes that share the work; 0 for this one alone. The result does not depend on it.

    Returns:
        [N, T, C, H, W] with channels innermost in memory, uint8, or int32 if a pixel has more than 255 events in a bin.

    Raises:
        InputError: if there is no recording, one cannot be read, or there is no room or no way to have processes.
    """
    if not len(recordings):
        raise InputError(f"{recordings.title}: no recordings")
    channels, height, width = recordings.sensor_size
    shape = (len(recordings), time_steps, height, width, channels)
    for dtype in (np.uint8, np.int32):
        frames = _shared(shape, np.dtype(dtype)).transpose(0, 1, 4, 2, 3)
        if _fill(frames, recordings, workers):
            return frames
    raise AssertionError("unreachable: no bin holds 2^31 events")


def _fill(frames: np.ndarray, recordings: Recordings, workers: int) -> bool:
    """Bin ``recordings`` into ``frames``; False if a count does not fit."""
    limit = np.iinfo(frames.dtype).max

    def one(i: int) -> bool:
        counts = events.to_frames(recordings[i], frames.shape[1], recordings.sensor_size)
        if counts.max() > limit:
            return False
        frames[i] = counts
        return True

    def all_fit(done: Iterable[bool]) -> bool:
        return all(progress_bar(done, total=len(recordings), description="binning", unit="recordings", leave=False))

    if not workers:
        return all_fit(map(one, range(len(recordings))))
    if "fork" not in multiprocessing.get_all_start_methods():
        raise InputError(f"workers must be 0 on this system, where processes cannot share memory, not {workers}")
    # Forked processes see the recordings and the frames without a copy.
    context = multiprocessing.get_context("fork")
    workers = min(workers, -(-len(recordings) // _TOGETHER))  # more would have nothing to do
    with ProcessPoolExecutor(workers, context, initializer=_take_job, initargs=(one,)) as pool:
        return all_fit(pool.map(_do_job, range(len(recordings)), chunksize=_TOGETHER))


def _shared(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that forked processes share."""
    size = math.prod(shape) * dtype.itemsize
    if size <= IN_MEMORY:
        return np.frombuffer(mmap.mmap(-1, size), dtype).reshape(shape)
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache_folder()) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk says so here and not by killing the process
            return np.frombuffer(mmap.mmap(file.fileno(), size), dtype).reshape(shape)
    except OSError as error:
        raise InputError(f"no room for {size / 1e9:.1f} GB of frames under {cache_folder()}: {error}") from None


_job: Callable[[int], bool]


def _take_job(job: Callable[[int], bool]) -> None:
    """In a worker: keep what there is to do; Ctrl-C is handled by the main process, whose handlers were forked, too."""
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _do_job(i: int) -> bool:
    return _job(i)
