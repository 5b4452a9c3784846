"""Training that several processes share, started by ``torchrun``.

Every process holds the whole network and all recordings, draws the same random numbers, and computes the gradients of
its share of every batch; `Replica` averages them. What has to be one for all, such as a run folder, is up to the
**first** process, and what stops one process stops all of them: see `Processes.together`.
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
from mtt_brian.mtt.config import TrainConfig
from mtt_brian.snn import Staged

T = TypeVar("T")

#: For how long a process waits for another one: the first one may be downloading a data set. ``torchrun`` notices
#: much earlier that a process is gone, and stops the others.
PATIENCE = timedelta(hours=2)


@dataclass
class Processes:
    """The processes of a training, as one of them sees them; without arguments it is alone, and nothing is exchanged.

    All of them have to call the methods that exchange something, in the same order.

    Attributes:
        rank: number of this process, from 0.
        count: how many there are.
        local_rank: number of this process among those of its host.
        launcher: what starts so many, before a script's name.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    launcher: str = "python"
    _interrupted: bool = field(default=False, init=False)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def settle(self, config: TrainConfig) -> None:
        """Check that the settings suit the processes, and make ``device = "cuda"`` mean a GPU of this process's own.

        Raises:
            InputError: if ``config.processes`` is another number, there are fewer GPUs than processes, or all of them
                would use the same one.
        """
        if config.processes != self.count:
            raise InputError(
                f"processes = {config.processes}, but {self.count} running; torchrun --nproc-per-node"
                f" {config.processes} starts so many on one host"
            )
        if self.count == 1 or config.device == "cpu":
            return
        if config.device != "cuda":
            raise InputError(f"device = {config.device!r}: under torchrun every process has its own; give cpu or cuda")
        if self.local_rank >= torch.cuda.device_count():
            raise InputError(
                f"{torch.cuda.device_count()} GPUs are too few: every process needs one of its own; give torchrun a"
                " smaller --nproc-per-node, or train with device = 'cpu'"
            )
        torch.cuda.set_device(self.local_rank)

    def share(self, items: int) -> slice:
        """Which of so many items are this process's; shares differ by one item at most, and follow each other."""
        return slice(items * self.rank // self.count, items * (self.rank + 1) // self.count)

    def part(self, data: SomeCollection) -> SomeCollection:
        """This process's share of recordings or images."""
        return data if self.count == 1 else data.subset(range(len(data))[self.share(len(data))])

    def draws(self, rng: np.random.Generator, items: int) -> np.random.Generator:
        """``rng`` for random changes of a batch of so many items, of which this process has its `share`.

        It draws for all of them and hands out what belongs to the share, so that every item has the luck that it would
        have in a single process, and ``rng`` is in the same state everywhere.
        """
        return rng if self.count == 1 else cast(np.random.Generator, _Draws(rng, items, self.share(items)))

    def sum(self, *values: float) -> list[float]:
        """Every value summed over the processes, in float64, the same bits in all of them.

        Raises:
            KeyboardInterrupt: in all processes, if any of them was interrupted.
        """
        if self.count == 1:
            return list(values)
        total = torch.tensor([*values, self._interrupted], dtype=torch.float64)
        distributed.all_reduce(total)
        *sums, interrupted = total.tolist()
        if interrupted:
            raise KeyboardInterrupt
        return sums

    @contextmanager
    def together(self) -> Iterator[None]:
        """A step that no process leaves alone: an error in one of them is raised in all of them.

        Without it, the others would wait in vain for the process that has failed. Within it, nothing may be exchanged.

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
        distributed.all_gather_object(seen, (error, self._interrupted))
        if any(interrupted for _, interrupted in seen):
            raise KeyboardInterrupt
        for error, _ in seen:
            if error is not None:
                raise error

    def from_first(self, make: Callable[[], T]) -> T:
        """What ``make`` gives in the first process, in all of them; no other process calls it.

        Raises:
            InputError, Diverged, SystemExit, KeyboardInterrupt: see `together`.
        """
        made: list[Any] = [None]
        with self.together():
            if self.first:
                made = [make()]
        if self.count > 1:
            distributed.broadcast_object_list(made)
        return cast(T, made[0])

    def in_turn(self, load: Callable[[], T]) -> T:
        """What ``load`` gives, called by the first process, then by one of every other host, then by the rest.

        For what the first call on a host may have to make for the others: a download, a cache.

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


#: A process that shares its training with no other.
ALONE = Processes()


@dataclass(frozen=True)
class _Draws:
    """The part of a `numpy.random.Generator` that draws for items, see `Processes.draws`; any other part is missing."""

    rng: np.random.Generator
    items: int
    share: slice

    def integers(self, low: Any, high: Any, size: int | tuple[int, ...]) -> np.ndarray:
        """As for the generator, with ``size`` that of the share."""
        _, *rest = np.atleast_1d(size)
        return self.rng.integers(low, high, size=(self.items, *rest))[self.share]


class Replica(DistributedDataParallel):
    """A network in every process, of equal weights: those of the first process.

    It computes what the network does, for a share of the batch; after the backward pass the gradients are the mean over
    all processes.

    Args:
        model: on its device, no parameter of which is changed in kind afterwards.
    """

    def __init__(self, model: Staged) -> None:
        super().__init__(_Readouts(model))

    def readouts_of_each(self, frames: Tensor, configurations: Sequence[int | Sequence[int]]) -> list[Tensor]:
        """As `Staged.readouts_of_each`."""
        return self(frames, configurations)


class _Readouts(nn.Module):
    """A network whose call gives readouts, because `DistributedDataParallel` sees nothing but calls."""

    def __init__(self, model: Staged) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, configurations: Sequence[int | Sequence[int]]) -> list[Tensor]:
        return self.model.readouts_of_each(frames, configurations)


def postponed(model: Staged | Replica) -> AbstractContextManager[None]:
    """Within it, passes forward and back only add up this process's gradients; the next one outside averages all."""
    return model.no_sync() if isinstance(model, Replica) else contextlib.nullcontext()


@contextmanager
def join() -> Iterator[Processes]:
    """The processes that ``torchrun`` has started, or this one alone, where nothing is different from usual.

    A process can join once only.

    Otherwise, while it lasts, only the first process has a stdout and a stderr, and Ctrl-C, SIGTERM and SIGHUP wait
    until the processes exchange something, where `KeyboardInterrupt` is raised in all of them. `InputError` and
    `Diverged` end all processes with one message and the exit status 2.

    Raises:
        InputError: if the environment names other processes, but they cannot be reached.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys() or os.environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    # Small things and decisions are exchanged from CPU to CPU, whatever the network's device.
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"RANK and WORLD_SIZE are set, as by torchrun, but the processes do not meet: {error}"
        ) from error
    rank, count = distributed.get_rank(), distributed.get_world_size()
    local = os.environ.get("LOCAL_WORLD_SIZE", "1")
    hosts = "" if local == str(count) else "--nnodes ... "
    processes = Processes(
        rank, count, int(os.environ.get("LOCAL_RANK", rank)), f"torchrun {hosts}--nproc-per-node {local}"
    )
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
    # When one process ends with an error, torchrun stops the others: not before the first one has said why.
    with contextlib.suppress(RuntimeError):
        distributed.all_reduce(torch.zeros(1), async_op=True).wait(timedelta(seconds=20))
    distributed.destroy_process_group()
    if end is not None:
        raise end


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
