"""How files are written: whole or not at all, on the disk, and without what dead processes have left."""

import errno
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from mtt_brian import files
from mtt_brian.errors import CacheWarning, InputError


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
        f".checkpoint.{os.getpid()}-0-{space}.pt",  # of a running process
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
def test_the_message_for_a_full_disk_names_the_file_for_every_library(error, tmp_path, monkeypatch):
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


def test_an_error_of_the_writer_is_not_changed(tmp_path):
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


def test_a_folder_on_a_full_disk_is_refused(tmp_path, monkeypatch):
    def fsync(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "own").mkdir()
    for name in ("x", "a/b/x", "own"):
        with pytest.raises(InputError, match=r"^--out .*: No space left on device$"):
            files.results_folder(str(tmp_path / name), "study")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^--out results: No space left on device$"):
        files.results_folder(None, "study")
    assert [path.name for path in tmp_path.iterdir()] == ["own"], "folders that were there stay, others go"


def test_numbered_folders_need_a_folder_around_them(tmp_path):
    (tmp_path / "results").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="results"):
        files.new_folder(tmp_path / "results", "study")


def test_a_folder_without_results_is_removed(tmp_path):
    (tmp_path / "own").mkdir()
    for content, name in ((False, "a/b"), (True, "c/d"), (False, "own")):
        folder = files.results_folder(str(tmp_path / name), "study")
        if content:
            files.write_text(folder / "a.json", "1")
        with pytest.raises(KeyError), files.removed_if_empty(folder):
            raise KeyError
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {"own", "c", "c/d", "c/d/a.json"}


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


# ------------------------------------------------------------------------------------------------- paths and kinds


@pytest.mark.parametrize("variable", ["MTT_BRIAN_CACHE", "XDG_CACHE_HOME"])
def test_the_home_of_an_unknown_user_is_refused(variable, monkeypatch):
    monkeypatch.delenv("MTT_BRIAN_CACHE", raising=False)
    monkeypatch.setenv(variable, "~nobodyxyz/x")
    with pytest.raises(InputError, match=rf"^{variable}: ~nobodyxyz/x: ~nobodyxyz is not a home folder here"):
        files.cache_folder()


@pytest.mark.parametrize("taken", [None, "a file", "open to others"])
def test_a_user_without_a_home_has_a_separate_cache(taken, tmp_path, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for variable in ("MTT_BRIAN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(files.Path, "home", no_home)
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    usual = tmp_path / f"mtt_brian-{os.getuid()}"
    if taken == "a file":
        usual.touch()
    elif taken is not None:
        usual.mkdir()
        usual.chmod(0o777)
    files._cache_without_home.cache_clear()
    with pytest.warns(CacheWarning, match="this user has no home folder; .* kept in .*MTT_BRIAN_CACHE"):
        folder = files.cache_folder()
    assert files.cache_folder() == folder  # one warning only
    files._cache_without_home.cache_clear()
    assert folder.parent == tmp_path
    assert (folder == usual) is (taken is None)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_only_a_file_is_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert files.read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="5 bytes, more than the 4 that are accepted"):
        files.read_regular(path, 4)
    with pytest.raises(OSError, match="is a folder, not a file"):
        files.read_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        files.read_regular(tmp_path / "nothing")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        for name in (tmp_path / "pipe", "/dev/zero"):
            with pytest.raises(OSError, match="is a pipe or a device, not a file"):
                files.read_regular(name)
