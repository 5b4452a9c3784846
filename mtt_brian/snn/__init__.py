"""Multi-step spiking networks in torch: neurons, temporal transformation, staged networks, the model zoo."""

from mtt_brian.snn import models, surrogate, temporal
from mtt_brian.snn.neurons import Spiking
from mtt_brian.snn.staged import Staged, spike_counts

__all__ = ["Spiking", "Staged", "models", "spike_counts", "surrogate", "temporal"]
