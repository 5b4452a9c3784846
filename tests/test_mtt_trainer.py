"""The parts of a training by themselves: `Trainer`, its augmentation, and norms over several processes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mtt_brian import mtt
from mtt_brian.errors import InputError
from mtt_brian.mtt.augment import Changes
from mtt_brian.mtt.distributed.shared_batchnorm import SharedBatchNorm1d, SharedBatchNorm2d, shared_norms
from mtt_brian.mtt.in_the_loop import FineTuning, LoopConfig, Outcome, frames_of
from mtt_brian.mtt.iteration import Iteration
from tests.test_mtt_fit import fit, same_weights, small, synthetic

PACKAGE = Path(mtt.__file__).parents[1]


def test_fit_is_the_epochs_of_a_trainer(tmp_path: Path) -> None:
    config, data, held_back = small(epochs=2, validation=0.2, shift=1), synthetic(28), synthetic(6, seed=1)
    whole = fit(mtt.build_model(config, data), data, config, tmp_path, held_back)
    trainer = mtt.Trainer.prepare(mtt.build_model(config, data), data, config, held_back)
    with trainer.running():
        trainer.run_epoch()
        assert trainer.last.epoch == 1
        trainer.run_epoch()
    assert same_weights(trainer.last, whole)
    assert trainer.validation is not None
    assert trainer.validate(trainer.validation) == whole.history[-1]["validation_accuracy"]
    (tmp_path / "steps").mkdir()
    trainer.save(tmp_path / "steps")
    assert same_weights(mtt.checkpoint.load(tmp_path / "steps"), whole)


def test_a_fine_tuning_goes_on_twice_from_one_state() -> None:
    data = synthetic(8)
    model = mtt.build_model(small(), data)

    def outcome(batch: list[np.ndarray], labels: torch.Tensor, done: float) -> Outcome:
        logits = model(frames_of(model, batch, 4, data.sensor_size), 4)
        return Outcome(functional.cross_entropy(logits, labels), logits)

    def tuning() -> FineTuning:
        return FineTuning(model, data, LoopConfig(epochs=2, batch_size=4, time_steps=4), outcome)

    whole = tuning()
    epochs = whole.epochs()
    next(epochs)
    state = whole.state()
    next(epochs)
    expected = copy.deepcopy(model.state_dict())
    for _ in range(2):
        again = tuning()
        again.go_on_from(state)
        next(again.epochs())
        assert all(torch.equal(expected[name], weight) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_training_needs_gradients(off: Any, tmp_path: Path) -> None:
    config, data = small(), synthetic(28)
    model = mtt.build_model(config, data)
    with off():
        made = mtt.build_model(config, data)
        with pytest.raises(InputError, match="training needs gradients"):
            fit(model, data, config, tmp_path)
        with pytest.raises(InputError, match="training needs gradients"):
            FineTuning(model, data, LoopConfig(), lambda *of_the_batch: Outcome(torch.zeros(()), torch.zeros(1)))
    if off is torch.inference_mode:
        with pytest.raises(InputError, match=r"the model was made in torch.inference_mode\(\) and cannot be trained"):
            fit(made, data, config, tmp_path)
    model.requires_grad_(False)
    with pytest.raises(InputError, match="no parameter of the model has requires_grad=True"):
        fit(model, data, config, tmp_path)
    assert not list(tmp_path.iterdir())


class Idle(mtt.Trainer):
    """Takes no steps."""

    def step(self, *of_the_batch: Any) -> Iteration:
        return Iteration(0.0, 0.0)


def changes_of(monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[dict[int, tuple[list[int], bool]]]:
    """For each of two epochs, what is drawn for every item."""
    config = small(epochs=2, shift=2, flip=True, calibration_batches=0, **options)
    data = synthetic(28)
    trainer = Idle.prepare(mtt.build_model(config, data), data, config)
    batches, seen = mtt.FrameSet.batches, []

    def watched(frames: mtt.FrameSet, indices: list[np.ndarray], changes: Changes, **options: Any) -> Iterator[Any]:
        seen.append({})
        for index in indices:
            mine = changes[index]
            assert mine.shifts is not None
            assert mine.mirrored is not None
            drawn = zip(mine.shifts.tolist(), mine.mirrored.tolist(), strict=True)
            seen[-1] |= dict(zip(index.tolist(), drawn, strict=True))
        return batches(frames, indices, changes, **options)

    monkeypatch.setattr(mtt.FrameSet, "batches", watched)
    with trainer.running():
        trainer.run_epoch()
        trainer.run_epoch()
    monkeypatch.undo()
    return seen


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler")  # no steps are taken
def test_augmentation_depends_on_seed_epoch_and_item_only(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = changes_of(monkeypatch, batch_size=8)
    assert len(first) == len(second) == 28
    assert [first, second] == changes_of(monkeypatch, batch_size=5, method="sdt")
    assert first != second
    assert first != changes_of(monkeypatch, batch_size=8, seed=7)[0]
    assert len({str(change) for change in first.values()}) > 10


def test_norms_over_several_processes_replace_the_norms_for_a_while() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12)))
    names, before = [name for name, _ in model.named_modules()], copy.deepcopy(model.state_dict())
    norm, inner = model[1], model[2][1]
    model(torch.randn(5, 2, 4, 4))
    kept = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    with shared_norms(model):
        assert isinstance(model[1], SharedBatchNorm2d)
        assert isinstance(model[2][1], SharedBatchNorm1d)
        assert [name for name, _ in model.named_modules()] == names
        assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == kept
        hooked: list[torch.Tensor] = []
        model[1].register_forward_hook(lambda module, inputs, out: hooked.append(out))
        model.eval()
        x = torch.randn(4, 2, 4, 4)
        shared = model(x)
        assert len(hooked) == 1
    assert (model[1], model[2][1]) == (norm, inner)
    assert not norm.training
    assert torch.equal(model(x), shared)
    assert not torch.equal(model.state_dict()["1.running_mean"], before["1.running_mean"])


def test_one_process_needs_no_other_norms() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3))
    with mtt.distributed.ALONE.replicated(model) as replica:  # type: ignore[arg-type]
        assert replica is model
        assert type(model[0]) is nn.BatchNorm1d


@pytest.mark.parametrize("name", ["keep_freed_memory", "mallopt"])
def test_only_commands_change_the_allocator(name: str) -> None:
    """That of their process, or of processes that they start."""
    users = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if name in path.read_text("utf-8")}
    users = {path.as_posix() for path in users if path.parts[0] != "cli"}
    assert users <= {"machine.py", "experiments/deep/training.py"}
