"""The result of an event-driven run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np

from mtt_brian import html_repr
from mtt_brian.circuit.instants import on_whole_microseconds
from mtt_brian.circuit.model import Circuit
from mtt_brian.circuit.spikes import MAX_SPIKES, MAX_SPIKES_AT_ONCE, InputSpikes, Spikes
from mtt_brian.errors import InputError, read_array
from mtt_brian.events.recording import has_unit, second_hint
from mtt_brian.text import shown

#: Recorded spikes of a run: of every population, of those that feed the readout, or only their counts.
Record: TypeAlias = Literal["all", "output", "counts"]
RECORDS: tuple[Record, ...] = get_args(Record)


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """One recording, run through one network.

    Attributes:
        spikes: by population name; the populations that ``record`` selects, and the input where it feeds the readout.
        counts: spikes per neuron, int64 in the population's shape, by name of every firing population and the input.
        readout: float64 [classes]: state of the last population at the end of the run; its spike counts if it fires.
        synops: synaptic operations of the run.
        duration: end of the run in seconds.
        engine: the engine's name.
        circuit: the network of the run.
        begin: start of the recorded spikes in seconds. It is later than 0 for a piece of a run (`exact.Run.feed`);
            counts, readout and synops start at time 0 also then.
    """

    spikes: Mapping[str, Spikes]
    counts: Mapping[str, np.ndarray]
    readout: np.ndarray
    synops: int
    duration: float
    engine: str
    circuit: Circuit
    begin: float = 0.0

    def __repr__(self) -> str:
        spikes = sum(int(counts.sum()) for name, counts in self.counts.items() if name != self.circuit.input)
        predicted = f"prediction {self.readout.argmax()}" if np.any(self.readout) else "no prediction"
        return f"Result({self.engine}, {self.duration:.6g} s, {spikes:,} spikes, {predicted}, {self.synops:,} SynOps)"

    def _repr_html_(self) -> str:
        sizes = {name: counts.size for name, counts in self.counts.items()}
        bands = {name: (train.t, train.i, sizes[name]) for name, train in self.spikes.items()}
        return (
            html_repr.heading(repr(self))
            + html_repr.table(population_rows(self))
            + html_repr.raster(bands, self.duration)
        )

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Assumed facts that the network's file does not contain, a sentence each (`mtt_brian.translate.read_nir`)."""
        return self.circuit.assumptions

    @property
    def tool_readout(self) -> np.ndarray:
        """The readout in the units of the tool that wrote the network's file: float64 [classes].

        Where spikes arrive at the output node itself, `readout` is the sum of weights times the integral of a spike
        (``spike_integral``); here it is the sum of weights. Potentials of neurons and spike counts are in the tool's
        units already.
        """
        return self.readout / self.circuit.readout_unit

    @cached_property
    def _jumps(self) -> tuple[np.ndarray, np.ndarray]:
        """Cumulative readout: instants [K] and the sum of all jumps up to each of them [K + 1, classes]."""
        readout = self.circuit.readout
        if readout.rule.fires:
            spikes = self._recorded(readout.name)
            times, row = np.unique(spikes.t, return_inverse=True)
            steps = np.zeros((len(times), readout.size))
            np.add.at(steps, (row, spikes.i), spikes.n)
        else:
            connections = self.circuit.into(readout.name)
            trains = [self._recorded(c.source) for c in connections]
            times = np.unique(np.concatenate([s.t for s in trains])) if trains else np.zeros(0)
            steps = np.zeros((len(times), readout.size))
            gain = np.broadcast_to(readout.rule.gain, readout.shape).ravel()
            for connection, train in zip(connections, trains, strict=True):
                columns = connection.matrix.T.tocsr()[train.i] * train.n[:, None]
                np.add.at(steps, np.searchsorted(times, train.t), (columns * gain[None, :]).toarray())
        return times, np.concatenate([np.zeros((1, readout.size)), np.cumsum(steps, axis=0)])

    @np.errstate(under="ignore")
    def readout_at(self, t: float | np.ndarray) -> np.ndarray:
        """The readout at time ``t``, arrivals at ``t`` included.

        Args:
            t: seconds, a number or an array of any shape; a whole number of microseconds up to rounding counts as that.

        Returns:
            float64 [*shape of t, classes].

        Raises:
            InputError: if the run recorded too little, or the readout is neither linear nor firing; for times that are
                no numbers, and for a piece of a run that does not start at time 0.
        """
        given = read_array(t)
        if (given.dtype.kind not in "iuf" and given.size) or has_unit(t):
            raise InputError(f"readout_at() needs times in seconds, not {shown(t)}{second_hint(t)}")
        at = on_whole_microseconds(given)
        if np.any(np.isnan(at)):
            raise InputError("readout_at() needs times in seconds, not NaN")
        if self.begin > 0:
            raise InputError(f"readout_at() needs the whole run; this piece holds the spikes from {self.begin:g} s on")
        fires = self.circuit.readout.rule.fires
        if not (fires or self.circuit.sums_up):
            raise InputError(
                f"readout_at() needs a linear or a firing readout; {self.circuit.output!r} leaks, drifts or is bounded"
            )
        if any(c.delayed for c in self.circuit.into(self.circuit.output)) and not fires:
            raise InputError(
                f"readout_at() cannot look through a delay in front of the readout {self.circuit.output!r}"
            )
        times, cumulative = self._jumps
        return cumulative[np.searchsorted(times, at, side="right")]

    def _recorded(self, name: str) -> Spikes:
        if name not in self.spikes:
            raise InputError(f"the spikes of {name!r} were not recorded; run with record='output' or record='all'")
        return self.spikes[name]


def result_of(
    circuit: Circuit,
    engine: str,
    record: str,
    train: InputSpikes,
    spikes: Mapping[str, Spikes],
    counted: Mapping[str, np.ndarray],
    readout: np.ndarray | None,
    synops: int | None = None,
    begin: float = 0.0,
) -> Result:
    """The result of one run on any engine: recorded spikes, spike counts and synaptic operations.

    Args:
        circuit, engine, record, train: of the run.
        spikes: of firing populations, at least of those that `record` keeps.
        counted: spikes per neuron since time 0, int64 [neurons] or in the population's shape; missing populations are
            counted from ``spikes``, the input from ``train``.
        readout: final state of a silent readout; None if the counts determine it: for a readout that fires or sums.
        synops: synaptic operations, if the engine has counted them.
        begin: start of the recorded spikes in seconds.

    Raises:
        InputError: for counts or synaptic operations beyond 2**62.
    """
    shapes = {circuit.input: circuit.input_shape, **{p.name: p.shape for p in circuit.populations if p.rule.fires}}
    recorded = recorded_populations(circuit, record)
    if circuit.input in recorded or circuit.input not in counted:
        in_run = slice(np.searchsorted(train.t, train.duration, side="right"))
        spikes = {circuit.input: Spikes(train.t[in_run], train.i[in_run], train.n[in_run]), **spikes}
    counts = {
        name: counted[name].reshape(shape) if name in counted else _count(name, spikes[name], shape)
        for name, shape in shapes.items()
    }
    if readout is None:
        readout = circuit.sum_of_arrivals(counts) if circuit.sums_up else counts[circuit.output].ravel().astype(float)
    return Result(
        spikes={name: spikes[name] for name in recorded},
        counts=counts,
        readout=readout,
        synops=circuit.synops(counts) if synops is None else synops,
        duration=train.duration,
        engine=engine,
        circuit=circuit,
        begin=begin,
    )


def population_rows(result: Result) -> list[tuple[str, ...]]:
    """A table of spikes and synaptic operations: a header, a row for the input and every firing population, a sum."""
    rows: list[tuple[str, ...]] = [("population", "neurons", "spikes", "per neuron", "silent neurons", "SynOps")]
    for name, counts in result.counts.items():
        silent = int((counts == 0).sum())
        rows.append(
            (
                name,
                f"{counts.size:,}",
                f"{counts.sum():,}",
                f"{counts.mean():.3g}",
                f"{silent:,} ({silent / counts.size:.0%})",
                f"{int(counts.ravel() @ result.circuit.fan_out[name]):,}",
            )
        )
    total = sum(counts.sum() for counts in result.counts.values())
    return [*rows, ("all", "", f"{total:,}", "", "", f"{result.synops:,}")]


def recorded_populations(circuit: Circuit, record: str) -> list[str]:
    """Names of the populations whose spikes a result keeps (see `RECORDS`), the same on every engine.

    The input is among them where it feeds the readout, as `Result.readout_at` needs it.
    """
    if record == "counts":
        return []
    sources = {c.source for c in circuit.into(circuit.output)} | {circuit.output}
    firing = [p.name for p in circuit.populations if p.rule.fires and (record == "all" or p.name in sources)]
    return [*([circuit.input] if circuit.input in sources else []), *firing]


def _count(name: str, spikes: Spikes, shape: tuple[int, ...]) -> np.ndarray:
    """Spikes per neuron, int64 in the population's shape."""
    size = int(np.prod(shape, dtype=np.int64))
    total = np.bincount(spikes.i, spikes.n, minlength=size)
    if total.max(initial=0) < MAX_SPIKES_AT_ONCE:  # float64 adds without rounding up to there
        return total.astype(np.int64).reshape(shape)
    if total.max() > MAX_SPIKES:
        raise InputError(
            f"population {name!r}, neuron {int(total.argmax())}: {total.max():.3g} spikes in all are more than can be "
            "counted (2**62); check weights and spike_integral"
        )
    exact = np.zeros(size, dtype=np.int64)
    np.add.at(exact, spikes.i, spikes.n)
    return exact.reshape(shape)
