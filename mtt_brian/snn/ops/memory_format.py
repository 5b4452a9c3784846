"""Memory format of frames [T, N, C, H, W]: time outermost, and often channels innermost, as in torch's channels_last.

Convolutions of few channels are faster in it on a CPU, and those in bfloat16 on a GPU, whose matrix units need it
(`matrix_units`). Values and shapes do not depend on it, except for the rounding of sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

#: The permutation of [T, N, C, H, W] that moves C to the end, and its inverse.
_LAST, _BACK = (0, 1, 3, 4, 2), (0, 1, 4, 2, 3)


def to_channels_last(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """The same frames [T, N, *] in another type, with time outermost in memory and, on a CPU, channels innermost.

    All layers keep this order. On a GPU the order is not changed (without autocast no gain was measured, and a pool in
    front of the first convolution is faster), and with a single channel both orders have the same strides.
    """
    if frames.ndim != 5 or frames.device.type != "cpu" or frames.shape[2] == 1:
        return _contiguous(frames, dtype)
    return _contiguous(frames.permute(_LAST), dtype).permute(_BACK)


def matrix_units(x: Tensor) -> bool:
    """Whether convolutions of these frames run on the matrix units of a GPU."""
    return x.is_cuda and torch.is_autocast_enabled("cuda")


def for_matrix_units(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Input [N, C, H, W] and weight of a convolution as a GPU's matrix units need them for bfloat16.

    Channels are innermost. Fewer than 8 are filled up with zeros; without them the gradient of a weight with two
    channels takes as long as that of a large layer.
    """
    missing = 8 - x.shape[1]
    if missing <= 0:
        return x.contiguous(memory_format=torch.channels_last), weight
    n, channels, height, width = x.shape
    wide = torch.empty(
        (n, 8, height, width),
        dtype=torch.get_autocast_dtype(x.device.type),
        device=x.device,
        memory_format=torch.channels_last,
    )
    wide.zero_()
    wide[:, :channels] = x
    return wide, functional.pad(weight, (0, 0, 0, 0, 0, missing))


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
