"""CIFAR-10 before the simulated camera: the movement and the light on paper, the choice of the images, bad files."""

import io
import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from mtt_brian import events
from mtt_brian.errors import InputError
from mtt_brian.events.datasets import simulated_cifar10
from mtt_brian.events.datasets.simulated_cifar10 import CAMERA, luminance
from tests.test_events_simulated import DATA

NAME = "cifar10-events-128"
ARCHIVE = DATA / "cifar10" / "cifar10_jpeg.tar.xz"


def smooth_image(seed):
    """A random image, uint8 [3, 32, 32], that is smooth as a photograph is."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(32), np.fft.rfftfreq(32), indexing="ij"))
    noise = np.fft.rfft2(np.random.default_rng(seed).standard_normal((3, 32, 32)))
    image = np.fft.irfft2(noise / np.maximum(frequency, 1 / 32), s=(32, 32))
    return np.clip(110 + 60 * image / image.std(), 0, 255).astype(np.uint8)


def write_cifar10(folder, files):
    """Files of the binary version: name -> labels. Image k of a file comes from the seed k."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, labels in files.items():
        rows = [bytes([label]) + smooth_image(k).tobytes() for k, label in enumerate(labels)]
        (folder / name).write_bytes(b"".join(rows))
    return folder


@pytest.fixture
def root(tmp_path):
    return write_cifar10(tmp_path, {"data_batch_1.bin": [3, 0, 9], "test_batch.bin": [5]})


# ---------------------------------------------------------------------------------------- the movement and the light


def test_the_image_moves_six_times_around_a_square_on_its_corner_at_constant_speed():
    assert CAMERA.sensor_size == (2, 128, 128)
    assert CAMERA.duration_us == 6 * 4 * 54_000 == 1_296_000
    path = CAMERA.path
    step = 10 / 3.5  # 10 pixels of the monitor; a pixel of the sensor sees 3.5
    corners = path[::54]  # a sample every millisecond
    assert corners == pytest.approx(np.array([*6 * [(-step, 0), (0, -step), (step, 0), (0, step)], (-step, 0)]))
    speed = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert speed == pytest.approx(np.full(1296, np.sqrt(2) * step / 54))
    assert np.array_equal(path[:216], path[216:432])  # a loop is the same to the bit, so it is computed once


def test_the_edge_of_the_image_never_enters():
    seen = np.exp(CAMERA.log_intensity(np.ones((32, 32)))) - CAMERA.dark
    assert seen.min() > 1 - 1e-4
    quiet = replace(CAMERA, noise_hz=0.0)
    assert len(quiet.record(np.ones((32, 32)))) == 0
    assert len(quiet.record(np.zeros((32, 32)))) == 0


def test_luminance_is_that_of_the_linear_light_of_srgb():
    colours = np.array(
        [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 10, 10], [188, 188, 188]]
    )
    light = luminance(colours.T.reshape(3, 7, 1).astype(np.uint8))[:, 0]
    assert light[:5] == pytest.approx([0, 1, 0.2126, 0.7152, 0.0722])
    assert light[5] == pytest.approx(10 / 255 / 12.92)  # the linear part of the curve
    assert light[6] == pytest.approx(((188 / 255 + 0.055) / 1.055) ** 2.4)
    assert light.max() <= 1


def test_a_bright_edge_gives_on_where_the_image_moves_to():
    image = np.zeros((32, 32))
    image[:, :16] = 1
    recording = replace(CAMERA, noise_hz=0.0).record(image)
    for side, direction in enumerate((1, 1, 0, 0)):  # right, right, left, left: the bright left half comes or leaves
        begin, end = CAMERA.saccades_us[side + 4]  # of the second loop
        during = recording[(recording["t"] >= begin + 20_000) & (recording["t"] < end)]
        assert len(during) > 3_000
        assert np.all(during["p"] == direction)
        assert np.all(np.abs(during["x"] - 63.5) < 15)  # blurred over 4 pixels of the image


def test_the_changes_of_a_pixel_add_up_to_nothing_over_a_closed_path():
    camera = replace(CAMERA, noise_hz=0.0, refractory_us=0)
    recording = camera.record(luminance(smooth_image(0)))
    on, off = camera.thresholds
    pixel = recording["y"], recording["x"]
    change = np.zeros((128, 128))
    np.add.at(change, pixel, np.where(recording["p"] == 1, on[pixel], -off[pixel]))
    # the light is back where it was, so that it lies between the next two levels
    assert np.all((change < off) & (change > -on))
    assert 0.49 < recording["p"].mean() < 0.51


# ---------------------------------------------------------------------------------------------------- the data set


def test_recordings_are_called_simulated_and_have_ids_and_labels_of_their_images(root):
    images, recordings = events.load("cifar10", root), events.load(NAME, root)
    assert recordings.title == "CIFAR-10 (simulated events)"
    assert recordings.ids == images.ids == ["data_batch_1.bin#0", "data_batch_1.bin#1", "data_batch_1.bin#2"]
    assert recordings.labels.tolist() == [3, 0, 9]
    assert recordings.classes == images.classes
    assert (recordings.sensor_size, recordings.duration_us) == ((2, 128, 128), 1_296_000)
    assert events.load(NAME, root, "test").ids == ["test_batch.bin#0"]
    assert events.at_resolution(recordings, 48).sensor_size == (2, 48, 48)
    expected = CAMERA.record(luminance(images[2]), seed=[*b"data_batch_1.bin", 2])
    assert np.array_equal(recordings[2], expected)
    assert 20_000 < len(expected) < 800_000


def test_a_recording_depends_on_its_image_and_id_only(root):
    recordings = events.load(NAME, root)
    again = pickle.loads(pickle.dumps(recordings.subset([1])))  # as it goes to a worker
    assert np.array_equal(again[0], recordings[1])
    assert len(pickle.dumps(recordings)) < 5_000
    # the same image with another number has other background events, and the same others
    same = write_cifar10(root / "other", {"data_batch_2.bin": [0, 0]})
    content = (same / "data_batch_2.bin").read_bytes()
    (same / "data_batch_2.bin").write_bytes(2 * content[:3073])
    first, second = (set(r.tolist()) for r in events.load(NAME, same))
    noise = CAMERA.noise_hz * 1.296 * 128 * 128
    assert len(first - second) == pytest.approx(noise, abs=5 * noise**0.5)


def test_the_first_images_of_every_class_are_chosen(tmp_path, monkeypatch):
    assert {split: 10 * n for split, n in simulated_cifar10.PER_CLASS.items()} == {"train": 9000, "test": 1000}
    monkeypatch.setattr(simulated_cifar10, "PER_CLASS", {"train": 2, "test": 1})
    files = {"data_batch_1.bin": [0, 0, 1, 0], "data_batch_2.bin": [0, 1, 1, 2], "test_batch.bin": [4, 4, 2]}
    write_cifar10(tmp_path / "cifar-10-batches-bin", files)
    train, test = (events.load(NAME, tmp_path, split) for split in ("train", "test"))
    assert [(i[11:], label) for i, label in zip(train.ids, train.labels, strict=True)] == [
        ("1.bin#0", 0), ("1.bin#1", 0), ("1.bin#2", 1), ("2.bin#1", 1), ("2.bin#3", 2)
    ]  # fmt: skip
    assert list(zip(test.ids, test.labels, strict=True)) == [("test_batch.bin#0", 4), ("test_batch.bin#2", 2)]
    # a file whose images are not needed may be missing
    (tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin").unlink()
    assert events.load(NAME, tmp_path).ids == train.ids[:3]


def test_missing_and_broken_files_are_named(root, tmp_path_factory):
    with pytest.raises(InputError, match=r"contains no train data of CIFAR-10 \(simulated events\).*https://"):
        events.load(NAME, tmp_path_factory.mktemp("empty"))
    recordings = events.load(NAME, root)
    path = root / "data_batch_1.bin"
    path.write_bytes(path.read_bytes()[:-1])
    assert len(recordings[1])
    with pytest.raises(InputError, match=r"data_batch_1\.bin: truncated: it ends before the end of image 2"):
        recordings[2]
    path.unlink()
    with pytest.raises(InputError, match=r"data_batch_1\.bin: no such file"):
        recordings[0]


# ------------------------------------------------------------------------------------------------ published numbers


@pytest.mark.slow
@pytest.mark.skipif(not ARCHIVE.is_file(), reason=f"no images of CIFAR-10 in {ARCHIVE.parent}")
def test_number_of_events_is_the_published_one():
    """205,071 on average over CIFAR10-DVS; the standard error of 300 simulated recordings is 2.5 %."""
    image = pytest.importorskip("PIL.Image")
    counts, shares = [], []
    with tarfile.open(ARCHIVE) as archive:
        for number, member in enumerate(archive):
            if number % 200 or not member.isfile():
                continue
            pixels = np.asarray(image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB"))
            recording = CAMERA.record(luminance(pixels.transpose(2, 0, 1)), seed=number)
            counts.append(len(recording))
            shares.append(recording["p"].mean())
    assert len(counts) > 250
    assert np.mean(counts) == pytest.approx(205_071, rel=0.08)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.005)
