"""Requirements of the Brian2 engines for compiling: installed programs, and complete compiled files."""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import logging
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Any

from mtt_brian.engines.brian2 import internals
from mtt_brian.errors import InputError, MachineError
from mtt_brian.files import replacing, warn

_log = logging.getLogger(__name__)
_INSTALL = "install a C++ compiler (Debian, Ubuntu: apt install g++ make python3-dev)"


class CannotCompile(MachineError):
    """A program that compiles is missing, or it failed.

    Attributes:
        reason: what happened, without what to do about it.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


# --------------------------------------------------------------------------------------------- projects of C++ files


def check_project_programs(engine: str) -> None:
    """Look for what compiles a project of Brian2's.

    Raises:
        CannotCompile: naming the programs that are missing.
    """
    if missing := missing_for_projects():
        raise CannotCompile(f"engine={engine!r} needs {' and '.join(missing)}, not found: {_INSTALL}, or {_instead()}")


def missing_for_projects() -> list[str]:
    """Programs that compile a project of Brian2's and are not found."""
    return _missing(["make", os.environ.get("CXX", "g++")])


def check_compiled(engine: str, returncode: int, stderr: str) -> None:
    """What became of a project's makefile.

    Raises:
        CannotCompile: with the compiler's first error, if it failed.
    """
    if returncode:
        raise CannotCompile(
            f"engine={engine!r}: compiling failed with status {returncode}: {_first_error(stderr)}; {_instead()}"
        ) from RuntimeError(stderr[-2000:])


def _instead() -> str:
    return "take engine='exact', which gives the same spikes"


def _missing(commands: list[str]) -> list[str]:
    """Programs that are not found; of a command with arguments, the first word."""
    programs = [command.split()[0] for command in commands if command.strip()]
    return [program for program in dict.fromkeys(programs) if shutil.which(program) is None]


def _first_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "it printed nothing")


# ------------------------------------------------------------------------------------------------- Brian2's Cython


def runtime_target(wanted: str) -> str:
    """``"cython"`` or ``"numpy"``, for ``"auto"`` as well: Cython where it works, with a warning in the log where not.

    Raises:
        CannotCompile: if cython is wanted, but a program is missing.
    """
    if wanted == "numpy":
        return wanted
    missing = missing_for_cython()
    if wanted == "cython":
        if missing:
            raise CannotCompile(
                f"engine='brian2' with target='cython' needs {' and '.join(missing)}, not found: {_INSTALL}, or take"
                " target='numpy' or engine='exact', which give the same spikes"
            )
        return wanted
    if missing:
        warn_of_numpy(f"{' and '.join(missing)} not found")
        return "numpy"
    with whole_extensions(), internals.caught_messages() as records:
        target = internals.automatic_target()
    if target != "cython":
        failed = [message for _, _, message in records if message.startswith(internals.NO_CYTHON)]
        warn_of_numpy(failed[0].splitlines()[0] if failed else "a test of it failed")
    return target


@functools.cache
def warn_of_numpy(reason: str) -> None:
    """Logs, once for each reason, that Cython cannot be used."""
    _log.warning(
        "brian2: Cython cannot be used (%s); using numpy instead, which gives the same spikes but takes longer", reason
    )


def missing_for_cython() -> list[str]:
    """What is missing of Cython and of the programs that compile its code.

    Brian2 only tries whether Cython works, and finds that it does where what it tries was compiled at another time.
    """
    missing = [] if util.find_spec("Cython") else ["the package Cython"]
    from distutils.ccompiler import new_compiler  # of setuptools from Python 3.12 on; Brian2 asks the same
    from distutils.sysconfig import customize_compiler

    compiler: Any = new_compiler()
    if compiler.compiler_type != "unix":
        return missing
    customize_compiler(compiler)
    commands = [getattr(compiler, name, None) for name in ("compiler_so_cxx", "linker_so_cxx")]
    if None in commands:  # older ones compile C++ by the C compiler
        commands = [getattr(compiler, name) for name in ("compiler_so", "compiler_cxx", "linker_so")]
    return missing + _missing([command[0] for command in commands if command])


@contextmanager
def compiling() -> Iterator[None]:
    """Within it, damaged extensions are compiled again, and what then goes wrong with compiling is `CannotCompile`."""
    try:
        with whole_extensions():
            yield
    except InputError:
        raise
    except Exception as error:
        reason = _of_compiling(error)
        if reason is None:
            raise
        raise CannotCompile(
            f"engine='brian2', target='cython': compiling failed ({reason}): {_INSTALL}, or take target='numpy' or"
            " engine='exact', which give the same spikes",
            reason,
        ) from error


def _of_compiling(error: BaseException | None) -> str | None:
    """The message of a compiler or of its cache, if that is where an error of Brian2's comes from."""
    reason = None
    while error is not None:
        if isinstance(error, ImportError | OSError) or _is_of_distutils(error):
            reason = reason or " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, subprocess.CalledProcessError) and reason:
            reason = f"{error.cmd[0]} failed with status {error.returncode}"
        error = error.__cause__ or error.__context__
    return reason


def _is_of_distutils(error: BaseException) -> bool:
    """There may be two: Python 3.11's own, and that of setuptools."""
    return any("distutils" in base.__module__ for base in type(error).__mro__)


def fall_back(error: CannotCompile) -> None:
    """Logs that numpy takes over, and removes the half-built network, about whose parts Brian2 would warn."""
    warn_of_numpy(error.reason)
    with internals.caught_messages():
        error.__cause__ = error.__context__ = error.__traceback__ = None
        gc.collect()


@contextmanager
def whole_extensions() -> Iterator[None]:
    """Within the block, Brian2's Cython cache removes damaged extensions and compiles them again.

    A process that is stopped while the linker writes, or a machine that loses power, leaves such a file. Brian2 would
    load it for ever after. A digest beside every extension that was loaded once tells them apart; Brian2 holds the lock
    of the extension while it loads it.
    """

    def load_whole(load: Callable[..., Any], module_path: str, *arguments: Any, **options: Any) -> Any:
        path = Path(module_path)
        if path.is_file() and (damage := _damage(path)):
            _remove(path, damage)
        there = path.is_file()
        if not there:
            with contextlib.suppress(OSError):
                _beside(path).unlink(missing_ok=True)
        try:
            module = load(module_path, *arguments, **options)
        except ImportError as error:
            if not there:
                raise
            if sys.path[0] == str(path.parent):  # where Brian2 leaves it
                sys.path.pop(0)
            _remove(path, str(error))
            module = load(module_path, *arguments, **options)
        if module is None:  # Brian2 would go on without this piece of the network
            raise ImportError(f"Cython cannot translate {path.with_suffix('.pyx')}")
        _keep_digest(path)
        return module

    with internals.extension_loader(load_whole):
        yield


def _remove(path: Path, why: str) -> None:
    for file in (path, _beside(path)):
        file.unlink(missing_ok=True)
    warn(f"{path}: damaged ({why}); removed, and compiled again")


def _damage(path: Path) -> str | None:
    """The damage of an extension; None if no damage is found."""
    try:
        kept = _beside(path).read_text(encoding="ascii")
    except FileNotFoundError:  # compiled by Brian2 alone
        if not _is_whole(path):
            return "cut off"
        return None if f"PyInit_{_module(path)}".encode() in path.read_bytes() else "it is another extension"
    except (OSError, ValueError):
        return "its digest cannot be read"
    return None if kept == _digest(path) else "not what was compiled"


def _keep_digest(path: Path) -> None:
    """Write the digest of an extension beside it, where there is none and where that is possible."""
    beside = _beside(path)
    if path.is_file() and not beside.exists():
        with contextlib.suppress(OSError), replacing(beside) as temporary:
            temporary.write_text(_digest(path), encoding="ascii")


def _digest(path: Path) -> str:
    """Of the name, too: a whole extension under the name of another one is not what was compiled."""
    return hashlib.sha256(path.name.encode() + b"\0" + path.read_bytes()).hexdigest()


def _beside(path: Path) -> Path:
    """Ends in ``.lib``: `brian2.clear_cache` refuses a folder with files of endings that it does not expect there."""
    return path.with_name(f"{path.name}.sha256.lib")


def _module(path: Path) -> str:
    return path.name.split(".", 1)[0]


def _is_whole(path: Path) -> bool:
    """Whether an ELF file reaches to the end of its section table, which linkers put last; other kinds pass unseen.

    The loader does not check that, and a process that touches the missing part is killed.
    """
    if not sys.platform.startswith("linux"):
        return True
    with open(path, "rb") as file:
        header = file.read(64)
    if len(header) < 64 or header[:4] != b"\x7fELF":
        return False
    is_64, order = header[4] == 2, "<" if header[5] == 1 else ">"
    (offset,) = struct.unpack_from(f"{order}{'Q' if is_64 else 'I'}", header, 40 if is_64 else 32)
    size, count = struct.unpack_from(f"{order}HH", header, 58 if is_64 else 46)
    return path.stat().st_size >= offset + size * count
