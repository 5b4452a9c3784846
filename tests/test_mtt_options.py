"""Options of training besides the method: optimizers, losses, augmentation, precision, processes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtt_brian import events, export, mtt
from mtt_brian.errors import InputError
from mtt_brian.events import binning, make_recording
from mtt_brian.mtt import Augmentation, loop
from mtt_brian.mtt.optimizer import make_optimizer
from mtt_brian.snn import models
from tests.test_mtt_fit import EVENTS, Stop, same_weights, small, synthetic, train, without_seconds

NETWORK, WIDER = (models.nmnist_3c1fc(width_multiplier=width) for width in (0.05, 0.2))
FRAMES = torch.zeros(2, 1, 2, 34, 34)
SOME = events.load("digits", split="test")[:2]


class TestLoss:
    """Numbers one can do on paper: softmax of (ln 3, 0) is (3/4, 1/4)."""

    readouts = torch.tensor([[[math.log(3), 0.0]], [[0.0, 0.0]]])  # two steps, one recording, two classes
    labels = torch.tensor([0])

    def test_cross_entropy_is_that_of_the_mean_readout(self) -> None:
        p = math.sqrt(3) / (math.sqrt(3) + 1)
        assert mtt.cross_entropy(self.readouts, self.labels).item() == pytest.approx(-math.log(p))

    def test_tet_is_the_mean_of_the_steps_cross_entropies(self) -> None:
        expected = -(math.log(3 / 4) + math.log(1 / 2)) / 2
        assert mtt.TET()(self.readouts, self.labels).item() == pytest.approx(expected)

    def test_tet_pulls_readouts_to_the_threshold(self) -> None:
        per_step = -(math.log(3 / 4) + math.log(1 / 2)) / 2
        distance = ((math.log(3) - 1) ** 2 + 3 * 1) / 4
        found = mtt.TET(regulariser=0.2)(self.readouts, self.labels).item()
        assert found == pytest.approx(0.8 * per_step + 0.2 * distance)

    def test_steps_and_recordings_are_not_mixed_up(self) -> None:
        readouts = torch.zeros(2, 3, 2)
        readouts[:, torch.arange(3), torch.tensor([0, 1, 1])] = 50.0
        assert mtt.TET()(readouts, torch.tensor([0, 1, 1])).item() == pytest.approx(0, abs=1e-6)


class TestAugmentation:
    """One recording of 1 frame, channel, row and 4 columns."""

    line = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 1, 1, 4)

    def outcomes(self, change: Augmentation) -> set[tuple[int, ...]]:
        rng = np.random.default_rng(0)
        return {tuple(change(self.line, rng).flatten().tolist()) for _ in range(100)}

    def test_shift_loses_what_leaves(self) -> None:
        assert self.outcomes(Augmentation(shift=1)) == {(0, 1, 2, 3), (1, 2, 3, 0), (0, 0, 1, 2)}

    def test_roll_keeps_what_leaves(self) -> None:
        assert self.outcomes(Augmentation(roll=1)) == {(0, 1, 2, 3), (1, 2, 3, 0), (3, 0, 1, 2)}

    def test_flip_mirrors_every_second_time(self) -> None:
        assert self.outcomes(Augmentation(flip=True)) == {(0, 1, 2, 3), (3, 2, 1, 0)}
        many = Augmentation(flip=True)(self.line.expand(1000, -1, -1, -1, -1), np.random.default_rng(0))
        assert 440 < (many[..., 0] == 3).sum().item() < 560  # four standard deviations

    def test_random_changes_are_independent_within_a_batch(self) -> None:
        batch = Augmentation(roll=1)(self.line.expand(50, -1, -1, -1, -1), np.random.default_rng(0))
        assert len({tuple(item.flatten().tolist()) for item in batch}) == 3

    def test_nothing_changes_nothing(self) -> None:
        rng = np.random.default_rng(0)
        assert Augmentation()(self.line, rng) is self.line
        assert rng.integers(1000) == np.random.default_rng(0).integers(1000)


class TestBinning:
    """Processes and places do not change a count."""

    @pytest.mark.parametrize("in_memory", [binning.IN_MEMORY, 0])
    @pytest.mark.parametrize("workers", [0, 2])
    def test_where_and_by_whom(
        self, workers: int, in_memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(binning, "IN_MEMORY", in_memory)
        monkeypatch.setenv("MTT_BRIAN_CACHE", str(tmp_path))
        frames = binning.bin_recordings(synthetic(40), 5, workers)
        assert frames.dtype == np.uint8
        assert (frames.sum((1, 2, 3, 4)) == EVENTS).all()
        np.testing.assert_array_equal(frames, binning.bin_recordings(synthetic(40), 5))
        assert not any(tmp_path.iterdir()), "the file has no name"

    @pytest.mark.parametrize("workers", [0, 2])
    def test_one_crowded_bin_makes_all_frames_wider(self, workers: int) -> None:
        crowd = make_recording(np.zeros(300, dtype=int), 1, 2, 0)
        data = synthetic(3)
        data = replace(data, read=lambda identifier, read=data.read: crowd if identifier == "2" else read(identifier))
        frames = binning.bin_recordings(data, 1, workers)
        assert frames.dtype == np.int32
        assert frames[2, 0, 0, 2, 1] == 300
        assert frames[0].sum() == EVENTS

    def test_an_unreadable_recording_is_named_by_any_worker(self) -> None:
        data = replace(synthetic(20), read=lambda identifier: make_recording([0], 99))
        with pytest.raises(InputError, match=r"halves: 0: event 0 has x = 99"):
            binning.bin_recordings(data, 2, workers=2)


def test_downsampling_keeps_the_events() -> None:
    """8 pixels to 3: columns 0 1 2 go to 0, 3 4 5 to 1, 6 7 to 2."""
    data = replace(synthetic(1), read=lambda identifier: make_recording(range(8), range(8), range(8), 1))
    coarse = events.at_resolution(data, 3)
    assert coarse.sensor_size == (2, 3, 3)
    assert coarse[0]["x"].tolist() == coarse[0]["y"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert data[0]["x"].tolist() == list(range(8))
    with pytest.raises(InputError, match=r"must not exceed the sensor's 8 x 8"):
        events.at_resolution(data, 9)


def test_sgd_is_the_rule_with_momentum() -> None:
    """Two steps by hand: v = m v + g + wd w, w -= lr v."""
    weight = torch.nn.Linear(1, 1, bias=False)
    optimizer = make_optimizer(weight, small(optimizer="sgd", lr=0.1, momentum=0.5))
    weight.weight.data.fill_(1.0)
    w, v = 1.0, 0.0
    for gradient in (2.0, 4.0):
        weight.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
        v = 0.5 * v + gradient + 0.01 * w
        w -= 0.1 * v
        assert weight.weight.item() == pytest.approx(w)


OPTIONS = {
    "sgd": {"optimizer": "sgd", "lr": 0.1, "momentum": 0.8},
    "tet": {"loss": "tet", "tet_regulariser": 0.05},
    "amp": {"amp": True},
    "workers": {"workers": 2},
    "augmented": {"roll": 2, "flip": True},
    "norms": {"model": "vggsnn", "width_multiplier": 0.03, "calibration_batches": 2, "optimizer": "sgd"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_resume_is_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    config = small(epochs=2, **options)
    whole = train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        Stop(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "parts")
    kept = mtt.checkpoint.load(tmp_path / "parts")
    assert kept.epoch == 1
    resumed = train(config, tmp_path / "parts", kept)
    assert same_weights(whole, resumed)
    assert without_seconds(whole.history) == without_seconds(resumed.history)


def test_workers_do_not_change_the_result(tmp_path: Path) -> None:
    one, two = (train(small(epochs=1, workers=n), tmp_path / str(n)) for n in (0, 2))
    assert same_weights(one, two)


def test_amp_computes_in_bfloat16_and_keeps_membranes_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    data = synthetic(6)
    model = mtt.build_model(small(), data)
    frames, labels = mtt.load_frames(data, 4).batch(np.arange(6))
    seen: dict[str, torch.dtype] = {}
    for name, layer in model.layers():
        layer.register_forward_hook(lambda module, inputs, out, name=name: seen.__setitem__(name, out.dtype))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [p.clone() for p in model.parameters()]
    plain = mtt.train_iteration(model, optimizer, frames, labels, [(4, 4, 4)])
    assert set(seen.values()) == {torch.float32}
    for p, old in zip(model.parameters(), before, strict=True):
        p.data.copy_(old)
    mixed = mtt.train_iteration(model, optimizer, frames, labels, [(4, 4, 4)], mtt.StepOptions(amp=True))
    assert seen["conv1"] == seen["readout"] == torch.bfloat16
    assert seen["spikes1"] == seen["spikes3"] == torch.float32
    assert mixed.loss != plain.loss
    assert mixed.loss == pytest.approx(plain.loss, rel=0.05)
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)


def test_a_nan_stops_a_run_in_mixed_precision_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    iteration: Callable[..., Any] = mtt.train_iteration
    calls = iter(range(100))

    def poisoned(model: torch.nn.Module, *arguments: Any) -> Any:
        if next(calls) == 5:
            next(model.parameters()).data.fill_(float("inf"))
        return iteration(model, *arguments)

    monkeypatch.setattr(loop, "train_iteration", poisoned)
    with pytest.raises(mtt.Diverged, match=r"epoch 2, batch 2 of 4: the (loss is|gradient has norm) nan"):
        train(small(amp=True), tmp_path)
    kept = mtt.checkpoint.load(tmp_path)
    assert kept.epoch == 1
    assert all(torch.isfinite(weight).all() for weight in kept.weights.values())


def test_deterministic_algorithms_only(tmp_path: Path) -> None:
    try:
        train(small(epochs=1, deterministic=True), tmp_path)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_best_and_last_epoch_are_both_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation predictions are scripted: correct in epoch 1 only; without keep_best the last epoch counts."""
    right = np.eye(2)[np.arange(10) % 2]
    predicted = iter([right, 1 - right])
    with monkeypatch.context() as patch:
        patch.setattr(loop, "predict", lambda *arguments: next(predicted))
        done = train(small(epochs=2, validation=0.5), tmp_path, validation=synthetic(10, seed=1))
    last, best, final = (mtt.load_model(tmp_path, epoch).state_dict() for epoch in ("last", "best", "final"))
    name = "stages.0.conv1.weight"
    assert done.best is not None
    assert torch.equal(best[name], done.best[name])
    assert torch.equal(last[name], final[name])
    assert not torch.equal(last[name], best[name])


def test_no_best_epoch_without_validation(tmp_path: Path) -> None:
    train(small(epochs=1), tmp_path)
    with pytest.raises(InputError, match="no best epoch"):
        mtt.load_model(tmp_path, "best")


def test_settings_missing_in_an_old_checkpoint_are_the_defaults(tmp_path: Path) -> None:
    saved = train(small(epochs=1), tmp_path)
    new = {"optimizer", "amp", "phase", "width_multiplier"}
    config = {key: value for key, value in saved.config.items() if key not in new}
    model_config = {k: v for k, v in saved.model_config.items() if k not in {"norm", "bias", "width_multiplier"}}
    replace(saved, config=config, model_config=model_config).save(tmp_path / "checkpoint.pt")
    again = train(small(epochs=1), tmp_path, mtt.checkpoint.load(tmp_path))
    assert same_weights(saved, again)
    with pytest.raises(InputError, match="optimizer is 'adamw' in the checkpoint, 'sgd' here"):
        train(small(epochs=1, optimizer="sgd"), tmp_path, mtt.checkpoint.load(tmp_path))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"phase": "bias-removal"}, "needs init"),
        ({"tet_regulariser": 0.1}, "tet_regulariser needs loss = 'tet'"),
        ({"momentum": 1.0}, "momentum must be below 1"),
        ({"workers": -1}, "workers must be at least 0"),
    ],
)
def test_contradictions(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mtt.TrainConfig(**values)


def test_frames_are_batched_as_they_are() -> None:
    """Items 1 and 0 of two: time comes first, labels follow."""
    frames = torch.arange(2 * 3, dtype=torch.uint8).reshape(2, 3, 1, 1, 1)
    batch, labels = mtt.FrameSet(frames, torch.tensor([7, 8])).batch(np.array([1, 0]), partial(torch.mul, other=2))
    assert batch.flatten(1).tolist() == [[6, 0], [8, 2], [10, 4]]
    assert labels.tolist() == [8, 7]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "meta"}, "device 'meta' holds shapes without values"),
        ({"device": "cuda:4096"}, "device 'cuda:4096' cannot be used"),
        ({"device": ""}, "device '' cannot be used"),
        ({"device": "nowhere\n" * 100}, "device .* cannot be used"),
        ({"width_multiplier": 1000.0, "model": "vgg9"}, "needs at least .* GB to be trained, and this machine has"),
        ({"samples": 100_000, "batch_size": 28, "width_multiplier": 100.0}, "samples = 100000"),
        ({"time_steps": 100_000, "width_multiplier": 300.0, "method": "sdt"}, "time_steps = 100000"),
    ],
)
def test_what_no_machine_can_train_is_refused_at_once(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        train(small(**changes), tmp_path)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(("time_steps", "calibrated"), [(1, 0), (1, 1), (4, 0)])
def test_a_batch_norm_with_a_single_value_is_refused_at_the_start(
    tmp_path: Path, time_steps: int, calibrated: int
) -> None:
    """Behind the last pool of vgg9 the map of 8 x 8 pixels has one."""
    options = {"model": "vgg9", "width_multiplier": 0.05, "time_steps": time_steps, "calibration_batches": calibrated}
    with pytest.raises(InputError, match=r"batch_size = 1: one of the 28 recordings alone at T = 1 is too little"):
        train(small(batch_size=1, epochs=1, **options), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_rest_of_one_for_the_calibration_is_refused_at_once(tmp_path: Path) -> None:
    """28 recordings are two batches of 14 for the training, and 27 and 1 for the calibration."""
    options = {"model": "vgg9", "width_multiplier": 0.05, "time_steps": 1}
    with pytest.raises(InputError, match=r"batch_size = 27: one of the 28 recordings alone at T = 1 is too little"):
        train(small(batch_size=27, epochs=1, **options), tmp_path)


def test_one_recording_per_batch_trains_if_norms_have_several_values(tmp_path: Path) -> None:
    options = {"model": "vgg9", "width_multiplier": 0.05, "time_steps": 2, "min_steps": 2}
    assert train(small(batch_size=1, epochs=1, limit=4, **options), tmp_path).epoch == 1


def test_nothing_is_predicted_of_nothing() -> None:
    data = synthetic(2)
    with pytest.raises(InputError, match="nothing to predict"):
        mtt.predict(mtt.build_model(small(), data), data.subset([]), 4)


def test_more_workers_than_work_change_nothing() -> None:
    data = synthetic(3)
    assert np.array_equal(binning.bin_recordings(data, 2, workers=1000), binning.bin_recordings(data, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mtt.SDT(1.5), "time_steps must be a whole number, not 1.5"),
        (lambda: mtt.SDT("3"), "time_steps must be a whole number, not '3'"),
        (lambda: mtt.MTT(3.5), "max_steps must be a whole number, not 3.5"),
        (lambda: mtt.NMT(3, 1, True), "samples must be a whole number, not True"),
        (lambda: mtt.MTT(10**9), "max_steps must be at most 100000, not 1000000000"),
        (lambda: mtt.Augmentation(shift=-1), "Augmentation.shift must be at least 0, not -1"),
        (lambda: mtt.Augmentation(roll=1.5), "Augmentation.roll must be a whole number, not 1.5"),
        (lambda: mtt.Augmentation(flip="no"), "Augmentation.flip must be True or False, not 'no'"),
        (lambda: mtt.TET(-1), "TET.regulariser must be at least 0 and below 1, not -1"),
        (lambda: mtt.TET(float("nan")), "TET.regulariser must be at least 0 and below 1, not nan"),
        (lambda: mtt.TET("x"), "TET.regulariser must be a number, not 'x'"),
        (lambda: mtt.predict(None, SOME, 3), "model must be a staged network, .*, not None"),
        (lambda: mtt.predict(NETWORK, [SOME[0]], 3), "data must be Recordings or Images, .* or a FrameSet"),
        (lambda: mtt.predict(NETWORK, SOME, "3"), "time_steps must be a whole number, not '3'"),
        (lambda: mtt.predict(NETWORK, SOME, 3, 0), "batch_size must be at least 1, not 0"),
        (lambda: mtt.predict_each(NETWORK, SOME, []), "there is nothing to predict: no numbers of time steps"),
        (lambda: mtt.predict_each(NETWORK, SOME, 3), "numbers must be a list of numbers of time steps, not 3"),
        (lambda: mtt.predict_each(NETWORK, SOME, [3], workers=-1), "workers must be at least 0, not -1"),
        (lambda: mtt.load_frames([SOME[0]], 3), "data must be Recordings or Images, as events"),
        (lambda: NETWORK(FRAMES, 10**9), "the number of time steps must be at most 100000, not 1000000000"),
        (lambda: NETWORK(FRAMES, True), "the number of time steps must be a whole number, not True"),
        (lambda: NETWORK(FRAMES.numpy(), 3), "frames must be a tensor of real numbers"),
        (lambda: NETWORK(FRAMES.cfloat(), 3), "frames must be a tensor of real numbers"),
        (lambda: models.nmnist_3c1fc(width_multiplier=1e9), "width_multiplier must be at most 1000"),
        (lambda: models.nmnist_3c1fc(width_multiplier="x"), "width_multiplier must be a number, not 'x'"),
        (lambda: models.nmnist_3c1fc(surrogate="x"), "surrogate must be one of snn.surrogate, not 'x'"),
        (lambda: export.to_nir(None), "model must be a staged network"),
        (lambda: export.write("x.nir", None), "x.nir: only a nir"),
        (lambda: export.with_weights(export.to_nir(NETWORK), WIDER), "the graph has no node 'conv1' with 36 weights"),
    ],
)
def test_arguments_of_another_kind(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
