"""The scripts in examples/ run as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
#: A line of the output of every script.
EXPECTED = {
    "adapting_threshold": "at the spikes v and vt differ by at most",
    "cuba": "per neuron and second",
    "frozen_noise": "constant current: the last spikes lie within 17.1 ms",
    "lif_step_current": "the rates differ from the formula by at most",
    "poisson_trials": "and with twice the rate:",
    "stdp": "spikes; synapses by weight, from 0 to gmax: 4",
    "synfire_chain": "pool 9: 50 spikes",
}


def test_every_example_is_known():
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(EXPECTED)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_runs(name, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    assert EXPECTED[name] in done.stdout
    errors = [float(line.split()[-1]) for line in done.stdout.splitlines() if "at most" in line]
    assert all(error < 1e-12 for error in errors)
