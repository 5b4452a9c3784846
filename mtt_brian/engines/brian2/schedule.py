"""The input schedule of a Brian2 run: which input neuron has an event in which step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtt_brian.circuit.spikes import InputSpikes

#: No step has this number: a neuron without further events waits for it.
NEVER = -1


@dataclass(frozen=True, eq=False)
class InputSchedule:
    """The input of a batch in one run.

    A copy of the network runs its recordings one after another. A recording takes one step per instant and one more for
    the end-of-recording reset, which the last input neuron of the copy triggers.

    Attributes:
        steps: number of steps of the run.
        pointer: int32 [batch_size * (inputs + 1)], where each input neuron's own list starts in the tables.
        event_step: float64 [events + neurons], the steps of each neuron's events in ascending order, then `NEVER`.
        event_count: float64, likewise, how many events fall together.
        instants: float64 [steps, batch_size], the time in seconds that each step stands for.
        ends: float64 [steps, batch_size], 1 where a recording ends.
        copy, first_step: int64 [recordings], which copy runs each recording, and from which step on.
        row: int64 [recordings], each recording's row in a table of results with `recordings + batch_size` rows: the
            recordings of a copy in the order in which it runs them, and a row to spare for what it does afterwards.
        first_row: int64 [batch_size], where the rows of each copy begin.
    """

    steps: int
    pointer: np.ndarray
    event_step: np.ndarray
    event_count: np.ndarray
    instants: np.ndarray
    ends: np.ndarray
    copy: np.ndarray
    first_step: np.ndarray
    row: np.ndarray
    first_row: np.ndarray

    def by_step(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same events in the order of the steps.

        Returns:
            int32 [events] input neurons, int32 [events] how many events fall together, and int64 [steps + 1], where
            in these each step begins.
        """
        rows = np.flatnonzero(self.event_step != NEVER)
        rows = rows[np.argsort(self.event_step[rows], kind="stable")]
        neuron = np.searchsorted(self.pointer, rows, side="right") - 1
        first = np.searchsorted(self.event_step[rows], np.arange(self.steps + 1))
        return neuron.astype(np.int32), self.event_count[rows].astype(np.int32), first

    def recording_of(self, copy: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Which recording a copy runs in a step: int64, for arrays of copies and steps."""
        starts = self.copy * (self.steps + 1) + self.first_step
        by_start = np.argsort(starts)
        row = np.searchsorted(starts[by_start], copy * (self.steps + 1) + step, side="right") - 1
        return by_start[row]

    @classmethod
    def arrange(cls, trains: Sequence[InputSpikes], batch_size: int, inputs: int) -> InputSchedule:
        """Distributes recordings so that all copies end at about the same step (longest recording first)."""
        times = [train.instants for train in trains]
        length = np.array([len(t) + 1 for t in times], dtype=np.int64)
        copy, first_step = np.zeros(len(trains), dtype=np.int64), np.zeros(len(trains), dtype=np.int64)
        row, taken = np.zeros(len(trains), dtype=np.int64), np.zeros(batch_size, dtype=np.int64)
        end = np.zeros(batch_size, dtype=np.int64)
        for k in np.argsort(-length, kind="stable"):
            copy[k] = np.argmin(end)
            first_step[k] = end[copy[k]]
            end[copy[k]] += length[k]
            row[k] = taken[copy[k]]
            taken[copy[k]] += 1
        first_row = np.cumsum(taken + 1) - (taken + 1)
        steps = int(end.max(initial=0))
        instants, ends = np.zeros((steps, batch_size)), np.zeros((steps, batch_size))
        neurons, at, counts = [], [], []
        for k, train in enumerate(trains):
            base, reset = copy[k] * (inputs + 1), first_step[k] + length[k] - 1
            instants[first_step[k] : reset, copy[k]] = times[k]
            instants[reset, copy[k]] = train.duration
            ends[reset, copy[k]] = 1
            neurons += [base + train.i, [base + inputs]]
            at += [first_step[k] + np.searchsorted(times[k], train.t), [reset]]
            counts += [train.n, [1]]
        n_neurons = batch_size * (inputs + 1)
        every = np.arange(n_neurons)
        neuron = np.concatenate([*neurons, every]).astype(np.int64)
        # `steps` sorts behind every real step: the end of each neuron's list.
        step = np.concatenate([*at, np.full(n_neurons, steps)])
        order = np.lexsort((step, neuron))
        event_step = step[order].astype(np.float64)
        event_step[event_step == steps] = NEVER
        return cls(
            steps=steps,
            pointer=np.searchsorted(neuron[order], every).astype(np.int32),
            event_step=event_step,
            event_count=np.concatenate([*counts, np.zeros(n_neurons)])[order].astype(np.float64),
            instants=instants,
            ends=ends,
            copy=copy,
            first_step=first_step,
            row=first_row[copy] + row,
            first_row=first_row,
        )
