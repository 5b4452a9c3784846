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

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import brian2
import numpy as np
from brian2 import Quantity, ms, second, volt

from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.spikes import InputSpikes, pair_with_durations
from mtt_brian.engines.brian2 import internals
from mtt_brian.engines.brian2.circuit_network import SLOT, CircuitNetwork, counted
from mtt_brian.engines.brian2.equations import counts_many, whole
from mtt_brian.engines.brian2.memory import BYTES_PER_SYNAPSE, estimate_that_fits
from mtt_brian.engines.brian2.units import VoltageScale
from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF, NeuronRule
from mtt_brian.translate.from_nir import GraphLike, read_nir

_log = logging.getLogger(__name__)

#: Volts are rounded: -70 mV + 10 mV + 10 mV lies an ulp below -50 mV. A membrane so close to its threshold, as a part
#: of the distance between rest and threshold, has reached it; that is far below any physics.
_ROUNDING = 1e-12
#: What rounding can do to a potential, as a part of the rest; a threshold must lie a thousand times as far from it.
_ROUNDED = 8 * 2.0**-52

#: Every synapse has a delay of its own, and the queue a copy of it.
_BYTES_PER_SYNAPSE = BYTES_PER_SYNAPSE + 16


class ClockDrivenNetwork(CircuitNetwork):
    """A ``brian2.Network`` in real time that runs one recording in each of its copies; made by `to_clock_driven`.

    Brian2 objects by name, as in ``network["population_hidden"]``:

    * ``input``, which fires as the recordings say;
    * ``population_<name>``: a ``NeuronGroup`` with the potential ``v`` and, one value per neuron, ``drive`` (constant
      input: volts per second for IF, volts for LIF, volts that enter the synapse for CubaLIF); ``tau`` and ``v_leak``
      (LIF); ``tau_syn`` and ``I`` (CubaLIF: the synaptic current times the resistance, in volts); ``v_threshold``,
      ``tau_ref`` (refractory period) and ``v_reset`` (of a reset to a value), if it fires; ``v_min`` (lower bound);
    * ``synapses_<source>_<target>``: ``Synapses`` with a ``w`` in volts and a ``delay`` each;
    * ``spikes_<name>``: a ``SpikeMonitor`` that also records ``n``, spikes fired at once.

    Neuron i of copy k has the number ``k * size + i``. `names` maps the names of nodes to names that Brian2 accepts.
    What is added runs as usual: ``run_regularly`` before the input of a step, synapses of one's own behind all
    populations, monitors at its end.

    Attributes:
        circuit, scale, dt: what was built, in which units, and the length of a step.
        batch_size, steps: how many copies run side by side, and for how many steps.
    """

    def __init__(self, circuit: Circuit, trains: Sequence[InputSpikes], scale: VoltageScale, dt: Quantity) -> None:
        super().__init__(circuit, len(trains), brian2.Clock(dt=dt))
        self.scale, self.dt = scale, dt
        self.steps = 1 + max(int(_steps(np.array(train.duration), dt)) for train in trains)
        self._arrival_order: dict[str, int] = {}
        self.groups[circuit.input] = self._input(trains)
        for population in circuit.populations:
            self._population(population)
        # Behind all populations: a delayed connection may lead back to an earlier one.
        for connection in circuit.connections:
            self._synapses(connection)
        for population in circuit.populations:
            if population.rule.fires:
                self.monitors[population.name] = self._monitor(population.name)

    @property
    def duration(self) -> Quantity:
        """How long to run: all steps, the one of the last event included."""
        return self.steps * self.dt

    def readouts(self) -> np.ndarray:
        """The outputs of the last population so far: float64 [batch_size, classes].

        Spike counts of a firing last population; the potentials of a silent one, in the network's own unit.
        """
        last = self.circuit.readout
        shape = (self.batch_size, last.size)
        if not last.rule.fires:
            return self.scale.from_potential(self.groups[last.name].v[:]).reshape(shape)
        monitor = self.monitors[last.name]
        neurons = np.asarray(monitor.i, dtype=np.int64)
        n = counted(last, neurons % last.size, np.asarray(monitor.n), self._times(monitor, neurons))
        return np.bincount(neurons, n, self.batch_size * last.size).reshape(shape)

    def _times(self, monitor: brian2.EventMonitor, copies: np.ndarray) -> np.ndarray:
        """Where the step of each record begins."""
        return np.asarray(monitor.t / second)

    # ----- building

    def _input(self, trains: Sequence[InputSpikes]) -> brian2.NeuronGroup:
        size = self.circuit.input_size
        step = np.concatenate([_steps(train.t, self.dt) for train in trains])
        pixel = np.concatenate([copy * size + train.i for copy, train in enumerate(trains)])
        key, row = np.unique(step * (self.batch_size * size) + pixel, return_inverse=True)
        step, pixel = np.divmod(key, self.batch_size * size)
        count = np.bincount(row, np.concatenate([train.n for train in trains]), len(key))
        first = np.searchsorted(step, np.arange(self.steps + 1))
        self._load_events(pixel.astype(np.int32), count.astype(np.int32), first)
        return self._fed_input(size)

    def _population(self, population: Population) -> None:
        rule = population.rule
        model = _model(population.name, rule, self.scale)
        group = brian2.NeuronGroup(
            self.batch_size * population.size,
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
            setattr(group, name, np.tile((values * np.ones(population.shape)).ravel(), self.batch_size))
        self._arrival_order[population.name] = self._next_order()
        if rule.lower_bound is not None:
            bounded = "v = v*int(v >= v_min) + v_min*int(v < v_min)"
            group.run_regularly(bounded, when=SLOT, order=self._next_order())
        if rule.fires:
            group.n = 1
            self._in_order(group.thresholder["spike"], group.resetter["spike"])
        self.groups[population.name] = group
        self.add(group)

    def _synapses(self, connection: Connection) -> None:
        source, target = connection.source, self.circuit.population[connection.target]
        pre, post, weight, delay = connection.synapses()
        weight = weight * np.broadcast_to(target.rule.gain, target.shape).ravel()[post]
        if isinstance(target.rule, CubaLIF):
            weight = weight * np.broadcast_to(target.rule.r, target.shape).ravel()[post]
        if self._arrival_order[target.name] <= self._arrival_order.get(source, 0):
            if np.any(_steps(delay, self.dt) < 1):
                raise InputError(
                    f"the connection {source!r} -> {target.name!r} closes a loop in less than a step of {self.dt}"
                )
            # It runs before its source has fired, and gets the spikes a step late.
            delay = np.maximum(delay - self.dt / second, 0)
        synapses = self._connect(
            f"synapses_{self.names[source]}_{self.names[target.name]}",
            self.groups[source],
            self.groups[target.name],
            pre,
            post,
            "w : volt",
            f"{'I' if isinstance(target.rule, CubaLIF) else 'v'}_post += w*n_pre",
            {},
        )
        internals.schedule(synapses.pre, SLOT, self._arrival_order[target.name])
        if len(pre):
            synapses.w = np.tile(weight, self.batch_size) * self.scale.unit
            synapses.delay = np.tile(delay, self.batch_size) * second

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
        graph: a NIR graph, the path of a ``.nir`` file, or a circuit; all neurons and connections of the exact
            engine but linear systems of other kinds.
        recordings: structured array ``t`` [us], ``x``, ``y``, ``p``; or several, which run side by side in
            independent copies of the network. The same one several times makes trials.
        scale: what potentials are in volts; by default rest at -70 mV, threshold at -50 mV.
        dt: length of a step.
        duration: end of the run in seconds; by default the last event.
        **conventions: fields of `mtt_brian.translate.Conventions`, or the object as ``conventions=``.

    Raises:
        InputError: for a bad ``dt``, no recording, a loop that closes in less than a step, a Brian2 device other than
            the runtime, or a network that needs more memory than there is.
    """
    if internals.device_name() != "runtime":
        raise InputError(
            "a clock-driven network needs Brian2's runtime device; call brian2.set_device('runtime') first"
        )
    if not (brian2.have_same_dimensions(dt, second) and np.ndim(dt) == 0 and 0 < float(dt) < np.inf):
        raise InputError(f"dt must be a time > 0, such as 0.1*ms, not {dt!r}")
    circuit = read_nir(graph, **conventions)
    for population in circuit.populations:
        if population.rule.upper_bound is not None:
            raise InputError(
                f"population {population.name!r} has an upper bound (membrane_bits), which a clock-driven network does "
                "not follow; use engine='exact'"
            )
    single = isinstance(recordings, np.ndarray) and recordings.ndim == 1 and recordings.dtype.names
    given, _ = pair_with_durations([recordings] if single else recordings, duration)
    trains = [circuit.input_spikes(recording, end, f"recording {k}") for k, (recording, end) in enumerate(given)]
    if not trains:
        raise InputError("a clock-driven network needs at least one recording")
    _log.info("building %s", estimate_that_fits(circuit, len(trains), _BYTES_PER_SYNAPSE))
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


def _steps(seconds: np.ndarray, dt: Quantity) -> np.ndarray:
    """The step in which each time lies, int64; a whole number of steps up to rounding is where that step begins."""
    steps = seconds / float(dt)
    whole = np.rint(steps)
    return np.where(np.abs(steps - whole) < 1e-6, whole, np.floor(steps)).astype(np.int64)
