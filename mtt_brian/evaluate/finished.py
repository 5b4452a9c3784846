"""Finished parts of a long evaluation, kept on disk until its report is there."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtt_brian.files import write_text


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
        """The part that was kept for these settings, or None; a file that cannot be read is as good as none."""
        path = self._path(settings)
        try:
            part = json.loads(path.read_text(encoding="utf-8"))["part"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        self._used.add(path)
        return part

    def keep(self, settings: Mapping[str, Any], part: Mapping[str, Any]) -> None:
        """Write a part, whole or not at all.

        Args:
            settings: all that it depends on, JSON-able.
            part: JSON-able.
        """
        path = self._path(settings)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"settings": settings, "part": part}, allow_nan=False) + "\n")
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
