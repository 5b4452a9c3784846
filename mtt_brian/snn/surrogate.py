"""Surrogate gradients: replacements for dn/dv, the derivative of a spike count with respect to the membrane.

Small frozen objects; each is called with the membrane before the reset and the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Surrogate(Protocol):
    """Gives dn/dv at the membranes ``v`` (any shape), in the same shape."""

    def __call__(self, v: Tensor, threshold: float) -> Tensor: ...


@dataclass(frozen=True)
class Triangular:
    """``max(0, 1 - |v - threshold| / width) / width`` (width 1: the MTT paper's time-stepped experiments)."""

    width: float = 1.0

    def __call__(self, v: Tensor, threshold: float) -> Tensor:
        return (v - threshold).abs_().mul_(-1 / self.width).add_(1).clamp_(min=0).div_(self.width)


@dataclass(frozen=True)
class Exponential:
    """``exp(-scale * |v - threshold|)``: one exponential around the threshold (Shrestha and Orchard, 2018)."""

    scale: float = 1.0

    def __call__(self, v: Tensor, threshold: float) -> Tensor:
        return (v - threshold).abs_().mul_(-self.scale).exp_()


@dataclass(frozen=True)
class PeriodicExponential:
    """``exp(-d / width) / threshold``, d the distance to the next spike count's edge (Weidel and Sheik, 2021).

    Below the threshold d is ``threshold - v``; above it, where several spikes per step are fired, the distance to the
    nearest multiple of the threshold, so that every further spike has a gradient as strong as the first.
    """

    width: float = 0.5

    def __call__(self, v: Tensor, threshold: float) -> Tensor:
        if threshold == 1:  # the common case with two thirds of the passes over memory
            return v.round().clamp_(min=1).sub_(v).abs_().mul_(-1 / self.width).exp_()
        nearest = torch.div(v, threshold).round_().clamp_(min=1).mul_(threshold)
        return nearest.sub_(v).abs_().mul_(-1 / self.width).exp_().div_(threshold)
