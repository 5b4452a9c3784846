"""The time steps of a population and their gradient as compiled loops, for float32 on a CPU.

`mtt_brian.snn.ops.reference` needs about twenty passes over memory, these loops need one: a block of membranes is
computed for all time steps while it is in the L1 cache. The machine code is the same for any number of time steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from mtt_brian.kernel_cache import kept
from mtt_brian.snn.ops.reference import Step
from mtt_brian.snn.ops.time_plan import TimePlan
from mtt_brian.snn.surrogate import Exponential, PeriodicExponential, Surrogate, Triangular

#: Membranes per block.
_BLOCK = 1024
_ONE = np.float32(1)

_keep = kept([Path(__file__)])


def _kernel(function: Callable[..., Any]) -> Any:
    return _keep(numba.njit(nogil=True, error_model="numpy")(function))


class _Slope(NamedTuple):
    """A surrogate: ``height * f(rate * d)`` with f(u) = exp(-u) or max(0, 1 - u), and d the distance to the threshold,
    or to the nearest multiple of it."""

    exponential: bool
    periodic: bool
    rate: np.float32
    height: np.float32


def _slope(surrogate: Surrogate, threshold: float) -> _Slope | None:
    match surrogate:
        case Triangular(width):
            shape = (False, False, 1 / width, 1 / width)
        case Exponential(scale):
            shape = (True, False, scale, 1.0)
        case PeriodicExponential(width):
            shape = (True, True, 1 / width, 1 / threshold)
        case _:
            return None
    return _Slope(*shape[:2], *map(np.float32, shape[2:]))


def fits(x: Tensor, surrogate: Surrogate | None = None) -> bool:
    """Whether there are kernels for these frames and this surrogate."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and (surrogate is None or _slope(surrogate, 1.0) is not None)
    )


def forward(x: Tensor, plan: TimePlan, steps: Sequence[Step]) -> tuple[Tensor, Tensor]:
    """As `reference.forward`."""
    x = _dense(x)
    frame_of, group_of = _indices(plan)
    membrane, spikes = _frames_like(x, len(frame_of)), _frames_like(x, plan.groups)
    x_, membrane_, spikes_ = _flat(x), _flat(membrane), _flat(spikes)
    for at, step in _segments(plan, steps):
        bound = -math.inf if step.lower_bound is None else step.lower_bound
        numbers = (step.threshold, bound, step.v_reset, step.decay, (1 - step.decay) * step.v_leak)
        rest = (frame_of[at], group_of[at], step.many, step.subtract, *map(np.float32, numbers))
        _in_parts(_forward, [x_, membrane_[at], spikes_], *rest)
    return membrane, spikes


def backward(
    grad_spikes: Tensor, membrane: Tensor, plan: TimePlan, steps: Sequence[Step], frames: int, surrogate: Surrogate
) -> Tensor:
    """As `reference.backward`, for membranes of `forward`."""
    frame_of, group_of = _indices(plan)
    if grad_spikes.stride() != _strides(membrane):
        grad_spikes = _frames_like(membrane, plan.groups).copy_(grad_spikes)
    grad_x = _frames_like(membrane, frames)
    grad_spikes_, membrane_, grad_x_ = _flat(grad_spikes), _flat(membrane), _flat(grad_x)
    for at, step in _segments(plan, steps):
        slope = _slope(surrogate, step.threshold)
        assert slope is not None
        bound = -math.inf if step.lower_bound is None else step.lower_bound
        numbers = (step.threshold, bound, step.v_reset, step.decay)
        rest = (frame_of[at], group_of[at], step.subtract, *map(np.float32, numbers), *slope)
        _in_parts(_backward, [grad_spikes_, membrane_[at], grad_x_], *rest)
    return grad_x


def apply_map(x: Tensor, source: Tensor, target: Tensor, frames: int) -> Tensor:
    """[T, *] -> [frames, *]: frame source[i] is added to frame target[i], for all i; all others are 0."""
    x = _dense(x)
    mapped = _frames_like(x, frames)
    _in_parts(_apply_map, [_flat(x), _flat(mapped)], source.numpy(), target.numpy())
    return mapped


def _segments(plan: TimePlan, steps: Sequence[Step]) -> Iterator[tuple[slice, Step]]:
    """The time steps of each segment, and the rule of one of them."""
    begin = 0
    for length, step in zip(plan.lengths, steps, strict=True):
        yield slice(begin, begin + length), step
        begin += length


def _indices(plan: TimePlan) -> tuple[np.ndarray, np.ndarray]:
    """Frame and group of every time step."""
    each = np.arange(plan.steps)
    frame_of, group_of = (each if of is None else of.numpy() for of in (plan.frame_of, plan.group_of))
    return frame_of, group_of


def _frames_like(x: Tensor, frames: int) -> Tensor:
    """Uninitialised frames in the memory format of ``x``, which is `_dense`."""
    return x.new_empty_strided((frames, *x.shape[1:]), _strides(x))


def _strides(x: Tensor) -> tuple[int, ...]:
    """Strides of any number of `_dense` frames in the memory format of ``x``."""
    return x[0].numel(), *x.stride()[1:]


def _dense(x: Tensor) -> Tensor:
    """``x`` with time outermost in memory and without gaps; the order of the other axes stays."""
    like = torch.empty_like(x)
    if len(x) > 1 and like.stride(0) != x[0].numel():
        return x.contiguous()
    return x if x.stride() == like.stride() else like.copy_(x)


def _flat(x: Tensor) -> np.ndarray:
    """The memory of a `_dense` tensor as [T, everything else]."""
    size = x[0].numel()
    return x.detach().as_strided((len(x), size), (size, 1)).numpy()


def _in_parts(function: Callable[..., None], arrays: Sequence[np.ndarray], *rest: Any) -> None:
    """``function`` on the columns of its arrays, divided among torch's number of threads."""
    columns = arrays[0].shape[1]
    blocks = -(-columns // _BLOCK)
    parts = min(torch.get_num_threads(), blocks)
    if parts <= 1:
        function(*arrays, *rest)
        return
    edges = [_BLOCK * (blocks * k // parts) for k in range(parts + 1)]
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(lambda i, j: function(*(a[:, i:j] for a in arrays), *rest), edges[:-1], [*edges[1:-1], columns]))


@_kernel
def _apply_map(x, mapped, source, target):  # type: ignore[no-untyped-def]
    for begin in range(0, x.shape[1], _BLOCK):
        size = min(x.shape[1] - begin, _BLOCK)
        mapped[:, begin : begin + size] = 0
        for i in range(len(source)):
            from_ = x[source[i], begin : begin + size]
            into = mapped[target[i], begin : begin + size]
            for k in range(size):
                into[k] += from_[k]


@_kernel
def _forward(  # type: ignore[no-untyped-def]
    x, membrane, spikes, frame_of, group_of, many, subtract, threshold, bound, v_reset, decay, leak
):
    after = np.empty(_BLOCK, np.float32)
    for begin in range(0, x.shape[1], _BLOCK):
        size = min(x.shape[1] - begin, _BLOCK)
        after[:size] = 0
        for t in range(len(frame_of)):
            x_t = x[frame_of[t], begin : begin + size]
            v_t = membrane[t, begin : begin + size]
            n_t = spikes[group_of[t], begin : begin + size]
            another = t > 0 and group_of[t - 1] == group_of[t]
            for k in range(size):
                # Comparisons rather than max(), which would turn NaN into a finite number.
                v = decay * after[k] + leak + x_t[k]
                v = bound if v < bound else v
                n = np.floor(v / threshold) if many and subtract else np.float32(v >= threshold)
                n = np.float32(0) if n < 0 else n
                if subtract:
                    after[k] = v - threshold * n
                else:
                    after[k] = v_reset if n > 0 else v
                v_t[k] = v
                n_t[k] = n_t[k] + n if another else n


@_kernel
def _backward(  # type: ignore[no-untyped-def]
    grad_spikes,
    membrane,
    grad_x,
    frame_of,
    group_of,
    subtract,
    threshold,
    bound,
    v_reset,
    decay,
    exponential,
    periodic,
    rate,
    height,
):
    after = np.empty(_BLOCK, np.float32)
    for begin in range(0, membrane.shape[1], _BLOCK):
        size = min(membrane.shape[1] - begin, _BLOCK)
        after[:size] = 0
        for t in range(len(membrane) - 1, -1, -1):
            grad_t = grad_spikes[group_of[t], begin : begin + size]
            v_t = membrane[t, begin : begin + size]
            out_t = grad_x[frame_of[t], begin : begin + size]
            another = t + 1 < len(frame_of) and frame_of[t + 1] == frame_of[t]
            for k in range(size):
                v = v_t[k]
                edge = max(np.rint(v / threshold), _ONE) * threshold if periodic else threshold
                distance = rate * abs(v - edge)
                slope = height * (_exp_minus(distance) if exponential else max(_ONE - distance, np.float32(0)))
                if subtract:
                    g = after[k] + (grad_t[k] - threshold * after[k]) * slope
                else:
                    kept = after[k] if v < threshold else np.float32(0)
                    g = kept + (grad_t[k] + after[k] * (v_reset - v)) * slope
                g = np.float32(0) if v <= bound else g
                out_t[k] = out_t[k] + g if another else g
                after[k] = decay * g


@numba.njit(inline="always")
def _exp_minus(u):  # type: ignore[no-untyped-def]
    """exp(-u) for float32 u >= 0, to some 3e-7 of it, in operations that compilers vectorise.

    The library's function is not vectorised and takes most of the time of the backward pass. exp(-u) is 2**i times a
    Taylor series in the rest, at most ln 2 / 2: its first omitted term is (ln 2 / 2)**7 / 7! = 1e-7.
    """
    u = min(u, np.float32(87))  # beyond it the result is no normal number
    i = np.rint(np.float32(-1.44269504) * u)
    # ln 2 in two parts, of which the first has few bits: its product with i is exact.
    f = -u - i * np.float32(0.693359375) + i * np.float32(2.12194440e-4)
    series = np.float32(1 / 720)
    series = series * f + np.float32(1 / 120)
    series = series * f + np.float32(1 / 24)
    series = series * f + np.float32(1 / 6)
    series = series * f + np.float32(1 / 2)
    series = series * f + _ONE
    series = series * f + _ONE
    return series * np.int32((np.int32(i) + np.int32(127)) << np.int32(23)).view(np.float32)
