"""The data sets by name, and `load`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from tqdm import tqdm

from mtt_brian.errors import InputError
from mtt_brian.events.cifar10dvs import CIFAR10DVS
from mtt_brian.events.dataset import SPLITS, Dataset, Source
from mtt_brian.events.digits import DIGITS
from mtt_brian.events.dvsgesture import DVSGESTURE
from mtt_brian.events.recordings import Recordings
from mtt_brian.events.saccades import NCALTECH101, NMNIST
from mtt_brian.events.shd import SHD

#: Every data set that `load` knows, by name.
DATASETS: Mapping[str, Dataset] = MappingProxyType(
    {dataset.name: dataset for dataset in (DIGITS, NMNIST, DVSGESTURE, CIFAR10DVS, NCALTECH101, SHD)}
)


def load(
    name: str,
    root: str | os.PathLike[str] | None = None,
    split: str = "train",
    *,
    skip_bad: bool = False,
    download: bool = False,
    progress: bool = True,
) -> Recordings:
    """The recordings of one split of a data set.

    Folders may be complete or partial copies: what is there is used. Where a data set has no official split
    (CIFAR10-DVS, N-Caltech101, digits), a fixed rule on the file's own name decides, so that a partial copy splits as
    the complete one does.

    Args:
        name: a key of `DATASETS`.
        root: the folder that holds the data, or the one above as tonic writes it; not needed for built-in data.
        split: "train" or "test".
        skip_bad: read every file now and leave out those that cannot be read; they are listed in ``bad``. Otherwise an
            unreadable file raises InputError when it is asked for.
        download: if nothing is found below ``root``, fetch it there with tonic first.
        progress: show progress bars.

    Raises:
        InputError: for an unknown name or split, and where no recordings are found; the message says what was looked
            for and how to obtain the data.
    """
    if name not in DATASETS:
        raise InputError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r} of {name}; accepted: {', '.join(SPLITS)}")
    dataset = DATASETS[name]
    if dataset.generate is not None:
        source = dataset.generate(split, progress)
    else:
        source = _find(dataset, Path(root) if root is not None else None, split, download)
    recordings = Recordings(
        name=name,
        title=dataset.title,
        split=split,
        classes=list(dataset.classes),
        sensor_size=dataset.sensor_size,
        duration_us=dataset.duration_us,
        ids=list(source.ids),
        labels=np.asarray(source.labels, dtype=np.int64),
        read=source.read,
    )
    if not skip_bad:
        return recordings
    recordings = recordings.readable(partial(tqdm, desc=f"checking {dataset.title}", disable=not progress))
    if not recordings:
        raise InputError(f"{name}: none of {len(source.ids)} files can be read; the first: {recordings.bad[0][1]}")
    return recordings


def _find(dataset: Dataset, root: Path | None, split: str, download: bool) -> Source:
    if root is None:
        raise InputError(f"{dataset.name} needs a folder (root=, --data-root). {_help(dataset)}")
    source = _search(dataset, root, split)
    if source is None and download:
        if dataset.download is None:
            raise InputError(f"{dataset.name} cannot be downloaded automatically. {_help(dataset)}")
        try:
            dataset.download(root, split)
        except InputError:
            raise
        except Exception as error:  # a server's refusal comes as anything
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"downloading {dataset.name} failed ({reason}). {_help(dataset)}") from error
        source = _search(dataset, root, split)
    if source is None:
        state = "contains no" if root.is_dir() else "is not a folder, so it has no"
        inside = ", ".join(folder for folder in dataset.folders if folder)
        raise InputError(
            f"{root} {state} {split} recordings of {dataset.title}. Looked for {dataset.layout}"
            f"{f', there or under {inside}' if inside else ''}. {_help(dataset)}"
        )
    return source


def _search(dataset: Dataset, root: Path, split: str) -> Source | None:
    assert dataset.open is not None
    for folder in dataset.folders:
        if (root / folder).is_dir():
            source = dataset.open(root / folder, split)
            if source.ids:
                return source
    return None


def _help(dataset: Dataset) -> str:
    return f"To get the data: {dataset.how_to_get}."
