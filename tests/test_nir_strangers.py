"""NIR graphs and files that other people made: what they leave open, what they get wrong, and what they try."""

import itertools
import os
import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import h5py
import nir
import numpy as np
import pytest

import mtt_brian as mb
from mtt_brian import hdf5_files, hdf5_tree, machine
from mtt_brian.circuit.operators import Sparse
from mtt_brian.cli import entry_point
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, CubaLIF
from mtt_brian.translate import nir_files

GOLDEN = Path(__file__).parents[2] / "shared" / "data" / "golden"
SAID = {"reset": "subtract", "spikes": "many"}
read = mb.translate.read_nir


def inputs(*shape):
    return nir.Input(input_type=np.array(shape))


def outputs(*shape):
    return nir.Output(output_type=np.array(shape))


def if_node(*shape, metadata=SAID, **changes):
    return nir.IF(**({"r": np.ones(shape), "v_threshold": np.ones(shape)} | changes), metadata=metadata)


def lif_node(tau, r, n=1, **changes):
    return nir.LIF(
        **({"tau": np.full(n, tau), "r": np.full(n, r), "v_leak": np.zeros(n), "v_threshold": np.ones(n)}), **changes
    )


def chain(first, *nodes, last):
    """input -> n0 -> n1 ... -> output"""
    names = ["input", *(f"n{k}" for k in range(len(nodes))), "output"]
    return graph(dict(zip(names, [first, *nodes, last], strict=True)), itertools.pairwise(names))


def graph(nodes, edges, **more):
    return nir.NIRGraph(nodes, list(edges), type_check=False, **more)


def events(*times_and_x):
    """One row of (microsecond, x) per event."""
    t, x = zip(*times_and_x, strict=True) if times_and_x else ((), ())
    return mb.events.make_recording(list(t), list(x))


def run(network, *times_and_x, duration=0.01, **options):
    return mb.simulate(network, events(*times_and_x), engine="exact", duration=duration, **options)


def times(result, name):
    """Microseconds at which a population fires."""
    return [round(t * 1e6, 6) for t in result.spikes[name].t]


# ----- nested graphs


def nested(weight, **changes):
    nodes = {"input": inputs(2), "w": nir.Linear(np.array([[weight, 0.0]])), "output": outputs(1)} | changes
    return graph(
        {name: node for name, node in nodes.items() if node}, [e for e in EDGES if nodes[e[0]] and nodes[e[1]]]
    )


EDGES = [("input", "w"), ("w", "output")]


def side_by_side(**blocks):
    nodes = {"input": inputs(2), **blocks, "sum": nir.I(np.ones(1)), "output": outputs(1)}
    edges = [e for name in blocks for e in (("input", name), (name, "sum"))]
    return graph(nodes, [*edges, ("sum", "output")])


@pytest.mark.parametrize(
    "blocks",
    [
        {"block": nested(0.25), "block.w": nir.Linear(np.array([[0.5, 0.0]]))},
        {"block.w": nir.Linear(np.array([[0.5, 0.0]])), "block": nested(0.25)},
        {"a": side_by_side(**{"b.c": nested(0.25)}), "a.b": side_by_side(c=nested(0.5))},
    ],
)
@pytest.mark.parametrize("written", [False, True])
def test_nodes_whose_dotted_names_are_equal_both_count(blocks, written, tmp_path):
    network = side_by_side(**blocks)
    if "a" in blocks:  # the sums inside fire on
        for block in blocks.values():
            block.nodes["sum"] = nir.Scale(np.ones(1))
    if written:
        nir.write(tmp_path / "m.nir", network)
        network = tmp_path / "m.nir"
    assert run(network, (10, 0), (20, 0)).readout.tolist() == [1.5]
    names = [name for c in read(network).connections for name in c.nodes]
    assert len(names) == len(set(names))


def test_ambiguous_names_are_refused():
    blocks = {"block": nested(1.0), "block.w": nir.Scale(np.ones(2)), "block/w": nir.Scale(np.ones(2))}
    with pytest.raises(InputError, match=r"2 nodes.*have the name 'block/w'"):
        read(side_by_side(**blocks))


@pytest.mark.parametrize("missing", [{"input": None}, {"output": None}, {"input": None, "output": None}])
def test_a_nested_graph_without_ends_is_entered_where_nothing_feeds_it(missing):
    assert run(side_by_side(block=nested(0.25, **missing)), (10, 0)).readout.tolist() == [0.25]


def test_declared_shapes_are_compared_with_what_arrives(tmp_path):
    circuit = read(side_by_side(block=nested(0.25, input=inputs(7))))
    assert any("(7,) is not used, because (2,) arrives (node 'block.input')" in a for a in circuit.assumptions)
    for network in (
        side_by_side(block=nested(0.25, output=outputs(7))),
        chain(inputs(2), nir.Linear(np.ones((1, 2))), last=outputs(7)),
        chain(inputs(4), if_node(4), last=outputs(2, 2)),
    ):
        with pytest.raises(InputError, match=r"output' declares the shape .*, but \(\d,\) arrives"):
            read(network)
    # As in two published files: nir refuses to read this one, though the edges are sound.
    nir.write(tmp_path / "m.nir", side_by_side(block=nested(0.25, input=inputs(7))))
    assert run(tmp_path / "m.nir", (10, 0)).readout.tolist() == [0.25]


def test_a_graph_that_contains_itself_is_refused():
    block = nested(1.0)
    block.nodes["w"] = block
    with pytest.raises(InputError, match=r"the nested graph 'block\.w' holds itself"):
        read(side_by_side(block=block))


# ----- batch axes


CONV = nir.Conv2d(None, np.full((1, 1, 3, 3), 0.5), 1, 1, 1, 1, np.zeros(1))


@pytest.mark.parametrize(
    ("declared", "nodes", "last", "shape"),
    [
        ((1, 3), [nir.Linear(np.full((2, 3), 0.5)), if_node(2)], (1, 2), (3,)),
        ((1, 1, 3), [nir.Linear(np.full((2, 3), 0.5)), if_node(2)], (1, 1, 2), (3,)),
        ((3,), [nir.Linear(np.full((2, 3), 0.5)), if_node(2)], (1, 2), (3,)),
        ((1, 1, 4, 4), [CONV, if_node(1, 4, 4)], (1, 1, 4, 4), (1, 4, 4)),
        ((1, 1, 4, 4), [CONV, nir.Flatten(None, 1), if_node(16)], (1, 16), (1, 4, 4)),
        ((1, 1, 4, 4), [CONV, nir.Flatten(np.array([1, 1, 4, 4]), 1), if_node(16)], (1, 16), (1, 4, 4)),
        ((1, 1, 4, 4), [CONV, nir.Flatten(np.array([1, 1, 4, 4]), 1, 3), if_node(16)], (1, 16), (1, 4, 4)),
    ],
)
def test_a_leading_axis_of_1_is_the_batch(declared, nodes, last, shape):
    circuit = read(chain(inputs(*declared), *nodes, last=outputs(*last)))
    assert circuit.input_shape == shape
    assert sum("batch" in a for a in circuit.assumptions) == (declared != shape) + 1
    without = [nir.Flatten(None, 0) if isinstance(n, nir.Flatten) else n for n in nodes]
    plain = read(chain(inputs(*shape), *without, last=outputs(*circuit.readout.shape)))
    assert not plain.assumptions
    assert np.array_equal(circuit.connections[0].matrix.toarray(), plain.connections[0].matrix.toarray())


@pytest.mark.parametrize(
    ("dims", "shape"),
    [((-4, -1), (16,)), ((0, 0), (1, 4, 4)), ((-2, -1), (1, 16)), ((2, 3), (1, 16)), ((1, 2), (4, 4))],
)
def test_dimensions_of_a_flatten_count_the_batch(dims, shape):
    """As torch counts them in (1, 1, 4, 4), with the batch left out of the result."""
    nodes = [CONV, nir.Flatten(np.array([1, 1, 4, 4]), *dims), if_node(*shape)]
    assert read(chain(inputs(1, 1, 4, 4), *nodes, last=outputs(*shape))).readout.shape == shape


@pytest.mark.parametrize("dims", [(-2, 0), (2, 1), (0, 4), (-5, -1)])
def test_dimensions_of_a_flatten_that_torch_refuses(dims):
    flat = nir.Flatten(None, *dims)
    with pytest.raises(InputError, match=r"'n1' \(Flatten\): (start_dim .* do not fit|start_dim must consist)"):
        read(chain(inputs(1, 1, 4, 4), CONV, flat, if_node(16), last=outputs(16)))


def test_axes_that_neurons_have_are_no_batch():
    circuit = read(chain(inputs(1, 3), if_node(1, 3), last=outputs(1, 3)))
    assert circuit.input_shape == (1, 3)
    (said,) = circuit.assumptions
    assert "the input has the shape (1, 3): its axes of 1 count as rows and channels of the sensor, not as" in said
    row = mb.events.make_recording([10], [2], [0])
    assert mb.simulate(circuit, row, engine="exact").counts["n0"].tolist() == [[0, 0, 1]]
    assert mb.simulate(circuit, row[["t", "x"]], engine="exact").counts["n0"].tolist() == [[0, 0, 1]]
    # The axis is kept where parameters of neurons have it, though a weight in front would take either.
    kept = read(chain(inputs(1, 2), nir.Linear(np.ones((4, 2))), if_node(1, 4), last=outputs(1, 4)))
    assert (kept.input_shape, len(kept.assumptions)) == ((1, 2), 1)
    with pytest.raises(InputError, match=r"'n0' has the shape \(4,\), but 'input', which feeds it, has \(1, 3\)"):
        read(chain(inputs(1, 3), if_node(4), last=outputs(4)))


@pytest.mark.parametrize("node", [if_node(16), nir.Linear(np.ones((2, 16)))])
def test_a_flatten_that_keeps_the_batch_is_named(node):
    with pytest.raises(
        InputError, match=r"'n1'.*node 'n0' \(Flatten\) with start_dim 1 keeps an axis and gives \(2, 8\)"
    ):
        read(chain(inputs(2, 2, 4), nir.Flatten(None, 1), node, last=outputs(16)))


@pytest.mark.parametrize("name", ["norse_lifbox_batched", "rockpool_lif_bias", "rockpool_lifneuron"])
def test_files_with_a_batch_axis_load(name):
    if not GOLDEN.is_dir():
        pytest.skip(f"{GOLDEN} is absent")
    assert read(GOLDEN / f"{name}.nir", reset="zero").input_shape == (16,)


# ----- facts that a file does not contain


@pytest.mark.parametrize(
    ("metadata", "options", "spikes", "assumed"),
    [
        ({}, {"reset": "subtract"}, 3, ["reset='subtract' is as passed", "spikes='many' is assumed"]),
        (
            {},
            {"reset": "subtract", "spikes": "one"},
            1,
            ["reset='subtract' is as passed", "spikes='one' is as passed"],
        ),
        ({"spikes": "one"}, {"reset": "subtract"}, 1, ["reset='subtract' is as passed"]),
        ({"reset": "subtract"}, {}, 1, ["spikes='one' is assumed"]),
        ({"reset": "subtract"}, {"spikes": "many"}, 3, ["spikes='many' is as passed"]),
        ({}, {"reset": "zero"}, 1, ["reset='zero' is as passed"]),
        (SAID, {"lower_bound": -0.5}, 3, ["lower_bound=-0.5 is as passed"]),
        (SAID, {"reset": "subtract", "spikes": "many"}, 3, []),
    ],
)
def test_spikes_per_update(metadata, options, spikes, assumed):
    network = chain(inputs(1), nir.Linear(np.array([[3.5]])), if_node(1, metadata=metadata), last=outputs(1))
    result = run(network, (1000, 0), **options)
    assert result.counts["n1"].tolist() == [spikes]
    sentences = read(network, **options).assumptions
    assert [s[: len(a)] for s, a in zip(sentences, assumed, strict=True)] == assumed
    assert all("(node 'n1')" in s for s in sentences)


def test_a_reset_potential_does_not_go_with_subtraction():
    network = chain(inputs(1), if_node(1, metadata={}, v_reset=np.array([0.25])), last=outputs(1))
    assert read(network, reset="zero").readout.rule.v_reset == 0.25
    with pytest.raises(InputError, match=r"node 'n0': a v_reset of 0\.25 does not go with reset='subtract'"):
        read(network, reset="subtract")


def test_metadata_without_a_meaning_are_listed():
    nodes = [
        nir.Linear(np.ones((1, 1)), metadata={"dt": 1e-3}),
        if_node(1, metadata=SAID | {"dt": 1e-3, "decay_per_step": 1}),
    ]
    network = chain(inputs(1), *nodes, last=outputs(1))
    network.metadata = {"duration": 0.1, "author": "X"}
    assert read(network).assumptions == (
        "metadata 'dt' have no meaning here and are not used (nodes 'n0', 'n1')",
        "metadata 'author' of the graph are not used",
    )


def test_the_options_are_listed_too():
    network = chain(inputs(1), if_node(1), last=outputs(1))
    assert read(network, spike_integral=0.6).assumptions == ("the integral of one spike is 0.6 s (spike_integral)",)
    assert read(network).assumptions == ()


def test_a_lower_bound_for_neurons_without_one_in_their_metadata():
    nodes = [nir.Linear(np.array([[-2.0], [-2.0]])), if_node(2), nir.Linear(-np.eye(2)), nir.I(np.ones(2))]
    network = chain(inputs(1), *nodes, last=outputs(2))
    circuit = read(network, lower_bound=-0.5)
    assert (circuit.population["n1"].rule.lower_bound, circuit.population["n3"].rule.lower_bound) == (-0.5, None)
    network.nodes["n1"].metadata = SAID | {"lower_bound": -0.25}
    assert read(network, lower_bound=-0.25).population["n1"].rule.lower_bound == -0.25
    with pytest.raises(
        InputError, match=r"lower_bound=-0\.5 contradicts the metadata of node 'n1', which have lower_bou"
    ):
        read(network, lower_bound=-0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reset": "maybe"}, "reset must be one of 'subtract', 'zero', not 'maybe'"),
        ({"spikes": ["one"]}, "spikes must be one of"),
        ({"spike_integral": 0}, "spike_integral must be one number > 0, not 0"),
        ({"spike_integral": np.inf}, "spike_integral holds NaN or infinite"),
        ({"loop_delay": -1e-4}, "loop_delay must be one number > 0"),
        ({"loop_delay": "1 ms"}, "loop_delay is not numeric: '1 ms'"),
        ({"lower_bound": [-1, -2]}, "lower_bound must be one number, not"),
        ({"lower_bound": 1.5}, "node 'n0': IF.lower_bound must lie below the threshold"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        mb.Simulator(chain(inputs(1), if_node(1), last=outputs(1)), "exact", **options)


@pytest.mark.parametrize(("r", "n"), [(1.0, 1), (2.0, 3)])
def test_an_infinite_time_constant_without_leak_and_input(r, n):
    network = chain(inputs(n), nir.Scale(np.full(n, 100.0)), lif_node(np.inf, r, n), last=outputs(n))
    circuit = read(network, reset="zero")
    assert type(circuit.readout.rule) is IF
    assert any("tau is infinite" in a for a in circuit.assumptions)
    assert not run(circuit, (1000, 0)).counts["n1"].any()


def test_two_infinite_parameters_are_refused():
    network = chain(inputs(1), lif_node(np.inf, np.inf), last=outputs(1))
    with pytest.raises(InputError, match=r"r / tau of node 'n0' \(LIF\) is not determined.*write an IF"):
        read(network, reset="zero")
    with pytest.raises(InputError, match="tau of node 'n0' holds NaN or infinite values"):
        read(chain(inputs(2), lif_node(np.array([np.inf, 1.0]), 1.0, 2), last=outputs(2)), reset="zero")


def test_spikes_of_a_width_pass_w_in_and_so_does_a_bias():
    one = np.ones(1)
    cuba = nir.CubaLIF(tau_syn=one, tau_mem=one, r=one, v_leak=0 * one, v_threshold=one, w_in=4 * one, metadata=SAID)
    network = chain(inputs(1), nir.Affine(np.ones((1, 1)), np.array([3.0])), cuba, last=outputs(1))
    rule = read(network, spike_integral=0.5).readout.rule
    assert isinstance(rule, CubaLIF)
    assert (rule.w_in, rule.bias, rule.w_in * rule.bias) == (2.0, 6.0, 12.0)


# ----- loops without a delay


def loop(order, weights, bias=0.0):
    """input -> a -> b -> a, the nodes in any order; weights of input, a -> b and b -> a."""
    linear = [nir.Linear(np.array([[w]])) for w in weights]
    linear[2] = nir.Affine(np.array([[weights[2]]]), np.array([bias]))
    nodes = dict(
        zip(
            ["input", "in", "a", "ab", "b", "ba", "output"],
            [inputs(1), linear[0], if_node(1), linear[1], if_node(1), linear[2], outputs(1)],
            strict=True,
        )
    )
    edges = [("input", "in"), ("in", "a"), ("a", "ab"), ("ab", "b"), ("b", "ba"), ("ba", "a"), ("b", "output")]
    return graph({name: nodes[name] for name in order}, edges)


@pytest.mark.parametrize(
    "order", [["input", "in", "a", "ab", "b", "ba", "output"], ["b", "ba", "ab", "a", "output", "in", "input"]]
)
def test_the_delay_of_a_loop_is_in_its_backward_connection(order):
    circuit = read(loop(order, (1.0, 1.0, 1.0)), loop_delay=1e-3)
    result = run(circuit, (500, 0), duration=0.0031)
    assert times(result, "a") == times(result, "b") == [500, 1500, 2500]
    assert [a for a in circuit.assumptions if "loop_delay" in a] == [
        "spikes that go back from 'b' through 'ba' to 'a' take 0.001 s (loop_delay)"
    ]
    with pytest.raises(InputError, match=r"has no delay: an instant would never end.*pass loop_delay="):
        read(loop(order, (1.0, 1.0, 1.0)))


def test_a_bias_of_the_recurrent_weights_is_not_delayed():
    circuit = read(loop(["input", "in", "a", "ab", "b", "ba", "output"], (1.0, 0.0, 1.0), bias=1000.0), loop_delay=1e-3)
    assert circuit.population["a"].rule.bias == 1000.0
    assert times(run(circuit, duration=0.0025), "a") == [1000, 2000]


def test_a_self_loop_and_a_loop_with_a_delay():
    nodes = {"input": inputs(1), "a": if_node(1), "w": nir.Scale(np.ones(1)), "output": outputs(1)}
    edges = [("input", "a"), ("a", "w"), ("w", "a"), ("a", "output")]
    assert times(run(graph(nodes, edges), (100, 0), duration=0.00025, loop_delay=1e-4), "a") == [100, 200]
    nodes["w"] = nir.Delay(np.array([5e-5]))
    circuit = read(graph(nodes, edges), loop_delay=1e-4)
    assert times(run(circuit, (100, 0), duration=0.00025), "a") == [100, 150, 200, 250]
    assert circuit.assumptions == ()


def test_snntorchs_recurrent_network_fires_as_in_snntorch():
    if not GOLDEN.is_dir():
        pytest.skip(f"{GOLDEN} is absent")
    told = np.load(GOLDEN / "snn_rleaky.npz")
    circuit = read(GOLDEN / "snn_rleaky.nir", reset="zero", spike_integral=1e-4, loop_delay=1e-4)
    recording = mb.events.make_recording(told["t_us"], told["x"])
    result = mb.simulate(circuit, recording, engine="exact", duration=int(told["steps"]) * 1e-4)
    for layer, name in (("1", "1.lif"), ("3", "3")):
        spikes = result.spikes[name]
        ours = sorted(
            zip(np.rint(spikes.t * 1e4).astype(int).tolist(), spikes.i.tolist(), spikes.n.tolist(), strict=True)
        )
        columns = (told[f"{field}_{layer}"].tolist() for field in ("step", "i", "n"))
        assert ours == sorted(zip(*columns, strict=True))


# ----- values


def weight_of(value):
    circuit = read(chain(inputs(2), nir.Linear(value), if_node(2), last=outputs(2)))
    return circuit.connections[0].matrix.toarray().tolist()


class Shaped:
    """Anything that has a shape."""

    shape = (2, 2)


@pytest.mark.parametrize(
    "value",
    [
        np.eye(2, dtype=np.float16), np.eye(2, dtype=np.float32), np.eye(2, dtype=int), np.eye(2, dtype=bool),
        np.eye(2, dtype=object), np.eye(2, dtype=">f8"), np.asfortranarray(np.eye(2)), np.eye(2, dtype=np.longdouble),
    ],
)  # fmt: skip
def test_real_numbers_of_any_kind_are_weights(value):
    assert weight_of(value) == [[1, 0], [0, 1]]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64"])
@pytest.mark.parametrize("with_gradient", [False, True])
def test_tensors_are_weights(dtype, with_gradient):
    torch = pytest.importorskip("torch")
    if dtype == "int64" and with_gradient:
        pytest.skip("torch has none for whole numbers")
    assert weight_of(torch.eye(2, dtype=getattr(torch, dtype)).requires_grad_(with_gradient)) == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.eye(2) * 1j, "holds complex numbers"),
        (np.eye(2) + 0j, "holds complex numbers"),
        (np.full((2, 2), np.nan), "holds NaN or infinite"),
        (np.full((2, 2), np.finfo(np.longdouble).max), "holds NaN or infinite"),
        (np.full((2, 2), "1"), "is not numeric"),
        (np.full((2, 2), b"1"), "is not numeric"),
        (np.full((2, 2), "1", dtype=object), "is not numeric"),
        (np.full((2, 2), 10**400, dtype=object), "holds numbers that are too large"),
        (np.full((2, 2), 1, dtype="m8[s]"), "is not numeric"),
        (np.ma.masked_equal(np.eye(2), 0), "holds masked values"),
        (np.zeros((0, 2)), "is empty"),
        (Shaped(), "is not numeric"),
    ],
)
def test_what_is_no_real_number_is_refused(value, message):
    with pytest.raises(InputError, match=rf"node 'n0' \(Linear\): weight {message}"):
        weight_of(value)


TENSORS = {
    "csr": (lambda torch: torch.eye(2).to_sparse_csr(), None),
    "coo": (lambda torch: torch.eye(2).to_sparse(), None),
    "mkldnn": (lambda torch: torch.eye(2).to_mkldnn(), None),
    "negative view": (lambda torch: torch._neg_view(-torch.eye(2)), None),
    "part of a conjugate": (lambda torch: torch.complex(torch.zeros(2, 2), -torch.eye(2)).conj().imag, None),
    "conjugate": (lambda torch: torch.complex(torch.eye(2), torch.eye(2)).conj(), "holds complex numbers"),
    "complex32": (lambda torch: torch.eye(2).to(torch.complex32), "holds complex numbers"),
    "meta": (lambda torch: torch.eye(2, device="meta"), "is a tensor that is on the device meta, which keeps no val"),
    "quantized": (
        lambda torch: torch.quantize_per_tensor(torch.eye(2), 1.0, 0, torch.qint8),
        "is a tensor that is quantized; accepted",
    ),
    "nested": (lambda torch: torch.nested.nested_tensor([torch.ones(2)] * 2), "is a tensor that is nested; accepted"),
    "no tensor": (lambda torch: type("T", (), {"detach": lambda self: self})(), "is not numeric: "),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_of_every_kind(kind):
    torch = pytest.importorskip("torch")
    make, message = TENSORS[kind]
    if message is None:
        assert weight_of(make(torch)) == [[1, 0], [0, 1]]
        return
    node = if_node(2)
    node.v_threshold = make(torch)
    with pytest.raises(InputError, match=rf"v_threshold of node 'n0' {message}"):
        read(chain(inputs(2), node, last=outputs(2)))
    network = chain(inputs(2), nir.Linear(np.eye(2)), if_node(2), last=outputs(2))
    network.nodes["n0"].weight = make(torch)
    with pytest.raises(InputError, match=rf"node 'n0' \(Linear\): weight {message}"):
        read(network)
    with pytest.raises(InputError, match=rf"node 'n0' \(Linear\): the weight {message}"):
        mb.export.from_nir(network)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.full((2, 2), 2**53 + 1), "9007199254740993"),
        (np.full((2, 2), 2**64 - 1, np.uint64), "18446744073709551615"),
        (np.full((2, 2), np.longdouble(1) / 3), "0.333"),
    ],
)
def test_numbers_that_float64_rounds_are_refused(value, shown):
    with pytest.raises(InputError, match=rf"weight holds {re.escape(shown)}.*, which float64 rounds"):
        weight_of(value)
    assert weight_of(np.array([[2**60, 0], [0, 1]])) == [[2.0**60, 0], [0, 1]]


@pytest.mark.parametrize("value", [True, np.True_, np.ones(2, bool), np.array([True, 1.0], dtype=object)])
@pytest.mark.parametrize("key", ["lower_bound", "refractory", "v_threshold", "r"])
def test_truth_values_are_no_parameters(key, value):
    node = if_node(2, metadata=SAID | ({key: value} if key in ("lower_bound", "refractory") else {}))
    if hasattr(node, key):
        setattr(node, key, value)
    with pytest.raises(InputError, match=rf"{key} of node 'n0' must be a number, not "):
        read(chain(inputs(2), node, last=outputs(2)))


@pytest.mark.parametrize("tau", ["inf", ["inf"] * 2, np.array(["inf"] * 2, object), b"inf", np.full(2, np.inf + 1j)])
def test_an_infinite_tau_as_text_is_refused(tau):
    node = lif_node(1.0, 1.0, 2)
    node.tau = tau
    with pytest.raises(InputError, match=r"tau of node 'n0' (is not numeric|holds complex)"):
        read(chain(inputs(2), node, last=outputs(2)), reset="zero")


@pytest.mark.parametrize("number", [2, 12])
def test_products_of_weights_that_overflow_are_refused(number):
    huge = nir.Scale(np.full(2, 1e200))
    for network in (in_a_row([huge] * number), diamonds(number, huge, huge)):
        with pytest.raises(InputError, match=r"the weights of .* between 'input' and .* too large for float64"):
            read(network)
    assert read(in_a_row([huge, nir.Scale(np.full(2, 1e-200))] * number)).connections[0].matrix.data.tolist() == [1, 1]


@pytest.mark.parametrize("field", ["v_threshold", "r"])
@pytest.mark.parametrize("value", [1j, np.nan, "text", "1"])
def test_parameters_are_checked_as_well(field, value):
    with pytest.raises(InputError, match=f"{field} of node 'n0'"):
        read(chain(inputs(2), if_node(2, **{field: np.full(2, value)}), last=outputs(2)))


@pytest.mark.parametrize("shape", [(4, 1), (1, 3), (2, 2), (3,)])
def test_parameters_of_another_shape_name_the_node(shape):
    layers = [nir.Linear(np.ones((4, 2))), if_node(4), nir.Linear(np.ones((3, 4)))]
    network = chain(inputs(2), *layers, last=outputs(3))
    network.nodes["n1"].v_threshold = np.ones(shape)
    with pytest.raises(
        InputError, match=r"the parameters of node 'n1' \(IF\) have different shapes: \{'r': \(4,\), 't"
    ):
        read(network)
    network.nodes["n1"] = if_node(*shape)
    with pytest.raises(
        InputError, match=rf"'n1' has the shape {re.escape(str(shape))}, but 'n0', which feeds it, has \(4,\)"
    ):
        read(network)


@pytest.mark.parametrize("options", [{}, {"tool": "sinabs", "time_per_step": 0.001}])
@pytest.mark.parametrize("declared", [(2, 3, 4), (1, 2, 3, 4)])
@pytest.mark.parametrize("shape", [(2, 1, 1), (1, 2, 1, 1), (1, 2, 3, 4), (1, 3, 4), (2, 3, 1)])
def test_parameters_are_repeated_along_axes_of_1(shape, declared, options):
    """One for each channel, as tensors that are broadcast; or those of a batch of one."""
    threshold = 1 + np.arange(np.prod(shape)).reshape(shape)
    bound = {"lower_bound": -threshold} if not options else {}
    neurons = if_node(*shape, v_threshold=threshold, metadata=SAID | bound)
    conv = nir.Conv2d(None, np.ones((2, 1, 1, 1)), 1, 0, 1, 1, np.zeros(2))
    network = chain(inputs(*declared[:-3], 1, 3, 4), conv, neurons, last=outputs(*declared))
    circuit = read(network, **options)
    full = np.broadcast_to(threshold, (1, 2, 3, 4))[0]
    assert np.array_equal(np.broadcast_to(circuit.readout.rule.threshold, (2, 3, 4)), full)
    assert np.array_equal(np.broadcast_to(circuit.readout.rule.lower_bound, (2, 3, 4)), -full)
    assert f"parameters of the shape {shape} count for all neurons of (2, 3, 4) (node 'n1')" in circuit.assumptions
    recording = mb.events.make_recording(np.arange(8) * 1000, 3, 2)
    result = mb.simulate(circuit, recording, engine="exact")
    assert result.counts["n1"][:, 2, 3].tolist() == (8 // full[:, 2, 3]).tolist()


def test_parameters_of_a_batch_in_a_loop():
    nodes = {"input": inputs(2), "w": nir.Linear(np.eye(2)), "a": if_node(1, 2), "d": nir.Delay(np.full(2, 0.001))}
    edges = [("input", "w"), ("w", "a"), ("a", "d"), ("d", "a"), ("a", "output")]
    assert times(run(graph(nodes | {"output": outputs(2)}, edges), (500, 1), duration=0.003), "a") == [500, 1500, 2500]


def test_one_parameter_for_each_channel_needs_axes():
    conv = nir.Conv2d(None, np.ones((2, 1, 1, 1)), 1, 0, 1, 1, np.zeros(2))
    message = (
        r"'n1' has the shape \(2,\), but 'n0', .* has \(2, 3, 4\); parameters for each channel have .* \(2, 1, 1\)"
    )
    with pytest.raises(InputError, match=message):
        read(chain(inputs(1, 3, 4), conv, if_node(2), last=outputs(2, 3, 4)))


@pytest.mark.parametrize("shape", [(3,), (1, 3), (3, 1), (1, 1, 3)])
def test_a_bias_may_be_a_row_or_a_column(shape):
    bias = np.arange(3.0).reshape(shape)
    affine = chain(inputs(2), nir.Affine(np.ones((3, 2)), bias), last=outputs(3))
    assert run(affine, duration=1.0).readout.tolist() == [0, 1, 2]
    conv = nir.Conv2d(None, np.ones((3, 1, 1, 1)), 1, 0, 1, 1, bias)
    result = run(chain(inputs(1, 1, 2), conv, last=outputs(3, 1, 2)), duration=1.0)
    assert result.readout.reshape(3, 2).tolist() == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.parametrize("bias", [np.ones((2, 2)), np.ones(3), np.ones((2, 1, 2)), np.ones((4, 4))])
def test_other_biases_are_refused(bias):
    conv = nir.Conv2d(None, np.ones((4, 1, 1, 1)), 1, 0, 1, 1, bias)
    for first, node, last in (
        (inputs(2), nir.Affine(np.ones((4, 2)), bias), outputs(4)),
        (inputs(1, 1, 1), conv, outputs(4, 1, 1)),
    ):
        with pytest.raises(InputError, match=r"node 'n0' .*the bias has the shape .* for 4 out"):
            read(chain(first, node, last=last))


def test_times_in_single_precision_are_whole_microseconds():
    late, rest = np.float32([0.001, 0.0033]), np.float32(0.0007)
    network = chain(inputs(2), nir.Delay(late), if_node(2, metadata=SAID | {"refractory": rest}), last=outputs(2))
    circuit = read(network)
    assert circuit.connections[0].operators[0].seconds.tolist() == [0.001, 0.0033]
    assert circuit.readout.rule.refractory == 0.0007
    assert circuit.assumptions == (
        "times in single precision are taken for the whole microseconds next to them (nodes 'n0', 'n1')",
    )
    assert run(circuit, (100, 0), (100, 1)).spikes["n1"].t.tolist() == [0.0011, 0.0034]
    exact = chain(inputs(2), nir.Delay(np.array([0.001, 0.0033])), if_node(2), last=outputs(2))
    assert read(exact).assumptions == ()


def conv1d(input_shape=None, **changes):
    fields = {"weight": np.ones((1, 1, 3)), "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": np.zeros(1)}
    node = nir.Conv1d(None, **(fields | changes))
    node.input_shape = input_shape
    return node


@pytest.mark.parametrize(
    ("first", "node", "message"),
    [
        (inputs(2), if_node(2, metadata=SAID | {"lower_bound": -np.ones(3)}), "lower_bound of node 'n0' has "),
        (inputs(2), if_node(2, metadata=SAID | {"refractory": np.zeros(3)}), r"refractory of node 'n0' has .* \(3,\)"),
        (inputs(2), if_node(2, metadata=SAID | {"reset": np.ones(2)}), "reset must be one of"),
        (inputs(2), if_node(2, metadata=3.0), "metadata of node 'n0' must be a dictionary"),
        (inputs(2.5), if_node(2), r"input node 'input' must consist of whole numbers from 1 .* not \[2.5\]"),
        (inputs(-2), if_node(2), "shape of the input node 'input' must consist of whole numbers"),
        (inputs(), if_node(2), "shape of the input node 'input' is empty"),
        (inputs(1, 10**5, 10**5), if_node(1), "'input'.* has 10,000,000,000 elements .*accepted are up to"),
        (inputs(1, 4, 4), nir.Conv2d(None, np.ones((1, 1, 3, 3)), 1, 10**9, 1, 1, np.zeros(1)), "'n0'.*elements"),
        (inputs(1, 4, 4), nir.Conv2d(None, np.ones((1, 1, 0, 0)), 1, 0, 1, 1, np.zeros(1)), "weight is empty"),
        (inputs(1, 4, 4), nir.Conv2d(None, np.ones((1, 1, 3, 3)), np.inf, 0, 1, 1, np.zeros(1)), "stride holds NaN"),
        (inputs(1, 4, 4), nir.Conv2d(None, np.ones((1, 1, 3, 3)), 1, 0, 1, 1.5, np.zeros(1)), "groups must consist of"),
        (inputs(1, 4, 4), nir.Conv2d(None, np.ones((1, 1, 3, 3)), 1, -1, 1, 1, np.zeros(1)), "padding must consist of"),
        (inputs(1, 4, 4), nir.Conv2d((3, 4), np.ones((1, 1, 3, 3)), 1, 0, 1, 1, np.zeros(1)), "input_shape is "),
        (inputs(1, 4), conv1d(weight=np.ones((1, 1, 1, 3))), r"\(C_out, C_in / groups, length\), not \(1, 1, 1, 3\)"),
        (inputs(1, 4), conv1d(stride=(1, 2)), r"stride must be one whole number >= 1, not \(1, 2\)"),
        (inputs(1, 4), conv1d(padding=[1, 1]), r"padding must be one whole number >= 0, not \[1, 1\]"),
        (inputs(1, 4), conv1d(stride=2, padding="same"), r"padding 'same' goes with stride 1, not \(2,\)"),
        (inputs(1, 4), conv1d(dilation=0), "dilation must consist of whole numbers from 1"),
        (inputs(1, 4), conv1d(input_shape=3), r"input_shape is \(3,\), but its input is \(4,\)"),
        (inputs(2, 4), conv1d(), "a kernel for 1 channels cannot act on an input of 2"),
        (inputs(1, 2), conv1d(), "the kernel 1 x 3 does not fit into an input of 1 x 2"),
        (inputs(1, 4), conv1d(bias=np.zeros(2)), r"the bias has the shape \(2,\) for 1 output channels"),
        (inputs(1, 4), conv1d(padding=10**9), "'n0'.*elements"),
        (inputs(1, 4, 4), nir.SumPool2d(np.array(10**6), np.array(1), np.array(10**6)), "1,000,000,000,000 w"),
        (inputs(1, 4, 4), nir.SumPool2d(np.array(10**9), np.array(1), np.array(10**9)), "1,000,000,000,000,000"),
        (inputs(1, 4, 4), nir.Flatten(None, np.inf), "start_dim holds NaN or infinite"),
        (inputs(1, 4, 4), nir.Flatten(None, 0, 1.5), "end_dim must consist of whole numbers"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_are_named(first, node, message):
    with pytest.raises(InputError, match=message):
        read(chain(first, node, last=nir.Output(None)))


def test_what_does_not_fit_into_memory_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr(machine, "available_bytes", lambda: 10**6)
    with pytest.raises(InputError, match=r"'input'.*40,000 elements .*2,560,000 bytes; 1,000,000 bytes are free"):
        read(chain(inputs(1, 200, 200), if_node(1), last=nir.Output(None)))


def test_metadata_that_are_no_dictionary():
    network = chain(inputs(1), if_node(1), last=outputs(1))
    network.metadata = 5
    with pytest.raises(InputError, match="the metadata of the graph must be a dictionary, not 5"):
        read(network)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([("input", "n0"), ("n0", "nobody")], "names the node 'nobody', which does not exist"),
        ([("input", "n0"), ("n0", "output"), ("n0", "input")], "leads into the input node"),
        ([("input", "n0", "output")], "is no pair of node names"),
        ([("input", 3)], "is no pair of node names"),
        (None, "the edges must be a list of pairs of node names, not None"),
        (5, "the edges must be a list of pairs of node names, not 5"),
        ({("input", "n0"), 5}, "the edge 5 is no pair of node names"),
        ([("input", "output"), ("n0", "n0")], "the cycle 'n0' -> 'n0' holds no neuron"),
    ],
)
def test_edges_are_checked(edges, message):
    network = chain(inputs(1), nir.Scale(np.ones(1)), last=outputs(1))
    network.edges = edges
    with pytest.raises(InputError, match=message):
        read(network)


# ----- what nothing reads


def with_more(name, node, *edges):
    """input -> n0 (weights 0.6) -> n1 (one spike a pair) -> output, and one more node."""
    network = chain(inputs(1), nir.Linear(np.full((2, 1), 0.6)), if_node(2), last=outputs(2))
    network.nodes[name] = node
    network.edges += edges
    return network


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (with_more("k", nir.Linear(np.ones((5, 2))), ("n1", "k")), ["it is read by nothing and left out (node 'k')"]),
        (
            with_more("k", if_node(2), ("n0", "k")),
            ["it is simulated, but read by nothing that leads to the output (node 'k')"],
        ),
        (
            with_more("k", if_node(2)),
            ["it is simulated, but read by nothing that leads to the output (node 'k')", "nothing feeds it (node 'k')"],
        ),
        (with_more("k", if_node(2), ("k", "n1")), ["nothing feeds it (node 'k')"]),
        (with_more("k", nir.Scale(np.ones(2)), ("n0", "k"), ("k", "n1")), []),
    ],
)
def test_nodes_that_nothing_reads_are_listed(network, said):
    assert list(read(network).assumptions) == said
    if said != []:
        assert run(network, (10, 0), (20, 0)).counts["n1"].tolist() == [1, 1]


def test_nodes_on_the_way_to_neurons_that_nothing_reads():
    network = with_more("k", if_node(2), ("s", "k"), ("n0", "s"))
    network.nodes["s"] = nir.Scale(np.ones(2))
    assert read(network).assumptions == (
        "it is simulated, but read by nothing that leads to the output (node 'k')",
        "it leads to neurons that nothing reads (node 's')",
    )


@pytest.mark.parametrize(
    ("node", "field"),
    [("input", "output_type"), ("output", "input_type"), ("n0", "input_type"), ("n0", "output_type")],
)
def test_every_declared_shape_is_compared(node, field):
    network = chain(inputs(2), if_node(2), last=outputs(2))
    assert read(network).assumptions == ()
    setattr(network.nodes[node], field, {field.removesuffix("_type"): np.array([9])})
    assert read(network).assumptions == (
        f"the declared {field} (9,) is not used, because its shape is (2,) (node {node!r})",
    )


def test_sources_of_different_shapes_are_shown():
    network = chain(inputs(2), nir.Linear(np.ones((3, 2))), nir.Scale(np.ones(2)), last=outputs(2))
    network.edges.append(("input", "n1"))
    with pytest.raises(
        InputError, match=r"the sources of node 'n1' have different shapes: \{'n0': \(3,\), 'input': \(2,\)\}"
    ):
        read(network)


# ----- deep and wide graphs


def in_a_row(nodes):
    return chain(inputs(2), *nodes, if_node(2), last=outputs(2))


def diamonds(number, one, other):
    """Two ways, again and again: 2 ** number paths."""
    nodes, edges, last = {"input": inputs(2)}, [], "input"
    for k in range(number):
        nodes |= {f"one{k}": one, f"other{k}": other, f"join{k}": nir.Scale(np.ones(2))}
        edges += [(last, f"one{k}"), (last, f"other{k}"), (f"one{k}", f"join{k}"), (f"other{k}", f"join{k}")]
        last = f"join{k}"
    nodes |= {"a": if_node(2), "output": outputs(2)}
    return graph(nodes, [*edges, (last, "a"), ("a", "output")])


def test_a_thousand_nodes_in_a_row():
    circuit = read(in_a_row([nir.Scale(np.array([2.0, 1.0])), nir.Scale(np.array([0.5, 1.0]))] * 500))
    assert run(circuit, (10, 0), (20, 1), (30, 0)).readout.tolist() == [2, 1]


def test_four_hundred_graphs_in_each_other_and_in_a_row():
    inner = graph({"input": inputs(2), "w": nir.Scale(np.ones(2)), "output": outputs(2)}, EDGES)
    deep = inner
    for _ in range(400):
        deep = graph({"input": inputs(2), "w": deep, "output": outputs(2)}, EDGES)
    for network in (in_a_row([deep]), in_a_row([inner] * 400)):
        assert run(network, (10, 0), (20, 1), (30, 0)).readout.tolist() == [2, 1]
    for _ in range(700):
        deep = graph({"input": inputs(2), "w": deep, "output": outputs(2)}, EDGES)
    with pytest.raises(InputError, match="nested more than 1,000 deep"):
        read(in_a_row([deep]))


@pytest.mark.parametrize("engine", ["exact", "brian2"])
def test_many_paths_are_one_matrix_and_few_stay_as_they_are(engine):
    half = nir.Scale(np.array([0.5, 0.25]))
    circuit = read(diamonds(12, half, half))
    (connection,) = circuit.connections
    assert [type(o) for o in connection.operators] == [Sparse]
    assert connection.matrix.toarray().tolist() == [[1, 0], [0, 2.0**-12]]
    assert connection.fan_out.tolist() == [1, 1]
    result = mb.simulate(
        circuit, events((10, 0), (20, 0), (30, 1)), engine=engine, **{"target": "numpy"} if engine == "brian2" else {}
    )
    assert result.counts["a"].tolist() == [2, 0]
    assert len(read(diamonds(3, half, half)).connections) == 8


def test_many_paths_with_delays_are_one_matrix_for_each_delay():
    circuit = read(diamonds(4, nir.Scale(np.ones(2)), nir.Delay(np.array([0.001, 0.003]))))
    assert len(circuit.connections) == 8  # 0, 1, 2, 3, 4 ms of the first, 0, 3, 6, 9, 12 ms of the second neuron
    result = run(circuit, (100, 0), (100, 1), duration=0.1)
    arrived = sorted(zip(times(result, "a"), result.spikes["a"].i.tolist(), result.spikes["a"].n.tolist(), strict=True))
    late = [(0, 1), (1, 4), (2, 6), (3, 4), (4, 1)]
    assert arrived == sorted([(100 + 1000 * k, 0, n) for k, n in late] + [(100 + 3000 * k, 1, n) for k, n in late])
    with pytest.raises(InputError, match="more than 64 different delays"):
        read(diamonds(70, nir.Scale(np.ones(2)), nir.Delay(np.array([0.001, 0.001]))))


def test_biases_run_along_many_paths_once():
    network = diamonds(30, nir.Scale(np.full(2, 0.5)), nir.Scale(np.full(2, 0.5)))
    network.nodes["join0"] = nir.Affine(np.eye(2), np.array([3.0, 0.0]))
    assert read(network).readout.rule.bias.tolist() == [3, 0]


# ----- files


def saved(path, change=lambda nodes: None, root=lambda file: None):
    """A sound file, then changed."""
    nir.write(path, chain(inputs(2), nir.Linear(np.eye(2)), if_node(2), last=outputs(2)))
    with h5py.File(path, "r+") as file:
        change(file["node/nodes"])
        root(file)
    return path


def put(where, value):
    def change(nodes):
        if where in nodes:
            del nodes[where]
        nodes[where] = value

    return change


def virtual(nodes):
    layout = h5py.VirtualLayout((2, 2), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "w", (2, 2))
    del nodes["n0/weight"]
    nodes["n0"].create_virtual_dataset("weight", layout)


def stored_elsewhere(nodes):
    del nodes["n0/weight"]
    nodes["n0"].create_dataset("weight", (2, 2), "f8", external=[("/etc/passwd", 0, 32)])


def unknown_filter(nodes):
    del nodes["n0/weight"]
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((2, 2))
    made.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
    h5py.h5d.create(nodes["n0"].id, b"weight", h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((2, 2)), made)


def endless(nodes):
    del nodes["n0/weight"]
    nodes["n0"].create_dataset("weight", (10**8, 10**8), "f8", chunks=(100, 100))


def never_written(nodes, **more):
    del nodes["n0/weight"]
    nodes["n0"].create_dataset("weight", (10**6, 2), "f8", fillvalue=1.0, **more)


def written_in_part(nodes):
    del nodes["n0/weight"]
    nodes["n0"].create_dataset("weight", (2000, 2), "f8", chunks=(1000, 2), compression="gzip")[:1000] = 1.0


def not_utf8(nodes):
    nodes.id.links.create_soft(b"\xff\xfe", b"/node")


def holds_itself(nodes):
    nodes["n0/again"] = nodes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("n0/weight", h5py.ExternalLink("other.h5", "/w")), r"n0/weight' is a link to the file 'other\.h5'; "),
        (put("n0", h5py.ExternalLink("other.h5", "/")), r"nodes/n0' is a link to the file"),
        (put("n0/weight", h5py.SoftLink("/node/nodes/n1/r")), r"n0/weight' is a link to '/node/nodes/n1/r'"),
        (put("n0/weight", h5py.SoftLink("/nowhere")), r"n0/weight' is a link to '/nowhere'"),
        (virtual, r"n0/weight' is a virtual data set; nothing is read from other files"),
        (stored_elsewhere, r"n0/weight' is stored in another file; nothing is read from other files"),
        (unknown_filter, r"n0/weight' is stored with the filter 32015"),
        (endless, r"n0/weight' has the shape \(100000000, 100000000\), but was not written in full: 0 bytes of it"),
        (never_written, r"n0/weight' has the shape \(1000000, 2\), but was not written in full"),
        (lambda nodes: never_written(nodes, chunks=(1000, 2)), "n0/weight' .*not written in full"),
        (lambda nodes: never_written(nodes, chunks=(1000, 2), compression="gzip"), "n0/weight' .*not written in full"),
        (written_in_part, "n0/weight' .*not written in full"),
        (not_utf8, r"the name b'\\xff\\xfe' in the group 'node/nodes' is not UTF-8"),
        (put("n0/weight", np.ones((0, 2))), r"weight of node 'n0' \(Linear\) is empty: its shape is \(0, 2\)"),
        (holds_itself, "is a group that the file holds twice or that holds itself"),
        (put("n0/weight", h5py.Empty("f8")), "n0/weight' is empty"),
        (put("n0/weight", np.array([(1, 2.0)], dtype=[("a", int), ("b", float)])), "n0/weight' holds"),
        (put("n0/type", "Foo"), "node 'n0' has the type 'Foo', which NIR does not have"),
        (put("n0/type", 3), "the type of node 'n0' must be text"),
        (put("n0/type", b"\xff"), "not UTF-8"),
        (put("n0/weight", "text"), r"weight of node 'n0' \(Linear\) is the text 'text'"),
        (put("n0/other", 1.0), r"'other' of node 'n0' \(Linear\) is not a value .*accepted are metadata, weight"),
        (put("n0/weight", np.ones(3)), r"node 'n0' \(Linear\): Weight must be at least 2D"),
        (put("n1/v_threshold", np.ones(3)), r"node 'n1' \(IF\): All parameters must have the same shape"),
        (put("n1/metadata", 3.0), r"metadata of node 'n1' \(IF\) must be a group"),
        (put("n1/metadata/reset", np.ones(2)), "node 'n1': reset must be one of"),
        (put("n0/weight", np.eye(2) * 1j), "node 'n0'.*weight holds complex numbers"),
        (lambda nodes: nodes.pop("n0/weight"), r"'weight' of node 'n0' \(Linear\) is missing"),
        (lambda nodes: nodes["n0"].create_group("type2"), "'type2' of node 'n0'"),
    ],
)  # fmt: skip
def test_files_that_are_not_read_name_the_file_and_the_reason(change, message, tmp_path):
    with pytest.raises(InputError, match=rf"m\.nir.*{message}") as refused:
        read(saved(tmp_path / "m.nir", change))
    assert "\n" not in str(refused.value)


def test_arrays_are_bounded_by_the_size_of_the_file(tmp_path, monkeypatch):
    """8 MB of zeros in a file of some 30 KB: far more than 10 times its size."""
    path = saved(tmp_path / "m.nir")
    with h5py.File(path, "r+") as file:
        file["node/nodes/n1/metadata"].create_dataset("zeros", data=np.zeros(10**6), compression="gzip")
    size = path.stat().st_size
    with h5py.File(path) as file:
        assert hdf5_tree.scan(file, "node", 10**9, size)[1] > 8 * 10**6  # within the 64 MiB that any file may take
        monkeypatch.setattr(hdf5_tree, "SMALL_ARRAYS", 10**6)
        monkeypatch.setattr(hdf5_tree, "LARGEST_RATIO", 10)
        with pytest.raises(hdf5_tree.Refused, match=rf"'node/nodes/n1/metadata/zeros', .*1,000,000 .*{size:,} bytes"):
            hdf5_tree.scan(file, "node", 10**9, size)
        monkeypatch.setattr(hdf5_tree, "LARGEST_RATIO", 1000)
        with pytest.raises(hdf5_tree.Refused, match="more than 1,000 bytes, half of the free memory"):
            hdf5_tree.scan(file, "node", 1000, size)


def test_messages_of_a_graph_from_a_file_name_the_file(tmp_path):
    path = saved(tmp_path / "m.nir", put("n1/metadata/reset", "never"))
    loaded = nir_files.load_graph(path)
    for build in (read, mb.export.from_nir, mb.export.from_nir):
        with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: node 'n1'.*reset"):
            build(loaded)


def in_the_file(path):
    return [a for a in read(path).assumptions if "is assumed" not in a]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: f["node/nodes/n1"].attrs.update(reset="zero"), "attributes 'reset' of 'node/nodes/n1' are not used"),
        (lambda f: f["node/nodes/n0/weight"].attrs.update(a=1, b=2), "attributes 'a', 'b' of 'node/nodes/n0/weight' a"),
        (lambda f: f["node"].attrs.update(note=np.ones(3)), "attributes 'note' of 'node' are not used"),
        (lambda f: f.attrs.update({"a\x1b": 1}), r"attributes 'a\x1b' of the file are not used"),
        (lambda f: f.create_group("extra/deep"), "'extra' beside 'node' in the file is not read"),
        (lambda f: put("version", "99.9")(f), "the version of the file is '99.9', and it is read as one of NIR 1"),
        (lambda f: put("version", 3)(f), "the version of the file is no text"),
    ],
)
def test_parts_of_a_file_without_a_meaning_are_listed(change, sentence, tmp_path):
    path = saved(tmp_path / "m.nir")
    before = read(path)
    assert in_the_file(path) == []
    with h5py.File(path, "r+") as file:
        change(file)
    (found,) = in_the_file(path)
    assert found.startswith(sentence)
    assert read(path).readout.rule.reset == before.readout.rule.reset == "subtract"


def put_root(where, value):
    def change(file):
        del file[where]
        if value is not None:
            file[where] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put_root("node", None), "it has no group 'node'"),
        (put_root("node", 3.0), "'node' is not a group"),
        (put_root("node/edges", 3.0), "'edges' must be pairs of node names"),
        (put_root("node/edges", [["input", "n0", "n1"]]), "'edges' must be pairs of node names"),
        (put_root("node/nodes", 3.0), "'nodes' is not a group"),
        (put_root("node/type", "Linear"), "it holds a single Linear node, not a graph"),
        (put_root("node", h5py.ExternalLink("m2.nir", "/node")), r"'node' is a link to the file 'm2\.nir'"),
    ],
)
def test_the_parts_of_a_file_are_checked(change, message, tmp_path):
    with pytest.raises(InputError, match=rf"m\.nir is not a readable NIR file: {message}"):
        read(saved(tmp_path / "m.nir", root=change))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"does not end or crashes .*\(signal 11\)"),
        ("import sys; sys.exit(3)", r"\(exit status 3\)"),
        ("print('no JSON')", r"\(exit status 0\)"),
        ("import time; time.sleep(600)", "did not end within"),
    ],
)
def test_a_reader_that_crashes_or_hangs_is_an_input_error(script, message, tmp_path, monkeypatch):
    (tmp_path / "script.py").write_text(script)
    monkeypatch.setattr(hdf5_tree, "__file__", str(tmp_path / "script.py"))
    if "600" in script:
        monkeypatch.setattr(hdf5_files, "_SECONDS", 0.5)
    with pytest.raises(InputError, match=rf"m\.nir is not a readable NIR file: .*{message}"):
        read(saved(tmp_path / "m.nir"))


def test_a_stop_of_this_process_is_not_the_time_of_the_reader(tmp_path, monkeypatch):
    """Ctrl-Z for minutes, then fg: the wait in which the stop falls ends at once, and counts as one of many."""
    (tmp_path / "script.py").write_text("import time; time.sleep(600)")
    waits = []

    class Event(threading.Event):
        def wait(self, timeout):
            waits.append(timeout)
            return False

    monkeypatch.setattr(hdf5_tree, "__file__", str(tmp_path / "script.py"))
    monkeypatch.setattr(hdf5_files, "threading", SimpleNamespace(Event=Event, Thread=threading.Thread))
    with pytest.raises(InputError, match="did not end within 60 s"):
        read(saved(tmp_path / "m.nir"))
    assert max(waits) < 2
    assert 60 <= sum(waits) < 61


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of Unix")
@pytest.mark.parametrize("work", [pytest.param("while True: pass", marks=pytest.mark.slow), "x = bytearray(2 ** 33)"])
def test_the_reader_has_limits_of_time_and_memory(work, tmp_path, monkeypatch):
    folder = Path(hdf5_tree.__file__).parent
    (tmp_path / "script.py").write_text(
        f"import sys; sys.path.insert(0, {str(folder)!r}); import hdf5_tree; hdf5_tree._limit(1, 2 ** 30)\n{work}\n"
    )
    monkeypatch.setattr(hdf5_tree, "__file__", str(tmp_path / "script.py"))
    with pytest.raises(InputError, match=r"does not end or crashes"):
        read(saved(tmp_path / "m.nir"))


def test_a_file_is_read_as_it_was_written(tmp_path):
    metadata = SAID | {"number": 3, "text": "é", "list": np.arange(3), "nested": {"x": np.float32(0.1)}}
    network = chain(inputs(2), nir.Linear(np.eye(2, dtype=np.float16)), if_node(2, metadata=metadata), last=outputs(2))
    nir.write(tmp_path / "m.nir", network)
    ours, theirs = nir_files.load_graph(tmp_path / "m.nir"), nir.read(tmp_path / "m.nir", type_check=False)
    assert (ours.edges, list(ours.nodes)) == (theirs.edges, list(theirs.nodes))
    assert ours.nodes["n0"].weight.dtype == np.float16
    for name, node in ours.nodes.items():
        for field, value in vars(node).items():
            other = getattr(theirs.nodes[name], field)
            if not isinstance(value, dict):
                assert np.array_equal(value, other)
    assert ours.nodes["n1"].metadata["nested"] == {"x": np.float32(0.1)}
    assert ours.nodes["n1"].metadata["text"] == "é"


@pytest.mark.skipif(sys.platform == "win32", reason="a path with a quote")
@pytest.mark.parametrize("kind", ["no axes", "objects", "a tensor", "a tensor with a gradient"])
def test_values_of_every_kind_are_written(kind, tmp_path):
    values = {"no axes": np.array(2.0), "objects": np.array([2, 2], object)}
    if kind not in values:
        torch = pytest.importorskip("torch")
        values[kind] = torch.full((2,), 2.0, requires_grad="gradient" in kind)
    network = chain(inputs(2), if_node(2, metadata=SAID | {"value": values[kind]}), last=outputs(2))
    mb.export.write(tmp_path / "a.nir", network)
    written = nir.read(tmp_path / "a.nir").nodes["n0"].metadata["value"]
    assert np.all(written == 2)
    assert np.shape(written) == np.shape(values[kind])


@pytest.mark.parametrize("text", ["a", b"a", np.array("a"), ["a", "ü"], np.array([["a", b"b"]], object)])
def test_texts_are_written(text, tmp_path):
    network = chain(inputs(2), if_node(2, metadata=SAID | {"text": text, "none": None}), last=outputs(2))
    mb.export.write(tmp_path / "a.nir", network)
    metadata = nir_files.load_graph(tmp_path / "a.nir").nodes["n0"].metadata
    assert metadata.keys() == {*SAID, "text"}
    assert np.array_equal(metadata["text"], np.vectorize(nir_files.plain)(text))


@pytest.mark.parametrize(
    ("name", "metadata", "message"),
    [
        ("a/b", {}, "a file has no place for the name 'a/b' in 'nodes'; rename it"),
        (".", {}, "no place for the name '.'"),
        ("", {}, "no place for the name ''"),
        ("a\0b", {}, r"no place for the name 'a\x00b'"),
        ("\udcff", {}, r"no place for the name '\udcff'"),
        ("a", {"b/c": 1}, "no place for the name 'b/c' in 'nodes/a/metadata'"),
        ("a", {"b": "\0"}, "'nodes/a/metadata/b' holds the text"),
        ("a", {"b": object}, "'nodes/a/metadata/b' is not numeric: <class 'object'>"),
        ("a", {"b": 1j}, "'nodes/a/metadata/b' holds complex numbers; accepted are real ones"),
        ("a", {"b": [1, "c"]}, "'nodes/a/metadata/b' is not numeric"),
    ],
)
def test_what_a_file_cannot_hold_is_named(name, metadata, message, tmp_path):
    nodes = {"input": inputs(2), name: if_node(2, metadata=metadata), "output": outputs(2)}
    with pytest.raises(InputError, match=f"a.nir: .*{re.escape(message)}"):
        mb.export.write(tmp_path / "a.nir", graph(nodes, itertools.pairwise(nodes)))
    assert not list(tmp_path.iterdir())


def test_edges_may_be_a_set(tmp_path):
    network = chain(inputs(2), if_node(2), last=outputs(2))
    network.edges = set(network.edges)
    mb.export.write(tmp_path / "a.nir", network)
    assert read(tmp_path / "a.nir").readout.name == "n0"


@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.float32])
def test_biases_of_any_type_are_converted_to_steps(dtype):
    network = chain(inputs(2), nir.Affine(np.eye(2), np.array([30, 0], dtype)), if_node(2), last=outputs(2))
    written, _ = mb.translate.for_tool(network, "spikingjelly", step=1e-3, allow=("reset", "spikes"))
    assert written.nodes["n0"].bias == pytest.approx([0.03, 0], rel=1e-6)


def test_a_bias_of_none_is_no_bias():
    affine = nir.Affine(np.eye(2), np.zeros(2))
    affine.bias = None
    assert not np.any(read(chain(inputs(2), affine, last=outputs(2))).readout.rule.bias)


def test_odd_paths(tmp_path):
    path = saved(tmp_path / "a 'b\"; $c.nir")
    assert read(os.fsencode(path).decode()).input_shape == (2,)
    with pytest.raises(InputError, match="no such NIR file"):
        read("a\0b.nir")


def test_what_info_shows_of_a_file_is_printable(tmp_path, capsys):
    path = tmp_path / "model.nir"
    network = chain(inputs(1), if_node(1, metadata=SAID | {"k\x1b[2J": 1}), last=outputs(1))
    network.metadata = {"note\x1b]0;x": "\x1b[31mred\nsecond"}
    nir.write(path, network)
    with h5py.File(path, "r+") as file:
        file["node/metadata/texts"] = ["\x1b[2J", "b"]
    (tmp_path / "config.json").write_text('{"method": "a\\u001b[31m\\nb", "model": {"\\u001b": ["\\u001b"]}}')
    odd = tmp_path / "o\x1b[31m\nx"
    odd.mkdir()
    for name in ("model.nir", "config.json"):
        (odd / name).write_bytes((tmp_path / name).read_bytes())
    for folder in (tmp_path, odd):
        assert entry_point(["info", str(folder)]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert r"note\x1b]0;x \x1b[31mred\nsecond" in out
        assert r"trained with: method a\x1b[31m\nb" in out
    (tmp_path / "e.csv").write_text("t,x\n1,0\n")
    command = ["simulate", str(odd / "model.nir"), str(tmp_path / "e.csv"), "--out", str(odd / "out\x1b")]
    assert entry_point(command) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"o\x1b[31m\nx/out\x1b: raster.png" in out


def test_info_lists_what_was_assumed(tmp_path, capsys):
    nir.write(tmp_path / "m.nir", chain(inputs(1, 2), if_node(2, metadata={"dt": 1.0}), last=outputs(1, 2)))
    assert entry_point(["info", str(tmp_path / "m.nir"), "--reset", "subtract"]) == 0
    said = re.findall("^assumed: (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert [s.split()[0] for s in said] == ["leading", "the", "reset='subtract'", "spikes='many'", "metadata"]
    assert entry_point(["info", str(tmp_path / "m.nir")]) == 2
    assert f"error: {tmp_path / 'm.nir'}: node 'n0'" in capsys.readouterr().err


def test_info_accepts_the_options_for_loops_and_bounds(tmp_path, capsys):
    nir.write(tmp_path / "m.nir", loop(["input", "in", "a", "ab", "b", "ba", "output"], (1.0, 1.0, 1.0)))
    assert entry_point(["info", str(tmp_path / "m.nir"), "--loop-delay", "1e-4", "--lower-bound", "-1"]) == 0
    out = capsys.readouterr().out
    assert "take 0.0001 s (loop_delay)" in out
    assert "lower bound -1" in out


def test_a_node_that_an_exporter_left_empty_is_named_when_its_graph_is_written(tmp_path):
    # Norse 1.1.0 does not know its own LICell.
    nodes = {"input": inputs(1), "a": None, "output": outputs(1)}
    with pytest.raises(InputError, match=r"a\.nir: node 'a' is None; accepted are nodes of nir"):
        nir_files.write_graph(tmp_path / "a.nir", graph(nodes, [("input", "a"), ("a", "output")]))
    assert not (tmp_path / "a.nir").exists()
