"""CIFAR-10 recorded with the simulated event camera, moved as for CIFAR10-DVS: simulated recordings, not measured ones.

CIFAR10-DVS (Li, Liu, Ji, Li, Shi, "CIFAR10-DVS: An Event-Stream Dataset for Object Classification", Front. Neurosci.
11:309, 2017) shows 10,000 images of CIFAR-10 to a DVS128. An image is enlarged to 512 x 512 pixels of a monitor and has
a "repeated closed-loop smooth (RCLS) movement": at constant speed along the four sides of a square that stands on a
corner, 10 pixels right or left and 10 up or down on each side, six times. The sensor sees the middle 448 x 448 of these
pixels, so that the edge of the image never enters. A side takes 54 ms: a recording has 1.296 s, those of CIFAR10-DVS
1.298 s on average. `dark` was chosen so that the mean number of events is that of CIFAR10-DVS.
docs/simulated_cifar10.md states the source of each number, and compares both.

Light is computed every millisecond, in which the image moves 0.08 pixels of the sensor; its logarithm is linear in
between. Against samples every 0.125 ms the median error of an event's time is 1 us.

The light of a pixel is the luminance of ITU-R BT.709 (0.2126 R + 0.7152 G + 0.0722 B) of the linear light of its sRGB
values (IEC 61966-2-1). Which images CIFAR10-DVS shows is not published. Here it is the first 900 of every class of the
training files and the first 100 of the test file.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mtt_brian.events.camera.camera import Camera
from mtt_brian.events.datasets.base import EventDataset, RecordingIndex
from mtt_brian.events.datasets.cifar import CIFAR10
from mtt_brian.events.formats.cifar_binary import read_cifar_row

#: Images of a class: 9,000 + 1,000, as many as CIFAR10-DVS has.
PER_CLASS = {"train": 900, "test": 100}

_LOOPS, _SIDE_US = 6, 54_000
#: Pixels of the monitor that a pixel of the sensor sees along each axis.
_SEEN = 448 / 128
_CORNERS = tuple((x / _SEEN, y / _SEEN) for x, y in ((-10, 0), (0, -10), (10, 0), (0, 10)))

CAMERA = Camera(
    height=128,
    width=128,
    image_pixels=512 / _SEEN,
    corners=_LOOPS * _CORNERS,
    saccades_us=tuple((k * _SIDE_US, (k + 1) * _SIDE_US) for k in range(_LOOPS * len(_CORNERS))),
    constant_speed=True,
    negative=False,
    threshold_on=0.15,
    threshold_off=0.15,
    dark=0.06,
    noise_hz=0.45,
)

_BT709 = np.array([0.2126, 0.7152, 0.0722])


def luminance(pixels: np.ndarray) -> np.ndarray:
    """The luminance, 0..1, of sRGB pixels, uint8 [3, H, W]: float64 [H, W]."""
    value = pixels / 255
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.minimum(np.tensordot(_BT709, light, axes=1), 1.0)  # of white it is 1 but for the rounding


def read_recording(folder: Path, identifier: str) -> np.ndarray:
    """The (simulated) recording of one image, which is read from its file; ``identifier`` is file#number."""
    file, number = identifier.split("#")
    row = read_cifar_row(folder / file, 1, int(number))
    return CAMERA.record(luminance(row[1:].reshape(CIFAR10.sensor_size)), seed=[*file.encode(), int(number)])


def _open(folder: Path, split: str) -> RecordingIndex:
    assert CIFAR10.open is not None
    images = CIFAR10.open(folder, split)
    of_class = [np.flatnonzero(images.labels == label) for label in range(len(CIFAR10.classes))]
    chosen = np.sort(np.concatenate([members[: PER_CLASS[split]] for members in of_class]))
    return RecordingIndex(
        [images.ids[i] for i in chosen], images.labels[chosen].tolist(), partial(read_recording, folder)
    )


CIFAR10_EVENTS_128 = EventDataset(
    name="cifar10-events-128",
    title="CIFAR-10 (simulated events)",
    sensor_size=CAMERA.sensor_size,
    classes=CIFAR10.classes,
    duration_us=CAMERA.duration_us,
    open=_open,
    folders=CIFAR10.folders,
    layout=CIFAR10.layout,
    how_to_get=CIFAR10.how_to_get,
)
