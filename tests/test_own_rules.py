"""Neuron rules of a user on the exact engine, with their own states, threshold row and reset."""

from dataclasses import dataclass, replace

import mpmath as mp
import numpy as np
import pytest

import mtt_brian as mb
from mtt_brian import neuron
from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Dense
from mtt_brian.engines.exact.crossing_search import first_crossing
from mtt_brian.engines.exact.propagation import evolve, new_scratch
from mtt_brian.engines.exact.trace import membrane_trace
from mtt_brian.engines.lowered.linear_sets import linear_sets
from mtt_brian.engines.lowered.matrices import potential_last
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF, LinearNeuron, LinearSystem
from tests.test_exact_linear import random_system


@dataclass(frozen=True, kw_only=True, eq=False)
class Adaptive(LIF):
    """LIF whose threshold is theta + a: a decays with tau_a and rises by b with every spike."""

    tau_a: neuron.Parameter
    b: neuron.Parameter

    def linear_system(self):
        subtracts = self.reset == "subtract"
        return LinearSystem(
            matrix=-np.eye(2),
            offset=[self.v_leak + self.r * self.bias, 0],
            drive=[self.r, 0],
            row=[1, -1],  # it fires when v - a reaches theta
            tau=[self.tau, self.tau_a],
            threshold=self.threshold,
            reset_keep=[1 if subtracts else 0, 1],
            reset_add=[-self.threshold if subtracts else self.v_reset, self.b],
        )


def one_population(rule, shape=(1,), weight=1.0):
    size = int(np.prod(shape))
    dense = Dense(np.full((size, 1), weight), (1,))
    return Circuit(
        "input", (1,), (Population("n", shape, rule),), (Connection("input", "n", (dense,), ("w",), 1),), "n"
    )


def spikes(rule, t_us=(), duration=None, weight=1.0, **options):
    events = mb.events.make_recording(list(t_us), [0] * len(t_us))
    result = mb.simulate(one_population(rule, np.shape(rule.r) or (1,), weight), events, duration=duration, **options)
    return result.spikes["n"]


def test_an_adapting_threshold_by_hand():
    # v halves every millisecond, a every two; a spike through weight 1 adds 1 to v.
    tau = 1e-3 / np.log(2)
    rule = Adaptive(tau=tau, tau_a=2 * tau, b=0.5, r=tau)
    dense = Dense(np.array([[1.2, 1.19, 0.82]]), (3,))
    circuit = Circuit("input", (3,), (Population("n", (1,), rule),), (Connection("input", "n", (dense,), (), 3),), "n")
    # 1 ms: v = 1.2 >= 1, a spike: v = 0.2, a = 0.5. 3 ms: v = 0.05 + 1.19 = 1.24 < 1 + 0.25.
    # 5 ms: v = 0.31 + 0.82 = 1.13 >= 1 + 0.125, a spike; without adaptation there would be one at 3 ms, too.
    recording = mb.events.make_recording([1000, 3000, 5000], [0, 1, 2])
    assert mb.simulate(circuit, recording).spikes["n"].t.tolist() == [0.001, 0.005]
    plain = replace(circuit, populations=(Population("n", (1,), LIF(tau=tau, r=tau)),))
    assert mb.simulate(plain, recording).spikes["n"].t.tolist() == [0.001, 0.003]


DRIVEN = {
    "subtract": Adaptive(tau=0.02, tau_a=0.1, b=0.4, v_leak=3.0),
    "zero": Adaptive(tau=0.02, tau_a=0.013, b=0.3, v_leak=2.5, reset="zero", v_reset=-0.25),
    "equal time constants": Adaptive(tau=0.02, tau_a=0.02, b=0.4, v_leak=3.0),
    "sinking threshold": Adaptive(tau=0.02, tau_a=0.05, b=-0.1, v_leak=1.4, threshold=1.2),
}
INPUT = (7_000, 20_000, 45_000, 46_000)  # each adds 0.3 to v


@pytest.mark.parametrize("name", DRIVEN)
def test_crossings_of_an_adapting_threshold_against_forty_digits(name):
    rule = DRIVEN[name]
    got = spikes(rule, INPUT, duration=0.08, weight=0.3 * rule.tau).t
    with mp.workdps(40):
        tau, tau_a, leak, b, theta = (
            mp.mpf(float(x)) for x in (rule.tau, rule.tau_a, rule.v_leak, rule.b, rule.threshold)
        )
        jump = mp.mpf(0.3 * rule.tau) / tau
        v = a = t = mp.mpf(0)
        expected = []

        def state(s):
            return leak + (v - leak) * mp.exp(-s / tau), a * mp.exp(-s / tau_a)

        def fire(moment):
            nonlocal v, a
            expected.append(moment)
            v, a = (v - theta if rule.reset == "subtract" else mp.mpf(float(rule.v_reset))), a + b

        for end in [*(mp.mpf(us) / 10**6 for us in INPUT), mp.mpf("0.08")]:
            while True:
                # From below the threshold: the first sample above it, then bisection in between.
                grid = [(end - t) * k / 400 for k in range(401)]
                above = [state(s)[0] - state(s)[1] >= theta for s in grid]
                k = next((k for k in range(1, 401) if above[k] and not above[k - 1]), None)
                if k is None:
                    break
                low, high = grid[k - 1], grid[k]
                for _ in range(110):
                    mid = (low + high) / 2
                    low, high = (low, mid) if state(mid)[0] - state(mid)[1] >= theta else (mid, high)
                v, a = state(high)
                t += high
                fire(t)
            v, a = state(end - t)
            t = end
            if end < mp.mpf("0.08"):
                v += jump
                if v - a >= theta:
                    fire(t)
    assert len(got) == len(expected) >= 3
    assert max(abs(mp.mpf(float(x)) - y) for x, y in zip(got, expected, strict=True)) < 1e-16 + 2e-15 * 0.08


@pytest.mark.parametrize("name", DRIVEN)
def test_an_adapting_threshold_against_steps_of_a_microsecond(name):
    rule = DRIVEN[name]
    got = spikes(rule, INPUT, duration=0.08, weight=0.3 * rule.tau).t
    v = a = 0.0
    found, was_above, dt = [], False, 1e-6
    for k in range(1, 80_001):
        v, a = v + dt * (rule.v_leak - v) / rule.tau, a - dt * a / rule.tau_a
        jumped = k in INPUT
        v += 0.3 * jumped
        if v - a >= rule.threshold and (jumped or not was_above):
            found.append(k * dt)
            v, a = (v - rule.threshold if rule.reset == "subtract" else rule.v_reset), a + rule.b
        was_above = v - a >= rule.threshold
    np.testing.assert_allclose(got, found, atol=3e-5)


def test_every_neuron_has_its_own_parameters():
    b = np.array([[0.0, 0.2], [0.4, 0.4]])
    rule = Adaptive(tau=0.02, tau_a=0.1, b=b, v_leak=3.0, r=np.ones((2, 2)))
    together = spikes(rule, duration=0.1)
    for k, one in enumerate(b.ravel()):
        alone = spikes(replace(rule, b=one, r=1.0), duration=0.1)
        assert together.t[together.i == k].tolist() == alone.t.tolist()
    assert np.bincount(together.i).tolist() == sorted(np.bincount(together.i), reverse=True)


def test_without_adaptation_it_is_a_lif():
    plain = LIF(tau=0.02, v_leak=3.0, spikes="one")
    rule = Adaptive(tau=0.02, tau_a=0.1, b=0.0, v_leak=3.0)
    expected = spikes(plain, INPUT, duration=0.08, weight=0.3 * 0.02).t
    np.testing.assert_allclose(spikes(rule, INPUT, duration=0.08, weight=0.3 * 0.02).t, expected, rtol=1e-14)


def test_states_may_come_in_any_order_and_spikes_may_enter_several():
    # A CubaLIF as (v, I), with a bound and a refractory period; and one whose spikes reach membrane and current.
    cuba = CubaLIF(tau=0.01, tau_syn=0.004, w_in=0.02, bias=50.0, lower_bound=-1.0, refractory=0.003)
    system = cuba.linear_system()
    turned = replace(
        system,
        **{name: getattr(system, name)[::-1] for name in ("offset", "drive", "row", "tau")},
        matrix=system.matrix[::-1, ::-1],
    )
    kept = {name: getattr(cuba, name) for name in ("lower_bound", "refractory")}
    results = [spikes(LinearNeuron(systems=(s,), **kept), INPUT, duration=0.08) for s in (system, turned)]
    assert len(results[0].t) > 3
    np.testing.assert_array_equal(results[0].t, results[1].t)
    # Weight 1 adds 0.6 to v and 1 to I at once: v(t) = 0.6 exp(-t / 0.01) + K(t) with K the response of the CubaLIF.
    both = LinearSystem(matrix=system.matrix, offset=[0, 0], drive=[0.004, 0.006], row=[0, 1], tau=[0.004, 0.01])
    t = float(spikes(LinearNeuron(systems=(both,), threshold=0.62), (1000,), duration=0.1).t[0]) - 0.001
    assert 0.6 * np.exp(-t / 0.01) + (np.exp(-t / 0.01) - np.exp(-t / 0.004)) / 1.5 == pytest.approx(0.62, rel=1e-12)


@pytest.mark.parametrize("loops", [False, True])
def test_a_potential_in_the_place_of_a_state_moves_and_crosses_as_before(loops):
    rng, scratch = np.random.default_rng(7), new_scratch()
    crossed = 0
    for _ in range(12):
        system = random_system(rng, loops)
        n = len(system.tau)
        system = replace(system, row=rng.normal(size=n))
        to, back = (np.array(matrix, dtype=float) for matrix in potential_last(system))
        np.testing.assert_allclose(to @ back, np.eye(n), atol=1e-15)
        for _ in range(5):
            x = rng.normal(size=n)
            theta = float(system.row @ x + rng.uniform(-0.5, 0.5))
            changed, dt = to @ x, 0.3 * float(system.tau.min())
            assert changed[-1] == pytest.approx(system.row @ x, rel=1e-14)
            times = [
                first_crossing(linear_sets([system], exchange), 0, y.copy(), 0, 1, theta, scratch)
                for exchange, y in ((False, x), (True, changed))
            ]
            np.testing.assert_allclose(*times, rtol=1e-7)
            crossed += np.isfinite(times[0])
            evolve(linear_sets([system], True), 0, changed, 0, 1, dt, scratch)
            evolve(linear_sets([system]), 0, x, 0, 1, dt, scratch)
            np.testing.assert_allclose(changed, to @ x, atol=1e-13 * (1 + abs(x).max()))
    assert crossed > 5


class Forgetful(Adaptive):
    """Leaves out the bias."""

    def linear_system(self):
        return replace(super().linear_system(), offset=np.zeros(2))


@dataclass(frozen=True, kw_only=True, eq=False)
class Silent(LIF):
    """Adds a parameter without a linear system."""

    b: float = 0.0


BASE = {"tau": 0.02, "tau_a": 0.1, "b": 0.1}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            Adaptive(**BASE, spikes="many"),
            "'n': Adaptive has a reset of its own, which spikes='many' cannot be combined with",
        ),
        (Adaptive(**BASE, lower_bound=-1.0), r"row \[1.0, -1.0\]\), for which a lower_bound has no meaning"),
        (Adaptive(**BASE, refractory=1e-3), "which cannot be held for a refractory period; pass refractory=0"),
        (Forgetful(**BASE, bias=1.0), "Forgetful.linear_system.. makes no use of bias, which is 1, not 0"),
        (Silent(tau=0.01), r"Silent adds b to LIF, and inherits its linear system; define Silent.linear_system\(\)"),
        (Adaptive(**BASE | {"b": np.ones(3)}), r"population 'n' has the shape \(1,\), and its b \(3,\)"),
        (Adaptive(**BASE | {"tau_a": -1.0}), "LinearSystem.tau must be > 0 seconds"),
        (
            LinearNeuron(systems=(replace(Adaptive(**BASE).linear_system(), reset_keep=None, reset_add=None),)),
            "state in LinearSystem.reset_keep and reset_add",
        ),
        (
            LinearNeuron(systems=(Adaptive(**BASE).linear_system(),), threshold=2.0),
            "LinearSystem.threshold of LinearNeuron is 1, its own threshold 2; they must be the same",
        ),
        (LinearNeuron(systems=(replace(Adaptive(**BASE).linear_system(), row=[0, 0]),)), "LinearSystem.row is 0"),
    ],
)
def test_what_a_rule_cannot_be_is_refused_in_one_line(rule, message):
    with pytest.raises(InputError, match=message) as caught:
        mb.Simulator(one_population(rule), "exact")
    assert "\n" not in str(caught.value)


def test_other_back_ends_refuse_a_rule_of_a_user_by_name():
    rule = Adaptive(**BASE)
    circuit = one_population(rule)
    with pytest.raises(InputError, match="'n' has the rule Adaptive, which the Brian2 engines do not compute"):
        mb.Simulator(circuit, "brian2", target="numpy")
    from brian2 import ms

    with pytest.raises(InputError, match="'n' has the rule Adaptive, which a clock-driven network cannot follow"):
        mb.translate.to_clock_driven(circuit, [mb.events.make_recording([1], [0])], dt=0.1 * ms)
    with pytest.raises(InputError, match="Adaptive has more states"):
        membrane_trace(rule, [0.001], [1.0])
    with pytest.raises(InputError, match="'n' also crosses its threshold between them"):
        mb.Simulator(circuit, "exact", order="fifo")
    pytest.importorskip("torch")
    from mtt_brian.snn import Spiking

    with pytest.raises(InputError, match="Adaptive neurons cannot be trained; use IF or LIF"):
        Spiking(rule)


def test_a_silent_rule_of_a_user_shows_its_potential():
    # Two states that go to 2 and 1; the potential is their difference.
    rule = LinearNeuron(
        systems=(LinearSystem(matrix=-np.eye(2), offset=[2, 1], drive=[1, 0], row=[1, -1], tau=[0.02, 0.1]),),
        threshold=None,
    )
    circuit = one_population(rule)
    assert not circuit.sums_up
    result = mb.simulate(circuit, mb.events.make_recording([1], [0])[:0], duration=0.03)
    expected = 2 * -np.expm1(-0.03 / 0.02) + np.expm1(-0.03 / 0.1)
    assert result.readout == pytest.approx([expected], rel=1e-14)


def test_a_rule_that_is_an_if_in_disguise():
    @dataclass(frozen=True, kw_only=True, eq=False)
    class Same(IF):
        pass

    got, expected = (spikes(rule(bias=70.0, spikes="one"), INPUT, 0.08, 0.3) for rule in (Same, IF))
    np.testing.assert_allclose(got.t, expected.t, rtol=1e-13)
