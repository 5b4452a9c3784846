"""Loss functions of the readouts of all time steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


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
    """

    regulariser: float = 0.0
    threshold: float = 1.0

    def __call__(self, readouts: Tensor, labels: Tensor) -> Tensor:
        per_step = functional.cross_entropy(readouts.flatten(0, 1), labels.repeat(len(readouts)))
        if not self.regulariser:
            return per_step
        distance = functional.mse_loss(readouts, torch.full_like(readouts, self.threshold))
        return (1 - self.regulariser) * per_step + self.regulariser * distance
