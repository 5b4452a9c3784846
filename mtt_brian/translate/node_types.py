"""The table of neurons: type of a NIR node -> rule. `register_node` adds to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF
from mtt_brian.translate.linear_nodes import LINEAR


@dataclass(frozen=True)
class NeuronKind:
    """The rule for the nodes of one type.

    Attributes:
        rule: type of the rule.
        fires: whether they have a threshold.
        parameters: field of the rule -> field of the node.
        own_reset: whether the rule's linear system defines the reset of its states.
    """

    rule: type[IF]
    fires: bool
    parameters: Mapping[str, str]
    own_reset: bool = False


_IF = {"r": "r"}
_LIF = {"tau": "tau", "r": "r", "v_leak": "v_leak"}
_CUBA = {"tau_syn": "tau_syn", "tau": "tau_mem", "r": "r", "v_leak": "v_leak", "w_in": "w_in"}
_FIRES = {"threshold": "v_threshold", "v_reset": "v_reset"}

NEURONS: dict[str, NeuronKind] = {
    "IF": NeuronKind(IF, True, _IF | _FIRES),
    "LIF": NeuronKind(LIF, True, _LIF | _FIRES),
    "CubaLIF": NeuronKind(CubaLIF, True, _CUBA | _FIRES),
    "I": NeuronKind(IF, False, _IF),
    "LI": NeuronKind(LIF, False, _LIF),
    "CubaLI": NeuronKind(CubaLIF, False, _CUBA),
}


def register_node(
    kind: str, rule: type[IF], parameters: Mapping[str, str], *, fires: bool = True, own_reset: bool = False
) -> None:
    """Registers a type of neuron: nodes of a class of this name become populations of a rule.

    Args:
        kind: name of the node's class.
        rule: the rule, derived from `mtt_brian.neuron.IF`.
        parameters: field of the rule -> attribute of the node, numbers or arrays in the shape of the population.
        fires: whether the neurons have a threshold.
        own_reset: whether the linear system of the rule states its reset. Otherwise ``reset`` and ``spikes`` come from
            the node's metadata or from the caller, as for NIR's own neurons.

    Raises:
        InputError: for a name that is in use, an object that is not a rule, and a field that the rule does not have.
    """
    if kind in NEURONS or kind in LINEAR or kind in ("Input", "Output", "NIRGraph"):
        raise InputError(f"nodes of the type {kind!r} are read already; choose another name")
    if not (isinstance(rule, type) and issubclass(rule, IF)):
        raise InputError(f"the rule for nodes of the type {kind!r} must derive from neuron.IF, not {rule!r}")
    accepted = [field.name for field in fields(rule)]
    for name in parameters:
        if name not in accepted:
            raise InputError(f"{rule.__name__} has no field {name!r}; accepted are {', '.join(accepted)}")
    NEURONS[kind] = NeuronKind(rule, fires, dict(parameters), own_reset)


def unregister_node(kind: str) -> None:
    """Removes a registered type of node, if there is one."""
    if kind in NEURONS and kind not in _OF_NIR:
        del NEURONS[kind]


_OF_NIR = frozenset(NEURONS)

#: Refused types of NIR, with the reason.
REFUSED = {"Threshold": "a threshold without a membrane has no meaning for spikes without width"}
