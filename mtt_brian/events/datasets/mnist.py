"""MNIST and Fashion-MNIST: still images in idx files, gzipped or not.

LeCun, Cortes, Burges, "The MNIST database of handwritten digits", 1998; Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel
Image Dataset for Benchmarking Machine Learning Algorithms", arXiv 1708.07747, 2017.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.datasets.base import ImageArrays, ImageDataset, check_labels, files_there
from mtt_brian.events.formats.idx import read_idx

SENSOR_SIZE = (1, 28, 28)

_STEM = {"train": "train", "test": "t10k"}

#: The first labels of both data sets, whose files have the same names.
_FIRST_LABELS = {
    ("MNIST", "train"): [5, 0, 4, 1, 9, 2, 1, 3, 1, 4],
    ("MNIST", "test"): [7, 2, 1, 0, 4, 1, 4, 9, 5, 9],
    ("Fashion-MNIST", "train"): [9, 0, 0, 3, 0, 2, 7, 2, 5, 5],
    ("Fashion-MNIST", "test"): [9, 2, 1, 1, 6, 1, 4, 6, 5, 7],
}


def _read(folder: Path, stem: str, dimensions: int) -> tuple[Path, np.ndarray] | None:
    """The content of the file that has one of the usual names, and its path; None without it.

    Raises:
        InputError: if there are several, and they differ.
    """
    names = [f"{stem}{separator}idx{dimensions}-ubyte{suffix}" for separator in "-." for suffix in ("", ".gz")]
    first: tuple[Path, np.ndarray] | None = None
    for path in files_there(folder, names):
        values = read_idx(path, dimensions)
        if first is None:
            first = path, values
        elif not np.array_equal(first[1], values):
            raise InputError(f"{path}: its content is not that of {first[0].name}; keep the one that is right")
    return first


def _open(other: str, folder: Path, split: str) -> ImageArrays:
    """The images of a split; refused if their labels are those of the ``other`` data set in files of the same names."""
    found = _read(folder, f"{_STEM[split]}-images", 3)
    if found is None:
        return ImageArrays([], np.zeros(0, np.int64), np.zeros((0, *SENSOR_SIZE), np.uint8))
    images, pixels = found
    found = _read(folder, f"{_STEM[split]}-labels", 1)
    if found is None:
        raise InputError(f"{images}: its labels, {_STEM[split]}-labels-idx1-ubyte or .gz, are not beside it")
    labels, label = found[0], found[1].astype(np.int64)
    if label[:10].tolist() == _FIRST_LABELS[other, split]:
        raise InputError(f"{labels}: it begins as the labels of {other}; accepted are those of the data set asked for")
    if pixels.shape[1:] != SENSOR_SIZE[1:]:
        raise InputError(f"{images}: images of {pixels.shape[1]} x {pixels.shape[2]} pixels, expected 28 x 28")
    if len(pixels) != len(label):
        raise InputError(f"{labels}: {len(label)} labels for the {len(pixels)} images in {images.name}")
    check_labels(label, 10, labels)
    return ImageArrays([f"{number:05d}" for number in range(1, len(label) + 1)], label, pixels[:, None])


_LAYOUT = "{train,t10k}-images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte, gzipped (.gz) or not"

MNIST = ImageDataset(
    name="mnist",
    title="MNIST",
    sensor_size=SENSOR_SIZE,
    classes=tuple("0123456789"),
    open=partial(_open, "Fashion-MNIST"),
    mean=(0.1307,),
    std=(0.3081,),
    folders=("", "MNIST/raw"),
    layout=_LAYOUT,
    how_to_get="download the four .gz files from https://ossci-datasets.s3.amazonaws.com/mnist/ (a copy of"
    " http://yann.lecun.com/exdb/mnist/) into one folder, or name the folder that torchvision downloaded them to",
)

FASHION_MNIST = ImageDataset(
    name="fashion_mnist",
    title="Fashion-MNIST",
    sensor_size=SENSOR_SIZE,
    classes=(
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    open=partial(_open, "MNIST"),
    mean=(0.2860,),
    std=(0.3530,),
    folders=("", "FashionMNIST/raw"),
    layout=_LAYOUT,
    how_to_get="download the four .gz files that https://github.com/zalandoresearch/fashion-mnist lists into one"
    " folder, or name the folder that torchvision downloaded them to",
)
