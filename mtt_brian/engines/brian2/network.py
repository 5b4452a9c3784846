"""`Circuit` -> a plain Brian2 network whose every time step is one instant of the recording.

Brian2 advances on a clock. Here step *k* stands for the *k*-th distinct instant at which an input event arrives. Within
one step everything runs in one slot with rising ``order``,

    input fires -> synapses -> threshold -> reset -> the next population's synapses -> ... -> end-of-recording reset

so that a spike crosses all populations in the same instant. Each of the ``batch_size`` copies of the network runs
recordings one after another. A recording ends with a step of its own, the end-of-recording reset, which reads the
readout and sets every state to its start: an extra input neuron fires, or populations find the end in a table. The
code of the populations is in `mtt_brian.engines.brian2.equations`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import brian2
import numpy as np
from brian2 import second

from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.engines.brian2 import internals
from mtt_brian.engines.brian2.circuit_network import SLOT, CircuitNetwork
from mtt_brian.engines.brian2.equations import COPY, BrianEquations, every_step, on_arrival
from mtt_brian.engines.brian2.execution import Execution, active_execution
from mtt_brian.engines.brian2.functions import FUNCTIONS, earliest_crossing, under_way
from mtt_brian.engines.brian2.functions import NEVER as NEVER_CROSSES
from mtt_brian.engines.brian2.memory import estimate_that_fits, refuse_what_needs_the_exact_engine
from mtt_brian.engines.brian2.names import numbered_name
from mtt_brian.engines.brian2.schedule import NEVER, InputSchedule
from mtt_brian.engines.brian2.self_timed import (
    IDLE,
    LINKED,
    RELAYS,
    RELAYS_RECEIVE,
    RELAYS_SEND,
    SCHEDULER,
    SCHEDULER_UPDATE,
    finds_its_instants,
    self_timed,
)
from mtt_brian.neuron import LIF
from mtt_brian.translate.from_nir import GraphLike, read_nir

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Room:
    """The size of a network in one run, all copies together.

    Attributes:
        events: input events (Brian2's runtime holds any number).
        steps: steps.
        recordings: recordings (needed where `Execution.every_step`).
    """

    events: int
    steps: int
    recordings: int


class EventNetwork(CircuitNetwork):
    """A ``brian2.Network`` that holds one circuit and can run recordings.

    Brian2 objects by name, as in ``network["population_conv1"]``: the input ``input``; ``population_<name>`` and
    ``spikes_<name>`` (a ``SpikeMonitor`` that also records ``n``); ``synapses_<source>_<target>`` with weights ``w``;
    ``readout``, an ``EventMonitor`` of a silent last population; ``reset_<name>``, the synapses of the end-of-recording
    reset. On a GPU ``update_<name>`` is in place of the reset, and ``total_<name>`` in place of ``readout`` and of
    monitors that are not needed: a group with ``total`` [rows * neurons], the final state or the number of spikes
    (rows: see `InputSchedule`). Names of the graph that Brian2 would not accept have other characters replaced by
    ``_``; `names` maps the names.

    A network with anything that makes instants of its own (biases, synaptic currents, refractory periods, delays) is
    `self_timed`: it has a group ``scheduler``, `update_<name>` in place of the reset, and ``relays_<source>_<target>``
    with the synapses ``late_<source>_<target>`` where spikes arrive late (`mtt_brian.engines.brian2.self_timed`).

    One time step lasts 1 s and stands for one instant; after `load_inputs` the network is run for `duration`, and
    ``inputs.instants[step, copy]`` is the time in seconds that a step stands for.

    Args:
        circuit: what to build.
        execution: the device that the network is built for.
        batch_size: independent copies that run side by side.
        room: what has to fit into one run.
        counted: firing populations of which only the numbers of spikes are needed. Where `Execution.every_step`, these
            are kept in a table.
        clock: the clock to run on; its own by default.

    Attributes:
        inputs: the recordings that were loaded last.
        self_timed: whether the network computes its instants.
        relays: name of every group of relays -> its connection, the group, and the memory of its delays.
        execution, room: as given.
        totals: name of every population that is only counted -> the group with its table.
        readout_monitor: the monitor of a silent last population; None without one.

    Raises:
        InputError: if the circuit needs another engine.
    """

    def __init__(
        self,
        circuit: Circuit,
        execution: Execution,
        *,
        batch_size: int,
        room: Room,
        counted: Collection[str] = (),
        clock: brian2.Clock | None = None,
    ) -> None:
        refuse_what_needs_the_exact_engine(circuit)
        super().__init__(circuit, batch_size, clock or brian2.Clock(dt=1 * second))
        self.execution, self.room = execution, room
        self.inputs: InputSchedule | None = None
        self.self_timed = finds_its_instants(circuit)
        leaks = any(isinstance(p.rule, LIF) for p in circuit.populations)
        tables = {"instants": leaks or self.self_timed, "ends": execution.every_step or self.self_timed}
        rows = room.steps + self.self_timed  # a row behind the last entry, where nothing is left
        self._tables = {name: _table(name, np.zeros((rows, batch_size))) for name, needed in tables.items() if needed}
        silent = () if circuit.readout.rule.fires else (circuit.output,)
        self._in_totals = {*counted, *silent} if execution.every_step else set()
        self.totals: dict[str, brian2.NeuronGroup] = {}
        self.relays: dict[str, tuple[Connection, brian2.NeuronGroup, tuple[np.ndarray, ...]]] = {}
        if self.self_timed:
            self._add_scheduler()
        self.groups[circuit.input] = self._input()
        self._equations = {population.name: self._population(population) for population in circuit.populations}
        if self.self_timed:
            self._earliest[:] = self._first_crossings()  # a project starts with what is written here
        self._connect_relays()
        for population in circuit.populations:
            self._end_of_recording(population, self._equations[population.name])
        for population in circuit.populations:
            if population.rule.fires and population.name not in self._in_totals:
                name = f"spikes_{self.names[population.name]}"
                self.monitors[population.name] = self._monitor("spike", population.name, "n", name)
        self.readout_monitor = (
            None
            if circuit.readout.rule.fires or circuit.output in self._in_totals
            else self._monitor("end", circuit.output, "final", "readout")
        )

    def has_room(self, inputs: InputSchedule) -> bool:
        """Whether the tables hold what the recordings need."""
        steps = inputs.steps + self.self_timed
        rows = {"instants": steps, "ends": steps, **dict.fromkeys(_EVENT_TABLES, len(inputs.event_step))}
        return all(internals.room_of(table) >= rows[name] for name, table in self._tables.items()) and not (
            self._in_totals and self.room.recordings < len(inputs.row)
        )

    @property
    def watched(self) -> dict[str, brian2.NeuronGroup]:
        """The groups whose `alarm` is the reason why a run ends, by their names in messages."""
        found = {
            f"population {name!r}": self.groups[name] for name, code in self._equations.items() if "alarm" in code.start
        }
        for connection, relays, _ in self.relays.values():
            found[f"the connection {connection.source!r} -> {connection.target!r}"] = relays
        return found

    @property
    def duration(self) -> brian2.Quantity:
        """How long to run after `load_inputs`: one second per step.

        A network that finds its instants itself (`self_timed`) takes as many steps as there are instants, a number that
        only the run shows. On Brian2's runtime it stops automatically, so this is very long. On a standalone device it
        is a guess: `scheduler.idle` is 1 for every copy that has run all its recordings.
        """
        if self.inputs is None:
            return 0 * second
        if not self.self_timed:
            return self.inputs.steps * second
        return (self.expected_steps(self.inputs) if self.execution.standalone else _FOREVER) * second

    def expected_steps(self, inputs: InputSchedule) -> int:
        """An estimate of the number of steps of a run; exact if the network does not compute its instants."""
        return inputs.steps if not self.self_timed else 4 * inputs.steps + 1000

    def load_inputs(self, inputs: InputSchedule) -> None:
        """Loads recordings and sets every state to its start; then ``run(network.duration)``."""
        for group_variable, value in self.initial_values(inputs):
            group_variable[:] = value if np.ndim(value) else value.item()
        for table, value in self.table_values(inputs):
            internals.fill(table, value)
        if self.self_timed:
            self._earliest[:] = self._first_crossings()
            for _, _, memory in self.relays.values():
                memory[-1][:] = 0
        elif not self.execution.standalone:
            self._load_events(*inputs.by_step())
        internals.rewind(self)
        self.inputs = inputs

    def initial_values(self, inputs: InputSchedule, steps: int | None = None) -> list[tuple[Any, np.ndarray]]:
        """Variables that must have a value before a run, with that value.

        Args:
            inputs: what will be run.
            steps: number of steps of the run; None: the expected number.
        """
        values = []
        if self._follows_lists:
            group = self.groups[self.circuit.input]
            values = [
                (group.steps, np.array(steps or self.expected_steps(inputs))),
                (group.pointer, inputs.pointer),
                (group.next_step, inputs.event_step[inputs.pointer]),
            ]
        if self.self_timed:
            values += [
                (getattr(self.scheduler, name), np.zeros(self.batch_size)) for name in ("entry", "taken", "idle")
            ]
        for _, relays, _ in self.relays.values():
            zero = np.zeros(len(relays))
            values += [(getattr(relays, name), zero) for name in ("sent", "alarm", "alarm_time")]
        for population in self.circuit.populations:
            group, code = self.groups[population.name], self._equations[population.name]
            values += [(getattr(group, name), self._tiled(value, population)) for name, value in code.start.items()]
            if population.name in self._in_totals:
                place = np.add.outer(inputs.first_row * population.size, np.arange(population.size)).ravel()
                values.append((group.place, place))
        return values

    def table_values(self, inputs: InputSchedule) -> list[tuple[brian2.TimedArray, np.ndarray]]:
        """The tables and their contents, padded to the room that was made for them."""
        padded = []
        for name, table in self._tables.items():
            value = getattr(inputs, name)
            idle = IDLE if name == "ends" and self.self_timed else 0  # others read 1 at an end and 0 elsewhere
            filler = NEVER if name == "event_step" else idle
            full = np.full((internals.room_of(table), *value.shape[1:]), float(filler))
            full[: len(value)] = value
            if idle:
                full[: len(value)][_behind_the_last_end(value)] = idle
            padded.append((table, full))
        return padded

    def _times(self, monitor: brian2.EventMonitor, copies: np.ndarray) -> np.ndarray:
        if self.self_timed:
            return np.array(monitor.event_time)
        steps = np.rint(np.asarray(monitor.t / second)).astype(np.int64)
        return np.zeros(0) if self.inputs is None else self.inputs.instants[steps, copies]

    # ----- building

    def _first_crossings(self) -> np.ndarray:
        """The earliest crossing in each copy if nothing arrives: float64 [batch_size]."""
        crossings = [code.start["crossing"] for code in self._equations.values() if "crossing" in code.start]
        return np.full(self.batch_size, min((float(np.min(c)) for c in crossings), default=NEVER_CROSSES))

    def _add_scheduler(self) -> None:
        """The group that finds the next instant of each copy, and on Brian2's runtime ends the run behind the last."""
        self._earliest = np.full(self.batch_size, NEVER_CROSSES)
        earliest = self._earliest_crossing = earliest_crossing(self._earliest)
        namespace = {**FUNCTIONS, "earliest_crossing": earliest, "second": second}
        self.scheduler = brian2.NeuronGroup(
            self.batch_size,
            SCHEDULER,
            name="scheduler",
            clock=self.clock,
            namespace={**namespace, "instants": self._tables["instants"], "ends": self._tables["ends"]},
        )
        self._in_order(self.scheduler.run_regularly(SCHEDULER_UPDATE, name="next_instant"))
        # Places behind it, for relays.
        self._receiving, _, self._after_relays = (self._next_order() for _ in range(3))
        self.add(self.scheduler)
        if not self.execution.standalone:
            idle = internals.values_of(self.scheduler, "idle")
            end = brian2.NetworkOperation(
                lambda: self.stop() if idle.all() else None, clock=self.clock, when="end", order=1, name="end_of_run"
            )
            self.add(end)

    def _linked(self, group: brian2.NeuronGroup, names: Collection[str]) -> None:
        """Links variables of a group to those of the scheduler; needs `copy`."""
        for name in names:
            setattr(group, name, brian2.linked_var(self.scheduler, name, index="copy"))

    @property
    def _follows_lists(self) -> bool:
        """Whether each input neuron follows its own list of events, and Python sets nothing."""
        return self.execution.standalone or self.self_timed

    def _input(self) -> brian2.NeuronGroup:
        """The pixels of every copy, and a last neuron for its end-of-recording reset.

        In a compiled project each neuron follows its own list of events in the shared table.
        """
        size = self.circuit.input_size + 1
        if not self._follows_lists:
            return self._fed_input(size)
        room = self.room.events + self.batch_size * size
        self._tables["event_step"] = _table("event_step", np.full(room, float(NEVER)))
        self._tables["event_count"] = _table("event_count", np.zeros(room))
        group = brian2.NeuronGroup(
            self.batch_size * size,
            f"""steps : integer (shared)
            next_step : integer
            pointer : integer
            n : integer
            {_ENTRIES if self.self_timed else "step = t_in_timesteps : integer (shared)"}""",
            threshold="next_step == entry and taken > 0" if self.self_timed else "next_step == step",
            reset="""n = int(event_count(pointer*second))
            pointer += 1
            next_step = int(event_step(pointer*second))""",
            name="input",
            clock=self.clock,
            namespace={**{name: self._tables[name] for name in _EVENT_TABLES}, "second": second},
        )
        if self.self_timed:
            group.copy = np.repeat(np.arange(self.batch_size), size)
            self._linked(group, ("entry", "taken"))
        self._in_order(group.thresholder["spike"], group.resetter["spike"])
        self.add(group)
        return group

    def _code(self, population: Population) -> BrianEquations:
        if self.self_timed:
            in_delays = any(connection.delayed for connection in self.circuit.into(population.name))
            return self_timed(population, self._earliest_crossing, population.name in self._in_totals, in_delays)
        instants = self._tables.get("instants")
        if self.execution.every_step:
            return every_step(population, instants, self._tables["ends"], population.name in self._in_totals)
        return on_arrival(population, instants, serial=self.execution.serial)

    def _population(self, population: Population) -> BrianEquations:
        code = self._code(population)
        name = self.names[population.name]
        group = brian2.NeuronGroup(
            self.batch_size * population.size,
            code.model,
            reset=code.reset,
            # Not `threshold`: Brian2 would warn where the reset is part of the update.
            events=code.events,
            name=f"population_{name}",
            clock=self.clock,
            namespace=code.namespace,
        )
        for parameter, values in code.arrays.items():
            setattr(group, parameter, self._tiled(values, population))
        if population.rule.fires:
            group.n = 1
        if "copy" in group.variables:
            group.copy = np.repeat(np.arange(self.batch_size), population.size)
        if self.self_timed:
            self._linked(group, LINKED)
        if population.name in self._in_totals:
            self._keep_total(population, group)
        self.groups[population.name] = group
        self.add(group)
        incoming = [made for c in self.circuit.into(population.name) for made in self._synapses(c, code)]
        for pathway in code.on_pre:
            order = self._next_order()
            for synapses in incoming:
                internals.schedule(getattr(synapses, pathway), SLOT, order)
        if code.update:
            self._in_order(group.run_regularly(code.update, name=f"update_{name}"))
        if population.rule.fires:
            self._in_order(group.thresholder["spike"], *group.resetter.values())
        if code.end_of_step:
            self._in_order(group.run_regularly(code.end_of_step, name=f"end_of_step_{name}"))
        return code

    def _keep_total(self, population: Population, group: brian2.NeuronGroup) -> None:
        """A row per recording, and one to spare per copy (see `InputSchedule`), in memory that the group writes to."""
        table = brian2.NeuronGroup(
            (self.room.recordings + self.batch_size) * population.size,
            "total : 1",
            name=f"total_{self.names[population.name]}",
            clock=self.clock,
            namespace={},
        )
        group.total = brian2.linked_var(table, "total", index="place")
        self.totals[population.name] = table
        self.add(table)

    def _synapses(self, connection: Connection, code: BrianEquations) -> list[brian2.Synapses]:
        """Synapses of a connection that deliver their spikes at once; those with a delay go through relays."""
        target = self.circuit.population[connection.target]
        pre, post, weight, delay = connection.synapses()
        weight = weight * np.broadcast_to(target.rule.gain, target.shape).ravel()[post]
        name = f"{self.names[connection.source]}_{self.names[connection.target]}"
        made = []
        if not np.all(delay > 0) or not len(delay):
            now = delay == 0
            ends = pre[now], post[now]
            made.append(self._weighted(f"synapses_{name}", connection, self.groups[connection.source], ends, code))
            made[0].w = np.tile(weight[now], self.batch_size)
        if np.any(delay > 0):
            late = delay > 0
            (source, seconds), relay = _distinct(pre[late], delay[late])
            relays = self._relays(name, connection, source, seconds)
            synapses = self._weighted(f"late_{name}", connection, relays, (relay, post[late]), code)
            synapses.w = np.tile(weight[late], self.batch_size)
            for pathway in code.on_pre:
                internals.schedule(getattr(synapses, pathway), SLOT, self._after_relays)
        return made

    def _weighted(
        self,
        name: str,
        connection: Connection,
        source: brian2.NeuronGroup,
        ends: tuple[np.ndarray, np.ndarray],
        code: BrianEquations,
    ) -> brian2.Synapses:
        target = self.groups[connection.target]
        return self._prompt(name, source, target, ends, "w : 1", code.on_pre, code.namespace)

    def _relays(self, name: str, connection: Connection, source: np.ndarray, seconds: np.ndarray) -> brian2.NeuronGroup:
        """A neuron for each source neuron and delay, which fires when spikes arrive."""
        size = self.batch_size * len(source)
        name = numbered_name(f"relays_{name}", [o.name for o in self.objects])
        function, memory = under_way(name, size)
        relays = brian2.NeuronGroup(
            size,
            RELAYS,
            events={"spike": "n > 0"},
            name=name,
            clock=self.clock,
            namespace={**FUNCTIONS, "earliest_crossing": self._earliest_crossing, "under_way": function},
        )
        relays.copy = np.repeat(np.arange(self.batch_size), len(source))
        relays.seconds = np.tile(seconds, self.batch_size)
        self._linked(relays, [key for key in LINKED if key != "entry"])
        receive = relays.run_regularly(RELAYS_RECEIVE, name=f"receive_{name}")
        internals.schedule(receive, SLOT, self._receiving)
        internals.schedule(relays.thresholder["spike"], SLOT, self._receiving + 1)
        self.add(relays)
        # All that fires in a step has fired before anything is sent: a connection may lead back.
        sending = relays.run_regularly(RELAYS_SEND, name=f"send_{name}")
        internals.schedule(sending, SLOT, _LAST + 1)
        self.relays[name] = (connection, relays, memory)
        return relays

    def _connect_relays(self) -> None:
        """What populations and input send into delays, once all of them exist."""
        for name, (connection, relays, _) in self.relays.items():
            pre, _, _, delay = connection.synapses()
            (pre, _), _ = _distinct(pre[delay > 0], delay[delay > 0])
            synapses = self._prompt(
                f"into_{name}",
                self.groups[connection.source],
                relays,
                (pre, np.arange(len(pre))),
                "",
                {"pre": "sent_post += n_pre"},
                {},
            )
            internals.schedule(synapses.pre, SLOT, _LAST)

    def _end_of_recording(self, population: Population, code: BrianEquations) -> None:
        """The end-of-recording reset of a population, behind all populations."""
        if code.on_reset:
            name = f"reset_{self.names[population.name]}"
            ends = np.full(population.size, self.circuit.input_size), np.arange(population.size)
            groups = self.groups[self.circuit.input], self.groups[population.name]
            synapses = self._prompt(name, *groups, ends, "", code.on_reset, code.namespace)
            self._in_order(*(getattr(synapses, pathway) for pathway in code.on_reset))
        if "end" in code.events:
            self._in_order(self.groups[population.name].thresholder["end"])

    def _prompt(
        self,
        name: str,
        source: brian2.NeuronGroup,
        target: brian2.NeuronGroup,
        ends: tuple[np.ndarray, np.ndarray],
        model: str,
        on_pre: Mapping[str, str],
        namespace: Mapping[str, Any],
    ) -> brian2.Synapses:
        """Synapses without a delay."""
        delay = dict.fromkeys(on_pre, 0 * second)
        return self._connect(name, source, target, *ends, model, on_pre, namespace, delay=delay)

    def _monitor(self, event: str, population: str, variable: str, name: str) -> brian2.EventMonitor:
        variables = [variable, *(("event_entry", "event_time") if self.self_timed else ())]
        monitor = brian2.EventMonitor(self.groups[population], event, variables=variables, name=name, when="end")
        self.add(monitor)
        return monitor


def to_brian2(
    graph: GraphLike, recording: np.ndarray, duration: float | None = None, **conventions: Any
) -> EventNetwork:
    """A plain Brian2 network of a graph with one recording loaded, for monitors, noise and other additions.

    >>> network = to_brian2("model.nir", recording)                              # doctest: +SKIP
    >>> v = brian2.StateMonitor(network["population_spikes1"], "v", record=[0])  # doctest: +SKIP
    >>> network.add(v)                                                           # doctest: +SKIP
    >>> network.run(network.duration)                                            # doctest: +SKIP

    Made for the Brian2 device and code generation target that are set when it is called.

    Args:
        graph: a NIR graph, the path of a ``.nir`` file, or a circuit.
        recording: structured array ``t`` [us], ``x``, ``y``, ``p``.
        duration: end of the run in seconds; by default the last event.
        **conventions: fields of `mtt_brian.translate.Conventions`, or the object as ``conventions=``.

    Raises:
        InputError: for graphs that need the exact engine, or more memory than there is.
    """
    circuit = read_nir(graph, **conventions)
    _log.info("building %s", estimate_that_fits(circuit, batch_size=1))
    train = circuit.input_spikes(recording, duration)
    inputs = InputSchedule.arrange([train], 1, circuit.input_size)
    room = Room(events=len(train.t) + 1, steps=inputs.steps, recordings=1)
    network = EventNetwork(circuit, active_execution(), batch_size=1, room=room)
    network.load_inputs(inputs)
    return network


#: Tables that the input neurons of a compiled project follow.
_EVENT_TABLES = ("event_step", "event_count")


#: A place in the slot behind all populations.
_LAST = 1_000_000
#: Steps that no run reaches.
_FOREVER = 2**31
#: What the input neurons of a self-timed network read of its scheduler.
_ENTRIES = f"{COPY}\nentry : integer (linked)\ntaken : integer (linked)"


def _behind_the_last_end(ends: np.ndarray) -> np.ndarray:
    """Entries of the input schedule [steps, batch_size] behind the last recording of a copy."""
    return np.asarray(np.cumsum(ends[::-1], axis=0)[::-1] == 0)


def _distinct(pre: np.ndarray, delay: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Distinct pairs of source neuron and delay, and which of them each synapse has."""
    pairs, which = np.unique(np.stack([pre.astype(np.float64), delay], axis=1), axis=0, return_inverse=True)
    return (pairs[:, 0].astype(np.int64), pairs[:, 1]), np.ravel(which)


def _table(name: str, values: np.ndarray) -> brian2.TimedArray:
    """A lookup table ``name(k*second)``: the only kind of array that a compiled network reads again in every run."""
    return brian2.TimedArray(values, dt=1 * second, name=name)
