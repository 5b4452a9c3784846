"""Spike-timing-dependent plasticity (Song, Miller and Abbott 2000), as in Brian2's example, without a clock.

Weights drift towards both bounds. The neuron is linear: inputs add a current and not a conductance.
"""

import numpy as np
from brian2 import *

import mtt_brian.event_driven

set_device("event_driven")
prefs.codegen.target = "numpy"
seed(1)

taupre = taupost = 20 * ms
gmax = 0.01
dApre = 0.01 * gmax
dApost = -1.05 * dApre

inputs = PoissonGroup(1000, rates=15 * Hz)
neuron = NeuronGroup(
    1,
    """dv/dt = (70*mV*ge - 14*mV - (v + 60*mV)) / (10*ms) : volt
    dge/dt = -ge / (5*ms) : 1""",
    threshold="v > -54*mV",
    reset="v = -60*mV",
)
neuron.v = -74 * mV
S = Synapses(
    inputs,
    neuron,
    """w : 1
    dApre/dt = -Apre / taupre : 1 (event-driven)
    dApost/dt = -Apost / taupost : 1 (event-driven)""",
    on_pre="""ge += w
    Apre += dApre
    w = clip(w + Apost, 0, gmax)""",
    on_post="""Apost += dApost
    w = clip(w + Apre, 0, gmax)""",
)
S.connect()
S.w = "rand() * gmax"
spikes = SpikeMonitor(neuron)

run(100 * second)

share = np.histogram(S.w / gmax, bins=5, range=(0, 1))[0] / len(S)
print(f"{spikes.num_spikes} spikes; synapses by weight, from 0 to gmax: {', '.join(f'{x:.0%}' for x in share)}")
