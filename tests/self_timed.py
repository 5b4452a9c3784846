"""Random networks that find their instants themselves, and their comparison with the exact engine."""

from dataclasses import fields, replace

import numpy as np

import mtt_brian as mb
from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Delay, Dense
from mtt_brian.circuit.spikes import InputSpikes
from mtt_brian.engines.brian2.runtime import RuntimeEngine
from mtt_brian.neuron import IF, LIF, CubaLIF
from tests.engines import simulator

INPUTS = 4
#: Powers of two, so that all jumps are multiples of 1/16 and sums of them are exact.
TAU, TAU_SYN = (2.0**-7, 2.0**-5), (2.0**-8, 2.0**-7, 2.0**-5)
FIRING, SILENT = ("IF", "LIF", "CubaLIF"), ("I", "LI", "CubaLI")
KINDS = (*FIRING, *SILENT, "delays")


def firing_rule(structure, rng, kind):
    """A rule of one of the kinds IF, LIF and CubaLIF that can fire between arrivals.

    Args:
        structure: draws what is the same for all neurons of a population.
        rng: draws the values.
        kind: of the rule.
    """
    draw = lambda values: rng.choice(values, 3) if rng.random() < 0.3 else float(rng.choice(values))  # noqa: E731
    reset = str(structure.choice(["subtract", "zero"]))
    common = {
        "threshold": draw([0.5, 0.75, 1.0]),
        "reset": reset,
        "spikes": str(structure.choice(["one", "many"])),
        "v_reset": draw([0.0, -0.25]) if reset == "zero" else 0.0,
        "lower_bound": None if structure.random() < 0.25 else draw([-1.0, -0.125, 0.0625]),
        "refractory": float(rng.choice([0.0, 0.0, 0.001, 0.003])),
    }
    if kind != "IF":
        # With thresholds that are simple numbers, a decayed potential can be equal to one on paper: rounding decides.
        common["threshold"] = rng.uniform(0.5, 1.0)
    if kind == "IF":
        return IF(**common, bias=draw([-10.0, 0.0, 20.0, 25.0, 30.0, 70.0]))
    if kind == "LIF":
        tau = draw(TAU)
        return LIF(**common, tau=tau, r=tau, v_leak=draw([0.0, 0.25, 1.25]), bias=draw([-8.0, 0.0, 40.0, 160.0]))
    tau_syn = draw(TAU_SYN)
    return CubaLIF(
        **common, tau=draw(TAU), tau_syn=tau_syn, w_in=tau_syn * 4, r=draw([0.5, 1.0]), v_leak=draw([0.0, 0.0, 1.125]),
        bias=draw([-8.0, 0.0, 0.0, 64.0]),
    )  # fmt: skip


def silent_rule(structure, rng, kind):
    """A readout: I, LI or CubaLI."""
    bound = [None, -0.5][structure.integers(2)]
    if kind == "I":
        return IF(threshold=None, bias=float(rng.choice([0.0, 3.0])), lower_bound=bound)
    if kind == "LI":
        return LIF(threshold=None, tau=2.0**-6, r=2.0**-6, bias=float(rng.choice([0.0, 4.0])), lower_bound=bound)
    return CubaLIF(threshold=None, tau=2.0**-6, tau_syn=2.0**-7, w_in=2.0**-7, bias=float(rng.choice([0.0, 4.0])))


def network(seed, kind, part=0):
    """Two firing populations, the second one also next to the input, and a readout; one of them of the given kind.

    Of the kind "delays", the connections have several delays each, and the second population reaches the first one.
    Networks of one seed differ in their values only.
    """
    structure, rng = np.random.default_rng(seed), np.random.default_rng([seed, part])
    kinds = [str(k) for k in structure.choice(FIRING, 2)]
    if kind in FIRING:
        kinds[structure.integers(2)] = kind
        readout = str(structure.choice([*SILENT, "none"]))
    else:
        readout = str(structure.choice(["I", "CubaLI", "none"])) if kind == "delays" else kind
    populations = [Population(name, (3,), firing_rule(structure, rng, k)) for name, k in zip("ab", kinds, strict=True)]
    edges = [("input", "a", INPUTS), ("input", "b", INPUTS), ("a", "b", 3)]
    if readout != "none":
        populations.append(Population("out", (3,), silent_rule(structure, rng, readout)))
        edges.append(("b", "out", 3))
    connections = [
        Connection(source, target, (Dense(rng.integers(-6, 10, (3, n)) / 16, (n,)),), (), n)
        for source, target, n in edges
    ]
    if kind == "delays":
        late = [replace(c, operators=(*c.operators, Delay(rng.integers(0, 4, 3) / 1000))) for c in connections]
        back = (Dense(rng.integers(-6, 6, (3, 3)) / 64, (3,)), Delay(rng.integers(1, 6, 3) / 1000))
        connections = [*late, Connection("b", "a", back, (), 3)]
    return Circuit("input", (INPUTS,), tuple(populations), tuple(connections), populations[-1].name)


def side_by_side(parts):
    """One circuit of several that differ in their values only, without synapses between them."""
    first, count = parts[0], len(parts)

    def rule_of(name):
        rules = [part.population[name].rule for part in parts]
        values = {}
        for field in fields(rules[0]):
            found = [getattr(rule, field.name) for rule in rules]
            is_number = not isinstance(found[0], str | bool | None)
            values[field.name] = np.concatenate([np.broadcast_to(x, 3) for x in found]) if is_number else found[0]
            assert is_number or found == [found[0]] * count
        return type(rules[0])(**values)

    def operator_of(k, m):
        found = [part.connections[k].operators[m] for part in parts]
        if isinstance(found[0], Delay):
            return Delay(np.concatenate([operator.seconds for operator in found]))
        rows, columns = found[0].weight.shape
        weight = np.zeros((count * rows, count * columns))
        for part, operator in enumerate(found):
            weight[part * rows : (part + 1) * rows, part * columns : (part + 1) * columns] = operator.weight
        return Dense(weight, (count * columns,))

    populations = [Population(p.name, (3 * count,), rule_of(p.name)) for p in first.populations]
    connections = [
        replace(
            c, operators=tuple(operator_of(k, m) for m in range(len(c.operators))), source_size=count * c.source_size
        )
        for k, c in enumerate(first.connections)
    ]
    return Circuit("input", (INPUTS * count,), tuple(populations), tuple(connections), first.output)


def trains(seed, parts=1):
    """Three recordings of different lengths with several events at one instant; one has no event at all."""
    rng = np.random.default_rng(seed)
    made, inputs = [], parts * INPUTS
    for k in range(3):
        number = 25 * parts if k != 1 else 0
        rows = np.unique(rng.integers(0, 30, number) * inputs + rng.integers(0, inputs, number))
        counts = rng.integers(1, 3, len(rows))
        end = float(rng.choice([0.03, 0.0325, 0.04]))
        made.append(InputSpikes(rows // inputs / 1000, rows % inputs, counts, np.arange(len(rows)), end))
    return made


def assert_equal_runs(ours, theirs):
    """The same spikes at times equal up to rounding, the same readouts; returns the number of spikes."""
    number = 0
    for a, b in zip(ours, theirs, strict=True):
        assert list(a.spikes) == list(b.spikes)
        for name, spikes in b.spikes.items():
            assert a.spikes[name].i.tolist() == spikes.i.tolist(), name
            assert a.spikes[name].n.tolist() == spikes.n.tolist(), name
            np.testing.assert_allclose(a.spikes[name].t, spikes.t, rtol=1e-12, atol=1e-15, err_msg=name)
        for name, counts in b.counts.items():
            np.testing.assert_array_equal(a.counts[name], counts, err_msg=name)
            number += counts.sum() if name != "input" else 0
        np.testing.assert_allclose(a.readout, b.readout, rtol=1e-9, atol=1e-9)
        assert a.synops == b.synops
    return number


def compare(seed, kind, engine="brian2", record="all", every_step=False, parts=1, **options):
    """Runs random networks of a kind, ``parts`` of them in one circuit; returns the number of spikes."""
    circuit = network(seed, kind) if parts == 1 else side_by_side([network(seed, kind, k) for k in range(parts)])
    given = trains(seed, parts)
    made = simulator(circuit, engine, record=record, **options)
    if every_step:
        made.engine = RuntimeEngine(made.circuit, target="numpy", record=record, every_step=True, **options)
    expected = mb.Simulator(circuit, record=record).engine.run(given)
    return assert_equal_runs(made.engine.run(given), expected)


def compare_100(kind):
    """20 structures with five sets of values each, side by side: Brian2 makes code for each structure."""
    for seed in range(20):
        compare(100 + seed, kind, parts=5, batch_size=1 + (100 + seed) % 3)


def compare_tables(kind):
    """Counts and final states, with all instants in tables."""
    for seed in range(8):
        compare(seed, kind, record=["counts", "output"][seed % 2], every_step=True, parts=3, batch_size=2)
