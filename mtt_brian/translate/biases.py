"""Biases of linear nodes, as constant currents into the neurons behind them."""

from __future__ import annotations

import numpy as np

from mtt_brian.circuit.operators import Delay
from mtt_brian.errors import InputError
from mtt_brian.translate.shapes import Shapes


class Biases:
    """The constant currents of one graph.

    Raises:
        InputError: for a bias in front of a delay.
    """

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._out: dict[str, np.ndarray | None] = {}
        for name in shapes.order:
            self._out[name] = self._out_of(name)

    def into(self, name: str) -> np.ndarray:
        """The constant current that biased linear nodes send into a node: float64 in its input shape."""
        total = np.zeros(self._shapes.into(name))
        for source in self._shapes.wiring.sources[name]:
            if (bias := self._out.get(source)) is not None:
                total = total + bias
        return total

    def _out_of(self, name: str) -> np.ndarray | None:
        """The constant current behind a linear node or a wire, its own bias included; None for none."""
        shape = self._shapes.of[name]
        bias = self.into(name)
        if self._shapes.wiring.is_wire(name):
            return bias if np.any(bias) else None
        linear = self._shapes.linear[name]
        if np.any(bias):
            for operator in linear.operators:
                if isinstance(operator, Delay) and np.any(operator.seconds > 0):
                    raise InputError(f"a bias runs through the delay {name!r}; put the bias behind the delay")
                if not isinstance(operator, Delay):
                    bias = operator.matrix() @ bias.ravel()
            bias = np.reshape(bias, shape)
            return bias if linear.bias is None else bias + linear.bias
        return linear.bias
