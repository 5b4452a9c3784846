"""Training that several processes share, started by ``torchrun``.

Every process has the whole network and all recordings, draws the same random numbers, and computes the gradients of
its share of every batch; `Replica` averages them. The **first** process makes shared objects such as the run folder. An
error in one process stops all: see `Processes.together`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mtt_brian import files
from mtt_brian.errors import Diverged, InputError
from mtt_brian.events.collections import SomeCollection
from mtt_brian.mtt.distributed.shared_batchnorm import shared_norms
from mtt_brian.mtt.iteration import WHOLE, Batch, Trainable
from mtt_brian.snn import Staged
from mtt_brian.text import one_line
from mtt_brian.workers import after_parent

T = TypeVar("T")

#: The longest time that a process waits for another one, which may be downloading a data set. ``torchrun`` stops all
#: processes much earlier if one of them has ended.
TIMEOUT = timedelta(hours=2)
#: The same after an error or a signal, which may have stopped this process only.
TIMEOUT_STOPPED = timedelta(seconds=20)


@dataclass
class Processes:
    """The processes of a training, in one of them; `ALONE` stands for a single process without communication.

    Every process must call the methods that communicate, in the same order.

    Attributes:
        rank: number of this process, from 0.
        count: number of processes.
        local_rank: number of this process among those of its host.
        launcher: the command that starts so many, before a script's name.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    launcher: str = "python"
    _interrupted: bool = field(default=False, init=False)
    #: Of the numbers and decisions; gradients and batch norms have the default group.
    _group: Any = field(default=None, init=False, repr=False)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def check(self, processes: int, device: str) -> None:
        """Check that the settings fit these processes, and select a GPU for this one where ``device`` is "cuda".

        Raises:
            InputError: if ``processes`` is not the number of processes, there are fewer GPUs than processes, or all
                processes would use the same GPU.
        """
        if processes != self.count:
            raise InputError(
                f"processes = {processes}, but {self.count} running; torchrun --nproc-per-node"
                f" {processes} starts so many on one host"
            )
        if self.count == 1 or device == "cpu":
            return
        if device != "cuda":
            raise InputError(f"device = {device!r}: under torchrun every process has its own; give cpu or cuda")
        if self.local_rank >= torch.cuda.device_count():
            raise InputError(
                f"{torch.cuda.device_count()} GPUs are too few: every process needs one of its own; give torchrun a"
                " smaller --nproc-per-node, or train with device = 'cpu'"
            )
        torch.cuda.set_device(self.local_rank)

    def share(self, items: int) -> slice:
        """This process's share of ``items`` items; shares are contiguous and differ by one item at most."""
        return slice(items * self.rank // self.count, items * (self.rank + 1) // self.count)

    def part(self, data: SomeCollection) -> SomeCollection:
        """This process's share of recordings or images."""
        return data if self.count == 1 else data.subset(range(len(data))[self.share(len(data))])

    def batch(self, items: int) -> Batch:
        """The batch of an iteration with ``items`` items in all processes."""
        return WHOLE if self.count == 1 else SharedBatch(self, items)

    def calibration_part(self, index: np.ndarray) -> np.ndarray:
        """This process's share of a batch for `norm.recalibrate`.

        A batch with fewer items than processes goes to every process: the same mean and variance, up to the factor
        n / (n - 1) of the variance.
        """
        return index[self.share(len(index))] if len(index) >= self.count else index

    @contextmanager
    def replicated(self, model: Staged) -> Iterator[Trainable]:
        """Within the block, passes through the yielded network belong to passes over the batch of all processes.

        With several processes the weights become those of the first one, gradients are averaged, and norms in training
        mode use the items of all.
        """
        if self.count == 1:
            yield model
            return
        with shared_norms(model):
            yield Replica(model)

    def sum(self, *values: float) -> list[float]:
        """Every value summed over the processes, in float64, the same bits in all of them.

        Raises:
            KeyboardInterrupt: in all processes, if any of them was interrupted.
        """
        if self.count == 1:
            return list(values)
        total = torch.tensor([*values, self._interrupted], dtype=torch.float64)
        distributed.all_reduce(total, group=self._group)
        *sums, interrupted = total.tolist()
        if interrupted:
            raise KeyboardInterrupt
        return sums

    @contextmanager
    def together(self) -> Iterator[None]:
        """A step whose errors are raised in all processes, wherever they occur.

        Without it, the other processes would wait for the one that has failed. The step itself must not communicate.

        Raises:
            InputError, Diverged, SystemExit: of the first process that has one; all processes raise the same. An
                `OSError` becomes an `InputError`.
            KeyboardInterrupt: in all processes, if any of them was interrupted.
        """
        if self.count == 1:
            yield
            return
        error: BaseException | None = None
        try:
            yield
        except (InputError, Diverged) as failure:
            error = failure if self.first else type(failure)(f"process {self.rank}: {failure}")
        except OSError as failure:
            error = InputError(("" if self.first else f"process {self.rank}: ") + files.reason(failure))
        except SystemExit as leave:
            error = leave
        seen: list[Any] = [None] * self.count
        distributed.all_gather_object(seen, (error, self._interrupted), group=self._group)
        if any(interrupted for _, interrupted in seen):
            raise KeyboardInterrupt
        for error, _ in seen:
            if error is not None:
                raise error

    def from_first(self, make: Callable[[], T]) -> T:
        """The result of ``make()``, which only the first process calls, in all processes.

        Raises:
            InputError, Diverged, SystemExit, KeyboardInterrupt: see `together`.
        """
        made: list[Any] = [None]
        with self.together():
            if self.first:
                made = [make()]
        if self.count > 1:
            distributed.broadcast_object_list(made, group=self._group)
        return cast(T, made[0])

    def in_turn(self, load: Callable[[], T]) -> T:
        """The result of ``load()``, called by the first process, then by one of every other host, then by the rest.

        For calls that fill a cache or download files: the first call on a host does it for the others.

        Raises:
            InputError, Diverged, SystemExit, KeyboardInterrupt: see `together`.
        """
        turn = 0 if self.first else 1 if self.local_rank == 0 else 2
        loaded: list[T] = []
        for current in range(3 if self.count > 1 else 1):
            with self.together():
                if turn == current:
                    loaded.append(load())
        return loaded[0]

    def _interrupt(self, *_: Any) -> None:
        self._interrupted = True


#: The process of a training in one process.
ALONE = Processes()


class SharedBatch(Batch):
    """The batch of an iteration that several processes compute.

    Args:
        processes: each has its share of the items.
        items: of all processes.
    """

    def __init__(self, processes: Processes, items: int) -> None:
        self.part = processes.share(items)
        self._fraction = (self.part.stop - self.part.start) / items
        # Replicas average their gradients with equal weights, but the shares of a batch may differ.
        self.weight = self._fraction * processes.count
        self._processes = processes

    def means(self, values: Tensor) -> list[float]:
        return self._processes.sum(*(self._fraction * values).tolist())

    def gradient_pass(self, model: Trainable, *, last: bool) -> AbstractContextManager[None]:
        """Gradients are exchanged once, in the last pass; earlier passes only add the gradients of this process."""
        assert isinstance(model, Replica)
        context: AbstractContextManager[None] = contextlib.nullcontext() if last else model.no_sync()
        return context


class Replica(DistributedDataParallel):
    """A network in every process, with the weights of the first process.

    It computes the same as the network, for a share of the batch; after the backward pass the gradients are the mean
    over all processes.

    Args:
        model: on its device; its parameters must stay the same tensors afterwards.
    """

    def __init__(self, model: Staged) -> None:
        super().__init__(_Readouts(model))

    def readouts_of_each(self, frames: Tensor, configurations: Sequence[int | Sequence[int]]) -> list[Tensor]:
        """As `Staged.readouts_of_each`."""
        return self(frames, configurations)


class _Readouts(nn.Module):
    """A network whose call gives readouts: `DistributedDataParallel` only handles calls."""

    def __init__(self, model: Staged) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, configurations: Sequence[int | Sequence[int]]) -> list[Tensor]:
        return self.model.readouts_of_each(frames, configurations)


@contextmanager
def join() -> Iterator[Processes]:
    """The processes that ``torchrun`` has started; without torchrun `ALONE`.

    A process can join only once.

    Under torchrun, within the block, only the first process has a stdout and a stderr. Ctrl-C, SIGTERM and SIGHUP act
    at the next communication, where all processes raise `KeyboardInterrupt`. `InputError` and `Diverged` end all
    processes with one message and the exit status 2, and so does a process that is killed. If ``torchrun`` is killed,
    they stop as after Ctrl-C.

    Raises:
        InputError: if the environment names other processes, but they cannot be reached.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys() or os.environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    # CPUs exchange numbers and decisions; the networks' devices exchange gradients.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        distributed.init_process_group(backend, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"RANK and WORLD_SIZE are set, as by torchrun, but the processes do not connect: {error}"
        ) from error
    rank, count = distributed.get_rank(), distributed.get_world_size()
    local = os.environ.get("LOCAL_WORLD_SIZE", "1")
    hosts = "" if local == str(count) else "--nnodes ... "
    processes = Processes(
        rank, count, int(os.environ.get("LOCAL_RANK", rank)), f"torchrun {hosts}--nproc-per-node {local}"
    )
    processes._group = distributed.new_group(timeout=TIMEOUT, backend="gloo")
    if "TORCHELASTIC_RUN_ID" in os.environ:  # started by torchrun itself, and not by a shell that may end before
        after_parent(os.getppid(), processes._interrupt)
    end: BaseException | None = None
    try:
        with _silent(unless=processes.first), _on_interrupt(processes._interrupt):
            yield processes
    except (InputError, Diverged) as error:
        if processes.first:
            print(f"error: {error}", file=sys.stderr)
        end = SystemExit(2)
    except (KeyboardInterrupt, SystemExit) as error:
        end = error
    except RuntimeError as error:
        if not is_lost(error):
            raise
        if processes.first:
            cause = one_line(error, 120)
            print(f"error: another process of the training has ended, or does not answer ({cause})", file=sys.stderr)
        end = SystemExit(2)
    # torchrun stops all processes when one ends with an error: the first one must have printed the reason by then.
    # A thread of gloo that still deletes a tensor when the interpreter ends aborts the process. The threads of a group
    # end with it, but a DistributedDataParallel never releases its group: hence a group of its own for the rest.
    # The first one may write results for long after the others have ended.
    longest = TIMEOUT if end is None else TIMEOUT_STOPPED
    with contextlib.suppress(RuntimeError):
        distributed.all_reduce(torch.zeros(1), group=processes._group, async_op=True).wait(longest)
        distributed.destroy_process_group(processes._group)  # not of a process that does not answer: it would wait on
        processes._group = None
    distributed.destroy_process_group()
    if end is not None:
        raise end


def is_lost(error: RuntimeError) -> bool:
    """Whether the communication has failed, as it does when another process is killed. Errors of gloo have no type."""
    return isinstance(error, distributed.DistError) or "/gloo/" in str(error)


@contextmanager
def _silent(unless: bool) -> Iterator[None]:
    if unless:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


@contextmanager
def _on_interrupt(handler: Callable[..., None]) -> Iterator[None]:
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    before = {n: signal.getsignal(n) for n in (getattr(signal, name) for name in names if hasattr(signal, name))}
    for number, earlier in before.items():
        if earlier is not signal.SIG_IGN:  # nohup
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
