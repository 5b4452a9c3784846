"""Cache of the machine code of compiled kernels, so that only the first process compiles.

Numba's own cache does not check its files: with a damaged file every later process ends with a traceback, or runs
damaged code. Two processes that write the index at once can mix up their entries. Here every kernel, signature and type
of processor has its own file, which begins with a digest. A damaged file is removed, and its kernel is compiled again.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.serialize import dumps

from mtt_brian.errors import InputError
from mtt_brian.files import cache_folder, check_writable, read_regular, reason, replacing, warn
from mtt_brian.progress import notice

_DIGEST = hashlib.sha256().digest_size
#: Options of ``numba.njit`` for kernels that allocate nothing: without numba's runtime (NRT), which counts the
#: references to arrays. ``_nrt`` is a private option of numba.
WITHOUT_RUNTIME: Mapping[str, bool] = MappingProxyType({"_nrt": False})


def kept(sources: Iterable[Path], before_compiling: str | None = None) -> Callable[[Any], Any]:
    """Decorates a function of ``numba.njit``: its machine code is stored in `cache_folder`.

    Args:
        sources: the files that it depends on, its own included; a change of any of them starts a new folder.
        before_compiling: a `notice` that is shown before compilation; each text once per process.
    """
    folder = _folder(sources)

    def decorate(dispatcher: Any) -> Any:
        if numba.config.DISABLE_JIT:
            raise InputError("NUMBA_DISABLE_JIT is set, and kernels would not be compiled: unset it")
        if (threads := numba.config.NUMBA_NUM_THREADS) < 1:
            raise InputError(f"NUMBA_NUM_THREADS is {threads}; accepted are whole numbers >= 1")
        runtime = dispatcher.targetoptions.get("_nrt", True)
        dispatcher._cache = _cache_in(folder, before_compiling, runtime)(dispatcher.py_func)
        return dispatcher

    return decorate


def _folder(sources: Iterable[Path]) -> Path:
    """Numba detects a change in the kernel's own file only, not in the file of a function that it calls.

    This file belongs to the sources: its options become part of the machine code.
    """
    content = b"".join(path.read_bytes() for path in sorted({*sources, Path(__file__)}))
    return cache_folder() / f"kernels-{hashlib.sha256(content).hexdigest()[:16]}"


@cache
def _cache_in(folder: Path, before_compiling: str | None, runtime: bool) -> type[FunctionCache]:
    """Numba's cache of one function with files in this folder; see `kept`.

    Numba's ``load_overload`` first prepares the compiler and compiles numba's runtime, which takes 50 MB and most of
    the time of a load. A kernel without the runtime (`WITHOUT_RUNTIME`) needs neither. Numba prepares the compiler
    before it compiles.

    Args:
        folder, before_compiling: see `kept`.
        runtime: whether the kernel uses numba's runtime.
    """

    class Locator(_CacheLocator):
        def __init__(self, py_func: Any) -> None:
            self._line = py_func.__code__.co_firstlineno

        @classmethod
        def from_function(cls, py_func: Any, py_file: str) -> Locator:
            return cls(py_func)

        def get_cache_path(self) -> str:
            return str(folder)

        def get_source_stamp(self) -> str:
            return folder.name  # whose name contains a digest of the sources

        def get_disambiguator(self) -> str:
            return str(self._line)

        def ensure_cache_path(self) -> None:
            """`Files.save` makes the folder, and continues without it if that fails."""

    class Impl(CompileResultCacheImpl):
        _locator_classes = (Locator,)

    class Kept(FunctionCache):
        _impl_class = Impl

        def __init__(self, py_func: Any) -> None:
            super().__init__(py_func)
            self._cache_file = Files(folder, self._impl.filename_base)

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            try:
                load = super().load_overload if runtime else self._load_overload
                found = load(sig, target_context)
            except Exception as error:  # the file is undamaged, but numba cannot make a kernel of it
                path = self._cache_file.path(self._index_key(sig, target_context.codegen()))
                _remove(path, f"{type(error).__name__}: {error}")
                found = None
            if found is None and before_compiling is not None:
                _notice_once(before_compiling)
            return found

    return Kept


@cache
def _notice_once(text: str) -> None:
    notice(text)


class Files:
    """The machine code of one function: one file per key, instead of numba's ``IndexDataCacheFile``.

    Args:
        folder: made when the first file is stored.
        name: of the function; first part of the files' names.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name

    def path(self, key: Any) -> Path:
        """Path of the file for a key: signature, type of processor, byte code."""
        return self._folder / f"{self._name}.{_digest(key).hex()[:16]}.nbc"

    def save(self, key: Any, data: Any) -> None:
        """Stores what numba makes a kernel of; warns once if that fails."""
        if _unusable(self._folder):
            return
        path, content = self.path(key), dumps((_described(key), data))
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(hashlib.sha256(content).digest() + content)
        except OSError as error:
            warn(f"{reason(error)}; a compiled kernel is not kept and will be compiled again")

    def load(self, key: Any) -> Any:
        """The stored value for a key, or None; a damaged file is removed."""
        path = self.path(key)
        try:
            content = read_regular(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            if not _unusable(self._folder):
                _remove(path, error.strerror or str(error))
            return None
        digest, content = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(content).digest() != digest:
            _remove(path, "not what was written")
            return None
        described, data = pickle.loads(content)
        return data if described == _described(key) else None

    def flush(self) -> None:
        """Removes all files of this function."""
        for path in self._folder.glob(f"{self._name}.*.nbc"):
            path.unlink(missing_ok=True)


def _described(key: Any) -> str:
    """A key as text: numba's types differ if, and only if, their text does."""
    return repr((numba.__version__, *key))


def _digest(key: Any) -> bytes:
    return hashlib.sha256(_described(key).encode()).digest()


@cache
def _warn_once(text: str) -> None:
    warn(text)


@cache
def _unusable(folder: Path) -> bool:
    """Whether no file can be written to a folder; warns once for all folders with the same reason."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder)
    except OSError as error:
        _warn_once(
            f"{reason(error)}: compiled kernels cannot be kept there, and every process will compile them again; set"
            " MTT_BRIAN_CACHE to a folder that can be written"
        )
        return True
    return False


def _remove(path: Path, why: str) -> None:
    """Removes a damaged file, or an empty folder of its name; if that fails, every process compiles the kernel."""
    try:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        done = "removed, as others like it in this folder, and compiled again"
    except OSError as error:
        done = f"cannot be removed ({error.strerror or error}); every process will compile this kernel again"
    if path.parent not in _told:
        _told.add(path.parent)
        warn(f"{path}: damaged ({why}); {done}")


#: Folders with a warning about damage; a power cut rarely damages one file alone.
_told: set[Path] = set()
