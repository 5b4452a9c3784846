"""`simulate` and `Simulator`: one interface to all engines."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from typing import Any, TypeAlias

import numpy as np

from mtt_brian import html_repr
from mtt_brian.circuit.integers import Integers
from mtt_brian.circuit.model import Circuit
from mtt_brian.circuit.spikes import Spikes, pair_with_durations
from mtt_brian.engines.base import ORDERS, Engine, EngineInfo, Order, Record
from mtt_brian.engines.engine_table import (
    ENGINES,
    build_engine,
    checked_options,
    engine_info,
    register_engine,
    unregister_engine,
)
from mtt_brian.engines.result import RECORDS, Result
from mtt_brian.errors import InputError, check_choice
from mtt_brian.events import named
from mtt_brian.events.collections import Recordings
from mtt_brian.progress import progress_bar
from mtt_brian.text import printable, shown
from mtt_brian.translate.conventions import CONVENTION_NAMES, Conventions, shows_conventions
from mtt_brian.translate.from_nir import GraphLike, read_nir
from mtt_brian.translate.nir_files import naming

__all__ = [
    "ENGINES",
    "ORDERS",
    "Engine",
    "EngineInfo",
    "Integers",
    "Order",
    "Record",
    "Result",
    "Simulator",
    "Spikes",
    "engine_info",
    "register_engine",
    "simulate",
    "unregister_engine",
]

#: A recording, the path of its file, or its reference in a data set.
RecordingLike: TypeAlias = "np.ndarray | str | PathLike[str]"


def __dir__() -> list[str]:
    return sorted(__all__)


class Simulator:
    """A network that is prepared once and run on any number of recordings.

    Args:
        graph: a NIR graph, the path of a ``.nir`` file, or a circuit.
        engine: ``"exact"`` (event queue), ``"brian2"`` (Brian2's runtime), ``"brian2-cpp"`` (Brian2's C++ project) or
            ``"brian2-cuda"`` (brian2cuda, on a GPU), ``"exact-cuda"`` (many recordings on a GPU), or one added by
            `register_engine`. All give the same spikes.
        order: ``"sum"``: all arrivals at a neuron at one instant are summed and applied once. ``"fifo"``: a queue of
            single events, as on event-driven chips (engines with it in `EngineInfo.orders`: ``"exact"``).
        record: ``"all"`` spikes, those of the populations in front of the ``"output"`` (enough for
            `Result.readout_at`), or only ``"counts"``.
        conventions: facts that a graph of another tool does not contain.
        integers: run the network with the integers of a chip: weights, thresholds and saturating membranes of a few
            bits; by default 8 and 16, as on Speck (engines with `EngineInfo.saturation`: ``"exact"``).
        **options: fields of `Conventions` (``tool="snntorch"``), instead of the object or in addition to it, and
            options of the engine (`EngineInfo.options`): ``threads``, ``max_rate`` (exact); ``batch_size`` (Brian2
            engines, exact-cuda); ``target`` (brian2); ``flags`` (brian2-cpp).

    Raises:
        InputError: names the unsupported property and an engine that supports it.
    """

    @shows_conventions
    @np.errstate(under="ignore")
    def __init__(
        self,
        graph: GraphLike,
        engine: str = "exact",
        *,
        order: Order = "sum",
        record: Record = "all",
        conventions: Conventions | None = None,
        integers: Integers | None = None,
        **options: Any,
    ) -> None:
        check_choice("engine", engine, ENGINES)
        check_choice("order", order, ORDERS)
        check_choice("record", record, RECORDS)
        if integers is not None and not isinstance(integers, Integers):
            raise InputError(f"integers must be an Integers object, such as Integers(8, 16), not {shown(integers)}")
        given = {name: options.pop(name) for name in CONVENTION_NAMES if name in options}
        options = checked_options(engine, order, options)
        self.circuit = read_nir(graph, conventions, **given)
        with naming(graph):
            if integers is not None:
                self.circuit = integers.of(self.circuit)
            self.engine = build_engine(engine, self.circuit, order, record, options)
        self._shown = f"{engine}, {order}"
        self._made = engine, order, record, options

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy: the circuit and the options; the engine is built anew."""
        engine, order, record, options = self._made
        return _simulator, (self.circuit, engine, order, record, options)

    def __repr__(self) -> str:
        synapses = sum(int(fan_out.sum()) for fan_out in self.circuit.fan_out.values())
        return f"Simulator({self._shown}, {len(self.circuit.populations)} populations, {synapses:,} synapses)"

    def _repr_html_(self) -> str:
        return html_repr.heading(repr(self)) + self.circuit._repr_html_()

    def run(
        self,
        recordings: Iterable[RecordingLike],
        durations: Sequence[float | None] | float | None = None,
        progress: bool = False,
        names: Sequence[str] | None = None,
    ) -> Iterator[Result]:
        """Runs recordings one by one, each from the zero state.

        A recording is read just before its run. Several threads may use one simulator: ``"exact"`` then computes in
        parallel, the Brian2 engines one batch after the other.

        Args:
            recordings: a list, a data set or any other iterable of structured arrays of integers ``t`` [us], ``x``,
                ``y``, ``p``, sorted by time, or of names of recordings (see `simulate`).
            durations: end of each run in seconds, or one for all; by default each recording's last event. Later events
                are left out.
            progress: show a progress bar.
            names: of the recordings in messages; by default the ids of a data set, or ``recording 0`` and so on.

        Yields:
            one `Result` per recording, in order.

        Raises:
            InputError: names the recording, and the event that does not fit the network's input or what went wrong in
                the run.
        """
        given, count = pair_with_durations(recordings, durations)
        if names is None and isinstance(recordings, Recordings):
            names = [f"{recordings.name}: {identifier}" for identifier in recordings.ids]
        numbered = itertools.chain(names or (), (f"recording {k}" for k in itertools.count(len(names or ()))))
        # Lazily: thousands of recordings would not fit into memory together.
        trains = (
            self.circuit.input_spikes(*_opened(recording, duration, name))
            for (recording, duration), name in zip(given, numbered, strict=False)
        )
        results = self.engine.run(trains)
        if progress:
            results = progress_bar(results, total=count, description=self.engine.name, unit="recordings")
        yield from results


def _simulator(circuit: Circuit, engine: str, order: Order, record: Record, options: dict[str, Any]) -> Simulator:
    return Simulator(circuit, engine, order=order, record=record, **options)


@shows_conventions
def simulate(
    graph: GraphLike, recording: RecordingLike, engine: str = "exact", duration: float | None = None, **options: Any
) -> Result:
    """Runs one recording through a network, event-driven.

    Args:
        graph: a NIR graph, the path of a ``.nir`` file, or a circuit.
        recording: structured array ``t`` [us], ``x``, ``y``, ``p``, sorted by time; the path of a file that
            `events.read` reads; or ``"DATASET:SPLIT:NUMBER"``, such as ``"digits:test:0"``.
        engine: see `Simulator`, which is faster for many recordings.
        duration: end of the run in seconds; by default the last event.
        **options: of `Simulator`.

    Returns:
        spikes, counts, readout and synaptic operations of the run.

    Raises:
        InputError: see `Simulator`.
    """
    (result,) = Simulator(graph, engine, **options).run([recording], [duration])
    return result


def _opened(recording: RecordingLike, duration: float | None, name: str) -> tuple[np.ndarray, float | None, str]:
    """The events of a recording, given as an array or by its name, and its name in messages."""
    if isinstance(recording, str | PathLike):
        return named.open_recording(recording).events, duration, printable(str(recording))
    return recording, duration, name
