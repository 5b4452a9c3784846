"""Batch norms: their statistics in each segment, what they make of a frame, and the gradients."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from mtt_brian.snn.ops.gpu.blocks import BLOCK, KINDS, SUMMING, add, clear, frame_size, real_type, steps_of, store_sums
from mtt_brian.snn.ops.memory_format import dense, dense_like, frames_like
from mtt_brian.snn.ops.time_plan import RoomPlan, TimePlan

#: Channels and programs that a kernel over sums handles at a time.
_TILE, _ROWS = 8, 256


class Normed(NamedTuple):
    """A batch norm's input and what it did with it, for the gradient.

    Attributes:
        x: the input, in the memory format of the membranes.
        numbers: [segments, 4, channels]: factor, summand, mean, 1 / standard deviation.
        training: whether mean and standard deviation are those of the input.
    """

    x: Tensor
    numbers: Tensor
    training: bool


def fits_norm(x: Tensor, norm: nn.Module) -> bool:
    """Whether the kernels of a population contain this batch norm in front of it, for frames that fit.

    It has scales, shifts and running statistics; channels are innermost in memory, and a power of two.
    """
    if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
        return False
    return (
        type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d)  # others act on several processes
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and norm.weight.dtype == real_type(x)
        and x.ndim == (5 if type(norm) is nn.BatchNorm2d else 3)
        and x.stride(2) == 1
        and norm.num_features == x.shape[2] <= BLOCK
        and x.shape[2].bit_count() == 1
        and frame_size(x) > x.shape[2]  # the variance of one number is an error
    )


def norm_forward(x: Tensor, norm: nn.BatchNorm1d | nn.BatchNorm2d, plan: TimePlan | RoomPlan) -> tuple[Tensor, Normed]:
    """The output of a norm that is not in front of a population: of frames that are neither repeated nor summed."""
    x = dense(x)
    normed, y = measured(x, norm, plan), frames_like(x, plan.steps)
    size = frame_size(x)
    with torch.cuda.device_of(x):
        _norm_apply[(-(-size // BLOCK), len(plan.lengths))](
            x,
            y,
            normed.numbers,
            plan.table_on(x.device),
            size,
            plan.steps,
            channels=x.shape[2],
            real=KINDS[normed.numbers.dtype],
            block=BLOCK,
        )
    return y, normed


def norm_backward(grad_y: Tensor, normed: Normed, plan: TimePlan | RoomPlan) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the input of `norm_forward`, and of scales and shifts."""
    x, numbers, _ = normed
    grad, size = dense_like(grad_y, x), frame_size(x)
    programs = min(-(-size // BLOCK), SUMMING)
    sums = numbers.new_empty(len(plan.lengths), programs, 2, x.shape[2])
    with torch.cuda.device_of(x):
        _norm_sums[(programs, len(plan.lengths))](
            grad,
            x,
            numbers,
            sums,
            plan.table_on(x.device),
            size,
            channels=x.shape[2],
            real=KINDS[numbers.dtype],
            block=BLOCK,
        )
    return input_gradient(grad.clone(), sums, normed, plan)


def measured(x: Tensor, norm: nn.BatchNorm1d | nn.BatchNorm2d, plan: TimePlan | RoomPlan) -> Normed:
    """What a norm does with its input, and in training mode its next running statistics."""
    channels, segments, size = x.shape[2], len(plan.lengths), frame_size(x)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    numbers = x.new_empty(segments, 4, channels, dtype=real_type(x))
    table = plan.table_on(x.device)
    programs, sums = 0, numbers
    with torch.cuda.device_of(x):
        if norm.training:
            programs = min(-(-size // BLOCK), SUMMING)
            sums = numbers.new_empty(segments, programs, 2, channels)
            _moments[(programs, segments)](
                x,
                sums,
                table,
                size,
                plan.steps + 2,
                channels=channels,
                repeats=plan.repeat is not None,
                real=KINDS[numbers.dtype],
                block=BLOCK,
            )
        tile = min(channels, _TILE)
        _norm_numbers[(channels // tile,)](
            sums,
            numbers,
            norm.weight,
            norm.bias,
            norm.running_mean,
            norm.running_var,
            norm.num_batches_tracked,
            table,
            segments,
            programs,
            channels,
            size // channels,
            eps=norm.eps,
            momentum=norm.momentum,
            training=norm.training,
            tile=tile,
            rows=_ROWS,
        )
    return Normed(x, numbers, norm.training)


def input_gradient(
    grad: Tensor, sums: Tensor, normed: Normed, plan: TimePlan | RoomPlan
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a norm's input, which replaces that of its output, and of scales and shifts."""
    x, numbers, training = normed
    channels, size = x.shape[2], frame_size(x)
    grad_weight, grad_bias = numbers.new_empty(2, channels).unbind()
    factors = numbers.new_empty(len(plan.lengths), 3, channels)
    tile = min(channels, _TILE)
    with torch.cuda.device_of(x):
        _norm_gradients[(channels // tile,)](
            sums,
            numbers,
            factors,
            grad_weight,
            grad_bias,
            plan.table_on(x.device),
            len(plan.lengths),
            sums.shape[1],
            channels,
            size // channels,
            training=training,
            tile=tile,
            rows=_ROWS,
        )
        _norm_input_gradient[(-(-size // BLOCK), len(grad))](
            grad,
            x,
            factors,
            plan.table_on(x.device),
            size,
            plan.steps + 2,
            channels=channels,
            training=training,
            real=KINDS[numbers.dtype],
            block=BLOCK,
        )
    return grad, grad_weight, grad_bias


@triton.jit(do_not_specialize=["row"])
def _moments(  # type: ignore[no-untyped-def]
    x,
    sums,
    table,
    size,
    row,
    channels: tl.constexpr,
    repeats: tl.constexpr,
    real: tl.constexpr,
    block: tl.constexpr,
):
    """Sums of x and of its square over the time steps of a segment, for each channel."""
    segment = tl.program_id(1)
    begin, end = steps_of(table, segment)
    sum_x = tl.full([block], 0, real)
    sum_xx = tl.full([block], 0, real)
    for first in range(tl.program_id(0) * block, size, tl.num_programs(0) * block):
        neuron = first + tl.arange(0, block)
        there = neuron < size
        for t in range(begin, end):
            frame = tl.load(table + row + 1 + t).to(tl.int64) if repeats else t
            input = tl.load(x + frame * size + neuron, mask=there, other=0).to(real)
            sum_x += input
            sum_xx += input * input
    store_sums(sums, sum_x, sum_xx, segment, channels, block)


@triton.jit
def _norm_numbers(  # type: ignore[no-untyped-def]
    sums,
    numbers,
    weight,
    bias,
    running_mean,
    running_var,
    batches,
    table,
    segments,
    programs,
    channels,
    per_step,
    eps: tl.constexpr,
    momentum: tl.constexpr,
    training: tl.constexpr,
    tile: tl.constexpr,
    rows: tl.constexpr,
):
    """The numbers of `Normed`, and the running statistics after all segments. ``per_step``: numbers per channel."""
    channel = tl.program_id(0) * tile + tl.arange(0, tile)
    scale = tl.load(weight + channel).to(tl.float64)
    shift = tl.load(bias + channel).to(tl.float64)
    mean = tl.load(running_mean + channel).to(tl.float64)
    variance = tl.load(running_var + channel).to(tl.float64)
    later_mean = mean
    later_variance = variance
    for segment in range(0, segments):
        if training:
            steps = tl.load(table + segment + 1) - tl.load(table + segment)
            count = steps.to(tl.float64) * per_step
            sum_x, sum_xx = _load_sums(sums, segment, programs, channels, channel, tile, rows)
            mean = sum_x / count
            variance = sum_xx / count - mean * mean
            variance = tl.where(variance < 0, 0.0, variance)
            later_mean += momentum * (mean - later_mean)
            later_variance += momentum * (variance * (count / (count - 1)) - later_variance)
        rate = 1 / tl.sqrt(variance + eps)
        place = numbers + segment * 4 * channels + channel
        kind = numbers.dtype.element_ty
        tl.store(place, (scale * rate).to(kind))
        tl.store(place + channels, (shift - mean * scale * rate).to(kind))
        tl.store(place + 2 * channels, mean.to(kind))
        tl.store(place + 3 * channels, rate.to(kind))
    if training:
        tl.store(running_mean + channel, later_mean.to(running_mean.dtype.element_ty))
        tl.store(running_var + channel, later_variance.to(running_var.dtype.element_ty))
        if tl.program_id(0) == 0:
            tl.store(batches, tl.load(batches) + segments)


@triton.jit(do_not_specialize=["frames"])
def _norm_apply(  # type: ignore[no-untyped-def]
    x,
    y,
    numbers,
    table,
    size,
    frames,
    channels: tl.constexpr,
    real: tl.constexpr,
    block: tl.constexpr,
):
    """The output of a norm; frames without a time step become 0."""
    neuron = tl.program_id(0) * block + tl.arange(0, block)
    there = neuron < size
    segment = tl.program_id(1)
    begin, end = steps_of(table, segment)
    number = numbers + segment * 4 * channels + tl.arange(0, block) % channels
    factor = tl.load(number)
    summand = tl.load(number + channels)
    for t in range(begin, end):
        input = tl.load(x + t * size + neuron, mask=there, other=0).to(real)
        tl.store(y + t * size + neuron, (factor * input + summand).to(y.dtype.element_ty), mask=there)
    if segment == tl.num_programs(1) - 1:
        clear(y, end, frames, size, neuron, block)


@triton.jit
def _norm_sums(  # type: ignore[no-untyped-def]
    grad_y,
    x,
    numbers,
    sums,
    table,
    size,
    channels: tl.constexpr,
    real: tl.constexpr,
    block: tl.constexpr,
):
    """Sums of the gradient and of its product with the normed input over the time steps of a segment."""
    segment = tl.program_id(1)
    begin, end = steps_of(table, segment)
    lane = tl.arange(0, block)
    number = numbers + segment * 4 * channels + lane % channels
    mean = tl.load(number + 2 * channels)
    rate = tl.load(number + 3 * channels)
    sum_g = tl.full([block], 0, real)
    sum_gx = tl.full([block], 0, real)
    for first in range(tl.program_id(0) * block, size, tl.num_programs(0) * block):
        neuron = first + lane
        there = neuron < size
        for t in range(begin, end):
            g = tl.load(grad_y + t * size + neuron, mask=there, other=0).to(real)
            input = tl.load(x + t * size + neuron, mask=there, other=0).to(real)
            sum_g += g
            sum_gx += g * ((input - mean) * rate)
    store_sums(sums, sum_g, sum_gx, segment, channels, block)


@triton.jit
def _norm_gradients(  # type: ignore[no-untyped-def]
    sums,
    numbers,
    factors,
    grad_weight,
    grad_bias,
    table,
    segments,
    programs,
    channels,
    per_step,
    training: tl.constexpr,
    tile: tl.constexpr,
    rows: tl.constexpr,
):
    """Gradients of scales and shifts, and the factors [segments, 3, channels] of the gradient of the norm's input.

    That is ``factor * (g - mean(g) - normed * mean(g * normed))``, in training mode: a * g + b * x + c.
    """
    channel = tl.program_id(0) * tile + tl.arange(0, tile)
    all_g = tl.full([tile], 0, tl.float64)
    all_gx = tl.full([tile], 0, tl.float64)
    for segment in range(0, segments):
        steps = tl.load(table + segment + 1) - tl.load(table + segment)
        count = steps.to(tl.float64) * per_step
        sum_g, sum_gx = _load_sums(sums, segment, programs, channels, channel, tile, rows)
        all_g += sum_g
        all_gx += sum_gx
        place = numbers + segment * 4 * channels + channel
        factor = tl.load(place).to(tl.float64)
        kind = factors.dtype.element_ty
        goal = factors + segment * 3 * channels + channel
        tl.store(goal, factor.to(kind))
        if training:
            mean = tl.load(place + 2 * channels).to(tl.float64)
            rate = tl.load(place + 3 * channels).to(tl.float64)
            per_x = -factor * rate * (sum_gx / count)
            tl.store(goal + channels, per_x.to(kind))
            tl.store(goal + 2 * channels, (-factor * (sum_g / count) - per_x * mean).to(kind))
    tl.store(grad_weight + channel, all_gx.to(grad_weight.dtype.element_ty))
    tl.store(grad_bias + channel, all_g.to(grad_bias.dtype.element_ty))


@triton.jit(do_not_specialize=["row"])
def _norm_input_gradient(  # type: ignore[no-untyped-def]
    grad,
    x,
    factors,
    table,
    size,
    row,
    channels: tl.constexpr,
    training: tl.constexpr,
    real: tl.constexpr,
    block: tl.constexpr,
):
    """The gradient of the norm's output becomes that of its input, in place."""
    neuron = tl.program_id(0) * block + tl.arange(0, block)
    there = neuron < size
    frame = tl.program_id(1)
    factor = factors + tl.load(table + 3 * row + frame) * 3 * channels + tl.arange(0, block) % channels
    place = frame.to(tl.int64) * size + neuron
    g = tl.load(factor) * tl.load(grad + place, mask=there, other=0).to(real)
    if training:
        times = tl.load(table + 4 * row + frame).to(real)
        input = tl.load(x + place, mask=there, other=0).to(real)
        g += times * (tl.load(factor + channels) * input + tl.load(factor + 2 * channels))
    tl.store(grad + place, g.to(grad.dtype.element_ty), mask=there)


@triton.jit
def _load_sums(sums, segment, programs, channels, channel, tile: tl.constexpr, rows: tl.constexpr):  # type: ignore[no-untyped-def]
    """The two sums of a segment over all programs, float64 [tile] each."""
    one = tl.full([rows, tile], 0, tl.float64)
    other = tl.full([rows, tile], 0, tl.float64)
    for first in range(0, programs, rows):
        program = first + tl.arange(0, rows)
        place = sums + ((segment * programs + program) * 2 * channels)[:, None] + channel[None, :]
        there = (program < programs)[:, None]
        one += tl.load(place, mask=there, other=0).to(tl.float64)
        other += tl.load(place + channels, mask=there, other=0).to(tl.float64)
    return tl.reduce(one, 0, add), tl.reduce(other, 0, add)
