"""The time steps of a population and their gradient, with or without a batch norm in front of it: one launch each.

A program computes a block of membranes through all time steps of one segment, with the state in registers. It reads
every input once and writes every result once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from mtt_brian.snn.ops.gpu.blocks import (
    BLOCK,
    KINDS,
    SUMMING,
    TYPES,
    clear,
    frame_size,
    real_type,
    steps_of,
    store_sums,
)
from mtt_brian.snn.ops.gpu.norm import Normed, input_gradient, measured
from mtt_brian.snn.ops.memory_format import dense, dense_like, frames_like
from mtt_brian.snn.ops.reference import Step
from mtt_brian.snn.ops.slope import slope_of
from mtt_brian.snn.ops.time_plan import RoomPlan, TimePlan, on_device
from mtt_brian.snn.surrogate import Surrogate

#: A fused multiplication and addition is not rounded in between: v = threshold could miss its threshold.
_ROUNDED: dict[str, Any] = {"enable_fp_fusion": False}


def fits(x: Tensor, surrogate: Surrogate | None = None) -> bool:
    """Whether there are kernels for these frames and this surrogate."""
    return (
        x.dtype in TYPES
        and frame_size(x) < 2**31 - BLOCK
        and (surrogate is None or slope_of(surrogate, 1.0) is not None)
    )


def forward(
    x: Tensor, plan: TimePlan | RoomPlan, steps: Sequence[Step], keep: bool = True
) -> tuple[Tensor | None, Tensor]:
    """As `reference.forward`, with spikes of x's type; ``keep = False``: without membranes, which only the gradient
    needs."""
    return _run_forward(dense(x), plan, steps, keep, None)


def backward(
    grad_spikes: Tensor,
    membrane: Tensor,
    plan: TimePlan | RoomPlan,
    steps: Sequence[Step],
    frames: int,
    surrogate: Surrogate,
) -> Tensor:
    """As `reference.backward`, for membranes of `forward`; the gradient has the type of ``grad_spikes``."""
    return _run_backward(grad_spikes, membrane, plan, steps, frames, surrogate, None)[0]


def normed_forward(
    x: Tensor,
    norm: nn.BatchNorm1d | nn.BatchNorm2d,
    plan: TimePlan | RoomPlan,
    steps: Sequence[Step],
    keep: bool = True,
) -> tuple[Tensor | None, Tensor, Normed]:
    """`forward` for the output of ``norm``, which is never in memory.

    In training mode every segment has the statistics of its own time steps (a repeated frame counts as often as it is
    repeated), and the running statistics are updated segment after segment, as by one call each.
    """
    normed = measured(dense(x), norm, plan)
    membrane, spikes = _run_forward(normed.x, plan, steps, keep, normed)
    return membrane, spikes, normed


def normed_backward(
    grad_spikes: Tensor,
    membrane: Tensor,
    normed: Normed,
    plan: TimePlan | RoomPlan,
    steps: Sequence[Step],
    frames: int,
    surrogate: Surrogate,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the norm's input, scales and shifts."""
    grad, sums = _run_backward(grad_spikes, membrane, plan, steps, frames, surrogate, normed)
    return input_gradient(grad, sums, normed, plan)


def _run_forward(
    x: Tensor, plan: TimePlan | RoomPlan, steps: Sequence[Step], keep: bool, normed: Normed | None
) -> tuple[Tensor | None, Tensor]:
    real = real_type(x)
    membrane = frames_like(x, plan.steps, real) if keep else None
    spikes = frames_like(x, plan.groups)
    size = frame_size(x)
    with torch.cuda.device_of(x):
        _forward[(-(-size // BLOCK), len(steps))](
            x,
            spikes if membrane is None else membrane,
            spikes,
            x if normed is None else normed.numbers,
            plan.table_on(x.device),
            _decays(plan, steps, real, x.device),
            size,
            plan.steps + 2,
            plan.groups,
            **_rule(steps),
            many=steps[0].many and steps[0].subtract,
            keep=keep,
            channels=0 if normed is None else x.shape[2],
            repeats=plan.repeat is not None,
            sums=plan.sums is not None,
            room=isinstance(plan, RoomPlan),
            real=KINDS[real],
            block=BLOCK,
            **_ROUNDED,
        )
    return membrane, spikes


def _run_backward(
    grad_spikes: Tensor,
    membrane: Tensor,
    plan: TimePlan | RoomPlan,
    steps: Sequence[Step],
    frames: int,
    surrogate: Surrogate,
    normed: Normed | None,
) -> tuple[Tensor, Tensor]:
    """Gradient of the jumps, and with a norm the sums of it, and of it times the normed input: [segments, programs, 2,
    channels]."""
    grad_spikes = dense_like(grad_spikes, membrane)
    grad_x = frames_like(membrane, frames, grad_spikes.dtype)
    size = frame_size(membrane)
    slope = slope_of(surrogate, steps[0].threshold)
    assert slope is not None
    programs, channels, sums = -(-size // BLOCK), 0, grad_x
    if normed is not None:
        programs, channels = min(programs, SUMMING), normed.x.shape[2]
        sums = normed.numbers.new_empty(len(steps), programs, 2, channels)
    with torch.cuda.device_of(membrane):
        _backward[(programs, len(steps))](
            grad_spikes,
            membrane,
            grad_x,
            grad_spikes if normed is None else normed.x,
            sums if normed is None else normed.numbers,
            sums,
            plan.table_on(membrane.device),
            _decays(plan, steps, membrane.dtype, membrane.device),
            size,
            plan.steps + 2,
            frames,
            **_rule(steps),
            **slope._asdict(),
            channels=channels,
            repeats=plan.repeat is not None,
            sums_spikes=plan.sums is not None,
            room=isinstance(plan, RoomPlan),
            real=KINDS[membrane.dtype],
            block=BLOCK,
            **_ROUNDED,
        )
    return grad_x, sums


def _rule(steps: Sequence[Step]) -> dict[str, Any]:
    """The constants of a rule, which are the same in all segments."""
    step = steps[0]
    return {
        "threshold": step.threshold,
        "bound": -math.inf if step.lower_bound is None else step.lower_bound,
        "v_reset": step.v_reset,
        "subtract": step.subtract,
        "leaks": any(each.decay != 1 for each in steps),
    }


def _decays(plan: TimePlan | RoomPlan, steps: Sequence[Step], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Decay per step of each segment, and what it adds to the membrane: [2 * segments]."""
    if isinstance(plan, RoomPlan):
        return plan.decays
    each = [number for step in steps for number in (step.decay, (1 - step.decay) * step.v_leak)]
    return on_device(tuple(each), dtype, device)


@triton.jit(do_not_specialize=["row", "frames"])
def _forward(  # type: ignore[no-untyped-def]
    x,
    membrane,
    spikes,
    numbers,
    table,
    decays,
    size,
    row,
    frames,
    threshold: tl.constexpr,
    bound: tl.constexpr,
    v_reset: tl.constexpr,
    subtract: tl.constexpr,
    leaks: tl.constexpr,
    many: tl.constexpr,
    keep: tl.constexpr,
    channels: tl.constexpr,
    repeats: tl.constexpr,
    sums: tl.constexpr,
    room: tl.constexpr,
    real: tl.constexpr,
    block: tl.constexpr,
):
    neuron = tl.program_id(0) * block + tl.arange(0, block)
    there = neuron < size
    segment = tl.program_id(1)
    begin, end = steps_of(table, segment)
    if leaks:
        decay = tl.load(decays + 2 * segment)
        leak = tl.load(decays + 2 * segment + 1)
    if channels:
        number = numbers + segment * 4 * channels + tl.arange(0, block) % channels
        factor = tl.load(number)
        summand = tl.load(number + channels)
    # Tensors, because a plain number may become float32 where it meets float64.
    theta = tl.full([block], threshold, real)
    low = tl.full([block], bound, real)
    reset = tl.full([block], v_reset, real)
    after = tl.full([block], 0, real)
    count = tl.full([block], 0, real)
    for t in range(begin, end):
        frame = tl.load(table + row + 1 + t).to(tl.int64) if repeats else t
        jump = tl.load(x + frame * size + neuron, mask=there, other=0).to(real)
        if channels:
            jump = factor * jump + summand
        v = decay * after + leak + jump if leaks else after + jump
        # A comparison rather than a maximum, which would turn NaN into a finite number.
        v = tl.where(v < low, low, v)
        if many:
            if threshold == 1:
                n = tl.floor(v)
            elif real == tl.float32:
                n = tl.floor(tl.div_rn(v, theta))
            else:
                n = tl.floor(v / theta)
            n = tl.where(n < 0, 0.0, n)
        else:
            n = tl.where(v >= theta, 1.0, 0.0)
        n = n.to(real)
        after = v - theta * n if subtract else tl.where(n > 0, reset, v)
        if keep:
            tl.store(membrane + t * size + neuron, v, mask=there)
        if sums:
            count += n
            group = tl.load(table + 2 * row + 1 + t)
            last = group != tl.load(table + 2 * row + 2 + t)
            place = spikes + group.to(tl.int64) * size + neuron
            tl.store(place, count.to(spikes.dtype.element_ty), mask=there & last)
            count = tl.where(last, 0.0, count).to(real)
        else:
            tl.store(spikes + t * size + neuron, n.to(spikes.dtype.element_ty), mask=there)
    if room:  # noqa: SIM102 - Triton would compute both sides of "and"
        if segment == tl.num_programs(1) - 1:
            used = tl.load(table + 2 * row + end).to(tl.int64) + 1 if sums else end
            clear(spikes, used, frames, size, neuron, block)


@triton.jit(do_not_specialize=["row", "frames"])
def _backward(  # type: ignore[no-untyped-def]
    grad_spikes,
    membrane,
    grad_x,
    x,
    numbers,
    sums,
    table,
    decays,
    size,
    row,
    frames,
    threshold: tl.constexpr,
    bound: tl.constexpr,
    v_reset: tl.constexpr,
    subtract: tl.constexpr,
    leaks: tl.constexpr,
    exponential: tl.constexpr,
    periodic: tl.constexpr,
    rate: tl.constexpr,
    height: tl.constexpr,
    channels: tl.constexpr,
    repeats: tl.constexpr,
    sums_spikes: tl.constexpr,
    room: tl.constexpr,
    real: tl.constexpr,
    block: tl.constexpr,
):
    segment = tl.program_id(1)
    begin, end = steps_of(table, segment)
    if leaks:
        decay = tl.load(decays + 2 * segment)
    lane = tl.arange(0, block)
    if channels:
        number = numbers + segment * 4 * channels + lane % channels
        mean = tl.load(number + 2 * channels)
        rate_of_x = tl.load(number + 3 * channels)
    low = tl.full([block], bound, real)
    sum_g = tl.full([block], 0, real)
    sum_gx = tl.full([block], 0, real)
    for first in range(tl.program_id(0) * block, size, tl.num_programs(0) * block):
        neuron = first + lane
        there = neuron < size
        after = tl.full([block], 0, real)  # gradient with respect to the membrane after the reset
        total = tl.full([block], 0, real)
        for k in range(0, end - begin):
            t = end - 1 - k
            group = tl.load(table + 2 * row + 1 + t).to(tl.int64) if sums_spikes else t
            frame = tl.load(table + row + 1 + t).to(tl.int64) if repeats else t
            grad_n = tl.load(grad_spikes + group * size + neuron, mask=there, other=0).to(real)
            v = tl.load(membrane + t * size + neuron, mask=there, other=0)
            if periodic:
                nearest = tl.floor(v * (1 / threshold) + 0.5)
                edge = tl.where(nearest < 1, 1.0, nearest) * threshold
            else:
                edge = threshold
            distance = rate * tl.abs(v - edge)
            slope = height * (tl.exp(-distance) if exponential else tl.where(distance < 1, 1 - distance, 0.0))
            if subtract:
                g = after + (grad_n - threshold * after) * slope
            else:
                g = tl.where(v < threshold, after, 0.0) + (grad_n + after * (v_reset - v)) * slope
            g = tl.where(v <= low, 0.0, g).to(real)
            if channels:
                input = tl.load(x + frame * size + neuron, mask=there, other=0).to(real)
                sum_g += g
                sum_gx += g * ((input - mean) * rate_of_x)
            if repeats:
                total += g
                is_first = frame != tl.load(table + row + t)
                place = grad_x + frame * size + neuron
                tl.store(place, total.to(grad_x.dtype.element_ty), mask=there & is_first)
                total = tl.where(is_first, 0.0, total).to(real)
            else:
                tl.store(grad_x + t * size + neuron, g.to(grad_x.dtype.element_ty), mask=there)
            after = decay * g if leaks else g
        if room:  # noqa: SIM102 - see `_forward`
            if segment == tl.num_programs(1) - 1:
                used = tl.load(table + row + end).to(tl.int64) + 1 if repeats else end
                clear(grad_x, used, frames, size, neuron, block)
    if channels:
        store_sums(sums, sum_g, sum_gx, segment, channels, block)
