"""The exact engine: continuous time, every threshold crossing, no clock."""

from mtt_brian.engines.exact.engine import ExactEngine, Run

__all__ = ["ExactEngine", "Run"]


def __dir__() -> list[str]:
    return sorted(__all__)
