"""The Brian2 code of one population, from its rule: in two forms that give the same spikes.

`lazy`: bound and leak act at a neuron's next arrival, and neurons that nothing reaches cost nothing. Where synapses run
one after another (cython, C++), the first one that reaches a neuron in a step brings it up to date. Where they run
together (numpy), pathways of their own do that first, with statements ``x_post = f(values that no synapse changes in
this pathway)``, whose result does not depend on the order of the synapses. At the end of a recording the curtain's
synapses put all states back.

`dense`, for a GPU, where a step costs its launches and its waits for pathways, not its neurons: synapses only add up
what arrives, and one piece of code does the rest for all neurons in every step: leak, arrivals, bound, spikes, reset,
and the end of a recording, which it finds in a table. It also keeps the counts and final states of recordings, as a
monitor there would make every step wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import brian2
import numpy as np
from brian2 import second

from mtt_brian.circuit.model import Population
from mtt_brian.neuron import LIF, NeuronRule, Parameter


@dataclass
class PopulationCode:
    """Code of a ``NeuronGroup`` and of the synapses that reach it.

    Attributes:
        lines: equations.
        events: conditions by name: of a ``spike``, or of the ``curtain``, when a silent population shows its `final`
            state.
        reset: what a spike does.
        on_arrival: pathways of the synapses that reach the population, in this order.
        update: what is run for all neurons between arrivals and threshold.
        on_curtain: pathways of the curtain's synapses, in this order.
        turn: what is run for all neurons at the end of a step.
        namespace: constants and tables.
        arrays: parameters, numbers or one value per neuron.
    """

    lines: list[str]
    namespace: dict[str, Any]
    events: dict[str, str] = field(default_factory=dict)
    reset: str | None = None
    on_arrival: dict[str, str] = field(default_factory=dict)
    update: str = ""
    on_curtain: dict[str, str] = field(default_factory=dict)
    turn: str = ""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def equations(self) -> str:
        return "\n".join([*self.lines, *(f"{name} : 1 (constant)" for name in self.arrays)])

    def parameter(self, name: str, value: Parameter, suffix: str = "") -> str:
        """What the code calls a parameter: a variable with one value per neuron.

        Never a number in the code: Brian2 and compilers turn a division by a constant into a product with its
        reciprocal, which is another number (0.6 / 0.1 is 5.99..., 0.6 * 10 is 6).
        """
        self.arrays[name] = np.asarray(value, dtype=np.float64)
        return name + suffix


#: Which column of a table is the neuron's.
_LANE = "lane : integer (constant)"
#: `last` is the neuron's previous arrival, in seconds, as `now`.
_LEAK = ["now = instants(t_in_timesteps*second, lane) : 1", "last : 1"]


def _begin(population: Population, tables: dict[str, Any]) -> tuple[PopulationCode, bool]:
    """What both forms share; and whether what is left above the threshold after one spike has to wait."""
    code = PopulationCode(["v : 1", "step = t_in_timesteps : integer (shared)"], {"second": second, **tables})
    rule = population.rule
    if rule.fires:
        # Many spikes at once can be more than an integer of 32 bits holds.
        code.lines.append("n : 1" if counts_many(rule) else "n : integer")
    return code, rule.fires and rule.reset == "subtract" and rule.spikes == "one"


def counts_many(rule: NeuronRule) -> bool:
    """Whether a neuron can fire several spikes at once."""
    return rule.reset == "subtract" and rule.spikes == "many"


def whole(ratio: str) -> str:
    """The largest whole number that is not above a ratio >= 1, as float64; Brian2's ``floor`` gives 32 bits in numpy.

    Nothing is rounded: the fraction of a float64 is a float64, and so is what is left without it.
    """
    return f"({ratio} - ({ratio}) % 1.0)"


def lazy(population: Population, instants: brian2.TimedArray | None, serial: bool) -> PopulationCode:
    """Bound and leak at the next arrival.

    Args:
        population: what the code is of.
        instants: see `Playlist`; for leaky populations.
        serial: whether each synapse of a pathway sees what the one before it did.
    """
    rule = population.rule
    code, waits = _begin(population, {})
    settled, noted, restart = "v_post", "", "v_post = 0"
    if rule.lower_bound is not None:
        settled = f"clip(v_post, {code.parameter('v_min', rule.lower_bound, '_post')}, inf)"
    if isinstance(rule, LIF):
        code.namespace["instants"] = instants
        code.lines += [_LANE, *_LEAK]
        leak, tau = (code.parameter(name, getattr(rule, name), "_post") for name in ("v_leak", "tau"))
        settled = f"{leak} + ({settled} - {leak})*exp((last_post - now_post)/{tau})"
        noted, restart = "\nlast_post = now_post", f"{restart}\nlast_post = 0"
    settles = rule.lower_bound is not None or isinstance(rule, LIF)
    deliver = "v_post += w*n_pre"
    if settles and serial:
        deliver = f"""first = int(touched_post != step_post)
        v_post = (1 - first)*v_post + first*({settled}) + w*n_pre{noted}"""
    elif settles:
        code.lines.append("settled : 1")
        code.on_arrival = {"find": f"settled_post = {settled}", "settle": f"v_post = settled_post{noted}"}
    if waits or (settles and serial):
        code.lines.append("touched : integer")
        deliver += "\ntouched_post = step_post"
    code.on_arrival["deliver"] = deliver
    code.on_curtain = {"restart": restart}
    if rule.threshold is None:
        code.lines += ["final : 1", "curtain_step : integer"]
        code.events["curtain"] = "curtain_step == step"
        code.on_curtain = {"close": f"final_post = {settled}\ncurtain_step_post = step_post", "restart": restart}
        return code
    theta = code.parameter("theta", rule.threshold)
    code.events["spike"] = f"v >= {theta}" + (" and touched == step" if waits else "")
    if rule.reset == "zero":
        code.reset = f"v = {code.parameter('v_reset', rule.v_reset)}"
    elif counts_many(rule):
        code.reset = f"n = {whole(f'v/{theta}')}\nv -= n*{theta}"
    else:
        code.reset = f"v -= {theta}"
    return code


def dense(
    population: Population, instants: brian2.TimedArray | None, ends: brian2.TimedArray, tallied: bool
) -> PopulationCode:
    """Everything but the sum of what arrives in one piece of code.

    Args:
        population: what the code is of.
        instants, ends: see `Playlist`.
        tallied: whether each recording's spikes per neuron, or the final state of a silent population, are kept in
            `total`, to be linked to a table by `place`: the neuron's place in its recording's row, see `Playlist`.
    """
    rule = population.rule
    leaks = isinstance(rule, LIF)
    code, waits = _begin(population, {"ends": ends})
    code.lines += [_LANE, "ended = int(ends(t_in_timesteps*second, lane)) : integer"]
    deliver, update, state = "v_post += w*n_pre", [], "v"
    if isinstance(rule, LIF):
        code.namespace["instants"] = instants
        code.lines += [*_LEAK, "arrived : 1"]
        deliver = "arrived_post += w*n_pre"
        leak, tau = (code.parameter(name, getattr(rule, name)) for name in ("v_leak", "tau"))
        state = f"{leak} + (v - {leak})*exp((last - now)/{tau})"
    if leaks or waits:
        code.lines.append("touched : integer")
        deliver += "\ntouched_post = step_post"
        update.append("hit = int(touched == step)")
    if leaks:
        # Only an arrival moves the state on: two steps of the exponential are not one to the last bit.
        update += [f"v = hit*({state} + arrived) + (1 - hit)*v", "arrived = 0", "last = hit*now + (1 - hit)*last"]
    if rule.lower_bound is not None:
        update.append(f"v = clip(v, {code.parameter('v_min', rule.lower_bound)}, inf)")
    if rule.threshold is None:
        if tallied:
            update.append(f"total = ended*({state})")
    else:
        theta = code.parameter("theta", rule.threshold)
        code.events["spike"] = "n > 0"
        if rule.reset == "zero":
            update.append(f"n = int(v >= {theta})")
            state = f"n*{code.parameter('v_reset', rule.v_reset)} + (1 - n)*v"
        else:
            many = whole(f"v/{theta}") if counts_many(rule) else "hit"
            update.append(f"n = int(v >= {theta})*{many}")
            state = f"v - n*{theta}"
        if tallied:
            update.append("total += n")
    update.append(f"v = (1 - ended)*({state if rule.fires else 'v'})")
    if leaks:
        update.append("last = (1 - ended)*last")
    if tallied:
        code.lines += ["total : 1 (linked)", "place : integer"]
        code.namespace["size"] = population.size
        # A piece of its own: code that moves an index cannot use it as well.
        code.turn = "place += ended*size"
    code.on_arrival, code.update = {"deliver": deliver}, "\n".join(update)
    return code
