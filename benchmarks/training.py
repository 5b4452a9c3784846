"""Time and memory of a training iteration: SDT and MTT, in this package and in a plain loop over time steps.

    python benchmarks/training.py                     # all networks, also on a GPU if there is one
    python benchmarks/training.py --networks nmnist_3c1fc --rounds 40
    python benchmarks/training.py --devices cuda --networks vgg9/2 --kinds "ours, amp" --seconds 50 --profile

An iteration computes loss and gradients of all its configurations and makes the optimizer's step. MTT has 3
configurations of 1 to 10 steps, SDT one of 10. On a CPU it also draws its batch (augmentation included). On a GPU the
batches are there already, some iterations are timed at once, as they follow each other in an epoch, and everything is
also measured in mixed precision (amp).

The plain loop is the usual form of spiking networks: layer by layer in every time step, with autograd through all
operations and a surrogate derivative of the spike. With norms, which act on all time steps at once, the layers without
time process all time steps in one call. Outputs and gradients of all are first compared in float64. On a GPU "torch" is
this package without its Triton kernels, "graph" with --cuda-graph (MTT: with --amp). "spikingjelly", if it
is installed, has the same layers and its own multi-step neuron (one spike per step, no lower bound).

On a CPU all implementations alternate in one process, on one core, and their ratios come from one run; peak memory is
measured in a separate process. On a GPU one follows the other in one process, each row comes when it is measured, and
peak memory is that of torch's allocator. It is without the memory before the first iteration.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from mtt_brian import mtt
from mtt_brian.machine import keep_freed_memory
from mtt_brian.mtt.cuda_graphs import Graphs
from mtt_brian.mtt.optimizer import make_optimizer
from mtt_brian.mtt.samplers import Configuration
from mtt_brian.snn import Spiking, Staged, models, temporal
from mtt_brian.snn.ops import choice
from mtt_brian.snn.residual import Residual

T_MAX, BOUND = 10, -1.0


class Network(NamedTuple):
    """A network of the zoo, and its batches. Without norms: a loop over time would normalise every step separately."""

    model: str
    sensor_size: tuple[int, int, int]
    width_multiplier: float
    batch_size: int
    norm: bool = False
    gpu_only: bool = False


NETWORKS = {
    "nmnist_3c1fc": Network("nmnist_3c1fc", (2, 34, 34), 1.0, 32),
    "resnet18_dvs/8": Network("resnet18_dvs", (2, 48, 48), 0.125, 8),
    "vgg9/2": Network("vgg9", (2, 128, 128), 0.5, 64, norm=True, gpu_only=True),
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


class LayerByLayer(nn.Module):
    """The layers of a staged network one after the other, each on all time steps.

    Args:
        staged: gives the layers.
        neuron: makes the spikes [t, N, *] of a population from its jumps.
    """

    def __init__(self, staged: Staged, neuron: Callable[[Spiking, Tensor], Tensor]) -> None:
        super().__init__()
        self.staged = staged
        self.num_stages = staged.num_stages
        self.neuron = neuron

    def readouts_of_each(self, frames: Tensor, configurations: Sequence[Configuration]) -> list[Tensor]:
        return [self.readouts(frames, configuration) for configuration in configurations]

    def readouts(self, frames: Tensor, time_steps: Sequence[int]) -> Tensor:
        x = frames.contiguous()
        for stage, steps in zip(self.staged.stages, time_steps, strict=True):
            x = self._through(stage, temporal.transform(x, steps))
        return x

    def _through(self, chain: nn.Module, x: Tensor) -> Tensor:
        for layer in chain.children():
            if isinstance(layer, Residual):
                x = self._through(layer.body, x) + self._through(layer.shortcut, x)
            elif isinstance(layer, Spiking):
                x = self.neuron(layer, x)
            else:
                x = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return x


def _plain_neuron(layer: Spiking, x: Tensor) -> Tensor:
    membranes: dict[nn.Module, Tensor] = {}
    return torch.stack([_step(nn.Sequential(layer), jump, membranes) for jump in x])


def _spikingjelly_neuron(device: str) -> Callable[[Spiking, Tensor], Tensor]:
    """Its multi-step neuron. Release 2 chooses its back end by itself; before, the first that works here."""
    from spikingjelly.activation_based import functional, neuron, surrogate

    def make(**options: Any) -> nn.Module:
        made: nn.Module = neuron.IFNode(v_reset=None, surrogate_function=surrogate.ATan(), step_mode="m", **options).to(
            device
        )
        return made

    def works(**options: Any) -> bool:
        try:
            jumps = torch.ones(2, 1, 4, device=device, requires_grad=True)
            make(**options)(jumps).sum().backward()
        except Exception:  # whatever a missing compiler or package raises
            return False
        return True

    backends = [] if device == "cpu" else [{"backend": "triton"}, {"backend": "cupy"}]
    options = next(options for options in [*backends, {}] if works(**options))
    node = make(**options)
    release = importlib.metadata.version("spikingjelly")
    print(f"spikingjelly {release} on {device}: back end {options.get('backend', 'of its choice')}", file=sys.stderr)

    def spikes(layer: Spiking, x: Tensor) -> Tensor:
        functional.reset_net(node)
        found: Tensor = node(x.contiguous())
        return found

    return spikes


def _build(network: Network, implementation: str, device: str) -> Any:
    torch.manual_seed(0)
    staged = models.build(
        network.model,
        sensor_size=network.sensor_size,
        num_classes=10,
        norm=network.norm,
        width_multiplier=network.width_multiplier,
    ).to(device)
    for population in staged.populations().values():
        population.compile_steps = implementation == "compiled"
    if implementation == "spikingjelly":
        return LayerByLayer(staged, _spikingjelly_neuron(device))
    if implementation == "plain":
        return LayerByLayer(staged, _plain_neuron) if network.norm else PlainLoop(staged)
    return staged


#: Different batches of a network on a GPU.
BATCHES = 4


class Cell:
    """One implementation of one network under one sampler, ready for its iterations."""

    def __init__(self, network: Network, kind: str, method: str, device: str) -> None:
        implementation, _, precision = kind.partition(", ")
        self.implementation = implementation
        self.model = _build(network, implementation, device)
        graphs = Graphs(mixed=None if method == "sdt" else T_MAX) if implementation == "graph" else None
        together = 1 if implementation == "apart" else None
        self.options = mtt.StepOptions(amp=precision == "amp", together=together, graphs=graphs)
        self.sampler: mtt.Sampler = mtt.SDT(T_MAX) if method == "sdt" else mtt.MTT(T_MAX)
        # Small steps: the network hardly changes between rounds, and no gradient vanishes.
        self.optimizer = make_optimizer(self.model, mtt.TrainConfig(lr=1e-6))
        self.data = _data(network).to(device)
        self.size, self.device = network.batch_size, device
        self.batches = []
        if device != "cpu":
            each = np.array_split(np.arange(len(self.data)), BATCHES)
            # The other implementations expect torch's own order in memory.
            self.batches = list(self.data.batches(each, amp=self.options.amp and isinstance(self.model, Staged)))

    def iteration(self, round_: int) -> float:
        """Seconds of an iteration; the same round has the same batch and configurations in every cell of a method.

        On a GPU the host does not wait for the end of the optimizer's step.
        """
        rng = np.random.default_rng(round_)
        configurations: list[Configuration] = self.sampler.sample(rng, self.model.num_stages)
        begin = time.perf_counter()
        if self.batches:
            frames, labels = self.batches[round_ % BATCHES]
        else:
            index = rng.permutation(len(self.data))[: self.size]
            frames, labels = self.data.batch(index, partial(mtt.Augmentation(shift=2), rng=rng))
        with _implementation(self.implementation):
            mtt.train_iteration(self.model, self.optimizer, frames, labels, configurations, self.options)
        return time.perf_counter() - begin


def _implementation(name: str) -> contextlib.AbstractContextManager[Any]:
    """Within the block "torch" and "compiled" have no Triton kernels."""
    if name in ("torch", "compiled"):
        return mock.patch.object(choice, "triton_kernels", return_value=None)
    return contextlib.nullcontext()


@functools.cache
def _data(network: Network) -> mtt.FrameSet:
    """Frames as sparse as N-MNIST's."""
    generator = torch.Generator().manual_seed(0)
    channels, height, width = network.sensor_size
    rates = torch.full((4 * network.batch_size, T_MAX, height, width, channels), 0.18)
    frames = torch.poisson(rates, generator=generator).to(torch.uint8).permute(0, 1, 4, 2, 3)
    return mtt.FrameSet(frames, torch.randint(10, (len(frames),), generator=generator))


def check(network: Network, device: str, implementations: Sequence[str]) -> None:
    """All implementations give the same readouts and gradients, in float64."""
    frames, labels = _data(network).to(device).batch(np.arange(4))
    rng = np.random.default_rng(0)
    steps: list[int] = []
    found = []
    for implementation in sorted({"ours", *implementations} - {"spikingjelly"}):
        model = _build(network, implementation, device).double()
        steps = steps or rng.integers(1, T_MAX + 1, model.num_stages).tolist()
        with _implementation(implementation):
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
CPU_KINDS = ("ours", "apart", "compiled", "plain")
GPU_KINDS = ("ours", "graph", "torch", "plain", "spikingjelly")
METHODS = ("sdt", "mtt")


def kinds(device: str, chosen: Sequence[str] = ()) -> tuple[str, ...]:
    """The measurements on a device; ``chosen``: those of them that are wanted, or further ones."""
    if chosen or device == "cpu":
        return tuple(chosen) or CPU_KINDS
    there = [name for name in GPU_KINDS if name != "spikingjelly" or importlib.util.find_spec(name) is not None]
    every = [f"{name}{precision}" for precision in ("", ", amp") for name in there]
    every.remove("graph")  # without --amp norms are torch's, which MTT's graphs cannot contain
    # Last: after a graph that cannot be recorded PyTorch does not recover.
    return tuple(sorted(every, key=lambda kind: kind.startswith("graph")))


class Cost(NamedTuple):
    """Of an iteration; ``megabytes``, at most, is None if it was not measured."""

    seconds: float
    megabytes: float | None


def costs_on_cpu(
    name: str, measured: Sequence[str], rounds: int, limit: float, memory: bool
) -> Iterator[tuple[str, dict[str, Cost]]]:
    """The costs of every kind by method: the mean over the rounds of the best of three iterations.

    After ``limit`` seconds no further attempt begins.
    """
    begin = time.perf_counter()
    cells = {(kind, method): Cell(NETWORKS[name], kind, method, "cpu") for kind in measured for method in METHODS}
    best = {key: np.full(rounds, np.inf) for key in cells}
    for attempt in range(4):  # the first one is a warm-up: every number of steps has its own kernels
        if attempt > 1 and time.perf_counter() - begin > limit:
            break
        for round_ in range(rounds):
            for key, cell in cells.items():
                taken = cell.iteration(round_)
                if attempt:
                    best[key][round_] = min(best[key][round_], taken)
    for kind in measured:
        yield (
            kind,
            {m: Cost(float(best[kind, m].mean()), megabytes(name, kind, m) if memory else None) for m in METHODS},
        )


def costs_on_gpu(
    network: Network, device: str, measured: Sequence[str], rounds: int, limit: float
) -> Iterator[tuple[str, dict[str, Cost]]]:
    """The costs of every kind by method, as they come: the mean of the best of three times all rounds.

    After ``limit`` seconds every kind has one attempt only.
    """
    begin = time.perf_counter()
    for kind in measured:
        found = {}
        for method in METHODS:
            cell = Cell(network, kind, method, device)
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            taken: list[float] = []
            if kind.startswith("graph"):  # until the usual shapes are recorded
                for round_ in range(4 * rounds):
                    cell.iteration(round_)
            while len(taken) < 2 or (len(taken) < 4 and time.perf_counter() - begin < limit):
                torch.cuda.synchronize()
                start = time.perf_counter()
                for round_ in range(rounds):
                    cell.iteration(round_)
                torch.cuda.synchronize()
                taken.append(time.perf_counter() - start)
            # The first attempt compiles kernels: every number of steps has its own.
            print(f"{kind}, {method}: first {rounds} iterations {taken[0]:.1f} s", file=sys.stderr, flush=True)
            peak = torch.cuda.max_memory_allocated() - before
            found[method] = Cost(min(taken[1:]) / rounds, peak / 1e6)
        yield kind, found


def profile(
    network: Network, kind: str, method: str, device: str, iterations: int = 8, most: int = 18
) -> Iterator[str]:
    """Where the time of an iteration goes: the kernels of the GPU by their time, and the time of the host."""
    cell = Cell(network, kind, method, device)
    for round_ in range(iterations):
        cell.iteration(round_)
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as seen:
        for round_ in range(iterations):
            cell.iteration(round_)
        torch.cuda.synchronize()
    kernels: dict[str, list[float]] = {}
    spans = []
    for event in seen.events():
        if event.device_type == torch.autograd.DeviceType.CUDA and not getattr(event, "is_user_annotation", False):
            kernels.setdefault(event.name, []).append(event.time_range.elapsed_us())
            spans.append((event.time_range.start, event.time_range.end))
    busy = sum(map(sum, kernels.values())) / iterations / 1e3
    wall = (max(end for _, end in spans) - min(start for start, _ in spans)) / iterations / 1e3
    launches = sum(map(len, kernels.values())) / iterations
    yield f"{kind}, {method}: {wall:.2f} ms per iteration if profiled, GPU busy {busy:.2f} ms, {launches:.0f} launches"
    ordered = sorted(kernels.items(), key=lambda item: -sum(item[1]))
    for name, times in ordered[:most]:
        yield f"  {sum(times) / iterations / 1e3:7.3f} ms {len(times) / iterations:6.1f} x  {name[:90]}"
    rest = sum(sum(times) for _, times in ordered[most:]) / iterations / 1e3
    yield f"  {rest:7.3f} ms all others"


def megabytes(name: str, kind: str, method: str) -> float:
    """Peak memory of some iterations on a CPU, in a separate process."""
    command = [sys.executable, __file__, "--memory", json.dumps([name, kind, method])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_memory(name: str, kind: str, method: str) -> float:
    """As `megabytes`, here."""
    torch.set_num_threads(1)
    keep_freed_memory()
    cell = Cell(NETWORKS[name], kind, method, "cpu")
    before = _peak_rss()
    for round_ in range(8):
        cell.iteration(round_)
    return (_peak_rss() - before) / 1e6


def _peak_rss() -> int:
    """Not from getrusage(), which starts with the peak of the parent process."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def rows(
    names: list[str],
    rounds: int,
    devices: Sequence[str],
    chosen: Sequence[str] = (),
    limit: float = np.inf,
    memory: bool = True,
) -> Iterator[str]:
    """The table, line by line.

    Args:
        names: of `NETWORKS`; those for a GPU are left out on a CPU.
        rounds: iterations of every kind.
        devices: "cpu", "cuda".
        chosen: kinds; none: all.
        limit: seconds for the times of one network on one device; warm-up and one attempt are always made.
        memory: whether peak memory is measured too; on a GPU it always is.
    """
    yield "| network | device | | SDT, ms | MTT, ms | MTT / SDT | SDT, MB | MTT, MB |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for name in names:
        network = NETWORKS[name]
        for device in devices:
            if network.gpu_only and device == "cpu":
                continue
            measured = kinds(device, chosen)
            if device == "cpu":
                costs = costs_on_cpu(name, measured, rounds, limit, memory)
            else:
                costs = costs_on_gpu(network, device, measured, rounds, limit)
            taken: dict[str, tuple[float, float]] = {}
            for kind, found in costs:
                sdt, mixed = (found[method].seconds for method in METHODS)
                taken[kind] = sdt, mixed
                peaks = ["" if cost.megabytes is None else f"{cost.megabytes:.0f}" for cost in found.values()]
                yield (
                    f"| {name} | {device} | {kind} | {sdt * 1e3:.1f} | {mixed * 1e3:.1f} | {mixed / sdt:.2f}"
                    f" | {peaks[0]} | {peaks[1]} |"
                )
            for kind in measured:
                implementation, *precision = kind.split(", ")
                plain = ", ".join(["plain", *precision])
                if implementation == "plain" or plain not in measured:
                    continue
                sdt, mixed = (slow / fast for slow, fast in zip(taken[plain], taken[kind], strict=True))
                yield f"| {name} | {device} | {plain} / {kind} | {sdt:.2f} | {mixed:.2f} | | | |"


def main() -> None:
    assert __doc__ is not None
    found = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--devices", nargs="+", choices=found, default=found)
    parser.add_argument("--kinds", nargs="+", metavar="KIND", default=[], help='such as "ours, amp" [all]')
    parser.add_argument("--rounds", type=int, default=20, help="iterations of every kind, each the best of three [20]")
    parser.add_argument(
        "--seconds",
        type=float,
        default=np.inf,
        help="limit for the times of one network on one device; a warm-up and one attempt are always made",
    )
    parser.add_argument(
        "--no-memory", action="store_true", help="without peak memory, which on a CPU takes a process for each number"
    )
    parser.add_argument(
        "--profile", action="store_true", help="only show the kernels of a GPU that take most of the time"
    )
    parser.add_argument("--memory", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(measure_memory(*options.memory))
        return
    torch.set_num_threads(1)
    keep_freed_memory()  # as in training; for all implementations
    if options.profile:
        if "cuda" not in options.devices:
            parser.error("--profile needs a GPU")
        for name in options.networks:
            for kind in options.kinds or ["ours, amp"]:
                for method in METHODS:
                    print(name, *profile(NETWORKS[name], kind, method, "cuda"), sep="\n", flush=True)
        return
    for name in options.networks:
        for device in options.devices:
            if device != "cpu" or not NETWORKS[name].gpu_only:
                check(NETWORKS[name], device, [kind.partition(", ")[0] for kind in kinds(device, options.kinds)])
    for row in rows(
        options.networks, options.rounds, options.devices, options.kinds, options.seconds, not options.no_memory
    ):
        print(row, flush=True)


if __name__ == "__main__":
    main()
