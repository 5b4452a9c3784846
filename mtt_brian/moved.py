"""Old module names, which still work with a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType
from typing import Any

#: Old name -> new name.
MOVED = {
    "mtt_brian.simulate": "mtt_brian.engines",
    "mtt_brian.translate.nir_reader": "mtt_brian.translate.from_nir",
}


class _Moved(ModuleType):
    """An entry of ``sys.modules`` under an old name that forwards every attribute.

    So ``mtt_brian.simulate`` can be a function and, for old scripts, the name of a module at the same time.
    """

    def __init__(self, old: str, new: str) -> None:
        super().__init__(old, f"Moved to {new}.")
        self.__dict__["_new"] = new

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":  # of ``import *``; each of these names then warns
            module = importlib.import_module(self._new)
            return getattr(module, name, [key for key in vars(module) if not key.startswith("_")])
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(self._new), name)
        warnings.warn(f"{self.__name__} has moved to {self._new}", DeprecationWarning, stacklevel=2)
        return value


def with_old_attributes(name: str, value: Any) -> Any:
    """A public object; if a module of this name has moved, with the public names of the module as attributes.

    For ``import mtt_brian.simulate as s``, which gives the function, and ``s.Simulator`` in old scripts.
    """
    if (old := f"mtt_brian.{name}") in MOVED:
        module = importlib.import_module(MOVED[old])
        vars(value).update({key: getattr(module, key) for key in module.__all__})
    return value


def register() -> None:
    """Make the old names importable."""
    for old, new in MOVED.items():
        sys.modules.setdefault(old, _Moved(old, new))
