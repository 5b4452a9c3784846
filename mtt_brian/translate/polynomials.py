"""Polynomials of several variables: their coefficients, and the products of which their terms consist."""

from __future__ import annotations

from collections.abc import Sequence

import sympy


def whole_powers(expression: sympy.Expr) -> sympy.Expr:
    """The same expression with ``v**2`` for ``v**2.0``."""
    powers = [p for p in expression.atoms(sympy.Pow) if p.exp.is_Float and float(p.exp).is_integer()]
    return expression.xreplace({p: p.base ** int(p.exp) for p in powers})


def monomials(expression: sympy.Expr, variables: Sequence[sympy.Symbol]) -> dict[tuple[int, ...], sympy.Expr] | None:
    """The coefficients of an expanded polynomial, by the exponents of the variables; None for what is no polynomial."""
    out: dict[tuple[int, ...], sympy.Expr] = {}
    for term in sympy.Add.make_args(expression):
        factor, rest = term.as_independent(*variables, as_Add=False)
        powers = rest.as_powers_dict() if rest != 1 else {}
        if any(base not in variables or not power.is_Integer or power < 1 for base, power in powers.items()):
            return None
        exponents = tuple(int(powers.get(x, 0)) for x in variables)
        out[exponents] = out.get(exponents, sympy.Integer(0)) + factor
    return out


class Products:
    """The products that a list of monomials needs, each of two variables or earlier products.

    Args:
        variables: how many these are.
    """

    def __init__(self, variables: int) -> None:
        self._variables = variables
        self._numbers: dict[tuple[int, ...], int] = {}
        self._factors: list[tuple[int, int]] = []

    @property
    def factors(self) -> tuple[tuple[int, int], ...]:
        """Both factors of every product: variables are 0..n-1, product p is n + p."""
        return tuple(self._factors)

    def number(self, exponents: tuple[int, ...]) -> int:
        """The number of a monomial of degree 2 or more among the products."""
        if exponents not in self._numbers:
            last = max(k for k in range(self._variables) if exponents[k])
            rest = tuple(e - (k == last) for k, e in enumerate(exponents))
            left = rest.index(1) if sum(rest) == 1 else self._variables + self.number(rest)
            self._numbers[exponents] = len(self._factors)
            self._factors.append((left, last))
        return self._numbers[exponents]
