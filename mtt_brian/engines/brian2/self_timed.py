"""The Brian2 code of a network that computes its next instant, for neurons that can fire between arrivals.

Every neuron keeps the time of its next crossing and renews it when it is touched. A scheduler, one neuron for each copy
of the network, takes in every step the earliest of all crossings and of the next entry of the input schedule, and
merges what rounding makes of one instant (`mtt_brian.circuit.instants`). Then the populations follow one another as in
`equations.every_step`: synapses add up what arrives, and one piece of code does the rest. A neuron that nothing touches
stays as it was at its last instant. The rules are those of the exact engine:

* IF with a bias: the potential is ``y + slope (now - last - pauses dead_time) - taken theta``. Jumps change ``y`` only;
  spikes and refractory periods are counted, so no rounding error adds up from spike to spike;
* LIF and CubaLIF: closed forms (`functions`); `transient` is how far the synaptic current is from where the bias alone
  holds it.

Spikes that arrive late wait in relays, one for each source neuron and delay. A relay keeps its spikes in the order in
which they were sent (`functions.under_way`) and fires when the first of them arrives. All relays that are due fire
before the populations of a step; what a step sends into delays is sent at its end, so a connection may lead back.
"""

from __future__ import annotations

import numpy as np
from brian2 import Function

from mtt_brian.circuit.model import Circuit, Population
from mtt_brian.engines.brian2.equations import COPY, BrianEquations, counts_many, keep_total
from mtt_brian.engines.brian2.functions import (
    CLEAR,
    FUNCTIONS,
    LOOK,
    MOST_UNDER_WAY,
    NEVER,
    RECEIVE,
    SEND,
    current_crossing,
    leak_crossing,
    line_crossing,
)
from mtt_brian.engines.brian2.schedule import NEVER as NO_STEP
from mtt_brian.errors import InputError
from mtt_brian.neuron import LIF, CubaLIF, NeuronRule

#: Spikes per second above which a neuron that fires between arrivals ends the run, and spikes that it may fire at any
#: rate (as in the exact engine).
MAX_RATE, BURST = 1e6, 1000.0
#: Why a run is given up, in `alarm`: the next spike is no later than this one; a neuron fires faster than `MAX_RATE`;
#: more spikes are under way in one delay than there is room for.
NO_PROGRESS, TOO_FAST, NO_ROOM = 1, 2, 3
#: How close to the threshold, relative to it, rounding can leave what a subtraction should leave at it.
_ROUNDED = 1e-9
#: Kinds of entries of the input schedule in the table `ends`: input events, the end of a recording, nothing left.
INPUT, END, IDLE = 0, 1, 2

SCHEDULER = """entry : integer
taken : integer
idle : integer
ended : integer
now : 1
until : 1"""

SCHEDULER_UPDATE = f"""entry = entry + taken
due = instants(entry*second, i)
kind = int(ends(entry*second, i))
event = choose(int(kind == {INPUT}), due, {NEVER!r})
crossing = earliest_crossing(i, -1)
first = choose(int(crossing < event), crossing, event)
within = first + time_window(first)
with_event = int(kind == {INPUT} and event <= within)
at = choose(with_event, event, whole_microsecond(first))
at = choose(int(kind == {END} and at > due and first <= due + time_window(due)), due, at)
ended = int(kind == {END} and at > due)
idle = int(kind == {IDLE})
now = choose(int(ended > 0 or idle > 0), due, at)
until = choose(int(ended > 0 or idle > 0), -1, clip(within, at + time_window(at), inf))
taken = int(with_event > 0 or ended > 0)"""


#: What every population reads of the scheduler, with its type.
LINKED = {"now": "1", "until": "1", "ended": "integer", "entry": "integer"}


def finds_its_instants(circuit: Circuit) -> bool:
    """Whether anything but input events can be an instant of the network, or move a state in another way than leak."""
    return any(_moves_by_itself(population.rule) for population in circuit.populations) or any(
        connection.delayed for connection in circuit.connections
    )


def _moves_by_itself(rule: NeuronRule) -> bool:
    bound = rule.lower_bound
    # A bound is applied at an arrival and not before: code that applies it at the next one has to start above it.
    bounded_later = bound is not None and (
        np.any(np.greater(bound, 0)) or (rule.reset == "zero" and np.any(np.less(rule.v_reset, bound)))
    )
    return bool(
        rule.crosses or isinstance(rule, CubaLIF) or np.any(rule.bias) or np.any(rule.refractory) or bounded_later
    )


def rest_of(rule: NeuronRule) -> np.ndarray:
    """The potential that a leaky neuron tends to; the slope of one without leak."""
    current = held_current(rule) if isinstance(rule, CubaLIF) else np.asarray(rule.bias, dtype=np.float64)
    rest = np.asarray(rule.r, dtype=np.float64) * current
    return rest + np.asarray(rule.v_leak) if isinstance(rule, LIF) else rest


def held_current(rule: CubaLIF) -> np.ndarray:
    """The synaptic current that the bias alone holds."""
    return np.asarray(rule.w_in, dtype=np.float64) * np.asarray(rule.bias, dtype=np.float64)


def first_crossing(rule: NeuronRule) -> np.ndarray:
    """When a neuron that starts at time 0 crosses its threshold if nothing arrives, in seconds, or `NEVER`."""
    rest, theta = rest_of(rule), rule.threshold
    if isinstance(rule, CubaLIF):
        drive = np.multiply(rule.r, -held_current(rule))
        return np.asarray(current_crossing(1, 0, drive, theta, rest, rule.tau, rule.tau_syn))
    if isinstance(rule, LIF):
        return np.asarray(leak_crossing(0, theta, rest, rule.tau))
    return np.asarray(line_crossing(theta, rest))


def self_timed(population: Population, earliest: Function, with_total: bool, in_delays: bool) -> BrianEquations:
    """The code of one population.

    Args:
        population: of the code.
        earliest: see `functions.earliest_crossing`.
        with_total: see `equations.every_step`.
        in_delays: whether spikes reach the population through delays, so that its rate is watched.
    """
    rule = population.rule
    code = BrianEquations(
        [
            COPY,
            *(f"{name} : {kind} (linked)" for name, kind in LINKED.items()),
            "step = t_in_timesteps : integer (shared)",
        ],
        {**FUNCTIONS, "earliest_crossing": earliest},
        on_pre={"deliver": "arrived_post += w*n_pre\ntouched_post = step_post"},
    )
    code.state("v")
    code.state("arrived")
    code.state("touched", "integer", NO_STEP)
    on_a_line = rule.fires and not isinstance(rule, LIF) and np.any(rest_of(rule))
    update = _on_a_line(code, rule) if on_a_line else _in_closed_form(code, rule)
    if rule.fires:
        # Many spikes at once can be more than an integer of 32 bits holds.
        code.lines.append("n : 1")
        code.events["spike"] = "n > 0"
        if with_total:
            update.append("total += n")
        if rule.crosses or in_delays:
            update += _watch(code, rule)
    elif with_total:
        update.append("total = ended*v")
    else:
        code.lines.append("final : 1")
        code.events["end"] = "ended > 0"
        update.append("final = choose(ended, v, final)")
    for name, start in code.start.items():
        if name not in ("arrived", "touched", "alarm", "alarm_time"):
            value = code.parameter(f"{name}_start", start) if np.any(start) else "0"
            update.append(f"{name} = choose(ended, {value}, {name})")
    if rule.fires and rule.crosses:
        update.append("crossing = earliest_crossing(copy, crossing)")
    if with_total:
        keep_total(code, population)
    if code.events:
        # A monitor cannot record what is linked.
        code.lines += ["event_time : 1", "event_entry : integer"]
        update += ["event_time = now", "event_entry = entry"]
    code.update = "\n".join(update)
    return code


#: The code of the relays of a delayed connection: what has arrived in this step, and what is sent into the delay.
RELAYS = "\n".join(
    [
        COPY,
        *(f"{name} : {kind} (linked)" for name, kind in LINKED.items() if name != "entry"),
        "sent : 1",
        "n : 1",
        "seconds : 1 (constant)",
        "alarm : 1",
        "alarm_time : 1",
    ]
)
RELAYS_RECEIVE = f"n = under_way(i, {RECEIVE}, until, 0)"
RELAYS_SEND = f"""due = under_way(i, choose(ended, {CLEAR}, choose(int(sent > 0), {SEND}, {LOOK})), now + seconds, sent)
full = int(due < 0 and alarm == 0)
alarm_time = choose(full, now, alarm_time)
alarm = choose(full, {NO_ROOM}, alarm)
sent = 0
noted = earliest_crossing(copy, choose(int(due < 0), {NEVER!r}, due))"""


def check_alarm(what: str, size: int, alarm: np.ndarray, since: np.ndarray) -> None:
    """Checks that no neuron fires without end, and that delays had room for all spikes.

    Args:
        what: the population, or the connection with delays.
        size: neurons of one copy.
        alarm, since: their variables `alarm` and `alarm_time`, [copies * neurons].

    Raises:
        InputError: names the neuron and the instant.
    """
    if not np.any(alarm):
        return
    if np.any(alarm == NO_ROOM):
        raise InputError(
            f"{what}, at {since[alarm == NO_ROOM].min():.9g} s: more than {MOST_UNDER_WAY} spikes of one neuron are "
            "under way in a delay, for which the Brian2 engines have no room: use engine='exact'"
        )
    neuron = np.flatnonzero(alarm)[np.argmin(since[np.flatnonzero(alarm)])]
    limit = f"{MAX_RATE:g} spikes per second"
    reason = (
        f"its next spike is no later than this one in float64, that is more than {limit}"
        if alarm[neuron] == NO_PROGRESS
        else f"more than {limit}"
    )
    raise InputError(
        f"{what}, neuron {neuron % size} (C order), at {since[neuron]:.9g} s: fires "
        f"without end: {reason}; check its bias, v_leak, weights and spike_integral"
    )


def _listening(code: BrianEquations, rule: NeuronRule) -> tuple[list[str], str]:
    """Lines that find neurons outside their refractory period, and a factor that is 0 for all others."""
    if not (rule.fires and np.any(rule.refractory)):
        return [], ""
    code.state("free")
    code.parameter("dead_time", rule.refractory)
    return ["listens = int(now >= free - time_window(free))"], "*listens"


def _spikes(code: BrianEquations, rule: NeuronRule) -> list[str]:
    """Spikes and reset of the neurons that fire, by their rule."""
    lines = ["n = fires*floor64(v/theta)" if counts_many(rule) else "n = fires"]
    if rule.reset == "zero":
        return [*lines, f"v = choose(fires, {code.parameter('v_reset', rule.v_reset)}, v)"]
    return [*lines, "v = v - n*theta"]


def _on_a_line(code: BrianEquations, rule: NeuronRule) -> list[str]:
    """An IF with a bias. `v` is the potential at the neuron's last instant, for monitors."""
    for name in ("y", "last", "taken", "pauses"):
        code.state(name)
    code.parameter("theta", rule.threshold)  # type: ignore[arg-type]
    code.parameter("slope", rest_of(rule))
    lines, listens = _listening(code, rule)
    pause = "pauses*dead_time" if listens else "0"
    crossed = ""
    if rule.crosses:
        code.state("crossing", start=first_crossing(rule))
        crossed = " or crossing <= until"
    lines += [
        f"arrival = int(touched == step){listens}",
        f"hit = int(arrival > 0{crossed})",
        "y = y + arrival*arrived",
        "arrived = 0",
        "outside = hit*int(y < 0 or y >= theta)",
        "whole_part = outside*floor64(y/theta)",
        "y = y - whole_part*theta",
        "taken = taken - whole_part",
        f"at = y + (slope*(now - (last + {pause})) - taken*theta)",
        "v = choose(hit, on_threshold(at, theta, slope, taken, now), v)",
    ]
    if rule.lower_bound is not None:
        lines += [
            f"low = hit*int(v < {code.parameter('v_min', rule.lower_bound)})",
            "v = choose(low, v_min, v)",
            *_new_line("low"),
        ]
    lines += ["fires = hit*int(v >= theta)", *_spikes(code, rule)]
    lines += _new_line("fires") if rule.reset == "zero" else ["taken = taken + n"]
    lines.append("pauses = pauses + fires")
    if listens:
        lines.append("free = choose(fires, now + dead_time, free)")
    if rule.crosses:
        following = f"last + {pause} + line_crossing((taken + 1)*theta - y, slope)"
        lines.append(f"crossing = choose(hit, choose(int(v < theta), {following}, {NEVER!r}), crossing)")
    return lines


def _new_line(condition: str) -> list[str]:
    """A line begins at the potential and the time of this instant."""
    return [
        f"y = choose({condition}, v, y)",
        f"last = choose({condition}, now, last)",
        f"taken = choose({condition}, 0, taken)",
        f"pauses = choose({condition}, 0, pauses)",
    ]


def _in_closed_form(code: BrianEquations, rule: NeuronRule) -> list[str]:
    """An IF without a bias or a threshold, a LIF or a CubaLIF."""
    leaks, current = isinstance(rule, LIF), isinstance(rule, CubaLIF)
    moves = leaks or bool(np.any(rest_of(rule)))
    lines, listens = _listening(code, rule)
    conditions = ["arrival > 0"]
    if rule.crosses:
        code.state("crossing", start=first_crossing(rule))
        conditions.append("crossing <= until")
    if moves and not rule.fires:
        conditions.append("ended > 0")  # the final state is that at the end
    lines += [
        f"arrival = int(touched == step){'' if current else listens}",
        f"crossed = {'int(crossing <= until)' if rule.crosses else '0'}",
        f"hit = int({' or '.join(conditions)})",
    ]
    if moves:
        code.state("last")
        lines += _advance(code, rule, bool(listens))
    if rule.crosses:
        lines.append("v = choose(crossed, theta, v)")
    lines += ["transient = transient + arrived" if current else "v = v + arrival*arrived", "arrived = 0"]
    heard = f"int(arrival > 0 or crossed > 0){listens}"
    if rule.lower_bound is not None:
        lines.append(f"v = choose({heard}, clip(v, {code.parameter('v_min', rule.lower_bound)}, inf), v)")
    if not rule.fires:
        return lines
    code.parameter("theta", rule.threshold)  # type: ignore[arg-type]
    lines.append(f"fires = {heard}*int(v >= theta)")
    if rule.crosses:
        lines += [
            f"coming = {_next_crossing(rule, 'hit*(1 - fires)', bool(listens))}",
            f"near = {heard}*(1 - fires)*int(coming <= now + time_window(now))",
            "v = choose(near, theta, v)",
            "fires = fires + near",
        ]
    lines += _spikes(code, rule)
    if listens:
        lines.append("free = choose(fires, now + dead_time, free)")
    if rule.crosses:
        lines += [
            f"coming = choose(fires, {_next_crossing(rule, 'fires', bool(listens))}, coming)",
            "again = fires*int(coming <= now + time_window(now))",
        ]
        if rule.reset == "subtract":
            # By rounding alone, what a subtraction leaves can lie just below the threshold.
            lines.append(f"left = again*int(v > (1 - {_ROUNDED!r})*theta)")
            lines += ["v = choose(left, 0, v)", "n = n + left"] if counts_many(rule) else ["v = choose(left, theta, v)"]
            lines.append(f"coming = choose(again, {_next_crossing(rule, 'again', bool(listens))}, coming)")
        lines.append("crossing = choose(hit, coming, crossing)")
    return lines


def _advance(code: BrianEquations, rule: NeuronRule, refractory: bool) -> list[str]:
    """Carries the states of the neurons that are touched to `now`; a refractory potential is held, its current not."""
    rest = code.parameter("rest" if isinstance(rule, LIF) else "slope", rest_of(rule))
    held = "last"
    lines = []
    if isinstance(rule, LIF):
        code.parameter("tau", rule.tau)
    if isinstance(rule, CubaLIF):
        code.parameter("tau_syn", rule.tau_syn)
        code.parameter("r", rule.r)
        code.state("transient", start=-held_current(rule))
        code.lines.append(f"I = {code.parameter('i_bias', held_current(rule))} + transient : 1")
    if refractory:
        held = "held"
        lines.append("held = clip(free, last, now)")
        if isinstance(rule, CubaLIF):
            decayed = "transient*exp((last - held)/tau_syn)"
            lines.append(f"transient = choose(hit*int(held > last), {decayed}, transient)")
    lines.append(f"moved = hit*int(now > {held})")
    state = f"v + {rest}*(now - {held})"
    if isinstance(rule, LIF):
        state = f"{rest} + (v - {rest})*exp(({held} - now)/tau)"
    if isinstance(rule, CubaLIF):
        state += f" + r*transient*synaptic_response(now - {held}, tau, tau_syn)"
    lines.append(f"v = choose(moved, {state}, v)")
    if isinstance(rule, CubaLIF):
        lines.append(f"transient = choose(moved, transient*exp(({held} - now)/tau_syn), transient)")
    return [*lines, "last = choose(hit, now, last)"]


def _next_crossing(rule: NeuronRule, wanted: str, refractory: bool) -> str:
    """The time of the next crossing of a neuron with the state at `now`, if ``wanted`` is not 0."""
    begin, drive = "now", "r*transient"
    if refractory:
        begin = "clip(now, free, inf)"
        drive = "choose(int(free > now), r*transient*exp((now - free)/tau_syn), r*transient)"
    if isinstance(rule, CubaLIF):
        return f"{begin} + current_crossing({wanted}, v, {drive}, theta, rest, tau, tau_syn)"
    return f"{begin} + leak_crossing(v, theta, rest, tau)"


def _watch(code: BrianEquations, rule: NeuronRule) -> list[str]:
    """Notes why a run has to be given up, and silences the neuron."""
    for name in ("alarm", "alarm_time", "fires_so_far"):
        code.state(name)
    wrong = f"{TOO_FAST}*int(fires_so_far > {BURST!r} + {MAX_RATE!r}*now)"
    if rule.crosses:
        wrong = f"choose(hit*int(crossing <= now + time_window(now)), {NO_PROGRESS}, {wrong})"
    lines = [
        "fires_so_far = fires_so_far + fires",
        f"wrong = {wrong}",
        "alarm_time = choose(int(alarm == 0 and wrong > 0), now, alarm_time)",
        "alarm = choose(int(alarm == 0), wrong, alarm)",
        "n = choose(int(wrong > 0), 0, n)",  # a loop also comes to rest
    ]
    return [*lines, f"crossing = choose(int(wrong > 0), {NEVER!r}, crossing)"] if rule.crosses else lines
