"""From the settings to a network that fits the recordings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from mtt_brian.errors import InputError
from mtt_brian.events import Recordings
from mtt_brian.mtt.config import TrainConfig
from mtt_brian.mtt.frames import Data
from mtt_brian.neuron import IF, LIF
from mtt_brian.snn import Staged, models, surrogate

_SURROGATES: dict[str, Callable[[float], surrogate.Surrogate]] = {
    "periodic": surrogate.PeriodicExponential,
    "exponential": lambda width: surrogate.Exponential(1 / width),
    "triangular": surrogate.Triangular,
}


def build_model(config: TrainConfig, data: Data) -> Staged:
    """The network that the settings describe, freshly initialised from ``config.seed``, on ``config.device``.

    Args:
        config: the settings.
        data: recordings or images, which give the sensor, the classes and, for a time constant in seconds, the usual
            duration.

    Raises:
        InputError: if the model's name is unknown, it does not fit the data, or there is no such device.
    """
    rule = IF(threshold=1.0, reset=config.reset, spikes=config.spikes, lower_bound=config.lower_bound)
    options: dict[str, Any] = {
        "width_multiplier": config.width_multiplier,
        "blocks_per_stage": config.blocks_per_stage,
        "transform": config.transform,
    }
    if config.decay is not None:
        options["decay_per_step"] = config.decay
    if config.tau is not None:
        rule = LIF(**vars(rule), tau=config.tau)
        if not isinstance(data, Recordings):
            raise InputError(f"tau: {data.title} has no seconds; give decay, what the membrane keeps from step to step")
        options["duration"] = data.duration_us / 1e6
    device = _find_device(config.device)
    torch.manual_seed(config.seed)
    model = models.build(
        config.model,
        sensor_size=data.sensor_size,
        num_classes=len(data.classes),
        neuron=rule,
        surrogate=_SURROGATES[config.surrogate](config.width),
        **options,
    )
    return model.to(device)


def _find_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} cannot be used ({str(error).splitlines()[0]}); 'cpu' always can") from None
    return device
