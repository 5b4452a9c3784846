"""The groups and data sets of an HDF5 file as plain values, read so that a file from a stranger does no harm.

`nir_files` runs this file as a script, in a process of its own with limits on time and memory: libhdf5 crashes on some
damaged files, reads others for ever, or takes any amount of memory. It therefore imports nothing of the package. The
script writes a line of JSON to its standard output (the entries, or the reason of a refusal), then the numbers of all
arrays as they lie in memory.

Nothing is read from other files: external links, external storage and virtual data sets are refused, and so are filters
that libhdf5 would load as plugins.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any, BinaryIO, TypeAlias

import numpy as np

#: Filters that h5py itself brings: deflate (gzip), shuffle, fletcher32, szip, nbit, scaleoffset and lzf.
FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32000})
#: CPU seconds and bytes of memory for the structure of a file, whatever its size.
SECONDS, MEMORY = 2.0, 2**30
#: What a larger file may take beyond that: bytes of the file, and bytes of its arrays, for one more second.
FILE_BYTES_PER_SECOND, ARRAY_BYTES_PER_SECOND = 2**20, 20 * 2**20

#: A group (None), a text or an array of texts ([shape], [texts]), or an array of numbers.
Entry: TypeAlias = "tuple[int, str, Any]"


class Refused(ValueError):
    """Why a file is not read."""


def scan(file: Any, root: str, most_bytes: int) -> tuple[list[Entry], int]:
    """Everything below the group ``root``, without the values.

    Args:
        file: an open `h5py.File`.
        root: name of the group.
        most_bytes: that the arrays may take.

    Returns:
        the entries (number of the entry that holds it, name, data set or None for a group), entry 0 being the root; and
        the bytes of all arrays.

    Raises:
        Refused: for whatever is neither a group nor plain numbers or text in this file.
    """
    import h5py

    found: list[Entry] = []
    paths: list[str] = []
    groups: set[Any] = set()
    total = 0

    def add(parent: int, holder: Any, name: str, path: str) -> None:
        nonlocal total
        try:
            name.encode()
        except UnicodeEncodeError:
            raise Refused(f"a name in {path!r} is not UTF-8") from None
        link = holder.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise Refused(f"{path!r} is a link to the file {link.filename!r}; nothing is read from other files")
        if isinstance(link, h5py.SoftLink):
            raise Refused(f"{path!r} is a link to {link.path!r}; accepted are groups and data sets")
        member = holder[name]
        if isinstance(member, h5py.Group):
            place = h5py.h5o.get_info(member.id)
            if (place.fileno, place.addr) in groups:
                raise Refused(f"{path!r} is a group that the file holds twice or that holds itself")
            groups.add((place.fileno, place.addr))
        elif isinstance(member, h5py.Dataset):
            total += _bytes(member, path)
            if total > most_bytes:
                raise Refused(f"its arrays take more than {most_bytes:,} bytes, half of the free memory")
        else:
            raise Refused(f"{path!r} is a {type(member).__name__}; accepted are groups and data sets")
        found.append((parent, name, member))
        paths.append(path)

    if root not in file:
        raise Refused(f"it has no group {root!r}")
    add(-1, file, root, root)
    if not isinstance(found[0][2], h5py.Group):
        raise Refused(f"{root!r} is not a group")
    k = 0
    while k < len(found):
        if isinstance(found[k][2], h5py.Group):
            for name in found[k][2]:
                add(k, found[k][2], name, f"{paths[k]}/{name}")
        k += 1
    return [(parent, name, m if isinstance(m, h5py.Dataset) else None) for parent, name, m in found], total


def value(data: Any) -> Any:
    """The value of a data set: an array of numbers, or ``(shape, texts)``."""
    import h5py

    if h5py.check_string_dtype(data.dtype) is None:
        return np.asarray(data[()])
    texts = np.ravel(np.asarray(data[()], dtype=object))
    try:
        return list(data.shape), [t.decode() if isinstance(t, bytes) else str(t) for t in texts]
    except UnicodeDecodeError:
        raise Refused(f"{data.name!r} is text, but not UTF-8") from None


def _bytes(data: Any, path: str) -> int:
    """Size of a data set in memory."""
    import h5py

    made = data.id.get_create_plist()
    if made.get_external_count():
        raise Refused(f"{path!r} is stored in another file; nothing is read from other files")
    if made.get_layout() == h5py.h5d.VIRTUAL:
        raise Refused(f"{path!r} is a virtual data set; nothing is read from other files")
    for k in range(made.get_nfilters()):
        code = made.get_filter(k)[0]
        if code not in FILTERS:
            raise Refused(f"{path!r} is stored with the filter {code}, a plugin; accepted is gzip, for instance")
    if data.shape is None:
        raise Refused(f"{path!r} is empty")
    if h5py.check_string_dtype(data.dtype) is None and data.dtype.kind not in "biufc":
        raise Refused(f"{path!r} holds {data.dtype}; accepted are numbers and text")
    return math.prod(map(int, data.shape)) * data.dtype.itemsize


def _write(entries: list[Entry], out: BinaryIO) -> None:
    """Everything is read before anything is written: an error leaves nothing behind."""
    described: list[Any] = []
    arrays: list[np.ndarray] = []
    for parent, name, data in entries:
        if data is None:
            described.append([parent, name, "group"])
            continue
        content = value(data)
        if isinstance(content, tuple):
            described.append([parent, name, "text", *content])
        else:
            described.append([parent, name, "array", content.dtype.str, list(content.shape)])
            arrays.append(content)
    out.write(json.dumps({"entries": described}).encode("ascii") + b"\n")
    for array in arrays:
        out.write(array.tobytes())


def parse(content: bytes) -> list[Entry]:
    """What the script wrote: (number of the entry that holds it, name, value), None standing for a group.

    Raises:
        Refused: with the script's reason.
    """
    line, _, numbers = content.partition(b"\n")
    described = json.loads(line)
    if "refused" in described:
        raise Refused(described["refused"])
    entries: list[Entry] = []
    begin = 0
    for parent, name, kind, *rest in described["entries"]:
        content_: Any = None
        if kind == "text":
            shape, texts = rest
            content_ = np.array(texts, dtype=object).reshape(shape) if shape else texts[0]
        elif kind == "array":
            dtype, shape = np.dtype(rest[0]), rest[1]
            array = np.frombuffer(numbers, dtype, math.prod(shape), begin).reshape(shape).copy()
            begin += array.nbytes
            content_ = array[()]  # a number without axes is a numpy scalar, as h5py gives it
        entries.append((parent, name, content_))
    return entries


def _mapped() -> int:
    """Bytes of memory that this process has mapped so far."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/statm", encoding="ascii") as status:
        return int(status.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _limit(seconds: float, memory: int) -> None:
    """Let the system end this process when it takes more CPU time or memory from now on, where the system can."""
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
    path: str, most_bytes: int, out: BinaryIO, limit: Callable[[float, int], None] = lambda seconds, memory: None
) -> None:
    """Write what `parse` reads: the content of a file, or why it is refused.

    Args:
        path: of the file.
        most_bytes: that its arrays may take.
        out: where to.
        limit: called with the CPU seconds and the bytes of memory that reading may take from now on.
    """
    try:
        import h5py

        seconds = SECONDS + os.path.getsize(path) / FILE_BYTES_PER_SECOND
        limit(seconds, MEMORY)
        with h5py.File(path, "r") as file:
            entries, total = scan(file, "node", most_bytes)
            limit(seconds + total / ARRAY_BYTES_PER_SECOND, MEMORY + 4 * total)
            _write(entries, out)
    except Exception as error:  # h5py raises many types for a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, MemoryError):
            reason = "reading it takes too much memory"
        out.write(json.dumps({"refused": reason}).encode("ascii") + b"\n")


if __name__ == "__main__":
    write_content(sys.argv[1], int(sys.argv[2]), sys.stdout.buffer, _limit)
