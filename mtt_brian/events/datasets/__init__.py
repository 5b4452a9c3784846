"""The data sets by name, and `load`."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.collections import Images, Recordings
from mtt_brian.events.datasets.base import (
    SPLITS,
    Dataset,
    EventDataset,
    Found,
    ImageArrays,
    ImageDataset,
    RecordingIndex,
)
from mtt_brian.events.datasets.cifar import CIFAR10, CIFAR100
from mtt_brian.events.datasets.cifar10dvs import CIFAR10DVS
from mtt_brian.events.datasets.digits import DIGITS
from mtt_brian.events.datasets.dvsgesture import DVSGESTURE
from mtt_brian.events.datasets.mnist import FASHION_MNIST, MNIST
from mtt_brian.events.datasets.ncaltech101 import NCALTECH101
from mtt_brian.events.datasets.nmnist import NMNIST
from mtt_brian.events.datasets.shd import SHD
from mtt_brian.events.datasets.simulated_cifar10 import CIFAR10_EVENTS_128
from mtt_brian.events.datasets.simulated_mnist import (
    FASHION_MNIST_EVENTS,
    FASHION_MNIST_EVENTS_128,
    MNIST_EVENTS,
    MNIST_EVENTS_128,
)
from mtt_brian.files import as_path, warn_of_data, warnings_to
from mtt_brian.progress import progress_bar
from mtt_brian.registry import Registry, import_object
from mtt_brian.text import listed, one_line, printable, shortened, shown

_EVENTS = (DIGITS, NMNIST, DVSGESTURE, CIFAR10DVS, NCALTECH101, SHD)
_SIMULATED = (CIFAR10_EVENTS_128, MNIST_EVENTS, MNIST_EVENTS_128, FASHION_MNIST_EVENTS, FASHION_MNIST_EVENTS_128)
_IMAGES = (MNIST, FASHION_MNIST, CIFAR10, CIFAR100)

#: Entry point group. An entry point names an `EventDataset` or `ImageDataset`, and has the data set's name.
GROUP = "mtt_brian.datasets"


class _Datasets(Registry[EventDataset | ImageDataset]):
    def check(self, part: Any) -> None:
        if not isinstance(part, EventDataset | ImageDataset):
            raise InputError(f"{shown(part)} is not a data set: accepted are EventDataset and ImageDataset")


_REGISTRY = _Datasets("a data set", GROUP, {dataset.name: dataset for dataset in (*_EVENTS, *_SIMULATED, *_IMAGES)})
#: Every data set that `load` accepts, by name, read only; `register` adds one.
DATASETS: Mapping[str, EventDataset | ImageDataset] = _REGISTRY


def register(dataset: EventDataset | ImageDataset, *, replace: bool = False) -> None:
    """Adds a data set, which `load` and the commands then accept by its name.

    An installed package offers its data set through an entry point of the group ``mtt_brian.datasets``: the data set's
    name = the object in its module. Without an entry point, ``package.module:NAME`` refers to a data set.

    Args:
        dataset: how to find and read it.
        replace: replace one that was registered before under the same name.

    Raises:
        InputError: for a name that is in use, and for an object that is not a data set.
    """
    _REGISTRY.check(dataset)
    _REGISTRY.add(dataset.name, dataset, replace)


def unregister(name: str) -> None:
    """Removes a registered data set, if there is one."""
    _REGISTRY.discard(name)


def find_dataset(name: str) -> EventDataset | ImageDataset:
    """A data set by its name, or by ``package.module:NAME``, which imports the module.

    Raises:
        InputError: names what does not exist, cannot be imported, or is not a data set.
    """
    if not is_reference(name):
        return DATASETS[name]
    found = import_object(name)
    if not isinstance(found, EventDataset | ImageDataset):
        raise InputError(f"{name}: {shown(found)} is not a data set: accepted are EventDataset and ImageDataset")
    return found


def names_of_recordings() -> list[str]:
    """Names of the data sets of recordings; those of installed packages only after their first use."""
    return [name for name in _REGISTRY.at_hand() if isinstance(_REGISTRY[name], EventDataset)]


def is_reference(name: object) -> bool:
    """Whether a data set is given as ``package.module:NAME`` and not by its name."""
    return isinstance(name, str) and ":" in name


def check_not_a_reference(name: object, given: str | None = None) -> None:
    """Refuses to import the module that a run names, because a run may be from an untrusted source.

    Args:
        name: of the data set in the settings of a run.
        given: of the data set on the command line, which is imported.

    Raises:
        InputError: for ``package.module:NAME``; the message states how to allow it.
    """
    if is_reference(name) and name != given:
        raise InputError(f"the run was trained on the data set {name}; to import that module, give --dataset {name}")


@functools.cache
def _tell_unused(name: str, root: str) -> None:
    """Prints once per folder that the folder is not read."""
    print(f"{name}: built in; nothing is read from the folder {printable(root)}", file=sys.stderr)


def load(
    name: str,
    root: str | os.PathLike[str] | None = None,
    split: str = "train",
    *,
    skip_bad: bool = False,
    download: bool = False,
    progress: bool = True,
) -> Recordings | Images:
    """One split of a data set: `Images` for an `ImageDataset`, `Recordings` for all others.

    Folders may be complete or partial copies: all files that exist are used. For a data set without an official split
    (CIFAR10-DVS, N-Caltech101, digits), a fixed rule on the file name defines the split, so that a partial copy has the
    same split as a complete one. What is in the folder and is not read, and classes of which there is nothing, give a
    `DataWarning`; hidden files, files of the system, readme and licence do not.

    Args:
        name: a key of `DATASETS`, or ``package.module:NAME`` for a data set of a module that can be imported.
        root: the folder that holds the data, or its parent folder as tonic writes it; not needed for built-in data.
        split: "train" or "test".
        skip_bad: read every recording now and leave out the unreadable ones, which are listed in ``bad``. Otherwise an
            unreadable recording raises InputError on access. Images are always read now and never left out.
        download: if nothing is found below ``root``, fetch it there first.
        progress: show progress bars.

    Raises:
        InputError: for an unknown name or split, and if nothing is found; the message states the expected files and how
            to obtain the data.
    """
    collection = open_split(name, root, split, download, progress)
    if skip_bad and isinstance(collection, Recordings):
        found = len(collection)
        collection = collection.readable(
            partial(progress_bar, description=f"checking {collection.title}", unit="recordings", show=progress)
        )
        if not collection:
            raise InputError(f"{name}: none of {found} files can be read; the first: {collection.bad[0][1]}")
    _name_empty_classes(collection)
    return collection


def open_split(
    name: str, root: str | os.PathLike[str] | None, split: str, download: bool = False, progress: bool = True
) -> Recordings | Images:
    """`load` for single recordings: no file is tried, and classes of which there is nothing are not named."""
    dataset = find_dataset(name)
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r} of {name}; accepted: {', '.join(SPLITS)}")
    folder = None if root is None else as_path(root, "root")
    if isinstance(dataset, ImageDataset):
        images = _find(dataset, folder, split, download)
        return Images(
            name=name,
            title=dataset.title,
            split=split,
            classes=list(dataset.classes),
            sensor_size=dataset.sensor_size,
            ids=images.ids,
            labels=images.labels,
            pixels=images.pixels,
            mean=dataset.mean,
            std=dataset.std,
        )
    generate = dataset.generate
    if generate is not None and root is not None:
        _tell_unused(name, str(root))
    found = _find(dataset, folder, split, download) if generate is None else generate(split, progress)
    return Recordings(
        name=name,
        title=dataset.title,
        split=split,
        classes=list(dataset.classes),
        sensor_size=dataset.sensor_size,
        duration_us=dataset.duration_us,
        ids=found.ids,
        labels=np.asarray(found.labels),
        read=found.read,
    )


def _name_empty_classes(collection: Recordings | Images) -> None:
    """Warns of the classes of which there is nothing."""
    number = np.bincount(collection.labels, minlength=len(collection.classes))
    if empty := [name for name, items in zip(collection.classes, number, strict=True) if not items]:
        names = shortened(printable(listed(empty)), 100)
        what = f"{len(empty)} of {len(number)} classes" if len(empty) > 1 else "the class"
        warn_of_data(f"{collection.title}: the {collection.split} data hold nothing of {what}: {names}")


def _find(dataset: Dataset[Found], root: Path | None, split: str, download: bool) -> Found:
    if root is None:
        raise InputError(f"{dataset.name} needs a folder (root=, --data-root). {_help(dataset)}")
    found = _search(dataset, root, split)
    if found is None and download:
        if dataset.download is None:
            raise InputError(f"{dataset.name} cannot be downloaded automatically. {_help(dataset)}")
        try:
            dataset.download(root, split)
        except InputError:
            raise
        except Exception as error:  # downloaders raise any type
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"downloading {dataset.name} failed ({reason}). {_help(dataset)}") from error
        found = _search(dataset, root, split)
    if found is None:
        state = "contains no" if root.is_dir() else "is not a folder, so it has no"
        inside = ", ".join(folder for folder in dataset.folders if folder)
        raise InputError(
            f"{root} {state} {split} data of {dataset.title}. Looked for {dataset.layout}"
            f"{f', there or under {inside}' if inside else ''}. {_help(dataset)}"
        )
    return found


def _search(dataset: Dataset[Found], root: Path, split: str) -> Found | None:
    assert dataset.open is not None
    folders = [root / folder for folder in dataset.folders if (root / folder).is_dir()]
    for number, folder in enumerate(folders):
        found = _opened(dataset, folder, split)
        if len(found.ids):
            for other in folders[number + 1 :]:
                if _holds_data(dataset, other, split):
                    warn_of_data(f"{other}: not read: it holds {split} data of {dataset.title}, as {folder}, which is")
            return found
    return None


def _holds_data(dataset: Dataset[Found], folder: Path, split: str) -> bool:
    with warnings_to(lambda _: None):
        try:
            return bool(len(_opened(dataset, folder, split).ids))
        except InputError:
            return False


def _opened(dataset: Dataset[Found], folder: Path, split: str) -> Found:
    """What the data set's own function finds.

    Raises:
        InputError: names the data set and the folder if the function fails, or returns something else.
    """
    assert dataset.open is not None
    try:
        found = dataset.open(folder, split)
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:  # of the author of the data set
        cause = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"{dataset.name}: its function open failed on {folder}, {split} ({cause})") from error
    wanted = ImageArrays if isinstance(dataset, ImageDataset) else RecordingIndex
    if not isinstance(found, wanted):
        raise InputError(f"{dataset.name}: its function open must return {wanted.__name__}, not {shown(found)}")
    return found


def _help(dataset: Dataset[Found]) -> str:
    return f"To get the data: {dataset.how_to_get}."
