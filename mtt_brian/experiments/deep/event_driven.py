"""The networks of the experiment event by event, on many processes and within a time limit; without torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtt_brian import translate
from mtt_brian.engines import engine_info
from mtt_brian.evaluate.factorial import Combination, title
from mtt_brian.events import Recordings
from mtt_brian.experiments import gap
from mtt_brian.experiments.backend import PartialResult
from mtt_brian.experiments.deep.finished import digest
from mtt_brian.experiments.deep.recordings import load_recordings
from mtt_brian.experiments.gap import GapEvaluator, GapTask, Plan, Rule, Target
from mtt_brian.experiments.result_store import Key, ResultStore
from mtt_brian.progress import progress_bar
from mtt_brian.translate.conventions import NONE, Conventions
from mtt_brian.translate.nir_files import load_graph
from mtt_brian.workers import processes_ended_after_errors, single_processes, start_worker

#: Recordings of a job on a CPU.
CHUNK = 4
#: Recordings that are run under all rules on the way to a chip; the others under the two event-driven ones only.
ON_THE_WAY = 16
#: Kinds of jobs.
SUM, FIFO, WAY = "sum", "fifo", "way"
#: The rules of the first two.
RULES = {SUM: gap.INSTANTS, FIFO: gap.FIFO}
#: Seconds between two looks for new networks.
_PAUSE = 1.0
#: Priority of the processes.
_NICE = 10


@dataclass(frozen=True)
class Recorded:
    """The test recordings: the first ``count`` of the drawing of `load_recordings`; ``time_steps`` is T_max."""

    dataset: str
    data_root: str | None
    count: int
    time_steps: int

    @property
    def settings(self) -> dict[str, Any]:
        """All that the results depend on besides the networks, for the `ResultStore`."""
        return {"dataset": self.dataset, "recordings": self.count, "time_steps": self.time_steps}


@dataclass(frozen=True)
class Job:
    """Some recordings through one network.

    Attributes:
        model: the ``.nir`` file.
        kind: `SUM` and `FIFO`: the event-driven rule of this name; `WAY`: all rules on the way to a chip.
        start, stop: numbers of the recordings.
    """

    model: Path
    kind: str
    start: int
    stop: int

    @property
    def key(self) -> Key:
        """In the `ResultStore`."""
        return digest(self.model), self.kind, self.start, self.stop


def jobs_of(models: Sequence[Path], test: Recorded, kinds: Sequence[str]) -> Iterator[Job]:
    """The jobs of these kinds: the first recordings of all networks first, under all rules of `WAY`."""
    for start in range(0, test.count, CHUNK):
        stop = min(test.count, start + CHUNK)
        for model in models:
            for kind in kinds:
                if (kind == WAY) == (start < ON_THE_WAY):
                    yield Job(model, kind, start, stop)


def plan_of(model: Path, time_steps: int) -> Plan:
    """From the trained rule to a chip's: instants, single events, and the other kind of lower bound."""
    circuit = translate.read_nir(model)
    bounded = any(p.rule.lower_bound is not None for p in circuit.populations if p.rule.fires)
    target = Target(order="fifo", lower_bound=NONE if bounded else "-1.0 thresholds")
    return gap.plan(circuit, Rule(bins=time_steps), target, ())


def evaluate(
    models: Callable[[], Sequence[Path]],
    complete: Callable[[], bool],
    test: Recorded,
    store: ResultStore,
    workers: int,
    ends: float,
    engine: str = "exact",
) -> None:
    """Run the networks on the test recordings; results are kept as they come.

    After a stop all networks have about the same recordings.

    Args:
        models: the ``.nir`` files that are there, the most important first; more may come.
        complete: whether no more will come.
        test: the recordings.
        store: of the results.
        workers: processes.
        ends: time (`time.time`) after which nothing is started.
        engine: one that runs recordings in batches has all recordings of `SUM` at once, once ``complete``; the rest is
            run by ``"exact"``, and all if the other one fails.
    """
    batches = engine_info(engine).batches
    running: dict[Future[PartialResult], tuple[Job, Executor]] = {}
    try:
        with (
            # Behind the trainings, which run at the same time.
            single_processes(workers, start_worker, _NICE) as idle,
            single_processes(1, start_worker) as [gpu],
            progress_bar(description="event-driven", unit="jobs", total=0) as bar,
            processes_ended_after_errors(),
        ):
            while time.time() < ends:
                last, there = complete(), models()
                begun = {job for job, _ in running.values()}
                jobs = list(jobs_of(there, test, (WAY, FIFO) if batches else (WAY, FIFO, SUM)))
                missing = (job for job in jobs if not _is_known(store, job, test) and job not in begun)
                bar.total = max(len(jobs), bar.n)
                while idle and (job := next(missing, None)):
                    executor = idle.pop()
                    running[executor.submit(_run_job, job, test, "exact")] = job, executor
                whole = [Job(model, SUM, 0, test.count) for model in there] if batches and last else []
                for job in whole:
                    if job.key not in store and job not in begun:
                        running[gpu.submit(_run_job, job, test, engine)] = job, gpu
                if not running and last:
                    break
                done, _ = wait(running, timeout=_PAUSE, return_when=FIRST_COMPLETED)
                if not running:
                    time.sleep(_PAUSE)
                for future in done:
                    job, executor = running[future]
                    if executor is gpu and (error := future.exception()) is not None:
                        print(f"{engine}: {error}; the engine exact runs the rest", flush=True)
                        batches = False
                    else:
                        store.keep(job.key, future.result())
                        bar.update()
                    del running[future]
                    if executor is not gpu:
                        idle.append(executor)
    finally:
        for future, (job, _) in running.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                store.keep(job.key, future.result())


def _is_known(store: ResultStore, job: Job, test: Recorded) -> bool:
    return job.key in store or Job(job.model, job.kind, 0, test.count).key in store


class Results(NamedTuple):
    """The results of a network for some of the recordings.

    Attributes:
        numbers: of the recordings.
        rules: by name of the rule, see `gap.merge`; empty if there are no recordings.
    """

    numbers: list[int]
    rules: dict[str, dict[str, Any]]


def results(store: ResultStore, model: Path, kind: str, test: Recorded, labels: Sequence[int]) -> Results:
    """What is known of a network from the jobs of one kind.

    Args:
        store: of `evaluate`.
        model: the ``.nir`` file.
        kind: `SUM` or `FIFO` for one rule, `WAY` for all.
        test: the recordings.
        labels: of all of them.
    """
    whole = Job(model, kind, 0, test.count)
    jobs = [whole] if whole.key in store else [j for j in jobs_of([model], test, [WAY, kind]) if j.key in store]
    if not jobs:
        return Results([], {})
    rules = store[jobs[0].key] if kind == WAY else [RULES[kind]]
    numbers = [number for job in jobs for number in range(job.start, job.stop)]
    parts = [{rule: store[job.key][rule] for rule in rules} for job in jobs]
    return Results(numbers, gap.merge(parts, np.array(labels)[numbers]))


def _run_job(job: Job, test: Recorded, engine: str) -> PartialResult:
    """One job, in a process of a pool."""
    if engine_info(engine).batches:
        return _build(job.model, test.time_steps, job.kind, engine).evaluate(_in_memory(test), _silent)
    recordings = load_recordings(test.dataset, test.data_root, "test", test.count)
    return _evaluator(job.model, test.time_steps, job.kind).evaluate(recordings[job.start : job.stop], _silent)


def _silent(_: int) -> None:
    """No progress: the jobs are counted."""


@lru_cache(maxsize=1)
def _in_memory(test: Recorded) -> Recordings:
    """All recordings, simulated once."""
    return load_recordings(test.dataset, test.data_root, "test", test.count).in_memory()


@lru_cache(maxsize=64)
def _evaluator(model: Path, time_steps: int, kind: str) -> GapEvaluator:
    return _build(model, time_steps, kind, "exact")


def _build(model: Path, time_steps: int, kind: str, engine: str) -> GapEvaluator:
    plan = plan_of(model, time_steps)
    path: Mapping[str, Sequence[Combination]] = {kind: [(rule,)] for kind, rule in RULES.items()}
    rules = tuple((title(combination), plan.rule(combination)) for combination in path.get(kind, plan.path))
    return GapEvaluator(GapTask(load_graph(model), digest(model), Conventions(), rules), threads=1, engine=engine)
