"""Models of the zoo from functions that add layers: the options of all models, and their config."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, Protocol

from mtt_brian.errors import InputError, check_flag, check_number, check_whole, read_array
from mtt_brian.neuron import IF, LIF
from mtt_brian.snn.models.builder import Layout
from mtt_brian.snn.neurons import DEFAULT_SURROGATE, Spiking
from mtt_brian.snn.staged import Staged
from mtt_brian.snn.surrogate import Exponential, PeriodicExponential, Surrogate, Triangular
from mtt_brian.text import shown

#: The neuron of the paper's event-driven experiments.
DEFAULT_NEURON = IF(threshold=1.0, spikes="many", reset="subtract", lower_bound=-1.0)

#: Largest factor of the numbers of channels, and largest number of classes.
MOST_WIDTH, MOST_CLASSES = 1000, 1_000_000
#: Types of values in a config, by name.
_TYPES: dict[str, type] = {c.__name__: c for c in (IF, LIF, Triangular, Exponential, PeriodicExponential)}


class Model(Protocol):
    """A function of the zoo: makes a freshly initialised network."""

    __name__: str

    def __call__(
        self,
        sensor_size: Sequence[int] = ...,
        num_classes: int = ...,
        neuron: IF = ...,
        *,
        surrogate: Surrogate = ...,
        norm: bool = ...,
        bias: bool = ...,
        width_multiplier: float = ...,
        blocks_per_stage: int | None = ...,
        transform: str = ...,
        decay_per_step: float | None = ...,
        duration: float | None = ...,
    ) -> Staged:
        """A freshly initialised network.

        Args:
            sensor_size: (C, H, W) of a frame; two channels, the polarities, where the default has two.
            num_classes: number of logits.
            neuron, surrogate, decay_per_step, duration: see `Spiking`.
            norm: whether a batch norm follows every convolution; `norm.fold` merges it into the weights.
            bias: whether convolutions have a bias, as after folding a norm. Linear layers have none.
            width_multiplier: times as many channels and hidden units (rounded, at least one), for small variants.
            blocks_per_stage, transform: see `Staged`.

        Raises:
            InputError: for a sensor with another number of channels, or another bad value.
        """
        ...


def model(sensor_size: tuple[int, int, int], *, norm: bool) -> Callable[[Callable[[Layout], None]], Model]:
    """Decorator: a function that adds the hidden layers becomes a model with the options of `Model`.

    Args:
        sensor_size, norm: defaults of the model's options.
    """
    default_size, default_norm = sensor_size, norm

    def decorate(lay_out: Callable[[Layout], None]) -> Model:
        name = lay_out.__name__

        def make(
            sensor_size: Sequence[int] = default_size,
            num_classes: int = 10,
            neuron: IF = DEFAULT_NEURON,
            *,
            surrogate: Surrogate = DEFAULT_SURROGATE,
            norm: bool = default_norm,
            bias: bool = False,
            width_multiplier: float = 1.0,
            blocks_per_stage: int | None = 1,
            transform: str = "hard",
            decay_per_step: float | None = None,
            duration: float | None = None,
        ) -> Staged:
            _check_size(name, sensor_size, default_size)
            check_whole("num_classes", num_classes, most=MOST_CLASSES, least=1)
            for option, value in (("norm", norm), ("bias", bias)):
                check_flag(option, value)
            if not check_number("width_multiplier", width_multiplier, most=MOST_WIDTH) > 0:
                raise InputError(f"width_multiplier must be > 0, not {width_multiplier}")
            if not is_dataclass(surrogate) or isinstance(surrogate, type):
                raise InputError(f"surrogate must be one of snn.surrogate, not {shown(surrogate)}")
            layout = Layout(
                sensor_size,
                lambda: Spiking(neuron, surrogate, decay_per_step=decay_per_step, duration=duration),
                norm=norm,
                bias=bias,
                width_multiplier=width_multiplier,
            )
            lay_out(layout)
            layout.readout(num_classes)
            network = Staged(
                layout.layers,
                sensor_size,
                blocks_per_stage=blocks_per_stage,
                block_ends=layout.block_ends,
                transform=transform,
            )
            network.config = {
                "name": name,
                "sensor_size": [int(n) for n in sensor_size],
                "num_classes": num_classes,
                "neuron": _to_plain(neuron),
                "surrogate": _to_plain(surrogate),
                "norm": norm,
                "bias": bias,
                "width_multiplier": width_multiplier,
                "blocks_per_stage": blocks_per_stage,
                "transform": transform,
                "decay_per_step": decay_per_step,
                "duration": duration,
            }
            return network

        make.__name__ = make.__qualname__ = name
        make.__module__ = lay_out.__module__
        options = (inspect.getdoc(Model.__call__) or "").partition("\n\n")[2]
        make.__doc__ = f"{inspect.getdoc(lay_out)}\n\n{options}"
        return make

    return decorate


def _to_plain(value: Any) -> dict[str, Any]:
    """JSON-able: its fields and its type's name."""
    return {"type": type(value).__name__, **asdict(value)}


def from_plain(value: Any) -> Any:
    """The argument of the model for a value of ``model.config``: rules and surrogates are rebuilt.

    Raises:
        InputError: for a type that a config may not contain.
    """
    if not isinstance(value, Mapping):
        return value
    fields = dict(value)
    kind = fields.pop("type", None)
    if kind not in _TYPES:
        raise InputError(f"unknown type {kind!r} in a model's config; there are: {', '.join(_TYPES)}")
    return _TYPES[kind](**fields)


def _check_size(name: str, size: Sequence[int], default: tuple[int, int, int]) -> None:
    channels = 2 if default[0] == 2 else None
    array = read_array(size)
    if array.shape != (3,) or array.dtype.kind not in "iu" or min(size) < 1 or (channels and size[0] != channels):
        raise InputError(f"{name} needs a sensor of size ({channels or 'channels'}, height, width), not {shown(size)}")
