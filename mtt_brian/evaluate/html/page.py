"""HTML files that need nothing else: figures embedded, tables that sort, the numbers to be saved from it."""

from __future__ import annotations

import math
import os
import re
import struct
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from mtt_brian.errors import InputError
from mtt_brian.evaluate.tables import Table
from mtt_brian.files import as_path, json_text, write_text
from mtt_brian.text import printable

#: The size of a figure of matplotlib, in points.
_SVG = re.compile(rb'<svg [^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"')
_PNG = b"\x89PNG\r\n\x1a\n"


class ReportFigure(NamedTuple):
    """A figure of a report.

    Attributes:
        path: of a PNG file, or of an SVG file of matplotlib.
        alt: what is drawn, for readers who do not see it.
        caption: what stands below it.
    """

    path: Path
    alt: str
    caption: str


class Embedded(NamedTuple):
    """A figure with its bytes and its size, which keeps its place while a browser decodes it.

    Attributes:
        figure: what it is of.
        uri: its bytes.
        width, height: in pixels of a PNG, in points of an SVG.
        shown: how many pixels it is wide where there is room.
    """

    figure: ReportFigure
    uri: str
    width: int
    height: int
    shown: int


def rendered(template: str, **values: Any) -> str:
    """A page from one of the package's templates; all texts are shown as they stand."""
    environment = Environment(
        loader=PackageLoader("mtt_brian.evaluate.html", "templates"),
        autoescape=True,  # names of runs and the command come from outside
        finalize=lambda value: printable(value) if type(value) is str else value,  # Markup is a template's own
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def embedded(figure: ReportFigure) -> Embedded:
    """Read a figure.

    Raises:
        InputError: if it is neither a PNG nor an SVG file.
    """
    try:
        content = figure.path.read_bytes()
    except OSError as error:
        raise InputError(f"{figure.path}: {error.strerror or error}; expected a PNG or SVG file") from None
    if content.startswith(_PNG) and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        # so small that it is sharp on a fine screen
        return Embedded(figure, data_uri("image/png", content), width, height, round(width / 1.75))
    if found := _SVG.search(content[:4000]):
        width, height = (math.ceil(float(size)) for size in found.groups())
        return Embedded(figure, data_uri("image/svg+xml", content), width, height, round(1.75 * width))
    raise InputError(f"{figure.path}: not a PNG or SVG file")


def data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"


def write_page(
    path: str | os.PathLike[str],
    heading: str,
    sentences: Sequence[str],
    tables: Sequence[Table],
    figures: Sequence[ReportFigure],
    content: Mapping[str, Any],
) -> None:
    """Write sentences, figures and tables as one self-contained HTML file, whole or not at all.

    Args:
        path: of the file.
        heading: of the page.
        sentences: on top.
        tables: of any number.
        figures: shown in this order; may be none.
        content: all numbers, JSON-able, with ``"command"`` and ``"versions"``; can be saved from the page.

    Raises:
        InputError: if a figure is neither a PNG nor an SVG file.
    """
    page = rendered(
        "page.html",
        heading=heading,
        sentences=sentences,
        tables=tables,
        figures=[embedded(figure) for figure in figures],
        command=content["command"],
        versions=content["versions"],
        file=f"{as_path(path, 'path').stem}.json",
        json=data_uri("application/json", json_text(content).encode()),
    )
    write_text(path, page)
