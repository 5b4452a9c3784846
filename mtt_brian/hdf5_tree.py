"""The groups and data sets of an HDF5 file as plain values, read so that an untrusted file does no harm.

`hdf5_files` runs this file as a script, in a process of its own with limits on time and memory: libhdf5 crashes on some
damaged files, does not end on others, or uses any amount of memory. The script therefore imports nothing of the
package. The script writes a line of JSON to its standard output (the entries, or the reason of a refusal). Then follow
the arrays, one at a time: a line of JSON, which is the reason of a refusal or empty, and the numbers as they lie in
memory.

No other file is read: external links, external storage and virtual data sets are refused, and so are filters
that libhdf5 would load as plugins, except those that a user has installed for recordings of events.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

import numpy as np

#: Filters that h5py itself brings: deflate (gzip), shuffle, fletcher32, szip, nbit, scaleoffset and lzf.
FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32000})
#: CPU seconds and bytes of memory for the structure of a file, whatever its size.
SECONDS, MEMORY = 2.0, 2**30
#: Additional time for a larger file: bytes of the file, and bytes of its arrays, per second.
FILE_BYTES_PER_SECOND, ARRAY_BYTES_PER_SECOND = 2**20, 20 * 2**20

#: Limit of the arrays of a file: these bytes, or this factor times the size of the file, about the best ratio of gzip.
SMALL_ARRAYS, LARGEST_RATIO = 64 * 2**20, 1000
#: Largest number of ignored parts of a file that are named.
MOST_NOTES = 20

#: Kinds of files, by the group that they consist of: a graph (``.nir``), data of a graph (NIRData); and recordings.
GRAPH, DATA, EVENTS = "node", "nodes", "events"
#: The places of recordings, and the members there that are the columns of one: of data sets of a group, of fields of a
#: compound data set, or of an array of four columns.
PLACES = ("events", "CD/events", *(f"davis/{side}/events" for side in ("left", "right")))
PLACES += ("prophesee/left", "prophesee/right", "spikes")
COLUMNS = (("t", "x", "y", "p"), ("ts", "xs", "ys", "ps"), ("times", "units"))
#: Of Prophesee, at github.com/prophesee-ai/hdf5_ecf.
ECF = 36559

#: A group (None), a text or an array of texts ([shape], [texts]), an array of numbers, or the value of an attribute.
Entry: TypeAlias = "tuple[int, str, Any]"


class Refused(ValueError):
    """The reason why a file is not read."""


@dataclass(frozen=True)
class Content:
    """The contents of a file.

    Attributes:
        entries: number of the parent entry, name, value (None for a group); entry 0 is the root.
        not_read: a sentence for each attribute and each group or data set that has no meaning in such a file.
    """

    entries: list[Entry]
    not_read: list[str]


def scan(file: Any, root: str, most_bytes: int, size: int) -> tuple[Content, int]:
    """Everything below the group ``root``, without the values.

    The attributes of a graph have no meaning; those of NIRData are entries ``@name`` of what they belong to.

    Args:
        file: an open `h5py.File`.
        root: name of the group, `GRAPH` or `DATA`.
        most_bytes: limit of the size of all arrays.
        size: of the file, in bytes.

    Returns:
        the content, with data sets in place of values; and the bytes of all arrays.

    Raises:
        Refused: for everything except groups and plain numbers or text in this file.
    """
    import h5py

    found: list[Entry] = []
    paths: list[str] = []
    groups: set[Any] = set()
    total = 0
    most_of_file = max(SMALL_ARRAYS, LARGEST_RATIO * size)
    notes: list[str] = []

    def add(parent: int, holder: Any, name: str, path: str) -> None:
        nonlocal total
        member = _member(holder, name, path)
        if isinstance(member, h5py.Group):
            place = h5py.h5o.get_info(member.id)
            if (place.fileno, place.addr) in groups:
                raise Refused(f"{path!r} is a group that the file holds twice or that holds itself")
            groups.add((place.fileno, place.addr))
        else:
            total += _bytes(member, path)
            if total > most_bytes:
                raise Refused(f"its arrays take more than {most_bytes:,} bytes, half of the free memory")
            if total > most_of_file:
                raise Refused(
                    f"its arrays take {total:,} bytes up to {path!r}, which has the shape {member.shape}; accepted are "
                    f"up to {most_of_file:,} for a file of {size:,} bytes"
                )
        found.append((parent, name, member))
        paths.append(path)
        if root == DATA:
            at = len(found) - 1
            for key in member.attrs:
                found.append((at, f"@{key}", _attribute(member, key, path)))
                paths.append(f"{path}/@{key}")
        elif len(member.attrs):
            notes.append(f"attributes {_listed(member.attrs)} of {path!r} are not used")

    if root not in file:
        raise Refused(f"it has no group {root!r}")
    add(-1, file, root, root)
    if not isinstance(found[0][2], h5py.Group):
        raise Refused(f"{root!r} is not a group")
    k = 0
    while k < len(found):
        if isinstance(found[k][2], h5py.Group):
            for name in _names(found[k][2], paths[k]):
                add(k, found[k][2], name, f"{paths[k]}/{name}")
        k += 1
    if len(file.attrs) and root == GRAPH:
        notes.append(f"attributes {_listed(file.attrs)} of the file are not used")
    if others := [name for name in _names(file, "/") if name not in (root, "version")]:
        notes.append(f"{_listed(others)} beside {root!r} in the file is not read")
    notes += _version(file) if root == GRAPH else []
    if len(notes) > MOST_NOTES:
        notes[MOST_NOTES:] = [f"{len(notes) - MOST_NOTES} more parts of the file are not used"]
    entries = [(parent, name, None if isinstance(m, h5py.Group) else m) for parent, name, m in found]
    return Content(entries, notes), total


def _member(holder: Any, name: str, path: str) -> Any:
    """A group or data set of this file."""
    import h5py

    link = holder.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        raise Refused(f"{path!r} is a link to the file {link.filename!r}; nothing is read from other files")
    if isinstance(link, h5py.SoftLink):
        raise Refused(f"{path!r} is a link to {link.path!r}; accepted are groups and data sets")
    member = holder[name]
    if not isinstance(member, h5py.Group | h5py.Dataset):
        raise Refused(f"{path!r} is a {type(member).__name__}; accepted are groups and data sets")
    return member


def scan_events(file: Any, number: int | None, most_bytes: int, size: int) -> tuple[Content, int]:
    """The columns of one recording, in one of `PLACES`.

    Args:
        file: an open `h5py.File`.
        number: of the recording, counted from 0; None: the only one.
        most_bytes, size: see `scan`.

    Returns:
        the content: the columns by the name of their member, and further members with a value for each event; and the
        bytes of all columns. For NIRData an empty group named `DATA`.

    Raises:
        Refused: for anything else.
    """
    import h5py

    found = {place: member for place in PLACES if (member := _at(file, place)) is not None}
    if not found:
        names = _names(file, "/")
        if DATA in names:
            return Content([(-1, DATA, None)], []), 0
        raise Refused(f"it holds {_listed(names) or 'nothing'}; {_ACCEPTED}")
    recordings = {place: _columns(member, place) for place, member in found.items()}
    numbers = {place: len(c["times"]) if "times" in c else 1 for place, c in recordings.items()}
    total = sum(numbers.values())
    if number is None and total != 1:
        raise Refused(
            f"it holds {total:,} recordings, in {_listed(numbers)}; name one by its number, from 0: FILE:NUMBER"
        )
    if number is not None and number >= total:
        raise Refused(f"there is no recording number {number} in it; it holds {total:,}, numbered from 0")
    rest, places = number or 0, iter(numbers)
    place = next(places)
    while rest >= numbers[place]:
        rest -= numbers[place]
        place = next(places)
    columns = recordings[place]
    bytes_ = 0
    for name, data in columns.items():
        path = place if data.id == found[place].id else f"{place}/{name}"
        listed = h5py.check_vlen_dtype(data.dtype) if name in COLUMNS[2] else data.dtype
        if listed is None or np.dtype(listed).kind not in "biuf":
            accepted = "a list of numbers for each recording" if name in COLUMNS[2] else "numbers"
            raise Refused(f"{path!r} holds {data.dtype}; accepted are {accepted}")
        bytes_ += _bytes(data, path, plugins=True)
    most = min(most_bytes, max(SMALL_ARRAYS, LARGEST_RATIO * size))
    if bytes_ > most:
        raise Refused(f"its events take {bytes_:,} bytes in a file of {size:,}; accepted are up to {most:,} here")
    if "times" in columns:
        columns = {name: data[rest] for name, data in columns.items()}
    return Content([(-1, place, None), *((0, name, data) for name, data in columns.items())], []), bytes_


_ACCEPTED = (
    "accepted are events/{x,y,t,p} (DSEC), events/{xs,ys,ts,ps} (E2VID), events of uint32 (v2e), CD/events "
    "(Prophesee), davis/left/events (MVSEC), prophesee/left/{x,y,t,p} (M3ED), spikes/{times,units} (SHD)"
)


class _Field:
    """A field of a compound data set, like a data set."""

    def __init__(self, data: Any, field: str) -> None:
        self.id, self.shape, self.chunks, self._data, self._field = data.id, data.shape, data.chunks, data, field
        self.dtype = data.dtype[field]

    def __getitem__(self, key: Any) -> Any:
        return self._data.fields(self._field)[key]


def _at(file: Any, place: str) -> Any:
    """The group or data set at a place, if there is one."""
    import h5py

    member, path = file, ""
    for name in place.split("/"):
        if not isinstance(member, h5py.Group) or name not in member:
            return None
        path = f"{path}/{name}".lstrip("/")
        member = _member(member, name, path)
    return member


def _columns(member: Any, place: str) -> dict[str, Any]:
    """The columns of the recordings at a place, by name: data sets, or fields of one."""
    import h5py

    if isinstance(member, h5py.Group):
        names = _names(member, place)
        for columns in COLUMNS:
            if set(columns) <= set(names):
                found = {name: _member(member, name, f"{place}/{name}") for name in columns}
                shape, *further = {_shape(data) for data in found.values()}
                if further or len(shape) != 1:
                    raise Refused(f"{_listed(columns)} in {place!r} must be lists of one length; {_ACCEPTED}")
                others = {name: _member(member, name, f"{place}/{name}") for name in names if name not in columns}
                return found | {n: o for n, o in others.items() if _shape(o)[:1] == shape}
        raise Refused(f"the group {place!r} holds {_listed(names) or 'nothing'}; {_ACCEPTED}")
    fields = member.dtype.names or ()
    if set(COLUMNS[0]) <= set(fields) and len(_shape(member)) == 1:
        return {name: _Field(member, name) for name in fields}
    if not fields and len(_shape(member)) == 2 and member.shape[1] == 4:
        if place.startswith("davis/"):
            return {"xs,ys,ts,ps": member}
        if place == "events" and member.dtype == np.uint32:
            return {"t,x,y,p": member}
    raise Refused(f"{place!r} is a data set of {member.dtype} of the shape {member.shape}; {_ACCEPTED}")


def _shape(member: Any) -> tuple[int, ...]:
    """The shape of a data set; of a group, and of a data set without values, ()."""
    return getattr(member, "shape", None) or ()


def _names(group: Any, path: str) -> list[str]:
    """Names of the members of a group."""
    names = list(group)
    for name in names:
        if isinstance(name, bytes) or _is_broken(name):
            raise Refused(f"the name {name!r} in the group {path!r} is not UTF-8")
    return names


def _is_broken(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False


def _version(file: Any) -> list[str]:
    """A sentence about a version of the format that this package was not written for."""
    import h5py

    if "version" not in file or isinstance(file.get("version", getlink=True), h5py.SoftLink | h5py.ExternalLink):
        return []
    data = file["version"]
    shown = "a group"
    if isinstance(data, h5py.Dataset):
        shown = "no text"
        if data.shape == () and h5py.check_string_dtype(data.dtype) is not None and data.id.get_storage_size() < 1000:
            given = data[()]
            version = given.decode("utf8", "backslashreplace") if isinstance(given, bytes) else str(given)
            if version.partition(".")[0] in ("0", "1"):
                return []
            shown = repr(version[:40])
    return [f"the version of the file is {shown}, and it is read as one of NIR 1"]


def _listed(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(ascii(name[:80]) if not name.isprintable() else repr(name[:80]) for name in names[:most]) + more


def _is_text(data: Any) -> bool:
    import h5py

    return h5py.check_string_dtype(data.dtype) is not None


def value(data: Any) -> Any:
    """The value of a data set: an array of numbers, or ``(shape, texts)``."""
    if not _is_text(data):
        return np.asarray(data[()])
    texts = np.ravel(np.asarray(data[()], dtype=object))
    try:
        return list(data.shape), [t.decode() if isinstance(t, bytes) else str(t) for t in texts]
    except UnicodeDecodeError:
        raise Refused(f"{data.name!r} is text, but not UTF-8") from None


def _attribute(holder: Any, key: str, path: str) -> int | float | str:
    """The value of an attribute, which has to be one number or a short text."""
    import h5py

    attribute = h5py.h5a.open(holder.id, key.encode())
    if attribute.shape == () and attribute.get_storage_size() < 1000:
        kept = holder.attrs[key]
        kept = kept.decode("utf8", "backslashreplace") if isinstance(kept, bytes) else kept
        if isinstance(kept, str):
            return kept[:1000]
        if np.ndim(kept) == 0 and np.asarray(kept).dtype.kind in "biuf":
            number: int | float = np.asarray(kept).item()
            return number
    raise Refused(f"the attribute {key[:80]!a} of {path!r} is neither a number nor a short text")


def _bytes(data: Any, path: str, plugins: bool = False) -> int:
    """Size of a data set in memory; with ``plugins``, filters that a user has installed may have compressed it."""
    import h5py

    made = data.id.get_create_plist()
    if made.get_external_count():
        raise Refused(f"{path!r} is stored in another file; nothing is read from other files")
    if made.get_layout() == h5py.h5d.VIRTUAL:
        raise Refused(f"{path!r} is a virtual data set; nothing is read from other files")
    for k in range(made.get_nfilters()):
        code, _, _, name = made.get_filter(k)
        if code in FILTERS:
            continue
        if not plugins:
            raise Refused(f"{path!r} is stored with the filter {code}, a plugin; accepted is gzip, for instance")
        if not _is_installed(code):
            how = "github.com/prophesee-ai/hdf5_ecf, with HDF5_PLUGIN_PATH" if code == ECF else "pip install hdf5plugin"
            title = "ECF" if code == ECF else ascii(name.decode("utf8", "replace"))[1:-1] or "of no name"
            raise Refused(f"{path!r} is compressed by the filter {code} ({title}), which is not installed: {how}")
    if data.shape is None:
        raise Refused(f"{path!r} is empty")
    if not plugins and not _is_text(data) and data.dtype.kind not in "biufc":
        raise Refused(f"{path!r} holds {data.dtype}; accepted are numbers and text")
    return _allocated(data, made, path)


def _is_installed(code: int) -> bool:
    """Whether a user has installed a filter: of the package hdf5plugin, or in the folder HDF5_PLUGIN_PATH."""
    import h5py

    with contextlib.suppress(Exception):
        importlib.import_module("hdf5plugin")  # registers its filters
    return bool(h5py.h5z.filter_avail(code))


def _allocated(data: Any, made: Any, path: str) -> int:
    """Bytes that a data set takes, all of which must have been written: unwritten bytes need no space in a file."""
    import h5py

    size = math.prod(map(int, data.shape))
    if size == 0:
        return 0
    stored, chunk = data.id.get_storage_size(), 0
    if made.get_layout() == h5py.h5d.CHUNKED:
        chunk = math.prod(map(int, data.chunks)) * data.dtype.itemsize
        number = math.prod(-(-n // c) for n, c in zip(map(int, data.shape), data.chunks, strict=True))
        is_whole = data.id.get_num_chunks() == number
    else:
        is_whole = stored >= size * data.id.get_type().get_size()
    if not is_whole:
        raise Refused(
            f"{path!r} has the shape {data.shape}, but was not written in full: {stored:,} bytes of it are stored"
        )
    return max(size * data.dtype.itemsize, chunk)


def _write(content: Content, size: int, out: BinaryIO) -> None:
    """Reads all texts before the first output, and every array before its output."""
    described: list[Any] = []
    arrays: list[Any] = []
    room = SMALL_ARRAYS + size
    for parent, name, data in content.entries:
        if data is None:
            described.append([parent, name, "group"])
            continue
        if isinstance(data, int | float | str):
            described.append([parent, name, "plain", data])
            continue
        if _is_text(data):
            shape, texts = value(data)
            room -= sum(map(len, texts))
            if room < 0:
                raise Refused(f"the texts up to {data.name!r} are longer than {SMALL_ARRAYS + size:,} characters")
            described.append([parent, name, "text", shape, texts])
        else:
            described.append([parent, name, "array", data.dtype.str, list(data.shape)])
            arrays.append(data)
    out.write(json.dumps({"entries": described, "not_read": content.not_read}).encode("ascii") + b"\n")
    for data in arrays:
        array = np.ascontiguousarray(value(data))
        out.write(b"\n")
        out.write(array.reshape(-1).view(np.uint8).data)


def parse(stream: Any) -> Content:
    """Reads the output of the script piece by piece, so that no array is stored twice.

    Raises:
        Refused: with the script's reason.
        ValueError: if the script ended too early.
    """

    def line() -> Any:
        found = stream.readline()
        if not found.endswith(b"\n"):
            raise ValueError("the script ended early")
        content = json.loads(found) if found != b"\n" else {}
        if "refused" in content:
            raise Refused(content["refused"])
        return content

    described = line()
    entries: list[Entry] = []
    for parent, name, kind, *rest in described["entries"]:
        content_: Any = None
        if kind == "text":
            shape, texts = rest
            content_ = np.array(texts, dtype=object).reshape(shape) if shape else texts[0]
        elif kind == "plain":
            (content_,) = rest
        elif kind == "array":
            array = np.empty(rest[1], np.dtype(rest[0]))
            line()
            if stream.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
                raise ValueError("the script ended early")
            content_ = array[()]  # a number without axes is a numpy scalar, as in h5py
        entries.append((parent, name, content_))
    return Content(entries, described["not_read"])


def _mapped() -> int:
    """Bytes of memory that this process has mapped."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/statm", encoding="ascii") as status:
        return int(status.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _limit(seconds: float, memory: int) -> None:
    """Limits the further CPU time and memory of this process, if the system supports it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    seconds, memory = math.ceil(time.process_time() + seconds), _mapped() + memory
    for kind, amount in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory)):
        hard = resource.getrlimit(kind)[1]
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (amount if hard == resource.RLIM_INFINITY else min(amount, hard), hard))


def write_content(
    path: str,
    most_bytes: int,
    out: BinaryIO,
    limit: Callable[[float, int], None] = lambda seconds, memory: None,
    root: str = GRAPH,
    number: int | None = None,
) -> None:
    """Writes the input of `parse`: the content of a file, or the reason of its refusal.

    Args:
        path: of the file.
        most_bytes: limit of the size of its arrays.
        out: output stream.
        limit: called with the CPU seconds and the bytes of memory that reading may use.
        root: `GRAPH`, `DATA` or `EVENTS`.
        number: see `scan_events`.
    """
    try:
        import h5py

        size = os.path.getsize(path)
        seconds = SECONDS + size / FILE_BYTES_PER_SECOND
        limit(seconds, MEMORY)
        with h5py.File(path, "r") as file:
            if root == EVENTS:
                content, total = scan_events(file, number, most_bytes, size)
            else:
                content, total = scan(file, root, most_bytes, size)
            limit(seconds + total / ARRAY_BYTES_PER_SECOND, MEMORY + 3 * total)
            _write(content, size, out)
    except Exception as error:  # h5py raises exceptions of many types for a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, MemoryError):
            reason = "reading it takes too much memory"
        out.write(json.dumps({"refused": reason}).encode("ascii") + b"\n")


if __name__ == "__main__":
    write_content(
        sys.argv[1],
        int(sys.argv[2]),
        sys.stdout.buffer,
        _limit,
        sys.argv[3],
        int(sys.argv[4]) if sys.argv[4] else None,
    )
