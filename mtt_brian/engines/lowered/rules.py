"""The exact engines' table of neuron rules: rule type -> the form of its dynamics.

IF, LIF and CubaLIF have their own kernels. Any other rule is run as its linear systems (`linear_rules`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from mtt_brian.neuron import IF, LIF, CubaLIF, Parameter

#: How the state moves between arrivals: not at all; along a straight line (a neuron that fires: `y` is where the line
#: is at the time `last`, which arrivals do not change; a silent one: `y` is the potential at `last`); towards rest;
#: with a synaptic current; as a linear system of several states.
STATIC, LINE, DRIFT, LEAK, CURRENT, LINEAR = range(6)
#: Spikes and reset of a neuron at its threshold: one spike and a subtraction; many; a reset to a value; the reset of
#: its own system.
ONE, MANY, ZERO, OWN = range(4)


class Dynamics(NamedTuple):
    """The dynamics of a population between arrivals. Parameters are numbers or arrays in the population's shape.

    Attributes:
        kind: code, `STATIC` to `LINEAR`.
        rest: where a leaky membrane decays to; the slope of one that does not leak.
        tau, tau_syn: time constants of the membrane and of the synaptic current, seconds.
        peak: the highest potential that a current of 1 / r causes, `CURRENT` only.
        r: resistance.
        gain: jump at a spike through weight 1.
        start: value at time 0 of the state in which the jumps arrive.
    """

    kind: int
    rest: Parameter = 0.0
    tau: Parameter = 1.0
    tau_syn: Parameter = 1.0
    peak: Parameter = 0.0
    r: Parameter = 1.0
    gain: Parameter = 1.0
    start: Parameter = 0.0


def dynamics(rule: IF) -> Dynamics:
    """The dynamics of a rule; those of a linear system for a rule that is not in `DYNAMICS`."""
    return Dynamics(LINEAR) if is_linear(rule) else DYNAMICS[type(rule)](rule)


def is_linear(rule: IF) -> bool:
    """Whether the rule is run as a linear system."""
    return type(rule) not in DYNAMICS


def reset_code(rule: IF, one_spike: bool) -> int:
    """Spikes and reset of a neuron at its threshold: `ONE`, `MANY` or `ZERO`.

    Args:
        rule: the rule.
        one_spike: whether there is at most one spike per arrival, whatever the rule allows.
    """
    if rule.reset == "zero":
        return ZERO
    return MANY if rule.spikes == "many" and not one_spike else ONE


def _if(rule: IF) -> Dynamics:
    slope = np.asarray(rule.r, dtype=np.float64) * np.asarray(rule.bias, dtype=np.float64)
    kind = STATIC if not np.any(slope) else LINE if rule.fires else DRIFT
    return Dynamics(kind, rest=slope, r=rule.r, gain=rule.gain)


def _lif(rule: LIF) -> Dynamics:
    rest = np.asarray(rule.r, dtype=np.float64) * np.asarray(rule.bias, dtype=np.float64) + np.asarray(rule.v_leak)
    return Dynamics(LEAK, rest=rest, tau=rule.tau, r=rule.r, gain=rule.gain)


def _cuba_lif(rule: CubaLIF) -> Dynamics:
    # The state is the difference of the current from its equilibrium under the bias alone.
    rest = np.asarray(rule.r, dtype=np.float64) * rule.held_current + np.asarray(rule.v_leak)
    return Dynamics(
        CURRENT,
        rest=rest,
        tau=rule.tau,
        tau_syn=rule.tau_syn,
        peak=rule.peak,
        r=rule.r,
        gain=rule.gain,
        start=-rule.held_current,
    )


#: Rules with their own kernels. Other rule types are run as their linear systems.
DYNAMICS: Mapping[type[IF], Callable[..., Dynamics]] = MappingProxyType({IF: _if, LIF: _lif, CubaLIF: _cuba_lif})
