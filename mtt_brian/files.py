"""Where generated files are kept, and how files are written so that nobody meets half of one."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtt_brian.errors import InputError


def cache_folder() -> Path:
    """Where generated data are kept: $MTT_BRIAN_CACHE, or mtt_brian in the user's cache folder."""
    if folder := os.environ.get("MTT_BRIAN_CACHE"):
        return Path(folder).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "mtt_brian"


def new_folder(parent: Path, stem: str) -> Path:
    """``parent/<stem>-<number>`` with the first free number, made here."""
    for number in itertools.count(1):
        folder = parent / f"{stem}-{number:03d}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable")


def results_folder(out: str | None, study: str) -> Path:
    """``out``, or the first free ``results/<study>-<number>``; made here, so that a bad place is refused early."""
    try:
        if out is None:
            return new_folder(Path("results"), study)
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out or 'results'}: {error.strerror or error}") from None
    return Path(out)


def contents(out: Path) -> str:
    """``"results/x: a.png, report.json"``."""
    return f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}"


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a whole text file in UTF-8, or leave an older one as it is."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; renamed to ``path`` at the end, removed after an error."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
