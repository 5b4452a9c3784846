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
from mtt_brian.evaluate.html import tables
from mtt_brian.evaluate.report import Report
from mtt_brian.files import write_text
from mtt_brian.text import printable

_PNG = b"\x89PNG\r\n\x1a\n"


class Picture(NamedTuple):
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
    report: Report, pictures: Sequence[Picture], path: str | os.PathLike[str], classes: Sequence[str] = ()
) -> None:
    """Write the report as one self-contained HTML file, whole or not at all.

    Args:
        report: what was measured.
        pictures: shown in this order; may be none.
        path: of the file.
        classes: names for the confusion matrices; a class without one is shown by its number.

    Raises:
        InputError: if a picture is not a PNG file.
    """
    environment = Environment(
        loader=PackageLoader("mtt_brian.evaluate.html", "templates"),
        autoescape=True,  # names of runs and what was typed are anybody's
        finalize=lambda value: printable(value) if type(value) is str else value,  # Markup is a template's own
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        report=report,
        accuracies=tables.accuracies(report),
        layers=tables.layers(report),
        costs=tables.costs(report),
        confusions=tables.confusions(report, classes),
        pictures=[_embedded(picture) for picture in pictures],
        json=_data_uri("application/json", report.json().encode()),
    )
    write_text(path, page)


class _Embedded(NamedTuple):
    picture: Picture
    uri: str
    width: int
    height: int


def _embedded(picture: Picture) -> _Embedded:
    """The picture with its bytes, and its size, which keeps its place while a browser decodes it."""
    try:
        content = picture.path.read_bytes()
    except OSError as error:
        raise InputError(f"{picture.path}: {error.strerror or error}; expected a PNG file") from None
    if not content.startswith(_PNG) or len(content) < 24:
        raise InputError(f"{picture.path}: not a PNG file")
    width, height = struct.unpack(">II", content[16:24])
    return _Embedded(picture, _data_uri("image/png", content), width, height)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"
