"""Comparisons of networks: two predictions for the same recordings, several seeds of one training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.errors import InputError
from mtt_brian.evaluate.metrics import Estimate, correct_predictions


def gap(predicted: ArrayLike, others: ArrayLike, labels: ArrayLike) -> Estimate:
    """``accuracy(predicted) - accuracy(others)`` on the same recordings, with its paired standard error.

    Only recordings with exactly one correct prediction contribute. The error is the standard deviation of
    ``correct - correct`` (-1, 0 or 1 per recording) over the square root of N, which is smaller than that of two
    separate accuracies if the predictions mostly agree.

    Args:
        predicted, others: classes [N].
        labels: classes [N].

    Raises:
        InputError: as `metrics.correct_predictions`.
    """
    return mean_estimate(
        correct_predictions(predicted, labels).astype(np.float64) - correct_predictions(others, labels)
    )


def mean_estimate(values: ArrayLike) -> Estimate:
    """Mean of N values, and its standard error: their standard deviation over the square root of N.

    Args:
        values: [N], N >= 1.
    """
    values = np.asarray(values, dtype=np.float64)
    return Estimate(float(values.mean()), float(values.std() / np.sqrt(values.size)))


def over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """Mean over runs that differ in their seed, with the standard error of that mean.

    The error is the sample standard deviation over the seeds divided by the square root of their number: it contains
    the variation of the training, but not that of the test recordings, which all seeds share. A single run keeps its
    own error, which contains only the variation of the test recordings.

    Raises:
        InputError: if there is none.
    """
    if not estimates:
        raise InputError("no mean over seeds without a run")
    if len(estimates) == 1:
        return Estimate(*estimates[0])
    values = np.array([value for value, _ in estimates])
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


def same_but_seed(configs: Mapping[str, Mapping[str, Any]], ignored: Collection[str] = ()) -> dict[str, list[str]]:
    """Runs that may be averaged: those of one method with the same settings.

    Args:
        configs: settings by name of the run, each with its ``"method"``.
        ignored: settings besides the seed that may differ within a group, because they do not affect the training.

    Returns:
        Names of the runs by label, which is the method. Runs of one method that differ in other settings are separate
        groups, and the label contains the difference: ``"mtt, samples 5"``.
    """
    groups: dict[str, list[str]] = {}
    for name, config in configs.items():
        rivals = [other for other in configs.values() if other["method"] == config["method"]]
        keys = sorted(set().union(*rivals) - {"seed", *ignored})
        differing = [key for key in keys if any(other.get(key) != config.get(key) for other in rivals)]
        label = ", ".join([config["method"], *(f"{key} {_as_an_option(config.get(key))}" for key in differing)])
        groups.setdefault(label, []).append(name)
    return groups


def _as_an_option(value: Any) -> str:
    """A setting as on the command line."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
