"""Every file under training/configs: it parses, and its network exists and fits its data."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mtt_brian import events, mtt
from mtt_brian.mtt.config import read_config

CONFIGS = Path(__file__).parents[1] / "training" / "configs"
FILES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.toml"))

#: The paper's recipes: T_max, epochs, batch size, optimizer, learning rate (papers' table, from the authors' code).
RECIPES = {
    "cifar10_resnet19.toml": (6, 300, 256, "sgd", 0.1),
    "cifar100_resnet18.toml": (6, 300, 256, "sgd", 0.1),
    "cifar10_vgg14.toml": (5, 300, 256, "sgd", 0.1),
    "cifar10dvs_resnet18.toml": (10, 300, 50, "sgd", 0.1),
    "ncaltech101_resnet18.toml": (10, 300, 50, "sgd", 0.1),
    "cifar10dvs_events.toml": (10, 300, 32, "adamw", 1e-3),
    "dvsgesture_events.toml": (40, 100, 32, "adamw", 1e-3),
}

#: A second phase, and the first one whose settings it goes on with.
SECOND_PHASES = {
    "cifar10dvs_events_bias_removal.toml": "cifar10dvs_events.toml",
    "dvsgesture_events_bias_removal.toml": "dvsgesture_events.toml",
    "small/bias_removal.toml": "small/digits_norm.toml",
}


def settings(file: str) -> mtt.TrainConfig:
    values = read_config(CONFIGS / file)
    if file in SECOND_PHASES:
        values = read_config(CONFIGS / SECOND_PHASES[file]) | {"init": "RUN"} | values
    return mtt.TrainConfig(**values)


def nothing_of(config: mtt.TrainConfig) -> mtt.Data:
    """The data set without its data."""
    source = events.DATASETS[config.dataset]
    common = {
        "name": source.name,
        "title": source.title,
        "split": "train",
        "classes": list(source.classes),
        "sensor_size": source.sensor_size,
        "ids": [],
        "labels": np.zeros(0, np.int64),
    }
    if isinstance(source, events.ImageDataset):
        pixels = np.zeros((0, *source.sensor_size), np.uint8)
        return events.Images(**common, pixels=pixels, mean=source.mean, std=source.std)
    data = events.Recordings(**common, duration_us=source.duration_us, read=lambda identifier: np.zeros(0))
    return data if config.resolution is None else events.at_resolution(data, config.resolution)


@pytest.mark.parametrize("file", FILES)
def test_its_network_fits_its_data(file: str) -> None:
    config = settings(file)
    data = nothing_of(config)
    with torch.device("meta"):
        model = mtt.build_model(replace(config, device="meta"), data)
    steps = [config.time_steps] * model.num_stages
    frames = torch.empty(3, 2, *data.sensor_size, device="meta")
    assert model.train().readouts(frames, steps).shape == (config.time_steps, 2, len(data.classes))


@pytest.mark.parametrize("file", FILES)
def test_it_states_its_purpose_in_short_lines(file: str) -> None:
    text = (CONFIGS / file).read_text()
    assert text.startswith("# ")
    assert max(map(len, text.splitlines())) <= 120
    assert file.startswith("small/") or re.search(r"MTT\s+(# )?paper", text)
    assert file in SECOND_PHASES or events.DATASETS[settings(file).dataset].name in ("digits",) or "Data: " in text


@pytest.mark.parametrize("file", RECIPES)
def test_the_recipes_are_those_of_the_paper(file: str) -> None:
    c = settings(file)
    assert (c.time_steps, c.epochs, c.batch_size, c.optimizer, c.lr) == RECIPES[file]
    assert c.seed == 1000
    assert c.schedule == "cosine"


def test_second_phases() -> None:
    assert {file for file in FILES if "bias_removal" in file} == SECOND_PHASES.keys()
    fine_tuning = settings("cifar10dvs_events_bias_removal.toml")
    assert (fine_tuning.phase, fine_tuning.epochs, fine_tuning.optimizer, fine_tuning.lr) == (
        "bias-removal",
        60,
        "sgd",
        1e-3,
    )
    assert (fine_tuning.model, fine_tuning.roll, fine_tuning.batch_size) == ("vgg9", 20, 32)
