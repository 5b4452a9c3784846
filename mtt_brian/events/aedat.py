"""Reading the AEDAT 2 and 3.1 files of a DVS128 (iniVation's "AEDAT file formats").

tonic's readers of both (1.7: `read_dvs_128`, `read_dvs_ibm`) cannot be used: they fail on every file, and the functions
below them take packets of other events for pixels and do not notice a truncated file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.dataset import to_events

_PACKET_HEADER = np.dtype(
    [("type", "<i2"), ("source", "<i2")]
    + [(name, "<i4") for name in ("event_size", "time_offset", "time_overflow", "capacity", "number", "valid")]
)
_POLARITY_EVENTS = 1


def read_aedat2(path: Path) -> np.ndarray:
    """Recording in an AEDAT 2.0 file of a DVS128: (address, time) pairs, big endian.

    The chip counts columns and rows from the far corner and writes 1 for OFF; turned here as in dat2mat.m, the script
    that comes with CIFAR10-DVS and MNIST-DVS. Times are as in the file.

    Raises:
        InputError: for another version or a truncated file, with its name.
    """
    version, body = _split_header(path)
    if version != "2.0":
        raise InputError(f"{path}: expected AEDAT 2.0, found version {version}")
    if len(body) % 8:
        raise InputError(f"{path}: truncated: {len(body)} bytes are not a multiple of the 8 bytes per event")
    address, t = np.frombuffer(body, dtype=">u4").astype(np.int64).reshape(-1, 2).T
    pixel = address & 0x8000 == 0  # the others are synchronisation marks
    address, t = address[pixel], t[pixel]
    return to_events(t, 127 - (address >> 8 & 0x7F), 127 - (address >> 1 & 0x7F), 1 - (address & 1))


def read_aedat3(path: Path) -> np.ndarray:
    """Recording in an AEDAT 3.1 file: the polarity events of all packets. Times are as in the file.

    Raises:
        InputError: for another version or a truncated file, with its name.
    """
    version, body = _split_header(path)
    if version != "3.1":
        raise InputError(f"{path}: expected AEDAT 3.1, found version {version}")
    data, overflow, packets, position = [], [], 0, 0
    while position < len(body):
        packets += 1
        start = position + _PACKET_HEADER.itemsize
        header = np.frombuffer(body[position:start].ljust(_PACKET_HEADER.itemsize, b"\0"), _PACKET_HEADER)[0]
        position = start + int(header["event_size"]) * int(header["capacity"])
        if position > len(body) or header["event_size"] <= 0 or not 0 <= header["number"] <= header["capacity"]:
            raise InputError(f"{path}: truncated or damaged in its packet number {packets}")
        if header["type"] == _POLARITY_EVENTS:
            words = np.frombuffer(body, "<u4", count=2 * int(header["number"]), offset=start)
            data.append(words.reshape(-1, 2).astype(np.int64))
            overflow.append(np.full(len(data[-1]), int(header["time_overflow"]) << 31))
    address, t = np.concatenate([np.zeros((0, 2), np.int64), *data]).T
    valid = address & 1 == 1
    t = t + np.concatenate([np.zeros(0, np.int64), *overflow])
    address, t = address[valid], t[valid]
    return to_events(t, address >> 17 & 0x7FFF, address >> 2 & 0x7FFF, address >> 1 & 1)


def _split_header(path: Path) -> tuple[str, bytes]:
    """Version and what follows the header, whose lines start with "#"."""
    content = path.read_bytes()
    if not content.startswith(b"#!AER-DAT"):
        raise InputError(f"{path}: not an AEDAT file: it does not start with #!AER-DAT")
    version = content[len(b"#!AER-DAT") : content.index(b"\n")].strip().decode("ascii", "replace")
    end = 0
    while content.startswith(b"#", end):
        end = content.index(b"\n", end) + 1
        if content[:end].endswith(b"#!END-HEADER\r\n"):
            break
    return version, content[end:]
