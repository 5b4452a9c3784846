"""CIFAR10-DVS: 10,000 CIFAR-10 images moved in front of a DVS128.

Li, Liu, Ji, Li, Shi, "CIFAR10-DVS: An Event-Stream Dataset for Object Classification", Front. Neurosci. 11:309, 2017.
Read from the authors' .aedat files (AEDAT 2.0) or from the .aedat4 files of tonic's copy.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.datasets.base import EventDataset, RecordingIndex, files_by_class
from mtt_brian.events.datasets.cifar import CIFAR10_CLASSES
from mtt_brian.events.formats.aedat import read_aedat2
from mtt_brian.events.formats.aedat4 import read_aedat4, require_aedat
from mtt_brian.events.formats.columns import from_first_event, read_checked

#: Files of a class have the numbers 0..999; those from this number on are for testing.
FIRST_TEST_NUMBER = 900


def cifar10dvs_split(identifier: str) -> str:
    """The split a file of CIFAR10-DVS belongs to: by its own number, the last 10 % of every class are for testing.

    The data set has no official split; this split is the one of the event-driven experiments in the MTT paper (public
    code). It depends only on the file name, so it is the same for a partial copy.
    """
    number = re.search(r"(?<!\d)\d{1,3}$", Path(identifier).stem)
    if not number:
        raise InputError(f"{identifier}: the name has no number 0..999 at its end; expected cifar10_<class>_<number>")
    return "test" if int(number[0]) >= FIRST_TEST_NUMBER else "train"


def read_recording(folder: Path, identifier: str) -> np.ndarray:
    """One recording, from an .aedat or an .aedat4 file.

    The camera's clock starts at an arbitrary time, so time 0 is the first event.
    """
    path = folder / identifier
    if path.suffix.lower() == ".aedat4":
        return from_first_event(read_aedat4(path))
    return from_first_event(read_checked(path, "AEDAT 2", partial(read_aedat2, path)))


def _open(folder: Path, split: str) -> RecordingIndex:
    files = files_by_class(folder, CIFAR10_CLASSES, (".aedat4", ".aedat"))
    for file, label in files.items():
        named = re.fullmatch(r"cifar10_([a-z]+)_\d+", Path(file).stem)
        if named and named[1] in CIFAR10_CLASSES and named[1] != CIFAR10_CLASSES[label]:
            raise InputError(f"{folder / file}: its name is that of a recording of {named[1]}; move it to that folder")
    if any(file.lower().endswith(".aedat4") for file in files):
        require_aedat()
    files = {file: label for file, label in files.items() if cifar10dvs_split(file) == split}
    return RecordingIndex([*files], [*files.values()], partial(read_recording, folder))


CIFAR10DVS = EventDataset(
    name="cifar10dvs",
    title="CIFAR10-DVS",
    sensor_size=(2, 128, 128),
    classes=CIFAR10_CLASSES,
    duration_us=1_300_000,
    open=_open,
    folders=("", "CIFAR10DVS"),
    layout="<class>/cifar10_<class>_<number>.aedat or .aedat4",
    how_to_get="the automatic download has been broken for some time; in a browser, download the ten class archives of"
    " https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671 and unpack them into one folder",
)
