"""The report of an evaluation as one HTML file that needs nothing else: no network, no other file, no library.

Figures are embedded, tables sort by a click or a key, ``report.json`` can be saved from it. The file is a function of
the report and the figures: the same evaluation on one day gives the same bytes but for its wall times.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from mtt_brian.evaluate import report_tables
from mtt_brian.evaluate.html.page import ReportFigure, data_uri, embedded, rendered
from mtt_brian.evaluate.report import Report
from mtt_brian.evaluate.report_verdict import verdict
from mtt_brian.files import write_text


def write_html(
    report: Report, figures: Sequence[ReportFigure], path: str | os.PathLike[str], classes: Sequence[str] = ()
) -> None:
    """Write the report as one self-contained HTML file, whole or not at all.

    Args:
        report: what was measured.
        figures: shown in this order; may be none.
        path: of the file.
        classes: names for the confusion matrices; a class without one is shown by its number.

    Raises:
        InputError: if a figure is neither a PNG nor an SVG file.
    """
    accuracies, costs = report_tables.accuracies(report), report_tables.costs(report)
    alone = len(report.runs) == 1
    page = rendered(
        "report.html",
        report=report,
        verdict=verdict(report),
        facts=report_tables.facts(report),
        accuracies=accuracies.transposed() if alone else accuracies,
        layers=report_tables.layers(report),
        costs=costs.transposed() if alone else costs,
        confusions=report_tables.confusions(report, classes),
        figures=[embedded(figure) for figure in figures],
        command=report.command,
        versions=report.versions,
        file="report.json",
        json=data_uri("application/json", report.json().encode()),
    )
    write_text(path, page)


__all__ = ["ReportFigure", "write_html"]
