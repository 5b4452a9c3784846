"""The tables of an HTML report, as text to show and exact numbers to sort by."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mtt_brian.evaluate.metrics import Estimate
from mtt_brian.evaluate.report import EventDriven, Report, RunReport
from mtt_brian.evaluate.tables import number, percent


class Cell(NamedTuple):
    """What a cell shows.

    Attributes:
        text: for people; ``"-"`` where there is nothing.
        value: the number behind it, unrounded, as JavaScript reads it; None: the cell sorts by its text.
        error: the standard error of the number; may be empty.
    """

    text: str
    value: str | None = None
    error: str = ""


class Column(NamedTuple):
    """One column.

    Attributes:
        group: a heading that neighbours share; may be empty.
        title: its own heading.
        cells: one per row.
        words: whether they hold words, not numbers.
    """

    group: str
    title: str
    cells: Sequence[Cell]
    words: bool = False


@dataclass(frozen=True)
class Table:
    """Columns of one length; the first names the rows."""

    title: str
    columns: Sequence[Column]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings that neighbours share, and how many they are."""
        grouped = itertools.groupby(self.columns, key=lambda column: column.group)
        return [(group, len(list(columns))) for group, columns in grouped]

    @property
    def rows(self) -> Iterator[tuple[Cell, ...]]:
        """Top to bottom."""
        return zip(*(column.cells for column in self.columns), strict=True)


class Confusion(NamedTuple):
    """What the recordings of every class were taken for, of one network under one convention.

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
        counts: by answer [K].
        shares: the same as parts of the class [K]; zeros where the class has no recordings.
        recordings: how many there are.
        right: part of them that was answered rightly.
    """

    counts: Sequence[int]
    shares: Sequence[float]
    recordings: Cell
    right: Cell


MISSING = Cell("-")


def accuracies(report: Report) -> Table:
    """A row per network: accuracy on every time grid and under every convention."""
    runs = report.runs
    grids = sorted({t for run in runs for t in run.time_stepped.accuracy})
    return Table(
        "Accuracy in %, with its standard error",
        [
            Column("", "network", [Cell(run.run) for run in runs], words=True),
            Column("", "method", [Cell(run.method) for run in runs], words=True),
            Column("", "seed", [_whole(run.seed) for run in runs]),
            *_by_order("event-driven", report, lambda measured: _estimate(measured.accuracy)),
            *(
                Column("time-stepped, T =", str(t), [_estimate(run.time_stepped.accuracy.get(t)) for run in runs])
                for t in grids
            ),
            Column("", "T_max", [_whole(run.time_stepped.time_steps) for run in runs]),
            Column("", "recordings", [_whole(run.n_recordings) for run in runs]),
        ],
    )


def layers(report: Report) -> Table:
    """A row per network and population: how much it spikes with and without time steps, and how far these differ."""
    rows = [(run, place, name) for run in report.runs for place, name in enumerate(_populations(run))]
    orders = _orders(report)
    measured = [_measured(run) for run, _, _ in rows]

    def under(order: str, cell: Callable[[EventDriven, str], Cell]) -> list[Cell]:
        return [
            cell(by_order[order], name) if order in by_order else MISSING
            for by_order, (_, _, name) in zip(measured, rows, strict=True)
        ]

    return Table(
        "Spikes by layer, and how far time steps move them",
        [
            Column("", "network", [Cell(run.run) for run, _, _ in rows], words=True),
            # sorts by the place in the network
            Column("", "layer", [Cell(name, _exact(place)) for _, place, name in rows], words=True),
            Column(
                "spikes per recording",
                "T_max",
                [_number(run.time_stepped.spikes_per_recording.get(name)) for run, _, name in rows],
            ),
            *(
                Column("spikes per recording", order, under(order, lambda e, n: _number(e.spikes_per_recording.get(n))))
                for order in orders
            ),
            *(
                Column(
                    "spike difference of T_max in %, from",
                    order,
                    under(order, lambda e, n: _part(e.spike_difference.get(n))),
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
            Column("", "network", [Cell(run.run) for run in runs], words=True),
            Column(synops, "T_max", [_number(run.time_stepped.synops_per_recording) for run in runs]),
            *_by_order(synops, report, lambda measured: _number(measured.synops_per_recording)),
            Column(milliseconds, "T_max", [_number(run.time_stepped.milliseconds_per_recording) for run in runs]),
            *_by_order(milliseconds, report, lambda measured: _number(measured.milliseconds_per_recording)),
            *_by_order("compilation, seconds", report, lambda measured: _number(measured.compile_seconds)),
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
        rows.append(ConfusionRow(counts, shares, _whole(recordings), _part(shares[k]) if recordings else MISSING))
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


def _exact(value: float) -> str:
    """As JSON and JavaScript write it: the shortest text that gives the same number, infinity in one word."""
    return json.dumps(value)


def _whole(value: int | None) -> Cell:
    return MISSING if value is None else Cell(f"{value:,}", _exact(value))


def _number(value: float | None) -> Cell:
    return MISSING if value is None else Cell(number(value), _exact(value))


def _estimate(value: Estimate | None) -> Cell:
    if value is None:
        return MISSING
    text, error = percent(value).split(" ", 1)
    return Cell(text, _exact(value.value), error)


def _part(value: float | None) -> Cell:
    """A fraction in percent."""
    if value is None:
        return MISSING
    return Cell(f"{100 * value:.1f}" if math.isfinite(value) else "∞", _exact(value))


def _decision(measured: EventDriven) -> Cell:
    seconds = measured.median_decision_time
    return Cell(f"{1e3 * seconds:.1f}", _exact(seconds)) if math.isfinite(seconds) else MISSING
