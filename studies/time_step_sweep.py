"""Accuracy over the number of time steps, and without time steps: a limit that no fine grid comes near.

python studies/time_step_sweep.py                                    # the newest run under runs/
python studies/time_step_sweep.py runs/sdt-{0,1,2} runs/mtt-{0,1,2}  # seeds of one method are averaged
python studies/time_step_sweep.py RUN --time-steps 1 10 100 1000     # other grids
python studies/time_step_sweep.py RUN --out results/mine             # again with the same --out: only what is missing

With T time steps the events are binned anew into T bins and every stage runs with T steps. The events of one bin act
together. Only where every bin holds a single instant (T = 300,000 for microseconds in 0.3 s) would that be the same as
no grid at all, for which there are two conventions:

  sum   the jumps of one instant are summed, applied once, and then a neuron fires as its rule says
  fifo  every event is applied alone and travels breadth first, as on event-driven chips

The gap is accuracy(largest T) - accuracy(event-driven), on the same recordings. In report.json an accuracy or a gap is
[value, standard error].
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# As in training/run_mtt.py: threads that spin while they wait would take the cores from the simulation.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from mtt_brian import cli, files, plotting
from mtt_brian.engines import ORDERS
from mtt_brian.evaluate import Estimate, accuracy, predictions
from mtt_brian.evaluate.statistics import gap, over_seeds
from mtt_brian.evaluate.tables import markdown, markdown_table, percent
from mtt_brian.experiments import inference, run_folder, study_cli
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.plotting.axes import literal

TIME_STEPS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    chosen, recordings = study_cli.take_up(options)
    out = files.results_folder(options.out, "time_step_sweep")
    print(f"{recordings.title}, {recordings.split}: {len(recordings)} recordings -> {out}")

    grids = sorted({*options.time_steps})
    places: dict[str, tuple[str, int]] = {
        **{f"T = {t}": ("time-stepped", t) for t in grids},
        **{order: (order, 1) for order in ORDERS},
    }
    names = {f"{run}, {place}": (run, place) for run in chosen for place in places}

    def answer(cell: str) -> list[int]:
        run, place = names[cell]
        return predictions(inference.predict(chosen[run].model, recordings, *places[place]).readouts).tolist()

    settings = {
        "dataset": recordings.name,
        "split": recordings.split,
        "recordings": len(recordings),
        "models": study_cli.digests(chosen),
    }
    found = ResultStore(out / "cells.jsonl", settings).fill([(name,) for name in names], answer, "predictions")
    cells = {name: result for (name,), result in found.items()}
    by_run = {
        run: summary({place: cells[f"{run}, {place}"] for place in places}, recordings.labels, grids[-1])
        for run in chosen
    }
    groups = run_folder.by_method(chosen)
    averaged = {
        label: {key: over_seeds([by_run[run][key] for run in members]) for key in by_run[members[0]]}
        for label, members in groups.items()
    }

    report = {
        "dataset": recordings.name,
        "split": recordings.split,
        "n_recordings": len(recordings),
        "groups": {label: {"runs": members, **averaged[label]} for label, members in groups.items()},
        "runs": {run: {"method": chosen[run].config["method"], **by_run[run]} for run in chosen},
    }
    title = f"{recordings.title}, {recordings.split}, {len(recordings)} recordings"
    shown = {f"{label} ({len(groups[label])})": values for label, values in averaged.items()}
    text = f"{table(shown)}\n\n{caption(grids[-1])}\n\n{table(by_run)}"
    heading = f"With and without time steps: {title}"
    study_cli.write(out, report, heading, text, study_cli.command("time_step_sweep", arguments))
    plot(averaged, grids, title, out / "time_step_sweep.png")
    print(f"\n{table(shown)}\n\n{files.contents(out)}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    study_cli.add_options(parser, "time_step_sweep")
    study_cli.add_time_steps(parser, TIME_STEPS, "time grids")
    options = parser.parse_args(arguments)
    study_cli.at_least_one(options, "limit", "time_steps")
    return options


def summary(answers: Mapping[str, Sequence[int]], labels: np.ndarray, largest: int) -> dict[str, Estimate]:
    """One run: its accuracy everywhere, and the gap between the finest grid and none."""
    accuracies = {place: accuracy(said, labels) for place, said in answers.items()}
    return accuracies | {f"gap {order}": gap(answers[f"T = {largest}"], answers[order], labels) for order in ORDERS}


def table(columns: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Places below, runs or groups of runs beside each other."""
    rows = list(next(iter(columns.values())))
    lines = [[row, *(percent(c[row], sign=row.startswith("gap")) for c in columns.values())] for row in rows]
    return markdown_table([["", *map(markdown, columns)], *lines])


def caption(largest: int) -> str:
    return "\n".join(
        [
            "Accuracy in %: mean over so many seeds ± the standard error over them; of single runs ± the binomial one.",
            "`sum`, `fifo`: event-driven.",
            f"Gap: accuracy at T = {largest} minus event-driven, in points; of single runs ± the paired error.",
        ]
    )


def plot(averaged: Mapping[str, Mapping[str, Estimate]], grids: Sequence[int], title: str, path: Path) -> None:
    """The curves over T on the left, where they do not lead to on the right."""
    with plotting.figure(path, (5, 3)) as figure:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[5, 1])
        for label, values in averaged.items():
            plotting.time_step_sweep(grids, [values[f"T = {t}"] for t in grids], label=label, ax=left)
            plotting.event_driven_limit(ORDERS, [values[order] for order in ORDERS], label=label, across=left, ax=right)
        figure.suptitle(literal(title, 100))


if __name__ == "__main__":
    sys.exit(study_cli.run(main))
