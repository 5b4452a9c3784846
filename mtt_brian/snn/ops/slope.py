"""The surrogates that compiled kernels have, as numbers."""

from __future__ import annotations

from typing import NamedTuple

from mtt_brian.snn.surrogate import Exponential, PeriodicExponential, Surrogate, Triangular


class Slope(NamedTuple):
    """A surrogate: ``height * f(rate * d)`` with f(u) = exp(-u) or max(0, 1 - u), and d the distance to the threshold,
    or to the nearest multiple of it."""

    exponential: bool
    periodic: bool
    rate: float
    height: float


def slope_of(surrogate: Surrogate, threshold: float) -> Slope | None:
    """The numbers of a surrogate; None if it has another form."""
    match surrogate:
        case Triangular(width):
            return Slope(False, False, 1 / width, 1 / width)
        case Exponential(scale):
            return Slope(True, False, scale, 1.0)
        case PeriodicExponential(width):
            return Slope(True, True, 1 / width, 1 / threshold)
        case _:
            return None
