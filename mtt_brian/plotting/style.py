"""The style of figures: the file `STYLE`, and colours and markers that plots use one by one.

A matplotlib style acts when a figure, its axes and their ticks are made, and ticks are made as late as in the saving.
So no function can restyle axes that it is given: a style has to be on around the whole figure, and is the caller's to
switch on. `figure` does that for one figure; ``matplotlib.style.use(plotting.STYLE)`` for a whole notebook. Without
it everything is drawn in the caller's own style, with the colours, dashes and markers below.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from cycler import Cycler, cycler
from matplotlib import style
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mtt_brian.errors import InputError, check_array, check_whole
from mtt_brian.files import as_path, replacing
from mtt_brian.text import shown

#: What stands for a style of a line.
_STYLE = "the numbers of a colour and of a dash, >= 0"
#: For `matplotlib.style.use` and `matplotlib.style.context`; the file is beside this one.
STYLE = "mtt_brian.plotting.mtt_brian"

_RC = matplotlib.rc_params_from_file(Path(__file__).with_name("mtt_brian.mplstyle"), use_default_template=False)
_ROUND = _RC["axes.prop_cycle"].by_key()

#: Distinguishable for colour-blind readers, the first four in grey as well.
COLORS: tuple[str, ...] = tuple(_ROUND["color"])
DASHES: tuple[Any, ...] = tuple(_ROUND["linestyle"])
MARKERS: tuple[str, ...] = tuple(_ROUND["marker"])
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "ooo")

#: Colour map of matrices and images: light to dark, so that it prints in grey and leaves nothing white.
SEQUENTIAL = "Blues"


#: Settings on top of the style, for figures that are read on screens as narrow as a phone's: at a width of `SCREEN`
#: inches on 360 pixels no text is smaller than 9 pixels.
ON_SCREEN: dict[str, Any] = {"font.size": 9.6, "savefig.dpi": 200, "savefig.transparent": True}
SCREEN = 4.4


@contextmanager
def figure(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    size: tuple[float, float] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Figure]:
    """A figure in the package's style, written at the end of the block; after an error nothing is written.

    ::

        with plotting.figure("raster.pdf", (7.2, 4)) as figure:
            plotting.raster(result, ax=figure.subplots())

    Args:
        path: a name that ends in .png, .pdf, .svg or another format of matplotlib; or several.
        size: width and height in inches; default: one column of a paper.
        settings: of matplotlib, on top of the style.

    Raises:
        InputError: for what is no path, and for a path without the ending of a format.
        OSError: if the file cannot be written.
    """
    several = path if isinstance(path, Sequence) and not isinstance(path, str) else [path]
    paths = [as_path(one, "path") for one in several]
    with style.context([STYLE, dict(settings or {})]):
        drawn = Figure(figsize=size)
        formats = drawn.canvas.get_supported_filetypes()
        for one in paths:
            if one.suffix[1:].lower() not in formats:
                raise InputError(f"{one}: the name of a figure must end in one of .{', .'.join(formats)}")
        yield drawn
        for one in paths:
            with replacing(one) as temporary, missing_letters():
                # Long names of users leave no room.
                warnings.filterwarnings("ignore", message="constrained_layout not applied", category=UserWarning)
                drawn.savefig(temporary)


@contextmanager
def missing_letters() -> Iterator[None]:
    """Within it, letters of names that the font lacks become boxes without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+", category=UserWarning)
        yield


def dot_size(count: int) -> float:
    """Diameter in points of so many dots: large while they are few, small where they would hide each other."""
    return min(2.5, max(1.0, 30 / max(count, 1) ** 0.5))


def _is_dark() -> bool:
    """Whether the style in use has a dark background."""
    return sum(to_rgb(matplotlib.rcParams["axes.facecolor"])) < 1.5


def grey(level: float) -> str:
    """A grey from 0 (black) to 1 (white) on a light background, and its opposite on a dark one."""
    return f"{round(1 - level, 3) if _is_dark() else level}"


def color_of(number: int) -> str:
    """The colour of a line by its number, which starts again at 0; the black one is white on a dark background."""
    color = COLORS[number % len(COLORS)]
    return "#ffffff" if color == "#000000" and _is_dark() else color


def line_style(color: int, dash: int | None = None) -> dict[str, Any]:
    """Colour, dash and marker of a line by their numbers, which start again at 0 when they run out.

    Args:
        color: number of the colour.
        dash: number of the dash and marker; None: the next ones in every round of the colours, so that 49 lines differ.
    """
    color = check_whole("color", color, most=2**31 - 1, least=0)
    if dash is None:
        dash = color + color // len(COLORS)
    return {
        "color": color_of(color),
        "linestyle": DASHES[dash % len(DASHES)],
        "marker": MARKERS[dash % len(MARKERS)],
    }


def style_of(style: tuple[int, int]) -> dict[str, Any]:
    """`line_style` of the numbers of a colour and of a dash.

    Raises:
        InputError: for what is no pair of whole numbers >= 0.
    """
    numbers = check_array("style", style, kinds="iu", wanted=_STYLE)
    if numbers.shape != (2,) or numbers.min() < 0:
        raise InputError(f"style must be {_STYLE}, not {shown(style)}")
    return line_style(*numbers.tolist())


def cycle() -> Cycler:
    """The lines of axes, one after another: all differ. That of the style file is the first round."""
    styles = [line_style(k) for k in range(len(COLORS) * len(DASHES))]
    return cycler(**{key: [each[key] for each in styles] for key in styles[0]})
