"""The cache folder, atomic writing of files, and the versions of packages that files record."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import itertools
import json
import os
import platform
import re
import stat
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from mtt_brian.errors import CacheWarning, DataWarning, InputError
from mtt_brian.text import printable, shown

#: Bytes of the probe file that tests whether a folder can be written to.
_PROBE = 1 << 16
#: Temporary names of `replacing`: the process, a counter within it, and its `_space`.
_TEMPORARY = re.compile(r"\..*\.(?P<pid>\d+)-\d+-(?P<space>[0-9a-f]{8})(\.[^.]*)?")
#: Seconds after which a temporary file counts as left over if its name does not contain the machine of its process.
_OLD = 3600
_numbers = itertools.count()


def cache_folder() -> Path:
    """The folder for generated data: $MTT_BRIAN_CACHE, or mtt_brian in the user's cache folder.

    For a user without a home folder it is a folder of this user in the temporary folder, with a warning.

    Raises:
        InputError: if one of the variables starts with the home of a user who does not exist.
    """
    if folder := os.environ.get("MTT_BRIAN_CACHE"):
        return expanded(folder, "MTT_BRIAN_CACHE")
    if base := os.environ.get("XDG_CACHE_HOME"):
        return expanded(base, "XDG_CACHE_HOME") / "mtt_brian"
    try:
        return Path.home() / ".cache" / "mtt_brian"
    except RuntimeError:
        return _cache_without_home()


def expanded(path: str, what: str) -> Path:
    """A path with ``~`` and ``~user`` replaced.

    Raises:
        InputError: if there is no such user or no such home; the message contains ``what``.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        home = Path(path).parts[0]
        raise InputError(f"{what}: {path}: {home} is not a home folder here; write the path out") from None


@functools.cache
def _cache_without_home() -> Path:
    folder = Path(tempfile.gettempdir()) / f"mtt_brian-{getattr(os, 'getuid', int)()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()
        # Kernels in it are run: it must belong to this user, and no other user may write to it.
        own = stat.S_ISDIR(about.st_mode) and (
            os.name != "posix" or (about.st_uid == os.getuid() and not about.st_mode & 0o077)
        )
    except OSError:
        own = False
    if not own:
        folder = Path(tempfile.mkdtemp(prefix="mtt_brian-"))
    warn(f"this user has no home folder; generated data are kept in {folder}. MTT_BRIAN_CACHE names another folder")
    return folder


def as_path(path: object, name: str) -> Path:
    """The path in an argument of a public function.

    Args:
        path: the argument.
        name: of the argument, for the message.

    Raises:
        InputError: for another object than a text or a path, and for a text that no file can have as its name.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise InputError(f"{name} must be the path of a file or folder, not {shown(path)}")
    if not text or "\0" in text:
        raise InputError(f"{name} must be the path of a file or folder, not {shown(text)}, which no file can have")
    return Path(text)


def read_regular(path: Path, most: int | None = None) -> bytes:
    """The bytes of a regular file; a pipe or a device might never end.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        OSError: naming the file, if it cannot be read, is no regular file, or has more bytes.
    """
    # Opening a pipe blocks until there is a writer.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe or a device"
            raise OSError(errno.EINVAL, f"is {kind}, not a file", str(path))
        if most is not None and about.st_size > most:
            raise OSError(errno.EFBIG, f"{about.st_size:,} bytes, more than the {most:,} that are accepted", str(path))
        with open(handle, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(handle)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        OSError: if it cannot be read.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_replaceable(folder: Path, names: Iterable[str], inputs: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Checks that no folder, and no input of the command, has the name of a file that will be written or removed.

    Args:
        folder: of the files.
        names: of the files.
        inputs: paths that the command reads; some may be no files.

    Raises:
        InputError: naming the first one.
    """
    read = [Path(path) for path in inputs]
    for name in names:
        path = folder / name
        if path.is_dir():
            raise InputError(f"{path}: is a folder, and a file of this name is to be written; give another --out")
        if path.exists() and any(other.exists() and path.samefile(other) for other in read):
            raise InputError(f"{path}: is read by this command, and would be replaced; give another --out")


def warn(message: str, category: type[UserWarning] = CacheWarning) -> None:
    """Warns that a cached file was damaged, or that nothing can be cached (`CacheWarning`); the program continues.

    Gives a warning, or calls the function of `warnings_to`.
    """
    if _show is not None:
        _show(message)
    else:
        warnings.warn(message, category, stacklevel=3)


def warn_of_data(message: str) -> None:
    """`warn` of data that are not read (`DataWarning`); commands print the same sentence once."""
    if _show is None or message not in _said:
        _said.add(message)
        warn(message, DataWarning)


_said: set[str] = set()


_show: Callable[[str], None] | None = None


@contextmanager
def warnings_to(show: Callable[[str], None]) -> Iterator[None]:
    """Within the block `warn` calls this function: Brian2 would print a Python warning on several lines."""
    global _show, _said
    before = _show, _said
    _show, _said = show, set()
    try:
        yield
    finally:
        _show, _said = before


def message_of(error: Exception) -> str:
    """The message of the error; of the system without a path; the name of the error's class where there is none."""
    if not isinstance(error, OSError):
        return str(error) or type(error).__name__
    return error.strerror or " ".join(map(str, error.args)) or type(error).__name__


def reason(error: OSError) -> str:
    """``"PATH: message of the system"``; without a path, the message alone."""
    text = message_of(error)
    path = error.filename if error.filename2 is None else error.filename2
    return text if path is None else f"{os.fsdecode(path) if isinstance(path, str | bytes) else path}: {text}"


def new_folder(parent: Path, stem: str) -> Path:
    """``parent/<stem>-<number>`` with the first free number, made here.

    Raises:
        OSError: if it cannot be made.
    """
    for number in itertools.count(1):
        folder = parent / f"{stem}-{number:03d}"
        try:
            make_folder(folder, new=True)
        except FileExistsError:
            if not os.path.lexists(folder):  # the parent exists and is no folder
                raise
            continue
        return folder
    raise AssertionError("unreachable")


#: Absolute paths of the folders that this process has made.
_made: set[Path] = set()


def make_folder(folder: Path, new: bool = False) -> None:
    """Makes a folder and those around it; `removed_if_empty` removes no others.

    Args:
        folder: may exist, unless it is to be ``new``.

    Raises:
        OSError: if it cannot be made.
    """
    folder = folder.absolute()
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=not new)
    _made.update(missing)


def check_writable(folder: Path) -> None:
    """Write a probe file and remove it.

    Raises:
        OSError: if the folder cannot be written to, or the disk is full; names the folder.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        _name(error, folder)
        raise


def results_folder(out: str | None, study: str) -> Path:
    """``out``, or the first free ``results/<study>-<number>``; created, and tested by writing to it, before the
    computation starts.

    Raises:
        InputError: if it cannot be made, or cannot be written to.
    """
    if out == "":
        raise InputError("--out: the name of the folder is empty")
    try:
        if out is None:
            folder = new_folder(Path("results"), study)
        else:
            folder = Path(out)
            make_folder(folder)
        with removed_if_empty(folder):
            check_writable(folder)
    except (OSError, ValueError) as error:  # ValueError: a NUL or half a surrogate pair in the name
        raise InputError(f"--out {out or 'results'}: {getattr(error, 'strerror', None) or error}") from None
    remove_left_behind(folder)
    return folder


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """After an error in the block removes the folder and those around it that this process has made and are empty."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            folder = folder.absolute()
            for path in (folder, *folder.parents):
                if path not in _made:
                    break
                path.rmdir()
        raise


def contents(out: Path) -> str:
    """``"results/x: a.png, report.json"``."""
    return printable(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file in UTF-8 atomically.

    Bytes of a file name that are not UTF-8 are written as escapes.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Writes a JSON file atomically, see `json_text`."""
    write_text(path, json_text(content))


def json_text(content: Any) -> str:
    """Content as indented JSON with a line end, see `plain`."""
    return json.dumps(plain(content), indent=2) + "\n"


def plain(content: Any) -> Any:
    """Content of lists, texts and numbers for JSON: a named tuple, such as an `Estimate`, becomes an object."""
    if hasattr(content, "_asdict"):
        content = content._asdict()
    if isinstance(content, Mapping):
        return {key: plain(value) for key, value in content.items()}
    return [plain(value) for value in content] if isinstance(content, list | tuple) else content


def versions(*packages: str) -> dict[str, str]:
    """The `package_versions`, and the platform."""
    return package_versions(*packages) | {"platform": platform.platform()}


def package_versions(*packages: str) -> dict[str, str]:
    """Versions of Python, of this package and of the packages that it computes with, which results are bound to."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in ("mtt_brian", *packages)}


def create_text(path: Path, text: str) -> None:
    """Writes a new text file. If several processes write it at once, one succeeds.

    Raises:
        FileExistsError: if there is a file.
    """
    with open(path, "x", encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            path.unlink(missing_ok=True)
            error.filename = str(path)
            raise


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to.

    At the end of the block the file is synchronised (fsync) and renamed to ``path``. After an error it is removed.
    Temporary files of killed processes are removed, too.

    Raises:
        InputError: for a path that cannot be one.
        OSError: naming ``path``, also if a library reports a full disk by an error of another type.
    """
    path = as_path(path, "path")
    remove_left_behind(path.parent, path.name)
    temporary = path.with_name(f".{path.stem[:40]}.{os.getpid()}-{next(_numbers)}-{_space()}{path.suffix}")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        with contextlib.suppress(OSError):  # not every system can synchronise a folder
            _sync(path.parent)
    except OSError as error:
        if error.errno is None:
            _check_room(path, error)
        if error.filename is None or error.filename == str(temporary):
            _name(error, path)
        raise
    except (RuntimeError, ValueError) as error:
        _check_room(path, error)
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _name(error: OSError, path: Path) -> None:
    """Lets an error name this path alone: with None as the second one its text would end in "-> None"."""
    error.filename = str(path)
    del error.filename2


def _sync(path: Path) -> None:
    """Synchronises a file, or the names in a folder, with the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_room(path: Path, cause: Exception) -> None:
    """Whether a library failed because it could not write: torch and h5py do not raise an `OSError` then."""
    try:
        check_writable(path.parent)
    except OSError as error:
        _name(error, path)
        raise error from cause


# ---------------------------------------------------------------------------------------------------- left behind


def remove_left_behind(folder: Path, name: str | None = None) -> None:
    """Removes the temporary files of `replacing` whose process has ended.

    Args:
        folder: nothing happens if it cannot be read.
        name: of a file in it, whose temporary files of version 0.1.0 are removed, too. These do not name the machine:
            they are removed if they are an hour old.
    """
    before = (
        re.compile(rf"\.{re.escape(Path(name).stem)}\.(?P<pid>\d+){re.escape(Path(name).suffix)}") if name else None
    )
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                continue
            if found := _TEMPORARY.fullmatch(entry.name):
                dead = found["space"] == _space() and not _lives(int(found["pid"]))
            elif before and (found := before.fullmatch(entry.name)):
                dead = time.time() - entry.stat().st_mtime > _OLD and not _lives(int(found["pid"]))
            else:
                continue
            if dead:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


@functools.cache
def _space() -> str:
    """Identifies the machine and, in a container, its process namespace."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbers = ""
    return hashlib.sha256(f"{platform.node()} {numbers}".encode()).hexdigest()[:8]


def _lives(pid: int) -> bool:
    if os.name != "posix":
        return True  # os.kill would end it
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
