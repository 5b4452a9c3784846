"""Time-stepped and event-driven evaluation of networks, in shards: a few recordings at a time, in any process.

The results of a shard do not depend on where it is computed, on other shards or on the number of cores.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import nir
import numpy as np
import torch

from mtt_brian import export, machine, mtt, translate
from mtt_brian.circuit.model import Circuit
from mtt_brian.engines import ORDERS, Order, Result, Simulator, engine_info
from mtt_brian.errors import InputError
from mtt_brian.evaluate import (
    EventDrivenAccumulator,
    Predictions,
    Report,
    RunReport,
    TimeSteppedAccumulator,
    flexibility,
    predictions,
)
from mtt_brian.evaluate.temporal_flexibility import TIME_STEPS, Flexibility
from mtt_brian.events import Recordings
from mtt_brian.experiments import inference
from mtt_brian.experiments.backend import Backend, PartialResult, Shard, collected, divide
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.experiments.run_folder import Run
from mtt_brian.files import package_versions, versions
from mtt_brian.progress import progress_bar
from mtt_brian.translate.nir_files import load_graph

#: Points of the accuracy over time.
READINGS = 301
#: Packages that affect results, besides this one.
PACKAGES = ("brian2", "torch", "numpy", "scipy", "numba", "nir")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationTask:
    """A network and the settings of its evaluation; two tasks are equal if all results are.

    Attributes:
        graph: the network; comparisons use `digest`.
        digest: SHA-256 of its file.
        time_steps: T_max, at which spikes are counted in both modes.
        other_time_steps: the other T of the time-stepped mode, ascending.
        engine: of the event-driven mode.
        orders: its conventions.
        duration_us: the usual length of a recording.
    """

    graph: nir.NIRGraph = field(compare=False, repr=False)
    digest: str
    time_steps: int
    other_time_steps: tuple[int, ...]
    engine: str
    orders: tuple[Order, ...]
    duration_us: int

    @property
    def passes(self) -> int:
        """Number of runs of every recording."""
        return len(self.other_time_steps) + 1 + len(self.orders)

    def settings(self) -> dict[str, Any]:
        """All values that affect the results besides the recordings, JSON-able."""
        return {
            "digest": self.digest,
            "time_steps": [self.time_steps, *self.other_time_steps],
            "engine": self.engine,
            "orders": self.orders,
            "duration_us": self.duration_us,
        }

    def versions(self) -> dict[str, str]:
        """Versions of Python and of the packages that results depend on."""
        return result_versions()

    def evaluator(self, threads: int | None = None) -> Evaluator:
        """See `Evaluator`."""
        return Evaluator(self, threads)

    def accumulators(self) -> Accumulators:
        """Empty accumulators."""
        times = np.linspace(0, self.duration_us / 1e6, READINGS)
        return Accumulators(
            TimeSteppedAccumulator(self.time_steps),
            {order: EventDrivenAccumulator(times, order) for order in self.orders},
        )


class Accumulators(NamedTuple):
    """The accumulators of both modes of a task; the event-driven ones by convention."""

    time_stepped: TimeSteppedAccumulator
    event_driven: dict[Order, EventDrivenAccumulator]

    @property
    def flexibility(self) -> Flexibility | None:
        """The score under the first convention; None if one of its numbers of time steps was not run."""
        time_stepped = self.time_stepped.correct
        if not set(TIME_STEPS) <= time_stepped.keys():
            return None
        return flexibility(time_stepped, next(iter(self.event_driven.values())).correct)

    def state_dict(self) -> PartialResult:
        """The state of the accumulators, JSON-able."""
        return {
            "time_stepped": self.time_stepped.state_dict(),
            "event_driven": {order: one.state_dict() for order, one in self.event_driven.items()},
        }

    def merge(self, state: PartialResult) -> None:
        """Adds the recordings of a `state_dict` after those already added."""
        self.time_stepped.merge(state["time_stepped"])
        for order, one in self.event_driven.items():
            one.merge(state["event_driven"][order])


@dataclass(frozen=True, eq=False)
class EvaluationPlan:
    """Runs, recordings, tasks and shards of an evaluation.

    Attributes:
        runs: by name.
        recordings: of all runs.
        data_root: folder of the data set.
        engine: of the event-driven mode.
        shards: consecutive for each run, in the order of the recordings.
    """

    runs: Mapping[str, Run]
    recordings: Recordings
    data_root: str | None
    engine: str
    shards: Sequence[Shard[EvaluationTask, Recordings]]

    @property
    def passes(self) -> int:
        """Number of runs of single recordings."""
        return sum(shard.passes for shard in self.shards)

    def settings(self) -> dict[str, Any]:
        """All values that affect the results, JSON-able."""
        ids = [shard.recordings.ids for shard in self.shards]
        return {
            "dataset": self.recordings.name,
            "split": self.recordings.split,
            "data_root": self.data_root,
            "sensor_size": self.recordings.sensor_size,
            "recordings": len(self.recordings),
            "runs": {shard.run: shard.task.settings() for shard in self.shards},
            "shards": [len(of_shard) for of_shard in ids],
            "ids": hashlib.sha256(repr(ids).encode()).hexdigest(),
            "versions": result_versions(),
        }


def choose_orders(engine: str, wanted: str | None, circuits: Mapping[str, Circuit]) -> tuple[Order, ...]:
    """The conventions to evaluate.

    Args:
        engine: name of the event-driven engine.
        wanted: one of `ORDERS`, ``"both"``, or None for both where the engine can run all networks under both.
        circuits: the networks by the names of their runs.

    Returns:
        At least one; without ``wanted``, an unsupported convention is logged with the reason.
    """
    if wanted is not None:
        return tuple(order for order in ORDERS if wanted in (order, "both"))
    known = engine_info(engine).orders
    for name, circuit in circuits.items() if len(known) > 1 else ():
        try:
            Simulator(circuit, engine=engine, order="fifo")
        except InputError as error:
            _log.warning("%s: %s. Reporting sum only", name, error)
            return ("sum",)
    return known


def plan_evaluation(
    runs: Mapping[str, Run],
    circuits: Mapping[str, Circuit],
    recordings: Recordings,
    *,
    time_steps: Sequence[int] = (),
    engine: str = "exact",
    order: str | None = None,
    shard_size: int | None = None,
    data_root: str | None = None,
) -> EvaluationPlan:
    """Every run time-stepped, at its own T_max and at ``time_steps``, and event-driven.

    Args:
        runs: by name.
        circuits: their networks.
        recordings: at least one.
        time_steps: other numbers of time steps.
        engine: of the event-driven mode.
        order: see `choose_orders`.
        shard_size: recordings in a shard; fewer for a large network. None: the batch size.
        data_root: folder of the data set, to which the results are bound.
    """
    orders = choose_orders(engine, order, circuits)
    most = shard_size or (machine.BATCH_SIDE_BY_SIDE if engine_info(engine).batches else machine.BATCH)
    shards = []
    for name, run in runs.items():
        task = EvaluationTask(
            graph=load_graph(run.model),
            digest=run.digest,
            time_steps=run.config["time_steps"],
            other_time_steps=tuple(sorted({*time_steps} - {run.config["time_steps"]})),
            engine=engine,
            orders=orders,
            duration_us=recordings.duration_us,
        )
        size = machine.batch_size(sum(p.size for p in circuits[name].populations), machine.SPIKE_COUNTS, most)
        shards += divide(name, task, recordings, size)
    return EvaluationPlan(runs, recordings, data_root, engine, shards)


def result_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results are bound to."""
    return package_versions(*PACKAGES)


def evaluate(plan: EvaluationPlan, store: ResultStore, backend: Backend, command: str) -> Report:
    """Evaluate all runs, time-stepped and event-driven.

    Shards in the store are read from it; the others are computed and stored one by one.

    Args:
        plan: of `plan_evaluation`.
        store: bound to the settings of the plan.
        backend: `backend.evaluate_here`, or that of `dask_backend.workers`.
        command: the command line, for the report.

    Raises:
        Exception: any one of the backend; then a line with the number of stored shards is logged.
    """
    missing = [shard for shard in plan.shards if shard.key not in store]
    done = plan.passes - sum(shard.passes for shard in missing)
    with progress_bar(total=plan.passes, initial=done, description="evaluating", unit="run") as bar:
        try:
            for shard, result in backend(missing, bar.update):
                store.keep(shard.key, result)
                bar.set_postfix_str(f"{len(store)} of {len(plan.shards)} shards")
        except BaseException:
            bar.close()
            if store:
                kept = f"{len(store)} of {len(plan.shards)} shards are kept"
                _log.warning("%s; --out %s continues with the rest", kept, store.path.parent)
            raise
    return Report(
        dataset=plan.recordings.name,
        split=plan.recordings.split,
        engine=plan.engine,
        versions=versions(*PACKAGES),
        command=command,
        title=plan.recordings.title,
        date=datetime.now(UTC).date().isoformat(),
        runs=tuple(_run_report(plan, name, store) for name in plan.runs),
    )


def _run_report(plan: EvaluationPlan, name: str, store: ResultStore) -> RunReport:
    """One run, from the results of its shards in the order of the recordings."""
    shards = [shard for shard in plan.shards if shard.run == name]
    accumulators = shards[0].task.accumulators()
    for shard in shards:
        accumulators.merge(store[shard.key])
    time_stepped = accumulators.time_stepped.compute()
    before = accumulators.time_stepped.correct[time_stepped.time_steps]
    return RunReport(
        run=name,
        method=plan.runs[name].config["method"],
        seed=plan.runs[name].config.get("seed"),
        n_recordings=len(plan.recordings),
        network=str(plan.runs[name].config.get("model", "")),
        time_stepped=time_stepped,
        event_driven=tuple(one.compute(before) for one in accumulators.event_driven.values()),
        flexibility=accumulators.flexibility,
    )


class Evaluator:
    """A task with its network built in this process.

    Args:
        task: network and settings.
        threads: of an engine with this option; None for one per core. The results do not depend on it.

    Raises:
        InputError: if the network cannot be read or the engine cannot run it.
    """

    def __init__(self, task: EvaluationTask, threads: int | None = None) -> None:
        self._task = task
        circuit = translate.read_nir(task.graph)
        self._model = export.from_nir(task.graph, duration=task.duration_us / 1e6).eval()
        options = engine_info(task.engine).options_from({"threads": threads})
        self._engines = {
            order: Simulator(circuit, engine=task.engine, order=order, record="output", **options)
            for order in task.orders
        }
        self._compiled: set[Order] = set()

    def evaluate(self, recordings: Recordings, progress: Callable[[int], object]) -> PartialResult:
        """Both modes on some recordings: time-stepped at every T, event-driven under every convention.

        Args:
            recordings: N of them; each is read once.
            progress: called with N after every time-stepped pass, and with 1 after every event-driven run.

        Raises:
            InputError: if a recording cannot be read.
        """
        recordings = recordings.in_memory()
        accumulators = self._task.accumulators()
        time_stepped = self._time_stepped(recordings, accumulators.time_stepped, progress)
        for order, accumulator in accumulators.event_driven.items():
            self._event_driven(order, recordings, time_stepped, accumulator, progress)
        return accumulators.state_dict()

    def _time_stepped(
        self, recordings: Recordings, accumulator: TimeSteppedAccumulator, progress: Callable[[int], object]
    ) -> Predictions:
        """Every T; returns the predictions at T_max."""
        with _one_torch_thread():
            for t in self._task.other_time_steps:
                logits = mtt.predict(self._model, recordings, t)
                accumulator.add_correct(t, predictions(logits) == recordings.labels)
                progress(len(recordings))
            started = time.perf_counter()
            at_t_max = inference.predict_time_stepped(self._task.graph, recordings, self._task.time_steps)
            accumulator.add_correct(self._task.time_steps, at_t_max.correct(recordings.labels))
            accumulator.add_spikes(at_t_max.counts, at_t_max.synops, time.perf_counter() - started)
            progress(len(recordings))
        return at_t_max

    def _event_driven(
        self,
        order: Order,
        recordings: Recordings,
        time_stepped: Predictions,
        accumulator: EventDrivenAccumulator,
        progress: Callable[[int], object],
    ) -> None:
        results, seconds = _timed_run(self._engines[order], recordings, progress)
        if order not in self._compiled:
            # Engines are built and compiled in their first run; a second one measures the run alone.
            results, again = _timed_run(self._engines[order], recordings, lambda _: None)
            accumulator.compile_seconds, seconds = max(0.0, seconds - again), again
            self._compiled.add(order)
        for k, result in enumerate(results):
            counts = {name: count[k] for name, count in time_stepped.counts.items()}
            label = int(recordings.labels[k])
            accumulator.add(result, label, counts, time_stepped.readouts[k], seconds / len(recordings))


def _timed_run(
    engine: Simulator, recordings: Recordings, progress: Callable[[int], object]
) -> tuple[list[Result], float]:
    """Results, and their total time in seconds; ``progress`` is called with 1 as each of them comes."""
    started = time.perf_counter()
    results = collected(engine.run(recordings), progress)
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
