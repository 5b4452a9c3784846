"""The Brian2 device ``event_driven``: runs of plain scripts in continuous time."""

from __future__ import annotations

import itertools
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary, ref

import brian2
import numpy as np
from brian2.core.namespace import get_local_namespace

from mtt_brian.circuit.instants import at_or_after, just_before
from mtt_brian.circuit.model import Circuit
from mtt_brian.circuit.plasticity import PlasticSynapses
from mtt_brian.circuit.spikes import FiredSpikes
from mtt_brian.engines.brian2 import internals, script
from mtt_brian.engines.brian2.poisson import PoissonProcess
from mtt_brian.errors import InputError
from mtt_brian.machine import available_bytes
from mtt_brian.neuron.equation_neuron import EquationNeuron, Systems
from mtt_brian.progress import notice
from mtt_brian.text import shown
from mtt_brian.translate.from_brian2 import Refusal, Refused, Script, Translation, circuit_of

NAME = "event_driven"
_LOGGER = brian2.get_logger(f"brian2.{NAME}")  # with Brian2's settings
#: Pieces into which a run with progress reports is cut.
_REPORTS = 100
#: What a state may be at the beginning of a run, so that a difference of two states is finite.
LARGEST_STATE = 1e300
#: Changes of timed arrays times neurons from which on a notice is given, about 10 s; a change itself takes as long as
#: so many neurons.
MANY_CHANGES, _EACH_CHANGE = 50_000_000, 300
#: Times at which monitors record or code is executed, from which on a notice is given: about 20 s.
MANY_STEPS = 1_000_000
#: Spikes of a Poisson source, or of a generator with a period, in one run.
MOST_ARRIVALS = 1e9
#: About how many of them are in memory together, besides those that monitors record.
_AT_ONCE = 4e6


class EquationRun(Protocol):
    """A run of a circuit of `EquationNeuron`, see `mtt_brian.engines.exact.equation_run`."""

    def neurons(self, name: str) -> slice:
        """The neurons of a population among those of all."""

    def start(self, name: str, neurons: np.ndarray, x: np.ndarray, free: np.ndarray, t: float) -> None:
        """Puts some neurons of a population into given states."""

    def change(self, name: str, neurons: np.ndarray, x: np.ndarray, t: float) -> None:
        """Sets the states of some neurons at the end of the last piece."""

    def predict_crossings(self) -> None:
        """Predicts the next event of every neuron."""

    def advance(self, t: np.ndarray, i: np.ndarray, n: np.ndarray, end: float) -> None:
        """Carries the run on up to ``end``, which is left out."""

    def fetch(self) -> dict[str, FiredSpikes]:
        """The spikes since the last call, by population."""

    def states(self, name: str, neurons: np.ndarray, t: float) -> np.ndarray:
        """States of some neurons at the end of the last piece."""

    def systems(self, name: str) -> np.ndarray:
        """The parameter set that each neuron of a population has now."""

    def refractory(self, name: str) -> np.ndarray:
        """Which neurons of a population are refractory."""

    def synapses(self, name: str) -> dict[str, np.ndarray]:
        """The variables of plastic synapses now; what is written into them changes the synapses."""

    @property
    def delayed_spikes(self) -> int:
        """Spikes in delays."""

    def keep(self) -> dict[str, Any]:
        """A copy of everything that changes during a run."""

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Continues from the state of `keep`."""

    def restore_delayed_spikes(self, kept: Mapping[str, Any]) -> None:
        """Restores the spikes in delays from the state of `keep`."""

    def restore_neurons(self, kept: Mapping[str, Any], old: slice, name: str, neurons: np.ndarray) -> None:
        """Leaves some neurons as they were in another run."""


@dataclass
class _Session:
    """What a network keeps from one run to the next.

    Attributes:
        identity: `brian2.Network.id`, which plain `run` calls renew when all objects are new.
        run, translation: of the last run.
        written: states of every group at its end, float64 [N, n].
        lastspike: of every group with a refractory period.
        poisson: processes by the name of their source.
        objects: all of the last run but the monitors, by name.
    """

    identity: str
    run: EquationRun | None = None
    translation: Translation | None = None
    written: dict[str, np.ndarray] = field(default_factory=dict)
    lastspike: dict[str, np.ndarray] = field(default_factory=dict)
    poisson: dict[str, PoissonProcess] = field(default_factory=dict)
    objects: dict[str, ref[Any]] = field(default_factory=dict)

    def forget_replaced(self, objects: Sequence[Any]) -> None:
        """Forgets objects of the last run in whose place there are others of the same name now.

        Raises:
            InputError: if spikes are in delays.
        """
        replaced = [
            part.name for part in objects if part.name in self.objects and self.objects[part.name]() is not part
        ]
        if replaced:
            self.check_no_delayed_spikes()
        for name in replaced:
            self.written.pop(name, None)
            self.poisson.pop(name, None)

    def check_no_delayed_spikes(self) -> None:
        """Raises InputError if spikes are in delays."""
        if self.run is not None and self.run.delayed_spikes:
            raise InputError(
                f"event_driven: synapses, delays or groups were changed while {self.run.delayed_spikes} spikes are in "
                "delays; run long enough for them to arrive, or change weights only"
            )


class EventDrivenDevice(internals.RuntimeDevice):
    """Brian2's runtime device with `brian2.Network.run` in continuous time.

    Args:
        start: makes a run of a circuit; it raises `InputError` for one that cannot be run.
    """

    def __init__(self, start: Callable[[Circuit, Sequence[PlasticSynapses]], EquationRun]) -> None:
        super().__init__()
        self._start = start
        self._sessions: WeakKeyDictionary[Any, _Session] = WeakKeyDictionary()
        self._seed, self._drawn = secrets.randbits(63), 0
        self._storing: Any = None

    def add_array(self, variable: Any) -> None:
        """Makes the memory of a variable. The object that owns it can then run on this device only."""
        super().add_array(variable)
        if isinstance(variable.owner, brian2.BrianObject):
            internals.check_before_run(variable.owner, self, NAME)

    def seed(self, seed: int | None = None) -> None:
        """Seeds Brian2's random numbers, and the Poisson processes from here on."""
        super().seed(seed)
        self._seed, self._drawn = secrets.randbits(63) if seed is None else int(seed), 0
        for session in self._sessions.values():
            session.poisson.clear()

    def _session_of(self, network: Any) -> _Session:
        """That of earlier runs of a network, or a new one."""
        session = self._sessions.get(network)
        if session is None or session.identity != network.id:
            session = self._sessions[network] = _Session(network.id)
        return session

    # ----- store and restore

    def get_random_state(self) -> dict[str, Any]:
        """The state of all that is drawn, and of the network that is being stored."""
        state = {**super().get_random_state(), "poisson": (self._seed, self._drawn)}
        session = None if self._storing is None else self._session_of(self._storing)
        if session is not None and session.run is not None:
            state["session"] = {
                "translation": session.translation,
                "kept": session.run.keep(),
                "written": {name: x.copy() for name, x in session.written.items()},
                "lastspike": {name: x.copy() for name, x in session.lastspike.items()},
                "poisson": {name: process.keep() for name, process in session.poisson.items()},
            }
        return state

    def set_random_state(self, state: Mapping[str, Any]) -> None:
        """Back to a state of `get_random_state`."""
        super().set_random_state(state)
        self._seed, self._drawn = state["poisson"]

    def network_store(self, network: Any, name: str = "default", filename: str | None = None) -> None:
        """`brian2.Network.store`, with the spikes in delays."""
        self._storing = network
        try:
            internals.store_state(network, name, filename)
        finally:
            self._storing = None

    def network_restore(
        self, network: Any, name: str = "default", filename: str | None = None, restore_random_state: bool = False
    ) -> None:
        """`brian2.Network.restore`, with the spikes in delays."""
        state = internals.restore_state(network, name, filename, restore_random_state)
        session = self._session_of(network)
        stored = state.get("session")
        if stored is None:
            self._sessions[network] = _Session(network.id)
            return
        if session.run is None or session.translation is not stored["translation"]:
            session.translation = stored["translation"]
            session.run = self._start(stored["translation"].circuit, stored["translation"].plastic)
        session.run.restore(stored["kept"])
        session.written = {k: x.copy() for k, x in stored["written"].items()}
        session.lastspike = {k: x.copy() for k, x in stored["lastspike"].items()}
        session.poisson = {k: p.keep() for k, p in stored["poisson"].items()} if restore_random_state else {}

    # ----- run

    def network_get_profiling_info(self, network: Any) -> list[tuple[str, Any]]:
        """Empty: no code objects run on this device."""
        return []

    @brian2.check_units(duration=brian2.second, report_period=brian2.second)
    def network_run(
        self,
        network: Any,
        duration: Any,
        report: Any = None,
        report_period: Any = 10 * brian2.second,
        namespace: Mapping[str, Any] | None = None,
        profile: bool | None = None,
        level: int = 0,
    ) -> None:
        """`brian2.Network.run` in continuous time, with the same arguments; ``profile`` has no effect.

        A run that ends in an error or is interrupted leaves the network as it was, up to Poisson arrivals to come.

        Raises:
            Refused: lists what the script has that cannot run exactly.
        """
        if not 0 <= float(duration) < np.inf:
            raise ValueError(f"Function 'run' expected a finite, non-negative duration but got '{duration}'")
        if namespace is None:
            namespace = get_local_namespace(level=level + 3)
        network.check_dependencies()
        brian2.prefs.check_all_validated()
        parts = script.parts_of(network.objects, network.schedule)
        self._check_device(network.sorted_objects)
        begin = float(network.t_)
        end = begin + float(duration)
        plain = script.script_of(parts, namespace, begin, end)
        translation = circuit_of(plain)
        rates = _rates(parts, plain, begin)
        _notice_many_changes(translation, rates)
        _check_steps(parts, translation, begin, end)
        recorder = _Recorder(parts, translation, begin, end, namespace)
        operations = [
            _Operation(group, runner, translation.states[group.name], begin, end)
            for group, runner in parts.operations
            if translation.states[group.name]
        ]
        at_stops = recorder.samplers() + [(operation.runner, operation.execute) for operation in operations]
        at_stops.sort(key=lambda pair: script.place_in_step(pair[0]))
        times = np.unique(np.concatenate([recorder.times, *(operation.steps for operation in operations)]))
        parts = replace(parts, groups=[group for group in parts.groups if translation.states[group.name]])
        internals.begin_run(network)
        reporter = _Reporter(report, float(report_period), begin, float(duration))
        session = self._session_of(network)
        senders = (*parts.groups, *parts.generators, *parts.poisson, *parts.inputs, *parts.synapses)
        session.forget_replaced(senders)
        before, kept = session.translation, session.run.keep() if session.run is not None else None
        for operation in operations:
            operation.prepare(namespace)
        try:
            run = self._prepared(session, translation, parts, begin, kept)
            for written, values in _synaptic_variables(run, parts, translation):
                values[:] = written
            pieces = _pieces(parts, rates, begin, end)
            reached = begin
            for left, right in itertools.pairwise(pieces):
                inputs = self._inputs(session, translation, parts, rates, left, right)
                recorder.note(inputs)
                reached = self._play(network, run, inputs, times, [call for _, call in at_stops], reporter, left, right)
                if internals.stop_requested(network):
                    break
            states = {group.name: _states_at(run, group, reached) for group in parts.groups}
        except BaseException:
            for operation in operations:
                operation.undo()
            session.run, session.translation = None, before
            if before is not None and kept is not None:
                session.run = self._start(before.circuit, before.plastic)
                session.run.restore(kept)
            session.poisson.clear()
            raise
        if reached < end:
            session.poisson.clear()
        session.objects = {part.name: ref(part) for part in senders}
        spikes = run.fetch()
        _write_back(session, run, parts, translation, spikes, states)
        for written, values in _synaptic_variables(run, parts, translation):
            written[:] = values
        recorder.finish(spikes, reached)
        internals.set_time(network, list({part.clock for part in network.sorted_objects}), reached)
        reporter.done((reached - begin) / (end - begin) if end > begin else 1.0)

    def _play(
        self,
        network: Any,
        run: EquationRun,
        inputs: _Inputs,
        times: np.ndarray,
        at_stops: Sequence[Callable[[EquationRun, float], None]],
        reporter: _Reporter,
        begin: float,
        end: float,
    ) -> float:
        """Carries a piece of a run to its end, or to where it was stopped; returns the time."""
        stops = np.union1d(times, reporter.times)
        at = 0
        for stop in [*stops[(stops >= begin) & (stops < end)].tolist(), end]:
            last = int(np.searchsorted(inputs.t, just_before(stop), side="right"))
            run.advance(inputs.t[at:last], inputs.i[at:last], inputs.n[at:last], stop)
            at = last
            for call in at_stops:
                call(run, stop)
            reporter.at(stop)
            if internals.stop_requested(network):
                return float(stop)
        return end

    def _check_device(self, objects: list[Any]) -> None:
        for thing in objects:
            if isinstance(thing, brian2.Group) and not internals.memory_is_on(thing, self):
                raise InputError(
                    f"{thing.name!r} was created before set_device({NAME!r}); call set_device right after the imports, "
                    "before any object is created"
                )

    def _prepared(
        self,
        session: _Session,
        translation: Translation,
        parts: script.Parts,
        t: float,
        kept: Mapping[str, Any] | None,
    ) -> EquationRun:
        """The run of a session, ready to go on from ``t`` with the values that the objects have now.

        ``kept`` is the state of its last run.
        """
        old, before = session.run, session.translation
        same = old is not None and before is not None and _same_circuit(before, translation)
        now = {group.name: _states(group, translation.states[group.name]) for group in parts.groups}
        spiked = {
            g.name: internals.memory(g.variables["lastspike"]).copy()
            for g in parts.groups
            if "lastspike" in g.variables
        }
        unchanged = {name: _as_written(session, name, x, spiked.get(name)) for name, x in now.items()}
        if same and all(np.all(rows) for rows in unchanged.values()):
            assert old is not None
            return old
        run = self._start(translation.circuit, translation.plastic)
        for group in parts.groups:
            name = group.name
            rule = translation.circuit.population[name].rule
            assert isinstance(rule, EquationNeuron)
            rows = np.zeros(len(group), bool)
            if (
                kept is not None
                and before is not None
                and name in before.states
                and before.states[name] == translation.states[name]
            ):
                assert old is not None
                ruled = before.circuit.population[name].rule
                rows = unchanged[name] & _same_parameters(ruled, old.systems(name), rule, rule.system)
            new = np.flatnonzero(~rows)
            dead = rule.systems.refractory[rule.system]
            free = np.where(dead > 0, spiked.get(name, np.full(len(group), -np.inf)) + dead, -np.inf)
            if "not_refractory" in group.variables:
                fires = internals.memory(group.variables["not_refractory"])
                free[np.isinf(dead) & fires] = -np.inf
            run.start(name, new, now[name][new], free[new], t)
            if kept is not None and old is not None and rows.any():
                run.restore_neurons(kept, old.neurons(name), name, np.flatnonzero(rows))
        if kept is not None and old is not None and before is not None and old.delayed_spikes:
            if not _same_delays(before, translation):
                session.check_no_delayed_spikes()
            run.restore_delayed_spikes(kept)
        run.predict_crossings()
        session.run, session.translation = run, translation
        return run

    def _inputs(
        self,
        session: _Session,
        translation: Translation,
        parts: script.Parts,
        rates: Mapping[str, _Rates],
        begin: float,
        end: float,
    ) -> _Inputs:
        """All spikes from outside in a piece of this run."""
        first, last = just_before(begin), just_before(end)
        t, i = [np.zeros(0)], [np.zeros(0, np.int64)]
        for group in filter(script.is_active, parts.generators):
            times, neurons = _generated(group, first, last)
            t.append(times)
            i.append(neurons + translation.first[group.name])
        for name, rate in rates.items():
            if name not in session.poisson:
                seeds = np.random.SeedSequence([abs(self._seed), self._drawn])
                session.poisson[name] = PoissonProcess(seeds, rate.hz.shape[1], begin)
                self._drawn += 1
            for hz, start, stop in rate.within(begin, end):
                times, neurons = session.poisson[name].until(hz, start, just_before(stop))
                t.append(times)
                i.append(neurons + translation.first[name])
        times, neurons = np.concatenate(t), np.concatenate(i)
        order = np.lexsort((neurons, times))
        times, neurons = times[order], neurons[order]
        new = np.flatnonzero(np.append(True, (np.diff(times) != 0) | (np.diff(neurons) != 0))[: len(times)])
        return _Inputs(times[new], neurons[new], np.diff(new, append=len(times)))


class _Rates(NamedTuple):
    """Rates of the Poisson processes of a source.

    Attributes:
        since: times from which on they hold, seconds [P].
        hz: [P, N].
    """

    since: np.ndarray
    hz: np.ndarray

    def within(self, begin: float, end: float) -> Iterator[tuple[np.ndarray, float, float]]:
        """The rates [N] from ``begin`` to ``end``, and from when to when they hold."""
        starts, ends = np.maximum(self.since, begin), np.minimum(np.append(self.since[1:], end), end)
        for k in np.flatnonzero(starts < ends):
            yield self.hz[k], float(starts[k]), float(ends[k])

    def mean_spikes(self, begin: float, end: float) -> float:
        """Of all processes together, on average."""
        return sum(float(hz.sum()) * (stop - start) for hz, start, stop in self.within(begin, end))


def _rates(parts: script.Parts, plain: Script, begin: float) -> dict[str, _Rates]:
    """Of all sources of Poisson processes, by name, in a run from ``begin`` on."""
    out = {name: _Rates(*rates) for name, rates in plain.rates.items()}
    for source in parts.inputs:
        total = float(source.N) * float(source.rate)
        out[source.name] = _Rates(np.array([begin]), np.full((1, len(internals.target_of(source))), total))
    for source in (*parts.poisson, *parts.inputs):
        if not script.is_active(source):
            out[source.name] = out[source.name]._replace(hz=np.zeros_like(out[source.name].hz))
    return out


@dataclass(frozen=True)
class _Inputs:
    """Spikes from outside, sorted by time, each (t, i) once."""

    t: np.ndarray
    i: np.ndarray
    n: np.ndarray


def _generated(group: brian2.SpikeGeneratorGroup, first: float, last: float) -> tuple[np.ndarray, np.ndarray]:
    """Spikes of a SpikeGeneratorGroup with first < t <= last, as they were given."""
    times = internals.memory(group.variables["spike_time"]).astype(np.float64)
    neurons = internals.memory(group.variables["neuron_index"]).astype(np.int64)
    period = float(internals.memory(group.variables["period"]).item())
    if not np.all(np.isfinite(times)):
        k = int(np.argmin(np.isfinite(times)))
        raise InputError(f"{group.name}: spike {k} has the time {times[k]}; give finite times in seconds")
    if internals.take_new_spikes(group) and not 0 < period < np.inf and (missed := int(np.sum(times <= first))):
        _LOGGER.warn(
            f"{group.name}: {missed} of {len(times)} spikes are before the begin of this run and are left out; times "
            "count from the begin of the first run",
            name_suffix="ignored_spikes",
        )
    if 0 < period < np.inf and len(times):
        rounds = np.arange(max(np.floor((first - times.max()) / period), 0), np.ceil(last / period) + 1)
        neurons = np.tile(neurons, len(rounds))
        times = (rounds[:, None] * period + times).ravel()
    kept = (times > first) & (times <= last)
    return times[kept], neurons[kept]


def _notice_many_changes(translation: Translation, rates: Mapping[str, _Rates]) -> None:
    """A notice for timed arrays that take long."""
    sizes = [rate.hz.shape for rate in rates.values()]
    for population in translation.circuit.populations:
        assert isinstance(population.rule, EquationNeuron)
        sizes.append((len(population.rule.changes.time), population.size))
    if sum(changes * (size + _EACH_CHANGE) for changes, size in sizes) > MANY_CHANGES:
        most, size = max(sizes, key=lambda shape: shape[0] * (shape[1] + _EACH_CHANGE))
        notice(
            f"event_driven: a TimedArray changes {most} times in this run, for {size} neurons, which takes long; equal "
            "values in a row take no time, and a larger dt makes fewer changes"
        )


def _check_steps(parts: script.Parts, translation: Translation, begin: float, end: float) -> None:
    """A notice for monitors, and code of ``run_regularly``, whose clocks have many steps.

    Raises:
        Refused: for a monitor that would record more than memory can hold.
    """
    numbers = {monitor.name: 1 for monitor in parts.rates}
    for monitor in parts.states:
        states = translation.states.get(script.whole(monitor.source).name, ())
        numbers[monitor.name] = len(script.recorded(monitor)) * (len(states) + len(monitor.record_variables))
    free = available_bytes()
    for monitor in (*parts.states, *parts.rates):
        count = _count_steps(monitor.clock, begin, end)
        if (size := 8 * count * (numbers[monitor.name] + 2)) > free:
            what = f"it would record at {count:.3g} times, which needs {size / 1e9:.3g} GB of {free / 1e9:.3g} GB"
            raise Refused(
                [Refusal(monitor.name, "", what, "give it a longer dt, or record fewer neurons or variables")]
            )
    things = [*parts.states, *(runner for _, runner in parts.operations)]
    most = max(things, key=lambda thing: _count_steps(thing.clock, begin, end), default=None)
    if most is not None and (count := _count_steps(most.clock, begin, end)) > MANY_STEPS:
        notice(f"event_driven: {most.name} runs at {count:.3g} times, which takes long; a longer dt makes them fewer")


def _pieces(parts: script.Parts, rates: Mapping[str, _Rates], begin: float, end: float) -> list[float]:
    """Times between which a run is carried on, so that the spikes from outside in a piece fit into memory.

    Raises:
        Refused: for sources of more than `MOST_ARRIVALS` spikes.
    """
    counts = {name: rate.mean_spikes(begin, end) for name, rate in rates.items()}
    for group in filter(script.is_active, parts.generators):
        period = float(internals.memory(group.variables["period"]).item())
        rounds = (end - begin) / period if period > 0 else 0
        counts[group.name] = rounds * internals.memory(group.variables["spike_time"]).size
    for name, count in counts.items():
        if count > MOST_ARRIVALS:
            what = f"it would send about {count:.3g} spikes in this run, more than {MOST_ARRIVALS:g}"
            instead = "lower its rates or lengthen its period, or split the run"
            raise Refused([Refusal(name, "", what, instead)])
    pieces = int(np.ceil(sum(counts.values()) / _AT_ONCE))
    return np.linspace(begin, end, max(pieces, 1) + 1).tolist()


def _of_source(pieces: Sequence[_Inputs], first: int, size: int, end: float) -> FiredSpikes:
    """The spikes of a source before ``end``."""
    t, i = [np.zeros(0)], [np.zeros(0, np.int64)]
    for inputs in pieces:
        rows = (inputs.i >= first) & (inputs.i < first + size) & (inputs.t < end)
        t.append(np.repeat(inputs.t[rows], inputs.n[rows]))
        i.append(np.repeat(inputs.i[rows] - first, inputs.n[rows]))
    times = np.concatenate(t)
    return FiredSpikes(times, np.concatenate(i), np.zeros((len(times), 0)))


# ----- states


def _states(group: brian2.NeuronGroup, names: tuple[str, ...]) -> np.ndarray:
    """States of a group [N, n].

    Raises:
        Refused: for values that are not finite, or larger than `LARGEST_STATE`.
    """
    x = np.empty((len(group), len(names)))
    for k, name in enumerate(names):
        values = internals.memory(group.variables[name])
        if values.dtype.kind != "f" or values.size != len(group):
            what = "an integer or boolean" if values.dtype.kind != "f" else "one number for all neurons"
            raise Refused(
                [
                    Refusal(
                        group.name,
                        name,
                        f"it changes during a run, and it is {what}",
                        "declare it as ': 1', one per neuron",
                    )
                ]
            )
        x[:, k] = values
        if not np.all(ok := np.abs(x[:, k]) <= LARGEST_STATE):
            bad = int(np.argmin(ok))
            instead = f"set it to a number from {-LARGEST_STATE:g} to {LARGEST_STATE:g} before the run"
            raise Refused([Refusal(group.name, name, f"neuron {bad} starts at {values[bad]}", instead)])
    return x


def _as_written(session: _Session, name: str, x: np.ndarray, spiked: np.ndarray | None) -> np.ndarray:
    """Which neurons have the states that the last run left."""
    written = session.written.get(name)
    if written is None or written.shape != x.shape:
        return np.zeros(len(x), bool)
    same = np.all(written == x, axis=1)
    if spiked is not None and name in session.lastspike:
        same &= session.lastspike[name] == spiked
    return same


def _same_circuit(one: Translation, other: Translation) -> bool:
    a, b = one.circuit, other.circuit
    return (
        one.states == other.states
        and one.first == other.first
        and [p.name for p in a.populations] == [p.name for p in b.populations]
        and all(_same_rule(p.rule, q.rule) for p, q in zip(a.populations, b.populations, strict=True))
        and _same_delays(one, other)
        and all(_same_programs(p, q) for p, q in zip(one.plastic, other.plastic, strict=True))
        and all(
            np.array_equal(c.operators[0].weight, d.operators[0].weight)  # type: ignore[union-attr]
            for c, d in zip(a.connections, b.connections, strict=True)
        )
    )


def _same_delays(one: Translation, other: Translation) -> bool:
    """Whether two circuits have the same synapses, up to their weights."""
    a, b = one.circuit.connections, other.circuit.connections
    same = len(a) == len(b) and one.first == other.first
    return (
        same
        and all(
            (c.source, c.target, c.port) == (d.source, d.target, d.port)
            and all(
                np.array_equal(getattr(c.operators[0], name), getattr(d.operators[0], name))
                for name in ("source", "target", "seconds")
            )
            for c, d in zip(a, b, strict=True)
        )
        and [(p.name, p.size, len(p.pathways)) for p in one.plastic]
        == [(p.name, p.size, len(p.pathways)) for p in other.plastic]
        and all(
            (c.source, c.order) == (d.source, d.order)
            and all(np.array_equal(getattr(c, name), getattr(d, name)) for name in ("neuron", "seconds"))
            for p, q in zip(one.plastic, other.plastic, strict=True)
            for c, d in zip(p.pathways, q.pathways, strict=True)
        )
    )


def _same_programs(one: PlasticSynapses, other: PlasticSynapses) -> bool:
    """Whether the statements of the same synapses are the same, with the same constants."""
    return (
        one.variables == other.variables
        and np.array_equal(one.constants, other.constants)
        and all(
            np.array_equal(p.code, q.code) and np.array_equal(p.registers, q.registers)
            for p, q in zip(one.pathways, other.pathways, strict=True)
        )
    )


def _same_rule(one: Any, other: Any) -> bool:
    """Whether all neurons of a population have the same parameters in two rules, and keep them."""
    changing = len(one.changes.time) or len(other.changes.time)
    return not changing and bool(np.all(_same_parameters(one, one.system, other, other.system)))


def _same_parameters(one: Any, system: np.ndarray, other: Any, other_system: np.ndarray) -> np.ndarray:
    """Which neurons of a population have the same parameters in two rules, with these sets."""
    kinds = [(rule.strict, rule.refractory_strict, rule.held, rule.states, rule.operations) for rule in (one, other)]
    if len(system) != len(other_system) or kinds[0] != kinds[1]:
        return np.zeros(len(other_system), bool)
    same = np.ones(len(other_system), bool)
    for name in Systems._fields:
        a, b = getattr(one.systems, name)[system], getattr(other.systems, name)[other_system]
        same &= np.all((a == b).reshape(len(same), -1), axis=1)
    return same


def _states_at(run: EquationRun, group: brian2.NeuronGroup, t: float) -> np.ndarray:
    """States of all neurons of a group at the end ``t`` of a run."""
    x = run.states(group.name, np.arange(len(group)), t)
    if not np.all(np.isfinite(x)):
        bad = int(np.argmin(np.all(np.isfinite(x), axis=1)))
        raise InputError(f"{group.name}: a state of neuron {bad} grew larger than float64 can hold before {t:.9g} s")
    return x


def _write_back(
    session: _Session,
    run: EquationRun,
    parts: script.Parts,
    translation: Translation,
    spikes: Mapping[str, FiredSpikes],
    states: Mapping[str, np.ndarray],
) -> None:
    """States at the end of a run into the variables of the groups."""
    for group in parts.groups:
        name = group.name
        for k, variable in enumerate(translation.states[name]):
            internals.memory(group.variables[variable])[:] = states[name][:, k]
        session.written[name] = _states(group, translation.states[name])
        if "lastspike" in group.variables:
            last = internals.memory(group.variables["lastspike"])
            np.maximum.at(last, spikes[name].i, spikes[name].t)
            internals.memory(group.variables["not_refractory"])[:] = ~run.refractory(name)
            session.lastspike[name] = last.copy()


def _synaptic_variables(
    run: EquationRun, parts: script.Parts, translation: Translation
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The memory of every variable of synapses that spikes change: in the script, and in a run."""
    names = {one.name for one in translation.plastic}
    for synapses in parts.synapses:
        if synapses.name in names:
            for name, values in run.synapses(synapses.name).items():
                yield internals.memory(synapses.variables[name]), values


# ----- monitors and reports


def _steps(clock: Any, begin: float, end: float) -> np.ndarray:
    """Times of a clock's steps in [begin, end)."""
    if "dt" not in clock.variables:  # an EventClock, from Brian2 2.10 on
        times = internals.memory(clock.variables["times"])
        return times[(times >= begin) & (times < end)]
    return np.arange(*_numbers_of_steps(clock, begin, end)) * float(clock.dt_)


def _numbers_of_steps(clock: Any, begin: float, end: float) -> tuple[int, int]:
    """The number of a clock's first step in [begin, end), and of the first one behind it."""
    first, last = (int(np.ceil(t / float(clock.dt_) - 1e-4)) for t in (begin, end))
    return first, last


def _count_steps(clock: Any, begin: float, end: float) -> int:
    """How many steps a clock has in [begin, end)."""
    if "dt" not in clock.variables:  # these times are in memory already
        return len(_steps(clock, begin, end))
    first, last = _numbers_of_steps(clock, begin, end)
    return last - first


class _Operation:
    """Code of ``run_regularly``, which Brian2 executes on the states of a group at every step of its clock.

    Args:
        group: that contains it.
        runner: has the code.
        states: names of its states.
        begin, end: of the run, seconds.
    """

    def __init__(self, group: Any, runner: Any, states: tuple[str, ...], begin: float, end: float) -> None:
        self.runner, self.steps = runner, _steps(runner.clock, begin, end)
        self._group, self._states, self._next = group, states, 0
        names = [*self._states, *(["not_refractory"] if "not_refractory" in group.variables else [])]
        self._memory = {name: internals.memory(group.variables[name]) for name in names}
        # In the code, t is the time of the group's clock.
        self._times = [internals.memory(clock.variables["t"]) for clock in (runner.clock, group.clock)]
        self._before = [(values, values.copy()) for values in (*self._memory.values(), *self._times)]

    def prepare(self, namespace: Mapping[str, Any]) -> None:
        """Lets Brian2 generate the code."""
        self.runner.before_run(namespace)

    def undo(self) -> None:
        """Gives the variables the values that they had before the run."""
        for values, before in self._before:
            values[...] = before

    def execute(self, run: EquationRun, t: float) -> None:
        """Executes the code, if ``t`` is a step of its clock."""
        if self._next == len(self.steps) or self.steps[self._next] != t:
            return
        self._next += 1
        x = run.states(self._group.name, np.arange(len(self._group)), t)
        for k, name in enumerate(self._states):
            self._memory[name][:] = x[:, k]
        if "not_refractory" in self._memory:
            self._memory["not_refractory"][:] = ~run.refractory(self._group.name)
        for time_of_clock in self._times:
            time_of_clock[...] = t
        self.runner.run()
        after = np.stack([self._memory[name] for name in self._states], axis=1).astype(np.float64)
        if not np.all(ok := np.abs(after) <= LARGEST_STATE):
            bad, k = np.argwhere(~ok)[0]
            raise InputError(
                f"{self.runner.name}: it sets {self._states[k]} of neuron {bad} to {after[bad, k]} at {t:.9g} s; its "
                f"code must give numbers from {-LARGEST_STATE:g} to {LARGEST_STATE:g}"
            )
        changed = np.flatnonzero(np.any(after != x, axis=1))
        run.change(self._group.name, changed, after[changed], t)


class _Recorder:
    """Fills the monitors of a network."""

    def __init__(
        self, parts: script.Parts, translation: Translation, begin: float, end: float, namespace: Mapping[str, Any]
    ) -> None:
        self._parts, self._translation = parts, translation
        self._names = {**translation.states, **{one.name: one.variables for one in translation.plastic}}
        self._columns = {m.name: script.Columns(m, self._names, namespace) for m in (*parts.states, *parts.spikes)}
        self._steps = {m.name: _steps(m.clock, begin, end) for m in (*parts.states, *parts.rates)}
        self._stops = {
            m.name: at_or_after(at_or_after(self._steps[m.name])) if script.records_after(m) else self._steps[m.name]
            for m in parts.states
        }
        self.times = np.unique(np.concatenate([np.zeros(0), *self._stops.values()]))
        self._samples: dict[str, list[np.ndarray]] = {m.name: [] for m in parts.states}
        self._next = dict.fromkeys(self._samples, 0)
        self._inputs: list[_Inputs] = []

    def note(self, inputs: _Inputs) -> None:
        """Keeps the spikes of the sources that are recorded."""
        kept = np.zeros(len(inputs.t), bool)
        for first, size in self._sources().values():
            kept |= (inputs.i >= first) & (inputs.i < first + size)
        self._inputs.append(_Inputs(inputs.t[kept], inputs.i[kept], inputs.n[kept]))

    def _sources(self) -> dict[str, tuple[int, int]]:
        """Where the recorded sources begin among the neurons of the input, and their sizes."""
        groups = {
            script.whole(m.source).name: script.whole(m.source) for m in (*self._parts.spikes, *self._parts.rates)
        }
        begin = self._translation.first
        return {name: (begin[name], len(group)) for name, group in groups.items() if name in begin}

    def samplers(self) -> list[tuple[Any, Callable[[EquationRun, float], None]]]:
        """The monitors of states, and what is called at every stop of the run."""
        return [(monitor, partial(self._sample, monitor)) for monitor in self._parts.states]

    def _sample(self, monitor: brian2.StateMonitor, run: EquationRun, t: float) -> None:
        """Notes the states of a monitor, if it records at ``t``."""
        name = monitor.name
        k, stops = self._next[name], self._stops[name]
        if k < len(stops) and stops[k] == t:
            self._next[name] += 1
            group, rows = script.whole(monitor.source).name, script.recorded(monitor)
            states = self._names.get(group, ())
            if not states:
                x = np.zeros((len(rows), 0))
            elif group in self._translation.states:
                x = run.states(group, rows, t)
            else:
                x = np.stack([run.synapses(group)[state][rows] for state in states], axis=1)
            self._samples[name].append(x)

    def finish(self, spikes: Mapping[str, FiredSpikes], end: float) -> None:
        """Writes everything into the monitors."""
        sources = self._sources().items()
        fired = {**spikes, **{name: _of_source(self._inputs, *where, end) for name, where in sources}}
        for monitor in self._parts.states:
            k = len(self._samples[monitor.name])
            neurons = script.recorded(monitor)
            names = self._names.get(script.whole(monitor.source).name, ())
            steps = self._steps[monitor.name][:k]
            x = np.array(self._samples[monitor.name]).reshape(k, len(neurons), len(names))
            columns = self._columns[monitor.name].of(x, np.broadcast_to(neurons, (k, len(neurons))), steps[:, None])
            internals.record_states(monitor, steps, columns)
            once = partial(_record_now, ref(monitor), self._columns[monitor.name], names)
            internals.record_single_timestep_by(monitor, once)
        for monitor in self._parts.spikes:
            first, size = getattr(monitor.source, "start", 0), len(monitor.source)
            found = fired[script.whole(monitor.source).name]
            rows = (found.i >= first) & (found.i < first + size)
            t, i, x = found.t[rows], found.i[rows], found.x[rows]
            columns = {"t": t, "i": i - first, **self._columns[monitor.name].of(x, i, t)} if monitor.record else {}
            internals.record_spikes(monitor, columns, np.bincount(i - first, minlength=size))
        for monitor in self._parts.rates:
            first, size = getattr(monitor.source, "start", 0), len(monitor.source)
            found = fired[script.whole(monitor.source).name]
            t = found.t[(found.i >= first) & (found.i < first + size)]
            steps = self._steps[monitor.name]
            steps = steps[steps < end]
            step = float(monitor.clock.dt_)
            # The last time step of an earlier run goes on where that run ended within it.
            edges = np.concatenate([[-np.inf], steps - 1e-4 * step, [np.inf]])
            rates = np.histogram(t, edges)[0] / (size * step)
            internals.record_rates(monitor, steps, rates[1:], rates[0])


def _record_now(monitor: ref[Any], columns: script.Columns, states: tuple[str, ...]) -> None:
    """Records the values that a group has now, as ``record_single_timestep``."""
    found = monitor()
    assert found is not None
    neurons = script.recorded(found)
    t = internals.memory(found.clock.variables["t"]).reshape(1)
    now = columns.of(_states(script.whole(found.source), states)[neurons], neurons, t)
    internals.record_states(found, t, {name: x[None] for name, x in now.items()})


class _Reporter:
    """Progress reports as `brian2.Network.run` gives them."""

    def __init__(self, report: Any, period: float, begin: float, duration: float) -> None:
        self._call: Callable[..., Any] | None = _callback(report)
        self._period, self._begin, self._duration = period, begin, duration
        #: When a report may be due.
        self.times = np.linspace(begin, begin + duration, _REPORTS + 1)[1:-1] if self._call else np.zeros(0)
        self._started = self._last = time.time()
        if self._call is not None:
            self._call(0 * brian2.second, 0.0, begin * brian2.second, duration * brian2.second)

    def at(self, t: float) -> None:
        """The run has reached ``t``."""
        now = time.time()
        if self._call is not None and t > self._begin and now - self._last > self._period:
            self._last = now
            self._tell((t - self._begin) / self._duration)

    def done(self, share: float) -> None:
        """The run has ended."""
        if self._call is not None:
            self._tell(share)

    def _tell(self, share: float) -> None:
        assert self._call is not None
        elapsed = (time.time() - self._started) * brian2.second
        self._call(elapsed, share, self._begin * brian2.second, self._duration * brian2.second)


def _callback(report: Any) -> Callable[..., Any] | None:
    from brian2.core.network import TextReport

    if report is None:
        return None
    if report in ("text", "stdout"):
        return TextReport(sys.stdout)
    if report == "stderr":
        return TextReport(sys.stderr)
    if callable(report):
        return report
    raise InputError(f"report must be 'text', 'stdout', 'stderr' or a function, not {shown(report)}")
