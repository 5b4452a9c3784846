"""What every engine is given, what it must offer, and what is known about it without building it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, get_args

from mtt_brian.circuit.model import Circuit
from mtt_brian.circuit.spikes import InputSpikes
from mtt_brian.engines.result import Record, Result

__all__ = ["ORDERS", "Engine", "EngineFactory", "EngineInfo", "InputSpikes", "Order", "Record"]

#: Convention for what arrives at one instant: ``"sum"`` adds it up, ``"fifo"`` takes one event after another.
Order: TypeAlias = Literal["sum", "fifo"]
ORDERS: tuple[Order, ...] = get_args(Order)


class Engine(Protocol):
    """An engine is built once for a circuit and then run for any number of recordings.

    Attributes:
        name: name of the engine.
    """

    name: str

    def run(self, inputs: Iterable[InputSpikes]) -> Iterator[Result]:
        """Results in the order of ``inputs``, each as soon as it is available; inputs are read when they are needed."""
        ...


#: Builds an engine: called with a circuit and with ``order``, ``record`` and the engine's options as keywords.
EngineFactory: TypeAlias = Callable[..., Engine]


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """What is known about an engine without importing it.

    Attributes:
        name: as `Simulator` takes it.
        about: one line for people.
        orders: conventions that it can follow.
        crossings: whether neurons can fire between arrivals (bias, synaptic current, refractory period).
        delays: whether connections can have delays and close loops.
        saturation: whether potentials can have an upper bound.
        options: names of the keyword arguments of its factory besides ``order`` and ``record``.
        batches: whether it runs many recordings side by side, so that large batches are worth while.
        memory: bytes that it keeps for a circuit and an order, one recording at a time; None: not known.
        imports: modules that have to be imported by the main thread before the engine is built.
        needs: what it needs besides this package, for people.
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

    def options_from(self, options: dict[str, Any]) -> dict[str, Any]:
        """Those of ``options`` that the engine takes."""
        return {name: value for name, value in options.items() if name in self.options}
