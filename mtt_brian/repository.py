"""What belongs to the repository beside the package, and where an installed package has it."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path
from types import ModuleType

_PACKAGE = Path(__file__).parent
#: Folders of the repository that a wheel has inside the package (setup.py): name there -> place in the repository.
_SHIPPED = {"studies": "studies", "training": "training", "configs": "training/configs"}


def shipped(name: str) -> Path:
    """The folder ``"studies"`` or ``"training"`` (scripts), or ``"configs"`` (training settings)."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / _SHIPPED[name]


def load_script(folder: str, name: str) -> ModuleType:
    """The module of a script, which is executed, in a folder of `shipped`."""
    spec = importlib.util.spec_from_file_location(f"mtt_brian.{folder}.{name}", shipped(folder) / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pip_install(what: str) -> str:
    """The command that installs something; in the repository with the versions that the tests run with."""
    constraints = _PACKAGE.parent / "constraints.txt"
    if not constraints.is_file():
        return f"pip install {what}"
    here = constraints.relative_to(Path.cwd()) if constraints.is_relative_to(Path.cwd()) else constraints
    return f"pip install -c {shlex.quote(str(here))} {what}"
