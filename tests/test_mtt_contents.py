"""Checkpoints of the right layout with wrong contents: one line that names the entry, and nothing is gone on with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtt_brian import mtt
from mtt_brian.errors import InputError
from mtt_brian.mtt import Checkpoint
from tests.test_mtt_fit import same_weights, small, synthetic, train

EPOCHS = 3
#: End of the name of some weights.
READOUT = "readout.weight"


@pytest.fixture(scope="module", params=["adamw", "sgd"])
def content(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the checkpoint of a run that was stopped after two of three epochs holds."""
    folder = tmp_path_factory.mktemp("run")
    config = small(epochs=EPOCHS, optimizer=request.param, validation=0.5, keep_best=True)
    kept: list[Checkpoint] = []
    save = Checkpoint.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "save", lambda self, path: (kept.append(copy.deepcopy(self)), save(self, path)))
        data = synthetic(8)
        mtt.fit(mtt.build_model(config, data), data, config, folder, synthetic(4, seed=1))
    kept[2].save(folder / "checkpoint.pt")
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def load(content: Any, folder: Path) -> Checkpoint:
    torch.save(content, folder / "checkpoint.pt")
    return mtt.checkpoint.load(folder)


def test_what_was_written_is_accepted(content: dict[str, Any], tmp_path: Path) -> None:
    assert load(content, tmp_path).epoch == 2
    assert mtt.load_model(tmp_path, "best").num_stages > 0


def spoilt(content: dict[str, Any], *path: Any, by: Any) -> dict[str, Any]:
    """The content with another value at a place, or with what a function makes of the value there."""
    content = copy.deepcopy(content)
    *parents, last = path
    place = content
    for key in parents:
        place = place[key]
    if last == READOUT:
        last = next(key for key in place if key.endswith(READOUT))
    place[last] = by(place[last]) if callable(by) else by
    return content


def without(content: dict[str, Any], *path: Any) -> dict[str, Any]:
    content = copy.deepcopy(content)
    *parents, last = path
    place = content
    for key in parents:
        place = place[key]
    del place[last]
    return content


WRONG: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "epoch, large": (("epoch",), 10**9, "epoch must be a whole number in 0..3, not 1000000000"),
    "epoch, negative": (("epoch",), -5, r"epoch must be a whole number in 0\.\.3, not -5"),
    "epoch, a truth value": (("epoch",), True, "epoch must be a whole number"),
    "epoch, a tensor": (("epoch",), torch.tensor(2), r"epoch must be .*, not a tensor of shape \(\)"),
    "epoch, without its history": (("epoch",), 3, "history must be a list of 3 dictionaries, one per epoch"),
    "config, a list": (("config",), [], r"config must be a dictionary, not \[\]"),
    "config, a key": (("config", "epoch"), 3, "config: unknown key 'epoch'; did you mean epochs"),
    "config, a value": (("config", "lr"), float("nan"), "config: lr must be finite"),
    "config, a contradiction": (("config", "validation"), 0.0, "keep_best needs validation"),
    "model, text": (("model_config",), "nmnist", "model_config must be a dictionary"),
    "model, unknown": (("model_config", "name"), "alexnet", "model_config: unknown model 'alexnet'"),
    "model, a number": (("model_config", "name"), 3, "model_config: unknown model 3"),
    "model, sensor": (("model_config", "sensor_size"), [2, "8", 8], "model_config: nmnist_3c1fc needs a sensor"),
    "model, huge": (("model_config", "sensor_size"), [2, 10**10, 10**10], "model_config: input_shape must be at most"),
    "model, width": (("model_config", "width_multiplier"), 1e300, "model_config: "),
    "model, neuron": (("model_config", "neuron", "threshold"), "1", "model_config: "),
    "model, neuron's type": (("model_config", "neuron", "type"), ["IF"], "model_config: "),
    "weights, a list": (("weights",), [1], "weights must be a dictionary"),
    "weights, one more": (("weights", "more"), torch.zeros(1), "weights do not fit the model .*: 'more' is in one"),
    "weights, shape": (("weights", READOUT), lambda w: w[:, 1:], "readout.weight must be a tensor of shape"),
    "weights, type": (("weights", READOUT), lambda w: w.half(), "and type float32 or float64, not float16"),
    "weights, NaN": (("weights", READOUT), lambda w: w * float("nan"), "readout.weight must be finite"),
    "weights, sparse": (("weights", READOUT), lambda w: w.to_sparse(), "readout.weight must be a tensor"),
    "weights, on no device": (("weights", READOUT), lambda w: w.to("meta"), "readout.weight must be a tensor"),
    "weights, a number": (("weights", READOUT), 1.0, "readout.weight must be a tensor of shape .*, not 1.0"),
    "best, text": (("best",), "best", "best must be a dictionary of tensors, not 'best'"),
    "best, NaN": (("best", READOUT), lambda w: w * float("inf"), "best do not fit .* must be finite"),
    "best, none": (("best",), None, "history, epoch 1: validation_accuracy must be there in all epochs if"),
    "history, short": (("history",), lambda h: h[1:], "history must be a list of 2 dictionaries"),
    "history, text": (("history",), "ab", "history must be a list of 2 dictionaries"),
    "history, rows": (("history",), [1, 2], "history must be a list of 2 dictionaries"),
    "history, NaN": (("history", 1, "loss"), float("nan"), r"history, epoch 2 must be finite numbers, not .*nan"),
    "history, missing": (("history", 0), {"epoch": 1}, "history, epoch 1 must be loss and accuracy"),
    "history, order": (("history", 0, "epoch"), 2, "history, epoch 1: epoch must be 1, not 2"),
    "history, a tensor": (("history", 0, "loss"), torch.zeros(2), "history: 'loss' must be a plain value"),
    "optimizer, empty": (("optimizer",), {}, "optimizer: param_groups must be"),
    "optimizer, text": (("optimizer",), "adam", "optimizer must be a dictionary"),
    "optimizer, no group": (("optimizer", "param_groups"), [], "optimizer: param_groups must be"),
    "optimizer, rate": (("optimizer", "param_groups", 0, "lr"), float("nan"), "optimizer: 'lr' must be 0.0025 after 2"),
    "optimizer, lr of another epoch": (("optimizer", "param_groups", 0, "lr"), 0.01, "optimizer: 'lr' must be 0.0025"),
    "scheduler, lr of another epoch": (("scheduler", "_last_lr"), [0.01], "scheduler: '_last_lr' must be 0.0025"),
    "optimizer, tensor": (("optimizer", "param_groups", 0, "lr"), torch.ones(3), "param_groups: 'lr' must be a plain"),
    "optimizer, decay": (("optimizer", "param_groups", 0, "weight_decay"), "0", "optimizer: 'weight_decay' must be"),
    "optimizer, params": (("optimizer", "param_groups", 0, "params"), [0], "optimizer: 'params' must be"),
    "optimizer, a flag": (("optimizer", "param_groups", 0, "maximize"), True, "optimizer: 'maximize' must be False"),
    "optimizer, state": (("optimizer", "state"), [], "optimizer: state must be a dictionary"),
    "optimizer, number": (("optimizer", "state", 99), {}, "state of parameter 99 must be one of"),
    "optimizer, key": (("optimizer", "state", "0"), {}, "state of parameter '0' must be one of"),
    "scheduler, empty": (("scheduler",), {}, "scheduler has no _last_lr"),
    "scheduler, epoch": (("scheduler", "last_epoch"), 10**9, "scheduler: 'last_epoch' must be 2"),
    "scheduler, end": (("scheduler", "T_max"), 0, "scheduler: 'T_max' must be 3, not 0"),
    "scheduler, rates": (("scheduler", "base_lrs"), [1.0, 2.0], "scheduler: 'base_lrs' must be"),
    "scheduler, last": (("scheduler", "_last_lr"), [], "scheduler: '_last_lr' must be a list of one number"),
    "scheduler, a method": (("scheduler", "step"), 1, "scheduler: 'step' must be a plain value under a known name"),
    "rng, empty": (("rng",), {}, "rng has no order"),
    "rng, order": (("rng", "order"), {"bit_generator": "MT19937"}, "rng: order is no state"),
    "rng, numbers": (("rng", "time_steps", "state"), {"state": -1, "inc": 1}, "rng: time_steps is no state"),
    "rng, torch's size": (("rng", "torch"), lambda state: state[:-1], "rng: torch is no state"),
    "rng, torch's type": (("rng", "torch"), torch.zeros(5056), "rng: torch is no state"),
    "rng, torch's content": (("rng", "torch"), lambda state: state * 0 + 255, "rng: torch is no state"),
    "rng, cuda": (("rng", "cuda"), [1], "rng: cuda must be a list of tensors of bytes"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "by", "message"), WRONG.values(), ids=WRONG)
def test_invalid_contents_are_refused(
    content: dict[str, Any], tmp_path: Path, path: tuple[Any, ...], by: Any, message: str
) -> None:
    with pytest.raises(InputError, match=rf"checkpoint\.pt: .*{message}|checkpoint\.pt: {message}") as refused:
        load(spoilt(content, *path, by=by), tmp_path)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 600


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every entry, at every depth."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield (*path, key)
        yield from places(entry, (*path, key))


EVIL: tuple[Any, ...] = (
    None, True, -1, 10**30, float("nan"), 1e300, "", "none", [], {}, [[]], {"a": 1}, {1: 2},
    torch.zeros(0), torch.ones(3, 3), torch.tensor(float("nan")), torch.zeros(2, dtype=torch.int64).to_sparse(),
)  # fmt: skip


def test_any_value_at_any_place_is_refused_or_can_be_gone_on_with(content: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = synthetic(8)
    go_on: Callable[..., Checkpoint] = mtt.fit
    everywhere = list(places({key: value for key, value in content.items() if key != "format"}))
    some = [everywhere[k] for k in rng.choice(len(everywhere), 40, replace=False)]
    refused = []
    for path in some:
        for number in (-1, *rng.choice(len(EVIL), 2, replace=False)):
            changed = without(content, *path) if number < 0 else spoilt(content, *path, by=EVIL[number])
            try:
                saved = load(changed, tmp_path)
                config = mtt.TrainConfig(**saved.config)
                go_on(mtt.build_model(config, data), data, config, tmp_path, synthetic(4, seed=1), saved)
            except InputError as error:
                refused.append(str(error))
    assert all(len(message.splitlines()) == 1 for message in refused)
    assert len(refused) > 0.6 * 3 * len(some)


def test_a_run_that_is_gone_on_with_is_the_uninterrupted_one(tmp_path: Path) -> None:
    """With checks in between: bit for bit."""
    whole = train(small(), tmp_path / "whole")
    first = mtt.checkpoint.load(tmp_path / "whole")
    assert same_weights(whole, first)
