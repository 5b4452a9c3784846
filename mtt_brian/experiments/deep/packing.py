"""Files of the experiment in a few archives, to be carried from one machine to another."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

#: Files that are needed elsewhere, besides the models: settings, curves, predictions, results.
_KEPT = ("*.json", "*.jsonl", "networks/*/*.json", "networks/*/*.jsonl")
#: Archives of models, and bytes of each, at most.
ARCHIVES, MOST_BYTES = 4, 14_500_000
#: Bytes of an entry of an archive besides its content, at most.
_ENTRY = 500


def pack(folder: Path, out: Path, models: Sequence[Path]) -> None:
    """Write ``results.zip`` and ``networks-<number>.zip``.

    Args:
        folder: of the experiment.
        out: folder of the archives.
        models: the ``.nir`` files, the most important first; those without room are named in a line and left out.
    """
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "results.zip", folder, sorted(path for pattern in _KEPT for path in folder.glob(pattern)))
    contents: list[list[Path]] = [[] for _ in range(ARCHIVES)]
    room = [MOST_BYTES] * ARCHIVES
    for model in models:
        needed = len(zlib.compress(model.read_bytes())) + _ENTRY
        number = next((k for k, left in enumerate(room) if needed <= left), None)
        if number is None:
            print(f"no room for {model.relative_to(folder)}, {needed:,} bytes", flush=True)
        else:
            contents[number].append(model)
            room[number] -= needed
    for number, some in enumerate(contents):
        if some:
            _write(out / f"networks-{number}.zip", folder, some)


def unpack(archives: Path, folder: Path) -> None:
    """The files of `pack` into the folder of an experiment."""
    for path in sorted(archives.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)


def _write(path: Path, folder: Path, files: Sequence[Path]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.relative_to(folder))
