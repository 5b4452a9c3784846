"""The programs of plastic synapses (`mtt_brian.circuit.plasticity`) as flat arrays, and their arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mtt_brian.circuit import plasticity as ops
from mtt_brian.circuit.plasticity import PlasticSynapses
from mtt_brian.engines.exact.jit import piece

#: Synapses of a spike for which one operation is executed together.
WIDTH = 64
#: Columns of `Plasticity.due`.
OF, BEGIN, END, AT_ONCE = range(4)
#: Entries of `Plasticity.state`.
LISTED, BAD_ROW, BAD_SYNAPSE = range(3)


class Plasticity(NamedTuple):
    """All plastic synapses of a network. Programs are numbered by their order.

    Kernels accept ``Plasticity | None``. None is for networks without any: numba then compiles the kernels without it.

    Attributes:
        code: the rows of all programs, with registers, columns and ends in the arrays below, int64 [I, `ROW`].
        first: first row of every program, and where the last one ends [P + 1].
        registers: float64 [R, `WIDTH`].
        values: column after column, float64; synapse k of a column that begins at c has ``values[c + k]``.
        neuron: the neurons at the ends, as the values, int64.
        due: what spikes of this round execute: connection, its synapses from and to, spikes at once, int64 [room, 4].
        state: how many these are, and row and synapse of a value that is not finite (-1: none), int64 [3].
    """

    code: np.ndarray
    first: np.ndarray
    registers: np.ndarray
    values: np.ndarray
    neuron: np.ndarray
    due: np.ndarray
    state: np.ndarray


@piece
def enlist(plastic: Plasticity, c: int, begin: int, end: int, n: int) -> None:
    """Lists what ``n`` spikes through synapses of connection ``c`` execute; there must be room."""
    if begin < end:
        k = plastic.state[LISTED]
        plastic.state[LISTED] += 1
        plastic.due[k, OF], plastic.due[k, BEGIN] = c, begin
        plastic.due[k, END], plastic.due[k, AT_ONCE] = end, n


@piece
def follow(x: float, a: float, b: float, dt: float) -> float:
    """The value after ``dt`` seconds of what begins at ``x`` and obeys dx/dt = a x + b."""
    if dt <= 0.0:
        return x
    if a == 0.0:
        return x + b * dt
    fixed = -b / a
    return fixed + (x - fixed) * math.exp(a * dt)


@piece
def computed(op: int, x: float, y: float, z: float) -> float:
    """The result of an operation on registers, `FOLLOW` excepted. Conditions are 1.0 and 0.0."""
    if op == ops.PLUS:
        return x + y
    if op == ops.MINUS:
        return x - y
    if op == ops.TIMES:
        return x * y
    if op == ops.DIVIDE:
        return x / y
    if op == ops.POWER:
        return x**y
    if op == ops.MODULO:
        return x % y
    if op == ops.FLOOR_DIVIDE:
        return math.floor(x / y)
    if op == ops.LESS:
        return 1.0 if x < y else 0.0
    if op == ops.AT_MOST:
        return 1.0 if x <= y else 0.0
    if op == ops.EQUAL:
        return 1.0 if x == y else 0.0
    if op == ops.UNEQUAL:
        return 1.0 if x != y else 0.0
    if op == ops.AND:
        return 1.0 if x != 0.0 and y != 0.0 else 0.0
    if op == ops.OR:
        return 1.0 if x != 0.0 or y != 0.0 else 0.0
    if op == ops.NOT:
        return 1.0 if x == 0.0 else 0.0
    if op == ops.NEGATIVE:
        return -x
    if op == ops.CLIP:
        x = y if x < y else x
        return z if x > z else x
    if op == ops.ABS:
        return abs(x)
    if op == ops.SIGN:
        return 1.0 if x > 0.0 else -1.0 if x < 0.0 else x
    return _function(op, x)


@piece
def _function(op: int, x: float) -> float:
    if op == ops.INT:
        return np.trunc(x)
    if op == ops.FLOOR:
        return np.floor(x)
    if op == ops.CEIL:
        return np.ceil(x)
    if op == ops.SQRT:
        return np.sqrt(x)
    if op == ops.EXP:
        return np.exp(x)
    if op == ops.EXPM1:
        return np.expm1(x)
    if op == ops.EXPREL:
        return 1.0 if x == 0.0 else np.expm1(x) / x
    if op == ops.LOG:
        return np.log(x)
    if op == ops.LOG10:
        return np.log10(x)
    if op == ops.LOG1P:
        return np.log1p(x)
    if op == ops.SIN:
        return np.sin(x)
    if op == ops.COS:
        return np.cos(x)
    if op == ops.TAN:
        return np.tan(x)
    if op == ops.SINH:
        return np.sinh(x)
    if op == ops.COSH:
        return np.cosh(x)
    if op == ops.TANH:
        return np.tanh(x)
    if op == ops.ARCSIN:
        return np.arcsin(x)
    if op == ops.ARCCOS:
        return np.arccos(x)
    return np.arctan(x)


# ---- Preparation -----------------------------------------------------------------------------------------------------


def plasticity_of(plastic: Sequence[PlasticSynapses], first_neuron: Mapping[str, int]) -> Plasticity | None:
    """The arrays of the kernels, without room for spikes; None without plastic synapses.

    Args:
        plastic: the objects.
        first_neuron: of every population among the neurons of all.
    """
    if not plastic:
        return None
    columns = [len(one.variables) + len(one.constants) for one in plastic]
    at = np.cumsum([0, *(n * one.size for n, one in zip(columns, plastic, strict=True))])
    values = np.zeros(at[-1])
    for one, begin, end in zip(plastic, at[:-1], at[1:], strict=True):
        values[begin + len(one.variables) * one.size : end] = one.constants.ravel()
    ends = [first_neuron.get(name, 0) + neurons for one in plastic for name, neurons in one.ends]
    of_end = np.cumsum([0, *map(len, ends)])
    first_end = np.cumsum([0, *(len(one.ends) for one in plastic)])
    code, registers = [], []
    before = 0
    number = {id(one): k for k, one in enumerate(plastic)}
    for one, pathway in ops.programs_in_order(plastic):
        k = number[id(one)]
        rows = pathway.code.copy()
        for row in rows:
            for operand in _registers_in(int(row[0])):
                row[operand] += before
            if row[0] == ops.LOAD:
                row[2] = at[k] + one.size * row[2]
            elif row[0] == ops.STORE:
                row[1] = at[k] + one.size * row[1]
            elif row[0] == ops.ADD:
                row[1] = of_end[first_end[k] + row[1]]
        code.append(rows)
        registers.append(pathway.registers)
        before += len(pathway.registers)
    return Plasticity(
        code=np.concatenate(code),
        first=np.cumsum([0, *map(len, code)]),
        registers=np.repeat(np.concatenate(registers)[:, None], WIDTH, axis=1),
        values=values,
        neuron=np.concatenate([np.zeros(0, np.int64), *ends]),
        due=np.zeros((0, 4), np.int64),
        state=np.array([0, -1, -1]),
    )


def variables_of(plastic: Sequence[PlasticSynapses], values: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """The variables of every object, by name, as views of `Plasticity.values`."""
    out: dict[str, dict[str, np.ndarray]] = {}
    at = 0
    for one in plastic:
        begins = at + one.size * np.arange(len(one.variables))
        out[one.name] = {
            name: values[begin : begin + one.size] for name, begin in zip(one.variables, begins, strict=True)
        }
        at += one.size * (len(one.variables) + len(one.constants))
    return out


def _registers_in(op: int) -> range:
    """Which numbers of a row are registers. Operands that an operation does not have are register 0 of its program."""
    if op in (ops.LOAD, ops.TIME):
        return range(1, 2)
    if op == ops.STORE:
        return range(2, 3)
    if op == ops.ADD:
        return range(3, 4)
    return range(1, ops.ROW)
