"""Loops of populations: their delays, and the order of one instant."""

from __future__ import annotations

import graphlib
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mtt_brian.circuit.model import Connection, Population
from mtt_brian.circuit.operators import Delay
from mtt_brian.errors import InputError
from mtt_brian.text import listed
from mtt_brian.translate.linear_nodes import Assumptions


class NoDelay(InputError):
    """A loop without a delay; the message begins with its populations, up to `WHY`."""

    WHY = ": an instant would never end"


def with_loop_delays(
    start: str, populations: Sequence[Population], connections: list[Connection], delay: float, assumed: Assumptions
) -> list[Connection]:
    """Puts a delay at the head of the connections that close a cycle without one.

    Populations are ordered by their distance from the input, then as in the graph. Forward connections come first;
    every other one is delayed if it closes a cycle with the earlier ones.

    Args:
        start: name of the input.
        populations: all of them.
        connections: between them and from the input.
        delay: in seconds of a recording.
        assumed: collects the delayed connections.

    Raises:
        InputError: for a cycle on which some neurons have a delay and others none.
    """
    shapes = {p.name: p.shape for p in populations}
    names = list(shapes)
    forwards = {source: [c.target for c in connections if c.source == source] for source in [start, *names]}
    place = {start: 0}
    reached = deque([start])
    while reached:
        for target in sorted(forwards[reached.popleft()], key=names.index):
            if target not in place:
                place[target] = len(place)
                reached.append(target)
    for name in names:
        place.setdefault(name, len(place))
    out = list(connections)
    behind: dict[str, set[str]] = {name: set() for name in names}

    def leads_to(begin: str, end: str) -> bool:
        seen, waiting = {begin}, [begin]
        while waiting:
            name = waiting.pop()
            if name == end:
                return True
            waiting += (new := behind[name] - seen)
            seen |= new
        return False

    backwards = [place[c.source] >= place[c.target] for c in connections]
    for k in sorted(range(len(connections)), key=lambda k: (backwards[k], k)):
        c = connections[k]
        if c.source == start or _always_late(c):
            continue
        if backwards[k] and leads_to(c.target, c.source):
            if c.delayed:
                raise InputError(
                    f"the delay on the cycle from {c.source!r} through {listed(c.nodes)} to {c.target!r} is 0 for "
                    f"some neurons and not for others; give all of them a delay > 0"
                )
            out[k] = replace(c, operators=(Delay(np.full(shapes[c.source], delay)), *c.operators))
            through = f" through {listed(c.nodes)}" if c.nodes else ""
            assumed.add(f"spikes that go back from {c.source!r}{through} to {c.target!r} take {delay:g} s (loop_delay)")
        else:
            behind[c.source].add(c.target)
    return out


def _always_late(connection: Connection) -> bool:
    """Whether every spike arrives later than it is fired."""
    return any(isinstance(o, Delay) and bool(np.all(o.seconds > 0)) for o in connection.operators)


def has_loop(names: list[str], connections: list[Connection]) -> bool:
    """Whether the connections form a cycle, with a delay or without."""
    sources = {name: [c.source for c in connections if c.target == name] for name in names}
    try:
        graphlib.TopologicalSorter(sources).prepare()
    except graphlib.CycleError:
        return True
    return False


def topological(names: list[str], connections: list[Connection]) -> list[str]:
    """Populations in the order of one instant. A connection whose every element is delayed may close a cycle."""
    before: dict[str, dict[str, None]] = {name: {} for name in names}
    for c in connections:
        if c.source in before and not _always_late(c):
            before[c.target][c.source] = None
    try:
        return list(graphlib.TopologicalSorter(before).static_order())
    except graphlib.CycleError as error:
        cycle = " -> ".join(map(repr, error.args[1]))
        raise NoDelay(
            f"the cycle {cycle} has no delay{NoDelay.WHY}; give it a Delay > 0, or pass loop_delay= (in seconds: one "
            "time step of the tool that wrote the graph)"
        ) from None
