"""The command line: its help, its descriptions of networks, and the files of a run."""

import csv
import importlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import nir
import numpy as np
import pytest

import mtt_brian as mb
from mtt_brian import cli, events
from mtt_brian.cli import info, simulate
from mtt_brian.engines.exact_cuda import gpu
from mtt_brian.errors import InputError
from mtt_brian.events.named import NamedRecording

SENSOR = (2, 34, 34)

#: Run before a command in a separate process: torch cannot be found, as on a machine without it.
WITHOUT_TORCH = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NoTorch())
from mtt_brian import cli
from mtt_brian.cli import doctor
doctor.CHECKS = tuple(check for check in doctor.CHECKS if not check.name.endswith(("cython", "cpp", "data")))
sys.exit(cli.entry_point())
"""


def in_a_row(nodes):
    return nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), type_check=False)


def graph(reset="subtract", bias=0.0, sensor=SENSOR, **metadata):
    """Three neurons that see all pixels through weights of both signs, and a linear readout of two classes."""
    rng = np.random.default_rng(0)
    pixels = int(np.prod(sensor))
    hidden = rng.integers(-8, 13, (3, pixels)) / 8
    hidden[0, :100] = 0
    nodes = {
        "input": nir.Input(input_type=np.array(sensor)),
        "flatten": nir.Flatten(input_type={"input": np.array(sensor)}, start_dim=0, end_dim=-1),
        "hidden": nir.Affine(weight=hidden, bias=np.array([0.0, bias, 2 * bias])),
        "spikes1": nir.IF(
            r=np.ones(3),
            v_threshold=np.array([1.0, 1.25, 1.5]),
            metadata=metadata | ({"reset": reset, "spikes": "many", "lower_bound": -1.0} if reset else {}),
        ),
        "readout": nir.Linear(weight=np.array([[1.0, -0.5, 0.25], [0.0, 2.0, -1.0]])),
        "output": nir.Output(output_type=np.array([2])),
    }
    return in_a_row(nodes)


def leaky_readout():
    """One neuron with a weight of 0.75, read by a leaky integrator."""
    nodes = {
        "input": nir.Input(input_type=np.array([2])),
        "in": nir.Linear(weight=np.array([[0.75, 0.5]])),
        "fires": nir.LIF(
            tau=np.array([0.02]), r=np.array([0.02]), v_leak=np.zeros(1), v_threshold=np.ones(1), metadata=ZERO
        ),
        "out": nir.Linear(weight=np.ones((1, 1))),
        "leaks": nir.LI(tau=np.array([0.01]), r=np.array([0.01]), v_leak=np.zeros(1)),
        "output": nir.Output(output_type=np.array([1])),
    }
    return in_a_row(nodes)


ZERO = {"reset": "zero"}


def recording(n=60):
    """Events of which many share an instant."""
    rng = np.random.default_rng(1)
    t = np.sort(rng.integers(0, 12, n)) * 250
    return events.make_recording(t - t[0], *(rng.integers(0, size, n) for size in (34, 34, 2)))


@pytest.fixture
def model(tmp_path):
    nir.write(tmp_path / "model.nir", graph())
    return tmp_path / "model.nir"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where commands run."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def call(*arguments):
    return cli.entry_point([str(argument) for argument in arguments])


def refused(capsys, *arguments):
    """The message of a command that must refuse its input."""
    assert call(*arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    return said


def shown(capsys, *arguments):
    """What a command prints before it leaves through `sys.exit`."""
    with pytest.raises(SystemExit) as left:
        call(*arguments)
    return left.value.code, capsys.readouterr()


# ----------------------------------------------------------------------------------------------------- the front door


@pytest.mark.parametrize(
    "start", [[str(Path(sysconfig.get_path("scripts")) / "mtt-brian")], [sys.executable, "-m", "mtt_brian"]]
)
def test_it_is_installed_and_lists_its_commands(start):
    done = subprocess.run([*start, "--help"], capture_output=True, text=True, check=True)
    for name, command in cli.COMMANDS.items():
        assert f"  {name:{max(map(len, cli.COMMANDS))}}  {command.summary}\n" in done.stdout
        assert f"\n  {f'mtt-brian {name} {command.example}'.strip()}\n" in done.stdout


def test_without_a_command_it_shows_the_same(capsys):
    assert call() == 0
    alone = capsys.readouterr().out
    assert shown(capsys, "--help") == (0, (alone, ""))


def test_version(capsys):
    code, said = shown(capsys, "--version")
    assert (code, said.out) == (0, f"mtt-brian {mb.__version__}\n")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("trian", "unknown command 'trian'; did you mean 'train'? (commands: demo, train, eval,"),
        ("xyz", "'xyz' (commands:"),
    ],
)
def test_an_unknown_command_is_refused_with_the_nearest(typed, hint, capsys):
    code, said = shown(capsys, typed, "--help")
    assert code == 2
    assert hint in said.err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_help_of_every_command_has_an_example_with_its_name(name, capsys):
    if name in ("train", "eval"):
        pytest.importorskip("torch")
    code, said = shown(capsys, name, "--help")
    assert code == 0
    assert said.out.startswith(f"usage: mtt-brian {name} [-h]")
    examples = said.out.partition("\nexamples:\n")[2].split("\n\n")[0].splitlines()
    assert sum(line.startswith(f"  mtt-brian {name}") for line in examples) >= 2
    assert not any(line.strip().startswith("python") for line in examples)


def test_an_option_has_the_same_kind_of_value_in_all_commands():
    pytest.importorskip("torch")
    values, ways = {}, {}
    for name, command in cli.COMMANDS.items():
        for action in importlib.import_module(command.module).make_parser()._actions:
            shown = action.metavar or (action.choices and f"{{{','.join(action.choices)}}}")
            for option in action.option_strings:
                values.setdefault(option, {}).setdefault(shown, []).append(name)
                ways.setdefault(option, set()).add(tuple(action.option_strings))
    different = {option for option, by_value in values.items() if len(by_value) > 1}
    assert different == {"--out", "--order"}, {option: values[option] for option in different}
    assert {o for o, found in ways.items() if len(found) > 1} == set()
    for option, value, commands in (
        ("--limit", "N", ["train", "eval", "gap", "repair"]),
        ("--data-root", "DIR", ["train", "eval", "simulate", "gap", "repair"]),
        ("--engine", "NAME", ["eval", "simulate"]),
        ("--epochs", "N", ["train", "repair"]),
        ("--target-bits", "N|keep", ["gap", "repair"]),
        ("--time-steps", "T", ["train", "eval", "gap", "repair"]),
    ):
        assert values[option] == {value: commands}
    assert set(values["--out"]) == {"DIR", "RUN", "FILE.nir"}
    assert set(values["--order"]) == {"{sum,fifo}", "{sum,fifo,both}"}


@pytest.mark.slow
def test_the_environment_is_left_alone_by_an_import_and_set_by_the_commands():
    code = (
        "import os\n"
        "os.environ.pop('OMP_WAIT_POLICY', None)\n"
        "before = dict(os.environ)\n"
        "from mtt_brian import cli\n"
        "import mtt_brian.experiments.study_cli, mtt_brian.cli.evaluate, mtt_brian.cli.doctor\n"
        "assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())\n"
        "cli.entry_point(['info', 'nowhere.nir'])\n"
        "assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_doctor_is_a_command(monkeypatch, capsys):
    from mtt_brian.cli import doctor

    for works, status in ((True, 0), (False, 1)):
        check = doctor.Check("a core", (lambda: "fine") if works else (lambda: 1 / 0), required=True)
        monkeypatch.setattr(doctor, "CHECKS", (check,))
        monkeypatch.setattr(doctor, "of_other_packages", list)
        assert call("doctor") == status
        assert ("ok    a core" in capsys.readouterr().out) == works


def test_ctrl_c_is_no_traceback(monkeypatch, capsys):
    def stop(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "main", stop)
    assert call("info", "x.nir") == 130
    assert capsys.readouterr().err == "\nstopped\n"


@pytest.mark.slow
def test_only_training_and_evaluation_need_torch(model, tmp_path):
    np.save(tmp_path / "recording.npy", recording())

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    described = run("info", "model.nir", "--json")
    assert described.returncode == 0, described.stderr
    assert json.loads(described.stdout)["populations"][0]["name"] == "spikes1"
    simulated = run("simulate", "model.nir", "recording.npy")
    assert simulated.returncode == 0, simulated.stderr
    assert (tmp_path / "results" / "simulate-001" / "spikes.npz").is_file()
    examined = run("doctor")
    assert examined.returncode == 0, examined.stdout
    assert re.search(r"--    torch \(training\) +optional: ", examined.stdout)
    assert "ok    engine exact" in examined.stdout
    for command in ("train", "eval"):
        done = run(command, "--help")
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {command} needs PyTorch (No module named 'torch"), done.stderr
        assert re.search(r'pip install (-c \S+ )?"mtt_brian\[train\]"', done.stderr)


# --------------------------------------------------------------------------------------------------------------- info


def described(capsys, *arguments):
    assert call("info", *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_info_counts(model, capsys):
    found = described(capsys, model)
    assert (found["file"], found["bytes"], found["nodes"]) == (str(model), model.stat().st_size, 6)
    assert found["input"] == {"name": "input", "shape": [2, 34, 34]}
    assert [(p["name"], p["shape"], p["neurons"]) for p in found["populations"]] == [
        ("spikes1", [3], 3),
        ("output", [2], 2),
    ]
    assert found["populations"][0]["bytes"] == 3 * 8 * 3  # r, v_threshold and v_reset of three neurons
    into, out = found["connections"]
    weight = graph().nodes["hidden"].weight
    assert (into["source"], into["target"]) == ("input", "spikes1")
    assert [node["name"] for node in into["nodes"]] == ["flatten", "hidden"]
    assert [node["type"] for node in into["nodes"]] == ["Flatten", "Affine"]
    assert into["synapses"] == into["weights"] == np.count_nonzero(weight)
    assert into["fan_out"] == {"mean": np.count_nonzero(weight) / 2312, "max": 3}
    assert into["fan_in"] == {"mean": np.count_nonzero(weight) / 3}
    assert into["bytes"] >= weight.nbytes
    assert (out["synapses"], out["weights"], out["fan_out"]["max"]) == (5, 5, 2)
    assert found["weights"] == into["weights"] + 5


def test_info_counts_shared_weights_once(tmp_path, capsys):
    nodes = {
        "input": nir.Input(input_type=np.array([1, 4, 4])),
        "pool": nir.SumPool2d(kernel_size=np.array([2, 2]), stride=np.array([2, 2]), padding=np.array([0, 0])),
        "conv": nir.Conv2d((2, 2), np.arange(4.0).reshape(2, 1, 2, 1), 1, 0, 1, 1, np.zeros(2)),
        "fires": nir.IF(r=np.ones((2, 1, 2)), v_threshold=np.ones((2, 1, 2)), metadata={"reset": "zero"}),
        "output": nir.Output(output_type=np.array([2, 1, 2])),
    }
    nir.write(tmp_path / "conv.nir", in_a_row(nodes))
    found = described(capsys, tmp_path / "conv.nir")
    # Three of the kernel's four numbers are not zero; each is used at two places, and a pool sums four pixels.
    assert found["weights"] == 3
    (into,) = found["connections"]
    assert (into["weights"], into["synapses"]) == (3, 3 * 2 * 4)
    assert found["output"] == "fires"


def test_info_in_words(model, capsys):
    assert call("info", model) == 0
    said = capsys.readouterr().out
    assert "IF, threshold 1 .. 1.5, reset by subtraction, many per update, lower bound -1 " in said
    assert "IF, never fires (the readout)" in said
    assert "input -> spikes1" in said
    assert "flatten (Flatten), hidden (Affine)" in said
    assert "  exact       sum, fifo runs it in " in said


def test_info_lists_the_engines_that_refuse_with_the_reason(tmp_path, capsys):
    nir.write(tmp_path / "drifts.nir", graph(bias=2.0))
    found = described(capsys, tmp_path / "drifts.nir")
    assert found["populations"][0]["rule"]["bias"] == {"min": 0.0, "max": 4.0}
    engines = {(e["engine"], e["order"]): e for e in found["engines"]}
    assert engines["exact", "sum"]["refused"] is None
    assert engines["exact", "sum"]["bytes"] > 0
    assert "'spikes1' also crosses its threshold between them" in engines["exact", "fifo"]["refused"]
    for engine in ("brian2", "brian2-cpp"):
        assert engines[engine, "sum"]["refused"] is None
        assert engines[engine, "sum"]["bytes"] > 0
    assert call("info", tmp_path / "drifts.nir") == 0
    said = capsys.readouterr().out
    assert "bias 0 .. 4" in said
    assert "  exact       sum       runs it in " in said
    assert "  exact       fifo      refuses: " in said


def lacks_a_gpu():
    raise InputError("no GPU, for this test")


def test_info_names_engines_that_cannot_run_here_in_one_line(model, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "CupyGpu", lacks_a_gpu)
    monkeypatch.setenv("CXX", "no-such-compiler")
    engines = {(e["engine"], e["order"]): e for e in described(capsys, model)["engines"]}
    assert engines["exact-cuda", "fifo"]["missing"] == ["no GPU, for this test"]
    assert engines["brian2-cpp", "sum"]["missing"] == ["no-such-compiler"]
    assert engines["brian2-cpp", "sum"]["refused"] is engines["brian2-cpp", "sum"]["bytes"] is None
    assert engines["exact", "sum"]["missing"] == []
    assert call("info", model) == 0
    said = capsys.readouterr().out
    assert "refuses" not in said
    (elsewhere,) = [line for line in said.splitlines() if line.startswith("not on this machine: ")]
    assert "brian2-cpp" in elsewhere
    assert elsewhere.endswith("exact-cuda (what they need: mtt-brian doctor)")


def test_info_of_leaks(tmp_path, capsys):
    nir.write(tmp_path / "leaky.nir", leaky_readout())
    assert call("info", tmp_path / "leaky.nir") == 0
    said = capsys.readouterr().out
    assert "LIF, threshold 1, reset to 0, tau 20 ms " in said
    assert "LIF, never fires, tau 10 ms (the readout)" in said


def test_info_of_a_run_folder(model, capsys):
    config = {"method": "mtt", "dataset": "nmnist", "time_steps": 10, "resolution": None, "lr": 0.1}
    model.with_name("config.json").write_text(json.dumps(config))
    assert described(capsys, model.parent)["config"] == config
    assert call("info", model.parent) == 0
    assert "trained with: method mtt, dataset nmnist, time_steps 10\n" in capsys.readouterr().out


def test_info_of_a_network_by_another_tool(tmp_path, capsys):
    path = tmp_path / "foreign.nir"
    nir.write(path, graph(reset=None))
    assert "node 'spikes1' (IF) has no reset rule" in refused(capsys, "info", path)
    rule = described(capsys, path, "--reset", "zero", "--spike-integral", "0.5")["populations"][0]["rule"]
    assert (rule["reset"], rule["gain"]) == ("zero", 0.5)


def test_nested_graphs_are_described_too(tmp_path, capsys):
    inner = graph()
    names = {"before": nir.Input(input_type=np.array(SENSOR)), "net": inner, "after": nir.Output(np.array([2]))}
    outer = nir.NIRGraph(names, [("before", "net"), ("net", "after")], type_check=False)
    nir.write(tmp_path / "nested.nir", outer)
    found = described(capsys, tmp_path / "nested.nir")
    assert [node["name"] for node in found["connections"][0]["nodes"]] == ["net.flatten", "net.hidden"]
    assert found["populations"][0]["bytes"] > 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere.nir", None, "no such NIR file"),
        ("text.nir", b"no network", "text.nir is not a readable NIR file: it is no HDF5 file, or damaged"),
    ],
)
def test_what_is_no_network_is_refused(name, content, message, tmp_path, capsys):
    if content:
        (tmp_path / name).write_bytes(content)
    for command in (["info", tmp_path / name], ["simulate", tmp_path / name, "x.csv"]):
        assert message in refused(capsys, *command)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")
def test_what_is_no_file_is_not_opened(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.nir")
    assert "pipe.nir is a pipe or a device, not a NIR file" in refused(capsys, "info", tmp_path / "pipe.nir")


def test_an_empty_name_is_not_the_current_folder(model, monkeypatch, capsys):
    """As an unset variable of a shell gives it."""
    monkeypatch.chdir(model.parent)
    for command in (
        ["info", ""],
        ["simulate", "", "x.csv"],
        ["gap", "", "x.csv"],
        ["convert", "", "nir", "--out", "x"],
    ):
        assert "the network must be the path of a file or folder, not ''" in refused(capsys, *command)


def test_names_that_begin_with_a_dash_follow_two_dashes(model, monkeypatch, capsys):
    monkeypatch.chdir(model.parent)
    model.rename("-m.nir")
    assert call("info", "--", "-m.nir") == 0
    assert "-m.nir: " in capsys.readouterr().out


def test_a_name_that_is_not_utf8_does_not_stop_brian2(tmp_path, monkeypatch, capsys):
    """Brian2 writes ``sys.argv`` into a file when it is imported."""
    monkeypatch.setattr(sys, "argv", ["mtt-brian", "info", "\udcff.nir"])
    assert cli.entry_point() == 2
    assert "no such NIR file: \\udcff.nir" in capsys.readouterr().err
    assert " ".join(sys.argv).encode() == b"mtt-brian info \\udcff.nir"


def test_a_network_is_not_the_folder_of_a_run(model, capsys):
    pytest.importorskip("torch")
    assert f"{model}: is a file, not the folder of a run" in refused(capsys, "eval", model)


def test_a_conversion_does_not_replace_its_network(model, monkeypatch, capsys):
    monkeypatch.chdir(model.parent)
    before = model.read_bytes()
    convert = ["convert", model, "nir", "--allow", "reset", "spikes", "lower_bound", "--out"]
    for out in ("model.nir", "./model.nir", model):
        assert "model.nir: is read by this command, and would be replaced" in refused(capsys, *convert, out)
    assert model.read_bytes() == before
    assert ".: is a folder" in refused(capsys, *convert, ".")


def test_a_folder_without_a_network_is_refused(tmp_path, capsys):
    assert f"{tmp_path}: no model.nir" in refused(capsys, "info", tmp_path)


def test_a_broken_config_is_named(model, capsys):
    for content, message in (("{", "not readable as JSON"), ("[1]", "expected settings by name, found list")):
        model.with_name("config.json").write_text(content)
        said = refused(capsys, "info", model)
        assert "config.json" in said
        assert message in said


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"data_root": 5}, "data_root must be a folder, or null, not 5"),
        ({"data_root": ["a"]}, "data_root must be a folder, or null, not ['a']"),
        ({"data_root": "a\0b"}, r"data_root must be a folder, or null, not 'a\x00b'"),
        ({"dataset": ["nmnist"]}, "dataset must be the name of a data set, not ['nmnist']"),
        ({"resolution": "x"}, "resolution must be a whole number of pixels from 1 to 32767, or null, not 'x'"),
        ({"resolution": True}, "or null, not True"),
        ({"resolution": 0}, "or null, not 0"),
    ],
)
def test_settings_of_a_run_that_do_not_fit(config, message, model, folder, capsys):
    file = model.with_name("config.json")
    file.write_text(json.dumps(config))
    for arguments in (["info", model], ["simulate", model, "nmnist:test:0"]):
        said = refused(capsys, *arguments)
        assert said.startswith(f"error: {file}: ")
        assert said.endswith(f"{message}\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_pipe_is_no_config_file(model, capsys):
    file = model.with_name("config.json")
    os.mkfifo(file)
    assert refused(capsys, "info", model) == f"error: {file}: is a pipe or a device, not a file\n"


# ----------------------------------------------------------------------------------------------------------- simulate


def as_csv(path, given):
    header = "t,x,y,p\n"
    path.write_text(header + "".join(f"{e['t']},{e['x']},{e['y']},{e['p']}\n" for e in given))


def as_csv_of_other_columns(path, given):
    path.write_text(
        "\ufeffp, y, weight, x, t\n" + "".join(f"{e['p']}, {e['y']}, 0.5, {e['x']}, {e['t']}\n" for e in given), "utf-8"
    )


def as_npy_of_other_types(path, given):
    other = np.zeros(len(given), [("p", "?"), ("y", "u2"), ("x", "u2"), ("t", "u4"), ("more", "f4")])
    for field in "tpyx":
        other[field] = given[field]
    np.save(path, other)


def as_npz_of_one_array(path, given):
    file = io.BytesIO()  # numpy would write the ending in small letters
    np.savez(file, events=given)
    path.write_bytes(file.getvalue())


def as_bin(path, given):
    from tests.test_events_datasets import five_bytes

    path.write_bytes(five_bytes(given))


def as_aedat2(path, given):
    from tests.test_events_datasets import aedat2

    path.write_bytes(aedat2(given))


def as_aedat3(path, given):
    from tests.test_events_datasets import aedat3

    path.write_bytes(aedat3((1, given[:10]), (1, given[10:])))


def as_aedat4(path, given):
    pytest.importorskip("aedat")
    from tests.test_events_datasets import aedat4

    path.write_bytes(aedat4(given))


FILES = {
    "csv": ("events.csv", as_csv),
    "csv, other columns": ("events.csv", as_csv_of_other_columns),
    "npy": ("events.npy", np.save),
    "npy of other types": ("events.npy", as_npy_of_other_types),
    "npz, columns": ("events.npz", lambda path, given: np.savez(path, **{f: given[f] for f in "txyp"})),
    "npz, one array": ("EVENTS.NPZ", as_npz_of_one_array),
    "bin": ("00001.bin", as_bin),
    "aedat2": ("events.aedat", as_aedat2),
    "aedat3": ("events.aedat", as_aedat3),
    "aedat4": ("events.aedat4", as_aedat4),
}


@pytest.mark.parametrize("kind", FILES)
def test_what_is_written_is_what_simulate_gives(kind, model, folder, capsys):
    name, write = FILES[kind]
    write(Path(name), recording())
    assert call("simulate", model, name) == 0
    expected = mb.simulate(model, recording(), engine="exact")
    assert expected.spikes["spikes1"].n.max() > 1
    out = folder / "results" / "simulate-001"
    assert {path.name for path in out.iterdir()} == {"spikes.npz", "spikes.csv", "readout.csv", "raster.png"}

    with np.load(out / "spikes.npz", allow_pickle=False) as saved:
        assert saved["populations"].tolist() == ["spikes1"]
        for field, column in expected.spikes["spikes1"]._asdict().items():
            array = saved[f"spikes1_{field}"]
            assert array.dtype == column.dtype
            assert np.array_equal(array, column)
        for population, counts in expected.counts.items():
            assert np.array_equal(saved[f"{population}_counts"], counts)
        assert np.array_equal(saved["readout"], expected.readout)
        assert (saved["synops"], saved["duration"]) == (expected.synops, expected.duration)
        assert (str(saved["engine"]), str(saved["order"]), str(saved["recording"])) == ("exact", "sum", name)
    with open(out / "spikes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["population"] for row in rows} == {"spikes1"}
    assert [float(row["t"]) for row in rows] == expected.spikes["spikes1"].t.tolist()
    assert [(int(row["i"]), int(row["n"])) for row in rows] == list(zip(*expected.spikes["spikes1"][1:], strict=True))
    readout = np.loadtxt(out / "readout.csv", delimiter=",", skiprows=1)
    assert np.array_equal(readout[:, 1:], expected.readout_at(readout[:, 0]))
    assert np.array_equal(readout[-1, 1:], expected.readout)

    said = capsys.readouterr().out
    assert f"{name}: 60 events, {expected.duration:g} s -> {model}" in said
    best, other = int(expected.readout.argmax()), int(expected.readout.argmin())
    assert f"prediction {best}, ahead of {other} by {np.ptp(expected.readout):.3g}\n" in said
    assert f"| all        |         | {60 + expected.counts['spikes1'].sum():,} " in said
    assert f"| {expected.synops:,} " in said
    assert "results/simulate-001: raster.png, readout.csv, spikes.csv, spikes.npz" in said


def test_order_and_duration_are_passed_on(model, folder, capsys):
    np.save("events.npy", recording())
    assert call("simulate", model, "events.npy", "--order", "fifo", "--duration", "0.002", "--out", "here") == 0
    expected = mb.simulate(model, recording(), engine="exact", order="fifo", duration=0.002)
    assert not np.array_equal(
        expected.counts["spikes1"], mb.simulate(model, recording(), engine="exact", duration=0.002).counts["spikes1"]
    )
    with np.load("here/spikes.npz") as saved:
        assert np.array_equal(saved["spikes1_counts"], expected.counts["spikes1"])
        assert (str(saved["order"]), saved["duration"]) == ("fifo", 0.002)


def test_the_engine_is_passed_on(model, folder, capsys):
    np.save("events.npy", recording())
    said = refused(capsys, "simulate", model, "events.npy", "--order", "fifo", "--engine", "brian2-cpp")
    assert "order='fifo' needs engine='exact'" in said


def test_a_network_of_another_tool_runs_with_the_given_options(tmp_path, folder, capsys):
    path = tmp_path / "foreign.nir"
    nir.write(path, graph(reset=None))
    np.save("events.npy", recording())
    assert "has no reset rule" in refused(capsys, "simulate", path, "events.npy")
    told = ["--reset", "zero", "--spikes", "one", "--spike-integral", "0.5"]
    assert call("simulate", path, "events.npy", *told, "--out", "out") == 0
    expected = mb.simulate(path, recording(), engine="exact", reset="zero", spikes="one", spike_integral=0.5)
    with np.load("out/spikes.npz") as saved:
        assert np.array_equal(saved["spikes1_t"], expected.spikes["spikes1"].t)
        assert np.array_equal(saved["readout"], expected.readout)


def test_two_columns_are_enough_for_a_row_of_inputs_and_a_leaky_readout_has_no_trace(tmp_path, folder, capsys):
    nir.write(tmp_path / "leaky.nir", leaky_readout())
    Path("events.csv").write_text("t,x\n1000,0\n1100,1\n2000,0\n")
    Path("out").mkdir()
    Path("out/readout.csv").write_text("of an earlier run\n")
    assert call("simulate", tmp_path / "leaky.nir", "events.csv", "--duration", "0.01", "--out", "out") == 0
    assert "the readout is known at the end only" in capsys.readouterr().out
    assert {path.name for path in Path("out").iterdir()} == {"spikes.npz", "spikes.csv", "raster.png"}
    with np.load("out/spikes.npz") as saved:
        assert saved["fires_t"].tolist() == [0.0011]  # 0.75, not quite all of it, and 0.5
        assert saved["readout"] == pytest.approx(np.exp(-0.0089 / 0.01))


def test_a_recording_of_a_data_set_has_its_class(model, folder, capsys):
    pytest.importorskip("tonic")
    from tests.test_events_datasets import five_bytes, write

    write(folder / "data" / "Test" / "1" / "00003.bin", five_bytes(recording()[:20]))
    write(folder / "data" / "Test" / "7" / "00001.bin", five_bytes(recording()))
    assert call("simulate", model, "nmnist:test:1", "--data-root", "data") == 0
    said = capsys.readouterr().out
    assert "nmnist:test:1 (Test/7/00001.bin): 60 events" in said
    assert said.count("label is") == 0  # the network has two classes, the data set ten
    # The data folder of a run need not be given again.
    model.with_name("config.json").write_text(json.dumps({"dataset": "nmnist", "data_root": "data"}))
    assert call("simulate", model.parent, "nmnist:test:0") == 0
    assert "20 events" in capsys.readouterr().out
    assert "has 2 test recordings here, numbered from 0" in refused(capsys, "simulate", model.parent, "nmnist:test:2")
    assert "needs a folder" in refused(capsys, "simulate", model.parent, "shd:test:0")


def test_a_run_with_a_resolution_downsamples_its_data_sets(tmp_path, folder, capsys):
    pytest.importorskip("tonic")
    pytest.importorskip("torch")
    from tests.test_events_datasets import five_bytes, write

    write(folder / "data" / "Test" / "7" / "00001.bin", five_bytes(recording()))
    nir.write(tmp_path / "model.nir", graph(sensor=(2, 17, 17)))
    (tmp_path / "config.json").write_text(json.dumps({"resolution": 17}))
    assert call("simulate", tmp_path, "nmnist:test:0", "--data-root", "data", "--out", "out") == 0
    coarse = recording()
    coarse["x"] //= 2
    coarse["y"] //= 2
    with np.load("out/spikes.npz") as saved:
        expected = mb.simulate(tmp_path / "model.nir", coarse, engine="exact")
        assert np.array_equal(saved["spikes1_t"], expected.spikes["spikes1"].t)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (0, "prediction 0 (cat) (correct), ahead of 1 (dog) by 4.12"),
        (1, "prediction 0 (cat) (wrong; the label is 1 (dog)), ahead of 1 (dog) by 4.12"),
        (None, "prediction 0, ahead of 1 by 4.12"),
    ],
)
def test_the_lead_of_the_prediction_is_printed(label, said, model):
    result = mb.simulate(model, recording(), engine="exact")
    result.readout[:] = -35.5, -39.625
    given = NamedRecording("x", recording(), label, () if label is None else ("cat", "dog"))
    assert simulate.prediction(result, given) == said
    result.readout[:] = 0
    right = {0: "; the label is 0 (cat)", 1: "; the label is 1 (dog)", None: ""}[label]
    assert simulate.prediction(result, given) == f"no prediction: the readout is 0 everywhere{right}"


def bad_csv(text):
    return lambda: Path("bad.csv").write_text(text)


BAD_RECORDINGS = {
    "missing": ("nowhere.csv", lambda: None, "nowhere.csv: no such file"),
    "missing bin": ("nowhere.bin", lambda: None, "nowhere.bin: no such file"),
    "unknown ending": ("x.txt", lambda: None, "x.txt: a recording is a file that ends in .bin, .aedat,"),
    "of no data set": ("xyz:test:0", lambda: None, "unknown data set 'xyz'"),
    "unknown split": ("digits:text:0", lambda: None, "unknown split 'text'"),
    "empty file": ("bad.csv", bad_csv(""), "bad.csv: empty file"),
    "no header": ("bad.csv", bad_csv("0,1,2,1\n"), "need t (microseconds) and x"),
    "not a number": ("bad.csv", bad_csv("t,x,y,p\n0,1,2,one\n"), "bad.csv: cannot be read as a CSV table"),
    "ragged": ("bad.csv", bad_csv("t,x,y,p\n0,1,2,1\n5,1,2\n"), "bad.csv: cannot be read as a CSV table"),
    "seconds": ("bad.csv", bad_csv("t,x,y,p\n0.25,1,2,1\n"), "bad.csv: t[0] = 0.25: not a whole number"),
    "no polarity": ("bad.csv", bad_csv("t,x,y\n0,1,2\n"), "bad.csv has no field 'p'"),
    "no events": ("bad.csv", bad_csv("t,x,y,p\n"), "bad.csv: no events; give the length of the run by --duration"),
    "unsorted": ("bad.csv", bad_csv("t,x,y,p\n5,1,2,1\n4,1,2,1\n"), "bad.csv: times go backwards at event 1"),
    "before 0": ("bad.csv", bad_csv("t,x,y,p\n-5,1,2,1\n"), "bad.csv: event 0 has t = -5 us"),
    "outside": ("bad.csv", bad_csv("t,x,y,p\n0,1,2,1\n5,34,2,1\n"), "bad.csv: event 1 has x = 34"),
    "polarity -1": ("bad.csv", bad_csv("t,x,y,p\n0,1,2,-1\n"), "bad.csv: event 0 has p = -1"),
    "plain array": (
        "bad.npy",
        lambda: np.save("bad.npy", np.zeros((5, 4))),
        "bad.npy: not a one-dimensional structured",
    ),
    "objects": (
        "bad.npy",
        lambda: np.save("bad.npy", np.array([{}])),
        "bad.npy: it is no file of numpy, or holds Python objects",
    ),
    "npz of others": ("bad.npz", lambda: np.savez("bad.npz", a=[1], b=[2]), "there are 'a', 'b'"),
    "lengths": ("bad.npz", lambda: np.savez("bad.npz", t=[1, 2], x=[1, 2, 3]), "bad.npz: t, x, y and p must have one"),
    "truncated": ("bad.bin", lambda: Path("bad.bin").write_bytes(b"1234"), "bad.bin: truncated"),
    "another AEDAT": ("bad.aedat", lambda: Path("bad.aedat").write_bytes(b"#!AER-DAT1.0\r\n"), "found version 1.0"),
}


@pytest.mark.parametrize("case", BAD_RECORDINGS)
def test_what_is_no_recording_is_refused_by_name(case, model, folder, capsys):
    name, write, message = BAD_RECORDINGS[case]
    write()
    assert message in refused(capsys, "simulate", model, name)
    assert not Path("results").exists()


def test_still_images_are_refused(model, folder, capsys):
    from tests.test_events_images import write_mnist

    write_mnist(folder, part="t10k")
    assert "still images, without events" in refused(capsys, "simulate", model, "mnist:test:0", "--data-root", ".")


def test_a_silent_run_has_the_given_duration(model, folder, capsys):
    Path("silence.csv").write_text("t,x,y,p\n")
    assert call("simulate", model, "silence.csv", "--duration", "0.5", "--out", "out") == 0
    assert "no prediction: the readout is 0 everywhere" in capsys.readouterr().out
    with np.load("out/spikes.npz") as saved:
        assert (len(saved["spikes1_t"]), saved["duration"]) == (0, 0.5)
    for duration in ("-1", "nan", "inf"):
        assert "duration must be a number of seconds >= 0" in refused(
            capsys, "simulate", model, "silence.csv", f"--duration={duration}"
        )


def test_a_bad_place_for_results_is_refused(model, folder, capsys):
    np.save("events.npy", recording())
    Path("taken").write_text("")
    assert "--out taken/x: Not a directory" in refused(capsys, "simulate", model, "events.npy", "--out", "taken/x")
    Path("results").write_text("")
    assert "--out results: " in refused(capsys, "simulate", model, "events.npy")


# ------------------------------------------------------------------------------------------------------- the machine


@pytest.mark.parametrize("out", ["model.nir/out", "model.nir", "/proc/out", "a" * 300, "a\0b"])
def test_a_folder_for_results_is_tried_before_the_run(out, model, folder, capsys, monkeypatch):
    (folder / "model.nir").symlink_to(model)
    np.save("r.npy", recording())
    monkeypatch.setattr(simulate.Simulator, "run", None)  # a run would fail
    assert refused(capsys, "simulate", model, "r.npy", "--out", out).startswith("error: --out ")


def test_a_run_that_fails_leaves_no_folder(model, folder, capsys, monkeypatch):
    def out_of_memory(*_, **__):
        raise MemoryError("Unable to allocate 8 TiB")

    np.save("r.npy", recording())
    monkeypatch.setattr(simulate.Simulator, "run", out_of_memory)
    assert "not enough memory: Unable to allocate 8 TiB" in refused(capsys, "simulate", model, "r.npy", "--out", "out")
    assert not (folder / "out").exists()


def test_a_name_that_is_taken_by_a_folder(model, folder, capsys):
    np.save("r.npy", recording())
    (folder / "out" / "spikes.npz").mkdir(parents=True)
    assert refused(capsys, "simulate", model, "r.npy", "--out", "out") == (
        "error: out/spikes.npz: is a folder, and a file of this name is to be written; give another --out\n"
    )
    assert [path.name for path in (folder / "out").iterdir()] == ["spikes.npz"]


# ------------------------------------------------------------------------------------------------------- command lines


@pytest.mark.parametrize(
    ("text", "value"),
    [("-1e-3", -1e-3), ("-0.5", -0.5), ("-.5E+2", -50.0), ("-1_0", -10.0), ("-2.", -2.0), ("-3", -3.0)],
)
def test_negative_numbers_are_values(text, value):
    options = simulate.make_parser().parse_args(
        ["model.nir", "r.csv", "--lower-bound", text, "--duration", text, "--time-per-step", text]
    )
    assert (options.lower_bound, options.duration, options.time_per_step) == (text, value, value)


def test_a_negative_duration_is_one_line(model, folder, capsys):
    np.save("r.npy", recording())
    for text in ("-1e-3", "-inf", "-nan"):
        said = refused(capsys, "simulate", model, "r.npy", "--duration", text)
        assert said.count("\n") == 1
        assert "duration" in said
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate"], "the following arguments are required: FILE.nir, RECORDING (mtt-brian simulate --help"),
        (["simulate", "a", "b", "--duration", "x"], "argument --duration: invalid float value: 'x'"),
        (["simulate", "a", "b", "--nonsense"], "unknown option --nonsense (mtt-brian simulate --help"),
        (["simulate", "a", "b", "--a\nb\x1b"], r"unknown option --a; b\x1b (mtt-brian"),
        (["eval", "--time-steps", "1.5"], "argument --time-steps: invalid int value: '1.5'"),
        (["doctor", "--data", "nmnist"], "--data takes NAME=DIR, not 'nmnist'"),
        (["simulate", "a", "b", "c"], "unexpected: c (mtt-brian"),
        (["simulate", "a", "b", "--engin", "exact"], "unknown option --engin; did you mean --engine? (mtt-brian"),
        (["simulate", "a", "b", "--engine", "abacus"], "argument --engine: unknown engine 'abacus'; known: exact,"),
        (["eval", "--engine", "abacus"], "argument --engine: unknown engine 'abacus'; known: exact,"),
        (["eval", "--limt=3"], "unknown option --limt=3; did you mean --limit?"),
        (["train", "--epoch", "3"], "unknown option --epoch; did you mean --epochs?"),
        (["evil"], "unknown command 'evil'; did you mean 'eval'?"),
    ],
)
def test_a_command_line_that_does_not_fit_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        call(*arguments)
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert said.startswith(f"error: {message}")
    assert said.count("\n") == 1


def test_a_results_folder_without_a_name(model, folder, capsys):
    np.save("r.npy", recording())
    assert refused(capsys, "simulate", model, "r.npy", "--out", "") == "error: --out: the name of the folder is empty\n"
    assert refused(capsys, "train", "--limit", "1", "--out", "").endswith("--out: the name of the folder is empty\n")


def test_a_stop_while_the_program_is_loaded_is_no_traceback(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import builtins\n"
        "load = builtins.__import__\n"
        "def stopping(name, *rest, **named):\n"
        "    if name == 'mtt_brian.cli':\n"
        "        raise KeyboardInterrupt\n"
        "    return load(name, *rest, **named)\n"
        "builtins.__import__ = stopping\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(mb.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-m", "mtt_brian", "info", "model.nir"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
