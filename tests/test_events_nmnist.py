"""Facts about real N-MNIST recordings. Skipped where there are none: set MTT_BRIAN_DATA to the folder above nmnist."""

import os
from pathlib import Path

import numpy as np
import pytest

from mtt_brian import events

ROOT = Path(os.environ.get("MTT_BRIAN_DATA") or Path(__file__).parents[2] / "shared" / "data") / "nmnist"

pytest.importorskip("tonic")
pytestmark = pytest.mark.skipif(not (ROOT / "Train").is_dir(), reason=f"no N-MNIST recordings in {ROOT}")


@pytest.fixture(scope="module")
def train():
    return events.load("nmnist", ROOT, progress=False)


def test_all_recordings_are_sound():
    for split in ("train", "test"):
        recordings = events.load("nmnist", ROOT, split, skip_bad=True, progress=False)
        assert recordings.bad == ()
        assert set(recordings.labels) == set(range(10))
        assert recordings.sensor_size == (2, 34, 34)


def test_they_are_three_saccades_of_100_ms_with_about_4200_events(train):
    recordings = list(train[::5])
    lengths = [len(recording) for recording in recordings]
    assert 3800 < np.mean(lengths) < 4600
    assert all(290_000 < recording["t"][-1] < 320_000 for recording in recordings)
    assert np.mean([recording["p"].mean() for recording in recordings]) == pytest.approx(0.5, abs=0.01)
    rate = np.bincount(np.concatenate([r["t"] for r in recordings]) // 10_000, minlength=32)
    peaks = [start + rate[start : start + 10].argmax() for start in (0, 10, 20)]
    assert all(abs(peak - middle) <= 1 for peak, middle in zip(peaks, (5, 15, 25), strict=True))


def test_frames_hold_every_event(train):
    frames = events.frames_batch(train[:8], 10, train.sensor_size)
    assert frames.sum(axis=(0, 2, 3, 4)).tolist() == [len(recording) for recording in train[:8]]


def test_the_partial_copy_that_the_project_develops_on(train):
    test = events.load("nmnist", ROOT, "test")
    if (len(train), len(test)) != (850, 150):
        pytest.skip("another copy of N-MNIST")
    assert train.ids[0] == "Train/0/00002.bin"
    numbers = [int(Path(identifier).stem) for identifier in train.ids + test.ids]
    assert sorted(numbers) == list(range(1, 1001))
