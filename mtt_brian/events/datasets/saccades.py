"""N-MNIST and N-Caltech101: still images seen by a camera that makes three saccades.

Orchard, Jayawant, Cohen, Thakor, "Converting static image datasets to spiking neuromorphic datasets using saccades",
Front. Neurosci. 9:437, 2015. Both come in one file per recording, five bytes per event: x, y, polarity (1 bit) and time
in microseconds (23 bits).
"""

from __future__ import annotations

import shutil
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.datasets.base import EventDataset, Source, files_by_class, read_checked, require, to_events

BYTES_PER_EVENT = 5

#: An event of this row is none: the clock has overflowed (as in the authors' eventvision.py and tonic).
_OVERFLOW_ROW, _OVERFLOW_US = 240, 2**13


def read_bin(folder: Path, identifier: str) -> np.ndarray:
    """One recording in the five-byte format."""
    path = folder / identifier
    return read_checked(path, "a recording in the five-byte N-MNIST format", partial(_read_bin, path))


def _read_bin(path: Path) -> np.ndarray:
    size = path.stat().st_size
    if size % BYTES_PER_EVENT:
        raise InputError(f"{path}: truncated: {size} bytes are not a multiple of the {BYTES_PER_EVENT} bytes per event")
    x, y, high, middle, low = np.fromfile(path, dtype=np.uint8).reshape(-1, BYTES_PER_EVENT).T.astype(np.int64)
    overflow = y == _OVERFLOW_ROW
    t = ((high & 0x7F) << 16 | middle << 8 | low) + np.cumsum(overflow) * _OVERFLOW_US
    pixel = ~overflow
    return to_events(t[pixel], x[pixel], y[pixel], high[pixel] >> 7)


def _open_nmnist(folder: Path, split: str) -> Source:
    part = split.capitalize()
    files = files_by_class(folder / part, map(str, range(10)), (".bin",))
    return Source([f"{part}/{file}" for file, _ in files], [label for _, label in files], partial(read_bin, folder))


def _download_nmnist(root: Path, split: str) -> None:
    require("tonic.datasets").NMNIST(save_to=str(root), train=split == "train")


NMNIST = EventDataset(
    name="nmnist",
    title="N-MNIST",
    sensor_size=(2, 34, 34),
    classes=tuple("0123456789"),
    duration_us=300_000,
    open=_open_nmnist,
    folders=("", "NMNIST"),
    layout="Train/<digit>/<number>.bin and Test/<digit>/<number>.bin",
    how_to_get="download Train.zip and Test.zip from https://www.garrickorchard.com/datasets/n-mnist and unpack both"
    " into one folder, or let download=True (--download) fetch them",
    download=_download_nmnist,
)


def ncaltech101_split(identifier: str) -> str:
    """The split a file of N-Caltech101 belongs to: every fifth by the CRC-32 of its name is for testing.

    The data set has no official split. This one depends on nothing but the file's own name
    ("<class>/image_<number>.bin"), so it is the same for a partial copy.
    """
    return "test" if zlib.crc32(identifier.encode()) % 5 == 0 else "train"


def _open_ncaltech101(folder: Path, split: str) -> Source:
    files = [f for f in files_by_class(folder, NCALTECH101_CLASSES, (".bin",)) if ncaltech101_split(f[0]) == split]
    return Source([file for file, _ in files], [label for _, label in files], partial(read_bin, folder))


def _download_ncaltech101(root: Path, split: str) -> None:
    require("tonic.datasets").NCALTECH101(save_to=str(root))
    # What arrives holds an archive in the archive, which tonic leaves packed.
    for archive in (root / "NCALTECH101").rglob("Caltech101.zip"):
        shutil.unpack_archive(archive, root / "NCALTECH101")


#: The 101 folders of N-Caltech101 ("Faces" of Caltech101 is left out by its authors), in plain ASCII order.
_NCALTECH101_FOLDERS = """
    BACKGROUND_Google Faces_easy Leopards Motorbikes accordion airplanes anchor ant barrel bass beaver binocular bonsai
    brain brontosaurus buddha butterfly camera cannon car_side ceiling_fan cellphone chair chandelier cougar_body
    cougar_face crab crayfish crocodile crocodile_head cup dalmatian dollar_bill dolphin dragonfly electric_guitar
    elephant emu euphonium ewer ferry flamingo flamingo_head garfield gerenuk gramophone grand_piano hawksbill headphone
    hedgehog helicopter ibis inline_skate joshua_tree kangaroo ketch lamp laptop llama lobster lotus mandolin mayfly
    menorah metronome minaret nautilus octopus okapi pagoda panda pigeon pizza platypus pyramid revolver rhino rooster
    saxophone schooner scissors scorpion sea_horse snoopy soccer_ball stapler starfish stegosaurus stop_sign strawberry
    sunflower tick trilobite umbrella watch water_lilly wheelchair wild_cat windsor_chair wrench yin_yang
"""
NCALTECH101_CLASSES = tuple(_NCALTECH101_FOLDERS.split())

NCALTECH101 = EventDataset(
    name="ncaltech101",
    title="N-Caltech101",
    sensor_size=(2, 180, 240),
    classes=NCALTECH101_CLASSES,
    duration_us=300_000,
    open=_open_ncaltech101,
    folders=("", "Caltech101", "NCALTECH101/Caltech101", "NCALTECH101"),
    layout="<class>/image_<number>.bin",
    how_to_get="download Caltech101.zip from https://www.garrickorchard.com/datasets/n-caltech101 and unpack it",
    download=_download_ncaltech101,
)
