"""The training loop: several time-step configurations per iteration, one optimizer step.

Source: Du et al., "Temporal Flexibility in Spiking Neural Networks", ICLR 2025, section 4 and algorithm 1.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from mtt_brian.errors import Diverged, InputError
from mtt_brian.files import write_text
from mtt_brian.mtt import checkpoint as checkpoints
from mtt_brian.mtt.augment import Augmentation
from mtt_brian.mtt.checkpoint import Checkpoint
from mtt_brian.mtt.config import TrainConfig
from mtt_brian.mtt.frames import Data, FrameSet, load_frames, predict
from mtt_brian.mtt.loss import TET, Loss, cross_entropy
from mtt_brian.mtt.samplers import Configuration
from mtt_brian.mtt.start import prepare
from mtt_brian.snn import Staged, models, norm

#: Settings that a resumed run may change: they say where the data and the arithmetic are, not what is computed.
FREE_TO_CHANGE = ("data_root", "download", "init", "device", "threads", "workers")


class Iteration(NamedTuple):
    """Means over the configurations of one training iteration."""

    loss: float
    accuracy: float


def train_iteration(
    model: Staged,
    optimizer: torch.optim.Optimizer,
    frames: Tensor,
    labels: Tensor,
    configurations: Sequence[Configuration],
    clip: float | None = None,
    loss: Loss = cross_entropy,
    amp: bool = False,
) -> Iteration:
    """One optimizer step on the mean of the configurations' gradients.

    Each configuration has its own forward and backward pass, and its graph is freed before the next one is built, so
    memory does not grow with their number. The gradients are **averaged**. The authors' code adds them; the paper
    leaves it open. With AdamW a constant factor changes nothing (beyond epsilon), but with the mean the loss, the
    gradient norm that ``clip`` bounds and the learning rate of any other optimizer mean the same for SDT (one
    configuration) and MTT (several).

    Args:
        model: the network, in training mode.
        optimizer: of the model's parameters.
        frames: float32 [T, N, C, H, W].
        labels: int64 [N].
        configurations: time steps per stage, one entry for each pass.
        clip: largest norm of the averaged gradient.
        loss: of the readouts in float32.
        amp: automatic mixed precision: what torch deems fit, convolutions and linear layers above all, is computed in
            bfloat16, which needs no scaling of the loss; membranes and weights stay float32.

    Returns:
        Loss and fraction of right answers before the step.

    Raises:
        Diverged: if a loss or the gradient is not finite; the step is not taken.
    """
    optimizer.zero_grad(set_to_none=True)
    total_loss = total_accuracy = 0.0
    for configuration in configurations:
        with torch.autocast(frames.device.type, torch.bfloat16, enabled=amp):
            readouts = model.readouts(frames, list(configuration))
        readouts = readouts.to(frames.dtype)
        value = loss(readouts, labels)
        if not torch.isfinite(value):
            raise Diverged(f"the loss is {value.item()} with time steps {configuration}")
        (value / len(configurations)).backward()
        total_loss += value.item() / len(configurations)
        right = readouts.detach().mean(0).argmax(1) == labels
        total_accuracy += right.float().mean().item() / len(configurations)
    norm = nn.utils.clip_grad_norm_(model.parameters(), float("inf") if clip is None else clip)
    if not torch.isfinite(norm):
        raise Diverged(f"the gradient has norm {norm.item()}")
    optimizer.step()
    return Iteration(total_loss, total_accuracy)


def fit(
    model: Staged,
    data: Data,
    config: TrainConfig,
    run_dir: str | Path,
    validation: Data | None = None,
    resume: Checkpoint | None = None,
) -> Checkpoint:
    """Train ``model`` in place and keep ``run_dir/checkpoint.pt`` and ``run_dir/metrics.jsonl`` up to date.

    Recordings are binned once at T_max. After every epoch the checkpoint is replaced and the metrics gain a line:
    ``{"epoch", "loss", "train_accuracy", "validation_accuracy" (if there are such recordings), "lr", "seconds"}``. Loss
    and training accuracy are means over the epoch as the weights change, augmentation and sampled time steps included.
    The result is that of the last epoch, or of the best validation epoch with ``config.keep_best``.

    Batch norms that are not locked are measured again at the end of every epoch (`norm.recalibrate`), at T_max on
    ``config.calibration_batches`` batches of training data, the same in all epochs and not augmented: the running
    statistics belong to no number of time steps, and whatever is validated, kept or exported needs better ones.

    Order and augmentation have one random number generator, the time steps another: SDT and MTT with one seed see the
    same recordings in the same order.

    Args:
        model: the network of `build_model`, on its device; `start.prepare` brings it to where the training starts.
        data: training recordings or images.
        config: the settings.
        run_dir: an existing folder.
        validation: recordings or images to log the accuracy on, at T_max.
        resume: go on from here; on a CPU the result equals that of an uninterrupted run bit for bit.

    Returns:
        The last checkpoint. ``model`` holds its `Checkpoint.final_weights`.

    Raises:
        InputError: if ``resume`` belongs to another model or config, or recordings are missing.
        Diverged: if loss or weights stop being finite; the last checkpoint stays.
        KeyboardInterrupt: the last checkpoint stays, the unfinished epoch is lost and repeated by a resumed run.
    """
    run_dir = Path(run_dir)
    if config.keep_best and not validation:
        raise InputError("keep_best needs validation recordings: nothing else may select a model")
    device = next(model.parameters()).device
    _settle_torch(config)
    prepare(model, config, resumed=resume is not None)
    for population in model.populations().values():
        population.compile_steps = config.compile
    frames_of = partial(load_frames, time_steps=config.time_steps, workers=config.workers)
    training, held_back = frames_of(data), frames_of(validation) if validation else None
    loss = TET(config.tet_regulariser) if config.loss == "tet" else cross_entropy
    augmentation = Augmentation(config.shift, config.roll, config.flip)
    calibrated = config.calibration_batches > 0 and norm.has_norms(model) and not model.norms_locked
    sampler = config.sampler()
    order_rng, steps_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(config.seed).spawn(2))
    generators = {"order": order_rng, "time_steps": steps_rng}
    optimizer = _optimizer(model, config)
    scheduler = _scheduler(optimizer, config)

    def state(epoch: int, history: list[dict[str, Any]], best: dict[str, Tensor] | None) -> Checkpoint:
        return Checkpoint(
            model_config=model.config,
            config=config.as_dict(),
            epoch=epoch,
            weights=_copy(model),
            best=best,
            optimizer=optimizer.state_dict(),
            scheduler=scheduler.state_dict(),
            rng=_rng_state(generators),
            history=history,
        )

    if resume is None:
        last = state(0, [], None)
        last.save(run_dir / checkpoints.FILE_NAME)  # so that a run stopped in its first epoch can be resumed too
    else:
        # rebuilt, so that options that did not exist when it was written have their defaults
        checkpoints.check_same("model", models.from_config(resume.model_config).config, model.config)
        checkpoints.check_same("config", resume.config, config.as_dict(), FREE_TO_CHANGE)
        last = resume
        model.load_state_dict(last.weights)
        optimizer.load_state_dict(last.optimizer)
        scheduler.load_state_dict(last.scheduler)
        _set_rng_state(generators, last.rng)
    _write_metrics(run_dir, last.history)

    batches = -(-len(training) // config.batch_size)
    bar = tqdm(total=config.epochs * batches, initial=last.epoch * batches, unit="it", desc="training")
    with bar:
        for epoch in range(last.epoch + 1, config.epochs + 1):
            bar.set_description(f"epoch {epoch}/{config.epochs}")
            started = time.perf_counter()
            model.train()
            mean_loss = accuracy = 0.0
            lr = optimizer.param_groups[0]["lr"]
            for number, index in enumerate(np.array_split(order_rng.permutation(len(training)), batches), start=1):
                frames, labels = training.batch(index, partial(augmentation, rng=order_rng), device)
                configurations = sampler.sample(steps_rng, model.num_stages)
                try:
                    done = train_iteration(
                        model, optimizer, frames, labels, configurations, config.clip, loss, config.amp
                    )
                except Diverged as error:
                    raise Diverged(f"epoch {epoch}, batch {number} of {batches}: {error}") from None
                mean_loss += done.loss * len(index) / len(training)
                accuracy += done.accuracy * len(index) / len(training)
                bar.set_postfix(loss=f"{done.loss:.3f}", accuracy=f"{done.accuracy:.2f}", refresh=False)
                bar.update()
            if calibrated:
                norm.recalibrate(model, _calibration(training, config, device), config.time_steps)
            if not all(torch.isfinite(weight).all() for weight in model.state_dict().values()):
                raise Diverged(f"epoch {epoch}, batch {batches} of {batches}: the weights are no longer finite")
            scheduler.step()
            row: dict[str, Any] = {"epoch": epoch, "loss": mean_loss, "train_accuracy": accuracy}
            best = last.best
            if held_back is not None:
                answers = predict(model, held_back, config.time_steps).argmax(1)
                row["validation_accuracy"] = float(np.mean(answers == held_back.labels.numpy()))
                if _is_best(row, last.history):
                    best = _copy(model)
            row |= {"lr": lr, "seconds": time.perf_counter() - started}
            last = state(epoch, [*last.history, row], best)
            last.save(run_dir / checkpoints.FILE_NAME)
            _write_metrics(run_dir, last.history)
    model.load_state_dict(last.final_weights)
    return last


def _settle_torch(config: TrainConfig) -> None:
    """What torch knows of the settings; it holds for the whole process."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or cuBLAS refuses to be deterministic
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay)
    return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)


def _scheduler(optimizer: torch.optim.Optimizer, config: TrainConfig) -> torch.optim.lr_scheduler.LRScheduler:
    if config.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.epochs)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _calibration(training: FrameSet, config: TrainConfig, device: torch.device) -> Iterator[Tensor]:
    """Frames of some of the training data, the same ones at every call."""
    some = np.random.default_rng(config.seed).permutation(len(training))
    for number in range(min(config.calibration_batches, -(-len(training) // config.batch_size))):
        yield training.batch(some[number * config.batch_size : (number + 1) * config.batch_size], device=device)[0]


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def _is_best(row: dict[str, Any], history: list[dict[str, Any]]) -> bool:
    """Whether no earlier epoch was better; the later of two equal ones counts."""
    return all(row["validation_accuracy"] >= earlier["validation_accuracy"] for earlier in history)


def _rng_state(generators: dict[str, np.random.Generator]) -> dict[str, Any]:
    """Every source of randomness: ours, and torch's own, which a model with dropout draws from."""
    return {
        **{name: generator.bit_generator.state for name, generator in generators.items()},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def _set_rng_state(generators: dict[str, np.random.Generator], state: dict[str, Any]) -> None:
    for name, generator in generators.items():
        generator.bit_generator.state = state[name]
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def _write_metrics(run_dir: Path, history: list[dict[str, Any]]) -> None:
    write_text(run_dir / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))
