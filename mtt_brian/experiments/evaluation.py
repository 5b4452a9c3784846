"""An evaluation in shards: a few recordings at a time through one network, in this process or in any other.

What a shard gives does not depend on where it is computed, on the shards around it or on the number of cores.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import nir
import numpy as np
import torch

from mtt_brian import events, export, mtt, translate
from mtt_brian.circuit.model import Circuit
from mtt_brian.engines import Order, Result, Simulator, engine_info
from mtt_brian.evaluate import EventDriven, EventDrivenTally, TimeStepped, TimeSteppedTally
from mtt_brian.events import Recordings
from mtt_brian.experiments import inference, run_folder

#: Recordings in a shard at most: as many as go through torch together.
SHARD = 50
#: Likewise for engines that run the recordings of a shard side by side, as lanes.
SHARD_OF_LANES = 200
#: Numbers in one array of frames or of spike counts at most (about 100 MB).
BUDGET = 25_000_000
#: Points of the accuracy over time.
READINGS = 301
#: Packages that compute something, besides this one.
PACKAGES = ("brian2", "torch", "numpy", "scipy", "numba", "nir")

#: The tallies of one shard, JSON-able.
Part: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A network and what is asked of it; equal to another job if all results are.

    Attributes:
        graph: the network; `digest` stands for it in comparisons.
        digest: SHA-256 of its file.
        time_steps: T_max, where spikes are counted on both sides.
        grids: the other T of the time-stepped side, ascending.
        engine: of the event-driven side.
        orders: its conventions.
        duration_us: the usual length of a recording.
    """

    graph: nir.NIRGraph = field(compare=False, repr=False)
    digest: str
    time_steps: int
    grids: tuple[int, ...]
    engine: str
    orders: tuple[Order, ...]
    duration_us: int

    @property
    def passes(self) -> int:
        """How often every recording is run."""
        return len(self.grids) + 1 + len(self.orders)

    def tallies(self, circuit: Circuit) -> Tallies:
        """Empty tallies; ``circuit`` is that of the graph."""
        times = np.linspace(0, self.duration_us / 1e6, READINGS)
        return Tallies(
            TimeSteppedTally(circuit, self.time_steps), {order: EventDrivenTally(times, order) for order in self.orders}
        )


class Tallies(NamedTuple):
    """Both sides of a job; the event-driven one by convention."""

    time_stepped: TimeSteppedTally
    event_driven: dict[Order, EventDrivenTally]

    def part(self) -> Part:
        """What was added so far, JSON-able."""
        return {
            "time_stepped": self.time_stepped.part(),
            "event_driven": {order: tally.part() for order, tally in self.event_driven.items()},
        }

    def merge(self, part: Part) -> None:
        """Add the recordings of a `part` behind those that are there."""
        self.time_stepped.merge(part["time_stepped"])
        for order, tally in self.event_driven.items():
            tally.merge(part["event_driven"][order])

    def summaries(self) -> tuple[TimeStepped, tuple[EventDriven, ...]]:
        """Both sides of a report."""
        return self.time_stepped.summary(), tuple(tally.summary() for tally in self.event_driven.values())


@dataclass(frozen=True)
class Origin:
    """Where recordings come from, for a process that has to read them itself.

    Attributes:
        dataset, root, split: as `events.load` takes them.
        resolution: of the grid of pixels they are moved to (`events.at_resolution`), or None.
    """

    dataset: str
    root: str | None
    split: str
    resolution: int | None

    def load(self) -> Recordings:
        """All recordings that are there.

        Raises:
            InputError: as `events.load`.
        """
        recordings = run_folder.with_events(events.load(self.dataset, root=self.root, split=self.split, progress=False))
        return recordings if self.resolution is None else events.at_resolution(recordings, self.resolution)


@dataclass(frozen=True, eq=False)
class Shard:
    """A job on a few of the recordings.

    Attributes:
        run: name of the run, for messages.
        number, count: the shard is the ``number``-th, from 1, of so many of this run.
    """

    run: str
    job: Job
    number: int
    count: int
    recordings: Recordings

    def __str__(self) -> str:
        ids = self.recordings.ids
        return f"shard {self.number} of {self.count} of {self.run} ({self.recordings.name}: {ids[0]} .. {ids[-1]})"

    @property
    def passes(self) -> int:
        """How many runs of single recordings it takes."""
        return self.job.passes * len(self.recordings)

    def settings(self, origin: Origin) -> dict[str, Any]:
        """All that its results depend on, JSON-able."""
        job = {item.name: getattr(self.job, item.name) for item in dataclasses.fields(Job) if item.compare}
        return {**job, **dataclasses.asdict(origin), "recordings": self.recordings.ids, "versions": versions()}


@functools.cache
def versions() -> dict[str, str]:
    """Those of Python and the packages, which results are tied to; the platform is free."""
    return {name: version for name, version in run_folder.versions(*PACKAGES).items() if name != "platform"}


def divide(run: str, job: Job, circuit: Circuit, recordings: Recordings, most: int | None = None) -> list[Shard]:
    """The shards of a run, in the order of the recordings.

    Args:
        run: its name.
        job: what is asked of it.
        circuit: its network.
        recordings: at least one.
        most: recordings in a shard; fewer where the network is large. None: `SHARD`, or `SHARD_OF_LANES`.
    """
    most = most or (SHARD_OF_LANES if engine_info(job.engine).batches else SHARD)
    size = min(most, max(1, BUDGET // sum(p.size for p in circuit.populations)))
    count = math.ceil(len(recordings) / size)
    return [Shard(run, job, k + 1, count, recordings[k * size : (k + 1) * size]) for k in range(count)]


class Evaluator:
    """A job, made ready in this process.

    Args:
        job: what is asked of which network.
        threads: of an engine that takes this option; None for one per core. The results do not depend on it.

    Raises:
        InputError: if the network cannot be read or the engine cannot run it.
    """

    def __init__(self, job: Job, threads: int | None = None) -> None:
        self._job = job
        self._circuit = translate.read_nir(job.graph)
        self._model = export.from_nir(job.graph, duration=job.duration_us / 1e6).eval()
        options = engine_info(job.engine).options_from({"threads": threads})
        self._engines = {
            order: Simulator(self._circuit, engine=job.engine, order=order, record="output", **options)
            for order in job.orders
        }
        self._compiled: set[Order] = set()

    def evaluate(self, recordings: Recordings, progress: Callable[[int], object]) -> Part:
        """Both sides on some recordings: time-stepped at every T, event-driven under every convention.

        Args:
            recordings: N of them; each is read once.
            progress: told N after every pass.

        Raises:
            InputError: if a recording cannot be read.
        """
        recordings = _in_memory(recordings)
        tallies = self._job.tallies(self._circuit)
        stepped, labels = tallies.time_stepped, recordings.labels
        with _one_torch_thread():
            for t in self._job.grids:
                stepped.add_answers(t, mtt.predict(self._model, recordings, t), labels)
                progress(len(recordings))
            started = time.perf_counter()
            answers = inference.predict_time_stepped(self._job.graph, recordings, self._job.time_steps)
            stepped.add_answers(self._job.time_steps, answers.readouts, labels)
            stepped.add_counts(answers.counts, time.perf_counter() - started)
            progress(len(recordings))
        for order, tally in tallies.event_driven.items():
            engine = self._engines[order]
            results, seconds = _timed_run(engine, recordings)
            if order not in self._compiled:
                # Engines are built and compiled in their first run; a second one shows what the run itself takes.
                results, again = _timed_run(engine, recordings)
                tally.compile_seconds, seconds = max(0.0, seconds - again), again
                self._compiled.add(order)
            for k, result in enumerate(results):
                spikes = {name: count[k] for name, count in answers.counts.items()}
                tally.add(result, int(labels[k]), spikes, answers.readouts[k], seconds / len(recordings))
            progress(len(recordings))
        return tallies.part()


#: Computes shards, each as soon as it can, and tells how many runs of single recordings it has done since it last did.
Compute: TypeAlias = Callable[[Sequence[Shard], Callable[[int], object]], Iterator[tuple[Shard, Part]]]


def evaluate_here(shards: Sequence[Shard], progress: Callable[[int], object]) -> Iterator[tuple[Shard, Part]]:
    """Shards one after another in this process.

    Args:
        shards: those of one run behind each other.
        progress: told the number of runs that are done, as they are.
    """
    for _, of_one_run in itertools.groupby(shards, key=lambda shard: shard.run):
        evaluator = None
        for shard in of_one_run:
            evaluator = evaluator or Evaluator(shard.job)
            yield shard, evaluator.evaluate(shard.recordings, progress)


def _in_memory(recordings: Recordings) -> Recordings:
    """The same ones, read from their files now."""
    loaded = dict(zip(recordings.ids, recordings, strict=True))
    return dataclasses.replace(recordings, read=loaded.__getitem__)


def _timed_run(engine: Simulator, recordings: Recordings) -> tuple[list[Result], float]:
    """Results, and the seconds they took together."""
    started = time.perf_counter()
    results = list(engine.run(recordings))
    return results, time.perf_counter() - started


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """With more threads the last bits, and through them a spike, could depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
