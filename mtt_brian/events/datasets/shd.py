"""Spiking Heidelberg Digits: spoken digits in two languages encoded by a model of the inner ear with 700 channels.

Cramer, Stradmann, Schemmel, Zenke, "The Heidelberg Spiking Data Sets for the Systematic Evaluation of Spiking Neural
Networks", IEEE TNNLS 2020. One HDF5 file per split.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.datasets.base import EventDataset, RecordingIndex, files_there, require
from mtt_brian.events.formats.columns import from_seconds, read_checked, to_events

_DIGITS = {
    "English": "zero one two three four five six seven eight nine",
    "German": "null eins zwei drei vier fuenf sechs sieben acht neun",
}
CLASSES = tuple(f"{word} ({language})" for language, words in _DIGITS.items() for word in words.split())


def read_recording(folder: Path, identifier: str) -> np.ndarray:
    """One recording; ``identifier`` is "<file>.h5#<number in the file>". The channel becomes x."""
    file, _, number = identifier.partition("#")
    return read_checked(folder / file, "SHD's HDF5", partial(_read, folder / file, int(number)))


def _read(path: Path, number: int) -> np.ndarray:
    with require("h5py").File(path, "r") as file:
        seconds = file["spikes/times"][number]  # stored as float16
        units = file["spikes/units"][number]
    return to_events(from_seconds(seconds, f"{path}: recording {number}: spikes/times"), units, 0, 0)


def _labels(path: Path) -> np.ndarray:
    with require("h5py").File(path, "r") as file:
        labels = np.asarray(file["labels"][()])
        lengths = {name: len(file[name]) for name in ("spikes/times", "spikes/units")}
    is_list = labels.ndim == 1 and labels.dtype.kind in "iu"
    if not is_list or (labels.size and not 0 <= labels.min() <= labels.max() < len(CLASSES)):
        raise InputError(f"{path}: labels must be a list of whole numbers 0..{len(CLASSES) - 1}")
    for name, length in lengths.items():
        if length != len(labels):
            raise InputError(f"{path}: it holds {len(labels)} labels, but {length} recordings in {name}")
    return labels.astype(np.int64)


def _open(folder: Path, split: str) -> RecordingIndex:
    file = f"shd_{split}.h5"
    if not files_there(folder, [file]):
        return RecordingIndex([], [], partial(read_recording, folder))
    labels = read_checked(folder / file, "SHD's HDF5", partial(_labels, folder / file))
    return RecordingIndex([f"{file}#{i}" for i in range(len(labels))], labels.tolist(), partial(read_recording, folder))


def _download(root: Path, split: str) -> None:
    require("tonic.datasets").SHD(save_to=str(root), train=split == "train")


SHD = EventDataset(
    name="shd",
    title="Spiking Heidelberg Digits",
    sensor_size=(1, 1, 700),
    classes=CLASSES,
    duration_us=1_000_000,
    open=_open,
    folders=("", "SHD", "hsd"),
    layout="shd_train.h5 and shd_test.h5",
    how_to_get="download shd_train.h5.zip and shd_test.h5.zip from https://zenkelab.org/datasets/ and unpack them, or"
    " let download=True (--download) fetch them",
    download=_download,
)
