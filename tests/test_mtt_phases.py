"""Batch norms in training: calibration after every epoch, and the way to a network without biases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtt_brian import export, mtt
from mtt_brian.errors import InputError
from mtt_brian.mtt import Checkpoint, TrainConfig, loop
from mtt_brian.snn import norm
from tests.test_mtt_fit import small, synthetic, train


def with_norms(**changes: Any) -> TrainConfig:
    values = {"model": "vggsnn", "width_multiplier": 0.03, "epochs": 1, "calibration_batches": 2}
    return small(**values | changes)


@pytest.fixture(scope="module")
def first_phase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("first")
    train(with_norms(method="sdt"), run)
    return run


def statistics(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in weights.items() if "running" in name}


def test_norms_are_measured_again_on_some_batches_at_t_max(tmp_path: Path) -> None:
    config = with_norms()
    done = train(config, tmp_path)
    data = synthetic(28)
    model = mtt.build_model(config, data)
    model.load_state_dict(done.weights)
    frames = mtt.load_frames(data, 4)
    order = np.random.default_rng(config.seed).permutation(28)
    batches = [frames.batch(order[:8])[0], frames.batch(order[8:16])[0]]
    norm.recalibrate(model, batches, 4)
    found = statistics(done.weights)
    assert len(found) == 2 * 8
    assert all(torch.equal(found[name], weight) for name, weight in statistics(model.state_dict()).items())
    # By hand: the input of the first norm is the first convolution of the events, its running mean is the mean of both
    # batches'.
    conv = dict(model.layers())["conv1"]
    by_hand = torch.stack([conv(batch.flatten(0, 1)).mean((0, 2, 3)) for batch in batches]).mean(0)
    torch.testing.assert_close(found["stages.0.norm1.running_mean"], by_hand, rtol=1e-4, atol=1e-6)


def test_calibration_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.norm, "recalibrate", lambda *arguments: pytest.fail("asked for"))
    done = train(with_norms(calibration_batches=0), tmp_path)
    assert done.weights["stages.0.norm1.num_batches_tracked"] == 4 * 2  # iterations times configurations


def test_a_run_starts_with_the_weights_of_another(first_phase: Path, tmp_path: Path) -> None:
    start = mtt.checkpoint.load(first_phase)
    done = train(with_norms(init=str(first_phase), lr=0.0, weight_decay=0.0), tmp_path)
    name = "stages.0.conv1.weight"
    assert torch.equal(done.weights[name], start.weights[name])


def second_phase(first: Path, run: Path, resume: Checkpoint | None = None, **changes: Any) -> Checkpoint:
    config = with_norms(phase="bias-removal", init=str(first), optimizer="sgd", lr=1e-2, epochs=2, **changes)
    return train(config, run, resume)


@pytest.mark.parametrize("method", ["sdt", "mtt"])
def test_bias_removal_trains_on_and_leaves_no_bias(first_phase: Path, tmp_path: Path, method: str) -> None:
    before = mtt.checkpoint.load(first_phase).weights
    done = second_phase(first_phase, tmp_path, method=method)
    for name, weight in done.weights.items():
        if name.endswith(("running_mean", ".bias")):
            assert not weight.any(), name
        if name.endswith("running_var"):
            assert torch.equal(weight, before[name]), name  # locked
    assert not torch.equal(done.weights["stages.0.conv1.weight"], before["stages.0.conv1.weight"])
    model = mtt.load_model(tmp_path)
    graph = export.to_nir(model)  # a bias would need time_steps and duration
    assert not any("norm" in name for name in graph.nodes)
    # w' = w * scale / sqrt(variance + eps)
    weights = done.weights
    scale = weights["stages.0.norm1.weight"] / (weights["stages.0.norm1.running_var"] + 1e-5).sqrt()
    expected = weights["stages.0.conv1.weight"] * scale[:, None, None, None]
    np.testing.assert_allclose(graph.nodes["conv1"].weight, expected.numpy(), rtol=1e-5)


def test_a_second_phase_resumes_without_the_first(first_phase: Path, tmp_path: Path) -> None:
    whole = second_phase(first_phase, tmp_path / "whole")
    again = second_phase(tmp_path / "gone", tmp_path / "whole", mtt.checkpoint.load(tmp_path / "whole"))
    assert all(torch.equal(whole.weights[name], weight) for name, weight in again.weights.items())


def test_nothing_to_remove(tmp_path: Path) -> None:
    train(small(epochs=1), tmp_path / "first")
    with pytest.raises(InputError, match="nmnist_3c1fc has neither batch norms nor biases"):
        train(small(epochs=1, phase="bias-removal", init=str(tmp_path / "first")), tmp_path / "second")


def test_weights_of_another_model(first_phase: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"init: the weights of .* do not fit nmnist_3c1fc"):
        train(small(epochs=1, init=str(first_phase)), tmp_path)


def test_a_start_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint at"):
        train(small(epochs=1, init=str(tmp_path / "nowhere")), tmp_path)
