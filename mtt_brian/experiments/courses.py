"""One network on both sides, watched as time goes on: what it would answer, and what that has cost so far."""

from __future__ import annotations

from pathlib import Path

import nir
import torch

from mtt_brian import events, export, translate
from mtt_brian.engines import Simulator
from mtt_brian.engines.base import order_named
from mtt_brian.evaluate import synops
from mtt_brian.evaluate.early_exit import Course, event_driven_course, stepped_course
from mtt_brian.events import Recordings
from mtt_brian.mtt.inference import MAX_RECORDINGS, max_batch_size
from mtt_brian.snn.observe import over_time
from mtt_brian.snn.staged import INPUT, OUTPUT


def courses(graph: nir.NIRGraph | Path, recordings: Recordings, side: str, time_steps: int) -> list[Course]:
    """The course of every recording on one of the `sides.SIDES`.

    Args:
        graph: the network, or the path of its ``.nir`` file.
        recordings: N of them.
        side: ``"time-stepped"``, ``"sum"`` or ``"fifo"``.
        time_steps: T; without a grid the unit in which the readout is averaged.

    Raises:
        InputError: if the network does not exist on that side.
    """
    if side == "time-stepped":
        return _time_stepped(graph, recordings, time_steps)
    simulator = Simulator(graph, engine="exact", order=order_named(side), record="all")
    found = []
    for start in range(0, len(recordings), MAX_RECORDINGS):  # so that memory holds all spikes of a batch only
        batch = list(recordings[start : start + MAX_RECORDINGS])
        for result, recording in zip(simulator.run(batch), batch, strict=True):
            found.append(event_driven_course(result, recording, time_steps))
    return found


def _time_stepped(graph: nir.NIRGraph | Path, recordings: Recordings, time_steps: int) -> list[Course]:
    circuit = translate.read_nir(graph)
    model = export.from_nir(graph, duration=recordings.duration_us / 1e6).eval()
    found = []
    size = max_batch_size(model, time_steps)
    for start in range(0, len(recordings), size):
        batch = list(recordings[start : start + size])
        frames = torch.from_numpy(events.frames_batch(batch, time_steps, recordings.sensor_size))
        kept = {name: values.numpy() for name, values in over_time(model, frames, time_steps).items()}
        readouts = kept.pop(OUTPUT)
        kept[circuit.input] = kept.pop(INPUT)
        spent = synops(kept, circuit.fan_out).reshape(time_steps, len(batch))
        for n, recording in enumerate(batch):
            duration = recording["t"][-1] / 1e6 if len(recording) else 0.0
            found.append(stepped_course(readouts[:, n], spent[:, n], duration))
    return found
