"""Binned frames on disk: the frames of these recordings and of no others."""

from __future__ import annotations

import dataclasses
import os
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtt_brian import events, mtt
from mtt_brian.errors import InputError
from mtt_brian.events import Recordings, binning, frame_cache
from mtt_brian.events.camera import Camera
from mtt_brian.events.camera.cache import cached_recordings
from mtt_brian.events.datasets.simulated_mnist import read_recording
from mtt_brian.events.frame_cache import cached_frames
from mtt_brian.files import CacheWarning
from tests.test_mtt_fit import same_weights, small, synthetic


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MTT_BRIAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def read_csv(folder: Path, scale: int, identifier: str) -> np.ndarray:
    t, x, y = np.loadtxt(folder / identifier, delimiter=",", dtype=int, ndmin=2).T
    return events.make_recording(t * scale, x, y, 0)


def from_files(folder: Path, count: int = 20, **changes: Any) -> Recordings:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        file = folder / f"{number}.csv"
        if not file.exists():
            file.write_text("".join(f"{10 * k},{(k + number) % 8},{k % 8}\n" for k in range(30)))
    data = dataclasses.replace(synthetic(count), ids=[f"{n}.csv" for n in range(count)])
    return dataclasses.replace(data, **{"read": partial(read_csv, folder, 1)} | changes)


@pytest.fixture
def binned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time steps of every call of `bin_recordings`."""
    calls: list[int] = []

    def watched(recordings: Recordings, time_steps: int, workers: int = 0) -> np.ndarray:
        calls.append(time_steps)
        return binning.bin_recordings(recordings, time_steps, workers)

    monkeypatch.setattr(frame_cache, "bin_recordings", watched)
    return calls


def test_the_second_time_is_read_from_disk(tmp_path: Path, folder: Path, binned: list[int]) -> None:
    data = from_files(tmp_path / "data")
    first, second = cached_frames(data, 4), cached_frames(data, 4)
    assert binned == [4]
    assert len(list(folder.glob("frames-*.npy"))) == 1
    for frames in (first, second):
        np.testing.assert_array_equal(frames, binning.bin_recordings(data, 4))
        assert frames.dtype == np.uint8
    assert first.strides == second.strides
    second[0] = 0  # torch changes tensors in place: never the file
    np.testing.assert_array_equal(cached_frames(data, 4), first)


def touched(data: Recordings) -> Recordings:
    folder = data.read.args[0]  # type: ignore[attr-defined]
    file = folder / data.ids[3]
    file.write_text("5,1,1\n" * 30)
    return data


@pytest.mark.parametrize(
    "change",
    [
        touched,
        lambda data: dataclasses.replace(data, read=partial(read_csv, data.read.args[0], 2)),
        lambda data: data[:-1],
        lambda data: data.subset(range(19, -1, -1)),
        lambda data: events.at_resolution(data, 4),
    ],
    ids=["a file", "a parameter", "fewer", "order", "resolution"],
)
def test_other_recordings_are_binned(change: Any, tmp_path: Path, binned: list[int]) -> None:
    data = from_files(tmp_path / "data")
    cached_frames(data, 4)
    other = change(data)
    np.testing.assert_array_equal(cached_frames(other, 4), binning.bin_recordings(other, 4))
    cached_frames(other, 5)
    assert binned == [4, 4, 5]


def test_simulated_recordings_are_known_by_camera_and_images(binned: list[int]) -> None:
    pixels = np.zeros((4, 1, 6, 6), np.uint8)
    pixels[:, 0, 2:4] = 255
    camera = Camera(height=8, width=8, image_pixels=6.0)

    def simulated(camera: Camera, pixels: np.ndarray) -> Recordings:
        data = dataclasses.replace(synthetic(4), ids=["1", "2", "3", "4"], duration_us=camera.duration_us)
        return dataclasses.replace(data, read=partial(read_recording, camera, pixels))

    cached_frames(simulated(camera, pixels), 3)
    cached_frames(simulated(Camera(height=8, width=8, image_pixels=6.0), pixels.copy()), 3)
    assert binned == [3]
    camera.thresholds  # noqa: B018  # computed on access and kept by the camera
    cached_frames(simulated(camera, pixels), 3)
    assert binned == [3]
    cached_frames(simulated(dataclasses.replace(camera, seed=1), pixels), 3)
    pixels[0, 0, 0, 0] = 1
    cached_frames(simulated(camera, pixels), 3)
    assert binned == [3, 3, 3]


def test_the_built_in_data_are_found_again(binned: list[int]) -> None:
    for _ in range(2):
        cached_frames(events.load("digits", split="test", progress=False).subset(range(20)), 2)
    assert binned == [2]


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "name"])
def test_a_damaged_file_is_made_again(damage: str, tmp_path: Path, folder: Path, binned: list[int]) -> None:
    data = from_files(tmp_path / "data")
    expected = np.array(cached_frames(data, 4))
    (path,) = folder.glob("frames-*.npy")
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[len(content) // 2] ^= 1
    elif damage == "name":  # a complete file, but of other recordings
        cached_frames(data, 5)
        content = bytearray(next(other for other in folder.glob("frames-*.npy") if other != path).read_bytes())
        del binned[-1]
    path.write_bytes(content[: {"cut": len(content) - 40, "empty": 0}.get(damage, len(content))])
    with pytest.warns(CacheWarning, match="its contents are not what was written"):
        np.testing.assert_array_equal(cached_frames(data, 4), expected)
    np.testing.assert_array_equal(cached_frames(data, 4), expected)
    assert binned == [4, 4]


def test_a_folder_that_takes_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MTT_BRIAN_CACHE", str(tmp_path / "file"))
    data = from_files(tmp_path / "data")
    with pytest.warns(CacheWarning, match="cannot be written"):
        np.testing.assert_array_equal(cached_frames(data, 4), binning.bin_recordings(data, 4))


def test_a_cache_folder_that_cannot_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is too long fails as a folder without access does."""
    monkeypatch.setenv("MTT_BRIAN_CACHE", str(tmp_path / ("a" * 300)))
    data = from_files(tmp_path / "data")
    images = np.zeros((2, 8, 8))
    expected = binning.bin_recordings(data, 4)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        assert len(cached_recordings("some", Camera(), images, progress=False)) == 2
        np.testing.assert_array_equal(cached_frames(data, 4), expected)
    names = [str(warning.message).split("/")[-1] for warning in found]
    messages = [name for name in names if name.startswith(("some-", "frames-"))]  # others are of kernels
    assert len(messages) == 4
    for message, end in zip(messages, ("read", "written", "read", "written"), strict=True):
        assert f" cannot be {end} (File name too long); " in message


def test_a_full_disk_is_named_without_empty_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy raises an OSError without a number."""
    data = from_files(tmp_path / "data")

    def write_array(*_: Any, **__: Any) -> None:
        raise OSError("100 requested and 10 written")

    monkeypatch.setattr(np.lib.format, "write_array", write_array)
    with pytest.warns(CacheWarning, match=r"npy cannot be written \(100 requested and 10 written\); the recordings"):
        np.testing.assert_array_equal(cached_frames(data, 4), binning.bin_recordings(data, 4))


def test_a_function_that_cannot_be_recognised() -> None:
    with pytest.raises(InputError, match=r"cache_frames: halves cannot be recognised in a later run: it is"):
        cached_frames(synthetic(4), 2)


def test_a_training_from_cached_frames_is_the_same(tmp_path: Path, folder: Path) -> None:
    data = from_files(tmp_path / "data")
    runs = []
    for name in ("without", "first", "second"):
        config = small(epochs=2, cache_frames=name != "without")
        (tmp_path / name).mkdir()
        runs.append(mtt.fit(mtt.build_model(config, data), data, config, tmp_path / name))
        assert bool(list(folder.glob("frames-*.npy"))) is (name != "without")
    assert same_weights(runs[0], runs[1])
    assert same_weights(runs[0], runs[2])
    assert mtt.load_frames(data, 4, cache=True).frames.dtype == torch.uint8
    assert os.listdir(folder)


def test_a_cache_folder_within_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, binned: list[int]) -> None:
    """What this package writes there is none of the files that determine the frames."""
    data = from_files(tmp_path / "data")
    monkeypatch.setenv("MTT_BRIAN_CACHE", str(tmp_path / "data" / "below" / "cache"))
    for _ in range(2):
        np.testing.assert_array_equal(cached_frames(data, 4), binning.bin_recordings(data, 4))
    assert binned == [4]
    (tmp_path / "data" / "below" / "new").write_text("")
    cached_frames(data, 4)
    assert binned == [4, 4]
