"""The networks of the experiment event by event, on many processes and within a time limit; without torch."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from mtt_brian import translate
from mtt_brian.evaluate.factorial import title
from mtt_brian.experiments import gap
from mtt_brian.experiments.backend import PartialResult
from mtt_brian.experiments.deep.recordings import load_recordings
from mtt_brian.experiments.gap import GapEvaluator, GapTask, Plan, Rule, Target
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.progress import progress_bar
from mtt_brian.translate.conventions import NONE, Conventions
from mtt_brian.translate.nir_files import load_graph

#: Recordings that are computed and kept together.
CHUNK = 4
#: Chunks that are run under all rules of the way to a chip; the others under the two event-driven ones only.
WAY_CHUNKS = 15
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
        sizes = {"chunk": CHUNK, "way_chunks": WAY_CHUNKS}
        return {"dataset": self.dataset, "recordings": self.count, "time_steps": self.time_steps, **sizes}

    @property
    def chunks(self) -> int:
        return -(-self.count // CHUNK)


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
) -> None:
    """Run the networks on the test recordings; results are kept chunk by chunk.

    The first recordings of all networks come first, so that after a stop all networks have about the same recordings.

    Args:
        models: the ``.nir`` files that are there, the most important first; more may come.
        complete: whether no more will come.
        test: the recordings.
        store: of the results, by digest of the model and number of the chunk.
        workers: processes.
        ends: time (`time.time`) after which nothing is started.
    """
    running: dict[Future[PartialResult], tuple[str, int]] = {}
    with (
        # Behind the trainings, which run at the same time.
        ProcessPoolExecutor(workers, get_context("spawn"), initializer=os.nice, initargs=(_NICE,)) as pool,
        progress_bar(description="event-driven", unit="chunks", total=0) as bar,
    ):
        while time.time() < ends:
            last = complete()
            keys = {(digest(model), number): model for number in range(test.chunks) for model in models()}
            missing = (key for key in keys if key not in store and key not in running.values())
            bar.total = len(keys)
            while len(running) < workers and (key := next(missing, None)):
                running[pool.submit(_run_chunk, keys[key], test, key[1])] = key
            if not running and last:
                break
            done, _ = wait(running, timeout=_PAUSE, return_when=FIRST_COMPLETED)
            if not running:
                time.sleep(_PAUSE)
            for future in done:
                store.keep(running.pop(future), future.result())
                bar.update()
        pool.shutdown(wait=True, cancel_futures=True)
    for future, key in running.items():
        if not future.cancelled():
            store.keep(key, future.result())


@dataclass(frozen=True, eq=False)
class Results:
    """What is known of a network; all is empty if nothing was run.

    Attributes:
        numbers: of the recordings that were run event by event.
        event_driven: by name of the rule, `gap.INSTANTS` and `gap.FIFO`, the results of `gap.merge` for them.
        way: those of all rules on the way to a chip, for the recordings of the first `WAY_CHUNKS` chunks.
    """

    numbers: list[int]
    event_driven: dict[str, dict[str, Any]]
    way: dict[str, dict[str, Any]]


def results(store: ResultStore, model: Path, test: Recorded, labels: Sequence[int]) -> Results:
    """The results of a network.

    Args:
        store: of `evaluate`.
        model: the ``.nir`` file.
        test: the recordings.
        labels: of all of them.
    """
    there = [number for number in range(test.chunks) if (digest(model), number) in store]

    def merged(numbers: Sequence[int], rules: Sequence[str] | None) -> dict[str, dict[str, Any]]:
        parts = [store[digest(model), number] for number in numbers]
        if not parts:
            return {}
        of = np.array([labels[k] for number in numbers for k in _members(test, number)])
        return gap.merge([part if rules is None else {rule: part[rule] for rule in rules} for part in parts], of)

    members = [k for number in there for k in _members(test, number)]
    way = [number for number in there if number < WAY_CHUNKS]
    return Results(members, merged(there, (gap.INSTANTS, gap.FIFO)), merged(way, None))


@lru_cache(maxsize=256)
def digest(model: Path) -> str:
    """SHA-256 of a model, which does not change once it is written."""
    return hashlib.sha256(model.read_bytes()).hexdigest()


def _run_chunk(model: Path, test: Recorded, number: int) -> PartialResult:
    """One chunk in a process of the pool."""
    recordings = load_recordings(test.dataset, test.data_root, "test", test.count).subset(_members(test, number))
    return _evaluator(model, test.time_steps, number < WAY_CHUNKS).evaluate(recordings, lambda _: None)


@lru_cache(maxsize=64)
def _evaluator(model: Path, time_steps: int, all_rules: bool) -> GapEvaluator:
    plan = plan_of(model, time_steps)
    path = plan.path if all_rules else [(gap.INSTANTS,), (gap.FIFO,)]
    rules = tuple((title(combination), plan.rule(combination)) for combination in path)
    return GapTask(load_graph(model), digest(model), Conventions(), rules).evaluator(threads=1)


def _members(test: Recorded, number: int) -> range:
    return range(number * CHUNK, min(test.count, (number + 1) * CHUNK))
