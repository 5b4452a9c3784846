"""NIR graph -> linear operators between populations -> Brian2 objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mtt_brian.translate.circuit import Circuit, Connection, Population
from mtt_brian.translate.limits import Estimate, estimate
from mtt_brian.translate.nir_reader import read_nir

if TYPE_CHECKING:
    from mtt_brian.translate.brian import EventNetwork, to_brian2

__all__ = [
    "Circuit",
    "Connection",
    "Estimate",
    "EventNetwork",
    "Population",
    "estimate",
    "read_nir",
    "to_brian2",
]


def __getattr__(name: str) -> Any:
    """Brian2 is imported with the first use of what needs it."""
    if name in ("EventNetwork", "to_brian2"):
        from mtt_brian.translate import brian

        return getattr(brian, name)
    raise AttributeError(f"module 'mtt_brian.translate' has no attribute {name!r}")
