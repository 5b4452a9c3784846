"""The model zoo: networks by name, built from plain values so that a checkpoint can rebuild them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mtt_brian.errors import InputError
from mtt_brian.neuron import IF
from mtt_brian.snn.models.dvsgesture import dvsgesture_net
from mtt_brian.snn.models.model import DEFAULT_NEURON, Model, from_plain
from mtt_brian.snn.models.nmnist import nmnist_3c1fc
from mtt_brian.snn.models.resnet import resnet18, resnet18_dvs, resnet19
from mtt_brian.snn.models.vgg import vgg9, vgg14, vggsnn
from mtt_brian.snn.neurons import DEFAULT_SURROGATE
from mtt_brian.snn.staged import Staged
from mtt_brian.snn.surrogate import Surrogate
from mtt_brian.text import one_line

#: The zoo. For event cameras: the first five; for static images: the others.
MODELS: dict[str, Model] = {
    make.__name__: make
    for make in (nmnist_3c1fc, dvsgesture_net, vgg9, vggsnn, resnet18_dvs, resnet18, resnet19, vgg14)
}

__all__ = [
    "DEFAULT_NEURON",
    "MODELS",
    "build",
    "dvsgesture_net",
    "from_config",
    "nmnist_3c1fc",
    "resnet18",
    "resnet18_dvs",
    "resnet19",
    "vgg9",
    "vgg14",
    "vggsnn",
]


def __dir__() -> list[str]:
    return sorted(__all__)


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
        InputError: for an unknown name or option, or invalid values.
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
        InputError: for a config that is incomplete or has unknown keys or values.
    """
    try:
        return build(**{key: from_plain(value) for key, value in config.items()})
    except TypeError as error:
        raise InputError(f"not the config of a model: {one_line(error)}") from None
