"""One network on both sides: on time steps in torch, or event by event in the exact engine.

Both read the same NIR graph and give the same kind of answer, so that a study can go from one to the other.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nir
import numpy as np
import torch

from mtt_brian import events, export, snn, translate
from mtt_brian.engines.base import order_named
from mtt_brian.evaluate import Answers, event_driven, synops
from mtt_brian.events import Recordings
from mtt_brian.mtt.inference import max_batch_size

#: On time steps; event by event with the jumps of an instant summed; event by event through a queue.
SIDES = ("time-stepped", "sum", "fifo")


def answers(graph: nir.NIRGraph | Path, recordings: Recordings, side: str, time_steps: int) -> Answers:
    """What a network says on one of the `SIDES`.

    Args:
        graph: the network, or the path of its ``.nir`` file.
        recordings: N of them.
        side: one of `SIDES`.
        time_steps: T of the time-stepped side; the others have none.

    Raises:
        InputError: if the side is not known or the network does not exist there.
    """
    if side == "time-stepped":
        return time_stepped(graph, recordings, time_steps)
    return event_driven(translate.read_nir(graph), recordings, order_named(side))


def time_stepped(
    graph: nir.NIRGraph | Path,
    recordings: Recordings,
    time_steps: int,
    change: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Answers:
    """What the network says on a time grid, every stage at T steps.

    Args:
        graph: a network that `export.from_nir` can rebuild, or the path of its ``.nir`` file.
        recordings: N of them, binned anew.
        time_steps: T.
        change: what becomes of each batch of frames, float32 [T, n, C, H, W], before the network sees it.

    Returns:
        Readouts are **sums** over the steps, as event-driven readouts are.
    """
    circuit = translate.read_nir(graph)
    model = export.from_nir(graph, duration=recordings.duration_us / 1e6).eval()
    readouts, counts = [], []
    size = max_batch_size(model, time_steps)
    for start in range(0, len(recordings), size):
        frames = events.frames_batch(recordings[start : start + size], time_steps, recordings.sensor_size)
        batch = torch.from_numpy(frames if change is None else change(frames))
        logits, spikes = snn.spike_counts(model, batch, time_steps)
        spikes[circuit.input] = spikes.pop("input")
        readouts.append(logits.double().numpy() * time_steps)
        counts.append({name: count.numpy() for name, count in spikes.items()})
    total = {name: np.concatenate([part[name] for part in counts]) for name in counts[0]}
    return Answers(np.concatenate(readouts), total, synops(total, circuit.fan_out))
