"""MNIST and Fashion-MNIST: still images in idx files, gzipped or not.

LeCun, Cortes, Burges, "The MNIST database of handwritten digits", 1998; Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel
Image Dataset for Benchmarking Machine Learning Algorithms", arXiv 1708.07747, 2017. The file format is described on
MNIST's page: a magic number (type, dimensions), the size of every dimension, the values; big endian.
"""

from __future__ import annotations

import gzip
import math
from functools import partial
from pathlib import Path

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.datasets.base import ImageDataset, Stills, check_labels, read_checked

SENSOR_SIZE = (1, 28, 28)

_STEM = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTES = 0x0800


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The unsigned bytes in an idx file with this number of dimensions; gzipped if the name ends in .gz.

    Raises:
        InputError: for another magic number or a truncated file, with its name.
    """
    return read_checked(path, "an idx file", partial(_read_idx, path, dimensions))


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    start = 4 * (1 + dimensions)
    magic, *shape = (int.from_bytes(content[i : i + 4]) for i in range(0, start, 4))
    if magic != _UNSIGNED_BYTES + dimensions:
        expected = f"{_UNSIGNED_BYTES + dimensions:#06x} (unsigned bytes in {dimensions} dimension(s))"
        raise InputError(f"{path}: begins with the magic number {magic:#06x}, expected {expected}")
    if len(content) != start + math.prod(shape):
        sizes = " x ".join(map(str, shape))
        promised = f"its header of {sizes} promises {start + math.prod(shape)}"
        raise InputError(f"{path}: truncated or damaged: {len(content)} bytes, {promised}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _file(folder: Path, stem: str, dimensions: int) -> Path | None:
    """The first there is of the usual names of one file."""
    for separator in "-.":
        for suffix in ("", ".gz"):
            path = folder / f"{stem}{separator}idx{dimensions}-ubyte{suffix}"
            if path.is_file():
                return path
    return None


def _open(folder: Path, split: str) -> Stills:
    images = _file(folder, f"{_STEM[split]}-images", 3)
    if images is None:
        return Stills([], np.zeros(0, np.int64), np.zeros((0, *SENSOR_SIZE), np.uint8))
    labels = _file(folder, f"{_STEM[split]}-labels", 1)
    if labels is None:
        raise InputError(f"{images}: its labels, {_STEM[split]}-labels-idx1-ubyte or .gz, are not beside it")
    pixels, label = read_idx(images, 3), read_idx(labels, 1).astype(np.int64)
    if pixels.shape[1:] != SENSOR_SIZE[1:]:
        raise InputError(f"{images}: images of {pixels.shape[1]} x {pixels.shape[2]} pixels, expected 28 x 28")
    if len(pixels) != len(label):
        raise InputError(f"{labels}: {len(label)} labels for the {len(pixels)} images in {images.name}")
    check_labels(label, 10, labels)
    return Stills([f"{number:05d}" for number in range(1, len(label) + 1)], label, pixels[:, None])


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
