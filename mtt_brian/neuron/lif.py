"""Leaky integrate and fire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.neuron.base import LinearSystem, Parameter, number
from mtt_brian.neuron.if_ import IF

#: Largest rounding of a potential, in thresholds; and thresholds per second up to which it matters, because faster
#: neurons fire without end.
_ROUNDING, _FASTEST = 1e-8, 1e6


@dataclass(frozen=True, kw_only=True, eq=False)
class LIF(IF):
    """Leaky integrate and fire: ``tau dv/dt = (v_leak - v) + r * bias``; weight ``w`` adds ``r * w / tau``.

    The potential is computed from its distance to ``v_leak + r * bias``. A rule with a time constant so long that this
    distance is rounded by more than 1e-8 thresholds is refused.

    Attributes:
        tau: membrane time constant in seconds, > 0.
        v_leak: the potential the membrane decays to.
    """

    tau: Parameter
    v_leak: Parameter = 0.0

    _positive: ClassVar[tuple[str, ...]] = ("threshold", "tau")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self._positive[1:]:
            shortest = np.float64(np.min(getattr(self, name)))
            with np.errstate(over="ignore"):
                if not np.isfinite(1 / shortest):
                    raise InputError(f"{type(self).__name__}.{name} must be at least 1e-307 seconds, not {shortest}")
        with np.errstate(over="ignore"):
            rest = np.asarray(self._drive + np.asarray(self.v_leak, dtype=np.float64))
            rounding = np.where(np.isfinite(rest), np.spacing(np.abs(rest)), np.inf)
            unit = np.asarray(self.jump if self.threshold is None else self.threshold, dtype=np.float64)
            slow = np.abs(rest) <= _FASTEST * unit * np.asarray(self.slowest, dtype=np.float64)
        too_far = (rounding > _ROUNDING * unit) & slow & (unit > 0)
        if np.any(too_far):
            rest, unit, too_far = np.broadcast_arrays(rest, unit, too_far)
            what = "a spike's jump" if self.threshold is None else "the threshold"
            raise InputError(
                f"{type(self).__name__}: the potential decays to v_leak + r * bias = {rest[too_far][0]:g}, where "
                f"float64 is too coarse for {what} of {unit[too_far][0]:g}; accepted are up to about 4e+07 times that; "
                f"a neuron that hardly leaks is an IF or I"
            )

    @property
    def crosses(self) -> bool:
        """Whether the potential decays to a value above the threshold."""
        if not self.has_system_of(LIF):
            return self.fires
        return self.fires and bool(np.any(self._drive + np.asarray(self.v_leak) > np.asarray(self.threshold)))

    @property
    def slowest(self) -> Parameter:
        """The longest time constant in seconds."""
        return self.tau

    @property
    def gain(self) -> Parameter:
        return np.asarray(self.r) / np.asarray(self.tau)

    def linear_system(self) -> LinearSystem:
        """The linear system of one neuron, with the state ``(v)``."""
        r = number(self.r)
        return LinearSystem(
            matrix=np.array([[-1.0]]),
            offset=np.array([r * number(self.bias) + number(self.v_leak)]),
            drive=np.array([r]),
            row=np.ones(1),
            tau=np.array([number(self.tau)]),
            threshold=None if self.threshold is None else number(self.threshold),
        )
