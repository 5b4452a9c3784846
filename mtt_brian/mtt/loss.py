"""Loss functions of the readouts of all time steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from mtt_brian.errors import InputError, check_number
from mtt_brian.text import shown


class Loss(Protocol):
    """Gives one number for readouts [t, N, classes] and labels int64 [N]."""

    def __call__(self, readouts: Tensor, labels: Tensor) -> Tensor: ...


def cross_entropy(readouts: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of the readout's mean over time (MTT paper, code)."""
    return functional.cross_entropy(readouts.mean(0), labels)


@dataclass(frozen=True)
class TET:
    """``(1 - regulariser) * mean_t CE(readout_t) + regulariser * mean_t (readout_t - threshold)^2``.

    Temporal efficient training (Deng et al., ICLR 2022, equations 9 to 11): the readout is trained in every single time
    step, not only its average.

    Attributes:
        regulariser: weight of the squared distance of all readouts to the threshold, 0 <= regulariser < 1.
        threshold: of the neurons.

    Raises:
        InputError: for what is no number, and for a regulariser outside [0, 1).
    """

    regulariser: float = 0.0
    threshold: float = 1.0

    def __post_init__(self) -> None:
        for name, most in (("threshold", 1e30), ("regulariser", 1)):
            object.__setattr__(self, name, check_number(f"TET.{name}", getattr(self, name), most=most))
        if not 0 <= self.regulariser < 1:
            raise InputError(f"TET.regulariser must be at least 0 and below 1, not {self.regulariser}")

    def __call__(self, readouts: Tensor, labels: Tensor) -> Tensor:
        per_step = functional.cross_entropy(readouts.flatten(0, 1), labels.repeat(len(readouts)))
        if not self.regulariser:
            return per_step
        distance = functional.mse_loss(readouts, torch.full_like(readouts, self.threshold))
        return (1 - self.regulariser) * per_step + self.regulariser * distance


def losses_of_each(loss: Loss, readouts: Tensor, weights: Tensor, labels: Tensor) -> Tensor:
    """The loss of every configuration of a pass, up to rounding; for `cross_entropy` and `TET`.

    Args:
        loss: of one configuration.
        readouts: of all configurations, [t, N, classes].
        weights: [configurations, t]: 1 / number of its time steps at the readouts of a configuration, else 0.
        labels: int64 [N].

    Shape:
        [configurations].

    Raises:
        InputError: for another loss.
    """
    if loss is cross_entropy:
        means = torch.tensordot(weights, readouts, dims=1)
        return _cross_entropies(means, labels)
    if not isinstance(loss, TET):
        raise InputError(f"a loss of all configurations at once must be cross_entropy or TET, not {shown(loss)}")
    each = _cross_entropies(readouts, labels)
    if loss.regulariser:
        distance = (readouts - loss.threshold).square().flatten(1).mean(1)
        each = (1 - loss.regulariser) * each + loss.regulariser * distance
    return weights @ each


def _cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over the batch: [k, N, classes] -> [k]."""
    each = functional.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
    return each.view(len(logits), -1).mean(1)
