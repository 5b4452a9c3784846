"""Time of the first run of the exact engine: with compilation of its kernels, and with kernels from the cache.

python benchmarks/cold_start.py                 # three rounds of every circuit, two minutes on an idle core
python benchmarks/cold_start.py --rounds 1 --circuits arrivals

Every number is from a separate process with a separate cache folder: seconds from the call of `simulate` to its result.
Each circuit compiles only the kernels that it needs: a circuit whose neurons fire at arrivals only has the smallest
ones.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import numpy as np

from mtt_brian.evaluate.tables import markdown_table

#: Circuit -> NIR neuron of a network of two neurons.
CIRCUITS = {
    "arrivals": "nir.IF(r=one, v_threshold=one, metadata=how)",
    "crossings": "nir.CubaLIF(tau_mem=one, tau_syn=0.5 * one, r=one, v_leak=0 * one, v_threshold=one, metadata=how)",
}

ONE_RUN = """
import sys, time
import nir, numpy as np
import mtt_brian as mb
one, how = np.ones(2), {{"reset": "subtract", "spikes": "many"}}
graph = nir.NIRGraph(
    {{
        "input": nir.Input(input_type=np.array([2])),
        "weights": nir.Linear(weight=np.eye(2)),
        "neurons": {neuron},
        "output": nir.Output(output_type=np.array([2])),
    }},
    [("input", "weights"), ("weights", "neurons"), ("neurons", "output")],
    type_check=False,
)
recording = mb.events.make_recording([5, 10], [0, 1])
mb.simulate
started, used = time.perf_counter(), time.process_time()
mb.simulate(graph, recording, order=sys.argv[1])
print(time.perf_counter() - started, time.process_time() - used)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    rows = [("circuit", "order", "first run, s", "of the processor, s", "from the cache, s")]
    for circuit in options.circuits:
        for order in ("sum", "fifo") if circuit == "arrivals" else ("sum",):
            cold, used, warm = np.median([one_round(circuit, order) for _ in range(options.rounds)], axis=0)
            rows.append((circuit, order, f"{cold:.1f}", f"{used:.1f}", f"{warm:.2f}"))
            print(*rows[-1], file=sys.stderr, flush=True)
    print(markdown_table(rows))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds, of which the median is taken [3]")
    parser.add_argument("--circuits", nargs="+", choices=CIRCUITS, default=list(CIRCUITS), help="[all]")
    return parser.parse_args(arguments)


def one_round(circuit: str, order: str) -> tuple[float, float, float]:
    """Seconds of the first run, seconds of the processor in it, and seconds of the second run."""
    with tempfile.TemporaryDirectory() as cache:
        cold, used = run(circuit, order, cache)
        return cold, used, run(circuit, order, cache)[0]


def run(circuit: str, order: str, cache: str) -> tuple[float, float]:
    """Seconds of one `simulate` in a separate process, and its processor time in seconds."""
    code = ONE_RUN.format(neuron=CIRCUITS[circuit])
    environment = os.environ | {"MTT_BRIAN_CACHE": cache}
    done = subprocess.run(
        [sys.executable, "-c", code, order], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    seconds, used = map(float, done.stdout.split())
    return seconds, used


if __name__ == "__main__":
    main()
