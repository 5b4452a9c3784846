"""Recordings of event cameras: reading them, simulating them, binning them to frames."""

from mtt_brian.events.camera import Camera
from mtt_brian.events.dataset import Dataset
from mtt_brian.events.datasets import DATASETS, load
from mtt_brian.events.frames import frames_batch, to_frames
from mtt_brian.events.recording import EVENT_DTYPE, check_recording, make_recording
from mtt_brian.events.recordings import Recordings, split_validation

__all__ = [
    "DATASETS",
    "EVENT_DTYPE",
    "Camera",
    "Dataset",
    "Recordings",
    "check_recording",
    "frames_batch",
    "load",
    "make_recording",
    "split_validation",
    "to_frames",
]
