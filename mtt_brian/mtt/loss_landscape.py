"""The gradient of a trained network, and the loss around its weights.

Everything is time-stepped, on frames [T, N, C, H, W] in float32, with every stage at T steps; recordings go through the
network in batches, so that memory does not grow with their number. The network is not changed.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mtt_brian.machine import BATCH
from mtt_brian.snn import Staged


class Gradient(NamedTuple):
    """The loss and its gradient with respect to all weights.

    Attributes:
        loss: mean cross entropy.
        norm: of the gradient.
        relative: ``norm`` times the norm of the weights: the change of the loss per relative change of the weights.
    """

    loss: float
    norm: float
    relative: float


class Landscape(NamedTuple):
    """Cross entropy and accuracy at points around the weights, each in the shape of the points."""

    loss: np.ndarray
    accuracy: np.ndarray


def gradient(model: Staged, frames: Tensor, labels: np.ndarray) -> Gradient:
    """The mean cross entropy over all recordings and its (surrogate) gradient.

    Args:
        model: the network.
        frames: [T, N, C, H, W].
        labels: [N].
    """
    target = torch.as_tensor(labels)
    model = copy.deepcopy(model)
    total = 0.0
    for batch, part in zip(frames.split(BATCH, dim=1), target.split(BATCH), strict=True):
        loss = functional.cross_entropy(model(batch, len(frames)), part, reduction="sum") / len(target)
        loss.backward()
        total += loss.item()
    weights = list(model.parameters())
    norm = torch.stack([p.grad.norm() for p in weights if p.grad is not None]).norm().item()
    return Gradient(total, norm, norm * torch.stack([p.detach().norm() for p in weights]).norm().item())


def filter_normalised(model: Staged, rng: np.random.Generator) -> list[Tensor]:
    """A random direction in which every filter is as long as the network's own (Li et al., NeurIPS 2018, section 4).

    A filter is the weights of one output channel, or of one neuron behind a linear layer. Without the normalisation,
    larger weights alone would make the loss look flatter.

    Returns:
        One tensor per parameter, Gaussian, scaled filter by filter; all zeros for a parameter of one dimension.
    """
    direction = []
    for weight in model.parameters():
        random = torch.from_numpy(rng.standard_normal(tuple(weight.shape))).to(weight)
        if weight.ndim < 2:
            direction.append(torch.zeros_like(weight))
            continue
        lengths = [w.detach().flatten(1).norm(dim=1) for w in (weight, random)]
        direction.append(random * (lengths[0] / lengths[1]).reshape(-1, *(1,) * (weight.ndim - 1)))
    return direction


@torch.no_grad()
def landscape(
    model: Staged, frames: Tensor, labels: np.ndarray, directions: Sequence[Sequence[Tensor]], points: np.ndarray
) -> Landscape:
    """The mean cross entropy over all recordings, and the accuracy, away from the weights.

    Args:
        model: the network.
        frames: [T, N, C, H, W].
        labels: [N].
        directions: K of them, each as from `filter_normalised`.
        points: float [..., K], the distance along each direction.

    Returns:
        Both in the shape [...] of the points.
    """
    target = torch.as_tensor(labels)
    moved = copy.deepcopy(model)
    values = []
    for point in points.reshape(-1, len(directions)).tolist():
        for weight, start, *steps in zip(moved.parameters(), model.parameters(), *directions, strict=True):
            weight.copy_(start)
            for length, step in zip(point, steps, strict=True):
                weight.add_(step, alpha=length)
        logits = torch.cat([moved(batch, len(frames)) for batch in frames.split(BATCH, dim=1)])
        right = (logits.argmax(1) == target).float().mean().item()
        values.append((functional.cross_entropy(logits, target).item(), right))
    loss, accuracy = np.asarray(values).T
    return Landscape(loss.reshape(points.shape[:-1]), accuracy.reshape(points.shape[:-1]))
