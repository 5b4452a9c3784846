"""The time steps of a population and their gradient, written as plain expressions: on any device, in any type.

`torch.compile` can turn them into one kernel; on a CPU `mtt_brian.snn.kernels` has the same in compiled form.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtt_brian.snn.memory import in_memory_order
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


def forward(
    x: Tensor, frame_of: Tensor | None, courses: Sequence[Course], compile: bool = False
) -> tuple[Tensor, Tensor]:
    """Jumps -> membranes before the reset and spikes, both [T, N, *].

    Args:
        x: [frames, N, *].
        frame_of: int64 [T], the frame that each time step sees; None: step t sees frame t.
        courses: which together have T time steps, those of the first one first.
        compile: see `_compiled`.
    """
    steps = _compiled(_forward) if compile else _forward
    seen = x if frame_of is None else in_memory_order(lambda x: x.index_select(0, frame_of), x)
    parts = zip(seen.split([course.length for course in courses]), courses, strict=True)
    membranes, spikes = zip(*(steps(part, step) for part, (_, step) in parts), strict=True)
    return _in_a_row(membranes), _in_a_row(spikes)


def backward(
    grad_spikes: Tensor,
    membrane: Tensor,
    frame_of: Tensor | None,
    frames: int,
    courses: Sequence[Course],
    surrogate: Surrogate,
    compile: bool = False,
) -> Tensor:
    """Gradients of the spikes [T, N, *] and the membranes of `forward` -> gradient of the jumps [frames, N, *]."""
    steps = _compiled(_backward) if compile else _backward
    lengths = [course.length for course in courses]
    parts = zip(grad_spikes.split(lengths), membrane.split(lengths), courses, strict=True)
    grad_seen = _in_a_row([steps(grad, v, step, surrogate) for grad, v, (_, step) in parts])
    if frame_of is None:
        return grad_seen
    return in_memory_order(lambda g: g.new_zeros(frames, *g.shape[1:]).index_add_(0, frame_of, g), grad_seen)


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
