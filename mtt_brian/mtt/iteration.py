"""One training iteration: several time-step configurations, one optimizer step.

Source: Du et al., "Temporal Flexibility in Spiking Neural Networks", ICLR 2025, section 4 and algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from mtt_brian.errors import Diverged, InputError
from mtt_brian.mtt.cuda_graphs import Graphs
from mtt_brian.mtt.loss import Loss, cross_entropy, losses_of_each
from mtt_brian.mtt.samplers import Configuration
from mtt_brian.snn.staged import RoomStage, Staged, check_staged


class Iteration(NamedTuple):
    """Means over the configurations of one training iteration, and over its batch."""

    loss: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """Options of an optimizer step.

    Attributes:
        loss: of the readouts in float32.
        clip: largest norm of the averaged gradient; None: no limit.
        amp: automatic mixed precision: torch computes convolutions and linear layers in bfloat16, which needs no
            scaling of the loss; membranes and weights stay float32.
        together: configurations per forward and backward pass. Fewer take more time and less memory, that of one pass.
            None: all.
        graphs: records iterations on a GPU and replays them; with these options only, and if it is for mixed numbers of
            time steps, always with all configurations in one pass. None: every iteration is launched step by step.
    """

    loss: Loss = cross_entropy
    clip: float | None = None
    amp: bool = False
    together: int | None = None
    graphs: Graphs | None = None


class Trainable(Protocol):
    """A network, or its replica in one of several processes."""

    def readouts_of_each(self, frames: Tensor, configurations: Sequence[int | Sequence[int]]) -> list[Tensor]:
        """See `Staged.readouts_of_each`."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


class Batch:
    """The batch of an iteration, computed by this process alone (`distributed.processes.SharedBatch`: by several).

    Attributes:
        part: the items of the batch that this process computes.
        weight: factor of the mean loss over ``part``.
    """

    part = slice(None)
    weight = 1.0

    def means(self, values: Tensor) -> list[float]:
        """Means over the whole batch, given the means over ``part``, float64."""
        found: list[float] = values.tolist()
        return found

    def gradient_pass(self, model: Trainable, *, last: bool) -> AbstractContextManager[None]:
        """The context of a forward and backward pass; ``last``: of the last one before the optimizer's step."""
        return nullcontext()


WHOLE = Batch()


def train_iteration(
    model: Trainable,
    optimizer: torch.optim.Optimizer,
    frames: Tensor,
    labels: Tensor,
    configurations: Sequence[Configuration],
    options: StepOptions = StepOptions(),
    batch: Batch = WHOLE,
    meanwhile: Callable[[], None] | None = None,
) -> Iteration:
    """One optimizer step on the mean of the configurations' gradients.

    The configurations pass through the network together: layers without time process the frames of all in one call, and
    the first layers process the common input once. The gradients are **averaged**. The authors' code adds them; the
    paper does not specify it. With AdamW a constant factor changes nothing (beyond epsilon), but with the mean the
    loss, the gradient norm that ``clip`` bounds and the learning rate of any other optimizer mean the same for SDT (one
    configuration) and MTT (several).

    Args:
        model: the network, in training mode.
        optimizer: of the model's parameters.
        frames: float32 [T, N, C, H, W].
        labels: int64 [N].
        configurations: time steps per stage, at least one.
        options: loss, clipping, precision and memory.
        batch: for N items that are part of the batch of several processes.
        meanwhile: called while a GPU computes, before this process waits for it: to prepare the next batch.

    Returns:
        Loss and accuracy before the step.

    Raises:
        Diverged: if a loss or the gradient is not finite; the step is not taken.
        InputError: if an iteration cannot be recorded.
        KeyboardInterrupt: in all processes, if one of several was interrupted; the step is not taken.
    """
    graphs = options.graphs if batch is WHOLE else None
    staged, room = cast("Staged", model), None
    in_room: Sequence[Tensor] = ()
    if graphs is not None and graphs.mixed is not None:
        check_staged(model)
        room, in_room = graphs.take(staged, len(frames), configurations)
    count = len(configurations)
    at_once = count if room is not None else options.together or count

    def gradient(frames: Tensor, labels: Tensor, *numbers: Tensor) -> Tensor:
        """Replaces the gradients; losses and accuracies of the configurations and the gradient's norm, float64."""
        optimizer.zero_grad(set_to_none=True)
        found = []
        for begin in range(0, count, at_once):
            some = configurations[begin : begin + at_once]
            with batch.gradient_pass(model, last=begin + len(some) == count):
                if room is None:
                    losses, accuracies = _losses(model, frames, labels, some, options)
                else:
                    losses, accuracies = _losses_in_room(staged, frames, labels, room.on(*numbers), options)
                (losses.sum() * (batch.weight / count)).backward()
            found.append(torch.stack([losses.detach(), accuracies]).double())
        norm = nn.utils.clip_grad_norm_(model.parameters(), float("inf") if options.clip is None else options.clip)
        return torch.cat([torch.cat(found, 1).flatten(), norm.detach().double().reshape(1)])

    if graphs is None:
        numbers = gradient(frames, labels)
    else:
        key = tuple(configurations) if room is None else room.key
        numbers = graphs(gradient, list(model.parameters()), frames, labels, key, in_room)
    if meanwhile is not None:
        meanwhile()
    # All that the host must read, at once: a GPU is waited for once per iteration.
    *means, norm = batch.means(numbers)
    each_loss, each_accuracy = means[:count], means[count:]
    for configuration, loss in zip(configurations, each_loss, strict=True):
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {loss} with time steps {configuration}")
    if not math.isfinite(norm):
        raise Diverged(f"the gradient has norm {norm}")
    optimizer.step()
    return Iteration(sum(each_loss) / count, sum(each_accuracy) / count)


def _losses(
    model: Trainable, frames: Tensor, labels: Tensor, configurations: Sequence[Configuration], options: StepOptions
) -> tuple[Tensor, Tensor]:
    """Loss and accuracy of each configuration, two tensors of one number each."""
    with torch.autocast(frames.device.type, torch.bfloat16, enabled=options.amp):
        each = model.readouts_of_each(frames, configurations)
    each = [readouts.to(torch.promote_types(readouts.dtype, torch.float32)) for readouts in each]
    losses = torch.stack([options.loss(readouts, labels) for readouts in each])
    correct = torch.stack([readouts.detach().mean(0).argmax(1) == labels for readouts in each])
    return losses, correct.to(losses.dtype).mean(1)


def _losses_in_room(
    model: Staged, frames: Tensor, labels: Tensor, given: tuple[list[RoomStage], Tensor], options: StepOptions
) -> tuple[Tensor, Tensor]:
    """As `_losses`, for a pass of `make_pass`."""
    stages, weights = given
    try:
        with torch.autocast(frames.device.type, torch.bfloat16, enabled=options.amp):
            readouts = model.readouts_in_room(frames, stages)
        readouts = readouts.to(torch.promote_types(readouts.dtype, torch.float32))
        losses = losses_of_each(options.loss, readouts, weights, labels)
    except InputError as error:
        raise InputError(f"cuda_graph: {error}; train without it") from None
    correct = torch.tensordot(weights, readouts.detach(), dims=1).argmax(2) == labels
    return losses, correct.to(losses.dtype).mean(1)
