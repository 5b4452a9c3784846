"""The report of an evaluation as one HTML file that needs nothing else: no network, no other file, no library.

Figures are embedded, tables sort by a click or a key, ``report.json`` can be saved from it. The file is a function of
the report and the figures; it holds no date, so that the same evaluation gives the same bytes but for its wall times.
"""

from __future__ import annotations

import os
import struct
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from mtt_brian.errors import InputError
from mtt_brian.evaluate import report_tables
from mtt_brian.evaluate.report import Report
from mtt_brian.files import write_text
from mtt_brian.text import printable

_PNG = b"\x89PNG\r\n\x1a\n"


class ReportFigure(NamedTuple):
    """A figure of the report.

    Attributes:
        path: of a PNG file.
        alt: what is drawn, for readers who do not see it.
        caption: what stands below it.
    """

    path: Path
    alt: str
    caption: str


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
        InputError: if a figure is not a PNG file.
    """
    environment = Environment(
        loader=PackageLoader("mtt_brian.evaluate.html", "templates"),
        autoescape=True,  # names of runs and the command come from outside
        finalize=lambda value: printable(value) if type(value) is str else value,  # Markup is a template's own
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        report=report,
        accuracies=report_tables.accuracies(report),
        layers=report_tables.layers(report),
        costs=report_tables.costs(report),
        confusions=report_tables.confusions(report, classes),
        figures=[_embedded(figure) for figure in figures],
        json=_data_uri("application/json", report.json().encode()),
    )
    write_text(path, page)


class _Embedded(NamedTuple):
    figure: ReportFigure
    uri: str
    width: int
    height: int


def _embedded(figure: ReportFigure) -> _Embedded:
    """A figure with its bytes and its size, which keeps its place while a browser decodes it."""
    try:
        content = figure.path.read_bytes()
    except OSError as error:
        raise InputError(f"{figure.path}: {error.strerror or error}; expected a PNG file") from None
    if not content.startswith(_PNG) or len(content) < 24:
        raise InputError(f"{figure.path}: not a PNG file")
    width, height = struct.unpack(">II", content[16:24])
    return _Embedded(figure, _data_uri("image/png", content), width, height)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"
