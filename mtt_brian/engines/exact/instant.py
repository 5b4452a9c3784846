"""One instant of a network: arrivals, thresholds, spikes. Shared by both orders of processing."""

from __future__ import annotations

import math

import numpy as np

from mtt_brian.circuit.instants import ABSOLUTE, LARGEST, RELATIVE
from mtt_brian.engines.exact.dynamics import factors, time_to_threshold
from mtt_brian.engines.exact.jit import inlined, kernel
from mtt_brian.engines.exact.linear import first_crossing, propagate
from mtt_brian.engines.exact.queues import Crossings, Pending, predict, send
from mtt_brian.engines.exact.state import LinearPart, State, Trace
from mtt_brian.engines.lowered.arrays import CURRENT, DRIFT, LINE, LINEAR, MANY, OWN, ZERO, Network

#: Up to here a plain insertion sort is the fastest.
_SHORT = 24
#: Channels that are compared with their thresholds together before any is looked at alone. Not worth it for fewer than
#: two registers full; worse, reading in one piece what was just written in several has to wait for the writes.
_BLOCK = 64
_FEW = 16
_LOW = 0xFFFFFFFF
#: Why a run cannot go on: more spikes at once than float64 counts one by one (2**53) or more than 2**62 in all, more
#: spikes per second than are allowed, a next spike that is no later than this one, an oscillation that stays so close
#: to the threshold that whether it reaches it is not found out.
TOO_MANY, TOO_FAST, NO_PROGRESS, UNDECIDED = 1, 2, 3, 4
_MOST = 9007199254740992.0
_MOST_COUNTED = 1 << 62
#: How close to the threshold, relative to it, rounding can leave what a subtraction should leave at it.
_ROUNDED = 1e-9
#: How far, relative to it, a sum of jumps and drifts can be off by rounding.
_ROUNDED_SUM = 1e-15
#: Spikes that a neuron may fire in a burst, whatever the rate.
BURST = 1000.0


@inlined
def tolerance(t: float) -> float:
    """`mtt_brian.circuit.instants.window` in seconds."""
    return min(RELATIVE * t + ABSOLUTE, LARGEST)


@inlined
def before(t: float, other: float) -> bool:
    """Whether ``t`` is earlier than ``other`` by more than rounding (`mtt_brian.circuit.instants`)."""
    return t < other - tolerance(other)


@inlined
def on_microsecond(t: float) -> float:
    """The whole microsecond that a computed time is up to rounding; other times as they are."""
    whole = np.rint(t * 1e6) / 1e6
    return whole if abs(whole - t) <= tolerance(t) else t


@inlined
def on_threshold(v: float, threshold: float, slope: float, taken: int, t: float) -> float:
    """A potential that is a multiple of the threshold up to rounding becomes that multiple; others stay as they are.

    Times are known to within `mtt_brian.circuit.instants.window`, so a potential that moves by ``slope`` per second is
    known to within ``slope`` times that; and ``taken`` thresholds that were taken off it to some units in
    the last place.
    """
    multiple = np.rint(v / threshold) * threshold
    slack = abs(slope) * tolerance(t) + _ROUNDED_SUM * (multiple + abs(taken) * threshold)
    return multiple if 0.0 < multiple - v <= slack else v


@inlined
def deliver(net: Network, state: State, linear: LinearPart | None, pending: Pending, c: int, m: int, t: float) -> None:
    """Hands the ``m`` spikes in ``state.keys`` to connection ``c``."""
    base = net.front_base[c]
    for s in range(m):
        source = base + (state.keys[s] >> 32)
        n = state.fired[state.keys[s] & _LOW]
        for f in range(net.front[source], net.front[source + 1]):
            if net.delayed[c] and net.front_delay[f] > 0.0:
                send(pending, t + net.front_delay[f], c, f, n)
            else:
                arrive(net, state, linear, c, f, n, t)


@inlined
def arrive(net: Network, state: State, linear: LinearPart | None, c: int, f: int, n: int, t: float) -> None:
    """``n`` spikes through front entry ``f`` of connection ``c`` reach their targets."""
    p = net.target[c]
    group, moves, marked = net.group[p], net.kind[p] > LINE, net.marked[p]
    site_offset, jump_offset = net.site_offset[p], net.jump_offset[p]
    spacing, row = net.spacing[c], net.row[c]
    amount, now = n * net.front_factor[f], state.now[0]
    shift, first = net.front_target[4 * f + 2], net.front_target[4 * f + 3]
    for e in range(net.front_target[4 * f], net.front_target[4 * f + 1]):
        position = net.pattern[e] >> 32
        start = position * spacing + shift
        w = first + (net.pattern[e] & _LOW)
        if group > 1:
            site = site_offset + position
            if state.stamp[site] != now:
                state.stamp[site] = now
                state.touched[site_offset + state.n_touched[p]] = site
                state.n_touched[p] += 1
                if moves:
                    advance(net, state, linear, p, site, t)
            add_row(state.y, jump_offset + start, net.weight, w, row, amount)
            if marked and state.over[site] > 0:
                mark_row(state.mark, net.offset[p] + start, net.weight, w, row, now)
        else:
            for k in range(row):
                jump = amount * net.weight[w + k]
                if jump != 0.0:  # no weight, no arrival
                    arrive_alone(net, state, linear, p, start + k, jump, t)


@inlined
def add_row(y: np.ndarray, to: int, weight: np.ndarray, w: int, row: int, amount: float) -> None:
    # Told that no index is negative, the compiler drops the wrap-around of Python indices and vectorises the loop.
    if to < 0 or w < 0:
        return
    for k in range(row):
        y[to + k] += amount * weight[w + k]


@kernel
def mark_row(mark: np.ndarray, to: int, weight: np.ndarray, w: int, row: int, now: int) -> None:
    """Marks the neurons of a site that a weight other than 0 reaches."""
    for k in range(row):
        if weight[w + k] != 0.0:
            mark[to + k] = now


@inlined
def arrive_alone(
    net: Network, state: State, linear: LinearPart | None, p: int, local: int, jump: float, t: float
) -> None:
    """A jump reaches neuron ``local`` of a population whose neurons are touched one by one."""
    neuron = net.offset[p] + local
    if linear is not None:  # noqa: SIM102
        if net.kind[p] == LINEAR:
            arrive_at_linear(net, state, linear, p, local, jump, t)
            return
    if net.refractory[p] and net.jump_offset[p] == net.offset[p] and before(t, state.free[neuron]):
        return  # lost: it would reach the potential itself
    touch(net, state, linear, p, local, t)
    q = net.parameter_offset[p] + net.parameter_stride[p] * local
    state.y[net.jump_offset[p] + local] += net.gain[q] * jump


@inlined
def arrive_at_linear(net: Network, state: State, linear: LinearPart, p: int, local: int, jump: float, t: float) -> None:
    """A jump reaches a neuron that is a linear system: each of its states that spikes enter."""
    system = linear.system[linear.begin[p] + local]
    states = linear.states[p]
    if net.refractory[p] and before(t, state.free[net.offset[p] + local]):
        states -= 1  # what would reach the potential itself is lost
    touched = False
    for k in range(states):
        if linear.jump[system, k] != 0.0:
            if not touched:
                touch(net, state, linear, p, local, t)
                touched = True
            state.y[net.jump_offset[p] + local - linear.stride * k] += linear.jump[system, k] * jump


@inlined
def touch(net: Network, state: State, linear: LinearPart | None, p: int, local: int, t: float) -> None:
    site = net.site_offset[p] + local
    if state.stamp[site] != state.now[0]:
        state.stamp[site] = state.now[0]
        state.touched[net.site_offset[p] + state.n_touched[p]] = site
        state.n_touched[p] += 1
        if net.kind[p] > LINE:
            advance(net, state, linear, p, site, t)


@kernel
def advance(net: Network, state: State, linear: LinearPart | None, p: int, site: int, t: float) -> None:
    """Carries a site from its last update to ``t``."""
    last = state.last[site]
    state.last[site] = t
    kind, group = net.kind[p], net.group[p]
    local = (site - net.site_offset[p]) * group
    v = net.offset[p] + local
    i = net.jump_offset[p] + local  # the potential again where there is no current
    q = net.parameter_offset[p] + net.parameter_stride[p] * local
    if linear is not None:  # noqa: SIM102 - numba leaves out what lies behind a test for None alone
        if kind == LINEAR:
            advance_linear(net, state, linear, p, local, last, t)
            return
    if net.refractory[p] and state.free[v] > last:  # one neuron per site: its potential is held, its current goes on
        held = min(state.free[v], t)
        if kind == CURRENT:
            state.y[i] *= math.exp(-(held - last) / net.tau_syn[q])
        last = held
    dt = t - last
    if dt <= 0.0:
        return
    if kind == DRIFT:
        for k in range(group):
            state.y[v + k] += net.rest[q + k] * dt
        return
    decay, current_decay, response = factors(kind, dt, net.tau[q], net.tau_syn[q])
    for k in range(group):
        potential = net.rest[q + k] + (state.y[v + k] - net.rest[q + k]) * decay
        if kind == CURRENT:
            potential += net.r[q + k] * state.y[i + k] * response
            state.y[i + k] *= current_decay
        state.y[v + k] = potential


@kernel
def advance_linear(net: Network, state: State, linear: LinearPart, p: int, local: int, last: float, t: float) -> None:
    """Carries a neuron that is a linear system from ``last`` to ``t``; refractory: its potential is held."""
    v = net.offset[p] + local
    system = linear.system[linear.begin[p] + local]
    at, stride = net.jump_offset[p] + local, -linear.stride
    if net.refractory[p] and state.free[v] > last:
        held, potential = min(state.free[v], t), state.y[v]
        if held > last:
            propagate(linear.sets, system, state.y, at, stride, held - last, linear.scratch)
        state.y[v] = potential
        last = held
    if t > last:
        propagate(linear.sets, system, state.y, at, stride, t - last, linear.scratch)


@kernel
def crossing_of_linear(net: Network, state: State, linear: LinearPart, p: int, local: int, t: float) -> float:
    """The time at which a neuron that is a linear system comes up to its threshold; inf for never."""
    v = net.offset[p] + local
    q = net.parameter_offset[p] + net.parameter_stride[p] * local
    system = linear.system[linear.begin[p] + local]
    at, stride = net.jump_offset[p] + local, -linear.stride
    if net.refractory[p] and state.free[v] > t:
        begin, states = state.free[v], linear.states[p]
        for k in range(states):
            linear.ahead[k] = state.y[at + stride * k]
        propagate(linear.sets, system, linear.ahead, 0, 1, begin - t, linear.scratch)
        linear.ahead[states - 1] = state.y[v]
        wait = first_crossing(linear.sets, system, linear.ahead, 0, 1, net.threshold[q], linear.scratch)
    else:
        begin = t
        wait = first_crossing(linear.sets, system, state.y, at, stride, net.threshold[q], linear.scratch)
    if math.isnan(wait):
        raise_alarm(state.alarm, UNDECIDED, p, np.int64(net.flat[v]), t)
        return np.inf
    return begin + wait


@inlined
def settle(net: Network, state: State, linear: LinearPart | None, crossings: Crossings, p: int, t: float) -> int:
    """Bound, threshold and reset of everything touched in population ``p``; the number of neurons that fired.

    They stand in ``state.keys`` in ascending C order, with their spikes in ``state.fired``.
    """
    m = 0
    group, bounded, marked = net.group[p], net.bounded[p], net.marked[p]
    stride, offset, site_offset = net.parameter_stride[p], net.offset[p], net.site_offset[p]
    for j in range(state.n_touched[p]):
        local = (state.touched[site_offset + j] - site_offset) * group
        q = net.parameter_offset[p] + stride * local
        if group > 1:
            if bounded:
                raise_to_bound(state.y, offset + local, net.lower, q, group)
            if marked:
                m = settle_marked(net, state, p, local, q, m, t)
                continue
            for block in range(0, group, _BLOCK):
                width = min(_BLOCK, group - block)
                at, parameters = offset + local + block, q + block
                if width <= _FEW or reaches(state.y, at, net.threshold, parameters, width):
                    k = next_at_threshold(state.y, at, net.threshold, parameters, width)
                    while k < width:
                        m = fire(net, state, None, p, local + block + k, parameters + k, m, t)
                        k += 1
                        k += next_at_threshold(state.y, at + k, net.threshold, parameters + k, width - k)
            continue
        if net.kind[p] == LINE:
            m = settle_on_line(net, state, crossings, p, local, m, t)
            continue
        if net.crosses[p]:
            m = settle_crossing(net, state, linear, crossings, p, local, m, t)
            continue
        neuron = offset + local
        if net.refractory[p] and before(t, state.free[neuron]):
            continue  # touched by its current only
        if bounded and state.y[neuron] < net.lower[q]:
            state.y[neuron] = net.lower[q]
        if state.y[neuron] >= net.threshold[q]:
            m = fire(net, state, linear, p, local, q, m, t)
    state.n_touched[p] = 0
    if m > 1:
        ascend(state.keys, 0, m)
    return m


@kernel
def settle_marked(net: Network, state: State, p: int, local: int, q: int, m: int, t: float) -> int:
    """Thresholds of a site of a marked population, see `Network.marked`; its bound has been applied."""
    group, before_it = net.group[p], m
    at, site = net.offset[p] + local, net.site_offset[p] + local // group
    waiting = state.over[site] > 0
    if reaches(state.y, at, net.threshold, q, group):
        k = next_at_threshold(state.y, at, net.threshold, q, group)
        while k < group:
            if not waiting or state.mark[at + k] == state.now[0]:
                m = fire(net, state, None, p, local + k, q + k, m, t)
            k += 1
            k += next_at_threshold(state.y, at + k, net.threshold, q + k, group - k)
    if waiting or m > before_it:
        state.over[site] = reaches(state.y, at, net.threshold, q, group)
    return m


@inlined
def raise_to_bound(y: np.ndarray, at: int, lower: np.ndarray, q: int, group: int) -> None:
    if at < 0 or q < 0:  # as in add_row
        return
    for k in range(group):
        y[at + k] = max(y[at + k], lower[q + k])


@inlined
def reaches(y: np.ndarray, at: int, threshold: np.ndarray, q: int, width: int) -> bool:
    """Whether any of ``width`` neurons is at its threshold: all at once, no branches."""
    if at < 0 or q < 0:  # as in add_row
        return False
    hits = 0
    for k in range(width):
        hits += 1 if y[at + k] >= threshold[q + k] else 0
    return hits > 0


@inlined
def next_at_threshold(y: np.ndarray, at: int, threshold: np.ndarray, q: int, width: int) -> int:
    """The first of them that is; ``width`` if none."""
    if at < 0 or q < 0:  # as in add_row
        return width
    for k in range(width):
        if y[at + k] >= threshold[q + k]:
            return k
    return width


@inlined
def fire(net: Network, state: State, linear: LinearPart | None, p: int, local: int, q: int, m: int, t: float) -> int:
    """Neuron ``local`` is at or above its threshold: its spikes become number ``m`` of the instant."""
    neuron = net.offset[p] + local
    if linear is not None:  # noqa: SIM102
        if net.rule[p] == OWN:
            reset_linear(net, state, linear, p, local)
            return count(net, state, p, local, q, 1, m, t)
    spikes = how_many(net, state, p, local, q, state.y[neuron], t)
    if net.rule[p] == ZERO:
        state.y[neuron] = net.v_reset[q]
    else:
        state.y[neuron] -= spikes * net.threshold[q]
    return count(net, state, p, local, q, spikes, m, t)


@kernel
def reset_linear(net: Network, state: State, linear: LinearPart, p: int, local: int) -> None:
    """A spike of a neuron whose linear system says what it does with its states."""
    system, n = linear.system[linear.begin[p] + local], linear.states[p]
    at = net.jump_offset[p] + local
    for k in range(n):
        linear.ahead[k] = state.y[at - linear.stride * k]
    for k in range(n):
        total = linear.reset[system, k * (n + 1) + n]
        for q in range(n):
            total += linear.reset[system, k * (n + 1) + q] * linear.ahead[q]
        state.y[at - linear.stride * k] = total


@inlined
def how_many(net: Network, state: State, p: int, local: int, q: int, v: float, t: float) -> int:
    """Spikes that a neuron at or above its threshold fires at once."""
    if net.rule[p] != MANY:
        return 1
    ratio = v / net.threshold[q]
    if ratio < _MOST:
        return math.floor(ratio)
    raise_alarm(state.alarm, TOO_MANY, p, np.int64(net.flat[net.offset[p] + local]), t)
    return 1


@inlined
def count(net: Network, state: State, p: int, local: int, q: int, spikes: int, m: int, t: float) -> int:
    """``spikes`` of one neuron are number ``m`` of the instant."""
    neuron = net.offset[p] + local
    flat = np.int64(net.flat[neuron])
    if net.refractory[p]:
        state.free[neuron] = t + net.dead_time[q]
    if net.limited[p]:
        watch(state.fires, net.max_rate, state.alarm, neuron, p, flat, t)
    total = state.counts[net.offset[p] + flat] + spikes
    state.counts[net.offset[p] + flat] = total
    if total > _MOST_COUNTED:
        raise_alarm(state.alarm, TOO_MANY, p, flat, t)
    state.fired[local] = spikes
    state.keys[m] = (flat << 32) | local
    return m + 1


@kernel
def raise_alarm(alarm: np.ndarray, code: int, p: int, flat: int, t: float) -> None:
    """Notes why the run cannot go on; the first reason is the cause."""
    if alarm[0] == 0.0:
        alarm[0], alarm[1], alarm[2], alarm[3] = code, p, flat, t


@kernel
def watch(fires: np.ndarray, max_rate: np.ndarray, alarm: np.ndarray, neuron: int, p: int, flat: int, t: float) -> None:
    """Counts the instants at which a neuron has fired that can do so without an input event."""
    fires[neuron] += 1
    if fires[neuron] > BURST + max_rate[0] * t:
        raise_alarm(alarm, TOO_FAST, p, flat, t)


@kernel
def settle_crossing(
    net: Network, state: State, linear: LinearPart | None, crossings: Crossings, p: int, local: int, m: int, t: float
) -> int:
    """Bound, threshold and reset of a neuron that can cross its threshold between arrivals, and its next crossing."""
    neuron = net.offset[p] + local
    q = net.parameter_offset[p] + net.parameter_stride[p] * local
    listens = not (net.refractory[p] and before(t, state.free[neuron]))  # else: touched by its current only
    if listens and net.bounded[p] and state.y[neuron] < net.lower[q]:
        state.y[neuron] = net.lower[q]
    fires = listens and state.y[neuron] >= net.threshold[q]
    time = 0.0
    if not fires:
        time = next_crossing(net, state, linear, p, local, t)
        if listens and time <= t + tolerance(t):  # at its threshold, up to rounding
            state.y[neuron] = net.threshold[q]
            fires = True
    if fires:
        m = fire(net, state, linear, p, local, q, m, t)
        time = next_crossing(net, state, linear, p, local, t)
        if time <= t + tolerance(t):
            time = fire_the_rest(net, state, linear, p, local, q, t)
    predict(crossings, neuron, time)
    return m


@kernel
def settle_on_line(net: Network, state: State, crossings: Crossings, p: int, local: int, m: int, t: float) -> int:
    """Bound, threshold and reset of an IF with a constant current.

    Its potential is ``y + slope * (t - last - pauses * dead_time) - taken * threshold``. Jumps change ``y`` only, which
    is kept between 0 and the threshold; spikes and refractory periods are counted. So no rounding error piles up from
    spike to spike, and neurons that are equal on paper stay equal.
    """
    neuron = net.offset[p] + local
    site = net.site_offset[p] + local
    q = net.parameter_offset[p] + net.parameter_stride[p] * local
    if net.refractory[p] and before(t, state.free[neuron]):
        return m
    threshold, slope = net.threshold[q], net.rest[q]
    if not 0.0 <= state.y[neuron] < threshold:
        whole = np.floor(state.y[neuron] / threshold)
        if not abs(whole) < _MOST:
            raise_alarm(state.alarm, TOO_MANY, p, np.int64(net.flat[neuron]), t)
            return m
        state.y[neuron] -= whole * threshold
        state.taken[neuron] -= int(whole)
    begin = state.last[site] + state.pauses[neuron] * net.dead_time[q]
    v = state.y[neuron] + (slope * (t - begin) - state.taken[neuron] * threshold)
    if slope != 0.0:
        v = on_threshold(v, threshold, slope, state.taken[neuron], t)
    if net.bounded[p] and v < net.lower[q]:
        v = net.lower[q]
        start_line(state, neuron, site, v, t)
    fires = v >= threshold
    if fires:
        spikes = how_many(net, state, p, local, q, v, t)
        if net.rule[p] == ZERO:
            v = net.v_reset[q]
            start_line(state, neuron, site, v, t)
        else:
            v -= spikes * threshold
            state.taken[neuron] += spikes
        m = count(net, state, p, local, q, spikes, m, t)
        state.pauses[neuron] += 1  # it does not move during its refractory period
    if net.crosses[p]:
        time = np.inf
        if v < threshold and slope > 0.0:
            begin = state.last[site] + state.pauses[neuron] * net.dead_time[q]
            time = begin + ((state.taken[neuron] + 1) * threshold - state.y[neuron]) / slope
            if time <= t + tolerance(t):
                raise_alarm(state.alarm, NO_PROGRESS, p, np.int64(net.flat[neuron]), t)
        predict(crossings, neuron, time)
    return m


@inlined
def start_line(state: State, neuron: int, site: int, v: float, t: float) -> None:
    state.y[neuron] = v
    state.last[site] = t
    state.taken[neuron] = 0
    state.pauses[neuron] = 0


@kernel
def fire_the_rest(net: Network, state: State, linear: LinearPart | None, p: int, local: int, q: int, t: float) -> float:
    """A neuron that has just fired is at its threshold again, up to rounding.

    By rounding alone, what a subtraction leaves can lie just below the threshold: where several spikes are allowed,
    one more belongs to the first ones; where one is, the rest is at the threshold and waits for an arrival.

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
        state.counts[net.offset[p] + flat] += 1
    time = next_crossing(net, state, linear, p, local, t)
    if time <= t + tolerance(t):
        raise_alarm(state.alarm, NO_PROGRESS, p, flat, t)
    return time


@kernel
def ascend(keys: np.ndarray, begin: int, end: int) -> None:
    """Sorts ``keys[begin:end]``: most often a few, or in order already."""
    gap = 1
    while end - begin > _SHORT and gap < (end - begin) // 9:
        gap = 3 * gap + 1
    while gap > 0:  # Shell's sort; an insertion sort for the few
        for j in range(begin + gap, end):
            key = keys[j]
            k = j
            while k - gap >= begin and keys[k - gap] > key:
                keys[k] = keys[k - gap]
                k -= gap
            keys[k] = key
        gap //= 3


@kernel
def next_crossing(net: Network, state: State, linear: LinearPart | None, p: int, local: int, t: float) -> float:
    """The time of the next crossing of a neuron whose state stands at ``t``; inf for none."""
    neuron = net.offset[p] + local
    q = net.parameter_offset[p] + net.parameter_stride[p] * local
    kind = net.kind[p]
    if linear is not None:  # noqa: SIM102
        if kind == LINEAR:
            return crossing_of_linear(net, state, linear, p, local, t)
    begin, drive = t, 0.0
    if kind == CURRENT:
        drive = net.r[q] * state.y[net.jump_offset[p] + local]
    if net.refractory[p] and state.free[neuron] > t:
        begin = state.free[neuron]
        if kind == CURRENT:
            drive *= math.exp(-(begin - t) / net.tau_syn[q])
    return begin + time_to_threshold(
        kind, state.y[neuron], drive, net.threshold[q], net.rest[q], net.tau[q], net.tau_syn[q], net.peak[q]
    )


@inlined
def keep(state: State, trace: Trace, p: int, m: int, t: float) -> None:
    """Records ``m`` spikes of population ``p``; there must be room."""
    size = trace.size[0]
    for s in range(m):
        key = state.keys[s]
        trace.t[size + s] = t
        trace.p[size + s] = p
        trace.i[size + s] = key >> 32
        trace.n[size + s] = state.fired[key & _LOW]
    trace.size[0] = size + m
