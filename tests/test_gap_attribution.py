"""The event-driven gap: its arithmetic by hand, both sides of a network, and the study through its command line."""

import importlib
import json
from pathlib import Path

import nir
import numpy as np
import pytest
from matplotlib import image

from mtt_brian import evaluate, events, mtt, translate
from mtt_brian.errors import InputError
from mtt_brian.evaluate import factorial, gap_tables
from mtt_brian.experiments import gap, inference

STUDIES = Path(__file__).parents[1] / "studies"


class TestCombinations:
    def test_all_without_the_pairs_that_make_no_sense(self):
        assert factorial.combinations("abc", [("a", "b")]) == [
            (),
            ("a",),
            ("b",),
            ("c",),
            ("a", "c"),
            ("b", "c"),
        ]

    def test_names(self):
        assert factorial.cell_name("run", ()) == "run: time-stepped"
        assert factorial.cell_name("run", ("a", "b")) == "run: a + b"


@pytest.fixture
def cells():
    """Four recordings, two seeds, two changes: seed 0 gets 4, 2, 3 and 1 right, seed 1 gets 4, 3, 3 and 3."""
    right = {
        "0: time-stepped": "1111",
        "0: a": "1100",
        "0: b": "1110",
        "0: a + b": "1000",
        "1: time-stepped": "1111",
        "1: a": "0111",
        "1: b": "0111",
        "1: a + b": "0111",
    }
    spikes = {"spike_difference": {"layer": 0.5, "output": None}, "synops_per_recording": 110.0}
    cells = {name: {"right": bits, **spikes} for name, bits in right.items()}
    for seed in "01":
        cells[f"{seed}: time-stepped"]["synops_per_recording"] = 100.0
    return cells


def texts(table):
    return [[str(cell) for cell in row] for row in table.rows]


class TestEffect:
    def test_accuracy_over_seeds(self, cells):
        # 2/4 and 3/4: mean 5/8, standard deviation sqrt(2)/8, over sqrt(2) seeds 1/8.
        assert factorial.effect(cells, "01", [("a",)]) == pytest.approx((0.625, 0.125))

    def test_change_over_seeds(self, cells):
        assert factorial.effect(cells, "01", [("a",)], [()]) == pytest.approx((-0.375, 0.125))

    def test_one_seed_has_the_error_of_its_recordings(self, cells):
        accuracy = factorial.effect(cells, "1", [("a",)])
        assert accuracy == pytest.approx(evaluate.accuracy([0, 1, 1, 1], [1, 1, 1, 1]))
        # Both changes fail on the same recording: their difference has no error.
        assert factorial.effect(cells, "1", [("a",)], [("b",)]) == (0, 0)

    def test_beyond_the_sum(self, cells):
        # Seed 0: -3/4 together, -2/4 and -1/4 alone; seed 1: -1/4 together, -1/4 and -1/4 alone.
        table = gap_tables.pairs("two", {"sdt": "0", "mtt": "1"}, cells, [("a", "b")], "accuracy")
        assert texts(table) == [
            [
                "a + b",
                "25.0 ± 21.7",
                "-75.0 ± 21.7",
                "+0.0 ± 35.4",
                "75.0 ± 21.7",
                "-25.0 ± 21.7",
                "+25.0 ± 21.7",
            ]
        ]

    def test_gaps_of_rules(self, cells):
        table = gap_tables.gaps("gaps", {"sdt": "01"}, cells, [(), ("b",)], ["a", "c"], "accuracy")
        assert texts(table) == [
            ["time-stepped", "100.0 ± 0.0", "-37.5 ± 12.5", "-"],
            ["b", "75.0 ± 0.0", "-25.0 ± 25.0", "-"],
        ]

    def test_changes_and_spikes(self, cells):
        rows = {"all": ("a", "b"), "only b": ("b",)}
        table = gap_tables.changes("one", {"sdt": "01"}, cells, rows, ("a", "b"), "accuracy")
        assert texts(table) == [["all", "50.0 ± 25.0", "-", "110"], ["only b", "75.0 ± 0.0", "+25.0 ± 25.0", "110"]]
        # A single network has the sign test beside it: one recording more is right without "a".
        table = gap_tables.changes("one", {"sdt": "0"}, cells, {"only b": ("b",)}, ("a", "b"), "accuracy")
        assert texts(table) == [["only b", "75.0 ± 21.7", "+50.0 ± 25.0", "0", "2", "0.500", "110"]]
        spikes = gap_tables.spikes("spikes", {"sdt": "01"}, cells, [("a",)])
        assert texts(spikes) == [["a", "50.0", "-", "+10.0"]]


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(STUDIES)
    return importlib.import_module("gap_attribution")


@pytest.fixture
def bounds_study(monkeypatch):
    monkeypatch.syspath_prepend(STUDIES)
    return importlib.import_module("lower_bounds")


class TestModes:
    @pytest.fixture
    def graph(self, three_runs):
        return nir.read(three_runs / "runs" / "mtt-0" / "model.nir", type_check=False)

    @pytest.fixture
    def recordings(self, three_runs):
        return events.load("nmnist", root=three_runs / "data", split="test")

    @pytest.mark.parametrize("batch_size", [None, 3])
    def test_time_stepped_predictions_are_those_of_the_trained_network(self, batch_size, graph, three_runs, recordings):
        predicted = inference.predict_time_stepped(graph, recordings, 4, batch_size=batch_size)
        logits = mtt.predict(mtt.load_model(three_runs / "runs" / "mtt-0"), recordings, 4)
        assert np.allclose(predicted.readouts, 4 * logits, atol=1e-4)
        assert predicted.counts["input"].sum() == 300 * len(recordings)
        circuit = translate.read_nir(graph)
        assert predicted.synops == pytest.approx(evaluate.synops(predicted.counts, circuit.fan_out))

    def test_event_driven_predictions_are_those_of_the_engine(self, graph, recordings):
        for order in ("sum", "fifo"):
            predicted = inference.predict(graph, recordings, order, 4)
            same = evaluate.predict_event_driven(translate.read_nir(graph), recordings, order)
            assert np.array_equal(predicted.readouts, same.readouts)

    def test_frames_can_be_changed(self, graph, recordings):
        silent = inference.predict_time_stepped(graph, recordings, 4, lambda frames: 0 * frames)
        assert not silent.readouts.any()
        assert not silent.synops.any()

    @pytest.mark.parametrize("run", [inference.predict, inference.readout_traces])
    def test_unknown_mode(self, run, graph, recordings):
        with pytest.raises(InputError, match="mode must be one of 'time-stepped', 'sum', 'fifo', not 'far'"):
            run(graph, recordings, "far", 4)


def test_study(three_runs, study, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    names = ["sdt-0", "sdt-1", "mtt-0"]
    options = [*(str(three_runs / "runs" / name) for name in names), "--limit", "3", "--out", str(out)]
    study.main(options)
    report = json.loads((out / "report.json").read_text())
    assert report["groups"] == {"sdt": names[:2], "mtt": names[2:]}
    assert len(report["changes"]) == 3 * 20
    for name in names:
        trained = report["changes"][f"{name}: time-stepped"]
        assert len(trained["right"]) == report["n_recordings"] == 3
        assert set(trained["spike_difference"].values()) == {0}
        fifo = report["changes"][f"{name}: fifo"]
        assert set(fifo["spike_difference"]) == {"spikes1", "spikes2", "spikes3", "output"}
    text = (out / "report.md").read_text()
    for row in ("instants + no bound", "fifo + no bound + 8 bit (the target)", "time-stepped"):
        assert row in text
    assert "± nan" not in text
    for name in ("changes.png", "pairs.png"):
        assert image.imread(out / name).std() > 0.05
    assert str(out) in capsys.readouterr().out

    # The same folder again: nothing is computed.
    monkeypatch.setattr(gap.GapEvaluator, "evaluate", None)
    study.main(options)
    again = json.loads((out / "report.json").read_text())
    assert again["changes"] == report["changes"]


def test_other_bounds_in_training(three_runs, bounds_study, tmp_path):
    run = str(three_runs / "runs" / "mtt-0")
    options = ["--limit", "3", "--bounds", "none", "-1", "--validation", "0.5", "--out", str(tmp_path)]
    bounds_study.main([run, *options])
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["bounds"]) == ["mtt-0: none", "mtt-0: -1"]
    cell = report["bounds"]["mtt-0: none"]
    assert set(cell) == {"validation", "test"}
    assert cell["test"]["sum"] == cell["test"]["sum, bound removed"]
    config = json.loads((tmp_path / "runs" / "mtt-0-bound-none" / "config.json").read_text())
    assert (config["lower_bound"], config["validation"], config["seed"], config["method"]) == (None, 0.5, 0, "mtt")
    assert image.imread(tmp_path / "bounds.png").std() > 0.05
    text = (tmp_path / "report.md").read_text()
    assert "Accuracy in %, validation" in text
    assert [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| -1")] == 2 * [
        "-1",
        "-1, bound removed",
    ]


class TestBadInput:
    def test_options(self, three_runs, study, bounds_study, tmp_path):
        run = str(three_runs / "runs" / "sdt-0")
        with pytest.raises(InputError, match="--limit must be at least 1, not 0"):
            study.main([run, "--limit", "0"])
        with pytest.raises(InputError, match="no such run folder"):
            study.main([str(tmp_path / "nowhere")])
        with pytest.raises(SystemExit):
            bounds_study.main([run, "--bounds", "low"])

    def test_results_of_another_network_are_refused(self, three_runs, study, tmp_path):
        study.main([str(three_runs / "runs" / "sdt-0"), "--limit", "2", "--out", str(tmp_path)])
        with pytest.raises(InputError, match="models was"):
            study.main([str(three_runs / "runs" / "sdt-1"), "--limit", "2", "--out", str(tmp_path)])
