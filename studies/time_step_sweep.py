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
import hashlib
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# As in training/run_mtt.py: threads that spin while they wait would take the cores from the simulation.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import nir
import numpy as np
from matplotlib.figure import Figure

from mtt_brian import plotting, runs, sides
from mtt_brian.errors import InputError
from mtt_brian.evaluate import Estimate, Grid, accuracy, predictions
from mtt_brian.evaluate.comparison import gap, over_seeds, same_but_seed
from mtt_brian.evaluate.table import markdown_table, percent
from mtt_brian.simulate import ORDERS

TIME_STEPS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    chosen = {run.name: run for run in runs.load_all(options.runs)}
    recordings = runs.recordings_for(
        list(chosen.values()),
        dataset=options.dataset,
        data_root=options.data_root,
        split=options.split,
        limit=options.limit,
    )
    out = runs.results_folder(options.out, "time_step_sweep")
    print(f"{recordings.title}, {recordings.split}: {len(recordings)} recordings -> {out}")

    grids = sorted({*options.time_steps})
    places = {**{f"T = {t}": ("time-stepped", t) for t in grids}, **{order: (order, 1) for order in ORDERS}}
    names = {f"{run}, {place}": (run, place) for run in chosen for place in places}

    def answer(cell: str) -> list[int]:
        run, place = names[cell]
        graph = nir.read(chosen[run].model, type_check=False)
        return predictions(sides.answers(graph, recordings, *places[place]).readouts).tolist()

    settings = {
        "dataset": recordings.name,
        "split": recordings.split,
        "recordings": len(recordings),
        "models": {run.name: hashlib.sha256(run.model.read_bytes()).hexdigest() for run in chosen.values()},
    }
    cells = dict(Grid(out / "grid.json", settings).fill(names, answer, "answers"))
    by_run = {
        run: summary({place: cells[f"{run}, {place}"] for place in places}, recordings.labels, grids[-1])
        for run in chosen
    }
    groups = same_but_seed({name: run.config for name, run in chosen.items()})
    averaged = {
        label: {key: over_seeds([by_run[run][key] for run in members]) for key in by_run[members[0]]}
        for label, members in groups.items()
    }

    command = shlex.join(["python", "studies/time_step_sweep.py", *(sys.argv[1:] if arguments is None else arguments)])
    report = {
        "dataset": recordings.name,
        "split": recordings.split,
        "n_recordings": len(recordings),
        "versions": runs.versions("torch", "numpy", "scipy", "numba", "nir"),
        "command": command,
        "groups": {label: {"runs": members, **averaged[label]} for label, members in groups.items()},
        "runs": {run: {"method": chosen[run].config["method"], **by_run[run]} for run in chosen},
    }
    runs.save_json(out / "report.json", report)
    title = f"{recordings.title}, {recordings.split}, {len(recordings)} recordings"
    shown = {f"{label} ({len(groups[label])})": values for label, values in averaged.items()}
    text = f"{table(shown)}\n\n{caption(grids[-1])}\n\n{table(by_run)}"
    content = f"# With and without time steps: {title}\n\n{text}\n\n    {command}\n"
    (out / "report.md").write_text(content, encoding="utf-8")
    plot(averaged, grids, title, out / "time_step_sweep.png")
    print(f"\n{table(shown)}\n\n{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    about, _, more = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog="examples:\n" + more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="run folders of training/run_mtt.py [newest under runs/]"
    )
    parser.add_argument("--dataset", metavar="NAME", help="data set [that of the runs]")
    parser.add_argument("--data-root", metavar="DIR", help="folder that holds the data set [that of the runs]")
    parser.add_argument("--split", default="test", help="train or test [test]")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="only N recordings, the same random ones every time [all]"
    )
    parser.add_argument(
        "--time-steps",
        nargs="+",
        type=int,
        default=TIME_STEPS,
        metavar="T",
        help=f"time grids [{' '.join(map(str, TIME_STEPS))}]",
    )
    parser.add_argument("--out", metavar="DIR", help="folder for the results [results/time_step_sweep-<number>]")
    options = parser.parse_args(arguments)
    for name, value in (("--limit", options.limit), *(("--time-steps", t) for t in options.time_steps)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, not {value}")
    return options


def summary(answers: Mapping[str, Sequence[int]], labels: np.ndarray, largest: int) -> dict[str, Estimate]:
    """One run: its accuracy everywhere, and the gap between the finest grid and none."""
    accuracies = {place: accuracy(said, labels) for place, said in answers.items()}
    return accuracies | {f"gap {order}": gap(answers[f"T = {largest}"], answers[order], labels) for order in ORDERS}


def table(columns: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Places below, runs or groups of runs beside each other."""
    rows = list(next(iter(columns.values())))
    lines = [[row, *(percent(c[row], sign=row.startswith("gap")) for c in columns.values())] for row in rows]
    return markdown_table([["", *columns], *lines])


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
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[5, 1])
    for label, values in averaged.items():
        plotting.time_step_sweep(grids, [values[f"T = {t}"] for t in grids], label=label, ax=left)
        plotting.event_driven_limit(ORDERS, [values[order] for order in ORDERS], label=label, across=left, ax=right)
    figure.suptitle(title)
    runs.save_figure(figure, path)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
