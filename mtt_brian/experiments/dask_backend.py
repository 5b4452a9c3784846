"""Shards on the workers of a Dask cluster.

A worker gets the network and the names of the recordings, which it reads itself: it needs the same versions of all
packages, and the data set in the same place. A shard whose worker dies is computed again by another one; what was
finished before has been handed back already.
"""

from __future__ import annotations

import importlib
import logging
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from types import ModuleType
from typing import TYPE_CHECKING

from mtt_brian.engines import engine_info
from mtt_brian.errors import InputError
from mtt_brian.events import Recordings
from mtt_brian.experiments.evaluation import Compute, Evaluator, Job, Origin, Part, Shard, versions

if TYPE_CHECKING:
    from distributed import Client, Future, KilledWorker, LocalCluster, Worker

#: The address of a cluster that is started here, for as long as it is needed.
LOCAL = "local"
#: Seconds after which a scheduler that does not answer, or has no worker, is given up.
PATIENCE = 20

_SAME = "every worker needs the same versions of all packages"


@contextmanager
def workers(address: str, most: int, origin: Origin) -> Iterator[Compute]:
    """A way to have shards computed by the workers of a cluster, each as soon as it can be, in any order.

    Args:
        address: of the scheduler, ``"tcp://host:8786"``, or `LOCAL` for single-threaded processes on this machine.
        most: local processes at most; otherwise there is one per core.
        origin: where the workers find the recordings.

    Raises:
        InputError: if nobody answers there, there is no worker, or Dask is not installed. While shards are computed:
            what one of them raised; if a worker is not fit for it, naming the worker; if the scheduler is lost. After
            all others: if a shard without others beside it has killed as many workers as the scheduler allows, naming
            the shard.
    """
    with ExitStack() as stack:
        if address == LOCAL:
            address = stack.enter_context(local_cluster(most)).scheduler_address
        client = stack.enter_context(_client(address))
        yield partial(_evaluate_on, client, origin)


def local_cluster(most: int) -> LocalCluster:
    """Single-threaded processes on this machine, one per core but not more than ``most``."""
    distributed = _distributed()
    from dask.system import CPU_COUNT

    return distributed.LocalCluster(
        n_workers=min(most, CPU_COUNT),
        threads_per_worker=1,
        memory_limit=None,  # all that the machine has, as for a process without Dask
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.ERROR,
    )


def _client(address: str) -> Client:
    """A connection to a scheduler that has workers."""
    distributed = _distributed()
    if not re.fullmatch(r"((tcp|tls|ws|wss)://)?[^/\s]+:\d+", address):
        raise InputError(
            f"--dask {address}: not the address of a scheduler; expected tcp://HOST:PORT, or {LOCAL} for a process per"
            " core of this machine"
        )
    try:
        client = distributed.Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--dask {address}: no scheduler answers there ({error}); start one with: dask scheduler"
        ) from None
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        client.close()
        raise InputError(
            f"--dask {address}: no worker in {PATIENCE} s; start some with: dask worker {address} --nworkers -1"
            " --nthreads 1"
        ) from None
    return client


def _evaluate_on(
    client: Client, origin: Origin, shards: Sequence[Shard], progress: Callable[[int], object]
) -> Iterator[tuple[Shard, Part]]:
    # When a worker dies, Dask counts that against every task it had been given, those that only waited there included.
    # So a shard that it blames is only suspect as long as there were others: it gets a batch of its own, at the end.
    batches = [shards]
    deadly: list[str] = []
    for batch in batches:
        for shard, outcome in _together(client, origin, batch):
            if isinstance(outcome, dict):
                yield shard, outcome
                progress(shard.passes)
            elif len(batch) > 1:
                batches.append([shard])
            else:
                deadly.append(
                    f"{shard}: all workers died that had it and no other ({outcome.allowed_failures + 1}, the last one"
                    f" {outcome.last_worker.address}); their own output says why (often: too little memory)"
                )
    if deadly:
        raise InputError("\n".join(deadly))


def _together(client: Client, origin: Origin, shards: Sequence[Shard]) -> Iterator[tuple[Shard, Part | KilledWorker]]:
    """Shards with what they gave, or with what Dask says where workers died that had them."""
    distributed = _distributed()
    # A task of its own: a network travels to a worker once, and the scheduler can give it to others when that one dies.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")  # says that this would be better
        jobs = {job: client.submit(bytes, pickle.dumps(job), pure=False) for job in {s.job: None for s in shards}}
    task = _task()
    shard_of = {
        client.submit(
            task, jobs[shard.job], pickle.dumps((origin, shard.recordings.ids, versions())), pure=False
        ): shard
        for shard in shards
    }
    try:
        for future in distributed.as_completed(list(shard_of), loop=client.loop):
            shard = shard_of.pop(future)
            outcome = _outcome(future)
            future.release()  # or the scheduler would have it computed again if the worker that holds it dies
            yield shard, outcome
    finally:
        client.cancel(list(shard_of))


def _outcome(future: Future) -> Part | KilledWorker:
    distributed = _distributed()
    try:
        return future.result()
    except distributed.KilledWorker as error:
        return error
    except ImportError as error:
        raise InputError(f"{error}; {_SAME}") from None
    except CancelledError:
        raise InputError("--dask: the connection to the scheduler is lost") from None


def _task() -> Callable[[bytes, bytes], Part]:
    """`_evaluate` for pickled arguments, itself pickled with its code, as functions within functions are.

    So the scheduler needs none of these packages, and a worker that lacks them says so; of a task that it cannot
    unpickle it would die, and then the next one.
    """

    def evaluate(job: bytes, more: bytes) -> Part:
        import pickle

        import distributed

        try:
            from mtt_brian.experiments import dask_backend
        except ImportError as error:
            raise ImportError(f"worker {distributed.get_worker().address}: {error}") from None
        return dask_backend._evaluate(pickle.loads(job), *pickle.loads(more))

    return evaluate


def _evaluate(job: Job, origin: Origin, ids: Sequence[str], wanted: Mapping[str, str]) -> Part:
    """In a worker: one shard."""
    distributed = _distributed()
    worker = distributed.get_worker()
    _check(worker, wanted)
    if modules := engine_info(job.engine).imports:
        distributed.utils.sync(worker.loop, _import_all, modules)
    try:
        recordings, place = _recordings(origin)
        missing = [identifier for identifier in ids if identifier not in place]
        if missing:
            raise InputError(f"{origin.root} lacks {missing[0]} of {recordings.title}")
    except InputError as error:
        raise InputError(f"worker {worker.address}: {error}") from None
    return _evaluator(job).evaluate(recordings.subset([place[identifier] for identifier in ids]), lambda runs: None)


def _check(worker: Worker, wanted: Mapping[str, str]) -> None:
    """Refuse a worker whose results or times could be others than those of a process on its own."""
    if worker.state.nthreads > 1:
        raise InputError(
            f"worker {worker.address} computes {worker.state.nthreads} tasks at a time in one process, which torch and"
            " Brian2 do not bear; start it with: dask worker ADDRESS --nworkers -1 --nthreads 1"
        )
    there = versions()
    differing = [f"{name} {there.get(name)} instead of {v}" for name, v in wanted.items() if there.get(name) != v]
    if differing:
        raise InputError(f"worker {worker.address} has {', '.join(differing)}; {_SAME}")


async def _import_all(modules: Sequence[str]) -> None:
    """To be run by a worker's event loop, in the main thread: an import may set a signal handler, as Brian2's does."""
    for module in modules:
        importlib.import_module(module)


# A worker keeps the last network ready, which may have taken a compiler a minute, and the list of recordings.
@lru_cache(maxsize=1)
def _evaluator(job: Job) -> Evaluator:
    return Evaluator(job, threads=1)


@lru_cache(maxsize=1)
def _recordings(origin: Origin) -> tuple[Recordings, dict[str, int]]:
    recordings = origin.load()
    return recordings, {identifier: k for k, identifier in enumerate(recordings.ids)}


def _distributed() -> ModuleType:
    try:
        import distributed
    except ImportError as error:
        raise InputError(
            f"--dask needs the package 'distributed' ({error}); get it with: pip install \"mtt_brian[dask]\""
        ) from None
    return distributed
