"""Common parts of all neuron rules: types of parameters, linear systems, decays per time step."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

import numpy as np

from mtt_brian.errors import InputError, check_array, check_number
from mtt_brian.text import shown

Reset: TypeAlias = Literal["subtract", "zero"]
SpikesPerUpdate: TypeAlias = Literal["one", "many"]
#: A parameter: one number for the whole population, or one per neuron (in the population's shape).
Parameter: TypeAlias = "float | np.ndarray"

RESETS = ("subtract", "zero")
SPIKES_PER_UPDATE = ("one", "many")


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearSystem:
    """One neuron as a linear system: ``tau_i dx_i/dt = (matrix x)_i + offset_i + drive_i u(t)``.

    The input ``u`` is a sum of pulses of unit integral, so a spike through weight ``w`` adds ``w * jump`` to ``x``.
    The neuron reaches its threshold when ``row . x`` rises to ``threshold``. The time constants are stored separately,
    so that a resting potential that equals the threshold does so exactly.

    Attributes:
        matrix: couplings [n, n], 1 to 4 states.
        offset: constant input [n].
        drive: how the input enters [n].
        row: weights of the states in the potential [n].
        tau: time constants in seconds [n], > 0; 1 where a state does not leak.
        threshold: firing threshold, or None for a neuron that never fires.
        reset_keep, reset_add: the reset: a spike turns ``x_i`` into ``reset_keep_i * x_i + reset_add_i`` [n]. If only
            one of them is given, the other is 1 or 0. None: the ``reset`` of the rule acts on the potential, which must
            then be one of the states.
    """

    matrix: np.ndarray
    offset: np.ndarray
    drive: np.ndarray
    row: np.ndarray
    tau: np.ndarray
    threshold: float | None = None
    reset_keep: np.ndarray | None = None
    reset_add: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.resets:
            for name, otherwise in (("reset_keep", 1.0), ("reset_add", 0.0)):
                if getattr(self, name) is None:
                    object.__setattr__(self, name, np.full(len(self.offset), otherwise))
        arrays = ("matrix", "offset", "drive", "row", "tau", *(("reset_keep", "reset_add") if self.resets else ()))
        for name in arrays:
            value = np.array(getattr(self, name), dtype=np.float64)
            value.setflags(write=False)
            object.__setattr__(self, name, value)
            if not np.all(np.isfinite(value)):
                raise InputError(f"LinearSystem.{name} must be finite, not {value.tolist()}")
        n = len(self.matrix) if self.matrix.ndim == 2 else 0
        if not 1 <= n <= 4:
            raise InputError(f"LinearSystem.matrix must be [n, n] with 1 to 4 states, not {list(self.matrix.shape)}")
        for name in arrays:
            shape = (n, n) if name == "matrix" else (n,)
            if getattr(self, name).shape != shape:
                raise InputError(f"LinearSystem.{name} must have {shape}, not {getattr(self, name).shape}")
        if not np.all(self.tau > 0):
            raise InputError(f"LinearSystem.tau must be > 0 seconds, not {self.tau.min()}")
        if self.threshold is not None and not np.isfinite(self.threshold):
            raise InputError(f"LinearSystem.threshold must be finite, not {self.threshold}")

    @property
    def jump(self) -> np.ndarray:
        """The jump of the states at a spike through weight 1 [n]."""
        return self.drive / self.tau

    @property
    def resets(self) -> bool:
        """Whether the system defines its own reset."""
        return self.reset_keep is not None or self.reset_add is not None

    @property
    def potential_is_a_state(self) -> bool:
        """Whether the potential is one of the states, not a combination of several."""
        return int(np.count_nonzero(self.row)) == 1 and float(self.row.sum()) == 1.0

    def equals(self, other: LinearSystem) -> bool:
        """Whether all numbers are the same."""
        return all(np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    def feeding(self, target: LinearSystem, weight: float = 1.0) -> LinearSystem:
        """The system of ``target`` with ``weight * row . x`` of this one, which never fires, as a current.

        The states of this system come first. Spikes enter through this system.
        """
        n, m = len(self.offset), len(target.offset)
        coupling = weight * np.outer(target.drive, self.row)
        return LinearSystem(
            matrix=np.block([[self.matrix, np.zeros((n, m))], [coupling, target.matrix]]),
            offset=np.concatenate([self.offset, target.offset]),
            drive=np.concatenate([self.drive, np.zeros(m)]),
            row=np.concatenate([np.zeros(n), target.row]),
            tau=np.concatenate([self.tau, target.tau]),
            threshold=target.threshold,
            reset_keep=None if target.reset_keep is None else np.concatenate([np.ones(n), target.reset_keep]),
            reset_add=None if target.reset_add is None else np.concatenate([np.zeros(n), target.reset_add]),
        )


def decay_per_step(tau: float, steps: int, duration: float) -> float:
    """Decay factor of a membrane in one of ``steps`` equal steps over ``duration`` seconds: exp(-D / (T tau)).

    No other function converts a time constant into a factor per step; `tau_from_decay` is its inverse.

    Raises:
        InputError: unless all are numbers > 0.
    """
    time_constant, number, seconds = _all_positive(tau=tau, steps=steps, duration=duration)
    return float(np.exp(-seconds / (number * time_constant)))


def tau_from_decay(decay: float, steps: int, duration: float) -> float:
    """The time constant (s) that leaves ``decay``, between 0 and 1, after one of ``steps`` steps over ``duration``.

    Raises:
        InputError: unless the decay lies between 0 and 1, and the others are numbers > 0.
    """
    if not 0 < check_number("decay", decay, most=np.inf) < 1:
        raise InputError(f"a decay per step must lie between 0 and 1, not {decay}")
    number, seconds = _all_positive(steps=steps, duration=duration)
    return float(-seconds / (number * np.log(float(decay))))


def _all_positive(**numbers: float) -> list[float]:
    """The numbers as floats, by the names of arguments.

    Raises:
        InputError: for one that is not > 0 and finite.
    """
    checked = [check_number(name, value, most=sys.float_info.max) for name, value in numbers.items()]
    for name, value in zip(numbers, checked, strict=True):
        if not value > 0:
            raise InputError(f"{name} must be > 0, not {value:g}")
    return checked


def checked_parameter(name: str, value: Any) -> Parameter:
    """A parameter as a number, or as an array of its own that cannot be changed.

    Raises:
        InputError: naming ``name``, for what is no finite real number and no array of them.
    """
    if type(value) is float and math.isfinite(value):  # most are
        return value
    given = check_array(name, value, wanted="a finite number, or one for each neuron")
    if not given.size or not np.all(np.isfinite(given)):
        raise InputError(f"{name} must be finite, not {shown(value)}")
    if not given.ndim:
        return float(given)
    array = np.array(given, dtype=given.dtype if given.dtype.kind == "f" else np.float64)
    array.setflags(write=False)
    return array


def number(value: Parameter) -> float:
    """A parameter of one neuron as a float."""
    return float(np.asarray(value).item())
