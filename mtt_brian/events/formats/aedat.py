"""Reading the AEDAT 2 files of a DVS128 and AEDAT 3.1 files (iniVation's "AEDAT file formats").

tonic's readers of both (1.7: `read_dvs_128`, `read_dvs_ibm`) cannot be used: they fail on every file, and the functions
below them take packets of other events for pixels and do not notice a truncated file.
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

#: jAER's classes of the chips whose addresses are those of a DVS128. Others, a DAVIS for instance, have another layout.
_DVS128 = ("DVS128", "Tmpdiff128")
_DVS128_MARK = 0x80008000  # synchronisation marks, not pixels
_DVS128_UNUSED = 0x7FFF0000


def read_aedat2(path: Path) -> np.ndarray:
    """Recording in an AEDAT 2.0 file of a DVS128: (address, time) pairs, big endian.

    The chip counts columns and rows from the far corner and writes 1 for OFF; turned here as in dat2mat.m, the script
    that comes with CIFAR10-DVS and MNIST-DVS. Times are as in the file, continued where its 32 bits overflow.

    Raises:
        InputError: for another version, another chip (where the header or the addresses show it) or a truncated file,
            with its name.
    """
    version, header, body = _split_header(path)
    if version != "2.0":
        raise InputError(f"{path}: expected AEDAT 2.0, found version {version}")
    for chip in re.findall(rb"^#\s*AEChip:\s*(\S+)", header, re.MULTILINE):
        name = chip.decode("ascii", "replace").rpartition(".")[2]
        if name.lower() not in map(str.lower, _DVS128):
            raise InputError(
                f"{path}: a recording of the chip {name} (AEChip in the header); in AEDAT 2, those of a"
                f" {' or '.join(_DVS128)} are read; save the events of others as .csv, .npy or .npz with t, x, y, p"
            )
    if len(body) % 8:
        raise InputError(f"{path}: truncated: {len(body)} bytes are not a multiple of the 8 bytes per event")
    address, t = np.frombuffer(body, dtype=">u4").astype(np.int64).reshape(-1, 2).T
    pixel = address & _DVS128_MARK == 0
    foreign = np.flatnonzero(pixel & (address & _DVS128_UNUSED != 0))
    if foreign.size:
        raise InputError(
            f"{path}: event {foreign[0]} has the address {address[foreign[0]]:#010x}, which no DVS128 sends; AEDAT 2"
            " files of other chips, a DAVIS for instance, are not read"
        )
    t = t + (np.cumsum(np.diff(t, prepend=t[:1]) < -(2**31)) << 32)  # only an overflow goes so far back
    address, t = address[pixel], t[pixel]
    return to_events(t, 127 - (address >> 8 & 0x7F), 127 - (address >> 1 & 0x7F), 1 - (address & 1))


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
    """What the first line of the file says, for instance "2.0"; empty for another kind of file, or none."""
    try:
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
