"""The CUBA and COBA networks of Brian2 without a clock, against Brian2's C++ project at three time steps.

4,000 neurons, 2 % connections, synapses of 5 and 10 ms, 5 ms refractory period. One core. CUBA has currents and a drive
above the threshold, COBA has conductances and no drive, "adex" is COBA with adaptive exponential neurons.
Where NEST is installed, its neurons with precise spike times (iaf_psc_exp_ps) run the same network with delays of 1 ms,
because NEST needs delays; so does the device, again.

    python benchmarks/brian2_device.py --seconds 1
    python benchmarks/brian2_device.py --seconds 1 --example coba
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from typing import Any, NamedTuple

import brian2
import numpy as np
from brian2 import ms, mV, second, volt

import mtt_brian.event_driven

STEPS = (1.0, 0.1, 0.01)
#: Spikes before this time are compared: later ones depend on the last bits of everything before.
COMPARED = 0.02
#: Of the synapses, in seconds, where NEST is compared.
NEST_DELAY = 0.001

NAMESPACE = {
    "taum": 20 * ms,
    "taue": 5 * ms,
    "taui": 10 * ms,
    "Vt": -50 * mV,
    "Vr": -60 * mV,
    "El": -49 * mV,
    "we": (60 * 0.27 / 10) * mV,
    "wi": (-20 * 4.5 / 10) * mV,
}
COBA = {**NAMESPACE, "El": -60 * mV, "Ee": 0 * mV, "Ei": -80 * mV, "we": 0.6, "wi": 6.7}


class Example(NamedTuple):
    """A network.

    Attributes:
        equations, namespace, method, reset: in Brian2's words.
        start: mean and standard deviation of ge and gi at first; they are 0 without it.
    """

    equations: str
    namespace: dict[str, Any]
    method: str
    start: tuple[tuple[float, float], ...] = ()
    reset: str = "v = Vr"


EXAMPLES = {
    "cuba": Example(
        """
        dv/dt = (ge + gi - (v - El)) / taum : volt (unless refractory)
        dge/dt = -ge / taue : volt
        dgi/dt = -gi / taui : volt
        """,
        NAMESPACE,
        "exact",
    ),
    "coba": Example(
        """
        dv/dt = (ge * (Ee - v) + gi * (Ei - v) - (v - El)) / taum : volt (unless refractory)
        dge/dt = -ge / taue : 1
        dgi/dt = -gi / taui : 1
        """,
        COBA,
        "exponential_euler",
        ((1.0, 0.375), (1.0, 0.6)),
    ),
    "adex": Example(
        """
        dv/dt = (ge * (Ee - v) + gi * (Ei - v) + El - v + slope * exp((v - Vexp) / slope) - w) / taum
            : volt (unless refractory)
        dw/dt = (0.2 * (v - El) - w) / (144 * ms) : volt
        dge/dt = -ge / taue : 1
        dgi/dt = -gi / taui : 1
        """,
        {**COBA, "Vexp": -50 * mV, "slope": 2 * mV, "Vt": -40 * mV},
        "euler",
        ((1.0, 0.375), (1.0, 0.6)),
        "v = Vr; w += 1*mV",
    ),
}


Trains = tuple[np.ndarray, np.ndarray]


class Wiring(NamedTuple):
    """What is drawn: the same on every simulator.

    Attributes:
        volts: initial potentials.
        synapses: source and target of every synapse, first of the excitatory neurons, then of the inhibitory ones.
    """

    volts: np.ndarray
    synapses: tuple[tuple[np.ndarray, np.ndarray], ...]


def draw(neurons: int, probability: float, seed: int = 1) -> Wiring:
    """Random potentials and synapses; the first four fifths of the neurons are excitatory."""
    random = np.random.default_rng(seed)
    volts = (-60 + 10 * random.random(neurons)) * 1e-3
    excitatory = neurons * 4 // 5
    synapses = []
    for sources in (range(excitatory), range(excitatory, neurons)):
        each = random.binomial(neurons, probability, len(sources))
        i = np.repeat(np.asarray(sources), each)
        j = np.concatenate([np.sort(random.choice(neurons, n, replace=False)) for n in each])
        synapses.append((i, j))
    return Wiring(volts, tuple(synapses))


def built(
    neurons: int, probability: float, delay: float = 0.0, example: str = "cuba"
) -> tuple[brian2.Network, brian2.SpikeMonitor]:
    """The network in Brian2; the delay is in seconds."""
    equations, namespace, method, start, reset = EXAMPLES[example]
    wiring = draw(neurons, probability)
    group = brian2.NeuronGroup(
        neurons, equations, threshold="v > Vt", reset=reset, refractory=5 * ms, method=method, namespace=namespace
    )
    group.v = wiring.volts * volt
    random = np.random.default_rng(2)
    for name, (mean, deviation) in zip(("ge", "gi"), start, strict=False):
        setattr(group, name, np.maximum(random.normal(mean, deviation, neurons), 0))
    parts: list[Any] = [group]
    for code, (i, j) in zip(("ge += we", "gi += wi"), wiring.synapses, strict=True):
        synapses = brian2.Synapses(group, group, on_pre=code, namespace=namespace)
        synapses.connect(i=i, j=j)
        synapses.delay = delay * second
        parts.append(synapses)
    monitor = brian2.SpikeMonitor(group)
    return brian2.Network(*parts, monitor), monitor


def spikes_of(monitor: brian2.SpikeMonitor) -> Trains:
    """Times in seconds and neurons."""
    return np.array(monitor.t_[:]), np.array(monitor.i[:])


def exact(
    seconds: float, neurons: int, probability: float, delay: float = 0.0, example: str = "cuba"
) -> tuple[float, Trains]:
    """Processor time in seconds and spikes of the device event_driven, without compilation and lowering."""
    brian2.set_device(mtt_brian.event_driven.device)
    network, monitor = built(neurons, probability, delay, example)
    network.run(1e-9 * second)
    started = time.process_time()
    network.run(seconds * second)
    return time.process_time() - started, spikes_of(monitor)


def clocked(seconds: float, neurons: int, probability: float, dt: float, example: str) -> tuple[float, Trains]:
    """Wall time and spikes of Brian2's C++ project; the time is that of its loop."""
    brian2.set_device("cpp_standalone", build_on_run=False)
    brian2.device.reinit()
    brian2.device.activate(build_on_run=False)
    brian2.prefs["devices.cpp_standalone.openmp_threads"] = 0
    brian2.defaultclock.dt = dt * ms
    network, monitor = built(neurons, probability, example=example)
    network.run(seconds * second)
    with tempfile.TemporaryDirectory() as folder:
        brian2.device.build(directory=folder, compile=True, run=True, with_output=False)
        found = spikes_of(monitor)
        elapsed = float(brian2.device._last_run_time)
    brian2.set_device("runtime")
    brian2.defaultclock.dt = 0.1 * ms
    return elapsed, found


def nest(seconds: float, neurons: int, probability: float, delay: float) -> tuple[float, Trains]:
    """Processor time in seconds and spikes of NEST on one core, without the construction of the network."""
    import nest as package

    package.ResetKernel()
    package.set_verbosity("M_ERROR")
    wiring = draw(neurons, probability)
    potentials = {"E_L": "El", "V_th": "Vt", "V_reset": "Vr"}
    times = {"tau_m": "taum", "tau_syn_ex": "taue", "tau_syn_in": "taui"}
    parameters = {
        **{name: float(NAMESPACE[ours] / mV) for name, ours in potentials.items()},
        **{name: float(NAMESPACE[ours] / ms) for name, ours in times.items()},
        "C_m": float(NAMESPACE["taum"] / ms),  # in pF: a current of 1 pA is a ge of 1 mV
        "t_ref": 5.0,
    }
    cells = package.Create("iaf_psc_exp_ps", neurons, parameters)
    cells.V_m = 1e3 * wiring.volts
    identities = np.array(cells.tolist())
    for weight, (i, j) in zip(("we", "wi"), wiring.synapses, strict=True):
        each = {"weight": np.full(len(i), NAMESPACE[weight] / mV), "delay": np.full(len(i), 1e3 * delay)}
        package.Connect(identities[i], identities[j], "one_to_one", each)
    recorder = package.Create("spike_recorder")
    package.Connect(cells, recorder)
    package.Prepare()
    started = time.process_time()
    package.Run(1e3 * seconds)
    elapsed = time.process_time() - started
    package.Cleanup()
    events = recorder.get("events")
    order = np.argsort(events["times"], kind="stable")
    return elapsed, (events["times"][order] / 1e3, events["senders"][order] - identities[0])


def errors(found: Trains, true: Trains) -> str:
    """Errors of the first spike of every neuron, within `COMPARED`."""
    first = [
        {int(i): float(t) for t, i in sorted(zip(*spikes, strict=True), reverse=True) if t < COMPARED}
        for spikes in (found, true)
    ]
    both = sorted(set(first[0]) & set(first[1]))
    off = np.array([abs(first[0][i] - first[1][i]) for i in both]) * 1e6
    return f"{np.median(off):10.3f} {np.max(off, initial=0):12.1f}" if both else "-"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="simulated seconds (default: %(default)s)")
    parser.add_argument("--neurons", type=int, default=4000, help="(default: %(default)s)")
    parser.add_argument("--probability", type=float, default=0.02, help="of a connection (default: %(default)s)")
    parser.add_argument("--example", choices=EXAMPLES, default="cuba", help="(default: %(default)s)")
    parser.add_argument("--exact-only", action="store_true", help="leave the other simulators out")
    options = parser.parse_args()
    size = options.seconds, options.neurons, options.probability
    print(f"{'':24} {'seconds':>8} {'spikes':>8}  error of the first spikes, us: median, largest")
    exact(0.01, 100, 0.02, example=options.example)  # compiles, or loads the cached kernels
    elapsed, true = exact(*size, example=options.example)
    events = len(true[0]) * options.neurons * options.probability
    print(f"{'event_driven':24} {elapsed:8.3f} {len(true[0]):8d}  (about {events:,.0f} synaptic events)", flush=True)
    for dt in () if options.exact_only else STEPS:
        elapsed, found = clocked(*size, dt, options.example)
        print(f"{f'cpp_standalone {dt:g} ms':24} {elapsed:8.3f} {len(found[0]):8d}  {errors(found, true)}", flush=True)
    if options.exact_only or options.example != "cuba":  # NEST has no such neuron with precise spike times
        return
    if importlib.util.find_spec("nest") is None:
        print("NEST is not installed (pip install nest-simulator)")
        return
    elapsed, true = exact(*size, NEST_DELAY)
    print(f"{'event_driven, 1 ms delay':24} {elapsed:8.3f} {len(true[0]):8d}", flush=True)
    elapsed, found = nest(*size, NEST_DELAY)
    print(f"{'NEST, 1 ms delay':24} {elapsed:8.3f} {len(found[0]):8d}  {errors(found, true)}", flush=True)


if __name__ == "__main__":
    main()
