"""Files of the experiment in a few archives, to be carried from one machine to another."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from mtt_brian.errors import InputError
from mtt_brian.experiments.deep.finished import TIME_STEPPED
from mtt_brian.experiments.run_files import MODEL
from mtt_brian.files import check_writable, message_of, replacing
from mtt_brian.text import one_line, shown

#: Files that are needed elsewhere, besides the models: settings, curves, predictions, results.
_KEPT = ("*.json", "*.jsonl", "networks/*/*.json", "networks/*/*.jsonl")
_MODELS = "networks/*/model.nir"
#: Archives of models, and bytes of each, at most.
ARCHIVES, MOST_BYTES = 4, 14_500_000
#: Bytes of an entry of an archive besides its content, at most.
_ENTRY = 500


def check_packable(out: Path) -> None:
    """Make the folder of the archives, which are written at the end, and test it by writing to it.

    Raises:
        InputError: if it cannot be made, or cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        check_writable(out)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"--pack {out}: {message_of(error)}") from None


def pack(folder: Path, out: Path, models: Sequence[Path]) -> None:
    """Write ``results.zip`` and ``networks-<number>.zip``; nothing as long as the folder has no network.

    Args:
        folder: of the experiment.
        out: folder of the archives.
        models: the ``.nir`` files, the most important first; those without room are named in a line and left out.
    """
    if not any(folder.glob("networks/*/*")):
        return  # earlier archives are kept
    check_packable(out)
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
        else:
            (out / f"networks-{number}.zip").unlink(missing_ok=True)  # of an earlier run


def unpack(archives: Path, folder: Path) -> None:
    """The files of `pack` into the folder of an experiment.

    Networks that are finished there, and other files that are there, are kept.

    Raises:
        InputError: if there is no archive, one cannot be read, one has other files, or a network that is finished in
            both places is not the same.
    """
    paths = sorted(archives.glob("*.zip"))
    if not paths:
        raise InputError(f"--unpack {archives}: no archives (*.zip) there; name the folder that --pack wrote")
    kept = {path.parent.name for path in folder.glob(f"networks/*/{TIME_STEPPED}")}
    for path in paths:
        try:
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    _extract(archive, name, folder, kept)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise InputError(f"{path}: not a readable archive: {one_line(error)}") from None


def _extract(archive: zipfile.ZipFile, name: str, folder: Path, kept: Collection[str]) -> None:
    """A file of an archive, unless it is of a network that is ``kept``, or there is one that is of no network."""
    inside = PurePosixPath(name)
    if ".." in inside.parts or not any(_has_form(inside, form) for form in (*_KEPT, _MODELS)):
        raise InputError(f"{archive.filename}: {shown(name)} is no file of the experiment")
    target = folder / inside
    of_kept = len(inside.parts) < 3 or inside.parts[1] in kept
    if target.exists() and of_kept:
        if inside.name in (MODEL, TIME_STEPPED) and target.read_bytes() != archive.read(name):
            raise InputError(f"{archive.filename}: {name} is of another training than {target}; give another --out")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        temporary.write_bytes(archive.read(name))


def _has_form(path: PurePosixPath, form: str) -> bool:
    return len(path.parts) == len(PurePosixPath(form).parts) and path.match(form)


def _write(path: Path, folder: Path, files: Sequence[Path]) -> None:
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.relative_to(folder))
