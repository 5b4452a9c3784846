"""Three networks with inputs, generated with a fixed seed, on which the engines are timed.

* W1: the N-MNIST network, 2x34x34, convolutions (3x3, stride 2) to 8, 16, 16 channels, linear 10;
  4,000 events in 0.3 s;
* W2: dense 700-256-256-20; 10,000 events in 1 s;
* W3: VGG-like at 2x32x32, convolutions (3x3, padding 1) to 64, 128, pool, 256, 256, pool, 512, 512, pool, linear 10;
  50,000 events in 1.3 s; 870 million synapses if they were written out.

Integrate-and-fire neurons, threshold 1, reset by subtraction, as many spikes as fit, no lower bound. The weights of
every layer are drawn once and scaled until the layer fires 0.6 (W1, W2) or 1.0 (W3) times its input. They are float32
numbers, as those of trained networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Conv2d, Dense, Operator, pool2d
from mtt_brian.circuit.spikes import InputSpikes, input_spikes
from mtt_brian.engines.exact import ExactEngine
from mtt_brian.events.recording import make_recording
from mtt_brian.neuron import IF

SEED = 20250317
#: Neurons of all hidden layers.
NEURON = IF(threshold=1.0, reset="subtract", spikes="many")
#: Sums of multiples of this are exact below 2**42 times its value.
GRID = 2.0**-10
#: Rounds of bisection for one layer's scale; the rate is then within a few per cent of its target.
_ROUNDS = 18


@dataclass(frozen=True)
class Workload:
    """A circuit, one recording for it and its input spikes, and the scale of the weights of each layer."""

    name: str
    circuit: Circuit
    recording: np.ndarray
    train: InputSpikes
    scales: tuple[float, ...]


@dataclass(frozen=True)
class _Recipe:
    name: str
    input_shape: tuple[int, ...]
    layers: tuple[int | str, ...]  # channels or neurons; "pool"
    kernel: tuple[int, int, int] | None  # size, stride, padding of the convolutions; None for dense layers
    events: int
    duration: float
    ratio: float


_RECIPES = {
    "W1": _Recipe("W1", (2, 34, 34), (8, 16, 16), (3, 2, 0), 4_000, 0.3, 0.6),
    "W2": _Recipe("W2", (700,), (256, 256), None, 10_000, 1.0, 0.6),
    "W3": _Recipe(
        "W3", (2, 32, 32), (64, 128, "pool", 256, 256, "pool", 512, 512, "pool"), (3, 1, 1), 50_000, 1.3, 1.0
    ),
}
NAMES = tuple(_RECIPES)


def random_recording(shape: tuple[int, ...], events: int, duration: float, rng: np.random.Generator) -> np.ndarray:
    """Events at random pixels and random whole microseconds."""
    microseconds = np.sort(rng.integers(0, round(duration * 1e6), events))
    place = np.unravel_index(rng.integers(0, int(np.prod(shape)), events), shape)
    return make_recording(microseconds, **dict(zip(("p", "y", "x")[-len(shape) :], place, strict=True)))


def random_train(shape: tuple[int, ...], events: int, duration: float, rng: np.random.Generator) -> InputSpikes:
    """The input spikes of `random_recording`."""
    return input_spikes(random_recording(shape, events, duration, rng), shape, duration)


def random_trains(load: Workload, number: int) -> list[InputSpikes]:
    """Different recordings like that of the workload, the same ones every time."""
    rng = np.random.default_rng(0)
    shape, events, end = load.circuit.input_shape, len(load.train.order), load.train.duration
    return [random_train(shape, events, end, rng) for _ in range(number)]


def workload(name: str, scales: Sequence[float] = ()) -> Workload:
    """W1, W2 or W3.

    Args:
        name: of the workload.
        scales: of an earlier call, to skip the search and its memory.
    """
    recipe = _RECIPES[name]
    rng = np.random.default_rng([SEED, int(name[1:])])
    recording = random_recording(recipe.input_shape, recipe.events, recipe.duration, rng)
    train = input_spikes(recording, recipe.input_shape, recipe.duration)
    source, shape, spikes = "input", recipe.input_shape, train
    populations: list[Population] = []
    connections: list[Connection] = []
    chain: tuple[Operator, ...] = ()
    found: list[float] = []
    for k, layer in enumerate(recipe.layers):
        if layer == "pool":
            chain = (pool2d((2, 2), (2, 2), ((0, 0), (0, 0)), shape, average=True),)
            shape = chain[0].output_shape
            continue
        operator = _operator(shape, int(layer), recipe.kernel, rng)
        if scales:
            found.append(scales[len(found)])
        else:
            scale, spikes = _search(chain, operator, spikes, recipe.ratio)
            found.append(scale)
        operator = _scaled(operator, found[-1])
        connections.append(Connection(source, str(k), (*chain, operator), (), _inputs((*chain, operator))))
        source, shape, chain = str(k), operator.output_shape, ()
        populations.append(Population(source, shape, NEURON))
    classes = 20 if recipe.kernel is None else 10
    size = int(np.prod(shape))
    chain = (*chain, _scaled(Dense(rng.normal(size=(classes, size)), (size,)), 1.0))
    connections.append(Connection(source, "readout", chain, (), _inputs(chain)))
    populations.append(Population("readout", (classes,), IF(threshold=None)))
    circuit = Circuit("input", recipe.input_shape, tuple(populations), tuple(connections), "readout")
    return Workload(name, circuit, recording, train, tuple(found))


def _operator(
    shape: tuple[int, ...], layer: int, kernel: tuple[int, int, int] | None, rng: np.random.Generator
) -> Conv2d | Dense:
    if kernel is None:
        return Dense(rng.normal(size=(layer, shape[0])), (shape[0],))
    size, stride, pad = kernel
    weight = rng.normal(size=(layer, shape[0], size, size))
    return Conv2d(weight, (stride, stride), ((pad, pad), (pad, pad)), (1, 1), 1, shape)  # type: ignore[arg-type]


def _search(
    chain: tuple[Operator, ...], operator: Conv2d | Dense, spikes: InputSpikes, ratio: float
) -> tuple[float, InputSpikes]:
    """The scale of the weights at which the layer fires ``ratio`` times its input spikes, and the spikes then."""
    low, high = 1e-3, 1e1
    for _ in range(_ROUNDS):
        scale = float(np.sqrt(low * high))
        scaled = _scaled(operator, scale)
        operators = (*chain, scaled)
        layer = Population("layer", scaled.output_shape, NEURON)
        connection = Connection("input", "layer", operators, (), _inputs(operators))
        circuit = Circuit("input", operators[0].input_shape, (layer,), (connection,), "layer")
        (result,) = ExactEngine(circuit, threads=1).run([spikes])
        rate = result.counts["layer"].sum() / spikes.n.sum()
        if abs(rate / ratio - 1) < 0.01:
            break
        low, high = (scale, high) if rate < ratio else (low, scale)
    t, i, n = result.spikes["layer"]
    return scale, InputSpikes(t, i, n, np.repeat(np.arange(len(t)), n), spikes.duration)


def _scaled(operator: Conv2d | Dense, scale: float) -> Conv2d | Dense:
    """The operator with the weights multiplied by ``scale`` and rounded to float32."""
    return replace(operator, weight=(operator.weight * scale).astype(np.float32))


def _inputs(chain: tuple[Operator, ...]) -> int:
    return int(np.prod(chain[0].input_shape))


def on_grid(circuit: Circuit) -> Circuit:
    """The network with every weight rounded to a multiple of `GRID`."""
    rounded = []
    for connection in circuit.connections:
        operators = tuple(
            replace(operator, weight=np.rint(operator.weight / GRID) * GRID)
            if isinstance(operator, Conv2d | Dense)
            else operator
            for operator in connection.operators
        )
        rounded.append(replace(connection, operators=operators))
    return replace(circuit, connections=tuple(rounded))
