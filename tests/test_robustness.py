"""Gradient and landscape on a network one can compute by hand, and the study through its command line."""

import importlib
import json
import math

import numpy as np
import pytest
import torch
from matplotlib import image
from matplotlib.figure import Figure
from torch import nn

from mtt_brian import plotting
from mtt_brian.errors import InputError
from mtt_brian.evaluate import Estimate
from mtt_brian.experiments.perturbations import generator
from mtt_brian.mtt import loss_landscape
from mtt_brian.neuron import IF
from mtt_brian.snn import Spiking, Staged
from tests.test_gap_attribution import STUDIES


@pytest.fixture
def model():
    """One input -> one neuron that fires once per event of weight 1 -> readouts (2, 0) per spike."""
    first, last = nn.Linear(1, 1, bias=False), nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        first.weight.fill_(1.0)
        last.weight.copy_(torch.tensor([[2.0], [0.0]]))
    return Staged({"in": first, "spikes": Spiking(IF(threshold=1.0)), "out": last}, (1,)).eval()


def frames(*events):
    """[1, N, 1]: one time step."""
    return torch.tensor(events, dtype=torch.float32).reshape(1, -1, 1)


class TestGradient:
    def test_by_hand(self, model):
        # One spike: logits (2, 0). The readout's gradient is (p - 1, 1 - p) with p = sigmoid(2); through the
        # threshold, where the surrogate is 1, the first weight's is (p - 1) * 2.
        p = 1 / (1 + math.exp(-2))
        seen = loss_landscape.gradient(model, frames(1.0), np.array([0]))
        assert seen.loss == pytest.approx(-math.log(p))
        assert seen.norm == pytest.approx((1 - p) * math.sqrt(1 + 1 + 4))
        assert seen.relative == pytest.approx(seen.norm * math.sqrt(1 + 4))

    def test_is_the_mean_over_all_batches(self, model, monkeypatch):
        x, labels = frames(1.0, 0.0, 1.0, 1.0, 0.0), np.array([0, 1, 1, 0, 0])
        whole = loss_landscape.gradient(model, x, labels)
        monkeypatch.setattr(loss_landscape, "BATCH", 2)
        assert loss_landscape.gradient(model, x, labels) == pytest.approx(whole)
        assert all(weight.grad is None for weight in model.parameters())


class TestLandscape:
    def test_directions_are_as_long_as_the_filters(self):
        model = Staged(
            {"conv": nn.Conv2d(2, 3, 3), "spikes": Spiking(IF()), "flatten": nn.Flatten(), "out": nn.Linear(12, 5)},
            (2, 4, 4),
        )
        direction = loss_landscape.filter_normalised(model, np.random.default_rng(0))
        for weight, step in zip(model.parameters(), direction, strict=True):
            if weight.ndim == 1:
                assert not step.any()  # a bias
            else:
                assert torch.allclose(step.flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1))

    def test_loss_by_hand(self, model):
        # Along (0, (1, 0)) the readout grows: logits (2 + a, 0); along (1, 0) nothing changes until the neuron is mute.
        grow = [torch.zeros(1, 1), torch.tensor([[1.0], [0.0]])]
        mute = [torch.ones(1, 1), torch.zeros(2, 1)]
        points = np.array([[[0.0, 0.0], [-3.0, 0.0]], [[1.0, 0.5], [1.0, -0.5]]])
        before = [weight.clone() for weight in model.parameters()]
        seen = loss_landscape.landscape(model, frames(1.0), np.array([0]), [grow, mute], points)
        expected = [[math.log1p(math.exp(-2)), math.log1p(math.exp(1))], [math.log1p(math.exp(-3)), math.log(2)]]
        assert np.allclose(seen.loss, expected)
        assert seen.accuracy.tolist() == [[1, 0], [1, 1]]
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


class TestFigures:
    @pytest.fixture
    def ax(self):
        return Figure().subplots()

    def test_accuracy_against_levels(self, ax):
        points = [Estimate(0.9, 0.1), Estimate(0.5, float("nan"))]
        assert plotting.accuracy_against(["none", 0.5], points, label="sum", style=(1, 2), ax=ax) is ax
        (line,) = (container.lines[0] for container in ax.containers)
        assert line.get_xydata().tolist() == [[0, 0.9], [1, 0.5]]
        assert line.get_color() == plotting.COLORS[1]
        assert [label.get_text() for label in ax.get_xticklabels()] == ["none", "0.5"]

    def test_change_matrix_leaves_cells_empty(self, ax):
        plotting.change_matrix(["a", "b"], [[0.5, np.nan], [np.nan, 1]], ax=ax)
        assert [(text.get_position(), text.get_text()) for text in ax.texts] == [((0, 0), "50.0"), ((1, 1), "100.0")]

    def test_loss_line_is_the_mean_of_its_directions(self, ax):
        plotting.loss_line([0, 1], [[1, 2], [3, 4]], label="mtt", ax=ax)
        assert ax.lines[-1].get_ydata().tolist() == [2, 3]
        assert ax.get_yscale() == "log"

    def test_loss_surface(self, ax):
        plotting.loss_surface([-1, 0, 1], np.array([[3, 2, 3], [2, 1, 2], [3, 2, 3.0]]), [1.5, 2.5], ax=ax)
        assert ax.lines[0].get_xydata().tolist() == [[0, 0]]


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(STUDIES)
    return importlib.import_module("robustness")


def test_study(three_runs, study, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "SURFACE", np.linspace(-1, 1, 3))
    runs = [str(three_runs / "runs" / name) for name in ("sdt-0", "sdt-1", "mtt-0")]
    options = [*runs, "--limit", "3", "--draws", "1", "--out", str(tmp_path)]
    study.main(options)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["groups"] == {"sdt": ["sdt-0", "sdt-1"], "mtt": ["mtt-0"]}
    assert set(report["accuracy"]) == set(study.PERTURBATIONS)
    for name, curves in report["accuracy"].items():
        for by_mode in curves.values():
            assert list(by_mode) == list(study.PERTURBATIONS[name].modes)
            assert all(len(values) == 1 + len(study.PERTURBATIONS[name].levels) for values in by_mode.values())
            assert all(0 <= point["value"] <= 1 for values in by_mode.values() for point in values)
    for figure in ("robustness.png", "loss_lines.png", "loss_surfaces.png"):
        assert image.imread(tmp_path / figure).std() > 0.03
    text = (tmp_path / "report.md").read_text()
    assert "± nan" not in text
    assert "norm of the gradient" in text
    assert str(tmp_path) in capsys.readouterr().out

    # More draws: only the new ones are computed, and the old ones are kept.
    study.main([*options, "--draws", "2", "--only", "jitter"])
    again = json.loads((tmp_path / "report.json").read_text())
    before, now = ({str(key): value for *key, value in of["cells"]} for of in (report, again))
    drawn = {key for key in now if key.startswith("['jitter'")}
    assert len(drawn) == 3 * 5 * 2
    assert len(drawn & before.keys()) == 3 * 5
    assert all(now[key] == before[key] for key in drawn & before.keys())


def test_draws_are_the_same_for_all_runs():
    draws = [generator(what).random() for what in ("jitter 10, draw 0", "jitter 10, draw 0", "jitter 10, draw 1")]
    assert draws[0] == draws[1] != draws[2]


class TestBadInput:
    def test_options(self, study):
        with pytest.raises(InputError, match="--draws must be at least 1, not 0"):
            study.main(["--draws", "0"])
        with pytest.raises(SystemExit):
            study.main(["--only", "weather"])
