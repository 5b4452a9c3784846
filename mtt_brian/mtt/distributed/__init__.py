"""Training that several processes share, started by ``torchrun``."""

from mtt_brian.mtt.distributed.processes import ALONE, Processes, join

__all__ = ["ALONE", "Processes", "join"]
