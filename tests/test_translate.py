"""Reading NIR graphs, linear operators against torch's own, and the Brian2 network that is handed out."""

import itertools
import subprocess
import sys

import nir
import numpy as np
import pytest

import mtt_brian as mb
from mtt_brian import machine
from mtt_brian.circuit.operators import Conv2d, Dense, Scale, pool2d
from mtt_brian.errors import InputError
from mtt_brian.neuron import LIF, CubaLIF
from tests import random_networks
from tests.engines import simulator, trains

FIRING = {"reset": "subtract"}


def if_node(*shape, **metadata):
    return nir.IF(r=np.ones(shape), v_threshold=np.ones(shape), metadata=FIRING | metadata)


def conv(weight, **changes):
    fields = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": np.zeros(len(weight)), "input_shape": None}
    return nir.Conv2d(weight=weight, **(fields | changes))


def chain(shape, *nodes, out=None):
    """input -> nodes -> output, the nodes named n0, n1, ..."""
    names = ["input", *(f"n{k}" for k in range(len(nodes))), "output"]
    ends = nir.Input(input_type=np.array(shape)), nir.Output(output_type=None if out is None else np.array(out))
    return nir.NIRGraph(
        nodes=dict(zip(names, [ends[0], *nodes, ends[1]], strict=True)),
        edges=list(itertools.pairwise(names)),
        type_check=False,
    )


def read(*args, **options):
    return mb.translate.read_nir(chain(*args), **options)


# ----- linear operators


@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("padding", [0, 1, (2, 1), "same", "valid"])
@pytest.mark.parametrize(("dilation", "groups"), [((1, 1), 1), ((2, 1), 2)])
def test_convolutions_are_torchs(stride, padding, dilation, groups):
    torch = pytest.importorskip("torch")
    if padding == "same" and stride != (1, 1):
        pytest.skip("torch refuses it as well")
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(4, 4 // groups, 2, 3)), rng.normal(size=(4, 7, 8))
    node = conv(weight, stride=stride, padding=padding, dilation=dilation, groups=groups)
    (connection,) = read(x.shape, node).connections
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(x)[None], torch.from_numpy(weight), None, stride, padding, dilation, groups
    )[0].numpy()
    np.testing.assert_allclose(connection.matrix @ x.ravel(), expected.ravel(), atol=1e-12)
    assert connection.operators[0].output_shape == expected.shape


def conv1d(weight, **changes):
    fields = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": np.zeros(len(weight)), "input_shape": None}
    return nir.Conv1d(weight=weight, **(fields | changes))


@pytest.mark.parametrize("length", [2, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 3, "same", "valid"])
@pytest.mark.parametrize(("dilation", "groups"), [(1, 1), (3, 2)])
def test_convolutions_along_one_axis_are_torchs(length, stride, padding, dilation, groups):
    torch = pytest.importorskip("torch")
    if padding == "same" and stride != 1:
        pytest.skip("torch refuses it as well")
    rng = np.random.default_rng(0)
    weight, bias, x = rng.normal(size=(4, 4 // groups, length)), rng.normal(size=4), rng.normal(size=(4, 9))
    node = conv1d(weight, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias)
    circuit = read(x.shape, node)
    (connection,) = circuit.connections
    expected = torch.nn.functional.conv1d(
        torch.from_numpy(x)[None], torch.from_numpy(weight), torch.from_numpy(bias), stride, padding, dilation, groups
    )[0].numpy()
    assert circuit.readout.shape == expected.shape
    np.testing.assert_allclose(connection.matrix @ x.ravel() + circuit.readout.rule.bias.ravel(), expected.ravel())
    (kernel,) = connection.operators
    assert kernel.weight.size == weight.size  # shared, not written out
    np.testing.assert_array_equal(kernel.fan_out(), np.bincount(kernel.matrix().indices, minlength=x.size))


#: A number for each axis as tools write it: the type of `nir`'s text, of torch's layers, of a file, of a tensor.
FORMS = {
    "int": int,
    "tuple": lambda n: (n,),
    "list": lambda n: [n],
    "numpy": np.int64,
    "array": lambda n: np.array([n]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [None, 7, np.int64(7), (7,)], ids=["none", "int", "numpy", "tuple"])
@pytest.mark.parametrize("axes", [1, 2])
def test_one_number_in_any_form_is_that_of_each_axis(axes, shape, form, tmp_path):
    kind, of = (nir.Conv1d if axes == 1 else nir.Conv2d), FORMS[form]
    weight = np.arange(6.0).reshape(2, 1, *[1] * (axes - 1), 3)
    node = kind(None, weight, of(2), of(1), of(2), of(1), np.arange(2.0))
    node.input_shape = shape if axes == 1 or shape is None else (7, 7)
    sizes = (1, *[7] * axes)
    graph = chain(sizes, node, out=(2, *[5] * (axes - 1), 3))
    expected = read(sizes, kind(None, weight, 2, 1, 2, 1, np.arange(2.0)))
    mb.export.write(tmp_path / "a.nir", graph)
    for found in (mb.translate.read_nir(graph), mb.translate.read_nir(tmp_path / "a.nir")):
        assert found.readout.shape == expected.readout.shape == (2, *[5] * (axes - 1), 3)
        assert (found.connections[0].matrix != expected.connections[0].matrix).nnz == 0
        assert np.all(found.readout.rule.bias == expected.readout.rule.bias)


def test_a_batch_axis_in_front_of_a_convolution_along_one_axis_is_left_out():
    circuit = read((1, 2, 5), conv1d(np.ones((3, 2, 2))))
    assert (circuit.input_shape, circuit.readout.shape) == ((2, 5), (3, 4))
    assert read((1, 5), conv1d(np.ones((3, 1, 2)))).input_shape == (1, 5)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [((2, 2), (2, 2), (0, 0)), ((3, 2), (2, 1), (1, 1))])
def test_pooling_is_torchs(average, kernel, stride, padding):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(3, 7, 6))
    pool = torch.nn.AvgPool2d(kernel, stride, padding, divisor_override=None if average else 1)
    node = (nir.AvgPool2d if average else nir.SumPool2d)(*(np.array(v) for v in (kernel, stride, padding)))
    (connection,) = read(x.shape, node).connections
    np.testing.assert_allclose(connection.matrix @ x.ravel(), pool(torch.from_numpy(x)[None]).numpy().ravel())


def test_flattening_keeps_torchs_order():
    torch = pytest.importorskip("torch")
    x, weight = np.arange(24.0).reshape(2, 3, 4), np.random.default_rng(0).normal(size=(5, 24))
    (connection,) = read(x.shape, nir.Flatten(np.array(x.shape), start_dim=0), nir.Linear(weight)).connections
    expected = torch.from_numpy(weight) @ torch.from_numpy(x).flatten()
    np.testing.assert_allclose(connection.matrix @ x.ravel(), expected.numpy())


def test_a_chain_is_the_product_of_its_parts():
    rng = np.random.default_rng(1)
    operators = [
        Conv2d(rng.normal(size=(3, 2, 2, 2)), (1, 1), ((1, 0), (0, 1)), (1, 1), 1, (2, 5, 4)),
        pool2d((2, 2), (2, 2), ((0, 0), (0, 0)), (3, 5, 4), average=True),
        Scale(rng.normal(size=(3, 2, 2))),
    ]
    connection = mb.translate.Connection("a", "b", (*operators, Dense(rng.normal(size=(4, 12)), (12,))), (), 40)
    x = rng.normal(size=40)
    expected = x
    for operator in connection.operators:
        expected = operator.matrix() @ expected
    np.testing.assert_allclose(connection.matrix @ x, expected)


def test_weights_are_copies_in_float32_where_that_loses_nothing():
    rng = np.random.default_rng(0)
    single = rng.normal(size=(3, 4)).astype(np.float32)
    for weight, dtype in ((single, np.float32), (single.astype(np.float64), np.float32), (single / 3.0, np.float32)):
        assert read((4,), nir.Linear(weight)).connections[0].operators[0].weight.dtype == dtype
    wide = rng.normal(size=(3, 4))
    for weight, dtype in ((single, np.float32), (wide, np.float64)):
        expected = weight.copy()
        (connection,) = read((4,), nir.Linear(weight)).connections
        weight[:] = 0
        assert connection.operators[0].weight.dtype == dtype
        assert np.array_equal(connection.matrix.toarray(), expected)
    kernel = rng.normal(size=(2, 1, 1, 1)).astype(np.float32)
    node = nir.Conv2d(None, kernel, 1, 0, 1, 1, None)
    assert read((1, 2, 2), node).connections[0].operators[0].weight.dtype == np.float32


def test_fan_out_counts_the_synapses_without_writing_them_out():
    for seed in range(20):
        circuit = mb.translate.read_nir(random_networks.graph(seed))
        for name, fan in circuit.fan_out.items():
            matrices = [c.matrix for c in circuit.connections if c.source == name]
            assert fan.tolist() == list(sum((np.bincount(m.indices, minlength=m.shape[1]) for m in matrices), 0 * fan))


# ----- populations


def test_metadata_contain_values_without_a_field_in_nir(tmp_path):
    graph = chain((3,), if_node(3, spikes="many", lower_bound=-1.5, refractory=0.002), out=(3,))
    nir.write(tmp_path / "m.nir", graph)  # strings come back as bytes
    rule = mb.translate.read_nir(tmp_path / "m.nir").readout.rule
    assert (rule.reset, rule.spikes, rule.lower_bound, rule.refractory) == ("subtract", "many", -1.5, 0.002)


def test_every_neuron_type_and_its_parameters():
    a = lambda *values: np.array(values)  # noqa: E731
    lif = nir.LIF(tau=a(0.01, 0.02), r=a(1, 2), v_leak=a(0, 0), v_threshold=a(1, 1), metadata=FIRING)
    rule = read((2,), lif).readout.rule
    assert isinstance(rule, LIF)
    np.testing.assert_allclose(rule.gain, [100, 100])
    cuba = nir.CubaLIF(
        tau_syn=a(0.005), tau_mem=a(0.01), r=a(1), v_leak=a(0), v_threshold=a(1), w_in=a(2), metadata=FIRING
    )
    rule = read((1,), cuba).readout.rule
    assert isinstance(rule, CubaLIF)
    assert (rule.tau_syn, rule.tau, rule.gain) == (0.005, 0.01, 400)
    assert read((1,), nir.I(r=a(3))).readout.rule.threshold is None


def test_biases_are_pushed_through_what_follows_them():
    # 2 x 2 pixels of one channel: bias 0.5 each, averaged by pooling to 0.5, times (1, 2).
    nodes = (
        conv(np.ones((1, 1, 1, 1)), bias=np.array([0.5])),
        nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        nir.Flatten(np.array([1, 1, 1]), start_dim=0),
        nir.Affine(weight=np.array([[1.0], [2.0]]), bias=np.array([0.25, 0.0])),
        if_node(2),
    )
    np.testing.assert_allclose(read((1, 2, 2), *nodes).readout.rule.bias, [0.75, 1.0])


def test_the_width_of_foreign_spikes():
    lif = nir.LIF(*(np.array([v]) for v in (0.01, 1.0, 0.0, 1.0)), metadata=FIRING)
    affine = nir.Affine(weight=np.array([[1.0]]), bias=np.array([0.5]))
    rule = read((1,), affine, lif, spike_integral=1e-4).readout.rule
    assert rule.gain == pytest.approx(0.01)  # 1e-4 / 0.01
    assert rule.r * rule.bias == pytest.approx(0.5)  # a current stays a current


def test_nested_graphs_are_written_out():
    inner = chain((2,), nir.Linear(np.array([[1.0, 2.0]])), if_node(1), out=(1,))
    circuit = read((2,), inner, nir.Linear(np.array([[3.0]])))
    assert [p.name for p in circuit.populations] == ["n0.n1", "output"]
    assert circuit.connections[0].matrix.toarray().tolist() == [[1, 2]]


def test_a_cycle_with_a_delay_is_cut_and_one_without_is_refused():
    def cycle(delay):
        nodes = {
            "input": nir.Input(np.array([1])), "a": if_node(1), "w": nir.Linear(np.array([[0.5]])),
            "d": nir.Delay(np.array([delay])), "output": nir.Output(np.array([1])),
        }  # fmt: skip
        edges = [("input", "a"), ("a", "w"), ("w", "d"), ("d", "a"), ("a", "output")]
        return nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)

    assert len(mb.translate.read_nir(cycle(0.001)).connections) == 2
    with pytest.raises(InputError, match="cycle 'a' -> 'a' has no delay"):
        mb.translate.read_nir(cycle(0.0))


# ----- refusals


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([nir.Threshold(np.ones(4))], r"node 'n0' is a Threshold.*accepted are .*IF"),
        ([nir.Linear(np.ones((2, 3)))], r"node 'n0' \(Linear\).*\(2, 3\).*\(4,\)"),
        ([conv(np.ones((1, 1, 2, 2)))], r"node 'n0' \(Conv2d\).*\(C, H, W\), not \(4,\)"),
        ([conv1d(np.ones((1, 1, 2)))], r"node 'n0' \(Conv1d\).*\(C, L\), not \(4,\)"),
        ([nir.Linear(np.full((2, 4), np.nan))], "NaN"),
        ([if_node(3)], r"'n0' has the shape \(3,\), but 'input'"),
        ([nir.IF(r=np.ones(4), v_threshold=np.ones(4))], "'n0'.*reset= .*'subtract' or 'zero'"),
        ([if_node(4, reset="maybe")], "'n0'.*reset must be one of 'subtract', 'zero', not 'maybe'"),
        ([if_node(4, spikes="some")], "spikes must be one of 'one', 'many', not 'some'"),
        ([nir.IF(r=np.ones(4), v_threshold=np.zeros(4), metadata=FIRING)], "threshold must be > 0"),
        ([if_node(4, lower_bound=2.0)], "lower_bound must lie below the threshold"),
        ([nir.Delay(np.full(4, -1.0))], "'n0'.*delays must be finite and >= 0"),
    ],
)  # fmt: skip
def test_bad_nodes_are_named(nodes, message):
    with pytest.raises(InputError, match=message):
        read((4,), *nodes)


def test_a_foreign_graph_runs_once_the_reset_is_chosen():
    graph = chain((4,), nir.IF(r=np.ones(4), v_threshold=np.ones(4)))
    assert mb.translate.read_nir(graph, reset="zero").readout.rule.reset == "zero"


def test_files_that_are_no_graphs(tmp_path):
    with pytest.raises(InputError, match=r"no such NIR file: .*none\.nir"):
        mb.translate.read_nir(tmp_path / "none.nir")
    (tmp_path / "text.nir").write_text("__import__('os').system('false')")
    with pytest.raises(InputError, match=r"text\.nir is not a readable NIR file"):
        mb.translate.read_nir(tmp_path / "text.nir")
    with pytest.raises(InputError, match=r"expected a nir\.NIRGraph or the path"):
        mb.translate.read_nir(3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"engine": "nest"},
            "engine must be one of 'exact', 'brian2', 'brian2-cpp', 'brian2-cuda', 'exact-cuda', not 'nest'",
        ),
        ({"engine": "exact", "order": "lifo"}, "order must be one of 'sum', 'fifo', not 'lifo'"),
        ({"engine": "exact", "record": "some"}, "record must be one of"),
        ({"engine": "brian2", "order": "fifo"}, "order='fifo' needs engine='exact'"),
        ({"engine": "brian2", "batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"engine": "brian2", "batch_size": 10**9}, "batch_size must be at most 100000, not 1000000000"),
        ({"engine": "brian2", "batch_size": 2.0}, r"batch_size must be a whole number, not 2\.0"),
        ({"engine": "brian2", "batch_size": True}, "batch_size must be a whole number, not True"),
        ({"engine": ["brian2"]}, "engine must be one of"),
        ({"engine": "brian2", "target": "fortran"}, "target must be"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        mb.Simulator(chain((1,), if_node(1)), **options)


def record(**fields):
    array = np.zeros(2, dtype=[(k, np.int64) for k in ("t", "x", "y", "p")])
    for name, values in fields.items():
        array[name] = values
    return array


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        (record(x=[0, 9]), r"recording 0: event 1 has x = 9; .* allows 0\.\.3"),
        (record(y=[-1, 0]), r"event 0 has y = -1"),
        (record(t=[5, 4]), r"time goes backwards or is negative at event 1 \(4 us\)"),
        (record(t=[-5, 4]), r"negative at event 0"),
        (record()[["t", "x"]], "has no field 'p'"),
    ],
)
def test_recordings_that_do_not_fit(recording, message):
    with pytest.raises(InputError, match=message):
        list(mb.Simulator(chain((2, 3, 4), if_node(2, 3, 4)), "brian2").run([recording]))


def test_a_network_that_does_not_fit_is_refused_with_its_numbers(monkeypatch):
    monkeypatch.setattr(machine, "available_bytes", lambda: 2**20)
    graph = chain((300,), nir.Linear(np.ones((200, 300))), if_node(200), out=(200,))
    assert mb.translate.estimate(mb.translate.read_nir(graph), batch_size=3).synapses == 3 * 300 * 200
    with pytest.raises(
        InputError, match=r"501 neurons and 60,000 synapses \(batch size 1\), 2 MiB, but only 1 MiB are free"
    ):
        mb.Simulator(graph, "brian2")


# ----- Brian2 objects


def test_to_brian2_hands_out_a_plain_network():
    import brian2

    graph = chain((2,), nir.Linear(np.array([[0.5, 1.0]])), if_node(1), nir.Linear(np.array([[2.0]])), out=(1,))
    events = np.array([(10, 0), (20, 0), (35, 1), (35, 0)], dtype=[("t", int), ("x", int)])
    before = brian2.prefs["codegen.target"]
    brian2.prefs["codegen.target"] = "numpy"
    try:
        network = mb.translate.to_brian2(graph, events)
        assert isinstance(network, brian2.Network)
        assert network["synapses_input_n1"].w[:].tolist() == [0.5, 1.0]
        states = brian2.StateMonitor(network["population_n1"], "v", record=True, when="end")
        network.add(states)
        network.run(network.duration, namespace={})
    finally:
        brian2.prefs["codegen.target"] = before
    # 0.5; 1.0 fires; 1.5 fires and keeps 0.5; then the end-of-recording reset.
    assert states.v[0].tolist() == [0.5, 0.0, 0.5, 0.0]
    steps = np.asarray(network["spikes_n1"].t / brian2.second).astype(int)
    assert network.inputs.instants[steps, 0].tolist() == [20e-6, 35e-6]
    assert network["readout"].final[:].tolist() == [4.0]


def test_names_that_brian2_would_not_accept_become_ones_it_does():
    nodes = {
        "input": nir.Input(np.array([1])),
        "a.b": if_node(1),
        "a_b": if_node(1),
        "output": nir.Output(np.array([1])),
    }
    edges = [("input", "a.b"), ("a.b", "a_b"), ("a_b", "output")]
    graph = nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)
    events = np.array([(1, 0)], dtype=[("t", int), ("x", int)])
    assert trains(simulator(graph, "brian2").engine and next(simulator(graph, "brian2").run([events]))) == {
        "a.b": [(1e-6, 0, 1)], "a_b": [(1e-6, 0, 1)],
    }  # fmt: skip


def test_the_users_brian2_is_left_as_it_was():
    import brian2

    before = (brian2.get_device(), float(brian2.defaultclock.dt), brian2.prefs["codegen.target"])
    next(simulator(chain((1,), if_node(1)), "brian2").run([np.zeros(1, dtype=[("t", int), ("x", int)])]))
    assert (brian2.get_device(), float(brian2.defaultclock.dt), brian2.prefs["codegen.target"]) == before


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import mtt_brian, sys; "
        "print([m for m in ('torch', 'brian2', 'numba', 'tonic', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_half_behind_the_nir_file_does_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None; import mtt_brian.engines.brian2.network, mtt_brian.engines.exact, "
        "mtt_brian.engines.brian2.runtime, mtt_brian.evaluate, mtt_brian.plotting, mtt_brian.events"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ----- readouts


def test_a_readout_that_sums_up_follows_from_the_counts():
    rng = np.random.default_rng(0)
    weights = rng.integers(-8, 16, (4, 6)) / 16, rng.integers(-8, 16, (3, 4)) / 16
    readout = nir.I(r=np.array([1.0, 2.0, 0.5]))
    graph = chain((6,), nir.Linear(weights[0]), if_node(4, spikes="many"), nir.Linear(weights[1]), readout, out=(3,))
    circuit = mb.translate.read_nir(graph)
    events = mb.events.make_recording(t=np.arange(200), x=rng.integers(0, 6, 200))
    result = mb.simulate(circuit, events, engine="exact", record="counts")
    assert circuit.sums_up
    assert circuit.sum_of_arrivals(result.counts).tolist() == result.readout.tolist()
    assert np.any(result.readout)
    rest = circuit.without_readout()
    assert ([p.name for p in rest.populations], rest.output) == (["n1"], "n1")
    assert [c.target for c in rest.connections] == ["n1"]


def test_a_readout_with_a_bound_is_no_sum():
    readout = nir.I(r=np.ones(2), metadata={"lower_bound": -1.0})
    circuit = read((2,), if_node(2), nir.Linear(-np.eye(2)), readout)
    assert not circuit.sums_up
    result = mb.simulate(circuit, mb.events.make_recording(t=[1, 2], x=[0, 0]), engine="exact")
    assert result.readout.tolist() == [-1, 0]
    with pytest.raises(InputError, match="'n2' leaks, drifts or is bounded"):
        result.readout_at(0.0)


# ----- recordings side by side


def test_every_recording_has_its_own_row_and_every_copy_a_spare_one():
    from mtt_brian.circuit.spikes import InputSpikes
    from mtt_brian.engines.brian2.schedule import InputSchedule

    def train(events):
        return InputSpikes(np.arange(events) * 1.0, np.zeros(events, int), np.ones(events, int), np.arange(events), 1.0)

    # Two copies, longest first: copy 0 runs recordings 1, 3 and 4, copy 1 runs 2 and 0.
    schedule = InputSchedule.arrange([train(k) for k in (2, 5, 4, 1, 0)], batch_size=2, inputs=1)
    assert schedule.copy.tolist() == [1, 0, 1, 0, 0]
    assert schedule.first_step.tolist() == [5, 0, 0, 6, 8]
    assert schedule.first_row.tolist() == [0, 4]
    assert schedule.row.tolist() == [5, 0, 4, 1, 2]
    assert InputSchedule.arrange([], batch_size=2, inputs=1).first_row.tolist() == [0, 1]
