"""Statements of synapses, as text, become the programs of `mtt_brian.circuit.plasticity`.

Operations keep the order of the text, so that their rounding errors are those of Brian2.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtt_brian.circuit import plasticity as ops

_BINARY = {
    ast.Add: ops.PLUS,
    ast.Sub: ops.MINUS,
    ast.Mult: ops.TIMES,
    ast.Div: ops.DIVIDE,
    ast.Pow: ops.POWER,
    ast.Mod: ops.MODULO,
    ast.FloorDiv: ops.FLOOR_DIVIDE,
}
#: Operation, and whether it takes its operands the other way round.
_COMPARISONS = {
    ast.Lt: (ops.LESS, False),
    ast.LtE: (ops.AT_MOST, False),
    ast.Gt: (ops.LESS, True),
    ast.GtE: (ops.AT_MOST, True),
    ast.Eq: (ops.EQUAL, False),
    ast.NotEq: (ops.UNEQUAL, False),
}
#: Functions of Brian2 by name, and how many arguments they take.
_FUNCTIONS = {
    "clip": (ops.CLIP, 3),
    "abs": (ops.ABS, 1),
    "sign": (ops.SIGN, 1),
    "int": (ops.INT, 1),
    "floor": (ops.FLOOR, 1),
    "ceil": (ops.CEIL, 1),
    "sqrt": (ops.SQRT, 1),
    "exp": (ops.EXP, 1),
    "expm1": (ops.EXPM1, 1),
    "exprel": (ops.EXPREL, 1),
    "log": (ops.LOG, 1),
    "log10": (ops.LOG10, 1),
    "log1p": (ops.LOG1P, 1),
    "sin": (ops.SIN, 1),
    "cos": (ops.COS, 1),
    "tan": (ops.TAN, 1),
    "sinh": (ops.SINH, 1),
    "cosh": (ops.COSH, 1),
    "tanh": (ops.TANH, 1),
    "arcsin": (ops.ARCSIN, 1),
    "arccos": (ops.ARCCOS, 1),
    "arctan": (ops.ARCTAN, 1),
}


class CannotCompute(Exception):
    """Why an expression has no program."""


class Columns:
    """The values of the synapses of one object, column after column.

    Args:
        size: synapses.
        variables: names of those that programs change; they come first.
    """

    def __init__(self, size: int, variables: Sequence[str]) -> None:
        self._size, self.variables = size, tuple(variables)
        self._constants: dict[str, np.ndarray] = {}

    def number(self, name: str, values: np.ndarray | None) -> int:
        """The column of a variable, or of a constant with these ``values`` [S]."""
        if values is None:
            return self.variables.index(name)
        self._constants.setdefault(name, values)
        return len(self.variables) + list(self._constants).index(name)

    @property
    def constants(self) -> np.ndarray:
        """The columns after the variables, float64 [C, S]."""
        found = list(self._constants.values())
        return np.array(found, dtype=np.float64).reshape(len(found), self._size)


class ProgramBuilder:
    """Builds the program of a pathway, statement after statement.

    Args:
        columns: of its synapses; constants are added.
        values: names that are constant: a number, or one value per synapse.
        subexpressions: texts by name.

    Attributes:
        entered: ends and states of neurons that statements change, in their order.
    """

    def __init__(self, columns: Columns, values: Mapping[str, Any], subexpressions: Mapping[str, str]) -> None:
        self._columns, self._values, self._subexpressions = columns, values, subexpressions
        self._rows: list[list[int]] = []
        self._registers: list[float] = []
        self._known: dict[str, int] = {}  # registers of what statements have set or a column was loaded into
        self._constants: dict[str, int] = {}
        self._changed: dict[str, int] = {}
        self.entered: list[tuple[int, str]] = []

    def set(self, name: str, register: int) -> None:
        """A variable of the synapse, or a name of the statements, becomes the content of a register."""
        self._known[name] = register
        if name in self._columns.variables:
            self._changed[name] = register

    def add_to_neuron(self, end: int, state: str, register: int) -> None:
        """Adds the content of a register to a state of the neuron at an end."""
        self.entered.append((end, state))
        self._rows.append([ops.ADD, end, len(self.entered) - 1, register])

    def program(self, states: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the program, int64 [n, `ops.ROW`], and the first content of its registers, float64 [R].

        Args:
            states: numbers of the states in ``entered``.
        """
        stores = [[ops.STORE, self._columns.number(name, None), r] for name, r in self._changed.items()]
        code = np.zeros((len(self._rows) + len(stores), ops.ROW), np.int64)
        for row, numbers in zip(code, [*self._rows, *stores], strict=True):
            row[: len(numbers)] = numbers
            if row[0] == ops.ADD:
                row[2] = states[row[2]]
        return code, np.array(self._registers)

    def expression(self, text: str) -> int:
        """The register that has the value of an expression.

        Raises:
            CannotCompute: for what is no arithmetic of synapses.
        """
        return self._value(ast.parse(text.strip(), mode="eval").body)

    def constant(self, name: str, values: Any) -> int:
        """The register with a number, or with the value of the synapse among some [S], under a name of its own."""
        values = np.asarray(values, dtype=np.float64)
        if values.size == 1:
            return self._constant(float(values.item()))
        return self._row(ops.LOAD, self._columns.number(name, values))

    def time(self) -> int:
        """The register that has the instant, in seconds."""
        if "t" not in self._known:
            self._known["t"] = self._row(ops.TIME)
        return self._known["t"]

    def follow(self, x: int, a: int, b: int, dt: int) -> int:
        """The register with the solution of dx/dt = a x + b, after dt."""
        return self._row(ops.FOLLOW, x, a, b, dt)

    def minus(self, x: int, y: int) -> int:
        """The register with the difference of two."""
        return self._row(ops.MINUS, x, y)

    # ----- registers

    def _row(self, op: int, *operands: int) -> int:
        self._registers.append(0.0)
        self._rows.append([op, len(self._registers) - 1, *operands])
        return len(self._registers) - 1

    def _constant(self, value: float) -> int:
        key = value.hex()  # 0.0 and -0.0 are two
        if key not in self._constants:
            self._registers.append(value)
            self._constants[key] = len(self._registers) - 1
        return self._constants[key]

    def _name(self, name: str) -> int:
        if name in self._known:
            return self._known[name]
        if name in self._columns.variables:
            self._known[name] = self._row(ops.LOAD, self._columns.number(name, None))
            return self._known[name]
        if name in self._subexpressions:  # anew each time: what it depends on may have changed
            return self.expression(self._subexpressions[name])
        if name == "t":
            return self.time()
        if name not in self._values:
            raise CannotCompute(f"{name} is not a constant")
        self._known[name] = self.constant(name, self._values[name])
        return self._known[name]

    # ----- syntax

    def _value(self, node: ast.expr) -> int:
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            return self._constant(float(node.value))
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            left, right = self._value(node.left), self._value(node.right)
            return self._row(_BINARY[type(node.op)], left, right)
        if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Invert):
            operand = self._value(node.operand)
            if isinstance(node.op, ast.UAdd):
                return operand
            return self._row(ops.NOT if isinstance(node.op, ast.Not) else ops.NEGATIVE, operand)
        if isinstance(node, ast.BoolOp):
            op = ops.AND if isinstance(node.op, ast.And) else ops.OR
            found = self._value(node.values[0])
            for other in node.values[1:]:
                found = self._row(op, found, self._value(other))
            return found
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISONS:
            op, turned = _COMPARISONS[type(node.ops[0])]
            sides = self._value(node.left), self._value(node.comparators[0])
            return self._row(op, *(sides[::-1] if turned else sides))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            op, count = _FUNCTIONS.get(node.func.id, (-1, -1))
            if len(node.args) == count:
                return self._row(op, *map(self._value, node.args))
        raise CannotCompute(f"{ast.unparse(node)} is no arithmetic of numbers and functions of Brian2")
