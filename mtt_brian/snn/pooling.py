"""Average pools of frames."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mtt_brian.snn.ops.choice import pool_kernels


class _Pooled(torch.autograd.Function):
    """Means over windows side by side, by the kernels of ``kernels``, the module `ops.gpu`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, windows: tuple[int, int], kernels: Any) -> Tensor:
        ctx.windows, ctx.kernels = windows, kernels
        return kernels.pool(x, windows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return ctx.kernels.pool_gradient(grad, ctx.windows), None, None


def pool(layer: nn.AvgPool2d, x: Tensor) -> Tensor:
    """``layer(x)`` for frames [N, C, H, W].

    On a GPU torch's gradient of a pool with channels innermost takes several times as long as these kernels.
    """
    windows = _pair(layer.kernel_size)
    if _pair(layer.stride) == windows and _pair(layer.padding) == (0, 0) and layer.divisor_override is None:
        kernels = pool_kernels(x, windows)
        if kernels is not None:
            return _Pooled.apply(x, windows, kernels)
    return layer(x)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
