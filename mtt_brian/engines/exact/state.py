"""The state of a run: one `State` per thread, allocated once."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np

from mtt_brian.engines.exact.queues import ArrivalQueue, CrossingQueue, Queues, own_lines
from mtt_brian.engines.lowered.arrays import LoweredCircuit
from mtt_brian.engines.lowered.rules import LINE


class State(NamedTuple):
    """Arrays of one run.

    Attributes:
        y: float64, potentials of all neurons, then their currents, then the other states of linear systems.
        last: float64 [groups], time of the last update, for populations that move between arrivals (`LINE`: the time
            at which the line begins).
        subtracted, pauses: int64 [N] (empty without `LINE`), thresholds subtracted from the line and refractory periods
            so far.
        refractory_end: float64 [N] (empty without refractory periods), end of the refractory period.
        stamp: int64 [groups], the last instant at which an update group was touched.
        over: int64 [groups] (empty without marked populations), whether neurons are left at their thresholds there.
        mark: int64 [N] (likewise), the instant of a neuron's last arrival in such a group.
        touched, n_touched: update groups touched at this instant, by population.
        fired: int64 [largest population], spikes of a neuron at this instant.
        keys: int64 [largest population], the neurons that fired: C-order index and index, packed.
        counts: int64 [N], spikes of every neuron so far, in C order within a population.
        fires: int64 [N] (empty where no rate is limited), instants at which a neuron has fired so far.
        failure: float64 [4], why a run cannot continue (0: it can; `failures`), population, neuron (C order), time.
        now: int64 [1], number of the instant.
        cursor: int64 [6], where an interrupted loop continues (`loops`).
        queue: int64 [capacity, 2], a ring of (population, key as in ``keys``), for the order "fifo".
    """

    y: np.ndarray
    last: np.ndarray
    subtracted: np.ndarray
    pauses: np.ndarray
    refractory_end: np.ndarray
    stamp: np.ndarray
    over: np.ndarray
    mark: np.ndarray
    touched: np.ndarray
    n_touched: np.ndarray
    fired: np.ndarray
    keys: np.ndarray
    counts: np.ndarray
    fires: np.ndarray
    failure: np.ndarray
    now: np.ndarray
    cursor: np.ndarray
    queue: np.ndarray


class Trace(NamedTuple):
    """Recorded spikes in the order of time: time, population, C-order index, number; and the count of the records."""

    t: np.ndarray
    p: np.ndarray
    i: np.ndarray
    n: np.ndarray
    size: np.ndarray

    @classmethod
    def empty(cls, capacity: int) -> Trace:
        """Room for ``capacity`` records; memory that was never written takes no space."""
        t, p, i, n = (np.empty(capacity, dtype) for dtype in (np.float64, np.int32, np.int64, np.int64))
        return cls(t, p, i, n, own_lines(1))


def new_state(lowered: LoweredCircuit) -> State:
    """The state of ``lowered`` at rest at time 0."""
    neurons, groups = int(lowered.offset[-1]), int(lowered.group_offset[-1])
    sizes = np.diff(lowered.offset)
    lines = neurons if np.any(lowered.kind == LINE) else 0
    return State(
        y=lowered.start.copy(),
        last=np.zeros(groups),
        subtracted=np.zeros(lines, np.int64),
        pauses=np.zeros(lines, np.int64),
        refractory_end=np.zeros(neurons if lowered.refractory.any() else 0),
        stamp=np.zeros(groups, np.int64),
        over=np.zeros(groups if lowered.marked.any() else 0, np.int64),
        mark=np.zeros(neurons if lowered.marked.any() else 0, np.int64),
        touched=np.zeros(groups, np.int64),
        n_touched=own_lines(len(sizes)),
        fired=own_lines(sizes.max()),
        keys=own_lines(sizes.max()),
        counts=np.zeros(neurons, np.int64),
        fires=np.zeros(neurons if lowered.rate_limited.any() else 0, np.int64),
        failure=np.zeros(4),
        now=own_lines(1),
        cursor=own_lines(6),
        queue=np.empty((int(lowered.max_new[2]), 2), np.int64),  # room for the spikes of one event
    )


def new_queues(lowered: LoweredCircuit) -> Queues | None:
    """Room for the crossings of ``lowered`` and for the spikes that one instant can delay; None where both never occur.

    A neuron on a line needs them even if it never crosses: its rule is compiled with the crossings.
    """
    if not (lowered.crosses.any() or lowered.delayed.any() or (lowered.kind == LINE).any()):
        return None
    neurons = int(lowered.offset[-1]) if lowered.crosses.any() else 0
    return Queues(
        CrossingQueue.empty(neurons), CrossingQueue.empty(neurons), ArrivalQueue.empty(int(lowered.max_new[1]))
    )


def new_trace(lowered: LoweredCircuit) -> Trace:
    """Room for the records of one instant."""
    return Trace.empty(int(lowered.max_new[0]))


_Arrays = TypeVar("_Arrays", ArrivalQueue, Trace)


def doubled(arrays: _Arrays, used: int) -> _Arrays:
    """A copy with room for twice as much.

    Args:
        arrays: columns, and their counters as the last field.
        used: records in the columns. The others are not copied, and take no space.
    """
    larger = type(arrays).empty(2 * len(arrays.t))
    for new, old in zip(larger[:-1], arrays[:-1], strict=True):
        new[:used] = old[:used]
    larger[-1][:] = arrays[-1]
    return larger
