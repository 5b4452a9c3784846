"""The two loops over the instants of a recording, and their preparation and end."""

from __future__ import annotations

import numpy as np

from mtt_brian.engines.exact.instant import (
    advance,
    apply_thresholds,
    arrive,
    ascend,
    on_microsecond,
    predict_crossing,
    propagate,
    record,
    tolerance,
    touch,
)
from mtt_brian.engines.exact.jit import kernel, loop, packed, piece, unpacked
from mtt_brian.engines.exact.linear_neurons import LinearPart
from mtt_brian.engines.exact.queues import CrossingQueue, Queues, pop_arrival, schedule_crossing
from mtt_brian.engines.exact.state import State, Trace
from mtt_brian.engines.lowered.arrays import LoweredCircuit
from mtt_brian.engines.lowered.rules import LINE

#: Results of a loop: the end is reached; it needs more memory and must be called again; `State.failure` holds the
#: reason; `PAUSE` instants have passed and it must be called again.
DONE, FULL, FAILED, PAUSED = 0, 1, 2, 3
#: Instants after which a loop returns to Python, which can stop it then.
PAUSE = 1 << 14


@kernel
def predict_first_crossings(
    net: LoweredCircuit, state: State, linear: LinearPart | None, crossings: CrossingQueue
) -> None:
    """Predicts the first crossing of every neuron from rest at time 0."""
    for p in range(len(net.group_size)):
        if net.crosses[p]:
            for local in range(net.offset[p + 1] - net.offset[p]):
                schedule_crossing(crossings, net.offset[p] + local, predict_crossing(net, state, linear, p, local, 0.0))


@loop("sum")
def run_summed(
    net: LoweredCircuit,
    state: State,
    linear: LinearPart | None,
    queues: Queues | None,
    trace: Trace,
    t_in: np.ndarray,
    i_in: np.ndarray,
    n_in: np.ndarray,
    end: float,
) -> int:
    """Runs the network to ``end``: all arrivals of an instant are added up, then compared with the thresholds.

    Args:
        net, state, linear, queues, trace: see there; the first is only read.
        t_in, i_in, n_in: input spikes sorted by time; ``state.cursor[0]`` is the next row.
        end: seconds.

    Returns:
        `DONE`, `FULL` if ``queues.pending`` or ``trace`` may not have room for the next instant, `FAILED` or `PAUSED`.
    """
    row, rows = state.cursor[0], len(t_in)
    pause = state.now[0] + PAUSE
    while True:
        if state.failure[0] != 0.0:
            return FAILED
        t = last = t_in[row] if row < rows else np.inf
        if queues is not None:  # noqa: SIM102 - numba removes the branch only for a plain test for None
            if queues.crossings.size[0] > 0 or queues.pending.state[0] > 0:
                first = t
                if queues.crossings.size[0] > 0:
                    first = min(first, queues.crossings.time[queues.crossings.heap[0]])
                if queues.pending.state[0] > 0:
                    first = min(first, queues.pending.t[0])
                # All events up to `last` are one instant; an input event among them gives the time.
                last = first + tolerance(first)
                if not t <= last:
                    t = on_microsecond(first)
                if not t <= end and first <= end + tolerance(end):
                    t = end
                last = max(last, t + tolerance(t))
        if not t <= end:
            return DONE
        if trace.size[0] + net.max_new[0] > len(trace.t):
            return FULL
        if queues is not None:  # noqa: SIM102
            if queues.pending.state[0] + net.max_new[1] > len(queues.pending.t):
                return FULL
        if state.now[0] == pause:
            return PAUSED
        state.now[0] += 1
        if queues is not None:
            while queues.crossings.size[0] > 0 and queues.crossings.time[queues.crossings.heap[0]] <= last:
                apply_crossing(net, state, linear, queues.crossings, t)
            while queues.pending.state[0] > 0 and queues.pending.t[0] <= last:
                c, entry, n = pop_arrival(queues.pending)
                arrive(net, state, linear, c, entry, n, t)
        for p in range(len(net.group_size)):
            m = 0
            if p == 0:
                while row < rows and t_in[row] == t:
                    local = i_in[row]
                    state.keys[m] = packed(local, local)  # the input is numbered in C order
                    state.fired[local] = n_in[row]
                    state.counts[local] += n_in[row]
                    m += 1
                    row += 1
                state.cursor[0] = row
            elif state.n_touched[p] > 0:
                m = apply_thresholds(net, state, linear, queues, p, t)
                if net.recorded[p]:
                    record(state, trace, p, m, t)
            if m > 0:
                for c in range(net.out[p], net.out[p + 1]):
                    propagate(net, state, linear, queues, c, m, t)


@piece
def apply_crossing(
    net: LoweredCircuit, state: State, linear: LinearPart | None, crossings: CrossingQueue, t: float
) -> None:
    """Brings the earliest neuron of ``crossings`` to its threshold at ``t``."""
    neuron = crossings.heap[0]
    p = 0
    while net.offset[p + 1] <= neuron:
        p += 1
    local = neuron - net.offset[p]
    schedule_crossing(crossings, neuron, np.inf)
    touch(net, state, linear, p, local, t)
    if net.kind[p] != LINE:
        state.y[neuron] = net.threshold[net.parameter_offset[p] + net.parameter_stride[p] * local]


@loop("fifo")
def run_queued(
    net: LoweredCircuit,
    state: State,
    linear: LinearPart | None,
    queues: Queues | None,
    trace: Trace,
    queue: np.ndarray,
    t_in: np.ndarray,
    i_in: np.ndarray,
    order: np.ndarray,
    end: float,
) -> int:
    """Runs the network to ``end``, one event at a time, breadth first; for networks that fire at arrivals only.

    Args:
        net, state, linear, trace: see there; the first is only read. ``queues`` is None or stays empty.
        queue: int64 [capacity, 2], a ring of (population, key as in ``state.keys``).
        t_in, i_in: input pixels, one row per instant and pixel.
        order: rows, one for every single event, in the order of the recording. ``state.cursor`` holds the next
            event, the begin and the length of the queue, and the first record of the instant.
        end: seconds.

    Returns:
        `DONE`, `FULL` if ``trace`` or ``queue`` may not have room for the next event, `FAILED` or `PAUSED`.
    """
    cursor = state.cursor
    pause = state.now[0] + PAUSE
    while True:
        if state.failure[0] != 0.0:
            return FAILED
        if cursor[2] == 0:
            k = cursor[0]
            if k == len(order) or t_in[order[k]] > end:
                merge(trace, cursor[3])
                return DONE
            if k > 0 and t_in[order[k]] != t_in[order[k - 1]]:
                merge(trace, cursor[3])
                cursor[3] = trace.size[0]
        if trace.size[0] + net.max_new[0] > len(trace.t) or cursor[2] + net.max_new[2] > len(queue):
            return FULL
        if state.now[0] == pause:
            return PAUSED
        if cursor[2] == 0:
            p, local = 0, i_in[order[cursor[0]]]
            key = packed(local, local)
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
            state.fired[unpacked(key)[1]] = 1
            propagate(net, state, linear, queues, c, 1, t)
            if not net.closes[c]:
                continue
            target = net.target[c]
            m = apply_thresholds(net, state, linear, queues, target, t)
            if net.recorded[target]:
                record(state, trace, target, m, t)
            for s in range(m):
                to = (cursor[1] + cursor[2]) % len(queue)
                queue[to, 0], queue[to, 1] = target, state.keys[s]
                cursor[2] += 1


@piece
def merge(trace: Trace, begin: int) -> None:
    """Sorts the records of one instant by population and neuron, and adds those of one neuron."""
    end = trace.size[0]
    if end - begin < 2:
        return
    for k in range(begin, end):
        trace.i[k] = packed(np.int64(trace.p[k]), trace.i[k])
    ascend(trace.i, begin, end)
    kept = begin - 1
    for k in range(begin, end):
        p, i = unpacked(trace.i[k])
        if kept >= begin and trace.p[kept] == p and trace.i[kept] == i:
            trace.n[kept] += 1
        else:
            kept += 1
            trace.p[kept], trace.i[kept], trace.n[kept] = p, i, 1
    trace.size[0] = kept + 1


@kernel
def finish(net: LoweredCircuit, state: State, linear: LinearPart | None, p: int, end: float) -> None:
    """Advances the potentials of population ``p``, which move between arrivals, to ``end``."""
    for group in range(net.group_offset[p], net.group_offset[p + 1]):
        advance(net, state, linear, p, group, end)


@kernel
def split(trace: Trace, start: np.ndarray, t: np.ndarray, i: np.ndarray, n: np.ndarray) -> None:
    """Writes the records by population into ``t, i, n``, and where each population begins into ``start`` [P + 1]."""
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
