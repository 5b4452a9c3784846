"""Worker processes of this machine. Each computes with one thread: the processes use the cores already."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing import get_context
from typing import Any, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

#: Seconds between two looks whether the process that started this one is there.
_LOOK_AGAIN = 0.5
#: What limits OpenMP, the BLAS libraries and numba to one thread; read when their libraries are loaded.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}


def in_workers(function: Callable[[Item], Made], items: Sequence[Item], workers: int) -> Iterator[Made]:
    """``function`` of each item, in their order.

    Args:
        function: of one item; it and its results are sent between processes.
        items: N of them.
        workers: processes, started by joblib and not forked; they stay for the next call, leave Ctrl-C to this process,
            and end with it, also if it is killed. Below 2, or with a single item, this process computes.
    """
    if (processes := min(workers, len(items))) < 2:  # joblib would start none, and _in_worker is for another process
        yield from map(function, items)
        return
    from joblib import Parallel, delayed, parallel_config

    # joblib puts the limit in the environment of a process before it starts.
    with parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = Parallel(n_jobs=processes, return_as="generator", pre_dispatch="4*n_jobs")
    yield from parallel(delayed(partial(_in_worker, function, os.getpid()))(item) for item in items)


def _in_worker(function: Callable[[Item], Made], parent: int, item: Item) -> Made:
    _serve(parent)
    return function(item)


@contextmanager
def single_processes(number: int, initializer: Callable[..., None], *arguments: Any) -> Iterator[list[Executor]]:
    """Executors of one process each. At the end of the block tasks that run are waited for, others are cancelled.

    If all processes are in one executor, a killed one ends the others. And Python's executor does not always watch a
    process that it starts while others work: if that one is killed, its task seems to run until another one has ended.

    Args:
        number: of executors.
        initializer: called first in each process, with ``arguments``; see `start_worker`.
    """
    executors = [ProcessPoolExecutor(1, get_context("spawn"), initializer, arguments) for _ in range(number)]
    try:
        yield list(executors)
    finally:
        for executor in executors:
            executor.shutdown(cancel_futures=True)


def start_worker(nice: int = 0) -> None:
    """Initialises a process of a pool of `multiprocessing`: Ctrl-C and its end as in `in_workers`.

    Args:
        nice: by how much its priority is lowered.
    """
    os.nice(nice)
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    _serve(parent.pid)


@cache
def _serve(parent: int) -> None:
    """This process leaves Ctrl-C to the one that started it, and ends with it.

    If that one was killed, it would compute to the end of its task, and then wait for a long time or for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    after_parent(parent, partial(os._exit, 1))


def after_parent(parent: int, act: Callable[[], object]) -> None:
    """Calls ``act`` in a thread as soon as the process that started this one has ended, also if it was killed.

    Args:
        parent: number of that process.
        act: without arguments.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_AGAIN)
        act()

    threading.Thread(target=watch, daemon=True).start()


def end_processes() -> None:
    """Ends the processes of `multiprocessing` that this one has started, at once."""
    for process in multiprocessing.active_children():
        process.terminate()


@contextmanager
def processes_ended_after_errors() -> Iterator[None]:
    """After an error or a signal in the block, `end_processes`: a pool would wait until their tasks are done."""
    try:
        yield
    except BaseException:
        end_processes()
        raise


@contextmanager
def one_thread_in_new_processes() -> Iterator[None]:
    """Processes that are started within the block compute with one thread."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
