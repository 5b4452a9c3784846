"""The meaning of the values of one graph: `Conventions`, then the preset of the tool, resolved for its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.neuron import Parameter
from mtt_brian.translate.conventions import Conventions
from mtt_brian.translate.linear_nodes import Assumptions
from mtt_brian.translate.nir_files import uniform
from mtt_brian.translate.tools import CONSTANTS, SAME, Neurons, Tool, common_constant, preset_of

#: An integral of spikes that differs from the file's constant by more than this factor gives a note.
_FAR = 2.0


@dataclass(frozen=True, eq=False)
class Meaning:
    """The meaning of the values of one graph.

    Attributes:
        integral: of a spike in seconds, by node of neurons.
        sums: the same at a readout that only sums.
        bias: factor of a constant current, by node; ``sums_bias`` at a readout that only sums.
        loop_delay: seconds of the file; None for none.
        step: seconds of the recording per time step of the tool; None if there is none or it is not given.
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
    """Resolves the options of one graph: given values, then the preset of the tool.

    Args:
        conventions: the options.
        neurons: of every node with neurons, by name.
        assumed: collects the assumptions.

    Raises:
        InputError: for a preset of a tool that writes no such nodes, for inconsistent constants, and for options that
            need another one.
    """
    preset = preset_of(conventions)
    if preset is not None:
        _check_preset(preset, conventions, neurons)
    given, why = _given_integral(conventions, neurons)
    file_step, origin = _file_step(conventions, given, neurons)
    if preset is None or given is not None:
        sums = 1.0 if given is None else given
        integral: dict[str, Parameter] = dict.fromkeys(neurons, sums)
        if sums != 1:
            assumed.add(f"the integral of one spike is {sums:g} s ({why})")
        _point_out(conventions, sums, neurons, file_step, assumed)
    else:
        integral = _preset_integrals(preset, conventions, neurons, file_step, assumed)
        sums = _seconds(preset.sums, file_step)
        if conventions.file_time_per_step is not None and preset.sums == "step":
            informative = {name: n for name, n in neurons.items() if not n.has_plain_gain}
            _point_out(conventions, sums, informative, file_step, assumed)
    step, stretch = conventions.time_per_step, 1.0
    if step is not None and file_step is None:
        if preset is not None:
            raise InputError(
                "no neuron in the graph tells the length of a step in the file's time: pass file_time_per_step="
            )
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
            f"{f' ({origin})' if origin else ''} and {step:g} s of the recording, in whose time the results are"
        )
    return Meaning(
        integral=integral,
        sums=sums,
        **_bias(conventions, integral, sums, file_step, neurons, assumed),
        loop_delay=conventions.loop_delay if conventions.loop_delay or preset is None else file_step,
        step=step,
        stretch=stretch,
    )


def _check_preset(preset: Tool, conventions: Conventions, neurons: Mapping[str, Neurons]) -> None:
    """Refuses neurons and options that do not go with the tool."""
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


def _given_integral(conventions: Conventions, neurons: Mapping[str, Neurons]) -> tuple[float | None, str]:
    """The integral of a spike that the caller gives or that is to be inferred, and its origin; None: neither."""
    given = conventions.spike_integral
    if not isinstance(given, str):
        return given, "spike_integral"
    for name, n in neurons.items():
        if n.kind not in CONSTANTS:
            raise InputError(f"nothing can be inferred of node {name!r}, a {n.kind}; give spike_integral as a number")
    constant, why = common_constant({name: n for name, n in neurons.items() if not n.has_plain_gain})
    return constant, f"inferred: {why}"


def _preset_integrals(
    preset: Tool, conventions: Conventions, neurons: Mapping[str, Neurons], step: float | None, assumed: Assumptions
) -> dict[str, Parameter]:
    """The integral of a spike by node, as the tool defines it."""
    integrals = {name: _preset_integral(preset, name, n, step) for name, n in neurons.items()}
    for name, integral in integrals.items():
        if np.any(np.not_equal(integral, 1)):
            low, high = np.min(integral), np.max(integral)
            span = f"{low:g} s" if low == high else f"{low:g} .. {high:g} s"
            assumed.add(f"the integral of one spike is {span} (tool={conventions.tool!r})", name)
    return integrals


def check_linear_nodes(conventions: Conventions, kinds: Mapping[str, str]) -> None:
    """Checks that the given tool writes such linear nodes.

    Args:
        conventions: the options.
        kinds: name -> type of every node.

    Raises:
        InputError: names the first node that it does not write.
    """
    preset = preset_of(conventions)
    for name, kind in kinds.items():
        if preset is not None and kind in preset.never:
            raise InputError(
                f"node {name!r} is a {kind}, which {preset.title} does not write (tool={conventions.tool!r}); name the "
                "tool that wrote the file"
            )


def _file_step(
    conventions: Conventions, given: float | None, neurons: Mapping[str, Neurons]
) -> tuple[float | None, str]:
    """Seconds of the file per time step, and their origin; None: unknown."""
    preset = preset_of(conventions)
    if conventions.file_time_per_step is not None:
        return conventions.file_time_per_step, "file_time_per_step"
    if preset is None:
        # The integral of a spike that is one step wide.
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
    """Adds a note if the file's constant differs much from the given integral of a spike."""
    preset = preset_of(conventions)
    what = "spike_integral" if conventions.spike_integral is not None or preset is None else "file_time_per_step"
    if preset is not None and preset.step is not None and preset.sums == "step":
        try:
            step, _ = preset.step(neurons)
        except InputError:  # no number fits all nodes, so the caller has given one
            return
    for name, n in neurons.items():
        if preset is not None:
            own = np.asarray(_preset_integral(preset, name, n, step))
            origin = f"tool={conventions.tool!r} gives"
        elif n.kind not in CONSTANTS or n.has_plain_gain:  # the constant of a user's node is unknown
            continue
        else:
            own, origin = n.constant, f"{CONSTANTS[n.kind]} is"
        own = np.unique(own)
        if len(own) and np.all((own > 0) & np.isfinite(own)) and (own[0] > _FAR * number or own[-1] * _FAR < number):
            span = f"{own[0]:.5g}" if own[-1] <= own[0] * (1 + SAME) else f"{own[0]:.5g} .. {own[-1]:.5g}"
            assumed.add(f"{what} is {number:g} s, though {origin} {span} s: check how far a spike moves", name)


def _bias(
    conventions: Conventions,
    integral: Mapping[str, Parameter],
    sums: float,
    step: float | None,
    neurons: Mapping[str, Neurons],
    assumed: Assumptions,
) -> dict[str, Any]:
    """Factors of constant currents."""
    preset = preset_of(conventions)
    rule = conventions.bias or (preset.bias if preset is not None else "per-second")
    if rule == "per-second":
        return {"bias": dict.fromkeys(neurons, 1.0), "sums_bias": 1.0}
    if step is None or (preset is None and conventions.file_time_per_step is None):
        remedy = "pass tool= or file_time_per_step=" if preset is None else "pass file_time_per_step="
        raise InputError(f"bias='per-step' needs the length of a step in the time of the file: {remedy}")
    with np.errstate(all="ignore"):  # values beyond float64 are refused at the neurons
        factors: dict[str, Parameter] = {name: uniform(np.divide(value, step)) for name, value in integral.items()}
    for name, n in neurons.items():
        if n.is_biased and np.any(np.abs(np.subtract(factors[name], 1)) > 1e-9):
            assumed.add("a bias counts once per time step, like a spike of its weight (bias='per-step')", name)
    return {"bias": factors, "sums_bias": sums / step}
