"""MNIST before the simulated camera; where real N-MNIST recordings are at hand, against them."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from mtt_brian import events
from mtt_brian.events.camera.camera import Camera
from tests.test_events_images import images_of, write_mnist

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "simulated_camera.py"
DATA = Path(os.environ.get("MTT_BRIAN_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_recordings_have_the_numbers_and_labels_of_their_images(tmp_path, name):
    images = events.load(name, write_mnist(tmp_path))
    recordings = events.load(f"{name}-events", tmp_path)
    assert isinstance(recordings, events.Recordings)
    assert recordings.ids == images.ids
    assert recordings.labels.tolist() == images.labels.tolist()
    assert recordings.classes == images.classes
    assert (recordings.sensor_size, recordings.duration_us) == ((2, 34, 34), 300_000)
    assert "simulated" in recordings.title
    expected = Camera().record(images_of(5)[3] / 255, seed=4)
    assert np.array_equal(recordings[3], expected)
    assert np.array_equal(recordings.subset([3])[0], expected)
    assert np.array_equal(recordings[3], expected)  # and again


def test_a_larger_sensor_records_the_same_scene(tmp_path):
    image = np.zeros((5, 28, 28), np.uint8)
    image[:, 6:22, 12:16] = 255
    write_mnist(tmp_path)
    with (tmp_path / "train-images-idx3-ubyte").open("r+b") as file:
        file.seek(16)
        file.write(image.tobytes())
    small, large = (events.load(f"mnist-events{size}", tmp_path)[0] for size in ("", "-128"))
    assert events.load("mnist-events-128", tmp_path).sensor_size == (2, 128, 128)
    assert 8 < len(large) / len(small) < 16  # (128 / 34)^2 = 14.2
    for axis in "xy":  # the same places, in fractions of the sensor
        for moment in (np.mean, np.std):
            assert moment((large[axis] + 0.5) / 128) == pytest.approx(moment((small[axis] + 0.5) / 34), abs=0.015)


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("simulated_camera", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_correlations_and_counts_on_paper(check):
    a = np.array([[0, 1, 2], [0, 1, 2]])
    assert check.correlations(a, np.array([[1, 3, 5], [2, 1, 0]])) == pytest.approx([1, -1])
    recording = events.make_recording([0, 94_999, 95_000, 299_999], x=[0, 1, 1, 0], p=[0, 1, 1, 0])
    seen = check.views([recording], (2, 1, 2))
    assert np.argwhere(seen.images).tolist() == [[0, 0, 0, 0, 0], [0, 0, 1, 0, 1], [0, 1, 1, 0, 1], [0, 2, 0, 0, 0]]
    assert np.argwhere(seen.rates).tolist() == [[0, 0, 0], [0, 0, 29], [0, 1, 9]]
    assert seen.counts.tolist() == [4]


@pytest.mark.skipif(
    not ((DATA / "nmnist" / "Train").is_dir() and (DATA / "mnist").is_dir()), reason=f"no N-MNIST and MNIST in {DATA}"
)
def test_the_simulated_camera_resembles_the_real_one(check):
    pytest.importorskip("tonic")
    both = check.matched(DATA / "nmnist", DATA / "mnist", 40, seed=1)
    real, simulated = (check.views(list(recordings), recordings.sensor_size) for recordings in both)
    rows = check.table(real, simulated, both[0].labels)
    ratio, _ = rows["median ratio of events, simulated : real"]
    assert 0.85 < ratio < 1.15
    assert rows["correlation of the numbers of events"][0] > 0.85
    share, real_share = rows["share of ON events"]
    assert share == pytest.approx(real_share, abs=0.02)
    assert rows["correlation: rate over time (10 ms)"][0] > 0.9
    for polarity in ("OFF", "ON"):
        assert rows[f"correlation: {polarity} image"][0] > 0.9
        for saccade in (1, 2, 3):  # a wrong path or polarity shows here: 0.27 to 0.55
            value, another_image = rows[f"correlation: {polarity} image of saccade {saccade}"]
            assert value > 0.8
            assert value > another_image + 0.1
