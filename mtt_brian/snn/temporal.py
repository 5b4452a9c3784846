"""Temporal transformation: frames of one number of time steps as frames of another (MTT paper, TTM).

The module between two stages; it has no parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtt_brian.errors import InputError
from mtt_brian.snn.ops import cpu
from mtt_brian.snn.ops.memory_format import in_memory_order

VARIANTS = ("hard", "soft", "trim")


def boundaries(few: int, more: int) -> list[int]:
    """How ``more`` frames fall into ``few`` groups: group i is [b_(i-1), b_i).

    b_0 = 0 and b_i = round(i * more / few - 1e-5) (MTT paper, TTM). The small offset sends halves down, as in the
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

    Both sets of frames divide the same interval evenly. Every input frame is handed out whole (columns sum to 1), so
    totals are conserved in both directions; for equal numbers it is the identity.

    Returns:
        float64 [t_out, t_in].
    """
    edges_in = torch.arange(t_in + 1, dtype=torch.float64)
    edges_out = torch.arange(t_out + 1, dtype=torch.float64) * (t_in / t_out)
    left = torch.maximum(edges_out[:-1, None], edges_in[None, :-1])
    right = torch.minimum(edges_out[1:, None], edges_in[None, 1:])
    return (right - left).clamp(min=0)


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
    """As `transform`, for several courses of time at once, which lie one behind the other.

    Args:
        x: the frames of all courses; with ``shared``, those that every course begins with.
        t_in: number of frames of every course.
        t_out: into how many they are transformed.

    Shape:
        [sum of t_in, *], with ``shared`` [t_in, *] -> [sum of t_out, *].

    Raises:
        InputError: as `transform`.
    """
    if variant not in VARIANTS:
        raise InputError(f"a temporal transform must be one of {', '.join(VARIANTS)}, not {variant!r}")
    if min(t_out) < 1:
        raise InputError(f"the number of time steps must be at least 1, not {min(t_out)}")
    if list(t_in) == list(t_out) and len(x) == sum(t_in):
        return x
    pairs = tuple(zip(t_in, t_out, strict=True))
    if variant == "soft":
        blocks = [overlap(*pair) for pair in pairs]
        weights = (torch.cat(blocks) if shared else torch.block_diag(*blocks)).to(x)
        return in_memory_order(lambda frames: torch.tensordot(weights, frames, dims=1), x)
    return _moves(pairs, variant == "trim", shared, x.device)(x)


class Moves(NamedTuple):
    """A "hard" transformation: frame of[i] is added to frame to[i] of so many frames, for all i."""

    of: Tensor
    to: Tensor
    frames: int

    def __call__(self, x: Tensor) -> Tensor:
        return _Moved.apply(x, *self)


def moves(t_in: Sequence[int], t_out: Sequence[int], device: torch.device) -> Moves | None:
    """The "hard" transformation of several courses of time, see `transform_each`; None: there is nothing to do.

    Where all courses become longer, or stay, step t of the outcome is a repetition of frame ``of[t]``; where all become
    shorter, or stay, frame t goes into the sum ``to[t]``.
    """
    if list(t_in) == list(t_out):
        return None
    return _moves(tuple(zip(t_in, t_out, strict=True)), False, False, device)


class _Moved(torch.autograd.Function):
    """What `Moves` do, [frames_in, *] -> [frames_out, *]; gradients take the same way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, of: Tensor, to: Tensor, frames_out: int) -> Tensor:
        ctx.moves = of, to, len(x)
        if cpu.fits(x):
            return cpu.move(x, of, to, frames_out)

        def move(x: Tensor) -> Tensor:
            return x.new_zeros(frames_out, *x.shape[1:]).index_add_(0, to, x.index_select(0, of))

        return in_memory_order(move, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        of, to, frames_in = ctx.moves
        return _Moved.apply(grad, to, of, frames_in), None, None, None


@lru_cache(10_000)  # mixed time steps of many stages never come to an end
def _moves(pairs: tuple[tuple[int, int], ...], trim: bool, shared: bool, device: torch.device) -> Moves:
    """How frames are summed, repeated and trimmed."""
    of: list[int] = []
    to: list[int] = []
    first_in = first_out = 0
    for t_in, t_out in pairs:
        few, more = sorted((min(t_in, t_out) if trim else t_in, t_out))
        groups = [group for group, (a, b) in enumerate(pairwise(boundaries(few, more))) for _ in range(a, b)]
        each = range(more)
        of += [first_in + i for i in (each if few == t_out else groups)]
        to += [first_out + i for i in (groups if few == t_out else each)]
        first_in += 0 if shared else t_in
        first_out += t_out
    return Moves(torch.tensor(of, device=device), torch.tensor(to, device=device), first_out)
