"""The files of an evaluation's report: JSON, Markdown, figures, HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mtt_brian import files, plotting
from mtt_brian.engines import Simulator
from mtt_brian.evaluate import Report, readout_trace, write_report
from mtt_brian.evaluate.html import ReportFigure, write_html
from mtt_brian.evaluate.report_tables import terminal_text
from mtt_brian.events import Recordings
from mtt_brian.experiments.evaluation import EvaluationPlan
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.experiments.run_folder import Run
from mtt_brian.plotting.axes import legend_beside, literal

#: The figures: file name, what is drawn, and the caption in report.html.
FIGURES = (
    (
        "accuracy.png",
        "bars: accuracy of every network, time-stepped and event-driven",
        "Accuracy time-stepped and event-driven, with standard errors.",
    ),
    (
        "accuracy_over_time.png",
        "lines: accuracy over the time since the recording began",
        "Event-driven: the fraction of correct predictions at every time.",
    ),
    (
        "time_step_sweep.png",
        "lines: accuracy over the number of time steps; across: event-driven accuracy",
        "Accuracy over the number of time steps; the horizontal lines are event-driven.",
    ),
    (
        "raster.png",
        "dots: spikes over time by layer, a plot per network; below them the readout over time",
        "The first recording in every network: spikes of the input and of the layers, and the readout of every class.",
    ),
    (
        "confusion.png",
        "matrices: how often every class was predicted for every class, a matrix per network",
        "Event-driven: true classes and predicted classes.",
    ),
)


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
        names = ["report.json", "report.md", *(name for name, *_ in FIGURES), *(["report.html"] if html else [])]
        files.check_replaceable(folder, names)
        store = ResultStore(folder / "shards.jsonl", plan.settings())
        recordings = plan.recordings
        print(f"{recordings.title}, {recordings.split}: {len(recordings)} recordings; engine {plan.engine}")
        yield store


def write_report_files(report: Report, plan: EvaluationPlan, store: ResultStore, html: bool = False) -> None:
    """Write a report and its figures beside the store, remove the store, and print the tables.

    Args:
        report: of the evaluation.
        plan: of the evaluation.
        store: of `open_store`.
        html: also write ``report.html``.
    """
    folder, recordings = store.path.parent, plan.recordings
    write_report(report, folder)
    plot_accuracies(report, folder)
    plot_spikes(report, plan.runs, recordings, folder / "raster.png")
    plot_confusions(report, recordings.classes, folder / "confusion.png")
    if html:
        figures = [ReportFigure(folder / name, alt, caption) for name, alt, caption in FIGURES]
        write_html(report, figures, folder / "report.html", recordings.classes)
    store.remove()
    print(f"\n{terminal_text(report)}\n\n{files.contents(folder)}")


def plot_accuracies(report: Report, folder: Path) -> None:
    """Accuracy as bars, over time, and against the number of time steps."""
    t_maxes = {run.time_stepped.time_steps for run in report.runs}
    shown = sorted({1, *t_maxes, max(t for run in report.runs for t in run.time_stepped.accuracy)})
    orders = [event_driven.order for event_driven in report.runs[0].event_driven]
    title = literal(f"{report.title}, {report.split}", 80)
    groups = [*(f"T = {t}" for t in shown), *(f"event-driven\n{order}" for order in orders)]
    bars = {
        run.run: [*(run.time_stepped.accuracy.get(t) for t in shown), *(e.accuracy for e in run.event_driven)]
        for run in report.runs
    }
    with plotting.figure(folder / "accuracy.png", (7.2, 3)) as figure:
        plotting.accuracy_bars(groups, bars, ax=figure.subplots())
        figure.suptitle(title)

    with plotting.figure(folder / "accuracy_over_time.png", _size(len(report.runs) * len(orders))) as figure:
        ax = figure.subplots()
        for run in report.runs:
            for measured in run.event_driven:
                label = f"{run.run}, {measured.order}"
                plotting.accuracy_over_time(measured.times, measured.accuracy_over_time, label=label, ax=ax)
        legend_beside(ax)
        ax.set_title(f"{title}: event-driven")

    with plotting.figure(folder / "time_step_sweep.png", _size(2 * len(report.runs))) as figure:
        ax = figure.subplots()
        for run in report.runs:
            accuracy = run.time_stepped.accuracy
            event_driven = run.event_driven[0].accuracy
            plotting.time_step_sweep(
                list(accuracy), list(accuracy.values()), event_driven=event_driven, label=run.run, ax=ax
            )
        legend_beside(ax)
        ax.set_title(f"{title}; lines: event-driven, {orders[0]}")


def plot_spikes(report: Report, runs: Mapping[str, Run], recordings: Recordings, path: Path) -> None:
    """The first recording in every network: spikes of input and layers, and the readout below.

    Always by the exact engine: all engines give the same spikes, and this one records all of them without another
    compilation.
    """
    order = report.runs[0].event_driven[0].order
    label = int(recordings.labels[0])
    with plotting.figure(path, (3.6 * len(runs), 4.5)) as figure:
        axes = figure.subplots(2, len(runs), squeeze=False, sharex=True, height_ratios=[3, 1])
        for (top, bottom), (name, run) in zip(axes.T, runs.items(), strict=True):
            engine = Simulator(run.model, engine="exact", order=order, record="all")
            (result,) = engine.run(recordings[:1])
            plotting.raster(result, recording=recordings[0], ax=top).set_title(literal(name))
            plotting.readout(*readout_trace(result), label=label, ax=bottom)
            top.set_xlabel("")
        what = (recordings.title, recordings.ids[0], f"class {recordings.classes[label]}")
        figure.suptitle(", ".join([*(literal(text, 40) for text in what), order]))


def plot_confusions(report: Report, classes: Sequence[str], path: Path) -> None:
    """The event-driven predictions of every network against the classes, under the first convention."""
    side = 2.2 + 0.13 * len(classes)
    with plotting.figure(path, (side * len(report.runs), side)) as figure:
        for ax, run in zip(figure.subplots(1, len(report.runs), squeeze=False)[0], report.runs, strict=True):
            measured = run.event_driven[0]
            plotting.confusion_matrix(measured.confusion_matrix, classes, ax=ax).set_title(
                f"{literal(run.run)}, {measured.order}"
            )


def _size(lines: int) -> tuple[float, float]:
    """Size of a figure in inches, with a legend of ``lines`` lines beside it."""
    return 7.2, max(3.0, 0.6 + 0.17 * lines)
