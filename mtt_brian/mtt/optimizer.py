"""The optimizer of a training and the schedule of its learning rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mtt_brian.mtt.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """For all parameters of the model, in their order.

    On a GPU a step is one launch for all parameters (torch's ``fused``), whatever the device of a loaded state was.
    """
    fused = True if next(model.parameters()).is_cuda else None
    decay = config.weight_decay
    optimizer: torch.optim.Optimizer
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), config.lr, config.momentum, weight_decay=decay, fused=fused)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=decay, fused=fused)

    def keep_fused(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        return state | {"param_groups": [group | {"fused": fused} for group in state["param_groups"]]}

    optimizer.register_load_state_dict_pre_hook(keep_fused)
    return optimizer


def make_scheduler(
    optimizer: torch.optim.Optimizer, schedule: str, epochs: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The ``schedule`` ("cosine" or "constant") of the learning rate over the epochs; steps once per epoch."""
    if schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
