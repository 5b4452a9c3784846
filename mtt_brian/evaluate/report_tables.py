"""The tables of an evaluation's report, for Markdown, HTML and terminals."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mtt_brian.errors import check_kind
from mtt_brian.evaluate.report import EventDriven, Report, RunReport
from mtt_brian.evaluate.report_verdict import verdict
from mtt_brian.evaluate.tables import (
    MISSING,
    Cell,
    Column,
    Table,
    code_block,
    decimal,
    exact,
    fraction,
    in_percent,
    markdown,
    score,
    whole,
    words,
)
from mtt_brian.files import as_path, write_text


class Confusion(NamedTuple):
    """The predicted classes of the recordings of every class, of one network under one convention.

    Attributes:
        title: network and convention.
        classes: names [K].
        rows: one per true class [K].
    """

    title: str
    classes: Sequence[str]
    rows: Sequence[ConfusionRow]


class ConfusionRow(NamedTuple):
    """The recordings of one class.

    Attributes:
        counts: by predicted class [K].
        shares: the same as fractions of the class [K]; zeros for a class without recordings.
        recordings: number of recordings.
        correct: fraction of them with a correct prediction.
    """

    counts: Sequence[int]
    shares: Sequence[float]
    recordings: Cell
    correct: Cell


def facts(report: Report) -> list[tuple[str, str]]:
    """What was evaluated on what and when, by name; what a report does not hold is left out."""
    counts = sorted({run.n_recordings for run in report.runs})
    found = [
        ("network", ", ".join(dict.fromkeys(run.network for run in report.runs if run.network))),
        ("data", f"{report.title}, {report.split}"),
        ("recordings", " to ".join(f"{n:,}" for n in dict.fromkeys((counts[0], counts[-1])))),
        ("engine", report.engine),
        ("date", report.date),
    ]
    return [(name, text) for name, text in found if text]


def accuracies(report: Report) -> Table:
    """A row per network: accuracy at every number of time steps and under every convention."""
    runs = report.runs
    grids = sorted({t for run in runs for t in run.time_stepped.accuracy})
    return Table(
        "Accuracy in %, with its standard error",
        [
            words("network", [run.run for run in runs]),
            words("method", [run.method for run in runs]),
            Column("", "seed", [whole(run.seed) for run in runs]),
            *_by_order("event-driven", report, lambda measured: in_percent(measured.accuracy)),
            *(
                Column("time-stepped", f"T = {t}", [in_percent(run.time_stepped.accuracy.get(t)) for run in runs])
                for t in grids
            ),
            Column("", "flexibility", [score(run.flexibility) for run in runs]),
            Column("", "T_max", [whole(run.time_stepped.time_steps) for run in runs]),
            Column("", "recordings", [whole(run.n_recordings) for run in runs]),
        ],
    )


def layers(report: Report) -> Table:
    """A row per network and population: event-driven and time-stepped spikes, and their difference."""
    rows = [(run, place, name) for run in report.runs for place, name in enumerate(_populations(run))]
    orders = _orders(report)
    measured = [_measured(run) for run, _, _ in rows]

    def under(order: str, cell: Callable[[EventDriven, str], Cell]) -> list[Cell]:
        return [
            cell(by_order[order], name) if order in by_order else MISSING
            for by_order, (_, _, name) in zip(measured, rows, strict=True)
        ]

    return Table(
        "Spikes by layer, and their difference with time steps",
        [
            words("network", [run.run for run, _, _ in rows]),
            # sorts by the position in the network
            Column("", "layer", [Cell(name, exact(place)) for _, place, name in rows], words=True),
            Column(
                "spikes per recording",
                "T_max",
                [decimal(run.time_stepped.spikes_per_recording.get(name)) for run, _, name in rows],
            ),
            *(
                Column("spikes per recording", order, under(order, lambda e, n: decimal(e.spikes_per_recording.get(n))))
                for order in orders
            ),
            *(
                Column(
                    "spike difference of T_max in %",
                    f"from {order}",
                    under(order, lambda e, n: fraction(e.spike_difference.get(n))),
                )
                for order in orders
            ),
        ],
    )


def costs(report: Report) -> Table:
    """A row per network: synaptic operations, wall time, decision time."""
    runs = report.runs
    synops, milliseconds = "SynOps per recording", "milliseconds per recording"
    return Table(
        "Synaptic operations, wall time, decision time",
        [
            words("network", [run.run for run in runs]),
            Column(synops, "T_max", [decimal(run.time_stepped.synops_per_recording) for run in runs]),
            *_by_order(synops, report, lambda measured: decimal(measured.synops_per_recording)),
            Column(milliseconds, "T_max", [decimal(run.time_stepped.milliseconds_per_recording) for run in runs]),
            *_by_order(milliseconds, report, lambda measured: decimal(measured.milliseconds_per_recording)),
            *_by_order("compilation, seconds", report, lambda measured: decimal(measured.compile_seconds)),
            *_by_order("median decision time, ms", report, _decision),
        ],
    )


def confusions(report: Report, classes: Sequence[str]) -> list[Confusion]:
    """A matrix per network and convention; a class without a name is shown by its number."""
    return [
        _confusion(f"{run.run}, event-driven, {measured.order}", measured, classes)
        for run in report.runs
        for measured in run.event_driven
    ]


def _confusion(title: str, measured: EventDriven, classes: Sequence[str]) -> Confusion:
    matrix = measured.confusion_matrix.tolist()
    names = [classes[k] if k < len(classes) else str(k) for k in range(len(matrix))]
    rows = []
    for k, counts in enumerate(matrix):
        recordings = sum(counts)
        shares = [count / recordings if recordings else 0.0 for count in counts]
        rows.append(ConfusionRow(counts, shares, whole(recordings), fraction(shares[k]) if recordings else MISSING))
    return Confusion(title, names, rows)


def _orders(report: Report) -> list[str]:
    """The conventions, in the order of the report."""
    return list(dict.fromkeys(measured.order for run in report.runs for measured in run.event_driven))


def _measured(run: RunReport) -> dict[str, EventDriven]:
    return {measured.order: measured for measured in run.event_driven}


def _by_order(group: str, report: Report, cell: Callable[[EventDriven], Cell]) -> list[Column]:
    """A column per convention, a cell per network."""
    runs = [_measured(run) for run in report.runs]
    return [
        Column(group, order, [cell(run[order]) if order in run else MISSING for run in runs])
        for order in _orders(report)
    ]


def _populations(run: RunReport) -> list[str]:
    """From the input to the output."""
    spiking = [*(e.spikes_per_recording for e in run.event_driven), run.time_stepped.spikes_per_recording]
    differing = [e.spike_difference for e in run.event_driven]
    return list(dict.fromkeys(name for by_name in (*spiking, *differing) for name in by_name))


def _decision(measured: EventDriven) -> Cell:
    seconds = measured.median_decision_time
    return Cell(f"{1e3 * seconds:.1f}", exact(seconds)) if math.isfinite(seconds) else MISSING


def all_tables(report: Report) -> list[Table]:
    """The tables of a report as text: one column per network; the table by layer has one block per network."""
    return [accuracies(report).transposed(), layers(report), costs(report).transposed()]


def summary(report: Report) -> Table:
    """The rows that tell whether networks need their time steps, a column per network."""
    runs = report.runs
    finest = max(t for run in runs for t in run.time_stepped.accuracy)
    measured = [run.event_driven[0] for run in runs]
    at_t_max = [run.time_stepped.accuracy.get(run.time_stepped.time_steps) for run in runs]
    rows = Table(
        "",
        [
            words("network", [run.run for run in runs]),
            Column("accuracy in %", "time-stepped, T_max", list(map(in_percent, at_t_max))),
            Column(
                "accuracy in %",
                f"time-stepped, T = {finest}",
                [in_percent(run.time_stepped.accuracy.get(finest)) for run in runs],
            ),
            *_by_order("accuracy in %, event-driven", report, lambda one: in_percent(one.accuracy)),
            Column("", "temporal flexibility", [score(run.flexibility) for run in runs]),
            Column("SynOps", "time-stepped, T_max", [decimal(run.time_stepped.synops_per_recording) for run in runs]),
            Column("SynOps", "event-driven", [decimal(one.synops_per_recording) for one in measured]),
            Column("median decision time, ms", "event-driven", list(map(_decision, measured))),
        ],
    )
    return rows.transposed()


def terminal_text(report: Report, verbose: bool) -> str:
    """The verdict with its table for a terminal, or all tables behind it."""
    tables = [f"{table.title}:\n{table.terminal()}" for table in all_tables(report)]
    return "\n\n".join([verdict(report), *(tables if verbose else [summary(report).terminal()])])


def markdown_text(report: Report) -> str:
    """The content of ``report.md``."""
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    tables = [text for table in all_tables(report) for text in (f"## {table.title}", "", table.markdown(), "")]
    return "\n".join(
        [
            f"# Event-driven evaluation: {markdown(f'{report.title}, {report.split}')}",
            "",
            f"**{markdown(verdict(report))}**",
            "",
            *(f"* {name}: {markdown(text)}" for name, text in facts(report)),
            "",
            *tables,
            "Accuracies with their binomial standard error sqrt(p (1 - p) / n); seeds vary on top of it.",
            "`sum`: jumps of one instant are summed and applied once. `fifo`: each event alone, one spike per",
            "neuron and event, as event-driven chips do. Spike difference: sum |s0 - s| / sum s0 with s0 the",
            "event-driven and s the time-stepped counts at T_max (of the values of a readout without spikes).",
            "Flexibility: mean accuracy over T = 1, 2, 5 .. 200 and event-driven, relative to the largest of them,",
            "with a 95 % bootstrap interval over the recordings.",
            "",
            f"Engine `{report.engine}`. {versions}.",
            "",
            code_block(report.command),
            "",
        ]
    )


def write_report(report: Report, folder: str | os.PathLike[str]) -> None:
    """Write ``report.json`` and ``report.md`` into ``folder``, each atomically."""
    folder = as_path(folder, "folder")
    check_kind("report", report, Report)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "report.json", report.json())
    write_text(folder / "report.md", markdown_text(report))
