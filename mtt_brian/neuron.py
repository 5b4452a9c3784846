"""Neuron rules: what one spiking (or silent) neuron does, as plain numbers.

The same objects are read by the torch step (``snn``), by the exporter and by the engines, so the three
cannot disagree. Nothing here knows torch or Brian2.

Rule at an instant (normative, for every engine and for a time step, where the instant is the step):

1. all jumps that arrive together are summed and applied once, then ``v = max(v, lower_bound)``;
2. if ``v >= threshold``:

   * ``reset="subtract"``, ``spikes="many"``: ``n = floor(v / threshold)`` spikes, ``v -= n * threshold``;
   * ``reset="subtract"``, ``spikes="one"``: one spike, ``v -= threshold`` (``v`` may stay above the threshold,
     silent, until the next arrival);
   * ``reset="zero"``: one spike, ``v = v_reset``.

Units: times in seconds, potentials in units of the threshold's own choosing, spikes are pulses of unit integral.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from mtt_brian.errors import InputError

__all__ = [
    "IF",
    "LIF",
    "RESETS",
    "SPIKES_PER_UPDATE",
    "CubaLIF",
    "LinearNeuron",
    "LinearSystem",
    "NeuronRule",
    "Parameter",
    "Reset",
    "SpikesPerUpdate",
    "decay_per_step",
    "linear_system",
    "tau_from_decay",
]


def __dir__() -> list[str]:
    return sorted(__all__)


Reset: TypeAlias = Literal["subtract", "zero"]
SpikesPerUpdate: TypeAlias = Literal["one", "many"]
#: A parameter: one number for the whole population, or one per neuron (in the population's shape).
Parameter: TypeAlias = "float | np.ndarray"

RESETS = ("subtract", "zero")
SPIKES_PER_UPDATE = ("one", "many")


@dataclass(frozen=True, kw_only=True, eq=False)
class IF:
    """Integrate and fire without leak: ``dv/dt = r * bias``; a spike through weight ``w`` adds ``r * w``.

    ``threshold=None`` never fires: a plain integrator (NIR's ``I``, or a linear readout).

    Attributes:
        threshold: firing threshold, > 0, or None for a neuron that never fires.
        reset: ``"subtract"`` or ``"zero"`` (to ``v_reset``).
        spikes: ``"one"`` or ``"many"`` spikes per update.
        lower_bound: ``v`` is never left below it after an arrival; None for no bound.
        v_reset: where ``reset="zero"`` puts ``v``; below the threshold.
        r: resistance, scales every jump and the bias.
        bias: constant input current.
        refractory: seconds after a spike in which ``v`` is held and arrivals at ``v`` are lost (0: none; a synaptic
            current goes on). The neuron listens again from ``t_spike + refractory`` on, that instant included.
    """

    threshold: Parameter | None = 1.0
    reset: Reset = "subtract"
    spikes: SpikesPerUpdate = "one"
    lower_bound: Parameter | None = None
    v_reset: Parameter = 0.0
    r: Parameter = 1.0
    bias: Parameter = 0.0
    refractory: Parameter = 0.0

    #: Parameters that must be positive.
    _positive: ClassVar[tuple[str, ...]] = ("threshold",)

    def __post_init__(self) -> None:
        _one_of("reset", self.reset, RESETS)
        _one_of("spikes", self.spikes, SPIKES_PER_UPDATE)
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None or isinstance(value, str | tuple):
                continue
            if not np.all(np.isfinite(value)):
                raise InputError(f"{type(self).__name__}.{field.name} must be finite, not {value}")
            if field.name in self._positive and not np.all(np.asarray(value) > 0):
                raise InputError(f"{type(self).__name__}.{field.name} must be > 0, not {np.min(value)}")
        with np.errstate(over="ignore", divide="ignore"):
            if not np.all(np.isfinite(self.gain)):
                raise InputError(f"a spike of weight 1 would move the {type(self).__name__} by more than float64 holds")
        if not np.all(np.asarray(self.refractory) >= 0):
            raise InputError(f"{type(self).__name__}.refractory must be >= 0 seconds, not {np.min(self.refractory)}")
        if self.threshold is not None:
            for name in ("lower_bound", "v_reset"):
                value = getattr(self, name)
                if value is not None and not np.all(np.asarray(value) < np.asarray(self.threshold)):
                    raise InputError(f"{type(self).__name__}.{name} must lie below the threshold, not at {value}")

    @property
    def fires(self) -> bool:
        """Whether the neuron has a threshold at all."""
        return self.threshold is not None

    @property
    def crosses(self) -> bool:
        """Whether a neuron can come up to its threshold between arrivals."""
        if self.threshold is None:
            return False
        drive = np.asarray(self.r, dtype=np.float64) * np.asarray(self.bias, dtype=np.float64)
        if type(self) is IF:
            return bool(np.any(drive > 0))
        if type(self) is LIF:
            return bool(np.any(drive + np.asarray(self.v_leak) > np.asarray(self.threshold)))
        return True

    @property
    def gain(self) -> Parameter:
        """How far a spike through weight 1 moves the state it jumps in (``v``, or ``I`` for CubaLIF)."""
        return self.r

    def with_(self, **changes: object) -> IF:
        """A copy with some fields replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def linear_system(self) -> LinearSystem:
        """The linear system of one neuron, for a rule whose parameters are all single numbers.

        A rule of your own derives from `IF`, `LIF` or `CubaLIF` and overrides this method, or `linear_systems`.
        """
        r = _number(self.r)
        return LinearSystem(
            matrix=np.zeros((1, 1)),
            offset=np.array([r * _number(self.bias)]),
            drive=np.array([r]),
            row=np.ones(1),
            tau=np.ones(1),
            threshold=None if self.threshold is None else _number(self.threshold),
        )

    def linear_systems(self, shape: tuple[int, ...]) -> tuple[tuple[LinearSystem, ...], np.ndarray]:
        """The distinct linear systems of a population, and which of them each neuron is.

        Args:
            shape: shape of the population.

        Returns:
            the systems, and integers in the population's shape.

        Raises:
            InputError: for a parameter that does not fit the shape, and for a parameter that the rule leaves out of its
                system.
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


@dataclass(frozen=True, kw_only=True, eq=False)
class LIF(IF):
    """Leaky integrate and fire: ``tau dv/dt = (v_leak - v) + r * bias``; weight ``w`` adds ``r * w / tau``.

    Attributes:
        tau: membrane time constant in seconds, > 0.
        v_leak: the potential the membrane decays to.
    """

    tau: Parameter
    v_leak: Parameter = 0.0

    _positive: ClassVar[tuple[str, ...]] = ("threshold", "tau")

    @property
    def gain(self) -> Parameter:
        return np.asarray(self.r) / np.asarray(self.tau)

    def linear_system(self) -> LinearSystem:
        """The linear system of one neuron, with the state ``(v)``."""
        r = _number(self.r)
        return LinearSystem(
            matrix=np.array([[-1.0]]),
            offset=np.array([r * _number(self.bias) + _number(self.v_leak)]),
            drive=np.array([r]),
            row=np.ones(1),
            tau=np.array([_number(self.tau)]),
            threshold=None if self.threshold is None else _number(self.threshold),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class CubaLIF(LIF):
    """Current-based LIF: ``tau_syn dI/dt = -I + w_in * bias``, ``tau dv/dt = (v_leak - v) + r * I``.

    A spike through weight ``w`` adds ``w_in * w / tau_syn`` to the synaptic current ``I``; a bias takes the same way as
    the spikes (NIR's ``CubaLIF``: ``tau_syn dI/dt = -I + w_in (W z + b)``). ``I`` is 0 at time 0.

    Attributes:
        tau_syn: synaptic time constant in seconds, > 0; may equal ``tau``.
        w_in: input scaling.
    """

    tau_syn: Parameter
    w_in: Parameter = 1.0

    _positive: ClassVar[tuple[str, ...]] = ("threshold", "tau", "tau_syn")

    @property
    def gain(self) -> Parameter:
        return np.asarray(self.w_in) / np.asarray(self.tau_syn)

    def linear_system(self) -> LinearSystem:
        """The linear system of one neuron, with the states ``(I, v)``.

        The bias takes the way of the spikes: ``tau_syn dI/dt = -I + w_in * bias``.
        """
        w_in = _number(self.w_in)
        return LinearSystem(
            matrix=np.array([[-1.0, 0.0], [_number(self.r), -1.0]]),
            offset=np.array([w_in * _number(self.bias), _number(self.v_leak)]),
            drive=np.array([w_in, 0.0]),
            row=np.array([0.0, 1.0]),
            tau=np.array([_number(self.tau_syn), _number(self.tau)]),
            threshold=None if self.threshold is None else _number(self.threshold),
        )


NeuronRule: TypeAlias = IF  # all others are refinements of IF


def decay_per_step(tau: float, steps: int, duration: float) -> float:
    """What is left of a membrane after one of ``steps`` equal steps over ``duration`` seconds: exp(-D / (T tau)).

    The only place where a time constant becomes a per-step factor; `tau_from_decay` is its inverse.
    """
    return float(np.exp(-duration / (steps * tau)))


def tau_from_decay(decay: float, steps: int, duration: float) -> float:
    """The time constant (s) that leaves ``decay``, between 0 and 1, after one of ``steps`` steps over ``duration``."""
    if not 0 < decay < 1:
        raise InputError(f"a decay per step must lie between 0 and 1, not {decay}")
    return float(-duration / (steps * np.log(decay)))


def _number(value: Parameter) -> float:
    return float(np.asarray(value).item())


def _check_that_system_is_its_own(rule: IF) -> None:
    """A class that adds parameters has to say what they do."""
    kind = type(rule)
    owner = next(c for c in kind.__mro__ if "linear_system" in vars(c) or "linear_systems" in vars(c))
    added = sorted({f.name for f in fields(kind)} - {f.name for f in fields(owner)})
    if added:
        raise InputError(
            f"{kind.__name__} adds {', '.join(added)} to {owner.__name__}, and takes its linear system; "
            f"define {kind.__name__}.linear_system()"
        )


def _check_that_system_uses(rule: IF, system: LinearSystem) -> None:
    """A bias or a resistance that a rule of a user leaves out would be lost."""
    for name, neutral in (("bias", 0.0), ("r", 1.0)):
        if getattr(rule, name) != neutral and system.equals(rule.with_(**{name: neutral}).linear_system()):
            raise InputError(
                f"{type(rule).__name__}.linear_system() makes no use of {name}, which is {getattr(rule, name):g}, not "
                f"{neutral:g}"
            )


def _one_of(name: str, value: object, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise InputError(f"{name} must be one of {', '.join(map(repr, accepted))}, not {value!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearSystem:
    """One neuron as a linear system: ``tau_i dx_i/dt = (matrix x)_i + offset_i + drive_i u(t)``.

    The input ``u`` is a train of pulses of unit integral, so a spike through weight ``w`` adds ``w * jump`` to ``x``.
    The neuron reaches its threshold when ``row . x`` comes up to ``threshold`` from below. The equations are kept
    with the time constants apart, so that a resting potential that equals the threshold does so exactly.

    Attributes:
        matrix: couplings [n, n], 1 to 4 states.
        offset: constant input [n].
        drive: how the input enters [n].
        row: weights of the states in the potential [n].
        tau: time constants in seconds [n], > 0; 1 where a state does not leak.
        threshold: firing threshold, or None for a neuron that never fires.
        reset_keep, reset_add: what a spike does with the states: ``x_i`` becomes ``reset_keep_i * x_i + reset_add_i``
            [n]. With one of them given, the other one is 1 or 0. None: the ``reset`` of the rule acts on the potential,
            which then has to be one of the states.
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
        """What a spike through weight 1 adds to the states [n]."""
        return self.drive / self.tau

    @property
    def resets(self) -> bool:
        """Whether the system says itself what a spike does with its states."""
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


def linear_system(rule: IF) -> LinearSystem:
    """The linear system of one neuron of an IF ``(v)``, LIF ``(v)`` or CubaLIF ``(I, v)`` with scalar parameters."""
    return rule.linear_system()


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearNeuron(IF):
    """A neuron that is a linear system of up to four states, such as an IF behind an exponential synapse.

    Threshold, lower bound and refractory period act on the potential as on that of an IF: during the refractory period
    it is held, while the other states go on. So does the reset, where the systems have none of their own.

    Attributes:
        systems: the distinct systems of the population, all with the same number of states.
        system: which of them each neuron is: one number, or integers in the population's shape.
    """

    systems: tuple[LinearSystem, ...]
    system: int | np.ndarray = 0

    def __post_init__(self) -> None:
        if len({len(system.offset) for system in self.systems}) != 1:
            raise InputError("LinearNeuron.systems must be at least one, all with the same number of states")
        if np.any(np.asarray(self.r) != 1) or np.any(np.asarray(self.bias) != 0):
            raise InputError("the resistance and the bias of a LinearNeuron are part of its systems: r = 1, bias = 0")
        if not np.all((np.asarray(self.system) >= 0) & (np.asarray(self.system) < len(self.systems))):
            raise InputError(f"LinearNeuron.system must be 0..{len(self.systems) - 1}, not {np.max(self.system)}")
        super().__post_init__()

    @property
    def states(self) -> int:
        """Number of states."""
        return len(self.systems[0].offset)

    @property
    def gain(self) -> Parameter:
        return np.array([next(iter(system.jump[system.jump != 0]), 0.0) for system in self.systems])[self.system]

    def linear_systems(self, shape: tuple[int, ...]) -> tuple[tuple[LinearSystem, ...], np.ndarray]:
        return self.systems, np.broadcast_to(np.asarray(self.system, dtype=np.int64), shape)
