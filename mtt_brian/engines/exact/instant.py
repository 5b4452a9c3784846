"""One instant of a network: arrivals, thresholds, spikes. Both orders of processing use it."""

from __future__ import annotations

import math

import numpy as np

from mtt_brian.circuit import sorting
from mtt_brian.circuit.instants import window
from mtt_brian.circuit.spikes import MAX_SPIKES, MAX_SPIKES_AT_ONCE
from mtt_brian.engines.exact.dynamics import factors, time_to_threshold
from mtt_brian.engines.exact.failures import NO_PROGRESS, TOO_FAST, TOO_MANY, set_failure
from mtt_brian.engines.exact.jit import inlined, packed, piece, unpacked
from mtt_brian.engines.exact.linear_neurons import LinearPart, advance_linear, predict_linear_crossing, reset_linear
from mtt_brian.engines.exact.queues import CrossingQueue, Queues, push_arrival, schedule_crossing
from mtt_brian.engines.exact.state import State, Trace
from mtt_brian.engines.exact.vectors import WIDTH, add_products, at_threshold, lowest_bit, prefetch
from mtt_brian.engines.lowered.arrays import LoweredCircuit
from mtt_brian.engines.lowered.rules import CURRENT, DRIFT, LINE, LINEAR, MANY, OWN, ZERO

#: Relative rounding error at the threshold of a potential that a subtraction leaves at it.
_ROUNDED = 1e-9
#: Relative rounding error of a sum of jumps and drifts.
_ROUNDED_SUM = 1e-15
#: Spikes that a neuron may fire at any rate, in addition to the allowed rate.
BURST = 1000.0


#: `window` and `mtt_brian.circuit.sorting.ascend`, compiled.
tolerance = inlined(window)
ascend = piece(sorting.ascend)


@inlined
def before(t: float, other: float) -> bool:
    """Whether ``t`` is earlier than ``other`` by more than rounding (`mtt_brian.circuit.instants`)."""
    return t < other - tolerance(other)


@inlined
def on_microsecond(t: float) -> float:
    """The whole microsecond that a computed time equals up to rounding; other times are unchanged."""
    whole = np.rint(t * 1e6) / 1e6
    return whole if abs(whole - t) <= tolerance(t) else t


@inlined
def on_threshold(v: float, threshold: float, slope: float, subtracted: int, t: float) -> float:
    """A potential that is a multiple of the threshold up to rounding becomes that multiple; others are unchanged.

    Times are exact to within `mtt_brian.circuit.instants.window`, so a potential that moves by ``slope`` per second is
    exact to within ``slope`` times that. The ``subtracted`` thresholds add some units in the last place.
    """
    multiple = np.rint(v / threshold) * threshold
    slack = abs(slope) * tolerance(t) + _ROUNDED_SUM * (multiple + abs(subtracted) * threshold)
    return multiple if 0.0 < multiple - v <= slack else v


@inlined
def propagate(
    net: LoweredCircuit, state: State, linear: LinearPart | None, queues: Queues | None, c: int, m: int, t: float
) -> None:
    """Propagates the ``m`` spikes in ``state.keys`` through connection ``c``."""
    base, one_each = net.source_base[c], net.one_each[c]
    for s in range(m):
        flat, local = unpacked(state.keys[s])
        n = state.fired[local]
        begin = one_each + flat
        end = begin + 1
        if one_each < 0:
            begin, end = net.entry_begin[base + flat], net.entry_begin[base + flat + 1]
        for e in range(begin, end):
            if queues is not None:  # noqa: SIM102
                if net.delayed[c] and net.entry_delay[e] > 0.0:
                    push_arrival(queues.pending, t + net.entry_delay[e], c, e, n)
                    continue
            arrive(net, state, linear, c, e, n, t)


@inlined
def arrive(net: LoweredCircuit, state: State, linear: LinearPart | None, c: int, e: int, n: int, t: float) -> None:
    """``n`` spikes arrive at the targets of entry ``e`` of connection ``c``."""
    p = net.target[c]
    group_size, moves, marked = net.group_size[p], net.kind[p] > LINE, net.marked[p]
    group_offset, jump_offset = net.group_offset[p], net.jump_offset[p]
    channel_stride, length = net.channel_stride[c], net.block_length[c]
    amount, now = float(n), state.now[0]
    if net.scaled[c]:
        amount *= net.entry_factor[e]
    begin, end = np.int64(net.entry_target[4 * e]), np.int64(net.entry_target[4 * e + 1])
    shift, first = np.int64(net.entry_target[4 * e + 2]), np.int64(net.entry_target[4 * e + 3])
    for row in range(begin, end):
        position, block = unpacked(net.stencil[row])
        start = position * channel_stride + shift
        w = first + block
        if group_size > 1:
            group = group_offset + position
            if state.stamp[group] != now:
                state.stamp[group] = now
                state.touched[group_offset + state.n_touched[p]] = group
                state.n_touched[p] += 1
                if moves:
                    advance(net, state, linear, p, group, t)
            add_products(state.y, jump_offset + start, net.weight, w, length, amount)
            if marked and state.over[group] > 0:
                mark_block(state.mark, net.offset[p] + start, net.weight, w, length, now)
        else:
            for k in range(length):
                jump = amount * net.weight[w + k]
                if jump != 0.0:  # a zero weight is no arrival
                    arrive_alone(net, state, linear, p, start + k, jump, t)


@piece
def mark_block(mark: np.ndarray, to: int, weight: np.ndarray, w: int, length: int, now: int) -> None:
    """Marks the neurons of an update group that a weight other than 0 reaches."""
    for k in range(length):
        if weight[w + k] != 0.0:
            mark[to + k] = now


@inlined
def arrive_alone(
    net: LoweredCircuit, state: State, linear: LinearPart | None, p: int, local: int, jump: float, t: float
) -> None:
    """A jump arrives at neuron ``local`` of a population whose neurons are updated one by one."""
    neuron = net.offset[p] + local
    if linear is not None:  # noqa: SIM102
        if net.kind[p] == LINEAR:
            arrive_at_linear(net, state, linear, p, local, jump, t)
            return
    if net.refractory[p] and net.jump_offset[p] == net.offset[p] and before(t, state.refractory_end[neuron]):
        return  # discarded: it would change the potential itself
    touch(net, state, linear, p, local, t)
    q = net.parameter_offset[p] + net.parameter_stride[p] * local
    state.y[net.jump_offset[p] + local] += net.gain[q] * jump


@inlined
def arrive_at_linear(
    net: LoweredCircuit, state: State, linear: LinearPart, p: int, local: int, jump: float, t: float
) -> None:
    """A jump arrives at a neuron that is a linear system: at each of its states that spikes enter."""
    system = linear.system[linear.begin[p] + local]
    states = linear.states[p]
    if net.refractory[p] and before(t, state.refractory_end[net.offset[p] + local]):
        states -= 1  # an arrival that would change the potential itself is discarded
    touched = False
    for k in range(states):
        if linear.jump[system, k] != 0.0:
            if not touched:
                touch(net, state, linear, p, local, t)
                touched = True
            state.y[net.jump_offset[p] + local - linear.stride * k] += linear.jump[system, k] * jump


@inlined
def touch(net: LoweredCircuit, state: State, linear: LinearPart | None, p: int, local: int, t: float) -> None:
    """Brings neuron ``local``, an update group of its own, to ``t`` and lists it for the thresholds of this instant."""
    group = net.group_offset[p] + local
    if state.stamp[group] != state.now[0]:
        state.stamp[group] = state.now[0]
        state.touched[net.group_offset[p] + state.n_touched[p]] = group
        state.n_touched[p] += 1
        if net.kind[p] > LINE:
            advance(net, state, linear, p, group, t)


@piece
def advance(net: LoweredCircuit, state: State, linear: LinearPart | None, p: int, group: int, t: float) -> None:
    """Advances an update group from its last update to ``t``."""
    last = state.last[group]
    state.last[group] = t
    kind, group_size = net.kind[p], net.group_size[p]
    local = (group - net.group_offset[p]) * group_size
    v = net.offset[p] + local
    i = net.jump_offset[p] + local  # the potential again if there is no current
    q = net.parameter_offset[p] + net.parameter_stride[p] * local
    if linear is not None:  # noqa: SIM102 - numba removes the branch only for a plain test for None
        if kind == LINEAR:
            advance_linear(net, state, linear, p, local, last, t)
            return
    if net.refractory[p] and state.refractory_end[v] > last:  # one neuron per group: held, but its current decays
        held = min(state.refractory_end[v], t)
        if kind == CURRENT:
            state.y[i] *= math.exp(-(held - last) / net.tau_syn[q])
        last = held
    dt = t - last
    if dt <= 0.0:
        return
    if kind == DRIFT:
        for k in range(group_size):
            state.y[v + k] += net.rest[q + k] * dt
        return
    decay, current_decay, response = factors(kind, dt, net.tau[q], net.tau_syn[q])
    for k in range(group_size):
        potential = net.rest[q + k] + (state.y[v + k] - net.rest[q + k]) * decay
        if kind == CURRENT:
            potential += net.r[q + k] * state.y[i + k] * response
            state.y[i + k] *= current_decay
        state.y[v + k] = potential


@inlined
def apply_thresholds(
    net: LoweredCircuit, state: State, linear: LinearPart | None, queues: Queues | None, p: int, t: float
) -> int:
    """Bound, threshold and reset of all touched neurons of population ``p``; returns the number of those that fired.

    ``state.keys`` lists them in ascending C order; ``state.fired`` holds their spikes.
    """
    m = int(np.int64(0))  # a literal would be a separate type, and compiled separately
    group_size, bounded, marked = net.group_size[p], net.bounded[p], net.marked[p]
    stride, offset, group_offset = net.parameter_stride[p], net.offset[p], net.group_offset[p]
    group_step, channel_step = net.group_step[p], net.channel_step[p]
    for j in range(state.n_touched[p]):
        group = state.touched[group_offset + j] - group_offset
        local = group * group_size
        q = net.parameter_offset[p] + stride * local
        if group_size > 1:
            if bounded:
                raise_to_bound(state.y, offset + local, net.lower, q, group_size)
            if net.saturates[p]:
                saturate(state.y, offset + local, net.upper, q, group_size)
            if marked:
                m = apply_thresholds_marked(net, state, p, local, q, m, t)
                continue
            flat = group * group_step
            for block in range(0, group_size, WIDTH):
                width = min(WIDTH, group_size - block)
                bits = at_threshold(state.y, offset + local + block, net.threshold, q + block, width)
                while bits != 0:
                    k = block + lowest_bit(bits)
                    bits &= bits - 1
                    m = fire(net, state, None, p, local + k, flat + k * channel_step, q + k, m, t)
            continue
        if queues is not None:
            if net.kind[p] == LINE:
                m = apply_threshold_on_line(net, state, queues.crossings, p, local, m, t)
                continue
            if net.crosses[p]:
                m = apply_threshold_with_crossing(net, state, linear, queues.crossings, p, local, m, t)
                continue
        neuron = offset + local
        if net.refractory[p] and before(t, state.refractory_end[neuron]):
            continue  # touched by its current only
        if bounded and state.y[neuron] < net.lower[q]:
            state.y[neuron] = net.lower[q]
        if net.saturates[p] and state.y[neuron] > net.upper[q]:
            state.y[neuron] = net.upper[q]
        if state.y[neuron] >= net.threshold[q]:
            m = fire(net, state, linear, p, local, np.int64(net.flat[neuron]), q, m, t)
    state.n_touched[p] = 0
    if m > 1:
        ascend(state.keys, np.int64(0), m)
    for s in range(m):
        flat, local = unpacked(state.keys[s])
        total = state.counts[offset + flat] + state.fired[local]
        state.counts[offset + flat] = total
        if total > MAX_SPIKES:
            set_failure(state.failure, TOO_MANY, p, flat, t)
    return m


@piece
def apply_thresholds_marked(net: LoweredCircuit, state: State, p: int, local: int, q: int, m: int, t: float) -> int:
    """Thresholds of an update group of a marked population, see `LoweredCircuit.marked`; its bound has been applied."""
    group_size, before_it = net.group_size[p], m
    at, group = net.offset[p] + local, net.group_offset[p] + local // group_size
    waiting = state.over[group] > 0
    if reaches(state.y, at, net.threshold, q, group_size):
        k = next_at_threshold(state.y, at, net.threshold, q, group_size)
        while k < group_size:
            if not waiting or state.mark[at + k] == state.now[0]:
                m = fire(net, state, None, p, local + k, np.int64(net.flat[at + k]), q + k, m, t)
            k += 1
            k += next_at_threshold(state.y, at + k, net.threshold, q + k, group_size - k)
    if waiting or m > before_it:
        state.over[group] = reaches(state.y, at, net.threshold, q, group_size)
    return m


@inlined
def raise_to_bound(y: np.ndarray, at: int, lower: np.ndarray, q: int, group_size: int) -> None:
    """Applies the lower bounds of an update group."""
    if at < 0 or q < 0:  # as in add_block
        return
    for k in range(group_size):
        y[at + k] = max(y[at + k], lower[q + k])


@piece
def saturate(y: np.ndarray, at: int, upper: np.ndarray, q: int, group_size: int) -> None:
    """Applies the upper bounds of an update group."""
    for k in range(group_size):
        y[at + k] = min(y[at + k], upper[q + k])


@inlined
def reaches(y: np.ndarray, at: int, threshold: np.ndarray, q: int, width: int) -> bool:
    """Whether any of ``width`` neurons is at its threshold, without branches."""
    if at < 0 or q < 0:  # as in add_block
        return False
    above = 0
    for k in range(width):
        above += 1 if y[at + k] >= threshold[q + k] else 0
    return above > 0


@inlined
def next_at_threshold(y: np.ndarray, at: int, threshold: np.ndarray, q: int, width: int) -> int:
    """The first of ``width`` neurons that is at its threshold; ``width`` if none is."""
    if at < 0 or q < 0:  # as in add_block
        return width
    for k in range(width):
        if y[at + k] >= threshold[q + k]:
            return k
    return width


@inlined
def fire(
    net: LoweredCircuit,
    state: State,
    linear: LinearPart | None,
    p: int,
    local: int,
    flat: int,
    q: int,
    m: int,
    t: float,
) -> int:
    """Fires neuron ``local``, which is at or above its threshold, as number ``m`` of the instant; returns ``m + 1``."""
    neuron = net.offset[p] + local
    if linear is not None:  # noqa: SIM102
        if net.rule[p] == OWN:
            reset_linear(net, state, linear, p, local)
            return enlist(net, state, p, local, flat, q, 1, m, t)
    spikes = how_many(net, state, p, local, q, state.y[neuron], t)
    if net.rule[p] == ZERO:
        state.y[neuron] = net.v_reset[q]
    else:
        state.y[neuron] -= spikes * net.threshold[q]
    return enlist(net, state, p, local, flat, q, spikes, m, t)


@inlined
def how_many(net: LoweredCircuit, state: State, p: int, local: int, q: int, v: float, t: float) -> int:
    """Number of spikes that a neuron at or above its threshold fires at once."""
    if net.rule[p] != MANY:
        return 1
    ratio = v / net.threshold[q]
    if ratio < MAX_SPIKES_AT_ONCE:
        return math.floor(ratio)
    set_failure(state.failure, TOO_MANY, p, np.int64(net.flat[net.offset[p] + local]), t)
    return 1


@inlined
def enlist(
    net: LoweredCircuit, state: State, p: int, local: int, flat: int, q: int, spikes: int, m: int, t: float
) -> int:
    """Lists a neuron that fires ``spikes`` spikes as number ``m`` of the instant; returns ``m + 1``."""
    neuron = net.offset[p] + local
    if net.refractory[p]:
        state.refractory_end[neuron] = t + net.dead_time[q]
    if net.rate_limited[p]:
        check_rate(state.fires, net.max_rate, state.failure, neuron, p, flat, t)
    state.fired[local] = spikes
    state.keys[m] = packed(flat, local)
    # They are needed when all thresholds of this instant have been compared, and are often not in the cache.
    prefetch(state.counts, net.offset[p] + flat)
    for c in range(net.out[p], net.out[p + 1]):
        prefetch(net.entry_target, 4 * (net.one_each[c] + flat))
    return m + 1


@piece
def check_rate(
    fires: np.ndarray, max_rate: np.ndarray, failure: np.ndarray, neuron: int, p: int, flat: int, t: float
) -> None:
    """Checks the rate of a neuron that can fire without an input event."""
    fires[neuron] += 1
    if fires[neuron] > BURST + max_rate[0] * t:
        set_failure(failure, TOO_FAST, p, flat, t)


@piece
def apply_threshold_with_crossing(
    net: LoweredCircuit,
    state: State,
    linear: LinearPart | None,
    crossings: CrossingQueue,
    p: int,
    local: int,
    m: int,
    t: float,
) -> int:
    """Bound, threshold and reset of a neuron that can cross its threshold between arrivals, and its next crossing."""
    neuron = net.offset[p] + local
    q = net.parameter_offset[p] + net.parameter_stride[p] * local
    listens = not (net.refractory[p] and before(t, state.refractory_end[neuron]))  # else: touched by its current only
    if listens and net.bounded[p] and state.y[neuron] < net.lower[q]:
        state.y[neuron] = net.lower[q]
    fires = listens and state.y[neuron] >= net.threshold[q]
    time = 0.0
    if not fires:
        time = predict_crossing(net, state, linear, p, local, t)
        if listens and time <= t + tolerance(t):  # at its threshold, up to rounding
            state.y[neuron] = net.threshold[q]
            fires = True
    if fires:
        m = fire(net, state, linear, p, local, np.int64(net.flat[neuron]), q, m, t)
        time = predict_crossing(net, state, linear, p, local, t)
        if time <= t + tolerance(t):
            time = resolve_remainder(net, state, linear, p, local, q, t)
    schedule_crossing(crossings, neuron, time)
    return m


@piece
def apply_threshold_on_line(
    net: LoweredCircuit, state: State, crossings: CrossingQueue, p: int, local: int, m: int, t: float
) -> int:
    """Bound, threshold and reset of an IF with a constant current.

    Its potential is ``y + slope * (t - last - pauses * dead_time) - subtracted * threshold``. Jumps change ``y``
    only, which is kept between 0 and the threshold; spikes and refractory periods are counted. So rounding errors do
    not accumulate from spike to spike, and neurons with equal inputs stay equal.
    """
    neuron = net.offset[p] + local
    group = net.group_offset[p] + local
    q = net.parameter_offset[p] + net.parameter_stride[p] * local
    if net.refractory[p] and before(t, state.refractory_end[neuron]):
        return m
    threshold, slope = net.threshold[q], net.rest[q]
    if not 0.0 <= state.y[neuron] < threshold:
        whole = np.floor(state.y[neuron] / threshold)
        if not abs(whole) < MAX_SPIKES_AT_ONCE:
            set_failure(state.failure, TOO_MANY, p, np.int64(net.flat[neuron]), t)
            return m
        state.y[neuron] -= whole * threshold
        state.subtracted[neuron] -= int(whole)
    begin = state.last[group] + state.pauses[neuron] * net.dead_time[q]
    v = state.y[neuron] + (slope * (t - begin) - state.subtracted[neuron] * threshold)
    if slope != 0.0:
        v = on_threshold(v, threshold, slope, state.subtracted[neuron], t)
    if net.bounded[p] and v < net.lower[q]:
        v = net.lower[q]
        start_line(state, neuron, group, v, t)
    fires = v >= threshold
    if fires:
        spikes = how_many(net, state, p, local, q, v, t)
        if net.rule[p] == ZERO:
            v = net.v_reset[q]
            start_line(state, neuron, group, v, t)
        else:
            v -= spikes * threshold
            state.subtracted[neuron] += spikes
        m = enlist(net, state, p, local, np.int64(net.flat[neuron]), q, spikes, m, t)
        state.pauses[neuron] += 1  # it is constant during its refractory period
    if net.crosses[p]:
        time = np.inf
        if v < threshold and slope > 0.0:
            begin = state.last[group] + state.pauses[neuron] * net.dead_time[q]
            time = begin + ((state.subtracted[neuron] + 1) * threshold - state.y[neuron]) / slope
            if time <= t + tolerance(t):
                set_failure(state.failure, NO_PROGRESS, p, np.int64(net.flat[neuron]), t)
        schedule_crossing(crossings, neuron, time)
    return m


@inlined
def start_line(state: State, neuron: int, group: int, v: float, t: float) -> None:
    """Begins a new line at ``t`` with the potential ``v``."""
    state.y[neuron] = v
    state.last[group] = t
    state.subtracted[neuron] = 0
    state.pauses[neuron] = 0


@piece
def resolve_remainder(
    net: LoweredCircuit, state: State, linear: LinearPart | None, p: int, local: int, q: int, t: float
) -> float:
    """A neuron that has just fired is at its threshold again, up to rounding.

    Rounding can leave a remainder just below the threshold after the subtraction. If many spikes are allowed, one more
    belongs to this instant. If one is, the potential is at the threshold until the next arrival.

    Returns:
        the time of its next crossing.
    """
    neuron = net.offset[p] + local
    flat = np.int64(net.flat[neuron])
    left = net.rule[p] != ZERO and state.y[neuron] > (1.0 - _ROUNDED) * net.threshold[q]
    if left and net.rule[p] != MANY:
        state.y[neuron] = net.threshold[q]
    elif left:
        state.y[neuron] = 0.0
        state.fired[local] += 1
    time = predict_crossing(net, state, linear, p, local, t)
    if time <= t + tolerance(t):
        set_failure(state.failure, NO_PROGRESS, p, flat, t)
    return time


@piece
def predict_crossing(
    net: LoweredCircuit, state: State, linear: LinearPart | None, p: int, local: int, t: float
) -> float:
    """The time of the next crossing of a neuron whose state is that of time ``t``; inf for none."""
    neuron = net.offset[p] + local
    q = net.parameter_offset[p] + net.parameter_stride[p] * local
    kind = net.kind[p]
    if linear is not None:  # noqa: SIM102
        if kind == LINEAR:
            return predict_linear_crossing(net, state, linear, p, local, t)
    begin, drive = t, 0.0
    if kind == CURRENT:
        drive = net.r[q] * state.y[net.jump_offset[p] + local]
    if net.refractory[p] and state.refractory_end[neuron] > t:
        begin = state.refractory_end[neuron]
        if kind == CURRENT:
            drive *= math.exp(-(begin - t) / net.tau_syn[q])
    return begin + time_to_threshold(
        kind, state.y[neuron], drive, net.threshold[q], net.rest[q], net.tau[q], net.tau_syn[q], net.peak[q]
    )


@inlined
def record(state: State, trace: Trace, p: int, m: int, t: float) -> None:
    """Records ``m`` spikes of population ``p``; there must be room."""
    size = trace.size[0]
    for s in range(m):
        flat, local = unpacked(state.keys[s])
        trace.t[size + s] = t
        trace.p[size + s] = p
        trace.i[size + s] = flat
        trace.n[size + s] = state.fired[local]
    trace.size[0] = size + m
