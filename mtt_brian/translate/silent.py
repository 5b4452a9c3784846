"""Silent populations in front of others: their potential is the next population's input current.

NIR's ``LI``, ``I`` and ``CubaLI`` never fire; their output is their potential. An exponential synapse in front of a
neuron has this form (Rockpool's ``ExpSyn`` -> ``LIF``). Such a filter commutes with weights if all its neurons share
their time constants, so it can be merged exactly into the neuron behind it:

    LI (tau_s, r_s) -> W -> LIF  =  r_s -> W -> CubaLIF with tau_syn = tau_s and w_in = 1

and in general a linear system of up to four states (`mtt_brian.neuron.LinearNeuron`). Constant currents into the filter
remain constant currents into it; those behind it move the resting potential.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np

from mtt_brian.circuit.model import Connection, Population
from mtt_brian.circuit.operators import Operator, Scale
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF, LinearNeuron, LinearSystem, NeuronRule
from mtt_brian.translate.nir_files import uniform

#: Fields of the threshold and the reset of a neuron, which do not depend on its input.
_MEMBRANE = ("threshold", "reset", "spikes", "lower_bound", "v_reset", "refractory")


class _CannotError(Exception):
    """The reason why a silent population cannot be folded."""

    def __init__(self, source: str, why: str) -> None:
        super().__init__(why)
        self.source = source


@dataclass(frozen=True)
class _Filter:
    """The dynamics that all neurons of a silent population share.

    Attributes:
        kind: IF (an integral), LIF (one exponential) or CubaLIF (two).
        taus: the time constants, the synapse's first.
    """

    kind: type[IF]
    taus: tuple[float, ...]

    @property
    def states(self) -> int:
        return max(1, len(self.taus))

    def system(self, constants: np.ndarray) -> LinearSystem:
        """The filter with a constant current into each of its states [states]."""
        n = self.states
        return LinearSystem(
            matrix=(-np.eye(n) if self.taus else np.zeros((1, 1))) + np.eye(n, k=-1),
            offset=constants,
            drive=np.eye(n)[0],
            row=np.eye(n)[-1],
            tau=np.array(self.taus or (1.0,)),
        )


def fold_silent(
    populations: dict[str, Population],
    connections: list[Connection],
    output: str,
    is_wire: bool,
    called: Callable[[str], str],
) -> tuple[dict[str, Population], list[Connection]]:
    """The same network without silent populations in front of others.

    Args:
        populations: by name; rules of the graph, for spikes of unit integral.
        connections: between them.
        output: the population of the readout.
        is_wire: whether that is the output node itself, which does not integrate its input.
        called: name of a node in messages.

    Raises:
        InputError: names a silent population that cannot be folded, and why.
    """
    populations, connections = dict(populations), list(connections)
    silent = {name for name, p in populations.items() if not p.rule.fires}
    folded = {c.source for c in connections if c.source in silent}
    waiting = {c.target for c in connections if c.source in silent}
    while waiting:
        sources = {target: {c.source for c in connections if c.target == target} for target in sorted(waiting)}
        target = next((t for t in sources if not sources[t] & waiting), None)
        if target is None:
            name = min(folded.intersection(*[set().union(*sources.values())]))
            raise InputError(
                f"{called(name)} never fires and lies on a cycle of such nodes; that cannot be run exactly"
            )
        waiting.discard(target)
        through = [c for c in connections if c.target == target]
        try:
            rule = _behind(populations, through, populations[target], is_wire and target == output)
        except _CannotError as error:
            raise InputError(
                f"{called(error.source)} never fires and feeds {called(target)}, where its potential cannot become an "
                f"exact current: {error}"
            ) from None
        populations[target] = replace(populations[target], rule=rule)
        # Every connection into a silent population, combined with every connection from it.
        ways = [_joined(a, c, populations[c.source]) for c in through for a in connections if a.target == c.source]
        at = connections.index(through[0])
        connections = [*connections[:at], *ways, *(c for c in connections[at:] if c.target != target)]
    folded.discard(output)
    return (
        {name: p for name, p in populations.items() if name not in folded},
        [c for c in connections if c.target not in folded],
    )


def _behind(
    populations: dict[str, Population], through: list[Connection], target: Population, is_wire: bool
) -> NeuronRule:
    """The rule of a population together with the filter in front of it."""
    silent = [c for c in through if not _fires(populations, c.source)]
    first = silent[0].source
    if len(silent) < len(through):
        other = next(c.source for c in through if c not in silent)
        raise _CannotError(first, f"node {other!r} feeds the same node with spikes; give it a synapse of the same kind")
    filters = {c.source: _filter(c.source, populations[c.source].rule) for c in silent}
    shared = filters[first]
    for name, each in filters.items():
        if each != shared:
            raise _CannotError(name, f"{first!r} feeds the same node and differs in its kind or time constants")
    constants = np.zeros((shared.states, target.size))
    for c in through:
        own = _constants(populations[c.source])
        if c.delayed and np.any(own):
            raise _CannotError(c.source, "a delay follows its constant current; put the delay in front of it")
        constants += np.stack([c.matrix @ value for value in own])
    rule = target.rule
    if is_wire:
        if np.any(rule.bias):
            raise _CannotError(first, "a bias follows it; put the bias in front of it")
        return _shown(shared, constants, target.shape)
    kept = {name: getattr(rule, name) for name in _MEMBRANE}
    if shared.kind is LIF and type(rule) is LIF:
        v_leak = np.asarray(rule.v_leak) + np.multiply(rule.r, rule.bias)
        bias = uniform(constants[0].reshape(target.shape))
        return CubaLIF(
            tau_syn=shared.taus[0], tau=rule.tau, r=rule.r, w_in=1.0, bias=bias, v_leak=uniform(v_leak), **kept
        )
    if type(rule) not in (IF, LIF, CubaLIF, LinearNeuron):
        raise _CannotError(first, f"{type(rule).__name__} states its own linear system, to which nothing can be added")
    if isinstance(rule, LinearNeuron) or shared.states + (2 if isinstance(rule, CubaLIF) else 1) > 4:
        raise _CannotError(first, "more than four exponentials follow each other without a spike")
    # One system for each distinct set of parameters.
    names = [f.name for f in fields(rule) if f.name in ("r", "bias", "tau", "v_leak", "tau_syn", "w_in")]
    columns = [np.broadcast_to(getattr(rule, name), target.shape).ravel() for name in names]
    rows, which = np.unique(np.stack([*columns, *constants], axis=1), axis=0, return_inverse=True)
    systems = []
    for row in rows:
        plain = type(rule)(threshold=None, **dict(zip(names, row[: len(names)].tolist(), strict=True)))
        systems.append(shared.system(row[len(names) :]).feeding(plain.linear_system()))
    return LinearNeuron(systems=tuple(systems), system=np.reshape(which, target.shape), **kept)


def _shown(shared: _Filter, constants: np.ndarray, shape: tuple[int, ...]) -> NeuronRule:
    """A readout of the filtered signal."""
    bias, leak = (uniform(c.reshape(shape)) for c in (constants[0], constants[-1]))
    if shared.kind is CubaLIF:
        return CubaLIF(threshold=None, tau_syn=shared.taus[0], tau=shared.taus[1], bias=bias, v_leak=leak)
    if shared.kind is LIF:
        return LIF(threshold=None, tau=shared.taus[0], v_leak=leak)
    return IF(threshold=None, bias=bias)


def _fires(populations: dict[str, Population], name: str) -> bool:
    """Whether a source fires spikes; the input does."""
    return name not in populations or populations[name].rule.fires


def _filter(name: str, rule: NeuronRule) -> _Filter:
    if isinstance(rule, LinearNeuron):
        raise _CannotError(name, "three silent nodes follow each other; accepted are two")
    if type(rule) not in (IF, LIF, CubaLIF):
        raise _CannotError(name, f"it has the rule {type(rule).__name__}; accepted are I, LI and CubaLI")
    if rule.lower_bound is not None:
        raise _CannotError(name, "it has a lower bound, which is not linear")
    taus = []
    for field in ("tau_syn", "tau"):
        if hasattr(rule, field):
            values = np.unique(getattr(rule, field))
            if len(values) > 1:
                raise _CannotError(
                    name, f"its {field} differs from neuron to neuron ({values[0]:g} .. {values[-1]:g} s)"
                )
            taus.append(float(values[0]))
    return _Filter(type(rule), tuple(taus))


def _strength(population: Population) -> np.ndarray:
    """The gain of a spike through weight 1 into each neuron's filter, whose own gain is 1 / tau."""
    rule = population.rule
    strength = np.multiply(rule.r, rule.w_in) if isinstance(rule, CubaLIF) else np.asarray(rule.r)
    return np.broadcast_to(np.asarray(strength, dtype=np.float64), population.shape)


def _constants(population: Population) -> list[np.ndarray]:
    """Constant currents into the states of each neuron's filter, float64 [neurons] each."""
    rule = population.rule
    into = [_strength(population) * rule.bias]
    if isinstance(rule, CubaLIF):
        into.append(np.asarray(rule.v_leak))
    elif isinstance(rule, LIF):
        into[0] = into[0] + rule.v_leak
    return [np.broadcast_to(value, population.shape).ravel() for value in into]


def _joined(before: Connection, behind: Connection, silent: Population) -> Connection:
    strength = _strength(silent)
    scale: tuple[Operator, ...] = () if np.all(strength == 1) else (Scale(np.ascontiguousarray(strength)),)
    return Connection(
        source=before.source,
        target=behind.target,
        operators=(*before.operators, *scale, *behind.operators),
        nodes=(*before.nodes, silent.name, *behind.nodes),
        source_size=before.source_size,
    )
