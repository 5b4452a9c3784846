"""The files of an evaluation's report: JSON, Markdown, figures, HTML."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mtt_brian import files, plotting
from mtt_brian.engines import Order, Simulator
from mtt_brian.evaluate import Estimate, Report, RunReport, readout_trace, write_report
from mtt_brian.evaluate.html import ReportFigure, write_html
from mtt_brian.evaluate.report_tables import terminal_text
from mtt_brian.events import Recordings
from mtt_brian.experiments import inference
from mtt_brian.experiments.evaluation import EvaluationPlan
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.experiments.run_folder import Run
from mtt_brian.machine import BATCH
from mtt_brian.plotting import ModeRun
from mtt_brian.plotting.axes import legend_above, literal
from mtt_brian.progress import notice
from mtt_brian.text import number_of, printable

#: The figures: name of the file, what is drawn, and the caption in report.html; without a caption they are not in it.
FIGURES = (
    (
        "raster",
        "dots: spikes over time by layer, time-stepped on the left and event-driven on the right; below the readouts",
        "",  # by `plot_example`
    ),
    (
        "accuracy",
        "bars: accuracy of every network, time-stepped and event-driven",
        "Accuracy time-stepped (at T_max, and with a single step) and event-driven, with standard errors.",
    ),
    (
        "time_step_sweep",
        "lines: accuracy over the number of time steps; arrows: from there to the event-driven accuracy",
        "Accuracy with ever more time steps, and what is left of it without any.",
    ),
    (
        "accuracy_over_time",
        "lines: accuracy over the time since the recording began",
        "Event-driven: the fraction of correct predictions at every time.",
    ),
)
#: A matrix per network; in report.html these are tables.
CONFUSION = "confusion.png"
#: A larger SVG becomes a PNG in report.html.
MOST_BYTES = 500_000
#: So many recordings are searched for one whose prediction changes.
SEARCHED = 200


@contextmanager
def open_store(plan: EvaluationPlan, out: str | None, html: bool = False) -> Iterator[ResultStore]:
    """The folder of an evaluation, with the store of its results.

    The folder is checked before the computation, and removed if no result was computed.

    Args:
        plan: of the evaluation.
        out: name of the folder; None for a new one.
        html: whether ``report.html`` will be written.

    Raises:
        InputError: if the folder cannot be written to, a file cannot be replaced, or it contains results of other
            settings.
    """
    folder = files.results_folder(out, "event_driven_eval")
    with files.removed_if_empty(folder):
        figures = [*(f"{name}.png" for name, *_ in FIGURES), CONFUSION]
        files.check_replaceable(folder, ["report.json", "report.md", *figures, *(["report.html"] if html else [])])
        store = ResultStore(folder / "shards.jsonl", plan.settings())
        recordings = plan.recordings
        some = f"{recordings.title}, {recordings.split}: {number_of(len(recordings), 'recording')}"
        print(printable(f"{some}; engine {plan.engine} -> {folder}"))
        yield store


def write_report_files(
    report: Report, plan: EvaluationPlan, store: ResultStore, html: bool = False, verbose: bool = False
) -> None:
    """Write a report and its figures beside the store, remove the store, and print the verdict.

    Args:
        report: of the evaluation.
        plan: of the evaluation.
        store: of `open_store`.
        html: also write ``report.html``.
        verbose: print all tables instead of the rows that the verdict is about.
    """
    folder, recordings = store.path.parent, plan.recordings
    write_report(report, folder)
    notice("drawing the figures")
    with tempfile.TemporaryDirectory() as beside:
        folders = [folder, Path(beside)] if html else [folder]
        plot_accuracies(report, folders)
        caption = plot_example(report, plan.runs, recordings, folders)
        plot_confusions(report, recordings.classes, folder / CONFUSION)
        if html:
            figures = [
                ReportFigure(_smaller(Path(beside) / f"{name}.svg", folder / f"{name}.png"), alt, text or caption)
                for name, alt, text in FIGURES
            ]
            write_html(report, figures, folder / "report.html", recordings.classes)
    store.remove()
    more = "" if verbose else "All tables: --verbose, or report.md.\n"
    print(f"\n{terminal_text(report, verbose)}\n\n{more}{files.contents(folder)}")


def _smaller(svg: Path, png: Path) -> Path:
    """The SVG unless it is too large."""
    return svg if svg.stat().st_size <= MOST_BYTES else png


@contextmanager
def screen_figure(folders: Sequence[Path], name: str, height: float) -> Iterator[Figure]:
    """A figure for screens: a PNG in the first folder, an SVG in the second one where there is one."""
    paths = [folder / f"{name}{kind}" for folder, kind in zip(folders, (".png", ".svg"), strict=False)]
    with plotting.figure(paths, (plotting.SCREEN, height), plotting.ON_SCREEN) as figure:
        yield figure


def plot_accuracies(report: Report, folders: Sequence[Path]) -> None:
    """Accuracy as bars, over time, and against the number of time steps; see `screen_figure`."""
    t_maxes = {run.time_stepped.time_steps for run in report.runs}
    shown = sorted({1, *t_maxes})
    orders = [event_driven.order for event_driven in report.runs[0].event_driven]
    title = literal(f"{report.title}, {report.split}", 60)
    groups = [*(f"T = {t}" for t in shown), *(f"event-driven\n{order}" for order in orders)]
    bars = {
        run.run: [*(run.time_stepped.accuracy.get(t) for t in shown), *(e.accuracy for e in run.event_driven)]
        for run in report.runs
    }
    with screen_figure(folders, "accuracy", 2.6 + 0.17 * len(bars)) as figure:
        plotting.accuracy_bars(groups, bars, ax=figure.subplots())
        figure.suptitle(title if len(bars) > 1 else f"{literal(report.runs[0].run, 40)}: {title}", wrap=True)

    lines = len(report.runs) * len(orders)
    with screen_figure(folders, "accuracy_over_time", 2.6 + 0.17 * lines) as figure:
        ax = figure.subplots()
        for run in report.runs:
            for measured in run.event_driven:
                label = f"{run.run}, {measured.order}"
                plotting.accuracy_over_time(measured.times, measured.accuracy_over_time, label=label, ax=ax)
        legend_above(ax, columns=1)
        figure.suptitle(f"{title}: event-driven", wrap=True)

    curves = [
        plotting.SweepCurve(run.run, list(accuracy), list(accuracy.values()), run.event_driven[0].accuracy)
        for run in report.runs
        if (accuracy := run.time_stepped.accuracy)
    ]
    with screen_figure(folders, "time_step_sweep", 2.8 + 0.17 * len(curves)) as figure:
        plotting.sweep_panels(figure, curves, f"{report.title}, {report.split}; event-driven: {orders[0]}")


def plot_example(report: Report, runs: Mapping[str, Run], recordings: Recordings, folders: Sequence[Path]) -> str:
    """One recording, time-stepped and event-driven, in the network that loses most; see `screen_figure`.

    Always by the exact engine: all engines give the same spikes.

    Returns:
        The caption.
    """
    worst = min(report.runs, key=lambda run: run.event_driven[0].accuracy.value - _at_t_max(run).value)
    run, order, t_max = runs[worst.run], worst.event_driven[0].order, worst.time_stepped.time_steps
    number, changed = find_example(run.model, recordings[:SEARCHED], order, t_max)
    (recording,) = recordings[number : number + 1]
    stepped, trace = inference.time_stepped_result(run.model, recordings, number, t_max)
    (event_driven,) = Simulator(run.model, engine="exact", order=order, record="all").run([recording])
    pair = (
        ModeRun(f"{t_max} time steps", stepped, None, trace.seconds, trace.readouts),
        ModeRun("event-driven", event_driven, recording, *readout_trace(event_driven)),
    )
    label = int(recordings.labels[number])
    with screen_figure(folders, "raster", 4.9) as figure:
        plotting.raster_pair(figure, pair, label)
    what = (
        f"{recordings.ids[number]} (class {recordings.classes[label]}) in {worst.run}, the same weights on both sides."
    )
    if not changed:
        what += f" No prediction changes in the first {len(recordings[:SEARCHED])} recordings."
    return f"{what} Readouts are shown minus the mean over the classes."


def _at_t_max(run: RunReport) -> Estimate:
    return run.time_stepped.accuracy[run.time_stepped.time_steps]


def find_example(model: Path, recordings: Recordings, order: Order, time_steps: int) -> tuple[int, bool]:
    """A recording whose prediction changes without time steps, and best one that becomes wrong.

    Args:
        model: the ``.nir`` file.
        recordings: searched in this order, a few at a time.
        order: convention of the event-driven run.
        time_steps: of the time-stepped one.

    Returns:
        Its number, and whether its prediction changes; (0, False) where none does.
    """
    changed: list[int] = []
    for start in range(0, len(recordings), BATCH):
        part = recordings[start : start + BATCH]
        stepped = inference.predict(model, part, "time-stepped", time_steps).classes
        event_driven = inference.predict(model, part, order, time_steps).classes
        lost = np.flatnonzero((stepped == part.labels) & (event_driven != part.labels))
        if lost.size:
            return start + int(lost[0]), True
        changed += (start + np.flatnonzero(stepped != event_driven)).tolist()
    return (changed[0], True) if changed else (0, False)


def plot_confusions(report: Report, classes: Sequence[str], path: Path) -> None:
    """The event-driven predictions of every network against the classes, under the first convention."""
    side = 1.9 + 0.13 * len(classes)
    with plotting.figure(path, (side * len(report.runs), 0.9 * side)) as figure:
        for ax, run in zip(figure.subplots(1, len(report.runs), squeeze=False)[0], report.runs, strict=True):
            measured = run.event_driven[0]
            plotting.confusion_matrix(measured.confusion_matrix, classes, ax=ax).set_title(
                f"{literal(run.run)}, {measured.order}"
            )
        figure.suptitle("event-driven predictions of every class", wrap=True)
