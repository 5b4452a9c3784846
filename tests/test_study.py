"""``mtt-brian study``: scripts that can be read and run as such, by their names."""

import subprocess
import sys
from pathlib import Path

import pytest

from mtt_brian import cli, repository
from mtt_brian.cli import completion, study
from mtt_brian.errors import InputError
from mtt_brian.text import printable
from tests import commands

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "studies").glob("*.py"))


def test_the_studies_are_the_scripts_of_the_folder(capsys):
    assert list(study.scripts()) == NAMES
    assert cli.entry_point(["study"]) == 0
    shown = capsys.readouterr().out
    for name in NAMES:
        (line,) = [line for line in shown.splitlines() if line.startswith(f"  {name} ")]
        doc = (ROOT / "studies" / f"{name}.py").read_text().partition("\n")[0]
        assert line.partition(name)[2].strip() == doc.removeprefix('"""').removesuffix('"""')
    assert not any("torch" in line for line in shown.splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_a_script_and_its_command_have_one_help(name, tmp_path, capsys):
    pytest.importorskip("torch")
    with pytest.raises(SystemExit) as end:
        cli.entry_point(["study", name, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    command = "eval" if name == "event_driven_eval" else f"study {name}"
    assert shown.startswith(f"usage: mtt-brian {command} [-h]")
    examples = shown.partition("\nexamples:\n")[2].split("\n\n")[0].splitlines()
    assert examples
    assert all(line.startswith(f"  mtt-brian {command}") for line in examples)
    done = commands.call(f"studies/{name}.py", "--help", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, shown)


def test_arguments_reach_the_study_and_its_refusal_the_user(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    assert cli.entry_point(["study", "time_step_sweep", "nowhere", "--limit", "3"]) == 2
    assert capsys.readouterr().err == "error: nowhere: no such run folder\n"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("time_step_swep", "unknown study 'time_step_swep'; did you mean 'time_step_sweep'? (studies: bound_"),
        ("../x\n", "unknown study '../x\\\\n' (studies: bound_remedies, deep, dynamic_inference"),
    ],
)
def test_an_unknown_study_is_refused_with_the_nearest(typed, message, capsys):
    assert cli.entry_point(["study", typed]) == 2
    assert capsys.readouterr().err.startswith(f"error: {printable(message)}".replace("\\\\n", "\\n"))


def test_ctrl_c_tells_how_to_go_on(monkeypatch, capsys):
    def stop(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "load", stop)
    assert cli.entry_point(["study", "robustness"]) == 130
    assert capsys.readouterr().err == f"\nstopped; {cli.GOES_ON}\n"


# ----- what a wheel has inside the package


def test_folders_are_found_in_the_repository_and_in_a_wheel(tmp_path, monkeypatch):
    assert repository.shipped("configs") == ROOT / "training" / "configs"
    package = tmp_path / "site-packages" / "mtt_brian"
    (package / "configs" / "small").mkdir(parents=True)
    monkeypatch.setattr(repository, "_PACKAGE", package)
    assert repository.shipped("configs") == package / "configs"


def test_constraints_are_named_where_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert repository.pip_install("numba") == "pip install -c constraints.txt numba"
    monkeypatch.chdir(tmp_path)
    assert repository.pip_install("numba") == f"pip install -c {ROOT / 'constraints.txt'} numba"
    monkeypatch.setattr(repository, "_PACKAGE", tmp_path / "site-packages" / "mtt_brian")
    assert repository.pip_install("numba") == "pip install numba"


# ----- completion


@pytest.fixture(scope="module")
def completed(tmp_path_factory):
    """Completes the last of some words as bash does."""
    pytest.importorskip("shtab")
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("completion")
    script = subprocess.run(
        [sys.executable, "-m", "mtt_brian", "completion", "bash"], capture_output=True, text=True, check=True
    ).stdout
    (folder / "script").write_text(script)
    (folder / "model.nir").touch()
    (folder / "runs").mkdir()

    def completed(*words):
        code = 'source ./script; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_mtt_brian; echo "${COMPREPLY[@]}"'
        done = subprocess.run(
            ["bash", "-c", code, "bash", "mtt-brian", *words], cwd=folder, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    return completed


@pytest.mark.slow
def test_a_shell_completes_commands_options_names_and_files(completed):
    assert completed("co") == ["convert", "conformance", "completion"]
    assert completed("train", "--me") == ["--method"]
    assert completed("train", "--method", "") == ["sdt", "nmt", "mtt"]
    assert completed("train", "--dataset", "cifar10d") == ["cifar10dvs"]
    assert completed("train", "--model", "vgg9") == ["vgg9"]
    assert completed("train", "--resume", "") == ["runs"]
    assert {"exact", "brian2"} <= set(completed("simulate", "--engine", ""))
    assert completed("simulate", "mod") == ["model.nir"]
    assert completed("study", "") == NAMES
    assert completed("study", "robustness", "--li") == ["--limit"]


def test_without_shtab_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(InputError, match=r"^completion needs shtab .*; get it with: pip install .*shtab$"):
        completion.main(["bash"])
