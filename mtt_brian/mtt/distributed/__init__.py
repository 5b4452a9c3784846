"""Training that several processes share, started by ``torchrun``."""

from mtt_brian.mtt.distributed.processes import ALONE, Processes, is_lost, join

__all__ = ["ALONE", "Processes", "is_lost", "join"]
