"""GPU against CPU in one table each: training, the exact engine and Brian2.

    python benchmarks/gpu.py                         # all sections, at most 6 minutes; without a GPU: the CPU rows
    python benchmarks/gpu.py --sections exact brian2 --recordings 512
    python benchmarks/gpu.py --out gpu.txt           # also writes every line to a file as it comes

| section | compared | time limit, s |
| --- | --- | --- |
| training | SDT and MTT with --amp, with and without --cuda-graph; method: benchmarks/training.py | 70 |
| epoch | an epoch of 141 recorded iterations beside these; method: benchmarks/epoch.py | 65 |
| exact | `exact` on all cores, `exact-cuda`; method: benchmarks/exact_cuda.py | 60 |
| brian2 | `exact`, `brian2-cpp`, `brian2-cuda` at several batch sizes; workload W1 | 165 |

Every section runs in a process of its own. At its time limit the process ends, and the rows until then remain. A
section that fails does not stop the others. Without a GPU, training and epoch measure small networks on the CPU.

In the section brian2 the engines run different recordings and count spikes. "First run" includes code generation and
compilation. Two networks are run. With weights rounded to multiples of 1/1024, whose sums are exact in any order, every
engine must give the spikes of `exact`. With unrounded weights brian2-cuda adds in the order of its threads, and the
table shows the fraction of spikes that differ.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import exact_cuda
from exact_cuda import cores, difference, timed
from workloads import on_grid, random_trains, workload

from mtt_brian.engines import Simulator
from mtt_brian.engines.brian2.cuda import Cuda
from mtt_brian.engines.result import Result
from mtt_brian.errors import InputError

HEADER = """| engine | batch size | first run, s | ms per recording | `exact` on all cores / it | spike difference |
| --- | --- | --- | --- | --- | --- |"""


class Kind(NamedTuple):
    """A row of a table of engines."""

    name: str
    engine: str
    options: dict[str, Any]


def engine_rows(name: str, kinds: Sequence[Kind], recordings: int, *, exact_sums: bool) -> Iterator[str]:
    """A table of engines; the first of ``kinds`` is `exact` on all cores.

    Args:
        name: of the workload.
        kinds: the rows.
        recordings: number of different recordings.
        exact_sums: with weights whose sums are exact; the spikes must then be those of `exact`.
    """
    load = workload(name)
    circuit = on_grid(load.circuit) if exact_sums else load.circuit
    trains = random_trains(load, recordings)
    weights = "multiples of 1/1024" if exact_sums else "as they come"
    yield f"\n{name}, weights {weights}, {recordings} recordings, {cores()} cores\n\n{HEADER}"
    expected: list[Result] = []
    fastest = 0.0
    for kind in kinds:
        simulator = Simulator(circuit, engine=kind.engine, record="counts", **kind.options)
        _, first = timed(simulator.engine.run, trains)
        results, seconds = timed(simulator.engine.run, trains)
        if not expected:
            expected, fastest = results, seconds
        apart = difference(results, expected)
        if apart and exact_sums:
            raise AssertionError(f"{kind.name}: other spikes than exact ({apart:.2e}), though all sums are exact")
        yield (
            f"| {kind.name} | {kind.options.get('batch_size', '')} | {max(first - seconds, 0):.1f}"
            f" | {1e3 * seconds / recordings:.3f} | {fastest / seconds:.3f} | {100 * apart:.4f} % |"
        )


def exact_section(options: argparse.Namespace) -> Iterator[str]:
    """The table of `benchmarks/exact_cuda.py`."""
    numbers = {"W1": [options.recordings, 8 * options.recordings], "W3": [2 * options.recordings]}
    yield f"\nExact engines\n\n{exact_cuda.HEADER}"
    missing = ""
    for name, recordings in numbers.items():
        try:
            yield from exact_cuda.rows([name], recordings, [None])
        except InputError as error:
            missing = str(error)
    if missing:
        yield f"\nLeft out: exact-cuda: {missing}"
    else:
        yield from exact_cuda.public_rows("W1", 2 * options.recordings)


def brian2_section(options: argparse.Namespace) -> Iterator[str]:
    """The Brian2 engines. A step of the network is one instant in all copies together.

    On a GPU it needs one launch per kernel for any batch size.
    """
    kinds = [Kind("exact, all cores", "exact", {"threads": cores()}), Kind("brian2-cpp", "brian2-cpp", {})]
    missing = Cuda.find().missing()
    if missing:
        yield f"\nLeft out: brian2-cuda, as this machine lacks {'; '.join(missing)}"
    else:
        sizes = [size for size in options.batch_size if size <= options.recordings]
        kinds += [Kind("brian2-cuda", "brian2-cuda", {"batch_size": size}) for size in sizes]
    yield from engine_rows("W1", kinds, options.recordings, exact_sums=True)
    if not missing:  # one more project to compile
        yield from engine_rows("W1", [kinds[0], kinds[-1]], options.recordings, exact_sums=False)


def training_section(options: argparse.Namespace) -> Iterator[str]:
    """Rows of `benchmarks/training.py`, on the GPU if there is one: the network and the kinds that profit from it."""
    import torch

    import training

    torch.set_num_threads(1)
    if not torch.cuda.is_available():
        yield "\nTraining, one iteration, on a CPU\n\nLeft out: CUDA and mixed precision, as torch finds no GPU\n"
        yield from training.rows(["nmnist_3c1fc"], options.rounds, ["cpu"], ["ours", "plain"], memory=False)
        return
    yield f"\nTraining, one iteration, on {torch.cuda.get_device_name(0)}\n"
    first = ["ours, amp", "graph, amp"]  # the others have been measured before, and the time may not suffice for them
    others = [kind for kind in training.kinds("cuda") if kind.endswith(", amp") and kind not in first]
    yield from training.rows(["vgg9/2"], options.rounds, ["cuda"], [*first, *others])


def epoch_section(options: argparse.Namespace) -> Iterator[str]:
    """The table of `benchmarks/epoch.py`."""
    import epoch
    import torch

    small = [*("--items", "64", "--size", "32", "--batch-size", "16"), "--width-multiplier", "0.1"]
    large = ["--items", "9024", "--cuda-graph"]
    settings = epoch.parser().parse_args(large if torch.cuda.is_available() else small)
    yield f"\nAn epoch of training on {settings.device}\n"
    yield from epoch.rows(settings)


class Section(NamedTuple):
    """A part of this benchmark."""

    rows: Callable[[argparse.Namespace], Iterator[str]]
    limit: float  # seconds


SECTIONS = {
    "training": Section(training_section, 70),
    "epoch": Section(epoch_section, 65),
    "exact": Section(exact_section, 60),
    "brian2": Section(brian2_section, 165),
}


def run_section(name: str, limit: float, arguments: Sequence[str]) -> Iterator[str]:
    """The lines of a section as they come, from a process that ends at the time limit."""
    command = [sys.executable, "-u", __file__, *arguments, "--inside", name]
    # A group of its own, so that the limit also ends compilers and compiled networks.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        timer = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        begin = time.perf_counter()
        for line in process.stdout:
            yield line.rstrip("\n")
        code = process.wait()
        stopped = not timer.is_alive()
        timer.cancel()
    seconds = time.perf_counter() - begin
    if stopped:
        yield f"\n{name}: stopped at its time limit of {limit:.0f} s"
    elif code:
        yield f"\n{name}: failed with exit status {code} after {seconds:.0f} s, see the message above"
    else:
        yield f"\n{name}: {seconds:.0f} s"


def main() -> int:
    """Print the tables. The exit status is 1 if a section failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), help="parts [all]")
    parser.add_argument("--recordings", type=int, default=512, help="different recordings [512]")
    parser.add_argument(
        "--batch-size", type=int, nargs="+", default=[64, 512], metavar="N", help="of brian2-cuda [64 512]"
    )
    parser.add_argument("--rounds", type=int, default=10, help="training iterations of every kind [10]")
    parser.add_argument("--limit", type=float, help="time limit of every section, s [as in the table above]")
    parser.add_argument("--out", type=Path, help="file to which the lines are also written")
    parser.add_argument("--inside", choices=list(SECTIONS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        for line in SECTIONS[options.inside].rows(options):
            print(line, flush=True)
        return 0
    out = open(options.out, "w", encoding="utf-8") if options.out else None  # noqa: SIM115
    failed = False
    for name in options.sections:
        for line in run_section(name, options.limit or SECTIONS[name].limit, sys.argv[1:]):
            failed |= line.lstrip().startswith(f"{name}: failed")
            print(line, flush=True)
            if out is not None:
                print(line, file=out, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
