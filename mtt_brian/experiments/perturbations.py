"""Perturbations of a run at several levels: of the network, of the recordings, or of the frames."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import nir
import numpy as np

from mtt_brian.evaluate import Estimate, Predictions
from mtt_brian.evaluate.metrics import binomial
from mtt_brian.evaluate.statistics import over_seeds
from mtt_brian.evaluate.tables import Cell, Table, in_percent
from mtt_brian.events import Recordings, perturb
from mtt_brian.events.recording import SensorSize
from mtt_brian.experiments import inference, perturb_networks
from mtt_brian.experiments.inference import MODES, Mode
from mtt_brian.experiments.run_folder import Run
from mtt_brian.translate.nir_files import load_graph

Rng: TypeAlias = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """One way to perturb a run.

    Attributes:
        axis: meaning of a level, for figures and tables.
        unit: levels are shown in it.
        levels: from weak to strong.
        network: (graph, level, generator) -> graph.
        recording: (recording, level, sensor size, generator) -> recording.
        frames: (level, generator, frames) -> frames; only for the time-stepped mode.
        modes: the modes that it can affect.
        drawn: whether it is random.
    """

    axis: str
    unit: float = 1
    levels: tuple[float, ...]
    network: Callable[[nir.NIRGraph, Any, Rng], nir.NIRGraph] | None = None
    recording: Callable[[np.ndarray, float, SensorSize, Rng], np.ndarray] | None = None
    frames: Callable[[float, Rng, np.ndarray], np.ndarray] | None = None
    modes: tuple[Mode, ...] = MODES
    drawn: bool = True

    @property
    def level_names(self) -> list[str]:
        """The levels after that of no perturbation."""
        return ["none", *(f"{level / self.unit:g}" for level in self.levels)]

    def draws(self, most: int) -> range:
        """Numbers of the draws; one if nothing is random."""
        return range(most if self.drawn else 1)

    def predict(
        self, graph: nir.NIRGraph, recordings: Recordings, time_steps: int, level: float, rng: Rng
    ) -> dict[Mode, Predictions]:
        """Predictions of a perturbed run in every mode that the perturbation can affect.

        Args:
            graph: the network.
            recordings: N of them.
            time_steps: T of the time-stepped mode.
            level: one of `levels`.
            rng: random generator.
        """
        if self.frames is not None:
            change = partial(self.frames, level, rng)
            return {"time-stepped": inference.predict_time_stepped(graph, recordings, time_steps, change)}
        if self.network is not None:
            graph = self.network(graph, level, rng)
        if (change_recording := self.recording) is not None:
            size = recordings.sensor_size
            recordings = perturb.each(recordings, lambda recording: change_recording(recording, level, size, rng))
        return {mode: inference.predict(graph, recordings, mode, time_steps) for mode in self.modes}


#: No perturbation.
UNTOUCHED = Perturbation(axis="", levels=(0,), drawn=False)

PERTURBATIONS = {
    "weights": Perturbation(
        axis="weight noise (standard deviations of the layer)",
        levels=(0.05, 0.1, 0.2, 0.3, 0.5),
        network=perturb_networks.noisy_weights,
    ),
    "bits": Perturbation(
        axis="bits per weight",
        levels=(8, 6, 5, 4, 3),
        network=lambda graph, bits, rng: perturb_networks.quantised_weights(graph, bits),
        drawn=False,
    ),
    "thresholds": Perturbation(
        axis="threshold mismatch (relative)",
        levels=(0.05, 0.1, 0.15, 0.2, 0.3),
        network=perturb_networks.mismatched_thresholds,
        modes=("sum", "fifo"),
    ),
    "frames": Perturbation(
        axis="frame noise (events per pixel and time step)",
        levels=(0.05, 0.1, 0.2, 0.5, 1.0),
        frames=lambda sigma, rng, frames: (
            frames + np.float32(sigma) * rng.standard_normal(frames.shape, dtype=np.float32)
        ),
        modes=("time-stepped",),
    ),
    "jitter": Perturbation(
        axis="time jitter (ms)",
        unit=1_000,  # microseconds
        levels=(100, 1_000, 3_000, 10_000, 30_000),
        recording=lambda recording, sigma, size, rng: perturb.jittered(recording, sigma, rng),
    ),
    "dropped": Perturbation(
        axis="fraction of the events dropped",
        levels=(0.05, 0.1, 0.2, 0.5, 0.8),
        recording=lambda recording, fraction, size, rng: perturb.dropped(recording, fraction, rng),
    ),
    "spurious": Perturbation(
        axis="spurious events (per second, pixel, polarity)",
        levels=(0.1, 0.3, 1, 3, 10),
        recording=perturb.with_spurious,
    ),
    "ties": Perturbation(
        axis="simultaneous events shuffled (1: yes)",
        levels=(1,),
        recording=lambda recording, _, size, rng: perturb.shuffled_ties(recording, rng),
        modes=("fifo",),
    ),
}


def accuracy_under(
    name: str | None, run: Run, recordings: Recordings, level: float = 0, draw: int = 0
) -> dict[Mode, float]:
    """Accuracy of a run in every mode that a perturbation can affect.

    Args:
        name: in `PERTURBATIONS`; None for none.
        run: the network.
        recordings: N of them.
        level: of the perturbation.
        draw: number of the draw.
    """
    perturbation = UNTOUCHED if name is None else PERTURBATIONS[name]
    rng = generator(f"{name} {level:g}, draw {draw}")
    found = perturbation.predict(load_graph(run.model), recordings, run.config["time_steps"], level, rng)
    return {mode: predicted.accuracy(recordings.labels).value for mode, predicted in found.items()}


def mean_accuracies(
    name: str,
    groups: Mapping[str, Sequence[str]],
    accuracies: Mapping[Any, Mapping[Mode, float]],
    draws: int,
    recordings: int,
) -> dict[str, dict[Mode, list[Estimate]]]:
    """Mean accuracy over draws, then over seeds, of the unperturbed network and at every level, by group and mode.

    Args:
        name: in `PERTURBATIONS`.
        groups: names of runs that differ in their seed, by label.
        accuracies: of `accuracy_under`, by (name, run, level, draw); (None, run, 0, 0) without a perturbation.
        draws: of every level.
        recordings: number of recordings, for the error of a single run.
    """
    perturbation = PERTURBATIONS[name]
    drawn = [[(level, draw) for draw in perturbation.draws(draws)] for level in perturbation.levels]

    def point(runs: Sequence[str], mode: Mode, name: str | None, how: Sequence[tuple[float, int]]) -> Estimate:
        means = [float(np.mean([accuracies[name, run, level, draw][mode] for level, draw in how])) for run in runs]
        return over_seeds([binomial(p, recordings) for p in means])

    return {
        group: {
            mode: [point(runs, mode, None, [(0, 0)]), *(point(runs, mode, name, how) for how in drawn)]
            for mode in perturbation.modes
        }
        for group, runs in groups.items()
    }


def accuracy_table(name: str, curves: Mapping[str, Mapping[Mode, Sequence[Estimate]]]) -> Table:
    """The result of `mean_accuracies`: one row per level, one column per group and mode."""
    columns = {f"{group}: {mode}": curve for group, by_mode in curves.items() for mode, curve in by_mode.items()}
    points = zip(*columns.values(), strict=True)
    rows: list[list[Cell | str]] = [
        [level, *map(in_percent, at)] for level, at in zip(PERTURBATIONS[name].level_names, points, strict=True)
    ]
    return Table.of_rows(f"{PERTURBATIONS[name].axis}: accuracy in %", ["level", *columns], rows)


def generator(purpose: str, seed: int = 0) -> Rng:
    """A generator that depends on the perturbation and the draw only: equal for all runs and modes."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])
