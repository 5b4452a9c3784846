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
from mtt_brian.evaluate import factorial
from mtt_brian.experiments import inference

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
        assert factorial.cell_name("run", ()) == "run: as trained"
        assert factorial.cell_name("run", ("a", "b")) == "run: a + b"


@pytest.fixture
def cells():
    """Four recordings, two seeds, two changes: seed 0 gets 4, 2, 3 and 1 right, seed 1 gets 4, 3, 3 and 3."""
    right = {
        "0: as trained": "1111",
        "0: a": "1100",
        "0: b": "1110",
        "0: a + b": "1000",
        "1: as trained": "1111",
        "1: a": "0111",
        "1: b": "0111",
        "1: a + b": "0111",
    }
    spikes = {"spike_difference": {"layer": 0.5, "output": None}, "synops_per_recording": 110.0}
    cells = {name: {"right": bits, **spikes} for name, bits in right.items()}
    for seed in "01":
        cells[f"{seed}: as trained"]["synops_per_recording"] = 100.0
    return cells


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
        table = factorial.table_of_pairs({"sdt": "0", "mtt": "1"}, cells, [("a", "b")])
        assert [cell.strip() for cell in table.splitlines()[-1].split("|")[1:-1]] == [
            "a + b",
            "25.0 ± 21.7",
            "-75.0 ± 21.7",
            "+0.0 ± 35.4",
            "75.0 ± 21.7",
            "-25.0 ± 21.7",
            "+25.0 ± 21.7",
        ]

    def test_gaps_of_rules(self, cells):
        table = factorial.table_of_gaps({"sdt": "01"}, cells, [(), ("b",)], ["a"])
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
        assert rows == [["as trained", "100.0 ± 0.0", "-37.5 ± 12.5"], ["b", "75.0 ± 0.0", "-25.0 ± 25.0"]]

    def test_changes_and_spikes(self, cells):
        table = factorial.table_of_changes({"sdt": "01"}, cells, {"all": ("a", "b"), "only b": ("b",)}, ("a", "b"))
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
        assert rows == [["all", "50.0 ± 25.0", ""], ["only b", "75.0 ± 0.0", "+25.0 ± 25.0"]]
        spikes = factorial.table_of_spikes({"sdt": "01"}, cells, [("a",)])
        assert [cell.strip() for cell in spikes.splitlines()[-1].split("|")[1:-1]] == ["a", "50.0", "-", "+10.0"]


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(STUDIES)
    return importlib.import_module("gap_attribution")


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


def test_study(three_runs, study, tmp_path, capsys):
    out = tmp_path / "out"
    names = ["sdt-0", "sdt-1", "mtt-0"]
    options = [*(str(three_runs / "runs" / name) for name in names), "--limit", "3", "--out", str(out)]
    study.main(options)
    report = json.loads((out / "report.json").read_text())
    assert report["groups"] == {"sdt": names[:2], "mtt": names[2:]}
    assert len(report["changes"]) == 3 * 20
    for name in names:
        trained = report["changes"][f"{name}: as trained"]
        assert len(trained["right"]) == report["n_recordings"] == 3
        assert set(trained["spike_difference"].values()) == {0}
        fifo = report["changes"][f"{name}: fifo"]
        assert set(fifo["spike_difference"]) == {"spikes1", "spikes2", "spikes3", "output"}
    text = (out / "report.md").read_text()
    for row in ("instants + no bound", "fifo + no bound + 8 bit (the chip)", "as trained"):
        assert row in text
    assert "± nan" not in text
    for name in ("changes.png", "pairs.png"):
        assert image.imread(out / name).std() > 0.05
    assert str(out) in capsys.readouterr().out

    # The same folder again: nothing is computed, another bound is trained.
    study.main([*options, "--train-bounds", "none", "--validation", "0.5"])
    again = json.loads((out / "report.json").read_text())
    assert again["changes"] == report["changes"]
    assert len(again["trained_bounds"]) == 3
    cell = again["trained_bounds"]["mtt-0: None"]
    assert set(cell) == {"validation", "test"}
    assert cell["test"]["sum"] == cell["test"]["sum, bound removed"]
    config = json.loads((out / "runs" / "mtt-0-bound-none" / "config.json").read_text())
    assert (config["lower_bound"], config["validation"], config["seed"], config["method"]) == (None, 0.5, 0, "mtt")
    assert image.imread(out / "bounds.png").std() > 0.05
    assert "Trained with another lower bound: accuracy in %, validation" in (out / "report.md").read_text()


class TestBadInput:
    def test_options(self, three_runs, study, tmp_path):
        run = str(three_runs / "runs" / "sdt-0")
        with pytest.raises(InputError, match="--limit must be at least 1, not 0"):
            study.main([run, "--limit", "0"])
        with pytest.raises(InputError, match="no such run folder"):
            study.main([str(tmp_path / "nowhere")])
        with pytest.raises(SystemExit):
            study.main([run, "--train-bounds", "low"])

    def test_results_of_another_network_are_refused(self, three_runs, study, tmp_path):
        study.main([str(three_runs / "runs" / "sdt-0"), "--limit", "2", "--out", str(tmp_path)])
        with pytest.raises(InputError, match="models was"):
            study.main([str(three_runs / "runs" / "sdt-1"), "--limit", "2", "--out", str(tmp_path)])
