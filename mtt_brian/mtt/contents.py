"""Checks of the contents of a checkpoint: every value has the type, shape and range of one that a training writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtt_brian.errors import InputError
from mtt_brian.mtt.config import TrainConfig, check_values
from mtt_brian.mtt.optimizer import make_optimizer, make_scheduler
from mtt_brian.snn import models
from mtt_brian.snn.staged import name_of
from mtt_brian.text import one_line, shown

_PLAIN = (bool, int, float, str, type(None))
#: State of the optimizer for each parameter: the number of steps, and tensors of the parameter's shape.
_KEPT: dict[str, set[str]] = {"adamw": {"step", "exp_avg", "exp_avg_sq"}, "sgd": {"momentum_buffer"}}


def check_contents(content: Mapping[str, Any]) -> TrainConfig:
    """Check the contents of a checkpoint without allocating a second network.

    Args:
        content: by name of the attribute of `Checkpoint`.

    Returns:
        The settings; settings that are newer than the checkpoint have their defaults.

    Raises:
        InputError: names the entry and what it should be.
    """
    for name in ("model_config", "config", "weights", "optimizer", "scheduler", "rng"):
        _require(isinstance(content[name], dict), name, "a dictionary", content[name])
        strange = [key for key in content[name] if not isinstance(key, str)]
        _require(not strange, f"{name}: keys", "texts", strange)
    for name in ("model_config", "config", "scheduler", "history"):
        _check_plain(name, content[name])
    config = _config_of(content["config"])
    epoch = content["epoch"]
    _require(
        type(epoch) is int and 0 <= epoch <= config.epochs, "epoch", f"a whole number in 0..{config.epochs}", epoch
    )
    _check_history(content["history"], epoch, validated=content["best"] is not None)
    if content["model_config"]:  # a network outside the zoo has none and cannot be rebuilt: see `check_of_network`
        check_of_network(content, _model_of(content["model_config"]), config)
    _check_rng(content["rng"])
    return config


def check_of_network(content: Mapping[str, Any], model: nn.Module, config: TrainConfig) -> None:
    """Check the weights of a checkpoint, and the state of its optimizer, for a network.

    Args:
        content: see `check_contents`.
        model: the network; only shapes and types of its weights are read.
        config: the settings of the checkpoint.

    Raises:
        InputError: names the entry and what it should be.
    """
    for name in ("weights", "best"):
        if content[name] is not None or name == "weights":
            _check_weights(name, content[name], model)
    _check_optimizer(content["optimizer"], content["scheduler"], model, config, content["epoch"])


def check_moments(optimizer: Mapping[str, Any], model: nn.Module, config: TrainConfig) -> None:
    """Check that the optimizer has a state for every trained parameter, after the first epoch.

    Raises:
        InputError: names a parameter without one.
    """
    for number, (name, parameter) in enumerate(model.named_parameters()):
        trained = parameter.requires_grad and not (config.phase == "bias-removal" and name.endswith("bias"))
        if trained and not _has_no_memory(config) and number not in optimizer["state"]:
            raise InputError(f"the optimizer of the checkpoint has no state for {name}, which is trained here")


def _require(right: bool, name: str, expected: str, found: Any) -> None:
    if not right:
        found = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else shown(found)
        raise InputError(f"{name} must be {expected}, not {found}")


def _check_plain(name: str, value: Any, depth: int = 0) -> None:
    """Only the types of a JSON file, and tuples, whose comparisons give a truth value."""
    _require(depth < 8, name, "nested less deeply", value)
    if isinstance(value, dict):
        for key, entry in value.items():
            _require(isinstance(key, str), f"{name}: keys", "texts", key)
            _check_plain(f"{name}: {shown(key)}", entry, depth + 1)
    elif isinstance(value, list | tuple):
        for entry in value:
            _check_plain(name, entry, depth + 1)
    else:
        _require(isinstance(value, _PLAIN), name, "a plain value", value)


def _is_plain_tensor(value: Any) -> bool:
    """Whether it is a dense tensor with values."""
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta


def _is_number(value: Any) -> bool:
    """Any finite float, as a loss can be one, or an integer of 64 bits."""
    return (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) < 2**63)


def _config_of(values: dict[str, Any]) -> TrainConfig:
    return TrainConfig(**check_values(values, "config"))


def _check_history(history: Any, epoch: int, validated: bool) -> None:
    right = isinstance(history, list) and len(history) == epoch and all(isinstance(row, dict) for row in history)
    found = f"{type(history).__name__} of {len(history)}" if isinstance(history, list) else history
    _require(right, "history", f"a list of {epoch} dictionaries, one per epoch", found)
    for number, row in enumerate(history, start=1):
        what = f"history, epoch {number}"
        _require(all(isinstance(key, str) for key in row), f"{what}: keys", "texts", list(row))
        strange = {key: value for key, value in row.items() if not _is_number(value)}
        _require(not strange, what, "finite numbers", strange)
        missing = {"epoch", "loss", "train_accuracy"} - row.keys()
        _require(not missing, what, "loss and accuracy", row)
        _require(row["epoch"] == number, f"{what}: epoch", str(number), row["epoch"])
        _require(
            ("validation_accuracy" in row) == validated,
            f"{what}: validation_accuracy",
            "there in all epochs if best holds the weights of one of them, else in none",
            row,
        )


def _model_of(config: dict[str, Any]) -> nn.Module:
    """The network without memory for its weights."""
    try:
        with torch.device("meta"):
            return models.from_config(config)
    except InputError as error:
        raise InputError(f"model_config: {error}") from None
    except Exception as error:  # torch and Python raise exceptions of many types for an invalid value
        raise InputError(f"model_config: not the config of a model ({one_line(error)})") from None


def _check_tensor(name: str, value: Any, like: Tensor) -> None:
    shape = tuple(like.shape)
    types = (torch.float32, torch.float64) if like.is_floating_point() else (like.dtype,)
    expected = f"a tensor of shape {shape} and type {' or '.join(map(name_of, types))}"
    _require(_is_plain_tensor(value) and tuple(value.shape) == shape, name, expected, value)
    if value.dtype not in types:
        raise InputError(f"{name} must be {expected}, not {name_of(value.dtype)}")
    if not torch.isfinite(value).all():
        raise InputError(f"{name} must be finite; it holds NaN or infinite values")


def _check_weights(name: str, weights: Any, model: nn.Module) -> None:
    _require(isinstance(weights, dict), name, "a dictionary of tensors", weights)
    wanted = model.state_dict()
    try:
        if differing := sorted(map(str, wanted.keys() ^ weights.keys())):
            raise InputError(f"{shown(differing[0])} is in one of them only")
        for key, like in wanted.items():
            _check_tensor(key, weights[key], like)
    except InputError as error:
        raise InputError(f"{name} do not fit the model of the checkpoint: {error}") from None


def _check_optimizer(
    saved: dict[str, Any], schedule: dict[str, Any], model: nn.Module, config: TrainConfig, epoch: int
) -> None:
    optimizer = make_optimizer(model, config)
    scheduler = make_scheduler(optimizer, config.schedule, config.epochs)
    _check_scheduler(schedule, scheduler, config, epoch)
    (group,) = optimizer.state_dict()["param_groups"]
    found: Any = saved.get("param_groups")
    right = isinstance(found, list) and len(found) == 1 and isinstance(found[0], dict)
    _require(right, "optimizer: param_groups", "a list of one dictionary", found)
    _check_plain("optimizer: param_groups", found)
    # Other keys depend on the version of torch.
    for key, value in found[0].items():
        what = f"optimizer: {shown(key)}"
        if key in ("lr", "initial_lr"):
            _check_rate(what, value, config, epoch if key == "lr" else 0)
        elif key == "fused":  # by the device of the run, which may change
            _require(value in (None, False, True), what, "true, false or none", value)
        elif key in group:
            _require(type(value) in (list, tuple, *_PLAIN) and value == group[key], what, shown(group[key]), value)
        else:
            _require(isinstance(value, _PLAIN), what, "a plain value", value)
    _require({"lr", "params"} <= found[0].keys(), "optimizer: param_groups", "complete", list(found[0]))

    saved["param_groups"] = [group | found[0]]

    parameters, wanted = list(model.parameters()), set() if _has_no_memory(config) else _KEPT[config.optimizer]
    state: Any = saved.get("state")
    _require(isinstance(state, dict), "optimizer: state", "a dictionary", state)
    for number, kept in state.items():
        what = f"optimizer: state of parameter {shown(number)}"
        _require(type(number) is int and 0 <= number < len(parameters), what, f"one of {len(parameters)}", number)
        _require(isinstance(kept, dict), what, "a dictionary", kept)
        if missing := sorted(wanted - kept.keys()):
            raise InputError(f"{what} has no {missing[0]}")
        for key, value in kept.items():
            if key == "step":
                step = value.item() if _is_plain_tensor(value) and value.numel() == 1 else value
                _require(_is_number(step) and step >= 0, f"{what}: step", "a number >= 0", value)
            elif value is not None or key in wanted:
                _check_tensor(f"{what}: {shown(key)}", value, parameters[number])


def _has_no_memory(config: TrainConfig) -> bool:
    """Whether the optimizer's next step depends on the gradient only."""
    return config.optimizer == "sgd" and config.momentum == 0


def _check_rate(what: str, value: Any, config: TrainConfig, epoch: int) -> None:
    """A learning rate after ``epoch`` epochs."""
    wave = math.cos(math.pi * epoch / config.epochs) if config.schedule == "cosine" else 1.0
    expected = config.lr * (1 + wave) / 2
    right = _is_number(value) and abs(value - expected) <= 1e-6 * config.lr
    _require(right, what, f"{expected:g} after {epoch} epochs", value)


def _check_scheduler(saved: dict[str, Any], fresh: Any, config: TrainConfig, epoch: int) -> None:
    wanted = fresh.state_dict() | {"last_epoch": epoch, "_step_count": epoch + 1}
    if missing := sorted({"last_epoch", "base_lrs", "_last_lr"} - saved.keys()):
        raise InputError(f"scheduler has no {missing[0]}")
    for key, value in saved.items():
        what = f"scheduler: {shown(key)}"
        if key == "_last_lr":
            _require(isinstance(value, list) and len(value) == 1, what, "a list of one number", value)
            _check_rate(what, value[0], config, epoch)
        elif key in wanted and not isinstance(wanted[key], bool):
            _require(type(value) is type(wanted[key]) and value == wanted[key], what, shown(wanted[key]), value)
        else:  # of another version of torch
            right = isinstance(value, _PLAIN) and isinstance(getattr(type(fresh), key, None), _PLAIN)
            _require(right, what, "a plain value under a known name", value)


def _check_rng(states: dict[str, Any]) -> None:
    for name in ("order", "time_steps", "torch", "cuda"):
        if name not in states:
            raise InputError(f"rng has no {name}")
        try:
            if name == "cuda":
                right = isinstance(states[name], list)
                right = right and all(_is_plain_tensor(s) and s.dtype is torch.uint8 for s in states[name])
                _require(right, "rng: cuda", "a list of tensors of bytes", states[name])
            elif name == "torch":
                torch.Generator().set_state(states[name])
            else:
                _check_plain(f"rng: {name}", states[name])
                np.random.default_rng().bit_generator.state = states[name]
        except InputError:
            raise
        except Exception as error:  # numpy and torch raise exceptions of many types for an invalid state
            raise InputError(f"rng: {name} is no state of a random number generator ({one_line(error)})") from None
