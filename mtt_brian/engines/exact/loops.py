"""The two loops over the instants of recordings, one recording after another, and their preparation and end.

Several recordings are run in one call: after each return, and after each operation on an array, Python waits for its
lock, which the other threads want too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

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
from mtt_brian.engines.exact.jit import array_at, call, kernel, loop, packed, piece, unpacked
from mtt_brian.engines.exact.linear_neurons import LinearPart
from mtt_brian.engines.exact.queues import CrossingQueue, Queues, pop_arrival, schedule_crossing
from mtt_brian.engines.exact.state import State, Trace
from mtt_brian.engines.lowered.arrays import LoweredCircuit
from mtt_brian.engines.lowered.rules import LINE

#: Results of a loop: all recordings have ended; it needs more memory and must be called again; `State.failure` holds
#: the reason; `PAUSE` instants have passed and it must be called again; a recording has ended with inf or NaN.
DONE, FULL, FAILED, PAUSED, UNBOUNDED = 0, 1, 2, 3, 4
#: Instants after which a loop returns to Python, which can stop it then.
PAUSE = 1 << 14

# Columns of `Batch.address` and `Batch.outcome`.
TIME, NEURON, SPIKES, EVENTS, COUNTS, READOUT = range(6)
RECORDS, SYNOPS, MOST = range(3)
# Places in `State.cursor`: the next row or event, begin and length of the queue, the first record of the instant, the
# recording, whether it begins from rest.
NEXT, RING, QUEUED, FIRST, RECORDING, FRESH = range(6)


class Rows(NamedTuple):
    """The input spikes of a recording, see `InputSpikes`, and the end of its run in seconds."""

    t: np.ndarray
    i: np.ndarray
    n: np.ndarray
    order: np.ndarray
    end: float


class Batch(NamedTuple):
    """B recordings, or a piece of one, and the memory for their results.

    Attributes:
        loop: address of `run_summed` or `run_queued`.
        finish: address of `finish`; 0 if the readout does not move between arrivals.
        readout: number of the last population.
        fires: whether its spike counts are the readout.
        address: int64 [B, 6], of the arrays of the input spikes; of the spike counts, int64 [N], and of the readout,
            float64, which are written.
        size: int64 [B, 2], rows of the input spikes, and events.
        end: float64 [B], seconds.
        fan_out: int64 [N], of every neuron in C order.
        outcome: int64 [B, 3], written: records in the trace so far, synaptic operations (right if no count is above
            `mtt_brian.circuit.model.MOST_SUMMED`), the largest count.
    """

    loop: int
    finish: int
    readout: int
    fires: bool
    address: np.ndarray
    size: np.ndarray
    end: np.ndarray
    fan_out: np.ndarray
    outcome: np.ndarray


def addresses(arrays: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """The addresses of contiguous arrays, int64 [B, K]."""
    return np.array([[array.ctypes.data for array in row] for row in arrays], np.int64)


@kernel
def run_batch(
    net: LoweredCircuit, state: State, linear: LinearPart | None, queues: Queues | None, trace: Trace, batch: Batch
) -> int:
    """Runs recordings one after another; ``state.cursor`` tells where to go on.

    Returns:
        `DONE` and the results of all recordings in ``batch``; else see there.
    """
    cursor, p = state.cursor, batch.readout
    first, size = net.offset[p], net.offset[p + 1] - net.offset[p]
    for k in range(cursor[RECORDING], len(batch.end)):
        if cursor[FRESH]:
            begin_recording(net, state, queues, trace)
        end = batch.end[k]
        rows = Rows(
            array_at(batch.address[k, TIME], batch.size[k, 0], 0.0),
            array_at(batch.address[k, NEURON], batch.size[k, 0], 0),
            array_at(batch.address[k, SPIKES], batch.size[k, 0], 0),
            array_at(batch.address[k, EVENTS], batch.size[k, 1], 0),
            end,
        )
        status = call(batch.loop, (net, state, linear, queues, trace, rows), 0)
        if status != DONE:
            return int(status)
        if batch.finish:
            call(batch.finish, (net, state, linear, p, end), 0)
        for j in range(len(state.y)):
            if not np.isfinite(state.y[j]):
                return UNBOUNDED
        counts, synops, most = array_at(batch.address[k, COUNTS], len(state.counts), 0), 0, 0
        for j in range(len(state.counts)):
            count = state.counts[j]
            counts[j] = count
            synops += count * batch.fan_out[j]
            most = max(most, count)
        readout = array_at(batch.address[k, READOUT], size, 0.0)
        for j in range(size):
            if batch.fires:
                readout[j] = state.counts[first + j]
            else:
                readout[net.flat[first + j]] = state.y[first + j]
        batch.outcome[k, RECORDS], batch.outcome[k, SYNOPS], batch.outcome[k, MOST] = trace.size[0], synops, most
        cursor[RECORDING], cursor[FRESH] = k + 1, 1
    return DONE


@piece
def begin_recording(net: LoweredCircuit, state: State, queues: Queues | None, trace: Trace) -> None:
    """Back to rest at time 0. The number of the instant continues, so that stamps stay valid."""
    for k in range(len(state.y)):
        state.y[k] = net.start[k]
    for zeros in (state.last, state.refractory_end, state.failure):
        zeros[:] = 0.0
    # After a failed run the update groups of its last instant are still listed.
    for none in (state.subtracted, state.pauses, state.counts, state.fires, state.over, state.n_touched):
        none[:] = 0
    state.cursor[:RECORDING] = 0
    state.cursor[FIRST] = trace.size[0]
    state.cursor[FRESH] = 0
    if queues is not None:
        for k in range(len(queues.crossings.time)):
            queues.crossings.time[k] = queues.at_rest.time[k]
            queues.crossings.heap[k] = queues.at_rest.heap[k]
            queues.crossings.place[k] = queues.at_rest.place[k]
        queues.crossings.size[0] = queues.at_rest.size[0]
        queues.pending.state[:] = 0


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
    given: Rows,
) -> int:
    """Runs a recording: all arrivals of an instant are added up, then compared with the thresholds.

    Args:
        net, state, linear, queues, trace, given: see there; the first and the last are only read. ``state.cursor``
            tells where to go on.

    Returns:
        `DONE`, `FULL` if ``queues.pending`` or ``trace`` may not have room for the next instant, `FAILED` or `PAUSED`.
    """
    t_in, i_in, n_in, end = given.t, given.i, given.n, given.end
    row, rows = state.cursor[NEXT], len(t_in)
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
                state.cursor[NEXT] = row
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
    given: Rows,
) -> int:
    """Runs a recording one event at a time, breadth first; for networks that fire at arrivals only.

    Args:
        net, state, linear, queues, trace, given: see there; the first and the last are only read. ``queues`` is None or
            stays empty. ``state.cursor`` tells where to go on.

    Returns:
        `DONE`, `FULL` if ``trace`` or ``state.queue`` may not have room for the next event, `FAILED` or `PAUSED`.
    """
    t_in, i_in, order, end = given.t, given.i, given.order, given.end
    cursor, queue = state.cursor, state.queue
    pause = state.now[0] + PAUSE
    while True:
        if state.failure[0] != 0.0:
            return FAILED
        if cursor[QUEUED] == 0:
            k = cursor[NEXT]
            if k == len(order) or t_in[order[k]] > end:
                merge(trace, cursor[FIRST])
                return DONE
            if k > 0 and t_in[order[k]] != t_in[order[k - 1]]:
                merge(trace, cursor[FIRST])
                cursor[FIRST] = trace.size[0]
        if trace.size[0] + net.max_new[0] > len(trace.t) or cursor[QUEUED] + net.max_new[2] > len(queue):
            return FULL
        if state.now[0] == pause:
            return PAUSED
        if cursor[QUEUED] == 0:
            p, local = 0, i_in[order[cursor[NEXT]]]
            key = packed(local, local)
            state.counts[local] += 1
            cursor[NEXT] += 1
        else:
            p, key = queue[cursor[RING], 0], queue[cursor[RING], 1]
            cursor[RING] = (cursor[RING] + 1) % len(queue)
            cursor[QUEUED] -= 1
        t = t_in[order[cursor[NEXT] - 1]]
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
                to = (cursor[RING] + cursor[QUEUED]) % len(queue)
                queue[to, 0], queue[to, 1] = target, state.keys[s]
                cursor[QUEUED] += 1


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


@piece
def finish(net: LoweredCircuit, state: State, linear: LinearPart | None, p: int, end: float) -> int:
    """Advances the potentials of population ``p``, which move between arrivals, to ``end``."""
    for group in range(net.group_offset[p], net.group_offset[p + 1]):
        advance(net, state, linear, p, group, end)
    return DONE


@kernel
def split(trace: Trace, batch: Batch, start: np.ndarray, address: np.ndarray) -> None:
    """Writes the records by recording and population.

    Args:
        trace, batch: after the loop.
        start: receives where each population begins among the records of a recording, int64 [B, P + 1]; zeros.
        address: int64 [B, 3], of the arrays that receive time, neuron and number of these records.
    """
    begin = 0
    for r in range(len(batch.end)):
        end, first = batch.outcome[r, RECORDS], start[r]
        t = array_at(address[r, TIME], end - begin, 0.0)
        i = array_at(address[r, NEURON], end - begin, 0)
        n = array_at(address[r, SPIKES], end - begin, 0)
        for k in range(begin, end):
            first[trace.p[k] + 1] += 1
        for p in range(1, len(first)):
            first[p] += first[p - 1]
        for k in range(begin, end):
            to = first[trace.p[k]]
            first[trace.p[k]] = to + 1
            t[to], i[to], n[to] = trace.t[k], trace.i[k], trace.n[k]
        for p in range(len(first) - 1, 0, -1):
            first[p] = first[p - 1]
        first[0] = 0
        begin = end
