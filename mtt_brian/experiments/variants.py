"""Variants of MTT: trainings that differ in stages, samples and calibration, and their comparison."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.evaluate import Estimate, accuracy
from mtt_brian.evaluate.statistics import gap, over_seeds
from mtt_brian.evaluate.tables import Table, in_percent
from mtt_brian.experiments import run_folder
from mtt_brian.experiments.inference import Condition
from mtt_brian.experiments.run_folder import Run, Splits
from mtt_brian.mtt import TrainConfig
from mtt_brian.text import number_of


class Variant(NamedTuple):
    """Settings in which variants differ, see `TrainConfig`; one factor at a time is moved from these values."""

    blocks_per_stage: int | None = 1
    samples: int = 3
    calibration_batches: int = 10

    def __str__(self) -> str:
        """``"g = all, s = 3"``, and c if it differs from the default."""
        c = self.calibration_batches
        varied = "" if c == BASE.calibration_batches else f", c = {c}"
        return f"g = {self.blocks_per_stage or 'all'}, s = {self.samples}{varied}"


BASE = Variant()


class VariantResult(NamedTuple):
    """A variant under one condition.

    Attributes:
        accuracy: mean over the seeds.
        change: of the accuracy from another variant, seed by seed and recording by recording.
        accuracy_by_seed: of every seed.
        synops_per_recording: mean synaptic operations.
    """

    accuracy: Estimate
    change: Estimate
    accuracy_by_seed: list[Estimate]
    synops_per_recording: float


def train_variants(
    shared: TrainConfig, variants: Sequence[Variant], seeds: Sequence[int], splits: Splits, folder: Path
) -> dict[tuple[Variant, int], Run]:
    """Train every variant with every seed, by MTT; existing networks in the folder are not trained again.

    Args:
        shared: the other settings.
        variants: to train.
        seeds: of the trainings.
        splits: of `run_folder.load_splits`.
        folder: of the run folders; a line is printed for each.

    Raises:
        InputError: for invalid settings, before the first training starts.
    """
    configs = {
        (variant, seed): dataclasses.replace(shared, **variant._asdict(), seed=seed)
        for variant, seed in itertools.product(variants, seeds)
    }
    print(f"{len(configs)} networks, MTT, T <= {shared.time_steps}, {number_of(shared.epochs, 'epoch')} -> {folder}")
    runs: dict[tuple[Variant, int], Run] = {}
    for (variant, seed), config in configs.items():
        print(f"{len(runs) + 1}/{len(configs)}: {variant}, seed {seed}")
        name = f"{variant}-{seed}".replace(" = ", "-").replace(", ", "-")
        runs[variant, seed] = run_folder.trained(config, splits, folder / name)
    return runs


def compare(seeds: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]], labels: ArrayLike) -> VariantResult:
    """The result of a variant, and its change from another one.

    Args:
        seeds: ``"classes"`` [N] that are predicted and ``"synops"`` of every seed.
        base: those of the other variant, with the same seeds.
        labels: classes [N].
    """
    accuracies = [accuracy(seed["classes"], labels) for seed in seeds]
    changes = [gap(seed["classes"], other["classes"], labels) for seed, other in zip(seeds, base, strict=True)]
    synops = float(np.mean([seed["synops"] for seed in seeds]))
    return VariantResult(over_seeds(accuracies), over_seeds(changes), accuracies, synops)


def result_table(results: Mapping[Variant, Mapping[Condition, VariantResult]]) -> Table:
    """One row per variant; for each condition the accuracy, and event-driven also the change from `BASE`."""
    conditions = list(results[BASE])
    event_driven = [condition for condition in conditions if condition.mode != "time-stepped"]
    rows = []
    for variant, of in results.items():
        changes = ["" if variant == BASE else in_percent(of[c].change, sign=True) for c in event_driven]
        synops = f"{of[Condition('sum')].synops_per_recording:,.0f}"
        rows.append([str(variant), *(in_percent(of[c].accuracy) for c in conditions), *changes, synops])
    header = ["", *map(str, conditions), *(f"change, {c}" for c in event_driven), "SynOps, sum"]
    return Table.of_rows("Accuracy in %", header, rows)
