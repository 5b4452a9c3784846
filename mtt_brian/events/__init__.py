"""Recordings of event cameras (read, simulated, binned to frames) and still images."""

from mtt_brian.events.camera.camera import Camera
from mtt_brian.events.collections import Images, Recordings, split_validation
from mtt_brian.events.datasets import DATASETS, find_dataset, load, register, unregister
from mtt_brian.events.datasets.base import EventDataset, ImageArrays, ImageDataset, RecordingIndex
from mtt_brian.events.files import FORMATS, read, register_format, unregister_format
from mtt_brian.events.frames import frames_batch, on_time_steps, to_frames
from mtt_brian.events.recording import EVENT_DTYPE, check_recording, make_recording
from mtt_brian.events.resolution import at_resolution

__all__ = [
    "DATASETS",
    "EVENT_DTYPE",
    "FORMATS",
    "Camera",
    "EventDataset",
    "ImageArrays",
    "ImageDataset",
    "Images",
    "RecordingIndex",
    "Recordings",
    "at_resolution",
    "check_recording",
    "find_dataset",
    "frames_batch",
    "load",
    "make_recording",
    "on_time_steps",
    "read",
    "register",
    "register_format",
    "split_validation",
    "to_frames",
    "unregister",
    "unregister_format",
]


def __dir__() -> list[str]:
    return sorted(__all__)
