"""Event times of the pixels of a contrast camera; compiled, because one recording has millions of pixel samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np

from mtt_brian.events.camera.projection import Projection
from mtt_brian.kernel_cache import kept

_OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


def _kernel(function: Callable[..., Any]) -> Any:
    """Compiles a function that Python calls."""
    return kept([Path(__file__)])(numba.njit(**_OPTIONS)(function))


#: Compiles a function of a kernel. Python must not call it.
_piece = numba.njit(**_OPTIONS, no_cpython_wrapper=True)

#: Pixels that are passed over at once: bytes of a 64-bit number.
_BLOCK = 8
#: A level as an intensity, exp(level), is wrong by less than this fraction.
_ERROR = 1e-11
#: Bits that the radix sort sorts by at once.
_DIGIT = 11


class Pixels(NamedTuple):
    """What distinguishes the pixels of P.

    Attributes:
        on, off: contrast thresholds, float64 [P], > 0.
        refractory: microseconds.
        sign: 1, or -1 for a negative, with ON events where it gets darker.
    """

    on: np.ndarray
    off: np.ndarray
    refractory: float
    sign: float


class Found(NamedTuple):
    """Events, each [E]; those of one pixel are in the order in which they happen.

    Attributes:
        t: microseconds, int64.
        pixel: int64.
        p: int8, 1 for ON and 0 for OFF.
    """

    t: np.ndarray
    pixel: np.ndarray
    p: np.ndarray


@_kernel
def seen(projection: Projection, image: np.ndarray, dark: float) -> np.ndarray:
    """The intensity of every pixel for every place of the image, ``dark`` where it is black: float64 [D, H, W]."""
    places, height = projection.rows.first.shape
    narrow = _columns(projection, image)
    lines = np.empty((places, height, narrow.shape[2]))
    for y in range(height):
        _line(lines[:, y], projection, narrow, y, dark)
    return lines


@_kernel
def record(times: np.ndarray, projection: Projection, image: np.ndarray, dark: float, pixels: Pixels) -> Found:
    """The events of all pixels [H * W], line by line; see `crossings`, which gets the intensities of `seen`."""
    places, height = projection.rows.first.shape
    narrow = _columns(projection, image)
    width = narrow.shape[2]
    line = np.empty((places, width))
    found, n = _room(1 << 16), 0
    for y in range(height):
        _line(line, projection, narrow, y, dark)
        found, n = _with_crossings(found, n, times, projection.place, line, pixels, y * width)
    return Found(found.t[:n], found.pixel[:n], found.p[:n])


@_kernel
def crossings(times: np.ndarray, place: np.ndarray, line: np.ndarray, pixels: Pixels) -> Found:
    """Threshold crossings of many pixels whose log intensity is linear between samples.

    A pixel has a reference level, which starts at its first sample. When its log intensity reaches reference + ``on``
    (reference - ``off``), that level becomes the reference and an ON (OFF) event is sent at the exact interpolated
    time, rounded to the microsecond. A steep change crosses several levels, each at its time. A crossing within
    ``refractory`` after the pixel's last event changes the reference but gives no event (as in ESIM).

    Args:
        times: sample times in microseconds, int64 [K], increasing.
        place: index of the image's place at each, int64 [K].
        line: intensity of P pixels at each place, float64 [D, P], > 0.
        pixels: thresholds.
    """
    found, n = _with_crossings(_room(16), 0, times, place, line, pixels, 0)
    return Found(found.t[:n], found.pixel[:n], found.p[:n])


@_kernel
def order_of(key: np.ndarray) -> np.ndarray:
    """The stable order of whole numbers >= 0, as ``np.argsort(key, kind="stable")``, by a radix sort."""
    order, moved = np.empty(len(key), np.int64), np.empty(len(key), np.int64)
    most = 0
    for i in range(len(key)):
        order[i], most = i, max(most, key[i])
    start = np.empty(1 << _DIGIT, np.int64)
    for shift in range(0, 63, _DIGIT):
        if most >> shift == 0:
            break
        for digit in range(len(start)):
            start[digit] = 0
        for i in range(len(key)):
            start[(key[i] >> shift) & (len(start) - 1)] += 1
        before = 0
        for digit in range(len(start)):
            start[digit], before = before, before + start[digit]
        for i in range(len(key)):
            digit = (key[order[i]] >> shift) & (len(start) - 1)
            moved[start[digit]] = order[i]
            start[digit] += 1
        order, moved = moved, order
    return order


@_piece
def _room(n: int) -> Found:
    return Found(np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int8))


@_piece
def _columns(projection: Projection, image: np.ndarray) -> np.ndarray:
    """The image's rows on the sensor's columns, for every place: float64 [h, D, W]."""
    first, weight = projection.columns.first, projection.columns.weight
    narrow = np.empty((image.shape[0], *first.shape))
    for d in range(first.shape[0]):
        for row in range(image.shape[0]):
            for x in range(first.shape[1]):
                value = 0.0
                for b in range(weight.shape[2]):
                    value += weight[d, x, b] * image[row, first[d, x] + b]
                narrow[row, d, x] = value
    return narrow


@_piece
def _line(line: np.ndarray, projection: Projection, narrow: np.ndarray, y: int, dark: float) -> None:
    """Intensities of the sensor's line ``y`` for every place, into ``line`` [D, W]."""
    first, weight = projection.rows.first, projection.rows.weight
    for d in range(first.shape[0]):
        now = line[d]
        for x in range(len(now)):
            now[x] = 0.0
        for b in range(weight.shape[2]):
            row, w = narrow[first[d, y] + b, d], weight[d, y, b]
            for x in range(len(now)):
                now[x] += w * row[x]
        for x in range(len(now)):
            now[x] += dark


@_piece
def _with_crossings(
    found: Found, n: int, times: np.ndarray, place: np.ndarray, line: np.ndarray, pixels: Pixels, start: int
) -> tuple[Found, int]:
    """Adds the events of pixels from number ``start`` on to the ``n`` of ``found``; returns it and the new number."""
    while True:
        end = _line_crossings(found, n, times, place, line, pixels, start)
        if end <= len(found.t):
            return found, end
        more = _room(2 * end)  # and the line again: a check of the room in its inner loop would double the time
        for i in range(n):
            more.t[i], more.pixel[i], more.p[i] = found.t[i], found.pixel[i], found.p[i]
        found = more


@_piece
def _line_crossings(
    found: Found, n: int, times: np.ndarray, place: np.ndarray, line: np.ndarray, pixels: Pixels, start: int
) -> int:
    """Writes the events of pixels from number ``start`` on behind the first ``n`` of ``found``, as far as they fit.

    Returns the number of events that ``found`` should hold.

    Intensities are compared with exp(level), wrong by less than `_ERROR`; only a pixel that comes as close as that gets
    its logarithm.
    """
    width = line.shape[1]
    upper, lower, last_event = np.empty(width), np.empty(width), np.full(width, -np.inf)
    high, low = np.empty(width), np.empty(width)
    blocks = np.zeros(-(-width // _BLOCK), np.uint64)
    reached = blocks.view(np.uint8)  # of every pixel, read by blocks
    for x in range(width):
        level = pixels.sign * math.log(line[place[0], x])
        upper[x], lower[x] = level + pixels.on[start + x], level - pixels.off[start + x]
        high[x], low[x] = _bounds(upper[x], lower[x], pixels.sign)
    for k in range(1, len(times)):
        if place[k] == place[k - 1]:
            continue
        earlier, now = line[place[k - 1]], line[place[k]]
        for x in range(width):
            reached[x] = (now[x] >= high[x]) | (now[x] <= low[x])
        for block in range(len(blocks)):
            if not blocks[block]:
                continue
            for x in range(_BLOCK * block, _BLOCK * block + _BLOCK):
                if not reached[x]:
                    continue
                pixel = start + x
                before, after = pixels.sign * math.log(earlier[x]), pixels.sign * math.log(now[x])
                while after >= upper[x] or after <= lower[x]:
                    rising = after > before
                    level = upper[x] if rising else lower[x]
                    upper[x] = level + pixels.on[pixel]
                    lower[x] = level - pixels.off[pixel]
                    t = times[k - 1] + (level - before) / (after - before) * (times[k] - times[k - 1])
                    if t - last_event[x] >= pixels.refractory:
                        last_event[x] = t
                        if n < len(found.t):
                            found.t[n], found.pixel[n], found.p[n] = int(np.rint(t)), pixel, rising
                        n += 1
                high[x], low[x] = _bounds(upper[x], lower[x], pixels.sign)
    return n


@_piece
def _bounds(upper: float, lower: float, sign: float) -> tuple[float, float]:
    """Intensities beyond which, or close to which, a level is reached: the upper and the lower one."""
    if sign < 0:
        upper, lower = -lower, -upper
    return math.exp(upper) * (1 - _ERROR), math.exp(lower) * (1 + _ERROR)
