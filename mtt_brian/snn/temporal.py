"""Temporal transformation between two stages: frames of T time steps to frames of T' steps (MTT paper, TTM)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from mtt_brian.errors import InputError, check_choice
from mtt_brian.snn.ops.choice import kernels_for
from mtt_brian.snn.ops.memory_format import preserve_memory_format
from mtt_brian.snn.ops.time_plan import FrameMap, RoomMap, on_device

VARIANTS = ("hard", "soft", "trim")


def boundaries(few: int, more: int) -> list[int]:
    """How ``more`` frames fall into ``few`` groups: group i is [b_(i-1), b_i).

    b_0 = 0 and b_i = round(i * more / few - 1e-5) (MTT paper, TTM). The small offset rounds halves down, as in the
    authors' code: 5 frames in 3 groups are {1, 2}, {3}, {4, 5}.

    Returns:
        few + 1 integers, from 0 to ``more``, strictly increasing.

    Raises:
        InputError: unless 1 <= few <= more.
    """
    if not 1 <= few <= more:
        raise InputError(f"{more} frames cannot be split into {few} groups: 1 <= groups <= frames")
    return [0] + [round(i * more / few - 1e-5) for i in range(1, few + 1)]


def overlap(t_in: int, t_out: int) -> Tensor:
    """The weights of the "soft" transform: the share of input frame i that lies within output frame j.

    Both sets of frames divide the same interval evenly. Every input frame is distributed completely (columns sum to 1),
    so sums are conserved in both directions; for equal numbers the matrix is the identity.

    Returns:
        float64 [t_out, t_in].
    """
    edges_in = torch.arange(t_in + 1, dtype=torch.float64)
    edges_out = torch.arange(t_out + 1, dtype=torch.float64) * (t_in / t_out)
    left = torch.maximum(edges_out[:-1, None], edges_in[None, :-1])
    right = torch.minimum(edges_out[1:, None], edges_in[None, 1:])
    return (right - left).clamp(min=0)


@lru_cache(10_000)
def _overlap(t_in: int, t_out: int) -> tuple[float, ...]:
    return tuple(overlap(t_in, t_out).flatten().tolist())


def transform(x: Tensor, t_out: int, variant: str = "hard") -> Tensor:
    """Frames of ``len(x)`` time steps as frames of ``t_out`` time steps; differentiable.

    ``"hard"`` (the paper's rule): with fewer steps the frames of a group are summed, with more each frame is
    repeated over its group, see `boundaries`. ``"soft"``: weights by `overlap` (sums conserved both ways).
    ``"trim"``: the first ``t_out`` frames are kept, or repeated as in "hard".

    Shape:
        [t_in, *] -> [t_out, *].

    Raises:
        InputError: for t_out < 1 or an unknown variant.
    """
    return transform_each(x, [len(x)], [t_out], variant)


def transform_each(
    x: Tensor, t_in: Sequence[int], t_out: Sequence[int], variant: str = "hard", shared: bool = False
) -> Tensor:
    """As `transform`, for several segments, which follow each other on axis 0.

    Args:
        x: the frames of all segments; with ``shared``, the same frames for every segment.
        t_in: number of frames of every segment before.
        t_out: number of frames of every segment after.
        variant: as for `transform`.
        shared: see ``x``.

    Shape:
        [sum of t_in, *], with ``shared`` [t_in, *] -> [sum of t_out, *].

    Raises:
        InputError: as `transform`.
    """
    check_choice("a temporal transform", variant, VARIANTS)
    if min(t_out) < 1:
        raise InputError(f"the number of time steps must be at least 1, not {min(t_out)}")
    if list(t_in) == list(t_out) and len(x) == sum(t_in):
        return x
    pairs = tuple(zip(t_in, t_out, strict=True))
    if variant == "soft":
        blocks = [on_device(_overlap(*pair), x.dtype, x.device).view(pair[::-1]) for pair in pairs]
        weights = torch.cat(blocks) if shared else torch.block_diag(*blocks)
        return preserve_memory_format(lambda frames: torch.tensordot(weights, frames, dims=1), x)
    return apply_map(x, map_of(pairs, trim=variant == "trim", shared=shared))


def frame_map(t_in: Sequence[int], t_out: Sequence[int]) -> FrameMap | None:
    """The "hard" transformation of several segments as a map, see `transform_each`; None: nothing changes.

    If no segment becomes shorter, the map repeats frames; if no segment becomes longer, it sums frames.
    """
    if list(t_in) == list(t_out):
        return None
    return map_of(tuple(zip(t_in, t_out, strict=True)))


def apply_map(x: Tensor, frame_map: FrameMap | RoomMap) -> Tensor:
    """[frames, *] -> [frame_map.frames, *]; differentiable."""
    mapped: Tensor = _Mapped.apply(x, frame_map)
    return mapped


class _Mapped(torch.autograd.Function):
    """`apply_map`; its gradient is the transposed map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, frame_map: FrameMap | RoomMap) -> Tensor:
        ctx.transposed = frame_map.transposed(len(x))
        return kernels_for(x, plan=frame_map).apply_map(x, frame_map)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Mapped.apply(grad, ctx.transposed), None


@lru_cache(10_000)  # limited, because mixed time steps of many stages give many different pairs
def map_of(pairs: tuple[tuple[int, int], ...], *, trim: bool = False, shared: bool = False) -> FrameMap:
    """The map that sums, repeats and trims frames.

    Args:
        pairs: numbers of frames of every segment, before and after.
        trim: leave frames out instead of summing them.
        shared: all segments have the same frames before.
    """
    source: list[int] = []
    target: list[int] = []
    first_in = first_out = 0
    for t_in, t_out in pairs:
        few, more = sorted((min(t_in, t_out) if trim else t_in, t_out))
        groups = [group for group, (a, b) in enumerate(pairwise(boundaries(few, more))) for _ in range(a, b)]
        each = range(more)
        source += [first_in + i for i in (each if few == t_out else groups)]
        target += [first_out + i for i in (groups if few == t_out else each)]
        first_in += 0 if shared else t_in
        first_out += t_out
    return FrameMap(tuple(source), tuple(target), first_out)
