"""Answer as soon as the readout is confident: accuracy against the time and the operations spent until then.

python studies/dynamic_inference.py                                    # the newest run under runs/
python studies/dynamic_inference.py runs/sdt-{0,1,2} runs/mtt-{0,1,2}  # seeds of one method are averaged
python studies/dynamic_inference.py RUN --limit 50 --out results/mine  # again with the same --out: only what is missing

Time-stepped, a network decides at the end of the first of its T_max steps at which its confidence exceeds a threshold
(SEENN-I, Li et al. 2023). Event-driven, under both conventions for events of one instant, it decides at that very
instant. The thresholds are chosen on nothing: all are shown, beside the same networks stopped after a fixed time.

What T means for events: a recording is binned into T_max frames, and step k sees the events of its k-th part and no
others. Deciding after k steps is both cheaper and earlier: k / T_max of the recording has passed. For a static image
every step sees the whole image, T = 1 included, and fewer steps only cost less. An accuracy at mean T = 2 here is one
on the first fifth of the events (T_max = 10), not that of a network run with T = 2 (studies/time_step_sweep.py).

Two rules of confidence (mtt_brian/evaluate/early_exit.py): "mean", the softmax of the mean readout so far, as published
for images; and "total", the softmax of the readout so far as a part of what the whole recording gives.

SynOps count every spike until the decision, inputs included, times its synapses. In report.json an accuracy is
[value, standard error].
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

# As in training/run_mtt.py: threads that spin while they wait would take the cores from the simulation.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from mtt_brian import cli, files, plotting
from mtt_brian.evaluate import Estimate
from mtt_brian.evaluate.early_exit import RULES, exit_when_confident, stop_after
from mtt_brian.evaluate.statistics import over_seeds
from mtt_brian.evaluate.tables import markdown, markdown_table, percent
from mtt_brian.experiments import run_folder, study_cli
from mtt_brian.experiments.inference import MODES, readout_traces
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.plotting.axes import literal

#: Accuracy and costs along a curve, lists of equal length by the fields of `Decisions`.
Curve: TypeAlias = dict[str, list[Any]]

#: 1 - 10^-x with x from 0.05 to 8, and 1, at which nothing is decided before the end.
THRESHOLDS = [*(1 - 10 ** -np.arange(0.05, 8.01, 0.05)).round(10).tolist(), 1.0]
#: Fixed times event by event, as parts of the recording.
PARTS = [k / 50 for k in range(1, 51)]
#: Columns of the tables, as parts of the time of a whole recording and of the SynOps of the costliest network.
TIMES = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
SYNOPS = (0.03, 0.06, 0.12, 0.25, 0.5, 1.0)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    chosen, recordings = study_cli.take_up(options)
    out = files.results_folder(options.out, "dynamic_inference")
    print(f"{recordings.title}, {recordings.split}: {len(recordings)} recordings -> {out}")

    names = {f"{run}, {side}": (run, side) for run in chosen for side in MODES}

    def watch(cell: str) -> dict[str, list[dict[str, Any]]]:
        run, side = names[cell]
        t_max = chosen[run].config["time_steps"]
        seen = readout_traces(chosen[run].model, recordings, side, t_max)
        fixed = [k / t_max for k in range(1, t_max + 1)] if side == "time-stepped" else PARTS
        decided = {rule: exit_when_confident(seen, recordings.labels, THRESHOLDS, rule) for rule in RULES}
        decided["fixed"] = stop_after(seen, recordings.labels, fixed)
        return {rule: [decisions._asdict() for decisions in points] for rule, points in decided.items()}

    settings = {
        "dataset": recordings.name,
        "split": recordings.split,
        "recordings": len(recordings),
        "thresholds": THRESHOLDS,
        "models": study_cli.digests(chosen),
    }
    found = ResultStore(out / "cells.jsonl", settings).fill([(name,) for name in names], watch, "predictions")
    cells = {name: result for (name,), result in found.items()}
    groups = run_folder.by_method(chosen)
    curves = {
        label: {
            side: {rule: average([cells[f"{run}, {side}"][rule] for run in members]) for rule in (*RULES, "fixed")}
            for side in MODES
        }
        for label, members in groups.items()
    }

    report = {
        "dataset": recordings.name,
        "split": recordings.split,
        "n_recordings": len(recordings),
        "thresholds": THRESHOLDS,
        "groups": {label: {"runs": members, **curves[label]} for label, members in groups.items()},
    }
    title = f"{recordings.title}, {recordings.split}, {len(recordings)} recordings"
    shown = {f"{label} ({len(groups[label])})": sides for label, sides in curves.items()}
    text = tables(shown)
    study_cli.write(out, report, f"Early exit: {title}", text, study_cli.command("dynamic_inference", arguments))
    plot(curves, title, out / "dynamic_inference.png")
    print(f"\n{text}\n\n{files.contents(out)}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    study_cli.add_options(parser, "dynamic_inference")
    options = parser.parse_args(arguments)
    study_cli.at_least_one(options, "limit")
    return options


def average(seeds: Sequence[Sequence[Mapping[str, Any]]]) -> Curve:
    """The curves of several seeds [seeds, points] as one, point by point."""
    points = list(zip(*seeds, strict=True))
    curve: Curve = {"accuracy": [over_seeds([Estimate(*seed["accuracy"]) for seed in point]) for point in points]}
    for cost in ("steps", "milliseconds", "synops"):
        curve[cost] = [float(np.mean([seed[cost] for seed in point])) for point in points]
    return curve


def tables(curves: Mapping[str, Mapping[str, Mapping[str, Curve]]]) -> str:
    """Accuracy at equal mean time, and at equal operations."""
    fixed = [side["fixed"] for sides in curves.values() for side in sides.values()]
    times = [part * max(curve["milliseconds"][-1] for curve in fixed) for part in TIMES]
    synops = [part * max(curve["synops"][-1] for curve in fixed) for part in SYNOPS]
    by_time = {f"{part:.0%}, {level:.0f} ms": level for part, level in zip(TIMES, times, strict=True)}
    by_synops = {f"{level:,.0f}": level for level in synops}
    return f"""\
Accuracy in % at equal mean time (mean T is that part of T_max):

{table(curves, "milliseconds", by_time)}

Accuracy in % at equal mean SynOps:

{table(curves, "synops", by_synops)}

Interpolated along the curves over the thresholds; mean over so many seeds ± the standard error over them, of a single
run ± the binomial one. `sum`, `fifo`: event-driven. mean, total: rules of confidence; fixed: all recordings stopped
after the same time. -: the curve does not get there."""


def table(curves: Mapping[str, Mapping[str, Mapping[str, Curve]]], cost: str, levels: Mapping[str, float]) -> str:
    """Networks, sides and rules below each other, levels of one cost beside each other."""
    lines = [
        [markdown(label), side, rule, *(accuracy_at(curve, cost, level) for level in levels.values())]
        for label, sides in curves.items()
        for side, rules in sides.items()
        for rule, curve in rules.items()
    ]
    return markdown_table([["", "side", "exit", *levels], *lines])


def accuracy_at(curve: Curve, cost: str, level: float) -> str:
    """Accuracy and its error where the cost has the level, "-" outside the curve."""
    costs = np.asarray(curve[cost])
    if not costs[0] <= level <= costs[-1] * (1 + 1e-9):
        return "-"
    value, error = (float(np.interp(level, costs, column)) for column in zip(*curve["accuracy"], strict=True))
    return percent(Estimate(value, error))


def plot(curves: Mapping[str, Mapping[str, Mapping[str, Curve]]], title: str, path: Path) -> None:
    """A row per rule; accuracy against time on the left, against operations on the right."""
    whole = [sides["time-stepped"]["fixed"] for sides in curves.values()]
    steps = sorted({round(curve["milliseconds"][-1] / curve["steps"][-1]) for curve in whole})
    costs = {
        "milliseconds": f"mean time (ms; a time step is {' or '.join(map(str, steps))} ms)",
        "synops": "mean SynOps until the decision",
    }
    with plotting.figure(path, (7.2, 6)) as figure:
        rows = figure.subplots(len(RULES), len(costs), sharey=True, sharex="col")
        for row, rule in zip(rows, RULES, strict=True):
            for ax, (cost, name) in zip(row, costs.items(), strict=True):
                for color, (label, sides) in enumerate(curves.items()):
                    for dash, (side, curve) in enumerate(sides.items()):
                        plotting.early_exit(
                            curve[rule][cost],
                            curve[rule]["accuracy"],
                            name=name,
                            label=f"{label}, {side}",
                            style=(color, dash),
                            fixed=(curve["fixed"][cost], [value for value, _ in curve["fixed"]["accuracy"]]),
                            ax=ax,
                        )
            row[0].set_title(f"rule: {rule}", loc="left", fontsize="medium")
            row[1].set_ylabel("")
        figure.suptitle(f"{literal(title, 100)}; thin: stopped after a fixed time")


if __name__ == "__main__":
    sys.exit(study_cli.run(main))
