"""Passes of several configurations that launch the same kernels, whatever their numbers of time steps are.

A CUDA graph repeats kernels with their sizes and addresses. Therefore all tensors of such a pass have room for more
frames and time steps than it uses, and its kernels read from memory how many there are. The room has few sizes, so that
few graphs suffice for all configurations.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from mtt_brian.errors import InputError
from mtt_brian.snn import temporal
from mtt_brian.snn.neurons import Spiking
from mtt_brian.snn.ops.time_plan import FrameMap, RoomMap, RoomPlan, TimePlan, sources, table
from mtt_brian.snn.residual import NORMS, Residual, leaves
from mtt_brian.snn.staged import RoomStage, Staged, StagePlan

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
        *decays, weights = reals.split(
            [*[_rounded_up(2 * configurations, 4)] * len(self.stages), configurations * steps]
        )
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
    decays: tuple[float, ...]

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
    room = _rounded_up(max(sum(plan.fewer) for plan in plans), unit)
    steps = _rounded_up(max(sum(plan.steps.lengths) for plan in plans), unit)
    stages = [
        _stage(model, module, plan, frames, room, steps, last=plan is plans[-1])
        for module, plan in zip(model.stages, plans, strict=True)
    ]
    weights = _weights(stages[-1].lengths, steps)
    integers = np.array([*itertools.chain(*(part for stage in stages for part in stage.integers))], np.int32)
    reals = np.array([*itertools.chain(*(stage.decays for stage in stages)), *weights.ravel()])
    return Pass((frames, room, steps, len(weights)), integers, reals, stages)


def _stage(
    model: Staged, module: nn.Module, plan: StagePlan, frames: int, room: int, steps: int, *, last: bool
) -> _Stage:
    """A stage of the pass of ``frames`` input frames, with room for frames and time steps."""
    after = plan.steps.lengths
    repeat, sums = _map(plan.fewer, after, steps), None if last else _map(after, plan.groups, room)
    layers = [*module.children()]
    populations = [layer for _, layer in leaves(module.named_children()) if isinstance(layer, Spiking)]
    if any(
        isinstance(layer, Residual) or (isinstance(layer, NORMS) and not isinstance(follower, Spiking))
        for layer, follower in itertools.zip_longest(layers, layers[1:])
    ):  # frames may be repeated anywhere
        used = [(True, False), (False, False), (True, not last), (False, not last)]
        maps = _both(repeat, room, steps)
    else:  # the first population repeats frames, the last one sums spikes
        used = [(True, not last)] if len(populations) == 1 else [(True, False), (False, False), (False, not last)]
        maps = [(), ()]
    used = list(dict.fromkeys(used))
    if plan.shared:
        maps = [*_both(_map(plan.before, plan.fewer, room, shared=True), frames, len(after) * frames), *maps]
    tables = [table(TimePlan(after, repeat if r else None, sums if s else None), steps) for r, s in used]
    once, before = (model.shared_layers(module), frames) if plan.shared else (0, None)
    integers = [_aligned(part) for part in (*maps, *tables)]
    return _Stage(once, before, last, after, used, integers, _decays(populations, after))


def _rounded_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def _aligned(numbers: Sequence[Any]) -> tuple[Any, ...]:
    """With zeros behind them, so that what follows lies at a multiple of 16 bytes: kernels are compiled for it."""
    return (*numbers, *[0] * (-len(numbers) % 4))


def _map(before: tuple[int, ...], after: tuple[int, ...], room: int, *, shared: bool = False) -> FrameMap:
    return temporal.map_of(tuple(zip(before, after, strict=True)), shared=shared)._replace(frames=room)


def _both(frame_map: FrameMap, before: int, most: int) -> list[tuple[int, ...]]:
    """The integers of a map and of its transposed map, with room for ``most`` pairs of frames."""
    unused = (0,) * (most - len(frame_map.source))
    return [sources(each) + unused for each in (frame_map, frame_map.transposed(before))]


def _decays(populations: Sequence[Spiking], lengths: tuple[int, ...]) -> tuple[float, ...]:
    steps = [[population.step(length) for length in lengths] for population in populations]
    each = {tuple(number for step in of for number in (step.decay, (1 - step.decay) * step.v_leak)) for of in steps}
    if len(each) > 1:
        raise InputError("recorded mixed time steps need the same leak in all populations of a stage")
    return _aligned(each.pop())


def _weights(lengths: tuple[int, ...], steps: int) -> np.ndarray:
    """1 / number of time steps of a segment in its time steps, else 0: [segments, steps]."""
    weights = np.zeros((len(lengths), steps))
    begin = 0
    for row, length in zip(weights, lengths, strict=True):
        row[begin : begin + length] = 1 / length
        begin += length
    return weights
