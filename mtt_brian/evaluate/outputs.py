"""What a circuit answers to many recordings, event by event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtt_brian.circuit.model import Circuit
from mtt_brian.engines import Order, Simulator
from mtt_brian.evaluate.metrics import Estimate, SpikeDifference, accuracy, predictions


@dataclass(frozen=True, eq=False)
class Answers:
    """A network's answers to N recordings.

    Attributes:
        readouts: float64 [N, classes].
        counts: spikes by population, [N, *shape].
        synops: float64 [N], synaptic operations.
    """

    readouts: np.ndarray
    counts: Mapping[str, np.ndarray]
    synops: np.ndarray

    def accuracy(self, labels: np.ndarray) -> Estimate:
        """Fraction of right answers with its binomial standard error."""
        return accuracy(predictions(self.readouts), labels)

    def difference(self, reference: Answers) -> dict[str, float]:
        """Spike difference from ``reference`` by population, and of the readouts as ``"output"``."""

        def between(s0: np.ndarray, s: np.ndarray) -> float:
            total = SpikeDifference()
            total.add(s0, s)
            return total.value

        values = {name: between(counts, self.counts[name]) for name, counts in reference.counts.items()}
        return values | {"output": between(reference.readouts, self.readouts)}


def event_driven(circuit: Circuit, recordings: Sequence[np.ndarray], order: Order = "sum") -> Answers:
    """Run every recording through the exact engine on all cores.

    Args:
        circuit: the network.
        recordings: N of them, for instance a `Recordings`.
        order: ``"sum"`` or ``"fifo"``.
    """
    results = list(Simulator(circuit, engine="exact", order=order, record="counts").run(recordings))
    return Answers(
        readouts=np.stack([r.readout for r in results]),
        counts={name: np.stack([r.counts[name] for r in results]) for name in results[0].counts},
        synops=np.array([r.synops for r in results], dtype=np.float64),
    )
