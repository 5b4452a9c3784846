"""Trained potentials, which have no unit, in volts and back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import brian2
import numpy as np
from brian2 import Quantity, mV, volt
from numpy.typing import ArrayLike

from mtt_brian.errors import InputError


@dataclass(frozen=True, kw_only=True, eq=False)
class VoltageScale:
    """The straight line between a network's own potentials and volts: two points, so one helper for both ways.

    >>> from brian2 import mV
    >>> scale = VoltageScale(rest=-70 * mV, threshold=-50 * mV)
    >>> print(scale.potential(0.5), scale.jump(0.5))
    -60. mV 10. mV
    >>> print(scale.from_potential([-60, -50] * mV))
    [0.5 1. ]

    A *potential* has a place on the line (membrane, threshold, lower bound, reset); a *jump* is the distance between
    two potentials (weight, standard deviation of noise) and does not depend on the resting potential.

    Attributes:
        rest: where the potential 0 lies, for instance ``-70*mV``.
        threshold: where ``trained_threshold`` lies; above ``rest``.
        trained_threshold: a potential of the network > 0, by default 1, the threshold that networks are trained with.

    Raises:
        InputError: if one of the two is no voltage, or the threshold does not lie above the rest.
    """

    rest: Quantity = field(default_factory=lambda: -70 * mV)
    threshold: Quantity = field(default_factory=lambda: -50 * mV)
    trained_threshold: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rest", "threshold"):
            value = getattr(self, name)
            one = brian2.have_same_dimensions(value, volt) and np.ndim(value) == 0
            if not one or not math.isfinite(float(value)):
                raise InputError(f"{name} must be one voltage, such as -70*mV, not {value!r}")
        if not self.threshold > self.rest:
            raise InputError(f"the threshold ({self.threshold}) must lie above the rest ({self.rest})")
        if not 0 < self.trained_threshold < math.inf:
            raise InputError(f"trained_threshold must be a potential > 0, not {self.trained_threshold!r}")

    @property
    def unit(self) -> Quantity:
        """How far apart the potentials 0 and 1 are."""
        return (self.threshold - self.rest) / self.trained_threshold

    def potential(self, value: ArrayLike) -> Quantity:
        """Volts of potentials, of any shape."""
        return self.rest + self.jump(value)

    def jump(self, value: ArrayLike) -> Quantity:
        """Volts of differences between potentials, of any shape."""
        return np.asarray(value, dtype=np.float64) * self.unit

    def from_potential(self, volts: Quantity) -> np.ndarray:
        """The inverse of `potential`.

        Raises:
            InputError: for something else than volts.
        """
        return self.from_jump(_volts(volts) - self.rest)

    def from_jump(self, volts: Quantity) -> np.ndarray:
        """The inverse of `jump`.

        Raises:
            InputError: for something else than volts.
        """
        return np.asarray(_volts(volts) / self.unit)


def _volts(value: Quantity) -> Quantity:
    if not brian2.have_same_dimensions(value, volt):
        raise InputError(f"expected volts, such as -60*mV, not {value!r}")
    return value
