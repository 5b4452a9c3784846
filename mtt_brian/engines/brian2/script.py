"""The objects of a plain Brian2 script as text and values, for `mtt_brian.translate.from_brian2`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import brian2
import numpy as np
from brian2.core.functions import DEFAULT_FUNCTIONS, Function
from brian2.core.variables import AuxiliaryVariable, Subexpression
from brian2.equations.equations import DIFFERENTIAL_EQUATION, PARAMETER, SUBEXPRESSION
from brian2.equations.unitcheck import check_units_statements
from brian2.parsing.expressions import is_boolean_expression, parse_expression_dimensions
from brian2.units.fundamentalunits import DIMENSIONLESS, fail_for_dimension_mismatch
from brian2.utils.stringtools import get_identifiers

from mtt_brian.circuit.instants import at_or_after
from mtt_brian.engines.brian2 import internals
from mtt_brian.translate.from_brian2 import (
    Group,
    Pathway,
    Plastic,
    Refusal,
    Refused,
    Script,
    assigned,
    evaluate,
    in_one_line,
)
from mtt_brian.translate.timed_arrays import TimedArray, pieces, without_calls

_CLOCK = "use the standard device, set_device('runtime')"
_BETWEEN = f"split the run and change values between two runs, or {_CLOCK}"
#: Values of timed arrays in a run times neurons of a PoissonGroup.
MOST_RATES = 100_000_000
#: Slots of a time step in the order in which the rounds of an instant have them.
_SLOTS = ["start", "groups", "thresholds", "synapses", "resets", "end"]
_ALL_SLOTS = [prefix + slot for slot in _SLOTS for prefix in ("before_", "", "after_")]
_PER_STEP = "it is computed once per time step"
#: Types of values in a namespace.
Resolved = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Parts:
    """The objects of a network by type.

    Attributes:
        groups: neurons.
        generators, poisson, inputs: sources of spikes.
        synapses: with at least one pathway.
        spikes, states, rates: monitors.
        operations: of ``run_regularly``, with the group that contains them.
        refusals: everything else.
    """

    groups: list[brian2.NeuronGroup]
    generators: list[brian2.SpikeGeneratorGroup]
    poisson: list[brian2.PoissonGroup]
    inputs: list[brian2.PoissonInput]
    synapses: list[brian2.Synapses]
    spikes: list[brian2.EventMonitor]
    states: list[brian2.StateMonitor]
    rates: list[brian2.PopulationRateMonitor]
    operations: list[tuple[brian2.NeuronGroup, brian2.CodeRunner]]
    refusals: list[Refusal]


def parts_of(objects: Iterable[Any], schedule: Sequence[str]) -> Parts:
    """Sorts the objects of a network; those that are contained in another one come with it.

    Args:
        objects: of the network.
        schedule: its slots of a time step.
    """
    objects = list(objects)
    inside = {id(part): part for thing in objects for part in _inside(thing)}
    # With a run_regularly of their own, Brian2 puts synapses and subgroups into the group.
    objects = {id(thing): thing for thing in (*objects, *inside.values())}.values()
    objects = sorted(objects, key=lambda thing: _by_number(thing.name))
    parts = Parts([], [], [], [], [], [], [], [], [], [])
    refuse = parts.refusals.append
    if [slot for slot in schedule if slot in _SLOTS] != _SLOTS:
        what = "the slots of a time step are in another order than Brian2's"
        refuse(Refusal("the network", f"schedule {list(schedule)}", what, f"use {_SLOTS}"))
    for name, count in Counter(thing.name for thing in objects if id(thing) not in inside).items():
        if count > 1:
            refuse(Refusal(name, "", f"{count} objects have this name", "give each a name of its own"))
    for thing in objects:
        slot = internals.slot_of(thing)
        # In any slot a monitor records the same spikes, but not the same values of variables.
        if slot not in (None, thing.when) and not (isinstance(thing, brian2.EventMonitor) and not _recorded(thing)):
            refuse(Refusal(thing.name, "", f"it runs in the slot {thing.when!r}", f"leave it in the slot {slot!r}"))
        if id(thing) in inside and not isinstance(thing, brian2.Synapses):
            continue
        # A class that a script derives from one of Brian2's is that one: it only creates it in another way.
        kind = next(k for k in type(thing).__mro__ if k.__module__.startswith("brian2."))
        if kind in (brian2.NeuronGroup, brian2.SpikeGeneratorGroup, brian2.PoissonGroup):
            for part in _inside(thing):
                known = isinstance(part, brian2.Synapses | brian2.Subgroup) or internals.is_part_of_group(part)
                if not part.active or known:
                    continue
                if kind is brian2.NeuronGroup and type(part) is brian2.CodeRunner:
                    parts.operations.append((thing, part))
                else:
                    refuse(Refusal(thing.name, part.name, "it runs code at certain times (run_regularly)", _BETWEEN))
        if kind is brian2.NeuronGroup:
            parts.groups.append(thing)
        elif kind is brian2.SpikeGeneratorGroup:
            parts.generators.append(thing)
        elif kind is brian2.PoissonGroup:
            parts.poisson.append(thing)
        elif kind is brian2.PoissonInput:
            parts.inputs.append(thing)
        elif not thing.active:
            continue
        elif kind is brian2.Synapses:
            parts.synapses.append(thing)
        elif kind in (brian2.SpikeMonitor, brian2.EventMonitor):
            if thing.event == "spike":
                parts.spikes.append(thing)
            else:
                refuse(Refusal(thing.name, f"event {thing.event!r}", "events other than spikes", _CLOCK))
        elif kind is brian2.StateMonitor:
            parts.states.append(thing)
        elif kind is brian2.PopulationRateMonitor:
            parts.rates.append(thing)
        elif kind is brian2.NetworkOperation:
            refuse(Refusal(thing.name, "", "a network_operation runs code at certain times", _BETWEEN))
        else:
            refuse(Refusal(thing.name, "", f"a {type(thing).__name__} needs a clock", _CLOCK))
    return parts


def _inside(thing: Any) -> list[Any]:
    """What an object contains, and what subgroups in it contain."""
    parts = list(thing.contained_objects)
    return parts + [part for group in parts if isinstance(group, brian2.Subgroup) for part in _inside(group)]


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sorts names as they were given, name_2 before name_10: a network collects its objects in any order."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def whole(group: Any) -> Any:
    """The group that a subgroup is part of, or the group itself."""
    return group.source if isinstance(group, brian2.Subgroup) else group


def place_in_step(thing: Any) -> tuple[int, int, str]:
    """Sorts what is executed at one time, in a slot of Brian2."""
    return _ALL_SLOTS.index(thing.when), int(thing.order), str(thing.name)


def records_after(monitor: brian2.StateMonitor) -> bool:
    """Whether a monitor notes the state behind what happens at its own instant, and not before it.

    Raises:
        Refused: for a slot between arrivals and resets.
    """
    behind = "after_synapses" if isinstance(monitor.source, brian2.Synapses) else "after_resets"
    at = _ALL_SLOTS.index(monitor.when) if monitor.when in _ALL_SLOTS else -1
    before, after = 0 <= at <= _ALL_SLOTS.index("before_synapses"), at >= _ALL_SLOTS.index(behind)
    if not before and not after:
        instead = "record in the slot 'start', before all that happens at an instant, or 'end', behind it"
        raise Refused([Refusal(monitor.name, "", f"it records in the slot {monitor.when!r}", instead)])
    return after


def _recorded(monitor: Any) -> list[str]:
    """What a monitor records besides the times and indices of spikes."""
    always = ("i", "t") if isinstance(monitor, brian2.EventMonitor) else ()
    return [name for name in monitor.record_variables if name not in always]


def is_active(thing: Any) -> bool:
    """Whether an object and all parts of it that its texts state run."""
    parts = filter(internals.is_part_of_group, thing.contained_objects)
    return bool(thing.active and all(part.active for part in parts))


def script_of(parts: Parts, namespace: Mapping[str, Any], begin: float = 0.0, end: float = 0.0) -> Script:
    """Describes the objects of a network.

    Args:
        parts: its objects.
        namespace: names that are defined around the call of ``run``.
        begin, end: of the run, seconds.

    Raises:
        BrianObjectException: from Brian2, for wrong units and unknown names; it names the object.
    """
    refusals = list(parts.refusals)
    runners = {group.name: [runner for owner, runner in parts.operations if owner is group] for group in parts.groups}
    groups = _each(parts.groups, lambda g: [_group(g, runners[g.name], namespace)], refusals)
    pathways = _each(parts.synapses, lambda s: _pathways(s, namespace), refusals)
    pathways += _each(parts.inputs, lambda p: [_poisson_input(p, namespace)], refusals)
    with_states = brian2.NeuronGroup | brian2.Synapses
    for monitor in parts.states:
        if not isinstance(whole(monitor.source), with_states):
            what = f"it records {type(whole(monitor.source)).__name__}"
            refusals.append(Refusal(monitor.name, "", what, "record a NeuronGroup or Synapses"))
    known = [monitor for monitor in parts.states if isinstance(whole(monitor.source), with_states)]
    _each(known, lambda monitor: [records_after(monitor)], refusals)
    # What a group is refused for can hide what it has.
    refused = {refusal.name for refusal in refusals}
    monitors = [monitor for monitor in (*known, *parts.spikes) if whole(monitor.source).name not in refused]
    _each(monitors, lambda monitor: [Columns(monitor, {}, namespace)], refusals)
    rates = dict(_each(parts.poisson, lambda group: [(group.name, _rates_of(group, namespace, begin, end))], refusals))
    sources = {s.name: len(s) for s in (*parts.generators, *parts.poisson)}
    sources |= {p.name: len(internals.target_of(p)) for p in parts.inputs}
    return Script(groups, sources, pathways, refusals, begin, end, rates)


def _each(things: Iterable[Any], describe: Callable[[Any], list[Any]], refusals: list[Refusal]) -> list[Any]:
    out = []
    for thing in things:
        try:
            out += describe(thing)
        except Refused as refused:
            refusals += [reason._replace(name=thing.name) for reason in refused.reasons]
        except Exception as error:
            if isinstance(error, brian2.BrianObjectException):
                raise
            raise brian2.BrianObjectException("An error occurred when preparing an object.", thing) from error
    return out


def _refuse(line: str, reason: str, instead: str) -> None:
    raise Refused([Refusal("", line, reason, instead)])


def _functions(resolved: Resolved, arrays: Mapping[str, TimedArray] | None = None) -> dict[str, str]:
    """Names of functions but some arrays, and why a call has no value that is known before the run; "" if it has."""
    found = {k: v for k, v in resolved.items() if isinstance(v, Function | brian2.TimedArray)}
    return {name: _obstacle(name, function) for name, function in found.items() if name not in (arrays or {})}


def _arrays(resolved: Resolved) -> dict[str, TimedArray]:
    """Names of timed arrays.

    Raises:
        Refused: for values that are not finite, and for times that do not rise.
    """
    out = {name: TimedArray(v.values, v.dt) for name, v in resolved.items() if isinstance(v, brian2.TimedArray)}
    for name, array in out.items():
        if not 0 < array.dt < np.inf:
            _refuse(name, f"its dt is {array.dt:g} s", "give a time > 0")
        if not array.values.size:
            _refuse(name, "it has no values", "give one or more")
        if not np.all(np.isfinite(array.values)):
            at = np.argwhere(~np.isfinite(array.values))[0]
            where = ", ".join(map(str, at))
            _refuse(name, f"value {where} is {array.values[tuple(at)]}", "give finite values")
    return out


def _obstacle(name: str, function: Any) -> str:
    own = DEFAULT_FUNCTIONS.get(name) is function
    if isinstance(function, brian2.TimedArray):
        return "is a TimedArray, which equations and rates can use but synapses cannot"
    if own and not internals.is_stateless(function):
        return "changes from call to call"
    # An expression is computed by the names of its functions, which another library can have for something else.
    return "" if own else "is not a function of Brian2"


def _group(group: brian2.NeuronGroup, runners: list[brian2.CodeRunner], namespace: Mapping[str, Any]) -> Group:
    if not is_active(group):
        _refuse("", "a part of it is inactive", "set active to True, or leave the object out of the network")
    others = sorted(set(group.events) - {"spike"})
    if others:
        _refuse(f"event {others[0]!r}", "events other than spikes", _CLOCK)
    group.before_run(namespace)  # Brian2's own check of units
    equations, subexpressions, parameters, held = {}, {}, set(), set()
    texts = []
    _check_no_links(group.user_equations)
    if unknown := internals.unknown_methods(group):
        _refuse(f"method {unknown[0]!r}", "Brian2 has no such method", "leave it out: equations are solved exactly")
    for eq in group.user_equations.values():
        if eq.type == DIFFERENTIAL_EQUATION:
            equations[eq.varname] = eq.expr.code
            if "unless refractory" in eq.flags:
                held.add(eq.varname)
        elif eq.type == SUBEXPRESSION:
            if "constant over dt" in eq.flags:
                _refuse(f"{eq.varname} = {eq.expr.code}", _PER_STEP, "leave out (constant over dt)")
            subexpressions[eq.varname] = eq.expr.code
        elif eq.type == PARAMETER:
            parameters.add(eq.varname)
        if eq.expr is not None:
            texts.append(eq.expr.code)
    threshold, reset = group.events.get("spike"), group.event_codes.get("spike")
    refractory = internals.refractory_of(group)
    for part in (*group.thresholder.values(), *group.resetter.values()):
        part.update_abstract_code(namespace)  # Brian2's own check of what a text is
    texts += [text for text in (threshold, refractory) if isinstance(text, str)]
    own_names, used = internals.names_in(reset or "", group.variables)
    resolved = _resolve(group, [*texts, *used], namespace)
    if threshold is not None:
        parse_expression_dimensions(threshold, resolved)
    if reset is not None:
        check_units_statements(reset, resolved)
    holds = False
    if isinstance(refractory, str):
        dimensions = parse_expression_dimensions(refractory, resolved)
        holds = dimensions is DIMENSIONLESS and is_boolean_expression(refractory, resolved)
        if dimensions is not brian2.second.dim and not holds:
            what = "it is neither a time nor a condition"
            _refuse(f"refractory {refractory!r}", what, "give a time, or a condition such as 'v > Vt'")
    elif refractory is not False:
        fail_for_dimension_mismatch(
            refractory,
            brian2.second,
            "Refractory period has to be specified in units of seconds but got {value}",
            value=refractory,
        )
    regularly = {name for runner in runners for name in _changed_regularly(group, runner, namespace)}
    values = {name: _values(group, name, variable) for name, variable in resolved.items() if _is_value(variable)}
    arrays = _arrays(resolved)
    return Group(
        name=group.name,
        size=len(group),
        equations=equations,
        unless_refractory=frozenset(held) if refractory is not False else frozenset(),
        subexpressions=subexpressions,
        parameters=frozenset(parameters),
        values=values,
        functions=_functions(resolved, arrays),
        threshold=threshold,
        reset=reset,
        refractory=None if refractory is False else refractory if isinstance(refractory, str) else float(refractory),
        refractory_holds=holds,
        own_names=own_names,
        arrays=arrays,
        regularly=frozenset(regularly),
    )


def _check_no_links(equations: brian2.Equations) -> None:
    """Raises Refused for variables that are linked to those of other groups."""
    for eq in equations.values():
        if "linked" in eq.flags:
            instead = f"if its value does not change, declare a parameter and set it before the run, or {_CLOCK}"
            _refuse(f"{eq.varname} (linked)", "a linked variable", instead)


def _changed_regularly(
    group: brian2.NeuronGroup, runner: brian2.CodeRunner, namespace: Mapping[str, Any]
) -> frozenset[str]:
    """The variables that code of ``run_regularly`` changes."""
    code = runner.abstract_code
    line = f"run_regularly '{in_one_line(code)}'"
    if runner.when != "start":
        _refuse(line, f"it runs in the slot {runner.when!r}", "leave it in the slot 'start'")
    own_names, used = internals.names_in(code, group.variables)
    resolved = _resolve(runner.group, used, namespace)
    check_units_statements(code, resolved)
    for name in sorted({"lastspike", "t_in_timesteps"} & set(resolved)):
        _refuse(line, f"it depends on {name}", _BETWEEN)
    return frozenset(assigned(code)) - own_names


def _resolve(owner: Any, texts: Iterable[str], namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all names in some texts, those in subexpressions included."""
    resolved: dict[str, Any] = {}
    waiting = {name for text in texts for name in get_identifiers(text)}
    while waiting:
        found = owner.resolve_all(waiting, namespace, user_identifiers=waiting)
        resolved |= found
        more = {name for v in found.values() if isinstance(v, Subexpression) for name in v.identifiers}
        waiting = more - set(resolved)
    return resolved


def _is_value(variable: Any) -> bool:
    return not isinstance(variable, Function | brian2.TimedArray | AuxiliaryVariable | Subexpression)


def _values(group: Any, name: str, variable: Any) -> Any:
    """A constant, or the values of a variable in all neurons."""
    value = internals.memory(variable)
    return value.reshape(()).copy() if value.size == 1 else value.copy()


def _pathways(synapses: brian2.Synapses, namespace: Mapping[str, Any]) -> list[Pathway]:
    if not internals.was_connected(synapses):
        raise TypeError(
            f"Synapses object '{synapses.name}' does not do anything, since it has not created synapses with "
            "'connect'. Set its active attribute to False if you intend to do only do this for a subsequent run."
        )
    _check_no_links(synapses.equations)
    for name in sorted(synapses.equations.diff_eq_names):
        line = f"d{name}/dt = {synapses.equations[name].expr.code}"
        _refuse(line, "it is integrated in every time step", "mark it (event-driven) if it is linear, or " + _CLOCK)
    if synapses.summed_updaters:
        name = next(iter(synapses.summed_updaters))
        _refuse(f"{name} (summed)", "a summed variable (gap junctions, graded synapses)", _CLOCK)
    for part in synapses.contained_objects:
        if part.active and part not in internals.pathways_of(synapses):
            if internals.is_part_of_group(part):
                _refuse(part.name, _PER_STEP, "leave out (constant over dt)")
            _refuse(part.name, "it runs code at certain times (run_regularly)", _BETWEEN)
    synapses.before_run(namespace)  # Brian2's own check of units
    pathways = [pathway for pathway in internals.pathways_of(synapses) if pathway.active]
    plastic = _plastic(synapses, pathways)
    return [_pathway(synapses, pathway, plastic, namespace) for pathway in pathways]


def _plastic(synapses: brian2.Synapses, pathways: list[Any]) -> Plastic:
    """What spikes change in synapses."""
    equations = synapses.event_driven
    solved = {name: equations[name].expr.code for name in equations.diff_eq_names} if equations else {}
    indices = synapses.variables.indices
    names = {name for pathway in pathways for name in assigned(pathway.code) if indices.get(name) in ("_idx", "0")}
    names |= {*solved, *(["lastupdate"] if solved else [])}
    for name in sorted(names):
        values = internals.memory(synapses.variables[name])
        if indices[name] == "0" or values.dtype.kind != "f":
            what = "one number for all synapses" if indices[name] == "0" else "an integer or boolean"
            _refuse(name, f"spikes change it, and it is {what}", "declare it as ': 1', one per synapse")
        if not np.all(ok := np.isfinite(values)):
            bad = int(np.argmin(ok))
            _refuse(name, f"synapse {bad} starts at {values[bad]}", "set it to finite values before the run")
    changing, inside = set(names), {}
    for name, variable in synapses.variables.items():
        own = isinstance(variable, Subexpression) and indices[name] == "_idx"
        if own and changing & _depends(variable, synapses):
            inside[name] = variable.expr
    i, j = internals.endpoints(synapses)
    ends = (whole(synapses.source).name, i), (whole(synapses.target).name, j)
    return Plastic(synapses.name, tuple(sorted(names)), solved, inside, ends)


def _depends(variable: Any, synapses: brian2.Synapses) -> set[str]:
    """The names in a subexpression of synapses, those in other subexpressions included."""
    found: set[str] = set()
    waiting = set(variable.identifiers)
    while waiting:
        found |= waiting
        inner = (synapses.variables[name] for name in waiting if name in synapses.variables)
        waiting = {name for v in inner if isinstance(v, Subexpression) for name in v.identifiers} - found
    return found


def _pathway(synapses: brian2.Synapses, pathway: Any, plastic: Plastic, namespace: Mapping[str, Any]) -> Pathway:
    line = f"on_{pathway.prepost} '{in_one_line(pathway.code)}'"
    if pathway.event != "spike":
        _refuse(f"event {pathway.event!r}", "events other than spikes", _CLOCK)
    source, target = whole(synapses.source), whole(synapses.target)
    own_names, used = internals.names_in(pathway.code, pathway.variables)
    changing = {*plastic.variables, *plastic.subexpressions}
    entered = {pathway.variables.indices.get(name) for name in assigned(pathway.code) if name not in own_names}
    at_pre = pathway.prepost == "pre"
    adds_only = at_pre and entered <= {"_postsynaptic_idx"} and not changing & used and not plastic.equations
    if adds_only and not isinstance(target, brian2.NeuronGroup):
        _refuse(line, f"the target is a {type(target).__name__}", "use a NeuronGroup as target")
    for end, what in ((source, "source"), (target, "target")):
        if not isinstance(end, brian2.NeuronGroup | brian2.SpikeGeneratorGroup | brian2.PoissonGroup):
            instead = "use a NeuronGroup, SpikeGeneratorGroup or PoissonGroup"
            _refuse(line, f"the {what} is a {type(end).__name__}", instead)
    if pathway.when != "synapses":
        _refuse(line, f"it runs in the slot {pathway.when!r}", "leave it in the slot 'synapses'")
    texts = [] if adds_only else [*plastic.equations.values(), *plastic.subexpressions.values()]
    resolved = _resolve(pathway, [*used, *texts], namespace)
    check_units_statements(pathway.code, resolved)
    i, j = internals.endpoints(synapses)
    seconds = internals.memory(pathway.variables["delay"]).astype(np.float64)
    if seconds.size not in (1, len(i)):  # Brian2 restores delays from 2.10 on
        _refuse("delay", "restore did not restore it", "call connect, and set delays, before restore")
    variables, values, reads, ends = {}, {}, {}, {}
    for name, variable in resolved.items():
        if name in changing and not adds_only:
            continue
        index = pathway.variables.indices[name] if name in pathway.variables else "0"
        if index in ("_presynaptic_idx", "_postsynaptic_idx"):
            owner = source if index == "_presynaptic_idx" else target
            own = isinstance(owner, brian2.NeuronGroup) and (index == "_postsynaptic_idx" or not adds_only)
            known = own and variable in {owner.variables[v] for v in owner.user_equations.names}
            if known and name in used and not isinstance(variable, Subexpression):
                variables[name], ends[name] = variable.name, int(index == "_postsynaptic_idx")
            meant = getattr(variable, "name", name)
            reads[name] = frozenset({(owner.name, meant)})
            changes = isinstance(owner, brian2.NeuronGroup) and owner.user_equations.diff_eq_names
            if changes is not False and meant in {*changes, "lastspike", "not_refractory"}:
                if name not in variables:
                    _refuse(
                        line,
                        f"what it adds depends on {meant} of {owner.name!r}, which changes during a run",
                        f"add a constant value, or {_CLOCK}",
                    )
                continue
        if _is_value(variable):
            value = internals.memory(variable)
            at = {"_presynaptic_idx": i, "_postsynaptic_idx": j}.get(index)
            values[name] = value[at] if at is not None and value.size > 1 else value
    functions = _add_subexpressions(resolved, values, reads, plastic.subexpressions)
    return Pathway(
        name=synapses.name,
        source=(source if at_pre else target).name,
        target=(target if at_pre else source).name,
        code=pathway.code,
        i=i if at_pre else j,
        j=j if at_pre else i,
        variables=variables,
        reads=reads,
        values=values,
        functions=functions,
        seconds=seconds,
        own_names=own_names,
        plastic=None if adds_only else plastic,
        end=ends,
        order=(int(pathway.order), pathway.name),
    )


def _ordered_subexpressions(resolved: Resolved) -> list[str]:
    """Subexpressions, each behind those that it contains."""
    left = {name: v.identifiers for name, v in resolved.items() if isinstance(v, Subexpression)}
    out: list[str] = []
    while left:
        name = next(name for name, used in left.items() if not used & set(left))
        out.append(name)
        del left[name]
    return out


def _add_subexpressions(
    resolved: Resolved,
    values: dict[str, Any],
    reads: dict[str, frozenset[tuple[str, str]]],
    without_value: Iterable[str] = (),
) -> dict[str, str]:
    """Adds the values of subexpressions and what they depend on; returns the functions."""
    functions = _functions(resolved)
    for name in _ordered_subexpressions(resolved):
        if name not in without_value:
            values[name] = evaluate(resolved[name].expr, values, functions)
        reads[name] = frozenset().union(*(reads.get(used, ()) for used in resolved[name].identifiers))
    return functions


def _poisson_input(source: brian2.PoissonInput, namespace: Mapping[str, Any]) -> Pathway:
    group = internals.target_of(source)
    target, first = whole(group), getattr(group, "start", 0)
    for name, value, unit in (("N", float(source.N), ""), ("rate", float(source.rate), " Hz")):
        if not value >= 0:
            _refuse(name, f"it is {value:g}{unit}", "give a number >= 0")
    weight = source.weight if isinstance(source.weight, str) else repr(float(source.weight))
    resolved = _resolve(target, [weight], namespace)
    if isinstance(source.weight, str):
        variable = target.variables[source.target_var]
        check_units_statements(f"{source.target_var} += {weight}", resolved | {source.target_var: variable})
    each = np.arange(len(group))
    values = {}
    for name, variable in resolved.items():
        if name in target.user_equations.diff_eq_names:
            _refuse(f"weight {weight!r}", f"it depends on {name}, which changes during a run", "use a constant weight")
        if _is_value(variable):
            value = _values(target, name, variable)
            values[name] = value[first + each] if value.size > 1 else value
    reads = {name: frozenset({(target.name, name)}) for name in values}
    functions = _add_subexpressions(resolved, values, reads)
    # In the text, neurons of a subgroup count from 0; in subexpressions, which belong to the whole group, they do not.
    values |= {"i": each, "N": np.asarray(len(group))}
    return Pathway(
        name=source.name,
        source=source.name,
        target=target.name,
        code=f"{source.target_var} += ({weight})",
        i=each,
        j=first + each,
        variables={source.target_var: source.target_var},
        reads=reads,
        values=values,
        functions=functions,
        seconds=0.0,
    )


def _rates_of(
    group: brian2.PoissonGroup, namespace: Mapping[str, Any], begin: float, end: float
) -> tuple[np.ndarray, np.ndarray]:
    """Rates of a PoissonGroup in a run.

    Returns:
        times in seconds from which on they hold, float64 [P], the first one before ``begin``; rates in Hz [P, N].

    Raises:
        Refused: for rates that depend on time other than by a timed array.
        BrianObjectException: from Brian2, for wrong units.
    """
    variable = group.variables["rates"]
    if not isinstance(variable, Subexpression):
        return pieces({}, begin, end), _checked_rates(group, internals.memory(variable).astype(np.float64), 1)
    try:
        group.before_run(namespace)  # Brian2's own check of units
    except Exception as error:
        raise brian2.BrianObjectException("An error occurred when preparing an object.", group) from error
    resolved = _resolve(group, [variable.expr], namespace)
    values = {name: _values(group, name, v) for name, v in resolved.items() if _is_value(v)}
    arrays = _arrays(resolved)
    starts = pieces(arrays, begin, end)
    if (count := len(starts) * len(group)) > MOST_RATES:
        what = f"{len(starts)} values in this run for {len(group)} neurons are {count} rates, more than {MOST_RATES}"
        _refuse(", ".join(sorted(arrays)), what, f"split it into {-(-count // MOST_RATES)} runs or more")
    try:
        found = evaluate(variable.expr, values, _functions(resolved, arrays), arrays, starts[:, None])
    except Refused as refused:
        instead = "give constant rates, or a TimedArray, stim(t) or stim(t, i), or times to a SpikeGeneratorGroup"
        raise Refused(
            [
                r._replace(name=group.name, instead=instead if _CLOCK in r.instead else r.instead)
                for r in refused.reasons
            ]
        ) from None
    return starts, _checked_rates(group, np.atleast_1d(found), len(starts))


def _checked_rates(group: brian2.PoissonGroup, rates: np.ndarray, count: int) -> np.ndarray:
    """Rates [count, N] from a shape that fits this one."""
    bad = ~(np.isfinite(rates) & (rates >= 0))
    if np.any(bad):
        first = np.argwhere(bad)[0]
        what = f"the rate of neuron {first[-1]} is {rates[tuple(first)]:g} Hz"
        raise Refused([Refusal(group.name, "rates", what, "give finite rates >= 0 Hz")])
    return np.broadcast_to(rates, (count, len(group)))


def recorded(monitor: brian2.StateMonitor) -> np.ndarray:
    """The neurons that a StateMonitor records, counted in the whole group, or the synapses."""
    return np.asarray(monitor.record, dtype=np.int64) + getattr(monitor.source, "start", 0)


def _recordable(group: Any) -> set[str]:
    """The variables of a group, or of synapses, that have an equation or a declaration."""
    if isinstance(group, brian2.NeuronGroup):
        return set(group.user_equations.names)
    if not isinstance(group, brian2.Synapses):
        return set()
    return {*group.equations.names, *(group.event_driven.names if group.event_driven else ())}


class Columns:
    """What a monitor records besides times and indices, computed from states.

    Args:
        monitor: a StateMonitor, or a SpikeMonitor with variables.
        states: names of the states of every group.
        namespace: names that are defined around the call of ``run``.

    Raises:
        Refused: for a variable that is neither a state, a parameter nor a subexpression of these.
    """

    def __init__(self, monitor: Any, states: Mapping[str, tuple[str, ...]], namespace: Mapping[str, Any]) -> None:
        group = whole(monitor.source)
        self._names = _recorded(monitor)
        self._states = states.get(group.name, ())
        self._group = group
        self._resolved: dict[str, Any] = {}
        self._arrays: dict[str, TimedArray] = {}
        if not self._names:
            return
        for name in self._names:
            if name not in _recordable(group):
                raise Refused(
                    [Refusal(monitor.name, name, "it is not a variable of the equations", "record one that is")]
                )
        self._resolved = _resolve(group, self._names, namespace)
        self._arrays = _arrays(self._resolved)
        inside = [name for name, v in self._resolved.items() if isinstance(v, Subexpression)]
        for name in inside:
            text, _ = without_calls(self._resolved[name].expr, self._arrays)
            if {"t", "dt", "lastspike", "not_refractory"} & get_identifiers(text):
                raise Refused([Refusal(monitor.name, name, "it depends on time", f"leave it out, or {_CLOCK}")])
        if inside:  # what cannot be computed is refused now, not at the end of the run
            everyone = np.arange(len(group))
            self.of(np.zeros((len(group), len(self._states))), everyone, np.zeros(1))

    def of(self, x: np.ndarray, neurons: np.ndarray, t: np.ndarray) -> dict[str, np.ndarray]:
        """Values by variable, in the shape of ``neurons``.

        Args:
            x: states [*neurons, n].
            neurons: of the whole group, integers of any shape.
            t: seconds, in a shape that fits that of ``neurons``.
        """
        t = at_or_after(t)
        values: dict[str, Any] = {}
        for name, variable in self._resolved.items():
            if name in self._states:
                values[name] = x[..., self._states.index(name)]
            elif _is_value(variable):
                value = _values(self._group, name, variable)
                values[name] = value[neurons] if value.size > 1 else value
        functions = _functions(self._resolved, self._arrays)
        for name in _ordered_subexpressions(self._resolved):
            values[name] = evaluate(self._resolved[name].expr, values, functions, self._arrays, t)
        return {name: np.broadcast_to(values[name], neurons.shape) for name in self._names}
