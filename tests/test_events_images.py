"""Still images in folders: files written here, byte by byte, and read back; what is broken is named."""

import gzip
import os
import warnings

import numpy as np
import pytest

from mtt_brian import events
from mtt_brian.errors import DataWarning, InputError
from mtt_brian.events.formats import idx as idx_format

LABELS = [3, 0, 9, 3, 1]


def images_of(n, shape=(28, 28)):
    """Images that differ from their neighbours."""
    return (np.arange(n * shape[0] * shape[1]) % 251).astype(np.uint8).reshape(n, *shape)


def idx(array):
    """Two zero bytes, 8 for unsigned bytes, the number of dimensions, every dimension, the values; big endian."""
    array = np.asarray(array, dtype=np.uint8)
    sizes = b"".join(int(size).to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def write_mnist(folder, n=5, part="train", separator="-", pack=bytes, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part}-images{separator}idx3-ubyte{suffix}").write_bytes(pack(idx(images_of(n))))
    (folder / f"{part}-labels{separator}idx1-ubyte{suffix}").write_bytes(pack(idx(LABELS[:n])))
    return folder


def rows(labels, *, coarse=False):
    """CIFAR's binary rows: (coarse label,) label, red, green and blue 32 x 32. Pixel values count up from the label."""
    pixels = [(np.arange(3072) + label).astype(np.uint8).tobytes() for label in labels]
    return b"".join(bytes([19] * coarse + [label]) + p for label, p in zip(labels, pixels, strict=True))


# ------------------------------------------------------------------------------------------ MNIST and Fashion-MNIST


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize(("pack", "suffix"), [(bytes, ""), (gzip.compress, ".gz")])
@pytest.mark.parametrize("separator", ["-", "."])
def test_idx_files_are_read_back(tmp_path, name, pack, suffix, separator):
    write_mnist(tmp_path, 5, "train", separator, pack, suffix)
    write_mnist(tmp_path, 2, "t10k", separator, pack, suffix)
    train, test = (events.load(name, tmp_path, split) for split in ("train", "test"))
    assert isinstance(train, events.Images)
    assert isinstance(events.DATASETS[name], events.ImageDataset)
    assert (train.sensor_size, train.pixels.dtype, train.pixels.shape) == ((1, 28, 28), np.uint8, (5, 1, 28, 28))
    assert np.array_equal(train.pixels[:, 0], images_of(5))
    assert train.labels.tolist() == LABELS
    assert train.labels.dtype == np.int64
    assert train.ids == ["00001", "00002", "00003", "00004", "00005"]
    assert len(train.classes) == 10
    assert train.bad == ()
    assert (len(test), test.split) == (2, "test")


def test_torchvisions_folders_are_distinguished(tmp_path):
    write_mnist(tmp_path / "MNIST" / "raw", 5)
    write_mnist(tmp_path / "FashionMNIST" / "raw", 2)
    assert len(events.load("mnist", tmp_path)) == 5
    assert len(events.load("fashion_mnist", tmp_path)) == 2
    assert len(events.load("fashion_mnist-events", tmp_path)) == 2


def test_the_message_for_missing_images_names_the_files(tmp_path):
    write_mnist(tmp_path)
    with pytest.raises(InputError, match=r"contains no test data of MNIST.*idx3-ubyte.*under MNIST/raw.*https://"):
        events.load("mnist", tmp_path, "test")


BROKEN = {
    "short images": (
        "images-idx3",
        idx(images_of(5))[:-7],
        "truncated or damaged: 3929 bytes, its header of 5 x 28 x 28 promises 3936",
    ),
    "long labels": ("labels-idx1", idx(LABELS) + b"\0", "truncated or damaged: 14 bytes, its header of 5 promises 13"),
    "no header": ("images-idx3", idx(images_of(5))[:9], "truncated or damaged: 9 bytes"),
    "labels for images": ("images-idx3", idx(LABELS), r"magic number 0x0801, expected 0x0803 \(unsigned bytes in 3"),
    "empty": ("labels-idx1", b"", "empty file"),
    "fewer labels": ("labels-idx1", idx(LABELS[:4]), "4 labels for the 5 images in train-images-idx3-ubyte"),
    "wild label": ("labels-idx1", idx([0, 1, 10, 2, 3]), r"label 10 of image 2, expected 0\.\.9"),
    "other size": ("images-idx3", idx(images_of(5, (32, 30))), "images of 32 x 30 pixels, expected 28 x 28"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_idx_file_is_named(tmp_path, kind):
    file, content, message = BROKEN[kind]
    path = write_mnist(tmp_path) / f"train-{file}-ubyte"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"train-{file}-ubyte: .*{message}"):
        events.load("mnist", tmp_path)


def test_a_truncated_gzip_file_is_named(tmp_path):
    path = write_mnist(tmp_path, pack=gzip.compress, suffix=".gz") / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"images-idx3-ubyte\.gz: cannot be read as an idx file"):
        events.load("mnist", tmp_path)


@pytest.mark.parametrize(("pack", "suffix"), [(gzip.compress, ""), (bytes, ".gz")])
def test_the_content_states_whether_a_file_is_gzipped(tmp_path, pack, suffix):
    """Browsers unpack a .gz file, and keep its name."""
    write_mnist(tmp_path, pack=pack, suffix=suffix)
    assert len(events.load("mnist", tmp_path)) == 5


def test_a_gzipped_file_larger_than_its_header_or_the_memory(tmp_path, monkeypatch):
    path = write_mnist(tmp_path, pack=gzip.compress, suffix=".gz") / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(images_of(5)) + bytes(10**6)))
    with pytest.raises(
        InputError, match=r"ubyte\.gz: truncated or damaged: 3937 bytes, its header of 5 x 28 x 28 promis"
    ):
        events.load("mnist", tmp_path)
    path.write_bytes(gzip.compress(idx(np.zeros((500, 28, 28)))))
    monkeypatch.setattr(idx_format, "available_bytes", lambda: 500_000)
    with pytest.raises(InputError, match=r"ubyte\.gz: 392,016 bytes, more than half of the memory \(250,000 bytes\)"):
        events.load("mnist", tmp_path)


def test_images_without_labels_are_refused(tmp_path):
    (write_mnist(tmp_path) / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte: its labels, train-labels-idx1-ubyte"):
        events.load("mnist", tmp_path)


# --------------------------------------------------------------------------------------------------------- CIFAR


def test_cifar10_reads_the_batches_that_are_there(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "data_batch_2.bin").write_bytes(rows([7, 0]))
    (folder / "data_batch_5.bin").write_bytes(rows([9]))
    (folder / "test_batch.bin").write_bytes(rows([4]))
    train, test = (events.load("cifar10", tmp_path, split) for split in ("train", "test"))
    assert train.ids == ["data_batch_2.bin#0", "data_batch_2.bin#1", "data_batch_5.bin#0"]
    assert [train.classes[label] for label in train.labels] == ["horse", "airplane", "truck"]
    assert train[2].shape == train.sensor_size == (3, 32, 32)
    # red first, then rows: channel c, row y, column x is byte 1024 c + 32 y + x, and 9 was added to it
    assert train[2][1, 2, 5] == (1024 + 64 + 5 + 9) % 256
    assert len(train.mean) == len(train.std) == 3
    assert test.labels.tolist() == [4]
    assert events.load("cifar10", folder).ids == train.ids


@pytest.mark.parametrize("name", ["cifar10", "cifar10-events-128"])
def test_a_batch_that_is_missing_is_named(tmp_path, name):
    """The simulated recordings are of as many other images then."""
    for number in range(2, 6):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(rows([7]))
    (tmp_path / "test_batch.bin").write_bytes(rows(range(10)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        events.load(name, tmp_path, "test")
    named = r"without 'data_batch_1\.bin'; the images are those of 'data_batch_2\.bin', "
    with pytest.warns(DataWarning, match="the train data hold nothing of 9 of 10 classes"), pytest.warns(match=named):
        events.load(name, tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist"])
def test_what_has_the_name_of_a_file_and_is_none_is_not_left_out(tmp_path, name):
    if name == "cifar10":
        (tmp_path / "data_batch_2.bin").write_bytes(rows([7]))
        path = tmp_path / "data_batch_1.bin"
    else:
        path = write_mnist(tmp_path) / "train-images-idx3-ubyte"
        path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=f"{path.name}: is a folder; accepted is a file, or nothing of this name"):
        events.load(name, tmp_path)
    path.rmdir()
    path.symlink_to("nothing")
    with pytest.raises(InputError, match=f"{path.name}: is a link to nothing; "):
        events.load(name, tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=f"{path.name}: is no regular file; "):
        events.load(name, tmp_path)


def test_cifar100_has_the_fine_labels(tmp_path):
    (tmp_path / "train.bin").write_bytes(rows([99, 0], coarse=True))
    train = events.load("cifar100", tmp_path)
    assert [train.classes[label] for label in train.labels] == ["worm", "apple"]
    assert train.pixels[0].ravel()[:2].tolist() == [99, 100]
    assert len(set(train.classes)) == 100
    assert train.classes == sorted(train.classes)
    with pytest.raises(InputError, match="contains no test data of CIFAR-100"):
        events.load("cifar100", tmp_path, "test")


def test_broken_cifar_files_are_named(tmp_path):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(rows([1, 2])[:-100])
    with pytest.raises(InputError, match=r"data_batch_1\.bin: truncated: 6046 bytes .* 3073 bytes per image"):
        events.load("cifar10", tmp_path)
    path.write_bytes(rows([1, 10]))
    with pytest.raises(InputError, match=r"data_batch_1\.bin: label 10 of image 1, expected 0\.\.9"):
        events.load("cifar10", tmp_path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"data_batch_1\.bin: empty file"):
        events.load("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("name", "file"), [("cifar10", "cifar-10-batches-py/data_batch_1"), ("cifar100", "cifar-100-python/meta")]
)
def test_pickled_images_are_refused_with_the_reason(tmp_path, name, file):
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_bytes(b"never read")
    for root in (tmp_path, (tmp_path / file).parent):
        with pytest.raises(InputError, match=r"'python version' is not read.*runs the code.*binary version.*https://"):
            events.load(name, root)


def test_the_binary_version_is_read_if_both_versions_exist(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-bin").mkdir()
    (tmp_path / "cifar-10-batches-bin" / "data_batch_1.bin").write_bytes(rows([1]))
    assert events.load("cifar10", tmp_path).labels.tolist() == [1]


# --------------------------------------------------------------------------------------------------- collections


def test_images_are_cut_like_recordings(tmp_path):
    images = events.load("mnist", write_mnist(tmp_path))
    assert len(images) == 5
    assert np.array_equal(images[-1], images.pixels[4])
    subset = images.subset([3, 0])
    assert (subset.ids, subset.labels.tolist()) == (["00004", "00001"], [3, 3])
    assert np.array_equal(subset.pixels, images.pixels[[3, 0]])
    assert np.array_equal(images[1:3].pixels, images.pixels[1:3])
    assert "MNIST" in repr(images)
    with pytest.raises(IndexError):
        images[5]


def test_images_have_a_validation_split_too(tmp_path):
    images = events.load("mnist", write_mnist(tmp_path))
    train, validation = events.split_validation(images, 0.5, seed=0)
    assert isinstance(validation, events.Images)
    assert sorted(train.ids + validation.ids) == images.ids
    for part in (train, validation):
        assert np.array_equal(part.pixels, images.pixels[[int(i) - 1 for i in part.ids]])
