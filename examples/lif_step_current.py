"""Leaky integrate-and-fire neurons with different constant currents: rate over current, without a clock.

The rate of such a neuron is known: 1 / (refractory + tau ln(I / (I - threshold))). The spikes have exactly this rate.
"""

from brian2 import *

import mtt_brian.event_driven

set_device("event_driven")
prefs.codegen.target = "numpy"

tau, refractory = 10 * ms, 2 * ms
neurons = NeuronGroup(
    50,
    "dv/dt = (I - v) / tau : 1 (unless refractory)\nI : 1",
    threshold="v > 1",
    reset="v = 0",
    refractory=refractory,
)
neurons.I = "0.5 + 2.0 * i / N"
spikes = SpikeMonitor(neurons)

run(1 * second)

above = neurons.I > 1
known = 1 / (refractory + tau * log(neurons.I[above] / (neurons.I[above] - 1)))
trains = spikes.spike_trains()
measured = [1 / mean(diff(trains[i])) for i in where(above)[0]]
error = max(abs(Quantity(measured) / known - 1))
print(f"{spikes.num_spikes} spikes; the rates differ from the formula by at most {error:.1e}")
