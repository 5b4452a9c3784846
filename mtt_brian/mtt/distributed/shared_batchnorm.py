"""Batch norm over the batch of all processes: `torch.nn.SyncBatchNorm` does it on GPUs only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn

from mtt_brian.snn.staged import NORMS


@contextmanager
def shared_statistics(model: nn.Module) -> Iterator[None]:
    """While this lasts, norms in training mode take mean and variance over the items of all processes.

    What they give, their gradients and their running statistics are those of one process with all items, up to
    rounding. All processes have to run the network the same number of times; their numbers of items may differ.
    """
    norms = [module for module in model.modules() if isinstance(module, NORMS)]
    for norm in norms:
        norm.forward = partial(_forward, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward  # the class's own method is seen again


def _forward(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    """As the norm's own forward, on [N, C, *]."""
    if not norm.training:
        return type(norm).forward(norm, x)
    values = x.to(torch.promote_types(x.dtype, torch.float32))  # under autocast too
    all_but_channels = [0, *range(2, x.ndim)]
    per_channel = (-1, *[1] * (x.ndim - 2))
    count = values.new_tensor([values.numel() / values.shape[1]])
    *_, count = total = _Sum.apply(torch.cat([values.sum(all_but_channels), count]))
    mean = total[:-1] / count
    centred = values - mean.reshape(per_channel)
    variance = _Sum.apply(centred.square().sum(all_but_channels)) / count
    _remember(norm, mean.detach(), (variance * count / (count - 1)).detach())
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    y = centred * scale.reshape(per_channel)
    if norm.bias is not None:
        y = y + norm.bias.reshape(per_channel)
    return y.to(x.dtype)


@torch.no_grad()
def _remember(norm: nn.BatchNorm1d | nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Update the running statistics: an exponential mean, or with ``momentum = None`` the cumulative one."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    weight = 1 / norm.num_batches_tracked.item() if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), weight)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), weight)


class _Sum(torch.autograd.Function):
    """The sum over all processes; what depends on it does so in all of them, hence the gradient is a sum as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)
