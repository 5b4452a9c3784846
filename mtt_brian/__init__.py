"""mtt_brian: train spiking networks with mixed time steps, then run them event-driven, in continuous time.

Large packages (torch, Brian2) are imported at the first use of a module that needs them.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mtt_brian import moved

if TYPE_CHECKING:
    from mtt_brian import circuit, engines, evaluate, events, export, mtt, neuron, plotting, snn, translate
    from mtt_brian.circuit import Integers
    from mtt_brian.engines import Result, Simulator, simulate
    from mtt_brian.errors import InputError
    from mtt_brian.snn import models
    from mtt_brian.translate import Conventions

__version__ = version("mtt_brian")

#: Public name -> the module of this name, or the module that defines it.
_MODULES = {
    name: f"mtt_brian.{name}"
    for name in ("circuit", "engines", "evaluate", "events", "export", "mtt", "neuron", "plotting", "snn", "translate")
} | {"models": "mtt_brian.snn.models"}
_HOLDERS = {
    "Conventions": "mtt_brian.translate",
    "InputError": "mtt_brian.errors",
    "Integers": "mtt_brian.circuit",
    "Result": "mtt_brian.engines",
    "Simulator": "mtt_brian.engines",
    "simulate": "mtt_brian.engines",
}

__all__ = [  # noqa: RUF022 - in the order of the data flow
    "neuron",
    "events",
    "snn",
    "models",
    "mtt",
    "export",
    "translate",
    "Conventions",
    "circuit",
    "Integers",
    "engines",
    "simulate",
    "Simulator",
    "Result",
    "evaluate",
    "plotting",
    "InputError",
    "__version__",
]

moved.register()


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _HOLDERS:
        return moved.with_old_attributes(name, getattr(importlib.import_module(_HOLDERS[name]), name))
    raise AttributeError(f"module 'mtt_brian' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
