"""One network on many recordings in one of three modes: time-stepped in torch, or event-driven in the exact engine.

All modes read the same NIR graph and give the same kind of result, so that a study can compare them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import nir
import numpy as np
import torch

from mtt_brian import events, export, snn, translate
from mtt_brian.circuit.model import Circuit
from mtt_brian.circuit.spikes import Spikes
from mtt_brian.engines import Result, Simulator
from mtt_brian.errors import check_choice
from mtt_brian.evaluate import Predictions, predict_event_driven, synops
from mtt_brian.evaluate.early_exit import ReadoutTrace, event_driven_trace, time_stepped_trace
from mtt_brian.events import Recordings
from mtt_brian.events.recording import last_us
from mtt_brian.machine import BATCH
from mtt_brian.mtt.inference import max_batch_size
from mtt_brian.snn.observe import over_time
from mtt_brian.snn.staged import INPUT, OUTPUT

#: Time-stepped; event-driven with the jumps of an instant summed; event-driven through a queue of single events.
Mode: TypeAlias = Literal["time-stepped", "sum", "fifo"]
MODES: tuple[Mode, ...] = get_args(Mode)
#: For figures: what a mode is, in words.
MODE_NAMES: Mapping[Mode, str] = {
    "time-stepped": "time-stepped",
    "sum": "event-driven",
    "fifo": "event-driven, one event at a time (fifo)",
}


class Condition(NamedTuple):
    """A mode, with its number of time steps if it is time-stepped."""

    mode: Mode
    time_steps: int = 1

    def __str__(self) -> str:
        """``"T = 10"``, ``"sum"``."""
        return f"T = {self.time_steps}" if self.mode == "time-stepped" else self.mode


def predict(graph: nir.NIRGraph | Path, recordings: Recordings, mode: Mode, time_steps: int) -> Predictions:
    """Run a network on recordings.

    Args:
        graph: the network, or the path of its ``.nir`` file.
        recordings: N of them.
        mode: one of `MODES`.
        time_steps: T of the time-stepped mode; the others have none.

    Raises:
        InputError: for an unknown mode, and for a network that cannot run in it.
    """
    check_mode(mode)
    if mode == "time-stepped":
        return predict_time_stepped(graph, recordings, time_steps)
    return predict_event_driven(translate.read_nir(graph), recordings, mode)


def predict_time_stepped(
    graph: nir.NIRGraph | Path,
    recordings: Recordings,
    time_steps: int,
    change: Callable[[np.ndarray], np.ndarray] | None = None,
    batch_size: int | None = None,
) -> Predictions:
    """Runs a network time-stepped, every stage at T steps.

    Args:
        graph: a network that `export.from_nir` can rebuild, or the path of its ``.nir`` file.
        recordings: N of them, binned here.
        time_steps: T.
        change: a function of each batch of frames, float32 [T, n, C, H, W]; its result is the input of the network.
        batch_size: n at most; None: `mtt.inference.max_batch_size`.

    Returns:
        Readouts are **sums** over the steps, as event-driven readouts are.
    """
    circuit = translate.read_nir(graph)
    model = time_stepped_model(graph, recordings)
    readouts, counts = [], []
    for _, frames in _batches(model, recordings, time_steps, batch_size):
        seen = frames if change is None else torch.from_numpy(change(frames.numpy()))
        logits, spikes = snn.spike_counts(model, seen, time_steps)
        spikes[circuit.input] = spikes.pop(INPUT)
        readouts.append(logits.double().numpy() * time_steps)
        counts.append({name: count.numpy() for name, count in spikes.items()})
    total = {name: np.concatenate([batch[name] for batch in counts]) for name in counts[0]}
    return Predictions(np.concatenate(readouts), total, synops(total, circuit.fan_out))


def readout_traces(
    graph: nir.NIRGraph | Path, recordings: Recordings, mode: Mode, time_steps: int, batch_size: int | None = None
) -> list[ReadoutTrace]:
    """The readout and the synaptic operations of every recording over time.

    Args:
        graph: the network, or the path of its ``.nir`` file.
        recordings: N of them.
        mode: one of `MODES`.
        time_steps: T; in event-driven modes the unit of the mean readout.
        batch_size: recordings whose spikes are in memory together; None: as in `predict`.

    Raises:
        InputError: for an unknown mode, and for a network that cannot run in it.
    """
    check_mode(mode)
    if mode == "time-stepped":
        return _time_stepped_traces(graph, recordings, time_steps, batch_size)
    simulator = Simulator(graph, engine="exact", order=mode, record="all")
    size = batch_size or BATCH
    traces = []
    for start in range(0, len(recordings), size):
        batch = list(recordings[start : start + size])
        for result, recording in zip(simulator.run(batch), batch, strict=True):
            traces.append(event_driven_trace(result, recording, time_steps))
    return traces


def time_stepped_result(
    graph: nir.NIRGraph | Path, recordings: Recordings, number: int, time_steps: int
) -> tuple[Result, ReadoutTrace]:
    """One recording on time steps, as an event-driven run is described: a step's spikes and readout are at its end.

    Args:
        graph: the network, or the path of its ``.nir`` file.
        recordings: among which it is.
        number: of the recording.
        time_steps: T.
    """
    circuit = translate.read_nir(graph)
    model = time_stepped_model(graph, recordings)
    (recording,) = recordings[number : number + 1]
    frames = torch.from_numpy(events.frames_batch([recording], time_steps, recordings.sensor_size))
    readouts, by_step = _by_step(model, circuit, frames, time_steps)
    duration = last_us(recording) / 1e6
    operations = synops(by_step, circuit.fan_out)
    trace = time_stepped_trace(readouts[:, 0], operations, duration)
    spikes = {}
    for name, values in by_step.items():
        fired = values.reshape(time_steps, -1)
        step, neuron = np.nonzero(fired)
        spikes[name] = Spikes(trace.seconds[step], neuron, fired[step, neuron].astype(np.int64))
    counts = {name: values[:, 0].sum(axis=0).astype(np.int64) for name, values in by_step.items()}
    total = int(operations.sum())
    return Result(spikes, counts, trace.readouts[-1], total, duration, "time-stepped", circuit), trace


def check_mode(mode: str) -> None:
    """Refuses names outside `MODES`.

    Raises:
        InputError: names the mode.
    """
    check_choice("mode", mode, MODES)


def _time_stepped_traces(
    graph: nir.NIRGraph | Path, recordings: Recordings, time_steps: int, batch_size: int | None
) -> list[ReadoutTrace]:
    circuit = translate.read_nir(graph)
    model = time_stepped_model(graph, recordings)
    traces = []
    for batch, frames in _batches(model, recordings, time_steps, batch_size):
        readouts, by_step = _by_step(model, circuit, frames, time_steps)
        operations = synops(by_step, circuit.fan_out).reshape(time_steps, len(batch))
        for n, recording in enumerate(batch):
            traces.append(time_stepped_trace(readouts[:, n], operations[:, n], last_us(recording) / 1e6))
    return traces


def _by_step(
    model: snn.Staged, circuit: Circuit, frames: torch.Tensor, time_steps: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Readouts [T, N, classes], and spikes by source name, the circuit's input included: [T, N, *shape]."""
    by_step = {name: values.numpy() for name, values in over_time(model, frames, time_steps).items()}
    readouts = by_step.pop(OUTPUT)
    by_step[circuit.input] = by_step.pop(INPUT)
    return readouts, by_step


def time_stepped_model(graph: nir.NIRGraph | Path, recordings: Recordings) -> snn.Staged:
    """The time-stepped network in evaluation mode, rebuilt for recordings of their usual length."""
    return export.from_nir(graph, duration=recordings.duration_us / 1e6).eval()


def _batches(
    model: snn.Staged, recordings: Recordings, time_steps: int, batch_size: int | None
) -> Iterator[tuple[list[np.ndarray], torch.Tensor]]:
    """Recordings and their frames, float32 [T, n, C, H, W]."""
    size = batch_size or max_batch_size(model, time_steps)
    for start in range(0, len(recordings), size):
        batch = list(recordings[start : start + size])
        yield batch, torch.from_numpy(events.frames_batch(batch, time_steps, recordings.sensor_size))
