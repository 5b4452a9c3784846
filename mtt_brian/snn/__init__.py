"""Multi-step spiking networks in torch: neurons, temporal transformation, staged networks, norms, the model zoo."""

from mtt_brian.snn import models, norm, surrogate, temporal
from mtt_brian.snn.neurons import Spiking
from mtt_brian.snn.residual import Residual
from mtt_brian.snn.staged import Staged, spike_counts

__all__ = ["Residual", "Spiking", "Staged", "models", "norm", "spike_counts", "surrogate", "temporal"]


def __dir__() -> list[str]:
    return sorted(__all__)
