"""The interface of engines, and the facts about an engine that are known before it is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, get_args

from mtt_brian.circuit.model import Circuit
from mtt_brian.circuit.spikes import InputSpikes
from mtt_brian.engines.result import Record, Result

__all__ = ["ORDERS", "Engine", "EngineFactory", "EngineInfo", "InputSpikes", "Order", "Record"]

#: Convention for the arrivals of one instant: ``"sum"`` adds them, ``"fifo"`` processes one event after another.
Order: TypeAlias = Literal["sum", "fifo"]
ORDERS: tuple[Order, ...] = get_args(Order)


class Engine(Protocol):
    """An engine is built once for a circuit and then run for any number of recordings.

    Attributes:
        name: name of the engine.
    """

    name: str

    def run(self, inputs: Iterable[InputSpikes]) -> Iterator[Result]:
        """Results in the order of ``inputs``, each as soon as it is available; inputs are read lazily."""
        ...


#: Builds an engine: called with a circuit and with ``order``, ``record`` and the engine's options as keywords.
EngineFactory: TypeAlias = Callable[..., Engine]


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """Facts about an engine, available without importing it.

    Attributes:
        name: as in `Simulator`.
        about: one line for listings.
        orders: conventions that it supports.
        crossings: whether neurons can fire between arrivals (bias, synaptic current, refractory period).
        delays: whether connections can have delays and close loops.
        saturation: whether potentials can have an upper bound.
        options: names of the keyword arguments of its factory besides ``order`` and ``record``.
        batches: whether it runs many recordings as one batch, so that large batches are faster.
        memory: bytes that it allocates for a circuit and an order, one recording at a time; None: not known.
        imports: modules that the main thread must import before the engine is built.
        needs: requirements besides this package, for listings.
        missing: gives what this machine lacks of them, in words, each with its remedy; None: nothing can be missing.
    """

    name: str
    about: str
    orders: tuple[Order, ...] = ("sum",)
    crossings: bool = False
    delays: bool = False
    saturation: bool = False
    options: tuple[str, ...] = ()
    batches: bool = False
    memory: Callable[[Circuit, Order], int] | None = None
    imports: tuple[str, ...] = ()
    needs: str = ""
    missing: Callable[[], list[str]] | None = None

    def options_from(self, options: dict[str, Any]) -> dict[str, Any]:
        """Those of ``options`` that the engine accepts."""
        return {name: value for name, value in options.items() if name in self.options}
