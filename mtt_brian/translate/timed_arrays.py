"""Values that change at given times: what a `TimedArray` of Brian2 is in continuous time."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mtt_brian.circuit.instants import just_before, on_whole_microseconds


@dataclass(frozen=True, eq=False)
class TimedArray:
    """Value k holds from ``k dt`` on, this instant included, up to the next one; the last one holds for ever.

    Attributes:
        values: float64 [K], or [K, columns].
        dt: seconds, > 0.
    """

    values: np.ndarray
    dt: float

    @cached_property
    def _steps(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the values change, and from which one on: seconds and rows of ``values`` [steps]."""
        rows = self.values.reshape(len(self.values), -1)
        new = np.flatnonzero(np.any(rows[1:] != rows[:-1], axis=1)) + 1
        return on_whole_microseconds(new * self.dt), np.append(0, new)

    def steps(self, first: float, last: float) -> np.ndarray:
        """Times of changes with first < t <= last."""
        times = self._steps[0]
        return times[(times > first) & (times <= last)]

    def at(self, t: np.ndarray, column: np.ndarray | None = None) -> np.ndarray:
        """Values at some times, in the common shape of ``t`` and ``column``.

        Args:
            t: seconds.
            column: of an array of two dimensions, int64.
        """
        times, rows = self._steps
        row = rows[np.searchsorted(times, t, side="right")]
        return self.values[row] if column is None else self.values[row, column]


class Call(NamedTuple):
    """A call ``array(t)``, or ``array(t, column)`` with the text of the column; "" without one."""

    array: str
    column: str


def call_of(text: str) -> Call | None:
    """The call that a text is; None if it has other arguments."""
    node = ast.parse(text, mode="eval").body
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords):
        return None
    given = [ast.unparse(argument) for argument in node.args]
    if given[:1] != ["t"] or len(given) > 2:
        return None
    return Call(node.func.id, "".join(given[1:]))


def without_calls(text: str, arrays: Iterable[str]) -> tuple[str, dict[str, str]]:
    """An expression with names in the place of all calls of some arrays, and the text of the call by name."""
    calls = _Calls(frozenset(arrays))
    try:
        tree = calls.visit(ast.parse(text.strip(), mode="eval"))
    except SyntaxError:  # the reader of expressions says what is wrong
        return text, {}
    return (ast.unparse(tree), calls.found) if calls.found else (text, {})


class _Calls(ast.NodeTransformer):
    def __init__(self, arrays: frozenset[str]) -> None:
        self._arrays = arrays
        self.found: dict[str, str] = {}

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if not (isinstance(node.func, ast.Name) and node.func.id in self._arrays):
            return self.generic_visit(node)
        name = f"_call_{len(self.found)}"  # no name of a script begins so
        self.found[name] = ast.unparse(node)
        return ast.Name(name, ast.Load())


def pieces(arrays: Mapping[str, TimedArray], begin: float, end: float) -> np.ndarray:
    """Times from which on the values of some arrays hold, in a run from ``begin`` to ``end``.

    The first one lies before ``begin``: a change at ``begin`` is part of the run, and one at ``end`` is not.
    """
    first, last = just_before(begin), just_before(end)
    return np.unique(np.concatenate([[first], *(array.steps(first, last) for array in arrays.values())]))
