"""Brian2 scripts without a clock: importing this module registers the Brian2 device ``event_driven``.

    import mtt_brian.event_driven
    from brian2 import *

    set_device("event_driven")

The rest of the script does not change. Spikes have the exact times at which the equations reach the threshold; no
result depends on ``dt``, which is only the interval of monitors. `explain` lists which objects of a network can run on
this device.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import brian2
from brian2.core.namespace import get_local_namespace

from mtt_brian.engines.brian2 import internals, script
from mtt_brian.engines.brian2.device import NAME, EventDrivenDevice
from mtt_brian.engines.exact.equation_run import EquationRun
from mtt_brian.errors import InputError
from mtt_brian.translate.from_brian2 import Refusal, Refused, circuit_of

__all__ = ["Explanation", "Refusal", "Refused", "device", "explain"]

#: The device, for ``set_device(mtt_brian.event_driven.device)``.
device = EventDrivenDevice(EquationRun)
internals.register_device(NAME, device)
internals.show_without_traceback(InputError)


class Explanation(NamedTuple):
    """The objects of a network that can run without a clock.

    Attributes:
        runs: names of the objects that can.
        refused: the others, with line, reason and the nearest supported alternative.
    """

    runs: tuple[str, ...]
    refused: tuple[Refusal, ...]

    def __str__(self) -> str:
        lines = [f"{name}: runs" for name in self.runs]
        return "\n".join([*lines, *map(str, self.refused)])


def explain(network: brian2.Network | None = None, level: int = 0) -> Explanation:
    """Lists which objects of a network the device ``event_driven`` can run, without running it.

    Args:
        network: the network; None for all objects that are visible, as ``run()`` would take them.
        level: how many frames further up names are looked for.

    Raises:
        BrianObjectException: from Brian2, for wrong units and unknown names.
    """
    objects: Any = brian2.collect(level=level + 1) if network is None else network.objects
    namespace = get_local_namespace(level=level + 1)
    refused: tuple[Refusal, ...] = ()
    schedule = (brian2.magic_network if network is None else network).schedule
    parts = script.parts_of(sorted(objects, key=lambda thing: str(thing.name)), schedule)
    try:
        circuit_of(script.script_of(parts, namespace))
    except Refused as error:
        refused = error.reasons
    names = {reason.name for reason in refused}
    return Explanation(tuple(sorted(thing.name for thing in objects if thing.name not in names)), refused)
