"""Run trained networks event by event, in continuous time, beside their time-stepped selves.

python studies/event_driven_eval.py                                  # the newest run under runs/
python studies/event_driven_eval.py runs/digits-sdt-0-001 runs/digits-mtt-0-001      # side by side
python studies/event_driven_eval.py RUN --engine brian2-cpp          # the same spikes from Brian2
python studies/event_driven_eval.py RUN --dataset nmnist --data-root DIR --limit 50
python studies/event_driven_eval.py RUN --dask                       # a process per core of this machine
python studies/event_driven_eval.py RUN --dask tcp://host:8786       # the workers of a Dask cluster
python studies/event_driven_eval.py RUN --out results/mine           # again with the same --out after a stop: the rest

Two conventions say what happens to events that arrive at the same instant:

  sum   all jumps of one instant are summed and applied once; then a neuron fires as its rule says (floor(v/threshold)
        spikes for "many"). The limit of ever finer time steps, if there were one; every engine can do it.
  fifo  every event is applied alone, in the order of the recording, and travels breadth first: the lower bound acts
        after each jump, a neuron fires at most one spike per event. What event-driven chips do; engine exact only.

The same weights can answer differently under the two, so both are reported where the engine allows it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from mtt_brian import cli, files, plotting
from mtt_brian.circuit.model import Circuit
from mtt_brian.engines import ORDERS, Order, Simulator, engine_info
from mtt_brian.engines.engine_table import ENGINES, engines_with
from mtt_brian.errors import InputError
from mtt_brian.evaluate import Report, RunReport, readout_trace
from mtt_brian.evaluate.html import Picture, write_html
from mtt_brian.events import Recordings
from mtt_brian.experiments import dask_backend, evaluation, run_folder, study_cli
from mtt_brian.experiments.evaluation import Compute, Job, Origin, Part, Shard, Tallies
from mtt_brian.experiments.finished import Finished
from mtt_brian.experiments.run_folder import Run
from mtt_brian.plotting.axes import legend_beside, literal
from mtt_brian.progress import progress_bar
from mtt_brian.translate import nir_files

#: Grids of the time-stepped side, next to the run's own T_max; the last ones are far finer than anything trained on.
TIME_STEPS = (1, 2, 5, 10, 20, 50, 100, 150)

#: The figures: file name, what is drawn, and what stands below it in report.html.
PICTURES = (
    (
        "accuracy.png",
        "bars: accuracy of every network with time steps and without",
        "Accuracy on time steps and event by event, with standard errors.",
    ),
    (
        "accuracy_over_time.png",
        "lines: accuracy over the time since the recording began",
        "Event by event: the part of the answers that is right if they are taken early.",
    ),
    (
        "time_step_sweep.png",
        "lines: accuracy over the number of time steps; across: accuracy without time steps",
        "Accuracy on ever finer time grids; the horizontal lines are event-driven.",
    ),
    (
        "raster.png",
        "dots: spikes over time by layer, a picture per network; below them the readout over time",
        "The first recording in every network: spikes of the input and of the layers, and the readout of every class.",
    ),
    (
        "confusion.png",
        "matrices: how often every class was given every answer, a matrix per network",
        "Event by event: which classes are taken for which.",
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    by_name, recordings = study_cli.runs_and_recordings(options, options.skip_bad)
    circuits = study_cli.circuits(by_name, recordings)
    options.orders = conventions(options, circuits)
    jobs = {name: job_of(run, recordings, options) for name, run in by_name.items()}
    every = [s for name in jobs for s in evaluation.divide(name, jobs[name], circuits[name], recordings, options.shard)]
    origin = origin_of(recordings, list(by_name.values()), options)
    here = nullcontext(evaluation.evaluate_here)
    out = files.results_folder(options.out, "event_driven_eval")
    finished = Finished(out / "shards")
    finished.check(shard.settings(origin) for shard in every)
    pages = ["report.html"] if options.html else []
    files.check_replaceable(out, ["report.json", "report.md", *(name for name, *_ in PICTURES), *pages])
    with (
        files.removed_if_empty(out),
        dask_backend.workers(options.dask, len(every), origin) if options.dask else here as compute,
    ):
        print(f"{recordings.title}, {recordings.split}: {len(recordings)} recordings; engine {options.engine}")
        parts = evaluate(every, origin, finished, compute)

    report = Report(
        dataset=recordings.name,
        title=recordings.title,
        split=recordings.split,
        engine=options.engine,
        versions=run_folder.versions(*evaluation.PACKAGES),
        command=study_cli.command("event_driven_eval", arguments),
        runs=tuple(
            run_report(run, jobs[name].tallies(circuits[name]), {s: parts[s] for s in every if s.run == name})
            for name, run in by_name.items()
        ),
    )
    report.write(out)
    plot_accuracies(report, out)
    plot_spikes(list(by_name.values()), recordings, options.orders[0], out / "raster.png")
    plot_confusions(report, recordings.classes, out / "confusion.png")
    if options.html:
        pictures = [Picture(out / name, alt, caption) for name, alt, caption in PICTURES]
        write_html(report, pictures, out / "report.html", recordings.classes)
    finished.discard()
    print(f"\n{report.table()}\n\n{files.contents(out)}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = cli.parser(__doc__)
    study_cli.add_options(parser, "event_driven_eval")
    parser.add_argument("--engine", default="exact", metavar="NAME", help=f"{', '.join(ENGINES)} [exact]")
    parser.add_argument(
        "--order", choices=[*ORDERS, "both"], help="convention for simultaneous events [both where that is possible]"
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out recordings that cannot be read, and list them"
    )
    parser.add_argument(
        "--html", action="store_true", help="also write report.html: tables and figures in one file, to pass on"
    )
    study_cli.add_time_steps(parser, TIME_STEPS, "time grids to compare with, next to T_max of each run")
    parser.add_argument(
        "--dask",
        nargs="?",
        const=dask_backend.LOCAL,
        metavar="ADDRESS",
        help="compute on the workers of this Dask scheduler; without ADDRESS on a process per core of this machine",
    )
    parser.add_argument(
        "--shard",
        type=int,
        metavar="N",
        help="recordings that are computed, kept and, at worst, lost together"
        f" [{evaluation.SHARD}; {evaluation.SHARD_OF_LANES} for engines that run them side by side; fewer for a large"
        " network]",
    )
    options = parser.parse_args(arguments)
    known = engine_info(options.engine).orders
    for order in ORDERS if options.order == "both" else [options.order] if options.order else []:
        if order not in known:
            others = " or ".join(f"--engine {name}" for name in engines_with(order))
            raise InputError(f"--order {options.order} needs {others}; {options.engine} takes {', '.join(known)}")
    study_cli.at_least_one(options, "limit", "time_steps", "shard")
    return options


def conventions(options: argparse.Namespace, circuits: Mapping[str, Circuit]) -> tuple[Order, ...]:
    """The conventions to report: those asked for, else both where the engine runs the networks under both."""
    if options.order:
        return ORDERS if options.order == "both" else (options.order,)
    known = engine_info(options.engine).orders
    if known == ORDERS:
        for name, circuit in circuits.items():
            try:
                Simulator(circuit, engine=options.engine, order="fifo")
            except InputError as error:
                print(f"{name}: {error}. Reporting sum only", file=sys.stderr)
                return ("sum",)
    return known


def job_of(run: Run, recordings: Recordings, options: argparse.Namespace) -> Job:
    """What is asked of a run's network."""
    return Job(
        graph=nir_files.load_graph(run.model),
        digest=run.digest,
        time_steps=run.config["time_steps"],
        grids=tuple(sorted({*options.time_steps} - {run.config["time_steps"]})),
        engine=options.engine,
        orders=options.orders,
        duration_us=recordings.duration_us,
    )


def origin_of(recordings: Recordings, chosen: Sequence[Run], options: argparse.Namespace) -> Origin:
    """Where `runs.recordings_for` found them, by a path that holds in any working folder."""
    root = run_folder.data_root_for(chosen, recordings.name, options.data_root)
    return Origin(recordings.name, root and os.path.abspath(root), recordings.split, chosen[0].config.get("resolution"))


def evaluate(every: Sequence[Shard], origin: Origin, finished: Finished, compute: Compute) -> dict[Shard, Part]:
    """All shards: those that were finished before, and what ``compute`` gives for the others, kept at once."""
    found = {shard: finished.get(shard.settings(origin)) for shard in every}
    parts = {shard: part for shard, part in found.items() if part is not None}
    missing = [shard for shard in every if shard not in parts]
    bar = progress_bar(
        total=sum(s.passes for s in every),
        initial=sum(s.passes for s in parts),
        description="evaluating",
        unit="run",
    )
    with bar:
        try:
            for shard, part in compute(missing, bar.update):
                finished.keep(shard.settings(origin), part)
                parts[shard] = part
                bar.set_postfix_str(f"{len(parts)} of {len(every)} shards")
        except BaseException:
            bar.close()
            if parts:
                out = finished.folder.parent
                print(
                    f"{len(parts)} of {len(every)} shards are kept; --out {out} goes on with the rest", file=sys.stderr
                )
            raise
    return parts


def run_report(run: Run, tallies: Tallies, parts: Mapping[Shard, Part]) -> RunReport:
    """One network: its parts, in the order of the recordings, put together in empty tallies."""
    for part in parts.values():
        tallies.merge(part)
    time_stepped, event_driven = tallies.summaries()
    return RunReport(
        run=run.name,
        method=run.config["method"],
        seed=run.config.get("seed"),
        n_recordings=sum(len(shard.recordings) for shard in parts),
        time_stepped=time_stepped,
        event_driven=event_driven,
    )


def plot_accuracies(report: Report, out: Path) -> None:
    """Accuracy as bars, over time, and against the time grid."""
    t_maxes = {run.time_stepped.time_steps for run in report.runs}
    shown = sorted({1, *t_maxes, max(t for run in report.runs for t in run.time_stepped.accuracy)})
    orders = [event_driven.order for event_driven in report.runs[0].event_driven]
    title = literal(f"{report.title}, {report.split}", 80)
    groups = [*(f"T = {t}" for t in shown), *(f"event-driven\n{order}" for order in orders)]
    bars = {
        run.run: [*(run.time_stepped.accuracy.get(t) for t in shown), *(e.accuracy for e in run.event_driven)]
        for run in report.runs
    }
    with plotting.figure(out / "accuracy.png", (7.2, 3)) as figure:
        plotting.accuracy_bars(groups, bars, ax=figure.subplots())
        figure.suptitle(title)

    with plotting.figure(out / "accuracy_over_time.png", _size(len(report.runs) * len(orders))) as figure:
        ax = figure.subplots()
        for run in report.runs:
            for measured in run.event_driven:
                label = f"{run.run}, {measured.order}"
                plotting.accuracy_over_time(measured.times, measured.accuracy_over_time, label=label, ax=ax)
        legend_beside(ax)
        ax.set_title(f"{title}: event-driven")

    with plotting.figure(out / "time_step_sweep.png", _size(2 * len(report.runs))) as figure:
        ax = figure.subplots()
        for run in report.runs:
            accuracy = run.time_stepped.accuracy
            event_driven = run.event_driven[0].accuracy
            plotting.time_step_sweep(
                list(accuracy), list(accuracy.values()), event_driven=event_driven, label=run.run, ax=ax
            )
        legend_beside(ax)
        ax.set_title(f"{title}; lines: event-driven, {orders[0]}")


def _size(lines: int) -> tuple[float, float]:
    """Of a figure, in inches, with the names of so many lines beside it."""
    return 7.2, max(3.0, 0.6 + 0.17 * lines)


def plot_spikes(chosen: Sequence[Run], recordings: Recordings, order: Order, path: Path) -> None:
    """The first recording in every network: spikes of input and layers, and the readout below.

    By the exact engine whatever the engine of the report: all engines give the same spikes, and this one need not
    compile again to record them all.
    """
    label = int(recordings.labels[0])
    with plotting.figure(path, (3.6 * len(chosen), 4.5)) as figure:
        axes = figure.subplots(2, len(chosen), squeeze=False, sharex=True, height_ratios=[3, 1])
        for (top, bottom), run in zip(axes.T, chosen, strict=True):
            engine = Simulator(run.model, engine="exact", order=order, record="all")
            (result,) = engine.run(recordings[:1])
            plotting.raster(result, recording=recordings[0], ax=top).set_title(literal(run.name))
            plotting.readout(*readout_trace(result), label=label, ax=bottom)
            top.set_xlabel("")
        what = (recordings.title, recordings.ids[0], f"class {recordings.classes[label]}")
        figure.suptitle(", ".join([*(literal(text, 40) for text in what), order]))


def plot_confusions(report: Report, classes: Sequence[str], path: Path) -> None:
    """The event-driven answers of every network against the classes, under the first convention."""
    side = 2.2 + 0.13 * len(classes)
    with plotting.figure(path, (side * len(report.runs), side)) as figure:
        for ax, run in zip(figure.subplots(1, len(report.runs), squeeze=False)[0], report.runs, strict=True):
            measured = run.event_driven[0]
            plotting.confusion_matrix(measured.confusion_matrix, classes, ax=ax).set_title(
                f"{literal(run.run)}, {measured.order}"
            )
