"""How many threads the engine `exact` can use, measured on any machine: its loop sleeps instead of computing.

    python benchmarks/many_threads.py          # half a minute
    python benchmarks/many_threads.py --record all --threads 1 4 16 64

A sleeping thread needs no core and not the lock of the interpreter, as the loop on a core of its own. What Python does
before and after the loop, in every thread, remains: it limits the throughput. Recordings of W1 (`workloads`); a sleep
is as long as a run of one of them. The times of one process are comparable; run it without other load.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections import deque

import numba
import numpy as np
from workloads import workload

from mtt_brian.engines import Simulator
from mtt_brian.engines.exact import loops
from mtt_brian.engines.exact.jit import _OPTIONS
from mtt_brian.engines.result import RECORDS

_RECORDINGS, _REPEATS = 3200, 3
_usleep = ctypes.CDLL(None).usleep
_usleep.argtypes, _usleep.restype = [ctypes.c_uint], ctypes.c_int


def _sleeping(microseconds: int) -> object:
    """A loop that sleeps."""

    @numba.njit(**_OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def sleep(net, state, linear, queues, trace, given):  # type: ignore[no-untyped-def]
        return np.int64(_usleep(microseconds))

    return sleep


def _seconds_each(simulator: Simulator, recordings: list[np.ndarray]) -> float:
    """Seconds per recording, the best of some calls."""
    list(simulator.run(recordings[:100]))
    fastest = np.inf
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        deque(simulator.run(recordings), maxlen=0)
        fastest = min(fastest, time.perf_counter() - begin)
    return fastest / len(recordings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", choices=RECORDS, default="counts")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32])
    arguments = parser.parse_args()
    load = workload("W1")
    recordings = [load.recording] * _RECORDINGS
    alone = Simulator(load.circuit, threads=1, record=arguments.record)
    seconds = _seconds_each(alone, recordings[:400])
    print(f"one recording on one core: {1e3 * seconds:.3f} ms", flush=True)
    loops.run_summed = _sleeping(round(1e6 * seconds))
    for threads in arguments.threads:
        each = _seconds_each(Simulator(load.circuit, threads=threads, record=arguments.record), recordings)
        ratio = seconds / each
        print(f"{threads:3} threads: {1e3 * each:.3f} ms per recording, {ratio:.1f} times one core", flush=True)


if __name__ == "__main__":
    main()
