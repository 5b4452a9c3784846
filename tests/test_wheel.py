"""The wheel alone, in an empty environment: what a user gets from a package index."""

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def called(*command, cwd, **more):
    """What a command printed, with no way to the repository."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MTT_BRIAN"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean | more, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def files_in_git():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git repository: which files belong to the package is not known")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, files_in_git):
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in files_in_git:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    called(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", out, source, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel, tmp_path_factory):
    """The folder of the commands in an environment that has the wheel and its base dependencies."""
    folder = tmp_path_factory.mktemp("environment") / "env"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    called(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=folder)
    return folder / "bin"


def test_the_wheel_has_every_file_of_the_package(wheel, files_in_git):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert [name for name in files_in_git if name.startswith("mtt_brian/") and name not in names] == []
    # One copy in the repository, beside the package; within it in the wheel.
    moved = {
        "studies/": ("mtt_brian/studies/", ".py"),
        "training/configs/": ("mtt_brian/configs/", ".toml"),
        "training/": ("mtt_brian/training/", ".py"),
    }
    expected = {
        name.replace(place, inside, 1)
        for place, (inside, kind) in moved.items()
        for name in files_in_git
        if name.startswith(place) and name.endswith(kind)
    }
    assert len(expected) > 20
    assert {name for name in names if name.startswith(tuple(inside for inside, _ in moved.values()))} == expected


def test_studies_and_settings_are_found_without_the_repository(scripts, tmp_path):
    shown = called(scripts / "mtt-brian", "study", cwd=tmp_path).stdout
    assert "\n  time_step_sweep    Accuracy over the number of time steps" in shown
    code = (
        "from mtt_brian import repository as r;"
        "print(sorted(p.stem for p in r.shipped('configs').glob('small/d*.toml')), r.pip_install('x'))"
    )
    assert called(scripts / "python", "-c", code, cwd=tmp_path).stdout == "['digits', 'digits_norm'] pip install x\n"


def test_demo_info_and_simulate(scripts, tmp_path):
    program, cache = scripts / "mtt-brian", {"MTT_BRIAN_CACHE": str(tmp_path / "cache")}
    absent = "import importlib.util as u; print([n for n in ('torch', 'sklearn', 'tonic') if u.find_spec(n)])"
    assert called(scripts / "python", "-c", absent, cwd=tmp_path).stdout == "[]\n"

    first = called(program, "demo", cwd=tmp_path, **cache)
    assert "Without time steps SDT loses" in first.stdout
    assert first.stderr.count("compiling the exact engine, order sum, once") == first.stderr.count("compiling") == 1
    assert (tmp_path / "results" / "demo-001" / "demo.png").stat().st_size > 100_000
    again = called(program, "demo", cwd=tmp_path, **cache)
    assert again.stderr == ""

    (command,) = re.findall(r"^  mtt-brian (simulate .*)$", first.stdout, re.MULTILINE)
    assert "prediction" in called(program, *command.split(), cwd=tmp_path, **cache).stdout
    described = called(program, "info", "results/demo-001/sdt.nir", cwd=tmp_path, **cache).stdout
    assert "159,424 synapses, 6,160 weights" in described
    assert "refuses" not in described
    assert "\nnot on this machine: brian2-cuda, exact-cuda (" in described
    own = called(program, "simulate", "results/demo-001/mtt.nir", "digits:test:0", cwd=tmp_path, **cache)
    assert re.search(r"prediction \d \((correct|wrong; the label is 5)\), ahead of \d by \d", own.stdout)
