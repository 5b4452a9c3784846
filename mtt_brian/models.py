"""The model zoo under its public name; see `mtt_brian.snn.models`."""

from mtt_brian.snn.models import MODELS, build, from_config, nmnist_3c1fc

__all__ = ["MODELS", "build", "from_config", "nmnist_3c1fc"]
