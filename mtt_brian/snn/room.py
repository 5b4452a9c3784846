"""Passes of several configurations that launch the same kernels, whatever their numbers of time steps are.

A CUDA graph repeats kernels with their sizes and addresses. Therefore all tensors of such a pass have room for more
frames and time steps than it uses, and its kernels read from memory how many there are. The room has few sizes, so that
few graphs suffice for all configurations.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from mtt_brian.errors import InputError
from mtt_brian.snn import temporal
from mtt_brian.snn.neurons import Spiking
from mtt_brian.snn.ops.time_plan import FrameMap, RoomMap, RoomPlan, TimePlan, sources, table
from mtt_brian.snn.residual import Residual, leaves
from mtt_brian.snn.staged import RoomStage, Staged

#: Different sizes of the room for frames, and for time steps.
_SIZES = 5


class Pass(NamedTuple):
    """A pass of several configurations.

    Attributes:
        key: passes with the same key launch the same kernels.
        integers: int32; reals: float64. All numbers that the kernels read; their count depends on ``key`` only.
        stages: what `on` needs of every stage.
    """

    key: tuple[int, int, int, int]
    integers: np.ndarray
    reals: np.ndarray
    stages: list[_Stage]

    def on(self, integers: Tensor, reals: Tensor) -> tuple[list[RoomStage], Tensor]:
        """The stages, with the numbers in memory, and the weights of the readouts.

        Args:
            integers, reals: tensors with the numbers; others may replace them when the kernels run again.

        Returns:
            For `Staged.readouts_in_room`, and [configurations, t]: 1 / number of time steps of a configuration at the
            readouts in its time steps, else 0.
        """
        _, frames, steps, configurations = self.key
        whole = iter(integers.split([len(part) for stage in self.stages for part in stage.integers]))
        *decays, weights = reals.split([*[_aligned(2 * configurations)] * len(self.stages), configurations * steps])
        stages = [stage.on(whole, each, frames, steps) for stage, each in zip(self.stages, decays, strict=True)]
        return stages, weights.view(configurations, steps)


class _Stage(NamedTuple):
    """A stage of a pass; ``integers`` are those of its maps, each followed by its transposed map, and of ``tables``."""

    once: int
    frames_before: int | None  # of the first stage, which has a map in front
    last: bool
    lengths: tuple[int, ...]
    tables: list[tuple[bool, bool]]
    integers: list[tuple[int, ...]]

    def on(self, parts: Iterator[Tensor], decays: Tensor, frames: int, steps: int) -> RoomStage:
        first = None if self.frames_before is None else RoomMap(next(parts), frames, next(parts), self.frames_before)
        repeat = RoomMap(next(parts), steps, next(parts), frames)
        tables = {each: next(parts) for each in self.tables}
        plan = RoomPlan(self.lengths, steps, repeat, None if self.last else frames, tables, decays)
        return RoomStage(self.once, first, plan)


def make_pass(model: Staged, frames: int, configurations: Sequence[int | Sequence[int]], most: int) -> Pass:
    """The pass of ``frames`` input frames in several ``time_steps``.

    Args:
        model: the network.
        frames: number of input frames.
        configurations: the ``time_steps``.
        most: the largest number of time steps that passes usually have; the sizes of the room depend on it.

    Raises:
        InputError: as `Staged.steps`; for another temporal transformation than "hard", and for populations of one stage
            with different leaks.
    """
    if model.transform != "hard":
        raise InputError(f"recorded mixed time steps need transform = 'hard', not {model.transform!r}")
    plans = model.plans(frames, configurations)
    unit = -(-len(configurations) * most // _SIZES)
    room, steps = (
        -(-max(sum(of(plan)) for plan in plans) // unit) * unit
        for of in (lambda plan: plan.fewer, lambda plan: plan.steps.lengths)
    )
    stages, reals = [], []
    for number, (module, plan) in enumerate(zip(model.stages, plans, strict=True)):
        after, last = plan.steps.lengths, number == len(plans) - 1
        repeat = _map(plan.fewer, after, steps)
        sums = None if last else _map(after, plan.groups, room)
        populations = [layer for _, layer in leaves(module.named_children()) if isinstance(layer, Spiking)]
        summed = not last
        if any(isinstance(layer, Residual) for layer in module.children()):  # frames may be repeated anywhere
            used = [(True, False), (False, False), (True, summed), (False, summed)]
            maps = [_both(repeat, room, steps)]
        else:
            used = [(True, summed)] if len(populations) == 1 else [(True, False), (False, False), (False, summed)]
            maps = [[(), ()]]
        used = list(dict.fromkeys(used))
        if plan.shared:
            maps.insert(0, _both(_map(plan.before, plan.fewer, room, shared=True), frames, len(after) * frames))
        tables = [table(TimePlan(after, repeat if r else None, sums if s else None), steps) for r, s in used]
        stages.append(
            _Stage(
                model.shared_layers(module) if plan.shared else 0,
                frames if plan.shared else None,
                last,
                after,
                used,
                [part + (0,) * (_aligned(len(part)) - len(part)) for part in itertools.chain(*maps, tables)],
            )
        )
        reals += _decays(populations, after)
        reals += [0.0] * (_aligned(len(reals)) - len(reals))
    readouts = plans[-1].steps.lengths
    weights = np.zeros((len(readouts), steps))
    begin = 0
    for row, length in zip(weights, readouts, strict=True):
        row[begin : begin + length] = 1 / length
        begin += length
    integers = np.fromiter(itertools.chain(*(part for stage in stages for part in stage.integers)), np.int32)
    key = (frames, room, steps, len(readouts))
    return Pass(key, integers, np.concatenate([reals, weights.ravel()]), stages)


def _aligned(count: int) -> int:
    """So many numbers that those behind them lie at a multiple of 16 bytes: kernels are compiled for it."""
    return -(-count // 4) * 4


def _map(before: tuple[int, ...], after: tuple[int, ...], room: int, *, shared: bool = False) -> FrameMap:
    return temporal.map_of(tuple(zip(before, after, strict=True)), shared=shared)._replace(frames=room)


def _both(frame_map: FrameMap, before: int, most: int) -> list[tuple[int, ...]]:
    """The integers of a map and of its transposed map, with room for ``most`` pairs of frames."""
    unused = (0,) * (most - len(frame_map.source))
    return [sources(each) + unused for each in (frame_map, frame_map.transposed(before))]


def _decays(populations: list[Spiking], lengths: tuple[int, ...]) -> list[float]:
    steps = [[population.step(length) for length in lengths] for population in populations]
    each = {tuple(number for step in of for number in (step.decay, (1 - step.decay) * step.v_leak)) for of in steps}
    if len(each) > 1:
        raise InputError("recorded mixed time steps need the same leak in all populations of a stage")
    return list(each.pop())
