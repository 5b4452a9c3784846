"""Right sides of equations as sums of multiples of states and of results of operations on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sympy
from sympy.codegen.cfunctions import expm1

from mtt_brian.neuron.equation_neuron import (
    EXP,
    EXPREL,
    MOMENT,
    MOMENTS,
    PRODUCT,
    RECIPROCAL,
    SUM,
    TANH,
    Operation,
)

#: Highest degree of a product, in states and functions of them.
MOST_DEGREE = 12
#: ``(exp(u) - 1) / u``, 1 at 0; Brian2's is a class of this name.
exprel = sympy.Function("exprel")


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
        for exponents, coefficient in self._monomials(_expanded(self._without_functions(expression))).items():
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
            assert powers.keys() <= self._variables.keys(), rest
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
        if expression.is_Mul and (filled := self._without_gap(expression)) is not None:
            return self._without_functions(filled)
        if expression.is_Add or expression.is_Mul:
            return expression.func(*map(self._without_functions, expression.args))
        if isinstance(expression, sympy.exp):
            return self._function(EXP, expression.args[0])
        if isinstance(expression, sympy.tanh):
            return self._function(TANH, expression.args[0])
        if type(expression).__name__ == "exprel":
            return self._function(EXPREL, expression.args[0])
        if isinstance(expression, expm1):
            (u,) = expression.args
            return self._without_functions(u) * self._function(EXPREL, u)
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
                if power > 1 and not one.free_symbols & set(self._variables) <= self._states:
                    one = self._symbol(self._number(base))  # a power of one variable, not of many
                return one ** abs(int(power))
        from brian2.parsing.sympytools import sympy_to_str

        raise Impossible(
            f"contains {sympy_to_str(expression)}",
            "write it with +, -, *, /, whole powers, exp, expm1, exprel, tanh, sinh and cosh of states",
        )

    def _without_gap(self, product: sympy.Expr) -> sympy.Expr | None:
        """A product with ``c u / (exp(u) - 1)`` as one with ``c / exprel(u)``, which has a value at u = 0 too.

        None if it has no such quotient.
        """
        powers = {one: one.as_base_exp() for one in product.args}
        for divisor, (base, power) in powers.items():
            base = base.replace(expm1, lambda u: sympy.exp(u) - 1)
            constant, rest = base.as_independent(*self._states, as_Add=True)
            coefficient, exponential = rest.as_independent(*self._states, as_Add=False)
            if not isinstance(exponential, sympy.exp) or constant + coefficient != 0 or not power.is_Integer:
                continue
            (u,) = exponential.args
            for factor, (numerator, times) in powers.items():
                ratio = sympy.cancel(sympy.nsimplify(numerator / u, rational=True))
                if not ratio.free_symbols & self._states and times.is_Integer and power < 0 <= times + power:
                    others = sympy.Mul(*(one for one in product.args if one not in (divisor, factor)))
                    return others * numerator ** (times + power) * (ratio / (coefficient * exprel(u))) ** -power
        return None

    def _function(self, kind: int, argument: sympy.Expr) -> sympy.Symbol:
        """The symbol of a function of an expression."""
        number = self._number(argument)
        known = (result for one, result in self._known.items() if (one.kind, one.left) == (kind, number))
        if (result := next(known, None)) is None:
            result = self._new_function(kind, number)
        return self._symbol(result)

    def _number(self, expression: sympy.Expr) -> int:
        """The number of a variable that equals an expression."""
        terms = self.terms(expression)
        number = next(iter(terms.multiples), -1)
        if terms == (0, {number: 1}):
            return number
        if terms not in self.sums:
            self.sums.append(terms)
        return self._result(Operation(SUM, self.sums.index(terms)))

    def _symbol(self, number: int) -> sympy.Symbol:
        """The symbol of a result."""
        symbol = sympy.Symbol(f"_result_{number}", real=True)  # no name of a script begins so
        self._variables[symbol] = number
        return symbol

    def _new_function(self, kind: int, number: int) -> int:
        """The number of a function of a variable."""
        if kind == EXPREL:
            exponential = self._result(Operation(EXP, number))
            for n in MOMENTS:
                self._result(Operation(MOMENT, number, n))
            return self._result(Operation(EXPREL, number, exponential))
        square = len(self._states) + len(self.operations) + 1
        result = self._result(Operation(kind, number, square if kind == TANH else 0))
        if kind == TANH:
            self._product([result, result])
        return result


def expanded(expression: sympy.Expr) -> sympy.Expr:
    """As `_expanded`, unless it has high powers of sums, which would take seconds."""
    powers = expression.atoms(sympy.Pow)
    if any(one.base.is_Add and one.exp.is_Number and abs(one.exp) > MOST_DEGREE for one in powers):
        return expression
    return _expanded(expression)


def _expanded(expression: sympy.Expr) -> sympy.Expr:
    """Products of sums as sums, where states cancel; an exponential stays one, as its factors can overflow."""
    return sympy.expand(expression, power_exp=False, power_base=False, log=False)
