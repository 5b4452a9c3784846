"""Trained torch network <-> NIR graph, and NIR graph -> ``.nir`` file.

NIR (neuromorphs/NIR) is the contract with everything that runs the weights without a time grid. What it cannot say is
kept in metadata: on every population ``reset``, ``spikes`` and, where there is one, ``lower_bound``; what belongs to a
time grid, ``decay_per_step`` and ``bias_per_step``, so that a network can be rebuilt as it was trained.
"""

from mtt_brian.export.from_nir import from_nir
from mtt_brian.export.to_nir import to_nir, write

__all__ = ["from_nir", "to_nir", "write"]


def __dir__() -> list[str]:
    return sorted(__all__)
