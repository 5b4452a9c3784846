"""Means over windows side by side, and their gradient."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mtt_brian.snn.ops.gpu.blocks import BLOCK, KINDS, TYPES, real_type


def fits_pool(x: Tensor, windows: tuple[int, int]) -> bool:
    """Whether there are kernels for means over these windows, side by side, of frames [N, C, H, W].

    The windows divide the frames, and channels are innermost in memory.
    """
    return (
        x.dtype in TYPES
        and x.numel() < 2**31 - BLOCK
        and x.shape[2] % windows[0] == x.shape[3] % windows[1] == 0
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def pool(x: Tensor, windows: tuple[int, int]) -> Tensor:
    """Means over windows: [N, C, H, W] -> [N, C, H / rows, W / columns], rounded once."""
    (n, c, h, w), (rows, columns) = x.shape, windows
    means = torch.empty(
        (n, c, h // rows, w // columns), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    )
    _run_pool(_pool, x, means, windows)
    return means


def pool_gradient(grad: Tensor, windows: tuple[int, int]) -> Tensor:
    """Gradient of the mean over windows -> gradient of the frames."""
    (n, c, h, w), (rows, columns) = grad.shape, windows
    each = torch.empty(
        (n, c, h * rows, w * columns), dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last
    )
    _run_pool(_spread, each, grad.contiguous(memory_format=torch.channels_last), windows)
    return each


def _run_pool(kernel: Any, large: Tensor, small: Tensor, windows: tuple[int, int]) -> None:
    rows, columns = windows
    with torch.cuda.device_of(large):
        kernel[(-(-small.numel() // BLOCK),)](
            large,
            small,
            small.numel(),
            small.shape[1],
            small.shape[3],
            rows=rows,
            columns=columns,
            real=KINDS[real_type(large)],
            block=BLOCK,
        )


@triton.jit
def _pool(  # type: ignore[no-untyped-def]
    large,
    small,
    size,
    channels,
    width,
    rows: tl.constexpr,
    columns: tl.constexpr,
    real: tl.constexpr,
    block: tl.constexpr,
):
    at = tl.program_id(0) * block + tl.arange(0, block)
    there = at < size
    place = large + _first_of_window(at, channels, width, rows, columns)
    total = tl.full([block], 0, real)
    for row in tl.static_range(rows):
        for column in tl.static_range(columns):
            pixel = place + (row * width * columns + column) * channels
            total += tl.load(pixel, mask=there, other=0).to(real)
    tl.store(small + at, (total * (1 / (rows * columns))).to(small.dtype.element_ty), mask=there)


@triton.jit
def _spread(  # type: ignore[no-untyped-def]
    large,
    small,
    size,
    channels,
    width,
    rows: tl.constexpr,
    columns: tl.constexpr,
    real: tl.constexpr,
    block: tl.constexpr,
):
    at = tl.program_id(0) * block + tl.arange(0, block)
    there = at < size
    place = large + _first_of_window(at, channels, width, rows, columns)
    share = tl.load(small + at, mask=there, other=0).to(real) * (1 / (rows * columns))
    for row in tl.static_range(rows):
        for column in tl.static_range(columns):
            pixel = place + (row * width * columns + column) * channels
            tl.store(pixel, share.to(large.dtype.element_ty), mask=there)


@triton.jit
def _first_of_window(at, channels, width, rows: tl.constexpr, columns: tl.constexpr):  # type: ignore[no-untyped-def]
    """Place of the first pixel of each window, for windows ``width`` in a line; channels are innermost."""
    window = at // channels
    return ((window // width) * rows * width * columns + (window % width) * columns) * channels + at % channels
