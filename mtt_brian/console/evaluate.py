"""Run trained networks event by event, in continuous time, beside their time-stepped selves.

python studies/event_driven_eval.py                                  # the newest run under runs/
python studies/event_driven_eval.py runs/digits-sdt-0-001 runs/digits-mtt-0-001      # side by side
python studies/event_driven_eval.py RUN --engine brian2-cpp          # the same spikes from Brian2
python studies/event_driven_eval.py RUN --dataset nmnist --data-root DIR --limit 50

Two conventions say what happens to events that arrive at the same instant:

  sum   all jumps of one instant are summed and applied once; then a neuron fires as its rule says (floor(v/threshold)
        spikes for "many"). The limit of ever finer time steps, if there were one; every engine can do it.
  fifo  every event is applied alone, in the order of the recording, and travels breadth first: the lower bound acts
        after each jump, a neuron fires at most one spike per event. What event-driven chips do; engine exact only.

The same weights can answer differently under the two, so both are reported where the engine allows it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from mtt_brian import export, mtt, plotting, runs, sides, study, translate
from mtt_brian.errors import InputError
from mtt_brian.evaluate import EventDrivenTally, Report, RunReport, TimeSteppedTally, readout_trace
from mtt_brian.events import Recordings
from mtt_brian.runs import Run
from mtt_brian.simulate import ENGINES, ORDERS, Result, Simulator

#: Grids of the time-stepped side, next to the run's own T_max; the last ones are far finer than anything trained on.
TIME_STEPS = (1, 2, 5, 10, 20, 50, 100, 150)
#: Recordings that are held in memory, and given to the engine, at a time; fewer where they are large.
CHUNK = 200
#: Numbers in one array of frames or of spike counts at most (about 100 MB).
BUDGET = 25_000_000
#: Points of the accuracy over time.
READINGS = 301


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    by_name, recordings = study.take_up(options, options.skip_bad)
    chosen = list(by_name.values())
    options.orders = conventions(options, chosen)
    out = runs.results_folder(options.out, "event_driven_eval")
    print(f"{recordings.title}, {recordings.split}: {len(recordings)} recordings; engine {options.engine}")

    report = Report(
        dataset=recordings.name,
        title=recordings.title,
        split=recordings.split,
        engine=options.engine,
        versions=runs.versions("brian2", "torch", "numpy", "scipy", "numba", "nir"),
        command=study.command("event_driven_eval", arguments),
        runs=tuple(evaluate_run(run, recordings, options) for run in chosen),
    )
    report.write(out)
    plot_accuracies(report, out)
    plot_spikes(chosen, recordings, options.orders[0], out / "raster.png")
    print(f"\n{report.table()}\n\n{study.contents(out)}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = study.parser(__doc__)
    study.add_options(parser, "event_driven_eval")
    parser.add_argument("--engine", default="exact", metavar="NAME", help="exact, brian2 or brian2-cpp [exact]")
    parser.add_argument(
        "--order", choices=[*ORDERS, "both"], help="convention for simultaneous events [both where that is possible]"
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out recordings that cannot be read, and list them"
    )
    parser.add_argument(
        "--time-steps",
        nargs="+",
        type=int,
        default=TIME_STEPS,
        metavar="T",
        help=f"time grids to compare with, next to T_max of each run [{' '.join(map(str, TIME_STEPS))}]",
    )
    options = parser.parse_args(arguments)
    if options.engine not in ENGINES:
        raise InputError(f"unknown engine {options.engine!r}; known: {', '.join(ENGINES)}")
    if options.order in ("fifo", "both") and options.engine != "exact":
        raise InputError(
            f"--order {options.order} needs --engine exact; {options.engine} sums the jumps of an instant (sum)"
        )
    study.at_least_one(options, "limit", "time_steps")
    return options


def conventions(options: argparse.Namespace, chosen: Sequence[Run]) -> tuple[str, ...]:
    """The conventions to report: those asked for, else both where engine and networks know both."""
    if options.order:
        return ORDERS if options.order == "both" else (options.order,)
    if options.engine != "exact":
        return ("sum",)
    for run in chosen:
        circuit = translate.read_nir(run.model)
        try:
            Simulator(circuit, engine="exact", order="fifo")
        except InputError as error:
            print(f"{run.name}: {error}. Reporting sum only", file=sys.stderr)
            return ("sum",)
    return ORDERS


def evaluate_run(run: Run, recordings: Recordings, options: argparse.Namespace) -> RunReport:
    """One network on all recordings: time-stepped at every T, event-driven under every convention."""
    t_max = run.config["time_steps"]
    circuit = translate.read_nir(run.model)
    model = export.from_nir(run.model, duration=recordings.duration_us * 1e-6).eval()
    if tuple(recordings.sensor_size) != tuple(model.input_shape):
        raise InputError(
            f"{run.model}: made for recordings of shape {tuple(model.input_shape)};"
            f" {recordings.title} has {tuple(recordings.sensor_size)}"
        )

    stepped = TimeSteppedTally(circuit, t_max)
    times = np.linspace(0, recordings.duration_us * 1e-6, READINGS)
    engines = [
        (Simulator(circuit, engine=options.engine, order=order, record="output"), EventDrivenTally(times, order))
        for order in options.orders
    ]
    other_grids = sorted({*options.time_steps} - {t_max})
    passes = len(other_grids) + 1 + len(engines)
    with tqdm(total=passes * len(recordings), desc=run.name, unit="run") as bar:
        for chunk in chunks(recordings, min(CHUNK, bearable(sum(p.size for p in circuit.populations)))):
            for t in other_grids:
                stepped.add_answers(t, mtt.predict(model, chunk, t), chunk.labels)
                bar.update(len(chunk))
            started = time.perf_counter()
            answers = sides.time_stepped(run.model, chunk, t_max)
            stepped.add_answers(t_max, answers.readouts, chunk.labels)
            stepped.add_counts(answers.counts, time.perf_counter() - started)
            bar.update(len(chunk))
            for engine, tally in engines:
                results, seconds = timed_run(engine, chunk)
                if tally.empty:
                    # Engines are built and compiled in their first run; a second one shows what the run itself takes.
                    results, again = timed_run(engine, chunk)
                    tally.compile_seconds, seconds = max(0.0, seconds - again), again
                for k, result in enumerate(results):
                    spikes = {name: count[k] for name, count in answers.counts.items()}
                    tally.add(result, int(chunk.labels[k]), spikes, answers.readouts[k], seconds / len(chunk))
                bar.update(len(chunk))
    return RunReport(
        run=run.name,
        method=run.config["method"],
        seed=run.config.get("seed"),
        n_recordings=len(recordings),
        time_stepped=stepped.summary(),
        event_driven=tuple(tally.summary() for _, tally in engines),
    )


def chunks(recordings: Recordings, size: int) -> Iterator[Recordings]:
    """Parts of ``recordings``, each read from its files once."""
    for start in range(0, len(recordings), size):
        chunk = recordings[start : start + size]
        loaded = dict(zip(chunk.ids, chunk, strict=True))
        yield dataclasses.replace(chunk, read=loaded.__getitem__)


def timed_run(engine: Simulator, recordings: Recordings) -> tuple[list[Result], float]:
    """Results, and the seconds they took together."""
    started = time.perf_counter()
    results = list(engine.run(recordings))
    return results, time.perf_counter() - started


def bearable(numbers: int) -> int:
    """How many recordings of that many numbers each fit into the budget; at least one."""
    return max(1, BUDGET // numbers)


def plot_accuracies(report: Report, out: Path) -> None:
    """Accuracy as bars, over time, and against the time grid."""
    t_maxes = {run.time_stepped.time_steps for run in report.runs}
    shown = sorted({1, *t_maxes, max(t for run in report.runs for t in run.time_stepped.accuracy)})
    orders = [event_driven.order for event_driven in report.runs[0].event_driven]
    groups = [*(f"T = {t}" for t in shown), *(f"event-driven\n{order}" for order in orders)]
    bars = {
        run.run: [*(run.time_stepped.accuracy.get(t) for t in shown), *(e.accuracy for e in run.event_driven)]
        for run in report.runs
    }
    figure = Figure(figsize=(7, 4), layout="constrained")
    plotting.accuracy_bars(groups, bars, ax=figure.subplots())
    figure.suptitle(f"{report.title}, {report.split}")
    runs.save_figure(figure, out / "accuracy.png")

    figure = Figure(figsize=(7, 4), layout="constrained")
    ax = figure.subplots()
    for run in report.runs:
        for measured in run.event_driven:
            label = f"{run.run}, {measured.order}"
            plotting.accuracy_over_time(measured.times, measured.accuracy_over_time, label=label, ax=ax)
    ax.set_title(f"{report.title}, {report.split}: event-driven")
    runs.save_figure(figure, out / "accuracy_over_time.png")

    figure = Figure(figsize=(7, 4), layout="constrained")
    ax = figure.subplots()
    for run in report.runs:
        accuracy = run.time_stepped.accuracy
        event_driven = run.event_driven[0].accuracy
        plotting.time_step_sweep(
            list(accuracy), list(accuracy.values()), event_driven=event_driven, label=run.run, ax=ax
        )
    ax.set_title(f"{report.title}, {report.split}; lines: event-driven, {orders[0]}")
    runs.save_figure(figure, out / "time_step_sweep.png")


def plot_spikes(chosen: Sequence[Run], recordings: Recordings, order: str, path: Path) -> None:
    """The first recording in every network: spikes of input and layers, and the readout below.

    By the exact engine whatever the engine of the report: all engines give the same spikes, and this one need not
    compile again to record them all.
    """
    label = int(recordings.labels[0])
    figure = Figure(figsize=(6 * len(chosen), 7), layout="constrained")
    axes = figure.subplots(2, len(chosen), squeeze=False, sharex=True, height_ratios=[3, 1])
    for (top, bottom), run in zip(axes.T, chosen, strict=True):
        engine = Simulator(run.model, engine="exact", order=order, record="all")
        (result,) = engine.run(recordings[:1])
        plotting.raster(result, recording=recordings[0], ax=top).set_title(run.name)
        plotting.readout(*readout_trace(result), label=label, ax=bottom)
        top.set_xlabel("")
    figure.suptitle(f"{recordings.title}, {recordings.ids[0]}, class {recordings.classes[label]}, {order}")
    runs.save_figure(figure, path)
