"""Memory of this machine and of this process."""

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
