"""Shards on the workers of a Dask cluster.

A worker receives the network and the list of the recordings, and reads the recordings from disk: it needs the same
versions of all packages, and the data set at the same path. If a worker ends, another one computes its shard again.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import pickle
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from mtt_brian import machine
from mtt_brian.engines import engine_info
from mtt_brian.errors import InputError
from mtt_brian.events import Recordings
from mtt_brian.experiments.backend import (
    Backend,
    Evaluator,
    NamedRecordings,
    PartialResult,
    Shard,
    Task,
    evaluate_here,
)
from mtt_brian.files import reason
from mtt_brian.workers import ONE_THREAD, one_thread_in_new_processes

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

#: The address of a cluster that is started here and stopped at the end.
LOCAL = "local"
#: Seconds to wait for a scheduler and for its first worker.
TIMEOUT = 20.0
#: Seconds between two looks for a worker.
CHECK = 3.0

_log = logging.getLogger(__name__)

_SAME = "every worker needs the same versions of all packages"


def add_option(parser: argparse.ArgumentParser) -> None:
    """The option ``--dask`` of a command that computes shards."""
    parser.add_argument(
        "--dask",
        nargs="?",
        const=LOCAL,
        metavar="ADDRESS",
        help="compute on the workers of this Dask scheduler; without ADDRESS on a process per core of this machine",
    )


def backend(address: str | None, shards: int) -> AbstractContextManager[Backend]:
    """The backend of `workers`; without an address one that computes in this process."""
    return nullcontext(evaluate_here) if address is None else workers(address, shards)


@contextmanager
def workers(address: str, most: int, timeout: float = TIMEOUT) -> Iterator[Backend]:
    """A backend that computes shards on the workers of a cluster.

    Args:
        address: of the scheduler, ``"tcp://host:8786"``, or `LOCAL` for single-threaded processes on this machine.
        most: largest number of local processes; by default one per core.
        timeout: seconds to wait for a scheduler and for its first worker.

    Raises:
        InputError: if no scheduler replies, there is no worker, or Dask is not installed. While shards are computed:
            the error of a shard; if a worker cannot compute it (names the worker); if the scheduler is lost. After all
            other shards: if a shard that was computed alone has ended as many workers as the scheduler allows (names
            the shard).
    """
    with ExitStack() as stack:
        if address == LOCAL:
            address = stack.enter_context(local_cluster(most)).scheduler_address
        client = stack.enter_context(_client(address, timeout))
        stack.enter_context(_announced_without_workers(client))
        yield partial(_compute, client)


@contextmanager
def local_cluster(most: int) -> Iterator[LocalCluster]:
    """Single-threaded processes on this machine, one per core but not more than ``most``."""
    distributed = _distributed()
    import dask

    # Dask sets this environment before it starts a process, also in place of one that has ended.
    key = "distributed.nanny.pre-spawn-environ"
    # And it ends a process from which it has not heard for five minutes, as after Ctrl-Z and fg. That of another
    # machine may be lost; the end of one here is noticed at once.
    options = {key: dask.config.get(key) | ONE_THREAD, "distributed.scheduler.worker-ttl": None}
    with one_thread_in_new_processes(), dask.config.set(options):
        cluster = distributed.LocalCluster(
            n_workers=min(most, machine.cores()),
            threads_per_worker=1,
            memory_limit=None,  # all memory of the machine, as for a process without Dask
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.ERROR,
        )
    # A nanny replaces a process that has ended. Dask closes the nanny, and the new process with it, if it sees no
    # process of this nanny so long after one has ended, also if that one was replaced and its successor has just ended.
    with cluster, dask.config.set({"distributed.deploy.lost-worker-timeout": "365 days"}):
        yield cluster


def _client(address: str, timeout: float) -> Client:
    """A connection to a scheduler that has workers."""
    distributed = _distributed()
    if not re.fullmatch(r"((tcp|tls|ws|wss)://)?[^/\s]+:\d+", address):
        raise InputError(
            f"--dask {address}: not the address of a scheduler; expected tcp://HOST:PORT, or {LOCAL} for a process per"
            " core of this machine"
        )
    try:
        client = distributed.Client(address, timeout=timeout, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"--dask {address}: no scheduler replies ({error}); start one with: dask scheduler") from None
    try:
        client.wait_for_workers(1, timeout=timeout)
    except TimeoutError:
        client.close()
        raise InputError(f"--dask {address}: no worker in {timeout:g} s; start some with: {_worker(address)}") from None
    return client


def _worker(address: str) -> str:
    """The command that starts workers of a scheduler."""
    return f"dask worker {address} --nworkers -1 --nthreads 1"


@contextmanager
def _announced_without_workers(client: Client) -> Iterator[None]:
    """Logs a warning when the last worker has ended: Dask waits for another one, without a limit."""
    end = threading.Event()

    def watch() -> None:
        before = True
        while not end.wait(CHECK):
            now = bool(client.scheduler_info()["workers"])
            if before and not now:
                address = client.scheduler.address
                _log.warning("--dask %s: no worker is left; waits for one (a new one: %s)", address, _worker(address))
            before = now

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        end.set()
        watching.join()


def _compute(
    client: Client, shards: Sequence[Shard[Any, Any]], progress: Callable[[int], object]
) -> Iterator[tuple[Shard[Any, Any], PartialResult]]:
    # Dask counts the end of a worker as a failure of every task that waited there. A shard with too many failures is
    # computed again alone, at the end.
    distributed = _distributed()
    batches = [shards]
    deadly: list[str] = []
    for batch in batches:
        for shard, future in _futures(client, batch):
            try:
                yield shard, _result(future)
                progress(shard.passes)
            except distributed.KilledWorker as error:
                if len(batch) > 1:
                    batches.append([shard])
                    continue
                deadly.append(
                    f"{shard}: all workers died that computed it alone ({error.allowed_failures + 1}, the last one"
                    f" {error.last_worker.address}); their output contains the reason (often: too little memory)"
                )
    if deadly:
        raise InputError("\n".join(deadly))


def _futures(client: Client, shards: Sequence[Shard[Any, Any]]) -> Iterator[tuple[Shard[Any, Any], Future]]:
    """Shards with their futures in the order of completion."""
    distributed = _distributed()
    dumps = distributed.protocol.pickle.dumps  # data sets of users may read with a nested function
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")
        # A separate task: a network, and the function that reads recordings, which may contain images, are sent to a
        # worker once, and to another one if that worker ends.
        read_by = {shard.task: _apart(shard.recordings)[0] for shard in shards}
        shared = {task: client.submit(bytes, dumps((task, read)), pure=False) for task, read in read_by.items()}
    evaluate = _with_its_code()
    shard_of = {}
    for shard in shards:
        packed = dumps((_apart(shard.recordings)[1], shard.task.versions()))
        shard_of[client.submit(evaluate, shared[shard.task], packed, pure=False)] = shard
    try:
        for future in distributed.as_completed(list(shard_of), loop=client.loop):
            yield shard_of.pop(future), future
            future.release()  # otherwise the scheduler would compute it again if its worker ends
    finally:
        client.cancel(list(shard_of))


def _result(future: Future) -> PartialResult:
    try:
        result: PartialResult = future.result()
    except ImportError as error:
        raise InputError(f"{error}; {_SAME}") from None
    except CancelledError:
        raise InputError("--dask: the connection to the scheduler is lost") from None
    return result


def _with_its_code() -> Callable[[bytes, bytes], PartialResult]:
    """`_evaluate`, pickled with its code, like a nested function; the scheduler needs Dask only."""

    def evaluate(shared: bytes, shard: bytes) -> PartialResult:
        import distributed

        try:
            from mtt_brian.experiments import dask_backend

            arguments = *pickle.loads(shared), *pickle.loads(shard)
        except ImportError as error:
            raise ImportError(f"worker {distributed.get_worker().address}: {error}") from None
        return dask_backend._evaluate(*arguments)

    return evaluate


def _apart(recordings: NamedRecordings) -> tuple[Callable[[str], np.ndarray] | None, NamedRecordings]:
    """The function that reads recordings of a data set, and their list without it."""
    if isinstance(recordings, Recordings):
        return recordings.read, replace(recordings, read=_sent_apart)
    return None, recordings


def _sent_apart(identifier: str) -> np.ndarray:
    """Placeholder for the function that reads recordings, in the list that is sent."""
    raise RuntimeError(f"{identifier}: the function that reads it was not put back")


def _evaluate(
    task: Task, read: Callable[[str], np.ndarray] | None, recordings: NamedRecordings, wanted: Mapping[str, str]
) -> PartialResult:
    """In a worker: one shard."""
    distributed = _distributed()
    worker = distributed.get_worker()
    if (threads := worker.state.nthreads) > 1:
        raise InputError(
            f"worker {worker.address} computes {threads} tasks at a time in one process, which torch and Brian2 do not"
            f" support; start it with: {_worker('ADDRESS')}"
        )
    there = task.versions()
    if differing := [f"{name} {there.get(name)} instead of {v}" for name, v in wanted.items() if there.get(name) != v]:
        raise InputError(f"worker {worker.address} has {', '.join(differing)}; {_SAME}")
    distributed.utils.sync(worker.loop, _import_all, engine_info(task.engine).imports)
    try:
        if isinstance(recordings, Recordings) and read is not None:
            recordings = replace(recordings, read=read)
        return _evaluator(task).evaluate(recordings, lambda passes: None)
    except OSError as error:
        raise InputError(f"worker {worker.address}: {reason(error)}") from None


# A worker keeps the last network, whose compilation may take a minute.
@lru_cache(maxsize=1)
def _evaluator(task: Task) -> Evaluator:
    return task.evaluator(threads=1)


async def _import_all(modules: Sequence[str]) -> None:
    """Run by a worker's event loop, in the main thread: an import may set a signal handler, as Brian2's does."""
    for module in modules:
        importlib.import_module(module)


def _distributed() -> ModuleType:
    try:
        import distributed
    except ImportError as error:
        raise InputError(
            f"--dask needs the package 'distributed' ({error}); get it with: pip install \"mtt_brian[dask]\""
        ) from None
    return distributed
