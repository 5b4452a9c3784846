"""A graph in the form for another tool's importer, so that the tool runs the network with the same spikes.

A time-stepped tool adds w to a membrane where a spike arrives and b in every step, multiplies the membrane by a decay
in every step, and keeps the rules that its importer hard-codes. Potentials are therefore scaled so that a spike through
weight w moves the membrane by w; a decay per step that an importer computes as 1 - dt / tau is written as the tau that
gives the network's own decay; biases become their increments per step. The behaviour of the importers is that of their
source code: snnTorch 1.0.0 (`import_nir`), Norse 1.1.0 (`import_nir`), SpikingJelly 2.0.0 (`nir_exchange.from_nir`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mtt_brian.circuit.model import Circuit, Population
from mtt_brian.errors import InputError, check_choice, check_number
from mtt_brian.neuron import IF, LIF, CubaLIF
from mtt_brian.text import listed, shown
from mtt_brian.translate.conventions import Conventions, conventions_of
from mtt_brian.translate.cycles import NoDelay, has_loop
from mtt_brian.translate.flat_graph import flatten, metadata_of
from mtt_brian.translate.from_nir import read_nir
from mtt_brian.translate.linear_nodes import Reading
from mtt_brian.translate.neuron_rules import parameters_of
from mtt_brian.translate.nir_files import load_graph, naming, numbers, typed_shape
from mtt_brian.translate.node_fields import bias_of, stored_as
from mtt_brian.translate.shapes import Shapes
from mtt_brian.translate.tools import TOOLS, Tool
from mtt_brian.translate.wiring import Wiring

if TYPE_CHECKING:
    import os

    import nir

#: Properties that the caller may allow to be lost.
LOSSES = ("reset", "spikes", "lower_bound", "refractory")
#: Metadata of nodes that become values in the file, or that only this package reads.
_METADATA = {*LOSSES, "bias_per_step", "decay_per_step"}
#: Options of `Conventions` that define the rule of a neuron, but not the units of the graph.
_OPTIONS = ("reset", "spikes", "lower_bound")
#: In steps: so long that 1 - dt / tau is 1, for importers without a neuron without leak.
_NO_LEAK = 1e20


@dataclass(frozen=True)
class _Scaled:
    """A neuron in the units of a tool with time steps: a spike through weight w adds w.

    Attributes:
        threshold, v_reset, v_leak: in these units.
        tau, tau_syn: time constants in steps that give the decay per step as 1 - 1 / tau; None: no leak, no synapse.
    """

    threshold: float
    v_reset: float
    v_leak: float
    tau: float | None
    tau_syn: float | None


@dataclass(frozen=True)
class Importer:
    """The properties of a tool's importer. All neurons of these tools reset to a value, fire once and have no bound.

    Attributes:
        title: official name.
        step: seconds of the file per time step.
        linear: types of linear nodes that it reads.
        neuron: (scaled neuron, step, shape) -> node.
        v_reset: whether it reads ``v_reset``; otherwise it is 0.
        leak_to_reset: whether the membrane decays to ``v_reset``; otherwise to 0.
        plain_linear: whether it reads Linear correctly; otherwise these nodes are written as Affine.
        groups: whether it reads convolutions with groups.
    """

    title: str
    step: float
    linear: tuple[str, ...]
    neuron: Callable[[_Scaled, float, tuple[int, ...]], Any]
    v_reset: bool = False
    leak_to_reset: bool = False
    plain_linear: bool = True
    groups: bool = True


def for_tool(
    graph: nir.NIRGraph | str | os.PathLike[str],
    tool: str,
    *,
    step: float | None = None,
    allow: str | Collection[str] = (),
    conventions: Conventions | None = None,
    **options: Any,
) -> tuple[nir.NIRGraph, tuple[str, ...]]:
    """A graph that a tool's importer reads as the same network with time steps.

    Args:
        graph: a graph, or the path of a ``.nir`` file, in NIR's own units, for instance an export of this package.
        tool: ``"snntorch"``, ``"norse"`` or ``"spikingjelly"``; or ``"nir"``, which has no time steps: metadata are
            replaced by NIR's definitions.
        step: seconds of a recording per time step; needed for leaks and biases.
        allow: properties that may be lost, of `LOSSES`: a reset by subtraction, several spikes per update, a lower
            bound, a refractory period.
        conventions, **options: ``reset``, ``spikes``, ``lower_bound`` for neurons without them in their metadata.

    Returns:
        the graph, and a sentence for each lost property.

    Raises:
        InputError: for a network that the tool's importer does not read, and for a property that is lost and not in
            ``allow``.
    """
    given = conventions_of(conventions, options)
    if other := [name for name in given.given if name not in _OPTIONS]:
        raise InputError(
            f"{other[0]} cannot be given here, the graph keeps its units and delays; {listed(_OPTIONS)} can"
        )
    if isinstance(tool, str) and tool in _NOT_READ:
        raise InputError(f"for_tool={tool!r}: {_NOT_READ[tool]}")
    check_choice("for_tool", tool, (*IMPORTERS, "nir"))
    allow = (allow,) if isinstance(allow, str) else allow
    if not isinstance(allow, Collection):
        raise InputError(f"allow names what may be lost, of {listed(LOSSES)}, not {shown(allow)}")
    if wrong := [name for name in allow if name not in LOSSES]:
        raise InputError(f"allow names what may be lost, of {listed(LOSSES)}, not {shown(wrong[0])}")
    if step is not None:
        step = check_number("step", step, most=1e9)
        if not step > 0:
            raise InputError(f"step must be > 0 seconds per time step, not {step}")
        if tool == "nir":
            raise InputError("step has no effect on tool 'nir', which has no time steps; leave it out")
    with naming(graph):
        loaded = load_graph(graph)
        preset = TOOLS[tool]  # type: ignore[index]
        title = preset.title
        try:
            circuit = read_nir(loaded, given)
        except NoDelay as error:
            remedy = "give it a Delay > 0" if tool == "nir" else "networks without loops are"
            loop = str(error).partition(NoDelay.WHY)[0]
            raise InputError(f"{loop}, and is not written for {title}; {remedy}") from None
        lost = (*_losses(circuit, title, allow), *_starts(circuit, preset), *_other_metadata(loaded))
        written = _plain(loaded, circuit) if tool == "nir" else _written(loaded, circuit, IMPORTERS[tool], step)
        _fill_in_shapes(written, circuit)
        return written, lost


def _fill_in_shapes(graph: nir.NIRGraph, circuit: Circuit) -> None:
    """Gives nodes of a graph without nested ones the shapes of their input that the source left out."""
    import nir

    flat = flatten(graph)
    wiring = Wiring(flat)
    reading = Reading(batch_axes=len(flat.input_shape) - len(circuit.input_shape))
    parameters = {name: parameters_of(wiring, name) for name in wiring.neurons()}
    shapes = Shapes(wiring, parameters, reading, circuit.input_shape)
    for name, node in graph.nodes.items():
        if isinstance(node, nir.Conv1d | nir.Conv2d) and node.input_shape is None:
            sizes = shapes.into(name)[1:]
            node.input_shape = sizes if isinstance(node, nir.Conv2d) else sizes[0]
        elif isinstance(node, nir.Flatten) and typed_shape(node.input_type, "input") is None:
            node.input_type = {"input": np.array(shapes.into(name))}
        elif isinstance(node, nir.Output) and typed_shape(node.output_type, "output") is None:
            node.output_type = {"output": np.array(shapes.into(name))}


def _other_metadata(graph: nir.NIRGraph) -> list[str]:
    """A sentence for each key of metadata that does not belong to the network and is left out."""
    found: dict[str, list[str]] = {}
    for name, node in flatten(graph).nodes.items():
        for key in metadata_of(node, name):
            if key not in _METADATA:
                found.setdefault(key, []).append(name)
    sentences = [f"left out are the metadata {key!r} (nodes {listed(names)})" for key, names in found.items()]
    return sentences + [
        f"left out are the metadata {key!r} of the graph"
        for key in metadata_of(graph, "the graph")
        if key != "duration"
    ]


def _starts(circuit: Circuit, preset: Tool) -> list[str]:
    """A sentence for each field other than 0 in which the tool starts membranes; a run here starts them at 0."""
    found: dict[str, list[str]] = {}
    for p in circuit.populations:
        field = preset.starts.get(type(p.rule).__name__)
        if p.rule.fires and field is not None and np.any(getattr(p.rule, field, 0)):
            found.setdefault(field, []).append(p.name)
    return [
        f"{preset.title} starts the membrane at {field}, a run here at 0 (nodes {listed(names)})"
        for field, names in found.items()
    ]


def _losses(circuit: Circuit, title: str, allow: Collection[str]) -> tuple[str, ...]:
    """Sentences about lost and allowed properties."""
    found: dict[str, list[str]] = {}
    for p in circuit.populations:
        rule = p.rule
        if rule.lower_bound is not None:
            found.setdefault("lower_bound", []).append(p.name)
        if np.any(rule.refractory):
            found.setdefault("refractory", []).append(p.name)
        if rule.fires and rule.reset == "subtract":
            found.setdefault("reset", []).append(p.name)
            if rule.spikes == "many":
                found.setdefault("spikes", []).append(p.name)
    what = {
        "reset": f"the reset by subtraction: {title} resets to a value",
        "spikes": f"several spikes per update: {title} has one",
        "lower_bound": f"the lower bound of the membrane: {title} has none",
        "refractory": f"the refractory period: {title} has none",
    }
    for name in LOSSES:
        if name in found and name not in allow:
            raise InputError(
                f"node {found[name][0]!r}: a file cannot keep {what[name]}; allow={name!r} lets it be lost"
            )
    return tuple(f"lost is {what[name]} (nodes {listed(found[name])})" for name in LOSSES if name in found)


def _written(graph: nir.NIRGraph, circuit: Circuit, importer: Importer, step: float | None) -> nir.NIRGraph:
    import nir

    flat = flatten(graph).without_inner_ends()
    if has_loop([p.name for p in circuit.populations], list(circuit.connections)):
        raise InputError(f"the network has a loop, which is not written for {importer.title}")
    populations = circuit.population
    nodes: dict[str, Any] = {}
    for name, node in flat.nodes.items():
        kind = type(node).__name__
        if isinstance(node, nir.Input | nir.Output):
            nodes[name] = _without_metadata(node)
        elif name in populations:
            scaled = _scaled(populations[name], importer, step)
            nodes[name] = importer.neuron(scaled, importer.step, populations[name].shape)
        elif kind in importer.linear:
            nodes[name] = _linear(node, name, importer, step)
        else:
            accepted = ", ".join(["IF", "LIF", "CubaLIF", *importer.linear])
            raise InputError(f"node {name!r} is a {kind}, which {importer.title} does not read; it reads {accepted}")
    return nir.NIRGraph(nodes, flat.edges, type_check=False)


def _scaled(population: Population, importer: Importer, step: float | None) -> _Scaled:
    """A population's neurons in the units of the tool."""
    rule, name = population.rule, population.name
    if not rule.fires or type(rule) not in (IF, LIF, CubaLIF):
        raise InputError(f"node {name!r} is a neuron that {importer.title} does not read; it reads IF, LIF and CubaLIF")
    names = ("threshold", "v_reset", "r", "v_leak", "tau", "tau_syn", "w_in")
    values: dict[str, float] = {}
    for key in names:
        value = np.unique(np.asarray(getattr(rule, key, 0.0), dtype=np.float64))
        if len(value) != 1:
            raise InputError(f"{key} of node {name!r} differs from neuron to neuron; {importer.title} has one for all")
        values[key] = float(value[0])
    gain = values["r"]
    tau = tau_syn = None
    if isinstance(rule, LIF):
        step = _needed(step, f"node {name!r} leaks")
        tau = 1 / -np.expm1(-step / values["tau"])
        gain /= values["tau"]
    if isinstance(rule, CubaLIF):
        assert step is not None
        tau_syn = 1 / -np.expm1(-step / values["tau_syn"])
        gain *= step * values["w_in"] / values["tau_syn"]
    if not gain > 0:
        raise InputError(f"node {name!r}: a spike of weight 1 moves the membrane by {gain:g}; accepted are jumps > 0")
    v_reset, v_leak = values["v_reset"] / gain, values["v_leak"] / gain
    if v_reset and not importer.v_reset:
        raise InputError(f"node {name!r}: v_reset is {values['v_reset']:g}; {importer.title} reads 0 only")
    if tau is not None and v_leak != (v_reset if importer.leak_to_reset and tau_syn is None else 0):
        expected = f"v_reset, {values['v_reset']:g}," if importer.leak_to_reset else "0"
        raise InputError(f"node {name!r}: v_leak is {values['v_leak']:g}; {importer.title} reads {expected} only")
    return _Scaled(values["threshold"] / gain, v_reset, v_leak, tau, tau_syn)


def _linear(node: Any, name: str, importer: Importer, step: float | None) -> Any:
    """A linear node; its bias is its increment per step."""
    import nir

    written = _without_metadata(node)
    if np.any(bias := bias_of(node)):
        per_step = bias.astype(np.float64) * _needed(step, f"node {name!r} has a bias")
        written.bias = stored_as(bias, per_step)
    if isinstance(node, nir.Conv2d) and not importer.groups and node.groups != 1:
        raise InputError(f"node {name!r} has {node.groups} groups; {importer.title} reads convolutions with one")
    if isinstance(node, nir.Linear) and not importer.plain_linear:
        weight = numbers(node.weight, f"weight of node {name!r}")
        return nir.Affine(weight, np.zeros(weight.shape[0], weight.dtype))
    return written


def _needed(step: float | None, why: str) -> float:
    if step is None:
        raise InputError(f"{why}: pass step=, the seconds of a recording per time step of the tool")
    return step


def _without_metadata(node: Any) -> Any:
    node = copy.copy(node)
    node.metadata = {}
    return node


def _plain(graph: nir.NIRGraph, circuit: Circuit) -> nir.NIRGraph:
    """The graph by NIR's definitions, without metadata."""
    import nir

    flat = flatten(graph).without_inner_ends()
    nodes = {name: _without_metadata(node) for name, node in flat.nodes.items()}
    for name, node in nodes.items():
        if name in circuit.population and getattr(node, "v_reset", 0) is None:
            node.v_reset = np.zeros(circuit.population[name].shape)
    return nir.NIRGraph(nodes, flat.edges, type_check=False)


# ----- the importers


def _lif(n: _Scaled, step: float, shape: tuple[int, ...], norm: bool = False) -> Any:
    """With ``norm``, for an importer that multiplies the input of a membrane by dt / tau and does not read r."""
    import nir

    tau = _NO_LEAK if n.tau is None else n.tau
    if n.tau_syn is not None:
        return nir.CubaLIF(
            tau_syn=np.full(shape, n.tau_syn * step),
            tau_mem=np.full(shape, tau * step),
            r=np.full(shape, tau),
            v_leak=np.full(shape, n.v_leak),
            v_threshold=np.full(shape, n.threshold),
            v_reset=np.full(shape, n.v_reset),
            w_in=np.full(shape, n.tau_syn),
        )
    return nir.LIF(
        tau=np.full(shape, tau * step),
        r=np.full(shape, 1.0 if norm else tau),
        v_leak=np.full(shape, n.v_leak),
        v_threshold=np.full(shape, n.threshold / tau if norm else n.threshold),
        v_reset=np.full(shape, n.v_reset),
    )


def _spikingjelly(n: _Scaled, step: float, shape: tuple[int, ...]) -> Any:
    import nir

    if n.tau is None:
        return nir.IF(np.full(shape, 1 / step), np.full(shape, n.threshold), np.full(shape, n.v_reset))
    return _lif(n, step, shape)


def _norse(n: _Scaled, step: float, shape: tuple[int, ...]) -> Any:
    import nir

    if n.tau is None:
        return nir.IF(np.full(shape, 1.0), np.full(shape, n.threshold), np.full(shape, n.v_reset))
    return _lif(n, step, shape, norm=True)


#: By their names in `Conventions`.
IMPORTERS: Mapping[str, Importer] = {
    "snntorch": Importer("snnTorch", 1e-4, ("Affine", "Linear", "Conv2d", "Flatten", "AvgPool2d"), _lif),
    "norse": Importer("Norse", 1e-3, ("Affine", "Linear", "Conv2d", "Flatten"), _norse, plain_linear=False),
    "spikingjelly": Importer(
        "SpikingJelly",
        1e-4,
        ("Affine", "Linear", "Conv2d", "Flatten", "AvgPool2d"),
        _spikingjelly,
        v_reset=True,
        leak_to_reset=True,
        groups=False,
    ),
}
_NOT_READ = {
    "sinabs": "sinabs 3.1.3 needs nir 1.0.4, which does not read files of today's NIR (its neurons have a v_reset)",
    "rockpool": "Rockpool 3.1.0 does not read IF and fails at LIF, which its importer asks for tau_mem",
}
