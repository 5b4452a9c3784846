"""Neurons and connections with another integral of a spike and another unit of time."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from mtt_brian.circuit.instants import on_whole_microseconds
from mtt_brian.circuit.model import Connection
from mtt_brian.circuit.operators import Delay
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF, LinearNeuron, NeuronRule, Parameter
from mtt_brian.translate.nir_files import uniform


def with_spike_integral(rule: NeuronRule, integral: Parameter) -> NeuronRule:
    """Scales the effect of spikes, but not that of currents."""
    if not np.ndim(integral) and integral == 1.0:
        return rule
    if np.ndim(integral) and type(rule) not in (IF, LIF, CubaLIF):
        raise InputError(f"a {type(rule).__name__} needs one spike_integral for all its neurons, not one for each")
    if isinstance(rule, LinearNeuron):  # its constant currents are separate from its jumps
        return replace(rule, systems=tuple(replace(s, drive=integral * s.drive) for s in rule.systems))
    bias = np.divide(rule.bias, integral)
    if type(rule) not in (IF, LIF, CubaLIF):
        return _scaled(rule, replace(rule, r=np.multiply(rule.r, integral), bias=bias), float(integral))
    if isinstance(rule, CubaLIF):  # its spikes and its bias both pass w_in
        return replace(rule, w_in=np.multiply(rule.w_in, integral), bias=bias)
    return replace(rule, r=np.multiply(rule.r, integral), bias=bias)


def _scaled(rule: NeuronRule, scaled: NeuronRule, integral: float) -> NeuronRule:
    """Checks that the jumps of ``scaled`` are ``integral`` times those of ``rule``, and all else is equal."""
    shape = np.broadcast_shapes(*(np.shape(getattr(rule, field.name)) for field in fields(rule)))
    (before, which), (after, which_after) = rule.linear_systems(shape), scaled.linear_systems(shape)
    for old, new in zip(which.ravel(), which_after.ravel(), strict=True):
        expected = replace(before[old], drive=integral * before[old].drive)
        same = (np.allclose(getattr(expected, name), getattr(after[new], name), 1e-12) for name in ("drive", "offset"))
        if not all(same) or not replace(expected, drive=after[new].drive, offset=after[new].offset).equals(after[new]):
            raise InputError(
                f"spike_integral={integral:g} cannot be applied to a {type(rule).__name__}, whose jumps are not "
                "proportional to its r; accepted is 1"
            )
    return scaled


def in_time(rule: NeuronRule, stretch: float) -> NeuronRule:
    """The neuron in another unit of time, 1 s of which is ``stretch`` seconds of the rule; jumps are unchanged."""
    if stretch == 1.0:
        return rule
    if type(rule) not in (IF, LIF, CubaLIF, LinearNeuron):
        raise InputError(
            f"time_per_step cannot be applied to a {type(rule).__name__}, whose time constants are its own; give the "
            "recordings in the file's time"
        )
    changes: dict[str, Any] = {"refractory": uniform(on_whole_microseconds(np.divide(rule.refractory, stretch)))}
    if isinstance(rule, LinearNeuron):
        changes["systems"] = tuple(replace(s, tau=s.tau / stretch, drive=s.drive / stretch) for s in rule.systems)
        return replace(rule, **changes)
    changes["bias"] = np.multiply(rule.bias, stretch)
    if isinstance(rule, LIF):
        changes["tau"] = np.divide(rule.tau, stretch)
    if isinstance(rule, CubaLIF):
        changes |= {"tau_syn": np.divide(rule.tau_syn, stretch), "w_in": np.divide(rule.w_in, stretch)}
    elif isinstance(rule, LIF):
        changes["r"] = np.divide(rule.r, stretch)
    changes = {key: uniform(np.asarray(value)) for key, value in changes.items()}
    return replace(rule, **changes)


def connection_in_time(connection: Connection, stretch: float) -> Connection:
    """The connection in another unit of time, see `in_time`."""
    if stretch == 1.0 or not connection.delayed:
        return connection
    operators = tuple(
        Delay(np.asarray(on_whole_microseconds(o.seconds / stretch))) if isinstance(o, Delay) else o
        for o in connection.operators
    )
    return replace(connection, operators=operators)
