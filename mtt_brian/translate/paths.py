"""Paths of linear nodes between populations, as connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse

from mtt_brian.circuit.instants import on_whole_microseconds
from mtt_brian.circuit.model import Connection
from mtt_brian.circuit.operators import Delay, Operator, Sparse
from mtt_brian.errors import InputError
from mtt_brian.text import listed
from mtt_brian.translate.linear_nodes import Assumptions
from mtt_brian.translate.shapes import Shapes

#: Up to so many paths from one population to another are separate connections; more become one sparse matrix.
MOST_PATHS = 8
#: Largest number of different delays among the paths of one matrix.
MOST_DELAYS = 64


class Paths:
    """The paths through the linear nodes of one graph."""

    def __init__(self, shapes: Shapes, assumed: Assumptions) -> None:
        self._shapes, self._wiring, self._assumed = shapes, shapes.wiring, assumed
        self._place = {name: k for k, name in enumerate(shapes.order)}

    def into(self, target: str) -> Iterator[Connection]:
        """One connection for every path of linear nodes that leads from a population or the input to ``target``.

        More than `MOST_PATHS` paths from one source are one sparse matrix instead.
        """
        self._shapes.check_sources(target)
        between = self._in_front(target)
        paths: dict[str, Counter[str]] = {}
        for name in [*between, target]:
            number: Counter[str] = Counter()
            for source in self._wiring.sources[name]:
                number.update({source: 1} if self._wiring.is_source(source) else paths[source])
            paths[name] = number
        total = paths[target]
        few = {source for source, number_ in total.items() if number_ <= MOST_PATHS}
        # Backwards from the target; the path behind a node is a linked list of (node, rest of the path).
        waiting: list[tuple[str, Any]] = [(source, None) for source in reversed(self._wiring.sources[target])]
        while waiting:
            name, behind = waiting.pop()
            if self._wiring.is_source(name):
                if name in few:
                    yield self._path(name, target, behind)
            elif few & paths[name].keys():
                behind = behind if self._wiring.is_wire(name) else (name, behind)
                waiting += [(source, behind) for source in reversed(self._wiring.sources[name])]
        for source in total:
            if source not in few:
                self._assumed.add(
                    f"{total[source]} paths from {source!r} to {target!r} are added up to one matrix, whose synapses "
                    "count once"
                )
                yield from self._merged(source, target, between)

    def _in_front(self, target: str) -> list[str]:
        """The linear nodes and wires between ``target`` and the nearest populations, in order."""
        found: set[str] = set()
        waiting = list(self._wiring.sources[target])
        while waiting:
            name = waiting.pop()
            if not self._wiring.is_source(name) and name not in found:
                found.add(name)
                waiting += self._wiring.sources[name]
        return sorted(found, key=self._place.__getitem__)

    def _path(self, source: str, target: str, behind: Any) -> Connection:
        nodes = []
        while behind is not None:
            name, behind = behind
            nodes.append(name)
        return Connection(
            source=source,
            target=target,
            operators=tuple(operator for name in nodes for operator in self._shapes.linear[name].operators),
            nodes=tuple(nodes),
            source_size=self._shapes.size(source),
        )

    def _merged(self, source: str, target: str, between: list[str]) -> Iterator[Connection]:
        """All paths from ``source`` to ``target`` as one matrix, or as one for every delay."""
        size = self._shapes.size(source)
        #: The map from the source to each node, by delay.
        maps: dict[str, dict[float, sparse.csr_array]] = {source: {0.0: sparse.csr_array(sparse.eye_array(size))}}
        nodes = []
        for name in [*between, target]:
            incoming: dict[float, sparse.csr_array] = {}
            for before in self._wiring.sources[name]:
                if before == source or not self._wiring.is_source(before):
                    for delay, matrix in maps.get(before, {}).items():
                        incoming[delay] = incoming[delay] + matrix if delay in incoming else matrix
            if name != target and not self._wiring.is_wire(name):
                if incoming:
                    nodes.append(name)
                for operator in self._shapes.linear[name].operators:
                    incoming = _through(operator, incoming)
            incoming = {d: m for d, m in incoming.items() if m.nnz} or dict(list(incoming.items())[:1])
            if len(incoming) > MOST_DELAYS:
                raise InputError(
                    f"the paths from {source!r} to {target!r} have more than {MOST_DELAYS} different delays, seen at "
                    f"node {name!r}; use fewer, or fewer than {MOST_PATHS + 1} paths"
                )
            if name != source:
                maps[name] = incoming
            if name == target:
                for delay, matrix in sorted(incoming.items()):
                    shape = self._shapes.of[source], self._shapes.of[target]
                    late = (Delay(np.full(shape[0], delay)),) if delay else ()
                    yield Connection(source, target, (*late, Sparse(matrix, *shape)), tuple(nodes), size)


def refuse_overflow(connection: Connection) -> None:
    """Refuses weights whose product exceeds float64."""
    bound = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        for operator in connection.operators:
            bound *= 1.0 if isinstance(operator, Delay) else max(operator.largest_row(), 1.0)
        if not bound < 1e300 and not np.all(np.isfinite(connection.matrix.data)):
            raise InputError(
                f"the weights of {listed(connection.nodes)} between {connection.source!r} and {connection.target!r} "
                f"have products or sums that are too large for float64"
            )


def _through(operator: Operator, maps: dict[float, sparse.csr_array]) -> dict[float, sparse.csr_array]:
    """Maps by delay, with one more operator behind them."""
    if not isinstance(operator, Delay):
        matrix = operator.matrix()
        return {delay: sparse.csr_array(matrix @ before) for delay, before in maps.items()}
    out: dict[float, sparse.csr_array] = {}
    seconds = operator.seconds.ravel()
    for more in np.unique(seconds):
        rows = sparse.csr_array(sparse.diags_array((seconds == more).astype(np.float64)))
        rows.eliminate_zeros()
        for delay, before in maps.items():
            late = float(on_whole_microseconds(delay + more))
            part = sparse.csr_array(rows @ before)
            out[late] = out[late] + part if late in out else part
    return out
