"""Memory on a CPU: frames lie there with the channels innermost, and what is freed is kept for the next pass.

Convolutions of few channels are faster so. Values, shapes and what a network computes are the same in any order, but
for the rounding of sums.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

#: The dimensions of [T, N, C, H, W] with C last, and from there back.
_LAST, _BACK = (0, 1, 3, 4, 2), (0, 1, 4, 2, 3)


def as_layers_like_it(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """The same frames [T, N, *] in another type, with time outermost in memory and, on a CPU, channels innermost.

    Behind it all layers keep that order. On a GPU nothing is known to be gained by it, and of a single channel torch
    cannot tell which order is meant.
    """
    if frames.ndim != 5 or frames.device.type != "cpu" or frames.shape[2] == 1:
        return _contiguous(frames, dtype)
    return _contiguous(frames.permute(_LAST), dtype).permute(_BACK)


def _contiguous(x: Tensor, dtype: torch.dtype) -> Tensor:
    # Type and order in one pass; where the type stays, to() leaves the order alone.
    return x.to(dtype, memory_format=torch.contiguous_format).contiguous()


def in_memory_order(function: Callable[..., Any], *frames: Tensor) -> Any:
    """``function``, which acts on dimensions before the channels only, on frames that stay in their order in memory.

    torch's sums and stacks of more than four dimensions would put the channels outermost again. What it gives, one
    tensor or several, has the order of the first frames.
    """
    first = frames[0]
    if first.ndim != 5 or first.is_contiguous() or not first.permute(_LAST).is_contiguous():
        return function(*frames)
    given = function(*(x.permute(_LAST) for x in frames))
    return given.permute(_BACK) if isinstance(given, Tensor) else tuple(x.permute(_BACK) for x in given)


#: Of glibc's mallopt(): how much free memory at its end the heap may keep, and how many pieces lie outside the heap.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


@cache
def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for as long as it runs (with glibc; elsewhere nothing happens).

    glibc gives large tensors back to the system as they are freed, and the next pass waits for the system to hand out
    the same memory again, page by page: a tenth of the time of a large network.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
