"""The membrane of one neuron."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtt_brian.errors import check_kind
from mtt_brian.plotting.axes import axes, legend
from mtt_brian.plotting.style import COLORS, grey

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mtt_brian.engines.exact.trace import MembraneTrace


def membrane(trace: MembraneTrace, *, ax: Axes | None = None) -> Axes:
    """The membrane of one neuron with its threshold, lower bound and spikes.

    Spikes are triangles at the potential that fired them; ``x2`` and up where several are fired at once.

    Args:
        trace: of `mtt_brian.engines.exact.trace.membrane_trace`.
        ax: where to draw; None: new axes.

    Raises:
        InputError: for what is no trace.
    """
    from mtt_brian.engines.exact.trace import MembraneTrace  # imports numba, which is slow

    check_kind("trace", trace, MembraneTrace)
    ax = axes(ax)
    ax.plot(1e3 * trace.t, trace.v, color=COLORS[0], linestyle="-", marker="", label="membrane")
    for name, value in (("threshold", trace.rule.threshold), ("lower bound", trace.rule.lower_bound)):
        if value is not None:
            ax.axhline(float(value), color=grey(0.3), linestyle="--" if name == "threshold" else ":", label=name)
    ax.plot(
        1e3 * trace.spike_t, trace.spike_v, linestyle="none", marker="^", markersize=6, color=COLORS[1], label="spike"
    )
    for t, v, n in zip(trace.spike_t, trace.spike_v, trace.spike_n, strict=True):
        if n > 1:
            ax.annotate(f"x{n}", (1e3 * t, v), xytext=(6, 2), textcoords="offset points")
    ax.set_xlabel("time (ms)")
    ax.set_ylabel("membrane potential")
    return legend(ax)
