"""The training loop: several time-step configurations per iteration, one optimizer step.

Source: Du et al., "Temporal Flexibility in Spiking Neural Networks", ICLR 2025, section 4 and algorithm 1.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from mtt_brian.errors import InputError
from mtt_brian.events import Recordings
from mtt_brian.files import replacing
from mtt_brian.mtt import checkpoint as checkpoints
from mtt_brian.mtt.checkpoint import Checkpoint
from mtt_brian.mtt.config import TrainConfig
from mtt_brian.mtt.frames import bin_recordings, predict
from mtt_brian.mtt.samplers import Configuration
from mtt_brian.snn import Staged

#: Settings that a resumed run may change: they say where the data and the arithmetic are, not what is computed.
FREE_TO_CHANGE = ("data_root", "download", "device", "threads")


class Diverged(RuntimeError):
    """The loss or the weights are no longer finite; the message says at which epoch and batch."""


class Iteration(NamedTuple):
    """Means over the configurations of one training iteration."""

    loss: float
    accuracy: float


def train_iteration(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    frames: torch.Tensor,
    labels: torch.Tensor,
    configurations: Sequence[Configuration],
    clip: float | None = None,
) -> Iteration:
    """One optimizer step on the mean of the configurations' gradients.

    Each configuration has its own forward and backward pass, and its graph is freed before the next one is built, so
    memory does not grow with their number. The gradients are **averaged**. The authors' code adds them; the paper
    leaves it open. With AdamW a constant factor changes nothing (beyond epsilon), but with the mean the loss, the
    gradient norm that ``clip`` bounds and the learning rate of any other optimizer mean the same for SDT (one
    configuration) and MTT (several).

    Args:
        model: ``model(frames, time_steps)`` gives logits [N, classes], the time mean of the readout.
        optimizer: of the model's parameters.
        frames: float32 [T, N, C, H, W].
        labels: int64 [N].
        configurations: time steps per stage, one entry for each pass.
        clip: largest norm of the averaged gradient.

    Returns:
        Cross entropy and fraction of right answers before the step.

    Raises:
        Diverged: if a loss or the gradient is not finite; the step is not taken.
    """
    optimizer.zero_grad(set_to_none=True)
    total_loss = total_accuracy = 0.0
    for configuration in configurations:
        logits = model(frames, list(configuration))
        loss = functional.cross_entropy(logits, labels)
        if not torch.isfinite(loss):
            raise Diverged(f"the loss is {loss.item()} with time steps {configuration}")
        (loss / len(configurations)).backward()
        total_loss += loss.item() / len(configurations)
        total_accuracy += (logits.argmax(1) == labels).float().mean().item() / len(configurations)
    norm = nn.utils.clip_grad_norm_(model.parameters(), float("inf") if clip is None else clip)
    if not torch.isfinite(norm):
        raise Diverged(f"the gradient has norm {norm.item()}")
    optimizer.step()
    return Iteration(total_loss, total_accuracy)


def fit(
    model: Staged,
    recordings: Recordings,
    config: TrainConfig,
    run_dir: str | Path,
    validation: Recordings | None = None,
    resume: Checkpoint | None = None,
) -> Checkpoint:
    """Train ``model`` in place and keep ``run_dir/checkpoint.pt`` and ``run_dir/metrics.jsonl`` up to date.

    The recordings are binned once at T_max. After every epoch the checkpoint is replaced and the metrics gain a line:
    ``{"epoch", "loss", "train_accuracy", "validation_accuracy" (if there are such recordings), "lr", "seconds"}``. Loss
    and training accuracy are means over the epoch as the weights change, augmentation and sampled time steps included.
    The result is that of the last epoch, or of the best validation epoch with ``config.keep_best``.

    Order and augmentation have one random number generator, the time steps another: SDT and MTT with one seed see the
    same recordings in the same order.

    Args:
        model: the network, initialised, on its device.
        recordings: training recordings.
        config: the settings.
        run_dir: an existing folder.
        validation: recordings to log the accuracy on, at T_max.
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
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    data = bin_recordings(recordings, config.time_steps)
    sampler = config.sampler()
    order_rng, steps_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(config.seed).spawn(2))
    generators = {"order": order_rng, "time_steps": steps_rng}
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    scheduler = _scheduler(optimizer, config)

    def state(epoch: int, history: list[dict[str, Any]], best: dict[str, torch.Tensor] | None) -> Checkpoint:
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
        checkpoints.check_same("model", resume.model_config, model.config)
        checkpoints.check_same("config", resume.config, config.as_dict(), FREE_TO_CHANGE)
        last = resume
        model.load_state_dict(last.weights)
        optimizer.load_state_dict(last.optimizer)
        scheduler.load_state_dict(last.scheduler)
        _set_rng_state(generators, last.rng)
    _write_metrics(run_dir, last.history)

    batches = -(-len(data) // config.batch_size)
    bar = tqdm(total=config.epochs * batches, initial=last.epoch * batches, unit="it", desc="training")
    with bar:
        for epoch in range(last.epoch + 1, config.epochs + 1):
            bar.set_description(f"epoch {epoch}/{config.epochs}")
            started = time.perf_counter()
            model.train()
            loss = accuracy = 0.0
            lr = optimizer.param_groups[0]["lr"]
            for number, index in enumerate(np.array_split(order_rng.permutation(len(data)), batches), start=1):
                frames, labels = data.batch(index, config.shift, order_rng)
                configurations = sampler.sample(steps_rng, model.num_stages)
                try:
                    done = train_iteration(
                        model, optimizer, frames.to(device), labels.to(device), configurations, config.clip
                    )
                except Diverged as error:
                    raise Diverged(f"epoch {epoch}, batch {number} of {batches}: {error}") from None
                loss += done.loss * len(index) / len(data)
                accuracy += done.accuracy * len(index) / len(data)
                bar.set_postfix(loss=f"{done.loss:.3f}", accuracy=f"{done.accuracy:.2f}", refresh=False)
                bar.update()
            if not all(torch.isfinite(weight).all() for weight in model.state_dict().values()):
                raise Diverged(f"epoch {epoch}, batch {batches} of {batches}: the weights are no longer finite")
            scheduler.step()
            row: dict[str, Any] = {"epoch": epoch, "loss": loss, "train_accuracy": accuracy}
            if validation:
                answers = predict(model, validation, config.time_steps).argmax(1)
                row["validation_accuracy"] = float(np.mean(answers == np.asarray(validation.labels)))
            row |= {"lr": lr, "seconds": time.perf_counter() - started}
            best = last.best
            if config.keep_best and _is_best(row, last.history):
                best = _copy(model)
            last = state(epoch, [*last.history, row], best)
            last.save(run_dir / checkpoints.FILE_NAME)
            _write_metrics(run_dir, last.history)
    model.load_state_dict(last.final_weights)
    return last


def _scheduler(optimizer: torch.optim.Optimizer, config: TrainConfig) -> torch.optim.lr_scheduler.LRScheduler:
    if config.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.epochs)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _copy(model: nn.Module) -> dict[str, torch.Tensor]:
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
    with replacing(run_dir / "metrics.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in history), encoding="utf-8")
