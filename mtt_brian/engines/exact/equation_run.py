"""A run of a network of `EquationNeuron`: it starts in any state, continues piece by piece, and can be saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mtt_brian.circuit.instants import just_before
from mtt_brian.circuit.model import Circuit
from mtt_brian.circuit.plasticity import STORE, PlasticSynapses, programs_in_order
from mtt_brian.circuit.spikes import FiredSpikes
from mtt_brian.engines.exact import equation_loop as loop
from mtt_brian.engines.exact.equation_neurons import (
    ACTIVE,
    CURRENT,
    DUE,
    HELD,
    REFRACTORY,
    change_sets,
    change_states,
    equations_of,
    predict_all_crossings,
    start_from,
    states_at,
)
from mtt_brian.engines.exact.instant import BURST
from mtt_brian.engines.exact.queues import CrossingQueue
from mtt_brian.engines.exact.synapse_programs import BAD_ROW, BAD_SYNAPSE, plasticity_of, variables_of
from mtt_brian.engines.exact.taylor import SPAN
from mtt_brian.engines.lowered.synapse_lists import synapse_lists
from mtt_brian.errors import InputError
from mtt_brian.neuron.equation_neuron import RECIPROCAL, EquationNeuron

#: Spikes per second of a neuron above which a run ends with an error.
MAX_RATE = 1e6


class EquationRun:
    """The run of a network.

    A piece of a run covers ``[begin, end)``: events at its end belong to the next piece. Runs in several pieces
    give bit for bit the spikes of one.

    Args:
        circuit: a network whose populations are all of `EquationNeuron`.
        plastic: synapses whose variables spikes change; `synapses` has them, 0 at first.

    Raises:
        InputError: names the population or connection that cannot be run, and why.
    """

    def __init__(self, circuit: Circuit, plastic: Sequence[PlasticSynapses] = ()) -> None:
        self.circuit = circuit
        self._net = synapse_lists(circuit, plastic)
        self._equations, self._general, self._taylor = equations_of(circuit)
        self._width = len(self._equations.wide)
        self._programs = programs_in_order(plastic)
        self._plastic = plasticity_of(plastic, {p.name: self.neurons(p.name).start for p in circuit.populations})
        self._synapses = {} if self._plastic is None else variables_of(plastic, self._plastic.values)
        self._crossings = CrossingQueue.empty(self._net.neurons)
        self._put_delayed(loop.DelayedSpikes.empty(max(self._net.most, 16)))
        self._trace = loop.Trace.empty(max(self._net.neurons, 16), self._width)
        self._first_sets = self._equations.z[:, ACTIVE].copy()
        self._changes, self._changed = _changes_of(circuit), 0
        self._progress = loop.Progress.start(self._net.neurons)

    def neurons(self, name: str) -> slice:
        """The neurons of a population among those of all."""
        k = [p.name for p in self.circuit.populations].index(name)
        return slice(int(self._net.offset[k]), int(self._net.offset[k + 1]))

    def start(self, name: str, neurons: np.ndarray, x: np.ndarray, free: np.ndarray, t: float) -> None:
        """Sets the states of some neurons of a population; `predict_crossings` must follow.

        Args:
            name: of the population.
            neurons: their indices in it, integers [K].
            x: states, float64 [K, n].
            free: end of their refractory periods in seconds, float64 [K]; those up to ``t`` are over, and
                those of inf end by their condition.
            t: seconds.
        """
        start_from(self._equations, self.neurons(name).start + neurons.astype(np.int64), self._for_kernels(x), free, t)

    def change(self, name: str, neurons: np.ndarray, x: np.ndarray, t: float) -> None:
        """Sets the states of some neurons of a population in the middle of a run.

        Args:
            name: of the population.
            neurons: their indices in it, integers [K].
            x: states, float64 [K, n].
            t: the end of the last piece, seconds.

        Raises:
            InputError: for an oscillation whose crossing is undecided.
        """
        at = self.neurons(name).start + neurons.astype(np.int64)
        neuron = change_states(
            self._equations, self._general, self._taylor, self._crossings, at, self._for_kernels(x), t
        )
        self._check_series()
        if neuron >= 0:
            raise InputError(self._undecided(neuron))

    def synapses(self, name: str) -> dict[str, np.ndarray]:
        """The variables of plastic synapses now, float64 [S] each; what is written into them changes the synapses."""
        return self._synapses[name]

    def predict_crossings(self) -> None:
        """Predicts the next event of every neuron.

        Raises:
            InputError: for an oscillation whose crossing is undecided.
        """
        self._crossings.time[:], self._crossings.place[:], self._crossings.size[:] = np.inf, -1, 0
        neuron = predict_all_crossings(self._equations, self._general, self._taylor, self._crossings)
        self._check_series()
        if neuron >= 0:
            raise InputError(self._undecided(neuron))

    def advance(self, t: np.ndarray, i: np.ndarray, n: np.ndarray, end: float) -> None:
        """Continues the run up to ``end``, which is excluded.

        Args:
            t, i, n: input spikes sorted by time, each (t, i) once, at or after the end of the last piece; those from
                ``end`` on are left out.
            end: seconds.

        Raises:
            InputError: for a neuron that fires without end or faster than `MAX_RATE`, for states that grow without
                bound, and for an oscillation whose crossing is undecided.
        """
        last = just_before(end)
        row = 0
        while self._changed < len(self._changes) and self._changes[self._changed].time <= last:
            change = self._changes[self._changed]
            before = just_before(change.time)
            following = int(np.searchsorted(t, before, side="right"))
            self._advance(t[row:following], i[row:following], n[row:following], before)
            row = following
            self._change(change)
            self._changed += 1
        used = slice(row, int(np.searchsorted(t, last, side="right")))
        self._advance(t[used], i[used], n[used], last)

    def _change(self, change: _Change) -> None:
        """Gives the neurons of a population other parameters."""
        here = self.neurons(change.population)
        shift = change.shift[self._rule(change.population).changes.kind]
        changed = np.flatnonzero(shift)
        neuron = change_sets(
            self._equations,
            self._general,
            self._taylor,
            self._crossings,
            here.start + changed,
            shift[changed],
            change.time,
        )
        self._check_series()
        if neuron >= 0:
            raise InputError(self._undecided(neuron))

    def _advance(self, t: np.ndarray, i: np.ndarray, n: np.ndarray, last: float) -> None:
        """Continues the run up to ``last``, which is included, with all these input spikes."""
        now = self._progress.now
        now[loop.ROW] = 0
        while True:
            status = loop.run(
                self._net,
                self._equations,
                self._general,
                self._taylor,
                self._plastic,
                self._crossings,
                self._delayed,
                self._trace,
                self._progress,
                t,
                i,
                n,
                last,
            )
            self._check_series()
            if status == loop.DONE:
                return
            if status == loop.PAUSED:  # Python handles a signal now
                continue
            if status == loop.UNDECIDED:
                raise InputError(self._undecided(int(now[loop.NEURON])))
            if status == loop.WITHOUT_END:
                raise InputError(
                    f"{self._named(int(now[loop.NEURON]))} fires without end at {self._progress.where[0]:.9g} s: its "
                    "reset leaves its threshold condition fulfilled, or it reaches the threshold again at once; change "
                    "the reset or what drives it, or give it a refractory period, or the synapses of a loop a delay"
                )
            if status == loop.NOT_FINITE:
                raise InputError(self._not_finite())
            self._check_rates()
            self._make_room()

    def fetch(self) -> dict[str, FiredSpikes]:
        """The spikes since the last call, by population."""
        spikes = self._spikes()
        self._progress.now[loop.SPIKES] = 0
        return spikes

    def states(self, name: str, neurons: np.ndarray, t: float) -> np.ndarray:
        """States of some neurons of a population at ``t``, the end of the last piece: float64 [K, n].

        Raises:
            InputError: for states that grow without bound, or change too fast.
        """
        out = np.empty(len(neurons) * self._width)
        states_at(
            self._equations, self._general, self._taylor, self.neurons(name).start + neurons.astype(np.int64), t, out
        )
        self._check_series()
        return out.reshape(-1, self._width)[:, : len(self._rule(name).states)]

    def refractory(self, name: str) -> np.ndarray:
        """Which neurons of a population are refractory."""
        return self._equations.z[self.neurons(name), REFRACTORY].astype(bool)

    def systems(self, name: str) -> np.ndarray:
        """The parameter set that each neuron of a population has now, int64 [neurons]."""
        here = self.neurons(name)
        return self._rule(name).system + self._equations.z[here, ACTIVE] - self._first_sets[here]

    @property
    def delayed_spikes(self) -> int:
        """Spikes in delays."""
        return int(self._delayed.size[0])

    def keep(self) -> dict[str, Any]:
        """A copy of everything that changes during a run, for `restore`."""
        size = max(self.delayed_spikes, 1)
        return {
            "y": self._equations.y.copy(),
            "z": self._equations.z.copy(),
            "crossings": [a.copy() for a in self._crossings],
            "delayed": [
                self._delayed.time[:size].copy(),
                self._delayed.number[:size].copy(),
                self._delayed.size.copy(),
            ],
            "instant": int(self._progress.now[loop.NOW]),
            "changed": self._changed,
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Continues from the state of `keep`, of the same network."""
        self._equations.y[:], self._equations.z[:] = kept["y"], kept["z"]
        self._forget_cells()
        for array, values in zip(self._crossings, kept["crossings"], strict=True):
            array[:] = values
        self._changed = kept["changed"]
        self.restore_delayed_spikes(kept)

    def restore_delayed_spikes(self, kept: Mapping[str, Any]) -> None:
        """Restores the spikes in delays from the state of `keep`, of a network with the same synapses and delays."""
        time, number, size = kept["delayed"]
        self._put_delayed(loop.DelayedSpikes.empty(max(2 * len(time), self._net.most, 16)))
        self._delayed.time[: len(time)], self._delayed.number[: len(number)], self._delayed.size[:] = time, number, size
        self._progress.back_to(kept["instant"])

    def restore_neurons(self, kept: Mapping[str, Any], old: slice, name: str, neurons: np.ndarray) -> None:
        """Restores the states of some neurons from another run, with the same parameters.

        Args:
            kept: the state of `keep` of that run.
            old: the neurons of the population in that run.
            name: of the population.
            neurons: their indices in it, integers [K].
        """
        at, before = self.neurons(name).start + neurons, old.start + neurons
        mine = self._equations.z
        sets = mine[at][:, [ACTIVE, HELD]]  # numbered anew
        self._equations.y[at], mine[at] = kept["y"][before], kept["z"][before]
        mine[at, ACTIVE], mine[at, HELD] = sets.T
        self._forget_cells()
        mine[at, CURRENT] = np.where(mine[at, REFRACTORY] != 0, sets[:, 1], sets[:, 0])
        mine[at, DUE] = -1  # instants are counted anew

    def _forget_cells(self) -> None:
        """The coordinates of neurons have changed."""
        if self._taylor is not None:
            self._taylor.span[:, SPAN] = 0.0

    def _check_series(self) -> None:
        """Raises InputError for a neuron whose Taylor series cannot go on."""
        if self._taylor is None or self._taylor.alarm[0] < 0:
            return
        neuron, t, grows = self._taylor.alarm
        if grows:
            divides = any(one.kind == RECIPROCAL for one in self._rule(self._population_of(int(neuron))).operations)
            raise InputError(
                f"{self._named(int(neuron))} has states that grow without bound{', or divides by zero,' * divides} at "
                f"{t:.9g} s; give it a threshold that it reaches before, or change its equations or what drives it"
            )
        raise InputError(
            f"{self._named(int(neuron))} changes too fast at {t:.9g} s for the time to its next event; give it longer "
            "time constants"
        )

    def _for_kernels(self, x: np.ndarray) -> np.ndarray:
        """States [K, n] with room for those of any neuron, one neuron after another."""
        wide = np.zeros((len(x), self._width))
        wide[:, : x.shape[1]] = x
        return wide.ravel()

    def _rule(self, name: str) -> EquationNeuron:
        rule = self.circuit.population[name].rule
        assert isinstance(rule, EquationNeuron)
        return rule

    def _spikes(self) -> dict[str, FiredSpikes]:
        size = int(self._progress.now[loop.SPIKES])
        t, neuron = self._trace.t[:size], self._trace.neuron[:size]
        x = self._trace.x[: self._width * size].reshape(size, self._width)
        order = np.lexsort((neuron, t))
        out = {}
        for population in self.circuit.populations:
            here, states = self.neurons(population.name), len(self._rule(population.name).states)
            rows = order[(neuron[order] >= here.start) & (neuron[order] < here.stop)]
            out[population.name] = FiredSpikes(t[rows], neuron[rows] - here.start, x[rows, :states])
        return out

    def _check_rates(self) -> None:
        """Checks the recorded spikes each time that they fill the trace, before there is room for more."""
        size = int(self._progress.now[loop.SPIKES])
        t, neuron = self._trace.t[:size], self._trace.neuron[:size]
        fired = np.bincount(neuron, minlength=1)
        busiest = int(fired.argmax())
        if fired[busiest] <= BURST:
            return
        times = t[neuron == busiest]
        if fired[busiest] > BURST + MAX_RATE * (times.max() - times.min()):
            raise InputError(
                f"{self._named(busiest)} fires more than {MAX_RATE:g} times per second, at {times[0]:.9g} s: check its "
                "time constants and what drives it, or give it a refractory period"
            )

    def _make_room(self) -> None:
        if self._progress.now[loop.SPIKES] + self._net.neurons > len(self._trace.t):
            larger = loop.Trace.empty(2 * len(self._trace.t), self._width)
            for new, old in zip(larger, self._trace, strict=True):
                new[: len(old)] = old
            self._trace = larger
        if self.delayed_spikes + self._net.most > len(self._delayed.time):
            delayed = loop.DelayedSpikes.empty(2 * len(self._delayed.time))
            for new, old in zip(delayed, self._delayed, strict=True):
                new[: len(old)] = old
            self._put_delayed(delayed)

    def _put_delayed(self, delayed: loop.DelayedSpikes) -> None:
        """Takes another queue, and room for what its spikes and those of one round can execute."""
        self._delayed = delayed
        if self._plastic is not None:
            room = len(delayed.time) + sum(pathway.source_size for _, pathway in self._programs)
            self._plastic = self._plastic._replace(due=np.zeros((room, 4), np.int64))

    def _population_of(self, neuron: int) -> str:
        return self.circuit.populations[int(np.searchsorted(self._net.offset, neuron, side="right")) - 1].name

    def _named(self, neuron: int) -> str:
        name = self._population_of(neuron)
        return f"neuron {neuron - self.neurons(name).start} of {name!r}"

    def _not_finite(self) -> str:
        assert self._plastic is not None
        row, synapse = (int(self._plastic.state[k]) for k in (BAD_ROW, BAD_SYNAPSE))
        number = int(np.searchsorted(self._plastic.first, row, side="right")) - 1
        one, pathway = self._programs[number]
        op, column = pathway.code[row - int(self._plastic.first[number])][:2]
        what = f"sets {one.variables[column]} to" if op == STORE else "adds"
        return (
            f"{pathway.name}: synapse {synapse} {what} a value that is not finite, at {self._progress.where[0]:.9g} s; "
            "check its values and time constants, or limit it by clip(...)"
        )

    def _undecided(self, neuron: int) -> str:
        return (
            f"{self._named(neuron)} oscillates with almost no damping, so close to its threshold that whether it "
            "reaches it stays open; give it more damping"
        )


class _Change(NamedTuple):
    """What is added at a time to the number of the parameter set of every kind of neurons of a population."""

    time: float
    population: str
    shift: np.ndarray


def _changes_of(circuit: Circuit) -> list[_Change]:
    """All changes of parameters, by time."""
    out = []
    for population in circuit.populations:
        rule = population.rule
        assert isinstance(rule, EquationNeuron)
        times, systems, kind = rule.changes
        if not len(times):
            continue
        before = np.zeros((1, systems.shape[1]), np.int64)
        before[0, kind] = rule.system
        shifts = np.diff(np.concatenate([before, systems]), axis=0)
        out += [_Change(times[k], population.name, shifts[k]) for k in np.flatnonzero(np.any(shifts, axis=1))]
    return sorted(out, key=lambda change: change.time)
