"""What a run on the GPU leaves."""

from __future__ import annotations

from collections.abc import Mapping
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
