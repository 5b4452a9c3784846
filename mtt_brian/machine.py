"""Memory of this machine and of this process, and how much of it one batch may take."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache


def available_bytes() -> int:
    """Memory that can be had without swapping, in bytes."""
    try:
        with open("/proc/meminfo") as meminfo:
            for line in meminfo:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux: take all of it
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


#: Recordings that go through a network together at most.
BATCH = 50
#: Likewise for engines that run recordings side by side.
BATCH_SIDE_BY_SIDE = 200
#: Numbers in one array of spike counts at most (100 MB of float32).
SPIKE_COUNTS = 25_000_000
#: Activations of the largest layer in a pass without gradients at most (400 MB of float32).
ACTIVATIONS = 100_000_000


def batch_size(numbers: int, budget: int, most: int = BATCH) -> int:
    """How many recordings are computed together: ``most``, or fewer where one has many numbers, but at least one.

    Args:
        numbers: of one recording in the largest array.
        budget: numbers that this array may have.
        most: recordings at most.
    """
    return min(most, max(1, budget // max(1, numbers)))


#: Of glibc's mallopt(): how much free memory at its end the heap may keep, and how many pieces lie outside the heap.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


@cache
def keep_freed_memory() -> None:
    """Keep freed memory in this process until it ends, for reuse (glibc; on other systems nothing happens).

    glibc returns large tensors to the system when they are freed, and the next pass requests the same memory again,
    page by page: a tenth of the time of a large network. This changes the whole process: only commands call it.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
