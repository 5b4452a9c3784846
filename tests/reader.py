"""Reads HDF5 files as `hdf5_files` does, in a process for each file, but without the start of a process.

A server is started once. It imports h5py, and forks itself for every file; the fork calls `hdf5_tree.write_content`
under the same limits, and ends. Where a system cannot fork, files are read as always.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from mtt_brian import hdf5_files, hdf5_tree

SCRIPT = hdf5_tree.__file__
SERVER = """
import os, signal, sys
import h5py, numpy
sys.path.insert(0, sys.argv[1])
import hdf5_tree
while request := sys.stdin.buffer.readline():
    path, most, root, number, out, seconds = eval(request)
    child = os.fork()
    if not child:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        with open(out, "wb") as file:
            hdf5_tree.write_content(path, int(most), file, hdf5_tree._limit, root, int(number) if number else None)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Ended:
    """A process that has ended; its output is in a file."""

    def __init__(self, status: int, answer: Path) -> None:
        self.returncode, self.stdout = status, answer.open("rb")

    def __enter__(self) -> "Ended":
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()

    def wait(self) -> int:
        return self.returncode

    def kill(self) -> None:
        pass


class Server:
    """In place of `subprocess.Popen` in `hdf5_files`."""

    def __init__(self, folder: str) -> None:
        self.answer = Path(folder, "answer")
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, command: list[str], **options: Any) -> Any:
        path, most, root, number = command[-4:]
        if command[:3] != [sys.executable, "-P", SCRIPT] or "\0" in path:
            return subprocess.Popen(command, **options)  # a test has put another script in its place
        if self.process is None:
            start = [sys.executable, "-P", "-c", SERVER, str(Path(SCRIPT).parent)]
            self.process = subprocess.Popen(
                start,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=options["env"],
            )
        self.answer.write_bytes(b"")
        request = (os.path.abspath(path), most, root, number, str(self.answer), hdf5_files._SECONDS)
        self.process.stdin.write(ascii(request).encode() + b"\n")
        self.process.stdin.flush()
        return Ended(int(self.process.stdout.readline()), self.answer)

    def end(self) -> None:
        if self.process is not None:
            self.process.communicate()


@contextlib.contextmanager
def forked() -> Iterator[None]:
    """As long as this is open, `hdf5_files` reads by forks."""
    if not hasattr(os, "fork"):
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        server = Server(folder)
        with mock.patch.object(hdf5_files, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": server.run})):
            yield
        server.end()


def as_users_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is replaced."""
    monkeypatch.setattr(hdf5_files, "subprocess", subprocess)
