"""The time steps of a population and their gradient in plain torch expressions, for any device and type.

`torch.compile` can compile them into one kernel; `mtt_brian.snn.ops.cpu` has the same as compiled loops for a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtt_brian.snn.ops.internals import compiled
from mtt_brian.snn.ops.memory_format import preserve_memory_format
from mtt_brian.snn.ops.time_plan import FrameMap, TimePlan, on_device
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


def forward(x: Tensor, plan: TimePlan, steps: Sequence[Step], compile: bool = False) -> tuple[Tensor, Tensor]:
    """Jumps [frames, N, *] -> membranes before the reset [T, N, *] and spikes [groups, N, *].

    Args:
        x: the jumps.
        plan: the segments, each of which starts from v = 0.
        steps: the rule of one time step of each segment.
        compile: see `compiled`.
    """
    one_segment = compiled(_forward) if compile else _forward

    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        seen = x if plan.repeat is None else x.index_select(0, _index(plan.repeat.source, x))
        segments = zip(seen.split(plan.lengths), steps, strict=True)
        membranes, spikes = zip(*(one_segment(segment, step) for segment, step in segments), strict=True)
        return _joined(membranes), _joined(spikes) if plan.sums is None else apply_map(_joined(spikes), plan.sums)

    return preserve_memory_format(function, x)


def backward(
    grad_spikes: Tensor,
    membrane: Tensor,
    plan: TimePlan,
    steps: Sequence[Step],
    frames: int,
    surrogate: Surrogate,
    compile: bool = False,
) -> Tensor:
    """Gradients of the spikes and the membranes of `forward` -> gradient of the jumps [frames, N, *]."""
    one_segment = compiled(_backward) if compile else _backward

    def function(membrane: Tensor, grad_spikes: Tensor) -> Tensor:
        grad_each = (
            grad_spikes if plan.sums is None else grad_spikes.index_select(0, _index(plan.sums.target, membrane))
        )
        segments = zip(grad_each.split(plan.lengths), membrane.split(plan.lengths), steps, strict=True)
        gradients = [one_segment(grad, v, step, surrogate) for grad, v, step in segments]
        return (
            _joined(gradients) if plan.repeat is None else apply_map(_joined(gradients), plan.repeat.transposed(frames))
        )

    return preserve_memory_format(function, membrane, grad_spikes)


def apply_map(x: Tensor, frame_map: FrameMap) -> Tensor:
    """[T, *] -> [frame_map.frames, *]: the frames that are added to none are 0."""

    def add(x: Tensor) -> Tensor:
        if frame_map.source != tuple(range(len(x))):
            x = x.index_select(0, _index(frame_map.source, x))
        if frame_map.target == tuple(range(frame_map.frames)):
            return x
        return x.new_zeros(frame_map.frames, *x.shape[1:]).index_add_(0, _index(frame_map.target, x), x)

    return preserve_memory_format(add, x)


def _index(numbers: tuple[int, ...], x: Tensor) -> Tensor:
    return on_device(numbers, torch.int64, x.device)


def _joined(parts: Sequence[Tensor]) -> Tensor:
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
