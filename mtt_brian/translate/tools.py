"""What the values of a graph mean to the tool that wrote it: the options of `read_nir` and their presets by tool.

A time-stepped tool adds ``w`` to a neuron when a spike arrives and ``b`` in every step; its exporter turns the update
into an equation in continuous time. Two numbers lead back: the integral of one spike, and the length of a step in the
time of the file. In a node whose input the exporter scales by the step, the constant

    tau / r (LIF, LI),   1 / r (IF, I),   tau_syn / w_in (CubaLIF, CubaLI)

is that integral. A bias counts like a spike of weight b in every step, a current of ``b * integral / step``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from mtt_brian.circuit.instants import on_whole_microseconds
from mtt_brian.errors import InputError
from mtt_brian.neuron import RESETS, SPIKES_PER_UPDATE, Parameter, Reset, SpikesPerUpdate
from mtt_brian.translate.linear_nodes import Assumptions
from mtt_brian.translate.nir_files import numbers, shown, uniform

ToolName: TypeAlias = Literal["snntorch", "norse", "sinabs", "spikingjelly", "rockpool", "nir"]
BiasRule: TypeAlias = Literal["per-second", "per-step"]
#: A potential, as many thresholds (``"-1 thresholds"``), or ``"none"``.
LowerBound: TypeAlias = "float | str"

BIAS_RULES = ("per-second", "per-step")
INFER, NONE = "infer", "none"

#: Constants of one network that differ by no more are one number; exporters work in single precision.
_SAME = 0.01
#: An integral of spikes this many times larger or smaller than the file's own constant is pointed out.
_FAR = 2.0

_THRESHOLDS = re.compile(r"\s*(\S+)\s+thresholds?\s*")


@dataclass(frozen=True, eq=False)
class Neurons:
    """The neurons of one node, as far as the meaning of its values goes.

    Attributes:
        kind: NIR type.
        values: ``r``, ``tau``, ``tau_syn``, ``w_in`` as far as the type has them.
        is_biased: whether a constant current other than 0 enters.
    """

    kind: str
    values: Mapping[str, np.ndarray]
    is_biased: bool = False

    @property
    def constant(self) -> np.ndarray:
        """tau / r, 1 / r or tau_syn / w_in, of each neuron."""
        gain = self.values["w_in"] if "w_in" in self.values else self.values["r"]
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.values.get("tau_syn", self.values.get("tau", np.float64(1.0))) / gain

    @property
    def has_plain_gain(self) -> bool:
        """Whether the gain of the input is 1 everywhere, so that the constant is a time constant and says no more."""
        gain = self.values["w_in"] if "w_in" in self.values else self.values["r"]
        return "tau" in self.values and bool(np.all(gain == 1))


@dataclass(frozen=True)
class Tool:
    """What a tool's exporter leaves out of its files.

    Attributes:
        title: name as its makers write it.
        reset: the tool's default. Where that is by subtraction, it gives many spikes per update.
        integral: of a spike by type of node: seconds, ``"step"`` or ``"constant"`` (of the node). Types that are
            missing are not written by the tool's exporter.
        step: seconds of the file per time step, found in the neurons of the file; None: there is no step.
        bias: see `read_nir`.
        bounded: types whose lower bound is minus the threshold.
        sums: integral of a spike at a readout that only adds up; ``"step"`` or seconds.
        ones: values that the exporter writes as 1.
    """

    title: str
    reset: Reset
    integral: Mapping[str, float | Literal["step", "constant"]]
    step: Callable[[Mapping[str, Neurons]], tuple[float, str]] | None
    bias: BiasRule = "per-step"
    bounded: frozenset[str] = frozenset()
    sums: float | Literal["step"] = "step"
    ones: tuple[str, ...] = ()


def _fixed(seconds: float, why: str) -> Callable[[Mapping[str, Neurons]], tuple[float, str]]:
    return lambda neurons: (seconds, why)


def _common_constant(neurons: Mapping[str, Neurons]) -> tuple[float, str]:
    return common({name: n.constant for name, n in neurons.items()}, "tau / r, 1 / r or tau_syn / w_in"), _IN_ALL


def _snntorch_step(neurons: Mapping[str, Neurons]) -> tuple[float, str]:
    """snnTorch's exporter always writes the same."""
    step, why = _common_constant(neurons)
    if abs(step / _SNNTORCH - 1) > _SAME:
        name, n = next(iter(neurons.items()))
        raise InputError(
            f"{_CONSTANTS[n.kind]} of node {name!r} is {step:g} s; snnTorch writes {_SNNTORCH:g} s in every node "
            f"(tool='snntorch'); pass another tool=, or spike_integral={step:g} if the file was changed"
        )
    return step, why


def _spikingjelly_step(neurons: Mapping[str, Neurons]) -> tuple[float, str]:
    """``decay_input=True`` writes r = 1, which leaves the step out."""
    telling = {name: n for name, n in neurons.items() if not n.has_plain_gain}
    return _common_constant(telling) if telling else (1e-4, "the default of its exporter, as r = 1 says nothing of it")


def _rockpool_step(neurons: Mapping[str, Neurons]) -> tuple[float, str]:
    """Rockpool writes r = tau / dt * exp(-dt / tau)."""
    from scipy.special import lambertw

    steps = {}
    for name, n in neurons.items():
        if np.any(n.values["r"] == 1):
            raise InputError(
                f"r of node {name!r} is 1, from which no time step follows; Rockpool writes r = tau / dt * "
                f"exp(-dt / tau) (tool='rockpool'); name the tool that wrote the file, or pass file_time_per_step="
            )
        with np.errstate(all="ignore"):
            steps[name] = n.values["tau"] * np.real(lambertw(1 / n.values["r"]))
    return common(steps, "the time step that r = tau / dt * exp(-dt / tau) gives"), "from r and tau of the nodes"


_SNNTORCH = 1e-4
_IN_ALL = "tau / r, 1 / r or tau_syn / w_in of the nodes"

TOOLS: dict[str, Tool] = {
    "snntorch": Tool("snnTorch", "subtract", {"LIF": "step", "CubaLIF": "step"}, _snntorch_step),
    "norse": Tool(
        "Norse",
        "zero",
        {"IF": "constant", "LIF": "step", "LI": "step", "CubaLIF": "constant", "CubaLI": "constant"},
        _fixed(1e-3, "Norse's default dt, as its files do not say it; another one: file_time_per_step"),
        sums=1.0,
        ones=("r", "w_in"),
    ),
    "sinabs": Tool(
        "sinabs",
        "subtract",
        {"IF": 1.0, "LIF": 1.0, "LI": 1.0},
        _fixed(1.0, "sinabs writes times in steps"),
        bounded=frozenset({"IF"}),
        sums=1.0,
        ones=("r",),
    ),
    "spikingjelly": Tool("SpikingJelly", "zero", {"IF": "step", "LIF": "step", "CubaLIF": "step"}, _spikingjelly_step),
    "rockpool": Tool(
        "Rockpool",
        "subtract",
        {"LIF": "step", "LI": "step", "CubaLIF": "constant"},
        _rockpool_step,
        sums=1.0,
        ones=("w_in",),
    ),
    "nir": Tool(
        "NIR",
        "zero",
        dict.fromkeys(("IF", "I", "LIF", "LI", "CubaLIF", "CubaLI"), 1.0),
        None,
        bias="per-second",
        sums=1.0,
    ),
}


def common(values: Mapping[str, np.ndarray], what: str) -> float:
    """The one number that all neurons of all nodes have, to five digits.

    Raises:
        InputError: names two nodes that differ, or a node whose numbers differ or are not positive.
    """
    if not values:
        raise InputError(f"no node says {what}; pass spike_integral= and file_time_per_step=")
    ranges = {name: (float(np.min(v)), float(np.max(v))) for name, v in values.items()}
    first, (reference, _) = next(iter(ranges.items()))
    for name, (low, high) in ranges.items():
        found = f"{low:.5g}" if low == high else f"{low:.5g} .. {high:.5g}"
        if not (np.isfinite(low) and np.isfinite(high) and low > 0):
            raise InputError(f"{what} of node {name!r} is {found} s, which is no time; pass spike_integral=")
        if max(high, reference) > (1 + _SAME) * min(low, reference):
            if name == first:
                raise InputError(f"{what} differs among the neurons of node {name!r} ({found} s); pass spike_integral=")
            raise InputError(
                f"{what} is {reference:.5g} s in node {first!r} and {found} s in {name!r}, so that no single number "
                f"fits; pass spike_integral="
            )
    return float(f"{np.median(np.concatenate([np.ravel(v) for v in values.values()])):.5g}")


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """What a graph may leave open, see `read_nir`."""

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
            ("tool", tuple(TOOLS)),
            ("reset", RESETS),
            ("spikes", SPIKES_PER_UPDATE),
            ("bias", BIAS_RULES),
        ):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value in accepted):
                raise InputError(f"{name} must be one of {', '.join(map(repr, accepted))}, not {shown(value)}")
        for name in ("spike_integral", "loop_delay", "time_per_step", "file_time_per_step"):
            given = getattr(self, name)
            if given is not None and not (name == "spike_integral" and isinstance(given, str) and given == INFER):
                value = numbers(given, name)
                if value.ndim or value.dtype.kind == "b" or not value > 0:
                    raise InputError(f"{name} must be one number > 0, not {shown(given)}")
                object.__setattr__(self, name, float(on_whole_microseconds(value) if "delay" in name else value))
        if self.lower_bound is not None:
            object.__setattr__(self, "lower_bound", _lower_bound(self.lower_bound))

    @property
    def preset(self) -> Tool | None:
        return None if self.tool is None else TOOLS[self.tool]


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


# ----- one network


@dataclass(frozen=True, eq=False)
class Meaning:
    """What the values of one graph mean.

    Attributes:
        integral: of a spike in seconds, by node of neurons.
        sums: the same at a readout that only adds up.
        bias: factor of a constant current, by node; ``sums_bias`` at a readout that only adds up.
        loop_delay: seconds of the file; None for none.
        step: seconds of the recording per time step of the tool; None where there is none or it is not said.
        stretch: seconds of the file per second of the recording.
    """

    integral: Mapping[str, Parameter]
    sums: float
    bias: Mapping[str, Parameter]
    sums_bias: float
    loop_delay: float | None
    step: float | None
    stretch: float


def meaning(conventions: Conventions, neurons: Mapping[str, Neurons], assumed: Assumptions) -> Meaning:
    """Resolve the options of one graph: what is given, then the preset of the tool.

    Args:
        conventions: the options.
        neurons: of every node that has some, by name.
        assumed: collects what was assumed.

    Raises:
        InputError: for a preset of a tool that writes no such nodes, for constants that do not fit one another, and for
            options that need another one.
    """
    preset, asked = conventions.preset, conventions.spike_integral
    if preset is not None:
        for name, n in neurons.items():
            if n.kind not in preset.integral:
                raise InputError(
                    f"node {name!r} is a {n.kind}, which {preset.title} does not write (tool={conventions.tool!r}); it "
                    f"writes {', '.join(preset.integral)}"
                )
            for key in preset.ones:
                others = [v for v in np.ravel(n.values.get(key, 1.0)) if v != 1]
                if others:
                    raise InputError(
                        f"{key} of node {name!r} is {others[0]:g}; {preset.title} writes {key} = 1 "
                        f"(tool={conventions.tool!r}); name the tool that wrote the file"
                    )
        if preset.step is None and (conventions.time_per_step or conventions.file_time_per_step):
            raise InputError(f"tool={conventions.tool!r} has no time steps; leave out time_per_step")
    given: float | None
    if isinstance(asked, str):
        for name, n in neurons.items():
            if n.kind not in _CONSTANTS:
                raise InputError(
                    f"nothing can be inferred of node {name!r}, a {n.kind}; give spike_integral as a number"
                )
        given, why = _common_constant({name: n for name, n in neurons.items() if not n.has_plain_gain})
        why = f"inferred: {why}"
    else:
        given, why = asked, "spike_integral"
    file_step, said = _file_step(conventions, given, neurons)
    integral: dict[str, Parameter] = {}
    sums = 1.0
    if preset is None or given is not None:
        number = 1.0 if given is None else given
        integral, sums = dict.fromkeys(neurons, number), number
        if number != 1:
            assumed.add(f"the integral of one spike is {number:g} s ({why})")
        _point_out(conventions, number, neurons, file_step, assumed)
    else:
        for name, n in neurons.items():
            integral[name] = _preset_integral(preset, name, n, file_step)
            if np.any(np.not_equal(integral[name], 1)):
                low, high = np.min(integral[name]), np.max(integral[name])
                span = f"{low:g} s" if low == high else f"{low:g} .. {high:g} s"
                assumed.add(f"the integral of one spike is {span} (tool={conventions.tool!r})", name)
        sums = _seconds(preset.sums, file_step)
        if conventions.file_time_per_step is not None and preset.sums == "step":
            telling = {name: n for name, n in neurons.items() if not n.has_plain_gain}
            _point_out(conventions, sums, telling, file_step, assumed)
    step, stretch = conventions.time_per_step, 1.0
    if step is not None and file_step is None:
        raise InputError(
            "time_per_step needs the length of a step in the time of the file: pass tool=, file_time_per_step= or "
            "spike_integral="
        )
    if step is not None and file_step is not None:
        stretch = file_step / step
    elif preset is not None or conventions.file_time_per_step is not None:
        step = file_step
    if file_step is not None and (preset is not None or conventions.time_per_step or conventions.file_time_per_step):
        assumed.add(
            f"a time step of {preset.title if preset else 'the tool'} is {file_step:g} s of the file"
            f"{f' ({said})' if said else ''} and {step:g} s of the recording, in whose time the results are"
        )
    return Meaning(
        integral=integral,
        sums=sums,
        **_bias(conventions, integral, sums, file_step, neurons, assumed),
        loop_delay=conventions.loop_delay if conventions.loop_delay or preset is None else file_step,
        step=step,
        stretch=stretch,
    )


def _file_step(
    conventions: Conventions, given: float | None, neurons: Mapping[str, Neurons]
) -> tuple[float | None, str]:
    """Seconds of the file per time step, and where they are from; None: nobody says."""
    preset = conventions.preset
    if conventions.file_time_per_step is not None:
        return conventions.file_time_per_step, "file_time_per_step"
    if preset is None:
        # What a spike that is one step wide amounts to.
        return given, "spike_integral" if given is not None else ""
    if preset.step is None:
        return None, ""
    if given is not None and all(preset.integral[n.kind] == "step" for n in neurons.values()) and neurons:
        return given, "spike_integral"
    if not neurons and preset.sums == "step":
        return None, ""
    return preset.step(neurons)


def _preset_integral(preset: Tool, name: str, neurons: Neurons, step: float | None) -> Parameter:
    rule = preset.integral[neurons.kind]
    if rule != "constant":
        return _seconds(rule, step)
    constant = neurons.constant
    if not (np.all(np.isfinite(constant)) and np.all(constant > 0)):
        raise InputError(f"tau_syn / w_in or 1 / r of node {name!r} is no time; pass spike_integral=")
    return uniform(constant)


def _seconds(rule: float | str, step: float | None) -> float:
    if isinstance(rule, str):
        return 1.0 if step is None else step
    return rule


def _point_out(
    conventions: Conventions,
    number: float,
    neurons: Mapping[str, Neurons],
    step: float | None,
    assumed: Assumptions,
) -> None:
    """Says so where the file's own constant is far from the integral of a spike that was given."""
    preset = conventions.preset
    what = "spike_integral" if conventions.spike_integral is not None or preset is None else "file_time_per_step"
    if preset is not None and preset.step is not None and preset.sums == "step":
        try:
            step, _ = preset.step(neurons)
        except InputError:  # no number fits all nodes, which is why one was given
            return
    for name, n in neurons.items():
        if preset is not None:
            own = np.asarray(_preset_integral(preset, name, n, step))
            said = f"tool={conventions.tool!r} says"
        elif n.kind not in _CONSTANTS or n.has_plain_gain:  # nothing is known of a node of the user
            continue
        else:
            own, said = n.constant, f"{_CONSTANTS[n.kind]} is"
        own = np.unique(own)
        if len(own) and np.all((own > 0) & np.isfinite(own)) and (own[0] > _FAR * number or own[-1] * _FAR < number):
            span = f"{own[0]:.5g}" if own[-1] <= own[0] * (1 + _SAME) else f"{own[0]:.5g} .. {own[-1]:.5g}"
            assumed.add(f"{what} is {number:g} s, though {said} {span} s: check how far a spike moves", name)


_CONSTANTS = dict.fromkeys(("IF", "I"), "1 / r") | dict.fromkeys(("LIF", "LI"), "tau / r")
_CONSTANTS |= dict.fromkeys(("CubaLIF", "CubaLI"), "tau_syn / w_in")


def _bias(
    conventions: Conventions,
    integral: Mapping[str, Parameter],
    sums: float,
    step: float | None,
    neurons: Mapping[str, Neurons],
    assumed: Assumptions,
) -> dict[str, Any]:
    """Factors of constant currents."""
    preset = conventions.preset
    rule = conventions.bias or (preset.bias if preset is not None else "per-second")
    if rule == "per-second":
        return {"bias": dict.fromkeys(neurons, 1.0), "sums_bias": 1.0}
    if step is None or (preset is None and conventions.file_time_per_step is None):
        raise InputError(
            "bias='per-step' needs the length of a step in the time of the file: pass tool= or file_time_per_step="
        )
    with np.errstate(all="ignore"):  # what float64 does not hold is refused at the neurons
        factors: dict[str, Parameter] = {name: uniform(np.divide(value, step)) for name, value in integral.items()}
    for name, n in neurons.items():
        if n.is_biased and np.any(np.abs(np.subtract(factors[name], 1)) > 1e-9):
            assumed.add("a bias counts once per time step, like a spike of its weight (bias='per-step')", name)
    return {"bias": factors, "sums_bias": sums / step}
