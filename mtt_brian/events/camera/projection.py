"""Projection of a still image on the lines of a sensor, for every place of the image."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mtt_brian.machine import check_room

#: Per weight while it is made: float64 of it, of its distance and of what both are computed from.
_BYTES = 48


class Axis(NamedTuple):
    """Weights of the image pixels that a sensor pixel sees, along one axis; all others have the weight 0.

    Attributes:
        first: the first of them, int64 [D, sensor] for D places of the image.
        weight: of it and of those that follow, float64 [D, sensor, B].
    """

    first: np.ndarray
    weight: np.ndarray


class Projection(NamedTuple):
    """How the pixels of a sensor see an image at K sample times.

    Attributes:
        place: index of the image's place at each sample time, int64 [K].
        rows, columns: weights of the image's rows for those of the sensor, and of its columns.
    """

    place: np.ndarray
    rows: Axis
    columns: Axis


def projection(path: np.ndarray, sensor: tuple[int, int], image: tuple[int, int], image_pixels: float) -> Projection:
    """The projection of an image along a path. A place that the path visits again is computed once.

    Args:
        path: where the image's centre is, float64 [K, 2], (x, y) in sensor pixels from the sensor's centre.
        sensor, image: rows and columns.
        image_pixels: sensor pixels that the longer side of the image covers.

    Raises:
        InputError: if the image has too many pixels for the free memory.
    """
    places, place = np.unique(path, axis=0, return_inverse=True)
    pitch = max(image_pixels / max(image), 1e-9)  # a smaller one has no visible weight, and would overflow
    x, y = places.T
    # Weights of both axes with what they are computed from, and the rows of the image as the columns of the sensor.
    size = _BYTES * len(places) * sum(n * _seen(m, pitch) for n, m in zip(sensor, image, strict=True))
    size += 8 * len(places) * image[0] * sensor[1]
    check_room(f"an image of {image[0]:,} x {image[1]:,} pixels before the camera", size)
    return Projection(place.reshape(-1), _spline(sensor[0], image[0], pitch, y), _spline(sensor[1], image[1], pitch, x))


def _seen(image: int, pitch: float) -> int:
    """Image pixels that a sensor pixel sees along an axis."""
    return min(image, math.ceil(4 * max(pitch, 1.0) / pitch))


def _spline(sensor: int, image: int, pitch: float, shifts: np.ndarray) -> Axis:
    """A cubic B-spline over an image pixel, or over a sensor pixel if that is larger.

    Args:
        sensor, image: number of pixels.
        pitch: size of an image pixel in sensor pixels.
        shifts: where the image's centre is, in sensor pixels from the sensor's centre, [D].
    """
    blur = max(pitch, 1.0)  # an image finer than the sensor is averaged, not sampled
    at_sensor = np.arange(sensor) - (sensor - 1) / 2 - shifts[:, None]
    seen = _seen(image, pitch)
    first = np.floor((at_sensor - 2 * blur) / pitch + (image - 1) / 2).astype(np.int64) + 1
    first = np.clip(first, 0, image - seen)
    at_image = (first[..., None] + np.arange(seen) - (image - 1) / 2) * pitch
    distance = np.abs(at_sensor[..., None] - at_image) / blur
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    return Axis(first, np.where(distance < 1, near, far) * (pitch / blur))
