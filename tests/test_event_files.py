"""`events.read`: files built here byte by byte from the published descriptions of their formats, and damaged ones."""

import bz2
import gc
import gzip
import lzma
import struct
import warnings
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mtt_brian as mb
from mtt_brian import events
from mtt_brian.errors import InputError
from mtt_brian.events import named
from tests.test_events_datasets import aedat2, aedat3, aedat4, chip, davis2, five_bytes

RECORDING = events.make_recording([0, 5, 5, 299_999], x=[0, 33, 7, 8], y=[33, 0, 20, 21], p=[0, 1, 1, 0])


def dat(recording, version="2", kind=0x0C, size=8, sensor=(640, 480)):
    """Text, two bytes, then 32 bits of time, 14 of x, 14 of y and 4 of polarity, little endian."""
    header = f"% Data file containing CD events\n% Version {version}\n% Width {sensor[0]}\n% Height {sensor[1]}\n"
    t, x, y, p = (recording[name].astype(np.int64) for name in ("t", "x", "y", "p"))
    body = np.stack([t, x | y << 14 | p << 28], axis=1).astype("<u4").tobytes()
    return header.encode() + bytes([kind, size]) + body


def raw(words, encoding="2", sensor=(1280, 720), order="<", extra=""):
    header = f"% evt {encoding}.0\n% format EVT{encoding};height={sensor[1]};width={sensor[0]}\n{extra}% end\n"
    return header.encode() + b"".join(struct.pack(order + ("I" if encoding == "2" else "H"), word) for word in words)


def high2(value):
    return 0x8 << 28 | value


def pixel2(low, x, y, p):
    return p << 28 | low << 22 | x << 11 | y


def write(path, content):
    path.write_bytes(content)
    return path


def read(path, content, **options):
    return events.read(write(path, content), **options).tolist()


# ----- all formats


def npy(path):
    np.save(path, RECORDING)


def npz(path):
    np.savez(path, **{name: RECORDING[name] for name in RECORDING.dtype.names})


def csv_text(recording=RECORDING):
    return "t,x,y,p\n" + "".join(f"{t},{x},{y},{p}\n" for t, x, y, p in recording.tolist())


def hdf5(path, **members):
    """A file with these data sets; two underscores stand for a slash."""
    with h5py.File(path, "w") as file:
        for name, data in members.items():
            file[name.replace("__", "/")] = data


def dsec(path, recording=RECORDING, **changes):
    types = {"t": "u4", "x": "u2", "y": "u2", "p": "u1"}
    columns = {f"events__{name}": recording[name].astype(dtype) for name, dtype in types.items()}
    hdf5(path, **{**columns, "t_offset": 51_648_500_000, "ms_to_idx": np.arange(300), **changes})


def prophesee(path, recording=RECORDING, **more):
    fields = {"x": "u2", "y": "u2", "p": "i2", "t": "i8"} | {name: column.dtype for name, column in more.items()}
    events_ = np.zeros(len(recording), dtype=list(fields.items()))
    for name in fields:
        events_[name] = more[name] if name in more else recording[name]
    hdf5(path, CD__events=events_, EXT_TRIGGER__events=np.zeros(3, dtype=[("p", "i2"), ("t", "i8"), ("id", "i2")]))


def mvsec_events(recording=RECORDING, start=1504645177.4):
    x, y, t, p = (recording[name].astype(float) for name in "xytp")
    return np.stack([x, y, start + t / 1e6, 2 * p - 1], axis=1)


def e2vid(path, recording=RECORDING, **changes):
    ts = 12.5 + recording["t"] / 1e6
    columns = {
        "events__ts": ts,
        "events__xs": recording["x"],
        "events__ys": recording["y"],
        "events__ps": recording["p"] == 1,
    }
    hdf5(path, **columns | changes)


def lists(file, name, rows, dtype):
    data = file.create_dataset(name, (len(rows),), h5py.vlen_dtype(dtype))
    for k, row in enumerate(rows):
        data[k] = np.array(row, dtype)


def shd(path, times=((0.25, 0.5), (0.0625,)), units=((699, 0), (3,)), times_dtype="f2"):
    with h5py.File(path, "w") as file:
        lists(file, "spikes/times", times, times_dtype)
        lists(file, "spikes/units", units, "u2")
        file["labels"] = np.arange(len(times))
        file["extra/keys"] = [b"zero", b"one"]


ANY = {
    "dsec.h5": dsec,
    "prophesee.HDF5": prophesee,
    "mvsec.hdf5": lambda path: hdf5(path, davis__left__events=mvsec_events(), davis__left__imu=np.zeros((9, 6))),
    "e2vid.h5": e2vid,
    "m3ed.h5": lambda path: hdf5(path, **{f"prophesee__left__{name}": RECORDING[name] for name in "txyp"}),
    "v2e.h5": lambda path: hdf5(path, events=np.stack([RECORDING[name] for name in "txyp"], axis=1).astype("u4")),
    "signed.h5": lambda path: dsec(path, events__p=2 * RECORDING["p"] - 1),
    "a.csv.gz": lambda path: write(path, gzip.compress(csv_text().encode())),
    "A.CSV.BZ2": lambda path: write(path, bz2.compress(csv_text().encode())),
    "a.csv.xz": lambda path: write(path, lzma.compress(csv_text().encode())),
    "packed.csv": lambda path: write(path, gzip.compress(csv_text().encode())),
    "unpacked.csv.gz": lambda path: path.write_text(csv_text()),
    "a.bin": lambda path: write(path, five_bytes(RECORDING)),
    "a.aedat": lambda path: write(path, aedat2(RECORDING)),
    "davis.aedat": lambda path: write(path, davis_file(RECORDING, "Davis346blue", (346, 260))),
    "3.aedat": lambda path: write(path, aedat3((1, RECORDING))),
    "A.NPY": lambda path: npy(path.open("wb")),
    "a.npz": npz,
    "a.csv": lambda path: path.write_text(csv_text()),
    "a.dat": lambda path: write(path, dat(RECORDING)),
    "a.raw": lambda path: write(path, raw(words2(RECORDING))),
    "3.raw": lambda path: write(path, raw(words3(RECORDING), "3")),
}


def words2(recording):
    return [w for t, x, y, p in recording.tolist() for w in (high2(t >> 6), pixel2(t & 63, x, y, p))]


def words3(recording):
    return [
        w
        for t, x, y, p in recording.tolist()
        for w in (0x8000 | t >> 12, 0x6000 | t & 0xFFF, 0x0000 | y, 0x2000 | p << 11 | x)
    ]


def davis_file(recording, name, size):
    """Columns from the right, rows from the bottom."""
    turned = recording.copy()
    turned["x"], turned["y"] = size[0] - 1 - recording["x"], size[1] - 1 - recording["y"]
    return b"#!AER-DAT2.0\r\n" + chip(f"eu.seebetter.ini.chips.davis.{name}") + davis2(turned)


@pytest.mark.parametrize("name", ANY)
def test_every_format_gives_the_same_recording(name, tmp_path):
    ANY[name](tmp_path / name)
    found = events.read(str(tmp_path / name))
    assert found.tolist() == RECORDING.tolist()
    assert found.dtype == events.EVENT_DTYPE


@pytest.mark.parametrize("name", ["a.aedat", "a.aedat4"])
def test_aedat4_is_found_by_its_first_line(name, tmp_path):
    pytest.importorskip("aedat")
    assert read(tmp_path / name, aedat4(RECORDING)) == RECORDING.tolist()


def test_an_unknown_ending_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.txt: a recording is a file that ends in \.bin, .*\.dat, \.raw"):
        events.read(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"a\.dat: no such file"):
        events.read(tmp_path / "a.dat")
    with pytest.raises(InputError, match=r"a\.raw: empty file"):
        read(tmp_path / "a.raw", b"")


def test_times_that_go_backwards_are_refused_or_sorted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("t,x,y,p\n5,1,0,0\n4,2,0,0\n5,3,0,0\n")
    with pytest.raises(InputError, match=r"a\.csv: times go backwards at event 1 \(t = 4 after 5 us\).*sort=True"):
        events.read(path)
    assert events.read(path, sort=True).tolist() == [(4, 2, 0, 0), (5, 1, 0, 0), (5, 3, 0, 0)]
    path.write_text("t,x\n5,1\n-4,2\n")
    with pytest.raises(InputError, match=r"a\.csv: event 1 has t = -4 us; times are microseconds >= 0"):
        events.read(path, sort=True)


def test_a_format_of_a_user(tmp_path):
    def reader(path):
        t, x = np.loadtxt(path, dtype=int, ndmin=2).T
        return events.make_recording(t, x)

    path = tmp_path / "a.spaced"
    path.write_text("3 1\n9 2\n")
    events.register_format(".spaced", reader)
    try:
        assert events.read(path).tolist() == [(3, 1, 0, 0), (9, 2, 0, 0)]
        path.write_text("3 1\n9\n")
        with pytest.raises(InputError, match=r"a\.spaced: cannot be read as a \.spaced file \(ValueError"):
            events.read(path)
        for arguments, message in (
            ((".csv", reader), "there is already an event file format named '.csv'"),
            (("spaced", reader), "the ending must start with a dot"),
            ((".other", 3), "the reader of '.other' must be a function"),
        ):
            with pytest.raises(InputError, match=message):
                events.register_format(*arguments)
        events.register_format(".spaced", lambda path: np.arange(3), replace=True)
        with pytest.raises(InputError, match=r"a\.spaced: a recording is a one-dimensional structured array"):
            events.read(path)
    finally:
        events.unregister_format(".spaced")
    with pytest.raises(InputError, match="a recording is a file that ends in"):
        events.read(path)


def test_the_number_of_a_recording_in_a_file_of_one(tmp_path):
    csv, dsec_ = tmp_path / "a.csv", tmp_path / "a.h5"
    csv.write_text(csv_text())
    dsec(dsec_)
    with pytest.raises(
        InputError, match=r"a\.csv: there is no recording number 0: a file that ends in \.csv holds one"
    ):
        events.read(csv, number=0)
    assert events.read(dsec_, number=0).tolist() == RECORDING.tolist()
    with pytest.raises(InputError, match=r"a\.h5: there is no recording number 1 in it; it holds 1, numbered from 0"):
        events.read(dsec_, number=1)
    for number, message in ((-1, "number must be at least 0, not -1"), (0.5, "number must be a whole number, not 0.5")):
        with pytest.raises(InputError, match=message):
            events.read(dsec_, number=number)


# ----- compressed tables


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_table_that_is_cut_or_wrong(pack, tmp_path):
    path = tmp_path / "a.csv.gz"
    packed = pack(csv_text(np.tile(RECORDING, 100)).encode())
    with pytest.raises(
        InputError, match=r"a\.csv\.gz: cannot be read as a CSV table with the header t,x,y,p \(EOFError"
    ):
        read(path, packed[:-30])
    with pytest.raises(InputError, match=r"a\.csv\.gz: .*: line 3 is '2,no'; accepted are 2 numbers"):
        read(path, pack(b"t,x\n1,2\n2,no\n"))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_table_is_closed(pack, tmp_path):
    read(tmp_path / "a.csv", pack(csv_text(RECORDING).encode()))
    gc.collect()


def test_a_compressed_table_larger_than_the_memory(tmp_path, monkeypatch):
    content = gzip.compress(b"t,x\n" + b"1,1\n" * 50_000)
    assert len(read(tmp_path / "bomb.csv.gz", content)) == 50_000
    monkeypatch.setattr("mtt_brian.events.formats.table.available_bytes", lambda: 200_000)
    with pytest.raises(InputError, match=r"bomb\.csv\.gz: its text is longer than 100,000 bytes, half of the memory"):
        events.read(tmp_path / "bomb.csv.gz")


# ----- HDF5


def test_a_file_of_two_cameras_has_two_recordings(tmp_path):
    path = tmp_path / "a.hdf5"
    hdf5(path, davis__left__events=mvsec_events(), davis__right__events=mvsec_events(RECORDING[1:]))
    with pytest.raises(
        InputError,
        match=r"a\.hdf5: it holds 2 recordings, in 'davis/left/events', 'davis/right/events'; name one by its number, ",
    ):
        events.read(path)
    left, right = (events.read(path, number=k) for k in (0, 1))
    assert left.tolist() == RECORDING.tolist()
    assert right["x"].tolist() == RECORDING["x"][1:].tolist()
    assert right["t"].tolist() == [0, 0, 299_994]


def test_a_file_of_spikes_has_a_recording_for_each_list(tmp_path):
    path = tmp_path / "shd_test.h5"
    shd(path)
    expected = [[(250_000, 699, 0, 0), (500_000, 0, 0, 0)], [(62_500, 3, 0, 0)]]
    data = events.load("shd", root=str(tmp_path), split="test")
    for k in (0, 1):
        assert data[k].tolist() == expected[k]
        for recording in (events.read(path, number=k), named.open_recording(f"{path}:{k}").events):
            assert recording.dtype.names == ("t", "x")  # the file has no y and p, which another sensor would need
            assert recording.tolist() == [event[:2] for event in expected[k]]
    graph = nir.NIRGraph(
        {
            "input": nir.Input(np.array([700])),
            "if": nir.IF(np.ones(700), np.ones(700), metadata={"reset": "zero"}),
            "output": nir.Output(np.array([700])),
        },
        [("input", "if"), ("if", "output")],
    )
    result = mb.simulate(graph, f"{path}:1")
    assert [column.tolist() for column in result.spikes["if"]] == [[0.0625], [3], [1]]
    with pytest.raises(InputError, match=r"shd_test\.h5: it holds 2 recordings, in 'spikes'; name one by its number"):
        mb.simulate(graph, path)


def test_events_of_hdf5_are_sorted_or_refused(tmp_path):
    path = tmp_path / "a.h5"
    e2vid(path, RECORDING[::-1].copy())
    with pytest.raises(InputError, match=r"a\.h5: times go backwards at event 1 \(t = 5 after 299999 us\)"):
        events.read(path)
    assert events.read(path, sort=True)["t"].tolist() == RECORDING["t"].tolist()


def test_hdf5_without_events(tmp_path):
    for write_ in (dsec, prophesee, e2vid, lambda path, r: hdf5(path, davis__left__events=mvsec_events(r))):
        write_(tmp_path / "a.h5", RECORDING[:0])
        assert events.read(tmp_path / "a.h5").tolist() == []


def test_hdf5_that_is_compressed_in_chunks_of_a_growing_data_set(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in "txyp":
            options = {"maxshape": (None,), "chunks": (3,), "compression": "gzip", "shuffle": True}
            file.create_dataset(f"events/{name}", data=RECORDING[name], **options)
    assert events.read(path).tolist() == RECORDING.tolist()


def compressed_by(code):
    """A data set that names a filter which is not there; nothing in it is compressed."""

    def write_(path):
        prophesee(path)
        with h5py.File(path, "r+") as file:
            data = file["CD/events"][()]
            del file["CD/events"]
            made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            made.set_chunk((4,))
            made.set_filter(code, h5py.h5z.FLAG_OPTIONAL, ())
            space, kind = h5py.h5s.create_simple(data.shape), h5py.h5t.py_create(data.dtype)
            h5py.h5d.create(file["CD"].id, b"events", kind, space, made).write(space, space, data)

    return write_


def elsewhere(path):
    dsec(path)
    with h5py.File(path, "r+") as file:
        del file["events/t"]
        file["events/t"] = h5py.ExternalLink("other.h5", "/t")


BAD_HDF5 = {
    "no HDF5": (lambda path: path.write_bytes(b"t,x\n" * 999), "it is no HDF5 file, or damaged: it has no signature"),
    "cut": (lambda path: (dsec(path), path.write_bytes(path.read_bytes()[:3000])), "Unable to"),
    "other": (
        lambda path: hdf5(path, a=1, b__c=2),
        r"it holds 'a', 'b'; accepted are events/\{x,y,t,p\} \(DSEC\), .*SHD",
    ),
    "nothing": (hdf5, "it holds nothing; accepted are"),
    "a network": (lambda path: hdf5(path, node__nodes=1), "it holds 'node'; accepted are"),
    "no p": (lambda path: hdf5(path, events__t=[1], events__x=[1]), "the group 'events' holds 't', 'x'; accepted are"),
    "no v2e": (
        lambda path: hdf5(path, events=np.ones((5, 4), "f4")),
        r"'events' is a data set of float32 of the shape \(5, 4\); accepted are",
    ),
    "lengths": (
        lambda path: dsec(path, events__x=[1, 2]),
        "'t', 'x', 'y', 'p' in 'events' must be lists of one length",
    ),
    "seconds": (
        lambda path: dsec(path, events__t=RECORDING["t"] / 1e6),
        "its times t are float64; accepted are integers, which count microseconds",
    ),
    "integers": (
        lambda path: e2vid(path, events__ts=RECORDING["t"]),
        "the column ts holds int64; accepted are seconds in floating point",
    ),
    "MVSEC of integers": (lambda path: hdf5(path, davis__left__events=np.ones((5, 4), int)), "ts holds int64;"),
    "single precision": (
        lambda path: e2vid(path, events__ts=(1000 + RECORDING["t"] / 1e6).astype("f4")),
        "the column ts holds float32, which does not hold every microsecond at 1000.2999",
    ),
    "NaN": (
        lambda path: e2vid(path, events__ts=[0, np.nan, 1, 2]),
        r"the column ts\[1\] = nan; accepted are seconds below 9,",
    ),
    "half a pixel": (lambda path: e2vid(path, events__xs=[0, 0.5, 1, 2]), r"x\[1\] = 0.5: not a whole number"),
    "far": (
        lambda path: dsec(path, events__x=[0, 40_000, 1, 2]),
        r"x\[1\] = 40000: not a whole number that fits int16",
    ),
    "polarities": (
        lambda path: dsec(path, events__p=[0, 1, -1, 1]),
        "event 0 has the polarity 0; accepted are 0 and 1, or",
    ),
    "before 0": (lambda path: dsec(path, events__t=[-1, 0, 1, 2]), "event 0 has t = -1 us"),
    "text": (lambda path: dsec(path, events__t=["a"] * 4), "'events/t' holds object; accepted are numbers"),
    "dropped": (
        lambda path: dsec(path, events__id=np.arange(4)),
        "the field 'id' holds different values and would be dropped",
    ),
    "seconds, too": (
        lambda path: dsec(path, events__ts=np.arange(4) / 2),
        "the field 'ts' holds different values and would be dropped",
    ),
    "dropped field": (
        lambda path: prophesee(path, camera=np.arange(4)),
        "the field 'camera' holds different values and would be dropped",
    ),
    "lists of integers": (
        lambda path: shd(path, ((1,), (2,)), ((1,), (2,)), "i4"),
        "spikes/times holds int32; accepted",
    ),
    "no lists": (
        lambda path: hdf5(path, spikes__times=[0.5], spikes__units=[1]),
        "'spikes/times' holds float64; accepted are a list of numbers for each recording",
    ),
    "ECF": (
        compressed_by(36559),
        r"'CD/events' is compressed by the filter 36559 \(ECF\), which is not installed: github\.com/prophesee-ai",
    ),
    "another filter": (
        compressed_by(32999),
        r"'CD/events' is compressed by the filter 32999 \(of no name\), which is not installed: pip install hdf5plugin",
    ),
    "elsewhere": (elsewhere, r"'events/t' is a link to the file 'other\.h5'; nothing is read from other files"),
}


@pytest.mark.parametrize("case", BAD_HDF5)
def test_a_bad_hdf5_file_is_refused(case, tmp_path):
    path = tmp_path / "a.h5"
    make, message = BAD_HDF5[case]
    make(path)
    with pytest.raises(InputError, match=rf"a\.h5: .*{message}") as refused:
        events.read(path, number=0 if case.startswith("lists") else None)
    assert "\n" not in str(refused.value)


def test_nir_data_are_named(tmp_path):
    nir.write_data(
        tmp_path / "a.h5",
        nir.NIRGraphData(
            {"input": nir.NIRNodeData({"spikes": nir.EventData(np.array([[0]]), np.array([[0.5]]), 2, 1.0)})}
        ),
    )
    with pytest.raises(
        InputError, match=r"a\.h5: it is NIRData, spikes of a network's nodes: mtt-brian simulate reads"
    ):
        events.read(tmp_path / "a.h5")


@pytest.mark.parametrize("compression", ["Blosc", "Zstd", "LZ4", "Bitshuffle"])
def test_hdf5_of_an_installed_filter_is_read(compression, tmp_path):
    plugins = pytest.importorskip("hdf5plugin")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in "txyp":
            file.create_dataset(f"events/{name}", data=RECORDING[name], **getattr(plugins, compression)())
    assert events.read(path).tolist() == RECORDING.tolist()


# ----- DAT


def test_the_clock_of_a_dat_file_overflows_after_32_bits(tmp_path):
    given_ = events.make_recording([2**32 - 2, 3, 4], x=[1, 2, 3], y=0, p=1)
    assert [t for t, *_ in read(tmp_path / "a.dat", dat(given_))] == [2**32 - 2, 2**32 + 3, 2**32 + 4]


ONE = RECORDING[:1]
BAD_DAT = {
    "no header": (b"\x00\x08" + bytes(8), "not a DAT file: it does not start with a line of text behind a %"),
    "version": (dat(ONE, version="1"), "its header names version 1; 2 is read"),
    "no version": (b"% Width 3\n\x0c\x08", "its header names no version; 2 is read"),
    "ends": (b"% Version 2\n\x0c", "truncated: it ends behind its header, at byte 13"),
    "triggers": (dat(ONE, kind=0x0E), "byte 70: events of the type 0x0e and 8 bytes; those of the types 0x00 and"),
    "size": (dat(ONE, size=16), "byte 70: events of the type 0x0c and 16 bytes"),
    "truncated": (dat(RECORDING)[:-3], "truncated: 29 bytes are not a multiple of the 8 bytes per event"),
    "polarity": (
        dat(events.make_recording([1, 2], 0, 0, p=[1, 2])),
        r"event 1 has the polarity 2, not 0 or 1 \(byte 8",
    ),
    "sensor": (
        dat(RECORDING, sensor=(20, 40)),
        "event 1 has x = 33, y = 0, outside the 20 x 40 pixels that the header",
    ),
}


@pytest.mark.parametrize("case", BAD_DAT)
def test_a_bad_dat_file_is_refused(case, tmp_path):
    content, message = BAD_DAT[case]
    with pytest.raises(InputError, match=rf"a\.dat: {message}"):
        read(tmp_path / "a.dat", content)


# ----- RAW


def test_evt2_times_have_34_bits_and_overflow(tmp_path):
    words = [high2(2**28 - 1), pixel2(63, 2, 3, 1), 0xA << 28 | 1, 0xE << 28, 0xF << 28, high2(0), pixel2(1, 4, 5, 0)]
    assert read(tmp_path / "a.raw", raw(words)) == [(0, 2, 3, 1), (2, 4, 5, 0)]


def test_evt3_vectors_name_pixels_of_a_row(tmp_path):
    words = [
        *(0x8001, 0x6003, 0x0006, 0x2000 | 0x800 | 5),  # time 4096 + 3, row 6, column 5 ON
        *(0x3000 | 0x800 | 100, 0x4000 | 0b1000_0000_0101, 0x5000 | 0b11),  # from column 100: 12 pixels, then 8
        *(0x6004, 0x0007, 0x3000 | 50, 0x5F00 | 0b1000_0001),  # bits 8 to 11 of a vector of 8 mean nothing
        *(0x7001, 0xA001, 0xE001, 0xF001),  # continued, trigger, others
    ]
    expected = [(0, x, 6, 1) for x in (5, 100, 102, 111, 112, 113)] + [(1, x, 7, 0) for x in (50, 57)]
    assert read(tmp_path / "a.raw", raw(words, "3")) == expected


def test_evt3_times_have_24_bits_and_overflow(tmp_path):
    words = [0x8FFF, 0x6FFF, 0x0000, 0x2001, 0x8000, 0x2002, 0x6002, 0x2003, 0x8000, 0x2004]
    # Behind a new upper half, the lower one is 0 until it comes; the same upper half once more changes nothing.
    assert [t for t, *_ in read(tmp_path / "a.raw", raw(words, "3"))] == [0, 1, 3, 3]


@pytest.mark.parametrize(
    ("encoding", "words", "left_out"),
    [
        ("2", [pixel2(1, 2, 3, 1), pixel2(1, 2, 3, 1), high2(0), pixel2(5, 4, 3, 0)], 2),
        ("3", [0x0003, 0x2001, 0x8000, 0x2004], 1),  # no time
        ("3", [0x8000, 0x2001, 0x4FFF, 0x0003, 0x4003, 0x2004], 15),  # no row, no first column
    ],
)
def test_events_in_front_of_the_first_time_are_left_out_and_counted(encoding, words, left_out, tmp_path):
    with pytest.warns(UserWarning, match=rf"a\.raw: {left_out} events in front of the first time and row"):
        assert read(tmp_path / "a.raw", raw(words, encoding)) == [(0, 4, 3, 0)]


def test_big_endian_words(tmp_path):
    path = tmp_path / "a.raw"
    assert read(path, raw(words2(RECORDING), order=">", extra="% endianness big\n")) == RECORDING.tolist()


BAD_RAW = {
    "no header": (bytes(16), "not a RAW file: it does not start with a line of text behind a %"),
    "no encoding": (b"% date 2026\n% end\n", "its header names no encoding"),
    "EVT 2.1": (
        b"% evt 2.1\n% format EVT21\n% end\n",
        "its header names the encoding 'EVT21'; EVT 2.0 and EVT 3.0 are",
    ),
    "truncated": (raw([high2(0)])[:-1], "truncated: 3 bytes are not a multiple of the 4 bytes per word"),
    "reserved": (
        raw([high2(0), 0x3 << 28]),
        "damaged: the word at byte 56 has the type 0x3, which EVT 2.0 does not have",
    ),
    "reserved 3": (raw([0x9000], "3"), "damaged: the word at byte 52 has the type 0x9, which EVT 3.0 does not have"),
    "sensor": (
        raw([high2(0), pixel2(0, 30, 2, 0)], sensor=(30, 40)),
        "event 0 has x = 30, y = 2, outside the 30 x 40 p",
    ),
    "backwards": (
        raw([high2(9), pixel2(0, 1, 1, 1), high2(8), pixel2(0, 1, 1, 1)]),
        "times go backwards at event 1 \\(t = 512 after 576 us",
    ),
}


@pytest.mark.parametrize("case", BAD_RAW)
def test_a_bad_raw_file_is_refused(case, tmp_path):
    content, message = BAD_RAW[case]
    with pytest.raises(InputError, match=rf"a\.raw: {message}"):
        read(tmp_path / "a.raw", content)


def evt3_word_by_word(words):
    """The state machine of the format's description, one word at a time."""
    loops, high, low, row, base, polarity = 0, None, 0, None, None, 0
    found = []

    def fires(x, p):
        if high is not None and row is not None:
            found.append(((loops << 24) + (high << 12) + low, x, row, p))

    for word in words:
        kind, value = word >> 12, word & 0xFFF
        if kind == 0x8:
            if high is not None and high - value >= 2048:
                loops += 1
            if value != high:
                low = 0
            high = value
        elif kind == 0x6:
            low = value
        elif kind == 0x0:
            row = value & 0x7FF
        elif kind == 0x2:
            fires(value & 0x7FF, value >> 11)
        elif kind == 0x3:
            base, polarity = value & 0x7FF, value >> 11
        elif kind in (0x4, 0x5):
            length = 12 if kind == 0x4 else 8
            for bit in range(length):
                if value >> bit & 1 and base is not None:
                    fires(base + bit, polarity)
            if base is not None:
                base += length
    return found


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0x0, 0x2, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0xA, 0xE, 0xF]),
            st.one_of(st.integers(0, 4095), st.sampled_from([0, 1, 2047, 2048, 4095])),
        ),
        max_size=60,
    )
)
def test_evt3_is_decoded_as_word_by_word(tmp_path_factory, pairs):
    words = [kind << 12 | value for kind, value in pairs]
    path = write(tmp_path_factory.getbasetemp() / "words.raw", raw(words, "3", sensor=(4096, 4096)))
    expected = evt3_word_by_word(words)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        times = [t for t, *_ in expected]
        if times != sorted(times):
            with pytest.raises(InputError, match="times go backwards at event"):
                events.read(path)
        else:
            assert events.read(path).tolist() == [(t - times[0], x, y, p) for t, x, y, p in expected]


# ----- AEDAT 2 of a DAVIS


def test_a_davis_counts_from_the_lower_right_and_sends_more_than_pixels(tmp_path):
    words = [[1 << 22 | 2 << 12 | 1 << 11, 7], [1 << 31 | 5 << 12, 8], [1 << 10, 8], [179 << 22 | 239 << 12, 9]]
    content = b"#!AER-DAT2.0\r\n" + chip("DAVIS240C") + np.array(words, ">u4").tobytes()
    assert read(tmp_path / "a.aedat", content) == [(0, 237, 178, 1), (2, 0, 0, 0)]
    content = b"#!AER-DAT2.0\r\n" + chip("DAVIS240C") + np.array([[1 << 31, 2], [180 << 22, 7]], ">u4").tobytes()
    with pytest.raises(
        InputError, match=r"a\.aedat: event 1 has the address 0x2d000000, column 0 and row 180, outside"
    ):
        read(tmp_path / "a.aedat", content)


# ----- anything


@settings(max_examples=150)
@given(
    st.sampled_from(sorted([*events.FORMATS, ".dat", ".raw", ".raw"])),
    st.sampled_from(
        [b"", *(f(RECORDING) for f in (dat, aedat2, five_bytes)), raw(words2(RECORDING)), b"% evt 3.0\n% end\n"]
    ),
    st.integers(0, 200),
    st.binary(max_size=200),
    st.binary(max_size=80),
)
def test_garbage_gives_events_or_one_line(tmp_path_factory, ending, content, at, garbage, more):
    path = write(
        tmp_path_factory.getbasetemp() / f"garbage{ending}",
        content[:at] + garbage + content[at + len(garbage) :] + more,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = events.read(path)
        except InputError as error:
            message = str(error)
            assert message.startswith(str(path))
            assert "\n" not in message
            return
    assert {"t", "x"} <= set(found.dtype.names)
    assert np.all(np.diff(found["t"]) >= 0)


# ----- other readers


@pytest.mark.parametrize("encoding", ["2", "3"])
def test_faery_reads_the_same(encoding, tmp_path):
    faery = pytest.importorskip("faery")
    rng = np.random.default_rng(int(encoding))
    recording = events.make_recording(
        np.sort(rng.integers(0, 10**6, 500)),
        rng.integers(0, 1280, 500),
        rng.integers(0, 720, 500),
        rng.integers(0, 2, 500),
    )
    recording["t"] -= recording["t"][0]
    words = words2(recording) if encoding == "2" else words3(recording)
    path = write(tmp_path / "a.raw", raw(words, encoding))
    theirs = faery.events_stream_from_file(path).to_array()
    ours = mb.events.read(path)
    assert [tuple(map(int, e)) for e in theirs.tolist()] == ours.tolist() == recording.tolist()
    path = write(Path(tmp_path) / "a.dat", dat(recording, sensor=(1280, 720)))
    theirs = faery.events_stream_from_file(path).to_array()
    assert [tuple(map(int, e)) for e in theirs.tolist()] == mb.events.read(path).tolist() == recording.tolist()


def test_evt3_the_package_reads_the_same(tmp_path):
    evt3 = pytest.importorskip("evt3")
    words = [
        0x8001,
        0x6003,
        0x0006,
        0x2805,
        0x3864,
        0x4A05,
        0x5003,
        0x8002,
        0x6000,
        0x3001,
        0x5081,
        0x8FFF,
        0x6001,
        0x2001,
    ]
    path = write(tmp_path / "a.raw", raw([*words, 0x8000, 0x6004, 0x2003], "3"))
    theirs, ours = evt3.decode_file(str(path)), events.read(path)
    assert (np.array(theirs.t) - theirs.t[0]).tolist() == ours["t"].tolist()
    for name in ("x", "y", "p"):
        assert getattr(theirs, name).tolist() == ours[name].tolist()
