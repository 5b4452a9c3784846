"""Prophesee's files: DAT (decoded events) and RAW (the camera's own words, EVT 2.0 and EVT 3.0).

Layouts: docs.prophesee.ai, "DAT File Format", "EVT 2.0 Format", "EVT 3.0 Format". The readers that there are for RAW
(evt3 0.4, faery 0.7, expelliarmus 1.1, evlib 0.13) were tried on files of a few words: they do not agree on times where
the clock overflows, read the words of one format as those of another, or leave out what is damaged without a word.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events.formats.columns import read_checked, to_events
from mtt_brian.files import warn_of_data

#: A line of the header.
_LINE = re.compile(rb"% [^\x00-\x08\x0b\x0c\x0e-\x1f\n]*\n")
_END_OF_HEADER = re.compile(rb"% end\s*")


class _Header(NamedTuple):
    """What the text in front of the data says: names in lower case -> values; ``size`` in bytes."""

    values: dict[str, str]
    size: int

    @property
    def sensor(self) -> tuple[int, int] | None:
        """(columns, rows), if the header has them."""
        found = re.fullmatch(r"(\d+)x(\d+)", self.values.get("geometry", ""))
        sizes = found.groups() if found else (self.values.get("width", ""), self.values.get("height", ""))
        return (int(sizes[0]), int(sizes[1])) if all(size.isdecimal() and len(size) < 9 for size in sizes) else None


def _header(content: bytes) -> _Header:
    """Lines such as ``% Width 640`` and ``% format EVT3;height=720;width=1280``."""
    values: dict[str, str] = {}
    end = 0
    while line := _LINE.match(content, end):
        end = line.end()
        if _END_OF_HEADER.fullmatch(line.group()):
            break
        first, *others = line.group().decode("ascii", "replace").lstrip("%").strip().split(";")
        name, _, value = first.partition(" ")
        values[name.lower()] = value.strip()
        for other in others:
            name, _, value = other.partition("=")
            values[name.strip().lower()] = value.strip()
    return _Header(values, end)


def _with_header(path: Path, kind: str) -> tuple[bytes, _Header]:
    """The bytes of a file and their header, without which it is none of its kind."""
    content = path.read_bytes()
    header = _header(content)
    if not header.size:
        raise InputError(f"{path}: not a {kind} file: it does not start with a line of text behind a %")
    return content, header


# ----- DAT

#: Types of events that are pixels: Event2d and EventCD.
_PIXELS = (0x00, 0x0C)
_DAT_BYTES = 8


def read_dat(path: Path) -> np.ndarray:
    """Recording in a DAT file, version 2. Times are as in the file, continued where its 32 bits overflow.

    Raises:
        InputError: for another version or type of event, a truncated file, a pixel outside the sensor that the header
            names, and a polarity other than 0 and 1, with the file's name.
    """
    return read_checked(path, "a DAT file", partial(_read_dat, path))


def _read_dat(path: Path) -> np.ndarray:
    content, header = _with_header(path, "DAT")
    if (version := header.values.get("version", "")) != "2":
        raise InputError(f"{path}: its header names {f'version {version}' if version else 'no version'}; 2 is read")
    if len(content) < header.size + 2:
        raise InputError(f"{path}: truncated: it ends behind its header, at byte {len(content)}")
    kind, size = content[header.size : header.size + 2]
    if kind not in _PIXELS or size != _DAT_BYTES:
        raise InputError(
            f"{path}: byte {header.size}: events of the type {kind:#04x} and {size} bytes; those of the types 0x00 and "
            f"0x0c (pixels) with {_DAT_BYTES} bytes are read"
        )
    body = content[header.size + 2 :]
    if len(body) % _DAT_BYTES:
        raise InputError(f"{path}: truncated: {len(body)} bytes are not a multiple of the {_DAT_BYTES} bytes per event")
    t, pixel = np.frombuffer(body, "<u4").reshape(-1, 2).T.astype(np.int64)
    x, y, p = pixel & 0x3FFF, pixel >> 14 & 0x3FFF, pixel >> 28
    if np.any(wrong := p > 1):
        k = int(np.argmax(wrong))
        raise InputError(f"{path}: event {k} has the polarity {p[k]}, not 0 or 1 (byte {header.size + 2 + 8 * k})")
    _check_sensor(path, header, x, y)
    return to_events(_continued(t, 32), x, y, p)


# ----- RAW


class _Words(NamedTuple):
    """The words of a RAW file, int64 [K]: the upper four bits, and the rest."""

    kind: np.ndarray
    value: np.ndarray


def read_raw(path: Path) -> np.ndarray:
    """Recording in a RAW file with EVT 2.0 or EVT 3.0 words. Times are as in the file, continued where they overflow.

    Triggers and words of other sensors of the camera are left out. So are, with a warning, events in front of the first
    words that give a time and a row, as in a recording that starts within a stream.

    Raises:
        InputError: for another encoding, a truncated file, words that the encoding does not have, and a pixel outside
            the sensor that the header names, with the file's name.
    """
    return read_checked(path, "a RAW file", partial(_read_raw, path))


def _read_raw(path: Path) -> np.ndarray:
    content, header = _with_header(path, "RAW")
    named_encoding = header.values.get("format") or header.values.get("evt") or ""
    encoding = named_encoding.upper().removeprefix("EVT").strip().removesuffix(".0")
    if encoding not in _ENCODINGS:
        named = f"the encoding {named_encoding!r}" if named_encoding else "no encoding (% format or % evt)"
        raise InputError(f"{path}: its header names {named}; EVT 2.0 and EVT 3.0 are read")
    size, kinds, decode = _ENCODINGS[encoding]
    body = content[header.size :]
    if len(body) % size:
        raise InputError(f"{path}: truncated: {len(body)} bytes are not a multiple of the {size} bytes per word")
    order = ">" if header.values.get("endianness") == "big" else "<"
    words = np.frombuffer(body, f"{order}u{size}").astype(np.int64)
    bits = 8 * size - 4
    found = _Words(words >> bits, words & (1 << bits) - 1)
    if np.any(unknown := ~np.isin(found.kind, kinds)):
        k = int(np.argmax(unknown))
        raise InputError(
            f"{path}: damaged: the word at byte {header.size + size * k} has the type {found.kind[k]:#x}, which "
            f"EVT {encoding}.0 does not have"
        )
    t, x, y, p, untimed = decode(found)
    if untimed:
        warn_of_data(f"{path}: {untimed} events in front of the first time and row in it have none and are left out")
    _check_sensor(path, header, x, y)
    return to_events(t, x, y, p)


_Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]

_CD_OFF, _CD_ON, _TIME_HIGH_2 = 0x0, 0x1, 0x8
_EVT2 = (_CD_OFF, _CD_ON, _TIME_HIGH_2, 0xA, 0xE, 0xF)


def _evt2(words: _Words) -> _Columns:
    """One word per event; another one sets the upper 28 of the 34 bits of the time."""
    is_time = words.kind == _TIME_HIGH_2
    times, number = _continued(words.value[is_time], 28), np.cumsum(is_time)
    pixel = words.kind <= _CD_ON
    timed = pixel & (number > 0)
    value = words.value[timed]
    t = times[number[timed] - 1] << 6 | value >> 22
    return t, value >> 11 & 0x7FF, value & 0x7FF, words.kind[timed], int(pixel.sum() - timed.sum())


_ADDR_Y, _ADDR_X, _BASE_X, _VECTOR_12, _VECTOR_8, _TIME_LOW, _TIME_HIGH_3 = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
_EVT3 = (_ADDR_Y, _ADDR_X, _BASE_X, _VECTOR_12, _VECTOR_8, _TIME_LOW, 0x7, _TIME_HIGH_3, 0xA, 0xE, 0xF)


def _evt3(words: _Words) -> _Columns:
    """Words set the time, the row and the first column of a vector; others name the pixels that fired."""
    kind, value = words
    y, has_row = _last(kind == _ADDR_Y, value & 0x7FF)
    is_high = kind == _TIME_HIGH_3
    times = np.concatenate([[0], _continued(value[is_high], 12)])
    high = times[np.cumsum(is_high)]
    changed = is_high & (np.diff(high, prepend=-1) != 0)
    # A lower half follows every new upper half; until then it counts as 0.
    low, _ = _last(changed | (kind == _TIME_LOW), np.where(kind == _TIME_LOW, value, 0))
    length = np.select([kind == _VECTOR_12, kind == _VECTOR_8], [12, 8], 0)
    before = np.cumsum(length) - length
    base, has_base = _last(kind == _BASE_X, (value & 0x7FF) - before)
    polarity, _ = _last(kind == _BASE_X, value >> 11)
    single, vector = kind == _ADDR_X, length > 0
    pixel = single | vector
    known = has_row & (np.cumsum(is_high) > 0) & (has_base | ~vector)
    mask = np.where(single, 1, np.where(kind == _VECTOR_8, value & 0xFF, value))
    mask = mask[pixel].astype("<u2")
    fired = np.unpackbits(mask.view(np.uint8).reshape(-1, 2), axis=1, bitorder="little")
    column = np.where(single, value & 0x7FF, base + before)[pixel]
    on = np.where(single, value >> 11, polarity)[pixel]
    word, bit = np.nonzero(fired & known[pixel, None])
    t = (high << 12 | low)[pixel][word]
    return t, column[word] + bit, y[pixel][word], on[word], int(fired.sum()) - len(word)


_ENCODINGS = {"2": (4, _EVT2, _evt2), "3": (2, _EVT3, _evt3)}


def _last(sets: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The value at every word: that of the last word that set it, itself included; and whether there was one."""
    at = np.maximum.accumulate(np.where(sets, np.arange(len(sets)), -1))
    return np.where(at >= 0, value[at], 0), at >= 0


def _continued(t: np.ndarray, bits: int) -> np.ndarray:
    """Times of a clock of so many bits, continued where it overflows: where it goes back by half its range or more."""
    return t + (np.cumsum(np.diff(t, prepend=t[:1]) <= -(1 << bits - 1)) << bits)


def _check_sensor(path: Path, header: _Header, x: np.ndarray, y: np.ndarray) -> None:
    if (sensor := header.sensor) is None:
        return
    if np.any(outside := (x >= sensor[0]) | (y >= sensor[1])):
        k = int(np.argmax(outside))
        raise InputError(
            f"{path}: event {k} has x = {x[k]}, y = {y[k]}, outside the {sensor[0]} x {sensor[1]} pixels that the "
            "header names"
        )
