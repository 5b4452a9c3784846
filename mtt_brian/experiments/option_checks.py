"""Checks of numbers on a command line. Nothing here imports torch: ``mtt-brian gap`` does not need it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from mtt_brian.errors import InputError
from mtt_brian.machine import MOST_TIME_STEPS
from mtt_brian.text import shown

#: Largest values of integer options: for time steps and threads the limit of a training, for others 32 bits.
MOST = {
    **dict.fromkeys(("time_steps", "gradient_steps", "final_steps", "fine"), MOST_TIME_STEPS),
    "draws": 100_000,
    "threads": 1024,
}


def at_least_one(options: argparse.Namespace, *names: str) -> None:
    """Refuse numbers below 1, and those above `MOST`, in these options, each a number, several, or None.

    Raises:
        InputError: naming the option and the number.
    """
    for name in names:
        value = getattr(options, name)
        for number in value if isinstance(value, Sequence) else [value]:
            option = f"--{name.replace('_', '-')}"
            if number is not None and number < 1:
                raise InputError(f"{option} must be at least 1, not {shown(number)}")
            if number is not None and number > (most := MOST.get(name, 2**31 - 1)):
                raise InputError(f"{option} must be at most {most}, not {shown(number)}")


def experiment(seeds: Sequence[int], minutes: float | None = None) -> None:
    """Refuse seeds that torch does not take, repeated ones, which are one training and not two, and no time at all.

    Args:
        seeds: of the trainings.
        minutes: time limit; None: none.

    Raises:
        InputError: naming the option and the number.
    """
    for number, seed in enumerate(seeds):
        if not 0 <= seed < 2**64:
            raise InputError(f"--seeds must be numbers from 0 to 2^64 - 1, not {shown(seed)}")
        if seed in seeds[:number]:
            raise InputError(f"--seeds: {seed} is given twice")
    if minutes is not None and not 0 < minutes < math.inf:
        raise InputError(f"--minutes must be a number > 0, not {minutes:g}")
