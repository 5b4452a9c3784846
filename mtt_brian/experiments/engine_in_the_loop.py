"""Fine-tuning of a network with the exact engine in the loop, under the rule of an event-driven target."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import nir
import numpy as np
import torch
from torch import Tensor

from mtt_brian import export
from mtt_brian.engines import Result
from mtt_brian.events import Recordings
from mtt_brian.events.recording import last_us
from mtt_brian.experiments.repair import Repair
from mtt_brian.mtt import in_the_loop
from mtt_brian.mtt.in_the_loop import LoopConfig, Measured
from mtt_brian.snn import Staged
from mtt_brian.translate.stated import stated


def tune(
    repair: Repair, graph: nir.NIRGraph, recordings: Recordings, config: LoopConfig, budget: float | None
) -> tuple[nir.NIRGraph, list[dict[str, float]]]:
    """The network fine-tuned with the engine in the loop, and the history of its epochs.

    Args:
        repair: the target.
        graph: the network to start from.
        recordings: of the training.
        config: the settings.
        budget: see `mtt.in_the_loop.on_target`.

    Raises:
        InputError: as `trainable`.
        Diverged: if the loss is not finite.
    """
    model = trainable(repair, graph, recordings)
    target = EngineInTheLoop(repair, graph, config.time_steps)
    history = list(in_the_loop.on_target(model, recordings, target, config, budget).epochs())
    return export.with_weights(graph, model), history


def trainable(repair: Repair, graph: nir.NIRGraph, recordings: Recordings) -> Staged:
    """The torch network of a graph, with the target's lower bound: inhibition that it cuts has no gradient.

    Biases are fixed, because a bias is a current of the file.

    Raises:
        InputError: for a network that cannot become a torch network.
    """
    bounded = repair.finished(stated(graph, repair.conventions))
    model = export.from_nir(bounded, duration=recordings.duration_us / 1e6)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("weight"))
    return model


class EngineInTheLoop:
    """The exact engine under the target's rule (`mtt.in_the_loop.LoopTarget`).

    Args:
        repair: the target.
        graph: the network; its weights are those of the model in every run.
        time_steps: T, in which spikes are counted.
    """

    def __init__(self, repair: Repair, graph: nir.NIRGraph, time_steps: int) -> None:
        self._repair, self._graph, self._steps = repair, graph, time_steps

    @cached_property
    def fan_out(self) -> dict[str, Tensor]:
        circuit = self._repair.simulator(self._graph, self._repair.rule, "counts").circuit
        return {name: torch.from_numpy(fan.astype(np.float32)) for name, fan in circuit.fan_out.items()}

    def run(self, model: Staged, recordings: Sequence[np.ndarray]) -> Measured:
        simulator = self._repair.simulator(export.with_weights(self._graph, model), self._repair.rule, "all")
        results = list(simulator.run(recordings))
        spikes = {
            name: torch.from_numpy(counted(name, model.shapes[name], results, recordings, self._steps))
            for name in model.populations()
        }
        return Measured(spikes, torch.tensor([r.synops for r in results], dtype=torch.float32))


def counted(
    name: str, shape: tuple[int, ...], results: Sequence[Result], recordings: Sequence[np.ndarray], time_steps: int
) -> np.ndarray:
    """Spikes of a population in the bins of `events.to_frames`: float32 [T, N, *shape].

    Args:
        name, shape: of the population.
        results: of N runs that recorded its spikes.
        recordings: of these runs.
        time_steps: T.
    """
    size = int(np.prod(shape))
    counts = np.empty((time_steps, len(results), size), dtype=np.float32)
    for k, (result, recording) in enumerate(zip(results, recordings, strict=True)):
        train = result.spikes[name]
        end = last_us(recording) + 1
        step = np.minimum(np.rint(train.t * 1e6).astype(np.int64) * time_steps // end, time_steps - 1)
        counts[:, k] = np.bincount(step * size + train.i, train.n, time_steps * size).reshape(time_steps, size)
    return counts.reshape(time_steps, len(results), *shape)
