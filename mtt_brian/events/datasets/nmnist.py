"""N-MNIST: MNIST's digits recorded with an event camera that makes three saccades.

Orchard, Jayawant, Cohen, Thakor, "Converting static image datasets to spiking neuromorphic datasets using saccades",
Front. Neurosci. 9:437, 2015. One file per recording, in the format of `mtt_brian.events.formats.five_byte`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mtt_brian.events.datasets.base import EventDataset, RecordingIndex, files_by_class, require
from mtt_brian.events.formats.five_byte import read_five_byte


def read_recording(folder: Path, identifier: str) -> np.ndarray:
    """One recording; ``identifier`` is its file name relative to ``folder``."""
    return read_five_byte(folder / identifier)


def _open(folder: Path, split: str) -> RecordingIndex:
    part = split.capitalize()
    files = files_by_class(folder / part, map(str, range(10)), (".bin",))
    return RecordingIndex([f"{part}/{file}" for file in files], [*files.values()], partial(read_recording, folder))


def _download(root: Path, split: str) -> None:
    require("tonic.datasets").NMNIST(save_to=str(root), train=split == "train")


NMNIST = EventDataset(
    name="nmnist",
    title="N-MNIST",
    sensor_size=(2, 34, 34),
    classes=tuple("0123456789"),
    duration_us=300_000,
    open=_open,
    folders=("", "NMNIST"),
    layout="Train/<digit>/<number>.bin and Test/<digit>/<number>.bin",
    how_to_get="download Train.zip and Test.zip from https://www.garrickorchard.com/datasets/n-mnist and unpack both"
    " into one folder, or let download=True (--download) fetch them",
    download=_download,
)
