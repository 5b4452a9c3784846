"""The time steps of a population and their gradient as compiled loops, for float32 on a CPU.

`mtt_brian.snn.ops.reference` needs about twenty passes over memory, these loops need one: a block of membranes is
computed for all time steps while it is in the L1 cache. The machine code is the same for any number of time steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from mtt_brian.kernel_cache import kept
from mtt_brian.snn.ops.memory_format import dense, dense_like, frames_like
from mtt_brian.snn.ops.reference import Step
from mtt_brian.snn.ops.slope import slope_of
from mtt_brian.snn.ops.time_plan import FrameMap, TimePlan
from mtt_brian.snn.surrogate import Surrogate

#: Membranes per block.
_BLOCK = 1024
_ONE = np.float32(1)

_keep = kept([Path(__file__)])


def _kernel(function: Callable[..., Any]) -> Any:
    return _keep(numba.njit(nogil=True, error_model="numpy")(function))


def fits(x: Tensor, surrogate: Surrogate | None = None) -> bool:
    """Whether there are kernels for these frames and this surrogate."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and (surrogate is None or slope_of(surrogate, 1.0) is not None)
    )


def forward(x: Tensor, plan: TimePlan, steps: Sequence[Step]) -> tuple[Tensor, Tensor]:
    """As `reference.forward`."""
    x = dense(x)
    frame_of, group_of = _indices(plan)
    membrane, spikes = frames_like(x, len(frame_of)), frames_like(x, plan.groups)
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
    grad_spikes = dense_like(grad_spikes, membrane)
    grad_x = frames_like(membrane, frames)
    grad_spikes_, membrane_, grad_x_ = _flat(grad_spikes), _flat(membrane), _flat(grad_x)
    for at, step in _segments(plan, steps):
        slope = slope_of(surrogate, step.threshold)
        assert slope is not None
        bound = -math.inf if step.lower_bound is None else step.lower_bound
        numbers = (step.threshold, bound, step.v_reset, step.decay)
        rest = (
            frame_of[at],
            group_of[at],
            step.subtract,
            *map(np.float32, numbers),
            *slope[:2],
            *map(np.float32, slope[2:]),
        )
        _in_parts(_backward, [grad_spikes_, membrane_[at], grad_x_], *rest)
    return grad_x


def apply_map(x: Tensor, frame_map: FrameMap) -> Tensor:
    """As `reference.apply_map`."""
    x = dense(x)
    mapped = frames_like(x, frame_map.frames)
    _in_parts(_apply_map, [_flat(x), _flat(mapped)], np.array(frame_map.source), np.array(frame_map.target))
    return mapped


def _segments(plan: TimePlan, steps: Sequence[Step]) -> Iterator[tuple[slice, Step]]:
    """The time steps of each segment, and the rule of one of them."""
    begin = 0
    for length, step in zip(plan.lengths, steps, strict=True):
        yield slice(begin, begin + length), step
        begin += length


def _indices(plan: TimePlan) -> tuple[np.ndarray, np.ndarray]:
    """Frame and group of every time step."""
    return np.array(plan.frame_of), np.array(plan.group_of)


def _flat(x: Tensor) -> np.ndarray:
    """The memory of a `dense` tensor as [T, everything else]."""
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
