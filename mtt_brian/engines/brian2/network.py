"""`Circuit` -> a plain Brian2 network whose every time step is one instant of the recording.

Brian2 advances on a clock. Here step *k* stands for the *k*-th distinct instant at which an input event arrives, and
within one step everything follows in one slot with rising ``order``,

    input fires -> synapses -> threshold -> reset -> the next population's synapses -> ... -> curtain

so that a spike crosses all populations in the same instant. A *lane* is an independent copy of the network inside the
same Brian2 objects; each lane plays recordings one after another. A recording ends with a step of its own, the
*curtain*, which takes down the readout and puts every state back to zero: an extra input neuron fires, or populations
find the end in a table. What the populations do is in `mtt_brian.engines.brian2.equations`.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Collection
from typing import Any

import brian2
import numpy as np
from brian2 import second
from brian2.devices.device import all_devices, auto_target, get_device

from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.spikes import input_spikes_for
from mtt_brian.engines.brian2.equations import PopulationCode, dense, lazy
from mtt_brian.engines.brian2.memory import estimate_that_fits, refuse_what_needs_the_exact_engine
from mtt_brian.engines.brian2.schedule import NEVER, Playlist
from mtt_brian.neuron import LIF
from mtt_brian.translate.from_nir import GraphLike, read_nir

_SLOT = "thresholds"


class EventNetwork(brian2.Network):
    """A ``brian2.Network`` that holds one circuit and can play recordings.

    Brian2 objects by name, as in ``network["population_conv1"]``: the input ``input``; ``population_<name>`` and
    ``spikes_<name>`` (a ``SpikeMonitor`` that also records ``n``); ``synapses_<source>_<target>`` with weights ``w``;
    ``readout``, an ``EventMonitor`` of a silent last population; ``curtain_<name>``. On a GPU ``update_<name>`` is in
    place of the curtain, and ``tally_<name>`` in place of ``readout`` and of monitors that nobody asked for: a group
    with ``total`` [rows * neurons], the final state or the number of spikes (rows: see `Playlist`).
    Names of the graph that Brian2 would not accept have other characters replaced by ``_``; `names` tells which became
    what.

    One time step lasts 1 s and stands for one instant; after `play` the network is run for `duration`, and
    ``playlist.instants[step, lane]`` tells what time in seconds a step stood for.

    Args:
        circuit: what to build.
        lanes: independent copies that run side by side.
        events: room for so many input events in one run, all lanes together (Brian2's runtime has room for any number).
        steps: room for so many steps in one run.
        recordings: room for so many recordings in one run, all lanes together (needed on a GPU only).
        counted: firing populations whose spikes nobody wants one by one. On a GPU, where a monitor makes every step
            wait, these are only counted.
        clock: the clock to run on; its own by default.

    Raises:
        InputError: if the circuit needs another engine.
    """

    def __init__(
        self,
        circuit: Circuit,
        *,
        lanes: int,
        events: int,
        steps: int,
        recordings: int,
        counted: Collection[str] = (),
        clock: brian2.Clock | None = None,
    ) -> None:
        refuse_what_needs_the_exact_engine(circuit)
        super().__init__()
        self.circuit, self.lanes, self.steps = circuit, lanes, 0
        self.playlist: Playlist | None = None
        self._walks = get_device() is not all_devices["runtime"]
        self.names = brian_names(circuit)
        self.clock = clock or brian2.Clock(dt=1 * second)
        self._order = 0
        leaks = any(isinstance(p.rule, LIF) for p in circuit.populations)
        if self._walks:
            self.event_step = _table("event_step", np.full(events + lanes * (circuit.input_size + 1), float(NEVER)))
            self.event_count = _table("event_count", np.zeros(len(self.event_step.values)))
        self.instants = _table("instants", np.zeros((steps, lanes))) if leaks else None
        self.ends = _table("ends", np.zeros((steps, lanes))) if _on_gpu() else None
        silent = () if circuit.readout.rule.fires else (circuit.output,)
        self._tallied = {*counted, *silent} if _on_gpu() else set()
        self.recordings = recordings
        self.tallies: dict[str, brian2.NeuronGroup] = {}
        self.groups: dict[str, brian2.NeuronGroup] = {circuit.input: self._input()}
        codes = [self._population(population) for population in circuit.populations]
        for population, code in zip(circuit.populations, codes, strict=True):
            self._curtain(population, code)
        firing = [p.name for p in circuit.populations if p.rule.fires and p.name not in self._tallied]
        self.monitors = {name: self._monitor("spike", name, ["n"], f"spikes_{self.names[name]}") for name in firing}
        self.readout_monitor = (
            None
            if circuit.readout.rule.fires or circuit.output in self._tallied
            else self._monitor("curtain", circuit.output, ["final"], "readout")
        )

    def has_room(self, playlist: Playlist) -> bool:
        """Whether the tables hold what the recordings need."""
        return not (
            (self._walks and len(self.event_step.values) < len(playlist.event_step))
            or any(t is not None and len(t.values) < playlist.steps for t in (self.instants, self.ends))
            or (self._tallied and self.recordings < len(playlist.row))
        )

    @property
    def duration(self) -> brian2.Quantity:
        """How long to run after `play`: one second per step."""
        return self.steps * second

    def _feed(self) -> None:
        """Let the input neurons of this step fire (runtime only)."""
        step = self.clock.variables["timestep"].item()
        first, last = self._first_event[step : step + 2]
        neurons = self._event_neuron[first:last]
        self._input_spikes[: last - first] = neurons
        self._input_spikes[-1] = last - first
        self._input_n[neurons] = self._event_n[first:last]

    def play(self, playlist: Playlist) -> None:
        """Put recordings on the lanes and every state to its start; then ``run(network.duration)``."""
        for group_variable, value in self.initial_values(playlist):
            group_variable[:] = value if np.ndim(value) else value.item()
        for table, value in self.table_values(playlist):
            table.values[:] = value
        if not self._walks:
            group = self.groups[self.circuit.input]
            self._event_neuron, self._event_n, self._first_event = playlist.by_step()
            self._input_spikes = group.variables["_spikespace"].get_value()
            self._input_n = group.variables["n"].get_value()
        self.t_ = 0.0
        self.playlist, self.steps = playlist, playlist.steps

    def initial_values(self, playlist: Playlist) -> list[tuple[Any, np.ndarray]]:
        """Variables that must have a value before a run, with that value."""
        values = []
        if self._walks:
            group = self.groups[self.circuit.input]
            values = [
                (group.steps, np.array(playlist.steps)),
                (group.pointer, playlist.pointer),
                (group.next_step, playlist.event_step[playlist.pointer]),
            ]
        for population in self.circuit.populations:
            group = self.groups[population.name]
            zero = np.zeros(len(group))
            values.append((group.v, zero))
            never = zero + NEVER
            place = np.add.outer(playlist.first_row * population.size, np.arange(population.size)).ravel()
            for name, start in (
                ("last", zero),
                ("arrived", zero),
                ("touched", never),
                ("curtain_step", never),
                ("place", place),
            ):
                if name in group.variables:
                    values.append((getattr(group, name), start))
        return values

    def table_values(self, playlist: Playlist) -> list[tuple[brian2.TimedArray, np.ndarray]]:
        """The tables and their contents, padded to the room that was made for them."""
        contents = []
        if self._walks:
            contents = [(self.event_step, playlist.event_step, NEVER), (self.event_count, playlist.event_count, 0)]
        if self.instants is not None:
            contents.append((self.instants, playlist.instants, 0))
        if self.ends is not None:
            contents.append((self.ends, playlist.ends, 0))
        padded = []
        for table, value, filler in contents:
            full = np.full(table.values.shape, float(filler))
            full[: len(value)] = value
            padded.append((table, full))
        return padded

    # ----- building

    def _in_order(self, *runners: Any) -> None:
        """Run these one after another, behind all that is scheduled already."""
        for runner in runners:
            self._order += 1
            runner.when, runner.order = _SLOT, self._order

    def _input(self) -> brian2.NeuronGroup:
        """Every lane's pixels and its curtain.

        In a compiled project each neuron walks along its own list of events in the shared table. In Brian2's runtime
        Python says who fires: asking every pixel in every step would take a quarter of the time.
        """
        if not self._walks:
            group = brian2.NeuronGroup(
                self.lanes * (self.circuit.input_size + 1),
                "n : integer",
                threshold="False",
                reset="",
                name="input",
                clock=self.clock,
                namespace={},
            )
            group.thresholder["spike"].active = False
            feed = brian2.NetworkOperation(self._feed, clock=self.clock, name="feed")
            self._in_order(feed)
            self.add(group, feed)
            return group
        group = brian2.NeuronGroup(
            self.lanes * (self.circuit.input_size + 1),
            """step = t_in_timesteps : integer (shared)
            steps : integer (shared)
            next_step : integer
            pointer : integer
            n : integer""",
            threshold="next_step == step",
            reset="""n = int(event_count(pointer*second))
            pointer += 1
            next_step = int(event_step(pointer*second))""",
            name="input",
            clock=self.clock,
            namespace={"event_step": self.event_step, "event_count": self.event_count, "second": second},
        )
        self._in_order(group.thresholder["spike"], group.resetter["spike"])
        self.add(group)
        return group

    def _population(self, population: Population) -> PopulationCode:
        if self.ends is None:
            code = lazy(population, self.instants, serial=_target_is_serial())
        else:
            code = dense(population, self.instants, self.ends, population.name in self._tallied)
        group = brian2.NeuronGroup(
            self.lanes * population.size,
            code.equations,
            reset=code.reset,
            # Not `threshold`: Brian2 would warn where the reset is part of the update.
            events=code.events,
            name=f"population_{self.names[population.name]}",
            clock=self.clock,
            namespace=code.namespace,
        )
        for name, values in code.arrays.items():
            setattr(group, name, np.tile(np.broadcast_to(values, population.shape).ravel(), self.lanes))
        if population.rule.fires:
            group.n = 1
        if "lane" in group.variables:
            group.lane = np.repeat(np.arange(self.lanes), population.size)
        if population.name in self._tallied:
            self._tally(population, group)
        self.groups[population.name] = group
        self.add(group)
        incoming = [self._synapses(connection, code) for connection in self.circuit.into(population.name)]
        for pathway in code.on_arrival:
            self._order += 1
            for synapses in incoming:
                getattr(synapses, pathway).when, getattr(synapses, pathway).order = _SLOT, self._order
        if code.update:
            self._in_order(group.run_regularly(code.update, name=f"update_{self.names[population.name]}"))
        if population.rule.fires:
            self._in_order(group.thresholder["spike"], *group.resetter.values())
        if code.turn:
            self._in_order(group.run_regularly(code.turn, name=f"turn_{self.names[population.name]}"))
        return code

    def _tally(self, population: Population, group: brian2.NeuronGroup) -> None:
        """A row per recording, and one to spare per lane (see `Playlist`), in memory that the group writes to."""
        tally = brian2.NeuronGroup(
            (self.recordings + self.lanes) * population.size,
            "total : 1",
            name=f"tally_{self.names[population.name]}",
            clock=self.clock,
            namespace={},
        )
        group.total = brian2.linked_var(tally, "total", index="place")
        self.tallies[population.name] = tally
        self.add(tally)

    def _synapses(self, connection: Connection, code: PopulationCode) -> brian2.Synapses:
        target = self.circuit.population[connection.target]
        matrix = connection.matrix.tocoo()
        post, pre = matrix.coords
        weight = matrix.data * np.broadcast_to(target.rule.gain, target.shape).ravel()[post]
        # The synapses of one presynaptic neuron lie side by side in memory.
        by_source = np.lexsort((post, pre))
        synapses = self._connect(
            f"synapses_{self.names[connection.source]}_{self.names[connection.target]}",
            connection.source,
            connection.target,
            pre[by_source],
            post[by_source],
            "w : 1",
            code.on_arrival,
            code.namespace,
        )
        synapses.w = np.tile(weight[by_source], self.lanes)
        return synapses

    def _curtain(self, population: Population, code: PopulationCode) -> None:
        if code.on_curtain:
            synapses = self._connect(
                f"curtain_{self.names[population.name]}",
                self.circuit.input,
                population.name,
                np.full(population.size, self.circuit.input_size),
                np.arange(population.size),
                "",
                code.on_curtain,
                code.namespace,
            )
            self._in_order(*(getattr(synapses, pathway) for pathway in code.on_curtain))
        if "curtain" in code.events:
            self._in_order(self.groups[population.name].thresholder["curtain"])

    def _connect(
        self,
        name: str,
        source: str,
        target: str,
        pre: np.ndarray,
        post: np.ndarray,
        model: str,
        on_pre: dict[str, str],
        namespace: dict[str, Any],
    ) -> brian2.Synapses:
        """Synapses ``pre[k] -> post[k]`` of one lane, repeated in every lane."""
        synapses = brian2.Synapses(
            self.groups[source],
            self.groups[target],
            model,
            on_pre=on_pre,
            delay=dict.fromkeys(on_pre, 0 * second),
            name=numbered_name(name, [o.name for o in self.objects]),
            clock=self.clock,
            namespace=namespace,
        )
        lane = np.repeat(np.arange(self.lanes), len(pre))
        per_lane = [len(self.groups[g]) // self.lanes for g in (source, target)]
        if len(pre):
            synapses.connect(
                i=np.tile(pre, self.lanes) + lane * per_lane[0], j=np.tile(post, self.lanes) + lane * per_lane[1]
            )
        else:
            synapses.connect(False)
        self.add(synapses)
        return synapses

    def _monitor(self, event: str, population: str, variables: list[str], name: str) -> brian2.EventMonitor:
        monitor = brian2.EventMonitor(self.groups[population], event, variables=variables, name=name, when="end")
        self.add(monitor)
        return monitor


def to_brian2(
    graph: GraphLike, recording: np.ndarray, duration: float | None = None, **conventions: Any
) -> EventNetwork:
    """A plain Brian2 network of a graph with one recording put on it, for monitors, noise and whatever else one adds.

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
    print(f"building {estimate_that_fits(circuit, lanes=1)}", file=sys.stderr)
    train = input_spikes_for(circuit, recording, duration)
    playlist = Playlist.arrange([train], 1, circuit.input_size)
    network = EventNetwork(circuit, lanes=1, events=len(train.t) + 1, steps=playlist.steps, recordings=1)
    network.play(playlist)
    return network


def _table(name: str, values: np.ndarray) -> brian2.TimedArray:
    """A lookup table ``name(k*second)``: the one kind of array that a compiled network can read anew in every run."""
    return brian2.TimedArray(values, dt=1 * second, name=name)


def _on_gpu() -> bool:
    return get_device() is all_devices.get("cuda_standalone")


def _target_is_serial() -> bool:
    """Whether the synapses of a pathway will be run one after another, each seeing what the one before it did."""
    device = get_device()
    if device is not all_devices["runtime"]:
        return device is all_devices["cpp_standalone"]
    target = brian2.prefs["codegen.target"]
    return (auto_target().class_name if target == "auto" else target) != "numpy"


#: Longest name of a node. Two of them and what Brian2 adds make the name of a file, which may have 143 to 255 bytes.
_LONGEST_NAME = 40

#: What Brian2 puts behind the name of an object, and "_", to name a part of it: updaters, thresholds, resets and code
#: of groups; pathways (here and in `population_code`), their queues and their code of synapses.
_PART = re.compile(
    r"(.*_)?(codeobject|thresholder|resetter|(spatial)?stateupdater|subexpression_update|run_regularly|custom_operation"
    r"|run_on_event|push_spikes|initialise_queue|clock|summed_variable_.+|synapses_create_.+"
    r"|pre|post|find|settle|deliver|close|restart)(_\d+)?(?<!_)"
)


def brian_names(circuit: Circuit) -> dict[str, str]:
    """A distinct, short name for every node, made of letters, digits and underscores only.

    No name, and no name that Brian2 derives from it, equals another one in any spelling of upper and lower case: Brian2
    names files after objects. Names that need no change stay as they are.
    """
    names: dict[str, str] = {}
    for name in (circuit.input, *(p.name for p in circuit.populations)):
        plain = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
        names[name] = free_name(plain[:_LONGEST_NAME], names.values())
    return names


def free_name(wanted: str, taken: Collection[str]) -> str:
    """``wanted``, or with underscores behind, so that neither it nor a part of it bears a name that is taken."""
    taken = {name.lower() for name in taken}
    endings = itertools.chain(("", "_", "__"), (f"_{k}_" for k in itertools.count(4)))
    return next(name for name in (wanted + ending for ending in endings) if _is_free(name.lower(), taken))


def numbered_name(wanted: str, taken: Collection[str]) -> str:
    """`free_name` for objects of which several may have one name: the second and later ones are numbered, from 2 on."""
    taken = {name.lower() for name in taken}
    numbered = itertools.chain((wanted,), (f"{wanted}_{k}" for k in itertools.count(2)))
    name = next(name for name in numbered if name.lower() not in taken)
    return free_name(name, taken)


def _is_free(name: str, taken: Collection[str]) -> bool:
    return name not in taken and not any(_is_part(name, other) or _is_part(other, name) for other in taken)


def _is_part(name: str, whole: str) -> bool:
    """Whether an object called ``name`` can be taken for a part of ``whole``."""
    return name.startswith(f"{whole}_") and _PART.fullmatch(name, len(whole) + 1) is not None
