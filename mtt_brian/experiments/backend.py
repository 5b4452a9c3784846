"""Work that is divided into shards, a few recordings at a time, and computed in this process or in others.

The results of a shard do not depend on where it is computed, on other shards or on the number of cores. This module
does not need torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

import numpy as np

#: The results of one shard, JSON-able.
PartialResult: TypeAlias = dict[str, Any]


class NamedRecordings(Protocol):
    """Recordings in an order, each with a name."""

    @property
    def name(self) -> str: ...
    @property
    def ids(self) -> Sequence[str]: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[np.ndarray]: ...
    def __getitem__(self, piece: slice, /) -> Self: ...


class Evaluator(Protocol):
    """A task with its networks built in this process."""

    def evaluate(self, recordings: Any, progress: Callable[[int], object]) -> PartialResult:
        """Compute some recordings; ``progress`` is called with the number of runs of single recordings as they end."""


class Task(Protocol):
    """The computation for every recording; two tasks are equal, with equal hashes, if all results are."""

    @property
    def engine(self) -> str:
        """Name of the engine."""

    @property
    def passes(self) -> int:
        """Number of runs of every recording."""

    def __hash__(self) -> int: ...

    def versions(self) -> dict[str, str]:
        """Versions of Python and of the packages that results depend on."""

    def evaluator(self, threads: int | None = None) -> Evaluator:
        """The task with its networks built; the results do not depend on the number of threads."""


SomeTask = TypeVar("SomeTask", bound=Task)
SomeRecordings = TypeVar("SomeRecordings", bound=NamedRecordings)
_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False)
class Shard(Generic[SomeTask, SomeRecordings]):
    """A task on a few of the recordings.

    Attributes:
        run: name of the run or the network.
        task: of the run.
        number, count: the shard is the ``number``-th, from 1, of ``count`` shards of this run.
        recordings: of this shard.
    """

    run: str
    task: SomeTask
    number: int
    count: int
    recordings: SomeRecordings

    def __str__(self) -> str:
        ids = self.recordings.ids
        return f"shard {self.number} of {self.count} of {self.run} ({self.recordings.name}: {ids[0]} .. {ids[-1]})"

    @property
    def key(self) -> tuple[str, int]:
        """In a `ResultStore`."""
        return self.run, self.number

    @property
    def passes(self) -> int:
        """Number of runs of single recordings."""
        return self.task.passes * len(self.recordings)


def divide(run: str, task: SomeTask, recordings: SomeRecordings, size: int) -> list[Shard[SomeTask, SomeRecordings]]:
    """Shards of at most ``size`` recordings, in order."""
    count = -(-len(recordings) // size)
    return [Shard(run, task, k + 1, count, recordings[k * size : (k + 1) * size]) for k in range(count)]


#: Computes shards in any order, and calls a function with the number of runs of single recordings that were done.
Backend: TypeAlias = Callable[
    [Sequence[Shard[Any, Any]], Callable[[int], object]], Iterator[tuple[Shard[Any, Any], PartialResult]]
]


def collected(results: Iterable[_Result], progress: Callable[[int], object]) -> list[_Result]:
    """All results of a generator; ``progress`` is called with 1 after each of them."""
    done = []
    for result in results:
        done.append(result)
        progress(1)
    return done


def evaluate_here(
    shards: Sequence[Shard[Any, Any]], progress: Callable[[int], object]
) -> Iterator[tuple[Shard[Any, Any], PartialResult]]:
    """Compute shards one after another in this process, as a `Backend`."""
    for _, of_one_run in itertools.groupby(shards, key=lambda shard: shard.run):
        evaluator: Evaluator | None = None
        for shard in of_one_run:
            evaluator = evaluator or shard.task.evaluator()
            yield shard, evaluator.evaluate(shard.recordings, progress)
