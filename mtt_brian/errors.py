"""Exceptions for users: commands print the message without a traceback and exit with status 2."""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any

import numpy as np

from mtt_brian.text import listed, shown


class InputError(ValueError):
    """Input that cannot be used: the message names the file, node, key or value and what is accepted."""


class Diverged(RuntimeError):
    """The loss or the weights are no longer finite; the message states the epoch and the batch."""


class CacheWarning(UserWarning):
    """A cached file was damaged and is made again, or nothing can be cached; results do not depend on it."""


def check_choice(name: str, value: Any, accepted: Collection[str]) -> None:
    """Refuses all but the accepted texts.

    Raises:
        InputError: naming ``name``, the value, and what is accepted.
    """
    if not isinstance(value, str) or value not in accepted:
        raise InputError(f"{name} must be one of {listed(accepted)}, not {shown(value)}")


def check_whole(name: str, value: Any, most: int, least: int | None = None) -> int:
    """The value as an integer of Python, which does not overflow; numpy integers are accepted, True and 2.0 are not.

    Raises:
        InputError: naming ``name`` and the value, if it is no whole number, exceeds ``most`` or is below ``least``.
    """
    try:
        whole = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None:
        raise InputError(f"{name} must be a whole number, not {shown(value)}")
    if least is not None and whole < least:
        raise InputError(f"{name} must be at least {least}, not {shown(whole)}")
    if whole > most:
        raise InputError(f"{name} must be at most {most}, not {shown(whole)}")
    return whole


def check_number(name: str, value: Any, most: float) -> None:
    """Refuses values that are no numbers or exceed ``most``; numpy numbers and NaN are accepted, True and "1" are not.

    Raises:
        InputError: naming ``name`` and the value.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise InputError(f"{name} must be a number, not {shown(value)}")
    if value > most:
        raise InputError(f"{name} must be at most {most:g}, not {shown(value)}")
