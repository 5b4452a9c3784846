"""Checks before the first iteration of a training: settings, data and network must fit together."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sized
from typing import Any

import numpy as np
import torch

from mtt_brian.errors import InputError
from mtt_brian.mtt import checkpoint as checkpoints
from mtt_brian.mtt.checkpoint import Checkpoint
from mtt_brian.mtt.config import FREE_TO_CHANGE, TrainConfig
from mtt_brian.mtt.contents import check_moments, check_of_network
from mtt_brian.mtt.frame_dataset import Data, FrameSet
from mtt_brian.snn import Staged, models, norm
from mtt_brian.snn.staged import name_of
from mtt_brian.text import one_line


def check_resume(resume: Checkpoint, model: Staged, config: TrainConfig) -> None:
    """Refuses a checkpoint of another network or of other settings.

    Raises:
        InputError: names every setting that differs, with both values.
    """
    if resume.model_config:
        # The model is rebuilt, so that options that are newer than the checkpoint have their defaults.
        checkpoints.check_same("model", models.from_config(resume.model_config).config, model.config)
    elif model.config:
        raise InputError(f"the checkpoint belongs to a network outside the zoo, not to {model.config['name']}")
    else:
        check_of_network(vars(resume), model, TrainConfig(**resume.config))
    if resume.epoch:
        check_moments(resume.optimizer, model, config)
    for name, weight in model.state_dict().items():
        if (saved := resume.weights[name].dtype) != weight.dtype:
            raise InputError(
                f"the checkpoint's weights are {name_of(saved)}, those of the network {name_of(weight.dtype)} "
                f"({name}): continue with model.to(torch.{name_of(saved)})"
            )
    checkpoints.check_same("config", _as_one_process(resume.config), _as_one_process(config.as_dict()), FREE_TO_CHANGE)


def _as_one_process(config: dict[str, Any]) -> dict[str, Any]:
    """The settings with the batch of all processes: the result depends on it, not on the number of processes."""
    batch_size = config["batch_size"] * config["processes"]
    rest = {key: value for key, value in config.items() if key not in ("batch_size", "processes")}
    return {"batch_size x processes": batch_size, **rest}


def check_gradients(model: Staged) -> None:
    """Refuses a training without gradients.

    Raises:
        InputError: names what turned them off.
    """
    if not torch.is_grad_enabled():
        raise InputError(
            "training needs gradients, which torch.no_grad(), torch.inference_mode() or torch.set_grad_enabled(False) "
            "has turned off here"
        )
    weights = list(model.parameters())
    if any(weight.is_inference() for weight in weights):
        raise InputError("the model was made in torch.inference_mode() and cannot be trained; make it outside")
    if not any(weight.requires_grad for weight in weights):
        raise InputError("no parameter of the model has requires_grad=True, and nothing would be trained")


def check_classes(model: Staged, data: Data, name: str = "data") -> None:
    """Refuses labels for which the network has no output.

    Raises:
        InputError: names the outputs and the classes.
    """
    *_, outputs = model.shapes.values()
    if len(data) and data.labels.max() >= outputs[0]:
        raise InputError(
            f"{name}: {data.title} has {len(data.classes)} classes, with labels up to {data.labels.max()}, and the"
            f" network has {outputs[0]} outputs"
        )


def check_sizes(data: Sized, validation: Collection[Any] | None, config: TrainConfig) -> None:
    """Refuses data that leave a process without an item.

    Raises:
        InputError: names the number of items and of processes, or the missing validation data.
    """
    if config.keep_best and not validation:
        raise InputError("keep_best needs validation recordings, which select the model")
    smallest_batch = len(data) // max(1, config.iterations(len(data)))
    for items, of in ((smallest_batch, "an iteration"), (len(validation or ()), "the validation")):
        if 0 < items < config.processes:
            raise InputError(
                f"{of} with {items} of the recordings cannot be shared by {config.processes} processes; start fewer, or"
                f" raise batch_size = {config.batch_size}, limit or validation"
            )


def check_norms(model: Staged, training: FrameSet, config: TrainConfig) -> None:
    """Refuses a batch of one item in which a batch norm receives a single value: it has no variance.

    With several processes a batch has at least one item for each.

    Raises:
        InputError: names the batch size and the number of time steps.
    """
    if config.processes > 1 or not norm.has_norms(model) or model.norms_locked:
        return
    fewest_steps = config.time_steps if config.method == "sdt" else config.min_steps
    smallest = {fewest_steps: len(training) // config.iterations(len(training))}
    whole, rest = divmod(len(training), config.batch_size)
    if rest and whole < config.calibration_batches:
        smallest[config.time_steps] = min(rest, smallest.get(config.time_steps, rest))
    for time_steps in (steps for steps, items in smallest.items() if items == 1):
        frames, _ = training.batch(np.zeros(1, dtype=np.int64))
        try:
            with torch.no_grad(), torch.random.fork_rng():
                copy.deepcopy(model).train()(frames, time_steps)
        except ValueError as error:
            raise InputError(
                f"batch_size = {config.batch_size}: one of the {len(training)} recordings alone at T = {time_steps}"
                f" is too little for the batch norms of the network ({one_line(error)})"
            ) from None
