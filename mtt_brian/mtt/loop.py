"""The training loop: epochs, validation and checkpoints.

Source: Du et al., "Temporal Flexibility in Spiking Neural Networks", ICLR 2025, section 4 and algorithm 1.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtt_brian.errors import Diverged, InputError, check_kind
from mtt_brian.files import as_path, write_text
from mtt_brian.mtt import checkpoint as checkpoints
from mtt_brian.mtt.augment import Augmentation, Changes
from mtt_brian.mtt.build import check_computes
from mtt_brian.mtt.checkpoint import Checkpoint
from mtt_brian.mtt.checks import check_classes, check_gradients, check_norms, check_resume, check_sizes
from mtt_brian.mtt.config import TrainConfig
from mtt_brian.mtt.cuda_graphs import Graphs
from mtt_brian.mtt.distributed.processes import ALONE, Processes
from mtt_brian.mtt.frame_dataset import Data, FrameSet, check_data, load_frames
from mtt_brian.mtt.inference import predict
from mtt_brian.mtt.initialise import prepare
from mtt_brian.mtt.iteration import Batch, Iteration, StepOptions, Trainable, train_iteration
from mtt_brian.mtt.loss import TET, cross_entropy
from mtt_brian.mtt.optimizer import make_optimizer, make_scheduler
from mtt_brian.mtt.prefetch import Ahead
from mtt_brian.mtt.samplers import Configuration
from mtt_brian.progress import progress_bar
from mtt_brian.snn import Staged, norm
from mtt_brian.snn.staged import check_one_kind, check_staged

#: Children of the seed, one for each kind of random numbers.
_ORDER, _TIME_STEPS, _AUGMENTATION = range(3)
#: Frames, labels and time steps of an iteration.
Given = tuple[Tensor, Tensor, Sequence[Configuration]]


def fit(
    model: Staged,
    data: Data,
    config: TrainConfig,
    run_dir: str | Path,
    validation: Data | None = None,
    resume: Checkpoint | None = None,
    processes: Processes = ALONE,
) -> Checkpoint:
    """Trains ``model`` in place and updates ``run_dir/checkpoint.pt`` and ``run_dir/metrics.jsonl``.

    The folder is created if necessary.

    Recordings are binned once at T_max. After every epoch the checkpoint is replaced and the metrics gain a line:
    ``{"epoch", "loss", "train_accuracy", "validation_accuracy" (if there are such recordings), "lr", "seconds"}``. Loss
    and training accuracy are means over the epoch as the weights change, augmentation and sampled time steps included.
    The result is that of the last epoch, or of the best validation epoch with ``config.keep_best``.

    Batch norms that are not locked are measured again at the end of every epoch (`norm.recalibrate`), at T_max on
    ``config.calibration_batches`` batches of training data, the same in all epochs and not augmented: running
    statistics over mixed numbers of time steps are wrong for each single number, and validation and export need correct
    ones.

    The seed gives three independent streams of random numbers: order, time steps, and augmentation, which depends on
    seed, epoch and item only. SDT and MTT with one seed use the same recordings in the same order.

    Threads and deterministic algorithms are set for the whole process (``config.threads``, ``config.deterministic``).

    Several processes (`distributed.join`) train like a single one with the batch of all of them, up to rounding. Each
    has all the training recordings, but only a share of those for validation. The first process writes the files.

    Args:
        model: the network of `build_model`, on its device.
        data: training recordings or images.
        config: the settings.
        run_dir: the folder of the run. A finished training in it is replaced, a stopped one only by ``resume``.
        validation: recordings or images to log the accuracy on, at T_max.
        resume: checkpoint to continue from. On a CPU the result equals that of an uninterrupted run bit for bit. The
            number of processes may change if the total batch stays the same; then the results are equal up to rounding.
        processes: of the training; each calls this function with the same arguments.

    Returns:
        The last checkpoint. ``model`` holds its `Checkpoint.final_weights`.

    Raises:
        InputError: for arguments of other classes; if ``resume`` belongs to another model or config; if recordings are
            missing, or too few to share; without ``resume``, if the folder holds a stopped training.
        Diverged: if loss or weights are no longer finite; the last checkpoint is kept.
        KeyboardInterrupt: the last checkpoint is kept; a resumed run repeats the unfinished epoch.
    """
    folder = as_path(run_dir, "run_dir")
    with processes.together():
        if resume is None and processes.first:
            _check_no_stopped_run(folder)
        trainer = Trainer.prepare(model, data, config, validation, resume, processes)
        if processes.first:
            folder.mkdir(parents=True, exist_ok=True)
    trainer.save(folder)  # before the first epoch, so that a run stopped within it can be resumed too
    with trainer.running():
        while trainer.last.epoch < config.epochs:
            trainer.run_epoch()
            trainer.save(folder)
    model.load_state_dict(trainer.last.final_weights)
    return trainer.last


def _check_no_stopped_run(folder: Path) -> None:
    """Refuses to replace the checkpoint of a training that was stopped, as when a cell of a notebook is run again.

    Raises:
        InputError: names the folder and the finished epochs.
    """
    try:
        kept = checkpoints.load(folder)
    except InputError:  # there is none, or it cannot be continued
        return
    if 0 < kept.epoch < kept.config["epochs"]:
        raise InputError(
            f"{folder}: holds a training that was stopped after {kept.epoch} of {kept.config['epochs']} epochs; "
            "continue it with resume=mtt.checkpoint.load(run_dir), or name another folder"
        )


class Trainer:
    """A training in progress: the network, its optimizer and its random numbers, epoch by epoch.

    Args:
        model: trained in place, prepared as by `Trainer.prepare`.
        config: the settings.
        training: frames of the training items.
        validation: frames of this process's validation items; None: no validation.
        resume: the checkpoint to continue from.
        processes: of the training.

    Attributes:
        last: checkpoint of the last finished epoch.
    """

    trainable: Trainable
    bar: Any

    def __init__(
        self,
        model: Staged,
        config: TrainConfig,
        training: FrameSet,
        validation: FrameSet | None = None,
        resume: Checkpoint | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.model, self.config, self.training, self.validation = model, config, training, validation
        self.processes = processes
        self.options = StepOptions(
            loss=TET(config.tet_regulariser) if config.loss == "tet" else cross_entropy,
            clip=config.clip,
            amp=config.amp,
            together=config.together,
            graphs=self._graphs() if config.cuda_graph else None,
        )
        self.augmentation = Augmentation(config.shift, config.roll, config.flip)
        self.sampler = config.sampler()
        self.rng = {
            name: np.random.default_rng(_seed(config.seed, stream))
            for name, stream in (("order", _ORDER), ("time_steps", _TIME_STEPS))
        }
        self.optimizer = make_optimizer(model, config)
        self.scheduler = make_scheduler(self.optimizer, config.schedule, config.epochs)
        if resume is None:
            self.last = self._checkpoint(0, [], None)
        else:
            self.last = resume
            model.load_state_dict(resume.weights)
            self.optimizer.load_state_dict(copy.deepcopy(resume.optimizer))  # torch would change the given tensors
            self.scheduler.load_state_dict(resume.scheduler)
            checkpoints.set_rng_state(self.rng, resume.rng)

    @classmethod
    def prepare(
        cls,
        model: Staged,
        data: Data,
        config: TrainConfig,
        validation: Data | None = None,
        resume: Checkpoint | None = None,
        processes: Processes = ALONE,
    ) -> Trainer:
        """Checks settings, data and network, initialises torch and the network, and bins the recordings.

        Raises:
            InputError: see `fit`.
        """
        check_staged(model)
        check_kind("config", config, TrainConfig)
        check_data(data)
        if validation is not None:
            check_data(validation, name="validation")
        if resume is not None:
            check_kind("resume", resume, Checkpoint)
        processes.check(config.processes, config.device)
        check_computes(config.device)
        if resume is not None:
            check_resume(resume, model, config)
        check_sizes(data, validation, config)
        check_one_kind(model)
        for name, part in (("data", data), ("validation", validation)):
            if part is not None:
                check_classes(model, part, name)
        check_gradients(model)
        configure_torch(config.threads, deterministic=config.deterministic)
        # The weights of a checkpoint, and those of the first process in a replica, replace those of ``init``.
        prepare(model, config.phase, config.init if resume is None and processes.first else None)
        for population in model.populations().values():
            population.compile_steps = config.compile
        frames_of = partial(
            load_frames, time_steps=config.time_steps, workers=config.workers, cache=config.cache_frames
        )
        device = next(model.parameters()).device
        training = frames_of(data).to(device, config.frames_on)
        check_norms(model, training, config)
        held_back = frames_of(processes.part(validation)).to(device, config.frames_on) if validation else None
        return cls(model, config, training, held_back, resume, processes)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within the block, `run_epoch` can be called: the processes share the network, and a progress bar is shown."""
        batches = self.config.iterations(len(self.training))
        bar = progress_bar(
            total=self.config.epochs * batches,
            initial=self.last.epoch * batches,
            unit="it",
            description="training",
            lines=self.config.epochs,
        )
        with self.processes.replicated(self.model) as self.trainable, bar as self.bar:
            yield

    def run_epoch(self) -> None:
        """Trains for one epoch, measures the norms again, validates, and replaces `last`.

        Raises:
            Diverged: if loss, gradient or weights are not finite, with the epoch and the batch.
        """
        epoch = self.last.epoch + 1
        self.bar.set_description(f"epoch {epoch}/{self.config.epochs}")
        started = time.perf_counter()
        self.model.train()
        items = len(self.training)
        batches = self.config.iterations(items)
        loss = accuracy = 0.0
        lr = self.optimizer.param_groups[0]["lr"]
        indices = np.array_split(self.rng["order"].permutation(items), batches)
        shares = [self.processes.batch(len(index)) for index in indices]
        mine = [index[share.part] for index, share in zip(indices, shares, strict=True)]
        fed = Ahead(self._iterations(mine, epoch))
        done: Iteration | None = None

        def show() -> None:
            """The last iteration in the bar, once."""
            nonlocal done
            if done is not None:
                self.bar.set_postfix(loss=f"{done.loss:.3f}", accuracy=f"{done.accuracy:.2f}", refresh=False)
                self.bar.update()
            done = None

        def prepare() -> None:
            fed.prepare()
            show()

        # On a CPU nothing would run at the same time, and a second batch would need memory.
        meanwhile = prepare if self.training.device.type == "cuda" else None
        for number, (index, share, given) in enumerate(zip(indices, shares, fed, strict=True), start=1):
            try:
                done = self.step(*given, share, meanwhile)
            except Diverged as error:
                raise Diverged(f"epoch {epoch}, batch {number} of {batches}: {error}") from None
            loss += done.loss * len(index) / items
            accuracy += done.accuracy * len(index) / items
            if meanwhile is None:
                show()
        show()
        self.calibrate()
        if not _all_finite(self.model.state_dict().values()):
            raise Diverged(f"epoch {epoch}, batch {batches} of {batches}: the weights are no longer finite")
        # An infinite mean of squared gradients is no error anywhere, but its weight never changes again.
        if not _all_finite(_means_of(self.optimizer)):
            raise Diverged(f"epoch {epoch}, batch {batches} of {batches}: the optimizer's means are no longer finite")
        self.scheduler.step()
        row: dict[str, Any] = {"epoch": epoch, "loss": loss, "train_accuracy": accuracy}
        best = self.last.best
        if self.validation is not None:
            row["validation_accuracy"] = self.validate(self.validation)
            if _is_best(row, self.last.history):
                best = _copy(self.model)
        row |= {"lr": lr, "seconds": time.perf_counter() - started}
        self.last = self._checkpoint(epoch, [*self.last.history, row], best)

    def _iterations(self, indices: Sequence[np.ndarray], epoch: int) -> Iterator[Given]:
        """What the iterations of an epoch are given, made one after another."""
        for frames, labels in self.training.batches(indices, self._draw_changes(epoch), amp=self.config.amp):
            configurations = self.sampler.sample(self.rng["time_steps"], self.model.num_stages)
            if self.options.graphs is not None:
                self.options.graphs.prepare(self.model, len(frames), configurations)
            yield frames, labels, configurations

    def step(
        self,
        frames: Tensor,
        labels: Tensor,
        configurations: Sequence[Configuration],
        batch: Batch,
        meanwhile: Callable[[], None] | None = None,
    ) -> Iteration:
        """One optimizer step on this process's part of a batch, float32 [T, n, C, H, W] and int64 [n].

        Args:
            frames, labels: of the part.
            configurations: time steps per stage.
            batch: of all processes.
            meanwhile: see `train_iteration`.

        Raises:
            Diverged: see `train_iteration`.
        """
        return train_iteration(
            self.trainable, self.optimizer, frames, labels, configurations, self.options, batch, meanwhile
        )

    def calibrate(self) -> None:
        """Measure the batch norms again, unless they are locked, on the same batches of training data every time."""
        batches = self.config.calibration_batches
        if not batches or self.model.norms_locked:
            return
        order = np.random.default_rng(self.config.seed).permutation(len(self.training))
        size = self.config.total_batch_size
        starts = range(0, len(order), size)[:batches]
        indices = [self.processes.calibration_part(order[start : start + size]) for start in starts]
        norm.recalibrate(self.model, (frames for frames, _ in self.training.batches(indices)), self.config.time_steps)

    def validate(self, validation: FrameSet) -> float:
        """Accuracy at T_max on the validation items of all processes."""
        correct = predict(self.model, validation, self.config.time_steps).argmax(1) == validation.labels.cpu().numpy()
        of_all, count = self.processes.sum(int(np.count_nonzero(correct)), len(correct))
        return of_all / count

    def save(self, folder: Path) -> None:
        """Write `last` and its metrics to ``folder``, in the first process."""
        if self.processes.first:
            self.last.save(folder / checkpoints.FILE_NAME)
            rows = (json.dumps(row) + "\n" for row in self.last.history)
            write_text(folder / "metrics.jsonl", "".join(rows))

    def _draw_changes(self, epoch: int) -> Changes:
        """The augmentation of all training items in an epoch: it depends on seed, epoch and item only."""
        height, width = self.training.frames.shape[-2:]
        rng = np.random.default_rng(_seed(self.config.seed, _AUGMENTATION, epoch))
        return self.augmentation.draw(rng, len(self.training), (height, width))

    def _graphs(self) -> Graphs:
        return Graphs(mixed=None if self.config.method == "sdt" else self.config.time_steps)

    def _checkpoint(self, epoch: int, history: list[dict[str, Any]], best: dict[str, Tensor] | None) -> Checkpoint:
        return Checkpoint(
            model_config=self.model.config,
            config=self.config.as_dict(),
            epoch=epoch,
            weights=_copy(self.model),
            best=best,
            optimizer=copy.deepcopy(self.optimizer.state_dict()),
            scheduler=self.scheduler.state_dict(),
            rng=checkpoints.rng_state(self.rng),
            history=history,
        )


def configure_torch(threads: int | None, *, deterministic: bool) -> None:
    """Sets the number of threads (None: no change) and deterministic algorithms, for the whole process."""
    if threads is not None:
        torch.set_num_threads(threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS requires it
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def _seed(seed: int, *key: int) -> np.random.SeedSequence:
    """One of the independent streams of ``seed``: key (k,) is that of ``SeedSequence(seed).spawn(k + 1)[k]``."""
    return np.random.SeedSequence(seed, spawn_key=key)


def _all_finite(tensors: Iterable[Tensor]) -> bool:
    """With few launches on a GPU: the largest magnitude of each tensor is NaN if one of its numbers is."""
    largest = [torch.linalg.vector_norm(tensor, torch.inf) for tensor in tensors if tensor.is_floating_point()]
    return not largest or bool(torch.stack(largest).isfinite().all())


def _means_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The running means of gradients and of their squares; the counts of steps may lie on another device."""
    return [
        value
        for kept in optimizer.state.values()
        for name, value in kept.items()
        if name != "step" and isinstance(value, Tensor)
    ]


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def _is_best(row: dict[str, Any], history: list[dict[str, Any]]) -> bool:
    """Whether no earlier epoch was better; of equal ones, the last is the best."""
    return all(row["validation_accuracy"] >= earlier["validation_accuracy"] for earlier in history)
