"""Temporal transformation: frames of one number of time steps as frames of another (MTT paper, TTM).

The module between two stages; it has no parameters.
"""

from __future__ import annotations

from functools import cache, partial
from itertools import pairwise

import torch
from torch import Tensor

from mtt_brian.errors import InputError
from mtt_brian.snn.memory import in_memory_order

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
    t_in = len(x)
    if variant not in VARIANTS:
        raise InputError(f"a temporal transform must be one of {', '.join(VARIANTS)}, not {variant!r}")
    if t_out < 1:
        raise InputError(f"the number of time steps must be at least 1, not {t_out}")
    if t_in == t_out:
        return x
    if variant == "trim" and t_out < t_in:
        return x[:t_out]
    return in_memory_order(partial(_transform, t_out=t_out, soft=variant == "soft"), x)


def _transform(x: Tensor, t_out: int, soft: bool) -> Tensor:
    t_in = len(x)
    if soft:
        return torch.tensordot(overlap(t_in, t_out).to(x), x, dims=1)
    if t_in < t_out:
        return x.index_select(0, _groups(t_in, t_out, x.device))
    return x.new_zeros(t_out, *x.shape[1:]).index_add_(0, _groups(t_out, t_in, x.device), x)


@cache
def _groups(few: int, more: int, device: torch.device) -> Tensor:
    """Of each of ``more`` frames the group it falls into, int64 [more]."""
    sizes = torch.tensor([b - a for a, b in pairwise(boundaries(few, more))])
    return torch.arange(few).repeat_interleave(sizes).to(device)
