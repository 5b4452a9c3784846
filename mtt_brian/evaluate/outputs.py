"""Outputs of a network for many recordings: predictions, spike counts, synaptic operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.circuit.model import Circuit
from mtt_brian.engines import Order, Simulator
from mtt_brian.errors import InputError
from mtt_brian.evaluate.metrics import Estimate, accuracy, correct_predictions, predictions, spike_difference


@dataclass(frozen=True, eq=False)
class Predictions:
    """The outputs of a network for N recordings.

    Attributes:
        readouts: float64 [N, classes], sums over the recording.
        counts: spikes by population, the input included, [N, *shape].
        synops: float64 [N], synaptic operations.
    """

    readouts: np.ndarray
    counts: Mapping[str, np.ndarray]
    synops: np.ndarray

    @property
    def classes(self) -> np.ndarray:
        """The predicted classes, int64 [N]."""
        return predictions(self.readouts)

    def correct(self, labels: ArrayLike) -> np.ndarray:
        """Which predictions are correct, bool [N].

        Args:
            labels: classes [N].
        """
        return correct_predictions(self.classes, labels)

    def accuracy(self, labels: ArrayLike) -> Estimate:
        """Fraction of correct predictions with its binomial standard error.

        Args:
            labels: classes [N].
        """
        return accuracy(self.classes, labels)

    def spike_difference(self, reference: Predictions) -> dict[str, float]:
        """Spike difference from ``reference`` by population, and that of the readouts as ``"output"``."""
        by_population = {name: spike_difference(s0, self.counts[name]) for name, s0 in reference.counts.items()}
        return by_population | {"output": spike_difference(reference.readouts, self.readouts)}


def predict_event_driven(circuit: Circuit, recordings: Sequence[np.ndarray], order: Order = "sum") -> Predictions:
    """Run every recording through the exact engine on all cores.

    Args:
        circuit: the network.
        recordings: N of them, for instance a `Recordings`.
        order: ``"sum"`` or ``"fifo"``.

    Raises:
        InputError: if there is no recording, and as `Simulator`.
    """
    results = list(Simulator(circuit, engine="exact", order=order, record="counts").run(recordings))
    if not results:
        raise InputError("there is nothing to predict: no recordings")
    return Predictions(
        readouts=np.stack([r.readout for r in results]),
        counts={name: np.stack([r.counts[name] for r in results]) for name in results[0].counts},
        synops=np.array([r.synops for r in results], dtype=np.float64),
    )
