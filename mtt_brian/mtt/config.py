"""The settings of a training run: one frozen dataclass, read from a TOML or JSON file and the command line.

Every field is a command-line option of the same name (``time_steps`` is ``--time-steps``) and a key of a config file.
An invalid key or value is an `InputError`, never ignored.
"""

from __future__ import annotations

import argparse
import difflib
import json
import math
import os
import tomllib
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from mtt_brian.errors import InputError
from mtt_brian.events import DATASETS
from mtt_brian.files import as_path, read_regular
from mtt_brian.machine import MOST_TIME_STEPS
from mtt_brian.mtt.samplers import MTT, NMT, SDT, Sampler
from mtt_brian.repository import shipped
from mtt_brian.snn.models import MODELS
from mtt_brian.text import one_line, shown

#: Notation for None in a config file (TOML has no null) and on the command line.
NONE = "none"


#: Largest size of a config file.
MOST_BYTES = 1_000_000
#: Largest whole number: some are stored in 32 bits.
_MOST = 2**31 - 1
#: Largest number of pixels: coordinates of events have 16 bits.
_MOST_PIXELS = 2**15 - 1


#: Headings of the settings in the help, in its order.
GROUPS = ("data", "network", "time steps", "optimiser", "machine", "run")


def _setting(
    group: str,
    default: Any,
    help: str,
    low: float | None = None,
    below: float | None = None,
    most: float | None = None,
    *,
    metavar: str | None = None,
    known: Callable[[], Iterable[str]] | None = None,
    free_to_change: bool = False,
    needs: tuple[str, tuple[str, ...]] | None = None,
) -> Any:
    """A field with its help text and the range it must lie in: ``low <= value <= most`` and ``value < below``.

    Args:
        group: one of `GROUPS`.
        metavar: what the help shows for a value; None: by the type.
        known: names that are accepted among others, for the help.
        free_to_change: a resumed run may change it, because it does not affect the result.
        needs: another setting, and the values of it with which this one has an effect.
    """
    metadata = {
        "help": help,
        "low": low,
        "below": below,
        "most": most,
        "free_to_change": free_to_change,
        "needs": needs,
    }
    return field(default=default, metadata=metadata | {"group": group, "metavar": metavar, "known": known})


_MIXED = ("method", ("nmt", "mtt"))
_data, _network, _steps, _optimiser, _machine, _run = (partial(_setting, group) for group in GROUPS)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All settings that determine the result of a training run; the help text of each field states its meaning.

    Numbers of numpy and paths are accepted, and kept as plain numbers and texts.

    Raises:
        InputError: if a value has the wrong type, lies outside its range or contradicts another one.
    """

    method: Literal["sdt", "nmt", "mtt"] = _steps(
        "mtt", "sdt: one fixed number of time steps; nmt: random, the same for all stages; mtt: random for every stage"
    )
    phase: Literal["train", "bias-removal"] = _run(
        "train", "bias-removal: continue from init without biases and with locked norms, for hardware without a clock"
    )
    init: str | None = _run(
        None, "run folder whose final weights are the initial weights", free_to_change=True, metavar="RUN"
    )

    dataset: str = _data(
        "digits",
        "a data set, or package.module:NAME; digits is built in (a simulated event camera)",
        metavar="NAME",
        known=lambda: DATASETS,
    )
    data_root: str | None = _data(None, "folder with the data set", free_to_change=True, metavar="DIR")
    download: bool = _data(False, "download the data set into data_root if a download exists", free_to_change=True)
    skip_bad: bool = _data(False, "skip unreadable recordings, and list them")
    limit: int | None = _data(None, "use only this many training (and test) recordings, drawn at random", 1, most=_MOST)
    resolution: int | None = _data(
        None, "downsample recordings to N x N pixels", 1, most=_MOST_PIXELS, metavar="PIXELS"
    )
    validation: float = _data(
        0.0, "fraction of the training recordings that is used only for validation", 0, 1, metavar="FRACTION"
    )
    keep_best: bool = _data(False, "final weights are those of the best validation epoch, not of the last one")

    model: str = _network("nmnist_3c1fc", "a network of the model zoo", metavar="NAME", known=lambda: MODELS)
    width_multiplier: float = _network(1.0, "factor of the numbers of channels and hidden units", 1e-3, most=1000)
    neuron: Literal["if", "lif"] = _network("if", "integrate and fire, without or with a leak")
    tau: float | None = _network(
        None, "lif: membrane time constant in seconds (the same neuron for any T)", 1e-9, most=1e9, metavar="SECONDS"
    )
    decay: float | None = _network(None, "lif: decay factor of the membrane per step, instead of tau", 1e-9, 1)
    surrogate: Literal["periodic", "exponential", "triangular"] = _network(
        "periodic", "shape of the surrogate gradient"
    )
    width: float = _network(0.5, "width of the surrogate gradient in thresholds", 1e-6, most=1e6)
    blocks_per_stage: int | None = _network(1, "blocks per stage, g; none: a single stage", 1, most=_MOST)
    transform: Literal["hard", "soft", "trim"] = _network("hard", "temporal transformation between stages")
    reset: Literal["subtract", "zero"] = _network("subtract", "reset of the membrane after a spike")
    spikes: Literal["one", "many"] = _network("many", "spikes of a neuron per time step")
    lower_bound: float | None = _network(
        -1.0, "minimum membrane potential after an input (threshold = 1); none: no minimum", -1e9, below=1, metavar="V"
    )

    time_steps: int = _steps(
        10, "T_max: most time steps of a stage, and the bins of the input frames", 1, most=MOST_TIME_STEPS, metavar="T"
    )
    min_steps: int = _steps(
        1, "nmt, mtt: T_min, fewest time steps of a stage", 1, most=MOST_TIME_STEPS, metavar="T", needs=_MIXED
    )
    samples: int = _steps(3, "nmt, mtt: s, configurations per iteration", 1, most=MOST_TIME_STEPS, needs=_MIXED)

    epochs: int = _optimiser(30, "passes over the training recordings", 1, most=1_000_000)
    batch_size: int = _optimiser(32, "recordings per iteration, in each of the processes", 1, most=_MOST)
    processes: int = _machine(1, "processes that share every iteration; set by torchrun", 1, most=100_000)
    loss: Literal["ce", "tet"] = _optimiser(
        "ce", "cross entropy of the readout's time mean, or (TET) the mean over the cross entropies of all time steps"
    )
    tet_regulariser: float = _optimiser(
        0.0, "tet: weight of the squared distance of all readouts to the threshold", 0, 1
    )
    optimizer: Literal["adamw", "sgd"] = _optimiser("adamw", "optimizer")
    momentum: float = _optimiser(0.9, "sgd: momentum", 0, 1, needs=("optimizer", ("sgd",)))
    lr: float = _optimiser(1e-2, "peak learning rate", 0, most=1e6, metavar="RATE")
    weight_decay: float = _optimiser(0.01, "weight decay", 0, most=1e6)
    schedule: Literal["cosine", "constant"] = _optimiser("cosine", "learning rate over the epochs")
    clip: float | None = _optimiser(None, "largest norm of the gradient", 0, most=1e30)
    shift: int = _data(
        2,
        "augmentation: shift by up to so many pixels each way; for still images, the crop of a padded image",
        0,
        most=_MOST_PIXELS,
        metavar="PIXELS",
    )
    roll: int = _data(
        0,
        "augmentation: likewise, but pixels that leave the frame enter on the opposite side",
        0,
        most=_MOST_PIXELS,
        metavar="PIXELS",
    )
    flip: bool = _data(False, "augmentation: mirror left and right with probability 1/2")
    calibration_batches: int = _steps(
        10,
        "batches that recalibrate the batch norms at T_max after every epoch; 0: no recalibration",
        0,
        most=_MOST,
    )

    seed: int = _run(0, "seed of weights, order, augmentation and time steps", 0, most=2**64 - 1, metavar="SEED")
    device: str = _machine("cpu", "torch device: cpu, cuda, cuda:1 ...", free_to_change=True, metavar="DEVICE")
    threads: int | None = _machine(
        1,
        "torch threads of the process; with one the result does not depend on the cores; none: torch's default",
        1,
        most=1024,
        free_to_change=True,
    )
    workers: int = _machine(0, "extra processes that bin the recordings; 0: none", 0, most=1024, free_to_change=True)
    cache_frames: bool = _machine(
        False,
        "keep the binned frames on disk, for later runs with the same recordings and time steps",
        free_to_change=True,
    )
    frames_on: Literal["auto", "device", "host"] = _machine(
        "auto",
        "where the frames are kept with a GPU: in its memory (device), or in that of the computer (host), from which"
        " batches are copied ahead; auto: on the GPU if they fill at most half of its free memory",
        free_to_change=True,
    )
    together: int | None = _machine(
        None,
        "nmt, mtt: configurations in one pass; fewer need less memory and more time; none: all",
        1,
        most=_MOST,
        free_to_change=True,
        needs=_MIXED,
    )
    amp: bool = _machine(False, "mixed precision: convolutions and linear layers in bfloat16, membranes in float32")
    compile: bool = _machine(
        False,
        "compile all time steps of a population into one kernel (torch.compile); takes some seconds for every T",
    )
    cuda_graph: bool = _machine(
        False,
        "on a GPU: record an iteration once and replay it (CUDA graph): one launch, more memory",
        free_to_change=True,
    )
    deterministic: bool = _machine(False, "only deterministic algorithms, also on a GPU; for the whole process")

    def __post_init__(self) -> None:
        for item in fields(self):
            # object.__setattr__, because the class is frozen; an int for a float field becomes a float
            object.__setattr__(self, item.name, _checked(item, getattr(self, item.name)))
        if self.phase == "bias-removal" and self.init is None:
            raise InputError("phase = 'bias-removal' needs init: the run from whose network the biases are removed")
        if self.keep_best and not self.validation:
            raise InputError("keep_best needs validation > 0: the test recordings never select a model")
        leaks = [self.tau, self.decay].count(None)
        if leaks != (1 if self.neuron == "lif" else 2):
            raise InputError("neuron = 'lif' needs either tau (seconds) or decay (per step), neuron = 'if' neither")
        if self.tet_regulariser and self.loss != "tet":
            raise InputError("tet_regulariser needs loss = 'tet'")
        if self.cuda_graph:
            self._check_graph()
        self.sampler()

    def _check_graph(self) -> None:
        if not self.device.startswith("cuda") or self.processes > 1:
            raise InputError("cuda_graph needs a GPU (device = 'cuda') and one process")
        if self.method != "sdt" and (self.transform != "hard" or self.together is not None):
            raise InputError(
                f"cuda_graph with method = {self.method!r} needs transform = 'hard' and together = none, that is all "
                "configurations in one pass"
            )

    def sampler(self) -> Sampler:
        """The sampler that ``method`` names."""
        if self.method == "sdt":
            return SDT(self.time_steps)
        mixed = NMT if self.method == "nmt" else MTT
        return mixed(self.time_steps, self.min_steps, self.samples)

    @property
    def total_batch_size(self) -> int:
        """Recordings per iteration, of all processes."""
        return self.batch_size * self.processes

    def iterations(self, items: int) -> int:
        """Iterations of an epoch over so many training items."""
        return -(-items // self.total_batch_size)

    def as_dict(self) -> dict[str, Any]:
        """Plain values by field name."""
        return asdict(self)


_TYPES = get_type_hints(TrainConfig)
#: What the help shows for a value of a type.
_METAVARS = {int: "N", float: "X", str: "TEXT"}
#: Settings that a resumed run may change.
FREE_TO_CHANGE = tuple(item.name for item in fields(TrainConfig) if item.metadata["free_to_change"])


def check_values(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Values for some of the fields of a `TrainConfig`, each checked by itself.

    Args:
        values: by field name; the string ``"none"`` means None if a field may be None.
        source: origin of the values, for messages.

    Raises:
        InputError: for an unknown key, a wrong type or a value out of range; it names the key and the source.
    """
    known = {item.name: item for item in fields(TrainConfig)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key)[:80], known, n=3)
            accepted = f"did you mean {' or '.join(near)}?" if near else f"accepted: {', '.join(known)}"
            raise InputError(f"{source}: unknown key {shown(key)}; {accepted}")
    try:
        return {key: _checked(known[key], value) for key, value in values.items()}
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def config_names() -> list[str]:
    """Names of the settings that come with the package, for `find_config`: ``"small/digits"``."""
    folder = shipped("configs")
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.toml"))


def find_config(text: str) -> Path:
    """The config file that a command line names: a path, or one of `config_names`, which a file of this name hides.

    Raises:
        InputError: for a text that is no name and does not end as a config file does.
    """
    if os.path.isfile(text) or Path(text).suffix in _PARSERS:
        return Path(text)
    if text not in (names := config_names()):
        raise InputError(
            f"--config {shown(text)}: no such file (.toml or .json), and no settings of this package; "
            f"known: {', '.join(names)}"
        )
    return shipped("configs") / f"{text}.toml"


def read_config(path: str | Path) -> dict[str, Any]:
    """The fields that a config file sets: ``.toml``, or ``.json`` such as a run's own ``config.json``.

    Raises:
        InputError: if there is no such file, its suffix is another one, it is not well formed, or a key or value does
            not fit.
    """
    path = as_path(path, "path")
    if path.suffix not in _PARSERS:
        raise InputError(f"{path}: a config file ends in {' or '.join(_PARSERS)}")
    try:
        values = _PARSERS[path.suffix](read_regular(path, MOST_BYTES).decode())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except RecursionError:
        raise InputError(f"{path}: lists or tables nested too deeply; a setting is a plain value") from None
    except ValueError as error:  # both parsers' errors, and text that is not UTF-8
        raise InputError(f"{path}: not a well-formed {path.suffix[1:].upper()} file ({one_line(error)})") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected keys and values, not {type(values).__name__}")
    return check_values(values, str(path))


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a JSON file; a repeated key is refused, because all but its last value would be ignored."""
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for k, (key, _) in enumerate(pairs) if key in dict(pairs[:k]))
        raise InputError(f"the key {shown(twice)} is repeated")
    return values


#: How a config file is read, by its suffix.
_PARSERS: dict[str, Callable[[str], Any]] = {
    ".toml": tomllib.loads,
    ".json": partial(json.loads, object_pairs_hook=_once_each),
}


def add_options(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Give ``parser`` one option per field; an option that is not given is absent from the parsed arguments.

    Returns:
        The groups of options in the help, by name of `GROUPS`. An option with known values has them as ``names``,
        for shell completion; what is accepted is decided by `check_values`.
    """
    parser.usage = "%(prog)s [-h] [OPTION ...]"  # all of them would fill a screen
    groups: dict[str, Any] = {name: parser.add_argument_group(name) for name in GROUPS}
    for item in fields(TrainConfig):
        option, about = "--" + item.name.replace("_", "-"), item.metadata
        default = NONE if item.default is None else str(item.default).lower() if _is_flag(item) else item.default
        known = f": {', '.join(about['known']())}" if about["known"] else ""
        shown = f"{about['help']}{known} [{default}]".replace("%", "%%")
        common: dict[str, Any] = {"default": argparse.SUPPRESS, "help": shown}
        group = groups[about["group"]]
        if _is_flag(item):
            group.add_argument(option, action=argparse.BooleanOptionalAction, **common)
        else:
            kind = _members(item)[0]
            is_choice = get_origin(kind) is Literal
            by_type = "{" + ",".join(get_args(kind)) + "}" if is_choice else _METAVARS[kind]
            action: Any = group.add_argument(option, metavar=about["metavar"] or by_type, **common)
            if is_choice or about["known"]:
                action.names = tuple(get_args(kind) if is_choice else about["known"]())
    return groups


def given_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields that the command line gives.

    Raises:
        InputError: if a value has the wrong type or lies outside its range.
    """
    typed = {item.name: item for item in fields(TrainConfig) if hasattr(arguments, item.name)}
    return check_values({n: _from_text(i, getattr(arguments, n)) for n, i in typed.items()}, "command line")


def without_effect(given: Collection[str], config: TrainConfig) -> list[str]:
    """A sentence for each setting of a command line that has no effect beside the others.

    It is no error: a comparison of methods may pass the same options to all of them.

    Args:
        given: names of the settings that the command line has.
        config: all settings.
    """
    sentences = []
    for item in fields(TrainConfig):
        if item.name in given and item.metadata["needs"] is not None:
            other, accepted = item.metadata["needs"]
            value = getattr(config, other)
            if value not in accepted:
                option, needed = (f"--{name.replace('_', '-')}" for name in (item.name, other))
                sentences.append(f"{option} has no effect with {needed} {value}")
    return sentences


def _members(item: Field[Any]) -> tuple[Any, ...]:
    """The types a field accepts: ``int | None`` gives (int, NoneType)."""
    hint = _TYPES[item.name]
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _is_flag(item: Field[Any]) -> bool:
    return _TYPES[item.name] is bool


def _checked(item: Field[Any], value: Any) -> Any:
    """``value`` in the field's type and range."""
    accepted = _members(item)
    kind = accepted[0]
    if isinstance(value, np.generic):
        value = value.item()
    if kind is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if type(None) in accepted and (value is None or value == NONE):
        return None
    if get_origin(kind) is Literal:
        if not isinstance(value, str) or value not in get_args(kind):
            raise InputError(f"{item.name} must be one of {', '.join(get_args(kind))}, not {shown(value)}")
        return value
    if kind is float and type(value) is int and abs(value) < 2**1000:
        value = float(value)
    if type(value) is not kind:  # the exact type: True is no number of time steps
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        optional = f" or {NONE}" if type(None) in accepted else ""
        raise InputError(f"{item.name} must be {names[kind]}{optional}, not {shown(value)}")
    low, below, most = (item.metadata[key] for key in ("low", "below", "most"))
    if kind is str and "\0" in value:
        raise InputError(f"{item.name} must be a text without the character 0, not {shown(value)}")
    if kind is float and not math.isfinite(value):
        raise InputError(f"{item.name} must be finite, not {value}")
    if low is not None and value < low:
        raise InputError(f"{item.name} must be at least {low}, not {shown(value)}")
    if below is not None and value >= below:
        raise InputError(f"{item.name} must be below {below}, not {shown(value)}")
    if most is not None and value > most:
        raise InputError(f"{item.name} must be at most {most}, not {shown(value)}")
    return value


def _from_text(item: Field[Any], text: Any) -> Any:
    kind = _members(item)[0]
    if kind not in (int, float) or text == NONE:
        return text
    try:
        return kind(text)
    except ValueError:
        return text  # _checked raises the error
