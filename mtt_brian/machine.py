"""Memory and cores of this machine and of this process, and the share of the memory that one batch may use."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

from mtt_brian import control_groups
from mtt_brian.errors import MachineError


def available_bytes() -> int:
    """Memory that this process may fill without swapping, in bytes: of the machine, and of its control groups."""
    left = control_groups.memory_left()
    return _of_machine() if left is None else min(left, _of_machine())


def check_room(what: str, size: int) -> None:
    """Refuses what does not fit into the free memory, before it is made.

    Args:
        what: with the numbers that its size follows from, for the message.
        size: bytes.

    Raises:
        MachineError: with both sizes.
    """
    if size > 2**20 and size > (free := available_bytes()):
        raise MachineError(f"{what} would take {size:,} bytes; {free:,} bytes of memory are free")


def _of_machine() -> int:
    try:
        with open("/proc/meminfo") as meminfo:
            for line in meminfo:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux: all of the memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cores() -> int:
    """Cores that this process may use: by its affinity, and by the time that its control groups have."""
    # Not every system has an affinity.
    of_process = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    of_groups = control_groups.cores()
    return of_process if of_groups is None else min(of_groups, of_process)


#: Largest batch of recordings in a network.
BATCH = 50
#: Most time steps of a network: more do not end, or fill the memory.
MOST_TIME_STEPS = 100_000
#: Largest batch of engines that run recordings in batches.
BATCH_SIDE_BY_SIDE = 200
#: Largest number of elements in an array of spike counts (100 MB of float32).
SPIKE_COUNTS = 25_000_000
#: Largest number of activations of a layer in a pass without gradients, by the type of the device. 400 MB of float32 on
#: a GPU, which needs much work at a time. 16 MB on a CPU: glibc requests larger blocks from the system page by page,
#: every time, which more than doubled the time of a pass over 200 time steps.
ACTIVATIONS = {"cuda": 100_000_000, "cpu": 4_000_000}


def batch_size(numbers: int, budget: int, most: int = BATCH) -> int:
    """Batch size: ``most``, or less if a recording has many elements, but at least 1.

    Args:
        numbers: elements of one recording in the largest array.
        budget: elements that this array may have.
        most: largest batch size.
    """
    return min(most, max(1, budget // max(1, numbers)))


def return_freed_memory() -> None:
    """Returns freed memory to the system (glibc; no effect on other systems, or after `keep_freed_memory`).

    glibc keeps small holes between the arrays that are in use, for W3 of the benchmarks 20 MB after its lowering.
    """
    if sys.platform == "linux" and not keep_freed_memory.cache_info().currsize:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


#: Of glibc's mallopt(): the free memory that the heap may keep at its end, and the number of blocks outside the heap.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


@cache
def keep_freed_memory() -> None:
    """Keeps freed memory in this process for reuse (glibc; no effect on other systems).

    glibc returns the memory of large tensors to the system, and the next pass requests it again page by page, which
    takes a tenth to a third of the time of a large network. The setting changes the whole process; only commands call
    it, for their own process or for those that they start.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
