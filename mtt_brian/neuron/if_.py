"""Integrate and fire, the base class of all neuron rules."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np

from mtt_brian.errors import InputError, check_choice
from mtt_brian.neuron.base import (
    RESETS,
    SPIKES_PER_UPDATE,
    LinearSystem,
    Parameter,
    Reset,
    SpikesPerUpdate,
    checked_parameter,
    number,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class IF:
    """Integrate and fire without leak: ``dv/dt = r * bias``; a spike through weight ``w`` adds ``r * w``.

    ``threshold=None`` never fires: a plain integrator (NIR's ``I``, or a linear readout).

    Attributes:
        threshold: firing threshold, > 0, or None for a neuron that never fires.
        reset: ``"subtract"`` or ``"zero"`` (to ``v_reset``).
        spikes: ``"one"`` or ``"many"`` spikes per update.
        lower_bound: minimum of ``v`` after an arrival; None for no bound.
        upper_bound: ``v`` saturates at it after an arrival, before the threshold is applied; at or above the threshold,
            for neurons whose potential changes at arrivals only (the largest integer of a chip); None for no bound.
        v_reset: ``v`` after a spike with ``reset="zero"``; below the threshold.
        r: resistance, scales every jump and the bias.
        bias: constant input current.
        refractory: seconds after a spike in which ``v`` is held and arrivals at ``v`` are lost (0: none; a synaptic
            current continues). Arrivals count again from ``t_spike + refractory`` on, that instant included.
    """

    threshold: Parameter | None = 1.0
    reset: Reset = "subtract"
    spikes: SpikesPerUpdate = "one"
    lower_bound: Parameter | None = None
    upper_bound: Parameter | None = None
    v_reset: Parameter = 0.0
    r: Parameter = 1.0
    bias: Parameter = 0.0
    refractory: Parameter = 0.0

    #: Parameters that must be positive.
    _positive: ClassVar[tuple[str, ...]] = ("threshold",)

    def __post_init__(self) -> None:
        check_choice("reset", self.reset, RESETS)
        check_choice("spikes", self.spikes, SPIKES_PER_UPDATE)
        for field in fields(self):
            value, name = getattr(self, field.name), f"{type(self).__name__}.{field.name}"
            if "Parameter" in str(field.type) and not (value is None and "None" in str(field.type)):
                value = checked_parameter(name, value)
                object.__setattr__(self, field.name, value)
            elif value is None or isinstance(value, str | tuple):
                continue
            elif not np.all(np.isfinite(value)):
                raise InputError(f"{name} must be finite, not {value}")
            if field.name in self._positive and not np.all(np.asarray(value) > 0):
                raise InputError(f"{name} must be > 0, not {np.min(value)}")
        with np.errstate(over="ignore", divide="ignore"):
            if not np.all(np.isfinite(self.jump)):
                raise InputError(f"a spike of weight 1 would move the {type(self).__name__} by more than float64 holds")
        if not np.all(np.asarray(self.refractory) >= 0):
            raise InputError(f"{type(self).__name__}.refractory must be >= 0 seconds, not {np.min(self.refractory)}")
        if self.threshold is not None:
            for name in ("lower_bound", "v_reset"):
                value = getattr(self, name)
                if value is not None and not np.all(np.asarray(value) < np.asarray(self.threshold)):
                    raise InputError(f"{type(self).__name__}.{name} must lie below the threshold, not at {value}")
            if self.upper_bound is not None and not np.all(np.asarray(self.upper_bound) >= np.asarray(self.threshold)):
                raise InputError(
                    f"{type(self).__name__}.upper_bound must not lie below the threshold, not at {self.upper_bound}"
                )

    @property
    def fires(self) -> bool:
        """Whether the neuron has a threshold."""
        return self.threshold is not None

    @property
    def crosses(self) -> bool:
        """Whether a neuron can reach its threshold between arrivals; True for a rule with a system of its own."""
        return self.fires and (not self.has_system_of(IF) or bool(np.any(self._drive > 0)))

    @property
    def accumulates(self) -> bool:
        """Whether the potential is the plain sum of the jumps: silent, without leak, bias and lower bound."""
        bounded = self.lower_bound is not None or self.upper_bound is not None
        plain = self.has_system_of(IF) and not bounded and not np.any(self.bias)
        return plain and not self.fires

    @property
    def _drive(self) -> np.ndarray:
        """The constant input ``r * bias``, float64."""
        return np.asarray(self.r, dtype=np.float64) * np.asarray(self.bias, dtype=np.float64)

    @property
    def gain(self) -> Parameter:
        """The change of the state by a spike through weight 1 (``v``, or ``I`` for CubaLIF)."""
        return self.r

    @property
    def jump(self) -> np.ndarray:
        """The size of what a spike of weight 1 adds to the potential (for `CubaLIF`, to ``r * I``), float64."""
        return np.abs(np.asarray(self.gain, dtype=np.float64))

    def with_(self, **changes: object) -> IF:
        """A copy with some fields replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def has_system_of(self, rule: type[IF]) -> bool:
        """Whether the linear systems are those that the class ``rule`` defines."""
        kind = type(self)
        return kind.linear_system is rule.linear_system and kind.linear_systems is rule.linear_systems

    def linear_system(self) -> LinearSystem:
        """The linear system of one neuron, for a rule whose parameters are all single numbers.

        A user's rule derives from `IF`, `LIF` or `CubaLIF` and overrides this method, or `linear_systems`.
        """
        r = number(self.r)
        return LinearSystem(
            matrix=np.zeros((1, 1)),
            offset=np.array([r * number(self.bias)]),
            drive=np.array([r]),
            row=np.ones(1),
            tau=np.ones(1),
            threshold=None if self.threshold is None else number(self.threshold),
        )

    def linear_systems(self, shape: tuple[int, ...]) -> tuple[tuple[LinearSystem, ...], np.ndarray]:
        """The distinct linear systems of a population, and the number of the system of each neuron.

        Args:
            shape: shape of the population.

        Returns:
            the systems, and indices into them, integers in the population's shape.

        Raises:
            InputError: for a parameter that does not fit the shape, and for a parameter that the system ignores.
        """
        _check_that_system_is_its_own(self)
        columns = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None or isinstance(value, str | bool | tuple):
                continue
            try:
                columns[field.name] = np.broadcast_to(np.asarray(value, dtype=np.float64), shape).ravel()
            except ValueError:
                raise InputError(
                    f"{type(self).__name__}.{field.name} has the shape {np.shape(value)}, the population {shape}"
                ) from None
        rows, which = np.unique(np.stack(list(columns.values()), axis=1), axis=0, return_inverse=True)
        systems = []
        for row in rows:
            one = self.with_(**dict(zip(columns, row.tolist(), strict=True)))
            systems.append(one.linear_system())
            _check_that_system_uses(one, systems[-1])
        return tuple(systems), np.reshape(which, shape)


def _check_that_system_is_its_own(rule: IF) -> None:
    """A class that adds parameters must define the linear system that they act on."""
    kind = type(rule)
    owner = next(c for c in kind.__mro__ if "linear_system" in vars(c) or "linear_systems" in vars(c))
    added = sorted({f.name for f in fields(kind)} - {f.name for f in fields(owner)})
    if added:
        raise InputError(
            f"{kind.__name__} adds {', '.join(added)} to {owner.__name__}, and inherits its linear system; "
            f"define {kind.__name__}.linear_system()"
        )


def _check_that_system_uses(rule: IF, system: LinearSystem) -> None:
    """A bias or a resistance must not be ignored by the linear system of a user's rule."""
    for name, neutral in (("bias", 0.0), ("r", 1.0)):
        if getattr(rule, name) != neutral and system.equals(rule.with_(**{name: neutral}).linear_system()):
            raise InputError(
                f"{type(rule).__name__}.linear_system() makes no use of {name}, which is {getattr(rule, name):g}, not "
                f"{neutral:g}"
            )
