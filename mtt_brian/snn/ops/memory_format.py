"""Memory format of frames [T, N, C, H, W] on a CPU: channels innermost, as in torch's channels_last.

Convolutions of few channels are faster in it. Values and shapes do not depend on it, except for the rounding of sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: The permutation of [T, N, C, H, W] that moves C to the end, and its inverse.
_LAST, _BACK = (0, 1, 3, 4, 2), (0, 1, 4, 2, 3)


def to_channels_last(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """The same frames [T, N, *] in another type, with time outermost in memory and, on a CPU, channels innermost.

    All layers keep this order. On a GPU the order is not changed (no gain was measured), and with a single channel both
    orders have the same strides.
    """
    if frames.ndim != 5 or frames.device.type != "cpu" or frames.shape[2] == 1:
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
