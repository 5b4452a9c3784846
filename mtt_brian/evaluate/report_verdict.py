"""The one sentence that answers what an evaluation was made for: what the networks lose without time steps."""

from __future__ import annotations

import math

from mtt_brian.errors import check_kind
from mtt_brian.evaluate.report import Report, RunReport
from mtt_brian.evaluate.tables import p_value
from mtt_brian.text import number_of, printable

#: Of more networks only the extremes are named.
_NAMED = 3


def verdict(report: Report) -> str:
    """The accuracy of every network time-stepped (at T_max) and event-driven (under the first convention).

    ::

        Without time steps sdt loses 15.8 points (95.6 -> 79.8 %); most spikes change in spikes3 (50 %).

    A difference that the sign test gives to chance is not called a loss::

        Without time steps sdt goes from 96.0 to 94.0 %, which 50 recordings cannot tell from chance (sign test p = 1).

    Of one network it also names the population whose spike counts differ most; of more than three networks only those
    with the smallest and the largest change.
    """
    check_kind("report", report, Report)
    runs = sorted(report.runs, key=_change)
    shown = list(report.runs) if len(runs) <= _NAMED else [runs[-1], runs[0]]
    text = ", ".join(_outcome(run) for run in shown)
    if len(runs) > _NAMED:
        text = f"{len(runs)} networks change between these two: {text}"
    if len(runs) == 1 and (most := _most_changed(runs[0])):
        text += f"; most spikes change in {most}"
    return f"Without time steps {text}."


def _accuracies(run: RunReport) -> tuple[float, float]:
    """In per cent, rounded as they are printed, so that their printed difference is right."""
    stepped = run.time_stepped.accuracy[run.time_stepped.time_steps]
    return round(100 * stepped.value, 1), round(100 * run.event_driven[0].accuracy.value, 1)


def _change(run: RunReport) -> float:
    stepped, event_driven = _accuracies(run)
    return event_driven - stepped


def _outcome(run: RunReport) -> str:
    """What happens to one network."""
    name = printable(run.run)
    stepped, event_driven = _accuracies(run)
    points = f"{abs(event_driven - stepped):.1f}"
    if points == "0.0":
        return f"{name} keeps its accuracy ({stepped:.1f} %)"
    change = run.event_driven[0].change
    if change is not None and not change.is_loss and not change.is_gain:
        count = number_of(run.n_recordings, "recording")
        return (
            f"{name} goes from {stepped:.1f} to {event_driven:.1f} %, which {count} cannot tell from chance "
            f"(sign test p = {p_value(change.p)})"
        )
    verb = "loses" if event_driven < stepped else "gains"
    return f"{name} {verb} {points} points ({stepped:.1f} -> {event_driven:.1f} %)"


def _most_changed(run: RunReport) -> str | None:
    """The population whose spike counts differ most, and by how much; None if no count of a population differs."""
    differences = {name: x for name, x in run.event_driven[0].spike_difference.items() if name != "output"}
    finite = {name: x for name, x in differences.items() if math.isfinite(x) and x > 0}
    if not finite:
        return None
    name = max(finite, key=lambda key: finite[key])
    return f"{printable(name)} ({100 * finite[name]:.0f} %)"
