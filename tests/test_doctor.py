"""The doctor: checks that run the real code, and messages with the remedy."""

import re
import subprocess
import sys

import pytest

from mtt_brian.cli import doctor
from mtt_brian.cli.doctor import Broken, Check
from mtt_brian.errors import InputError


@pytest.mark.parametrize(("engine", "options"), [("exact", {}), ("brian2", {"target": "numpy"})])
def test_the_neuron_fires_at_the_times_computed_by_hand(engine, options):
    assert "right spikes" in doctor.one_neuron(engine, **options)


def test_wrong_spikes_are_detected(monkeypatch):
    import mtt_brian.engines as package

    simulate = package.simulate
    monkeypatch.setattr(package, "simulate", lambda graph, recording, engine: simulate(graph, recording[:2], engine))
    with pytest.raises(Broken, match=r"fired at \[0.002\]"):
        doctor.one_neuron("exact")


def fails(error):
    def run():
        raise error

    return run


def test_a_broken_extra_is_optional(capsys):
    checks = [
        Check("fine", lambda: "all right", required=True),
        Check("extra", fails(ImportError("no module named x")), "pip install x"),
        Check("explains itself", fails(InputError("get it there")), "not shown"),
    ]
    assert doctor.examine(checks) == checks[1:]
    shown = capsys.readouterr().out
    assert "ok    fine" in shown
    assert re.search(r"  --    extra +optional: ImportError: no module named x\n +-> pip install x\n", shown)
    assert re.search(r"  --    explains itself +optional: get it there\n", shown)
    assert "not shown" not in shown
    assert doctor.verdict(checks, checks[1:]).startswith("All that is required works.\n")


def test_a_broken_core_is_a_failure(capsys):
    check = Check("engine", fails(Broken("fired twice")), "reinstall", required=True)
    assert doctor.examine([check]) == [check]
    assert "FAIL  engine" in capsys.readouterr().out
    assert doctor.verdict([check], [check]).startswith("FAIL: engine\n")


def test_engines_are_counted_once_and_by_any_way_to_run_them():
    numpy, cython, cpp = (Check(name, lambda: "", cpu_engine=name[:6]) for name in ("brian2n", "brian2c", "cpp"))
    cuda = Check("cuda", lambda: "")
    count = [
        doctor.verdict([numpy, cython, cpp, cuda], failed).splitlines()[-1]
        for failed in ([], [cuda], [numpy], [numpy, cython], [cpp, numpy, cython])
    ]
    assert [line[:6] for line in count] == ["2 of 2", "2 of 2", "2 of 2", "1 of 2", "0 of 2"]
    assert count[0] == "2 of 2 engines for CPUs work"
    assert {check.cpu_engine for check in doctor.CHECKS} == {None, "exact", "brian2", "brian2-cpp"}


def test_data_that_are_not_there(tmp_path):
    with pytest.raises(Broken, match="no train data of MNIST"):
        doctor._data("mnist", str(tmp_path))


def test_requested_data_must_exist(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", (Check("core", lambda: "fine", required=True, cpu_engine="exact"),))
    monkeypatch.setattr(doctor, "of_other_packages", list)
    assert doctor.main([]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("\nAll that is required works.\n1 of 1 engines for CPUs work\n")
    for given, reason in (("nmnist=/nowhere", ""), ("foo=/nowhere", "unknown data set 'foo'")):
        assert doctor.main(["--data", given]) == 1
        shown = capsys.readouterr().out
        assert re.search(rf"  FAIL  data {given.partition('=')[0]} +.*{reason}", shown)
        assert shown.endswith(f"\nFAIL: data {given.partition('=')[0]}\n1 of 1 engines for CPUs work\n")


def test_a_notice_comes_before_a_wait(capsys, caplog):
    caplog.set_level("INFO", "mtt_brian")
    doctor.examine([Check("slow", lambda: "done", wait="compiling, a minute")])
    assert caplog.messages == ["compiling, a minute"]


def test_the_home_of_an_unknown_user(capsys):
    with pytest.raises(InputError, match=r"^--data nmnist: ~nobodyxyz/x: ~nobodyxyz is not a home folder here"):
        doctor.main(["--data", "nmnist=~nobodyxyz/x"])


@pytest.mark.slow
def test_the_doctor_finds_this_machine_healthy():
    done = subprocess.run([sys.executable, "-m", "mtt_brian", "doctor"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "ok    engine brian2-cpp" in done.stdout
    assert done.stdout.endswith("3 of 3 engines for CPUs work\n")
