"""Neurons with a noisy current, the same for all: they start apart and end with the same spikes (a `TimedArray`).

After Mainen and Sejnowski, Science 268 (1995): a constant current leaves the neurons where they started in their cycle,
a current that varies makes their spike times agree: here up to rounding, not up to a time step.
"""

from brian2 import *

import mtt_brian.event_driven

set_device("event_driven")
prefs.codegen.target = "numpy"

random = np.random.default_rng(1)
current = TimedArray(random.normal(1.2, 1.5, 2000), dt=1 * ms)
neurons = {}
for name, drive in (("constant", "1.2"), ("noisy", "current(t)")):
    neurons[name] = NeuronGroup(20, f"dv/dt = ({drive} - v) / (10*ms) : 1", threshold="v > 1", reset="v = 0")
    neurons[name].v = "i / N"
spikes = {name: SpikeMonitor(group) for name, group in neurons.items()}
network = Network(neurons.values(), spikes.values())

network.run(2 * second)

for name, monitor in spikes.items():
    last = Quantity([train[-1] for train in monitor.spike_trains().values()])
    print(f"{name} current: the last spikes lie within {(max(last) - min(last)) / ms:.3g} ms")
