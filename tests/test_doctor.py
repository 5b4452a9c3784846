"""The doctor: checks that really run, and tell what to do about what does not."""

import subprocess
import sys

import pytest

from mtt_brian.cli import doctor
from mtt_brian.cli.doctor import Broken, Check
from mtt_brian.errors import InputError


@pytest.mark.parametrize(("engine", "options"), [("exact", {}), ("brian2", {"target": "numpy"})])
def test_the_neuron_fires_where_paper_says(engine, options):
    assert "right spikes" in doctor.one_neuron(engine, **options)


def test_wrong_spikes_are_noticed(monkeypatch):
    import mtt_brian.engines as package

    simulate = package.simulate
    monkeypatch.setattr(package, "simulate", lambda graph, recording, engine: simulate(graph, recording[:2], engine))
    with pytest.raises(Broken, match=r"fired at \[0.002\]"):
        doctor.one_neuron("exact")


def fails(error):
    def run():
        raise error

    return run


def test_a_broken_extra_leaves_the_core_healthy(capsys):
    checks = [
        Check("fine", lambda: "all right", core=True),
        Check("extra", fails(ImportError("no module named x")), "pip install x"),
        Check("explains itself", fails(InputError("get it there")), "not shown"),
    ]
    assert doctor.examine(checks)
    shown = capsys.readouterr().out
    assert "ok    fine" in shown
    assert "ImportError: no module named x" in shown
    assert "-> pip install x" in shown
    assert "get it there" in shown
    assert "not shown" not in shown


def test_a_broken_core_is_a_failure(capsys):
    assert not doctor.examine([Check("engine", fails(Broken("fired twice")), "reinstall", core=True)])
    assert "FAIL  engine" in capsys.readouterr().out


def test_data_that_are_not_there(tmp_path):
    with pytest.raises(Broken, match="no train data of MNIST"):
        doctor._data("mnist", str(tmp_path))


def test_the_command_line_ends_with_the_verdict(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", (Check("core", lambda: "fine", core=True),))
    assert doctor.main(["--data", "nmnist=/nowhere"]) == 0
    shown = capsys.readouterr().out
    assert "no    data nmnist" in shown
    assert shown.endswith("The core works.\n")


def test_the_home_of_nobody(capsys):
    with pytest.raises(InputError, match=r"^--data nmnist: ~nobodyxyz/x: ~nobodyxyz is not a home folder here"):
        doctor.main(["--data", "nmnist=~nobodyxyz/x"])


@pytest.mark.slow
def test_the_doctor_finds_this_machine_healthy():
    done = subprocess.run([sys.executable, "-m", "mtt_brian", "doctor"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "ok    engine brian2-cpp" in done.stdout
