"""Leaky integrate and fire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mtt_brian.neuron.base import LinearSystem, Parameter, number
from mtt_brian.neuron.if_ import IF


@dataclass(frozen=True, kw_only=True, eq=False)
class LIF(IF):
    """Leaky integrate and fire: ``tau dv/dt = (v_leak - v) + r * bias``; weight ``w`` adds ``r * w / tau``.

    Attributes:
        tau: membrane time constant in seconds, > 0.
        v_leak: the potential the membrane decays to.
    """

    tau: Parameter
    v_leak: Parameter = 0.0

    _positive: ClassVar[tuple[str, ...]] = ("threshold", "tau")

    @property
    def crosses(self) -> bool:
        """Whether the potential decays to a value above the threshold."""
        if not self.has_system_of(LIF):
            return self.fires
        return self.fires and bool(np.any(self._drive + np.asarray(self.v_leak) > np.asarray(self.threshold)))

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
