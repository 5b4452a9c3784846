"""The time steps of a population and their gradient as Triton kernels, for a GPU: one launch each.

A program computes a block of membranes through all time steps of one segment, with the state in registers. It reads
every input once and writes every result once. Inputs and spikes may be bfloat16; membranes are float32 at least. A
batch norm in front of the population is part of it, with statistics for each segment: see `normed_forward`. Numbers of
frames and time steps are not specialised: they differ from iteration to iteration, and each would be compiled anew.

The interpreter of Triton runs the same kernels on a CPU (TRITON_INTERPRET=1 before the import of this module).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from mtt_brian.snn.ops.memory_format import dense, dense_like, frames_like
from mtt_brian.snn.ops.reference import Step
from mtt_brian.snn.ops.slope import slope_of
from mtt_brian.snn.ops.time_plan import FrameMap, RoomMap, RoomPlan, TimePlan, on_device
from mtt_brian.snn.surrogate import Surrogate

#: Membranes per program: with 128 threads every one loads and stores 8 numbers, 16 bytes of bfloat16, at a time.
_BLOCK = 1024
#: Most programs per segment of a kernel that sums over the membranes of a channel; each writes one sum per channel.
_SUMMING = 512
#: Channels and programs that a kernel over such sums handles at a time.
_TILE, _ROWS = 8, 256
#: A fused multiplication and addition is not rounded in between: v = threshold could miss its threshold.
_ROUNDED: dict[str, Any] = {"enable_fp_fusion": False}
_REAL = {torch.float32: tl.float32, torch.float64: tl.float64}
_TYPES = {torch.float16, torch.bfloat16, *_REAL}


def fits(x: Tensor, surrogate: Surrogate | None = None) -> bool:
    """Whether there are kernels for these frames and this surrogate."""
    return (
        x.dtype in _TYPES and _size(x) < 2**31 - _BLOCK and (surrogate is None or slope_of(surrogate, 1.0) is not None)
    )


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
        and norm.weight.dtype == _real(x)
        and x.ndim == (5 if type(norm) is nn.BatchNorm2d else 3)
        and x.stride(2) == 1
        and norm.num_features == x.shape[2] <= _BLOCK
        and x.shape[2].bit_count() == 1
        and _size(x) > x.shape[2]  # the variance of one number is an error
    )


def check(device: torch.device) -> None:
    """Compiles and runs the smallest kernel.

    Raises:
        Exception: of any type, from Triton and the compilers that it calls.
    """
    found = apply_map(torch.ones(3, 1, device=device), FrameMap((0, 1, 2), (0, 0, 0), 1))
    if found.item() != 3:
        raise RuntimeError(f"Triton adds 1 + 1 + 1 to {found.item():g}")


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
    normed = _measured(dense(x), norm, plan)
    membrane, spikes = _run_forward(normed.x, plan, steps, keep, normed)
    return membrane, spikes, normed


def _measured(x: Tensor, norm: nn.BatchNorm1d | nn.BatchNorm2d, plan: TimePlan | RoomPlan) -> Normed:
    """What a norm does with its input, and in training mode its next running statistics."""
    channels, segments, size = x.shape[2], len(plan.lengths), _size(x)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    numbers = x.new_empty(segments, 4, channels, dtype=_real(x))
    table = plan.table_on(x.device)
    programs, sums = 0, numbers
    with torch.cuda.device_of(x):
        if norm.training:
            programs = min(-(-size // _BLOCK), _SUMMING)
            sums = numbers.new_empty(segments, programs, 2, channels)
            _moments[(programs, segments)](
                x,
                sums,
                table,
                size,
                plan.steps + 2,
                channels=channels,
                repeats=plan.repeat is not None,
                real=_REAL[numbers.dtype],
                block=_BLOCK,
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
    return _input_gradient(grad, sums, normed, plan)


def norm_forward(x: Tensor, norm: nn.BatchNorm1d | nn.BatchNorm2d, plan: TimePlan | RoomPlan) -> tuple[Tensor, Normed]:
    """The output of a norm that is not in front of a population: of frames that are neither repeated nor summed."""
    x = dense(x)
    normed, y = _measured(x, norm, plan), frames_like(x, plan.steps)
    size = _size(x)
    with torch.cuda.device_of(x):
        _norm_apply[(-(-size // _BLOCK), len(plan.lengths))](
            x,
            y,
            normed.numbers,
            plan.table_on(x.device),
            size,
            plan.steps,
            channels=x.shape[2],
            real=_REAL[normed.numbers.dtype],
            block=_BLOCK,
        )
    return y, normed


def norm_backward(grad_y: Tensor, normed: Normed, plan: TimePlan | RoomPlan) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the input of `norm_forward`, and of scales and shifts."""
    x, numbers, _ = normed
    grad, size = dense_like(grad_y, x), _size(x)
    programs = min(-(-size // _BLOCK), _SUMMING)
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
            real=_REAL[numbers.dtype],
            block=_BLOCK,
        )
    return _input_gradient(grad.clone(), sums, normed, plan)


def _input_gradient(
    grad: Tensor, sums: Tensor, normed: Normed, plan: TimePlan | RoomPlan
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a norm's input, which replaces that of its output, and of scales and shifts."""
    x, numbers, training = normed
    channels, size = x.shape[2], _size(x)
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
        _norm_input_gradient[(-(-size // _BLOCK), len(grad))](
            grad,
            x,
            factors,
            plan.table_on(x.device),
            size,
            plan.steps + 2,
            channels=channels,
            training=training,
            real=_REAL[numbers.dtype],
            block=_BLOCK,
        )
    return grad, grad_weight, grad_bias


def apply_map(x: Tensor, frame_map: FrameMap | RoomMap) -> Tensor:
    """As `reference.apply_map`; sums are rounded once, to x's type."""
    x = dense(x)
    mapped = frames_like(x, frame_map.frames)
    size = _size(x)
    with torch.cuda.device_of(x):
        _apply_map[(-(-size // _BLOCK), frame_map.frames)](
            x, mapped, frame_map.sources_on(x.device), size, frame_map.frames + 1, real=_REAL[_real(x)], block=_BLOCK
        )
    return mapped


def fits_pool(x: Tensor, windows: tuple[int, int]) -> bool:
    """Whether there are kernels for means over these windows, side by side, of frames [N, C, H, W].

    The windows divide the frames, and channels are innermost in memory.
    """
    return (
        x.dtype in _TYPES
        and x.numel() < 2**31 - _BLOCK
        and x.shape[2] % windows[0] == x.shape[3] % windows[1] == 0
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def pool(x: Tensor, windows: tuple[int, int]) -> Tensor:
    """Means over windows: [N, C, H, W] -> [N, C, H / rows, W / columns], rounded once."""
    (n, c, h, w), (rows, columns) = x.shape, windows
    means = torch.empty(
        (n, c, h // rows, w // columns), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    )
    _run_pool(_pool, x, means, windows)
    return means


def pool_gradient(grad: Tensor, windows: tuple[int, int]) -> Tensor:
    """Gradient of the mean over windows -> gradient of the frames."""
    (n, c, h, w), (rows, columns) = grad.shape, windows
    each = torch.empty(
        (n, c, h * rows, w * columns), dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last
    )
    _run_pool(_spread, each, grad.contiguous(memory_format=torch.channels_last), windows)
    return each


def _run_pool(kernel: Any, large: Tensor, small: Tensor, windows: tuple[int, int]) -> None:
    rows, columns = windows
    with torch.cuda.device_of(large):
        kernel[(-(-small.numel() // _BLOCK),)](
            large,
            small,
            small.numel(),
            small.shape[1],
            small.shape[3],
            rows=rows,
            columns=columns,
            real=_REAL[_real(large)],
            block=_BLOCK,
        )


def _run_forward(
    x: Tensor, plan: TimePlan | RoomPlan, steps: Sequence[Step], keep: bool, normed: Normed | None
) -> tuple[Tensor | None, Tensor]:
    real = _real(x)
    membrane = frames_like(x, plan.steps, real) if keep else None
    spikes = frames_like(x, plan.groups)
    size = _size(x)
    with torch.cuda.device_of(x):
        _forward[(-(-size // _BLOCK), len(steps))](
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
            real=_REAL[real],
            block=_BLOCK,
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
    size = _size(membrane)
    slope = slope_of(surrogate, steps[0].threshold)
    assert slope is not None
    programs, channels, sums = -(-size // _BLOCK), 0, grad_x
    if normed is not None:
        programs, channels = min(programs, _SUMMING), normed.x.shape[2]
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
            real=_REAL[membrane.dtype],
            block=_BLOCK,
            **_ROUNDED,
        )
    return grad_x, sums


def _size(x: Tensor) -> int:
    """Numbers per frame of all recordings."""
    return x.numel() // len(x)


def _real(x: Tensor) -> torch.dtype:
    """The type of the membranes."""
    return torch.promote_types(x.dtype, torch.float32)


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
    # Time steps as int64: a tensor may have more than 2**31 numbers.
    begin = tl.load(table + segment).to(tl.int64)
    end = tl.load(table + segment + 1).to(tl.int64)
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
            _clear(spikes, used, frames, size, neuron, block)


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
    begin = tl.load(table + segment).to(tl.int64)
    end = tl.load(table + segment + 1).to(tl.int64)
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
                _clear(grad_x, used, frames, size, neuron, block)
    if channels:
        _store_sums(sums, sum_g, sum_gx, segment, channels, block)


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
    begin = tl.load(table + segment).to(tl.int64)
    end = tl.load(table + segment + 1).to(tl.int64)
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
    _store_sums(sums, sum_x, sum_xx, segment, channels, block)


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
    begin = tl.load(table + segment).to(tl.int64)
    end = tl.load(table + segment + 1).to(tl.int64)
    number = numbers + segment * 4 * channels + tl.arange(0, block) % channels
    factor = tl.load(number)
    summand = tl.load(number + channels)
    for t in range(begin, end):
        input = tl.load(x + t * size + neuron, mask=there, other=0).to(real)
        tl.store(y + t * size + neuron, (factor * input + summand).to(y.dtype.element_ty), mask=there)
    if segment == tl.num_programs(1) - 1:
        _clear(y, end, frames, size, neuron, block)


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
    begin = tl.load(table + segment).to(tl.int64)
    end = tl.load(table + segment + 1).to(tl.int64)
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
    _store_sums(sums, sum_g, sum_gx, segment, channels, block)


@triton.jit
def _clear(x, used, frames, size, neuron, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """The frames behind the first ``used`` ones become 0, in some neurons."""
    for k in range(0, frames - used):
        place = x + (used + k) * size + neuron
        tl.store(place, tl.full([block], 0, x.dtype.element_ty), mask=neuron < size)


@triton.jit
def _store_sums(sums, one, other, segment, channels: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Two sums of a program's lanes for each channel, to sums [segments, programs, 2, channels]."""
    place = sums + (segment * tl.num_programs(0) + tl.program_id(0)) * 2 * channels + tl.arange(0, channels)
    tl.store(place, tl.reduce(tl.reshape(one, [block // channels, channels]), 0, _add))
    tl.store(place + channels, tl.reduce(tl.reshape(other, [block // channels, channels]), 0, _add))


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
    return tl.reduce(one, 0, _add), tl.reduce(other, 0, _add)


@triton.jit
def _add(a, b):  # type: ignore[no-untyped-def]
    return a + b


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


@triton.jit(do_not_specialize=["row"])
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


@triton.jit
def _pool(  # type: ignore[no-untyped-def]
    large,
    small,
    size,
    channels,
    width,
    rows: tl.constexpr,
    columns: tl.constexpr,
    real: tl.constexpr,
    block: tl.constexpr,
):
    at = tl.program_id(0) * block + tl.arange(0, block)
    there = at < size
    place = large + _first_of_window(at, channels, width, rows, columns)
    total = tl.full([block], 0, real)
    for row in tl.static_range(rows):
        for column in tl.static_range(columns):
            pixel = place + (row * width * columns + column) * channels
            total += tl.load(pixel, mask=there, other=0).to(real)
    tl.store(small + at, (total * (1 / (rows * columns))).to(small.dtype.element_ty), mask=there)


@triton.jit
def _spread(  # type: ignore[no-untyped-def]
    large,
    small,
    size,
    channels,
    width,
    rows: tl.constexpr,
    columns: tl.constexpr,
    real: tl.constexpr,
    block: tl.constexpr,
):
    at = tl.program_id(0) * block + tl.arange(0, block)
    there = at < size
    place = large + _first_of_window(at, channels, width, rows, columns)
    share = tl.load(small + at, mask=there, other=0).to(real) * (1 / (rows * columns))
    for row in tl.static_range(rows):
        for column in tl.static_range(columns):
            pixel = place + (row * width * columns + column) * channels
            tl.store(pixel, share.to(large.dtype.element_ty), mask=there)


@triton.jit
def _first_of_window(at, channels, width, rows: tl.constexpr, columns: tl.constexpr):  # type: ignore[no-untyped-def]
    """Place of the first pixel of each window, for windows ``width`` in a line; channels are innermost."""
    window = at // channels
    return ((window // width) * rows * width * columns + (window % width) * columns) * channels + at % channels
