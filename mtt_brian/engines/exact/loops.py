"""The two loops over the instants of a recording, and what is done before and after them."""

from __future__ import annotations

import numpy as np

from mtt_brian.engines.exact.instant import (
    advance,
    arrive,
    ascend,
    deliver,
    keep,
    next_crossing,
    on_microsecond,
    settle,
    tolerance,
    touch,
)
from mtt_brian.engines.exact.jit import kernel
from mtt_brian.engines.exact.queues import Crossings, Pending, predict, receive
from mtt_brian.engines.exact.state import LinearPart, State, Trace
from mtt_brian.engines.lowered.arrays import LINE, Network

#: What a loop ends with: it has arrived, it needs more room and is to be called again, or `State.alarm` says why not.
DONE, FULL, ALARM = 0, 1, 2
_LOW = 0xFFFFFFFF
#: `merge` sorts by population << _POPULATION | index.
_POPULATION = 40


@kernel
def foresee_all(net: Network, state: State, linear: LinearPart | None, crossings: Crossings) -> None:
    """Predicts the first crossing of every neuron from rest at time 0."""
    for p in range(len(net.group)):
        if net.crosses[p]:
            for local in range(net.offset[p + 1] - net.offset[p]):
                predict(crossings, net.offset[p] + local, next_crossing(net, state, linear, p, local, 0.0))


@kernel
def run_summed(
    net: Network,
    state: State,
    linear: LinearPart | None,
    crossings: Crossings,
    pending: Pending,
    trace: Trace,
    t_in: np.ndarray,
    i_in: np.ndarray,
    n_in: np.ndarray,
    end: float,
) -> int:
    """Carries the network to ``end``: all arrivals of an instant are added up, one sweep per instant.

    Args:
        net, state, linear, crossings, pending, trace: see there; the first is only read.
        t_in, i_in, n_in: input spikes sorted by time; ``state.cursor[0]`` is the first row that is still to come.
        end: seconds.

    Returns:
        `DONE`, `FULL` if ``pending`` or ``trace`` may not have room for the next instant, or `ALARM`.
    """
    row, rows = state.cursor[0], len(t_in)
    while True:
        if state.alarm[0] != 0.0:
            return ALARM
        t = last = t_in[row] if row < rows else np.inf
        if crossings.size[0] > 0 or pending.state[0] > 0:
            first = t
            if crossings.size[0] > 0:
                first = min(first, crossings.time[crossings.heap[0]])
            if pending.state[0] > 0:
                first = min(first, pending.t[0])
            # All that is due up to `last` is one instant; an input event in it gives the time.
            last = first + tolerance(first)
            if not t <= last:
                t = on_microsecond(first)
            if not t <= end and first <= end + tolerance(end):
                t = end
            last = max(last, t + tolerance(t))
        if not t <= end:
            return DONE
        if trace.size[0] + net.most[0] > len(trace.t) or pending.state[0] + net.most[1] > len(pending.t):
            return FULL
        state.now[0] += 1
        while crossings.size[0] > 0 and crossings.time[crossings.heap[0]] <= last:
            cross(net, state, linear, crossings, t)
        while pending.state[0] > 0 and pending.t[0] <= last:
            c, f, n = receive(pending)
            arrive(net, state, linear, c, f, n, t)
        for p in range(len(net.group)):
            m = 0
            if p == 0:
                while row < rows and t_in[row] == t:
                    local = i_in[row]
                    state.keys[m] = local << 32 | local  # the input is numbered in C order
                    state.fired[local] = n_in[row]
                    state.counts[local] += n_in[row]
                    m += 1
                    row += 1
                state.cursor[0] = row
            elif state.n_touched[p] > 0:
                m = settle(net, state, linear, crossings, p, t)
                if net.recorded[p]:
                    keep(state, trace, p, m, t)
            if m > 0:
                for c in range(net.out[p], net.out[p + 1]):
                    deliver(net, state, linear, pending, c, m, t)


@kernel
def cross(net: Network, state: State, linear: LinearPart | None, crossings: Crossings, t: float) -> None:
    """The earliest neuron of ``crossings`` comes up to its threshold at ``t`` on its own."""
    neuron = crossings.heap[0]
    p = 0
    while net.offset[p + 1] <= neuron:
        p += 1
    local = neuron - net.offset[p]
    predict(crossings, neuron, np.inf)
    touch(net, state, linear, p, local, t)
    if net.kind[p] != LINE:
        state.y[neuron] = net.threshold[net.parameter_offset[p] + net.parameter_stride[p] * local]


@kernel
def run_queued(
    net: Network,
    state: State,
    linear: LinearPart | None,
    crossings: Crossings,
    pending: Pending,
    trace: Trace,
    queue: np.ndarray,
    t_in: np.ndarray,
    i_in: np.ndarray,
    order: np.ndarray,
    end: float,
) -> int:
    """Carries the network to ``end`` event by event, breadth first; for networks that fire at arrivals only.

    Args:
        net, state, linear, trace: see there; the first is only read. ``crossings`` and ``pending`` are empty.
        queue: int64 [capacity, 2], a ring of (population, key as in ``state.keys``).
        t_in, i_in: input pixels, one row per instant and pixel.
        order: rows, one for every single event, in the order of the recording. ``state.cursor`` holds the first event
            that is still to come, where the queue begins and how long it is, and the first record of the instant.
        end: seconds.

    Returns:
        `DONE`, `FULL` if ``trace`` or ``queue`` may not have room for the next event, or `ALARM`.
    """
    cursor = state.cursor
    while True:
        if state.alarm[0] != 0.0:
            return ALARM
        if cursor[2] == 0:
            k = cursor[0]
            if k == len(order) or t_in[order[k]] > end:
                merge(trace, cursor[3])
                return DONE
            if k > 0 and t_in[order[k]] != t_in[order[k - 1]]:
                merge(trace, cursor[3])
                cursor[3] = trace.size[0]
        if trace.size[0] + net.most[0] > len(trace.t) or cursor[2] + net.most[2] > len(queue):
            return FULL
        if cursor[2] == 0:
            p, local = 0, i_in[order[cursor[0]]]
            key = local << 32 | local
            state.counts[local] += 1
            cursor[0] += 1
        else:
            p, key = queue[cursor[1], 0], queue[cursor[1], 1]
            cursor[1] = (cursor[1] + 1) % len(queue)
            cursor[2] -= 1
        t = t_in[order[cursor[0] - 1]]
        state.now[0] += 1
        for c in range(net.out[p], net.out[p + 1]):
            state.keys[0] = key
            state.fired[key & _LOW] = 1
            deliver(net, state, linear, pending, c, 1, t)
            if not net.closes[c]:
                continue
            target = net.target[c]
            m = settle(net, state, linear, crossings, target, t)
            if net.recorded[target]:
                keep(state, trace, target, m, t)
            for s in range(m):
                to = (cursor[1] + cursor[2]) % len(queue)
                queue[to, 0], queue[to, 1] = target, state.keys[s]
                cursor[2] += 1


@kernel
def merge(trace: Trace, begin: int) -> None:
    """Sorts the records of one instant by population and neuron, and adds up those of one neuron."""
    end = trace.size[0]
    if end - begin < 2:
        return
    for k in range(begin, end):
        trace.i[k] |= np.int64(trace.p[k]) << _POPULATION
    ascend(trace.i, begin, end)
    kept = begin - 1
    for k in range(begin, end):
        p, i = trace.i[k] >> _POPULATION, trace.i[k] & ((1 << _POPULATION) - 1)
        if kept >= begin and trace.p[kept] == p and trace.i[kept] == i:
            trace.n[kept] += 1
        else:
            kept += 1
            trace.p[kept], trace.i[kept], trace.n[kept] = p, i, 1
    trace.size[0] = kept + 1


@kernel
def finish(net: Network, state: State, linear: LinearPart | None, p: int, end: float) -> None:
    """Carries the potentials of population ``p``, which move on their own, to ``end``."""
    for site in range(net.site_offset[p], net.site_offset[p + 1]):
        advance(net, state, linear, p, site, end)


@kernel
def split(trace: Trace, start: np.ndarray, t: np.ndarray, i: np.ndarray, n: np.ndarray) -> None:
    """Writes the records by population into ``t, i, n``; ``start`` [populations + 1] becomes where each begins."""
    start[:] = 0
    for k in range(trace.size[0]):
        start[trace.p[k] + 1] += 1
    for p in range(1, len(start)):
        start[p] += start[p - 1]
    for k in range(trace.size[0]):
        to = start[trace.p[k]]
        start[trace.p[k]] = to + 1
        t[to], i[to], n[to] = trace.t[k], trace.i[k], trace.n[k]
    for p in range(len(start) - 1, 0, -1):
        start[p] = start[p - 1]
    start[0] = 0
