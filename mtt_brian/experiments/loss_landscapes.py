"""The loss of a trained run around its weights, time-stepped at T_max."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from mtt_brian import events, snn
from mtt_brian.evaluate import Estimate
from mtt_brian.evaluate.statistics import over_seeds
from mtt_brian.evaluate.tables import Table
from mtt_brian.events import Recordings
from mtt_brian.experiments import inference
from mtt_brian.experiments.perturbations import generator
from mtt_brian.experiments.run_folder import Run
from mtt_brian.mtt import loss_landscape
from mtt_brian.mtt.loss_landscape import Gradient, Landscape


def gradient(run: Run, recordings: Recordings) -> Gradient:
    """The loss, and its gradient with respect to the weights."""
    return loss_landscape.gradient(*_model_and_frames(run, recordings), recordings.labels)


def landscape(run: Run, recordings: Recordings, offsets: np.ndarray, directions: Sequence[int]) -> Landscape:
    """Loss and accuracy along one random direction, or over the plane or space of several.

    Args:
        run: the network.
        recordings: N of them.
        offsets: distances from the weights [K], along every direction.
        directions: their numbers [D]; a number is the same direction for all runs of one architecture.

    Returns:
        Arrays [K, ...] with D axes.
    """
    model, frames = _model_and_frames(run, recordings)
    drawn = [loss_landscape.filter_normalised(model, generator(f"direction {number}")) for number in directions]
    points = np.stack(np.meshgrid(*[offsets] * len(drawn), indexing="ij"), axis=-1)
    return loss_landscape.landscape(model, frames, recordings.labels, drawn, points)


def gradient_table(groups: Mapping[str, Sequence[str]], gradients: Mapping[str, Mapping[str, float]]) -> Table:
    """The `Gradient` of every run, by its fields, as means over the seeds of a group."""
    names = {
        "loss": "loss",
        "norm": "norm of the gradient",
        "relative": "norm of the gradient times norm of the weights",
    }
    rows = [
        [name, *(_mean([gradients[run][key] for run in runs]) for runs in groups.values())]
        for key, name in names.items()
    ]
    return Table.of_rows("Gradient", ["", *groups], rows)


def line_table(
    groups: Mapping[str, Sequence[str]],
    lines: Mapping[str, Sequence[Mapping[str, Sequence[float]]]],
    offsets: np.ndarray,
) -> Table:
    """Loss and accuracy at some distances from the weights, at both signs, as means over the seeds of a group.

    Args:
        groups: names of runs by label.
        lines: the fields of `Landscape` along several directions [K], by run.
        offsets: distances along them [K].
    """

    def at(distance: float, key: str, runs: Sequence[str]) -> str:
        places = np.flatnonzero(np.isclose(np.abs(offsets), distance))
        return _mean([float(np.mean([np.take(line[key], places) for line in lines[run]])) for run in runs])

    columns = {f"{group}: {key}": (key, runs) for group, runs in groups.items() for key in Landscape._fields}
    rows = [[f"{d:g}", *(at(d, *column) for column in columns.values())] for d in (0, 0.1, 0.2, 0.3, 0.5, 1)]
    return Table.of_rows("Loss landscape", ["distance", *columns], rows)


def _mean(values: Sequence[float]) -> str:
    """The mean over the seeds, with its standard error if there are several."""
    value, error = over_seeds([Estimate(value, np.nan) for value in values])
    return f"{value:.3f} ± {error:.3f}" if len(values) > 1 else f"{value:.3f}"


def _model_and_frames(run: Run, recordings: Recordings) -> tuple[snn.Staged, torch.Tensor]:
    frames = events.frames_batch(recordings, run.config["time_steps"], recordings.sensor_size)
    return inference.time_stepped_model(run.model, recordings), torch.from_numpy(frames)
