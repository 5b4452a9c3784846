"""MNIST and Fashion-MNIST recorded with the simulated event camera: simulated recordings, not measured ones.

With the camera's default sensor this resembles N-MNIST, image for image: the recording "00007" shows what N-MNIST's
Train/<digit>/00007.bin shows. ``-128`` is the same scene on 128x128 pixels, with 14 times as many events.

Nothing is stored on disk. A recording is simulated on every access, in 2 ms (128x128: 12 ms). Reading it from disk
would take 0.3 ms, but 60,000 recordings need 3 GB (128x128: 43 GB), and a few random ones would require the simulation
of all others in the same file.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from mtt_brian.events.camera.camera import Camera
from mtt_brian.events.datasets.base import EventDataset, ImageDataset, RecordingIndex
from mtt_brian.events.datasets.mnist import FASHION_MNIST, MNIST

CAMERA = Camera()

_ENLARGED = 128 / 34

#: The same view on 128 pixels instead of 34.
CAMERA_128 = replace(
    CAMERA,
    height=128,
    width=128,
    image_pixels=CAMERA.image_pixels * _ENLARGED,
    corners=tuple((x * _ENLARGED, y * _ENLARGED) for x, y in CAMERA.corners),
)


def read_recording(camera: Camera, pixels: np.ndarray, identifier: str) -> np.ndarray:
    """The (simulated) recording of one of the images ``pixels`` [N, 1, H, W]; ``identifier`` is its number, from 1."""
    number = int(identifier)
    return camera.record(pixels[number - 1, 0] / 255, seed=number)


def _open(images: ImageDataset, camera: Camera, folder: Path, split: str) -> RecordingIndex:
    assert images.open is not None
    found = images.open(folder, split)
    return RecordingIndex(found.ids, found.labels.tolist(), partial(read_recording, camera, found.pixels))


def _in_front_of(camera: Camera, images: ImageDataset, ending: str) -> EventDataset:
    return EventDataset(
        name=f"{images.name}-events{ending}",
        title=f"{images.title} (simulated events)",
        sensor_size=camera.sensor_size,
        classes=images.classes,
        duration_us=camera.duration_us,
        open=partial(_open, images, camera),
        folders=images.folders,
        layout=images.layout,
        how_to_get=images.how_to_get,
    )


MNIST_EVENTS = _in_front_of(CAMERA, MNIST, "")
MNIST_EVENTS_128 = _in_front_of(CAMERA_128, MNIST, "-128")
FASHION_MNIST_EVENTS = _in_front_of(CAMERA, FASHION_MNIST, "")
FASHION_MNIST_EVENTS_128 = _in_front_of(CAMERA_128, FASHION_MNIST, "-128")
