"""Tables of numbers, shaded by value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.errors import InputError, check_array, check_list
from mtt_brian.plotting.axes import axes, literal
from mtt_brian.plotting.style import SEQUENTIAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

#: With more classes the numbers would overlap.
WRITTEN = 20
#: So many letters of a name are written beside its row and below its column.
_LETTERS = 32


def change_matrix(names: Sequence[str], accuracy: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Accuracies after one change (on the diagonal) and after two at once, as a table in colours.

    Args:
        names: of the changes [K].
        accuracy: fractions [K, K]; NaN where two changes cannot be made together, and the cell stays empty.
        ax: axes to draw into.

    Raises:
        InputError: unless there is one row and one column for each name.
    """
    names, accuracy = check_list("names", names), check_array("accuracy", accuracy).astype(np.float64)
    if accuracy.shape != (len(names), len(names)) or not len(names):
        raise InputError(f"{len(names)} names of changes for accuracies of the shape {accuracy.shape}")
    ax = axes(ax)
    image = ax.imshow(accuracy, vmin=0, vmax=1, cmap=SEQUENTIAL)
    _write(image, [["" if np.isnan(value) else f"{100 * value:.1f}" for value in row] for row in accuracy])
    shown = [literal(name, _LETTERS) for name in names]
    ax.set_xticks(range(len(names)), shown, rotation=30, ha="right")
    ax.set_yticks(range(len(names)), shown)
    return ax


def confusion_matrix(matrix: ArrayLike, classes: Sequence[str] | None = None, *, ax: Axes | None = None) -> Axes:
    """The confusion matrix: predictions for the recordings of every class, as a table.

    A cell is shaded by its part of the row, so that classes with few recordings are as visible as those with many;
    the numbers are counts, and not written for more than 20 classes.

    Args:
        matrix: counts [K, K], rows are the truth (`evaluate.confusion_matrix`). Rows without a recording stay empty.
        classes: names [K]; default: 0, 1, and so on.
        ax: axes to draw into; a colour bar is put beside them.

    Raises:
        InputError: if the matrix is not square, holds less than nothing, or there is not one name per class.
    """
    counts = check_array("matrix", matrix).astype(np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise InputError(f"a confusion matrix has one row and one column per class, not the shape {counts.shape}")
    if not np.all(counts >= 0):
        raise InputError(f"a confusion matrix holds counts, not {counts[~(counts >= 0)][0]:g}")
    names = [str(k) for k in range(len(counts))] if classes is None else check_list("classes", classes)
    if len(names) != len(counts):
        raise InputError(f"{len(names)} names of classes for a confusion matrix of {len(counts)}")
    ax = axes(ax)
    recordings = counts.sum(axis=1, keepdims=True)
    parts = np.divide(counts, recordings, out=np.full_like(counts, np.nan), where=recordings > 0)
    image = ax.imshow(parts, vmin=0, vmax=1, cmap=SEQUENTIAL)
    if len(counts) <= WRITTEN:
        _write(image, [[f"{count:g}" if count else "" for count in row] for row in counts])
    ticks = range(0, len(names), -(-len(names) // WRITTEN))
    shown = [literal(names[k], _LETTERS) for k in ticks]
    # More letters than this do not fit side by side into a column of a paper.
    ax.set_xticks(ticks, shown, rotation=90 if sum(map(len, shown)) > 30 else 0)
    ax.set_yticks(ticks, shown)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    ax.figure.colorbar(image, ax=ax, label="part of the class", shrink=0.8)
    return ax


def _write(image: AxesImage, texts: Sequence[Sequence[str]]) -> None:
    """Write texts into the cells of an image, dark on light and light on dark; empty texts are left out."""
    values = image.get_array()
    assert values is not None
    for row, column in np.ndindex(values.shape):
        if text := texts[row][column]:
            red, green, blue, _ = image.cmap(image.norm(values[row, column]))
            color = "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5 else "white"
            image.axes.text(column, row, text, ha="center", va="center", color=color, fontsize="small")
