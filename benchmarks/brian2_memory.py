"""Bytes per synapse and neuron of a Brian2 network, the figures behind `mtt_brian.engines.brian2.memory`.

    python benchmarks/brian2_memory.py

Builds workload W1 with the batch sizes 1, 20 and 40, each in a separate process, and compares the growth of the peak
memory with the growth of the network.
"""

from __future__ import annotations

import multiprocessing
import resource

from workloads import workload

from mtt_brian.engines.brian2.memory import BYTES_PER_NEURON, BYTES_PER_SYNAPSE, Estimate, estimate
from mtt_brian.engines.brian2.runtime import RuntimeEngine
from mtt_brian.workers import one_thread_in_new_processes


def peak(batch_size: int) -> tuple[Estimate, int]:
    """Builds and runs ``batch_size`` copies of W1: their size and this process's peak memory in bytes."""
    work = workload("W1")
    engine = RuntimeEngine(work.circuit, batch_size=batch_size, target="numpy")
    for _ in engine.run([work.train._replace(t=work.train.t[:10], i=work.train.i[:10], n=work.train.n[:10])]):
        pass
    return estimate(work.circuit, batch_size), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    with one_thread_in_new_processes(), multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        measured = [pool.apply(peak, (batch_size,)) for batch_size in (1, 20, 40)]
    (_, start), *rest = measured
    print(f"assumed: {BYTES_PER_SYNAPSE} bytes per synapse, {BYTES_PER_NEURON} per neuron\n")
    print("batch   synapses   measured growth   assumed   bytes per synapse")
    for size, bytes_ in rest:
        grown = bytes_ - start
        per_synapse = (grown - size.neurons * BYTES_PER_NEURON) / size.synapses
        in_mib = f"{grown / 2**20:13,.0f} MiB {size.bytes / 2**20:5,.0f} MiB"
        print(f"{size.batch_size:5d} {size.synapses:10,d} {in_mib} {per_synapse:19.0f}")


if __name__ == "__main__":
    main()
