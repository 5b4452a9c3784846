"""Random Brian2 scripts on the device event_driven against a plain simulator in 40 digits (`tests/plain_brian2.py`)."""

import brian2
import numpy as np
import pytest
from brian2 import ms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mtt_brian.event_driven  # noqa: F401 - registers the device
from mtt_brian.errors import InputError
from tests.lazy_series import exp, tanh
from tests.plain_brian2 import Neuron, Synapse, simulate

DURATION = 0.03


@pytest.fixture(autouse=True)
def _device(event_driven):
    """See conftest."""


def random_functions(rng, n):
    """Functions of ``n`` states as text by the state whose slope has them, per ms, and for the plain simulator."""
    chosen = []
    for p in range(n):
        kind, q, r = rng.integers(0, 5), int(rng.integers(0, n)), int(rng.integers(0, n))
        c, k, m = (float(v) for v in rng.uniform((-0.05, 0.5, -1), (0.1, 2, 1)))
        chosen.append((int(kind), p, q, r, c, k, m))
    texts = {}
    for kind, p, q, r, c, k, m in chosen:
        u = f"({k!r}*x{q} - {m!r} + 0.2*x{r})"
        texts[p] = (
            f"{c!r}*exp({u})",
            f"{c!r}*x{r}/(1 + exp(-{u}))",
            f"{c!r}*tanh({u})*x{q}",
            f"{c!r}*{u}/(1 + x{r}**2)",
            f"{c!r}/(2 + tanh({u}))**2",
        )[kind]

    def functions(*x):
        for kind, p, q, r, c, k, m in chosen:
            u = k * x[q] - m + 0.2 * x[r]
            value = (
                lambda x, q, r, u: exp(u),
                lambda x, q, r, u: x[r] / (1 + exp(-1 * u)),
                lambda x, q, r, u: tanh(u) * x[q],
                lambda x, q, r, u: u / (1 + x[r] * x[r]),
                lambda x, q, r, u: 1 / ((2 + tanh(u)) * (2 + tanh(u))),
            )[kind](x, q, r, u)
            yield p, 1000 * c * value

    return texts, functions


def random_group(rng, k, steps_of=None, bends=None, functions_of=None):
    """Equations of a group as text, and the same numbers per second for the plain simulator.

    ``steps_of``: a random generator for a `TimedArray` that is added to the drive; it is returned as (time, change) of
    every neuron. For the plain simulator it is one more state, which does not decay and which inputs change.
    ``bends``: a random generator for products of states. ``functions_of``: one for functions of states.
    """
    n, size = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    cascade = rng.random() < 0.6
    rates = rng.uniform(0.03, 0.6, (1, n)) if rng.random() < 0.5 else rng.uniform(0.03, 0.6, (size, n))
    rates = np.broadcast_to(rates, (size, n)).copy()
    if n > 1 and rng.random() < 0.2:
        rates[:, 1] = rates[:, 0]  # equal time constants
    if rng.random() < 0.2:
        rates[:, 0] = 0.0  # an integrator
    a = rng.uniform(-0.4, 0.4, (n, n)) * (rng.random((n, n)) < 0.6)
    np.fill_diagonal(a, 0.0)
    a[0] = np.abs(a[0])
    a = np.triu(a) if cascade else a
    if not cascade:  # no growth: the diagonal outweighs its row
        rates = np.maximum(rates, np.abs(a).sum(axis=1) + 0.02)
    drive = rng.uniform(0.0, 0.25, size)
    adapts = rng.random() < 0.3 and n > 1
    held = [bool(rng.random() < 0.5) for _ in range(n)]
    refractory = float(rng.uniform(0.5, 4)) if rng.random() < 0.6 else 0.0
    subtract = rng.random() < 0.4
    lines, products = [], []
    functions_in, functions = random_functions(functions_of, n) if functions_of else ({}, None)
    if bends:
        products = [(p, p, int(bends.integers(0, n)), float(bends.uniform(-0.06, 0.06))) for p in range(n)]
        products += [(0, 0, 0, float(bends.uniform(0, 0.15)))]
    for p in range(n):
        terms = [f"{float(a[p, q])!r}*x{q}" for q in range(n) if a[p, q]]
        terms += [f"{c!r}*x{j}*x{q}" for to, j, q, c in products if to == p]
        terms += [functions_in[p]] if p in functions_in else []
        drive_term = ["drive", *(["table(t, i)"] if steps_of else [])] if p == 0 else []
        right = " + ".join([f"-rate{p}*x{p}", *terms, *drive_term])
        flag = " (unless refractory)" if held[p] and refractory else ""
        lines.append(f"dx{p}/dt = ({right})/ms : 1{flag}")
    lines += ["drive : 1", *(f"rate{p} : 1" for p in range(n))]
    threshold = "x0 - 0.3*x1 > 1" if adapts else "x0 > 1"
    reset = ["x0 -= 1.2"] if subtract else ["x0 = -0.1"]
    reset += ["x1 += 0.25"] if adapts else []
    changes, steps = [[] for _ in range(size)], np.zeros((1, size))
    if steps_of:
        dt = float(steps_of.uniform(0.001, 0.004))
        steps = steps_of.uniform(-0.1, 0.3, (8, size))
        changes = [[(m * dt, float(steps[m, i] - steps[m - 1, i])) for m in range(1, 8)] for i in range(size)]
    group = brian2.NeuronGroup(
        size,
        "\n".join(lines),
        threshold=threshold,
        reset="\n".join(reset),
        refractory=refractory * ms or False,
        name=f"g{k}",
        namespace={"table": brian2.TimedArray(steps, dt=dt * brian2.second)} if steps_of else {},
    )
    x = rng.uniform(-0.5, 0.7, (size, n))
    plain = []
    for i in range(size):
        matrix = [[float(a[p, q] if p != q else -rates[i, p]) * 1000 for q in range(n)] for p in range(n)]
        row = [1.0, *([-0.3] if adapts else [0.0] * (n > 1)), *[0.0] * (n - 2)]
        resets = [[float(p == q) for q in range(n)] + [0.0] for p in range(n)]
        resets[0] = [float(subtract), *[0.0] * (n - 1), -1.2 if subtract else -0.1]
        if adapts:
            resets[1][n] = 0.25
        offset = [float(drive[i]) * 1000, *[0.0] * (n - 1)]
        holds, start = [h and refractory > 0 for h in held], [float(v) for v in x[i]]
        if steps_of:
            matrix = [[*matrix[p], 1000.0 * (p == 0)] for p in range(n)] + [[0.0] * (n + 1)]
            resets = [[*r[:n], 0.0, r[n]] for r in resets] + [[*[0.0] * n, 1.0, 0.0]]
            offset, row, holds, start = [*offset, 0.0], [*row, 0.0], [*holds, False], [*start, float(steps[0, i])]
        bent = tuple((p, j, q, 1000 * c) for p, j, q, c in products)
        plain.append(Neuron(matrix, offset, row, 1.0, resets, refractory / 1000, holds, start, bent, functions, 1e3))
    group.drive = drive
    for p in range(n):
        setattr(group, f"x{p}", x[:, p])
        setattr(group, f"rate{p}", rates[:, p])
    return group, plain, changes


def random_script(seed, steps=False, also=None, bent=False, functions=False):
    rng = np.random.default_rng(seed)
    groups, plain, first, changes = [], [], [], []
    steps_of = np.random.default_rng([seed, 1]) if steps else None
    bends = np.random.default_rng([seed, 2]) if bent else None
    functions_of = np.random.default_rng([seed, 3]) if functions else None
    for k in range(int(rng.integers(1, 4))):
        bends_here = None if bent == "some" and k % 2 else bends
        group, neurons, changing = random_group(rng, k, steps_of, bends_here, functions_of)
        changes += changing
        first.append(len(plain))
        groups.append(group)
        plain += neurons
    inputs = 3
    times = np.sort(rng.uniform(0, DURATION, 40))
    sources = rng.integers(0, inputs, 40)
    generator = brian2.SpikeGeneratorGroup(inputs, sources, times * brian2.second, name="inputs")
    synapses, wires = [], []
    ends = [(generator, -1, k) for k in range(len(groups))]
    ends += [(groups[a], a, b) for a in range(len(groups)) for b in range(len(groups)) if rng.random() < 0.7]
    for at, (source, a, b) in enumerate(ends):
        target = groups[b]
        n = len(plain[first[b]].offset) - bool(steps)
        state = int(rng.integers(0, n))
        pairs = [(i, j) for i in range(len(source)) for j in range(len(target)) if rng.random() < 0.7]
        if not pairs:
            continue
        i, j = np.array(pairs).T
        weight = rng.uniform(-0.3, 0.6, len(i))
        delay = rng.uniform(0.1, 6, len(i))
        if a == -1 and rng.random() < 0.5:
            delay[:] = 0.0
        if a >= 0 and rng.random() < 0.6:  # within an instant, too weak to go on for ever
            at_once = rng.random(len(i)) < 0.7
            weight[at_once], delay[at_once] = rng.uniform(-0.3, 0.35, at_once.sum()) / len(groups), 0.0
        one = brian2.Synapses(source, target, "w : 1", on_pre=f"x{state}_post += w", name=f"s{at}")
        one.connect(i=i, j=j)
        one.w, one.delay = weight, delay * ms
        synapses.append(one)
        for p, q, w, d in zip(i, j, weight, delay, strict=True):
            origin = -1 - int(p) if a == -1 else first[a] + int(p)
            wires.append(Synapse(origin, first[b] + int(q), state, float(w), float((d * ms) / brian2.second)))
    monitors = [brian2.SpikeMonitor(group, name=f"m{k}") for k, group in enumerate(groups)]
    network = brian2.Network(groups, generator, synapses, monitors)
    events = [(float(t), -1 - int(s)) for t, s in zip(times, sources, strict=True)]
    for neuron, changing in enumerate(changes):
        for t, change in changing:
            inputs += 1
            events.append((t, -inputs))
            wires.append(Synapse(-inputs, neuron, len(plain[neuron].offset) - 1, change, 0.0))
    if also is not None:
        also(groups, wires, events, first)
    return network, monitors, plain, wires, events, first


def compare(seed, steps=False, also=None, bent=False, functions=False):
    """Spikes of a random script; ``also(groups, wires, events, first)`` may add to it and to the plain description."""
    network, monitors, plain, wires, events, first = random_script(seed, steps, also, bent, functions)
    network.run(DURATION * brian2.second)
    found = sorted(
        (float(t), first[k] + int(i)) for k, m in enumerate(monitors) for t, i in zip(m.t_, m.i, strict=True)
    )
    expected = simulate(plain, wires, events, DURATION, 1e-4)
    assert [i for _, i in found] == [i for _, i in expected], seed
    np.testing.assert_allclose([t for t, _ in found], [t for t, _ in expected], rtol=0, atol=1e-11)
    return len(expected)


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**6))
def test_random_scripts(seed):
    compare(seed)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(10**6, 10**9))
def test_many_random_scripts(seed):
    compare(seed)


@pytest.mark.parametrize("seed", [103, 126, 129])
def test_random_scripts_with_timed_arrays(seed):
    """Three that the plain simulator runs in a second."""
    assert compare(seed, steps=True) > 10


@pytest.mark.slow
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(10**6, 10**9))
def test_many_random_scripts_with_timed_arrays(seed):
    compare(seed, steps=True)


@pytest.mark.parametrize("seed", [4, 11, 19])
def test_random_scripts_with_products_of_states(seed):
    assert compare(seed, bent=True) > 3


@pytest.mark.slow
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(10**6, 10**9))
def test_many_random_scripts_with_products_of_states(seed):
    try:
        compare(seed, bent=True)
    except InputError as error:
        if "grow without bound" not in str(error):
            raise


def test_random_scripts_with_functions_of_states():
    """One that the plain simulator runs in two seconds."""
    assert compare(11, functions=True) > 20


@pytest.mark.slow
@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(10**6, 10**9))
def test_many_random_scripts_with_functions_of_states(seed):
    try:
        compare(seed, bent=seed % 2 == 1, functions=True)
    except InputError as error:
        if "grow without bound" not in str(error):
            raise


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 7, 8, 13])
def test_random_scripts_of_linear_groups_and_others(seed):
    assert compare(seed, bent="some") > 3


def test_random_scripts_with_products_and_timed_arrays():
    assert compare(126, steps=True, bent=True) > 3


def test_the_random_scripts_fire():
    assert sum(compare(seed) for seed in (1, 2)) > 10
