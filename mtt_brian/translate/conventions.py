"""Facts that a graph of another tool does not contain and that the caller passes: one object, checked here."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import numpy as np

from mtt_brian.circuit.instants import on_whole_microseconds
from mtt_brian.errors import InputError, check_choice
from mtt_brian.events.recording import second_hint
from mtt_brian.neuron import RESETS, SPIKES_PER_UPDATE, Parameter, Reset, SpikesPerUpdate
from mtt_brian.translate.nir_files import numbers, shown, uniform

ToolName: TypeAlias = Literal["snntorch", "norse", "sinabs", "spikingjelly", "rockpool", "nir"]
BiasRule: TypeAlias = Literal["per-second", "per-step"]
#: A potential, a number of thresholds (``"-1 thresholds"``), or ``"none"``.
LowerBound: TypeAlias = "float | str"

TOOL_NAMES: tuple[ToolName, ...] = get_args(ToolName)
BIAS_RULES: tuple[BiasRule, ...] = get_args(BiasRule)
INFER, NONE = "infer", "none"

_THRESHOLDS = re.compile(r"\s*(\S+)\s+thresholds?\s*")


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """Facts that a graph of another tool does not contain; None: not given.

    `read_nir`, `Simulator`, `simulate` and all functions that read a graph accept these fields as keyword arguments, or
    the object as ``conventions=``. The metadata of a neuron have priority over a field, and a field over ``tool``.

    Attributes:
        tool: the tool that wrote the graph: ``"snntorch"``, ``"norse"``, ``"sinabs"``, ``"spikingjelly"``,
            ``"rockpool"``, or ``"nir"`` for NIR's own text. It sets all other fields as the tool's defaults and its
            exporter need them, and refuses nodes that the exporter does not write.
        reset: ``"subtract"`` or ``"zero"``, for neurons without it in their metadata. NIR does not store the reset
            rule, so a foreign graph needs it.
        spikes: ``"one"`` or ``"many"`` per update, for neurons without it in their metadata. By default ``"many"`` if
            the caller passes ``reset="subtract"`` (the limit of time-stepped tools for fine steps), and ``"one"`` if
            the metadata contain the reset.
        spike_integral: integral of one spike of the tool that wrote the graph, in seconds for a time-stepped tool whose
            spikes are one time step wide (snnTorch: 1e-4); 1 (the default without a tool) for NIR's own Dirac pulses.
            ``"infer"``: tau / r (LIF), 1 / r (IF) and tau_syn / w_in (CubaLIF), if it is the same number for all nodes.
        loop_delay: seconds of the file's time that spikes take in a loop that has no delay: one time step of a
            time-stepped tool. In every such loop the spikes of the backward connection (towards the input) are delayed.
            Biases are constant currents and are not delayed. None: such loops are refused, unless ``tool`` has time
            steps.
        lower_bound: of the membrane, for firing neurons without it in their metadata: a potential (-0.5), thresholds
            (``"-1 thresholds"``), or ``"none"``, if the tool sets one.
        bias: ``"per-second"`` (the default without a tool): a constant current, as NIR writes it. ``"per-step"``: in
            every time step the same as a spike of this weight, a current of bias * spike_integral / (step of the file).
        time_per_step: seconds of the recordings per time step of the tool, if it differs from the step of the file.
            Durations, recordings and results are then in the recordings' time. None: recordings are in the file's time.
        file_time_per_step: seconds of the file's time per time step of the tool. By default ``tool`` sets it; without a
            tool it is the ``spike_integral``.

    Raises:
        InputError: for a value that is not accepted.
    """

    tool: ToolName | None = None
    reset: Reset | None = None
    spikes: SpikesPerUpdate | None = None
    spike_integral: float | Literal["infer"] | None = None
    loop_delay: float | None = None
    lower_bound: LowerBound | None = None
    bias: BiasRule | None = None
    time_per_step: float | None = None
    file_time_per_step: float | None = None

    def __post_init__(self) -> None:
        for name, accepted in (
            ("tool", TOOL_NAMES),
            ("reset", RESETS),
            ("spikes", SPIKES_PER_UPDATE),
            ("bias", BIAS_RULES),
        ):
            value = getattr(self, name)
            if value is not None:
                check_choice(name, value, accepted)
        for name in ("spike_integral", "loop_delay", "time_per_step", "file_time_per_step"):
            given = getattr(self, name)
            if given is not None and not (name == "spike_integral" and isinstance(given, str) and given == INFER):
                _refuse_unit(name, given)
                value = numbers(given, name)
                if "delay" in name and not value.ndim:
                    value = on_whole_microseconds(value)  # 0 for less than the spacing of times
                if value.ndim or value.dtype.kind == "b" or not value > 0:
                    raise InputError(f"{name} must be one number > 0, not {shown(given)}")
                object.__setattr__(self, name, float(value))
        if self.lower_bound is not None:
            object.__setattr__(self, "lower_bound", _lower_bound(self.lower_bound))

    @property
    def given(self) -> dict[str, Any]:
        """The given fields."""
        values = {name: getattr(self, name) for name in CONVENTION_NAMES}
        return {name: value for name, value in values.items() if value is not None}


#: The fields of `Conventions`.
CONVENTION_NAMES = tuple(field.name for field in fields(Conventions))


Function = TypeVar("Function", bound=Callable[..., Any])


def shows_conventions(function: Function) -> Function:
    """Decorate a function with ``**options``: its signature lists the fields of `Conventions` (help, completion)."""
    signature = inspect.signature(function)
    *before, options = signature.parameters.values()
    added = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=field.type)
        for field in fields(Conventions)
    ]
    setattr(function, "__signature__", signature.replace(parameters=[*before, *added, options]))  # noqa: B010
    return function


def conventions_of(conventions: Conventions | None, options: Mapping[str, Any]) -> Conventions:
    """The conventions from an object and from keyword arguments.

    Raises:
        InputError: for an object of another kind, an unknown option, and an option that both give.
    """
    given = Conventions() if conventions is None else conventions
    if not isinstance(given, Conventions):
        raise InputError(f"conventions must be a Conventions object, not {shown(conventions)}")
    for name, value in options.items():
        if name not in CONVENTION_NAMES:
            raise InputError(f"there is no option {name!r}; options for graphs are {', '.join(CONVENTION_NAMES)}")
        if value is not None and name in given.given:
            raise InputError(f"{name} is given twice, in conventions= and beside it; leave one of them out")
    return replace(given, **{name: value for name, value in options.items() if value is not None})


def _refuse_unit(name: str, given: Any) -> None:
    if remedy := second_hint(given):
        raise InputError(f"{name} must be a number, not {shown(given)}{remedy}")


def _lower_bound(given: Any) -> LowerBound:
    """Checked; thresholds are written ``"-1 thresholds"``."""
    if isinstance(given, str):
        if given.strip() == NONE:
            return NONE
        found = _THRESHOLDS.fullmatch(given)
        try:
            number = float(found[1] if found else given)
        except ValueError:
            number = np.nan
        if not np.isfinite(number):
            raise InputError(
                f"lower_bound must be a potential such as -0.5, thresholds such as '-1 thresholds', or 'none', not "
                f"{shown(given)}"
            )
        if found and number >= 1:
            raise InputError(f"lower_bound must lie below the threshold, not at {shown(given)}")
        return f"{number!r} thresholds" if found else number
    _refuse_unit("lower_bound", given)
    value = numbers(given, "lower_bound")
    if value.ndim or value.dtype.kind == "b":
        raise InputError(f"lower_bound must be one number, not {shown(given)}")
    return float(value)


def bound_of(given: LowerBound, threshold: Parameter) -> Parameter | None:
    """A lower bound as a potential; None for no bound."""
    if given == NONE:
        return None
    if isinstance(given, str):
        return uniform(float(given.split()[0]) * np.asarray(threshold, dtype=np.float64))
    return given
