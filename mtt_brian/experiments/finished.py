"""Finished parts of a long evaluation, kept on disk until its report is there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mtt_brian.errors import InputError
from mtt_brian.files import check_replaceable, read_regular, warn, write_text


def sealed(content: Mapping[str, Any], indent: int | None = None) -> str:
    """A JSON object as text with a digest of its values in it, so that what is read is what was written."""
    digest = _digest(json.loads(json.dumps(content)))  # as it will be read: with lists for tuples and text for keys
    return json.dumps({**content, _SEAL: digest}, indent=indent) + "\n"


def unsealed(text: str, keys: Iterable[str]) -> dict[str, Any]:
    """The object of `sealed`, without the digest.

    Raises:
        ValueError: if the text is no JSON object with these keys, or it is not what was written.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict) or content.keys() != {*keys, _SEAL}:
        raise ValueError(f"not an object of {', '.join(keys)} and {_SEAL}")
    if content.pop(_SEAL) != _digest(content):
        raise ValueError("not what was written")
    return content


_SEAL = "sha256"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Finished:
    """A folder with one JSON file per finished part, named by a digest of all that the part is a result of.

    So a part is found again under the same settings only, and those of other settings may lie beside it.

    Args:
        folder: made when the first part is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._used: set[Path] = set()

    def get(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """The part that was kept for these settings, or None; a damaged file is removed, with a warning."""
        path = self._path(settings)
        try:
            kept = unsealed(read_regular(path).decode(), ("settings", "part"))
            if kept["settings"] != json.loads(json.dumps(settings)):
                raise ValueError("the part of other settings")
            if not isinstance(kept["part"], dict):
                raise ValueError("the part is no object")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            with contextlib.suppress(OSError):
                path.unlink()
            warn(f"{path}: damaged ({error}); removed, and computed again")
            return None
        self._used.add(path)
        return kept["part"]

    def check(self, every: Iterable[Mapping[str, Any]]) -> None:
        """Whether the parts of all these settings can be kept, as far as what stands there now decides it.

        Raises:
            InputError: if something else than a folder has the name of the folder, or a folder that of a part.
        """
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            raise InputError(f"{self.folder}: is not a folder, and parts are to be kept there; give another --out")
        check_replaceable(self.folder, [self._path(settings).name for settings in every])

    def keep(self, settings: Mapping[str, Any], part: Mapping[str, Any]) -> None:
        """Write a part, whole or not at all.

        Args:
            settings: all that it depends on, JSON-able.
            part: JSON-able, of finite numbers.
        """
        path = self._path(settings)
        self.folder.mkdir(parents=True, exist_ok=True)
        json.dumps(part, allow_nan=False)
        write_text(path, sealed({"settings": settings, "part": part}))
        self._used.add(path)

    def discard(self) -> None:
        """Remove the parts that were kept or found, and the folder if it holds nothing else."""
        for path in self._used:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _path(self, settings: Mapping[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.json"
