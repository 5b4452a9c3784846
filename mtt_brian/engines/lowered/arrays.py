"""A circuit as flat arrays, the form the kernels read."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mtt_brian.circuit.model import Circuit, Population
from mtt_brian.engines.lowered.connectivity import Chain, Layout, layout_of, lower
from mtt_brian.engines.lowered.linear_rules import is_linear, linear_rule
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF

#: How the state moves between arrivals: not at all; along a straight line (a neuron that fires: `y` is where the line
#: is at the time `last`, which arrivals leave alone; one that does not fire: `y` is the potential at `last`); towards
#: rest; with a synaptic current; as a linear system of several states (`state.LinearPart`).
STATIC, LINE, DRIFT, LEAK, CURRENT, LINEAR = range(6)
#: What a neuron at threshold does; `OWN`: what its linear system says.
ONE, MANY, ZERO, OWN = range(4)


class Network(NamedTuple):
    """Arrays of a circuit. Population 0 is the input; neurons, sites and parameters are numbered across populations.

    A *site* is what is touched as one: all channels of a pixel where every arrival reaches all of them and they share
    their time constants, a single neuron otherwise. Within a population neurons are numbered channels last.

    Attributes:
        offset, site_offset: first neuron and first site of every population [P + 1].
        group: neurons per site [P].
        kind, rule: codes of the dynamics and of the firing rule [P].
        bounded, crosses, refractory, recorded: flags [P].
        marked: whether neurons share sites although some weights are 0, where a neuron that one spike leaves at its
            threshold waits for a weight that is not: arrivals at sites with such neurons are marked [P].
        limited: whether a population can fire without an input event, so that its rate is watched [P].
        max_rate: spikes per second that such a neuron may fire [1].
        start: the state at time 0, potentials and currents of all neurons.
        most: at one instant: records, arrivals sent into delays; by one event: spikes [3].
        jump_offset: where in the state the jumps of a population go, its potentials or its currents [P].
        flat: C-order index within its population of every neuron [N].
        parameter_offset, parameter_stride: neuron k of population p has the parameters at offset + stride * k (+ its
            place in the site), so that parameters shared by all pixels are stored once [P].
        threshold, lower, v_reset, rest, tau, tau_syn, r, peak, gain, dead_time: parameters; ``rest`` is the slope of
            an IF, ``peak`` what a current of 1 / r adds to the potential at most.
        out: first connection of every source [P + 1].
        target, front_base, spacing, row: per connection: target population, first entry in ``front``, target neurons
            per pattern position, length of a weight row [C].
        delayed, closes: per connection: whether any arrival waits; whether it is the last one of its source into its
            target [C].
        front: first front entry of every source neuron (in C order), one more per connection to close the last.
        front_target: the entries, four numbers each: where its positions in ``pattern`` begin and end, first target
            channel, first weight.
        front_factor, front_delay: the entries' factors and seconds (empty if nothing is delayed).
        pattern: target position << 32 | offset of its weights.
        weight: all kernels and matrices.
    """

    offset: np.ndarray
    site_offset: np.ndarray
    group: np.ndarray
    kind: np.ndarray
    rule: np.ndarray
    bounded: np.ndarray
    crosses: np.ndarray
    refractory: np.ndarray
    recorded: np.ndarray
    marked: np.ndarray
    limited: np.ndarray
    max_rate: np.ndarray
    start: np.ndarray
    most: np.ndarray
    jump_offset: np.ndarray
    flat: np.ndarray
    parameter_offset: np.ndarray
    parameter_stride: np.ndarray
    threshold: np.ndarray
    lower: np.ndarray
    v_reset: np.ndarray
    rest: np.ndarray
    tau: np.ndarray
    tau_syn: np.ndarray
    r: np.ndarray
    peak: np.ndarray
    gain: np.ndarray
    dead_time: np.ndarray
    out: np.ndarray
    target: np.ndarray
    front_base: np.ndarray
    spacing: np.ndarray
    row: np.ndarray
    delayed: np.ndarray
    closes: np.ndarray
    front: np.ndarray
    front_target: np.ndarray
    front_factor: np.ndarray
    front_delay: np.ndarray
    pattern: np.ndarray
    weight: np.ndarray


def network(circuit: Circuit, recorded: frozenset[str], one_spike: bool, max_rate: float = np.inf) -> Network:
    """Lowers a circuit.

    Args:
        circuit: the network.
        recorded: names of the populations whose spikes are kept.
        one_spike: whether a neuron fires at most one spike per arrival whatever its rule says (``order="fifo"``).
        max_rate: spikes per second of a neuron above which a run is given up, see `ExactEngine`.

    Raises:
        InputError: for a connection that closes a loop without a delay.
    """
    names = [circuit.input, *(p.name for p in circuit.populations)]
    index = {name: k for k, name in enumerate(names)}
    layouts = [Layout(circuit.input_size, 1, False)]
    layouts += [layout_of(p, circuit.into(p.name)) for p in circuit.populations]
    # By source; all connections into one target follow each other, in the order of the first of them.
    first: dict[tuple[str, str], int] = {}
    for k, c in enumerate(circuit.connections):
        first.setdefault((c.source, c.target), k)
    connections = sorted(circuit.connections, key=lambda c: (index[c.source], first[c.source, c.target]))
    chains = []
    for c in connections:
        chain = lower(c, circuit.population[c.target].shape, layouts[index[c.target]])
        if index[c.target] <= index[c.source] and not np.all(chain.delay > 0):
            raise InputError(f"the connection {c.source!r} -> {c.target!r} closes a loop without a delay")
        chains.append(chain)

    groups, tables, marked = [1], [_input_table()], [False]
    for p, layout in zip(circuit.populations, layouts[1:], strict=True):
        incoming = [chain for c, chain in zip(connections, chains, strict=True) if c.target == p.name]
        neurons_per_site, table, has_marks = _site_and_table(p, layout, incoming, one_spike)
        groups.append(neurons_per_site)
        tables.append(table)
        marked.append(has_marks)

    rules = [p.rule for p in circuit.populations]
    linear = [linear_rule(p) for p in circuit.populations]
    kinds = np.array([STATIC, *(_kind(r) for r in rules)])
    sizes = np.array([layout.channels * layout.pixels for layout in layouts])
    offset = _offsets(sizes)
    current = np.where(kinds == CURRENT, sizes, 0)
    jump_offset = np.where(kinds == CURRENT, offset[-1] + _offsets(current)[:-1], offset[:-1])
    group = np.array(groups)
    lengths = np.array([len(t["threshold"]) for t in tables])
    columns = {key: np.concatenate([t[key] for t in tables]) for key in tables[0]}
    delayed = np.array([bool(np.any(c.delay > 0)) for c in chains], dtype=bool)
    sources = np.array([index[c.source] for c in connections], dtype=np.int64)
    targets = np.array([index[c.target] for c in connections], dtype=np.int64)
    fronts = _offsets(np.array([len(c.pixel) for c in chains], dtype=np.int64))
    patterns = _offsets(np.array([len(c.position) for c in chains], dtype=np.int64))
    weights = _offsets(np.array([len(c.weight) for c in chains], dtype=np.int64))
    keeps = np.array([False, *(p.name in recorded for p in circuit.populations)])
    crossing = np.array([False, *(crosses(r) for r in rules)])
    # States of linear systems lie `stride` apart, behind everything else; the last one is the potential.
    stride = int(offset[-1] + current.sum())
    states = np.array([1, *(1 if found is None else found.states for found in linear)])
    jump_offset = np.where(kinds == LINEAR, jump_offset + (states - 1) * stride, jump_offset)
    start = np.zeros(stride * states.max())
    for population, layout, to in zip(circuit.populations, layouts[1:], jump_offset[1:], strict=True):
        rule = population.rule
        if type(rule) is CubaLIF:
            held = np.broadcast_to(-np.asarray(_held_current(rule)), population.shape).ravel()
            start[to : to + population.size] = held[layout.flat]
    starts = [
        start + np.searchsorted(chain.source, np.arange(sizes[source] + 1))
        for start, chain, source in zip(fronts[:-1], chains, sources, strict=True)
    ]

    def joined(parts: list[np.ndarray], dtype: type) -> np.ndarray:
        return np.concatenate([np.zeros(0, dtype), *parts], dtype=dtype, casting="unsafe")

    return Network(
        offset=offset,
        site_offset=_offsets(sizes // group),
        group=group,
        kind=kinds,
        rule=np.array(
            [
                ONE,
                *(
                    OWN if s is not None and s.resets else _rule(r, one_spike)
                    for r, s in zip(rules, linear, strict=True)
                ),
            ]
        ),
        bounded=np.array([False, *(r.lower_bound is not None for r in rules)]),
        crosses=crossing,
        refractory=np.array([False, *(bool(np.any(r.refractory)) for r in rules)]),
        recorded=keeps,
        marked=np.array(marked),
        limited=crossing | np.isin(np.arange(len(names)), targets[delayed]),
        max_rate=np.array([max_rate]),
        start=start,
        most=np.array([sizes[keeps].sum(), sum(int((c.delay > 0).sum()) for c in chains), sizes[1:].sum()]),
        jump_offset=jump_offset,
        flat=np.concatenate([layout.flat for layout in layouts]).astype(np.int32),
        parameter_offset=_offsets(lengths)[:-1],
        parameter_stride=(lengths == sizes).astype(np.int64),
        **columns,
        out=np.searchsorted(sources, np.arange(len(names) + 1)),
        target=targets,
        front_base=_offsets(np.array([len(s) for s in starts], dtype=np.int64))[:-1],
        spacing=np.array([c.spacing for c in chains], dtype=np.int64),
        row=np.array([c.row for c in chains], dtype=np.int64),
        delayed=delayed,
        closes=np.append((np.diff(sources) != 0) | (np.diff(targets) != 0), True),
        front=joined(starts, np.int64),
        front_target=joined(
            [c.targets(pattern, weight) for c, pattern, weight in zip(chains, patterns, weights, strict=False)],
            np.int64,
        ),
        front_factor=joined([c.factor for c in chains], np.float64),
        front_delay=joined([c.delay for c in chains] if delayed.any() else [], np.float64),
        pattern=joined([c.position << 32 | c.position_weight for c in chains], np.int64),
        weight=joined([c.weight for c in chains], np.float64),
    )


def crosses(rule: IF) -> bool:
    """Whether the rule can carry a neuron to its threshold between arrivals."""
    return rule.crosses


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _kind(rule: IF) -> int:
    if is_linear(rule):
        return LINEAR
    if isinstance(rule, CubaLIF):
        return CURRENT
    if isinstance(rule, LIF):
        return LEAK
    if not np.any(_rest(rule)):
        return STATIC
    return LINE if rule.fires else DRIFT


def _rule(rule: IF, one_spike: bool) -> int:
    if rule.reset == "zero":
        return ZERO
    return MANY if rule.spikes == "many" and not one_spike else ONE


def _held_current(rule: CubaLIF) -> np.ndarray:
    """Where the bias alone carries the synaptic current; a state holds how far the current is from there."""
    return np.asarray(rule.w_in, dtype=np.float64) * np.asarray(rule.bias, dtype=np.float64)


def _rest(rule: IF) -> np.ndarray:
    """Where a leaky membrane goes on its own; the slope of one that does not leak."""
    current = _held_current(rule) if isinstance(rule, CubaLIF) else np.asarray(rule.bias, dtype=np.float64)
    rest = np.asarray(rule.r, dtype=np.float64) * current
    return rest + np.asarray(rule.v_leak) if isinstance(rule, LIF) else rest


def _peak(rule: CubaLIF) -> np.ndarray:
    """The highest point of the response to a current of 1 / r at rest: q ** (-1 / (q - 1)) with q = tau_syn / tau."""
    ratio = np.asarray(rule.tau_syn, dtype=np.float64) / np.asarray(rule.tau, dtype=np.float64)
    excess = ratio - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        # Close to 1 the logarithm loses its digits, far below it the difference to 1 does.
        logarithm = np.where(np.abs(excess) < 0.5, np.log1p(excess), np.log(ratio))
        return np.exp(np.where(excess == 0, -1.0, -logarithm / excess))


def _input_table() -> dict[str, np.ndarray]:
    never = IF(threshold=None)
    return {key: value[None] for key, value in _parameters(never).items()}


def _parameters(rule: IF) -> dict[str, np.ndarray]:
    """Parameters by the names of `Network`, scalars or in the population's shape."""
    if is_linear(rule):  # what it adds to an IF is part of its systems
        names = ("threshold", "lower_bound", "v_reset", "refractory")
        rule = IF(**{name: getattr(rule, name) for name in names})
    values = {
        "threshold": np.inf if rule.threshold is None else rule.threshold,
        "lower": -np.inf if rule.lower_bound is None else rule.lower_bound,
        "v_reset": rule.v_reset,
        "rest": _rest(rule),
        "tau": rule.tau if isinstance(rule, LIF) else 1.0,
        "tau_syn": rule.tau_syn if isinstance(rule, CubaLIF) else 1.0,
        "r": rule.r,
        "peak": _peak(rule) if isinstance(rule, CubaLIF) else 0.0,
        "gain": rule.gain,
        "dead_time": rule.refractory,
    }
    return {key: np.asarray(value, dtype=np.float64) for key, value in values.items()}


def _site_and_table(
    population: Population, layout: Layout, incoming: list[Chain], one_spike: bool
) -> tuple[int, dict[str, np.ndarray], bool]:
    """Neurons per site, the parameters (one row per neuron, or one site that stands for all), and whether it is marked.

    With more than one neuron per site the gain goes into the weights of ``incoming``; a neuron of its own multiplies
    what arrives by its gain.
    """
    rule = population.rule
    flat = layout.flat
    full = {k: np.broadcast_to(v, population.shape).ravel()[flat] for k, v in _parameters(rule).items()}
    by_pixel = {k: v.reshape(layout.pixels, layout.channels) for k, v in full.items()}
    same_everywhere = {k: bool(np.all(v == v[:1])) for k, v in by_pixel.items()}
    uniform = {k: bool(np.all(v == v.flat[0])) for k, v in by_pixel.items()}
    # Whether it can matter that an arrival reaches one channel of a pixel and not its neighbour: one below its bound
    # waits for an arrival of its own. (One left at its threshold too: see `marked` in `Network`.)
    separate = (
        bool(np.any(full["lower"] > np.minimum(0, full["v_reset"])))
        or (_kind(rule) == LEAK and bool(np.any((full["rest"] < full["lower"]) | (full["rest"] >= full["threshold"]))))
        or (_kind(rule) in (DRIFT, CURRENT) and rule.lower_bound is not None)
    )
    shared = (
        layout.channels > 1
        and not is_linear(rule)
        and bool(incoming)
        and all(chain.full and chain.spacing == layout.channels for chain in incoming)
        and not crosses(rule)
        and _kind(rule) != LINE
        and not np.any(rule.refractory)
        and all(uniform[k] for k in ("tau", "tau_syn"))
        and same_everywhere["gain"]
        and (not separate or all(chain.without_zeros for chain in incoming))
    )
    if not shared:
        one = all(uniform.values())
        return 1, {k: v[:1] if one else v for k, v in full.items()}, False
    marked = _rule(rule, one_spike) == ONE and not all(chain.without_zeros for chain in incoming)
    gain = by_pixel["gain"][0]
    if np.any(gain != 1):
        for chain in incoming:
            chain.weight = (chain.weight.reshape(-1, layout.channels) * gain).ravel()
    once = all(same_everywhere.values())
    return layout.channels, {k: v[: layout.channels] if once else v for k, v in full.items()}, marked
