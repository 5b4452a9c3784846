"""N-Caltech101: the images of Caltech101 recorded with an event camera that makes three saccades.

Orchard, Jayawant, Cohen, Thakor, "Converting static image datasets to spiking neuromorphic datasets using saccades",
Front. Neurosci. 9:437, 2015. One file per recording, in the format of `mtt_brian.events.formats.five_byte`.
"""

from __future__ import annotations

import os
import shutil
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from mtt_brian.events.datasets.base import EventDataset, RecordingIndex, files_by_class, require
from mtt_brian.events.formats.five_byte import read_five_byte


def read_recording(folder: Path, identifier: str) -> np.ndarray:
    """One recording; ``identifier`` is its file name relative to ``folder``."""
    return read_five_byte(folder / identifier)


def ncaltech101_split(identifier: str) -> str:
    """The split a file of N-Caltech101 belongs to: every fifth by the CRC-32 of its name is for testing.

    The data set has no official split. This one depends only on the file name
    ("<class>/image_<number>.bin"), so it is the same for a partial copy.
    """
    stem, suffix = os.path.splitext(identifier)
    return "test" if zlib.crc32(f"{stem}{suffix.lower()}".encode()) % 5 == 0 else "train"


def _open(folder: Path, split: str) -> RecordingIndex:
    files = files_by_class(folder, NCALTECH101_CLASSES, (".bin",))
    files = {file: label for file, label in files.items() if ncaltech101_split(file) == split}
    return RecordingIndex([*files], [*files.values()], partial(read_recording, folder))


def _download(root: Path, split: str) -> None:
    require("tonic.datasets").NCALTECH101(save_to=str(root))
    # The download is an archive within an archive; tonic does not unpack the inner one.
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
    open=_open,
    folders=("", "Caltech101", "NCALTECH101/Caltech101", "NCALTECH101"),
    layout="<class>/image_<number>.bin",
    how_to_get="download Caltech101.zip from https://www.garrickorchard.com/datasets/n-caltech101 and unpack it",
    download=_download,
)
