"""CIFAR-10 and CIFAR-100: still images of 32x32 pixels in three colours.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. Read from the authors' binary version. The
"python version" is refused: it is pickled, and unpickling a file runs the code in it.
"""

from __future__ import annotations

import itertools
import re
from functools import partial
from pathlib import Path

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.datasets.base import (
    ImageArrays,
    ImageDataset,
    check_labels,
    data_names,
    files_there,
    warn_of_unused,
)
from mtt_brian.events.formats.cifar_binary import PIXELS, read_cifar_binary
from mtt_brian.files import warn_of_data
from mtt_brian.text import listed, shown

SENSOR_SIZE = (3, 32, 32)

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""
CIFAR100_CLASSES = tuple(_CIFAR100_CLASSES.split())

_FILES10 = {"train": [f"data_batch_{n}.bin" for n in range(1, 6)], "test": ["test_batch.bin"]}
_FILES100 = {"train": ["train.bin"], "test": ["test.bin"]}


def _open(
    files: dict[str, list[str]],
    label_bytes: int,
    classes: tuple[str, ...],
    names: str,
    pickled: tuple[str, ...],
    folder: Path,
    split: str,
) -> ImageArrays:
    """The images of the files that exist.

    Args:
        files: names for each split.
        label_bytes: of a row.
        classes: their names.
        names: the file that lists them.
        pickled: names of files of the python version.
        folder, split: see `Dataset`.
    """
    found = [path.name for path in files_there(folder, files[split])]
    for name in pickled:
        if not found and (folder / name).exists():
            raise InputError(
                f"{folder / name}: the pickled 'python version' is not read, because unpickling a file runs the code it"
                f" holds. Accepted is the binary version ({', '.join(files[split])})."
                " To get it: https://www.cs.toronto.edu/~kriz/cifar.html"
            )
    if found and (missing := [name for name in files[split] if name not in found]):
        warn_of_data(f"{folder}: without {listed(missing)}; the images are those of {listed(found)}")
    if found:
        _check_classes(folder / names, classes)
        similar = re.compile(re.sub(r"(_\d)?\.bin", r".*\\.bin\\b.*", files[split][0]), re.IGNORECASE)
        unused = [name for name in data_names(folder) if similar.fullmatch(name) and name not in found]
        warn_of_unused(folder, unused, listed(files[split]))
    ids, rows = [], [np.zeros((0, label_bytes + PIXELS), np.uint8)]
    for name in found:
        batch = read_cifar_binary(folder / name, label_bytes)
        check_labels(batch[:, label_bytes - 1], len(classes), folder / name)
        ids += [f"{name}#{number}" for number in range(len(batch))]
        rows.append(batch)
    together = np.concatenate(rows)
    labels, pixels = together[:, label_bytes - 1].astype(np.int64), together[:, label_bytes:]
    return ImageArrays(ids, labels, pixels.reshape(-1, *SENSOR_SIZE))


def _check_classes(path: Path, classes: tuple[str, ...]) -> None:
    """Refuses a list of classes beside the images that is another one."""
    if not path.is_file():
        return
    listed_there = path.read_text(encoding="utf-8", errors="replace").split()
    for label, (there, expected) in enumerate(itertools.zip_longest(listed_there, classes)):
        if there != expected:
            raise InputError(f"{path}: the class {label} is {shown(there)} there, expected {shown(expected)}")


CIFAR10 = ImageDataset(
    name="cifar10",
    title="CIFAR-10",
    sensor_size=SENSOR_SIZE,
    classes=CIFAR10_CLASSES,
    open=partial(
        _open, _FILES10, 1, CIFAR10_CLASSES, "batches.meta.txt", ("cifar-10-batches-py", "data_batch_1", "test_batch")
    ),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    folders=("cifar-10-batches-bin", ""),
    layout="data_batch_<1..5>.bin and test_batch.bin",
    how_to_get="download cifar-10-binary.tar.gz (the binary version) from https://www.cs.toronto.edu/~kriz/cifar.html"
    " and unpack it",
)

CIFAR100 = ImageDataset(
    name="cifar100",
    title="CIFAR-100",
    sensor_size=SENSOR_SIZE,
    classes=CIFAR100_CLASSES,
    open=partial(_open, _FILES100, 2, CIFAR100_CLASSES, "fine_label_names.txt", ("cifar-100-python", "meta")),
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    folders=("cifar-100-binary", ""),
    layout="train.bin and test.bin",
    how_to_get="download cifar-100-binary.tar.gz (the binary version) from https://www.cs.toronto.edu/~kriz/cifar.html"
    " and unpack it",
)
