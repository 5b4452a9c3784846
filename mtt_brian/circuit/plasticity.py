"""Synapses whose variables change at spikes: each pathway is a list of statements that its spikes execute.

A program is a list of operations on registers, one row of integers each: operation, register of the result, operands.
It is executed for every synapse of a spike, with the values of that synapse, at the instant at which the spike arrives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Operations between registers and what lies outside. LOAD result, column; STORE column, register; ADD end, state,
#: register: adds it to a state of the neuron at this end; TIME result: the instant, in seconds.
LOAD, STORE, ADD, TIME = range(4)
#: Operations on registers: result, then operands. FOLLOW result, x, a, b, dt: x after dt under dx/dt = a x + b.
FOLLOW, PLUS, MINUS, TIMES, DIVIDE, POWER, MODULO, FLOOR_DIVIDE = range(4, 12)
LESS, AT_MOST, EQUAL, UNEQUAL, AND, OR, NOT, NEGATIVE = range(12, 20)
CLIP, ABS, SIGN, INT, FLOOR, CEIL, SQRT, EXP, EXPM1, EXPREL, LOG, LOG10, LOG1P = range(20, 33)
SIN, COS, TAN, SINH, COSH, TANH, ARCSIN, ARCCOS, ARCTAN = range(33, 42)
#: Numbers in a row of a program.
ROW = 6


@dataclass(frozen=True, eq=False)
class PlasticPathway:
    """What the spikes of a population do to synapses.

    Attributes:
        name: of the pathway.
        source: the population that fires, or the input of the circuit.
        source_size: its neurons.
        neuron: that of the source, for every synapse, int64 [S].
        seconds: delay of every synapse, float64 [S].
        order: pathways that are reached at one instant are executed by rising order.
        code: the program, int64 [n, `ROW`].
        registers: what the registers contain at first, float64 [R].
    """

    name: str
    source: str
    source_size: int
    neuron: np.ndarray
    seconds: np.ndarray
    order: int
    code: np.ndarray
    registers: np.ndarray


@dataclass(frozen=True, eq=False)
class PlasticSynapses:
    """Synapses that share variables, S of them.

    Attributes:
        name: of the object.
        size: S.
        variables: names of the columns that programs change; they come first.
        constants: the other columns, float64 [C, S].
        ends: the populations of which spikes change states, and the neuron of every synapse in each, int64 [S].
        pathways: at least one.
    """

    name: str
    size: int
    variables: tuple[str, ...]
    constants: np.ndarray
    ends: tuple[tuple[str, np.ndarray], ...]
    pathways: tuple[PlasticPathway, ...]


def programs_in_order(plastic: Sequence[PlasticSynapses]) -> list[tuple[PlasticSynapses, PlasticPathway]]:
    """All pathways with their objects, in the order in which they are executed at one instant."""
    every = [(one, pathway) for one in plastic for pathway in one.pathways]
    return sorted(every, key=lambda pair: pair[1].order)
