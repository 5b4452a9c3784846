"""The training loop: several time-step configurations per iteration, one optimizer step.

Source: Du et al., "Temporal Flexibility in Spiking Neural Networks", ICLR 2025, section 4 and algorithm 1.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Iterator, Sequence, Sized
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mtt_brian.errors import Diverged, InputError
from mtt_brian.files import write_text
from mtt_brian.mtt import checkpoint as checkpoints
from mtt_brian.mtt.augment import Augmentation
from mtt_brian.mtt.build import check_computes
from mtt_brian.mtt.checkpoint import Checkpoint
from mtt_brian.mtt.config import TrainConfig
from mtt_brian.mtt.distributed.processes import ALONE, Processes, Replica, postponed
from mtt_brian.mtt.distributed.shared_batchnorm import shared_statistics
from mtt_brian.mtt.frame_dataset import Data, FrameSet, load_frames, predict
from mtt_brian.mtt.initialise import prepare
from mtt_brian.mtt.loss import TET, Loss, cross_entropy
from mtt_brian.mtt.optimizer import make_optimizer as _optimizer
from mtt_brian.mtt.optimizer import make_scheduler as _scheduler
from mtt_brian.mtt.samplers import Configuration
from mtt_brian.progress import progress_bar
from mtt_brian.snn import Staged, models, norm
from mtt_brian.snn.ops.memory_format import keep_freed_memory
from mtt_brian.text import one_line

#: Settings that a resumed run may change: they say where the data and the arithmetic are, not what is computed.
FREE_TO_CHANGE = ("data_root", "download", "init", "device", "threads", "workers", "together")


class Iteration(NamedTuple):
    """Means over the configurations of one training iteration, and over the batch of all processes."""

    loss: float
    accuracy: float


def train_iteration(
    model: Staged | Replica,
    optimizer: torch.optim.Optimizer,
    frames: Tensor,
    labels: Tensor,
    configurations: Sequence[Configuration],
    clip: float | None = None,
    loss: Loss = cross_entropy,
    amp: bool = False,
    processes: Processes = ALONE,
    batch_size: int | None = None,
    together: int | None = None,
) -> Iteration:
    """One optimizer step on the mean of the configurations' gradients.

    The configurations go through the network together: layers without time see the frames of all in one call, and the
    first ones see the input once for all. The gradients are **averaged**. The authors' code adds them; the paper
    leaves it open. With AdamW a constant factor changes nothing (beyond epsilon), but with the mean the loss, the
    gradient norm that ``clip`` bounds and the learning rate of any other optimizer mean the same for SDT (one
    configuration) and MTT (several).

    Args:
        model: the network, in training mode; a `Replica` if several processes share the batch.
        optimizer: of the model's parameters.
        frames: float32 [T, N, C, H, W].
        labels: int64 [N].
        configurations: time steps per stage, at least one.
        clip: largest norm of the averaged gradient.
        loss: of the readouts in float32.
        amp: automatic mixed precision: what torch deems fit, convolutions and linear layers above all, is computed in
            bfloat16, which needs no scaling of the loss; membranes and weights stay float32.
        processes: those that share the batch, each with the same configurations and its own frames and labels.
        batch_size: recordings of all processes; None: N, those of this one.
        together: so many configurations at a time share a pass forward and back. Fewer take more time, but less memory:
            that of one pass, however many there are. None: all.

    Returns:
        Loss and fraction of right answers before the step.

    Raises:
        Diverged: if a loss or the gradient is not finite; the step is not taken.
        KeyboardInterrupt: in all processes, if one of several was interrupted; the step is not taken.
    """
    share = len(labels) / (batch_size or len(labels))
    optimizer.zero_grad(set_to_none=True)
    total_loss = total_accuracy = 0.0
    count = len(configurations)
    at_once = together or count
    for begin in range(0, count, at_once):
        some = configurations[begin : begin + at_once]
        # One exchange of gradients is enough: with the last pass, when all are there.
        with nullcontext() if begin + len(some) == count else postponed(model):
            with torch.autocast(frames.device.type, torch.bfloat16, enabled=amp):
                each = model.readouts_of_each(frames, some)
            each = [readouts.to(torch.promote_types(readouts.dtype, torch.float32)) for readouts in each]
            losses = torch.stack([loss(readouts, labels) for readouts in each])
            right = torch.stack([readouts.detach().mean(0).argmax(1) == labels for readouts in each])
            found = torch.cat([losses.detach(), right.to(losses.dtype).mean(1)]).double()
            found_by_all = processes.sum(*(share * found).tolist())
            for configuration, value in zip(some, found_by_all, strict=False):
                if not math.isfinite(value):
                    raise Diverged(f"the loss is {value} with time steps {configuration}")
            # The processes' gradients are averaged, each as one of many; but their shares of the batch may differ.
            (losses.sum() * (share * processes.count) / count).backward()
        total_loss += sum(found_by_all[: len(some)]) / count
        total_accuracy += sum(found_by_all[len(some) :]) / count
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
    processes: Processes = ALONE,
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

    Several processes (`distributed.join`) train like a single one with the batch of all of them, up to rounding. Each
    has all the training recordings, but only a share of those for validation. The first process writes the files.

    Args:
        model: the network of `build_model`, on its device; `start.prepare` brings it to where the training starts.
        data: training recordings or images.
        config: the settings.
        run_dir: an existing folder.
        validation: recordings or images to log the accuracy on, at T_max.
        resume: go on from here; on a CPU the result equals that of an uninterrupted run bit for bit. The number of
            processes may be another one if the batch of all of them stays the same; then it does so up to rounding.
        processes: those that share the training; each calls this with the same arguments.

    Returns:
        The last checkpoint. ``model`` holds its `Checkpoint.final_weights`.

    Raises:
        InputError: if ``resume`` belongs to another model or config, or recordings are missing, or too few to share.
        Diverged: if loss or weights stop being finite; the last checkpoint stays.
        KeyboardInterrupt: the last checkpoint stays, the unfinished epoch is lost and repeated by a resumed run.
    """
    with processes.together():
        training, held_back = _begin(model, data, config, validation, resume, processes)
    device = next(model.parameters()).device
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
    else:
        last = resume
        model.load_state_dict(last.weights)
        optimizer.load_state_dict(last.optimizer)
        scheduler.load_state_dict(last.scheduler)
        _set_rng_state(generators, last.rng)
    if processes.first:
        _keep(last, Path(run_dir))  # before the first epoch, so that a run stopped within it can be resumed too

    trained, statistics = (model, nullcontext()) if processes.count == 1 else (Replica(model), shared_statistics(model))
    batches = _batches(training, config)
    bar = progress_bar(
        total=config.epochs * batches,
        initial=last.epoch * batches,
        unit="it",
        description="training",
        lines=config.epochs,
    )
    with bar, statistics:
        for epoch in range(last.epoch + 1, config.epochs + 1):
            bar.set_description(f"epoch {epoch}/{config.epochs}")
            started = time.perf_counter()
            model.train()
            mean_loss = accuracy = 0.0
            lr = optimizer.param_groups[0]["lr"]
            for number, index in enumerate(np.array_split(order_rng.permutation(len(training)), batches), start=1):
                changed = partial(augmentation, rng=processes.draws(order_rng, len(index)))
                frames, labels = training.batch(index[processes.share(len(index))], changed, device)
                configurations = sampler.sample(steps_rng, model.num_stages)
                try:
                    done = train_iteration(
                        trained,
                        optimizer,
                        frames,
                        labels,
                        configurations,
                        config.clip,
                        loss,
                        config.amp,
                        processes,
                        len(index),
                        config.together,
                    )
                except Diverged as error:
                    raise Diverged(f"epoch {epoch}, batch {number} of {batches}: {error}") from None
                mean_loss += done.loss * len(index) / len(training)
                accuracy += done.accuracy * len(index) / len(training)
                bar.set_postfix(loss=f"{done.loss:.3f}", accuracy=f"{done.accuracy:.2f}", refresh=False)
                bar.update()
            if calibrated:
                norm.recalibrate(model, _calibration(training, config, device, processes), config.time_steps)
            if not all(torch.isfinite(weight).all() for weight in model.state_dict().values()):
                raise Diverged(f"epoch {epoch}, batch {batches} of {batches}: the weights are no longer finite")
            scheduler.step()
            row: dict[str, Any] = {"epoch": epoch, "loss": mean_loss, "train_accuracy": accuracy}
            best = last.best
            if held_back is not None:
                right = predict(model, held_back, config.time_steps).argmax(1) == held_back.labels.numpy()
                right_of_all, count = processes.sum(int(np.count_nonzero(right)), len(right))
                row["validation_accuracy"] = right_of_all / count
                if _is_best(row, last.history):
                    best = _copy(model)
            row |= {"lr": lr, "seconds": time.perf_counter() - started}
            last = state(epoch, [*last.history, row], best)
            if processes.first:
                _keep(last, Path(run_dir))
    model.load_state_dict(last.final_weights)
    return last


def _begin(
    model: Staged,
    data: Data,
    config: TrainConfig,
    validation: Data | None,
    resume: Checkpoint | None,
    processes: Processes,
) -> tuple[FrameSet, FrameSet | None]:
    """Refuse what does not fit together, bring torch and the network to the start, and bin what this process needs."""
    processes.settle(config)
    check_computes(config.device)
    if config.keep_best and not validation:
        raise InputError("keep_best needs validation recordings: nothing else may select a model")
    if resume is not None:
        # rebuilt, so that options that did not exist when it was written have their defaults
        checkpoints.check_same("model", models.from_config(resume.model_config).config, model.config)
        checkpoints.check_same("config", _as_one(resume.config), _as_one(config.as_dict()), FREE_TO_CHANGE)
    _check_enough(len(data) // max(1, _batches(data, config)), "an iteration", config)
    _check_enough(len(validation or ()), "the validation", config)
    _settle_torch(config)
    prepare(model, config, resumed=resume is not None or not processes.first)  # a replica has the first one's weights
    for population in model.populations().values():
        population.compile_steps = config.compile
    frames_of = partial(load_frames, time_steps=config.time_steps, workers=config.workers)
    training = frames_of(data)
    if processes.count == 1:
        _check_norms(model, training, config)
    return training, frames_of(processes.part(validation)) if validation else None


def _check_norms(model: Staged, training: FrameSet, config: TrainConfig) -> None:
    """Refuse a batch of one item where a batch norm would see a single value: it has no variance."""
    if not norm.has_norms(model) or model.norms_locked:
        return
    smallest = {
        config.time_steps if config.method == "sdt" else config.min_steps: len(training) // _batches(training, config)
    }
    whole, rest = divmod(len(training), config.batch_size)
    if rest and whole < config.calibration_batches:
        smallest[config.time_steps] = min(rest, smallest.get(config.time_steps, rest))
    device = next(model.parameters()).device
    for time_steps in (steps for steps, items in smallest.items() if items == 1):
        frames, _ = training.batch(np.zeros(1, dtype=np.int64), device=device)
        try:
            with torch.no_grad(), torch.random.fork_rng():
                copy.deepcopy(model).train()(frames, time_steps)
        except ValueError as error:
            raise InputError(
                f"batch_size = {config.batch_size}: one of the {len(training)} recordings by itself at T = {time_steps}"
                f" is too little for the batch norms of the network ({one_line(error)})"
            ) from None


def _check_enough(items: int, of: str, config: TrainConfig) -> None:
    """Refuse what leaves a process without any work; nothing at all is another matter."""
    if 0 < items < config.processes:
        raise InputError(
            f"{of} with {items} of the recordings cannot be shared by {config.processes} processes; start fewer, or"
            f" raise batch_size = {config.batch_size}, limit or validation"
        )


def _settle_torch(config: TrainConfig) -> None:
    """What torch knows of the settings, and how memory is handled; it holds for the whole process."""
    keep_freed_memory()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or cuBLAS refuses to be deterministic
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def _batches(data: Sized, config: TrainConfig) -> int:
    """Iterations of an epoch."""
    return -(-len(data) // (config.batch_size * config.processes))


def _as_one(config: dict[str, Any]) -> dict[str, Any]:
    """The settings as of one process: any number of them computes the same from the same batch."""
    batch_size = config["batch_size"] * config["processes"]
    rest = {key: value for key, value in config.items() if key not in ("batch_size", "processes")}
    return {"batch_size x processes": batch_size, **rest}


def _calibration(
    training: FrameSet, config: TrainConfig, device: torch.device, processes: Processes
) -> Iterator[Tensor]:
    """Frames of this process's share of some of the training data, the same ones at every call."""
    some = np.random.default_rng(config.seed).permutation(len(training))
    size = config.batch_size * config.processes
    for start in range(0, len(training), size)[: config.calibration_batches]:
        index = some[start : start + size]
        # What is too little to share is seen by all of them: the same statistics, but for the number of items.
        share = processes.share(len(index)) if len(index) >= processes.count else slice(None)
        yield training.batch(index[share], device=device)[0]


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


def _keep(last: Checkpoint, run_dir: Path) -> None:
    last.save(run_dir / checkpoints.FILE_NAME)
    write_text(run_dir / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in last.history))
