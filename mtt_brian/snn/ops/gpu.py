"""The time steps of a population and their gradient as Triton kernels, for a GPU: one launch each.

A program computes a block of membranes through all time steps of one segment, with the state in registers. It reads
every input once and writes every result once. Inputs and spikes may be bfloat16; membranes are float32 at least.
The interpreter of Triton runs the same kernels on a CPU (TRITON_INTERPRET=1 before the import of this module).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mtt_brian.snn.ops.memory_format import dense, dense_like, frames_like
from mtt_brian.snn.ops.reference import Step
from mtt_brian.snn.ops.slope import slope_of
from mtt_brian.snn.ops.time_plan import FrameMap, TimePlan, on_device
from mtt_brian.snn.surrogate import Surrogate

#: Membranes per program: with 128 threads every one loads and stores 8 numbers, 16 bytes of bfloat16, at a time.
_BLOCK = 1024
#: A fused multiplication and addition is not rounded in between: v = threshold could miss its threshold.
_ROUNDED: dict[str, Any] = {"enable_fp_fusion": False}
_TYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


def fits(x: Tensor, surrogate: Surrogate | None = None) -> bool:
    """Whether there are kernels for these frames and this surrogate."""
    return (
        x.dtype in _TYPES
        and x[0].numel() < 2**31 - _BLOCK
        and (surrogate is None or slope_of(surrogate, 1.0) is not None)
    )


def check(device: torch.device) -> None:
    """Compiles and runs the smallest kernel.

    Raises:
        Exception: of any type, from Triton and the compilers that it calls.
    """
    found = apply_map(torch.ones(3, 1, device=device), FrameMap((0, 1, 2), (0, 0, 0), 1))
    if found.item() != 3:
        raise RuntimeError(f"Triton adds 1 + 1 + 1 to {found.item():g}")


def forward(x: Tensor, plan: TimePlan, steps: Sequence[Step], keep: bool = True) -> tuple[Tensor | None, Tensor]:
    """As `reference.forward`, with spikes of x's type; ``keep = False``: without membranes, which only the gradient
    needs."""
    x = dense(x)
    real = torch.promote_types(x.dtype, torch.float32)
    membrane = frames_like(x, plan.steps, real) if keep else None
    spikes = frames_like(x, plan.groups)
    size = x[0].numel()
    step = steps[0]
    _forward[_grid(size, len(steps))](
        x,
        spikes if membrane is None else membrane,
        spikes,
        _table(plan, x.device),
        _decays(steps, real, x.device),
        size,
        plan.steps + 2,
        **_rule(step),
        many=step.many and step.subtract,
        keep=keep,
        repeats=plan.repeat is not None,
        sums=plan.sums is not None,
        real=_REAL[real],
        block=_BLOCK,
        **_ROUNDED,
    )
    return membrane, spikes


def backward(
    grad_spikes: Tensor, membrane: Tensor, plan: TimePlan, steps: Sequence[Step], frames: int, surrogate: Surrogate
) -> Tensor:
    """As `reference.backward`, for membranes of `forward`; the gradient has the type of ``grad_spikes``."""
    grad_spikes = dense_like(grad_spikes, membrane)
    grad_x = frames_like(membrane, frames, grad_spikes.dtype)
    size = membrane[0].numel()
    step = steps[0]
    slope = slope_of(surrogate, step.threshold)
    assert slope is not None
    _backward[_grid(size, len(steps))](
        grad_spikes,
        membrane,
        grad_x,
        _table(plan, membrane.device),
        _decays(steps, membrane.dtype, membrane.device),
        size,
        plan.steps + 2,
        **_rule(step),
        **slope._asdict(),
        repeats=plan.repeat is not None,
        sums=plan.sums is not None,
        real=_REAL[membrane.dtype],
        block=_BLOCK,
        **_ROUNDED,
    )
    return grad_x


def apply_map(x: Tensor, frame_map: FrameMap) -> Tensor:
    """As `reference.apply_map`; sums are rounded once, to x's type."""
    x = dense(x)
    mapped = frames_like(x, frame_map.frames)
    size = x[0].numel()
    real = torch.promote_types(x.dtype, torch.float32)
    grid = _grid(size, frame_map.frames)
    _apply_map[grid](
        x, mapped, _sources(frame_map, x.device), size, frame_map.frames + 1, real=_REAL[real], block=_BLOCK
    )
    return mapped


_REAL = {torch.float32: tl.float32, torch.float64: tl.float64}


def _grid(size: int, segments: int) -> tuple[int, int]:
    return -(-size // _BLOCK), segments


def _rule(step: Step) -> dict[str, Any]:
    """The constants of a rule that are the same in all segments."""
    return {
        "threshold": step.threshold,
        "bound": -math.inf if step.lower_bound is None else step.lower_bound,
        "v_reset": step.v_reset,
        "subtract": step.subtract,
        "leaks": step.decay != 1,
    }


def _decays(steps: Sequence[Step], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Decay per step of each segment, and what it adds to the membrane: [2 * segments]."""
    each = [number for step in steps for number in (step.decay, (1 - step.decay) * step.v_leak)]
    return on_device(tuple(each), dtype, device)


@lru_cache(10_000)
def _table(plan: TimePlan, device: torch.device) -> Tensor:
    """Three rows of T + 2 integers.

    The first step of every segment and T; the frame of every step; its group. The last two rows have -1 in front of
    the first and behind the last step.
    """
    starts = [sum(plan.lengths[:i]) for i in range(len(plan.lengths) + 1)]
    starts += [0] * (plan.steps + 2 - len(starts))
    return on_device((*starts, -1, *plan.frame_of, -1, -1, *plan.group_of, -1), torch.int32, device)


@lru_cache(10_000)
def _sources(frame_map: FrameMap, device: torch.device) -> Tensor:
    """The sources of all targets, target after target, behind the frames + 1 places where those of a target begin."""
    pairs = sorted(zip(frame_map.target, frame_map.source, strict=True))
    counts = [0] * (frame_map.frames + 1)
    for target, _ in pairs:
        counts[target + 1] += 1
    begins = [sum(counts[: i + 1]) for i in range(len(counts))]
    return on_device((*begins, *(source for _, source in pairs)), torch.int32, device)


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    x,
    membrane,
    spikes,
    table,
    decays,
    size,
    row,
    threshold: tl.constexpr,
    bound: tl.constexpr,
    v_reset: tl.constexpr,
    subtract: tl.constexpr,
    leaks: tl.constexpr,
    many: tl.constexpr,
    keep: tl.constexpr,
    repeats: tl.constexpr,
    sums: tl.constexpr,
    real: tl.constexpr,
    block: tl.constexpr,
):
    neuron = tl.program_id(0) * block + tl.arange(0, block)
    there = neuron < size
    segment = tl.program_id(1)
    # Time steps as int64: a tensor may have more than 2**31 numbers.
    begin = tl.load(table + segment).to(tl.int64)
    end = tl.load(table + segment + 1).to(tl.int64)
    if leaks:
        decay = tl.load(decays + 2 * segment)
        leak = tl.load(decays + 2 * segment + 1)
    # Tensors, because a plain number may become float32 where it meets float64.
    theta = tl.full([block], threshold, real)
    low = tl.full([block], bound, real)
    reset = tl.full([block], v_reset, real)
    after = tl.full([block], 0, real)
    count = tl.full([block], 0, real)
    for t in range(begin, end):
        frame = tl.load(table + row + 1 + t).to(tl.int64) if repeats else t
        jump = tl.load(x + frame * size + neuron, mask=there, other=0).to(real)
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


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    grad_spikes,
    membrane,
    grad_x,
    table,
    decays,
    size,
    row,
    threshold: tl.constexpr,
    bound: tl.constexpr,
    v_reset: tl.constexpr,
    subtract: tl.constexpr,
    leaks: tl.constexpr,
    exponential: tl.constexpr,
    periodic: tl.constexpr,
    rate: tl.constexpr,
    height: tl.constexpr,
    repeats: tl.constexpr,
    sums: tl.constexpr,
    real: tl.constexpr,
    block: tl.constexpr,
):
    neuron = tl.program_id(0) * block + tl.arange(0, block)
    there = neuron < size
    segment = tl.program_id(1)
    # Time steps as int64: a tensor may have more than 2**31 numbers.
    begin = tl.load(table + segment).to(tl.int64)
    end = tl.load(table + segment + 1).to(tl.int64)
    if leaks:
        decay = tl.load(decays + 2 * segment)
    low = tl.full([block], bound, real)
    after = tl.full([block], 0, real)  # gradient with respect to the membrane after the reset
    total = tl.full([block], 0, real)
    for k in range(0, end - begin):
        t = end - 1 - k
        group = tl.load(table + 2 * row + 1 + t).to(tl.int64) if sums else t
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
        if repeats:
            total += g
            frame = tl.load(table + row + 1 + t)
            first = frame != tl.load(table + row + t)
            place = grad_x + frame.to(tl.int64) * size + neuron
            tl.store(place, total.to(grad_x.dtype.element_ty), mask=there & first)
            total = tl.where(first, 0.0, total).to(real)
        else:
            tl.store(grad_x + t * size + neuron, g.to(grad_x.dtype.element_ty), mask=there)
        after = decay * g if leaks else g


@triton.jit
def _apply_map(x, mapped, sources, size, row, real: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    neuron = tl.program_id(0) * block + tl.arange(0, block)
    there = neuron < size
    frame = tl.program_id(1)
    total = tl.full([block], 0, real)
    for i in range(tl.load(sources + frame), tl.load(sources + frame + 1)):
        source = tl.load(sources + row + i).to(tl.int64)
        total += tl.load(x + source * size + neuron, mask=there, other=0).to(real)
    place = mapped + frame.to(tl.int64) * size + neuron
    tl.store(place, total.to(mapped.dtype.element_ty), mask=there)
