"""A circuit as flat arrays: the table of rules, update groups, and the references between the arrays."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Conv2d, Delay, Dense, Scale, narrowed, pool2d
from mtt_brian.circuit.spikes import input_spikes
from mtt_brian.engines.exact import ExactEngine
from mtt_brian.engines.lowered import arrays
from mtt_brian.engines.lowered.arrays import lower_circuit
from mtt_brian.engines.lowered.connectivity import LoweredConnection, layout_of, lower_connection
from mtt_brian.engines.lowered.packing import pack, unpack
from mtt_brian.engines.lowered.populations import lower_population
from mtt_brian.engines.lowered.rules import (
    CURRENT,
    DRIFT,
    DYNAMICS,
    LEAK,
    LINE,
    LINEAR,
    MANY,
    ONE,
    STATIC,
    ZERO,
    dynamics,
    reset_code,
)
from mtt_brian.events.recording import make_recording
from mtt_brian.neuron import IF, LIF, CubaLIF, LinearNeuron

RNG = np.random.default_rng(20250317)
SHAPE = (2, 5, 6)
POOL = pool2d((1, 1), (1, 1), ((0, 0), (0, 0)), SHAPE, average=False)
CONV = Conv2d(RNG.normal(size=(3, 2, 3, 3)), (1, 1), ((1, 1), (1, 1)), (1, 1), 1, SHAPE)
PER_PIXEL = Scale(np.linspace(0.5, 2.0, 60).reshape(SHAPE))


@dataclass(frozen=True, kw_only=True, eq=False)
class Renamed(LIF):
    """The equation of a LIF under another name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Driven(LIF):
    """A LIF with an additional constant current, which is no parameter of a LIF."""

    current: float = 0.0

    def linear_system(self):
        system = super().linear_system()
        return replace(system, offset=system.offset + self.current)


def between(*operators, rule=None, shape=None):
    """An input and one population behind operators."""
    population = Population("a", shape or operators[-1].output_shape, rule or IF())
    return Circuit("input", SHAPE, (population,), (Connection("input", "a", operators, (), 60),), "a")


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (IF(), STATIC),
        (IF(bias=1.0), LINE),
        (IF(bias=1.0, threshold=None), DRIFT),
        (LIF(tau=0.1), LEAK),
        (CubaLIF(tau=0.1, tau_syn=0.1), CURRENT),
        (LinearNeuron(systems=(LIF(tau=0.1).linear_system(),)), LINEAR),
        (Renamed(tau=0.1), LINEAR),
        (Driven(tau=0.1), LINEAR),
    ],
)
def test_the_table_gives_the_dynamics_and_other_rules_are_linear_systems(rule, kind):
    assert dynamics(rule).kind == kind
    assert (type(rule) in DYNAMICS) == (kind != LINEAR)


def test_what_a_neuron_does_at_its_threshold():
    many, zero = IF(spikes="many"), IF(spikes="many", reset="zero")
    assert [reset_code(rule, False) for rule in (IF(), many, zero)] == [ONE, MANY, ZERO]
    assert [reset_code(rule, True) for rule in (IF(), many, zero)] == [ONE, ONE, ZERO]


@pytest.mark.parametrize(
    ("rule", "crosses"),
    [
        (IF(), False),
        (IF(bias=-1.0), False),
        (IF(bias=np.array([-1.0, 0.5])), True),
        (IF(bias=1.0, threshold=None), False),
        (LIF(tau=0.1, v_leak=1.0), False),
        (LIF(tau=0.1, v_leak=1.1), True),
        (LIF(tau=0.1, v_leak=1.1, threshold=None), False),
        (CubaLIF(tau=0.1, tau_syn=0.1), True),
        (CubaLIF(tau=0.1, tau_syn=0.1, threshold=None), False),
        (Renamed(tau=0.1), False),
        (Renamed(tau=0.1, v_leak=1.1), True),
        (Driven(tau=0.1, current=2.0), True),
    ],
)
def test_whether_a_rule_can_reach_its_threshold_between_arrivals(rule, crosses):
    assert rule.crosses == crosses


@pytest.mark.parametrize(
    ("rule", "accumulates"),
    [
        (IF(threshold=None), True),
        (IF(), False),
        (IF(threshold=None, bias=1.0), False),
        (IF(threshold=None, lower_bound=-1.0), False),
        (LIF(threshold=None, tau=0.1), False),
        (CubaLIF(threshold=None, tau=0.1, tau_syn=0.1), False),
        (LinearNeuron(systems=(IF(threshold=None).linear_system(),), threshold=None), False),
    ],
)
def test_whether_a_readout_is_the_sum_of_its_jumps(rule, accumulates):
    assert rule.accumulates == accumulates


def test_packed_indices():
    upper, lower = np.array([0, 1, 2**31 - 1]), np.array([2**32 - 1, 0, 7])
    for packed, back in zip(unpack(pack(upper, lower)), (upper, lower), strict=True):
        assert np.array_equal(packed, back)
    assert unpack(pack(5, 6)) == (5, 6)


def matrix_of(net, c, sources, targets):
    """The matrix of connection ``c`` as the class docstring of the arrays describes it, [targets, sources], C order."""
    q = net.target[c]
    matrix = np.zeros((targets, sources))
    for s in range(sources):
        for e in range(net.entry_begin[net.source_base[c] + s], net.entry_begin[net.source_base[c] + s + 1]):
            begin, end, shift, first = net.entry_target[4 * e : 4 * e + 4]
            factor = net.entry_factor[e] if net.scaled[c] else 1.0
            for row in range(begin, end):
                position, block = unpack(net.stencil[row])
                for k in range(net.block_length[c]):
                    neuron = position * net.channel_stride[c] + shift + k
                    matrix[net.flat[net.offset[q] + neuron], s] += factor * net.weight[first + block + k]
    return matrix


@pytest.mark.parametrize(
    ("operators", "shape"),
    [
        ((CONV,), (3, 5, 6)),
        ((PER_PIXEL, CONV), (3, 5, 6)),
        ((Conv2d(RNG.normal(size=(4, 1, 2, 2)), (2, 1), ((0, 1), (1, 0)), (1, 2), 2, SHAPE),), None),
        ((pool2d((2, 2), (2, 2), ((0, 0), (0, 0)), SHAPE, average=True), Dense(RNG.normal(size=(7, 12)), (12,))), (7,)),
        ((Dense(RNG.normal(size=(7, 60)), (60,)),), (7,)),
        ((CONV, Dense(RNG.normal(size=(4, 6)), (3, 5, 6))), (3, 5, 4)),
        ((), SHAPE),
    ],
)
def test_the_arrays_refer_to_each_other_as_the_drawing_shows(operators, shape):
    circuit = between(*operators, shape=shape)
    net = lower_circuit(circuit, frozenset(), False)
    expected = circuit.connections[0].matrix.toarray()
    assert np.allclose(matrix_of(net, 0, 60, circuit.populations[0].size), expected, rtol=1e-13, atol=1e-15)


def test_the_gain_is_multiplied_into_the_weights_where_channels_share_an_update_group():
    plain, scaled = (lower_circuit(between(CONV, rule=IF(r=r)), frozenset(), False) for r in (1.0, 3.0))
    assert scaled.group_size.tolist() == [1, 3]
    assert np.array_equal(scaled.weight, 3.0 * plain.weight)
    alone = lower_circuit(between(CONV, rule=IF(r=3.0, bias=1.0)), frozenset(), False)
    assert alone.group_size.tolist() == [1, 1]
    assert np.array_equal(alone.weight, plain.weight)
    assert alone.gain[alone.parameter_offset[1]] == 3.0


def test_lowering_a_population_leaves_its_connections_as_they_are():
    circuit = between(CONV, rule=IF(r=3.0))
    layout = layout_of(circuit.populations[0], circuit.connections)
    connection = lower_connection(circuit.connections[0], layout)
    weight = connection.weight.copy()
    population = lower_population(circuit.populations[0], layout, [connection], False)
    assert population.gain.tolist() == [3.0] * 3
    assert np.array_equal(connection.weight, weight)
    assert np.array_equal(connection.scaled(population.gain).weight.ravel(), 3.0 * weight.ravel())
    assert np.array_equal(connection.weight, weight)


def without_some(conv):
    weight = conv.weight.copy()
    weight[1, 0, 2, 2] = 0
    return replace(conv, weight=weight)


@pytest.mark.parametrize(
    ("rule", "operator", "shared", "marked"),
    [
        (IF(), CONV, True, False),
        (IF(), without_some(CONV), True, True),
        (IF(spikes="many"), without_some(CONV), True, False),
        (IF(reset="zero"), without_some(CONV), True, False),
        (LIF(tau=0.1), CONV, True, False),
        (LIF(tau=RNG.uniform(0.1, 0.2, (3, 5, 6))), CONV, False, False),
        (LIF(tau=0.1, v_leak=-2.0, lower_bound=-1.0), CONV, True, False),
        (LIF(tau=0.1, v_leak=-2.0, lower_bound=-1.0), without_some(CONV), False, False),
        (IF(refractory=0.001), CONV, False, False),
        (IF(bias=-1.0), CONV, False, False),
        (IF(r=RNG.uniform(1, 2, (3, 5, 6))), CONV, False, False),
        (IF(r=RNG.uniform(1, 2, (3, 1, 1)) * np.ones((3, 5, 6))), CONV, True, False),
        (CubaLIF(tau=0.1, tau_syn=0.1), CONV, False, False),
        (CubaLIF(tau=0.1, tau_syn=0.1, threshold=None), CONV, True, False),
        (Renamed(tau=0.1), CONV, False, False),
    ],
)
def test_which_channels_share_an_update_group(rule, operator, shared, marked):
    net = lower_circuit(between(operator, rule=rule), frozenset(), False)
    assert net.group_size[1] == (3 if shared else 1)
    assert net.marked[1] == marked


def test_parameters_are_stored_once_where_all_neurons_share_them():
    one = lower_circuit(between(CONV, rule=IF(threshold=2.0)), frozenset(), False)
    assert (one.parameter_stride[1], one.threshold.tolist()) == (0, [np.inf, 2.0, 2.0, 2.0])
    threshold = RNG.uniform(1, 2, (3, 5, 6))
    each = lower_circuit(between(CONV, rule=IF(threshold=threshold)), frozenset(), False)
    assert each.parameter_stride[1] == 1
    own = each.threshold[each.parameter_offset[1] :]
    assert np.array_equal(own, threshold.ravel()[each.flat[each.offset[1] :]])


def test_a_delay_of_all_commutes_and_a_delay_of_each_is_kept():
    wait = RNG.uniform(0.001, 0.002, SHAPE)
    net = lower_circuit(between(Delay(np.full(SHAPE, 0.5)), Delay(wait), CONV), frozenset(), False)
    assert np.allclose(net.entry_delay, 0.5 + wait.ravel(), rtol=1e-15)
    assert net.delayed.tolist() == [True]
    assert net.max_new.tolist() == [0, 60, 90]


def rounded_to_float32(conv):
    return replace(conv, weight=conv.weight.astype(np.float32).astype(np.float64))


@pytest.mark.parametrize(
    ("operator", "r", "dtype"),
    [
        (CONV, 1.0, np.float64),
        (rounded_to_float32(CONV), 1.0, np.float32),
        (rounded_to_float32(CONV), 0.25, np.float32),
        (rounded_to_float32(CONV), 1 / 3, np.float64),
        (replace(CONV, weight=1e300 * np.ones_like(CONV.weight)), 1.0, np.float64),
    ],
)
def test_many_weights_are_stored_as_float32_where_that_loses_nothing(operator, r, dtype, monkeypatch):
    circuit = between(operator, rule=IF(r=r))
    monkeypatch.setattr(arrays, "NARROWED", CONV.weight.size + 1)
    assert lower_circuit(circuit, frozenset(), False).weight.dtype == np.float64
    monkeypatch.setattr(arrays, "NARROWED", CONV.weight.size)
    net = lower_circuit(circuit, frozenset(), False)
    assert net.weight.dtype == dtype
    expected = lower_connection(
        between(operator).connections[0], layout_of(between(operator).populations[0], ())
    ).weight.ravel()
    assert np.array_equal(net.weight.astype(np.float64), expected * r)


@pytest.mark.parametrize("operators", [(CONV,), (POOL, Dense(RNG.normal(size=(4, 60)), (60,)))])
def test_operators_with_weights_in_float32_are_the_same_operators(operators, monkeypatch):
    monkeypatch.setattr(arrays, "NARROWED", 0)
    *front, last = operators
    wide = replace(last, weight=last.weight.astype(np.float32).astype(np.float64))
    stored = replace(wide, weight=narrowed(wide.weight))
    assert stored.weight.dtype == np.float32
    assert stored.matrix().dtype == np.float64
    assert (stored.matrix() != wide.matrix()).nnz == 0
    assert stored.largest_row() == pytest.approx(wide.largest_row(), rel=1e-12)
    assert np.array_equal(stored.fan_out(), wide.fan_out())
    for first, second in zip(
        *(lower_circuit(between(*front, o), frozenset(), False) for o in (wide, stored)), strict=True
    ):
        assert first.dtype == second.dtype
        assert np.array_equal(first, second)


def test_only_what_float32_holds_is_narrowed():
    for numbers, dtype in (
        ([0.5, -0.0, np.inf, np.nan], np.float32),
        ([0.1], np.float64),
        ([1e-300], np.float64),
        ([1e300], np.float64),
        ([2**24 + 1], np.float64),
        ([3], np.float32),
    ):
        given = np.array(numbers)
        found = narrowed(given)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.astype(np.float64), given.astype(np.float64))


def test_the_storage_of_weights_changes_no_bit_of_a_run(monkeypatch):
    monkeypatch.setattr(arrays, "NARROWED", 0)
    rng = np.random.default_rng(3)
    circuit = between(rounded_to_float32(CONV), rule=LIF(tau=0.125, r=0.125, threshold=0.4, reset="subtract"))
    t = np.sort(rng.integers(0, 20_000, 400))
    train = input_spikes(make_recording(t, *(rng.integers(0, n, 400) for n in (6, 5, 2))), SHAPE)
    stored = ExactEngine(circuit)
    monkeypatch.setattr(LoweredConnection, "narrowed", lambda self: self)
    wide = ExactEngine(circuit)
    assert (stored._lowered.weight.dtype, wide._lowered.weight.dtype) == (np.float32, np.float64)
    (ours,), (expected,) = stored.run([train]), wide.run([train])
    assert len(ours.spikes["a"].t) > 100
    for one, other in zip(ours.spikes["a"], expected.spikes["a"], strict=True):
        assert one.tobytes() == other.tobytes()
    assert stored._idle.get()._state.y.tobytes() == wide._idle.get()._state.y.tobytes()


def test_the_entry_of_a_source_with_one_entry_is_known_without_the_index():
    dense = Dense(RNG.normal(size=(4, 60)), (60,))
    overlap = pool2d((3, 3), (1, 1), ((1, 1), (1, 1)), SHAPE, average=True)
    for operators, shape, one_each in (
        ((CONV,), (3, 5, 6), True),
        ((dense,), (4,), True),
        ((overlap, CONV), (3, 5, 6), False),
    ):
        net = lower_circuit(between(*operators, shape=shape), frozenset(), False)
        begin = net.entry_begin[: 60 + 1]
        assert (net.one_each[0] >= 0) == one_each == (np.diff(begin) == 1).all()
        if one_each:
            assert np.array_equal(net.one_each[0] + np.arange(60), begin[:60])


def test_factors_are_stored_only_where_one_differs_from_1():
    same = lower_circuit(between(Scale(np.full(SHAPE, 3.0)), CONV), frozenset(), False)
    assert (same.scaled.tolist(), len(same.entry_factor)) == ([False], 0)
    each = lower_circuit(between(PER_PIXEL, CONV), frozenset(), False)
    assert each.scaled.tolist() == [True]
    assert np.array_equal(each.entry_factor, PER_PIXEL.factor.ravel())


def test_the_c_order_index_follows_from_group_and_channel():
    net = lower_circuit(between(CONV), frozenset(), False)
    group, channel = np.divmod(np.arange(90), 3)
    assert np.array_equal(net.flat[60:], group * net.group_step[1] + channel * net.channel_step[1])
    dense = Dense(RNG.normal(size=(4, 60)), (60,))
    net = lower_circuit(between(dense, shape=(4,)), frozenset(), False)
    assert np.array_equal(net.flat[60:], np.arange(4) * net.channel_step[1])
