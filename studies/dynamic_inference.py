"""Decide as soon as the readout is confident: accuracy against the time and the operations until then.

mtt-brian study dynamic_inference                                    # the newest run under runs/
mtt-brian study dynamic_inference runs/sdt-{0,1,2} runs/mtt-{0,1,2}  # seeds of one method are averaged
mtt-brian study dynamic_inference RUN --limit 50 --out results/mine  # again with the same --out: only what is missing

Time-stepped, a network decides at the end of the first of its T_max steps at which its confidence exceeds a threshold
(SEENN-I, Li et al. 2023). Event-driven, under `sum` and `fifo`, it decides at that instant.

Of T_max frames, step k gets the events of the k-th part of the recording. So an accuracy at mean T = 2 is one on the
first fifth of the events (T_max = 10), not that of a network run with T = 2 (mtt-brian study time_step_sweep).

Two rules of confidence (mtt_brian/evaluate/early_exit.py): "mean", the softmax of the mean readout so far, as published
for images; and "total", the softmax of the readout so far relative to the whole recording. SynOps count every spike
until the decision, inputs included, times its synapses.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from mtt_brian import cli

cli.configure_threads()

import numpy as np

from mtt_brian import plotting
from mtt_brian.evaluate.early_exit import RULES, Curve, Decisions, exit_when_confident, mean_curve, stop_after
from mtt_brian.evaluate.tables import Cell, Table, in_percent
from mtt_brian.experiments import inference, option_checks, study_cli
from mtt_brian.experiments.inference import MODE_NAMES, MODES, Mode
from mtt_brian.plotting.axes import common_legend, spelled_out

#: By rule of confidence; "fixed": stopped after the same time.
Curves: TypeAlias = Mapping[str, Curve]

#: 1 - 10^-x with x from 0.05 to 8, and 1, at which nothing is decided before the end.
THRESHOLDS = [*(1 - 10 ** -np.arange(0.05, 8.01, 0.05)).round(10).tolist(), 1.0]
PARTS = [k / 50 for k in range(1, 51)]
#: Columns of the tables, as parts of the time of a whole recording and of the SynOps of the costliest network.
TIMES = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
SYNOPS = (0.03, 0.06, 0.12, 0.25, 0.5, 1.0)
NOTE = """\
Interpolated along the curves over the thresholds; mean over so many seeds ± the standard error over them, of a single
run ± the binomial one. `sum`, `fifo`: event-driven. mean, total: rules of confidence; fixed: all recordings stopped
after the same time. -: outside the curve."""


def main(arguments: Sequence[str] | None = None) -> None:
    study = study_cli.open_study("dynamic_inference", parse(arguments), arguments)

    def decide(run: str, mode: Mode) -> dict[str, list[Decisions]]:
        t_max = study.runs[run].config["time_steps"]
        traces = inference.readout_traces(study.runs[run].model, study.recordings, mode, t_max)
        labels = study.recordings.labels
        times = [k / t_max for k in range(1, t_max + 1)] if mode == "time-stepped" else PARTS
        decided: dict[str, list[Decisions]] = {"fixed": stop_after(traces, labels, times)}
        return decided | {rule: exit_when_confident(traces, labels, THRESHOLDS, rule) for rule in RULES}

    decided = study.compute(itertools.product(study.runs, MODES), decide, settings={"thresholds": THRESHOLDS})

    def curve(runs: Sequence[str], mode: Mode, rule: str) -> Curve:
        return mean_curve([[Decisions.from_dict(point) for point in decided[run, mode][rule]] for run in runs])

    curves = {
        label: {mode: {rule: curve(runs, mode, rule) for rule in (*RULES, "fixed")} for mode in MODES}
        for label, runs in study.groups.items()
    }

    plot(curves, study.data, study.out / "dynamic_inference.png")
    report = study.facts | {
        "thresholds": THRESHOLDS,
        "groups": {label: {"runs": runs, **curves[label]} for label, runs in study.groups.items()},
    }
    named = {f"{label} ({len(study.groups[label])})": by_mode for label, by_mode in curves.items()}
    study.write(report, f"Early exit: {study.data}", *tables(named), NOTE)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__, "study dynamic_inference")
    study_cli.add_options(parser, "dynamic_inference")
    options = parser.parse_args(arguments)
    option_checks.at_least_one(options, "limit")
    return options


def tables(curves: Mapping[str, Mapping[Mode, Curves]]) -> list[Table]:
    """Accuracy at equal mean time, and at equal mean operations."""
    fixed = [by_rule["fixed"] for by_mode in curves.values() for by_rule in by_mode.values()]
    longest, costliest = (max(getattr(curve, cost)[-1] for curve in fixed) for cost in ("milliseconds", "synops"))
    times = {f"{part:.0%}, {part * longest:.0f} ms": part * longest for part in TIMES}
    synops = {f"{part * costliest:,.0f}": part * costliest for part in SYNOPS}
    return [
        table("Accuracy in % at equal mean time (mean T is that part of T_max)", curves, "milliseconds", times),
        table("Accuracy in % at equal mean SynOps", curves, "synops", synops),
    ]


def table(title: str, curves: Mapping[str, Mapping[Mode, Curves]], cost: str, levels: Mapping[str, float]) -> Table:
    """Networks, modes and rules below each other, levels of one cost beside each other."""
    rows: list[list[Cell | str]] = [
        [label, mode, rule, *(in_percent(curve.accuracy_at(cost, level)) for level in levels.values())]
        for label, by_mode in curves.items()
        for mode, by_rule in by_mode.items()
        for rule, curve in by_rule.items()
    ]
    return Table.of_rows(title, ["", "mode", "exit", *levels], rows)


def plot(curves: Mapping[str, Mapping[Mode, Curves]], title: str, path: Path) -> None:
    """A row per mode, rule "total"; accuracy against time on the left, against operations on the right.

    The rule "mean" and single events (fifo) stand in the tables.
    """
    whole = [by_mode["time-stepped"]["fixed"] for by_mode in curves.values()]
    steps = sorted({round(curve.milliseconds[-1] / curve.steps[-1]) for curve in whole})
    costs = {
        "milliseconds": f"mean time (ms; a time step is {' or '.join(map(str, steps))} ms)",
        "synops": "mean SynOps until the decision",
    }
    modes: tuple[Mode, ...] = ("time-stepped", "sum")
    with plotting.figure(path, (7.2, 5)) as figure:
        panels = figure.subplots(len(modes), len(costs), sharey=True, sharex="col")
        for (mode, (cost, name)), ax in zip(itertools.product(modes, costs.items()), panels.flat, strict=True):
            for color, (label, by_mode) in enumerate(curves.items()):
                fixed, decided = by_mode[mode]["fixed"], by_mode[mode]["total"]
                plotting.early_exit(
                    getattr(decided, cost),
                    decided.accuracy,
                    name=name,
                    label=spelled_out(label),
                    style=(color, 0),
                    fixed=(getattr(fixed, cost), [estimate.value for estimate in fixed.accuracy]),
                    ax=ax,
                )
            ax.get_legend().remove()
            ax.label_outer()
        for row, mode in zip(panels, modes, strict=True):
            row[0].set_title(MODE_NAMES[mode], loc="left", fontsize="medium")
        common_legend(figure, panels.flat, f"{title}; dotted: all recordings stopped after one time")


if __name__ == "__main__":
    sys.exit(cli.run_script(main))
