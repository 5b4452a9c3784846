"""The execution of a Brian2 network's code: the properties of its device."""

from __future__ import annotations

from dataclasses import dataclass

import brian2

from mtt_brian.engines.brian2 import internals


@dataclass(frozen=True)
class Execution:
    """Device and code generation target, as far as the code of a network depends on them.

    Attributes:
        standalone: a project is compiled that reads tables; else Python runs every step and can set what fires.
        serial: the synapses of a pathway run one after another, so each uses the result of the one before it.
        every_step: all neurons are updated in every step (`equations.every_step`), and counts and final states are
            kept in tables; else a neuron is updated at its next arrival (`equations.on_arrival`), and monitors record.
    """

    standalone: bool
    serial: bool
    every_step: bool


NUMPY = Execution(standalone=False, serial=False, every_step=False)
CYTHON = Execution(standalone=False, serial=True, every_step=False)
CPP = Execution(standalone=True, serial=True, every_step=False)
CUDA = Execution(standalone=True, serial=False, every_step=True)

_STANDALONE = {"cpp_standalone": CPP, "cuda_standalone": CUDA}
_RUNTIME = {"numpy": NUMPY, "cython": CYTHON}


def for_target(target: str) -> Execution:
    """The execution by Brian2's runtime with a code generation target (``"auto"``: what Brian2 chooses)."""
    return _RUNTIME.get(internals.automatic_target() if target == "auto" else target, NUMPY)


def active_execution() -> Execution:
    """The execution that Brian2's active device and preferences stand for.

    Of a standalone device that this package does not know, the code is the one that makes the fewest assumptions.
    """
    device = internals.device_name()
    if device == "runtime":
        return for_target(brian2.prefs["codegen.target"])
    return _STANDALONE.get(device, Execution(standalone=True, serial=False, every_step=False))
