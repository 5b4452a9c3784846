"""digits: handwritten digits recorded with the simulated event camera. Built in, no download.

1,797 images of 8x8 pixels with intensities 0..16 lie in ``digits.npz`` beside this file, in the order in which
scikit-learn has them: the test set of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI
Machine Learning Repository, 1998, https://doi.org/10.24432/C50P49, licence CC BY 4.0. The recordings are simulated, not
measured.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from mtt_brian.events.camera.cache import cached_recordings
from mtt_brian.events.camera.camera import Camera
from mtt_brian.events.datasets.base import EventDataset, RecordingIndex
from mtt_brian.files import cache_folder

#: A separate camera, because the data set must never change. These images have no margin; an MNIST digit fills the
#: middle 20 of 28 pixels, so these images cover 20/28 of the size.
CAMERA = Camera(
    image_pixels=17.5,
    corners=((-4.5, -4.5), (0.0, 4.5), (4.5, -4.5)),
    saccades_us=((0, 100_000), (100_000, 200_000), (200_000, 300_000)),
    negative=False,
    threshold_on=0.3,
    threshold_off=0.3,
    dark=0.3,
    noise_hz=0.0,
)

#: Every fifth image of each class is for testing: 80/20, stratified, fixed.
TEST_EVERY = 5


def digits_split(labels: np.ndarray) -> np.ndarray:
    """Whether each image is for testing: bool [N]."""
    test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        test[np.flatnonzero(labels == label)[TEST_EVERY - 1 :: TEST_EVERY]] = True
    return test


def read_recording(folder: Path, progress: bool, identifier: str) -> np.ndarray:
    """The (simulated) recording of one image; ``identifier`` is the image's number, from 0."""
    return _all(folder, progress)[0][int(identifier)]


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """The images, uint8 [1797, 8, 8] with values 0..16, and the digit of each, int64 [1797]."""
    with np.load(Path(__file__).with_name("digits.npz")) as file:
        return file["images"], file["labels"].astype(np.int64)


@lru_cache(maxsize=1)
def _all(folder: Path, progress: bool) -> tuple[list[np.ndarray], np.ndarray]:
    """All recordings and labels, from the cache in ``folder``."""
    images, labels = digit_images()
    return cached_recordings("digits", CAMERA, images / 16, folder, progress=progress), labels


def _generate(split: str, progress: bool) -> RecordingIndex:
    folder = cache_folder()
    _, labels = _all(folder, progress)
    chosen = np.flatnonzero(digits_split(labels) == (split == "test"))
    return RecordingIndex(
        [f"{i:04d}" for i in chosen], labels[chosen].tolist(), partial(read_recording, folder, progress)
    )


DIGITS = EventDataset(
    name="digits",
    title="digits (simulated)",
    sensor_size=CAMERA.sensor_size,
    classes=tuple("0123456789"),
    duration_us=CAMERA.duration_us,
    generate=_generate,
)
