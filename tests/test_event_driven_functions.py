"""Functions of states on the device event_driven: numbers on paper, series in 40 digits, poles and overflow."""

import math
from decimal import Decimal, localcontext

import brian2
import mpmath
import numpy as np
import pytest
from brian2 import mM, ms, mV, nA, nS, pF, second

from mtt_brian.engines.exact.jit import kernel
from mtt_brian.engines.exact.series import ORDER
from mtt_brian.engines.exact.taylor import LENGTH, SeriesSystem, X, expand, taylor_rule
from mtt_brian.engines.exact.vectors import LANES
from mtt_brian.errors import InputError
from mtt_brian.neuron import EquationNeuron
from mtt_brian.neuron.equation_neuron import (
    EXP,
    EXPREL,
    MOMENT,
    MOMENTS,
    PRODUCT,
    RECIPROCAL,
    SUM,
    TANH,
    Operation,
    Systems,
)
from tests.lazy_series import DIGITS, exp, hodgkin_huxley, solution, spikes, tanh, value


@pytest.fixture(autouse=True)
def _device(event_driven):
    """See conftest."""


def trains(group, duration, *others):
    """Spike times of every neuron in seconds, and the monitor."""
    monitor = brian2.SpikeMonitor(group, variables="vm" if "vm" in group.equations else "v")
    brian2.Network(group, monitor, *others).run(duration)
    return [np.array(t / second) for t in monitor.spike_trains().values()], monitor


def times(equation, start, threshold, duration=30.0, more="", **options):
    """Spike times in ms of a neuron with one equation, which goes back to its start."""
    group = brian2.NeuronGroup(
        1, f"dv/dt = {equation}/ms : 1\n{more}", threshold=f"v > {threshold}", reset=f"v = {start!r}", **options
    )
    group.v = start
    return trains(group, duration * ms)[0][0] * 1000


# ----- numbers on paper


@pytest.mark.parametrize("threshold", [1, 5, 20, 40, 300])
def test_an_exponential_neuron_fires_at_one_minus_its_exponential(threshold):
    """At 40, v goes from 36 to infinity between two numbers of float64."""
    found = times("exp(v)", 0, threshold, duration=4.5)
    expected = np.arange(1, len(found) + 1) * -math.expm1(-threshold)
    assert len(found) == int(4.5 / expected[0])
    np.testing.assert_allclose(found, expected, rtol=3e-15)


@pytest.mark.parametrize(
    ("equation", "start", "threshold", "expected"),
    [
        ("1/(1 + v)", 0, 2, 4),  # v = sqrt(1 + 2 t) - 1
        ("(1 + v)**-1", 0, 2, 4),
        ("(1. + v)**-2.", 0, 2, 26 / 3),
        ("v/(1 + v)", 1, 3, 2 + math.log(3)),
        ("(v/(1 + v) - 2/(1 + v) + 2/(v + 1))", 1, 3, 2 + math.log(3)),
        ("1/v", 1, 3, 4),
        ("v**2/(1 + v**2)", 1, 2, 1.5),
        ("1/(1 + exp(-v))", 0, 3, 4 - math.exp(-3)),
        ("exp(-v)", -1, 2, math.exp(2) - math.exp(-1)),
        ("exp(v)*exp(-2*v)", -1, 2, math.exp(2) - math.exp(-1)),
        ("2**(-v)", 0, 2, 3 / math.log(2)),
        ("exp(-v**2/2)*exp(v**2/2)", 0, 2, 2),
        ("tanh(v)", 1, 3, math.log(math.sinh(3) / math.sinh(1))),
        ("tanh(v)", 1e-8, 3, math.log(math.sinh(3) / math.sinh(1e-8))),
        ("1/cosh(v)", 0, 2, math.sinh(2)),
        ("1/sinh(v)", 0.5, 2, math.cosh(2) - math.cosh(0.5)),
        ("sinh(v)", 1e-7, 2, math.log(math.tanh(1) / math.tanh(5e-8))),
        ("(1 - tanh(v)**2)", 0, 2, 1 + math.sinh(4) / 4),
        ("exp(exp(v) - v)", 0, 1, math.exp(-1) - math.exp(-math.e)),
        ("1/(1 + 1/(1 + v))", 0, 2, 2 + math.log(3)),
        ("(exp(v)/(1 + exp(v)))**5*(1 + exp(-v))**5", 0, 2, 2),
        ("(1 + i)**13*(v + 1)*(v + 2)", 0, 2, math.log(3 / 2)),
        ("exp(k*(v - 1)/2)", 0, 2, 2 * (math.exp(1 / 2) - math.exp(-1 / 2))),
    ],
)
def test_the_time_of_one_state_is_an_integral(equation, start, threshold, expected):
    found = times(equation, start, threshold, expected + 0.01, "k = 1 + 0*i : 1")
    np.testing.assert_allclose(found, [expected], rtol=1e-13 if start == 1e-8 else 3e-14)


def exprel(u):
    return mpmath.expm1(u) / u if u else mpmath.mpf(1)


@pytest.mark.parametrize(
    ("equation", "right", "start", "threshold"),
    [
        ("exprel(v)", exprel, -3, 3),
        ("exprel(v)", exprel, 0, 2),
        ("exprel(v)", exprel, -200, 1),
        ("exprel(v)", exprel, 1e-300, 40),
        ("1/exprel(v)", lambda v: 1 / exprel(v), -2, 5),
        ("exprel(-2*v)*exp(v)", lambda v: exprel(-2 * v) * mpmath.exp(v), -1, 1.5),
        ("exprel(v*v - 1)", lambda v: exprel(v * v - 1), -2, 2),
        ("(expm1(v) + 2)", lambda v: mpmath.exp(v) + 1, -1, 1),
        ("v/(exp(v) - 1)", lambda v: 1 / exprel(v), -1, 2),
        ("v/(exp(v) - 1)", lambda v: 1 / exprel(v), 0, 2),
        ("v/expm1(v)", lambda v: 1 / exprel(v), -1, 2),
        ("0.01*(10 - v)/(exp(1 - v/10) - 1.)", lambda v: mpmath.mpf(1) / 10 / exprel(1 - v / 10), 0, 20),
        ("k*(2 - v)/(1 - exp((v - 2)/(0.7*k)))", lambda v: 0.7 / exprel((v - 2) / mpmath.mpf("0.7")), 0, 4),
        ("(v/(exp(v) - 1)/(v/(exp(v) - 1) + exp(v)))**3", lambda v: (1 + mpmath.exp(v) * exprel(v)) ** -3, -1, 1),
        ("(1 + v**2)*v*exp(-v)/(2*exp(v) - 2)", lambda v: (1 + v * v) * mpmath.exp(-v) / 2 / exprel(v), -0.5, 0.5),
    ],
)
def test_quotients_that_have_a_value_where_both_sides_are_0(equation, right, start, threshold):
    with mpmath.workdps(30):
        zero = [0] if start < 0 < threshold else []
        expected = float(mpmath.quad(lambda v: 1 / right(v), [start, *zero, threshold]))
    found = times(equation, start, threshold, expected * 1.001, "k = 1 + 0*i : 1")
    np.testing.assert_allclose(found, [expected], rtol=3e-14)


def test_a_neuron_that_ends_between_two_times_is_watched_and_stopped_there():
    """dv/dt = exp(v) / ms from 0 to 40: all of 37 .. 40 lies within a unit in the last place of 1 ms."""
    group = brian2.NeuronGroup(2, "dv/dt = exp(v)/ms : 1", threshold="v > 40", reset="v = 0", refractory="i*0.5*ms")
    monitor = brian2.SpikeMonitor(group, variables="v")
    watch = brian2.StateMonitor(group, "v", record=True, dt=0.25 * ms)
    source = brian2.SpikeGeneratorGroup(1, [0, 0], [1, 2] * ms)
    wires = brian2.Synapses(source, group, on_pre="v += 0")
    wires.connect()
    network = brian2.Network(group, monitor, watch, source, wires)
    for duration in (0.5, 0.5, 1, 1.25):
        network.run(duration * ms)
    found = monitor.spike_trains()
    np.testing.assert_allclose(found[0] / ms, [1, 2, 3], rtol=1e-15)
    np.testing.assert_allclose(monitor.v, 40, rtol=1e-14)
    expected = -np.log1p(-np.array([0, 0.25, 0.5, 0.75]))
    np.testing.assert_allclose(watch.v[0, :4], expected, rtol=1e-14)
    assert np.all(np.isfinite(watch.v))


def test_a_timed_array_within_functions():
    """dv/dt = exp(k - v) with k = 0, 1, and v = log(1 + t), then log(e^v + e t)."""
    stim = brian2.TimedArray([0, 1], dt=1 * ms)
    for equation in ("exp(stim(t) - v)", "1/(exp(v)/exp(stim(t)))", "exp(-v)/(exp(1)*(1 - stim(t)) + stim(t))*exp(1)"):
        found = times(equation, 0, 2, 3.4, namespace={"stim": stim})
        np.testing.assert_allclose(found, [1 + (math.exp(2) - 2) / math.e], rtol=1e-14)


# ----- neurons of the literature, in 40 digits

#: Brette and Gerstner 2005 and Brian2's example: tauw in ms, a in nS, b in nA, Vr in mV.
PATTERNS = {
    "regular": (144, 4, 0.0805, -70.6),
    "bursts": (20, 4, 0.5, -45.4),
    "fast": (144, 2 * 281 / 144, 0, -70.6),
    "first burst": (150, 4, 0.1, -50),
}


def adex(patterns):
    """Neurons as in `PATTERNS`, with conductances."""
    group = brian2.NeuronGroup(
        len(patterns),
        """dvm/dt = (gL*(EL - vm) + gL*DeltaT*exp((vm - VT)/DeltaT) + I - w + ge*(0*mV - vm))/C : volt
        dw/dt = (a*(vm - EL) - w)/tauw : amp
        dge/dt = -ge/(5*ms) : siemens
        tauw : second
        a : siemens
        b : amp
        Vr : volt""",
        threshold="vm > 20*mV",
        reset="vm = Vr; w += b",
        namespace={
            "C": 281 * pF, "gL": 30 * nS, "EL": -70.6 * mV, "VT": -50.4 * mV, "DeltaT": 2 * mV, "I": 1 * nA,
        },
    )  # fmt: skip
    group.vm = -70.6 * mV
    tau, a, b, reset = np.array(patterns).T
    group.tauw, group.a, group.b, group.Vr = tau * ms, a * nS, b * nA, reset * mV
    return group


@pytest.mark.parametrize("name", PATTERNS)
def test_an_adaptive_exponential_neuron(name):
    """In mV, ms, pA and nS; every spike, while the membrane is within 1e-17 s of infinity."""
    group = adex([PATTERNS[name]])
    arrivals = [(10.3, 5), (25.25, 5), (40, 20), (41, 20)]
    source = brian2.SpikeGeneratorGroup(4, range(4), [t for t, _ in arrivals] * ms)
    wires = brian2.Synapses(source, group, "g : siemens", on_pre="ge += g")
    wires.connect()
    wires.g = [g for _, g in arrivals] * nS
    (found,), monitor = trains(group, 60 * ms, source, wires)
    tau, a, b, reset = PATTERNS[name]

    def right(v, w, g):
        membrane = -30 * (v + 70.6) + 60 * exp((v + 50.4) / 2) + 1000 - w - g * v
        return membrane / 281, (a * (v + 70.6) - w) / tau, g / -5

    expected = spikes(
        right,
        (-70.6, 0, 0),
        20,
        lambda v, w, g: (reset, w + 1000 * Decimal(b), g),
        60,
        [(t, 2, jump) for t, jump in arrivals],
    )
    assert len(found) == len(expected) > 2
    np.testing.assert_allclose(found, np.array(expected) / 1000, rtol=0, atol=2e-15)
    np.testing.assert_allclose(monitor.vm / mV, 20, rtol=1e-13)


def test_a_neuron_with_the_block_of_nmda_receptors():
    """Jahr and Stevens 1990, in mV and ms: the conductance is divided by 1 + [Mg] exp(-0.062 v) / 3.57."""
    group = brian2.NeuronGroup(
        1,
        """dv/dt = (-70*mV - v - g*v*block)/(20*ms) : volt
        dg/dt = (2*x - g)/(30*ms) : 1
        dx/dt = -x/(3*ms) : 1
        block = 1./(1. + Mg/mM*exp(-0.062*v/mV)/3.57) : 1
        Mg : mM""".replace(": mM", ": mmolar"),
        threshold="v > -50*mV",
        reset="v = -60*mV",
        namespace={"mM": mM},
    )
    group.v, group.Mg = -70 * mV, 1 * mM
    source = brian2.SpikeGeneratorGroup(3, range(3), [1, 4, 30] * ms)
    wires = brian2.Synapses(source, group, on_pre="x += 20")
    wires.connect()
    (found,), _ = trains(group, 80 * ms, source, wires)

    def right(v, g, x):
        return (-70 - v - g * v / (1 + exp(-0.062 * v) / 3.57)) / 20, (2 * x - g) / 30, x / -3

    expected = spikes(right, (-70, 0, 0), -50, lambda v, g, x: (-60, g, x), 80, [(t, 2, 20) for t in (1, 4, 30)])
    assert len(expected) == 2
    np.testing.assert_allclose(found, np.array(expected) / 1000, rtol=0, atol=1e-15)


def test_morris_and_lecar():
    """tanh, and cosh in the rate of the second state; Morris and Lecar 1981 in mV and ms."""
    group = brian2.NeuronGroup(
        1,
        """dv/dt = (I - 4.4*m*(v - 120) - 8*n*(v + 84) - 2*(v + 60))/20/ms : 1
        dn/dt = 0.04*cosh((v - 2)/60)*(0.5*(1 + tanh((v - 2)/30)) - n)/ms : 1
        m = 0.5*(1 + tanh((v + 1.2)/18)) : 1
        I : 1""",
        threshold="v > 20",
        reset="v = -30",
    )
    group.v, group.I = -60, 150
    (found,), _ = trains(group, 150 * ms)

    def right(v, n):
        m = (1 + tanh((v + 1.2) / 18)) / 2
        rate = (exp((v - 2) / 60) + exp((2 - v) / 60)) / 2
        return (150 - 4.4 * m * (v - 120) - 8 * n * (v + 84) - 2 * (v + 60)) / 20, 0.04 * rate * (
            (1 + tanh((v - 2) / 30)) / 2 - n
        )

    expected = spikes(right, (-60, 0), 20, lambda v, n: (-30, n), 150)
    assert len(expected) > 2
    np.testing.assert_allclose(found, np.array(expected) / 1000, rtol=0, atol=1e-14)


@pytest.mark.parametrize("quotient", ["{0}/(exp(({0})/{1}) - 1)", "{1}/exprel(({0})/{1})"])
def test_hodgkin_and_huxley(quotient):
    """Rates of Traub and Miles 1991, whose quotients pass 0 in every spike; in mV and ms."""
    rates = [quotient.format(*each) for each in (("(13 - v)", 4), ("(v - 40)", 5), ("(15 - v)", 5))]
    group = brian2.NeuronGroup(
        1,
        f"""dv/dt = (I - 0.1*(v + 2) - 100*m**3*h*(v - 113) - 30*n**4*(v + 27))/ms : 1
        dm/dt = (0.32*{rates[0]}*(1 - m) - 0.28*{rates[1]}*m)/ms : 1
        dn/dt = (0.032*{rates[2]}*(1 - n) - 0.5*exp((10 - v)/40)*n)/ms : 1
        dh/dt = (0.128*exp((17 - v)/18)*(1 - h) - 4/(1 + exp((40 - v)/5))*h)/ms : 1
        I : 1""",
        threshold="v > 43",
        refractory=3 * ms,
    )
    group.v, group.I, group.h = -2, 4, 0.9
    (found,), _ = trains(group, 30 * ms)

    # Nothing is reset, and the membrane is below the threshold again when the refractory period ends.
    expected = spikes(
        hodgkin_huxley, (-2, 0, 0, Decimal("0.9")), 43, lambda *x: x, 30, held=hodgkin_huxley, refractory=3
    )
    assert len(expected) > 2
    np.testing.assert_allclose(found, np.array(expected) / 1000, rtol=0, atol=1e-14)


def test_a_membrane_that_is_held_while_its_gate_moves():
    """v is 0 for 2 ms after a spike; u goes on towards 1 / (1 + exp(-v))."""
    group = brian2.NeuronGroup(
        1,
        "dv/dt = (exp(v) - u/2)/ms : 1 (unless refractory)\ndu/dt = (1/(1 + exp(-v)) - u*exp(-u))/ms : 1",
        threshold="v > 3",
        reset="v = 0",
        refractory=2 * ms,
    )
    (found,), _ = trains(group, 9 * ms)

    def free(v, u):
        return exp(v) - u / 2, 1 / (1 + exp(-v)) - u * exp(-u)

    def held(v, u):
        return 0 * v, 1 / (1 + exp(-v)) - u * exp(-u)

    expected = spikes(free, (0, 0), 3, lambda v, u: (0, u), 9, held=held, refractory=2)
    np.testing.assert_allclose(found * 1000, expected, rtol=1e-14)
    assert len(found) > 2


def test_a_neuron_among_others_has_the_bits_of_the_neuron_alone():
    rng = np.random.default_rng(2)
    patterns = rng.uniform((20, 2, 0, -70), (200, 6, 0.3, -48), (40, 4))
    together, _ = trains(adex(patterns), 100 * ms)
    assert sum(map(len, together)) > 150
    for k in (0, 17, 39):
        assert np.array_equal(trains(adex([patterns[k]]), 100 * ms)[0][0], together[k])


def test_several_runs_give_the_bits_of_one():
    whole = trains(adex(list(PATTERNS.values())), 60 * ms)[0]
    group = adex(list(PATTERNS.values()))
    monitor = brian2.SpikeMonitor(group)
    watch = brian2.StateMonitor(group, "vm", record=True, dt=0.37 * ms)
    network = brian2.Network(group, monitor, watch)
    network.run(13.1 * ms)
    network.store()
    network.run(9 * ms)
    network.restore()
    for duration in (3.9, 1e-9, 43 - 1e-9):
        network.run(duration * ms)
    found = [np.array(t / second) for t in monitor.spike_trains().values()]
    assert all(np.array_equal(a, b) for a, b in zip(whole, found, strict=True))


# ----- cells


@kernel
def compute(rule, lanes):
    return expand(rule, lanes, 1)


#: exp, reciprocal and tanh of sums of two states x, y and of each other: those of z are 2.. in their order.
OPERATIONS = (
    Operation(SUM, 0),  # 2: x - 2 y + 0.3
    Operation(EXP, 2),
    Operation(SUM, 1),  # 4: 1.5 + exp
    Operation(RECIPROCAL, 4),
    Operation(TANH, 2, 7),  # 6
    Operation(PRODUCT, 6, 6),
    Operation(PRODUCT, 1, 5),
    Operation(EXP, 0),
)


def test_a_cell_is_exact_and_does_not_depend_on_the_other_lanes():
    sums = np.zeros((2, 11))
    sums[0, :3], sums[1, [2, 4]] = (1, -2, 0.3), (1.5, 1)
    slopes = np.zeros((2, 11))
    slopes[0, [0, 6, 9]], slopes[1, [1, 2, 7, 10]] = (-100, 400, 100), (-50, 20, 300, 200)
    right = np.concatenate([slopes, sums])
    system = SeriesSystem(right, right != 0, OPERATIONS, np.array([1.0, 0]), -0.5)
    rule = taylor_rule([system, system._replace(right=2 * right)], 0, LANES, 4)
    begin = np.random.default_rng(3).normal(0, 1.5, (LANES, 2))
    rule.cells[:LANES, X : X + 2, 0], rule.lane[0], rule.lane[1, ::2] = begin, range(LANES), 1
    compute(rule, LANES)
    together, lengths = rule.cells[:LANES].copy(), rule.own[LENGTH].copy()
    rule.cells[:LANES, :, 1:] = 0.0
    for lane in range(LANES):
        rule.lane[0, 0], rule.lane[1, 0] = lane, 1 - lane % 2
        assert compute(rule, 1) == lengths[lane]
    assert np.array_equal(rule.cells[:LANES], together)
    for lane in range(LANES):
        f = 2 - lane % 2

        def slopes_of(x, y, f=f):
            u = f * (x - 2 * y + Decimal("0.3"))
            s = 1 / (f * (exp(u) + Decimal("1.5")))
            return f * (400 * s - 100 * x + 100 * (y * s)), f * (20 - 50 * y + 300 * tanh(u) + 200 * exp(x))

        with localcontext(prec=DIGITS):
            states = solution(slopes_of, [Decimal(v) for v in begin[lane].tolist()])
            for state in states:
                state[2 * ORDER]
            expected = [float(value(state, Decimal(lengths[lane]))) for state in states]
        np.testing.assert_allclose(
            together[lane, X : X + 2].sum(axis=1), expected, rtol=0, atol=5e-15 * np.abs(begin).max()
        )


def test_a_cell_with_a_quotient_near_0_does_not_depend_on_the_other_lanes():
    """dx/dt = 100 exprel(2 x - 1): near 1/2 by moments, elsewhere by a division, which would make short cells there."""
    moments = [Operation(MOMENT, 1, n) for n in MOMENTS]
    operations = (Operation(SUM, 0), Operation(EXP, 1), *moments, Operation(EXPREL, 1, 2))
    right = np.zeros((2, 2 + len(operations)))
    right[0, -1], right[1, :2] = 100, (2, -1)
    system = SeriesSystem(right, right != 0, operations, np.array([1.0]), -0.5)
    rule = taylor_rule([system], 0, LANES, 4)
    begin = np.array([0.5, 0, 1, -0.001, 1.001, 0.499, 0.3, 0.7, 1e-9, -4, 3, 2, -1, 0.02, 0.98, 0.6])
    rule.cells[:LANES, X, 0], rule.lane[0] = begin, range(LANES)
    compute(rule, LANES)
    together, lengths = rule.cells[:LANES].copy(), rule.own[LENGTH].copy()
    rule.cells[:LANES, :, 1:] = 0.0
    for lane in range(LANES):
        rule.lane[0, 0] = lane
        assert compute(rule, 1) == lengths[lane]
    assert np.array_equal(rule.cells[:LANES], together)
    assert lengths[np.abs(2 * begin - 1) < 1].min() > 5e-4

    def duration(start, end):
        return mpmath.quad(lambda x: 1 / exprel(2 * x - 1), [start, end]) / 100

    for lane in range(LANES):
        with mpmath.workdps(40):
            start = mpmath.mpf(begin[lane])
            end = mpmath.findroot(lambda x, start=start, lane=lane: duration(start, x) - lengths[lane], start + 0.01)
        np.testing.assert_allclose(together[lane, X].sum(), float(end), rtol=0, atol=1e-15 * max(1, abs(float(end))))


def test_operations_whose_arguments_are_not_known():
    one = np.ones((1, 1))
    for operations, sums in (
        ((Operation(PRODUCT, 0, 1),), 0),
        ((Operation(EXP, 1),), 0),
        ((Operation(RECIPROCAL, -1),), 0),
        ((Operation(TANH, 0, 0),), 0),
        ((Operation(9, 0),), 0),
        ((Operation(EXP, 0), Operation(EXPREL, 0, 1)), 0),
        ((Operation(EXP, 0), *(Operation(MOMENT, 0, n) for n in MOMENTS), Operation(EXPREL, 0, 0)), 0),
        ((Operation(SUM, 1), Operation(EXP, 1)), 1),
        ((Operation(SUM, 0), Operation(EXP, 1)), 1),  # the sum has a multiple of the exponential
    ):
        width = 2 + len(operations)
        systems = Systems(
            one[None], one, one, one[0], np.zeros((1, 1, 2)), 0 * one[0], np.zeros((1, 1, width - 2)),
            np.ones((1, sums, width)), 0 * one, 0 * one[0],
        )  # fmt: skip
        with pytest.raises(InputError, match=r"operations must have arguments that are states, or come before"):
            EquationNeuron(
                systems=systems, system=np.zeros(1, int), states=("v",), held=(False,), operations=operations
            )


# ----- what has no end


@pytest.mark.parametrize(
    ("equation", "start", "message"),
    [
        ("exp(v)", 0, "has states that grow without bound at 0.001 s"),
        ("1/(1 - v)", 0, r"has states that grow without bound, or divides by zero, at 0.0005"),  # 1 - sqrt(1 - 2 t)
        ("-1/v", 1, "or divides by zero, at 0.0005"),
        ("1/(exp(v) - 1)", 0, "or divides by zero, at 0 s"),
        ("1/v", 1e-320, "or divides by zero, at 0 s"),
        ("1e-20/(exp(v) - 1)", 1e-9, "or divides by zero, at 0 s"),  # the difference has 7 digits
        ("exp(800 - v)", 0, "grow without bound at 0 s"),
    ],
)
def test_states_that_have_no_continuation(equation, start, message):
    group = brian2.NeuronGroup(2, f"dv/dt = (1 - i)*{equation}/ms : 1", name="cells")
    group.v = start
    with pytest.raises(InputError, match=f"neuron 0 of 'cells' .*{message}") as caught:
        brian2.Network(group).run(2 * ms)
    assert "\n" not in str(caught.value)
    assert np.all(group.v == start)


def test_a_pole_between_two_fixed_points():
    """1 / (v - 2) = v at 1 - sqrt(2) and 1 + sqrt(2)."""
    group = brian2.NeuronGroup(2, "dv/dt = (1/(v - 2) - v)/ms : 1")
    group.v = [1.9, 2.001]
    brian2.Network(group).run(30 * ms)
    np.testing.assert_allclose(group.v, [1 - math.sqrt(2), 1 + math.sqrt(2)], rtol=1e-12)
