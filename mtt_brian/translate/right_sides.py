"""Right sides of equations as sums of multiples of states and of results of operations on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sympy

from mtt_brian.neuron.equation_neuron import EXP, PRODUCT, RECIPROCAL, SUM, TANH, Operation

#: Highest degree of a product, in states and functions of them.
MOST_DEGREE = 6


class Impossible(Exception):
    """What an expression has that no operation computes, and what would be accepted."""


class Terms(NamedTuple):
    """``constant + sum of coefficient * variable``, the coefficients by number of the variable."""

    constant: sympy.Expr
    multiples: dict[int, sympy.Expr]


class RightSides:
    """The operations that some expressions need. Variables are the states, 0..n-1, then the results of operations.

    Attributes:
        operations: in their order.
        sums: of every `SUM`.
    """

    def __init__(self, states: Sequence[sympy.Symbol]) -> None:
        self.operations: list[Operation] = []
        self.sums: list[Terms] = []
        self._states = frozenset(states)
        self._variables = {x: k for k, x in enumerate(states)}
        self._known: dict[Operation, int] = {}

    def terms(self, expression: sympy.Expr) -> Terms:
        """An expression as a sum.

        Raises:
            Impossible: for what is not built from sums, products and the functions of `Operation`.
        """
        out = Terms(sympy.Integer(0), {})
        for exponents, coefficient in self._monomials(expanded(self._without_functions(expression))).items():
            if sum(exponents) > MOST_DEGREE:
                raise Impossible(f"has a degree above {MOST_DEGREE}", "replace it by a lower one")
            if any(exponents):
                factors = [k for k, n in zip(self._variables.values(), exponents, strict=True) for _ in range(n)]
                out.multiples[self._product(factors)] = coefficient
            else:
                out = out._replace(constant=coefficient)
        return out

    def _monomials(self, expression: sympy.Expr) -> dict[tuple[int, ...], sympy.Expr]:
        """The coefficients of an expanded polynomial, by the exponents of the variables."""
        out: dict[tuple[int, ...], sympy.Expr] = {}
        for term in sympy.Add.make_args(expression):
            factor, rest = term.as_independent(*self._variables, as_Add=False)
            powers = rest.as_powers_dict() if rest != 1 else {}
            exponents = tuple(int(powers.get(x, 0)) for x in self._variables)
            out[exponents] = out.get(exponents, sympy.Integer(0)) + factor
        return out

    def _product(self, factors: list[int]) -> int:
        """The number of the product of some variables, in rising order."""
        if len(factors) == 1:
            return factors[0]
        return self._result(Operation(PRODUCT, self._product(factors[:-1]), factors[-1]))

    def _result(self, operation: Operation) -> int:
        """The number of the result of an operation."""
        if operation not in self._known:
            self._known[operation] = len(self._states) + len(self.operations)
            self.operations.append(operation)
        return self._known[operation]

    def _without_functions(self, expression: sympy.Expr) -> sympy.Expr:
        """The same with a symbol for each function of states, and powers that are whole numbers."""
        if not expression.free_symbols & self._states or expression.is_Symbol:
            return expression
        if expression.is_Add or expression.is_Mul:
            return expression.func(*map(self._without_functions, expression.args))
        if isinstance(expression, sympy.exp):
            return self._function(EXP, expression.args[0])
        if isinstance(expression, sympy.tanh):
            return self._function(TANH, expression.args[0])
        if isinstance(expression, sympy.cosh | sympy.sinh):
            (u,) = expression.args
            cosh = (self._function(EXP, u) + self._function(EXP, -u)) / 2
            return cosh if isinstance(expression, sympy.cosh) else cosh * self._function(TANH, u)
        if expression.is_Pow:
            base, power = expression.as_base_exp()
            if not base.free_symbols & self._states:
                return self._function(EXP, power * sympy.log(base))
            if power.is_Number and float(power).is_integer():
                if abs(power) > MOST_DEGREE:
                    raise Impossible(f"has a degree above {MOST_DEGREE}", "replace it by a lower one")
                one = self._without_functions(base) if power > 0 else self._function(RECIPROCAL, base)
                return one ** abs(int(power))
        from brian2.parsing.sympytools import sympy_to_str

        raise Impossible(
            f"contains {sympy_to_str(expression)}",
            "write it with +, -, *, /, whole powers, exp, tanh, sinh and cosh of states",
        )

    def _function(self, kind: int, argument: sympy.Expr) -> sympy.Symbol:
        """The symbol of a function of an expression."""
        terms = self.terms(argument)
        number = next(iter(terms.multiples), -1)
        if terms != (0, {number: 1}):
            if terms not in self.sums:
                self.sums.append(terms)
            number = self._result(Operation(SUM, self.sums.index(terms)))
        known = (result for one, result in self._known.items() if (one.kind, one.left) == (kind, number))
        result = next(known, len(self._states) + len(self.operations))
        if result == len(self._states) + len(self.operations):
            self._result(Operation(kind, number, result + 1 if kind == TANH else 0))
            if kind == TANH:
                self._product([result, result])
        symbol = sympy.Symbol(f"_result_{result}", real=True)  # no name of a script begins so
        self._variables[symbol] = result
        return symbol


def expanded(expression: sympy.Expr) -> sympy.Expr:
    """Products of sums as sums, where states cancel; an exponential stays one, as its factors can overflow."""
    return sympy.expand(expression, power_exp=False, power_base=False, log=False)
