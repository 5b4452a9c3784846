"""Spikes in files of other simulators, in and out; one run held against another."""

import itertools
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtt_brian import cli
from mtt_brian.circuit.spikes import Spikes
from mtt_brian.cli.spike_files import read_spikes
from mtt_brian.errors import InputError
from mtt_brian.evaluate import compare_spikes
from mtt_brian.translate.nir_data import NodeSpikes, read_nir_data, recording_of, write_nir_data


def train(*spikes):
    t, i, n = zip(*((s * 2)[:0] or (*s, 1)[:3] for s in spikes), strict=True) if spikes else ((), (), ())
    return Spikes(np.array(t, float), np.array(i, int), np.array(n, int))


# ----- comparison


def counts(c):
    return c.same, c.early, c.late, c.missing, c.additional


def test_every_kind_of_difference_is_counted():
    reference = train((0.1, 0), (0.2, 0), (0.3, 1), (0.4, 2), (0.5, 3, 2))
    run = train((0.1, 0), (0.25, 0), (0.28, 1), (0.5, 3), (0.6, 4))
    found = compare_spikes(reference, run)
    assert counts(found) == (2, 1, 1, 2, 1)
    assert (found.reference, found.spikes, found.equal) == (6, 5, False)
    assert found.largest_shift == pytest.approx(0.05)
    assert (found.first.t, found.first.neuron, found.first.kind) == (0.2, 0, "late")
    assert found.first.shift == pytest.approx(0.05)
    assert counts(compare_spikes(reference, run, 0.06)) == (4, 0, 0, 2, 1)


def test_an_additional_early_spike_does_not_shift_the_others():
    times = np.arange(1, 6) / 10
    reference, run = (train(*((t, 0) for t in ts)) for ts in (times, [0.05, *times]))
    found = compare_spikes(reference, run)
    assert counts(found) == (5, 0, 0, 0, 1)
    assert (found.first.t, found.first.kind) == (0.05, "additional")
    assert counts(compare_spikes(run, reference)) == (5, 0, 0, 1, 0)


def test_the_tolerance_counts_up_to_rounding_and_zero_is_bit_for_bit():
    reference, run = train((0.1, 0)), train((0.1 + 1e-4, 0))
    assert run.t[0] - reference.t[0] > 1e-4
    assert compare_spikes(reference, run, 1e-4).equal
    assert not compare_spikes(reference, run, 0.99e-4).equal
    assert not compare_spikes(train((0.1 + 0.2, 0)), train((0.3, 0))).equal
    assert compare_spikes(train(), train()).equal


STEPS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), max_size=7)


@given(STEPS, STEPS, st.integers(0, 3))
def test_no_matching_has_more_pairs_within_the_tolerance(first, second, tolerance):
    found = compare_spikes(train(*first), train(*second), float(tolerance))
    most = 0
    for neuron in range(3):
        a = [t for t, i in first if i == neuron]
        b = [t for t, i in second if i == neuron]
        short, long = sorted((a, b), key=len)
        most += max(
            sum(abs(x - y) <= tolerance for x, y in zip(short, chosen, strict=True))
            for chosen in itertools.permutations(long, len(short))
        )
    assert found.same == most
    assert found.same + found.early + found.late + found.missing == len(first) == found.reference
    assert found.same + found.early + found.late + found.additional == len(second) == found.spikes
    assert found.equal == (found.same == len(first) == len(second))


# ----- NIRData


def test_nir_data_is_what_nir_reads_and_writes(tmp_path):
    nodes = {"a": NodeSpikes(train((0.001, 0), (0.001, 3, 2), (0.2, 1)), 4, 0.5), "b.c": NodeSpikes(train(), 5, 0.5)}
    write_nir_data(tmp_path / "a.h5", nodes)
    theirs = nir.read_data(tmp_path / "a.h5").nodes["a"].observables["spikes"]
    assert theirs.idx.tolist() == [[0, 3, 3, 1]]
    assert theirs.time.tolist() == [[0.001, 0.001, 0.001, 0.2]]
    assert (theirs.n_neurons, theirs.t_max) == (4, 0.5)
    found = read_nir_data(tmp_path / "a.h5")
    assert list(found) == ["a", "b.c"]
    assert [column.tolist() for column in found["a"].spikes] == [[0.001, 0.001, 0.2], [0, 3, 1], [1, 2, 1]]
    assert (found["b.c"].neurons, len(found["b.c"].spikes.t)) == (5, 0)


def data_file(path, **observables):
    nir.write_data(path, nir.NIRGraphData({"n": nir.NIRNodeData(observables)}))
    return path


def events_of(idx, time, n_neurons=4, t_max=1.0):
    return nir.EventData(np.array(idx), np.array(time, dtype=float), n_neurons, t_max)


def test_samples_steps_values_and_padding(tmp_path):
    two = events_of([[2, -1, 1], [0, 1, -1]], [[0.3, np.inf, 0.1], [0.2, 0.4, np.inf]])
    path = data_file(tmp_path / "a.h5", other=two)
    assert read_nir_data(path, 0)["n"].spikes.t.tolist() == [0.1, 0.3]
    assert read_nir_data(path, 1)["n"].spikes.i.tolist() == [0, 1]
    with pytest.raises(InputError, match=r"a\.h5: node 'n': there are 2 samples; name one by its number, from 0"):
        read_nir_data(path)
    with pytest.raises(InputError, match=r"there are 2 samples, numbered from 0; there is no sample 2"):
        read_nir_data(path, 2)
    steps = np.zeros((1, 4, 3), bool)
    steps[0, 3, 1] = steps[0, 1, 2] = True
    potential = nir.TimeGriddedData(np.ones((1, 4, 3)), 1e-4)
    found = read_nir_data(data_file(tmp_path / "b.h5", v=potential, s=nir.TimeGriddedData(steps, 1e-4)))["n"]
    assert [column.tolist() for column in found.spikes] == [[1e-4, 3e-4], [2, 1], [1, 1]]
    assert (found.neurons, found.duration) == (3, 4e-4)
    valued = nir.ValuedEventData(np.array([[1]]), np.array([[0.5]]), 4, 1.0, np.array([[3.0]]))
    assert read_nir_data(data_file(tmp_path / "c.h5", spikes=valued))["n"].spikes.n.tolist() == [3]


@pytest.mark.parametrize("end", [0.3, 12.3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_event_at_the_end_is_no_later_one(end, dtype, tmp_path):
    """0.1 + 0.2 is later than 0.3, and 0.3 in single precision, too."""
    times = np.array([[0.1 + 0.2 if end < 1 else end]], dtype)
    data = data_file(tmp_path / "a.h5", spikes=nir.EventData(np.array([[1]]), times, 4, end))
    assert read_nir_data(data)["n"].spikes.t.tolist() == [pytest.approx(end)]


def test_a_recording_from_nir_data(tmp_path):
    path = data_file(tmp_path / "a.h5", spikes=events_of([[5, 0]], [[0.25, 1e-6]], 6))
    assert recording_of(path, "input", (2, 1, 3)).tolist() == [(1, 0, 0, 0), (250_000, 2, 0, 1)]
    assert recording_of(path, "n", (6,)).tolist() == [(1, 0), (250_000, 5)]
    with pytest.raises(InputError, match=r"a\.h5: 6 neurons with spikes; the network's input \(4,\) has 4"):
        recording_of(path, "n", (4,))
    path = data_file(tmp_path / "b.h5", spikes=events_of([[0]], [[1.5e-6]]))
    with pytest.raises(InputError, match=r"b\.h5: the spike at 1.5e-06 s is at no whole microsecond"):
        recording_of(path, "n", (4,))


BAD_DATA = {
    "index": ({"spikes": events_of([[4]], [[0.1]])}, r"its event 0 \(idx 4, time 0.1 s\) names no neuron from 0 to 3"),
    "time": ({"spikes": events_of([[-1, 1]], [[0.1, np.inf]])}, r"its event 1 \(idx 1, time inf s\) has no time >= 0"),
    "end": ({"spikes": events_of([[1, 2]], [[1, 2]])}, r"its event 1 \(idx 2, time 2.0 s\) is later than t_max, 1.0 s"),
    "value": (
        {"spikes": nir.ValuedEventData(np.array([[1]]), np.array([[0.5]]), 4, 1.0, np.array([[0.5]]))},
        r"its event 0 \(idx 1, time 0.5 s\) has a value that is no number of spikes",
    ),
    "potentials": ({"v": nir.TimeGriddedData(np.ones((1, 2, 3)), 0.1)}, None),
    "two": ({"a": events_of([[1]], [[0.1]]), "b": events_of([[1]], [[0.1]])}, "'a', 'b' may all be spikes; name one"),
    "dt": ({"spikes": nir.TimeGriddedData(np.ones((1, 2, 3), bool), -1.0)}, "its dt is -1.0, which is no number >= 0"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_nir_data_is_refused(case, tmp_path):
    observables, message = BAD_DATA[case]
    path = data_file(tmp_path / "a.h5", **observables)
    with pytest.raises(
        InputError, match=rf"a\.h5: {'no node in it has spikes' if message is None else f'node .n.: {message}'}"
    ):
        read_nir_data(path)


def test_files_that_are_no_nir_data_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no such NIRData file: .*a\.h5"):
        read_nir_data(tmp_path / "a.h5")
    (tmp_path / "a.h5").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"a\.h5 is not a readable NIRData file: "):
        read_nir_data(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["nodes/n/observables/spikes"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(InputError, match="is a link to the file '/etc/passwd'; nothing is read from other files"):
        read_nir_data(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("nodes/n").attrs["__type__"] = np.arange(5)
    with pytest.raises(InputError, match="the attribute '__type__' of 'nodes/n' is neither a number nor a short text"):
        read_nir_data(tmp_path / "a.h5")
    with pytest.raises(InputError, match="NIRData has no place for a node of the name 'a/b'"):
        write_nir_data(tmp_path / "a.h5", {"a/b": NodeSpikes(train(), 1, 1.0)})


# ----- the command


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nodes = {
        "input": nir.Input(input_type={"input": np.array([3])}),
        "w": nir.Affine(np.array([[0.6, 0.5, 0.0], [0.0, 0.7, 0.4]]), np.zeros(2)),
        "hidden": nir.IF(np.ones(2), np.ones(2), metadata={"reset": "subtract"}),
        "v": nir.Linear(np.eye(2)),
        "out": nir.IF(np.ones(2), np.full(2, 2.0), metadata={"reset": "subtract"}),
        "output": nir.Output(output_type={"output": np.array([2])}),
    }
    nir.write("model.nir", nir.NIRGraph(nodes, list(itertools.pairwise(nodes))))
    Path("a.csv").write_text("t,x\n" + "".join(f"{t},{t % 3}\n" for t in range(1000, 41_000, 1000)))
    assert simulate("a.csv", "--nir-data", "--out", "first") == 0
    return "model.nir"


def simulate(recording, *options):
    return cli.main("simulate", ["model.nir", recording, *options])


@pytest.mark.parametrize("file", ["spikes.npz", "spikes.csv", "spikes.h5"])
def test_a_run_replays_its_own_spikes(file, model, capsys):
    assert simulate("a.csv", "--out", "second", "--replay", f"first/{file}") == 0
    shown = capsys.readouterr().out
    assert f"replay of first/{file}, times bit for bit" in shown
    assert shown.endswith("the same spikes\n")


@pytest.mark.parametrize("arguments", [["first/spikes.h5:0"], ["a.csv", "--replay", "first/spikes.npz"]])
@pytest.mark.parametrize("out", ["first", "./first/", "same"])
def test_what_a_run_reads_is_not_replaced(arguments, out, model, capsys):
    Path("same").symlink_to("first")
    before = {path.name: path.read_bytes() for path in Path("first").iterdir()}
    assert simulate(*arguments, "--out", out) == 2
    assert ": is read by this command, and would be replaced; give another --out" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("first").iterdir()} == before


def test_nir_data_of_a_run_is_a_recording(model, capsys):
    assert simulate("first/spikes.h5", "--out", "second", "--replay", "first/spikes.npz") == 0
    assert simulate("first/spikes.h5:0", "--out", "second") == 0
    assert simulate("first/spikes.h5:1", "--out", "second") == 2
    assert "there are 1 samples, numbered from 0; there is no sample 1" in capsys.readouterr().err


def test_a_difference_is_named_and_is_exit_status_1(model, capsys):
    found = read_spikes(Path("first/spikes.npz"))
    hidden = found["hidden"]
    t = hidden.t.copy()
    t[3] += 2e-4
    np.savez("other.npz", hidden_t=t, hidden_i=hidden.i)
    assert simulate("a.csv", "--out", "second", "--replay", "other.npz", "--tolerance", "1e-4") == 1
    shown = capsys.readouterr().out
    assert "not compared, because it is not in the file: 'out' (14 spikes here)" in shown
    where = f"first at {hidden.t[3]!r} s, hidden, neuron {hidden.i[3]}".replace("np.float64(", "").replace(")", "")
    assert f"different: {where}: a spike is early by 0.0002 s here" in shown
    assert simulate("a.csv", "--out", "second", "--replay", "other.npz", "--tolerance", "2e-4") == 0
    assert simulate("a.csv", "--out", "second", "--replay", "first/spikes.npz", "--duration", "0.02") == 1
    assert "a spike is missing here" in capsys.readouterr().out


BAD_REPLAY = {
    "none": ("no.npz", lambda path: None, "no.npz: no such file"),
    "ending": ("a.txt", lambda path: None, "a.txt: recorded spikes are a file that ends in .npz, .csv, .h5, .hdf5"),
    "other arrays": ("a.npz", lambda path: np.savez(path, a=1), "a.npz: there are no arrays NAME_t and NAME_i in it"),
    "no archive": ("a.npz", lambda path: Path(path).write_text("x"), "a.npz: cannot be read as spikes (ValueError"),
    "other name": (
        "a.npz",
        lambda path: np.savez(path, x_t=[0.1], x_i=[0]),
        "a.npz: the network has no firing population 'x'; it has 'hidden', 'out'",
    ),
    "neuron": (
        "a.npz",
        lambda path: np.savez(path, out_t=[0.1], out_i=[2]),
        "a.npz: a spike of neuron 2 of 'out', which has 2 neurons",
    ),
    "lengths": (
        "a.npz",
        lambda path: np.savez(path, out_t=[0.1], out_i=[1, 1]),
        "a.npz: 'out': t (1,), i (2,) and n (1,)",
    ),
    "type": (
        "a.npz",
        lambda path: np.savez(path, out_t=[0.1], out_i=[0.5]),
        "a.npz: 'out': t must hold seconds, i and n",
    ),
    "time": (
        "a.npz",
        lambda path: np.savez(path, out_t=[-0.1], out_i=[0]),
        "a.npz: 'out': t = -0.1 s, i = 0, n = 1 (spike 0",
    ),
    "header": (
        "a.csv",
        lambda path: Path(path).write_text("t,x\n1,2\n"),
        "a.csv: the first line must be population,t,i,n",
    ),
    "line": (
        "a.csv",
        lambda path: Path(path).write_text("population,t,i,n\nout,0.1,0,1\nout,0.1\n"),
        "a.csv: line 3 is no spike (population,t,i,n): ['out', '0.1']",
    ),
}


@pytest.mark.parametrize("case", BAD_REPLAY)
def test_what_cannot_be_replayed_is_refused(case, model, capsys):
    name, write, message = BAD_REPLAY[case]
    Path("files").mkdir()
    Path("a.csv").rename("events.csv")
    write(name)
    capsys.readouterr()
    assert simulate("events.csv", "--out", "second", "--replay", name) == 2
    assert message in capsys.readouterr().err


def test_a_tolerance_is_a_time(model, capsys):
    with pytest.raises(SystemExit):
        simulate("a.csv", "--replay", "first/spikes.npz", "--tolerance", "-1")
    assert "argument --tolerance: invalid seconds value: '-1'" in capsys.readouterr().err


def test_golden_trains_of_snntorch_replay_within_a_step(tmp_path, monkeypatch):
    golden = Path(__file__).parents[2] / "shared" / "data" / "golden"
    if not golden.is_dir():
        pytest.skip("needs the networks of ../shared/data/golden")
    data = np.load(golden / "snn_leaky.npz")
    step = float(data["step_us"]) / 1e6
    monkeypatch.chdir(tmp_path)
    np.savez("events.npz", t=data["t_us"], x=data["x"])
    trains = {}
    for name in data["layers"]:
        trains |= {
            f"{name}_t": data[f"step_{name}"] * step,
            f"{name}_i": data[f"i_{name}"],
            f"{name}_n": data[f"n_{name}"],
        }
    np.savez("theirs.npz", **trains)
    options = ["--tool", "snntorch", "--reset", "zero", "--duration", str(int(data["steps"]) * step), "--out", "out"]
    arguments = [str(golden / "snn_leaky.nir"), "events.npz", *options, "--replay", "theirs.npz"]
    assert cli.main("simulate", [*arguments, "--tolerance", str(step * 0.999)]) == 0


# ----- files of others


def test_nir_data_in_single_precision_is_on_whole_microseconds(tmp_path):
    """Tools on torch write float32: 0.0011 s is 0.0010999999940395355 s there."""
    times = np.array([[0.0011, 0.1237, 7.123457]], np.float32)
    found = nir.EventData(np.array([[0, 1, 1]], np.int32), times, 2, 8.0)
    nir.write_data(tmp_path / "a.h5", nir.NIRGraphData({"input": nir.NIRNodeData({"spikes": found})}))
    assert read_nir_data(tmp_path / "a.h5")["input"].spikes.t.tolist() == [0.0011, 0.1237, 7.123457]
    assert recording_of(tmp_path / "a.h5", "input", (2,)).tolist() == [(1100, 0), (123_700, 1), (7_123_457, 1)]
    # Above 8 s consecutive microseconds are one float32.
    late = nir.EventData(np.array([[0]], np.int32), np.array([[20.123457]], np.float32), 2, 30.0)
    nir.write_data(tmp_path / "b.h5", nir.NIRGraphData({"input": nir.NIRNodeData({"spikes": late})}))
    with pytest.raises(InputError, match=r"b\.h5: the spike at 20\.1234.* s is at no whole microsecond"):
        recording_of(tmp_path / "b.h5", "input", (2,))


def test_tables_of_spikes_may_have_a_mark_and_empty_lines(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffpopulation,t,i\n\nout,0.5,1\nout,0.25,0\n\n", encoding="utf-8")
    (spikes,) = read_spikes(tmp_path / "a.csv").values()
    assert [column.tolist() for column in spikes] == [[0.25, 0.5], [0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("population,t,i,n,w\nout,1,0,1,7\n", "the first line must be population,t,i,n, not 'population,t,i,n,w'"),
        ("population,t,i\n\nout,1,0,5\n", "line 3 is no spike (population,t,i): ['out', '1', '0', '5']"),
        ("population,t,i,n\nout,1,0\n", "line 2 is no spike (population,t,i,n): ['out', '1', '0']"),
    ],
)
def test_columns_of_spikes_are_not_dropped(text, message, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError) as error:
        read_spikes(tmp_path / "a.csv")
    assert str(error.value) == f"{tmp_path / 'a.csv'}: {message}"


def test_neurons_above_63_bits_do_not_wrap(tmp_path):
    np.savez(tmp_path / "a.npz", out_t=np.array([0.5]), out_i=np.array([2**63], np.uint64))
    with pytest.raises(
        InputError, match=r"i = 9223372036854775808, n = 1 \(spike 0\) must be >= 0, from 0 to 2147483647"
    ):
        read_spikes(tmp_path / "a.npz")
