"""How much memory a Brian2 network of a circuit needs, and which circuits it cannot run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtt_brian import machine
from mtt_brian.circuit.model import Circuit
from mtt_brian.circuit.operators import Delay
from mtt_brian.errors import InputError, check_whole
from mtt_brian.neuron import IF, LIF, CubaLIF
from mtt_brian.text import shown

#: Host memory per synapse (weight, indices, the queue's table, copies made in between) and per neuron (with the synapse
#: of its end-of-recording reset, which a GPU does not need); measured by benchmarks/brian2_memory.py and rounded up.
BYTES_PER_SYNAPSE = 40
BYTES_PER_NEURON = 170
#: Room for the spikes of one neuron that are under way in one delay.
BYTES_PER_DELAY = 1100
#: Largest batch size.
MOST_COPIES = 100_000
#: Sums of larger jumps can be more than float64 holds, which would stay unnoticed in a hidden population.
LARGEST_JUMP = 1e280


def refuse_what_needs_the_exact_engine(circuit: Circuit) -> None:
    """Refuses, by name, what has no Brian2 equations here.

    Raises:
        InputError: names the population or the nodes.
    """

    def refuse(what: str) -> None:
        raise InputError(f"{what}, which the Brian2 engines do not compute: use engine='exact'")

    for population in circuit.populations:
        rule = population.rule
        if type(rule) not in (IF, LIF, CubaLIF):
            refuse(f"population {population.name!r} has the rule {type(rule).__name__}")
        if rule.upper_bound is not None:
            refuse(f"population {population.name!r} has an upper bound (membrane_bits)")
    for connection in circuit.connections:
        rule = circuit.population[connection.target].rule
        largest = float(max(np.max(np.abs(rule.gain)), np.max(rule.jump)))
        for operator in connection.operators:
            largest *= 1.0 if isinstance(operator, Delay) else operator.largest_row()
        if not largest <= LARGEST_JUMP:
            refuse(f"the connection {connection.source!r} -> {connection.target!r} has weights above {LARGEST_JUMP:g}")
    order = {name: k for k, name in enumerate([circuit.input, *(p.name for p in circuit.populations)])}
    for connection in circuit.connections:
        where = f"the connection {connection.source!r} -> {connection.target!r}"
        if order[connection.source] >= order[connection.target] and not np.all(connection.synapses()[3] > 0):
            raise InputError(f"{where} closes a loop without a delay")


@dataclass(frozen=True)
class Estimate:
    """How large a Brian2 network would become, all copies together.

    Attributes:
        batch_size: independent copies of the network.
        neurons, synapses: their numbers; synapses as far as they have weights.
        bytes_per_synapse: on the host.
        delays: source neurons of connections with delays.
    """

    batch_size: int
    neurons: int
    synapses: int
    bytes_per_synapse: int = BYTES_PER_SYNAPSE
    delays: int = 0

    @property
    def bytes(self) -> int:
        """Memory on the host."""
        return (
            self.neurons * BYTES_PER_NEURON
            + self.synapses * self.bytes_per_synapse
            + self.delays * (BYTES_PER_DELAY + BYTES_PER_NEURON)
        )

    def __str__(self) -> str:
        mib = f"{self.bytes / 2**20:,.0f} MiB"
        return f"{self.neurons:,} neurons and {self.synapses:,} synapses (batch size {self.batch_size}), {mib}"


def estimate(circuit: Circuit, batch_size: int = 1, bytes_per_synapse: int = BYTES_PER_SYNAPSE) -> Estimate:
    """Count before building. In Brian2 a convolution is unrolled: every synapse has its own weight.

    Args:
        circuit: of `translate.read_nir`.
        batch_size: copies of the network.
        bytes_per_synapse: on the host.

    Raises:
        InputError: for what is no circuit, and for numbers out of range.
    """
    if not isinstance(circuit, Circuit):
        raise InputError(f"circuit must be a Circuit, as translate.read_nir(graph) gives it, not {shown(circuit)}")
    batch_size = check_whole("batch_size", batch_size, most=MOST_COPIES, least=1)
    bytes_per_synapse = check_whole("bytes_per_synapse", bytes_per_synapse, most=2**20, least=1)
    neurons = circuit.input_size + 1 + sum(p.size for p in circuit.populations)
    synapses = sum(int(fan.sum()) for fan in circuit.fan_out.values())
    delays = sum(connection.source_size for connection in circuit.connections if connection.delayed)
    return Estimate(batch_size, batch_size * neurons, batch_size * synapses, bytes_per_synapse, batch_size * delays)


def estimate_that_fits(circuit: Circuit, batch_size: int, bytes_per_synapse: int = BYTES_PER_SYNAPSE) -> Estimate:
    """The estimate of a network that fits into this machine's free memory.

    Raises:
        InputError: with the numbers, if it does not fit.
    """
    size, available = estimate(circuit, batch_size, bytes_per_synapse), machine.available_bytes()
    if size.bytes > available:
        smaller = "a smaller batch_size, or " if batch_size > 1 else ""
        raise InputError(
            f"as a Brian2 network this would be {size}, but only {available / 2**20:,.0f} MiB are free: take {smaller}"
            f"engine='exact', which keeps a convolution as one shared kernel"
        )
    return size
