"""The built-in simulated digits: made once, kept, split for good."""

import os
import warnings

import numpy as np
import pytest

from mtt_brian import events
from mtt_brian.errors import CacheWarning
from mtt_brian.events import datasets
from mtt_brian.events.camera.cache import cached_recordings
from mtt_brian.events.camera.camera import Camera
from mtt_brian.events.datasets.digits import CAMERA as DIGITS_CAMERA
from mtt_brian.events.datasets.digits import digit_images, digits_split
from mtt_brian.files import cache_folder

CAMERA = Camera(image_pixels=12)
IMAGES = np.random.default_rng(0).random((3, 4, 4))


@pytest.fixture(scope="module")
def digits():
    return {split: events.load("digits", split=split, progress=False) for split in ("train", "test")}


def test_digits_are_called_simulated(digits):
    assert digits["train"].title == "digits (simulated)"
    assert "simulated" in repr(digits["train"])


def test_digits_are_split_four_to_one_in_every_class(digits):
    train, test = digits["train"], digits["test"]
    assert len(train) + len(test) == 1797
    assert not set(train.ids) & set(test.ids)
    assert train.classes == list("0123456789")
    share = np.bincount(test.labels) / (np.bincount(test.labels) + np.bincount(train.labels))
    assert np.all((share > 0.18) & (share <= 0.2))
    assert train.labels.dtype == np.int64


def test_digits_resemble_n_mnist_in_size(digits):
    train = digits["train"]
    assert train.sensor_size == (2, 34, 34)
    assert train.duration_us == 300_000
    lengths = [len(recording) for recording in train[:200]]
    assert min(lengths) > 1500
    assert max(lengths) < 6000
    # three saccades: at the turns next to nothing happens
    rate = np.bincount(np.concatenate([r["t"] for r in train[:200]]) // 10_000, minlength=30)
    assert max(rate[10], rate[20]) < 0.05 * rate[[5, 15, 25]].min()


def test_the_images_are_those_of_scikit_learn():
    """Equal images through one camera give equal recordings, under the same name in the cache."""
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    images, labels = digit_images()
    assert np.array_equal(images / 16, theirs.images / 16)
    assert (images / 16).dtype == (theirs.images / 16).dtype
    assert np.array_equal(labels, theirs.target)


def test_a_recording_is_that_of_its_image(digits):
    images, labels = digit_images()
    for recordings in digits.values():
        number = [int(i) for i in recordings.ids]
        assert np.array_equal(recordings.labels, labels[number])
        assert np.array_equal(recordings[7], DIGITS_CAMERA.record(images[number[7]] / 16))


def test_the_split_is_each_fifth_of_a_class():
    labels = np.array([0, 1, 0, 0, 1, 0, 0, 0, 1, 1, 1])
    assert np.flatnonzero(digits_split(labels)).tolist() == [6, 10]


def test_the_cache_is_read_again(tmp_path, monkeypatch):
    first = cached_recordings("some", CAMERA, IMAGES, tmp_path, progress=False)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]  # and no temporary file
    monkeypatch.setattr(Camera, "record_many", None)  # simulating again would fail
    again = cached_recordings("some", CAMERA, IMAGES, tmp_path, progress=False)
    assert len(again) == len(first) == 3
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_other_parameters_images_or_versions_have_their_own_cache(tmp_path, monkeypatch):
    cached_recordings("some", CAMERA, IMAGES, tmp_path, progress=False)
    cached_recordings("some", CAMERA, IMAGES[:2], tmp_path, progress=False)
    cached_recordings("some", Camera(image_pixels=12, threshold_on=0.4), IMAGES, tmp_path, progress=False)
    monkeypatch.setattr("mtt_brian.events.camera.camera.SIMULATOR_VERSION", -1)
    cached_recordings("some", CAMERA, IMAGES, tmp_path, progress=False)
    assert len(list(tmp_path.iterdir())) == 4


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def pickle_inside(path):
    np.savez(path.open("wb"), events=np.array([{}], dtype=object), ends=np.arange(3))


def fewer(path):
    np.savez(path.open("wb"), events=np.zeros(2, events.EVENT_DTYPE), ends=np.array([1, 2]))


def outside_the_sensor(path):
    np.savez(path.open("wb"), events=events.make_recording([0, 1, 2], x=99), ends=np.array([1, 2, 3]))


def ends_that_go_back(path):
    with np.load(path) as file:
        content = dict(file)
    np.savez(path.open("wb"), **content | {"ends": content["ends"][[1, 0, 2]]})


def one_array(path):
    np.save(path.open("wb"), np.zeros(3))


def nothing(path):
    path.write_bytes(b"")


def as_earlier_versions_wrote_it(path):
    content = contents(path)
    np.savez(path, events=content["events"], ends=content["ends"])


def other_events(path):
    """Whole, and all of it is what such a file may hold."""
    content = contents(path)
    content["events"]["x"][:] = 5
    np.savez(path, **content)


def of_another_name(path):
    cached_recordings("other", CAMERA, IMAGES, path.parent, progress=False)
    (other,) = path.parent.glob("other-*.npz")
    other.replace(path)


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def contents(path):
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_a_bit,
        pickle_inside,
        fewer,
        outside_the_sensor,
        ends_that_go_back,
        one_array,
        nothing,
        as_earlier_versions_wrote_it,
        other_events,
        of_another_name,
        a_pipe,
    ],
)
def test_a_damaged_cache_is_made_again_with_a_warning(tmp_path, damage):
    first = cached_recordings("some", CAMERA, IMAGES, tmp_path, progress=False)
    (path,) = tmp_path.iterdir()
    sound = path.read_bytes()
    damage(path)
    with pytest.warns(UserWarning, match="making it anew"):
        again = cached_recordings("some", CAMERA, IMAGES, tmp_path, progress=False)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(path.read_bytes()) == len(sound)


def test_whatever_byte_is_damaged_the_recordings_are_the_same(tmp_path, monkeypatch):
    first = cached_recordings("some", CAMERA, IMAGES, tmp_path, progress=False)
    monkeypatch.setattr(Camera, "record_many", lambda *_, **__: first)
    (path,) = tmp_path.iterdir()
    sound = path.read_bytes()
    for place in [*range(0, 200, 3), *range(len(sound) - 400, len(sound), 3)]:
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 0xFF]) + sound[place + 1 :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheWarning)
            again = cached_recordings("some", CAMERA, IMAGES, tmp_path, progress=False)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_without_a_place_to_write_the_recordings_are_there_all_the_same(tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="cannot be written"):
        recordings = cached_recordings("some", CAMERA, IMAGES, tmp_path / "file" / "folder", progress=False)
    assert len(recordings) == 3


def test_the_cache_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("MTT_BRIAN_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("MTT_BRIAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mtt_brian"


def test_a_folder_that_built_in_data_ignore_is_named_once(capsys):
    datasets._tell_unused.cache_clear()
    for split in ("train", "test"):
        assert len(events.load("digits", root="some\nfolder", split=split, progress=False))
    assert capsys.readouterr().err == "digits: built in; nothing is read from the folder some\\nfolder\n"
    assert len(events.load("digits", split="test", progress=False))
    assert capsys.readouterr().err == ""
