"""Where the event-driven gap comes from: from the trained time steps to an event-driven chip, one change at a time.

python studies/gap_attribution.py                                    # the newest run under runs/
python studies/gap_attribution.py runs/sdt-{0,1,2} runs/mtt-{0,1,2}  # seeds of one method are averaged
python studies/gap_attribution.py RUN --limit 50 --out results/mine  # again with the same --out: only what is missing
python studies/gap_attribution.py RUN --train-bounds none -4 -1      # train it anew with other lower bounds as well

The network as trained (every stage at T_max) is changed in five ways:

  instants   bins -> instants: the jumps of one microsecond are summed, not those of one time step
  fifo       single events: each is applied alone, in the order of the recording, and travels breadth first
  one spike  a neuron fires at most one spike per update and keeps the rest of its membrane
  no bound   the membrane has no lower bound
  8 bit      every layer's weights are rounded to 8 bits, symmetric about 0

How arrivals are grouped is one thing with three values, bins, instants or single events: "fifo" contains "instants"
(for neurons without a leak a queue of single events knows no time steps), and the two are never combined. A single
event fires at most one spike of a neuron anyway: "fifo" contains "one spike". That leaves 20 of 32 combinations; all
of them are run.

--train-bounds trains every run anew with each of these bounds, on its own settings, but for a part of the training
recordings that is held back. Which bound is better is to be read from that validation part; the test split stands
beside it. Every network is run with the bound it was trained with and without any.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# As in training/run_mtt.py: threads that spin while they wait would take the cores from the simulation.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import nir
import numpy as np

from mtt_brian import cli, files, plotting, translate
from mtt_brian.evaluate import Estimate, Predictions, factorial
from mtt_brian.evaluate.factorial import UNCHANGED, Cells, Combination, Groups, cell_name, effect, title
from mtt_brian.evaluate.statistics import over_seeds
from mtt_brian.evaluate.tables import markdown, markdown_table, percent
from mtt_brian.events import Recordings
from mtt_brian.experiments import inference, perturb_networks, run_folder, study_cli
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.experiments.run_folder import Run
from mtt_brian.mtt import TrainConfig
from mtt_brian.plotting.axes import literal
from mtt_brian.translate.nir_files import load_graph

GROUPING: dict[str, inference.Mode] = {"instants": "sum", "fifo": "fifo"}
NETWORK: dict[str, Callable[[nir.NIRGraph], nir.NIRGraph]] = {
    "one spike": perturb_networks.one_spike,
    "no bound": perturb_networks.without_bound,
    "8 bit": functools.partial(perturb_networks.quantised_weights, bits=8),
}
CHANGES = (*GROUPING, *NETWORK)
COMBINATIONS = factorial.combinations(CHANGES, [("instants", "fifo"), ("fifo", "one spike")])
CHIP: Combination = ("fifo", "no bound", "8 bit")
#: One change of the chip undone. What takes its queue away leaves it its one spike per update.
NEARLY_CHIP: dict[str, Combination] = {
    "fifo + no bound + 8 bit (the chip)": CHIP,
    "instants instead of single events": ("instants", "one spike", "no bound", "8 bit"),
    "time steps instead of single events": ("one spike", "no bound", "8 bit"),
    "lower bound kept": ("fifo", "8 bit"),
    "weights kept": ("fifo", "no bound"),
}
#: Marks the ways to run a network that was trained with a bound, but without it.
BOUND_REMOVED = ", bound removed"
NOTE = """\
Means over the seeds of a method with their standard error over the seeds (of a single run: over its recordings).
Changes are taken recording by recording and seed by seed. Spike differences are sum |s0 - s| / sum |s0| with s0 of
the network as trained, on T_max time steps. Left out, because they mean nothing: `fifo` with `instants`, which it
contains, and `fifo` with `one spike`, which it contains as well."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    chosen, recordings = study_cli.take_up(options)
    groups = run_folder.by_method(chosen)
    out = files.results_folder(options.out, "gap_attribution")
    data = f"{recordings.title}, {recordings.split}"
    print(f"{data}: {len(recordings)} recordings -> {out}")
    settings = {
        "dataset": recordings.name,
        "split": recordings.split,
        "n_recordings": len(recordings),
        "models": study_cli.digests(chosen),
    }

    store = ResultStore(out / "changes.jsonl", settings)
    plan = [(name, c) for name in chosen for c in COMBINATIONS]
    measured = store.fill(plan, lambda name, c: measure(chosen[name], c, recordings), "changes")
    cells = {cell_name(*key): result for key, result in measured.items()}
    tables = tables_of_changes(groups, cells)
    plot_changes(groups, cells, data, out)

    store = ResultStore(out / "bounds.jsonl", settings | {"validation": options.validation})
    trainings = [(name, b) for name in chosen for b in options.train_bounds]
    trained = store.fill(trainings, lambda name, b: train(chosen[name], b, recordings, options, out), "bounds")
    bounds = {f"{name}: {b}": result for (name, b), result in trained.items()}
    if bounds:
        tables |= tables_of_bounds(groups, bounds, options.train_bounds)
        plot_bounds(groups, bounds, options.train_bounds, recordings, out)

    text = "\n\n".join(f"## {heading}\n\n{table}" for heading, table in tables.items())
    report = settings | {
        "groups": groups,
        "changes": cells,
        "trained_bounds": bounds,
    }
    heading = f"Where the event-driven gap comes from: {data}"
    study_cli.write(out, report, heading, f"{text}\n\n{NOTE}", study_cli.command("gap_attribution", arguments))
    print(f"\n{text}\n\n{files.contents(out)}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(__doc__)
    study_cli.add_options(parser, "gap_attribution")
    parser.add_argument(
        "--train-bounds",
        nargs="+",
        type=bound,
        default=[],
        metavar="BOUND",
        help="train with these lower bounds as well; none for no bound",
    )
    parser.add_argument(
        "--validation", type=float, default=0.2, metavar="PART", help="of the training recordings, held back [0.2]"
    )
    options = parser.parse_args(arguments)
    study_cli.at_least_one(options, "limit")
    return options


def bound(text: str) -> float | None:
    """A lower bound; "none" is no bound."""
    return None if text == "none" else float(text)


def measure(run: Run, combination: Combination, recordings: Recordings) -> dict[str, Any]:
    """A network after some changes, beside the network as trained."""
    trained, changed = predictions(run, UNCHANGED, recordings), predictions(run, combination, recordings)
    difference = changed.spike_difference(trained)
    del difference[translate.read_nir(run.model).input]  # the same in all modes
    return {
        "right": factorial.hits(changed, recordings.labels),
        "spike_difference": difference,
        "synops_per_recording": float(changed.synops.mean()),
    }


@functools.lru_cache(maxsize=2)  # the network as trained is asked for again and again
def predictions(run: Run, combination: Combination, recordings: Recordings) -> Predictions:
    graph = load_graph(run.model)
    for change in combination:
        if change in NETWORK:
            graph = NETWORK[change](graph)
    mode = next((GROUPING[change] for change in combination if change in GROUPING), "time-stepped")
    return inference.predict(graph, recordings, mode, run.config["time_steps"])


def tables_of_changes(groups: Groups, cells: Cells) -> dict[str, str]:
    """Tables by heading."""
    single = [c for c in COMBINATIONS if len(c) < 2]
    return {
        "One change of the trained network": factorial.table_of_changes(
            groups, cells, {title(c): c for c in single}, UNCHANGED
        ),
        "How far it takes the spikes": factorial.table_of_spikes(groups, cells, single[1:]),
        "Two changes at once": factorial.table_of_pairs(groups, cells, [c for c in COMBINATIONS if len(c) == 2]),
        "One change of the chip undone": factorial.table_of_changes(groups, cells, NEARLY_CHIP, CHIP),
        "Without time steps, under every rule": factorial.table_of_gaps(
            groups, cells, [(), ("one spike",), ("no bound",), ("one spike", "no bound")], list(GROUPING)
        ),
    }


def plot_changes(groups: Groups, cells: Cells, data: str, out: Path) -> None:
    """Single changes as bars; pairs as a matrix for every group."""
    single = [c for c in COMBINATIONS if len(c) < 2]
    with plotting.figure(out / "changes.png", (7.2, 3)) as figure:
        bars = {group: [effect(cells, names, [c]) for c in [*single, CHIP]] for group, names in groups.items()}
        plotting.accuracy_bars([*map(title, single), "the chip"], bars, ax=figure.subplots())
        figure.suptitle(literal(data, 100))

    with plotting.figure(out / "pairs.png", (3.6 * len(groups), 3.8)) as figure:
        axes = figure.subplots(1, len(groups), squeeze=False)[0]
        for ax, (group, names) in zip(axes, groups.items(), strict=True):
            matrix = np.full((len(CHANGES), len(CHANGES)), np.nan)
            for c in COMBINATIONS:
                if len(c) in (1, 2):
                    matrix[CHANGES.index(c[0]), CHANGES.index(c[-1])] = effect(cells, names, [c]).value
            plotting.change_matrix(CHANGES, matrix, ax=ax).set_title(
                f"{literal(group)}: {100 * effect(cells, names, [UNCHANGED]).value:.1f} % as trained"
            )
        figure.suptitle(f"{literal(data, 100)}: accuracy in % after one change, and after two")


def train(
    run: Run, lower_bound: float | None, test: Recordings, options: argparse.Namespace, out: Path
) -> dict[str, dict[str, Estimate]]:
    """The run trained anew with another bound: accuracy by part of the data and way to run it."""
    own = {"data_root": options.data_root or run.config.get("data_root"), "validation": options.validation}
    config = TrainConfig(**run.config | own | {"lower_bound": lower_bound})
    splits = run_folder.load_splits(config)
    network = run_folder.trained(config, splits, out / "runs" / f"{run.name}-bound-{name_of(lower_bound)}")
    graph = load_graph(network.model)
    measured: dict[str, dict[str, Estimate]] = {}
    for part, recordings in (("validation", run_folder.with_events(splits.validation)), (test.split, test)):
        measured[part] = {}
        for suffix, changed in (("", graph), (BOUND_REMOVED, perturb_networks.without_bound(graph))):
            for mode in inference.MODES:
                predicted = inference.predict(changed, recordings, mode, config.time_steps)
                measured[part][mode + suffix] = predicted.accuracy(recordings.labels)
    return measured


def name_of(lower_bound: float | None) -> str:
    return "none" if lower_bound is None else f"{lower_bound:g}"


def tables_of_bounds(groups: Groups, cells: Cells, bounds: Sequence[float | None]) -> dict[str, str]:
    """A table for every part of the data: the bound of the training, run with it and without any."""
    tables = {}
    rows = [(b, suffix) for b in bounds for suffix in ("", BOUND_REMOVED) if not (b is None and suffix)]
    for part in next(iter(cells.values())):
        lines = [["trained with", *(f"{markdown(group)}: {mode}" for group in groups for mode in inference.MODES)]]
        for b, suffix in rows:
            line = [name_of(b) + suffix]
            for names in groups.values():
                line += [percent(bound_estimate(cells, names, b, part, mode + suffix)) for mode in inference.MODES]
            lines.append(line)
        tables[f"Trained with another lower bound: accuracy in %, {part}"] = markdown_table(lines)
    return tables


def bound_estimate(cells: Cells, names: Sequence[str], lower_bound: float | None, part: str, way: str) -> Estimate:
    return over_seeds([Estimate(**cells[f"{name}: {lower_bound}"][part][way]) for name in names])


def plot_bounds(groups: Groups, cells: Cells, bounds: Sequence[float | None], test: Recordings, out: Path) -> None:
    """Accuracy over the bound of the training, for every part of the data."""
    parts = next(iter(cells.values()))
    with plotting.figure(out / "bounds.png", (3.6 * len(parts), 3.2)) as figure:
        axes = figure.subplots(1, len(parts), sharey=True)
        for ax, part in zip(axes, parts, strict=True):
            for color, (group, names) in enumerate(groups.items()):
                for dash, mode in enumerate(inference.MODES):
                    estimates = [bound_estimate(cells, names, b, part, mode) for b in bounds]
                    plotting.accuracy_against(
                        [name_of(b) for b in bounds], estimates, label=f"{group}, {mode}", style=(color, dash), ax=ax
                    )
            ax.set_title(literal(part))
            ax.set_xlabel("lower bound in training and test")
        figure.suptitle(literal(test.title, 100))


if __name__ == "__main__":
    sys.exit(study_cli.run(main))
