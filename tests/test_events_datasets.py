"""Data sets in folders: files written here, byte by byte, and read back; what is missing or broken is named."""

import io
import struct
import sys
import types
import zipfile

import numpy as np
import pytest

from mtt_brian import events
from mtt_brian.errors import InputError
from mtt_brian.events.datasets.base import natural_order
from mtt_brian.events.datasets.cifar10dvs import cifar10dvs_split
from mtt_brian.events.datasets.ncaltech101 import NCALTECH101_CLASSES, ncaltech101_split
from mtt_brian.events.formats.aedat import read_aedat2, read_aedat3
from mtt_brian.events.formats.five_byte import read_five_byte

pytest.importorskip("tonic")

RECORDING = events.make_recording([0, 5, 5, 299_999], x=[0, 33, 7, 8], y=[33, 0, 20, 21], p=[0, 1, 1, 0])


def five_bytes(recording):
    """x, y, then polarity and time in 1 + 23 bits, most significant first."""
    return b"".join(bytes([e["x"], e["y"]]) + (int(e["p"]) << 23 | int(e["t"])).to_bytes(3, "big") for e in recording)


def aedat2(recording, header=b"# a comment\r\n"):
    """What a DVS128 writes: (row, column) counted from the other corner, 1 for OFF, big endian."""
    address = (127 - recording["x"].astype(int)) << 8 | (127 - recording["y"].astype(int)) << 1 | 1 - recording["p"]
    words = np.stack([address, recording["t"]], axis=1).astype(">u4")
    return b"#!AER-DAT2.0\r\n" + header + words.tobytes()


def davis2(recording):
    """What a DAVIS writes in AEDAT 2: y in bits 22 to 30, x in bits 12 to 21, the polarity in bit 11."""
    y, x, p = (recording[field].astype(int) for field in ("y", "x", "p"))
    return np.stack([y << 22 | x << 12 | p << 11, recording["t"]], axis=1).astype(">u4").tobytes()


def aedat3(*packets):
    """AEDAT 3.1: packets of (type, recording), each a header of 28 bytes, then (address, time) pairs, little endian."""
    content = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
    for kind, recording in packets:
        x, y, p = (recording[field].astype(int) for field in ("x", "y", "p"))
        n = len(recording)
        content += struct.pack("<hhiiiiii", kind, 1, 8, 4, 0, n, n, n)
        content += np.stack([x << 17 | y << 2 | p << 1 | 1, recording["t"]], axis=1).astype("<u4").tobytes()
    return content


def aedat4(recording):
    """An uncompressed AEDAT 4 file with one packet; the flatbuffers are laid out by hand."""
    info = (
        b'<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">'
        b'<node name="0" path="/mainloop/Recorder/outInfo/0/"><attr key="compression" type="string">NONE</attr>'
        b'<attr key="typeIdentifier" type="string">EVTS</attr>'
        b'<node name="info" path="/mainloop/Recorder/outInfo/0/info/">'
        b'<attr key="sizeX" type="int">128</attr><attr key="sizeY" type="int">128</attr></node></node></node></dv>'
    )
    header = struct.pack("<I4s5H6xiIqI", 24, b"IOHE", 10, 16, 0, 8, 4, 16, 12, -1, len(info)) + info + b"\0"
    elements = np.zeros(len(recording), [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "?"), ("padding", "V3")])
    for field in ("t", "x", "y", "p"):
        elements[field] = recording[field]
    packet = struct.pack("<I4s3H2xiI4xI", 16, b"EVTS", 6, 8, 4, 8, 8, len(elements)) + elements.tobytes()
    packet = struct.pack("<I", len(packet)) + packet
    return b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(header)) + header + struct.pack("<ii", 0, len(packet)) + packet


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def numbered(n):
    """A recording that differs from its neighbours."""
    return events.make_recording([n, n + 1], x=[n % 30, 1], y=[2, 3], p=[0, 1])


# ------------------------------------------------------------------------------------------------ requested data


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"'emnist'.*digits, nmnist, dvsgesture, .*mnist-events.*mnist.*cifar100"):
        events.load("emnist")


def test_an_unknown_split_lists_the_known_ones():
    with pytest.raises(InputError, match=r"'valid'.*train, test"):
        events.load("nmnist", ".", "valid")


@pytest.mark.parametrize("name", [name for name in events.DATASETS if name != "digits"])
def test_the_message_for_missing_data_names_the_files_and_how_to_get_them(name, tmp_path):
    with pytest.raises(InputError, match=r"needs a folder.*https://"):
        events.load(name)
    with pytest.raises(InputError, match=r"is not a folder.*Looked for .*To get the data: .*https://"):
        events.load(name, tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"contains no test data.*Looked for .*https://"):
        events.load(name, tmp_path, "test")


@pytest.mark.parametrize("name", ["dvsgesture", "cifar10dvs", "mnist", "mnist-events", "cifar10"])
def test_where_no_download_works_none_is_tried(name, tmp_path):
    with pytest.raises(InputError, match=r"cannot be downloaded automatically.*To get the data: .*https://"):
        events.load(name, tmp_path, download=True)


def test_a_download_happens_only_on_request_and_where_nothing_is_there(tmp_path, monkeypatch):
    import tonic.datasets

    asked = []

    def fetch(save_to, train):
        asked.append((save_to, train))
        if not train:
            raise OSError("no network")
        write(tmp_path / "NMNIST" / "Train" / "4" / "00001.bin", five_bytes(RECORDING))

    monkeypatch.setattr(tonic.datasets, "NMNIST", fetch)
    with pytest.raises(InputError, match="contains no train"):
        events.load("nmnist", tmp_path)
    assert asked == []
    assert events.load("nmnist", tmp_path, download=True).labels.tolist() == [4]
    events.load("nmnist", tmp_path, download=True)
    assert asked == [(str(tmp_path), True)]
    with pytest.raises(InputError, match=r"downloading nmnist failed .*no network.*https://"):
        events.load("nmnist", tmp_path, "test", download=True)


def test_without_tonic_the_message_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic.datasets", None)
    with pytest.raises(InputError, match=r'tonic.*pip install .*"mtt_brian\[train\]"'):
        events.load("nmnist", tmp_path, download=True)


# ---------------------------------------------------------------------------------------------------------- N-MNIST


@pytest.fixture
def nmnist(tmp_path):
    for number, label in [(10, 3), (9, 3), (2, 0)]:
        write(tmp_path / "Train" / str(label) / f"{number:05d}.bin", five_bytes(numbered(number)))
    write(tmp_path / "Test" / "7" / "00004.bin", five_bytes(RECORDING))
    return tmp_path


def test_nmnist_is_read_back_in_file_order(nmnist):
    train = events.load("nmnist", nmnist)
    assert isinstance(train, events.Recordings)
    assert train.ids == ["Train/0/00002.bin", "Train/3/00009.bin", "Train/3/00010.bin"]
    assert train.labels.tolist() == [0, 3, 3]
    assert train.classes[3] == "3"
    assert train.bad == ()
    for n, recording in zip((2, 9, 10), train, strict=True):
        assert recording.dtype == events.EVENT_DTYPE
        assert np.array_equal(recording, numbered(n))
    (test,) = events.load("nmnist", nmnist, "test")
    assert np.array_equal(test, RECORDING)


def test_nmnist_may_lie_where_tonic_writes_it(nmnist):
    nmnist.rename(nmnist.with_name("NMNIST"))
    assert len(events.load("nmnist", nmnist.with_name("NMNIST").parent)) == 3


def test_a_partial_copy_loads_and_a_split_without_files_does_not(nmnist):
    (nmnist / "Test" / "7" / "00004.bin").unlink()
    assert len(events.load("nmnist", nmnist)) == 3
    with pytest.raises(InputError, match="contains no test data of N-MNIST"):
        events.load("nmnist", nmnist, "test")


BROKEN = {
    "truncated": (five_bytes(RECORDING)[:-2], "truncated: 18 bytes are not a multiple of the 5 bytes per event"),
    "empty": (b"", "empty file"),
    "outside": (bytes([1, 40, 0, 0, 0]), r"y = 40, outside the sensor's 0\.\.33"),
    "backwards": (five_bytes(RECORDING[::-1]), "times go backwards at event 1"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named(nmnist, kind):
    content, message = BROKEN[kind]
    write(nmnist / "Train" / "1" / "00005.bin", content)
    train = events.load("nmnist", nmnist)  # files are read on access
    assert train.ids[1] == "Train/1/00005.bin"
    with pytest.raises(InputError, match=f"Train/1/00005.bin.*{message}"):
        train[1]
    assert np.array_equal(train[2], numbered(9))


def test_skip_bad_leaves_broken_files_out_and_lists_them(nmnist):
    for number, (content, _) in enumerate(BROKEN.values(), 20):
        write(nmnist / "Train" / "1" / f"{number:05d}.bin", content)
    train = events.load("nmnist", nmnist, skip_bad=True, progress=False)
    assert train.labels.tolist() == [0, 3, 3]
    assert [np.array_equal(r, numbered(n)) for r, n in zip(train, (2, 9, 10), strict=True)] == [True] * 3
    assert [identifier for identifier, _ in train.bad] == [f"Train/1/{n:05d}.bin" for n in range(20, 24)]
    for (_, reason), (_, message) in zip(train.bad, BROKEN.values(), strict=True):
        assert message.split(":")[0].replace("\\", "") in reason


def test_nothing_but_broken_files_is_an_error(tmp_path):
    write(tmp_path / "Train" / "1" / "00005.bin", b"123")
    with pytest.raises(InputError, match=r"none of 1 files can be read.*truncated"):
        events.load("nmnist", tmp_path, skip_bad=True, progress=False)


def test_a_file_that_disappears_is_named(nmnist):
    train = events.load("nmnist", nmnist)
    (nmnist / train.ids[0]).unlink()
    with pytest.raises(InputError, match=r"00002.bin: no such file"):
        train[0]


# ------------------------------------------------------------------------------------------------------ N-Caltech101


def test_ncaltech101_has_a_stored_split_that_does_not_depend_on_other_files(tmp_path):
    names = [f"{name}/image_{n:04d}.bin" for name in ("anchor", "yin_yang") for n in range(1, 31)]
    for name in names:
        write(tmp_path / "Caltech101" / name, five_bytes(RECORDING))
    parts = {split: set(events.load("ncaltech101", tmp_path, split).ids) for split in ("train", "test")}
    assert parts["train"] | parts["test"] == set(names)
    assert not parts["train"] & parts["test"]
    assert 5 <= len(parts["test"]) <= 20  # one in five of 60, give or take
    for name in names[::2]:
        (tmp_path / "Caltech101" / name).unlink()
    for split, part in parts.items():
        assert set(events.load("ncaltech101", tmp_path, split).ids) == part & set(names[1::2])


def test_a_download_of_ncaltech101_is_unpacked(tmp_path, monkeypatch):
    import tonic.datasets

    def fetch(save_to):
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w") as archive:
            for n in range(1, 13):
                archive.writestr(f"Caltech101/anchor/image_{n:04d}.bin", five_bytes(RECORDING))
        write(tmp_path / "NCALTECH101" / "N-Caltech101-archive" / "Caltech101.zip", inner.getvalue())

    monkeypatch.setattr(tonic.datasets, "NCALTECH101", fetch)
    assert len(events.load("ncaltech101", tmp_path, download=True)) == 8


def test_the_split_of_ncaltech101_is_stored():
    # the CRC-32 that gzip writes for "anchor/image_0001.bin" is 0x19d0f36d = 433124205, a multiple of 5
    test = [n for n in range(1, 13) if ncaltech101_split(f"anchor/image_{n:04d}.bin") == "test"]
    assert test == [1, 4, 7, 8]


def test_ncaltech101_has_101_folders_and_its_sensor(tmp_path):
    assert len(set(NCALTECH101_CLASSES)) == 101
    wide = events.make_recording([0, 7], x=[239, 0], y=[179, 0])
    for n in range(1, 12):
        write(tmp_path / "ant" / f"image_{n:04d}.bin", five_bytes(wide))
    train = events.load("ncaltech101", tmp_path)
    assert {train.classes[label] for label in train.labels} == {"ant"}
    assert np.array_equal(train[0], wide)


# ------------------------------------------------------------------------------------------------------- CIFAR10-DVS


def test_cifar10dvs_keeps_the_last_tenth_of_a_class_for_testing(tmp_path):
    for n in (3, 20, 899, 900, 999):
        write(tmp_path / "CIFAR10DVS" / "frog" / f"cifar10_frog_{n}.aedat", aedat2(numbered(n)))
    train, test = (events.load("cifar10dvs", tmp_path, split) for split in ("train", "test"))
    assert train.ids == [f"frog/cifar10_frog_{n}.aedat" for n in (3, 20, 899)]
    assert test.ids == [f"frog/cifar10_frog_{n}.aedat" for n in (900, 999)]
    assert train.labels.tolist() == [6, 6, 6]
    assert train[2].tolist() == [(0, 899 % 30, 2, 0), (1, 1, 3, 1)]  # the file's clock stood at 899 us
    (tmp_path / "CIFAR10DVS" / test.ids[1]).unlink()  # what remains stays where it was
    assert events.load("cifar10dvs", tmp_path, "test").ids == test.ids[:1]


def test_a_cifar10dvs_file_without_a_number_is_named():
    with pytest.raises(InputError, match=r"frog/some\.aedat.*no number"):
        cifar10dvs_split("frog/some.aedat")


def test_cifar10dvs_in_aedat4(tmp_path):
    pytest.importorskip("aedat")
    write(tmp_path / "ship" / "cifar10_ship_7.aedat4", aedat4(RECORDING))
    write(tmp_path / "ship" / "cifar10_ship_8.aedat4", aedat4(RECORDING)[:-20])
    train = events.load("cifar10dvs", tmp_path)
    assert np.array_equal(train[0], RECORDING)
    with pytest.raises(InputError, match=r"cifar10_ship_8.aedat4: cannot be read as AEDAT 4"):
        train[1]


def test_cifar10dvs_in_aedat4_needs_a_package(tmp_path, monkeypatch):
    write(tmp_path / "ship" / "cifar10_ship_7.aedat4", aedat4(RECORDING))
    monkeypatch.setitem(sys.modules, "aedat", None)
    with pytest.raises(InputError, match="pip install aedat"):
        events.load("cifar10dvs", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"no header", "not an AEDAT file: it does not start with #!AER-DAT"),
        (b"#!AER-DAT2.0", "cannot be read as AEDAT 2"),
        (aedat3((1, RECORDING)), "expected AEDAT 2.0, found version 3.1"),
        (aedat2(RECORDING)[:-3], "truncated: 29 bytes are not a multiple of the 8 bytes per event"),
    ],
)
def test_a_broken_aedat_file_is_named(tmp_path, content, message):
    write(tmp_path / "ship" / "cifar10_ship_7.aedat", content)
    with pytest.raises(InputError, match=f"cifar10_ship_7.aedat: {message}"):
        events.load("cifar10dvs", tmp_path)[0]


def chip(name):
    return f"# AEChip: {name}\r\n".encode()


@pytest.mark.parametrize(
    "header",
    [chip("ch.unizh.ini.jaer.chip.retina.DVS128"), chip("Tmpdiff128"), b"# M\xe4rz\r\n#End Of ASCII Header\r\n", b""],
)
def test_aedat2_of_a_dvs128_is_read(tmp_path, header):
    path = write(tmp_path / "a.aedat", aedat2(RECORDING, header))
    assert np.array_equal(read_aedat2(path), RECORDING)


@pytest.mark.parametrize("name", ["DAVIS", "CDAVIS", "CochleaAMS1c", "DVS128x", "DVXplorer"])
def test_aedat2_of_another_chip_is_refused_by_its_name(tmp_path, name):
    path = write(tmp_path / "a.aedat", aedat2(RECORDING, chip(f"eu.seebetter.ini.chips.davis.{name}")))
    with pytest.raises(InputError, match=rf"a\.aedat: a recording of the chip {name} \(AEChip in the header\)"):
        read_aedat2(path)


def test_aedat2_of_a_davis_without_its_name_is_refused_by_its_addresses(tmp_path):
    path = write(tmp_path / "a.aedat", b"#!AER-DAT2.0\r\n" + davis2(RECORDING))
    with pytest.raises(InputError, match=r"event 0 has the address 0x08400000, which no DVS128 sends"):
        read_aedat2(path)


def test_aedat2_leaves_marks_out_and_continues_where_its_clock_overflows(tmp_path):
    words = np.array([[0, 2**32 - 2], [0x8000, 2**32 - 1], [0x80000000, 2**32 - 1], [1, 3], [1, 2]], ">u4")
    path = write(tmp_path / "a.aedat", b"#!AER-DAT2.0\r\n" + words.tobytes())
    assert read_aedat2(path).tolist() == [
        (2**32 - 2, 127, 127, 1),
        (2**32 + 3, 127, 127, 0),
        (2**32 + 2, 127, 127, 0),  # a step back is no overflow: it is refused where recordings are checked
    ]


def packet(kind, *, source=1, size=8, overflow=0, capacity=1, number=1, words=(1, 5)):
    return (
        struct.pack("<hhiiiiii", kind, source, size, 4, overflow, capacity, number, number)
        + np.array(words, "<u4").tobytes()
    )


FOREIGN_AEDAT3 = {
    "another size": (packet(1, size=16, words=(1, 5, 0, 0)), "truncated or damaged in its packet number 1"),
    "overflow below 0": (packet(1, overflow=-1), "truncated or damaged in its packet number 1"),
    "time below 0": (packet(1, words=(1, 2**31 + 5)), "damaged: event 0 has a negative time"),
    "two cameras": (packet(1) + packet(1, source=2), r"events of 2 cameras in one file \(sources \[1, 2\]\)"),
    "frames only": (packet(0) + packet(2), "no polarity events, only packets of the types special, frame"),
    "a cochlea": (packet(6), "no polarity events, only packets of the types ear"),
}


@pytest.mark.parametrize("kind", FOREIGN_AEDAT3)
def test_aedat3_of_something_else_is_refused(tmp_path, kind):
    body, message = FOREIGN_AEDAT3[kind]
    path = write(tmp_path / "a.aedat", aedat3() + body)
    with pytest.raises(InputError, match=f"a.aedat: {message}"):
        read_aedat3(path)


def test_aedat3_in_another_encoding_is_refused(tmp_path):
    path = write(tmp_path / "a.aedat", aedat3((1, RECORDING)).replace(b"#Format: RAW", b"#Format: PNGFrames"))
    with pytest.raises(InputError, match="its packets are in the format PNGFrames, not RAW"):
        read_aedat3(path)


def test_polarity_events_are_read_among_other_aedat3_events(tmp_path):
    path = write(tmp_path / "a.aedat", aedat3() + packet(2) + packet(1, overflow=1, words=(3, 5)) + packet(3))
    assert read_aedat3(path).tolist() == [(2**31 + 5, 0, 0, 1)]


def test_the_header_and_not_the_ending_gives_the_version_of_an_aedat_file(tmp_path):
    with pytest.raises(InputError, match=r"a.aedat: .*found version 3.0"):
        events.read(write(tmp_path / "a.aedat", b"#!AER-DAT3.0\r\n"))
    for ending in ("aedat", "aedat4"):
        assert events.read(write(tmp_path / f"a.{ending}", aedat3((1, RECORDING)))).tolist() == RECORDING.tolist()


class TwoCameras:
    def __init__(self, path): ...

    def id_to_stream(self):
        return {0: {"type": "events"}, 1: {"type": "frame"}, 2: {"type": "events"}}


def test_aedat4_of_two_cameras_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "aedat", types.SimpleNamespace(Decoder=TwoCameras))
    path = write(tmp_path / "a.aedat4", b"#!AER-DAT4.0")
    with pytest.raises(InputError, match=r"a\.aedat4: holds the events of 2 cameras"):
        events.read(path)


def test_the_clock_of_the_five_byte_format_overflows_in_row_240(tmp_path):
    rows = [[1, 2, 0x80, 0, 7], [0, 240, 0, 0, 0], [3, 4, 0, 1, 0], [0, 240, 0, 0, 0], [5, 6, 0, 0, 1]]
    path = write(tmp_path / "a.bin", bytes(np.ravel(rows).tolist()))
    assert read_five_byte(path).tolist() == [(7, 1, 2, 1), (8192 + 256, 3, 4, 0), (2 * 8192 + 1, 5, 6, 0)]


# ------------------------------------------------------------------------------------------------------- DVS-Gesture


@pytest.fixture
def gestures(tmp_path):
    """Two people, one on each side of the split; time stamps start anywhere."""
    for user in (23, 24):
        stream = events.make_recording(np.arange(1000, 2000, 100), x=np.arange(10), y=user, p=1)
        content = aedat3((1, stream[:4]), (0, stream[:2]), (1, stream[4:]))  # packets of type 0 are not pixels' events
        write(tmp_path / f"user{user}_led.aedat", content)
        table = "class,startTime_usec,endTime_usec\n1,1100,1300\n11,1500,1501\n"
        write(tmp_path / f"user{user}_led_labels.csv", table.encode())
    return tmp_path


def test_dvsgesture_cuts_trials_out_of_the_long_files(gestures):
    train, test = (events.load("dvsgesture", gestures, split) for split in ("train", "test"))
    assert train.ids == ["user23_led.aedat#0", "user23_led.aedat#1"]
    assert test.ids == ["user24_led.aedat#0", "user24_led.aedat#1"]
    assert [train.classes[label] for label in train.labels] == ["hand clapping", "other gestures"]
    assert train[0].tolist() == [(0, 1, 23, 1), (100, 2, 23, 1)]  # [1100, 1300) us, from its start on
    assert test[1].tolist() == [(0, 5, 24, 1)]


@pytest.mark.parametrize("missing", [1, 8, 48, 60])  # the last packet has 28 + 6 * 8 bytes
def test_a_truncated_dvsgesture_file_is_named(gestures, missing):
    path = gestures / "user23_led.aedat"
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(InputError, match=r"user23_led\.aedat: truncated or damaged in its packet number 3"):
        events.load("dvsgesture", gestures)[0]


def test_dvsgesture_files_that_end_before_a_trial_are_named(gestures):
    table = gestures / "user23_led_labels.csv"  # the last event is at 1900 us
    table.write_text("class,startTime_usec,endTime_usec\n1,1100,300000\n2,200000,300000\n")
    train = events.load("dvsgesture", gestures)
    with pytest.warns(UserWarning, match=r"user23_led\.aedat: it ends at 1900 us, and trial 1 .* 300000 us: the rest"):
        assert len(train[0]) == 9
    with pytest.raises(InputError, match=r"user23_led\.aedat: it ends at 1900 us, and trial 2 .*an incomplete copy\?"):
        train[1]


def test_hidden_files_beside_recordings_are_left_out(nmnist, gestures):
    (nmnist / "Train" / "3" / "._00003.bin").write_bytes(bytes(120))
    assert not any("._" in name for name in events.load("nmnist", nmnist).ids)
    folder = gestures / "ibmGestureTrain" / "user03_natural"
    folder.mkdir(parents=True)
    for name in ("2.npy", "._2.npy"):
        np.save(folder / name, np.zeros((1, 4)))
    assert events.load("dvsgesture", gestures).ids == ["ibmGestureTrain/user03_natural/2.npy"]


def test_one_recording_of_cifar10dvs_in_two_formats_is_refused(tmp_path):
    for ending in ("aedat", "aedat4"):
        write(tmp_path / f"cat/cifar10_cat_1.{ending}", aedat2(numbered(1)))
    with pytest.raises(InputError, match=r"cifar10_cat_1\.aedat and cifar10_cat_1\.aedat4 are one recording"):
        events.load("cifar10dvs", tmp_path)


def test_dvsgesture_tables_are_checked(gestures):
    table = gestures / "user23_led_labels.csv"
    table.write_text("class,startTime_usec,endTime_usec\n12,0,5\n")
    with pytest.raises(InputError, match=r"user23_led_labels.csv: '12,0,5' is not class \(1\.\.11\)"):
        events.load("dvsgesture", gestures)
    table.write_text("a,b\n")
    with pytest.raises(InputError, match="first line must be class,startTime_usec,endTime_usec"):
        events.load("dvsgesture", gestures)
    table.write_text("class,startTime_usec,endTime_usec\n1,5,5\n")
    with pytest.raises(InputError, match="'1,5,5' is a trial that ends before it starts"):
        events.load("dvsgesture", gestures)
    for content, message in ((b"", "empty file"), (b"\xff", "cannot be read as a table of trials")):
        table.write_bytes(content)
        with pytest.raises(InputError, match=rf"user23_led_labels\.csv: {message}"):
            events.load("dvsgesture", gestures)
    table.unlink()
    with pytest.raises(InputError, match=r"user23_led_labels.csv: no such file"):
        events.load("dvsgesture", gestures)


def test_dvsgesture_in_tonics_copy(tmp_path):
    rows = np.array([[5, 6, 1, 100], [127, 0, 0, 112]], dtype=np.float64)  # x, y, p, milliseconds
    for part, user in [("ibmGestureTrain", 3), ("ibmGestureTest", 25)]:
        folder = tmp_path / "DVSGesture" / part / f"user{user:02d}_natural"
        folder.mkdir(parents=True)
        np.save(folder / "10.npy", rows)
        np.save(folder / "2.npy", rows.astype(np.uint16))
    train = events.load("dvsgesture", tmp_path)
    assert train.ids == [f"ibmGestureTrain/user03_natural/{n}.npy" for n in (2, 10)]
    assert train.labels.tolist() == [2, 10]
    for recording in train:
        assert recording.tolist() == [(0, 5, 6, 1), (12_000, 127, 0, 0)]
    assert len(events.load("dvsgesture", tmp_path, "test")) == 2


@pytest.mark.parametrize(
    ("split", "part", "user", "other"),
    [("train", "ibmGestureTrain", 24, "test"), ("test", "ibmGestureTest", 23, "train")],
)
def test_a_person_of_the_other_split_is_in_neither(split, part, user, other, tmp_path):
    folder = tmp_path / part / f"user{user}_led"
    folder.mkdir(parents=True)
    np.save(folder / "3.npy", np.zeros((1, 4)))
    with pytest.raises(InputError, match=rf"user{user}_led/3\.npy: user {user} belongs to the {other} split"):
        events.load("dvsgesture", tmp_path, split)


def test_dvsgesture_arrays_are_checked_and_never_unpickled(tmp_path):
    folder = tmp_path / "ibmGestureTrain" / "user03_natural"
    folder.mkdir(parents=True)
    np.save(folder / "0.npy", np.array([{"code": "runs"}], dtype=object), allow_pickle=True)
    np.save(folder / "1.npy", np.zeros((5, 3)))
    train = events.load("dvsgesture", tmp_path)
    with pytest.raises(InputError, match=r"0\.npy: it is no file of numpy, or holds Python objects"):
        train[0]
    with pytest.raises(InputError, match=r"1\.npy: not an array \[events, 4\].*\(5, 3\)"):
        train[1]
    np.save(folder / "2.npy", np.array([[5, 6, 1, 100], [5.5, 6, 1, 100]]))
    with pytest.raises(InputError, match=r"2\.npy: event 1 has x, y, p = \[5\.5, 6\.0, 1\.0\]"):
        events.load("dvsgesture", tmp_path)[2]
    (folder / "clap.npy").touch()
    with pytest.raises(InputError, match=r"clap\.npy: must be called <label>\.npy"):
        events.load("dvsgesture", tmp_path)


# --------------------------------------------------------------------------------------------------------------- SHD


def write_shd(path, labels):
    h5py = pytest.importorskip("h5py")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["labels"] = np.array(labels, dtype=np.uint16)
        for name, dtype, value in [("times", np.float16, [0.0, 0.25, 0.5]), ("units", np.uint16, [699, 0, 350])]:
            rows = file.create_dataset(f"spikes/{name}", len(labels), dtype=h5py.vlen_dtype(dtype))
            for n in range(len(labels)):
                rows[n] = np.array(value, dtype=dtype)


def test_shd_is_a_row_of_700_channels(tmp_path):
    write_shd(tmp_path / "SHD" / "shd_train.h5", [3, 17])
    train = events.load("shd", tmp_path)
    assert train.sensor_size == (1, 1, 700)
    assert train.ids == ["shd_train.h5#0", "shd_train.h5#1"]
    assert [train.classes[label] for label in train.labels] == ["three (English)", "sieben (German)"]
    assert train[1].tolist() == [(0, 699, 0, 0), (250_000, 0, 0, 0), (500_000, 350, 0, 0)]
    with pytest.raises(InputError, match="contains no test data"):
        events.load("shd", tmp_path, "test")


def test_broken_shd_files_are_named(tmp_path):
    write(tmp_path / "shd_train.h5", b"not HDF5")
    with pytest.raises(InputError, match=r"shd_train\.h5: cannot be read as SHD's HDF5"):
        events.load("shd", tmp_path)
    write_shd(tmp_path / "shd_test.h5", [20])
    with pytest.raises(InputError, match=r"shd_test\.h5: labels must be a list of whole numbers 0\.\.19"):
        events.load("shd", tmp_path, "test")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels", [3], "it holds 1 labels, but 2 recordings in spikes/times"),
        ("labels", [3, 4, 5], "it holds 3 labels, but 2 recordings in spikes/times"),
        ("labels", [3.0, 4.7], r"labels must be a list of whole numbers 0\.\.19"),
        ("labels", ["3", "4"], r"labels must be a list of whole numbers 0\.\.19"),
        ("spikes/units", [[699, 0.5, 350], [1, 2, 3]], r"x\[1\] = 0\.5 is no whole number"),
        (
            "spikes/times",
            np.array([[1, 2, 3], [1, 2, 3]]),
            "recording 0: spikes/times holds int64; accepted are seconds",
        ),
    ],
)
def test_shd_files_of_other_numbers_are_refused(name, content, message, tmp_path):
    path = tmp_path / "shd_train.h5"
    write_shd(path, [3, 17])
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "r+") as file:
        del file[name]
        if name == "labels":
            file[name] = content
        else:
            rows = np.asarray(content)
            file.create_dataset(name, (len(rows),), dtype=h5py.vlen_dtype(rows.dtype))[:] = rows
    with pytest.raises(InputError, match=rf"shd_train\.h5: .*{message}"):
        events.load("shd", tmp_path)[0]


# ------------------------------------------------------------------------------------------------------- collections


def collection(labels):
    return events.Recordings(
        name="some",
        title="Some",
        split="train",
        classes=["a", "b"],
        sensor_size=(2, 34, 34),
        duration_us=10,
        ids=[str(n) for n in range(len(labels))],
        labels=np.array(labels),
        read=lambda identifier: numbered(int(identifier)),
    )


def test_subsets_and_slices():
    recordings = collection([0, 1, 0, 1])
    subset = recordings.subset([3, 0])
    assert subset.ids == ["3", "0"]
    assert subset.labels.tolist() == [1, 0]
    assert np.array_equal(subset[0], numbered(3))
    assert np.array_equal(recordings[-1], numbered(3))
    assert recordings[1:3].ids == ["1", "2"]
    assert len(list(recordings)) == 4
    with pytest.raises(IndexError):
        recordings[4]
    batch = events.frames_batch(recordings[:2], 3, recordings.sensor_size)
    assert batch.shape == (3, 2, 2, 34, 34)


def test_the_validation_split_is_stratified_disjoint_and_repeatable():
    recordings = collection([0] * 40 + [1] * 10)
    train, validation = events.split_validation(recordings, 0.2, seed=1)
    assert np.bincount(validation.labels).tolist() == [8, 2]
    assert np.bincount(train.labels).tolist() == [32, 8]
    assert sorted(train.ids + validation.ids, key=int) == recordings.ids
    assert train.ids == sorted(train.ids, key=int)
    assert events.split_validation(recordings, 0.2, seed=1)[1].ids == validation.ids
    assert events.split_validation(recordings, 0.2, seed=2)[1].ids != validation.ids


@pytest.mark.parametrize("fraction", [0, 1, -0.1, np.nan, 0.01, 0.99])
def test_empty_validation_or_training_sets_are_refused(fraction):
    with pytest.raises(InputError, match="validation"):
        events.split_validation(collection([0] * 5 + [1] * 5), fraction, seed=0)


def test_natural_order_counts():
    assert natural_order(["a10", "a9", "b1", "a"]) == ["a", "a9", "a10", "b1"]
