"""The Brian2 code of one population, from its rule: in two forms that give the same spikes.

`on_arrival`: bound and leak act at a neuron's next arrival, and neurons that nothing reaches cost nothing. Where
synapses run one after another (Cython, C++), the first one that reaches a neuron in a step brings it up to date. Where
they run together (numpy), pathways of their own do that first, with statements ``x_post = f(values that no synapse
changes in this pathway)``, whose result does not depend on the order of the synapses. At the end of a recording the
synapses of the end-of-recording reset put all states back.

`every_step`, for a GPU, where a step costs its launches and its waits for pathways, not its neurons: synapses only add
up what arrives, and one piece of code does the rest for all neurons in every step: leak, arrivals, bound, spikes,
reset, and the end of a recording, which it finds in a table. It also keeps the counts and final states of recordings,
because a monitor there makes every step wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import brian2
import numpy as np
from brian2 import second

from mtt_brian.circuit.model import Population
from mtt_brian.engines.brian2 import internals
from mtt_brian.engines.brian2.schedule import NEVER
from mtt_brian.neuron import LIF, NeuronRule, Parameter

#: Whether a synapse is the first one that reaches its neuron in this step. Whichever is: it updates the neuron,
#: and all add their jumps. So the result depends on their order as much as a sum does, and no more.
_IS_FIRST = "int(touched_post != step_post)"
internals.silence_order_warning(_IS_FIRST)


@dataclass
class BrianEquations:
    """Code of a ``NeuronGroup`` and of the synapses that reach it.

    Attributes:
        lines: equations.
        events: conditions by name: of a ``spike``, and of the ``end`` of a recording, when a silent population shows
            its `final` state.
        reset: code of a spike.
        on_pre: pathways of the synapses that reach the population, in this order.
        update: what is run for all neurons between arrivals and threshold.
        on_reset: pathways of the synapses of the end-of-recording reset, in this order.
        end_of_step: what is run for all neurons at the end of a step.
        namespace: constants and tables.
        arrays: parameters, numbers or one value per neuron.
        start: state variables with their values at time 0 of a recording, numbers or one value per neuron.
    """

    lines: list[str]
    namespace: dict[str, Any]
    events: dict[str, str] = field(default_factory=dict)
    reset: str | None = None
    on_pre: dict[str, str] = field(default_factory=dict)
    update: str = ""
    on_reset: dict[str, str] = field(default_factory=dict)
    end_of_step: str = ""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    start: dict[str, Parameter] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The equations of a ``NeuronGroup`` as text."""
        return "\n".join([*self.lines, *(f"{name} : 1 (constant)" for name in self.arrays)])

    def parameter(self, name: str, value: Parameter, suffix: str = "") -> str:
        """What the code calls a parameter: a variable with one value per neuron.

        Never a number in the code: Brian2 and compilers turn a division by a constant into a product with its
        reciprocal, which is another number (0.6 / 0.1 is 5.99..., 0.6 * 10 is 6).
        """
        self.arrays[name] = np.asarray(value, dtype=np.float64)
        return name + suffix

    def state(self, name: str, kind: str = "1", start: Parameter = 0.0) -> None:
        """Adds a state variable."""
        self.lines.append(f"{name} : {kind}")
        self.start[name] = start


#: Which column of a table belongs to the neuron.
COPY = "copy : integer (constant)"
#: In seconds.
_NOW = "now = instants(t_in_timesteps*second, copy) : 1"


def _begin(population: Population, tables: dict[str, Any]) -> tuple[BrianEquations, bool]:
    """What both forms share; and whether what is left above the threshold after one spike has to wait."""
    code = BrianEquations(["step = t_in_timesteps : integer (shared)"], {"second": second, **tables})
    code.state("v")
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


def on_arrival(population: Population, instants: brian2.TimedArray | None, serial: bool) -> BrianEquations:
    """Bound and leak at the next arrival.

    Args:
        population: of the code.
        instants: see `InputSchedule`; for leaky populations.
        serial: whether each synapse of a pathway uses the result of the one before it.
    """
    rule = population.rule
    code, waits = _begin(population, {})
    current, noted, start = "v_post", "", "v_post = 0"
    if rule.lower_bound is not None:
        current = f"clip(v_post, {code.parameter('v_min', rule.lower_bound, '_post')}, inf)"
    if isinstance(rule, LIF):
        code.namespace["instants"] = instants
        code.lines += [COPY, _NOW]
        code.state("last")  # the neuron's previous arrival
        leak, tau = (code.parameter(name, getattr(rule, name), "_post") for name in ("v_leak", "tau"))
        current = f"{leak} + ({current} - {leak})*exp((last_post - now_post)/{tau})"
        noted, start = "\nlast_post = now_post", f"{start}\nlast_post = 0"
    moves = rule.lower_bound is not None or isinstance(rule, LIF)
    deliver = "v_post += w*n_pre"
    if moves and serial:
        deliver = f"""first = {_IS_FIRST}
        v_post = (1 - first)*v_post + first*({current}) + w*n_pre{noted}"""
    elif moves:
        code.lines.append("current : 1")
        code.on_pre = {"prepare": f"current_post = {current}", "advance": f"v_post = current_post{noted}"}
    if waits or (moves and serial):
        code.state("touched", "integer", NEVER)
        deliver += "\ntouched_post = step_post"
    code.on_pre["deliver"] = deliver
    code.on_reset = {"restart": start}
    if rule.threshold is None:
        code.lines.append("final : 1")
        code.state("end_step", "integer", NEVER)
        code.events["end"] = "end_step == step"
        code.on_reset = {"close": f"final_post = {current}\nend_step_post = step_post", "restart": start}
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


def every_step(
    population: Population, instants: brian2.TimedArray | None, ends: brian2.TimedArray, with_total: bool
) -> BrianEquations:
    """Everything but the sum of what arrives in one piece of code.

    Args:
        population: of the code.
        instants, ends: see `InputSchedule`.
        with_total: whether each recording's spikes per neuron, or the final state of a silent population, are kept in
            `total`, to be linked to a table by `place`: the neuron's place in its recording's row, see `InputSchedule`.
    """
    rule = population.rule
    leaks = isinstance(rule, LIF)
    code, waits = _begin(population, {"ends": ends})
    code.lines += [COPY, "ended = int(ends(t_in_timesteps*second, copy)) : integer"]
    deliver, update, state = "v_post += w*n_pre", [], "v"
    if isinstance(rule, LIF):
        code.namespace["instants"] = instants
        code.lines.append(_NOW)
        code.state("last")
        code.state("arrived")
        deliver = "arrived_post += w*n_pre"
        leak, tau = (code.parameter(name, getattr(rule, name)) for name in ("v_leak", "tau"))
        state = f"{leak} + (v - {leak})*exp((last - now)/{tau})"
    if leaks or waits:
        code.state("touched", "integer", NEVER)
        deliver += "\ntouched_post = step_post"
        update.append("hit = int(touched == step)")
    if leaks:
        # Only an arrival moves the state on: two steps of the exponential are not one to the last bit.
        update += [f"v = hit*({state} + arrived) + (1 - hit)*v", "arrived = 0", "last = hit*now + (1 - hit)*last"]
    if rule.lower_bound is not None:
        update.append(f"v = clip(v, {code.parameter('v_min', rule.lower_bound)}, inf)")
    if rule.threshold is None:
        if with_total:
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
        if with_total:
            update.append("total += n")
    update.append(f"v = (1 - ended)*({state if rule.fires else 'v'})")
    if leaks:
        update.append("last = (1 - ended)*last")
    if with_total:
        keep_total(code, population)
    code.on_pre, code.update = {"deliver": deliver}, "\n".join(update)
    return code


def keep_total(code: BrianEquations, population: Population) -> None:
    """Adds what a population with a total needs, see `every_step`."""
    code.lines += ["total : 1 (linked)", "place : integer"]
    code.namespace["size"] = population.size
    # A piece of its own: code that moves an index cannot use it as well.
    code.end_of_step = "place += ended*size"
