"""The differences between other platforms and the exact solution of their network, with the causes.

Two kinds of files are read: published traces of one LIF neuron (``01_lif`` of Pedersen et al., "Neuromorphic
intermediate representation", Nat. Commun. 15, 8122, 2024), a line per time step with input, membrane and spikes; and
networks with the spike trains that the tool which exported them gives on the same events (NAME.nir and NAME.npz).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtt_brian import translate
from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.spikes import Spikes
from mtt_brian.engines import Simulator, simulate
from mtt_brian.errors import InputError
from mtt_brian.evaluate.metrics import Estimate
from mtt_brian.evaluate.spike_times import spike_time_differences
from mtt_brian.evaluate.tables import MISSING, Cell, Column, Table, in_percent, whole, words
from mtt_brian.events import make_recording
from mtt_brian.neuron import LIF, Reset
from mtt_brian.text import one_line, shown
from mtt_brian.translate.conventions import Conventions
from mtt_brian.translate.nir_files import load_graph, naming

#: Length of a step of the published traces, and the neuron (``lif_norse.nir``).
STEP, TAU, THRESHOLD = 1e-4, 2.5e-3, 0.1
#: Published accuracies of the recurrent networks for Braille reading, ``03_rnn``: 140 test recordings.
BRAILLE = {
    "braille_noDelay_bias_zero.nir": {
        "Lava": 0.486,
        "Nengo": 0.557,
        "Spyx": 0.843,
        "SpiNNaker2": 0.850,
        "Norse": 0.943,
        "snnTorch": 0.950,
    },
    "braille_noDelay_noBias_subtract.nir": {
        "Rockpool": 0.714,
        "Nengo": 0.786,
        "Xylo": 0.857,
        "snnTorch": 0.921,
        "Spyx": 0.921,
        "Norse": 0.936,
        "SpiNNaker2": 0.936,
    },
}
BRAILLE_RECORDINGS, NMNIST_RECORDINGS = 140, 10_000
#: Largest fraction of spikes that time steps explain: a network that differs by more is run with known remedies.
_FAR = 0.1


class Deviation(NamedTuple):
    """Spikes of a platform compared with the exact solution; the k-th spike of a neuron with its k-th.

    Attributes:
        spikes, exact: number of spikes.
        missing: spikes of the exact solution that have no partner.
        additional: spikes of the platform that have none.
        late, early: pairs in which the platform is at least a step later or earlier; a crossing between two steps
            belongs to the step that ends it.
        worst: steps between the pair that is farthest apart; negative: the platform is early.
    """

    spikes: int
    exact: int
    missing: int
    additional: int
    late: int
    early: int
    worst: int

    @property
    def count_difference(self) -> int:
        return self.missing + self.additional


def deviation(platform: Spikes, exact: Spikes, step: float) -> Deviation:
    """Compare spikes on steps with exact ones.

    Args:
        platform: of one population, at whole multiples of ``step``.
        exact: of the same population.
        step: seconds.
    """
    # A platform reports a crossing at the end of its step; rounding must not add a step to an exact multiple.
    on_steps = Spikes(np.ceil(exact.t / step - 1e-6) * step, exact.i, exact.n)
    found = spike_time_differences(on_steps, platform)
    steps = np.rint(found.seconds / step).astype(np.int64)
    worst = int(steps[np.argmax(np.abs(steps))]) if len(steps) else 0
    return Deviation(
        int(platform.n.sum()),
        int(exact.n.sum()),
        found.only_first,
        found.only_second,
        int(np.sum(steps > 0)),
        int(np.sum(steps < 0)),
        worst,
    )


# ----- one neuron, step by step


@dataclass(frozen=True, eq=False)
class Trace:
    """The trace of a platform for the LIF neuron.

    Attributes:
        platform: name.
        inputs, spikes: numbers of the steps with an input and with a spike.
        membrane: at every step, in the platform's own unit.
    """

    platform: str
    inputs: np.ndarray
    membrane: np.ndarray
    spikes: np.ndarray

    @property
    def response(self) -> int:
        """The step in which the first input shows in the membrane, from that of the input."""
        return int(np.argmax(np.abs(self.membrane) > 1e-6 * np.abs(self.membrane).max()) - self.inputs[0])

    @property
    def decay(self) -> float:
        """Decay factor of the membrane per step."""
        first = int(self.inputs[0]) + self.response
        return float(self.membrane[first + 2] / self.membrane[first + 1])

    @property
    def late_output(self) -> int:
        """Steps from the one that takes the membrane above the threshold to the spike: 1 if it is reset only then.

        Otherwise the membrane is recorded after its reset, and none is above those of the silent steps.
        """
        silent = np.setdiff1d(np.arange(len(self.membrane)), self.spikes - 1)
        return int(self.membrane[self.spikes[0] - 1] > self.membrane[silent].max())

    @property
    def reset(self) -> str:
        """``"zero"`` if the first spike leaves nothing of the membrane, else ``"subtract"``."""
        return "zero" if abs(self.membrane[self.spikes[0]]) < 1e-3 * self.membrane.max() else "subtract"


def read_trace(path: Path) -> Trace:
    """A CSV file without a header: input, membrane, spikes, a line per step.

    Raises:
        InputError: names the file and what is wrong with it.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "loadtxt: input contained no data")
            table = np.loadtxt(path, delimiter=",", ndmin=2, comments=None)
    except ValueError as error:
        raise InputError(f"{path}: not a table of numbers: {error}") from None
    if table.ndim != 2 or table.shape[1] != 3 or not np.all(np.isfinite(table)):
        raise InputError(
            f"{path}: expected three columns of finite numbers (input, membrane, spikes), not {table.shape}"
        )
    inputs, spikes = np.flatnonzero(table[:, 0]), np.flatnonzero(table[:, 2])
    if not len(inputs) or not len(spikes) or inputs[0] + 4 >= len(table):
        raise InputError(f"{path}: no input or no spike in {len(table)} steps")
    trace = Trace(path.stem.removeprefix("lif_"), inputs, table[:, 1], spikes)
    first = int(inputs[0]) + trace.response
    if spikes[0] == 0 or not np.all(trace.membrane[first + 1 : first + 3]) or first + 2 >= len(table):
        raise InputError(
            f"{path}: expected a membrane that an input moves and that then decays for two steps, and no spike in the "
            "first step"
        )
    return trace


class Rule(NamedTuple):
    """The time-stepping rule of a platform.

    Attributes:
        decay: ``"exp(-step / tau)"`` or ``"1 - step / tau"``.
        jump: of the membrane by an input, in units of r times its amplitude: ``"step / tau"``, a pulse, or
            ``"1 - exp(-step / tau)"``, a current that is as long as the step.
        reset: ``"zero"`` or ``"subtract"``.
        delay: steps from an input to the membrane and from the membrane to a spike.
    """

    decay: str
    jump: str
    reset: str
    delay: int


_DECAYS = {"exp(-step / tau)": float(np.exp(-STEP / TAU)), "1 - step / tau": 1 - STEP / TAU}
_JUMPS = {"step / tau": STEP / TAU, "1 - exp(-step / tau)": float(-np.expm1(-STEP / TAU))}


def rule_of(trace: Trace) -> Rule | None:
    """The rule by which the exact engine gives a platform's spikes, all in the same steps; None: there is none.

    Decay, reset and delays are measured in the trace. Its membranes have units of their own, so that of the two jumps
    the one is taken which gives the spikes; a pulse if both do.
    """
    decay = min(_DECAYS, key=lambda name: abs(_DECAYS[name] - trace.decay))
    for jump in _JUMPS:
        rule = Rule(decay, jump, trace.reset, trace.response + trace.late_output)
        if np.array_equal(spikes_under(rule, trace.inputs), trace.spikes):
            return rule
    return None


def spikes_under(rule: Rule, inputs: np.ndarray) -> np.ndarray:
    """Numbers of the steps in which the exact engine has the neuron fire.

    Args:
        rule: how it is stepped.
        inputs: numbers of the steps with an input.
    """
    # A decay per step and a jump are a time constant and a resistance.
    tau = -STEP / np.log(_DECAYS[rule.decay])
    neuron = LIF(tau=tau, r=_JUMPS[rule.jump] * tau, threshold=THRESHOLD, reset=rule.reset)  # type: ignore[arg-type]
    circuit = Circuit(
        "input", (1,), (Population("lif", (1,), neuron),), (Connection("input", "lif", (), (), 1),), "lif"
    )
    step_us = round(STEP * 1e6)
    events = make_recording(inputs * step_us, x=np.zeros(len(inputs), dtype=np.int64))
    result = simulate(circuit, events)
    return np.rint(result.spikes["lif"].t / STEP).astype(np.int64) + rule.delay


def lif_table(folder: Path) -> Table:
    """The published traces of one LIF neuron: spikes beside those of the exact solution, and the rule behind them.

    Args:
        folder: with ``lif_exact.csv`` and ``lif_<platform>.csv``.

    Raises:
        InputError: if there are no traces, or one cannot be read.
    """
    exact, traces = _traces(folder)
    deviations = [deviation(_as_spikes(t), _as_spikes(exact), STEP) for t in traces]
    rules = [rule_of(trace) for trace in traces]

    def told(attribute: str) -> list[str]:
        return ["unknown" if rule is None else str(getattr(rule, attribute)) for rule in rules]

    return Table(
        f"One LIF neuron, {len(exact.spikes)} spikes of the exact solution, steps of {1e3 * STEP:g} ms",
        [
            words("platform", [trace.platform for trace in traces]),
            *_deviation_columns(deviations),
            words("steps of the spikes", [" ".join(map(str, trace.spikes)) for trace in traces]),
            words("decay per step", told("decay")),
            words("jump by an input", told("jump")),
            words("reset", told("reset")),
            words("steps of delay", told("delay")),
        ],
    )


def _traces(folder: Path) -> tuple[Trace, list[Trace]]:
    files, solution = sorted(folder.glob("lif_*.csv")), folder / "lif_exact.csv"
    if solution not in files or len(files) < 2:
        raise InputError(f"{folder}: expected lif_exact.csv and the traces of platforms, lif_<platform>.csv")
    return read_trace(solution), [read_trace(path) for path in files]


def _as_spikes(trace: Trace) -> Spikes:
    count = len(trace.spikes)
    return Spikes(trace.spikes * STEP, np.zeros(count, dtype=np.int64), np.ones(count, dtype=np.int64))


# ----- published accuracies


def accuracy_table(folder: Path) -> Table:
    """Published accuracies of one convolutional network on N-MNIST (``02_cnn``), with their binomial errors.

    Args:
        folder: with ``<platform>_accuracy.npy``.

    Raises:
        InputError: if there is none, or one holds no fraction.
    """
    published = {}
    for path in sorted(folder.glob("*_accuracy.npy")):
        try:
            value = np.load(path, allow_pickle=False)
        except Exception as error:  # numpy raises any type for a damaged file
            raise InputError(f"{path}: not an array: {one_line(error)}") from None
        if value.size != 1 or value.dtype.kind not in "iuf" or not 0 <= float(value.item()) <= 1:
            raise InputError(f"{path}: expected one accuracy from 0 to 1, not {shown(value)}")
        published[path.stem.removesuffix("_accuracy")] = float(value.item())
    if not published:
        raise InputError(f"{folder}: no <platform>_accuracy.npy")
    return _accuracies("A convolutional network on N-MNIST, as published", published, NMNIST_RECORDINGS)


def braille_table(path: Path) -> Table:
    """Published accuracies of a recurrent network for Braille reading (``03_rnn``).

    Args:
        path: of the ``.nir`` file.

    Raises:
        InputError: if the file is none of the two, or cannot be read.
    """
    if path.name not in BRAILLE:
        raise InputError(f"{path}: accuracies were published of {', '.join(BRAILLE)}")
    reset: Reset = "zero" if "zero" in path.stem else "subtract"
    circuit = translate.read_nir(path, tool="snntorch", reset=reset)
    loops = [c for c in circuit.connections if c.delayed]
    heading = (
        f"Braille reading, {path.name}: {sum(p.size for p in circuit.populations)} neurons, {len(loops)} loop of one "
        f"time step, as published"
    )
    return _accuracies(heading, BRAILLE[path.name], BRAILLE_RECORDINGS)


def _accuracies(heading: str, published: Mapping[str, float], recordings: int) -> Table:
    ordered = sorted(published.items(), key=lambda item: -item[1])
    best = ordered[0][1]
    estimates = [Estimate(p, float(np.sqrt(p * (1 - p) / recordings))) for _, p in ordered]
    return Table(
        heading,
        [
            words("platform", [name for name, _ in ordered]),
            Column("", "accuracy, %", [in_percent(estimate) for estimate in estimates]),
            Column("", "below the best", [Cell(f"{100 * (best - p):.2f}", f"{best - p}") for _, p in ordered]),
        ],
    )


# ----- networks of other tools


@dataclass(frozen=True, eq=False)
class ToolRun:
    """A network and the spike trains of the tool that exported it.

    Attributes:
        name: of the files.
        network: path of the ``.nir`` file.
        tool: name and version.
        reset: of the network; the file does not contain it.
        step: seconds of the file per time step.
        steps: how many there are.
        events: structured array of the input, in the file's time.
        spikes: by name of the node.
    """

    name: str
    network: Path
    tool: str
    reset: str
    step: float
    steps: int
    t_us: np.ndarray
    x: np.ndarray
    spikes: Mapping[str, Spikes]


class Conformance(NamedTuple):
    """A tool's spikes compared with those of the exact engine, by population.

    Attributes:
        run: the files.
        deviations: by name of the node.
        remedy: what had to be passed beside ``tool``, and why; empty where nothing had.
    """

    run: ToolRun
    deviations: Mapping[str, Deviation]
    remedy: str

    @property
    def spikes(self) -> int:
        return sum(d.spikes for d in self.deviations.values())

    @property
    def count_difference(self) -> int:
        return sum(d.count_difference for d in self.deviations.values())


def tool_runs(folder: Path) -> Iterator[ToolRun]:
    """All networks of a folder that have spike trains beside them.

    Raises:
        InputError: if there is none, or one cannot be read.
    """
    paths = sorted(path for path in folder.glob("*.npz") if path.with_suffix(".nir").is_file())
    if not paths:
        raise InputError(f"{folder}: no NAME.nir with a NAME.npz beside it")
    return map(_tool_run, paths)


def _tool_run(path: Path) -> ToolRun:
    import ast

    try:
        with np.load(path, allow_pickle=False) as file:
            told = dict(file)
        tool, step, steps = str(told["tool"]), float(told["step_us"]) / 1e6, int(told["steps"])
        layers = told["layers"].tolist()
        if not tool.split() or not 0 < step < np.inf or steps < 1 or not layers:
            raise InputError(
                f"expected the name of a tool, a step > 0, at least one step and one layer, not tool = {shown(tool)}, "
                f"step_us = {told['step_us']}, steps = {steps}, layers = {shown(layers)}"
            )
        (t_us, x) = _columns(told, "t_us", "x")
        spikes = {}
        for layer in layers:
            number, i, n = _columns(told, f"step_{layer}", f"i_{layer}", f"n_{layer}")
            spikes[layer] = Spikes(number * step, i, n)
        return ToolRun(
            name=path.stem,
            network=path.with_suffix(".nir"),
            tool=tool,
            reset=ast.literal_eval(str(told["options"]))["reset"],
            step=step,
            steps=steps,
            t_us=t_us,
            x=x,
            spikes=spikes,
        )
    except Exception as error:  # numpy, zipfile and ast raise any type for a damaged file
        raise InputError(f"{path}: not the spike trains of a tool: {one_line(error)}") from None


def _columns(told: Mapping[str, np.ndarray], *names: str) -> list[np.ndarray]:
    """Columns of whole numbers >= 0, of one length, as int64."""
    columns = [told[name] for name in names]
    for name, column in zip(names, columns, strict=True):
        if (
            column.dtype.kind not in "iuf"
            or column.ndim != 1
            or not np.all((column >= 0) & (column == np.floor(column)) & (column < 2**53))
        ):
            raise InputError(f"{name} must be a list of whole numbers >= 0, not {shown(column)}")
        if len(column) != len(columns[0]):
            raise InputError(f"there are {len(columns[0])} {names[0]}, but {len(column)} {name}")
    return [column.astype(np.int64) for column in columns]


def conformance(run: ToolRun) -> list[Conformance]:
    """A tool's spikes beside exact ones, under the preset of the tool, and under the known remedy that helps.

    The reset and the length of a step are passed, as the files of the tools leave them out.

    Raises:
        InputError: if the network cannot be read.
    """
    preset: dict[str, Any] = {"tool": run.tool.split()[0], "reset": run.reset, "file_time_per_step": run.step}
    with naming(run.network.with_suffix(".npz")):
        Conventions(**preset)
    results = [_compared(run, preset, "")]
    remedies = _remedies(run) if results[0].count_difference > _FAR * results[0].spikes else ()
    for options, why in remedies:
        found = _compared(run, preset | options, why)
        if found.count_difference < results[-1].count_difference:
            results.append(found)
    return [results[0], results[-1]] if len(results) > 1 else results


def _remedies(run: ToolRun) -> Iterator[tuple[dict[str, Any], str]]:
    """Known faults of exporters: options that make up for them, and what is lost."""
    if run.tool.startswith("sinabs"):
        yield {"lower_bound": "none"}, "lower_bound='none': the network has no bound, unlike the file"
        taus = {float(t) for n in load_graph(run.network).nodes.values() for t in np.ravel(getattr(n, "tau", []))}
        if len(taus) == 1:
            (tau,) = taus
            yield {"spike_integral": tau}, f"spike_integral={tau:g}: norm_input=False is not in the file"
    if run.tool.startswith("norse"):
        yield (
            {"file_time_per_step": 1e-3 * run.step, "time_per_step": run.step},
            "file_time_per_step: to_nir() multiplies all times by its default dt=0.001",
        )


def _compared(run: ToolRun, options: Mapping[str, Any], remedy: str) -> Conformance:
    spike_trains = run.network.with_suffix(".npz")
    circuit = translate.read_nir(run.network, **options)
    if len(run.x) and run.x.max() >= circuit.input_size:
        raise InputError(f"{spike_trains}: an event at x = {run.x.max()}; the network has {circuit.input_size} inputs")
    axes = np.unravel_index(run.x, circuit.input_shape)
    columns = dict(zip(("p", "y", "x")[-len(axes) :], axes, strict=True))
    with naming(spike_trains):
        (result,) = Simulator(circuit).run([make_recording(run.t_us, **columns)], run.steps * run.step)
    deviations = {}
    for layer, spikes in run.spikes.items():
        names = [name for name in result.spikes if name == layer or name.startswith(f"{layer}.")]
        if len(names) != 1:
            raise InputError(f"{run.network}: no population {layer!r}, whose spikes {run.name}.npz holds")
        size = circuit.population[names[0]].size
        if len(spikes.i) and spikes.i.max() >= size:
            raise InputError(f"{spike_trains}: a spike of neuron {spikes.i.max()} of {layer!r}, which has {size}")
        deviations[layer] = deviation(spikes, result.spikes[names[0]], run.step)
    return Conformance(run, deviations, remedy)


def tool_table(tool: str, results: Sequence[Conformance]) -> Table:
    """A row per network of one tool and population."""
    rows = [(result, layer, d) for result in results for layer, d in result.deviations.items()]
    return Table(
        tool,
        [
            words("network", [result.run.name for result, _, _ in rows]),
            words("population", [layer for _, layer, _ in rows]),
            *_deviation_columns([d for _, _, d in rows]),
            words("passed beside the tool", [result.remedy or "-" for result, _, _ in rows]),
        ],
    )


def _deviation_columns(deviations: Sequence[Deviation]) -> list[Column]:
    return [
        Column("", "spikes", [whole(d.spikes) for d in deviations]),
        Column("", "exact", [whole(d.exact) for d in deviations]),
        Column("", "missing", [whole(d.missing) for d in deviations]),
        Column("", "additional", [whole(d.additional) for d in deviations]),
        Column("", "late", [whole(d.late) for d in deviations]),
        Column("", "early", [whole(d.early) for d in deviations]),
        Column("", "farthest, steps", [whole(d.worst) if d.late or d.early else MISSING for d in deviations]),
    ]
