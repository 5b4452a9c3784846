"""`exact-cuda` against `exact` on all cores: the same recordings, spikes counted, spike for spike.

    python benchmarks/exact_cuda.py                                  # W1 and W3 of workloads.py; needs a GPU
    python benchmarks/exact_cuda.py --workloads W1 --recordings 512 4096 --blocks 128x1x1 256x2x1

"First run" includes the compilation of the kernel. Times are those of a second run over all recordings, from prepared
input spikes; the last rows are from recordings, through `Simulator.run`. `exact` runs at most 4,096 recordings of W1
and 64 of W3.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from workloads import Workload, random_trains, workload

from mtt_brian.engines import Simulator
from mtt_brian.engines.base import InputSpikes
from mtt_brian.engines.exact import ExactEngine
from mtt_brian.engines.exact_cuda import ExactCudaEngine
from mtt_brian.engines.exact_cuda.arrays import Block
from mtt_brian.engines.exact_cuda.gpu import Gpu
from mtt_brian.engines.result import Result

#: Recordings of each workload on the GPU, and the most that `exact` runs for comparison.
RECORDINGS = {"W1": (512, 4096), "W2": (512, 4096), "W3": (396, 1188)}
_MOST_EXACT = {"W1": 4096, "W2": 4096, "W3": 64}
#: Different recordings; more are the same ones again.
_DIFFERENT = 512

HEADER = """| workload | recordings | engine | block | first run, s | ms each | `exact` / it | spike difference |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def cores() -> int:
    """CPU cores of this process."""
    return len(os.sched_getaffinity(0))


def difference(results: Sequence[Result], expected: Sequence[Result]) -> float:
    """sum |s0 - s| / sum s0 over the spike counts of all neurons and recordings."""
    apart = total = 0.0
    for ours, theirs in zip(results, expected, strict=True):
        for name, counts in theirs.counts.items():
            apart += float(np.abs(ours.counts[name] - counts).sum())
            total += float(counts.sum())
    return apart / total


def timed(function: Any, *arguments: Any) -> tuple[list[Result], float]:
    """The results of an engine, and their time in seconds."""
    begin = time.perf_counter()
    results = list(function(*arguments))
    return results, time.perf_counter() - begin


def trains(load: Workload, number: int) -> list[InputSpikes]:
    """Recordings like that of the workload."""
    different = random_trains(load, min(number, _DIFFERENT))
    return [different[k % len(different)] for k in range(number)]


def as_recording(train: InputSpikes, shape: tuple[int, ...]) -> np.ndarray:
    """Input spikes as a structured array of events."""
    recording = np.zeros(len(train.order), [("t", np.int64), ("x", np.int16), ("y", np.int16), ("p", np.int8)])
    recording["t"] = np.rint(train.t[train.order] * 1e6)
    recording["p"], recording["y"], recording["x"] = np.unravel_index(train.i[train.order], shape)
    return recording


def shape(block: Block) -> str:
    """Threads, channels of a thread, blocks on a multiprocessor."""
    return f"{block.threads}x{block.channels}x{block.resident}"


def block_from(text: str) -> Block:
    """The inverse of `shape`."""
    threads, channels, resident = map(int, text.split("x"))
    return Block(threads, channels, resident)


def rows(
    names: Sequence[str], recordings: Sequence[int], blocks: Sequence[Block | None], gpu: Gpu | None = None
) -> Iterator[str]:
    """The rows of the table, as they come.

    Args:
        names: of the workloads.
        recordings: numbers of recordings; empty: `RECORDINGS`.
        blocks: shapes of a block; None: the engine's choice.
        gpu: the GPU; None: the current one of CuPy.
    """
    threads = cores()
    for name in names:
        load = workload(name)
        numbers = recordings or RECORDINGS[name]
        every = trains(load, max(numbers))
        exact = ExactEngine(load.circuit, record="counts", threads=threads)
        list(exact.run(every[: 2 * threads]))  # compiles
        expected, seconds = timed(exact.run, every[: _MOST_EXACT[name]])
        each = seconds / len(expected)
        yield f"| {name} | {len(expected)} | exact, {threads} cores | | | {1e3 * each:.4f} | 1 | |"
        for block in blocks:
            begin = time.perf_counter()
            engine = ExactCudaEngine(load.circuit, record="counts", gpu=gpu, block=block)
            list(engine.run(every[:1]))
            first = time.perf_counter() - begin
            for number in numbers:
                results, seconds = timed(engine.run, every[:number])
                again, seconds = timed(engine.run, every[:number])
                both = min(number, len(expected))
                apart = max(difference(found[:both], expected[:both]) for found in (results, again))
                yield (
                    f"| {name} | {number} | exact-cuda | {shape(engine.block)} | {first:.1f} "
                    f"| {1e3 * seconds / number:.4f} | {each * number / seconds:.2f} | {100 * apart:.4f} % |"
                )


def public_rows(name: str, number: int) -> Iterator[str]:
    """The same through `Simulator.run`, with the conversion of recordings."""
    load = workload(name)
    recordings = [as_recording(train, load.circuit.input_shape) for train in trains(load, number)]
    each = {}
    for engine in ("exact", "exact-cuda"):
        simulator = Simulator(load.circuit, engine, record="counts")
        list(simulator.run(recordings[:2]))
        _, seconds = timed(simulator.run, recordings)
        each[engine] = seconds / number
        yield (
            f"| {name} | {number} | {engine}, from recordings | | | {1e3 * each[engine]:.4f} | "
            f"{each['exact'] / each[engine]:.2f} | |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=list(RECORDINGS), default=["W1", "W3"])
    parser.add_argument("--recordings", nargs="+", type=int, default=[], metavar="N", help="numbers of recordings")
    parser.add_argument("--blocks", nargs="+", default=[], metavar="NxCxR", help="shapes of a block, such as 256x4x3")
    options = parser.parse_args()
    print(HEADER, flush=True)
    blocks: list[Block | None] = [block_from(text) for text in options.blocks]
    for row in rows(options.workloads, options.recordings, blocks or [None]):
        print(row, flush=True)
    if not options.blocks:
        for row in public_rows("W1", 1024):
            print(row, flush=True)


if __name__ == "__main__":
    main()
