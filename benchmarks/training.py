"""Time and memory of a training iteration: SDT and MTT, in this package and in a plain loop over time steps.

    python benchmarks/training.py                     # all networks, also on a GPU if there is one
    python benchmarks/training.py --networks nmnist_3c1fc --rounds 40

An iteration draws a batch (augmentation included), computes loss and gradients of all its configurations and makes the
optimizer's step: nearly the whole time of an epoch. MTT has 3 configurations of 1 to 10 steps, SDT one of 10. On a GPU
everything is also measured in mixed precision (amp).

The plain loop is the usual form of spiking networks: layer by layer in every time step, with autograd through all
operations and a surrogate derivative of the spike. Outputs and gradients of both are first compared in float64. All
implementations alternate in one process, on one core, and their ratios come from one run. Peak memory is measured in a
separate process (on a GPU by torch's allocator), without the memory before the first iteration.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mtt_brian import mtt
from mtt_brian.machine import keep_freed_memory
from mtt_brian.mtt.samplers import Configuration
from mtt_brian.snn import Spiking, Staged, models, temporal
from mtt_brian.snn.residual import Residual

T_MAX, BOUND = 10, -1.0


class Network(NamedTuple):
    """A network of the zoo without norms (a plain loop would normalise every step separately), and its batches."""

    model: str
    sensor_size: tuple[int, int, int]
    width_multiplier: float
    batch_size: int


NETWORKS = {
    "nmnist_3c1fc": Network("nmnist_3c1fc", (2, 34, 34), 1.0, 32),
    "resnet18_dvs/8": Network("resnet18_dvs", (2, 48, 48), 0.125, 8),
}


class _Fire(torch.autograd.Function):
    """A spike count, and the surrogate for its derivative."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, layer: Spiking) -> Tensor:
        ctx.save_for_backward(v)
        ctx.layer = layer
        return torch.floor(v).clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (v,) = ctx.saved_tensors
        return gradient * ctx.layer.surrogate(v, 1.0), None


class PlainLoop(nn.Module):
    """The layers of a staged network, time step by time step, with the zoo's default neurons."""

    def __init__(self, staged: Staged) -> None:
        super().__init__()
        self.staged = staged
        self.num_stages = staged.num_stages

    def readouts_of_each(self, frames: Tensor, configurations: Sequence[Configuration]) -> list[Tensor]:
        return [self.readouts(frames, configuration) for configuration in configurations]

    def readouts(self, frames: Tensor, time_steps: Sequence[int]) -> Tensor:
        x = frames.contiguous()  # torch's own order in memory
        for stage, steps in zip(self.staged.stages, time_steps, strict=True):
            membranes: dict[nn.Module, Tensor] = {}
            x = torch.stack([_step(stage, frame, membranes) for frame in temporal.transform(x, steps)])
        return x


def _step(chain: nn.Module, x: Tensor, membranes: dict[nn.Module, Tensor]) -> Tensor:
    for layer in chain.children():
        if isinstance(layer, Residual):
            x = _step(layer.body, x, membranes) + _step(layer.shortcut, x, membranes)
        elif isinstance(layer, Spiking):
            v = x + membranes[layer] if layer in membranes else x
            v = torch.where(v > BOUND, v, BOUND)
            x = _Fire.apply(v, layer)
            membranes[layer] = v - x  # times the threshold, which is 1
        else:
            x = layer(x)
    return x


class Cell:
    """One implementation of one network under one sampler, ready for its iterations."""

    def __init__(self, network: Network, kind: str, method: str, device: str) -> None:
        torch.manual_seed(0)
        staged = models.build(
            network.model,
            sensor_size=network.sensor_size,
            num_classes=10,
            norm=False,
            width_multiplier=network.width_multiplier,
        ).to(device)
        implementation, _, precision = kind.partition(", ")
        self.model: Any = PlainLoop(staged) if implementation == "plain" else staged
        self.options = mtt.StepOptions(amp=precision == "amp", together=1 if implementation == "apart" else None)
        for population in staged.populations().values():
            population.compile_steps = implementation == "compiled"
        self.sampler: mtt.Sampler = mtt.SDT(T_MAX) if method == "sdt" else mtt.MTT(T_MAX)
        # Small steps: the network hardly changes between rounds, and no gradient vanishes.
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6)
        self.data = _data(network).to(device)
        self.size, self.device = network.batch_size, device

    def iteration(self, round_: int) -> float:
        """Seconds of an iteration; the same round has the same batch and configurations in every cell of a method."""
        rng = np.random.default_rng(round_)
        configurations: list[Configuration] = self.sampler.sample(rng, self.model.num_stages)
        begin = time.perf_counter()
        index = rng.permutation(len(self.data))[: self.size]
        frames, labels = self.data.batch(index, partial(mtt.Augmentation(shift=2), rng=rng))
        mtt.train_iteration(self.model, self.optimizer, frames, labels, configurations, self.options)
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - begin


def _data(network: Network) -> mtt.FrameSet:
    """Frames as sparse as N-MNIST's."""
    generator = torch.Generator().manual_seed(0)
    channels, height, width = network.sensor_size
    rates = torch.full((4 * network.batch_size, T_MAX, height, width, channels), 0.18)
    frames = torch.poisson(rates, generator=generator).to(torch.uint8).permute(0, 1, 4, 2, 3)
    return mtt.FrameSet(frames, torch.randint(10, (len(frames),), generator=generator))


def check(network: Network, device: str) -> None:
    """All implementations give the same readouts and gradients, in float64."""
    frames, labels = _data(network).to(device).batch(np.arange(4))
    cells = [Cell(network, kind, "mtt", device) for kind in KINDS]
    steps = list(np.random.default_rng(0).integers(1, T_MAX + 1, cells[0].model.num_stages))
    found = []
    for cell in cells:
        model = copy.deepcopy(cell.model).double()
        readouts = model.readouts(frames.double(), steps)
        mtt.cross_entropy(readouts, labels).backward()
        found.append([readouts.detach(), *(p.grad for p in model.parameters())])
    for ours, *others in zip(*found, strict=True):
        for other in others:
            torch.testing.assert_close(ours, other, rtol=1e-9, atol=1e-12)
    assert any(bool(gradient.any()) for gradient in found[0][1:-1]), (
        "nothing to compare: no gradient behind the readout"
    )


#: Apart: this package with --together 1, one configuration after the other; compiled: with --compile.
KINDS = ("ours", "apart", "compiled", "plain")


def kinds(device: str) -> tuple[str, ...]:
    """The measurements on a device."""
    return KINDS if device == "cpu" else (*KINDS, *(f"{kind}, amp" for kind in KINDS))


def seconds(network: Network, device: str, rounds: int) -> dict[tuple[str, str], float]:
    """Mean over the rounds of the best of three iterations, by implementation and method."""
    cells = {(kind, method): Cell(network, kind, method, device) for kind in kinds(device) for method in ("sdt", "mtt")}
    best = {key: np.full(rounds, np.inf) for key in cells}
    for attempt in range(4):  # the first one is a warm-up: every number of steps has its own kernels
        for round_ in range(rounds):
            for key, cell in cells.items():
                taken = cell.iteration(round_)
                if attempt:
                    best[key][round_] = min(best[key][round_], taken)
    return {key: float(times.mean()) for key, times in best.items()}


def megabytes(name: str, kind: str, method: str, device: str) -> float:
    """Peak memory of some iterations, in a separate process."""
    command = [sys.executable, __file__, "--memory", json.dumps([name, kind, method, device])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_memory(name: str, kind: str, method: str, device: str) -> float:
    """As `megabytes`, here."""
    torch.set_num_threads(1)
    keep_freed_memory()
    cell = Cell(NETWORKS[name], kind, method, device)
    peak = _peak_rss if device == "cpu" else torch.cuda.max_memory_allocated
    before = peak()
    for round_ in range(8):
        cell.iteration(round_)
    return (peak() - before) / 1e6


def _peak_rss() -> int:
    """Not from getrusage(), which starts with the peak of the parent process."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def rows(names: list[str], rounds: int, devices: Sequence[str]) -> Iterator[str]:
    """The table, line by line."""
    yield "| network | device | | SDT, ms | MTT, ms | MTT / SDT | SDT, MB | MTT, MB |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for name in names:
        for device in devices:
            check(NETWORKS[name], device)
            taken = seconds(NETWORKS[name], device, rounds)
            for kind in kinds(device):
                sdt, mixed = (taken[kind, method] for method in ("sdt", "mtt"))
                memory = [megabytes(name, kind, method, device) for method in ("sdt", "mtt")]
                yield (
                    f"| {name} | {device} | {kind} | {sdt * 1e3:.1f} | {mixed * 1e3:.1f} | {mixed / sdt:.2f}"
                    f" | {memory[0]:.0f} | {memory[1]:.0f} |"
                )
            for kind in kinds(device):
                implementation, *precision = kind.split(", ")
                if implementation == "plain":
                    continue
                plain = ", ".join(["plain", *precision])
                sdt, mixed = (taken[plain, method] / taken[kind, method] for method in ("sdt", "mtt"))
                yield f"| {name} | {device} | {plain} / {kind} | {sdt:.2f} | {mixed:.2f} | | | |"


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=20, help="iterations of every kind, each the best of three [20]")
    parser.add_argument("--memory", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(measure_memory(*options.memory))
        return
    torch.set_num_threads(1)
    keep_freed_memory()  # as in training; for all implementations
    for row in rows(options.networks, options.rounds, ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]):
        print(row, flush=True)


if __name__ == "__main__":
    main()
