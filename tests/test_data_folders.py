"""Folders of data sets as people have them: what is not read is named, what is wrong is refused, clutter is neither."""

import gzip
import os
import warnings

import numpy as np
import pytest

from mtt_brian import events, files
from mtt_brian.cli import exit_status
from mtt_brian.errors import DataWarning, InputError
from mtt_brian.events.datasets import cifar10dvs
from mtt_brian.events.datasets.cifar import CIFAR10_CLASSES
from mtt_brian.events.datasets.cifar10dvs import cifar10dvs_split
from mtt_brian.events.datasets.ncaltech101 import NCALTECH101_CLASSES, ncaltech101_split

ONE_EVENT = bytes([1, 2, 0, 0, 3])
#: Of a DVS128: an address of zeros, at time 1.
AEDAT = b"#!AER-DAT2.0\r\n" + bytes(7) + b"\1"


def fill(folder, classes, name, content=ONE_EVENT):
    for label, of_class in enumerate(classes):
        (folder / of_class).mkdir(parents=True)
        (folder / of_class / name.format(of_class, label)).write_bytes(content)
    return folder


@pytest.fixture
def nmnist(tmp_path):
    fill(tmp_path / "Train", map(str, range(10)), "{1:05d}.bin")
    return tmp_path


@pytest.fixture
def gestures(tmp_path):
    """Tables of trials beside files that are not read here."""
    for user in (1, 2, 24):
        (tmp_path / f"user{user:02d}_led.aedat").write_bytes(b"")
        rows = "".join(f"{label},{label}0,{label}5\n" for label in range(1, 12))
        (tmp_path / f"user{user:02d}_led_labels.csv").write_text(f"class,startTime_usec,endTime_usec\n{rows}")
    return tmp_path


def quiet(name, root, split="train"):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return events.load(name, root, split)


def named(name, root, split="train"):
    """The only warning, and what is loaded."""
    with pytest.warns(DataWarning) as caught:
        data = events.load(name, root, split)
    (warning,) = caught
    return str(warning.message).replace(f"{root}{os.sep}", ""), data


CLUTTER = ("._00003.bin", ".DS_Store", "Thumbs.db", "desktop.ini", "README.txt", "readme", "LICENSE", "Licence.md")


def test_clutter_is_not_named(nmnist):
    for folder in (nmnist, nmnist / "Train", nmnist / "Train" / "3"):
        for name in CLUTTER:
            (folder / name).write_bytes(b"\0")
        for name in (".ipynb_checkpoints", "__MACOSX"):
            (folder / name).mkdir()
    for name in ("Train.zip", "Test.zip"):
        (nmnist / name).write_bytes(b"PK")
    assert len(quiet("nmnist", nmnist)) == 10


def test_an_ending_in_capitals_is_read(nmnist):
    (nmnist / "Train/7/00007.bin").rename(nmnist / "Train/7/00007.BIN")
    train = quiet("nmnist", nmnist)
    assert train.ids[7] == "Train/7/00007.BIN"
    assert train[7].tolist() == [(3, 1, 2, 0)]


def test_a_class_folder_of_another_name_is_named(nmnist):
    (nmnist / "Train/7").rename(nmnist / "Train/seven")
    unused = pytest.warns(DataWarning, match=r"Train: not read: 'seven'; read are <class>/\*\.bin")
    empty = pytest.warns(DataWarning, match="N-MNIST: the train data hold nothing of the class: '7'")
    with unused, empty:
        assert len(events.load("nmnist", nmnist)) == 9


@pytest.mark.parametrize(
    "name", ["00001.bin.gz", "00001.zip", "00001.bin.part", "00001.bin~", "nested/00001.bin", "labels.csv", "00001"]
)
def test_what_is_beside_recordings_and_is_not_read_is_named(name, nmnist):
    path = nmnist / "Train/1" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(ONE_EVENT)
    text, data = named("nmnist", nmnist)
    assert text == f"Train: not read: '1/{name.split('/')[0]}'; read are <class>/*.bin"
    assert len(data) == 10


def test_one_line_names_the_first_of_many(nmnist):
    for number in range(12):
        (nmnist / f"Train/1/{number}.txt").write_text("")
    text, _ = named("nmnist", nmnist)
    assert text == (
        "Train: not read: '1/0.txt', '1/1.txt', '1/2.txt', '1/3.txt', '1/4.txt' and 7 more; read are <class>/*.bin"
    )


@pytest.mark.parametrize(
    "copy", ["00001 (1).bin", "00001 - Copy.bin", "00001 copy 2.bin", "00001.BIN", "00001_copy.bin"]
)
def test_a_copy_is_refused(copy, nmnist):
    (nmnist / "Train/1" / copy).write_bytes(ONE_EVENT)
    with pytest.raises(InputError, match=r"Train/1: .* and .* are one recording, by their names; keep one of them"):
        events.load("nmnist", nmnist)


def test_numbers_in_brackets_are_no_copies_by_themselves(nmnist):
    """Windows gives such names when many files are renamed at once."""
    (nmnist / "Train/1/00001.bin").unlink()
    for number in (1, 2):
        (nmnist / f"Train/1/one ({number}).bin").write_bytes(ONE_EVENT)
    assert len(quiet("nmnist", nmnist)) == 11


@pytest.mark.parametrize("what", ["file", "link"])
def test_a_class_that_is_no_folder_is_refused(what, nmnist):
    (nmnist / "Train/1/00001.bin").unlink()
    (nmnist / "Train/1").rmdir()
    if what == "file":
        (nmnist / "Train/1").write_bytes(b"")
    else:
        (nmnist / "Train/1").symlink_to("nowhere")
    with pytest.raises(
        InputError, match=r"Train/1: is (a link to nothing|no folder); accepted is a folder, or nothing"
    ):
        events.load("nmnist", nmnist)


def test_a_recording_that_is_a_link_to_nothing_or_a_folder_is_named(nmnist):
    (nmnist / "Train/1/00011.bin").symlink_to("nowhere")
    (nmnist / "Train/2/00012.bin").mkdir()
    train = quiet("nmnist", nmnist)
    for name, message in (("Train/1/00011.bin", "no such file"), ("Train/2/00012.bin", "is a folder")):
        with pytest.raises(InputError, match=f"{name}: {message}"):
            train[train.ids.index(name)]


def test_two_copies_of_a_data_set_are_named(nmnist):
    fill(nmnist / "NMNIST/Train", map(str, range(10)), "{1:05d}.bin")
    text, data = named("nmnist", nmnist)
    assert text == f"NMNIST: not read: it holds train data of N-MNIST, as {nmnist}, which is"
    assert len(data) == 10


def test_commands_say_it_once(nmnist, capsys):
    (nmnist / "Train/1/00001.gz").write_bytes(b"")

    def command():
        for _ in range(2):
            events.load("nmnist", nmnist)

    assert exit_status.run(command) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"warning: {nmnist}/Train: not read: '1/00001.gz'; read are <class>/*.bin"
    ]


# ------------------------------------------------------------------------------------------------------ N-Caltech101


def test_the_split_of_ncaltech101_does_not_depend_on_the_case_of_the_ending(tmp_path):
    fill(tmp_path, NCALTECH101_CLASSES, "image_0001.BIN")
    for name in NCALTECH101_CLASSES:
        assert ncaltech101_split(f"{name}/image_0001.BIN") == ncaltech101_split(f"{name}/image_0001.bin")
    found = [set(map(str.lower, events.load("ncaltech101", tmp_path, split).ids)) for split in ("train", "test")]
    assert len(found[0] | found[1]) == 101
    assert not found[0] & found[1]


# ------------------------------------------------------------------------------------------------------- CIFAR10-DVS


def test_cifar10dvs_in_capitals_is_read(tmp_path):
    fill(tmp_path, CIFAR10_CLASSES, "cifar10_{0}_5.AEDAT", AEDAT)
    assert quiet("cifar10dvs", tmp_path)[3].tolist() == [(0, 127, 127, 1)]


def test_aedat4_in_capitals_is_no_aedat2(tmp_path, monkeypatch):
    for name, found in (("require_aedat", None), ("read_aedat4", np.zeros(0, events.EVENT_DTYPE))):
        monkeypatch.setattr(cifar10dvs, name, lambda *_, found=found: found)
    fill(tmp_path, CIFAR10_CLASSES, "cifar10_{0}_5.AEDAT4", b"#!AER-DAT4.0")
    assert len(quiet("cifar10dvs", tmp_path)[0]) == 0


@pytest.mark.parametrize(
    "name", ["cat/cifar10_cat_950 (1).aedat", "cat/cifar10_cat_1000.aedat", "cat/cifar10_cat.aedat"]
)
def test_a_number_that_is_not_at_the_end_defines_no_split(name):
    with pytest.raises(InputError, match=r"the name has no number 0\.\.999 at its end"):
        cifar10dvs_split(name)


def test_a_recording_in_the_folder_of_another_class_is_refused(tmp_path):
    fill(tmp_path, CIFAR10_CLASSES, "cifar10_{0}_5.aedat", AEDAT)
    (tmp_path / "cat/cifar10_dog_6.aedat").write_bytes(AEDAT)
    with pytest.raises(InputError, match=r"cat/cifar10_dog_6\.aedat: its name is that of a recording of dog; move it"):
        events.load("cifar10dvs", tmp_path)


# ------------------------------------------------------------------------------------------------------- DVS-Gesture


def test_a_complete_dvsgesture_folder_is_not_named(gestures):
    for name in ("gesture_mapping.csv", "trials_to_train.txt", "errata.txt", "README.txt"):
        (gestures / name).write_text("")
    assert len(quiet("dvsgesture", gestures)) == 22
    assert len(quiet("dvsgesture", gestures, "test")) == 11


@pytest.mark.parametrize("name", ["user03_led_labels.csv", "user_led.aedat", "x_led.aedat", "user02_led.aedat.part"])
def test_a_gesture_file_that_is_not_read_is_named(name, gestures):
    (gestures / name).write_text("")
    text, data = named("dvsgesture", gestures)
    assert f": not read: '{name}'; read are user<number>_<light>.aedat with" in text
    assert len(data) == 22


def test_a_gesture_file_in_capitals_is_read(gestures):
    (gestures / "user02_led.aedat").rename(gestures / "user02_led.AEDAT")
    assert len(quiet("dvsgesture", gestures)) == 22


def test_a_trial_that_is_given_twice_is_refused(gestures):
    table = gestures / "user01_led_labels.csv"
    table.write_text(table.read_text() + "3,30,35\n")
    with pytest.raises(InputError, match=r"user01_led_labels\.csv: '3,30,35' is there twice"):
        events.load("dvsgesture", gestures)


def test_what_is_in_tonics_copy_and_is_not_read_is_named(tmp_path):
    folder = tmp_path / "ibmGestureTrain"
    for user in ("user01_led", "user2_led", "person3"):
        (folder / user).mkdir(parents=True)
        for label in range(11):
            np.save(folder / user / f"{label}.npy", np.zeros((1, 4)))
    (folder / "user01_led/3.npy.gz").write_bytes(b"")
    for label in range(6, 11):
        (folder / f"person3/{label}.npy").unlink()
    text, data = named("dvsgesture", tmp_path)
    assert text.startswith("ibmGestureTrain: not read: 'person3/0.npy', 'person3/1.npy', ")
    assert text.endswith(" and 2 more; read are user<number>_<light>/<label>.npy")
    assert len(data) == 22
    (folder / "user01_led/3.NPY").write_bytes(b"")
    with pytest.raises(InputError, match="are one recording"):
        events.load("dvsgesture", tmp_path)


def test_arrays_of_gestures_beside_the_authors_files_are_named(gestures):
    (gestures / "ibmGestureTrain/user01_led").mkdir(parents=True)
    for label in range(11):
        np.save(gestures / f"ibmGestureTrain/user01_led/{label}.npy", np.zeros((1, 4)))
    text, data = named("dvsgesture", gestures)
    assert f"{gestures}: not read: 'user01_led.aedat'" in text
    assert len(data) == 11


# ------------------------------------------------------------------------------------------------------------ images


def idx(values):
    values = np.asarray(values, np.uint8)
    return bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape) + values.tobytes()


def write_mnist(folder, labels):
    (folder / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((len(labels), 28, 28))))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(labels))


def test_a_compressed_copy_beside_it_must_be_the_same(tmp_path):
    write_mnist(tmp_path, range(10))
    packed = tmp_path / "train-labels-idx1-ubyte.gz"
    packed.write_bytes(gzip.compress(idx(range(10))))
    assert len(quiet("mnist", tmp_path)) == 10
    packed.write_bytes(gzip.compress(idx([1, 0, *range(2, 10)])))
    with pytest.raises(InputError, match=r"idx1-ubyte\.gz: its content is not that of train-labels-idx1-ubyte; keep"):
        events.load("mnist", tmp_path)


def test_mnist_and_fashion_mnist_are_told_apart(tmp_path):
    """Their files have the same names."""
    write_mnist(tmp_path, [5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 6, 7, 8])
    assert len(quiet("mnist", tmp_path)) == 13
    with pytest.raises(InputError, match="train-labels-idx1-ubyte: it begins as the labels of MNIST"):
        events.load("fashion_mnist", tmp_path)
    write_mnist(tmp_path, [9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 1, 4, 6, 8])
    assert len(quiet("fashion_mnist", tmp_path)) == 14
    for name in ("mnist", "mnist-events"):
        with pytest.raises(InputError, match="train-labels-idx1-ubyte: it begins as the labels of Fashion-MNIST"):
            events.load(name, tmp_path)


def test_files_of_cifar_that_are_not_read_are_named(tmp_path):
    rows = np.zeros((10, 3073), np.uint8)
    rows[:, 0] = range(10)
    for number in range(1, 6):
        rows.tofile(tmp_path / f"data_batch_{number}.bin")
    (tmp_path / "batches.meta.txt").write_text("\n".join(CIFAR10_CLASSES) + "\n\n")
    (tmp_path / "readme.html").write_text("")
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"")
    assert len(quiet("cifar10", tmp_path)) == 50
    for name in ("data_batch_6.bin", "data_batch_1 (1).bin", "data_batch_2.bin.part"):
        rows.tofile(tmp_path / name)
    text, data = named("cifar10", tmp_path)
    assert "not read: 'data_batch_1 (1).bin', 'data_batch_2.bin.part', 'data_batch_6.bin'; read are " in text
    assert len(data) == 50


def test_classes_in_another_order_are_refused(tmp_path):
    np.zeros(3073, np.uint8).tofile(tmp_path / "data_batch_1.bin")
    (tmp_path / "batches.meta.txt").write_text("\n".join(sorted(CIFAR10_CLASSES, reverse=True)))
    with pytest.raises(InputError, match=r"batches\.meta\.txt: the class 0 is 'truck' there, expected 'airplane'"):
        events.load("cifar10", tmp_path)
    (tmp_path / "batches.meta.txt").write_text("\n".join(CIFAR10_CLASSES[:9]))
    with pytest.raises(InputError, match=r"the class 9 is None there, expected 'truck'"):
        events.load("cifar10", tmp_path)


def test_a_file_of_shd_that_is_none_is_refused(tmp_path):
    (tmp_path / "shd_train.h5").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"shd_train\.h5: is a link to nothing"):
        events.load("shd", tmp_path)


def test_a_block_without_warnings_leaves_the_sentences_that_a_command_has_said():
    said = []
    with files.warnings_to(said.append):
        files.warn_of_data("first")
        with files.warnings_to(lambda _: None):
            files.warn_of_data("second")
        files.warn_of_data("first")
        files.warn_of_data("second")
    assert said == ["first", "second"]
