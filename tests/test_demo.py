"""`mtt-brian demo`: its table equals the results of its data, time-stepped as in torch, and without torch."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import mtt_brian as mb
from mtt_brian import cli, events
from mtt_brian.cli import demo
from mtt_brian.engines.exact.trace import membrane_trace
from mtt_brian.errors import InputError
from mtt_brian.events import Recordings
from tests.test_cli import WITHOUT_TORCH

ROOT = Path(__file__).parents[1]
CONTENTS = json.loads((demo.DATA / demo.CONTENTS).read_text())
NETWORKS = [entry["file"] for entry in CONTENTS["networks"]]
RECORDINGS = [events.read(demo.DATA / entry["file"]) for entry in CONTENTS["recordings"]]
LABELS = np.array([entry["label"] for entry in CONTENTS["recordings"]])


@pytest.fixture(scope="module")
def runs():
    return {name: demo.run(demo.DATA / name, RECORDINGS, CONTENTS) for name in NETWORKS}


@pytest.fixture(scope="module")
def make_demo():
    pytest.importorskip("torch")
    return runpy.run_path(str(ROOT / "training" / "make_demo.py"))


# ----- on time steps without torch


def some_events(count, end, seed=0):
    rng = np.random.default_rng(seed)
    return events.make_recording(
        np.sort(rng.integers(0, end, count)), *(rng.integers(0, n, count) for n in (34, 34, 2))
    )


@pytest.mark.parametrize(("steps", "duration"), [(1, None), (7, None), (10, 250_001), (1000, None)])
def test_events_move_to_the_end_of_their_bin(steps, duration):
    recording = some_events(500, 200_000)
    moved = events.on_time_steps(recording, steps, (2, 34, 34), duration)
    frames = events.to_frames(recording, steps, (2, 34, 34), duration)
    total = duration or int(recording["t"][-1]) + 1
    assert np.all((moved["t"] >= recording["t"]) & (moved["t"] - recording["t"] <= total / steps + 1))
    for k in range(steps):
        end = -(-(k + 1) * total // steps)
        inside = moved[moved["t"] == end]
        counts = np.zeros((2, 34, 34))
        np.add.at(counts, (inside["p"], inside["y"], inside["x"]), 1)
        assert np.array_equal(counts, frames[k]), k
    assert np.array_equal(moved[["x", "y", "p"]], recording[["x", "y", "p"]])


def test_bins_need_a_microsecond():
    with pytest.raises(InputError, match=r"6 time steps of 5 us are shorter than a microsecond"):
        events.on_time_steps(some_events(10, 5), 6, (2, 34, 34), 5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_time_stepped_result_is_that_of_torch(name, runs):
    """Every neuron fires as often; readouts differ by the rounding of float32 alone."""
    pytest.importorskip("torch")
    from mtt_brian.experiments import inference

    recordings = Recordings(
        name="digits", title="digits", split="test", classes=list("0123456789"), sensor_size=(2, 34, 34),
        ids=[entry["file"] for entry in CONTENTS["recordings"]], labels=LABELS, duration_us=300_000,
        read=lambda file: events.read(demo.DATA / file),
    )  # fmt: skip
    torch = inference.predict(demo.DATA / name, recordings, "time-stepped", CONTENTS["time_steps"])
    for k, result in enumerate(runs[name].time_stepped):
        for population, counts in result.counts.items():
            assert np.array_equal(counts, torch.counts[population][k]), (k, population)
        assert np.allclose(result.readout, torch.readouts[k], rtol=1e-4, atol=1e-3)
        assert result.synops == torch.synops[k]


# ----- the data


def test_the_data_are_small():
    assert sum(path.stat().st_size for path in demo.DATA.iterdir()) < 600_000


def test_the_recordings_are_those_of_the_data_set():
    test = events.load("digits", split="test", progress=False)
    for entry, recording in zip(CONTENTS["recordings"], RECORDINGS, strict=True):
        number = int(entry["id"].rpartition(":")[2])
        assert entry["label"] == test.labels[number]
        assert number == np.flatnonzero(test.labels == entry["label"])[0]
        assert np.array_equal(recording, test[number])


@pytest.mark.slow
def test_the_script_chooses_the_figure_again(make_demo):
    assert make_demo["shown_in_figure"](demo.DATA, CONTENTS) == CONTENTS["figure"]


@pytest.mark.slow
@pytest.mark.parametrize("entry", CONTENTS["networks"], ids=lambda entry: entry["title"])
def test_the_kept_numbers_are_measured_again(make_demo, entry):
    test = events.load("digits", split="test", progress=False)
    assert len(test) == CONTENTS["test_recordings"]
    measured = make_demo["measure"](demo.DATA / entry["file"], test, CONTENTS["time_steps"])
    assert measured == entry["seeds"][0]


# ----- the command


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.entry_point(["demo"]) == 0
    said = capsys.readouterr().out
    assert "| SDT                 | 97.2 %       | 77.7 %       | -19.4  |" in said
    assert "| 10 right          | 8 right          |" in said
    assert "all 355 test recordings of digits (simulated),\nmeasured when the networks were made. The last" in said
    assert (
        "Without time steps SDT loses 19.4 points (3 seeds: 11.3 to 25.9), MTT 14.1 points (3 seeds: 4.2 to 14.1),"
        in said
    )
    out = tmp_path / "results" / "demo-001"
    assert imread(out / "demo.png").shape == imread(out / "demo_dark.png").shape == (2160, 1920, 4)
    # The command that it prints runs, and agrees with it.
    (command,) = re.findall(r"^  mtt-brian (.*)$", said, re.MULTILINE)
    assert cli.entry_point(command.split()) == 0
    assert "prediction 7" in capsys.readouterr().out


def test_the_predictions_of_the_figure_differ(runs):
    chosen = CONTENTS["figure"]
    shown = demo.figure_data(CONTENTS, RECORDINGS, runs)
    stepped, exact = (int(readout.argmax()) for readout in shown.readouts)
    assert stepped == shown.label != exact
    assert chosen["network"] == NETWORKS[0]


def test_the_membrane_of_the_figure_is_the_engines(runs):
    """The spikes that the figure counts by its own closed form, against the exact engine's."""
    chosen = CONTENTS["figure"]
    shown = demo.figure_data(CONTENTS, RECORDINGS, runs)
    number = [entry["file"] for entry in CONTENTS["recordings"]].index(chosen["recording"])
    both = (events.on_time_steps(RECORDINGS[number], CONTENTS["time_steps"], (2, 34, 34)), RECORDINGS[number])
    for side, recording in enumerate(both):
        result = mb.simulate(demo.DATA / chosen["network"], recording)
        train = result.spikes[result.circuit.populations[0].name]
        own = train.i == chosen["neuron"]
        trace = membrane_trace(shown.rule, shown.arrivals[side], shown.jumps)
        assert np.array_equal(trace.spike_t, train.t[own])
        assert np.array_equal(trace.spike_n, train.n[own])


@pytest.mark.slow
def test_without_torch_and_scikit_learn(tmp_path):
    without = WITHOUT_TORCH.replace('== "torch"', 'in ("torch", "sklearn", "tonic")')
    assert "sklearn" in without
    ended = subprocess.run(
        [sys.executable, "-c", without, "demo", "--out", str(tmp_path)], capture_output=True, text=True, cwd=ROOT
    )
    assert ended.returncode == 0, ended.stderr
    assert "Without time steps" in ended.stdout
