"""Accuracy over the number of time steps, and event-driven: a limit that no number of time steps approaches.

mtt-brian study time_step_sweep                                    # the newest run under runs/
mtt-brian study time_step_sweep runs/sdt-{0,1,2} runs/mtt-{0,1,2}  # seeds of one method are averaged
mtt-brian study time_step_sweep RUN --time-steps 1 10 100 1000     # other numbers of time steps
mtt-brian study time_step_sweep RUN --out results/mine             # again with the same --out: only what is missing

With T time steps the events are binned anew into T bins and every stage runs with T steps. The events of one bin act
together. Only where every bin holds a single instant (T = 300,000 for microseconds in 0.3 s) would that be the same as
continuous time, for which there are two conventions:

  sum   the jumps of one instant are summed, applied once, and then a neuron fires by its rule
  fifo  every event is applied alone and travels breadth first, as on event-driven chips

The gap is accuracy(largest T) - accuracy(event-driven), on the same recordings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtt_brian import cli

cli.configure_threads()

import numpy as np

from mtt_brian import plotting
from mtt_brian.engines import ORDERS, Order
from mtt_brian.evaluate import Estimate, Flexibility, accuracy, flexibility
from mtt_brian.evaluate.statistics import gap, over_seeds
from mtt_brian.evaluate.tables import Cell, Table, in_percent, ranking
from mtt_brian.evaluate.temporal_flexibility import TIME_STEPS as SCORED
from mtt_brian.experiments import inference, option_checks, study_cli
from mtt_brian.experiments.inference import Condition, Mode
from mtt_brian.plotting import SweepCurve
from mtt_brian.plotting.axes import spelled_out

TIME_STEPS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200)


class Sweep(NamedTuple):
    """Accuracy under every condition, the gap between the largest T and each event-driven convention, flexibility."""

    accuracy: dict[Condition, Estimate]
    gap: dict[Order, Estimate]
    flexibility: tuple[Flexibility, ...]

    def by_name(self) -> dict[str, Any]:
        named = {str(c): e for c, e in self.accuracy.items()} | {f"gap {order}": e for order, e in self.gap.items()}
        return named | {"flexibility": [score._asdict() for score in self.flexibility]}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    study = study_cli.open_study("time_step_sweep", options, arguments)
    time_steps = sorted({*options.time_steps})
    conditions = [*(Condition("time-stepped", t) for t in time_steps), *map(Condition, ORDERS)]

    def predict(run: str, mode: Mode, t: int) -> list[int]:
        predicted: list[int] = inference.predict(study.runs[run].model, study.recordings, mode, t).classes.tolist()
        return predicted

    predicted = study.compute([(run, *condition) for run in study.runs for condition in conditions], predict)

    def sweep(run: str) -> Sweep:
        labels, classes = study.recordings.labels, {c: predicted[run, *c] for c in conditions}
        finest = classes[Condition("time-stepped", time_steps[-1])]
        correct = {t: np.equal(classes[Condition("time-stepped", t)], labels) for t in time_steps}
        scored = set(SCORED) <= set(time_steps)
        return Sweep(
            {c: accuracy(classes[c], labels) for c in conditions},
            {order: gap(finest, classes[Condition(order)], labels) for order in ORDERS},
            (flexibility(correct, np.equal(classes[Condition("sum")], labels)),) if scored else (),
        )

    by_run = {run: sweep(run) for run in study.runs}
    by_method = {label: mean([by_run[run] for run in runs]) for label, runs in study.groups.items()}

    plot(by_method, time_steps, study.data, study.out / "time_step_sweep.png")
    report = study.facts | {
        "groups": {label: {"runs": runs, **by_method[label].by_name()} for label, runs in study.groups.items()},
        "runs": {run: {"method": study.runs[run].config["method"], **by_run[run].by_name()} for run in by_run},
    }
    averaged = {f"{label} ({len(runs)})": by_method[label] for label, runs in study.groups.items()}
    study.write(
        report,
        f"Time-stepped and event-driven: {study.data}",
        table("mean over seeds", averaged),
        caption(time_steps[-1]),
        table("single runs", by_run),
        ranking({label: sweep.flexibility for label, sweep in averaged.items()}),
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__, "study time_step_sweep")
    study_cli.add_options(parser, "time_step_sweep")
    study_cli.add_time_steps(parser, TIME_STEPS, "numbers of time steps")
    options = parser.parse_args(arguments)
    option_checks.at_least_one(options, "limit", "time_steps")
    return options


def mean(seeds: Sequence[Sweep]) -> Sweep:
    return Sweep(
        {condition: over_seeds([seed.accuracy[condition] for seed in seeds]) for condition in seeds[0].accuracy},
        {order: over_seeds([seed.gap[order] for seed in seeds]) for order in ORDERS},
        tuple(score for seed in seeds for score in seed.flexibility),
    )


def table(title: str, sweeps: Mapping[str, Sweep]) -> Table:
    """Conditions below each other, runs or methods beside each other."""
    columns = list(sweeps.values())
    rows: list[list[Cell | str]] = [
        [str(c), *(in_percent(sweep.accuracy[c]) for sweep in columns)] for c in columns[0].accuracy
    ]
    rows += [[f"gap {order}", *(in_percent(sweep.gap[order], sign=True) for sweep in columns)] for order in ORDERS]
    return Table.of_rows(f"Accuracy in %, {title}", ["", *sweeps], rows)


def caption(largest: int) -> str:
    return f"""\
Accuracy in %: mean over so many seeds ± the standard error over them; of single runs ± the binomial one.
`sum`, `fifo`: event-driven.
Gap: accuracy at T = {largest} minus event-driven, in points; of single runs ± the paired error."""


def plot(sweeps: Mapping[str, Sweep], time_steps: Sequence[int], title: str, path: Path) -> None:
    """The curves over T on the left, what is left of them event-driven (sum) on the right."""
    curves = [
        SweepCurve(
            spelled_out(label),
            time_steps,
            [sweep.accuracy[Condition("time-stepped", t)] for t in time_steps],
            sweep.accuracy[Condition("sum")],
        )
        for label, sweep in sweeps.items()
    ]
    with plotting.figure(path, (5.6, 3)) as figure:
        plotting.sweep_panels(figure, curves, title)


if __name__ == "__main__":
    sys.exit(cli.run_script(main))
