"""From the time-stepped rule of a network to the rule of an event-driven target: one change at a time, and in pairs.

Every rule is run by the exact engine. On steps, an event takes place at the beginning of its step; all that arrives at
a neuron in one step is summed, then the lower bound acts, then the threshold. For an IF this is the time-stepped
network. A LIF decays by ``exp(-step / tau)`` from step to step, in front of the arrivals of a step; tools that take
``1 - step / tau`` instead leave less by ``(step / tau)^2 / 2``. Where a constant or a synaptic current carries a
membrane up to its threshold between two steps, the neuron fires there and not at the next step
(`crossing_between_steps` names these populations).

Nothing here needs torch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import nir
import numpy as np

from mtt_brian import translate
from mtt_brian.circuit.model import Circuit
from mtt_brian.engines import Order, Result, Simulator, engine_info
from mtt_brian.errors import InputError
from mtt_brian.evaluate import SpikeDifference, decision_time, factorial, predictions, readout_trace
from mtt_brian.evaluate.factorial import UNCHANGED, Combination
from mtt_brian.events.recording import last_us
from mtt_brian.experiments import perturb_networks
from mtt_brian.experiments.backend import Backend, NamedRecordings, PartialResult, Shard, collected
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.files import package_versions
from mtt_brian.neuron import IF, NeuronRule, SpikesPerUpdate
from mtt_brian.progress import progress_bar
from mtt_brian.translate.conventions import NONE, Conventions, LowerBound, bound_of

INSTANTS, FIFO = "instants", "fifo"
#: Packages that compute something, besides this one.
PACKAGES = ("numpy", "scipy", "numba", "nir")
#: Steps in microseconds that predictions are compared at, if nothing else is asked for.
STEPS = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a network is run. What is None is as in the network's file.

    Attributes:
        step_us: length of a step in microseconds.
        bins: steps per recording, from 0 to its last event; instead of ``step_us``. With neither of them every event
            takes place at its own microsecond.
        order: of what arrives at one instant.
        spikes: per update.
        lower_bound: of the membranes of firing neurons.
        bits: that the weights of every layer are rounded to.
    """

    step_us: int | None = None
    bins: int | None = None
    order: Order = "sum"
    spikes: SpikesPerUpdate | None = None
    lower_bound: LowerBound | None = None
    bits: int | None = None

    @property
    def engine(self) -> Rule:
        """The rule without its steps, which are in the recording."""
        return dataclasses.replace(self, step_us=None, bins=None)


@dataclass(frozen=True, kw_only=True)
class Target:
    """The rule of a target; what is None stays as it is in the network.

    Attributes:
        order: ``"fifo"``: single events, one after another; ``"sum"``: what arrives at one instant is summed.
        spikes, lower_bound, bits: see `Rule`.
    """

    order: Order
    spikes: SpikesPerUpdate | None = None
    lower_bound: LowerBound | None = None
    bits: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The rules that are run.

    Attributes:
        base: the time-stepped rule.
        changes: fields of `Rule` that each change sets, by its name, in the order in which they are made.
        never_together: pairs of changes.
        path: from the base to the target: one combination after another.
        steps_us: lengths of steps at which predictions are compared with event-driven ones.
        scored: numbers of steps per recording of the flexibility score; empty: no score.
    """

    base: Rule
    changes: Mapping[str, Mapping[str, Any]]
    never_together: tuple[tuple[str, str], ...]
    path: tuple[Combination, ...]
    steps_us: tuple[int, ...]
    scored: tuple[int, ...] = ()

    @property
    def target(self) -> Combination:
        return self.path[-1]

    @property
    def combinations(self) -> list[Combination]:
        return factorial.combinations(tuple(self.changes), self.never_together)

    @property
    def on_steps(self) -> Combination:
        """What of the target exists on time steps: its lower bound and its weights."""
        return tuple(c for c in self.target if self.changes[c].keys() & {"lower_bound", "bits"})

    @property
    def swept(self) -> list[Combination]:
        """The rules that are run at every step of ``steps_us``, each to be compared with itself event by event."""
        return [UNCHANGED, self.on_steps] if self.on_steps else [UNCHANGED]

    def rule(self, combination: Combination, step_us: int | None = None) -> Rule:
        """The base with some changes, and perhaps with another length of its steps."""
        fields: dict[str, Any] = {} if step_us is None else {"step_us": step_us, "bins": None}
        for change in combination:
            fields |= self.changes[change]
        return dataclasses.replace(self.base, **fields)

    @property
    def named_rules(self) -> tuple[tuple[str, Rule], ...]:
        """All rules with their names, the base first."""
        named = [(factorial.title(c), self.rule(c)) for c in self.combinations]
        swept = [(swept_name(c, us), self.rule(c, us)) for c in self.swept for us in self.steps_us]
        scored = [(scored_name(t), dataclasses.replace(self.base, step_us=None, bins=t)) for t in self.scored]
        return (*named, *swept, *scored)


def scored_name(time_steps: int) -> str:
    """Name of the unchanged rule with so many steps per recording."""
    return f"T = {time_steps}"


def swept_name(combination: Combination, step_us: int) -> str:
    """Name of a rule at one of several lengths of a step."""
    return f"{factorial.title(combination)}, steps of {step_us} us"


def plan(circuit: Circuit, base: Rule, target: Target, steps_us: Sequence[int], scored: Sequence[int] = ()) -> Plan:
    """The changes from the time-stepped rule to a target, and the order in which they are made.

    Args:
        circuit: the network as its file has it.
        base: its time-stepped rule.
        target: what it is to become.
        steps_us, scored: see `Plan`.

    Raises:
        InputError: for a change that the network contradicts: it is there already, or its neurons have no such thing.
    """
    rules = {p.name: p.rule for p in circuit.populations if p.rule.fires}
    if not rules:
        raise InputError("no population fires, so that no rule of spikes can be changed")
    event_driven = {"step_us": None, "bins": None}
    changes: dict[str, Mapping[str, Any]] = {INSTANTS: event_driven}
    never: list[tuple[str, str]] = []
    path: list[Combination] = [UNCHANGED, (INSTANTS,)]
    if target.order == "fifo":
        changes[FIFO] = event_driven | {"order": "fifo"}
        never.append((INSTANTS, FIFO))
        path.append((FIFO,))
    if target.spikes is not None:
        name = spikes_in_words(target.spikes)
        _check_spikes(rules, target.spikes)
        changes[name] = {"spikes": target.spikes}
        if target.order == "fifo":  # a single event has a neuron fire once at most, whatever the rule
            never.append((FIFO, name))
        else:
            path.append((*path[-1], name))
    if target.lower_bound is not None:
        name = bound_in_words(target.lower_bound)
        _check_bound(rules, target.lower_bound)
        changes[name] = {"lower_bound": target.lower_bound}
        path.append((*path[-1], name))
    if target.bits is not None:
        name = f"{target.bits} bit"
        changes[name] = {"bits": target.bits}
        path.append((*path[-1], name))
    return Plan(
        base=base,
        changes=changes,
        never_together=tuple(never),
        path=tuple(path),
        steps_us=tuple(steps_us),
        scored=tuple(scored),
    )


def usual_target(circuit: Circuit, order: Order | None) -> Target:
    """A target that differs from the network in everything: what each of its rules is worth.

    Single events where the network can run so; one spike per update where it has many, and the other way round; no
    lower bound where it has one, else one at minus the threshold; weights of 8 bits.

    Args:
        circuit: the network.
        order: of the target; None: ``"fifo"`` where that exists.

    Raises:
        InputError: for an order in which the network cannot run.
    """
    if order is None:
        try:
            Simulator(circuit, order="fifo")
        except InputError:
            order = "sum"
        else:
            order = "fifo"
    elif order == "fifo":
        Simulator(circuit, order="fifo")
    rules = [p.rule for p in circuit.populations if p.rule.fires]
    spikes: SpikesPerUpdate | None = None
    if all(rule.reset == "subtract" for rule in rules):
        spikes = "one" if any(rule.spikes == "many" for rule in rules) else "many"
    bounded = any(rule.lower_bound is not None for rule in rules)
    return Target(order=order, spikes=spikes, lower_bound=NONE if bounded else "-1.0 thresholds", bits=8)


def _check_spikes(rules: Mapping[str, NeuronRule], spikes: SpikesPerUpdate) -> None:
    for name, rule in rules.items():
        if rule.reset == "zero":
            raise InputError(
                f"population {name!r} resets to a fixed potential, so that it fires once per update whatever the rule; "
                f"spikes={spikes!r} needs reset='subtract'"
            )
    if all(rule.spikes == spikes for rule in rules.values()):
        raise InputError(f"all populations fire {spikes} per update already; name the other rule, or keep")


def _check_bound(rules: Mapping[str, NeuronRule], lower_bound: LowerBound) -> None:
    for rule in rules.values():
        new = _bound(rule, lower_bound)
        if not np.array_equal(np.asarray(new, dtype=object), np.asarray(rule.lower_bound, dtype=object)):
            return
    raise InputError(f"all populations have {bound_in_words(lower_bound)} already; name another one, or keep")


def spikes_in_words(spikes: SpikesPerUpdate) -> str:
    """``"one spike"``, ``"many spikes"``."""
    return f"{spikes} {'spike' if spikes == 'one' else 'spikes'}"


def bound_in_words(lower_bound: LowerBound) -> str:
    """``"no bound"``, ``"bound -1 thresholds"``, ``"bound -0.5"``."""
    if lower_bound == NONE:
        return "no bound"
    number, *unit = str(lower_bound).split()
    return " ".join(["bound", f"{float(number):g}", *unit])


def _bound(rule: NeuronRule, lower_bound: LowerBound) -> Any:
    assert rule.threshold is not None
    return bound_of(lower_bound, rule.threshold)


def crossing_between_steps(circuit: Circuit) -> list[str]:
    """Populations that can reach their threshold between two steps, where no time-stepped tool lets them fire."""
    return [p.name for p in circuit.populations if p.rule.crosses]


def decaying(circuit: Circuit) -> list[str]:
    """Populations whose membranes leak."""
    return [p.name for p in circuit.populations if type(p.rule) is not IF]


# ----- running


@dataclass(frozen=True, eq=False)
class GivenRecordings:
    """Recordings that were read one by one; `Recordings` of a data set do as well.

    Attributes:
        name: of all of them.
        ids: a name for each.
        events: the recordings.
    """

    name: str
    ids: Sequence[str]
    events: Sequence[np.ndarray]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.events)

    def __getitem__(self, piece: slice) -> GivenRecordings:
        return GivenRecordings(self.name, self.ids[piece], self.events[piece])


@dataclass(frozen=True)
class GapTask:
    """A network and the rules that it is run under.

    Attributes:
        graph: the network; ``digest`` stands for it in comparisons.
        digest: SHA-256 of its file.
        conventions: what the file leaves open.
        named_rules: names and rules; the first is the one that spikes are compared with.
        duration: of every run in seconds; None: until the last event.
    """

    graph: nir.NIRGraph = field(compare=False, repr=False)
    digest: str
    conventions: Conventions
    named_rules: tuple[tuple[str, Rule], ...]
    duration: float | None = None

    engine: ClassVar[str] = "exact"

    @property
    def passes(self) -> int:
        """How often every recording is run."""
        return len(self.named_rules)

    def versions(self) -> dict[str, str]:
        """Versions of Python and of the packages that results depend on."""
        return package_versions(*PACKAGES)

    def settings(self) -> dict[str, Any]:
        """All that the results depend on besides the recordings, JSON-able."""
        return {
            "network": self.digest,
            "conventions": dataclasses.asdict(self.conventions),
            "rules": {name: dataclasses.asdict(rule) for name, rule in self.named_rules},
            "duration": self.duration,
            "versions": self.versions(),
        }

    def evaluator(self, threads: int | None = None) -> GapEvaluator:
        """See `GapEvaluator`."""
        return GapEvaluator(self, threads)

    def circuit(self, rule: Rule) -> Circuit:
        """The network under a rule.

        Raises:
            InputError: as `translate.read_nir`, and for a bound that does not lie below the threshold.
        """
        graph = self.graph if rule.bits is None else perturb_networks.quantised_weights(self.graph, rule.bits)
        circuit = translate.read_nir(graph, self.conventions)

        def changed(old: NeuronRule) -> NeuronRule:
            fields: dict[str, Any] = {} if rule.spikes is None else {"spikes": rule.spikes}
            if rule.lower_bound is not None:
                fields["lower_bound"] = _bound(old, rule.lower_bound)
            return old.with_(**fields)

        populations = (dataclasses.replace(p, rule=changed(p.rule)) if p.rule.fires else p for p in circuit.populations)
        return dataclasses.replace(circuit, populations=tuple(populations))


class GapEvaluator:
    """A task with its networks built in this process.

    Args:
        task: which network, and under which rules.
        threads: of the engine; None for one per core. The results do not depend on it.
        engine: any that gives the spikes of ``"exact"``.

    Raises:
        InputError: for a rule under which the network cannot run.
    """

    def __init__(self, task: GapTask, threads: int | None = None, engine: str = "exact") -> None:
        self._task = task
        self._simulators: dict[Rule, Simulator] = {}
        for _, rule in task.named_rules:
            if rule.engine not in self._simulators:
                self._simulators[rule.engine] = Simulator(
                    task.circuit(rule),
                    engine=engine,
                    order=rule.order,
                    record="output",
                    **engine_info(engine).options_from({"threads": threads}),
                )

    def evaluate(self, recordings: NamedRecordings, progress: Callable[[int], object]) -> PartialResult:
        """Every rule on some recordings.

        Args:
            recordings: N of them; each is read once.
            progress: called with 1 after every run of a recording.

        Returns:
            by name of the rule predictions, synaptic operations, the seconds after which each prediction stays as it
            is, and the sums of spike differences by population.

        Raises:
            InputError: names a recording that does not fit the network, or is shorter than a step.
        """
        loaded = list(recordings)
        duration = self._task.duration
        ends = [last_us(r) / 1e6 if duration is None else duration for r in loaded]
        part: PartialResult = {}
        reference: list[Result] = []
        for name, rule in self._task.named_rules:
            stepped = [on_steps(r, rule, called) for r, called in zip(loaded, recordings.ids, strict=True)]
            simulator = self._simulators[rule.engine]
            try:
                results = collected(simulator.run(stepped, ends, names=recordings.ids), progress)
            except InputError:
                for recording, end, called in zip(stepped, ends, recordings.ids, strict=True):
                    simulator.circuit.input_spikes(recording, end, called)  # names the event behind such an end
                raise
            reference = reference or results
            predicted = [int(k) for k in predictions([r.readout for r in results])]
            part[name] = {
                "predictions": predicted,
                "settled": [_settled(result, k) for result, k in zip(results, predicted, strict=True)],
                "synops": [r.synops for r in results],
                "difference": _differences(reference, results),
            }
        return part


def _differences(reference: Sequence[Result], results: Sequence[Result]) -> dict[str, list[float]]:
    """Sums of `SpikeDifference` by population and of the readout, without the input, whose spikes are given."""
    sums: dict[str, SpikeDifference] = {}
    for before, after in zip(reference, results, strict=True):
        for population, counts in after.counts.items():
            if population != after.circuit.input:
                sums.setdefault(population, SpikeDifference()).add(before.counts[population], counts)
        sums.setdefault("output", SpikeDifference()).add(before.readout, after.readout)
    return {name: [one.difference, one.reference] for name, one in sums.items()}


def on_steps(recording: np.ndarray, rule: Rule, name: str = "recording") -> np.ndarray:
    """A recording whose events take place at the beginning of their step, in whole microseconds.

    Args:
        recording: structured array with ``t`` in microseconds, sorted by time.
        rule: its steps; without any the recording comes back as it is.
        name: of the recording, for messages.

    Raises:
        InputError: if the recording ends before the first step does.
    """
    if (rule.step_us is None and rule.bins is None) or not len(recording):
        return recording
    t = recording["t"].astype(np.int64)
    last = int(t[-1])
    if rule.step_us is not None:
        if last < rule.step_us:
            raise InputError(
                f"{name}: its last event comes at {last} us, within the first step of {rule.step_us} us; "
                f"pass steps that are not longer than the recording"
            )
        stepped = t // rule.step_us * rule.step_us
    else:
        assert rule.bins is not None
        if last + 1 < rule.bins:
            raise InputError(f"{name}: {last + 1} us are too short for {rule.bins} steps of whole microseconds")
        # As `events.to_frames` bins it; a step begins at its first whole microsecond.
        number = t * rule.bins // (last + 1)
        stepped = -(-number * (last + 1) // rule.bins)
    recording = recording.copy()
    recording["t"] = stepped
    return recording


def merge(parts: Sequence[PartialResult], labels: np.ndarray | None) -> dict[str, dict[str, Any]]:
    """The results of all recordings by rule, JSON-able, from those of some in order.

    Args:
        parts: of `GapEvaluator.evaluate`.
        labels: classes [N]; None where they are not known: what the first rule predicts counts as right.

    Returns:
        by name of the rule ``predictions`` and ``synops`` by recording, ``right`` (`factorial.Cells`), the spike
        difference from the first rule by population (None: spikes against silence), the mean of the operations, and the
        median decision time over the recordings that are right (None: there is none).
    """
    cells: dict[str, dict[str, Any]] = {}
    for name in parts[0]:
        predicted = [k for part in parts for k in part[name]["predictions"]]
        synops = [n for part in parts for n in part[name]["synops"]]
        if labels is None:
            labels = np.array(predicted)
        sums = {
            population: np.sum([part[name]["difference"][population] for part in parts], axis=0)
            for population in parts[0][name]["difference"]
        }
        right = np.equal(predicted, labels)
        settled = np.array([seconds for part in parts for seconds in part[name]["settled"]], dtype=np.float64)
        decided = settled[right & np.isfinite(settled)]
        cells[name] = {
            "right": factorial.as_bits(right),
            "predictions": predicted,
            "synops": synops,
            "synops_per_recording": float(np.mean(synops)),
            "spike_difference": {population: _ratio(*pair) for population, pair in sums.items()},
            "median_decision_seconds": float(np.median(decided)) if decided.size else None,
        }
    return cells


def _settled(result: Result, predicted: int) -> float | None:
    """Seconds after which the prediction does not change again; None if the readouts of all classes are equal."""
    seconds = decision_time(*readout_trace(result), label=predicted)
    return seconds if math.isfinite(seconds) else None


def _ratio(difference: float, reference: float) -> float | None:
    value = SpikeDifference(float(difference), float(reference)).value
    return value if np.isfinite(value) else None


def evaluate(shards: Sequence[Shard[Any, Any]], store: ResultStore, backend: Backend) -> list[PartialResult]:
    """The results of all shards, in order: those of the store, and the others, kept there as they come.

    Args:
        shards: of `backend.divide`, of one network or several.
        store: bound to all that the results depend on.
        backend: `backend.evaluate_here`, or that of `dask_backend.workers`.
    """
    missing = [shard for shard in shards if shard.key not in store]
    passes = sum(shard.passes for shard in shards)
    done = passes - sum(shard.passes for shard in missing)
    with progress_bar(total=passes, initial=done, description="gap", unit="runs") as bar:
        for shard, result in backend(missing, bar.update):
            store.keep(shard.key, result)
    return [store[shard.key] for shard in shards]
