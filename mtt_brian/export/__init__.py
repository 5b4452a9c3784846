"""Trained torch network <-> NIR graph, and NIR graph -> ``.nir`` file.

NIR (neuromorphs/NIR) is the format that all engines read. Metadata contain values without a field in NIR: ``reset``,
``spikes`` and ``lower_bound`` of every population; ``decay_per_step`` and ``bias_per_step``, from which the network of
the training is rebuilt.
"""

from mtt_brian.export.from_nir import from_nir, with_weights
from mtt_brian.export.to_nir import to_nir
from mtt_brian.translate.nir_files import write_graph as write

__all__ = ["from_nir", "to_nir", "with_weights", "write"]


def __dir__() -> list[str]:
    return sorted(__all__)
