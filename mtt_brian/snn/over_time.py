"""What a staged network does step by step, for whoever does not want to wait for the last one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtt_brian.snn.staged import INPUT, OUTPUT, Staged


@torch.no_grad()
def over_time(model: Staged, frames: Tensor, time_steps: int | Sequence[int]) -> dict[str, Tensor]:
    """Input, spikes and readout of every single time step.

    Everything is kept at once: T times the memory of `spike_counts`.

    Shape:
        frames: [T, N, *input_shape]. Returns float [t, N, *shape] by population name, under ``"input"`` what the first
        stage sees and under ``"output"`` the readout [t, N, classes], whose mean over t are the logits; t is the number
        of time steps of the stage they belong to.

    Raises:
        InputError: as `Staged.forward`.
    """
    steps = model.steps(time_steps)
    kept = {INPUT: model._first(frames, steps[0])}

    def keep(name: str):  # type: ignore[no-untyped-def]
        return lambda module, arguments, values: kept.__setitem__(name, values)

    def keep_readout(module: nn.Module, arguments: tuple[Tensor], values: Tensor) -> None:
        kept[OUTPUT] = values.unflatten(0, (steps[-1], -1))  # layers without time see steps and recordings folded

    *_, (_, last) = model.layers()
    hooks = [layer.register_forward_hook(keep(name)) for name, layer in model.populations().items()]
    hooks.append(last.register_forward_hook(keep_readout))
    try:
        model(frames, time_steps)
    finally:
        for hook in hooks:
            hook.remove()
    return kept
