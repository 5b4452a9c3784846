"""The networks of the experiment event by event, on many processes and within a time limit; without torch."""

from __future__ import annotations

import hashlib
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
CHUNK = 10
#: Seconds between two looks for new networks.
_PAUSE = 1.0


@dataclass(frozen=True)
class Recorded:
    """The test recordings: the first ``count`` of the drawing of `load_recordings`."""

    dataset: str
    data_root: str | None
    count: int

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
    time_steps: int,
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
        time_steps: T_max.
        store: of the results, by digest of the model and number of the chunk.
        workers: processes.
        ends: time (`time.time`) after which nothing is started.
    """
    running: dict[Future[PartialResult], tuple[str, int]] = {}
    with (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        progress_bar(description="event-driven", unit="chunks", total=0) as bar,
    ):
        while time.time() < ends:
            last = complete()
            keys = {(digest(model), number): model for number in range(test.chunks) for model in models()}
            missing = (key for key in keys if key not in store and key not in running.values())
            bar.total = len(keys)
            while len(running) < workers and (key := next(missing, None)):
                running[pool.submit(_run_chunk, keys[key], test, time_steps, key[1])] = key
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


def results(store: ResultStore, model: Path, test: Recorded, labels: Sequence[int]) -> tuple[list[int], dict[str, Any]]:
    """What is known of a network.

    Args:
        store: of `evaluate`.
        model: the ``.nir`` file.
        test: the recordings.
        labels: of all of them.

    Returns:
        Numbers of the recordings that were run, and by name of the rule the results of `gap.merge` for them; both are
        empty if there are none.
    """
    numbers = [number for number in range(test.chunks) if (digest(model), number) in store]
    if not numbers:
        return [], {}
    of_chunks = [k for number in numbers for k in _members(test, number)]
    parts = [store[digest(model), number] for number in numbers]
    return of_chunks, gap.merge(parts, np.array([labels[k] for k in of_chunks]))


@lru_cache(maxsize=256)
def digest(model: Path) -> str:
    """SHA-256 of a model, which does not change once it is written."""
    return hashlib.sha256(model.read_bytes()).hexdigest()


def _run_chunk(model: Path, test: Recorded, time_steps: int, number: int) -> PartialResult:
    """One chunk in a process of the pool."""
    recordings = load_recordings(test.dataset, test.data_root, "test", test.count).subset(_members(test, number))
    return _evaluator(model, time_steps).evaluate(recordings, lambda _: None)


@lru_cache(maxsize=4)
def _evaluator(model: Path, time_steps: int) -> GapEvaluator:
    plan = plan_of(model, time_steps)
    rules = tuple((title(combination), plan.rule(combination)) for combination in plan.path)
    return GapTask(load_graph(model), digest(model), Conventions(), rules).evaluator(threads=1)


def _members(test: Recorded, number: int) -> range:
    return range(number * CHUNK, min(test.count, (number + 1) * CHUNK))
