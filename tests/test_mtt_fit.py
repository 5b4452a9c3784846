"""The training loop and its checkpoints, on a task small enough to learn in a second."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtt_brian import mtt
from mtt_brian.errors import InputError
from mtt_brian.events import Recordings, make_recording
from mtt_brian.mtt import Checkpoint, TrainConfig, fit, loop
from mtt_brian.mtt.iteration import Batch

SENSOR = (2, 8, 8)
EVENTS = 600


def test_the_folder_of_a_training_is_created(tmp_path: Path) -> None:
    data, config = synthetic(4), small(epochs=1)
    fit(mtt.build_model(config, data), data, config, tmp_path / "new" / "run")
    assert mtt.checkpoint.load(tmp_path / "new" / "run").epoch == 1


def synthetic(count: int, seed: int = 0) -> Recordings:
    """Two classes: events of the left or of the right half of the sensor."""

    def read(identifier: str) -> np.ndarray:
        number = int(identifier)
        rng = np.random.default_rng([seed, number])
        x = rng.integers(0, 4, EVENTS) + 4 * (number % 2)
        t = np.sort(rng.integers(0, 1000, EVENTS))
        return make_recording(t, x, rng.integers(0, 8, EVENTS), rng.integers(0, 2, EVENTS))

    return Recordings(
        name="halves",
        title="halves",
        split="train",
        classes=["left", "right"],
        sensor_size=SENSOR,
        duration_us=1000,
        ids=[str(i) for i in range(count)],
        labels=np.arange(count) % 2,
        read=read,
    )


def small(**changes: Any) -> TrainConfig:
    values = {"epochs": 3, "batch_size": 8, "time_steps": 4, "samples": 2, "shift": 1, "threads": 1, "seed": 3}
    return TrainConfig(**values | changes)


def train(config: TrainConfig, run: Path, resume: Checkpoint | None = None, **more: Any) -> Checkpoint:
    run.mkdir(exist_ok=True)
    data = synthetic(28)
    return fit(mtt.build_model(config, data), data, config, run, resume=resume, **more)


def augmented(data: mtt.FrameSet, change: mtt.Augmentation, rng: np.random.Generator) -> torch.Tensor:
    """The first recording's only frame [H, W], changed."""
    return data.batch(np.array([0]), partial(change, rng=rng))[0][0, 0, 0]


def same_weights(a: Checkpoint, b: Checkpoint) -> bool:
    return a.weights.keys() == b.weights.keys() and all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)


def test_a_checkpoint_can_be_continued_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training changed the moments of the checkpoint that it continued, and of its own earlier ones."""
    config, kept = small(), []
    save = loop.Trainer.save
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "save", lambda trainer, folder: (kept.append(trainer.last), save(trainer, folder)))
        whole = train(config, tmp_path / "whole")
    for number, resume in enumerate([kept[1], kept[1], kept[2]]):
        assert same_weights(train(config, tmp_path / str(number), resume), whole)


def without_seconds(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


class TestIteration:
    """One optimizer step from several configurations."""

    config = small()

    def setup_method(self) -> None:
        data = synthetic(6)
        self.model = mtt.build_model(self.config, data)
        self.frames, self.labels = mtt.load_frames(data, 4).batch(np.arange(6))

    def gradient(self, configurations: list[tuple[int, ...]], **options: Any) -> list[torch.Tensor]:
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.0)
        step = mtt.StepOptions(**options)
        mtt.train_iteration(self.model, optimizer, self.frames, self.labels, configurations, step)
        return [p.grad.clone() for p in self.model.parameters() if p.grad is not None]

    def test_gradients_are_the_mean_over_configurations(self) -> None:
        single = [self.gradient([c]) for c in [(4, 2, 1), (1, 3, 3)]]
        both = self.gradient([(4, 2, 1), (1, 3, 3)])
        assert any((g != 0).any() for g in both)
        for a, b, mean in zip(*single, both, strict=True):
            torch.testing.assert_close(mean, (a + b) / 2)

    @pytest.mark.parametrize("together", [1, 2, 3, 4])
    def test_fewer_configurations_together_make_the_same_step(self, together: int) -> None:
        configurations = [(4, 2, 1), (1, 3, 3), (2, 2, 4)]
        self.model.double()
        of_all = self.gradient(configurations)
        for a, b in zip(self.gradient(configurations, together=together), of_all, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)

    def test_one_step_per_iteration(self) -> None:
        before = [p.clone() for p in self.model.parameters()]
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
        mtt.train_iteration(self.model, optimizer, self.frames, self.labels, [(4, 4, 4), (2, 2, 2)])
        for old, p in zip(before, self.model.parameters(), strict=True):
            assert p.grad is not None
            torch.testing.assert_close(p, old - 0.5 * p.grad)

    def test_the_next_batch_is_prepared_before_the_host_waits(self) -> None:
        """On a GPU all passes are launched by then, and the step follows the check."""
        order = []

        class Waited(Batch):
            def means(self, values: torch.Tensor) -> list[float]:
                order.append("wait")
                return super().means(values)

        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
        optimizer.register_step_pre_hook(lambda *_: order.append("step"))
        for parameter in self.model.parameters():
            parameter.register_post_accumulate_grad_hook(lambda _: order.append("gradient"))
        mtt.train_iteration(
            self.model,
            optimizer,
            self.frames,
            self.labels,
            [(4, 4, 4)],
            mtt.StepOptions(),
            Waited(),
            lambda: order.append("prepare"),
        )
        weights = len(list(self.model.parameters()))
        assert order == ["gradient"] * weights + ["prepare", "wait", "step"]

    def test_clip_bounds_the_norm_of_the_mean_gradient(self) -> None:
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.0)
        mtt.train_iteration(
            self.model, optimizer, self.frames, self.labels, [(4, 4, 4)] * 3, mtt.StepOptions(clip=1e-3)
        )
        norm = torch.cat([p.grad.ravel() for p in self.model.parameters() if p.grad is not None]).norm()
        assert norm.item() == pytest.approx(1e-3, rel=1e-3)


class TestFrames:
    """Binned recordings, batches and the random shift."""

    def test_counts_are_kept(self) -> None:
        data = mtt.load_frames(synthetic(3), 5)
        assert data.frames.shape == (3, 5, *SENSOR)
        assert data.frames.dtype == torch.uint8
        assert data.frames.sum().item() == 3 * EVENTS

    def test_more_than_255_events_in_a_bin(self) -> None:
        crowd = make_recording(np.zeros(300, dtype=int), 1, 2, 0)
        data = mtt.load_frames(replace(synthetic(2), read=lambda identifier: crowd), 1)
        assert data.frames[0, 0, 0, 2, 1].item() == 300

    def test_a_shift_moves_without_wrapping(self) -> None:
        """A full sensor, moved by (dy, dx), keeps (8 - |dy|)(8 - |dx|) pixels; all of 5 x 5 shifts turn up."""
        ones = mtt.FrameSet(torch.ones(1, 1, 1, 8, 8, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
        rng = np.random.default_rng(0)
        seen = set()
        for _ in range(400):
            image = augmented(ones, mtt.Augmentation(shift=2), rng)
            rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
            assert image.sum().item() == len(rows) * len(columns)
            dy, dx = (int(k[0]) if k[0] else int(k[-1]) - 7 for k in (rows, columns))
            assert (len(rows), len(columns)) == (8 - abs(dy), 8 - abs(dx))
            seen.add((dy, dx))
        assert seen == {(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)}

    def test_a_one_dimensional_sensor_is_shifted_along_its_only_direction(self) -> None:
        line = mtt.FrameSet(torch.ones(1, 1, 1, 1, 8, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
        rng = np.random.default_rng(0)
        kept = {int(augmented(line, mtt.Augmentation(shift=2), rng).sum()) for _ in range(100)}
        assert kept == {6, 7, 8}

    def test_predict_bins_again_and_does_not_depend_on_the_batch(self) -> None:
        data = synthetic(5)
        model = mtt.build_model(small(), data)
        one, many = mtt.predict(model, data, 7, batch_size=1), mtt.predict(model, data, 7, batch_size=4)
        assert one.shape == (5, 2)
        np.testing.assert_allclose(one, many, rtol=1e-5)
        assert model.training

    def test_no_recordings(self) -> None:
        with pytest.raises(InputError, match="halves: no recordings"):
            mtt.load_frames(synthetic(0), 2)


def test_it_learns_and_logs(tmp_path: Path) -> None:
    done = train(small(epochs=12, lr=0.01), tmp_path, validation=synthetic(20, seed=1))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == done.history
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert rows[-1].keys() == {"epoch", "loss", "train_accuracy", "validation_accuracy", "lr", "seconds"}
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["validation_accuracy"] > 0.9
    assert rows[0]["lr"] == 0.01
    assert rows[-1]["lr"] < 0.001


def test_sdt_equals_mtt_without_a_range(tmp_path: Path) -> None:
    one_epoch = {"epochs": 1, "time_steps": 4, "min_steps": 4, "samples": 1}
    sdt = train(small(method="sdt", **one_epoch), tmp_path / "sdt")
    mixed = train(small(method="mtt", **one_epoch), tmp_path / "mtt")
    assert same_weights(sdt, mixed)
    assert without_seconds(sdt.history) == without_seconds(mixed.history)


def test_the_result_depends_on_the_seed_only(tmp_path: Path) -> None:
    runs = [train(small(epochs=1, seed=s), tmp_path / str(i)) for i, s in enumerate((3, 3, 4))]
    assert same_weights(runs[0], runs[1])
    assert not same_weights(runs[0], runs[2])


class Stop:
    """Interrupts a run at the n-th iteration, as Ctrl-C does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.left = at
        self.original = mtt.train_iteration
        monkeypatch.setattr(loop, "train_iteration", self)

    def __call__(self, *arguments: Any) -> Any:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return self.original(*arguments)


@pytest.mark.parametrize(("method", "at"), [("mtt", 2), ("mtt", 7), ("sdt", 11)])
def test_resume_is_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, at: int) -> None:
    """28 recordings in batches of at most 8: 4 iterations per epoch; stopped in the middle of epoch 1, 2 or 3."""
    config = small(method=method)
    whole = train(config, tmp_path / "whole")
    assert len({row["loss"] for row in whole.history}) == 3  # it does learn
    with monkeypatch.context() as patch:
        Stop(patch, at)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "parts")
    torch.rand(5)  # whatever else draws random numbers in between
    kept = mtt.checkpoint.load(tmp_path / "parts")
    assert kept.epoch == at // 4
    resumed = train(config, tmp_path / "parts", kept)
    assert same_weights(whole, resumed)
    assert without_seconds(whole.history) == without_seconds(resumed.history)
    on_disk = mtt.checkpoint.load(tmp_path / "parts"), mtt.checkpoint.load(tmp_path / "whole")
    assert same_weights(*on_disk)
    assert len((tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()) == 3


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    done = train(small(epochs=1), tmp_path)
    again = train(small(epochs=1), tmp_path, mtt.checkpoint.load(tmp_path))
    assert same_weights(done, again)


def test_keep_best_ends_with_the_best_validation_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation predictions are scripted: correct in epoch 2 only."""
    validation = synthetic(10, seed=1)
    right = np.eye(2)[validation.labels]
    predicted = iter([1 - right, right, 1 - right])
    monkeypatch.setattr(loop, "predict", lambda *arguments: next(predicted))
    config = small(validation=0.5, keep_best=True)
    data = synthetic(28)
    model = mtt.build_model(config, data)
    done = fit(model, data, config, tmp_path, validation)
    assert [row["validation_accuracy"] for row in done.history] == [0, 1, 0]
    assert done.best is not None
    assert not torch.equal(done.best["stages.0.conv1.weight"], done.weights["stages.0.conv1.weight"])
    monkeypatch.undo()
    loaded = mtt.load_model(tmp_path)
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, done.best[name])
        assert torch.equal(weight, model.state_dict()[name])


def test_a_nan_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small()
    data = synthetic(28)
    model = mtt.build_model(config, data)
    iteration, calls = mtt.train_iteration, 0

    def poisoned(model: torch.nn.Module, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 7:
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))
        return iteration(model, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "train_iteration", poisoned)
    with pytest.raises(mtt.Diverged, match="epoch 2, batch 3 of 4: the loss is nan"):
        fit(model, data, config, tmp_path)
    kept = mtt.checkpoint.load(tmp_path)
    assert kept.epoch == 1
    assert all(torch.isfinite(weight).all() for weight in kept.weights.values())


def test_weights_spoilt_by_the_last_step_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    iteration = mtt.train_iteration

    def overflowing(model: torch.nn.Module, *arguments: Any) -> Any:
        done = iteration(model, *arguments)  # type: ignore[arg-type]
        with torch.no_grad():
            next(model.parameters()).fill_(float("inf"))
        return done

    monkeypatch.setattr(loop, "train_iteration", overflowing)
    with pytest.raises(mtt.Diverged, match="epoch 1, batch 1 of 1: the weights are no longer finite"):
        train(small(batch_size=28), tmp_path)
    assert mtt.checkpoint.load(tmp_path).epoch == 0


def test_means_that_overflow_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient of 1e25 is finite in float32, and its square is not: AdamW would never change the weight again."""
    clip = torch.nn.utils.clip_grad_norm_

    def huge(parameters: Any, *arguments: Any) -> torch.Tensor:
        parameters = list(parameters)
        parameters[0].grad.fill_(1e25)
        return clip(parameters[1:], *arguments)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", huge)
    with pytest.raises(mtt.Diverged, match="epoch 1, batch 1 of 1: the optimizer's means are no longer finite"):
        train(small(batch_size=28), tmp_path)
    assert mtt.checkpoint.load(tmp_path).epoch == 0


def test_a_checkpoint_with_a_huge_loss_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 2^63, and finite, so the training has not diverged."""
    iteration = mtt.train_iteration
    monkeypatch.setattr(loop, "train_iteration", lambda *arguments: iteration(*arguments)._replace(loss=1e30))
    train(small(epochs=1), tmp_path)
    assert mtt.checkpoint.load(tmp_path).history[0]["loss"] == pytest.approx(1e30)


@pytest.mark.parametrize(
    ("value", "finite"), [(1e38, True), (-1e38, True), (np.inf, False), (-np.inf, False), (np.nan, False)]
)
def test_one_number_that_is_not_finite_is_found(value: float, finite: bool) -> None:
    weights = [torch.ones(3, 4), torch.zeros((), dtype=torch.int64), torch.ones(7, dtype=torch.float64), torch.ones(())]
    assert loop._all_finite(weights)
    weights[0][1, 2] = value
    assert loop._all_finite(weights) is bool(np.isfinite(value))
    weights[0][1, 2] = 0
    weights[3].fill_(value)
    assert loop._all_finite(weights) is bool(np.isfinite(value))


def test_keep_best_without_validation_recordings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keep_best needs validation recordings"):
        train(small(validation=0.5, keep_best=True), tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    train(small(epochs=1), run)
    return run


class TestCheckpoint:
    """What a checkpoint refuses."""

    def test_it_is_read_without_running_code(self, run: Path) -> None:
        content = torch.load(run / "checkpoint.pt", weights_only=True)
        assert content["format"] == 1
        assert content["config"]["method"] == "mtt"

    def test_load_model_gives_the_trained_network(self, run: Path) -> None:
        model = mtt.load_model(run)
        assert not model.training
        saved = mtt.checkpoint.load(run / "checkpoint.pt").weights
        assert all(torch.equal(weight, saved[name]) for name, weight in model.state_dict().items())

    def test_another_config(self, run: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"another config: lr is 0\.01 in the checkpoint, 0\.5 here"):
            train(small(epochs=1, lr=0.5), tmp_path, mtt.checkpoint.load(run))

    def test_another_model(self, run: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"another model: neuron is .*'lower_bound': -1.0.* in the checkpoint"):
            train(small(epochs=1, lower_bound=None), tmp_path, mtt.checkpoint.load(run))

    def test_threads_may_change(self, run: Path, tmp_path: Path) -> None:
        train(small(epochs=1, threads=None, data_root="elsewhere"), tmp_path, mtt.checkpoint.load(run))

    def test_no_checkpoint(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"no checkpoint at .*checkpoint\.pt"):
            mtt.checkpoint.load(tmp_path)

    @pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
    def test_a_damaged_file(self, run: Path, tmp_path: Path, keep: float) -> None:
        content = (run / "checkpoint.pt").read_bytes()
        (tmp_path / "checkpoint.pt").write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
        with pytest.raises(InputError, match=r"checkpoint\.pt: not a checkpoint: damaged"):
            mtt.checkpoint.load(tmp_path)

    def test_a_pickle_that_would_run_code(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, (str(tmp_path / "ran"),)

        torch.save({"format": 1, "weights": Evil()}, tmp_path / "checkpoint.pt")
        with pytest.raises(InputError, match="more in it than tensors and plain values"):
            mtt.checkpoint.load(tmp_path)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"format": 99}, "format 99 cannot be read; expected 1"),
            ([1], "format None cannot be read"),
            ({"format": 1, "epoch": 2}, "checkpoint without best, config"),
        ],
    )
    def test_other_contents(self, tmp_path: Path, content: Any, message: str) -> None:
        torch.save(content, tmp_path / "checkpoint.pt")
        with pytest.raises(InputError, match=message):
            mtt.checkpoint.load(tmp_path)

    def test_weights_of_another_shape(self, run: Path, tmp_path: Path) -> None:
        saved = mtt.checkpoint.load(run)
        replace(saved, model_config=saved.model_config | {"num_classes": 5}).save(tmp_path / "checkpoint.pt")
        with pytest.raises(InputError, match="do not fit the model"):
            mtt.load_model(tmp_path)

    def test_a_failed_save_leaves_the_old_file(self, run: Path, tmp_path: Path) -> None:
        saved = mtt.checkpoint.load(run)
        saved.save(tmp_path / "checkpoint.pt")
        with pytest.raises(Exception, match=r"pickle|local object"):  # its words depend on the version of Python
            replace(saved, rng={"cannot be saved": lambda: None}).save(tmp_path / "checkpoint.pt")
        assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
        assert mtt.checkpoint.load(tmp_path).epoch == 1


def test_an_unknown_device(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="device 'gpu' cannot be used"):
        train(small(device="gpu"), tmp_path)
