"""`Circuit` -> a plain Brian2 network on a clock in real time, in volts and seconds: what a biologist adds to.

The network of `mtt_brian.engines.brian2.network` steps from instant to instant, which is exact and leaves no time for
what takes time by itself. Here a step is ``dt`` long and Brian2 integrates the equations. Within a step everything
follows in one slot with rising ``order``, as there:

    input -> synapses -> lower bound -> threshold -> reset -> the next population's synapses -> ...

so that a spike crosses all populations in its own step, and delays are those of the synapses alone. Events of one step
are summed: this is the time-stepped network with steps of ``dt``, and the smaller ``dt``, the closer it comes to the
event-driven one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import brian2
import numpy as np
from brian2 import Quantity, ms, second, volt
from brian2.devices.device import all_devices, get_device
from scipy import sparse

from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Delay
from mtt_brian.circuit.spikes import InputSpikes, input_spikes_for, pair_with_durations
from mtt_brian.engines.brian2.equations import counts_many, whole
from mtt_brian.engines.brian2.memory import BYTES_PER_SYNAPSE, estimate_that_fits
from mtt_brian.engines.brian2.network import brian_names, numbered_name
from mtt_brian.engines.brian2.units import VoltageScale
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF, NeuronRule
from mtt_brian.translate.from_nir import GraphLike, read_nir

_SLOT = "thresholds"

#: Volts are rounded: -70 mV + 10 mV + 10 mV lies an ulp below -50 mV. A membrane so close to its threshold, as a part
#: of the distance between rest and threshold, has reached it; that is far below any physics.
_ROUNDING = 1e-12
#: What rounding can do to a potential, as a part of the rest; a threshold must lie a thousand times as far from it.
_ROUNDED = 8 * 2.0**-52

#: Every synapse has a delay of its own, and the queue a copy of it.
_BYTES_PER_SYNAPSE = BYTES_PER_SYNAPSE + 16


class ClockDrivenNetwork(brian2.Network):
    """A ``brian2.Network`` in real time that plays one recording in each of its lanes; made by `to_clock_driven`.

    Brian2 objects by name, as in ``network["population_hidden"]``:

    * ``input``, which plays the recordings;
    * ``population_<name>``: a ``NeuronGroup`` with the potential ``v`` and, one value per neuron, ``drive`` (constant
      input: volts per second for IF, volts for LIF, volts that enter the synapse for CubaLIF); ``tau`` and ``v_leak``
      (LIF); ``tau_syn`` and ``I`` (CubaLIF: the synaptic current times the resistance, in volts); ``v_threshold``,
      ``tau_ref`` (refractory period) and ``v_reset`` (of a reset to a value), if it fires; ``v_min`` (lower bound);
    * ``synapses_<source>_<target>``: ``Synapses`` with a ``w`` in volts and a ``delay`` each;
    * ``spikes_<name>``: a ``SpikeMonitor`` that also records ``n``, spikes fired at once.

    Neuron i of lane k has the number ``k * size + i``. `names` tells what became of names that Brian2 does not accept.
    What is added runs as usual: ``run_regularly`` before the input of a step, synapses of one's own behind all
    populations, monitors at its end.

    Attributes:
        circuit, scale, dt: what was built, in which units, and the length of a step.
        lanes, steps: how many copies run side by side, and for how many steps.
    """

    def __init__(self, circuit: Circuit, trains: Sequence[InputSpikes], scale: VoltageScale, dt: Quantity) -> None:
        super().__init__()
        self.circuit, self.scale, self.dt = circuit, scale, dt
        self.lanes = len(trains)
        self.steps = 1 + max(int(_steps(np.array(train.duration), dt)) for train in trains)
        self.names = brian_names(circuit)
        self.clock = brian2.Clock(dt=dt)
        self._order = 0
        self._arrival_order: dict[str, int] = {}
        self.groups: dict[str, brian2.NeuronGroup] = {circuit.input: self._input(trains)}
        for population in circuit.populations:
            self._population(population)
        # Behind all populations: a delayed connection may lead back to an earlier one.
        for connection in circuit.connections:
            self._synapses(connection)
        firing = [p.name for p in circuit.populations if p.rule.fires]
        self.monitors = {name: self._monitor(name) for name in firing}

    @property
    def duration(self) -> Quantity:
        """How long to run: all steps, the one of the last event included."""
        return self.steps * self.dt

    def trains(self, lane: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """What was fired so far in one lane, by population: times in seconds, neurons, spikes at once.

        These are the columns of `mtt_brian.engines.Spikes`, sorted by time, then neuron. A time is the beginning of a
        step.
        """
        found = {}
        for name, monitor in self.monitors.items():
            lanes, i = np.divmod(np.asarray(monitor.i, dtype=np.int64), self.circuit.population[name].size)
            t, n = np.asarray(monitor.t / second), self._counted(name)
            order = np.lexsort((i, t))
            order = order[lanes[order] == lane]
            found[name] = (t[order], i[order], n[order])
        return found

    def readouts(self) -> np.ndarray:
        """The answers as they stand: float64 [lanes, classes].

        Spike counts of a firing last population; the potentials of a silent one, in the network's own unit.
        """
        last = self.circuit.readout
        if not last.rule.fires:
            return self.scale.from_potential(self.groups[last.name].v[:]).reshape(self.lanes, last.size)
        monitor = self.monitors[last.name]
        return np.bincount(monitor.i, self._counted(last.name), self.lanes * last.size).reshape(self.lanes, last.size)

    def _counted(self, population: str) -> np.ndarray:
        """Spikes at once of every record of a monitor, int64."""
        monitor = self.monitors[population]
        n = np.asarray(monitor.n)
        if wrong := np.flatnonzero(~(n < 2.0**53)).tolist():
            neuron = monitor.i[wrong[0]] % self.circuit.population[population].size
            raise InputError(
                f"population {population!r}, neuron {neuron}, at {monitor.t[wrong[0]] / second:.9g} s: more spikes at "
                "once than can be counted (2**53); check weights and spike_integral"
            )
        return n.astype(np.int64)

    # ----- building

    def _next_order(self) -> int:
        self._order += 1
        return self._order

    def _input(self, trains: Sequence[InputSpikes]) -> brian2.NeuronGroup:
        """The pixels of all lanes. In a ``SpikeGeneratorGroup`` none could have two events in one step."""
        size = self.circuit.input_size
        step = np.concatenate([_steps(train.t, self.dt) for train in trains])
        pixel = np.concatenate([lane * size + train.i for lane, train in enumerate(trains)])
        key, row = np.unique(step * (self.lanes * size) + pixel, return_inverse=True)
        step, pixel = np.divmod(key, self.lanes * size)
        self._event_pixel = pixel.astype(np.int32)
        self._event_n = np.bincount(row, np.concatenate([train.n for train in trains]), len(key)).astype(np.int32)
        self._first_event = np.searchsorted(step, np.arange(self.steps + 1))
        group = brian2.NeuronGroup(
            self.lanes * size, "n : integer", threshold="False", reset="", name="input", clock=self.clock, namespace={}
        )
        group.thresholder["spike"].active = False
        self._input_spikes = group.variables["_spikespace"].get_value()
        self._input_n = group.variables["n"].get_value()
        feed = brian2.NetworkOperation(self._feed, clock=self.clock, when=_SLOT, order=self._next_order(), name="feed")
        self.add(group, feed)
        return group

    def _feed(self) -> None:
        """Let the pixels of this step fire; behind the last step nothing does."""
        step = min(self.clock.variables["timestep"].item(), self.steps)
        first, last = self._first_event[step], self._first_event[min(step + 1, self.steps)]
        pixels = self._event_pixel[first:last]
        self._input_spikes[: last - first] = pixels
        self._input_spikes[-1] = last - first
        self._input_n[pixels] = self._event_n[first:last]

    def _population(self, population: Population) -> None:
        rule = population.rule
        model = _model(population.name, rule, self.scale)
        group = brian2.NeuronGroup(
            self.lanes * population.size,
            model.equations,
            threshold=model.threshold,
            reset=model.reset,
            refractory="tau_ref" if rule.fires else False,
            method=model.method,
            name=f"population_{self.names[population.name]}",
            clock=self.clock,
            namespace={"v_rest": self.scale.rest},
        )
        group.v = self.scale.rest
        for name, values in model.parameters.items():
            setattr(group, name, np.tile((values * np.ones(population.shape)).ravel(), self.lanes))
        self._arrival_order[population.name] = self._next_order()
        if rule.lower_bound is not None:
            bounded = "v = v*int(v >= v_min) + v_min*int(v < v_min)"
            group.run_regularly(bounded, when=_SLOT, order=self._next_order())
        if rule.fires:
            group.n = 1
            for runner in (group.thresholder["spike"], group.resetter["spike"]):
                runner.when, runner.order = _SLOT, self._next_order()
        self.groups[population.name] = group
        self.add(group)

    def _synapses(self, connection: Connection) -> None:
        source, target = connection.source, self.circuit.population[connection.target]
        pre, post, weight, delay = _paths(connection)
        weight = weight * np.broadcast_to(target.rule.gain, target.shape).ravel()[post]
        if isinstance(target.rule, CubaLIF):
            weight = weight * np.broadcast_to(target.rule.r, target.shape).ravel()[post]
        if self._arrival_order[target.name] <= self._arrival_order.get(source, 0):
            if np.any(_steps(delay, self.dt) < 1):
                raise InputError(
                    f"the connection {source!r} -> {target.name!r} closes a loop in less than a step of {self.dt}"
                )
            # It runs before its source has fired, and hears of it a step late.
            delay = np.maximum(delay - self.dt / second, 0)
        name = f"synapses_{self.names[source]}_{self.names[target.name]}"
        synapses = brian2.Synapses(
            self.groups[source],
            self.groups[target.name],
            "w : volt",
            on_pre=f"{'I' if isinstance(target.rule, CubaLIF) else 'v'}_post += w*n_pre",
            name=numbered_name(name, [o.name for o in self.objects]),
            clock=self.clock,
            namespace={},
        )
        synapses.pre.when, synapses.pre.order = _SLOT, self._arrival_order[target.name]
        lane = np.arange(self.lanes)[:, None]
        if len(pre):
            synapses.connect(i=(pre + lane * connection.source_size).ravel(), j=(post + lane * target.size).ravel())
            synapses.w = np.tile(weight, self.lanes) * self.scale.unit
            synapses.delay = np.tile(delay, self.lanes) * second
        else:
            synapses.connect(False)
        self.add(synapses)

    def _monitor(self, population: str) -> brian2.SpikeMonitor:
        monitor = brian2.SpikeMonitor(self.groups[population], "n", name=f"spikes_{self.names[population]}")
        self.add(monitor)
        return monitor


def to_clock_driven(
    graph: GraphLike,
    recordings: np.ndarray | Sequence[np.ndarray],
    *,
    scale: VoltageScale | None = None,
    dt: Quantity = 0.1 * ms,
    duration: float | None = None,
    **conventions: Any,
) -> ClockDrivenNetwork:
    """A plain Brian2 network of a graph in real time and in volts, for delays, noise, refractory periods and the like.

    >>> network = to_clock_driven("model.nir", recording)                          # doctest: +SKIP
    >>> hidden = network["population_hidden"]                                       # doctest: +SKIP
    >>> hidden.tau_ref = 2 * ms                                                     # doctest: +SKIP
    >>> hidden.run_regularly("v += 0.5*mV*sqrt(dt/ms)*randn()")                     # doctest: +SKIP
    >>> network["synapses_input_hidden"].delay = "rand()*3*ms"                      # doctest: +SKIP
    >>> network.run(network.duration)                                               # doctest: +SKIP

    With ``dt = D / T`` and nothing added this is the time-stepped network with T steps over D seconds; the smaller
    ``dt``, the closer to the event-driven one, which it equals at 1 us where nothing drifts. One difference stays:
    every step is an update, so a neuron that ``spikes="one"`` leaves above its threshold fires again in the next step
    (or after its refractory period), and does not wait for an arrival. Delays are rounded to whole steps. The network
    is built for Brian2's runtime and for the code generation target that is set when it is run.

    Args:
        graph: a NIR graph, the path of a ``.nir`` file, or a circuit; all neurons and connections that the exact
            engine knows.
        recordings: structured array ``t`` [us], ``x``, ``y``, ``p``; or several, which run side by side in lanes,
            independent copies of the network. The same one several times makes trials.
        scale: what potentials are in volts; by default rest at -70 mV, threshold at -50 mV.
        dt: length of a step.
        duration: end of the run in seconds; by default the last event.
        **conventions: fields of `mtt_brian.translate.Conventions`, or the object as ``conventions=``.

    Raises:
        InputError: for a bad ``dt``, no recording, a loop that closes in less than a step, a Brian2 device other than
            the runtime, or a network that needs more memory than there is.
    """
    if get_device() is not all_devices["runtime"]:
        raise InputError(
            "a clock-driven network needs Brian2's runtime device; call brian2.set_device('runtime') first"
        )
    if not (brian2.have_same_dimensions(dt, second) and np.ndim(dt) == 0 and 0 < float(dt) < np.inf):
        raise InputError(f"dt must be a time > 0, such as 0.1*ms, not {dt!r}")
    circuit = read_nir(graph, **conventions)
    single = isinstance(recordings, np.ndarray) and recordings.ndim == 1 and recordings.dtype.names
    given, _ = pair_with_durations([recordings] if single else recordings, duration)
    trains = [input_spikes_for(circuit, recording, end, f"recording {k}") for k, (recording, end) in enumerate(given)]
    if not trains:
        raise InputError("a clock-driven network needs at least one recording")
    print(f"building {estimate_that_fits(circuit, len(trains), _BYTES_PER_SYNAPSE)}", file=sys.stderr)
    return ClockDrivenNetwork(circuit, trains, scale or VoltageScale(), dt)


class _Model(NamedTuple):
    """Brian2's text of a neuron rule, how to integrate it, and the parameters in it."""

    equations: str
    method: str
    threshold: str | None
    reset: str | None
    parameters: dict[str, Quantity]


def _model(name: str, rule: NeuronRule, scale: VoltageScale) -> _Model:
    """The rule of `mtt_brian.neuron`, with a step for an instant."""
    if type(rule) not in (IF, LIF, CubaLIF):
        raise InputError(
            f"population {name!r} has the rule {type(rule).__name__}, which a clock-driven network cannot follow; "
            "use engine='exact'"
        )
    current = np.multiply(rule.w_in, rule.bias) if isinstance(rule, CubaLIF) else rule.bias
    drive = scale.jump(np.multiply(rule.r, current))
    parameters = {"drive": drive / second}
    lines, method = ["dv/dt = drive : volt"], "euler"  # which is exact for a straight line
    if isinstance(rule, LIF):
        parameters = {"drive": drive, "v_leak": scale.potential(rule.v_leak), "tau": np.asarray(rule.tau) * second}
        lines, method = ["dv/dt = (v_leak + drive - v)/tau : volt"], "exact"
    if isinstance(rule, CubaLIF):
        parameters["tau_syn"] = np.asarray(rule.tau_syn) * second
        lines = ["dv/dt = (v_leak + I - v)/tau : volt", "dI/dt = (drive - I)/tau_syn : volt"]
        method = "rk4"  # the closed form would divide by the difference of the time constants
    threshold = reset = None
    if rule.threshold is not None:
        lines[0] += " (unless refractory)"
        lines.append("n : 1" if counts_many(rule) else "n : integer")
        distance, floor = scale.jump(rule.threshold), _ROUNDED * max(abs(scale.rest), abs(scale.threshold))
        if np.any(distance < 1000 * floor):
            raise InputError(
                f"population {name!r}: volts around {scale.rest} cannot tell a threshold of {np.min(rule.threshold):g} "
                f"from rest; pass a VoltageScale with trained_threshold of about that"
            )
        parameters |= {
            "v_threshold": scale.potential(rule.threshold),
            "tau_ref": np.asarray(rule.refractory) * second,
            "rounding": np.maximum(np.asarray(_ROUNDING * distance), float(floor)) * volt,
        }
        threshold = "v >= v_threshold - rounding"
        if rule.reset == "zero":
            parameters["v_reset"] = scale.potential(rule.v_reset)
            reset = "v = v_reset"
        elif rule.spikes == "many":
            reset = f"n = {whole('(v - v_rest + rounding)/(v_threshold - v_rest)')}\nv -= n*(v_threshold - v_rest)"
        else:
            reset = "v -= v_threshold - v_rest"
    if rule.lower_bound is not None:
        parameters["v_min"] = scale.potential(rule.lower_bound)
    units = {unit.dim: name for name, unit in (("volt", volt), ("second", second), ("volt/second", volt / second))}
    lines += [f"{name} : {units[value.dim]} (constant)" for name, value in parameters.items()]
    return _Model("\n".join(lines), method, threshold, reset, parameters)


def _paths(connection: Connection) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every synapse of a connection: source neuron, target neuron, weight, delay in seconds.

    Paths between two neurons that take the same time are one synapse. Sorted by source, so that the synapses of one
    presynaptic neuron lie side by side in memory.
    """
    by_delay = {0.0: sparse.csr_array(sparse.eye_array(connection.source_size))}
    for operator in connection.operators:
        if not isinstance(operator, Delay):
            by_delay = {delay: sparse.csr_array(operator.matrix() @ so_far) for delay, so_far in by_delay.items()}
            continue
        later: dict[float, sparse.csr_array] = {}
        for delay, so_far in by_delay.items():
            for seconds in np.unique(operator.seconds):
                through = sparse.csr_array(sparse.diags_array((operator.seconds == seconds).ravel().astype(float)))
                part = sparse.csr_array(through @ so_far)
                late = delay + float(seconds)
                later[late] = part + later[late] if late in later else part
        by_delay = later
    columns: list[list[np.ndarray]] = [[], [], [], []]
    for delay, matrix in by_delay.items():
        entries = matrix.tocoo()
        entries.eliminate_zeros()
        post, pre = entries.coords
        for column, values in zip(columns, (pre, post, entries.data, np.full(entries.nnz, delay)), strict=True):
            column.append(values)
    pre, post, weight, delays = (np.concatenate(column) for column in columns)
    order = np.lexsort((delays, post, pre))
    return pre[order], post[order], weight[order], delays[order]


def _steps(seconds: np.ndarray, dt: Quantity) -> np.ndarray:
    """The step in which each time lies, int64; a whole number of steps up to rounding is where that step begins."""
    steps = seconds / float(dt)
    whole = np.rint(steps)
    return np.where(np.abs(steps - whole) < 1e-6, whole, np.floor(steps)).astype(np.int64)
