"""Spikes and readout of a staged network in every time step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtt_brian.snn.staged import INPUT, OUTPUT, Staged, check_staged, observing


@torch.no_grad()
def over_time(model: Staged, frames: Tensor, time_steps: int | Sequence[int]) -> dict[str, Tensor]:
    """Input, spikes and readout of every single time step.

    Needs T times the memory of `spike_counts`, which gives the sums.

    Shape:
        frames: [T, N, *input_shape]. Returns float [t, N, *shape] by population name, under ``"input"`` the input of
        the first stage and under ``"output"`` the readout [t, N, classes], whose mean over t are the logits; t is the
        number of time steps of their stage.

    Raises:
        InputError: as `Staged.forward`.
    """
    check_staged(model)
    kept = {INPUT: model.first_stage_input(frames, time_steps)}
    with observing(model, lambda name, spikes: kept.update({name: spikes})):
        kept[OUTPUT] = model.readouts(frames, time_steps)
    return kept
