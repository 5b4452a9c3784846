"""The engines that one test body runs, and how their spikes are compared."""

import functools
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

import mtt_brian as mb
from mtt_brian.engines.brian2.runtime import RuntimeEngine

#: Of a compiler that is to be done soon; arithmetic as written.
FLAGS = ["-w", "-g0", "-O0", "-ffp-contract=off", "-std=c++17"]
_FOLDER = tempfile.TemporaryDirectory(prefix="mtt_brian_tests_")
_HEADER = Path(_FOLDER.name) / "headers.h"
#: Name of the engine and its options. Compiling for speed would take longer than all the tests' runs together.
FAST_TO_START = {
    "exact": {},
    "brian2": {"target": "numpy"},
    "brian2-cpp": {"flags": [*FLAGS, f"--include={_HEADER}"]},
}


@functools.cache
def compile_headers():
    """Compiles the headers of C++ that Brian2 includes: to parse them is half the work of compiling a project."""
    names = "algorithm climits cmath csignal cstdlib ctime fstream iostream iterator limits map random set string tuple"
    _HEADER.write_text("".join(f"#include <{name}>\n" for name in [*names.split(), "utility", "vector"]))
    subprocess.run(["g++", "-x", "c++-header", *FLAGS, _HEADER, "-o", f"{_HEADER}.gch"], check=True)


@functools.cache
def quick_compiler():
    """A compiler for CXX that does what `simulator` asks for, whatever the flags: for commands and other processes."""
    compile_headers()
    program = Path(_FOLDER.name) / "g++"
    flags = " ".join(FAST_TO_START["brian2-cpp"]["flags"])
    program.write_text(
        "#!/bin/sh\n"
        'for argument; do shift; case $argument in -[Om]*|-funroll-loops) ;; *) set -- "$@" "$argument";; esac; done\n'
        f'exec g++ "$@" {flags}\n'
    )
    program.chmod(0o755)
    return str(program)


def simulator(graph, engine, **options):
    if engine == "brian2-cpp":
        compile_headers()
    return mb.Simulator(graph, engine, **(FAST_TO_START[engine] | options))


def with_the_code_of_a_gpu(graph, **options):
    """Brian2's runtime that updates all neurons in every step."""
    made = mb.Simulator(graph, "brian2", target="numpy", **options)
    made.engine = RuntimeEngine(made.circuit, target="numpy", every_step=True, **options)
    return made


def recording(events):
    """(t in us, pixel) pairs -> structured array for an input of shape (N,)."""
    array = np.zeros(len(events), dtype=[("t", np.int64), ("x", np.int64)])
    for k, (t, x) in enumerate(events):
        array[k] = t, x
    return array


def run_of(simulator):
    """``run(events, duration)``, the result of one recording; ``run.many``: the results of several.

    Args:
        simulator: makes a `Simulator`, at every call.
    """

    def many(lists, duration=None):
        return list(simulator().run([recording(events) for events in lists], duration))

    def run(events, duration=None):
        return many([events], duration)[0]

    run.many = many
    return run


def trains(result):
    """Spikes as {population: [(t, i, n), ...]}, the form of the reference."""
    return {name: list(zip(s.t.tolist(), s.i.tolist(), s.n.tolist(), strict=True)) for name, s in result.spikes.items()}


def microseconds(spikes):
    """[(t in us, n), ...] of a population with one neuron."""
    return [(round(t * 1e6), n) for t, _, n in spikes]


#: Every engine; those that compile C++ are slow.
ENGINES = ["exact", "brian2", pytest.param("brian2-cpp", marks=pytest.mark.slow)]
every_engine = pytest.mark.parametrize("engine", ENGINES)
