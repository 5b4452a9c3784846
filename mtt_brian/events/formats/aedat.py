"""Reading the AEDAT 2 files of a DVS128 or a DAVIS, and AEDAT 3.1 files (iniVation's "AEDAT file formats").

tonic's readers of both (1.7: `read_dvs_128`, `read_dvs_ibm`) cannot be used: they fail on every file, and their helper
functions read packets of other events as pixels and accept a truncated file.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.formats.columns import to_events

_MAGIC = b"#!AER-DAT"

_PACKET_HEADER = np.dtype(
    [("type", "<i2"), ("source", "<i2")]
    + [(name, "<i4") for name in ("event_size", "time_offset", "time_overflow", "capacity", "number", "valid")]
)
#: Types of packets.
_SPECIAL_EVENTS, _POLARITY_EVENTS = 0, 1
_TYPES = ("special", "polarity", "frame", "IMU 6-axis", "IMU 9-axis", "sample", "ear", "configuration")

#: A header line is text; the events behind the header hardly ever are.
_HEADER_LINE = re.compile(rb"#[^\x00-\x08\x0b\x0c\x0e-\x1f\n]*\n")
_END_OF_HEADER = re.compile(rb"#!?\s*end[ -](of[ -]ascii[ -])?header\s*", re.IGNORECASE)

#: jAER's classes of the chips whose addresses are those of a DVS128.
_DVS128 = ("DVS128", "Tmpdiff128")
#: Those of a DAVIS by the number in their names: columns and rows.
_DAVIS = re.compile(r"davis(128|208|240|346|640)", re.IGNORECASE)
_DAVIS_SIZES = {"128": (128, 128), "208": (208, 192), "240": (240, 180), "346": (346, 260), "640": (640, 480)}
_DVS128_MARK = 0x80008000  # synchronisation marks, not pixels
_DVS128_UNUSED = 0x7FFF0000
_DAVIS_OTHERS = 0x80000400


def read_aedat2(path: Path) -> np.ndarray:
    """Recording in an AEDAT 2.0 file of a DVS128 or a DAVIS: (address, time) pairs, big endian.

    Times are as in the file, continued where its 32 bits overflow. A DVS128 counts columns and rows from the far corner
    and writes 1 for OFF; turned here as in dat2mat.m, the script that comes with CIFAR10-DVS and MNIST-DVS. A DAVIS,
    which the header must name, counts columns from the right and rows from the bottom (as jAER reads it); its frames,
    IMU samples and triggers are left out.

    Raises:
        InputError: for another version, another chip (where the header or the addresses show it), a pixel outside the
            sensor or a truncated file, with its name.
    """
    version, header, body = _split_header(path)
    if version != "2.0":
        raise InputError(f"{path}: expected AEDAT 2.0, found version {version}")
    davis = None
    for chip in re.findall(rb"^#\s*AEChip:\s*(\S+)", header, re.MULTILINE):
        name = chip.decode("ascii", "replace").rpartition(".")[2]
        found = _DAVIS.match(name)
        if found is None and name.lower() not in map(str.lower, _DVS128):
            raise InputError(
                f"{path}: a recording of the chip {name} (AEChip in the header); in AEDAT 2, those of a"
                f" {', '.join(_DVS128)} or Davis{', '.join(_DAVIS_SIZES)} are read; save the events of others as .csv, "
                ".npy or .npz with t, x, y, p"
            )
        davis = None if found is None else _DAVIS_SIZES[found[1]]
    if len(body) % 8:
        raise InputError(f"{path}: truncated: {len(body)} bytes are not a multiple of the 8 bytes per event")
    address, t = np.frombuffer(body, dtype=">u4").astype(np.int64).reshape(-1, 2).T
    t = t + (np.cumsum(np.diff(t, prepend=t[:1]) < -(2**31)) << 32)  # only an overflow gives such a large decrease
    return _pixels_of_dvs128(path, address, t) if davis is None else _pixels_of_davis(path, address, t, davis)


def _pixels_of_dvs128(path: Path, address: np.ndarray, t: np.ndarray) -> np.ndarray:
    pixel = address & _DVS128_MARK == 0
    foreign = np.flatnonzero(pixel & (address & _DVS128_UNUSED != 0))
    if foreign.size:
        raise InputError(
            f"{path}: event {foreign[0]} has the address {address[foreign[0]]:#010x}, which no DVS128 sends; AEDAT 2"
            " files of a DAVIS are read if a line of the header names it (# AEChip: Davis240C)"
        )
    address, t = address[pixel], t[pixel]
    return to_events(t, 127 - (address >> 8 & 0x7F), 127 - (address >> 1 & 0x7F), 1 - (address & 1))


def _pixels_of_davis(path: Path, address: np.ndarray, t: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bit 31: a frame or the IMU; 30 to 22: row; 21 to 12: column; 11: 1 for ON; 10: a trigger."""
    pixel = address & _DAVIS_OTHERS == 0
    address, t = address[pixel], t[pixel]
    x, y = address >> 12 & 0x3FF, address >> 22 & 0x1FF
    if np.any(outside := (x >= size[0]) | (y >= size[1])):
        k = int(np.argmax(outside))
        raise InputError(
            f"{path}: event {np.flatnonzero(pixel)[k]} has the address {address[k]:#010x}, column {x[k]} and row "
            f"{y[k]}, outside the {size[0]} x {size[1]} pixels of the chip that the header names"
        )
    return to_events(t, size[0] - 1 - x, size[1] - 1 - y, address >> 11 & 1)


def read_aedat3(path: Path) -> np.ndarray:
    """Recording in an AEDAT 3.1 file: the polarity events of all packets. Times are as in the file.

    Frames and samples of the same camera are left out.

    Raises:
        InputError: for another version or encoding, a file of two cameras or without polarity events, and a truncated
            or damaged file, with its name.
    """
    version, header, body = _split_header(path)
    if version != "3.1":
        raise InputError(f"{path}: expected AEDAT 3.1, found version {version}")
    for encoding in re.findall(rb"^#Format:\s*(\S+)", header, re.MULTILINE):
        if encoding != b"RAW":
            raise InputError(f"{path}: its packets are in the format {encoding.decode('ascii', 'replace')}, not RAW")
    data, overflow, packets, position = [], [], 0, 0
    sources: set[int] = set()
    others: set[int] = set()
    while position < len(body):
        packets += 1
        start = position + _PACKET_HEADER.itemsize
        packet = np.frombuffer(body[position:start].ljust(_PACKET_HEADER.itemsize, b"\0"), _PACKET_HEADER)[0]
        kind, size, number = int(packet["type"]), int(packet["event_size"]), int(packet["number"])
        position = start + size * int(packet["capacity"])
        polarity = kind == _POLARITY_EVENTS
        if (
            position > len(body)
            or size <= 0
            or not 0 <= number <= packet["capacity"]
            or packet["time_overflow"] < 0
            or (polarity and size != 8)
        ):
            raise InputError(f"{path}: truncated or damaged in its packet number {packets}")
        if polarity:
            words = np.frombuffer(body, "<u4", count=2 * number, offset=start)
            data.append(words.reshape(-1, 2).astype(np.int64))
            overflow.append(np.full(number, int(packet["time_overflow"]) << 31))
            sources.add(int(packet["source"]))
        elif number:
            others.add(kind)
    if len(sources) > 1:
        raise InputError(f"{path}: events of {len(sources)} cameras in one file (sources {sorted(sources)})")
    if not sources and others - {_SPECIAL_EVENTS}:
        found = ", ".join(_TYPES[kind] if 0 <= kind < len(_TYPES) else str(kind) for kind in sorted(others))
        raise InputError(f"{path}: no polarity events, only packets of the types {found}")
    address, t = np.concatenate([np.zeros((0, 2), np.int64), *data]).T
    valid = address & 1 == 1
    address, t = address[valid], t[valid]
    if np.any(t >> 31):
        raise InputError(f"{path}: damaged: event {int(np.argmax(t >> 31 > 0))} has a negative time")
    t = t + np.concatenate([np.zeros(0, np.int64), *overflow])[valid]
    return to_events(t, address >> 17 & 0x7FFF, address >> 2 & 0x7FFF, address >> 1 & 1)


def aedat_version(path: Path) -> str:
    """The version in the first line of the file, for instance "2.0"; empty for other files and for none."""
    try:
        if not path.is_file():  # opening a pipe would wait for a writer
            return ""
        with open(path, "rb") as file:
            first = file.readline(64)
    except OSError:
        return ""
    return _version(first) if first.startswith(_MAGIC) else ""


def _version(first_line: bytes) -> str:
    return first_line[len(_MAGIC) :].strip().decode("ascii", "replace")


def _split_header(path: Path) -> tuple[str, bytes, bytes]:
    """Version, the header, whose lines start with "#", and what follows it."""
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        raise InputError(f"{path}: not an AEDAT file: it does not start with #!AER-DAT")
    end = 0
    while line := _HEADER_LINE.match(content, end):
        end = line.end()
        if _END_OF_HEADER.fullmatch(line.group()):
            break
    version = _version(content.split(b"\n", 1)[0][:64])
    if not end:
        raise InputError(f"{path}: cannot be read as AEDAT {version}: its first line has no end or is not text")
    return version, content[:end], content[end:]
