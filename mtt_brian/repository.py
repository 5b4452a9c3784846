"""What belongs to the repository beside the package, and where an installed package has it."""

from __future__ import annotations

import shlex
from pathlib import Path

_PACKAGE = Path(__file__).parent
#: Folders of the repository that a wheel has inside the package (setup.py): name there -> place in the repository.
_SHIPPED = {"studies": "studies", "configs": "training/configs"}


def shipped(name: str) -> Path:
    """The folder ``"studies"`` (scripts) or ``"configs"`` (training settings): of the wheel, or of the repository."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / _SHIPPED[name]


def pip_install(what: str) -> str:
    """The command that installs something; in the repository with the versions that the tests run with."""
    constraints = _PACKAGE.parent / "constraints.txt"
    if not constraints.is_file():
        return f"pip install {what}"
    here = constraints.relative_to(Path.cwd()) if constraints.is_relative_to(Path.cwd()) else constraints
    return f"pip install -c {shlex.quote(str(here))} {what}"
