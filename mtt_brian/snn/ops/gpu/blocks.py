"""What the kernels share: blocks of membranes, types, and sums over the membranes of a channel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Membranes per program: with 128 threads every one loads and stores 8 numbers, 16 bytes of bfloat16, at a time.
BLOCK = 1024
#: Most programs per segment of a kernel that sums over the membranes of a channel; each writes one sum per channel.
SUMMING = 512
#: Types of membranes, and their names in Triton.
KINDS = {torch.float32: tl.float32, torch.float64: tl.float64}
#: Types of frames.
TYPES = {torch.float16, torch.bfloat16, *KINDS}


def frame_size(x: Tensor) -> int:
    """Numbers per frame of all recordings."""
    return x.numel() // len(x)


def real_type(x: Tensor) -> torch.dtype:
    """The type of the membranes."""
    return torch.promote_types(x.dtype, torch.float32)


@triton.jit
def steps_of(table, segment):  # type: ignore[no-untyped-def]
    """Where the time steps of a segment begin and end, as int64: a tensor may have more than 2**31 numbers."""
    return tl.load(table + segment).to(tl.int64), tl.load(table + segment + 1).to(tl.int64)


@triton.jit
def clear(x, used, frames, size, neuron, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """The frames behind the first ``used`` ones become 0, in some neurons."""
    for k in range(0, frames - used):
        place = x + (used + k) * size + neuron
        tl.store(place, tl.full([block], 0, x.dtype.element_ty), mask=neuron < size)


@triton.jit
def store_sums(sums, one, other, segment, channels: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Two sums of a program's lanes for each channel, to sums [segments, programs, 2, channels]."""
    place = sums + (segment * tl.num_programs(0) + tl.program_id(0)) * 2 * channels + tl.arange(0, channels)
    tl.store(place, tl.reduce(tl.reshape(one, [block // channels, channels]), 0, add))
    tl.store(place + channels, tl.reduce(tl.reshape(other, [block // channels, channels]), 0, add))


@triton.jit
def add(a, b):  # type: ignore[no-untyped-def]
    return a + b
