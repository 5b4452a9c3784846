"""Batch norm over the batch of all processes: `torch.nn.SyncBatchNorm` does it on GPUs only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from mtt_brian.snn.residual import NORMS


class _Shared:
    """Forward pass of a batch norm with mean and variance over the items of all processes, in training mode.

    Outputs, gradients and running statistics are those of one process with all items, up to rounding. All processes
    must run the network the same number of times; their numbers of items may differ.

    Shape:
        [N, C, *] -> [N, C, *].
    """

    def forward(self: Any, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)  # type: ignore[misc]
        values = x.to(torch.promote_types(x.dtype, torch.float32))  # under autocast too
        all_but_channels = [0, *range(2, x.ndim)]
        per_channel = (-1, *[1] * (x.ndim - 2))
        count = values.new_tensor([values.numel() / values.shape[1]])
        *_, count = total = _Sum.apply(torch.cat([values.sum(all_but_channels), count]))
        mean = total[:-1] / count
        centred = values - mean.reshape(per_channel)
        variance = _Sum.apply(centred.square().sum(all_but_channels)) / count
        _update_statistics(self, mean.detach(), (variance * count / (count - 1)).detach())
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        y = centred * scale.reshape(per_channel)
        if self.bias is not None:
            y = y + self.bias.reshape(per_channel)
        return y.to(x.dtype)


class SharedBatchNorm1d(_Shared, nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` over the batch of all processes."""


class SharedBatchNorm2d(_Shared, nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` over the batch of all processes."""


@contextmanager
def shared_norms(model: nn.Module) -> Iterator[None]:
    """Within the block, `SharedBatchNorm1d` and `SharedBatchNorm2d` replace the batch norms of the network.

    They have the same parameters and running statistics (the same tensors), which the norms keep afterwards.
    """
    places = [
        (parent, name, norm)
        for parent in model.modules()
        for name, norm in parent.named_children()
        if isinstance(norm, NORMS)
    ]
    for parent, name, norm in places:
        setattr(parent, name, _shared(norm))
    try:
        yield
    finally:
        for parent, name, norm in places:
            norm.train(getattr(parent, name).training)
            setattr(parent, name, norm)


def _shared(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.BatchNorm1d | nn.BatchNorm2d:
    """A norm over all processes with the tensors of ``norm``."""
    kind = SharedBatchNorm1d if isinstance(norm, nn.BatchNorm1d) else SharedBatchNorm2d
    shared = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name, tensor in [*norm.named_parameters(), *norm.named_buffers()]:
        setattr(shared, name, tensor)
    return shared.train(norm.training)


class _Sum(torch.autograd.Function):
    """The sum over all processes. Every process uses it, so the gradient is the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)


@torch.no_grad()
def _update_statistics(norm: nn.BatchNorm1d | nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Update the running statistics: an exponential mean, or with ``momentum = None`` the cumulative one."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    weight = 1 / norm.num_batches_tracked.item() if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), weight)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), weight)
