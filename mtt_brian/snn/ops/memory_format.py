"""Memory format of frames [T, N, C, H, W]: time outermost, and mostly channels innermost, as in torch's channels_last.

Convolutions of few channels are faster in it on a CPU, and those in bfloat16 on a GPU, whose matrix units need it.
Values and shapes do not depend on it, except for the rounding of sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: The permutation of [T, N, C, H, W] that moves C to the end, and its inverse.
_LAST, _BACK = (0, 1, 3, 4, 2), (0, 1, 4, 2, 3)


def to_channels_last(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """The same frames [T, N, *] in another type, with time outermost in memory, and channels innermost where it pays.

    All layers keep this order. It pays on a CPU, and on a GPU under autocast (in float32 no gain was measured). With a
    single channel both orders have the same strides.
    """
    device = frames.device.type
    pays = device == "cpu" or (device == "cuda" and torch.is_autocast_enabled("cuda"))
    if frames.ndim != 5 or not pays or frames.shape[2] == 1:
        return _contiguous(frames, dtype)
    return _contiguous(frames.permute(_LAST), dtype).permute(_BACK)


def _contiguous(x: Tensor, dtype: torch.dtype) -> Tensor:
    # Type and order in one pass; without a change of type, to() does not change the order.
    return x.to(dtype, memory_format=torch.contiguous_format).contiguous()


def preserve_memory_format(function: Callable[..., Any], *frames: Tensor) -> Any:
    """``function(*frames)`` in the memory format of the first frames; it must act on axes before the channels only.

    torch's sums and stacks of more than four dimensions would return channels outermost. Returns one tensor or several.
    """
    first = frames[0]
    if first.ndim != 5 or first.is_contiguous() or not first.permute(_LAST).is_contiguous():
        return function(*frames)
    given = function(*(x.permute(_LAST) for x in frames))
    return given.permute(_BACK) if isinstance(given, Tensor) else tuple(x.permute(_BACK) for x in given)


def dense(x: Tensor) -> Tensor:
    """``x`` with time outermost in memory and without gaps; the order of the other axes stays."""
    if x.is_contiguous() or (x.ndim == 5 and x.permute(_LAST).is_contiguous()):
        return x
    like = torch.empty_like(x)
    if len(x) > 1 and like.stride(0) != x[0].numel():
        return x.contiguous()
    return x if x.stride() == like.stride() else like.copy_(x)


def dense_like(x: Tensor, frames_of: Tensor) -> Tensor:
    """``x`` in the memory format of `dense` frames."""
    if x.stride() == frame_strides(frames_of):
        return x
    return frames_like(frames_of, len(x), x.dtype).copy_(x)


def frames_like(x: Tensor, frames: int, dtype: torch.dtype | None = None) -> Tensor:
    """Uninitialised frames in the memory format of ``x``, which is `dense`."""
    return x.new_empty_strided((frames, *x.shape[1:]), frame_strides(x), dtype=dtype)


def frame_strides(x: Tensor) -> tuple[int, ...]:
    """Strides of any number of `dense` frames in the memory format of ``x``."""
    return x.numel() // len(x), *x.stride()[1:]
