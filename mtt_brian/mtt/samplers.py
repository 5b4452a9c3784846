"""Samplers of the time steps of one training iteration: SDT, NMT and MTT as interchangeable objects.

A sampler draws the configurations of an iteration. A configuration is one number of
time steps per stage of the network. Source: Du et al., "Temporal Flexibility in Spiking Neural Networks", ICLR 2025,
section 4 (SDT: one fixed number; NMT: one random number for all stages; MTT: one random number per stage).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from mtt_brian.errors import InputError, check_whole
from mtt_brian.machine import MOST_TIME_STEPS

#: Time steps of every stage, from the first to the last.
Configuration: TypeAlias = tuple[int, ...]


class Sampler(Protocol):
    """Draws the configurations of one training iteration."""

    def sample(self, rng: np.random.Generator, num_stages: int) -> list[Configuration]:
        """The configurations whose gradients make up one optimizer step, each with ``num_stages`` entries."""
        ...


@dataclass(frozen=True)
class SDT:
    """Standard direct training: every iteration runs all stages with the same fixed ``time_steps``.

    Attributes:
        time_steps: T, >= 1.
    """

    time_steps: int

    def __post_init__(self) -> None:
        # object.__setattr__, because the class is frozen; a small integer of numpy would overflow
        time_steps = check_whole("time_steps", self.time_steps, most=MOST_TIME_STEPS, least=1)
        object.__setattr__(self, "time_steps", time_steps)

    def sample(self, rng: np.random.Generator, num_stages: int) -> list[Configuration]:
        """One configuration, (T, ..., T); ``rng`` is not used."""
        return [(self.time_steps,) * num_stages]


@dataclass(frozen=True)
class _Mixed:
    """The parameters of samplers that draw numbers of time steps."""

    max_steps: int
    min_steps: int = 1
    samples: int = 3

    def __post_init__(self) -> None:
        for name in ("max_steps", "min_steps", "samples"):
            value = check_whole(name, getattr(self, name), most=MOST_TIME_STEPS, least=1)
            object.__setattr__(self, name, value)
        if self.max_steps < self.min_steps:
            raise InputError(
                f"min_steps = {self.min_steps} must not exceed the largest number of time steps, {self.max_steps}"
            )


@dataclass(frozen=True)
class NMT(_Mixed):
    """Naive mixture training: ``samples`` global numbers of time steps, uniform on {min_steps..max_steps}.

    Attributes:
        max_steps, min_steps: T_max >= T_min >= 1.
        samples: s, configurations per iteration, >= 1.
    """

    def sample(self, rng: np.random.Generator, num_stages: int) -> list[Configuration]:
        """``samples`` configurations, each with one number repeated over all stages."""
        drawn = rng.integers(self.min_steps, self.max_steps + 1, size=self.samples)
        return [(int(steps),) * num_stages for steps in drawn]


@dataclass(frozen=True)
class MTT(_Mixed):
    """Mixed time-step training: ``samples`` vectors, uniform on {min_steps..max_steps}^stages.

    The stages of a vector are independent. With ``min_steps == max_steps`` and one sample it is `SDT`.

    Attributes:
        max_steps, min_steps: T_max >= T_min >= 1 (paper: T_min = 1).
        samples: s, configurations per iteration, >= 1 (paper: 3).
    """

    def sample(self, rng: np.random.Generator, num_stages: int) -> list[Configuration]:
        """``samples`` configurations with an independent number for every stage."""
        drawn = rng.integers(self.min_steps, self.max_steps + 1, size=(self.samples, num_stages))
        return [tuple(int(steps) for steps in row) for row in drawn]
