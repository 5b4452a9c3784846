"""A chain of pools with a delay per synapse: a pulse packet travels, and its spread is not rounded to a time step."""

from brian2 import *

import mtt_brian.event_driven

set_device("event_driven")
prefs.codegen.target = "numpy"
seed(2)

pools, size = 10, 50
eqs = """
dv/dt = (g - v) / (10*ms) : 1 (unless refractory)
dg/dt = -g / (2*ms) : 1
"""
chain = NeuronGroup(pools * size, eqs, threshold="v > 1", reset="v = 0", refractory=2 * ms)
forward = Synapses(chain, chain, on_pre="g_post += 0.32")
forward.connect("i // size == j // size - 1")
forward.delay = "4*ms + 1*ms * rand()"

first = SpikeGeneratorGroup(size, arange(size), sort(normal(10, 0.7, size)) * ms)
start = Synapses(first, chain[:size], on_pre="g_post += 16")
start.connect(j="i")

spikes = SpikeMonitor(chain)
run(120 * ms)

for pool in range(pools):
    inside = (spikes.i // size) == pool
    t = spikes.t[inside] / ms
    if len(t):
        print(f"pool {pool}: {len(t)} spikes at {mean(t):.4f} ms, spread {std(t):.4f} ms")
