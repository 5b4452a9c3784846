"""Where the event-driven gap comes from: from the trained time steps to an event-driven chip, one change at a time.

mtt-brian study gap_attribution                                    # the newest run under runs/
mtt-brian study gap_attribution runs/sdt-{0,1,2} runs/mtt-{0,1,2}  # seeds of one method are averaged
mtt-brian study gap_attribution RUN --limit 50 --out results/mine  # again with the same --out: only what is missing

The question of mtt-brian gap, asked of several runs at once: each is run at its own T_max, every stage with the same
number of steps, and then under every combination of these changes:

  instants   bins -> instants: the jumps of one microsecond are summed, not those of one time step
  fifo       single events: each is applied alone, in the order of the recording, and travels breadth first
  one spike  a neuron fires at most one spike per update and keeps the rest of its membrane
  no bound   the membrane has no lower bound (runs trained without one: a bound at minus the threshold)
  8 bit      every layer's weights are rounded to 8 bits, symmetric about 0

"fifo" contains "instants" (for neurons without a leak a queue of single events has no time steps) and "one spike" (a
single event fires at most one spike of a neuron), so these are not combined. That leaves 20 of 32 combinations.

What other lower bounds do in the training: mtt-brian study lower_bounds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtt_brian import cli

cli.configure_threads()

import numpy as np

from mtt_brian import plotting, translate
from mtt_brian.errors import InputError
from mtt_brian.evaluate.factorial import UNCHANGED, Cells, Groups, effect, title
from mtt_brian.experiments import backend, gap, gap_report, option_checks, study_cli
from mtt_brian.experiments.gap import GapTask, Plan, Rule
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.experiments.run_folder import Run
from mtt_brian.plotting.axes import literal, spelled_out
from mtt_brian.translate.conventions import Conventions
from mtt_brian.translate.nir_files import load_graph

#: Recordings that are computed and kept together.
SHARD = 50
NOTE = """\
Means over the seeds of a method with their standard error over the seeds (of a single run: over its recordings).
Changes are taken recording by recording and seed by seed. Spike differences are sum |s0 - s| / sum |s0| with s0 of
the network as trained, on T_max time steps. Left out, because they mean nothing: `fifo` with `instants`, which it
contains, and `fifo` with `one spike`, which it contains as well."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    study = study_cli.open_study("gap_attribution", options, arguments)
    plans = plans_of(study.runs)
    tasks = {
        name: GapTask(load_graph(run.model), run.digest, Conventions(), plans[name].named_rules)
        for name, run in study.runs.items()
    }
    bound = {"ids": study.recordings.ids, "tasks": {name: task.settings() for name, task in tasks.items()}}
    store = ResultStore(study.out / "changes.jsonl", {**study.settings, **bound})
    shards = [s for name, task in tasks.items() for s in backend.divide(name, task, study.recordings, SHARD)]
    parts = dict(zip(shards, gap.evaluate(shards, store, backend.evaluate_here), strict=True))
    cells: dict[str, Any] = {}
    for name in tasks:
        results = gap.merge([part for shard, part in parts.items() if shard.run == name], study.recordings.labels)
        cells |= gap_report.cells_of(name, results)
    plan = next(iter(plans.values()))
    plot_changes(study.groups, plan, cells, study.data, study.out)
    plot_pairs(study.groups, plan, cells, study.data, study.out)
    study.write(
        study.facts | {"groups": study.groups, "changes": cells},
        f"Where the event-driven gap comes from: {study.data}",
        *gap_report.tables_of(study.groups, plan, cells, "accuracy"),
        NOTE,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(__doc__, "study gap_attribution")
    study_cli.add_options(parser, "gap_attribution")
    options = parser.parse_args(arguments)
    option_checks.at_least_one(options, "limit")
    return options


def plans_of(runs: Mapping[str, Run]) -> dict[str, Plan]:
    """The same changes for every run, each from its own T_max.

    Raises:
        InputError: if the runs have no changes in common.
    """
    plans = {}
    for name, run in runs.items():
        circuit = translate.read_nir(run.model)
        plans[name] = gap.plan(circuit, Rule(bins=run.config["time_steps"]), gap.usual_target(circuit, None), ())
    first, *others = plans
    for name in others:
        if plans[name].changes != plans[first].changes:
            raise InputError(
                f"{first} can be changed by {', '.join(plans[first].changes)}, and {name} by "
                f"{', '.join(plans[name].changes)}; study runs of one neuron and one kind of lower bound together"
            )
    return plans


def plot_changes(groups: Groups, plan: Plan, cells: Cells, data: str, out: Path) -> None:
    """Single changes and the target as bars."""
    shown = [*(c for c in plan.combinations if len(c) < 2), plan.target]
    with plotting.figure(out / "changes.png", (7.2, 3)) as figure:
        bars = {spelled_out(group): [effect(cells, names, [c]) for c in shown] for group, names in groups.items()}
        plotting.accuracy_bars([*map(title, shown[:-1]), "the target"], bars, ax=figure.subplots())
        figure.suptitle(literal(data, 100), wrap=True)


def plot_pairs(groups: Groups, plan: Plan, cells: Cells, data: str, out: Path) -> None:
    """Single changes and pairs as a matrix for every group."""
    names_of_changes = list(plan.changes)
    with plotting.figure(out / "pairs.png", (3.6 * len(groups), 3.8)) as figure:
        axes = figure.subplots(1, len(groups), squeeze=False)[0]
        for ax, (group, names) in zip(axes, groups.items(), strict=True):
            matrix = np.full((len(names_of_changes), len(names_of_changes)), np.nan)
            for c in plan.combinations:
                if len(c) in (1, 2):
                    at = names_of_changes.index(c[0]), names_of_changes.index(c[-1])
                    matrix[at] = effect(cells, names, [c]).value
            plotting.change_matrix(names_of_changes, matrix, ax=ax).set_title(
                f"{literal(spelled_out(group))}: {100 * effect(cells, names, [UNCHANGED]).value:.1f} % time-stepped"
            )
        figure.suptitle(f"{literal(data, 100)}: accuracy in % after one change, and after two", wrap=True)


if __name__ == "__main__":
    sys.exit(cli.run_script(main))
