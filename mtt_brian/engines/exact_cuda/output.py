"""What a run on the GPU leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mtt_brian.circuit.spikes import Spikes


class Output(NamedTuple):
    """The output of one recording.

    Attributes:
        ended_early: 0, or why (`arrays.FAILED`, `arrays.QUEUE_FULL`); the rest is then not valid.
        counts: spikes of all neurons, int64 [neurons].
        readout: float64 [classes].
        synops: synaptic operations.
        spikes: of the recorded populations, by name.
    """

    ended_early: int
    counts: np.ndarray
    readout: np.ndarray
    synops: int
    spikes: Mapping[str, Spikes]


def outputs(
    ended_early: np.ndarray,
    counts: np.ndarray,
    readouts: np.ndarray,
    synops: np.ndarray,
    spikes: Sequence[Mapping[str, Spikes]],
) -> list[Output]:
    """The output of every recording of a batch. Arrays are copied: results must not keep page-locked memory."""
    return [
        Output(int(ended_early[k]), counts[k].copy(), readouts[k].copy(), int(synops[k]), spikes[k])
        for k in range(len(spikes))
    ]
