"""Facts that each tool's exporter leaves out of its files: the presets of ``tool=``.

A time-stepped tool adds ``w`` to a neuron when a spike arrives and ``b`` in every step; its exporter turns the update
into an equation in continuous time. Two numbers recover the update: the integral of one spike, and the length of a step
in the time of the file. In a node whose input the exporter scales by the step, the constant

    tau / r (LIF, LI),   1 / r (IF, I),   tau_syn / w_in (CubaLIF, CubaLI)

is that integral. A bias counts like a spike of weight b in every step, a current of ``b * integral / step``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.neuron import Reset
from mtt_brian.translate.conventions import BiasRule, Conventions, ToolName

#: Constants of one network that differ by at most this are one number, because exporters use single precision.
SAME = 0.01


@dataclass(frozen=True, eq=False)
class Neurons:
    """The values of the neurons of one node that their meaning depends on.

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
        with np.errstate(all="ignore"):
            return self.values.get("tau_syn", self.values.get("tau", np.float64(1.0))) / gain

    @property
    def has_plain_gain(self) -> bool:
        """Whether the gain of the input is 1 everywhere; the constant is then a time constant without the step."""
        gain = self.values["w_in"] if "w_in" in self.values else self.values["r"]
        return "tau" in self.values and bool(np.all(gain == 1))


@dataclass(frozen=True)
class Tool:
    """Facts that a tool's exporter leaves out of its files.

    Attributes:
        title: name as its makers write it.
        reset: the tool's default. A reset by subtraction gives many spikes per update.
        integral: of a spike by type of node: seconds, ``"step"`` or ``"constant"`` (of the node). The tool's exporter
            does not write missing types.
        step: seconds of the file per time step, found in the neurons of the file; None: there is no step.
        bias: see `Conventions`.
        bounded: types whose lower bound is minus the threshold.
        sums: integral of a spike at a readout that only adds up; ``"step"`` or seconds.
        ones: values that the exporter writes as 1.
        never: types of linear nodes that the exporter does not write.
        starts: type of a node -> its field in which the membrane starts; 0 for other types.
        left_out: fields that the exporter does not write, so that the file holds NIR's default.
    """

    title: str
    reset: Reset
    integral: Mapping[str, float | Literal["step", "constant"]]
    step: Callable[[Mapping[str, Neurons]], tuple[float, str]] | None
    bias: BiasRule = "per-step"
    bounded: frozenset[str] = frozenset()
    sums: float | Literal["step"] = "step"
    ones: tuple[str, ...] = ()
    never: tuple[str, ...] = ("Scale",)
    starts: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def _fixed(seconds: float, why: str) -> Callable[[Mapping[str, Neurons]], tuple[float, str]]:
    return lambda neurons: (seconds, why)


def common_constant(neurons: Mapping[str, Neurons]) -> tuple[float, str]:
    """The integral of a spike from the constants of all nodes, and its origin."""
    return common({name: n.constant for name, n in neurons.items()}, "tau / r, 1 / r or tau_syn / w_in"), _IN_ALL


def _snntorch_step(neurons: Mapping[str, Neurons]) -> tuple[float, str]:
    """snnTorch's exporter always writes the same."""
    step, why = common_constant(neurons)
    if abs(step / _SNNTORCH - 1) > SAME:
        name, n = next(iter(neurons.items()))
        raise InputError(
            f"{CONSTANTS[n.kind]} of node {name!r} is {step:g} s; snnTorch writes {_SNNTORCH:g} s in every node "
            f"(tool='snntorch'); pass another tool=, or spike_integral={step:g} if the file was changed"
        )
    return step, why


def _spikingjelly_step(neurons: Mapping[str, Neurons]) -> tuple[float, str]:
    """``decay_input=True`` writes r = 1, which does not contain the step."""
    informative = {name: n for name, n in neurons.items() if not n.has_plain_gain}
    return (
        common_constant(informative)
        if informative
        else (1e-4, "the default of its exporter, as r = 1 does not contain it")
    )


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


CONSTANTS = dict.fromkeys(("IF", "I"), "1 / r") | dict.fromkeys(("LIF", "LI"), "tau / r")
CONSTANTS |= dict.fromkeys(("CubaLIF", "CubaLI"), "tau_syn / w_in")
#: Of snnTorch's exporter, for every network.
_SNNTORCH = 1e-4
_IN_ALL = "tau / r, 1 / r or tau_syn / w_in of the nodes"

TOOLS: dict[ToolName, Tool] = {
    "snntorch": Tool(
        "snnTorch",
        "subtract",
        {"LIF": "step", "CubaLIF": "step"},
        _snntorch_step,
        never=("Scale", "SumPool2d", "Conv1d"),
    ),
    "norse": Tool(
        "Norse",
        "zero",
        {"IF": "constant", "LIF": "step", "LI": "step", "CubaLIF": "constant", "CubaLI": "constant"},
        _fixed(1e-3, "Norse's default dt, as its files do not contain it; another one: file_time_per_step"),
        sums=1.0,
        ones=("r", "w_in"),
        starts=dict.fromkeys(("LIF", "LI", "CubaLIF", "CubaLI"), "v_leak") | {"IF": "v_reset"},
        left_out=("v_reset",),
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
    "spikingjelly": Tool(
        "SpikingJelly",
        "zero",
        {"IF": "step", "LIF": "step", "CubaLIF": "step"},
        _spikingjelly_step,
        never=("Scale", "SumPool2d", "Conv1d"),
        starts=dict.fromkeys(("IF", "LIF", "CubaLIF"), "v_reset"),
    ),
    "rockpool": Tool(
        "Rockpool",
        "subtract",
        {"LIF": "step", "LI": "step", "CubaLIF": "constant"},
        _rockpool_step,
        sums=1.0,
        ones=("w_in",),
        never=("Scale", "Conv1d", "Conv2d", "SumPool2d", "AvgPool2d", "Flatten"),
    ),
    "nir": Tool(
        "NIR",
        "zero",
        dict.fromkeys(("IF", "I", "LIF", "LI", "CubaLIF", "CubaLI"), 1.0),
        None,
        bias="per-second",
        sums=1.0,
        never=(),
    ),
}


def common(values: Mapping[str, np.ndarray], what: str) -> float:
    """The number that all neurons of all nodes share, to five digits.

    Raises:
        InputError: names two nodes that differ, or a node whose numbers differ or are not positive.
    """
    if not values:
        raise InputError(f"no node contains {what}; pass spike_integral= and file_time_per_step=")
    ranges = {name: (float(np.min(v)), float(np.max(v))) for name, v in values.items()}
    first, (reference, _) = next(iter(ranges.items()))
    for name, (low, high) in ranges.items():
        found = f"{low:.5g}" if low == high else f"{low:.5g} .. {high:.5g}"
        if not (np.isfinite(low) and np.isfinite(high) and low > 0):
            raise InputError(f"{what} of node {name!r} is {found} s, which is no time; pass spike_integral=")
        if max(high, reference) > (1 + SAME) * min(low, reference):
            if name == first:
                raise InputError(f"{what} differs among the neurons of node {name!r} ({found} s); pass spike_integral=")
            raise InputError(
                f"{what} is {reference:.5g} s in node {first!r} and {found} s in {name!r}, so that no single number "
                f"fits; pass spike_integral="
            )
    return float(f"{np.median(np.concatenate([np.ravel(v) for v in values.values()])):.5g}")


def preset_of(conventions: Conventions) -> Tool | None:
    """The preset of the tool that wrote a graph, if it is given."""
    return None if conventions.tool is None else TOOLS[conventions.tool]
