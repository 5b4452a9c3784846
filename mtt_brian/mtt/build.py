"""The network of the settings, for the sensor and the classes of the data."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from mtt_brian.errors import InputError, check_kind
from mtt_brian.events import Recordings
from mtt_brian.mtt.config import TrainConfig
from mtt_brian.mtt.frame_dataset import Data, check_data
from mtt_brian.neuron import IF, LIF
from mtt_brian.snn import Staged, models, surrogate
from mtt_brian.text import one_line, shown

_SURROGATES: dict[str, Callable[[float], surrogate.Surrogate]] = {
    "periodic": surrogate.PeriodicExponential,
    "exponential": lambda width: surrogate.Exponential(1 / width),
    "triangular": surrogate.Triangular,
}


def build_model(config: TrainConfig, data: Data) -> Staged:
    """The network of the settings, newly initialised from ``config.seed``, on ``config.device``.

    Args:
        config: the settings.
        data: recordings or images, which define the sensor, the classes and, for a time constant in seconds, the usual
            duration.

    Raises:
        InputError: if the model's name is unknown, the model does not fit the data or the memory of the machine, or
            there is no such device.
    """
    check_kind("config", config, TrainConfig)
    check_data(data)
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
            raise InputError(f"tau: {data.title} has no seconds; give decay, the decay factor of the membrane per step")
        options["duration"] = data.duration_us / 1e6
    device = _find_device(config.device)
    make = partial(
        models.build,
        config.model,
        sensor_size=data.sensor_size,
        num_classes=len(data.classes),
        neuron=rule,
        surrogate=_SURROGATES[config.surrogate](config.width),
        **options,
    )
    _check_room(make, config, data, device)
    torch.manual_seed(config.seed)
    return make().to(device)


def check_computes(name: str) -> None:
    """Refuses a device on which a network can be built, but not trained.

    Raises:
        InputError: for torch's "meta", which has no memory.
    """
    if _find_device(name).type == "meta":
        raise InputError(f"device {name!r} holds shapes without values: nothing can be trained on it; 'cpu' always can")


def _find_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except Exception as error:  # a missing back end raises exceptions of any type
        raise InputError(f"device {shown(name)} cannot be used ({one_line(error, 150)}); 'cpu' always can") from None
    return device


def _check_room(make: Callable[[], Staged], config: TrainConfig, data: Data, device: torch.device) -> None:
    """Refuses a network that does not fit into the memory of the machine during training.

    The estimate is a lower bound of the memory of an iteration: weights with their gradients and two moments, the
    frames of a batch and the membranes of one pass.
    """
    try:
        with torch.device("meta"):
            model = make()
    except (RuntimeError, OverflowError, MemoryError) as error:
        raise InputError(
            f"width_multiplier = {config.width_multiplier:g}: too large a network ({one_line(error)})"
        ) from None
    weights = sum(parameter.numel() for parameter in model.parameters())
    fewest, at_once = config.min_steps, min(config.together or config.samples, config.samples)
    if config.method == "sdt":
        fewest, at_once = config.time_steps, 1
    neurons = sum(math.prod(model.shapes[name]) for name in model.populations() if name in model.shapes)
    items = min(config.batch_size, max(len(data), 1))
    membranes = neurons * items * fewest * at_once
    frames = math.prod(model.input_shape) * items * (config.time_steps if isinstance(data, Recordings) else 1)
    needed, there = 4 * (4 * weights + membranes + frames), _memory(device)
    if there is not None and needed > there:
        raise InputError(
            f"{config.model} with {weights:,} weights needs at least {needed / 1e9:,.0f} GB to be trained, and this"
            f" machine has {there / 1e9:,.0f} GB: lower width_multiplier = {config.width_multiplier:g},"
            f" batch_size = {config.batch_size}, samples = {config.samples} or time_steps = {config.time_steps}, or"
            " give together"
        )


def _memory(device: torch.device) -> int | None:
    """All bytes of the device; None if unknown."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "cpu" and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
        return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return None
