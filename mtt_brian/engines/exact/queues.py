"""The event queue: predicted threshold crossings, one per neuron, and delayed arrivals, each in a binary heap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mtt_brian.engines.exact.jit import piece

#: Numbers of eight bytes between an array and its neighbours: two cache lines, because these are loaded in pairs.
_APART = 16


def own_lines(n: int) -> np.ndarray:
    """int64 [n], zeros, in cache lines of its own.

    For the small arrays that every event writes: if two threads share a line, each write invalidates it in the other
    core, and two cores are 1.2 to 1.6 times as fast as one instead of 1.8.
    """
    return np.zeros(n + 2 * _APART, np.int64)[_APART:-_APART]


class CrossingQueue(NamedTuple):
    """A binary heap of neurons by their next crossing; the position of each neuron is stored, so that its time can be
    replaced.

    Attributes:
        time: float64 [N], seconds, inf for none.
        heap: int64 [N], neurons, the earliest first.
        place: int64 [N], index in ``heap``, -1 for neurons outside the heap.
        size: int64 [1].
    """

    time: np.ndarray
    heap: np.ndarray
    place: np.ndarray
    size: np.ndarray

    @classmethod
    def empty(cls, n: int) -> CrossingQueue:
        """No crossing of any of ``n`` neurons."""
        return cls(np.full(n, np.inf), np.zeros(n, np.int64), np.full(n, -1), own_lines(1))


class ArrivalQueue(NamedTuple):
    """A binary heap of arrivals by time, then by the order in which they were added.

    Attributes:
        t: float64, seconds.
        serial: int64, order of the additions.
        connection, entry: int64, the entry of `LoweredCircuit` through which the spikes arrive.
        amount: int64, spikes.
        state: int64 [2], how many there are, and the next serial number.
    """

    t: np.ndarray
    serial: np.ndarray
    connection: np.ndarray
    entry: np.ndarray
    amount: np.ndarray
    state: np.ndarray

    @classmethod
    def empty(cls, capacity: int) -> ArrivalQueue:
        """No arrivals."""
        serial, connection, entry, amount = np.zeros((4, capacity), np.int64)
        return cls(np.zeros(capacity), serial, connection, entry, amount, own_lines(2))


class Queues(NamedTuple):
    """The pending events of a run besides its input.

    Kernels accept ``Queues | None``. None is for circuits without delays whose neurons fire at arrivals only: numba
    then compiles the loops without the code of the queues.

    Attributes:
        crossings: the next ones.
        at_rest: the first ones, of a network at rest at time 0.
        pending: arrivals.
    """

    crossings: CrossingQueue
    at_rest: CrossingQueue
    pending: ArrivalQueue


@piece
def schedule_crossing(crossings: CrossingQueue, neuron: int, time: float) -> None:
    """Replaces the predicted crossing of one neuron (inf: none)."""
    key, heap, place = crossings.time, crossings.heap, crossings.place
    k = place[neuron]
    if k < 0:
        if time == np.inf:
            return
        k = crossings.size[0]
        crossings.size[0] = k + 1
        heap[k] = neuron
    elif time == np.inf:
        last = crossings.size[0] - 1
        crossings.size[0] = last
        place[neuron] = -1
        key[neuron] = np.inf
        if k == last:
            return
        neuron = heap[last]
        time = key[neuron]
    key[neuron] = time
    while k > 0:
        parent = (k - 1) >> 1
        other = heap[parent]
        if key[other] <= time:
            break
        heap[k] = other
        place[other] = k
        k = parent
    size = crossings.size[0]
    while True:
        child = 2 * k + 1
        if child >= size:
            break
        if child + 1 < size and key[heap[child + 1]] < key[heap[child]]:
            child += 1
        other = heap[child]
        if key[other] >= time:
            break
        heap[k] = other
        place[other] = k
        k = child
    heap[k] = neuron
    place[neuron] = k


@piece
def push_arrival(pending: ArrivalQueue, time: float, connection: int, entry: int, amount: int) -> None:
    """Adds an arrival; there must be room."""
    size = pending.state[0]
    serial = pending.state[1]
    pending.state[0] = size + 1
    pending.state[1] = serial + 1
    k = size
    while k > 0:  # of equal times the newest comes last
        parent = (k - 1) >> 1
        if pending.t[parent] <= time:
            break
        _move(pending, parent, k)
        k = parent
    pending.t[k] = time
    pending.serial[k] = serial
    pending.connection[k] = connection
    pending.entry[k] = entry
    pending.amount[k] = amount


@piece
def pop_arrival(pending: ArrivalQueue) -> tuple[int, int, int]:
    """Removes the earliest arrival: (connection, entry, amount)."""
    first = pending.connection[0], pending.entry[0], pending.amount[0]
    size = pending.state[0] - 1
    pending.state[0] = size
    time, serial = pending.t[size], pending.serial[size]
    k = 0
    while True:
        child = 2 * k + 1
        if child >= size:
            break
        if child + 1 < size and _before(pending, child + 1, pending.t[child], pending.serial[child]):
            child += 1
        if not _before(pending, child, time, serial):
            break
        _move(pending, child, k)
        k = child
    _move(pending, size, k)
    return first


@piece
def _before(pending: ArrivalQueue, k: int, time: float, serial: int) -> bool:
    return pending.t[k] < time or (pending.t[k] == time and pending.serial[k] < serial)


@piece
def _move(pending: ArrivalQueue, k: int, to: int) -> None:
    pending.t[to] = pending.t[k]
    pending.serial[to] = pending.serial[k]
    pending.connection[to] = pending.connection[k]
    pending.entry[to] = pending.entry[k]
    pending.amount[to] = pending.amount[k]
