"""GPU against CPU: Brian2 on CUDA and the CPU engines, training on CUDA and the plain loop, in one table.

    python benchmarks/gpu.py                    # without a GPU: the CPU rows, and a list of the others
    python benchmarks/gpu.py --recordings 512 --batch-size 1 64 512
    python benchmarks/gpu.py --only engines

Engines run workload W1 (the N-MNIST network, 4,000 events per recording) on different recordings and count spikes.
"First run" includes code generation and compilation. Two networks are run. With weights rounded to multiples of 1/1024,
whose sums are exact in any order, every engine must give the spikes of `exact`. With unrounded weights a GPU adds in
the order of its threads, and the table shows the fraction of spikes that differ.

A step of the network is one instant in all copies together. On a GPU it needs one launch per kernel for any batch size;
therefore the table shows the time per recording against the batch size.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from workloads import on_grid, random_train, workload

import training
from mtt_brian.engines import Simulator
from mtt_brian.engines.base import InputSpikes
from mtt_brian.engines.brian2.cuda import Cuda
from mtt_brian.engines.result import Result

HEADER = """| engine | batch size | first run, s | ms per recording | `exact` on all cores / it | spike difference |
| --- | --- | --- | --- | --- | --- |"""


def difference(results: Sequence[Result], expected: Sequence[Result]) -> float:
    """sum |s0 - s| / sum s0 over the spike counts of all neurons and recordings."""
    apart = total = 0.0
    for ours, theirs in zip(results, expected, strict=True):
        for name, counts in theirs.counts.items():
            apart += float(np.abs(ours.counts[name] - counts).sum())
            total += float(counts.sum())
    return apart / total


def run(simulator: Simulator, trains: Sequence[InputSpikes]) -> tuple[list[Result], float]:
    """Results, and their time in seconds."""
    begin = time.perf_counter()
    results = list(simulator.engine.run(trains))
    return results, time.perf_counter() - begin


def engines(recordings: int, batch_sizes: Sequence[int]) -> Iterator[str]:
    """The table of engines, and the batch size from which the GPU is faster."""
    load = workload("W1")
    rng = np.random.default_rng(0)
    shape, events, end = load.circuit.input_shape, len(load.train.order), load.train.duration
    trains = [random_train(shape, events, end, rng) for _ in range(recordings)]
    cores = len(os.sched_getaffinity(0))
    missing = Cuda.find().missing()
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        ("exact, all cores", "exact", {"threads": cores}),
        ("exact, one core", "exact", {"threads": 1}),
        ("brian2-cpp", "brian2-cpp", {}),
    ]
    if not missing:
        kinds += [("brian2-cuda", "brian2-cuda", {"batch_size": size}) for size in batch_sizes if size <= recordings]
    for text, circuit in (("multiples of 1/1024", on_grid(load.circuit)), ("as they come", load.circuit)):
        yield f"\nWeights {text}, {recordings} recordings, {cores} cores\n\n{HEADER}"
        expected: list[Result] = []
        fastest = 0.0
        pays = []
        for name, engine, options in kinds:
            simulator = Simulator(circuit, engine=engine, record="counts", **options)
            _, first = run(simulator, trains)
            results, seconds = run(simulator, trains)
            if not expected:
                expected, fastest = results, seconds
            apart = difference(results, expected)
            if apart and circuit is not load.circuit:
                raise AssertionError(f"{name}: other spikes than exact ({apart:.2e}), though all sums are exact")
            if engine == "brian2-cuda" and seconds < fastest:
                pays.append(options["batch_size"])
            yield (
                f"| {name} | {options.get('batch_size', '')} | {first - seconds:.1f} | {1e3 * seconds / recordings:.3f}"
                f" | {fastest / seconds:.3f} | {100 * apart:.4f} % |"
            )
        if not missing:
            yield (
                f"\nThe GPU is faster from a batch size of {min(pays)} on."
                if pays
                else "\nThe GPU is not faster at any of these batch sizes."
            )
    if missing:
        yield f"\nLeft out: brian2-cuda, as this machine lacks {'; '.join(missing)}"


def training_rows(rounds: int) -> Iterator[str]:
    """The table of `benchmarks/training.py`, on the GPU if there is one."""
    torch.set_num_threads(1)
    found = torch.cuda.is_available()
    yield "\nTraining, one iteration (method: benchmarks/training.py)\n"
    yield from training.rows(list(training.NETWORKS), rounds, ["cuda"] if found else ["cpu"])
    if not found:
        yield "\nLeft out: training on CUDA and in mixed precision, as torch finds no GPU"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["engines", "training"], help="only this part")
    parser.add_argument("--recordings", type=int, default=512, help="number of different recordings [512]")
    parser.add_argument(
        "--batch-size",
        type=int,
        nargs="+",
        default=[1, 16, 64, 256, 512],
        metavar="N",
        help="recordings per batch on the GPU [1 16 64 256 512]",
    )
    parser.add_argument("--lanes", type=int, nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=10, help="training iterations of every kind [10]")
    options = parser.parse_args()
    if options.lanes is not None:
        warnings.warn("--lanes is now called --batch-size", DeprecationWarning, stacklevel=1)
        options.batch_size = options.lanes
    if torch.cuda.is_available():
        print(torch.cuda.get_device_name(0))
    if options.only != "training":
        for line in engines(options.recordings, options.batch_size):
            print(line, flush=True)
    if options.only != "engines":
        for line in training_rows(options.rounds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
