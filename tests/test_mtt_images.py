"""Training on still images: one normalised frame, the same at every time step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mtt_brian import events, export, mtt
from mtt_brian.errors import InputError
from mtt_brian.events import Images
from mtt_brian.experiments import run_folder
from mtt_brian.mtt import TrainConfig, fit

CONFIG = TrainConfig(
    model="resnet18",
    width_multiplier=0.125,
    neuron="lif",
    decay=0.5,
    reset="zero",
    spikes="one",
    lower_bound=None,
    surrogate="triangular",
    width=1.0,
    time_steps=3,
    samples=2,
    epochs=5,
    batch_size=8,
    shift=1,
    threads=1,
)


def pictures(count: int) -> Images:
    """Two classes: bright on the left or on the right; 1 channel of 8 x 8."""
    labels = np.arange(count) % 2
    pixels = np.random.default_rng(0).integers(0, 50, (count, 1, 8, 8))
    for label in (0, 1):
        pixels[labels == label, :, :, 4 * label : 4 * label + 4] += 200
    return Images(
        name="pictures",
        title="pictures",
        split="train",
        classes=["left", "right"],
        sensor_size=(1, 8, 8),
        ids=[str(i) for i in range(count)],
        labels=labels,
        pixels=pixels.astype(np.uint8),
        mean=(0.5,),
        std=(0.25,),
    )


def test_a_frame_is_the_normalised_image() -> None:
    """Pixel 255 is (1 - 0.5) / 0.25 = 2, pixel 0 is -2."""
    data = pictures(2)
    data.pixels[:] = 0
    data.pixels[1, 0, 2, 3] = 255
    frames, labels = mtt.load_frames(data, 10).batch(np.array([1, 0]))
    assert frames.shape == (1, 2, 1, 8, 8)
    assert frames[0, 0, 0, 2, 3].item() == pytest.approx(2)
    assert frames[0, 1].unique().tolist() == pytest.approx([-2])
    assert labels.tolist() == [1, 0]


def test_padding_is_black_and_not_grey() -> None:
    """A white image moved by one pixel: what comes in from outside is pixel 0, as in a crop of the padded image."""
    data = pictures(1)
    data.pixels[:] = 255
    change = mtt.Augmentation(shift=1)
    rng = np.random.default_rng(0)
    seen = {
        value
        for _ in range(20)
        for value in mtt.load_frames(data, 1).batch(np.array([0]), lambda x: change(x, rng))[0].unique().tolist()
    }
    assert seen == {-2.0, 2.0}


def test_the_same_image_at_every_step() -> None:
    model = mtt.build_model(CONFIG, pictures(4)).eval()
    frames, _ = mtt.load_frames(pictures(4), 3).batch(np.arange(4))
    assert torch.equal(model(frames, 3), model(frames.expand(3, -1, -1, -1, -1), 3))


def test_it_learns(tmp_path: Path) -> None:
    data = pictures(48)
    done = fit(mtt.build_model(CONFIG, data), data, CONFIG, tmp_path, validation=pictures(20))
    assert done.history[-1]["loss"] < 0.5 * done.history[0]["loss"]
    assert done.history[-1]["validation_accuracy"] > 0.9
    model = mtt.load_model(tmp_path)
    many, few = (mtt.predict(model, data, 5, batch_size=size) for size in (48, 7))
    assert many.shape == (48, 2)
    np.testing.assert_allclose(many, few, rtol=1e-4, atol=1e-5)


def test_a_run_leaves_a_nir_file_whose_steps_last_a_millisecond(tmp_path: Path) -> None:
    """A decay of 0.5 in a step of 1 ms is a time constant of 1 ms / ln 2."""
    data = pictures(8)
    config = TrainConfig(**CONFIG.as_dict() | {"epochs": 1})
    run_folder.train(mtt.build_model(config, data), config, run_folder.Splits(data, data[:0], data), tmp_path / "run")
    model = export.from_nir(tmp_path / "run" / "model.nir")
    assert next(iter(model.populations().values())).decay_per_step == 0.5
    graph = export.to_nir(mtt.load_model(tmp_path / "run"), time_steps=3, duration=3e-3)
    np.testing.assert_allclose(graph.nodes["spikes1"].tau, 1e-3 / np.log(2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decay": None, "tau": 0.01}, "tau: pictures has no seconds; give decay"),
        ({"model": "nmnist_3c1fc"}, r"nmnist_3c1fc needs a sensor of size \(2, height, width\), not \(1, 8, 8\)"),
    ],
)
def test_what_does_not_fit_images(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mtt.build_model(TrainConfig(**CONFIG.as_dict() | changes), pictures(2))


def test_images_cannot_be_downsampled() -> None:
    with pytest.raises(InputError, match="resolution: pictures has no events"):
        events.at_resolution(pictures(2), 4)


def test_no_images() -> None:
    with pytest.raises(InputError, match="pictures: no images"):
        mtt.load_frames(pictures(0), 1)


def test_a_still_image_cannot_run_event_driven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "load", lambda *arguments, **options: pictures(2))
    run = run_folder.Run("run", Path("run"), {"dataset": "pictures"})
    with pytest.raises(InputError, match=r"pictures are still images: they have no events.*recordings: digits, nmnist"):
        run_folder.recordings_for([run])
