"""Front ends: networks in other forms become a `mtt_brian.circuit.Circuit`.

`to_brian2` and related names are available here, too; they are defined in `mtt_brian.engines.brian2`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.translate.conventions import Conventions
from mtt_brian.translate.from_nir import read_nir
from mtt_brian.translate.node_types import register_node, unregister_node
from mtt_brian.translate.stated import stated
from mtt_brian.translate.to_tool import for_tool

if TYPE_CHECKING:
    from mtt_brian.engines.brian2.clock_driven import ClockDrivenNetwork, to_clock_driven
    from mtt_brian.engines.brian2.memory import Estimate, estimate
    from mtt_brian.engines.brian2.network import EventNetwork, to_brian2
    from mtt_brian.engines.brian2.units import VoltageScale

__all__ = [
    "Circuit",
    "ClockDrivenNetwork",
    "Connection",
    "Conventions",
    "Estimate",
    "EventNetwork",
    "Population",
    "VoltageScale",
    "estimate",
    "for_tool",
    "read_nir",
    "register_node",
    "stated",
    "to_brian2",
    "to_clock_driven",
    "unregister_node",
]

#: Name -> module of ``mtt_brian.engines.brian2`` that defines it.
_IN_BRIAN2_ENGINES = {
    "ClockDrivenNetwork": "clock_driven",
    "Estimate": "memory",
    "EventNetwork": "network",
    "VoltageScale": "units",
    "estimate": "memory",
    "to_brian2": "network",
    "to_clock_driven": "clock_driven",
}


def __getattr__(name: str) -> Any:
    """Imports Brian2 at the first use of a name that needs it."""
    if name in _IN_BRIAN2_ENGINES:
        return getattr(importlib.import_module(f"mtt_brian.engines.brian2.{_IN_BRIAN2_ENGINES[name]}"), name)
    raise AttributeError(f"module 'mtt_brian.translate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
