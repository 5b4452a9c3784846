"""Worker processes of this machine. Each computes with one thread: the processes use the cores already."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

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
        workers: processes, started by joblib and not forked; they stay for the next call. Below 2, or with a single
            item, this process computes.
    """
    if (processes := min(workers, len(items))) < 2:  # joblib would start none, and _in_worker is for another process
        yield from map(function, items)
        return
    from joblib import Parallel, delayed, parallel_config

    # joblib puts the limit in the environment of a process before it starts.
    with parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = Parallel(n_jobs=processes, return_as="generator", pre_dispatch="4*n_jobs")
    yield from parallel(delayed(partial(_in_worker, function))(item) for item in items)


def _in_worker(function: Callable[[Item], Made], item: Item) -> Made:
    """A worker leaves Ctrl-C to the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return function(item)


def start_worker(nice: int = 0) -> None:
    """Initialises a process of a pool of `multiprocessing`.

    It leaves Ctrl-C to the process that started it, and ends with that process, also if that one is killed: otherwise
    it would compute to the end of its task, and then wait for ever.

    Args:
        nice: by how much its priority is lowered.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(nice)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


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
