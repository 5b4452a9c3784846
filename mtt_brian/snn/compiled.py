"""The time steps of a population as `torch.compile` turns them into one kernel.

The rule and its gradient are those of `mtt_brian.snn.neurons`, which writes every step where it belongs: the fastest
way without a compiler, and one that a compiler cannot see through. Here steps are plain expressions, put together at
the end.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mtt_brian.snn.surrogate import Surrogate

if TYPE_CHECKING:
    from mtt_brian.snn.neurons import Step


def forward(x: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """Jumps [T, N, *] -> membranes before the reset and spikes, both [T, N, *]."""
    after = torch.zeros_like(x[0])
    membranes, spikes = [], []
    for x_t in x.unbind():
        v = after + x_t if step.decay == 1 else step.decay * after + (1 - step.decay) * step.v_leak + x_t
        if step.lower_bound is not None:
            v = v.clamp(min=step.lower_bound)
        if step.many and step.subtract:
            n = torch.floor(v / step.threshold).clamp(min=0)
        else:
            n = (v >= step.threshold).to(v.dtype)
        after = v - step.threshold * n if step.subtract else torch.where(n > 0, step.v_reset, v)
        membranes.append(v)
        spikes.append(n)
    return torch.stack(membranes), torch.stack(spikes)


def backward(grad_spikes: Tensor, membrane: Tensor, step: Step, surrogate: Surrogate) -> Tensor:
    """Gradients of the spikes and the membranes of `forward` -> gradient of the jumps, all [T, N, *]."""
    after = torch.zeros_like(membrane[0])
    gradients = []
    for grad_n, v in zip(reversed(grad_spikes.unbind()), reversed(membrane.unbind()), strict=True):
        slope = surrogate(v, step.threshold)
        if step.subtract:
            g = after + (grad_n - step.threshold * after) * slope
        else:
            g = torch.where(v < step.threshold, after, 0.0) + (grad_n + after * (step.v_reset - v)) * slope
        if step.lower_bound is not None:
            g = torch.where(v > step.lower_bound, g, 0.0)
        after = g * step.decay
        gradients.append(g)
    return torch.stack(gradients[::-1])


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`forward` or `backward`, compiled anew for every number of time steps and every rule, for all shapes at once."""
    torch._dynamo.config.cache_size_limit = 1000
    return torch.compile(function, dynamic=True)
