"""The CUBA network of Vogels and Abbott (2005), as in Brian2's examples, without a clock.

Its synapses have no delay, as in the original script: a spike changes a current, and the potential follows.
"""

from brian2 import *

import mtt_brian.event_driven

set_device("event_driven")
prefs.codegen.target = "numpy"
seed(1)

taum, taue, taui = 20 * ms, 5 * ms, 10 * ms
Vt, Vr, El = -50 * mV, -60 * mV, -49 * mV

eqs = """
dv/dt  = (ge+gi-(v-El))/taum : volt (unless refractory)
dge/dt = -ge/taue : volt
dgi/dt = -gi/taui : volt
"""

P = NeuronGroup(4000, eqs, threshold="v>Vt", reset="v = Vr", refractory=5 * ms, method="exact")
P.v = "Vr + rand() * (Vt - Vr)"
P.ge = 0 * mV
P.gi = 0 * mV

we = (60 * 0.27 / 10) * mV  # excitatory synaptic weight (voltage)
wi = (-20 * 4.5 / 10) * mV  # inhibitory synaptic weight
Ce = Synapses(P, P, on_pre="ge += we")
Ci = Synapses(P, P, on_pre="gi += wi")
Ce.connect("i<3200", p=0.02)
Ci.connect("i>=3200", p=0.02)

s_mon = SpikeMonitor(P)

run(0.2 * second)

print(f"{s_mon.num_spikes} spikes, {s_mon.num_spikes / 4000 / 0.2:.2f} per neuron and second")
