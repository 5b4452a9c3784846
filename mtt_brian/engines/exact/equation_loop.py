"""The instants of a network of `EquationNeuron`, one after another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mtt_brian.circuit import plasticity as ops
from mtt_brian.engines.exact.equation_neurons import (
    AS_IT_IS,
    CONDITIONAL,
    CURRENT,
    DUE,
    MOST_AT_ONCE,
    REACHED,
    REFRACTORY,
    STAMP,
    TIMED,
    TURNED,
    TURNS,
    Equations,
    GeneralRule,
    advance_listed,
    carry,
    end_conditional,
    hold,
    holds,
    jump,
    list_to_carry,
    list_to_predict,
    listen_again,
    predict_crossing,
    put_at_crossing,
    read_states,
    refine,
    reset,
)
from mtt_brian.engines.exact.instant import tolerance
from mtt_brian.engines.exact.jit import device_kernel, inlined, piece
from mtt_brian.engines.exact.loops import PAUSE
from mtt_brian.engines.exact.queues import CrossingQueue, schedule_crossing
from mtt_brian.engines.exact.synapse_programs import (
    AT_ONCE,
    BAD_ROW,
    BAD_SYNAPSE,
    BEGIN,
    END,
    LISTED,
    OF,
    WIDTH,
    Plasticity,
    computed,
    enlist,
    follow,
)
from mtt_brian.engines.exact.taylor import TaylorRule
from mtt_brian.engines.lowered.synapse_lists import NONE, SAME, SynapseLists

#: Results of the loop: the end is reached; it needs more memory and must be called again; a neuron fires without end,
#: or an oscillation stays so close to the threshold that its crossing is not found (`Progress.where`); `PAUSE` instants
#: or rounds have passed and it must be called again; a synapse computed what is not finite (`Plasticity.state`).
#: `READY`: it goes on.
DONE, FULL, WITHOUT_END, UNDECIDED, PAUSED, NOT_FINITE, READY = range(7)
#: Columns of `DelayedSpikes.number`.
SERIAL, CONNECTION, SYNAPSE, STOP, AMOUNT = range(5)


class DelayedSpikes(NamedTuple):
    """A binary heap of spikes in delays, by their next arrival, then by the order in which they were sent.

    It contains a spike once per connection, with its next synapse.

    Attributes:
        time: next arrival and time of the spike in seconds, float64 [room, 2].
        number: order of sending, connection, next synapse, end of its synapses, spikes at once, int64 [room, 5].
        size: number of spikes, and the next serial number, int64 [2].
    """

    time: np.ndarray
    number: np.ndarray
    size: np.ndarray

    @classmethod
    def empty(cls, room: int) -> DelayedSpikes:
        """No spike in a delay."""
        return cls(np.zeros((room, 2)), np.zeros((room, 5), np.int64), np.zeros(2, np.int64))


class Trace(NamedTuple):
    """Recorded spikes: time, neuron [room], and its states before the reset [w room]."""

    t: np.ndarray
    neuron: np.ndarray
    x: np.ndarray

    @classmethod
    def empty(cls, room: int, w: int) -> Trace:
        """Room for so many spikes of neurons with ``w`` coordinates."""
        return cls(np.zeros(room), np.zeros(room, np.int64), np.zeros(w * room))


class Progress(NamedTuple):
    """Progress of a run.

    Attributes:
        now: number of the instant, rows of the input taken, spikes in the trace, neuron of an alarm, and neurons
            touched in this round (0: the instant is over), int64 [5].
        where: time of the instant, or of an alarm [1].
        touched: neurons touched in this round, int64 [N].
        last: the instant of the last spike of every neuron, and the number of its spikes in it, int64 [N, 2].
    """

    now: np.ndarray
    where: np.ndarray
    touched: np.ndarray
    last: np.ndarray

    @classmethod
    def start(cls, neurons: int) -> Progress:
        """Nothing has happened."""
        touched, last = np.zeros(neurons, np.int64), np.full((neurons, 2), -1, np.int64)
        return cls(np.zeros(5, np.int64), np.zeros(1), touched, last)

    def back_to(self, instant: int) -> None:
        """This instant is over, and the next one has not begun."""
        self.now[NOW], self.now[TOUCHED] = instant, 0
        self.last[:] = -1


NOW, ROW, SPIKES, NEURON, TOUCHED = range(5)


@device_kernel
def run(
    net: SynapseLists,
    eq: Equations,
    general: GeneralRule | None,
    taylor: TaylorRule | None,
    plastic: Plasticity | None,
    crossings: CrossingQueue,
    delayed: DelayedSpikes,
    trace: Trace,
    progress: Progress,
    t_in: np.ndarray,
    i_in: np.ndarray,
    n_in: np.ndarray,
    end: float,
) -> int:
    """Advances the network to ``end``: the arrivals of an instant are added, then its rounds follow.

    Args:
        net, eq, general, taylor, plastic, crossings, delayed, trace, progress: see there; the first is only read.
        t_in, i_in, n_in: input spikes sorted by time: seconds, source, spikes at once.
        end: seconds, included.

    Returns:
        `DONE`, or the reason why the loop has stopped.
    """
    now = progress.now
    for _ in range(PAUSE):
        if now[SPIKES] + now[TOUCHED] > len(trace.t) or delayed.size[0] + net.most > len(delayed.time):
            return FULL
        if now[TOUCHED] == 0:
            status = _gather(net, eq, general, taylor, plastic, crossings, delayed, progress, t_in, i_in, n_in, end)
        else:
            status = _round(net, eq, general, taylor, plastic, crossings, delayed, trace, progress)
        if status != READY:
            return status
    return PAUSED


@piece
def _gather(
    net: SynapseLists,
    eq: Equations,
    general: GeneralRule | None,
    taylor: TaylorRule | None,
    plastic: Plasticity | None,
    crossings: CrossingQueue,
    delayed: DelayedSpikes,
    progress: Progress,
    t_in: np.ndarray,
    i_in: np.ndarray,
    n_in: np.ndarray,
    end: float,
) -> int:
    """Begins the next instant: its time, and all its arrivals and crossings that no spike of this instant causes.

    Returns:
        `READY`, or why the loop stops in front of it.
    """
    now = progress.now
    row = now[ROW]
    t = last = t_in[row] if row < len(t_in) else np.inf
    until = min(t, end)
    if delayed.size[0] > 0:
        until = min(until, delayed.time[0, 0])
    left_open = refine(eq, taylor, crossings, until + tolerance(until))
    if left_open >= 0:
        now[NEURON], progress.where[0] = left_open, until
        return UNDECIDED
    if crossings.size[0] > 0 or delayed.size[0] > 0:
        first = t
        if crossings.size[0] > 0:
            first = min(first, crossings.time[crossings.heap[0]])
        if delayed.size[0] > 0:
            first = min(first, delayed.time[0, 0])
        # All events up to `last` are one instant; an input spike among them gives the time.
        last = first + tolerance(first)
        if not t <= last:
            t = np.rint(first * 1e6) / 1e6
            if not abs(t - first) <= tolerance(first):
                t = first
        last = max(last, t + tolerance(t))
    if not t <= end:
        return DONE
    now[NOW] += 1
    progress.where[0] = t
    while crossings.size[0] > 0 and crossings.time[crossings.heap[0]] <= last:
        _reach(net, eq, general, taylor, crossings, progress, t)
    while delayed.size[0] > 0 and delayed.time[0, 0] <= last:
        _receive(net, eq, general, taylor, plastic, delayed, progress, t, last)
    while now[ROW] < len(t_in) and t_in[now[ROW]] == t:
        row = now[ROW]
        now[ROW] += 1
        for c in range(net.out[0], net.out[1]):
            _deliver(net, eq, general, taylor, plastic, delayed, progress, c, i_in[row], n_in[row], t)
    if plastic is not None:
        return _execute(net, eq, general, taylor, plastic, progress, t)
    return READY


@inlined
def _touch(
    eq: Equations, general: GeneralRule | None, taylor: TaylorRule | None, progress: Progress, v: int, t: float
) -> None:
    """Marks a neuron for the thresholds of the next round."""
    now = progress.now
    if eq.z[v, STAMP] != now[NOW]:
        eq.z[v, STAMP] = now[NOW]
        progress.touched[now[TOUCHED]] = v
        now[TOUCHED] += 1
        carry(eq, general, taylor, v, t)


@piece
def _reach(
    net: SynapseLists,
    eq: Equations,
    general: GeneralRule | None,
    taylor: TaylorRule | None,
    crossings: CrossingQueue,
    progress: Progress,
    t: float,
) -> None:
    """The earliest neuron of ``crossings`` reaches its threshold at ``t``, or the end of its refractory period."""
    v = crossings.heap[0]
    if taylor is not None:
        put_at_crossing(eq, taylor, v, crossings.time[v], t)
    schedule_crossing(crossings, v, np.inf)
    _touch(eq, general, taylor, progress, v, t)
    if eq.z[v, REFRACTORY]:
        listen_again(eq, v)
        eq.z[v, DUE] = -2 - progress.now[NOW]
    else:
        eq.z[v, DUE] = progress.now[NOW]


@piece
def _arrive(
    net: SynapseLists,
    eq: Equations,
    general: GeneralRule | None,
    taylor: TaylorRule | None,
    plastic: Plasticity | None,
    progress: Progress,
    c: int,
    begin: int,
    end: int,
    n: int,
    t: float,
) -> None:
    """``n`` spikes through synapses of connection ``c`` reach their targets, or are listed for `_execute`."""
    if plastic is not None:  # noqa: SIM102 - numba removes the branch only for a plain test for None
        if net.program[c] != NONE:
            enlist(plastic, c, begin, end, n)
            return
    first, port = net.first[c], net.port[c]
    if taylor is not None:  # many cells at once
        waiting = 0
        for k in range(begin, end):
            waiting = list_to_carry(eq, taylor, waiting, first + net.to[k], t)
        advance_listed(eq, taylor, waiting, t, 0)
    for k in range(begin, end):
        v = first + net.to[k]
        _touch(eq, general, taylor, progress, v, t)
        jump(eq, v, port, n * net.weight[k])


@piece
def _deliver(
    net: SynapseLists,
    eq: Equations,
    general: GeneralRule | None,
    taylor: TaylorRule | None,
    plastic: Plasticity | None,
    delayed: DelayedSpikes,
    progress: Progress,
    c: int,
    source: int,
    n: int,
    t: float,
) -> None:
    """``n`` spikes of a source go into connection ``c``."""
    begin, end = net.begin[net.base[c] + source], net.begin[net.base[c] + source + 1]
    if not net.delayed[c]:
        _arrive(net, eq, general, taylor, plastic, progress, c, begin, end, n, t)
    elif begin < end:
        now = begin
        if net.varied[c] != SAME:
            while now < end and net.seconds[now + net.varied[c]] == 0.0:
                now += 1
            _arrive(net, eq, general, taylor, plastic, progress, c, begin, now, n, t)
        if now < end:
            _send(net, delayed, c, now, end, n, t)


@piece
def _execute(
    net: SynapseLists,
    eq: Equations,
    general: GeneralRule | None,
    taylor: TaylorRule | None,
    plastic: Plasticity,
    progress: Progress,
    t: float,
) -> int:
    """Executes the programs that the spikes of this round reach, in their order; `READY` or `NOT_FINITE`."""
    state = plastic.state
    for program in range(len(plastic.first) - 1):
        for k in range(state[LISTED]):
            if net.program[plastic.due[k, OF]] == program:
                begin, end = plastic.due[k, BEGIN], plastic.due[k, END]
                for _ in range(plastic.due[k, AT_ONCE]):
                    for at in range(begin, end, WIDTH):
                        _execute_program(
                            net, eq, general, taylor, plastic, progress, program, at, min(end - at, WIDTH), t
                        )
    state[LISTED] = 0
    return READY if state[BAD_ROW] < 0 else NOT_FINITE


@piece
def _execute_program(
    net: SynapseLists,
    eq: Equations,
    general: GeneralRule | None,
    taylor: TaylorRule | None,
    plastic: Plasticity,
    progress: Progress,
    program: int,
    begin: int,
    width: int,
    t: float,
) -> None:
    """Executes a program for ``width`` synapses from ``begin`` on."""
    code, x, values = plastic.code, plastic.registers, plastic.values
    for i in range(plastic.first[program], plastic.first[program + 1]):
        op, r, a, b, c, d = code[i, 0], code[i, 1], code[i, 2], code[i, 3], code[i, 4], code[i, 5]
        for k in range(width):
            synapse = net.to[begin + k]
            if op == ops.LOAD:
                x[r, k] = values[a + synapse]
            elif op == ops.TIME:
                x[r, k] = t
            elif op == ops.FOLLOW:
                x[r, k] = follow(x[a, k], x[b, k], x[c, k], x[d, k])
            elif op in (ops.STORE, ops.ADD):
                value = x[a if op == ops.STORE else b, k]
                if not abs(value) < np.inf:
                    plastic.state[BAD_ROW], plastic.state[BAD_SYNAPSE] = i, synapse
                if op == ops.STORE:
                    values[r + synapse] = value
                    continue
                v = plastic.neuron[r + synapse]
                _touch(eq, general, taylor, progress, v, t)
                jump(eq, v, a, value)
            else:
                x[r, k] = computed(op, x[a, k], x[b, k], x[c, k])


@piece
def _send(net: SynapseLists, delayed: DelayedSpikes, c: int, synapse: int, stop: int, n: int, t: float) -> None:
    """Adds a spike of time ``t`` to the heap; its next arrival is through ``synapse``."""
    serial = delayed.size[1]
    delayed.size[1] += 1
    _enter(net, delayed, serial, c, synapse, stop, n, t)


@piece
def _enter(
    net: SynapseLists, delayed: DelayedSpikes, serial: int, c: int, synapse: int, stop: int, n: int, t: float
) -> None:
    wait = net.wait[c] if net.varied[c] == SAME else net.seconds[synapse + net.varied[c]]
    time = t + wait
    k = delayed.size[0]
    delayed.size[0] += 1
    while k > 0:
        parent = (k - 1) >> 1
        if delayed.time[parent, 0] < time or (
            delayed.time[parent, 0] == time and delayed.number[parent, SERIAL] < serial
        ):
            break
        _move(delayed, parent, k)
        k = parent
    delayed.time[k, 0], delayed.time[k, 1] = time, t
    delayed.number[k, SERIAL], delayed.number[k, CONNECTION], delayed.number[k, SYNAPSE] = serial, c, synapse
    delayed.number[k, STOP], delayed.number[k, AMOUNT] = stop, n


@piece
def _receive(
    net: SynapseLists,
    eq: Equations,
    general: GeneralRule | None,
    taylor: TaylorRule | None,
    plastic: Plasticity | None,
    delayed: DelayedSpikes,
    progress: Progress,
    t: float,
    last: float,
) -> None:
    """The earliest spike arrives at ``t`` through all its synapses that are due."""
    serial, c, begin = delayed.number[0, SERIAL], delayed.number[0, CONNECTION], delayed.number[0, SYNAPSE]
    stop, n, sent = delayed.number[0, STOP], delayed.number[0, AMOUNT], delayed.time[0, 1]
    size = delayed.size[0] - 1
    delayed.size[0] = size
    k = 0
    while True:
        child = 2 * k + 1
        if child >= size:
            break
        if child + 1 < size and _before(delayed, child + 1, child):
            child += 1
        if not _before(delayed, child, size):
            break
        _move(delayed, child, k)
        k = child
    _move(delayed, size, k)
    end = stop
    if net.varied[c] != SAME:
        end = begin + 1
        while end < stop and sent + net.seconds[end + net.varied[c]] <= last:
            end += 1
    _arrive(net, eq, general, taylor, plastic, progress, c, begin, end, n, t)
    if end < stop:
        _enter(net, delayed, serial, c, end, stop, n, sent)


@inlined
def _before(delayed: DelayedSpikes, k: int, other: int) -> bool:
    return delayed.time[k, 0] < delayed.time[other, 0] or (
        delayed.time[k, 0] == delayed.time[other, 0] and delayed.number[k, SERIAL] < delayed.number[other, SERIAL]
    )


@inlined
def _move(delayed: DelayedSpikes, k: int, to: int) -> None:
    delayed.time[to, 0], delayed.time[to, 1] = delayed.time[k, 0], delayed.time[k, 1]
    for q in range(5):
        delayed.number[to, q] = delayed.number[k, q]


@piece
def _round(
    net: SynapseLists,
    eq: Equations,
    general: GeneralRule | None,
    taylor: TaylorRule | None,
    plastic: Plasticity | None,
    crossings: CrossingQueue,
    delayed: DelayedSpikes,
    trace: Trace,
    progress: Progress,
) -> int:
    """One round of an instant: thresholds of the neurons that were touched, then arrivals of their spikes, then resets.

    A neuron that fires belongs to the next round, like the targets of its spikes. The others get their next crossing.

    Returns:
        `READY`; `WITHOUT_END` if a neuron fires without end, `UNDECIDED` if a crossing is undecided, `NOT_FINITE` if a
        synapse computed what is not finite.
    """
    now = progress.now
    t, first, silent = progress.where[0], now[SPIKES], 0
    for j in range(now[TOUCHED]):
        v = progress.touched[j]
        eq.z[v, STAMP] = -1  # it may be touched again in this instant
        if eq.z[v, REFRACTORY] == CONDITIONAL:
            end_conditional(eq, taylor, crossings, v, progress.last[v, 0] == now[NOW])
        rounding = REACHED if eq.z[v, DUE] == now[NOW] else AS_IT_IS
        if eq.z[v, DUE] == -2 - now[NOW] and eq.sets[eq.z[v, CURRENT], TURNS] != 0.0:
            rounding = TURNED
        if not eq.z[v, REFRACTORY] and holds(eq, taylor, v, rounding):
            eq.z[v, DUE] = -1
            if progress.last[v, 0] != now[NOW]:
                progress.last[v, 0], progress.last[v, 1] = now[NOW], 0
            progress.last[v, 1] += 1
            if progress.last[v, 1] > MOST_AT_ONCE:
                now[NEURON] = v
                return WITHOUT_END
            k = now[SPIKES]
            now[SPIKES] += 1
            trace.t[k], trace.neuron[k] = t, v
            read_states(eq, v, trace.x, len(eq.wide) * k)
            hold(eq, crossings, v, t)
        else:
            progress.touched[silent] = v
            silent += 1
    if taylor is not None:
        waiting = 0
        for j in range(silent):
            waiting = list_to_predict(eq, taylor, waiting, progress.touched[j])
        advance_listed(eq, taylor, waiting, t, 1)
    for j in range(silent):
        v = progress.touched[j]
        if eq.z[v, REFRACTORY] == TIMED:
            continue  # its end is in the queue
        anew = eq.z[v, DUE] == now[NOW] or progress.last[v, 0] == now[NOW]
        if eq.z[v, DUE] == now[NOW]:
            eq.z[v, DUE] = -1
        if not predict_crossing(eq, general, taylor, crossings, v, anew):
            now[NEURON] = v
            return UNDECIDED
    now[TOUCHED] = 0
    for k in range(first, now[SPIKES]):
        v = trace.neuron[k]
        p = net.owner[v]
        for c in range(net.out[p], net.out[p + 1]):
            _deliver(net, eq, general, taylor, plastic, delayed, progress, c, v - net.offset[p - 1], 1, t)
    status = READY
    if plastic is not None:
        status = _execute(net, eq, general, taylor, plastic, progress, t)
    for k in range(first, now[SPIKES]):
        v = trace.neuron[k]
        reset(eq, v)
        if eq.z[v, REFRACTORY] != TIMED:
            _touch(eq, general, taylor, progress, v, t)
    return status
