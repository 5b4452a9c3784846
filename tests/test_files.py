"""How files are written: whole or not at all, on the disk, and without what dead processes have left."""

import errno
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from mtt_brian import files
from mtt_brian.errors import InputError


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: (done.append(os.readlink(f"/proc/self/fd/{handle}")), fsync(handle))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), replace(a, b)))
    files.write_text(tmp_path / "a.json", "{}")
    temporary, *rest = done
    assert os.path.basename(temporary).startswith(f".a.{os.getpid()}-")
    assert rest == ["rename", str(tmp_path)]
    assert (tmp_path / "a.json").read_text() == "{}"


def test_what_a_killed_process_has_left_is_removed_and_nothing_else(tmp_path, dead):
    written = "import os, signal, sys; from mtt_brian import files\nwith files.replacing(sys.argv[1]) as t:\n    "
    killed = written + "t.touch(); os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", killed, str(tmp_path / "checkpoint.pt")], check=False)
    (left,) = tmp_path.iterdir()
    space = left.name.split("-")[-1].removesuffix(".pt")
    keep = [
        f".checkpoint.{os.getpid()}-0-{space}.pt",  # of a process that lives
        f".checkpoint.{dead}-0-{'0' * 8}.pt",  # of another machine
        f".checkpoint.{dead}.pt",  # of version 0.1.0, perhaps on another machine
        f"checkpoint.{dead}-0-{space}.pt",
        ".checkpoint.pt",
    ]
    old = f".checkpoint.{dead}.pt.old"
    for name in [*keep, old]:
        (tmp_path / name).touch()
    files.write_text(tmp_path / "checkpoint.pt", "new")
    assert {path.name for path in tmp_path.iterdir()} == {*keep, old, "checkpoint.pt"}
    hour = time.time() - 4000
    os.utime(tmp_path / f".checkpoint.{dead}.pt", (hour, hour))
    files.write_text(tmp_path / "checkpoint.pt", "newer")
    assert not (tmp_path / f".checkpoint.{dead}.pt").exists()


def full_disk(folder):
    raise OSError(errno.ENOSPC, "No space left on device", str(folder))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("Can't write data (file write failed: time = ...)"),  # h5py
        RuntimeError("PytorchStreamWriter failed writing file data/12: file write failed"),  # torch
        ValueError("can't write to zip file"),
    ],
)
def test_a_full_disk_names_the_file_whatever_a_library_says(error, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "check_writable", full_disk)
    path = tmp_path / "model.nir"
    path.write_text("old")

    def write():
        with files.replacing(path) as temporary:
            temporary.touch()
            raise error

    with pytest.raises(OSError, match="No space left") as raised:
        write()
    assert files.reason(raised.value) == f"{path}: No space left on device"
    assert [p.name for p in tmp_path.iterdir()] == ["model.nir"]
    assert path.read_text() == "old"


def test_an_error_of_the_writer_stays_what_it_was(tmp_path):
    with pytest.raises(RuntimeError, match="its own"), files.replacing(tmp_path / "a.npz"):
        raise RuntimeError("its own")


def test_the_path_that_was_meant_is_named(tmp_path):
    (tmp_path / "spikes.npz").mkdir()
    with pytest.raises(IsADirectoryError) as raised, files.replacing(tmp_path / "spikes.npz") as temporary:
        np.savez(temporary, a=1)
    assert files.reason(raised.value) == f"{tmp_path / 'spikes.npz'}: Is a directory"


@pytest.mark.parametrize("out", ["file/x", "a" * 300, "a\0b", "\ud800", "file"])
def test_a_folder_for_results_that_cannot_be_is_refused(out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^--out "):
        files.results_folder(out, "study")


def test_a_folder_that_takes_no_bytes_is_refused_although_it_is_there(tmp_path, monkeypatch):
    def fsync(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(InputError, match=r"^--out .*x: No space left on device$"):
        files.results_folder(str(tmp_path / "x"), "study")


def test_numbered_folders_need_a_folder_around_them(tmp_path):
    (tmp_path / "results").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="results"):
        files.new_folder(tmp_path / "results", "study")


def test_a_folder_without_results_goes_again(tmp_path):
    for content in (False, True):
        folder = files.results_folder(str(tmp_path / f"out{content}"), "study")
        if content:
            files.write_text(folder / "a.json", "1")
        with pytest.raises(KeyError), files.removed_if_empty(folder):
            raise KeyError
        assert folder.exists() == content


def test_one_of_two_gets_a_file(tmp_path):
    files.create_text(tmp_path / "config.json", "first")
    with pytest.raises(FileExistsError):
        files.create_text(tmp_path / "config.json", "second")
    assert (tmp_path / "config.json").read_text() == "first"


def test_bytes_of_a_name_that_are_no_text_are_written_as_escapes(tmp_path):
    files.write_text(tmp_path / "report.md", os.fsdecode(b"run-\xff"))
    assert (tmp_path / "report.md").read_text() == r"run-\udcff"


def test_the_reason_of_an_error_without_a_number():
    error = OSError("1048579 requested and 12800 written")  # numpy
    assert files.reason(error) == "1048579 requested and 12800 written"
    error.filename = "a.bin"
    assert files.reason(error) == "a.bin: 1048579 requested and 12800 written"
