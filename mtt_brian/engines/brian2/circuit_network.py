"""What the event-driven and the clock-driven Brian2 network of a circuit share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import brian2
import numpy as np
from numpy.typing import ArrayLike

from mtt_brian.circuit.model import Circuit, Population
from mtt_brian.circuit.spikes import MAX_SPIKES_AT_ONCE, Spikes
from mtt_brian.engines.brian2 import internals
from mtt_brian.engines.brian2.names import brian_names, numbered_name
from mtt_brian.errors import InputError

#: The slot of a step in which everything runs, in the order in which it was added.
SLOT = "thresholds"


class CircuitNetwork(brian2.Network):
    """A ``brian2.Network`` that holds ``batch_size`` independent copies of a circuit inside the same Brian2 objects.

    Neuron i of copy k has the number ``k * size + i``.

    Args:
        circuit: what to build.
        batch_size: number of copies.
        clock: the clock to run on.

    Attributes:
        circuit, batch_size, clock: as given.
        names: name of every node -> its counterpart in the names of Brian2 objects.
        groups: name of every node -> its ``NeuronGroup``.
        monitors: name of every population whose spikes are recorded -> its monitor.
    """

    def __init__(self, circuit: Circuit, batch_size: int, clock: brian2.Clock) -> None:
        super().__init__()
        self.circuit, self.batch_size, self.clock = circuit, batch_size, clock
        self.names = brian_names(circuit)
        self.groups: dict[str, brian2.NeuronGroup] = {}
        self.monitors: dict[str, brian2.EventMonitor] = {}
        self._order = 0

    def trains(self, copy: int = 0) -> dict[str, Spikes]:
        """The spikes that one copy has fired so far, by population; times in seconds.

        Args:
            copy: which one, 0 .. batch_size - 1.

        Raises:
            InputError: for more spikes at once than can be counted.
        """
        found = {}
        for name, monitor in self.monitors.items():
            copies, i = np.divmod(np.asarray(monitor.i, dtype=np.int64), self.circuit.population[name].size)
            times = self._times(monitor, copies)
            n = counted(self.circuit.population[name], i, np.asarray(monitor.n), times)
            order = np.lexsort((i, times))
            order = order[copies[order] == copy]
            found[name] = Spikes(times[order], i[order], n[order])
        return found

    def _times(self, monitor: brian2.EventMonitor, copies: np.ndarray) -> np.ndarray:
        """The time in seconds of every record of a monitor, float64 [records]."""
        raise NotImplementedError

    # ----- building

    def _next_order(self) -> int:
        """The place in the slot behind all that has one already."""
        self._order += 1
        return self._order

    def _in_order(self, *runners: Any) -> None:
        """Runs these one after another, behind all that has a place already."""
        for runner in runners:
            internals.schedule(runner, SLOT, self._next_order())

    def _tiled(self, values: ArrayLike, population: Population) -> np.ndarray:
        """A parameter of a population for all copies: [batch_size * neurons]."""
        return np.tile(np.broadcast_to(np.asarray(values), population.shape).ravel(), self.batch_size)

    def _fed_input(self, size: int) -> brian2.NeuronGroup:
        """Input neurons, ``size`` in each copy, that fire when `_load_events` has set it; for Brian2's runtime.

        In a ``SpikeGeneratorGroup`` no neuron could have two events in one step. A threshold would be evaluated for
        every neuron in every step, which would take a quarter of the time of a run.
        """
        group = brian2.NeuronGroup(
            self.batch_size * size,
            "n : integer",
            threshold="False",
            reset="",
            name="input",
            clock=self.clock,
            namespace={},
        )
        internals.switch_off(group.thresholder["spike"])
        self._input_spikes, self._input_n = internals.spike_space(group), internals.values_of(group, "n")
        feed = brian2.NetworkOperation(self._feed, clock=self.clock, name="feed")
        self._in_order(feed)
        self.add(group, feed)
        return group

    def _load_events(self, neurons: np.ndarray, counts: np.ndarray, first: np.ndarray) -> None:
        """Sets what the input neurons of `_fed_input` do.

        Args:
            neurons, counts: int32 [events], input neurons and how many events fall together, in the order of the steps.
            first: int64 [steps + 1], where the events of each step begin.
        """
        self._event_neuron, self._event_n, self._first_event = neurons, counts, first

    def _feed(self) -> None:
        """Makes the input neurons of this step fire; behind the last step none does."""
        last = len(self._first_event) - 1
        step = min(internals.step_of(self.clock), last)
        begin, end = self._first_event[step], self._first_event[min(step + 1, last)]
        neurons = self._event_neuron[begin:end]
        internals.set_spikes(self._input_spikes, neurons)
        self._input_n[neurons] = self._event_n[begin:end]

    def _connect(
        self,
        name: str,
        source: brian2.NeuronGroup,
        target: brian2.NeuronGroup,
        pre: np.ndarray,
        post: np.ndarray,
        model: str,
        on_pre: str | Mapping[str, str],
        namespace: Mapping[str, Any],
        **options: Any,
    ) -> brian2.Synapses:
        """Synapses ``pre[k] -> post[k]`` of one copy, repeated in every copy."""
        synapses = brian2.Synapses(
            source,
            target,
            model,
            on_pre=on_pre,
            name=numbered_name(name, [o.name for o in self.objects]),
            clock=self.clock,
            namespace=namespace,
            **options,
        )
        copy = np.repeat(np.arange(self.batch_size), len(pre))
        sizes = [len(group) // self.batch_size for group in (source, target)]
        if len(pre):
            synapses.connect(
                i=np.tile(pre, self.batch_size) + copy * sizes[0], j=np.tile(post, self.batch_size) + copy * sizes[1]
            )
        else:
            synapses.connect(False)
        self.add(synapses)
        return synapses


def counted(population: Population, i: np.ndarray, n: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Numbers of spikes at once as int64.

    Args:
        population: whose spikes they are.
        i, n, times: neuron (C order), number of spikes and time in seconds of each record.

    Raises:
        InputError: for more spikes at once than float64 counts one by one.
    """
    wrong = np.flatnonzero(~(n < MAX_SPIKES_AT_ONCE))
    if wrong.size:
        k = wrong[0]
        raise InputError(
            f"population {population.name!r}, neuron {i[k]} (C order), at {times[k]:.9g} s: more spikes at once than "
            "can be counted (2**53); check its bias, v_leak, weights and spike_integral"
        )
    return np.asarray(n).astype(np.int64)
