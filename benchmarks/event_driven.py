"""Run times of the engines on the same networks and recordings, and the errors of clock-driven runs.

    python benchmarks/event_driven.py                    # every row, W1 to W3 (10-20 minutes: Brian2 compiles)
    python benchmarks/event_driven.py --rows exact C --workloads W1
    python benchmarks/event_driven.py --recordings 10000 # and the throughput over many recordings

Every cell is measured in a separate process, which gives its peak memory. Times are the best of several runs of one
recording with all spikes recorded, on one core, without building and compiling. `exact` is measured from a recording to
its `Result` (`Simulator.run`), and also with several recordings in one call. Only the C loop, which gets the input
spikes in its own form, shares the process of `exact`: they alternate, so that their ratio comes from one run, and they
must give the same spikes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import peers
from scatter import FLAGS, Scatter
from workloads import NAMES, Workload, random_recording, workload

from mtt_brian.circuit.operators import Conv2d, Dense
from mtt_brian.engines import Simulator
from mtt_brian.engines.base import Engine
from mtt_brian.engines.exact import ExactEngine
from mtt_brian.engines.result import Result
from mtt_brian.errors import InputError

Cell = dict[str, Any]
#: Repetitions of a measurement; the machine may have other load.
_REPEATS = {"W1": 300, "W2": 100, "W3": 7}
#: Recordings in one call of `Simulator.run`.
_TOGETHER = {"W1": 20, "W2": 5, "W3": 1}
#: No clock-driven or time-stepped run of W3: it does not fit into memory with Brian2, and would show nothing new.
_SMALL = ("W1", "W2")


def best(function: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of ``repeats`` calls."""
    fastest = np.inf
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        fastest = min(fastest, time.perf_counter() - begin)
    return fastest


def exact(load: Workload) -> Cell:
    """The exact engine and the C loop, alternating; processor time."""
    simulator, end, together = Simulator(load.circuit, threads=1), load.train.duration, _TOGETHER[load.name]

    def runs(number: int) -> list[Result]:
        return list(simulator.run([load.recording] * number, end))

    (result,) = runs(1)
    cell: Cell = {"memory": _peak_memory(), "synops": result.synops}
    room = sum(len(spikes.t) for spikes in result.spikes.values())
    with tempfile.TemporaryDirectory() as folder:
        try:
            loops = [Scatter(load.circuit, Path(folder), flags) for flags in (FLAGS, (*FLAGS, "-march=native"))]
        except OSError as error:
            cell["C"] = str(error)
            loops = []
        calls = [loop.prepare(load.train, room) for loop in loops]
        measured = [lambda: runs(1), lambda: runs(together), *calls]
        fastest = np.full(len(measured), np.inf)
        for _ in range(_REPEATS[load.name]):
            for k, function in enumerate(measured):
                begin = time.process_time()
                function()
                fastest[k] = min(fastest[k], time.process_time() - begin)
        for loop, call in zip(loops, calls, strict=True):
            _require_same(loop, call(), result)
    if loops:
        cell |= {"C": fastest[2], "C native": fastest[3]}
    return cell | {"seconds": fastest[0], "each of many": fastest[1] / together}


def _require_same(loop: Scatter, records: int, result: Result) -> None:
    for name, spikes in loop.spikes(records).items():
        for ours, theirs in zip(result.spikes[name], spikes, strict=True):
            if not np.array_equal(ours, theirs):
                raise AssertionError(f"the C loop and the exact engine differ in population {name!r}")
    if not np.allclose(loop.readout, result.readout, rtol=1e-9, atol=1e-9):
        raise AssertionError("the C loop and the exact engine differ in the readout")


def brian2_runtime(load: Workload) -> Cell:
    """Brian2's runtime, many recordings in one batch."""
    from mtt_brian.engines.brian2.runtime import RuntimeEngine

    return _engine(RuntimeEngine(load.circuit), load)


def brian2_cpp(load: Workload) -> Cell:
    """Brian2's C++ project, compiled once."""
    from mtt_brian.engines.brian2.standalone import CppEngine

    return _engine(CppEngine(load.circuit), load)


def _engine(engine: Engine, load: Workload) -> Cell:
    copies = [load.train] * 100
    list(engine.run(copies))  # builds and compiles, for the same batch size
    (expected,) = ExactEngine(load.circuit, threads=1).run([load.train])
    begin = time.perf_counter()
    results = list(engine.run(copies))
    seconds = (time.perf_counter() - begin) / len(copies)
    return {"seconds": seconds, "difference": difference(results[-1].counts, expected), "memory": _peak_memory()}


def clock_driven(step: float) -> Callable[[Workload], Cell]:
    """Brian2 as it is commonly used: a clock of ``step`` seconds, its default schedule, one spike per step."""

    def measure(load: Workload) -> Cell:
        import brian2 as b2

        b2.defaultclock.dt = step * b2.second
        b2.prefs.codegen.target = "cython"
        train, circuit = load.train, load.circuit
        # A generator accepts one spike per neuron and step; further spikes of a step are lost, as for any user.
        bins = np.unique(np.stack([np.floor(train.t / step).astype(np.int64), train.i], axis=1), axis=0)
        groups: dict[str, Any] = {
            circuit.input: b2.SpikeGeneratorGroup(circuit.input_size, bins[:, 1], bins[:, 0] * step * b2.second)
        }
        objects: list[Any] = list(groups.values())
        monitors = {}
        for population in circuit.populations:
            threshold = {"threshold": "v >= 1", "reset": "v -= 1"} if population.rule.fires else {}
            groups[population.name] = b2.NeuronGroup(population.size, "v : 1", namespace={}, **threshold)
            objects.append(groups[population.name])
            if population.rule.fires:
                monitors[population.name] = b2.SpikeMonitor(groups[population.name])
        for connection in circuit.connections:
            matrix = connection.matrix.tocoo()
            synapses = b2.Synapses(
                groups[connection.source], groups[connection.target], "w : 1", on_pre="v_post += w", namespace={}
            )
            synapses.connect(i=matrix.col, j=matrix.row)
            synapses.w = matrix.data
            objects.append(synapses)
        network = b2.Network(*objects, *monitors.values())
        network.store()
        duration = (train.duration + step) * b2.second
        network.run(duration, namespace={})  # compiles
        counts = {name: np.asarray(monitor.count) for name, monitor in monitors.items()}

        def again() -> None:
            network.restore()
            network.run(duration, namespace={})

        (expected,) = ExactEngine(circuit, threads=1).run([train])
        return {"seconds": best(again, 2), "difference": difference(counts, expected), "memory": _peak_memory()}

    return measure


def torch_stepped(step: float) -> Callable[[Workload], Cell]:
    """The same rule in torch; the events of one step are summed."""

    def measure(load: Workload) -> Cell:
        import torch

        torch.set_num_threads(1)
        train, circuit = load.train, load.circuit
        steps = int(np.floor(train.duration / step)) + 1
        frames = np.zeros((steps, circuit.input_size))
        np.add.at(frames, (np.floor(train.t / step).astype(np.int64), train.i), train.n)
        inputs = torch.from_numpy(frames).reshape(steps, 1, *circuit.input_shape)

        def layer(x: torch.Tensor, operator: object) -> torch.Tensor:
            if isinstance(operator, Conv2d):
                weight = torch.from_numpy(operator.weight.astype(np.float64))
                padding = operator.padding[0][0]
                return torch.nn.functional.conv2d(x, weight, None, operator.stride, padding, 1, operator.groups)
            if isinstance(operator, Dense):
                return x.reshape(1, -1) @ torch.from_numpy(operator.weight.astype(np.float64)).T
            raise TypeError(f"the torch row has no {type(operator).__name__}")

        def run() -> dict[str, np.ndarray]:
            v = [torch.zeros(1, *p.shape, dtype=torch.float64) for p in circuit.populations]
            counts = [torch.zeros_like(x) for x in v]
            for x in inputs:
                for k, (population, connection) in enumerate(
                    zip(circuit.populations, circuit.connections, strict=True)
                ):
                    for operator in connection.operators:
                        x = layer(x, operator)
                    v[k] += x
                    if population.rule.fires:
                        x = torch.where(v[k] >= 1, torch.floor(v[k]), 0)
                        v[k] -= x
                        counts[k] += x
            firing = zip(circuit.populations, counts, strict=True)
            return {p.name: c.numpy().astype(np.int64) for p, c in firing if p.rule.fires}

        counts = run()
        (expected,) = ExactEngine(circuit, threads=1).run([train])
        return {"seconds": best(run, 3), "difference": difference(counts, expected), "memory": _peak_memory()}

    return measure


def peer(measure: Callable[[Workload], peers.Measured]) -> Callable[[Workload], Cell]:
    """Another simulator."""

    def cell(load: Workload) -> Cell:
        counts, seconds = measure(load)
        (expected,) = ExactEngine(load.circuit, threads=1).run([load.train])
        return {"seconds": seconds, "difference": difference(counts, expected), "memory": _peak_memory()}

    return cell


def difference(counts: Mapping[str, np.ndarray], expected: Result) -> float:
    """Spike difference of the last firing population: sum |s0 - s| / sum |s0| over its neurons' spike counts."""
    name = [p.name for p in expected.circuit.populations if p.rule.fires][-1]
    reference = expected.counts[name].ravel()
    return float(np.abs(counts[name].ravel() - reference).sum() / reference.sum())


def throughput(load: Workload, recordings: int) -> str:
    """Many recordings on one core and on all, spikes counted only."""
    rng = np.random.default_rng(0)
    shape, events, end = load.circuit.input_shape, len(load.recording), load.train.duration
    given = [random_recording(shape, events, end, rng) for _ in range(min(recordings, 200))]
    given = [given[k % len(given)] for k in range(recordings)]
    cores = len(os.sched_getaffinity(0))
    seconds = dict.fromkeys((1, cores), np.inf)
    for _ in range(3):
        for threads in seconds:
            simulator = Simulator(load.circuit, record="counts", threads=threads)
            list(simulator.run(given[:10]))
            begin = time.perf_counter()
            deque(simulator.run(given), maxlen=0)
            seconds[threads] = min(seconds[threads], time.perf_counter() - begin)
    lines = [f"{recordings} recordings of {load.name} on {n} core(s): {s:.2f} s" for n, s in seconds.items()]
    lines.append(f"{cores} cores are {seconds[1] / seconds[cores]:.2f} times as fast as one")
    return "\n".join(lines)


ROWS: dict[str, tuple[Callable[[Workload], Cell], tuple[str, ...]]] = {
    "exact": (exact, NAMES),
    "brian2 (batches of 100 recordings)": (brian2_runtime, NAMES),
    "brian2-cpp": (brian2_cpp, NAMES),
    "Brian2, clock of 1 ms": (clock_driven(1e-3), _SMALL),
    "Brian2, clock of 0.1 ms": (clock_driven(1e-4), _SMALL),
    "Brian2, clock of 10 us": (clock_driven(1e-5), _SMALL),
    "torch, steps of 1 ms": (torch_stepped(1e-3), _SMALL),
    "torch, steps of 0.1 ms": (torch_stepped(1e-4), _SMALL),
    "NEURON, one spike per arrival": (peer(peers.neuron), ("W1",)),
    "NEST, reset to zero, 0.1 ms delay": (peer(peers.nest), ("W1",)),
    "sinabs, steps of 1 ms": (peer(peers.sinabs), ("W1",)),
}


def _peak_memory() -> float:
    """GB. Not from getrusage(), which starts with the peak of the parent process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def _measure(row: str, name: str, scales: list[float]) -> Cell:
    """One cell, from a separate process."""
    command = [sys.executable, __file__, "--cell", json.dumps([row, name, scales])]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        return {"refused": (done.stderr.strip().splitlines() or ["failed"])[-1]}
    cell: Cell = json.loads(done.stdout.strip().splitlines()[-1])
    return cell


def _line(row: str, name: str, cell: Cell) -> str:
    if "refused" in cell:
        return f"{row:34} {name}  {cell['refused']}"
    text = f"{row:34} {name}  {1e3 * cell['seconds']:10.3f} ms"
    if "difference" in cell:
        text += f"  spike difference {100 * cell['difference']:6.2f} %"
    if "memory" in cell:
        text += f"  {cell['memory']:.2f} GB"
    if "synops" in cell:
        text += f"  {cell['synops'] / cell['seconds']:.2e} SynOps/s"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--rows", nargs="+", metavar="ROW", help=f"only rows that begin so; rows: {', '.join(ROWS)}")
    parser.add_argument("--recordings", type=int, default=0, help="also time this many recordings of W1")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        row, name, scales = json.loads(arguments.cell)
        try:
            print(json.dumps(ROWS[row][0](workload(name, scales))))
        except ModuleNotFoundError as error:
            sys.exit(f"not installed ({error.name})")
        except (InputError, ImportError) as error:
            sys.exit(str(error))
        return
    rows = [row for row in ROWS if not arguments.rows or row.startswith(tuple(arguments.rows))]
    for name in arguments.workloads:
        load = workload(name)
        events = len(load.train.order)
        print(f"\n{name}: {events} events in {load.train.duration} s", flush=True)
        for row in rows:
            if name not in ROWS[row][1]:
                continue
            print(f"building and measuring: {row}, {name}", file=sys.stderr, flush=True)
            cell = _measure(row, name, list(load.scales))
            print(_line(row, name, cell), flush=True)
            if "each of many" in cell:
                label = f"exact, {_TOGETHER[name]} in one call"
                print(f"{label:34} {name}  {1e3 * cell['each of many']:10.3f} ms each", flush=True)
            if isinstance(cell.get("C"), float):
                for loop, flags in (("C", "-O3"), ("C native", "-O3 -march=native")):
                    ratios = [f"{cell[key] / cell[loop]:.2f}" for key in ("seconds", "each of many")]
                    label = f"plain C loop, {flags}"
                    print(
                        f"{label:34} {name}  {1e3 * cell[loop]:10.3f} ms  exact / C = {ratios[0]}, many {ratios[1]}",
                        flush=True,
                    )
            elif "C" in cell:
                print(f"{'plain C loop':34} {name}  {cell['C']}")
        if arguments.recordings and name == "W1":
            print(throughput(load, arguments.recordings))


if __name__ == "__main__":
    main()
