"""Checkpoints: the complete state of a training run, which resumes from it bit for bit.

A checkpoint holds tensors and plain values only and is read with ``weights_only=True``, so an untrusted file runs no
code. It is written to a temporary name and renamed: a run that is killed while writing keeps its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mtt_brian.errors import InputError, check_choice
from mtt_brian.files import as_path, replacing
from mtt_brian.mtt.contents import check_contents
from mtt_brian.snn import Staged, models
from mtt_brian.text import one_line, shown

#: Version of the layout below; a reader refuses any other.
FORMAT = 1
#: Name of the checkpoint in a run folder.
FILE_NAME = "checkpoint.pt"


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A training run at the end of an epoch.

    Attributes:
        model_config: ``model.config``, from which the network is rebuilt.
        config: the training settings (`TrainConfig.as_dict`).
        epoch: finished epochs.
        weights: the network's state dict.
        best: the state dict of the best validation epoch, if there are validation recordings.
        optimizer, scheduler: their state dicts.
        rng: states of all random number generators, by name.
        history: metrics of every finished epoch.
    """

    model_config: dict[str, Any]
    config: dict[str, Any]
    epoch: int
    weights: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor] | None
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    rng: dict[str, Any]
    history: list[dict[str, Any]]

    @property
    def final_weights(self) -> dict[str, torch.Tensor]:
        """The result of the run: the last weights, or with ``keep_best`` those of the best validation epoch."""
        return self.best if self.config["keep_best"] and self.best is not None else self.weights

    def save(self, path: str | Path) -> None:
        """Writes the checkpoint; an older one at ``path`` is kept until the new one is complete."""
        # asdict() would copy every tensor
        content = {item.name: getattr(self, item.name) for item in fields(self)}
        with replacing(path) as temporary:
            torch.save({"format": FORMAT, **content}, temporary)


def load(path: str | Path) -> Checkpoint:
    """Reads a checkpoint onto the CPU; settings that are newer than the checkpoint have their defaults.

    Args:
        path: the file, or a run folder that holds it as ``checkpoint.pt``.

    Raises:
        InputError: if there is none, it is damaged, contains more than tensors and plain values, has another format, or
            has a value that no training writes, see `check_contents`.
    """
    path = as_path(path, "path")
    try:
        if path.is_dir():
            path = path / FILE_NAME
        there = path.is_file()
    except (OSError, ValueError) as error:  # an invalid file name
        raise InputError(f"no checkpoint at {shown(str(path))}: {one_line(error)}") from None
    if not there:
        raise InputError(f"no checkpoint at {path}; expected a run folder with a {FILE_NAME}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise InputError(f"{path}: {error.strerror or one_line(error)}") from None
    except Exception as error:  # torch raises exceptions of many types
        raise InputError(
            f"{path}: not a checkpoint: damaged, or more in it than tensors and plain values ({type(error).__name__})"
        ) from error
    names = {item.name for item in fields(Checkpoint)}
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise InputError(f"{path}: checkpoint format {shown(found)} cannot be read; expected {FORMAT}")
    if content.keys() != names | {"format"}:
        raise InputError(f"{path}: checkpoint without {', '.join(sorted(names - content.keys())) or 'a known layout'}")
    try:
        content["config"] = check_contents(content).as_dict()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return Checkpoint(**{name: content[name] for name in names})


def load_model(path: str | Path, epoch: Literal["final", "best", "last"] = "final") -> Staged:
    """The trained network of a run, ready for evaluation, rebuilt from its checkpoint.

    Args:
        path: the run folder, or its checkpoint.
        epoch: which weights: the last epoch's, those of the best validation epoch, or `Checkpoint.final_weights`.

    Raises:
        InputError: as `load`; if there is no best epoch because the run had no validation data; or if the weights do
            not fit the model that the checkpoint names.
    """
    check_choice("epoch", epoch, ("final", "best", "last"))
    saved = load(path)
    weights = {"final": saved.final_weights, "best": saved.best, "last": saved.weights}[epoch]
    if weights is None:
        raise InputError(f"{path}: no best epoch, because the run held no recordings back for validation")
    if not saved.model_config:
        raise InputError(
            f"{path}: the network is outside the zoo, and a checkpoint cannot rebuild it; build it, and call "
            "model.load_state_dict(mtt.checkpoint.load(path).final_weights)"
        )
    model = models.from_config(saved.model_config)
    try:
        model.load_state_dict(weights, assign=True)  # in their own precision
    except RuntimeError as error:
        raise InputError(f"{path}: the weights do not fit the model of the checkpoint ({one_line(error)})") from None
    return model.eval()


def check_same(kind: str, saved: Mapping[str, Any], wanted: Mapping[str, Any], free: Collection[str] = ()) -> None:
    """Refuses to continue a run with settings that differ from its first ones.

    Args:
        kind: name of the compared object in the message ("model", "config").
        saved: from the checkpoint.
        wanted: of the run that continues it.
        free: keys that may differ, because they do not change the result.

    Raises:
        InputError: naming every differing key with both values.
    """
    missing = object()

    def value_of(values: Mapping[str, Any], key: str) -> str:
        return shown(values.get(key, "absent"), 300)

    differing = [
        f"{key} is {value_of(saved, key)} in the checkpoint, {value_of(wanted, key)} here"
        for key in sorted(saved.keys() | wanted.keys())
        if key not in free and saved.get(key, missing) != wanted.get(key, missing)
    ]
    if differing:
        raise InputError(f"the checkpoint belongs to another {kind}: {'; '.join(differing)}")


def rng_state(generators: Mapping[str, np.random.Generator]) -> dict[str, Any]:
    """The states of ``generators`` and of torch's own, from which dropout draws."""
    return {
        **{name: generator.bit_generator.state for name, generator in generators.items()},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def set_rng_state(generators: Mapping[str, np.random.Generator], state: Mapping[str, Any]) -> None:
    """Restore a `rng_state`."""
    for name, generator in generators.items():
        generator.bit_generator.state = state[name]
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
