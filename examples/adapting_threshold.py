"""A threshold that jumps at every spike and decays: the intervals grow until both balance."""

from brian2 import *

import mtt_brian.event_driven

set_device("event_driven")
prefs.codegen.target = "numpy"

eqs = """
dv/dt = (1.8 - v) / (10*ms) : 1
dvt/dt = (1 - vt) / (50*ms) : 1
"""
neuron = NeuronGroup(1, eqs, threshold="v > vt", reset="v = 0; vt += 0.1")
neuron.vt = 1
spikes = SpikeMonitor(neuron, variables=["v", "vt"])
states = StateMonitor(neuron, ["v", "vt"], record=0, dt=0.5 * ms)

run(300 * ms)

intervals = diff(spikes.t) / ms
print(f"{spikes.num_spikes} spikes; first interval {intervals[0]:.3f} ms, last one {intervals[-1]:.3f} ms")
print(f"at the spikes v and vt differ by at most {max(abs(spikes.v - spikes.vt)):.1e}")
