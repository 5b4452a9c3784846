"""Projection of a still image on the lines of a sensor, for every place of the image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


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
    """
    places, place = np.unique(path, axis=0, return_inverse=True)
    pitch = image_pixels / max(image)
    columns, rows = (
        _axis(np.stack([_spline_weights(pixels, seen, pitch, shift) for shift in shifts]))
        for pixels, seen, shifts in zip(sensor[::-1], image[::-1], places.T, strict=True)
    )
    return Projection(place.reshape(-1), rows, columns)


def _axis(weights: np.ndarray) -> Axis:
    """The part of ``weights`` [D, sensor, image] that is not 0."""
    seen = weights != 0
    first = np.argmax(seen, axis=2)
    width = int((np.where(seen, np.arange(weights.shape[2]), -1).max(axis=2) - first).max()) + 1
    first = np.minimum(first, weights.shape[2] - max(width, 1))
    taps = first[..., None] + np.arange(max(width, 1))
    return Axis(first, np.take_along_axis(weights, taps, axis=2))


def _spline_weights(sensor: int, image: int, pitch: float, shift: float) -> np.ndarray:
    """Contribution of every image pixel of a line to every sensor pixel: float64 [sensor, image].

    Args:
        sensor, image: number of pixels.
        pitch: size of an image pixel in sensor pixels.
        shift: where the image's centre is, in sensor pixels from the sensor's centre.
    """
    blur = max(pitch, 1.0)  # an image finer than the sensor is averaged, not sampled
    at_sensor = np.arange(sensor) - (sensor - 1) / 2 - shift
    at_image = (np.arange(image) - (image - 1) / 2) * pitch
    distance = np.abs(at_sensor[:, None] - at_image[None, :]) / blur
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, near, far) * (pitch / blur)
