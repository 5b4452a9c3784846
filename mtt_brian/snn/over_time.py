"""What a staged network does step by step, for whoever does not want to wait for the last one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtt_brian.snn.staged import INPUT, OUTPUT, Staged


@torch.no_grad()
def over_time(model: Staged, frames: Tensor, time_steps: int | Sequence[int]) -> dict[str, Tensor]:
    """Input, spikes and readout of every single time step.

    Everything is kept at once: T times the memory of `spike_counts`, which is what to use for sums.

    Shape:
        frames: [T, N, *input_shape]. Returns float [t, N, *shape] by population name, under ``"input"`` what the first
        stage sees and under ``"output"`` the readout [t, N, classes], whose mean over t are the logits; t is the number
        of time steps of the stage they belong to.

    Raises:
        InputError: as `Staged.forward`.
    """
    kept = {INPUT: model._first(frames, model.steps(time_steps)[0])}

    def keep(name: str):  # type: ignore[no-untyped-def]
        return lambda module, arguments, spikes: kept.__setitem__(name, spikes)

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in model.populations().items()]
    try:
        kept[OUTPUT] = model.readouts(frames, time_steps)
    finally:
        for hook in hooks:
            hook.remove()
    return kept
