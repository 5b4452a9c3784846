"""The optimizer of a training and the schedule of its learning rate."""

from __future__ import annotations

import torch
from torch import nn

from mtt_brian.mtt.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """For all parameters of the model, in their order."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay)
    return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)


def make_scheduler(
    optimizer: torch.optim.Optimizer, schedule: str, epochs: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The ``schedule`` ("cosine" or "constant") of the learning rate over the epochs; steps once per epoch."""
    if schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
