"""Training with the target in the loop: its spikes forward, the surrogate gradient backward.

The target (an event-driven chip, or the exact engine under its rule) runs the network on the events of a batch. Its
spikes, counted in time steps, take the place of the spikes of the time-stepped network. The loss is that of the
target's own readout; only the gradient comes from the time-stepped network, at the target's spikes. What time steps
cannot show, such as a lower bound that cuts single arrivals, acts on every iteration.

Source: Schmitt et al., "Neuromorphic hardware in the loop", IJCNN 2017, with the surrogate gradients of Cramer et al.,
PNAS 119, 2022 (in-the-loop training of spiking networks).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mtt_brian import events
from mtt_brian.errors import Diverged, InputError, check_number
from mtt_brian.events import Recordings
from mtt_brian.events.perturb import shifted
from mtt_brian.events.recording import SensorSize
from mtt_brian.mtt.checks import check_gradients
from mtt_brian.mtt.config import check_values
from mtt_brian.progress import progress_bar
from mtt_brian.snn import Staged
from mtt_brian.snn.staged import hooked


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """The settings of a fine-tuning in the loop.

    Attributes:
        epochs: passes over the training recordings, >= 1.
        batch_size: recordings per iteration, >= 1.
        lr: peak learning rate of AdamW, relative to the root mean square of a layer's weights; cosine schedule.
        time_steps: T, the time steps in which the target's spikes are counted for the gradient.
        shift: recordings are moved by up to so many pixels each way.
        seed: of the order and of the shifts.
        synops_weight: of the loss ``synops / budget - 1``, which counts where it is above 0.

    Raises:
        InputError: for a value out of range.
    """

    epochs: int = 5
    batch_size: int = 32
    lr: float = 0.03
    time_steps: int = 10
    shift: int = 1
    seed: int = 0
    synops_weight: float = 1.0

    def __post_init__(self) -> None:
        settings = asdict(self)
        weight = settings.pop("synops_weight")
        object.__setattr__(self, "synops_weight", check_number("synops_weight", weight, most=1e6, least=0))
        check_values(settings, "in the loop")  # the others are settings of every training


class Measured(NamedTuple):
    """A batch of N recordings on the target.

    Attributes:
        spikes: float32 [T, N, *shape] by population, counted in T time steps.
        synops: float32 [N], synaptic operations of each recording.
    """

    spikes: Mapping[str, Tensor]
    synops: Tensor


class LoopTarget(Protocol):
    """A target that runs a network on recordings."""

    @property
    def fan_out(self) -> Mapping[str, Tensor]:
        """Synapses that a spike reaches, float32 [neurons] by population."""
        ...

    def run(self, model: Staged, recordings: Sequence[np.ndarray]) -> Measured:
        """Run the network with the model's weights."""
        ...


def with_measured(model: Staged, frames: Tensor, measured: Measured) -> tuple[Tensor, dict[str, Tensor]]:
    """The readout of the target's spikes, with the gradient of the time-stepped network.

    Args:
        model: the network; all stages run with T time steps.
        frames: input frames [T, N, *input_shape].
        measured: of the same N recordings, in T time steps.

    Returns:
        readouts [T, N, classes], and the target's spikes by population, which carry gradients.
    """
    through: dict[str, Tensor] = {}
    with _replaced(model, measured.spikes, through):
        return model.readouts(frames, len(frames)), through


def _replaced(model: Staged, spikes: Mapping[str, Tensor], through: dict[str, Tensor]) -> AbstractContextManager[None]:
    """Within the block every population returns ``spikes``; their gradient is that of its own spikes."""

    def hook(name: str) -> Any:
        def replace(module: nn.Module, arguments: Any, own: Tensor) -> Tensor:
            through[name] = own + (spikes[name] - own).detach()
            return through[name]

        return replace

    return hooked(model, hook)


def operations(measured: Measured, through: Mapping[str, Tensor], fan_out: Mapping[str, Tensor]) -> Tensor:
    """Mean synaptic operations of a batch: the target's number, with the gradient of its spikes."""
    total = measured.synops
    for name, spikes in through.items():
        own = spikes.sum(0).flatten(1) @ fan_out[name].to(spikes.dtype)
        total = total + own - own.detach()
    return total.mean()


def frames_of(model: Staged, recordings: Sequence[np.ndarray], time_steps: int, sensor_size: SensorSize) -> Tensor:
    """Input frames of N recordings, float32 [T, N, *input_shape]."""
    frames = torch.from_numpy(events.frames_batch(recordings, time_steps, sensor_size))
    return frames.reshape(*frames.shape[:2], *model.input_shape)


class Outcome(NamedTuple):
    """A batch of N recordings in one iteration.

    Attributes:
        loss: one number, with its gradient.
        logits: [N, classes].
        synops: mean synaptic operations; NaN where they are not counted.
    """

    loss: Tensor
    logits: Tensor
    synops: float = math.nan


def fine_tune(
    model: Staged,
    recordings: Recordings,
    config: LoopConfig,
    outcome: Callable[[list[np.ndarray], Tensor, float], Outcome],
) -> list[dict[str, float]]:
    """Fine-tunes ``model`` in place by any loss of recordings, see `FineTuning`; returns the records of all epochs."""
    return list(FineTuning(model, recordings, config, outcome).epochs())


class FineTuning:
    """A fine-tuning that can be saved after every epoch, and goes on from there with the same weights.

    Args:
        model: the network, changed in place; parameters with ``requires_grad=False`` stay as they are.
        recordings: to train on.
        config: the settings.
        outcome: of a batch: called with its recordings, its labels int64 [N], and the part of all iterations that is
            done.

    Attributes:
        history: for every finished epoch its number, mean loss, accuracy and synaptic operations, as the weights
            change.
        losses: of the batches of the last epoch.
    """

    def __init__(
        self,
        model: Staged,
        recordings: Recordings,
        config: LoopConfig,
        outcome: Callable[[list[np.ndarray], Tensor, float], Outcome],
    ) -> None:
        self._model, self._recordings, self._config, self._outcome = model, recordings, config, outcome
        self.history: list[dict[str, float]] = []
        self.losses: list[float] = []
        self._rng = np.random.default_rng(config.seed)
        self._labels = torch.as_tensor(np.asarray(recordings.labels), dtype=torch.int64)
        check_gradients(model)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        groups = [{"params": [w], "lr": config.lr * w.detach().square().mean().sqrt().item()} for w in weights]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        self._per_epoch = -(-len(recordings) // config.batch_size)
        self._scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, config.epochs * self._per_epoch)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values, at the end of an epoch."""
        return {
            "weights": {name: value.clone() for name, value in self._model.state_dict().items()},
            "optimizer": copy.deepcopy(self._optimizer.state_dict()),
            "scheduler": self._scheduler.state_dict(),
            "rng": self._rng.bit_generator.state,
            "history": list(self.history),
        }

    def go_on_from(self, state: Mapping[str, Any]) -> None:
        """Restore a `state` of the same network, recordings and settings."""
        self._model.load_state_dict(state["weights"])
        self._optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # torch would change the given tensors
        self._scheduler.load_state_dict(state["scheduler"])
        self._rng.bit_generator.state = state["rng"]
        self.history = list(state["history"])

    def epochs(self) -> Iterator[dict[str, float]]:
        """Trains the epochs that are left; yields the record of each at its end.

        Raises:
            Diverged: if the loss is not finite, or the network can no longer run; the step is not taken.
        """
        for epoch in range(len(self.history) + 1, self._config.epochs + 1):
            self.history.append(self._epoch(epoch))
            yield self.history[-1]

    def _epoch(self, epoch: int) -> dict[str, float]:
        config, sums, self.losses = self._config, np.zeros(3), []
        iterations = config.epochs * self._per_epoch
        order = self._rng.permutation(len(self._recordings))
        description = f"fine-tuning, epoch {epoch} of {config.epochs}"
        with progress_bar(
            total=self._per_epoch, description=description, unit="iterations", lines=4, leave=False
        ) as bar:
            for start in range(0, len(order), config.batch_size):
                index = np.sort(order[start : start + config.batch_size])
                batch = [
                    _moved(r, config.shift, self._recordings.sensor_size, self._rng)
                    for r in self._recordings.subset(index)
                ]
                done = (epoch - 1) * self._per_epoch + bar.n
                try:
                    found = self._outcome(batch, self._labels[index], done / iterations)
                except InputError as error:
                    if not done:  # the weights are the given ones
                        raise
                    raise Diverged(f"epoch {epoch}: {error}; lower lr = {config.lr:g}") from error
                if not math.isfinite(loss := found.loss.item()):
                    raise Diverged(f"epoch {epoch}: the loss is {loss}; lower lr = {config.lr:g}")
                self._optimizer.zero_grad(set_to_none=True)
                found.loss.backward()
                self._optimizer.step()
                self._scheduler.step()
                right = (found.logits.argmax(1) == self._labels[index]).double().mean().item()
                sums += len(index) * np.array([loss, right, found.synops])
                self.losses.append(loss)
                bar.set_postfix_str(f"accuracy {sums[1] / (start + len(index)):.3f}", refresh=False)
                bar.update()
        loss, accuracy, synops = (sums / len(order)).tolist()
        return {"epoch": epoch, "loss": loss, "accuracy": accuracy, "synops": synops}


def on_target(
    model: Staged, recordings: Recordings, target: LoopTarget, config: LoopConfig, budget: float | None = None
) -> FineTuning:
    """The fine-tuning of a network with the target in the loop.

    Args:
        model: the network, changed in place; parameters with ``requires_grad=False`` stay as they are.
        recordings: to train on.
        target: runs the network in every iteration; all values of the history are its own.
        config: the settings.
        budget: mean synaptic operations per recording above which operations count in the loss; None: they never do.
    """

    def outcome(batch: Sequence[np.ndarray], labels: Tensor, done: float) -> Outcome:
        measured = target.run(model, batch)
        frames = frames_of(model, batch, config.time_steps, recordings.sensor_size)
        readouts, through = with_measured(model, frames, measured)
        logits, synops = readouts.mean(0), operations(measured, through, target.fan_out)
        loss = functional.cross_entropy(logits, labels)
        if budget is not None:
            loss = loss + config.synops_weight * functional.relu(synops / budget - 1)
        return Outcome(loss, logits, synops.item())

    return FineTuning(model, recordings, config, outcome)


def _moved(recording: np.ndarray, reach: int, sensor_size: SensorSize, rng: np.random.Generator) -> np.ndarray:
    if not reach:
        return recording
    down, right = (int(n) for n in rng.integers(-reach, reach + 1, 2))
    return shifted(recording, down, right, sensor_size)
