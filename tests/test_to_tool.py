"""Graphs written for other tools: read back with the tool's preset, and run by the tools where they are installed."""

import itertools

import nir
import numpy as np
import pytest

import mtt_brian as mb
import mtt_brian.cli
from mtt_brian.errors import InputError
from mtt_brian.translate import for_tool

STEP = 1e-3
STEPS = 100
TOOLS = ("snntorch", "norse", "spikingjelly")


def chain(*nodes, size=16):
    last = np.shape(nodes[-1].weight)[0] if hasattr(nodes[-1], "weight") else np.size(nodes[-1].v_threshold)
    named = {"input": nir.Input({"input": np.array([size])})}
    named |= {f"n{k}": node for k, node in enumerate(nodes)} | {"output": nir.Output({"output": np.array([last])})}
    return nir.NIRGraph(named, list(itertools.pairwise(named)), type_check=False)


def weights(rows, columns, seed, bias=0.0):
    rng = np.random.default_rng(seed)
    weight = rng.normal(0.15, 0.5, (rows, columns)).astype(np.float32)
    return nir.Affine(weight, (bias * rng.random(rows)).astype(np.float32))


def population(kind, size, **metadata):
    ones = np.ones(size)
    metadata = {"reset": "zero", **metadata}
    if kind == "IF":
        return nir.IF(0.5 * ones, 0.4 * ones, metadata=metadata)
    if kind == "LIF":
        return nir.LIF(0.02 * ones, 0.03 * ones, 0 * ones, 1.3 * ones, metadata=metadata)
    return nir.CubaLIF(
        tau_syn=0.008 * ones, tau_mem=0.02 * ones, r=2 * ones, v_leak=0 * ones, v_threshold=5 * ones,
        w_in=0.02 * ones, metadata=metadata,
    )  # fmt: skip


def network(kind, bias=0.0, **metadata):
    return chain(
        weights(24, 16, 1, bias),
        population(kind, 24, **metadata),
        weights(10, 24, 2, bias),
        population(kind, 10, **metadata),
    )


def recording():
    """One event at most per pixel and step, in the middle of no step: at its start."""
    rng = np.random.default_rng(3)
    step, x = np.unique(rng.integers(0, [STEPS, 16], (300, 2)), axis=0).T
    return mb.events.make_recording(1000 * step, x)


def binned():
    given = recording()
    frames = np.zeros((STEPS, 16), np.float32)
    frames[given["t"] // 1000, given["x"]] = 1
    return frames


def steps_of(spikes):
    return sorted(zip(np.rint(spikes.t / STEP).astype(int).tolist(), spikes.i.tolist(), strict=True))


def ours(graph, **options):
    return mb.simulate(graph, recording(), duration=(STEPS - 1) * STEP, **options)


@pytest.mark.parametrize("tool", TOOLS)
def test_an_if_network_read_back_has_the_same_spikes(tool):
    original = ours(network("IF"))
    written, lost = for_tool(network("IF"), tool)
    assert lost == ()
    back = ours(written, tool=tool, reset="zero", time_per_step=STEP)
    for name in ("n1", "n3"):
        assert len(original.spikes[name].t) > 20
        assert steps_of(back.spikes[name]) == steps_of(original.spikes[name])


@pytest.mark.parametrize("tool", [*TOOLS, "nir"])
def test_nested_graphs_are_written_flat(tool):
    flat = network("IF")
    inner = chain(flat.nodes["n2"], flat.nodes["n3"], size=24)
    nested = nir.NIRGraph(
        {name: flat.nodes[name] for name in ("input", "n0", "n1", "output")} | {"block": inner},
        [("input", "n0"), ("n0", "n1"), ("n1", "block"), ("block", "output")],
        type_check=False,
    )
    written, _ = for_tool(nested, tool)
    expected, _ = for_tool(flat, tool)
    assert list(written.nodes) == ["input", "n0", "n1", "output", "block.n0", "block.n1"]
    options = {"reset": "zero"} if tool == "nir" else {"tool": tool, "reset": "zero", "time_per_step": STEP}
    assert steps_of(ours(written, **options).spikes["block.n1"]) == steps_of(ours(expected, **options).spikes["n3"])


def test_two_ways_through_nested_graphs_that_would_be_one_edge():
    wire = nir.NIRGraph(
        {"in": nir.Input(np.array([24])), "out": nir.Output(np.array([24]))}, [("in", "out")], type_check=False
    )
    graph = network("IF")
    graph.nodes["wire"] = wire
    graph.edges += [("n1", "wire"), ("wire", "n2")]
    with pytest.raises(InputError, match=r"'n1' feeds 'n2' in 2 ways through nested graphs, .* put a Scale of 2"):
        for_tool(graph, "norse")


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("kind", ["LIF", "CubaLIF"])
def test_decay_and_jump_in_a_step_are_those_of_the_network(tool, kind):
    written, _ = for_tool(network(kind), tool, step=STEP)
    node, dt = written.nodes["n1"], mb.translate.to_tool.IMPORTERS[tool].step
    if kind == "LIF":
        tau, norm = node.tau[0] / dt, tool == "norse"
        assert 1 - 1 / tau == pytest.approx(np.exp(-STEP / 0.02), rel=1e-12)
        assert node.r[0] == pytest.approx(1 if norm else tau)
        # A spike of weight 1 moves the membrane by r / tau = 1.5, and 1.3 is the threshold.
        assert node.v_threshold[0] * (tau if norm else 1) == pytest.approx(1.3 / 1.5)
    else:
        assert 1 - dt / node.tau_syn[0] == pytest.approx(np.exp(-STEP / 0.008))
        assert 1 - dt / node.tau_mem[0] == pytest.approx(np.exp(-STEP / 0.02))
        assert node.r[0] == pytest.approx(node.tau_mem[0] / dt)
        assert node.w_in[0] == pytest.approx(node.tau_syn[0] / dt)
        assert node.v_threshold[0] == pytest.approx(5 / (2 / 0.02 * STEP * 0.02 / 0.008))


def test_a_bias_is_what_it_adds_in_a_step():
    written, _ = for_tool(network("LIF", bias=30.0), "spikingjelly", step=STEP)
    given = network("LIF", bias=30.0).nodes["n0"].bias
    assert written.nodes["n0"].bias.tolist() == (given.astype(np.float64) * STEP).astype(np.float32).tolist()


def test_what_is_lost_is_refused_or_listed():
    graph = network("IF", reset="subtract", spikes="many", lower_bound=-1.0)
    for allow, message in (
        (
            (),
            "node 'n1': a file cannot keep the reset by subtraction: SpikingJelly resets to a value; allow='reset'",
        ),
        (("reset",), "cannot keep several spikes per update: SpikingJelly has one; allow='spikes' lets it be lost"),
        (
            ("reset", "spikes"),
            "cannot keep the lower bound of the membrane: SpikingJelly has none; allow='lower_bound'",
        ),
    ):
        with pytest.raises(InputError, match=message):
            for_tool(graph, "spikingjelly", allow=allow)
    written, lost = for_tool(graph, "spikingjelly", allow=("reset", "spikes", "lower_bound"))
    assert [sentence.partition(":")[0] for sentence in lost] == [
        "lost is the reset by subtraction",
        "lost is several spikes per update",
        "lost is the lower bound of the membrane",
    ]
    assert lost[0].endswith("(nodes 'n1', 'n3')")
    assert all(not node.metadata for node in written.nodes.values())


def changed(**values):
    graph = network("LIF")
    for name, value in values.items():
        setattr(graph.nodes["n1"], name, value)
    return graph


BAD = {
    "sinabs": (network("IF"), "sinabs", {}, "for_tool='sinabs': sinabs 3.1.3 needs nir 1.0.4"),
    "rockpool": (network("IF"), "rockpool", {}, "for_tool='rockpool': Rockpool 3.1.0 does not read IF"),
    "unknown": (network("IF"), "nest", {}, "for_tool must be one of 'snntorch', 'norse', 'spikingjelly', 'nir', not"),
    "allow": (network("IF"), "norse", {"allow": ("bias",)}, "allow names what may be lost, of 'reset', .*not 'bias'"),
    "units": (network("IF"), "norse", {"spike_integral": 2}, "spike_integral cannot be given here"),
    "no step": (network("LIF"), "norse", {}, "node 'n1' leaks: pass step=, the seconds of a recording"),
    "no step for a bias": (network("IF", 1.0), "norse", {}, "node 'n0' has a bias: pass step="),
    "step": (network("LIF"), "norse", {"step": -1.0}, "step must be > 0 seconds per time step, not -1.0"),
    "refractory": (network("IF", refractory=1e-3), "norse", {}, "a file cannot keep the refractory period"),
    "differs": (
        changed(v_threshold=np.linspace(1, 2, 24)), "norse", {"step": 1e-3},
        "threshold of node 'n1' differs from neuron to neuron; Norse has one for all",
    ),
    "v_reset": (changed(v_reset=np.full(24, -0.5)), "snntorch", {"step": 1e-3}, "v_reset is -0.5; snnTorch reads 0"),
    "v_leak": (
        changed(v_leak=np.full(24, 0.1)), "spikingjelly", {"step": 1e-3}, "v_leak is 0.1; SpikingJelly reads v_reset",
    ),
    "type": (
        chain(nir.Scale(np.ones(16)), population("IF", 16)), "norse", {}, "node 'n0' is a Scale, which Norse does",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_a_tool_does_not_read_is_refused(case):
    graph, tool, options, message = BAD[case]
    with pytest.raises(InputError, match=message):
        for_tool(graph, tool, **options)


def test_a_readout_that_leaks_is_refused():
    graph = chain(weights(16, 16, 1), population("IF", 16))
    graph.nodes["n1"] = nir.LI(np.full(16, 0.1), np.ones(16), np.zeros(16))
    with pytest.raises(
        InputError, match="node 'n1' is a neuron that Norse does not read; it reads IF, LIF and CubaLIF"
    ):
        for_tool(graph, "norse", step=STEP)


def test_nir_itself_has_no_steps_and_no_metadata():
    graph = network("LIF", bias=2.0)
    written, lost = for_tool(graph, "nir")
    assert lost == ()
    assert ours(written, tool="nir").spikes["n3"].t.tolist() == ours(graph).spikes["n3"].t.tolist()
    assert not written.nodes["n1"].metadata
    assert graph.nodes["n1"].metadata == {"reset": "zero"}


@pytest.mark.parametrize("axes", [1, 2])
def test_shapes_that_a_file_leaves_out_are_filled_in(axes, tmp_path):
    """nir needs them: neither its reader nor its writer accepts a convolution without one."""
    kind = nir.Conv1d if axes == 1 else nir.Conv2d
    shape = (2, *[4] * axes)
    nodes = {
        "input": nir.Input(np.array((1, *[5] * axes))),
        "conv": kind(None, np.ones((2, 1, *[2] * axes)), 1, 0, 1, 1, np.zeros(2)),
        "if": nir.IF(np.ones(shape), np.ones(shape), metadata={"reset": "zero"}),
        "flatten": nir.Flatten(None, 0),
        "output": nir.Output(np.array([np.prod(shape)])),
    }
    path, out = tmp_path / "a.nir", tmp_path / "b.nir"
    mb.export.write(path, nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), type_check=False))
    with pytest.raises(TypeError, match="input_shape"):
        nir.read(path)
    assert mb.cli.main("convert", [str(path), "nir", "--out", str(out)]) == 0
    read = nir.read(out)
    assert np.ravel(read.nodes["conv"].input_shape).tolist() == [5] * axes
    assert read.nodes["flatten"].input_type["input"].tolist() == list(shape)
    written, _ = for_tool(
        nir.NIRGraph({**nodes, "output": nir.Output(None)}, list(itertools.pairwise(nodes)), type_check=False), "nir"
    )
    assert written.nodes["output"].output_type["output"].tolist() == [np.prod(shape)]
    assert nodes["conv"].input_shape is None


# ----- the tools themselves


def run_spikingjelly(graph):
    torch = pytest.importorskip("torch")
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    network, state, out = exchange.import_from_nir(graph, dtype=torch.float64), None, []
    for frame in torch.from_numpy(binned()).double():
        spikes, state = network(frame[None], state)
        out.append(spikes[0].detach().numpy())
    return np.array(out)


def run_snntorch(graph):
    torch = pytest.importorskip("torch")
    importer = pytest.importorskip("snntorch.import_nir")
    network, state, out = importer.import_from_nir(graph), None, []
    for frame in torch.from_numpy(binned()):
        spikes, state = network(frame[None], state)
        out.append(spikes[0].detach().numpy())
    return np.array(out)


def run_norse(graph):
    torch = pytest.importorskip("torch")
    norse = pytest.importorskip("norse.torch")
    network, state, out = norse.from_nir(graph), None, []
    for frame in torch.from_numpy(binned()):
        spikes, state = network(frame, state)
        out.append(spikes.detach().numpy())
    return np.array(out)


RUN = {"spikingjelly": run_spikingjelly, "snntorch": run_snntorch, "norse": run_norse}


@pytest.mark.slow
@pytest.mark.parametrize("tool", RUN)
@pytest.mark.parametrize(("kind", "bias"), [("IF", 0), ("LIF", 0), ("LIF", 30), ("CubaLIF", 0), ("CubaLIF", 30)])
def test_the_tool_runs_what_is_written_for_it(tool, kind, bias, tmp_path):
    graph = network(kind, bias)
    nir.write(tmp_path / "a.nir", for_tool(graph, tool, step=STEP)[0])
    theirs = RUN[tool](nir.read(tmp_path / "a.nir"))
    spikes = ours(graph).spikes["n3"]
    assert len(spikes.t) > 20
    if kind != "CubaLIF" and not bias:  # nothing moves between events: the same spikes, each in its step
        step, i = np.nonzero(theirs)
        assert sorted(zip(step.tolist(), i.tolist(), strict=True)) == steps_of(spikes)
    else:  # a potential that moves between events is known at the ends of steps only
        counts = np.bincount(spikes.i, minlength=10)
        assert np.abs(theirs.sum(0) - counts).sum() <= 0.12 * counts.sum()


# ----- from torch, and from the command line

ALL = ("reset", "spikes", "lower_bound")


def test_a_trained_network_is_written_for_a_tool():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = mb.models.nmnist_3c1fc().eval()
    with pytest.raises(InputError, match="a file cannot keep the reset by subtraction"):
        mb.export.to_nir(model, for_tool="spikingjelly")
    with pytest.raises(InputError, match="pass for_tool=, too"):
        mb.export.to_nir(model, allow=ALL)
    plain, written = (
        mb.export.to_nir(model, **options) for options in ({}, {"for_tool": "spikingjelly", "allow": ALL})
    )
    rng = np.random.default_rng(0)
    events = mb.events.make_recording(
        np.sort(rng.integers(0, 10**5, 400)), *rng.integers(0, [[34], [34], [2]], (3, 400))
    )
    back = mb.simulate(written, events, tool="spikingjelly")
    circuit = mb.translate.read_nir(plain)
    assert [p.name for p in back.circuit.populations] == [p.name for p in circuit.populations]
    for population in back.circuit.populations:
        if population.rule.fires:  # the same jumps and thresholds
            rule = circuit.population[population.name].rule
            assert population.rule.gain == pytest.approx(rule.gain)
            assert population.rule.threshold == pytest.approx(rule.threshold)


def test_the_command_lists_what_is_lost(tmp_path, capsys):
    path, out = tmp_path / "a.nir", tmp_path / "b.nir"
    nir.write(path, network("IF", reset="subtract"))
    assert mb.cli.main("convert", [str(path), "spikingjelly", "--out", str(out)]) == 2
    assert "error: " + str(path) + ": node 'n1': a file cannot keep the reset" in capsys.readouterr().err
    assert not out.exists()
    assert mb.cli.main("convert", [str(path), "spikingjelly", "--out", str(out), "--allow", "reset"]) == 0
    shown = capsys.readouterr().out
    assert f"{out}: 6 nodes for spikingjelly\nlost is the reset by subtraction: SpikingJelly resets to a value" in shown
    assert mb.translate.read_nir(str(out), tool="spikingjelly").population["n1"].rule.reset == "zero"
    with pytest.raises(SystemExit):
        mb.cli.main("convert", [str(path), "norse", "--tool", "nir", "--out", str(out)])
    assert "unknown option --tool" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tool", "remedy"),
    [("snntorch", "for snnTorch; networks without loops are"), ("nir", "for NIR; give it a Delay > 0")],
)
def test_a_loop_without_a_delay(tool, remedy, tmp_path, capsys):
    """No remedy is named that the command would refuse."""
    graph = network("IF", reset="subtract")
    graph.nodes["back"] = nir.Linear(np.eye(24))
    graph.edges += [("n1", "back"), ("back", "n1")]
    nir.write(tmp_path / "loop.nir", graph)
    arguments = [str(tmp_path / "loop.nir"), tool, "--out", str(tmp_path / "out.nir"), "--allow", "reset"]
    assert mb.cli.main("convert", arguments) == 2
    said = capsys.readouterr().err
    assert f"has no delay, and is not written {remedy}" in said
    assert "loop_delay" not in said
