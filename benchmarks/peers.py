"""The workloads on other simulators, if they are installed (extra ``[peers]``; sinabs separately).

None of them implements the workloads' rule, so their spikes differ from the exact engine's; each docstring states the
difference. tests/test_exact_peers.py tests cases in which the rules agree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from workloads import Workload

from mtt_brian.circuit.operators import Conv2d, Dense

#: Spike counts by population, and the seconds of the run without building and compiling.
Measured = tuple[dict[str, np.ndarray], float]

#: NEST delivers nothing faster than one step.
_NEST_STEP_MS = 0.1


def neuron(load: Workload) -> Measured:
    """NEURON: artificial cells on its event queue, one arrival after another, one spike per arrival at most."""
    import neuron as package

    tool = shutil.which("nrnivmodl", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if tool is None:
        raise ImportError("nrnivmodl, which compiles NEURON's mechanisms, is not on the path")
    with tempfile.TemporaryDirectory() as folder:
        for mechanism in (Path(__file__).parent / "mechanisms").glob("*.mod"):
            shutil.copy(mechanism, folder)
        subprocess.run([tool], cwd=folder, check=True, capture_output=True)
        package.load_mechanisms(folder)
        h = package.h
        h.load_file("stdrun.hoc")
        h.CVode().active(1)
        circuit, train = load.circuit, load.train
        cells: dict[str, list[Any]] = {circuit.input: [h.Relay() for _ in range(circuit.input_size)]}
        for population in circuit.populations:
            cells[population.name] = [h.IntegrateAndFire() for _ in range(population.size)]
        keep = []
        for connection in circuit.connections:
            matrix = connection.matrix.tocoo()
            sources, targets = cells[connection.source], cells[connection.target]
            for post, pre, weight in zip(*matrix.coords, matrix.data, strict=True):
                wire = h.NetCon(sources[pre], targets[post])
                wire.delay, wire.weight[0] = 0, weight
                keep.append(wire)
        recorded: dict[str, Any] = {}
        for population in circuit.populations:
            if population.rule.fires:
                times, numbers = h.Vector(), h.Vector()
                for number, cell in enumerate(cells[population.name]):
                    wire = h.NetCon(cell, None)
                    wire.record(times, numbers, number)
                    keep.append(wire)
                recorded[population.name] = (times, numbers)
        pixels = [h.NetCon(None, cell) for cell in cells[circuit.input]]

        def play() -> None:
            for t, i, n in zip(train.t, train.i, train.n, strict=True):
                for _ in range(n):
                    pixels[i].event(1e3 * t)

        keep.append(h.FInitializeHandler(play))
        h.finitialize()
        begin = time.perf_counter()
        h.continuerun(1e3 * train.duration + 1)
        seconds = time.perf_counter() - begin
        counts = {
            name: np.bincount(np.array(numbers).astype(int), minlength=len(cells[name]))
            for name, (_, numbers) in recorded.items()
        }
    return counts, seconds


def nest(load: Workload) -> Measured:
    """NEST, ``iaf_psc_delta_ps``: precise times; reset to zero, a delay and a dead time of one step per layer."""
    import nest as package

    package.ResetKernel()
    package.set_verbosity("M_ERROR")
    package.SetKernelStatus({"resolution": _NEST_STEP_MS, "local_num_threads": 1})
    circuit, train = load.circuit, load.train
    # Practically no leak over a second.
    rule = {"E_L": 0.0, "V_th": 1.0, "V_reset": 0.0, "V_m": 0.0, "C_m": 1.0, "tau_m": 1e9, "t_ref": _NEST_STEP_MS}
    nodes = {circuit.input: package.Create("spike_generator", circuit.input_size, {"precise_times": True})}
    for pixel in np.unique(train.i):
        mine = train.i == pixel
        nodes[circuit.input][int(pixel)].set(
            spike_times=1e3 * train.t[mine], spike_multiplicities=train.n[mine].astype(int)
        )
    recorders = {}
    for population in circuit.populations:
        silent = {} if population.rule.fires else {"V_th": 1e300}
        nodes[population.name] = package.Create("iaf_psc_delta_ps", population.size, rule | silent)
        if population.rule.fires:
            recorders[population.name] = package.Create("spike_recorder")
            package.Connect(nodes[population.name], recorders[population.name])
    for connection in circuit.connections:
        matrix = connection.matrix.tocoo()
        post, pre = matrix.coords
        package.Connect(
            np.array(nodes[connection.source].tolist())[pre],
            np.array(nodes[connection.target].tolist())[post],
            "one_to_one",
            {"weight": matrix.data, "delay": np.full(matrix.nnz, _NEST_STEP_MS)},
        )
    package.Prepare()
    begin = time.perf_counter()
    package.Run(np.ceil(1e3 * train.duration) + 1)
    seconds = time.perf_counter() - begin
    package.Cleanup()
    counts = {
        name: np.bincount(recorder.get("events")["senders"] - nodes[name][0].global_id, minlength=len(nodes[name]))
        for name, recorder in recorders.items()
    }
    return counts, seconds


def sinabs(load: Workload, step: float = 1e-3) -> Measured:
    """sinabs: the same rule on time steps, in float32 (the only type it supports)."""
    import torch
    from sinabs.activation import MembraneSubtract, MultiSpike
    from sinabs.layers import IAFSqueeze

    torch.set_num_threads(1)
    circuit, train = load.circuit, load.train
    steps = int(np.floor(train.duration / step)) + 1
    frames = np.zeros((steps, circuit.input_size), np.float32)
    np.add.at(frames, (np.floor(train.t / step).astype(np.int64), train.i), train.n)
    inputs = torch.from_numpy(frames).reshape(steps, *circuit.input_shape)
    layers: dict[str, torch.nn.Module] = {}
    for population, connection in zip(circuit.populations, circuit.connections, strict=True):
        (operator,) = connection.operators
        if isinstance(operator, Conv2d):
            shape = operator.weight.shape
            layer: torch.nn.Module = torch.nn.Conv2d(
                shape[1], shape[0], shape[2:], operator.stride, operator.padding[0][0], bias=False
            )
        elif isinstance(operator, Dense):
            layer = torch.nn.Linear(operator.weight.shape[1], operator.weight.shape[0], bias=False)
            layers[f"flatten {population.name}"] = torch.nn.Flatten()
        else:
            raise TypeError(f"the sinabs row has no {type(operator).__name__}")
        layer.weight = torch.nn.Parameter(torch.from_numpy(operator.weight.astype(np.float32)))
        layers[f"weights {population.name}"] = layer
        if population.rule.fires:
            layers[population.name] = IAFSqueeze(
                batch_size=1, spike_threshold=1.0, spike_fn=MultiSpike, reset_fn=MembraneSubtract()
            )

    def run() -> dict[str, np.ndarray]:
        x, counts = inputs, {}
        for name, layer in layers.items():
            if isinstance(layer, IAFSqueeze):
                layer.reset_states()
            x = layer(x)
            if isinstance(layer, IAFSqueeze):
                counts[name] = x.sum(0).numpy().ravel().astype(np.int64)
        return counts

    with torch.no_grad():
        counts = run()
        seconds = np.inf
        for _ in range(3):
            begin = time.perf_counter()
            run()
            seconds = min(seconds, time.perf_counter() - begin)
    return counts, seconds
