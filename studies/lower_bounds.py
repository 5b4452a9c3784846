"""What a lower bound of the membrane does in the training: runs trained anew with other bounds.

mtt-brian study lower_bounds                                       # the newest run under runs/: none, -4, -1, -0.25
mtt-brian study lower_bounds runs/sdt-{0,1,2} runs/mtt-{0,1,2}     # seeds of one method are averaged
mtt-brian study lower_bounds RUN --bounds none -1 --out results/mine    # again with the same --out: what is missing

Every run is trained anew with each bound on its own settings; a part of the training recordings is held back for
validation. Every network runs with its bound and without any, time-stepped and event-driven.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtt_brian import cli

cli.configure_threads()

from mtt_brian import plotting
from mtt_brian.evaluate import Estimate
from mtt_brian.evaluate.factorial import Groups
from mtt_brian.evaluate.statistics import over_seeds
from mtt_brian.evaluate.tables import Column, Table, in_percent, words
from mtt_brian.events import Recordings
from mtt_brian.events.datasets import check_not_a_reference
from mtt_brian.experiments import inference, option_checks, perturb_networks, run_folder, study_cli
from mtt_brian.experiments.run_folder import Run
from mtt_brian.machine import keep_freed_memory
from mtt_brian.mtt import TrainConfig
from mtt_brian.plotting import AccuracyLine, AccuracyPanel
from mtt_brian.plotting.axes import spelled_out
from mtt_brian.translate.nir_files import load_graph

#: Marks the ways to run a network that was trained with a bound, but without it.
REMOVED = ", bound removed"
Results = Mapping[tuple[Any, ...], Mapping[str, Mapping[str, Any]]]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    study = study_cli.open_study("lower_bounds", options, arguments)
    keep_freed_memory()
    keys = [(name, bound) for name in study.runs for bound in options.bounds]
    results = study.compute(
        keys,
        lambda name, bound: train(study.runs[name], bound, study.recordings, options, study.out),
        settings={"validation": options.validation},
    )
    plot(study.groups, results, options.bounds, study.data, study.out)
    by_name = {f"{name}: {name_of(lower_bound)}": result for (name, lower_bound), result in results.items()}
    study.write(
        study.facts | {"groups": study.groups, "bounds": by_name},
        f"Trained with another lower bound: {study.data}",
        *tables(study.groups, results, options.bounds),
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(__doc__, "study lower_bounds")
    study_cli.add_options(parser, "lower_bounds")
    parser.add_argument(
        "--bounds",
        nargs="+",
        type=bound,
        default=[None, -4.0, -1.0, -0.25],
        metavar="BOUND",
        help="lower bounds, in the units of the membrane; none for no bound [none -4 -1 -0.25]",
    )
    parser.add_argument(
        "--validation", type=float, default=0.2, metavar="PART", help="of the training recordings, held back [0.2]"
    )
    options = parser.parse_args(arguments)
    option_checks.at_least_one(options, "limit")
    return options


def bound(text: str) -> float | None:
    """A lower bound; "none" is no bound."""
    return None if text == "none" else float(text)


def name_of(lower_bound: float | None) -> str:
    return "none" if lower_bound is None else f"{lower_bound:g}"


def train(
    run: Run, lower_bound: float | None, test: Recordings, options: argparse.Namespace, out: Path
) -> dict[str, dict[str, Estimate]]:
    """The run trained anew with another bound: accuracy by part of the data and way to run it."""
    check_not_a_reference(run.config["dataset"], options.dataset)
    own = {"data_root": options.data_root or run.config.get("data_root"), "validation": options.validation}
    config = TrainConfig(**run.config | own | {"lower_bound": lower_bound})
    splits = run_folder.load_splits(config)
    network = run_folder.trained(config, splits, out / "runs" / f"{run.name}-bound-{name_of(lower_bound)}")
    graph = load_graph(network.model)
    measured: dict[str, dict[str, Estimate]] = {}
    for part, recordings in (("validation", run_folder.with_events(splits.validation)), (test.split, test)):
        measured[part] = {}
        for suffix, changed in (("", graph), (REMOVED, perturb_networks.without_bound(graph))):
            for mode in inference.MODES:
                predicted = inference.predict(changed, recordings, mode, config.time_steps)
                measured[part][mode + suffix] = predicted.accuracy(recordings.labels)
    return measured


def estimate(results: Results, names: Sequence[str], lower_bound: float | None, part: str, way: str) -> Estimate:
    """Accuracy over the seeds."""
    return over_seeds([Estimate(**results[name, lower_bound][part][way]) for name in names])


def tables(groups: Groups, results: Results, bounds: Sequence[float | None]) -> list[Table]:
    """A table for every part of the data: the bound of the training, run with it and without any."""
    rows = [(b, suffix) for b in bounds for suffix in ("", REMOVED) if not (b is None and suffix)]
    return [
        Table(
            f"Accuracy in %, {part}",
            [
                words("trained with", [name_of(b) + suffix for b, suffix in rows]),
                *(
                    Column(group, mode, [in_percent(estimate(results, names, b, part, mode + s)) for b, s in rows])
                    for group, names in groups.items()
                    for mode in inference.MODES
                ),
            ],
        )
        for part in next(iter(results.values()))
    ]


def plot(groups: Groups, results: Results, bounds: Sequence[float | None], data: str, out: Path) -> None:
    """Accuracy over the bound of the training, a panel for every part of the data."""
    panels = []
    for part in next(iter(results.values())):
        lines = [
            AccuracyLine(
                f"{spelled_out(group)}, {inference.MODE_NAMES[mode]}",
                (color, dash),
                [estimate(results, names, b, part, mode) for b in bounds],
            )
            for color, (group, names) in enumerate(groups.items())
            for dash, mode in enumerate(inference.MODES)
        ]
        panels.append(AccuracyPanel([name_of(b) for b in bounds], f"lower bound in training and use ({part})", lines))
    with plotting.figure(out / "bounds.png", (3.6 * len(panels), 3.2)) as figure:
        plotting.accuracy_panels(figure, panels, data, columns=len(panels))


if __name__ == "__main__":
    sys.exit(cli.run_script(main))
