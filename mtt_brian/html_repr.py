"""HTML for the display of objects in a notebook: a table, and a small raster as an embedded image."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np

from mtt_brian.text import printable

#: Size of a raster in pixels: its width, and the height of a band.
_WIDTH, _BAND = 420, 40
#: Legible on white and on black.
_INK = (0x1F, 0x8A, 0xC0)


def table(rows: Sequence[Sequence[str]]) -> str:
    """HTML of a table, whose first row is the header; texts are escaped."""
    head, *body = [[html.escape(printable(cell)) for cell in row] for row in rows]
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in body]
    return (
        f"<table><thead><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr></thead>"
        f"<tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody></table>"
    )


def heading(text: str) -> str:
    """HTML of a line above a table."""
    return f"<div><strong>{html.escape(printable(text))}</strong></div>"


def raster(bands: Mapping[str, tuple[np.ndarray, np.ndarray, int]], duration: float) -> str:
    """HTML of an image with a band for every population, the first on top; neuron 0 is on top of its band.

    Args:
        bands: by name, times in seconds [K], neurons [K] and the number of neurons.
        duration: seconds that the image covers.
    """
    if not bands or not duration > 0:
        return ""
    density = np.zeros((len(bands) * _BAND, _WIDTH))
    for number, (t, i, size) in enumerate(bands.values()):
        column = np.clip((np.asarray(t) * (_WIDTH / duration)).astype(np.int64), 0, _WIDTH - 1)
        row = number * _BAND + np.asarray(i) * (_BAND - 2) // size
        np.add.at(density, (row, column), 1)
    image = np.zeros((*density.shape, 4), dtype=np.uint8)
    image[..., :3] = _INK
    image[..., 3] = np.where(density > 0, np.minimum(255, 120 + 45 * density), 0)
    image[_BAND - 1 :: _BAND] = (*_INK, 90)
    about = f"spikes over {duration:.3g} s, from top to bottom: {', '.join(bands)}"
    return (
        f'<img alt="{html.escape(printable(about))}" title="{html.escape(printable(about))}" '
        f'src="data:image/png;base64,{_png(image)}">'
    )


def _png(image: np.ndarray) -> str:
    """A PNG in base64; uint8 [height, width, 4]."""
    from matplotlib.image import imsave  # a slow import that only notebooks need

    file = io.BytesIO()
    imsave(file, image, format="png")
    return base64.b64encode(file.getvalue()).decode("ascii")
