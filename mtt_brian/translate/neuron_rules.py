"""Nodes of neurons -> rules: from their values and metadata, then the caller's options, then the tool's preset."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mtt_brian.errors import InputError, check_choice
from mtt_brian.neuron import IF, LIF, RESETS, SPIKES_PER_UPDATE, NeuronRule, Parameter
from mtt_brian.text import shown
from mtt_brian.translate.biases import Biases
from mtt_brian.translate.conventions import NONE, Conventions, bound_of
from mtt_brian.translate.flat_graph import metadata_of
from mtt_brian.translate.linear_nodes import Reading, all_infinite
from mtt_brian.translate.meaning import Meaning
from mtt_brian.translate.nir_files import numbers, plain, uniform
from mtt_brian.translate.node_types import NEURONS
from mtt_brian.translate.shapes import Shapes
from mtt_brian.translate.tools import preset_of
from mtt_brian.translate.wiring import Wiring


class Rules:
    """Makes the rules of the neurons of one graph.

    Args:
        shapes: of the graph.
        parameters: of every neuron (`parameters_of`).
        biases: of the graph.
        conventions: facts that the graph does not contain.
        meaning: the same, resolved for the graph.
        reading: collects the assumptions.
    """

    def __init__(
        self,
        shapes: Shapes,
        parameters: Mapping[str, Mapping[str, np.ndarray]],
        biases: Biases,
        conventions: Conventions,
        meaning: Meaning,
        reading: Reading,
    ) -> None:
        self._shapes, self._wiring = shapes, shapes.wiring
        self._parameters, self._biases = parameters, biases
        self._conventions, self._preset, self._meaning = conventions, preset_of(conventions), meaning
        self._reading, self._assumed = reading, reading.assumed
        #: Options that metadata contradict, with the nodes; options that were used.
        self._contradicted: dict[str, tuple[str, list[str]]] = {}
        self._used: set[str] = set()

    def rule(self, name: str) -> NeuronRule:
        kind = NEURONS[self._wiring.kind(name)]
        metadata = metadata_of(self._wiring.nodes[name], name)
        parameters: dict[str, Any] = {}
        for ours, value in self._parameters[name].items():
            parameters[ours] = uniform(self._per_neuron(value, ours, name))
            if self._preset is not None and ours in self._preset.left_out and not np.any(value):
                self._assumed.add(f"{ours} is 0, because {self._preset.title}'s exporter does not write it", name)
        if kind.fires and not kind.own_reset:
            parameters |= self._reset(name, metadata, parameters)
        elif not kind.fires:
            parameters["threshold"] = None
        threshold = parameters.get("threshold", kind.rule.threshold)
        if "lower_bound" in metadata:
            bound = numbers(metadata["lower_bound"], f"lower_bound of node {name!r}", bools=False)
            parameters["lower_bound"] = uniform(self._per_neuron(bound, "lower_bound", name))
            if kind.fires:
                self._compare("lower_bound", parameters["lower_bound"], name, threshold)
        elif kind.fires:
            parameters["lower_bound"] = self._lower_bound(name, threshold)
        if "refractory" in metadata:
            seconds = self._reading.seconds(metadata["refractory"], f"refractory of node {name!r}", name)
            parameters["refractory"] = uniform(self._per_neuron(seconds, "refractory", name))
        self._start(name, parameters)
        if self._wiring.sources[name]:
            with np.errstate(all="ignore"):
                bias = self._biases.into(name) * np.asarray(self._meaning.bias[name])
            parameters["bias"] = uniform(bias)
        rule_type = kind.rule
        if rule_type is LIF and np.any(np.isinf(parameters["tau"])):
            # tau dv/dt = (v_leak - v) + r I: without a leak, and with a finite r no input moves it.
            self._assumed.add("tau is infinite and r is not, so that no spike and no current moves the membrane", name)
            rule_type = IF
            parameters = {key: value for key, value in parameters.items() if key not in ("tau", "v_leak")} | {"r": 0.0}
        with naming_node(f"node {name!r}", scaling_options(self._conventions)):
            return rule_type(**parameters)

    def _start(self, name: str, parameters: dict[str, Any]) -> None:
        """Counts the potentials of a neuron from the one at which the tool starts it, as a run starts at 0."""
        preset = self._preset
        field = preset.starts.get(self._wiring.kind(name)) if preset is not None else None
        if preset is None or field is None or not np.any(start := parameters[field]):
            return
        threshold = parameters["threshold"]
        if threshold is None or parameters["reset"] != "zero" or not np.all(np.greater(threshold, start)):
            self._assumed.add(f"the membrane starts at 0, and in {preset.title} at {field}", name)
            return
        for key in ("threshold", "v_reset", "v_leak", "lower_bound"):
            if parameters.get(key) is not None:
                parameters[key] = uniform(np.subtract(parameters[key], start))
        self._assumed.add(
            f"the membrane starts at {field}, as in {preset.title}, and potentials are counted from there", name
        )

    def _reset(self, name: str, metadata: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
        """Reset and number of spikes per update of a neuron."""
        rule = {}
        for key, accepted in (("reset", RESETS), ("spikes", SPIKES_PER_UPDATE)):
            value = plain(metadata[key]) if key in metadata else None
            if key in metadata:
                check_choice(f"node {name!r}: {key}", value, accepted)
            rule[key] = value or getattr(self._conventions, key)
            if value is not None and (key == "reset" or rule["reset"] == "subtract"):
                self._compare(key, value, name)
        for key in ("reset", "spikes"):
            if key in metadata or rule[key] is None or (key == "spikes" and rule["reset"] == "zero"):
                continue
            self._assumed.add(f"{key}={rule[key]!r} is as passed, because the metadata do not contain it", name)
        preset = self._preset
        if rule["reset"] is None and preset is not None:
            rule["reset"] = preset.reset
            self._assumed.add(
                f"reset={preset.reset!r} is assumed, {preset.title}'s default (tool={self._conventions.tool!r})", name
            )
        if rule["reset"] is None:
            raise InputError(
                f"{self._wiring.called(name)} has no reset rule, which NIR does not store; pass the tool that wrote "
                f"the file, tool= (--tool), or reset= (--reset): 'subtract' or 'zero'"
            )
        self._used |= {key for key in rule if key not in metadata and (key == "reset" or rule["reset"] == "subtract")}
        if rule["spikes"] is None:
            # With reset="zero" both are one spike.
            rule["spikes"] = "many" if rule["reset"] == "subtract" and "reset" not in metadata else "one"
            if rule["reset"] == "subtract":
                self._assumed.add(
                    f"spikes={rule['spikes']!r} is assumed, because the number of spikes per update is not given", name
                )
        if rule["reset"] == "subtract" and np.any(parameters.get("v_reset", 0)):
            raise InputError(
                f"node {name!r}: a v_reset of {shown(plain(parameters['v_reset']))} does not go with reset='subtract', "
                f"which subtracts the threshold; accepted are v_reset = 0 and reset='zero'"
            )
        return rule

    def _lower_bound(self, name: str, threshold: Parameter | None) -> Parameter | None:
        """The lower bound of a firing neuron without one in its metadata."""
        if (passed := self._conventions.lower_bound) is not None:
            self._assumed.add(f"lower_bound={passed!r} is as passed, because the metadata do not contain it", name)
        self._used.add("lower_bound")
        given, preset = self._conventions.lower_bound, self._preset
        if given is None and preset is not None and self._wiring.kind(name) in preset.bounded:
            given = "-1 thresholds"
            self._assumed.add(
                f"the lower bound is minus the threshold, as {preset.title} reads it (tool={self._conventions.tool!r})",
                name,
            )
        return None if given is None or threshold is None else bound_of(given, threshold)

    def _per_neuron(self, value: np.ndarray, field_name: str, name: str) -> np.ndarray:
        """One number, or one for every neuron."""
        found = self._reading.repeated(value, self._shapes.of[name], name)
        if found is None:
            raise InputError(f"{field_name} of node {name!r} has the shape {value.shape}, not {self._shapes.of[name]}")
        return found

    def refuse_contradictions(self) -> None:
        """Refuses options that the metadata of every neuron contradict; if only some do, adds an assumption."""
        for option, (value, names) in self._contradicted.items():
            given = getattr(self._conventions, option)
            if option not in self._used:
                raise InputError(
                    f"{option}={given!r} contradicts the metadata of node {names[0]!r}, which have {value}; omit it"
                )
            for name in names:
                self._assumed.add(f"metadata have {value}, so that {option}={given!r} is not used", name)
        given = self._conventions
        if given.spikes == "many" and not self._used & {"spikes"} and "spikes" not in self._contradicted:
            raise InputError(
                "spikes='many' was passed, but no neuron of the graph resets by subtraction; those that reset to a "
                "value fire once; leave it out"
            )
        if given.lower_bound not in (None, NONE) and not self._used & {"lower_bound"}:
            raise InputError(
                f"lower_bound={given.lower_bound!r} was passed, but no neuron of the graph fires; leave it out"
            )

    def _compare(self, option: str, value: Any, name: str, threshold: Any = None) -> None:
        """Records whether the metadata of a node contradict a given option."""
        given = getattr(self._conventions, option)
        if given is None:
            return
        if option == "lower_bound":
            bound = bound_of(given, threshold)
            agrees = bound is not None and bool(np.all(np.equal(bound, value)))
        else:
            agrees = given == value
        if agrees:
            self._used.add(option)
        else:
            shown_ = f"{option} {shown(plain(value))}" if option == "lower_bound" else f"{option}={value!r}"
            self._contradicted.setdefault(option, (shown_, []))[1].append(name)


def parameters_of(wiring: Wiring, name: str) -> dict[str, np.ndarray]:
    """The parameters of a neuron by the fields of its rule; tau may be infinite (see `Rules.rule`)."""
    node, kind = wiring.nodes[name], wiring.kind(name)
    found = {}
    for ours, theirs in NEURONS[kind].parameters.items():
        value, what = getattr(node, theirs), f"{theirs} of node {name!r}"
        if ours == "tau" and kind in ("LIF", "LI") and all_infinite(value):
            found[ours] = np.full(np.shape(value), np.inf)
        elif ours == "r" and np.any(np.isinf(found.get("tau", 0))) and all_infinite(value):
            raise InputError(
                f"r / tau of {wiring.called(name)} is not determined, because both are infinite; write an IF, whose "
                f"r is the jump of the membrane at a spike of weight 1"
            )
        else:
            found[ours] = numbers(value, what, bools=False).astype(np.float64)
    return found


def scaling_options(conventions: Conventions) -> str:
    """The options that scale the values of neurons, for messages."""
    names = ("spike_integral", "time_per_step", "file_time_per_step", "bias")
    scaling = ", ".join(f"{name}={conventions.given[name]!r}" for name in names if name in conventions.given)
    return f" (with {scaling})" if scaling else ""


@contextlib.contextmanager
def naming_node(node: str, options: str = "") -> Iterator[None]:
    """Adds the node to the message of an `InputError`, and options that can make values too large."""
    try:
        yield
    except InputError as error:
        is_large = "finite" in str(error) or "float64" in str(error)
        raise InputError(f"{node}: {error}{options if is_large else ''}") from None
