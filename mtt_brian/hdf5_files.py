"""HDF5 files of strangers: read in a separate process, with limits on time and memory, see `hdf5_tree`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

from mtt_brian import hdf5_tree, machine
from mtt_brian.errors import InputError
from mtt_brian.hdf5_tree import DATA, EVENTS, GRAPH

__all__ = ["DATA", "EVENTS", "GRAPH", "read_apart"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: Seconds for reading a file in a separate process, besides the CPU time that `hdf5_tree` allows.
_SECONDS = 60.0
#: Its parts, each awaited alone: of the time in which this process is stopped, as by Ctrl-Z, at most one part counts.
_PARTS = 60


def read_apart(path: str, kind: str, number: int | None = None) -> tuple[dict[str, Any], list[str]]:
    """The content of a file.

    Args:
        path: of the file.
        kind: `GRAPH`, `DATA` or `EVENTS`.
        number: of the recording, counted from 0, for `EVENTS`; None: the only one.

    Returns:
        groups as dictionaries, arrays, and attributes as ``@name``; and a sentence for each part that has no meaning in
        such a file.

    Raises:
        InputError: for a file that is damaged or something else.
    """
    try:
        has_signature = _has_signature(path)
    except OSError as error:
        raise InputError(error.strerror or str(error)) from None
    if not has_signature:
        raise InputError("it is no HDF5 file, or damaged: it has no signature of one")
    try:
        content = _run(path, kind, number)
    except hdf5_tree.Refused as error:
        raise InputError(str(error)) from None
    values: list[Any] = []
    for parent, name, value in content.entries:
        values.append({} if value is None else value)
        if parent >= 0:
            values[parent][name] = values[-1]
    return values[0], content.not_read


def _has_signature(path: str) -> bool:
    """Whether it is at byte 0, 512, 1024, 2048 ..., where HDF5 looks for it."""
    size, at = os.path.getsize(path), 0
    with open(path, "rb") as file:
        while at < size:
            file.seek(at)
            if file.read(len(_SIGNATURE)) == _SIGNATURE:
                return True
            at = 2 * at or 512
    return False


def _run(path: str, kind: str, number: int | None) -> hdf5_tree.Content:
    size = os.path.getsize(path)
    most = machine.available_bytes() // 2
    which = "" if number is None else str(number)
    command = [sys.executable, "-P", hdf5_tree.__file__, path, str(most), kind, which]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    if kind != EVENTS:  # networks need no filters that are plugins
        environment["HDF5_PLUGIN_PATH"] = ""
    seconds = _SECONDS + size / hdf5_tree.FILE_BYTES_PER_SECOND
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
    except OSError as error:
        raise InputError(f"the process that reads it, {sys.executable!r}, cannot be started: {error}") from None
    assert process.stdout is not None
    has_ended, is_late = threading.Event(), threading.Event()

    def end_late() -> None:
        if not any(has_ended.wait(seconds / _PARTS) for _ in range(_PARTS)):
            is_late.set()
            process.kill()

    content = None
    with process:
        threading.Thread(target=end_late, daemon=True).start()
        try:
            content = hdf5_tree.parse(process.stdout)
            process.wait()
        except hdf5_tree.Refused:
            raise
        except (ValueError, LookupError, TypeError):  # no output of the script
            process.stdout.close()
            process.wait()
        finally:
            has_ended.set()
            process.kill()
    if content is not None and process.returncode == 0:
        return content
    if is_late.is_set():
        raise InputError(f"reading it did not end within {seconds:.0f} s; it is damaged")
    how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit status {process.returncode}"
    raise InputError(f"the HDF5 library does not end or crashes while it reads the file ({how}); it is damaged")
