"""`events.read`: files built here byte by byte from the published descriptions of their formats, and damaged ones."""

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mtt_brian as mb
from mtt_brian import events
from mtt_brian.errors import InputError
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


ANY = {
    "a.bin": lambda path: write(path, five_bytes(RECORDING)),
    "a.aedat": lambda path: write(path, aedat2(RECORDING)),
    "davis.aedat": lambda path: write(path, davis_file(RECORDING, "Davis346blue", (346, 260))),
    "3.aedat": lambda path: write(path, aedat3((1, RECORDING))),
    "A.NPY": lambda path: npy(path.open("wb")),
    "a.npz": npz,
    "a.csv": lambda path: path.write_text("t,x,y,p\n" + "".join(f"{t},{x},{y},{p}\n" for t, x, y, p in RECORDING)),
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
