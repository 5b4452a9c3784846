"""The cells of a study, kept on disk as they come."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mtt_brian.errors import InputError
from mtt_brian.experiments.finished import sealed, unsealed
from mtt_brian.files import read_regular, warn, write_text
from mtt_brian.progress import progress_bar


class Grid:
    """Results by cell in one JSON file; a study that was stopped computes only what is missing.

    Args:
        path: the file; read if it is there.
        settings: all that the cells depend on besides their names, JSON-able.

    Attributes:
        cells: result by name, in the order in which they came.

    A file that is not what was written is moved aside, with a warning, and its cells are computed again.

    Raises:
        InputError: if the file belongs to other settings (it names them), or cannot be moved aside.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = json.loads(json.dumps(settings))
        self.cells: dict[str, Any] = {}
        if not path.exists():
            return
        try:
            content = unsealed(read_regular(path).decode(), ("settings", "cells"))
            if not all(isinstance(part, dict) for part in content.values()):
                raise ValueError("settings and cells must be objects")
        except (OSError, ValueError) as error:
            aside = _move_aside(path)
            warn(f"{path}: not the results of a study ({error}); moved to {aside}, and computed again")
            return
        found, cells = content["settings"], content["cells"]
        differing = sorted(k for k in found.keys() | self.settings.keys() if found.get(k) != self.settings.get(k))
        if differing:
            raise InputError(
                f"{path} holds results of other settings: "
                + "; ".join(f"{k} was {found.get(k)!r}, is {self.settings.get(k)!r}" for k in differing)
                + ". Give another --out"
            )
        self.cells = cells

    def fill(self, names: Iterable[str], compute: Callable[[str], Any], description: str) -> Iterator[tuple[str, Any]]:
        """The cells ``names`` one by one; those that are not there yet are computed and saved at once.

        Args:
            names: of the cells.
            compute: gives a cell's JSON-able result.
            description: of the progress bar.
        """
        names = list(names)
        missing = [name for name in names if name not in self.cells]
        done = len(names) - len(missing)
        with progress_bar(total=len(names), initial=done, description=description, unit="cell") as bar:
            for name in missing:
                bar.set_postfix_str(name)
                # Through JSON, so that a fresh result is what a resumed study reads.
                self.cells[name] = json.loads(json.dumps(compute(name)))
                write_text(self.path, sealed({"settings": self.settings, "cells": self.cells}, indent=1))
                bar.update()
        for name in names:
            yield name, self.cells[name]


def _move_aside(path: Path) -> Path:
    """The first free ``<name>.damaged-<number>`` beside a file, where it is now."""
    aside = next(p for n in itertools.count(1) if not os.path.lexists(p := path.with_name(f"{path.name}.damaged-{n}")))
    try:
        path.rename(aside)
    except OSError as error:
        raise InputError(f"{path}: not the results of a study, and it cannot be moved away: {error.strerror}") from None
    return aside
