"""How robust a trained network is, on time steps and event by event: what it stands, and how steep its loss is.

python studies/robustness.py                                    # the newest run under runs/
python studies/robustness.py runs/sdt-{0,1,2} runs/mtt-{0,1,2}  # seeds of one method are averaged
python studies/robustness.py RUN --only jitter dropped          # some of it (also: gradient landscape)
python studies/robustness.py RUN --out results/mine --draws 10  # again with the same --out: only what is missing

Every perturbation is drawn --draws times at every level, the same draws for all runs and all ways to run them:

  weights     Gaussian noise on the weights, relative to the standard deviation of each layer's weights
  bits        weights rounded to so many bits, symmetric about 0; nothing is drawn
  thresholds  a Gaussian, relative mismatch of the thresholds from neuron to neuron (event by event only: on time steps
              a population has one threshold)
  frames      Gaussian noise on the input frames, in events per pixel and time step (on time steps only)
  jitter      every event is moved by a Gaussian time, in microseconds, but not out of the recording: what would leave
              it piles up at its ends (8 % of the events of 300 ms at 30 ms)
  dropped     this part of the events is lost
  spurious    background activity: a Poisson process of so many events per second, pixel and polarity
  ties        events of one microsecond in random order (matters for single events, fifo, only)

They run on T_max time steps, and event by event with jumps of one instant summed (sum) or one after the other (fifo).

On time steps only: the norm of the gradient of the loss with respect to the weights, and the loss along random
filter-normalised directions (Li et al., NeurIPS 2018): --draws of them on a line, the first two as a surface.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

# As in training/run_mtt.py: threads that spin while they wait would take the cores from the simulation.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import nir
import numpy as np
import torch

from mtt_brian import cli, events, export, files, plotting, snn
from mtt_brian.evaluate import Estimate, Predictions
from mtt_brian.evaluate.factorial import Cells, Groups
from mtt_brian.evaluate.statistics import over_seeds
from mtt_brian.evaluate.tables import markdown, markdown_table, percent
from mtt_brian.events import Recordings, perturb
from mtt_brian.events.recording import SensorSize
from mtt_brian.experiments import inference, perturb_networks, run_folder, study_cli
from mtt_brian.experiments.inference import MODES
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.experiments.run_folder import Run
from mtt_brian.mtt import loss_landscape
from mtt_brian.plotting.axes import literal
from mtt_brian.translate.nir_files import load_graph

Rng: TypeAlias = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """One way to disturb a run: of the network, of the recordings, or of the frames.

    Attributes:
        axis: what a level means, for figures and tables.
        levels: from weak to strong.
        network: (graph, level, generator) -> graph.
        recording: (recording, level, sensor size, generator) -> recording.
        frames: (level, generator, frames) -> frames.
        sides: where it can matter.
        drawn: whether there is chance in it.
    """

    axis: str
    levels: tuple[float, ...]
    network: Callable[[nir.NIRGraph, Any, Rng], nir.NIRGraph] | None = None
    recording: Callable[[np.ndarray, float, SensorSize, Rng], np.ndarray] | None = None
    frames: Callable[[float, Rng, np.ndarray], np.ndarray] | None = None
    sides: tuple[str, ...] = MODES
    drawn: bool = True


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
        sides=("sum", "fifo"),
    ),
    "frames": Perturbation(
        axis="frame noise (events per pixel and time step)",
        levels=(0.05, 0.1, 0.2, 0.5, 1.0),
        frames=lambda sigma, rng, frames: (
            frames + np.float32(sigma) * rng.standard_normal(frames.shape, dtype=np.float32)
        ),
        sides=("time-stepped",),
    ),
    "jitter": Perturbation(
        axis="time jitter (µs)",
        levels=(100, 1_000, 3_000, 10_000, 30_000),
        recording=lambda recording, sigma, size, rng: perturb.jittered(recording, sigma, rng),
    ),
    "dropped": Perturbation(
        axis="part of the events dropped",
        levels=(0.05, 0.1, 0.2, 0.5, 0.8),
        recording=lambda recording, part, size, rng: perturb.dropped(recording, part, rng),
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
        sides=("fifo",),
    ),
}
#: Looked at on time steps only, without levels.
LOOKS = ("gradient", "landscape")
#: Distances from the weights at which the loss is taken, along a line and over a surface.
LINE = np.linspace(-1, 1, 21)
SURFACE = np.linspace(-0.6, 0.6, 13)
SEED = 0
NOTE = """\
Means over the draws of each seed, then over the seeds of a method, with the standard error over the seeds (of a single
run: over its recordings, binomial). Level 0 is the untouched network. Loss: mean cross entropy on T_max time steps; its
gradient is the surrogate gradient. Landscape: mean loss over random filter-normalised directions, at both signs."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    chosen, recordings = study_cli.take_up(options)
    groups = run_folder.by_method(chosen)
    recordings = perturb.each(recordings, lambda recording: recording)  # read from their files only once
    out = files.results_folder(options.out, "robustness")
    data = f"{recordings.title}, {recordings.split}"
    print(f"{data}: {len(recordings)} recordings -> {out}")
    settings = {
        "dataset": recordings.name,
        "split": recordings.split,
        "n_recordings": len(recordings),
        "models": study_cli.digests(chosen),
        "seed": SEED,
    }

    names = [name for name in PERTURBATIONS if name in options.only]
    plan: dict[str, Callable[[], dict[str, Any]]] = {}
    for run in chosen.values():
        plan[f"{run.name}: untouched"] = partial(untouched, run, recordings)
        for name in names:
            for level in PERTURBATIONS[name].levels:
                for draw in draws_of(name, options.draws):
                    plan[cell_name(run.name, name, level, draw)] = partial(measure, run, recordings, name, level, draw)
        if "gradient" in options.only:
            plan[f"{run.name}: gradient"] = partial(gradient, run, recordings)
        if "landscape" in options.only:
            for draw in range(options.draws):
                plan[f"{run.name}: line, draw {draw}"] = partial(landscape, run, recordings, LINE, [draw])
            plan[f"{run.name}: surface"] = partial(landscape, run, recordings, SURFACE, [0, 1])
    store = ResultStore(out / "cells.jsonl", settings)
    found = store.fill([(name,) for name in plan], lambda cell: plan[cell](), "robustness")
    cells = {name: result for (name,), result in found.items()}

    curves = {name: curves_of(groups, cells, name, options.draws, len(recordings)) for name in names}
    tables = {PERTURBATIONS[name].axis: table_of_curves(curves[name], name) for name in names}
    if curves:
        plot_curves(groups, curves, data, out)
    if "gradient" in options.only:
        tables["Gradient"] = table_of_gradients(groups, cells)
    if "landscape" in options.only:
        tables["Loss landscape"] = table_of_lines(groups, cells, options.draws)
        plot_landscapes(groups, cells, options.draws, data, out)

    report = settings | {
        "draws": options.draws,
        "groups": groups,
        "accuracy": curves,
        "cells": cells,
    }
    text = "\n\n".join(f"## {heading}\n\n{table}" for heading, table in tables.items())
    study_cli.write(out, report, f"Robustness: {data}", f"{text}\n\n{NOTE}", study_cli.command("robustness", arguments))
    print(f"\n{text}\n\n{files.contents(out)}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(__doc__)
    study_cli.add_options(parser, "robustness")
    everything = [*PERTURBATIONS, *LOOKS]
    parser.add_argument(
        "--only",
        nargs="+",
        choices=everything,
        default=everything,
        metavar="WHAT",
        help=f"{', '.join(everything)} [all]",
    )
    parser.add_argument("--draws", type=int, default=3, metavar="N", help="of every perturbation and direction [3]")
    options = parser.parse_args(arguments)
    study_cli.at_least_one(options, "limit", "draws")
    return options


def cell_name(run: str, name: str, level: float, draw: int) -> str:
    return f"{run}: {name} {level:g}, draw {draw}"


def draws_of(name: str, draws: int) -> range:
    """One is enough where there is no chance."""
    return range(draws if PERTURBATIONS[name].drawn else 1)


def generator(what: str) -> Rng:
    """Random numbers that depend on nothing but their purpose: the same for all runs, sides and numbers of draws."""
    return np.random.default_rng([SEED, zlib.crc32(what.encode())])


def untouched(run: Run, recordings: Recordings) -> dict[str, float]:
    """Accuracy by side."""
    return {
        side: correct(inference.predict(run.model, recordings, side, run.config["time_steps"]), recordings)
        for side in MODES
    }


def measure(run: Run, recordings: Recordings, name: str, level: float, draw: int) -> dict[str, float]:
    """Accuracy by side under one draw of a perturbation."""
    perturbation, rng = PERTURBATIONS[name], generator(f"{name} {level:g}, draw {draw}")
    graph, time_steps = load_graph(run.model), run.config["time_steps"]
    if perturbation.frames is not None:
        noisy = partial(perturbation.frames, level, rng)
        return {
            "time-stepped": correct(inference.predict_time_stepped(graph, recordings, time_steps, noisy), recordings)
        }
    if perturbation.network is not None:
        graph = perturbation.network(graph, level, rng)
    if perturbation.recording is not None:
        change, size = perturbation.recording, recordings.sensor_size
        recordings = perturb.each(recordings, lambda recording: change(recording, level, size, rng))
    return {
        side: correct(inference.predict(graph, recordings, side, time_steps), recordings) for side in perturbation.sides
    }


def correct(predicted: Predictions, recordings: Recordings) -> float:
    return predicted.accuracy(recordings.labels).value


def stepped(run: Run, recordings: Recordings) -> tuple[snn.Staged, torch.Tensor]:
    """The time-stepped network and its frames at T_max."""
    model = export.from_nir(run.model, duration=recordings.duration_us / 1e6).eval()
    frames = events.frames_batch(recordings, run.config["time_steps"], recordings.sensor_size)
    return model, torch.from_numpy(frames)


def gradient(run: Run, recordings: Recordings) -> dict[str, float]:
    """Loss, and how fast it changes with the weights."""
    return loss_landscape.gradient(*stepped(run, recordings), recordings.labels)._asdict()


def landscape(run: Run, recordings: Recordings, offsets: np.ndarray, draws: Sequence[int]) -> dict[str, Any]:
    """Loss and accuracy along one direction (``draws`` of length 1), or over the plane of several."""
    model, frames = stepped(run, recordings)
    directions = [loss_landscape.filter_normalised(model, generator(f"direction {draw}")) for draw in draws]
    points = np.stack(np.meshgrid(*[offsets] * len(draws), indexing="ij"), axis=-1)
    seen = loss_landscape.landscape(model, frames, recordings.labels, directions, points)
    return {"loss": seen.loss.tolist(), "accuracy": seen.accuracy.tolist()}


def curves_of(groups: Groups, cells: Cells, name: str, draws: int, n: int) -> dict[str, dict[str, list[Estimate]]]:
    """Accuracy over the levels of a perturbation, the untouched network first, by group and side."""
    perturbation = PERTURBATIONS[name]

    def mean_of(wanted: Sequence[str], side: str) -> Estimate:
        p = float(np.mean([cells[cell][side] for cell in wanted]))
        return Estimate(p, float(np.sqrt(p * (1 - p) / n)))

    def curve(names: Sequence[str], side: str) -> list[Estimate]:
        points = [over_seeds([mean_of([f"{run}: untouched"], side) for run in names])]
        for level in perturbation.levels:
            drawn = [[cell_name(run, name, level, draw) for draw in draws_of(name, draws)] for run in names]
            points.append(over_seeds([mean_of(wanted, side) for wanted in drawn]))
        return points

    return {group: {side: curve(names, side) for side in perturbation.sides} for group, names in groups.items()}


def table_of_curves(curves: Mapping[str, Mapping[str, Sequence[Estimate]]], name: str) -> str:
    columns = [
        (f"{markdown(group)}: {side}", values) for group, by_side in curves.items() for side, values in by_side.items()
    ]
    lines = [["accuracy in %", *(title for title, _ in columns)]]
    for k, level in enumerate(level_names(name)):
        lines.append([level, *(percent(values[k]) for _, values in columns)])
    return markdown_table(lines)


def level_names(name: str) -> list[str]:
    """The levels of a perturbation behind the untouched network."""
    return ["none", *(f"{level:g}" for level in PERTURBATIONS[name].levels)]


def plot_curves(groups: Groups, curves: Mapping[str, Any], data: str, out: Path) -> None:
    """Accuracy against the level: a panel for every perturbation, a colour for every group, a dash for every side."""
    columns = min(2, len(curves))
    rows = -(-len(curves) // columns)
    with plotting.figure(out / "robustness.png", (3.6 * columns, 2 * rows + 0.6)) as figure:
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for ax, (name, of_group) in zip(axes, curves.items(), strict=False):
            for color, (group, by_side) in enumerate(of_group.items()):
                for side, values in by_side.items():
                    plotting.accuracy_against(
                        level_names(name), values, label=f"{group}, {side}", style=(color, MODES.index(side)), ax=ax
                    )
            ax.set_xlabel(PERTURBATIONS[name].axis)
            ax.get_legend().remove()
        for ax in np.delete(axes, np.s_[::columns]):
            ax.set_ylabel("")
        for ax in axes[len(curves) :]:
            ax.set_axis_off()
        known = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(
            known.values(),
            known.keys(),
            loc="outside upper center",
            ncols=3,
            fontsize="small",
            title=literal(data, 100),
        )


def table_of_gradients(groups: Groups, cells: Cells) -> str:
    rows = {
        "loss": "loss",
        "norm of the gradient": "norm",
        "norm of the gradient times norm of the weights": "relative",
    }
    lines = [["", *map(markdown, groups)]]
    for title, key in rows.items():
        lines.append([title, *(mean([cells[f"{run}: gradient"][key] for run in names]) for names in groups.values())])
    return markdown_table(lines)


def table_of_lines(groups: Groups, cells: Cells, draws: int) -> str:
    """Loss and accuracy at some distances from the weights."""
    lines = [["distance", *(f"{markdown(group)}: {column}" for group in groups for column in ("loss", "accuracy"))]]
    for distance in (0, 0.1, 0.2, 0.3, 0.5, 1):
        at = np.flatnonzero(np.isclose(np.abs(LINE), distance))
        line = [f"{distance:g}"]
        for names in groups.values():
            for key in ("loss", "accuracy"):
                seen = [[cells[f"{run}: line, draw {draw}"][key] for draw in range(draws)] for run in names]
                line.append(mean([float(np.take(of_run, at, axis=1).mean()) for of_run in seen]))
        lines.append(line)
    return markdown_table(lines)


def mean(values: Sequence[float]) -> str:
    """Over the seeds, with its standard error where there are several."""
    value, error = over_seeds([Estimate(value, np.nan) for value in values])
    return f"{value:.3f} ± {error:.3f}" if len(values) > 1 else f"{value:.3f}"


def plot_landscapes(groups: Groups, cells: Cells, draws: int, data: str, out: Path) -> None:
    """The loss along lines for every group, and over a plane for every run."""
    with plotting.figure(out / "loss_lines.png") as figure:
        ax = figure.subplots()
        for color, (group, names) in enumerate(groups.items()):
            losses = [cells[f"{run}: line, draw {draw}"]["loss"] for run in names for draw in range(draws)]
            plotting.loss_line(LINE, losses, label=group, color=color, ax=ax)
        ax.set_title(f"{literal(data, 60)}, time-stepped")

    surfaces = {run: np.array(cells[f"{run}: surface"]["loss"]) for names in groups.values() for run in names}
    levels = np.geomspace(min(s.min() for s in surfaces.values()) * 1.1, max(s.max() for s in surfaces.values()), 12)
    columns = max(map(len, groups.values()))
    with plotting.figure(out / "loss_surfaces.png", (2.2 * columns + 0.6, 2.2 * len(groups) + 0.5)) as figure:
        axes = figure.subplots(len(groups), columns, squeeze=False, sharex=True, sharey=True)
        for row, names in zip(axes, groups.values(), strict=True):
            for ax in row[len(names) :]:
                ax.set_axis_off()
            for ax, run in zip(row, names, strict=False):
                plotting.loss_surface(SURFACE, surfaces[run], levels, ax=ax).set_title(literal(run))
                ax.label_outer()
        figure.suptitle(f"{literal(data, 100)}: cross entropy")


if __name__ == "__main__":
    sys.exit(study_cli.run(main))
