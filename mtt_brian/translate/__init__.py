"""NIR graph -> linear operators between populations -> Brian2 objects."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mtt_brian.translate.circuit import Circuit, Connection, Population
from mtt_brian.translate.limits import Estimate, estimate
from mtt_brian.translate.nir_reader import read_nir, register_node, unregister_node

if TYPE_CHECKING:
    from mtt_brian.translate.brian import EventNetwork, to_brian2
    from mtt_brian.translate.clock_driven import ClockDrivenNetwork, to_clock_driven
    from mtt_brian.translate.units import VoltageScale

__all__ = [
    "Circuit",
    "ClockDrivenNetwork",
    "Connection",
    "Estimate",
    "EventNetwork",
    "Population",
    "VoltageScale",
    "estimate",
    "read_nir",
    "register_node",
    "to_brian2",
    "to_clock_driven",
    "unregister_node",
]

#: What needs Brian2 -> the module that holds it.
_WITH_BRIAN2 = {
    "ClockDrivenNetwork": "clock_driven",
    "EventNetwork": "brian",
    "VoltageScale": "units",
    "to_brian2": "brian",
    "to_clock_driven": "clock_driven",
}


def __getattr__(name: str) -> Any:
    """Brian2 is imported with the first use of what needs it."""
    if name in _WITH_BRIAN2:
        return getattr(importlib.import_module(f"mtt_brian.translate.{_WITH_BRIAN2[name]}"), name)
    raise AttributeError(f"module 'mtt_brian.translate' has no attribute {name!r}")
