"""Leaky integrate and fire with a synaptic current."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mtt_brian.neuron.base import LinearSystem, Parameter, number
from mtt_brian.neuron.lif import LIF


@dataclass(frozen=True, kw_only=True, eq=False)
class CubaLIF(LIF):
    """Current-based LIF: ``tau_syn dI/dt = -I + w_in * bias``, ``tau dv/dt = (v_leak - v) + r * I``.

    A spike through weight ``w`` adds ``w_in * w / tau_syn`` to the synaptic current ``I``; a bias enters ``I`` as the
    spikes do (NIR's ``CubaLIF``: ``tau_syn dI/dt = -I + w_in (W z + b)``). ``I`` is 0 at time 0.

    Attributes:
        tau_syn: synaptic time constant in seconds, > 0; may equal ``tau``.
        w_in: input scaling.
    """

    tau_syn: Parameter
    w_in: Parameter = 1.0

    _positive: ClassVar[tuple[str, ...]] = ("threshold", "tau", "tau_syn")

    @property
    def _drive(self) -> np.ndarray:
        return np.asarray(self.r, dtype=np.float64) * self.held_current

    @property
    def slowest(self) -> Parameter:
        return np.maximum(self.tau, self.tau_syn)

    @property
    def jump(self) -> np.ndarray:
        return np.abs(np.asarray(self.r, dtype=np.float64) * np.asarray(self.gain, dtype=np.float64))

    @property
    def crosses(self) -> bool:
        """Whether the neuron fires: a synaptic current can raise the potential to the threshold at any time."""
        return self.fires

    @property
    def held_current(self) -> np.ndarray:
        """The synaptic current that the bias alone sustains, ``w_in * bias``, float64."""
        return np.asarray(self.w_in, dtype=np.float64) * np.asarray(self.bias, dtype=np.float64)

    @property
    def peak(self) -> np.ndarray:
        """The highest potential that a synaptic current of 1 / r causes at rest (v_leak = 0), float64.

        It is q ** (-1 / (q - 1)) with q = tau_syn / tau.
        """
        ratio = np.asarray(self.tau_syn, dtype=np.float64) / np.asarray(self.tau, dtype=np.float64)
        excess = ratio - 1
        with np.errstate(divide="ignore", invalid="ignore"):
            # Close to 1 the logarithm loses digits; far below 1 the difference to 1 does.
            logarithm = np.where(np.abs(excess) < 0.5, np.log1p(excess), np.log(ratio))
            return np.exp(np.where(excess == 0, -1.0, -logarithm / excess))

    @property
    def gain(self) -> Parameter:
        return np.asarray(self.w_in) / np.asarray(self.tau_syn)

    def linear_system(self) -> LinearSystem:
        """The linear system of one neuron, with the states ``(I, v)``.

        The bias enters the current as the spikes do: ``tau_syn dI/dt = -I + w_in * bias``.
        """
        w_in = number(self.w_in)
        return LinearSystem(
            matrix=np.array([[-1.0, 0.0], [number(self.r), -1.0]]),
            offset=np.array([w_in * number(self.bias), number(self.v_leak)]),
            drive=np.array([w_in, 0.0]),
            row=np.array([0.0, 1.0]),
            tau=np.array([number(self.tau_syn), number(self.tau)]),
            threshold=None if self.threshold is None else number(self.threshold),
        )
