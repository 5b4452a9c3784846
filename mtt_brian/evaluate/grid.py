"""The cells of a study, kept on disk as they come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mtt_brian.errors import InputError
from mtt_brian.files import write_text


class Grid:
    """Results by cell in one JSON file; a study that was stopped computes only what is missing.

    Args:
        path: the file; read if it is there.
        settings: all that the cells depend on besides their names, JSON-able.

    Attributes:
        cells: result by name, in the order in which they came.

    Raises:
        InputError: if the file is damaged, or belongs to other settings (it names them).
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = json.loads(json.dumps(settings))
        self.cells: dict[str, Any] = {}
        if not path.exists():
            return
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found, cells = content["settings"], content["cells"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not the results of a study ({error}); move it away to start anew") from None
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
        with tqdm(total=len(names), initial=len(names) - len(missing), desc=description, unit="cell") as bar:
            for name in missing:
                bar.set_postfix_str(name)
                # Through JSON, so that a fresh result is what a resumed study reads.
                self.cells[name] = json.loads(json.dumps(compute(name)))
                content = {"settings": self.settings, "cells": self.cells}
                write_text(self.path, json.dumps(content, indent=1) + "\n")
                bar.update()
        for name in names:
            yield name, self.cells[name]
