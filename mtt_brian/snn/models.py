"""The model zoo: networks by name, built from plain values so that a checkpoint can rebuild them."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from torch import nn

from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF
from mtt_brian.snn.neurons import DEFAULT_SURROGATE, Spiking
from mtt_brian.snn.staged import Staged
from mtt_brian.snn.surrogate import Exponential, PeriodicExponential, Surrogate, Triangular

_Pair: TypeAlias = tuple[int, int]

#: The neuron of the paper's event-driven experiments.
DEFAULT_NEURON = IF(threshold=1.0, spikes="many", reset="subtract", lower_bound=-1.0)

#: The zoo, filled by `_in_zoo`.
MODELS: dict[str, Callable[..., Staged]] = {}

#: What a config may hold by type.
_TYPES: dict[str, type] = {c.__name__: c for c in (IF, LIF, Triangular, Exponential, PeriodicExponential)}


def _in_zoo(function: Callable[..., Staged]) -> Callable[..., Staged]:
    """Enter a model into `MODELS`, and let every network it makes carry its arguments as ``config``."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def make(*args: Any, **kwargs: Any) -> Staged:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        model = function(*bound.args, **bound.kwargs)
        model.config = {"name": function.__name__, **{k: _to_plain(v) for k, v in bound.arguments.items()}}
        return model

    MODELS[function.__name__] = make
    return make


@_in_zoo
def nmnist_3c1fc(
    sensor_size: Sequence[int] = (2, 34, 34),
    num_classes: int = 10,
    neuron: IF = DEFAULT_NEURON,
    *,
    surrogate: Surrogate = DEFAULT_SURROGATE,
    blocks_per_stage: int | None = 1,
    transform: str = "hard",
    decay_per_step: float | None = None,
    duration: float | None = None,
) -> Staged:
    """Three convolutions and one linear layer, without biases: the paper's N-MNIST network, 6,160 parameters.

    The paper gives the number of parameters and not the layers: 2-8-16-16 channels, 3x3 kernels, stride 2, padding 1, 1
    and 0 reach it exactly at 34x34. A larger sensor is average-pooled to at most 34 pixels a side first; the last
    convolution pads where a map is smaller than its kernel. At most 6,160 parameters for 10 classes and any sensor.

    Layers: (pool), conv1, spikes1, conv2, spikes2, conv3, spikes3, flatten, readout. A block is one convolution with
    its population; the readout belongs to the last stage.

    Args:
        sensor_size: (2, height, width).
        num_classes: number of logits.
        neuron, surrogate, decay_per_step, duration: see `Spiking`.
        blocks_per_stage, transform: see `Staged`.

    Raises:
        InputError: for a sensor without two polarities or another bad value.
    """
    if len(sensor_size) != 3 or sensor_size[0] != 2 or min(sensor_size) < 1:
        raise InputError(f"nmnist_3c1fc needs a sensor of size (2, height, width), not {tuple(sensor_size)}")
    if num_classes < 1:
        raise InputError(f"num_classes must be at least 1, not {num_classes}")
    layers: dict[str, nn.Module] = {}
    size: _Pair = (sensor_size[1], sensor_size[2])
    k = math.ceil(max(size) / 34)
    if k > 1:
        # Zeros around the sensor where k does not divide it, so that no pixel is left out.
        padding = (math.ceil(-size[0] % k / 2), math.ceil(-size[1] % k / 2))
        layers["pool"] = nn.AvgPool2d(k, padding=padding)
        size = _windows(size, k, k, padding)
    channels = 2
    for i, (out, pad) in enumerate([(8, 1), (16, 1), (16, 0)], start=1):
        padding = (max(pad, int(size[0] < 3)), max(pad, int(size[1] < 3)))
        conv = layers[f"conv{i}"] = nn.Conv2d(channels, out, 3, stride=2, padding=padding, bias=False)
        # Every population then fires about as often as the one before; with torch's own, smaller weights the third one
        # is silent on sparse event frames, and a silent network has nothing to learn from.
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers[f"spikes{i}"] = Spiking(neuron, surrogate, decay_per_step=decay_per_step, duration=duration)
        size = _windows(size, 3, 2, padding)
        channels = out
    layers["flatten"] = nn.Flatten()
    layers["readout"] = nn.Linear(channels * math.prod(size), num_classes, bias=False)
    return Staged(layers, sensor_size, blocks_per_stage=blocks_per_stage, transform=transform)


def build(
    name: str,
    *,
    sensor_size: Sequence[int],
    num_classes: int,
    neuron: IF = DEFAULT_NEURON,
    surrogate: Surrogate | None = None,
    **options: Any,
) -> Staged:
    """A network of the zoo by name.

    Args:
        name: one of `MODELS`.
        sensor_size: (C, H, W) of a frame.
        num_classes: number of logits.
        neuron: rule of all populations.
        surrogate: None for the default of `Spiking`.
        options: further keyword arguments of the model's own function.

    Raises:
        InputError: for an unknown name or option, or values that the model refuses.
    """
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}; there are: {', '.join(sorted(MODELS))}")
    accepted = inspect.signature(MODELS[name]).parameters
    for option in options:
        if option not in accepted:
            raise InputError(f"{name} has no option {option!r}; there are: {', '.join(accepted)}")
    surrogate = DEFAULT_SURROGATE if surrogate is None else surrogate
    return MODELS[name](sensor_size, num_classes, neuron, surrogate=surrogate, **options)


def from_config(config: Mapping[str, Any]) -> Staged:
    """The network that ``model.config`` describes, with fresh weights.

    Raises:
        InputError: for a config that is incomplete or holds unknown keys or values.
    """
    try:
        return build(**{key: _from_plain(value) for key, value in config.items()})
    except TypeError as error:
        raise InputError(f"not the config of a model: {error}") from None


def _windows(size: _Pair, kernel: int, stride: int, padding: _Pair) -> _Pair:
    """How many windows of a convolution or pool fit, vertically and horizontally."""
    height, width = ((n + 2 * p - kernel) // stride + 1 for n, p in zip(size, padding, strict=True))
    return height, width


def _to_plain(value: Any) -> Any:
    """JSON-able; a rule or surrogate as its fields and its type's name."""
    if type(value) in _TYPES.values():
        return {"type": type(value).__name__, **asdict(value)}
    return [int(n) for n in value] if isinstance(value, tuple | list) else value


def _from_plain(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    fields = dict(value)
    kind = fields.pop("type", None)
    if kind not in _TYPES:
        raise InputError(f"unknown type {kind!r} in a model's config; there are: {', '.join(_TYPES)}")
    return _TYPES[kind](**fields)
