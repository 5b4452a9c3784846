"""The time steps of a population and their gradient, written as plain expressions: on any device, in any type.

`torch.compile` can turn them into one kernel; on a CPU `mtt_brian.snn.ops.cpu` has the same in compiled form.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtt_brian.snn.ops.memory_format import in_memory_order
from mtt_brian.snn.surrogate import Surrogate


@dataclass(frozen=True)
class Step:
    """One time step of a rule, in plain numbers. ``decay`` is 1 for a membrane that does not leak."""

    threshold: float
    subtract: bool
    many: bool
    lower_bound: float | None
    v_reset: float
    decay: float
    v_leak: float


class Course(NamedTuple):
    """So many time steps, one after the other, from a membrane at 0."""

    length: int
    step: Step


class Plan(NamedTuple):
    """How a population goes through time; T is the number of all its time steps.

    Attributes:
        courses: which together have T time steps, those of the first one first.
        frame_of: int64 [T], the frame that each time step sees; None: step t sees frame t. Every frame is seen, one
            after the other, none by two courses.
        group_of: int64 [T], the group to whose spikes those of each time step are added; None: each has its own. Groups
            follow each other as well.
        groups: their number.
    """

    courses: Sequence[Course]
    frame_of: Tensor | None
    group_of: Tensor | None
    groups: int


def forward(x: Tensor, plan: Plan, compile: bool = False) -> tuple[Tensor, Tensor]:
    """Jumps [frames, N, *] -> membranes before the reset [T, N, *] and spikes [groups, N, *].

    Args:
        compile: see `_compiled`.
    """
    steps = _compiled(_forward) if compile else _forward

    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        seen = x if plan.frame_of is None else x.index_select(0, plan.frame_of)
        parts = zip(seen.split(_lengths(plan)), plan.courses, strict=True)
        membranes, spikes = zip(*(steps(part, step) for part, (_, step) in parts), strict=True)
        return _in_a_row(membranes), _summed(_in_a_row(spikes), plan.group_of, plan.groups)

    return in_memory_order(function, x)


def backward(
    grad_spikes: Tensor, membrane: Tensor, plan: Plan, frames: int, surrogate: Surrogate, compile: bool = False
) -> Tensor:
    """Gradients of the spikes and the membranes of `forward` -> gradient of the jumps [frames, N, *]."""
    steps = _compiled(_backward) if compile else _backward

    def function(membrane: Tensor, grad_spikes: Tensor) -> Tensor:
        grad_each = grad_spikes if plan.group_of is None else grad_spikes.index_select(0, plan.group_of)
        parts = zip(grad_each.split(_lengths(plan)), membrane.split(_lengths(plan)), plan.courses, strict=True)
        return _summed(
            _in_a_row([steps(grad, v, step, surrogate) for grad, v, (_, step) in parts]), plan.frame_of, frames
        )

    return in_memory_order(function, membrane, grad_spikes)


def _lengths(plan: Plan) -> list[int]:
    return [course.length for course in plan.courses]


def _summed(x: Tensor, to: Tensor | None, frames: int) -> Tensor:
    return x if to is None else x.new_zeros(frames, *x.shape[1:]).index_add_(0, to, x)


def _in_a_row(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)  # type: ignore[arg-type]


def _forward(x: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    after = torch.zeros_like(x[0])
    # A tensor, because CUDA divides by a plain number with a rounded reciprocal: v = threshold might not fire.
    threshold = torch.full((), step.threshold, dtype=x.dtype, device=x.device)
    membranes, spikes = [], []
    for x_t in x.unbind():
        v = after + x_t if step.decay == 1 else step.decay * after + (1 - step.decay) * step.v_leak + x_t
        if step.lower_bound is not None:
            v = v.clamp(min=step.lower_bound)
        if step.many and step.subtract:
            n = torch.floor(v / threshold).clamp(min=0)
        else:
            n = (v >= step.threshold).to(v.dtype)
        after = v - step.threshold * n if step.subtract else torch.where(n > 0, step.v_reset, v)
        membranes.append(v)
        spikes.append(n)
    return torch.stack(membranes), torch.stack(spikes)


def _backward(grad_spikes: Tensor, membrane: Tensor, step: Step, surrogate: Surrogate) -> Tensor:
    after = torch.zeros_like(membrane[0])  # gradient with respect to the membrane after the reset
    gradients = []
    for grad_n, v in zip(reversed(grad_spikes.unbind()), reversed(membrane.unbind()), strict=True):
        slope = surrogate(v, step.threshold)
        if step.subtract:
            # v_after = v - threshold * n
            g = after + (grad_n - step.threshold * after) * slope
        else:
            # v_after = n * v_reset + (1 - n) * v
            g = torch.where(v < step.threshold, after, 0.0) + (grad_n + after * (step.v_reset - v)) * slope
        if step.lower_bound is not None:
            g = torch.where(v > step.lower_bound, g, 0.0)
        after = g * step.decay
        gradients.append(g)
    return torch.stack(gradients[::-1])


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """One of the two above, compiled anew for every number of time steps and every rule, for all shapes at once."""
    torch._dynamo.config.cache_size_limit = 1000
    return torch.compile(function, dynamic=True)
