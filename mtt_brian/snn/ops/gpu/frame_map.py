"""The temporal transformation: each frame is a sum of frames."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from mtt_brian.snn.ops.gpu.blocks import BLOCK, KINDS, frame_size, real_type
from mtt_brian.snn.ops.memory_format import dense, frames_like
from mtt_brian.snn.ops.time_plan import FrameMap, RoomMap


def apply_map(x: Tensor, frame_map: FrameMap | RoomMap) -> Tensor:
    """As `reference.apply_map`; sums are rounded once, to x's type."""
    x = dense(x)
    mapped = frames_like(x, frame_map.frames)
    size = frame_size(x)
    with torch.cuda.device_of(x):
        _apply_map[(-(-size // BLOCK), frame_map.frames)](
            x, mapped, frame_map.sources_on(x.device), size, frame_map.frames + 1, real=KINDS[real_type(x)], block=BLOCK
        )
    return mapped


@triton.jit(do_not_specialize=["row"])
def _apply_map(x, mapped, sources, size, row, real: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    neuron = tl.program_id(0) * block + tl.arange(0, block)
    there = neuron < size
    frame = tl.program_id(1)
    total = tl.full([block], 0, real)
    for i in range(tl.load(sources + frame), tl.load(sources + frame + 1)):
        source = tl.load(sources + row + i).to(tl.int64)
        total += tl.load(x + source * size + neuron, mask=there, other=0).to(real)
    place = mapped + frame.to(tl.int64) * size + neuron
    tl.store(place, total.to(mapped.dtype.element_ty), mask=there)
