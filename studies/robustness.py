"""How robust a trained network is, time-stepped and event-driven: accuracy under perturbations, and its loss landscape.

mtt-brian study robustness                                    # the newest run under runs/
mtt-brian study robustness runs/sdt-{0,1,2} runs/mtt-{0,1,2}  # seeds of one method are averaged
mtt-brian study robustness RUN --only jitter dropped          # some of it (also: gradient landscape)
mtt-brian study robustness RUN --out results/mine --draws 10  # again with the same --out: only what is missing

Every perturbation is drawn --draws times at every level, the same draws for all runs and all modes:

  weights     Gaussian noise on the weights, relative to the standard deviation of each layer's weights
  bits        weights rounded to so many bits, symmetric about 0; nothing is drawn
  thresholds  a Gaussian, relative mismatch of the thresholds from neuron to neuron (event-driven only: time-stepped,
              a population has one threshold)
  frames      Gaussian noise on the input frames, in events per pixel and time step (time-stepped only)
  jitter      every event is moved by a Gaussian time, in microseconds, but not out of the recording: what would leave
              it piles up at its ends (8 % of the events of 300 ms at 30 ms)
  dropped     this part of the events is lost
  spurious    background activity: a Poisson process of so many events per second, pixel and polarity
  ties        events of one microsecond in random order (matters for single events, fifo, only)

They run on T_max time steps, and event by event with jumps of one instant summed (sum) or one after the other (fifo).

Time-stepped only: the norm of the gradient of the loss with respect to the weights, and the loss along random
filter-normalised directions (Li et al., NeurIPS 2018): --draws of them on a line, the first two as a surface.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mtt_brian import cli

cli.configure_threads()

import numpy as np

from mtt_brian import plotting
from mtt_brian.evaluate import Estimate
from mtt_brian.experiments import option_checks, study_cli
from mtt_brian.experiments.inference import MODE_NAMES, MODES, Mode
from mtt_brian.experiments.loss_landscapes import gradient, gradient_table, landscape, line_table
from mtt_brian.experiments.perturbations import PERTURBATIONS, accuracy_table, accuracy_under, mean_accuracies
from mtt_brian.experiments.study_cli import Study
from mtt_brian.plotting import AccuracyLine, AccuracyPanel
from mtt_brian.plotting.axes import literal, spelled_out

#: Distances from the weights at which the loss is taken, along a line and over a surface.
LINE = np.linspace(-1, 1, 21)
SURFACE = np.linspace(-0.6, 0.6, 13)
NOTE = """\
Means over the draws of each seed, then over the seeds of a method, with the standard error over the seeds (of a single
run: over its recordings, binomial). Level 0 is the untouched network. Loss: mean cross entropy on T_max time steps; its
gradient is the surrogate gradient. Landscape: mean loss over random filter-normalised directions, at both signs."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    study = study_cli.open_study("robustness", options, arguments)
    recordings = study.recordings.in_memory()
    draws, runs, groups = options.draws, study.runs, study.groups

    # Every run without a perturbation, and under every draw of every level of every perturbation.
    keys: list[Any] = [(None, run, 0, 0) for run in runs]
    names = [name for name in PERTURBATIONS if name in options.only]
    for name in names:
        keys += itertools.product([name], runs, PERTURBATIONS[name].levels, PERTURBATIONS[name].draws(draws))
    cells = study.compute(keys, lambda name, run, *how: accuracy_under(name, runs[run], recordings, *how))
    curves = {name: mean_accuracies(name, groups, cells, draws, len(recordings)) for name in names}
    tables = [accuracy_table(name, curves[name]) for name in names]
    if names:
        plot_curves(study, curves)

    # The loss at the weights and its gradient, and the loss along directions and over the plane of the first two.
    if "gradient" in options.only:
        gradients = study.compute([("gradient", run) for run in runs], lambda _, run: gradient(runs[run], recordings))
        tables.append(gradient_table(groups, {run: gradients["gradient", run] for run in runs}))
        cells |= gradients
    if "landscape" in options.only:

        def loss_around(_: str, run: str, directions: tuple[int, ...]) -> Any:
            found = landscape(runs[run], recordings, LINE if len(directions) == 1 else SURFACE, directions)
            return {"loss": found.loss.tolist(), "accuracy": found.accuracy.tolist()}

        keys = list(itertools.product(["landscape"], runs, [*((draw,) for draw in range(draws)), (0, 1)]))
        around = study.compute(keys, loss_around, "landscape.jsonl", {"line": [*LINE], "surface": [*SURFACE]})
        lines = {run: [around["landscape", run, (draw,)] for draw in range(draws)] for run in runs}
        tables.append(line_table(groups, lines, LINE))
        plot_landscapes(study, lines, {run: around["landscape", run, (0, 1)]["loss"] for run in runs})
        cells |= around

    report = {"draws": draws, "groups": groups, "accuracy": curves, "cells": [[*key, cells[key]] for key in cells]}
    study.write(study.facts | report, f"Robustness: {study.data}", *tables, NOTE)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__, "study robustness")
    study_cli.add_options(parser, "robustness")
    everything = [*PERTURBATIONS, "gradient", "landscape"]
    names = f"{', '.join(everything)} [all]"
    parser.add_argument("--only", nargs="+", choices=everything, default=everything, metavar="WHAT", help=names)
    parser.add_argument("--draws", type=int, default=3, metavar="N", help="of every perturbation and direction [3]")
    options = parser.parse_args(arguments)
    if options.only == ["gradient"]:
        parser.refuse_given(arguments, ["draws"], "the gradient is measured once")
    option_checks.at_least_one(options, "limit", "draws")
    return options


def plot_curves(study: Study, curves: Mapping[str, Mapping[str, Mapping[Mode, Sequence[Estimate]]]]) -> None:
    """A panel for every perturbation of more than one level, a colour for every group, a dash for every mode.

    Single events (fifo) are drawn only where they are all there is; they stand in the table.
    """
    panels = []
    for name, of_groups in curves.items():
        if len(PERTURBATIONS[name].levels) == 1:
            continue
        lines = [
            AccuracyLine(f"{spelled_out(group)}, {MODE_NAMES[mode]}", (color, MODES.index(mode)), curve)
            for color, (group, by_mode) in enumerate(of_groups.items())
            for mode, curve in by_mode.items()
            if mode != "fifo" or len(by_mode) == 1
        ]
        panels.append(AccuracyPanel(PERTURBATIONS[name].level_names, PERTURBATIONS[name].axis, lines))
    if not panels:
        return
    size = (3.6 * min(2, len(panels)), 2 * -(-len(panels) // 2) + 0.6)
    with plotting.figure(study.out / "robustness.png", size) as figure:
        plotting.accuracy_panels(figure, panels, study.data)


def plot_landscapes(study: Study, lines: Mapping[str, Sequence[Any]], surfaces: Mapping[str, Any]) -> None:
    """The loss along lines for every group, and over a plane for every run."""
    with plotting.figure(study.out / "loss_lines.png") as figure:
        ax = figure.subplots()
        for color, (group, runs) in enumerate(study.groups.items()):
            losses = [line["loss"] for run in runs for line in lines[run]]
            plotting.loss_line(LINE, losses, label=spelled_out(group), color=color, ax=ax)
        ax.set_title(f"{literal(study.data, 60)}, time-stepped", wrap=True)
    rows = [{run: surfaces[run] for run in runs} for runs in study.groups.values()]
    # The title needs 3.6 inches.
    size = (max(2.2 * max(map(len, rows)) + 0.6, 3.6), 2.2 * len(rows) + 0.5)
    with plotting.figure(study.out / "loss_surfaces.png", size) as figure:
        plotting.loss_surfaces(figure, SURFACE, rows, f"{study.data}: cross entropy")


if __name__ == "__main__":
    sys.exit(cli.run_script(main))
