"""Training of networks that the caller built: resumed, frozen in part, in another precision, observed in a notebook."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mtt_brian import mtt
from mtt_brian.errors import InputError
from mtt_brian.mtt import loop
from mtt_brian.neuron import IF
from mtt_brian.snn import Spiking, Staged
from tests.test_mtt_fit import same_weights, small, synthetic

DATA = synthetic(8)


def own(features: int = 4) -> Staged:
    """With a norm, and with dropout, which draws from torch's generator."""
    torch.manual_seed(0)
    layers = {
        "conv": nn.Conv2d(2, features, 3, padding=1, bias=False),
        "norm": nn.BatchNorm2d(features),
        "spikes": Spiking(IF(spikes="many", lower_bound=-1.0)),
        "flatten": nn.Flatten(),
        "dropout": nn.Dropout(0.2),
        "readout": nn.Linear(64 * features, 2, bias=False),
    }
    return Staged(layers, (2, 8, 8))


def stopped(model: Staged, config: mtt.TrainConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> mtt.Checkpoint:
    """The checkpoint of a training that is stopped in its second epoch."""
    step = loop.Trainer.step

    def until_the_second(trainer: loop.Trainer, *arguments: Any) -> Any:
        if trainer.last.epoch:
            raise KeyboardInterrupt
        return step(trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "step", until_the_second)
        with pytest.raises(KeyboardInterrupt):
            mtt.fit(model, DATA, config, folder)
    return mtt.checkpoint.load(folder)


def test_data_with_more_classes_than_outputs(tmp_path: Path) -> None:
    more = replace(DATA, classes=["a", "b", "c"], labels=DATA.labels + 1)
    for data, validation, name in ((more, None, "data"), (DATA, more, "validation")):
        with pytest.raises(InputError, match=f"^{name}: halves has 3 classes, with labels up to 2, and the network"):
            mtt.fit(own(), data, small(), tmp_path, validation)
    assert not list(tmp_path.iterdir())


def test_weights_of_two_types(tmp_path: Path) -> None:
    model = own()
    dict(model.layers())["readout"].double()
    for function in (lambda: mtt.fit(model, DATA, small(), tmp_path), lambda: mtt.predict(model, DATA, 2)):
        with pytest.raises(InputError, match=r"^the weights are float32 and float64: call model\.float\(\) or"):
            function()


def test_weights_that_are_no_numbers_predict_nothing() -> None:
    """The largest of logits that are NaN is class 0."""
    model = own()
    nn.init.constant_(dict(model.layers())["readout"].weight[0], float("nan"))
    with pytest.raises(InputError, match=r"readout\.weight of the network holds NaN or infinite values"):
        mtt.predict(model, DATA, 2)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_it_is_resumed_bit_for_bit(optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(optimizer=optimizer)
    whole = mtt.fit(own(), DATA, config, tmp_path / "whole")
    resume = stopped(own(), config, tmp_path / "parts", monkeypatch)
    assert same_weights(mtt.fit(own(), DATA, config, tmp_path / "parts", resume=resume), whole)


def test_another_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small()
    resume = stopped(own(), config, tmp_path, monkeypatch)
    with pytest.raises(InputError, match=r"weights do not fit .*conv\.weight must be a tensor of shape \(5, 2, 3, 3\)"):
        mtt.fit(own(5), DATA, config, tmp_path, resume=resume)
    with pytest.raises(InputError, match="belongs to a network outside the zoo, not to nmnist_3c1fc"):
        mtt.fit(mtt.build_model(config, DATA), DATA, config, tmp_path, resume=resume)
    of_the_zoo = stopped(mtt.build_model(config, DATA), config, tmp_path / "zoo", monkeypatch)
    with pytest.raises(InputError, match="the checkpoint belongs to another model: "):
        mtt.fit(own(), DATA, config, tmp_path, resume=of_the_zoo)


def test_what_cannot_be_rebuilt_is_named(tmp_path: Path) -> None:
    model = own()
    mtt.fit(model, DATA, small(epochs=1), tmp_path)
    with pytest.raises(InputError, match=r"the network is outside the zoo, .* build it, and call model\.load_"):
        mtt.load_model(tmp_path)
    again = own()
    again.load_state_dict(mtt.checkpoint.load(tmp_path).final_weights)
    np.testing.assert_array_equal(mtt.predict(again, DATA, 4), mtt.predict(model, DATA, 4))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_frozen_weights_have_no_state(optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their checkpoint can be read and continued; not with weights that were frozen and are trained now."""
    config = small(optimizer=optimizer)

    def frozen() -> Staged:
        model = mtt.build_model(config, DATA)
        next(model.parameters()).requires_grad_(False)
        return model

    whole = mtt.fit(frozen(), DATA, config, tmp_path / "whole")
    resume = stopped(frozen(), config, tmp_path / "parts", monkeypatch)
    assert same_weights(mtt.fit(frozen(), DATA, config, tmp_path / "parts", resume=resume), whole)
    with pytest.raises(InputError, match=r"no state for stages\.0\.conv1\.weight, which is trained here"):
        mtt.fit(mtt.build_model(config, DATA), DATA, config, tmp_path / "parts", resume=resume)


def test_float64_stays_float64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small()
    model = mtt.build_model(config, DATA).double()
    resume = stopped(model, config, tmp_path, monkeypatch)
    again = mtt.load_model(tmp_path)
    assert all(torch.equal(weight, resume.weights[name]) for name, weight in again.state_dict().items())
    assert next(again.parameters()).dtype == torch.float64
    assert mtt.predict(again, DATA, 4).dtype == np.float64
    with pytest.raises(InputError, match=r"weights are float64, those of the network float32 .*to\(torch\.float64"):
        mtt.fit(mtt.build_model(config, DATA), DATA, config, tmp_path, resume=resume)
    assert mtt.fit(mtt.build_model(config, DATA).double(), DATA, config, tmp_path, resume=resume).epoch == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_refused(dtype: torch.dtype) -> None:
    model = own().to(dtype)
    with pytest.raises(InputError, match=r"the weights are (b?float16), and membranes need float32 or"):
        mtt.predict(model, DATA, 4)


def test_predictions_are_those_outside_of_autocast() -> None:
    model = own()
    expected = mtt.predict(model, DATA, 4)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(mtt.predict(model, DATA, 4), expected)


@pytest.mark.parametrize("fails", [False, True])
def test_predictions_change_no_mode(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A norm that the caller has frozen stays so, and a stopped prediction does not leave dropout turned off."""
    model = own().train()
    dict(model.layers())["norm"].eval()
    before = {name: module.training for name, module in model.named_modules()}
    if fails:

        def stop(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(nn.Flatten, "forward", stop)
        with pytest.raises(KeyboardInterrupt):
            mtt.predict(model, DATA, 4)
    else:
        mtt.predict(model, DATA, 4)
    assert {name: module.training for name, module in model.named_modules()} == before


def test_a_stopped_training_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a second call without ``resume``; a finished one, and one without a finished epoch, are."""
    config = small()
    resume = stopped(own(), config, tmp_path, monkeypatch)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(InputError, match="holds a training that was stopped after 1 of 3 epochs; continue it with res"):
        mtt.fit(own(), DATA, config, tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    mtt.fit(own(), DATA, config, tmp_path, resume=resume)
    mtt.fit(own(), DATA, small(epochs=1), tmp_path)
    assert mtt.checkpoint.load(tmp_path).epoch == 1
    (tmp_path / "checkpoint.pt").write_bytes(b"damaged")
    mtt.fit(own(), DATA, small(epochs=1), tmp_path)
