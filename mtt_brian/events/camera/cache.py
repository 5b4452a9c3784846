"""A cache of simulated recordings on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from mtt_brian.events.camera.camera import Camera
from mtt_brian.events.recording import EVENT_DTYPE, check_recording
from mtt_brian.files import as_path, cache_folder, message_of, replacing, warn


def cached_recordings(
    name: str, camera: Camera, images: np.ndarray, folder: Path | None = None, *, progress: bool = True
) -> list[np.ndarray]:
    """Simulated recordings of ``images`` [N, h, w] (intensities 0..1), from the cache if it has them.

    The cache file is named by a hash of the camera's parameters, the simulator's version and the images. An unreadable
    or damaged file is made again, with a warning.

    Args:
        name: first part of the file's name.
        camera, images, progress: see `Camera.record_many`.
        folder: default: `mtt_brian.files.cache_folder`.
    """
    within = cache_folder() if folder is None else as_path(folder, "folder")
    path = within / f"{name}-{camera.parameter_hash}-{_digest(images)}.npz"
    try:
        if path.exists():
            return _read(path, len(images), camera)
    except Exception as error:  # numpy and zipfile raise many types of exceptions for a damaged file
        warn(f"{path} cannot be read ({message_of(error)}); making it anew")
    recordings = camera.record_many(images, progress=progress)
    try:
        _write(path, recordings)
    except OSError as error:
        warn(f"{path} cannot be written ({message_of(error)}); the simulation will run again next time")
    return recordings


def _digest(images: np.ndarray) -> str:
    pixels = np.ascontiguousarray(images, dtype="<f8")
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:16]


def _read(path: Path, n: int, camera: Camera) -> list[np.ndarray]:
    if not path.is_file():
        raise ValueError("not a file")
    with np.load(path, allow_pickle=False) as file:
        events, ends = file["events"], file["ends"]
        kept = file["sha256"] if "sha256" in file.files else None
    steps = np.diff(ends, prepend=0) if ends.dtype.kind == "i" and ends.shape == (n,) else np.array([-1])
    if events.dtype != EVENT_DTYPE or events.ndim != 1 or (steps < 0).any() or steps.sum() != len(events):
        raise ValueError("its contents are not what was written")
    if kept is None:
        raise ValueError("it has no digest of its contents, as those of earlier versions")
    if kept.shape or str(kept) != _digest_of(path, events, ends):
        raise ValueError("its contents are not what was written")
    recordings = np.split(events, ends[:-1])
    for recording in recordings:
        check_recording(recording, camera.sensor_size, path.name)
    return recordings


def _write(path: Path, recordings: list[np.ndarray]) -> None:
    events, ends = np.concatenate(recordings), np.cumsum([len(r) for r in recordings])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        np.savez(temporary, events=events, ends=ends, sha256=np.str_(_digest_of(path, events, ends)))


def _digest_of(path: Path, events: np.ndarray, ends: np.ndarray) -> str:
    """Checksum of contents and name: a file of other images or another camera has a valid content, too."""
    digest = hashlib.sha256(path.name.encode() + b"\0")
    for array in (events, ends.astype("<i8")):
        digest.update(repr(array.shape).encode() + array.tobytes())
    return digest.hexdigest()
