"""Batch norms of frames that are not in front of a population, by the kernels of `ops.gpu`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mtt_brian.snn.ops.time_plan import RoomPlan


class _Normed(torch.autograd.Function):
    """``kernels``: the module `ops.gpu`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.Module, plan: RoomPlan, kernels: Any
    ) -> Tensor:
        y, normed = kernels.norm_forward(x, norm, plan)
        ctx.plan, ctx.kernels, ctx.training = plan, kernels, normed.training
        ctx.save_for_backward(normed.x, normed.numbers)
        found: Tensor = y
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        normed = ctx.kernels.Normed(*ctx.saved_tensors, ctx.training)
        return *ctx.kernels.norm_backward(grad, normed, ctx.plan), None, None, None


def normed(norm: nn.Module, x: Tensor, plan: RoomPlan, kernels: Any) -> Tensor:
    """``norm(x)`` in training mode for frames [T, N, *], each segment with the statistics of its own time steps."""
    y: Tensor = _Normed.apply(x, norm.weight, norm.bias, norm, plan._replace(repeat=None, sums=None), kernels)
    return y
