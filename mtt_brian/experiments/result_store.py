"""Results of a study or an evaluation, written to disk one by one."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from mtt_brian.errors import InputError
from mtt_brian.files import plain, read_regular, reason, warn, write_text
from mtt_brian.progress import progress_bar
from mtt_brian.text import printable, shown

#: Key of a result: texts, numbers, None and tuples of these.
Key: TypeAlias = tuple[Any, ...]

_SEAL = "sha256"


class ResultStore(Mapping[Key, Any]):
    """Results by key in one file, to which a line is appended for each; a study that was stopped computes the rest.

    The file has a JSON object per line: first the settings, then keys with their results. Every line contains its own
    SHA-256. A killed process loses only its current result: an incomplete last line is removed. Other damaged lines are
    computed again, with a warning; the damaged file is moved aside.

    Args:
        path: the file; read if it exists.
        settings: all values besides the keys that affect the results (digests of networks, recordings, versions),
            JSON-able.

    Raises:
        InputError: if the file belongs to other settings (it names them), or cannot be moved aside; if another process
            has a store in this folder.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = _as_read(settings)
        self._results: dict[Key, Any] = {}
        self._lock = _lock_of(path.parent)
        if os.path.lexists(path):
            self._read()

    def __getitem__(self, key: Key) -> Any:
        return self._results[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def keep(self, key: Key, result: Any) -> Any:
        """Append a result to the file.

        Args:
            key: of the result; a later result replaces an earlier one.
            result: JSON-able.

        Returns:
            The result in its form after reading: with lists for tuples, objects for named tuples, and text for their
            keys.

        Raises:
            OSError: naming the file.
        """
        lines = [_sealed({"key": key, "result": result})]
        before = self.path.stat().st_size if self.path.exists() else 0
        if not before:
            lines.insert(0, _sealed({"settings": self.settings}))
        try:
            with open(self.path, "ab") as file:
                file.write("".join(lines).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):  # the next result must not follow half a line
                os.truncate(self.path, before) if before else self.path.unlink()
            error.filename = str(self.path)
            raise
        self._results[key] = _as_read(result)
        return self._results[key]

    def once(self, key: Key, compute: Callable[[], Any]) -> Any:
        """The result of a key: the stored one, or that of ``compute``, which is stored."""
        return self[key] if key in self else self.keep(key, compute())

    def fill(self, keys: Iterable[Key], compute: Callable[..., Any], description: str) -> dict[Key, Any]:
        """The results of ``keys``, in this order; missing results are computed and stored one by one.

        Args:
            keys: of the results.
            compute: called with the elements of a key; returns its JSON-able result.
            description: of the progress bar.
        """
        keys = list(keys)
        missing = [key for key in dict.fromkeys(keys) if key not in self]
        with progress_bar(
            total=len(keys), initial=len(keys) - len(missing), description=description, unit="cell"
        ) as bar:
            for key in missing:
                bar.set_postfix_str(printable(_in_words(key)))
                self.keep(key, compute(*key))
                bar.update()
        return {key: self[key] for key in keys}

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        """Reads the results of the file, and repairs a damaged file."""
        try:
            settings, entries, damage = _parse(read_regular(self.path))
        except (OSError, ValueError) as error:
            aside = _move_aside(self.path)
            why = reason(error) if isinstance(error, OSError) else error
            warn(f"{self.path}: not the results of a study ({why}); moved to {aside}, and computed again")
            return
        self._check(settings)
        self._results = entries
        if damage == [_UNFINISHED]:
            self._rewrite()
        elif damage:
            aside = _move_aside(self.path)
            self._rewrite()
            warn(f"{self.path}: {damage[0]}; moved to {aside}, and the damaged results are computed again")

    def _check(self, found: dict[str, Any]) -> None:
        differing = sorted(k for k in found.keys() | self.settings.keys() if found.get(k) != self.settings.get(k))
        if differing:
            raise InputError(
                f"{self.path} holds results of other settings: "
                + "; ".join(f"{k} was {_brief(found.get(k))}, is {_brief(self.settings.get(k))}" for k in differing)
                + ". Give another --out"
            )

    def _rewrite(self) -> None:
        lines = [_sealed({"key": key, "result": result}) for key, result in self._results.items()]
        write_text(self.path, "".join([_sealed({"settings": self.settings}), *lines]))


class _Lock:
    """Holds a folder for this process as long as the object exists."""

    def __init__(self, handle: int) -> None:
        weakref.finalize(self, os.close, handle)


#: By device and number of the folder: all stores of a process in one folder share its lock.
_locks: weakref.WeakValueDictionary[tuple[int, int], _Lock] = weakref.WeakValueDictionary()


def _lock_of(folder: Path) -> _Lock | None:
    """The lock of a folder; None where the system or the file system has none.

    Raises:
        InputError: if another process has it.
    """
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    about = os.fstat(handle)
    key = about.st_dev, about.st_ino
    if (held := _locks.get(key)) is not None:
        os.close(handle)
        return held
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            raise InputError(
                f"{folder}: another process writes its results there; wait for its end, or give another --out"
            ) from None
        return None
    lock = _locks[key] = _Lock(handle)
    return lock


_UNFINISHED = "the last line has no end"


def _parse(content: bytes) -> tuple[dict[str, Any], dict[Key, Any], list[str]]:
    """Settings, results, and what is damaged besides.

    Raises:
        ValueError: if the settings are damaged.
    """
    *lines, rest = content.split(b"\n")
    if not lines:
        raise ValueError("the first line has no end")
    settings = _unsealed(lines[0], ("settings",))["settings"]
    if not isinstance(settings, dict):
        raise ValueError("the settings must be an object")
    results: dict[Key, Any] = {}
    damage = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            entry = _unsealed(line, ("key", "result"))
            key = _as_key(entry["key"])
            if not isinstance(key, tuple):
                raise ValueError("the key must be a list")
            results[key] = entry["result"]
        except ValueError as error:
            damage.append(f"line {number} is damaged ({error})")
    return settings, results, damage + [_UNFINISHED] * bool(rest)


def _sealed(content: Mapping[str, Any]) -> str:
    """A JSON object as one line with a digest of its values, so that changes of the file are detected."""
    content = _as_read(content)
    return json.dumps({**content, _SEAL: _digest(content)}) + "\n"


def _unsealed(line: bytes, keys: Iterable[str]) -> dict[str, Any]:
    """The object of `_sealed`, without the digest.

    Raises:
        ValueError: if the line is no JSON object with these keys, or it is not what was written.
    """
    try:
        content = json.loads(line.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict) or content.keys() != {*keys, _SEAL}:
        raise ValueError(f"not an object of {', '.join(keys)} and {_SEAL}")
    if content.pop(_SEAL) != _digest(content):
        raise ValueError("not what was written")
    return content


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _as_read(content: Any) -> Any:
    """Content after a round trip through JSON."""
    return json.loads(json.dumps(plain(content)))


def _as_key(value: Any) -> Any:
    """A key with tuples, from the lists of JSON."""
    return tuple(map(_as_key, value)) if isinstance(value, list) else value


def _in_words(part: Any) -> str:
    """``"mtt-0, sum"``."""
    return ", ".join(map(_in_words, part)) if isinstance(part, tuple) else str(part)


def _brief(value: Any) -> str:
    return shown(value, 200)


def _move_aside(path: Path) -> Path:
    """Moves a file to the first free ``<name>.damaged-<number>``, and returns that path."""
    aside = next(p for n in itertools.count(1) if not os.path.lexists(p := path.with_name(f"{path.name}.damaged-{n}")))
    try:
        path.rename(aside)
    except OSError as error:
        raise InputError(f"{path}: not the results of a study, and it cannot be moved away: {error.strerror}") from None
    return aside
