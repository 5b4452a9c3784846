"""Repeated trials with Poisson input by store and restore, and a network that is changed between two runs."""

from brian2 import *

import mtt_brian.event_driven

set_device("event_driven")
prefs.codegen.target = "numpy"
seed(3)

inputs = PoissonGroup(200, rates=20 * Hz)
neurons = NeuronGroup(10, "dv/dt = -v / (20*ms) : 1", threshold="v > 1", reset="v -= 1")
synapses = Synapses(inputs, neurons, "w : 1", on_pre="v_post += w")
synapses.connect(p=0.5)
synapses.w = "0.03 + 0.02 * rand()"
synapses.delay = "1*ms + 3*ms * rand()"
spikes = SpikeMonitor(neurons)

run(200 * ms)
store()
counts = []
for trial in range(5):
    restore()
    before = spikes.num_spikes
    run(500 * ms)
    counts.append(int(spikes.num_spikes - before))
print("spikes in five trials of the same network:", counts)

restore()
inputs.rates = 40 * Hz
before = spikes.num_spikes
run(500 * ms)
print("and with twice the rate:", spikes.num_spikes - before)
