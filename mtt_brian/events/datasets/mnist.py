"""MNIST and Fashion-MNIST: still images in idx files, gzipped or not.

LeCun, Cortes, Burges, "The MNIST database of handwritten digits", 1998; Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel
Image Dataset for Benchmarking Machine Learning Algorithms", arXiv 1708.07747, 2017.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.datasets.base import ImageArrays, ImageDataset, check_labels, files_there
from mtt_brian.events.formats.idx import read_idx

SENSOR_SIZE = (1, 28, 28)

_STEM = {"train": "train", "test": "t10k"}


def _file(folder: Path, stem: str, dimensions: int) -> Path | None:
    """The first there is of the usual names of one file."""
    names = [f"{stem}{separator}idx{dimensions}-ubyte{suffix}" for separator in "-." for suffix in ("", ".gz")]
    return next(iter(files_there(folder, names)), None)


def _open(folder: Path, split: str) -> ImageArrays:
    images = _file(folder, f"{_STEM[split]}-images", 3)
    if images is None:
        return ImageArrays([], np.zeros(0, np.int64), np.zeros((0, *SENSOR_SIZE), np.uint8))
    labels = _file(folder, f"{_STEM[split]}-labels", 1)
    if labels is None:
        raise InputError(f"{images}: its labels, {_STEM[split]}-labels-idx1-ubyte or .gz, are not beside it")
    pixels, label = read_idx(images, 3), read_idx(labels, 1).astype(np.int64)
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
    open=_open,
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
    open=_open,
    mean=(0.2860,),
    std=(0.3530,),
    folders=("", "FashionMNIST/raw"),
    layout=_LAYOUT,
    how_to_get="download the four .gz files that https://github.com/zalandoresearch/fashion-mnist lists into one"
    " folder, or name the folder that torchvision downloaded them to",
)
