"""The networks of the experiment, in the order of their importance, and the epochs that fit into a time limit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from mtt_brian.errors import check_choice
from mtt_brian.experiments.deep.finished import TIME_STEPPED
from mtt_brian.mtt import TrainConfig

#: Factors of the channels of VGG9.
SIZES = {"full": 1.0, "half": 0.5, "quarter": 0.25, "eighth": 0.125, "tiny": 0.0625}
#: T_max of the training.
TIME_STEPS = 10
#: Configurations of an iteration of NMT and MTT.
SAMPLES = 3
#: Recordings of a batch for which the learning rates were chosen. Those of other batches are in proportion to the
#: square root of their size: the rule for AdamW (Malladi et al., NeurIPS 2022).
_USUAL_BATCH = 64
#: Time steps that an iteration of NMT or MTT computes on average, over those of SDT.
EQUAL_COMPUTE = SAMPLES * (1 + TIME_STEPS) / 2 / TIME_STEPS

Method = Literal["sdt", "nmt", "mtt"]


class Second(NamedTuple):
    """A second phase: without biases, from a network of the first phase.

    Attributes:
        method: of this phase.
        bound: lower bound of the membranes, in both phases; None: none.
        start: method of the first phase.
        longer: whether SDT has as much computation as MTT instead of as many epochs.
    """

    method: Method
    bound: float | None
    start: Method = "sdt"
    longer: bool = False


#: The first group is the question; the others add rows, in the order of their importance.
GROUPS: tuple[tuple[Second, ...], ...] = (
    (Second("sdt", -1.0), Second("mtt", -1.0), Second("sdt", None), Second("mtt", None)),
    (Second("nmt", -1.0), Second("sdt", -1.0, longer=True)),
    (Second("sdt", -4.0), Second("mtt", -4.0)),
    (Second("mtt", -1.0, "mtt"), Second("mtt", None, "mtt")),
    (Second("nmt", None), Second("sdt", None, longer=True)),
)


@dataclass(frozen=True)
class Network:
    """One training of the experiment.

    Attributes:
        start, bound: of the first phase.
        seed: of both phases.
        second: the second phase; None for the network of the first phase.
    """

    start: Method
    bound: float | None
    seed: int
    second: Second | None = None

    @property
    def method(self) -> Method:
        """Of this training."""
        return self.start if self.second is None else self.second.method

    @property
    def label(self) -> str:
        """What the networks of all seeds have in common: ``"MTT, bound -1"``."""
        what = self.method.upper()
        if self.second is None:
            what = f"first phase, {what}"
        elif self.start == "mtt":
            what += " from the start"
        elif self.second.longer:
            what += ", equal compute"
        return f"{what}, {'no bound' if self.bound is None else f'bound {self.bound:g}'}"

    @property
    def name(self) -> str:
        """Of its folder: ``"sdt-mtt-bound1-seed0"``."""
        second = [] if self.second is None else [self.second.method, *(["longer"] if self.second.longer else [])]
        bound = "unbound" if self.bound is None else f"bound{-self.bound:g}"
        return "-".join([self.start, *second, bound, f"seed{self.seed}"])

    @property
    def init(self) -> Network | None:
        """The network of the first phase that this one begins with."""
        return None if self.second is None else Network(self.start, self.bound, self.seed)


#: The numbers of `GROUPS`.
ALL_GROUPS = tuple(range(1, len(GROUPS) + 1))


def networks(seed: int, groups: Sequence[int] = ALL_GROUPS) -> list[Network]:
    """The networks of a seed in the order of training: every network behind the one that it begins with."""
    found: dict[Network, None] = {}
    for second in itertools.chain(*(GROUPS[number - 1] for number in groups)):
        first = Network(second.start, second.bound, seed)
        found |= {first: None, Network(second.start, second.bound, seed, second): None}
    return list(found)


def second_phases(seeds: Sequence[int]) -> list[Network]:
    """The networks without biases, the most important ones of all seeds first."""
    return [Network(second.start, second.bound, seed, second) for group in GROUPS for seed in seeds for second in group]


class Epochs(NamedTuple):
    """Epochs of both phases, and the numbers of the `GROUPS` that are trained, the most important one first."""

    first: int
    second: int
    groups: tuple[int, ...] = ALL_GROUPS

    def of(self, network: Network) -> int:
        """Epochs of a network."""
        if network.second is None:
            return self.first
        return round(EQUAL_COMPUTE * self.second) if network.second.longer else self.second


#: Without a time limit, and the most within one.
USUAL = Epochs(20, 12)
#: A group of networks is left out if it would leave less than this part of the usual epochs.
LEAST = 0.6
#: Part of the time that is planned.
MARGIN = 0.9


class Speed(NamedTuple):
    """Seconds per epoch of SDT, and of NMT and MTT."""

    sdt: float
    mixed: float

    def seconds(self, network: Network, epochs: Epochs) -> float:
        """Of a whole training."""
        return epochs.of(network) * (self.sdt if network.method == "sdt" else self.mixed)


def epochs_within(seconds: float, speed: Speed, usual: Epochs = USUAL, overhead: float = 5.0) -> Epochs:
    """The epochs for which the networks of one seed fit into a time.

    As many groups as have at least `LEAST` of the usual epochs; the first group in any case.

    Args:
        seconds: for all networks of a seed, one after another.
        speed: measured.
        usual: the most.
        overhead: seconds per network besides its epochs: export and time-stepped accuracy.
    """
    groups = usual.groups
    while True:
        every = networks(0, groups)
        needed = sum(speed.seconds(network, usual) for network in every)
        part = max(0.0, MARGIN * seconds - overhead * len(every)) / needed
        if part >= LEAST or len(groups) == 1:
            part = min(1.0, part)
            return Epochs(max(1, int(part * usual.first)), max(1, int(part * usual.second)), groups)
        groups = groups[:-1]


@dataclass(frozen=True)
class Setting:
    """What all networks have in common.

    Attributes:
        folder: of the experiment.
        dataset, data_root: the recordings.
        size: a key of `SIZES`.
        device: of the training.
        recordings: number of training recordings.
        test: number of test recordings, the same in all measurements.
        batch_size: of the training.

    Raises:
        InputError: for an unknown size.
    """

    folder: Path
    dataset: str
    data_root: str | None
    size: str
    device: str
    recordings: int
    test: int
    batch_size: int = _USUAL_BATCH

    def __post_init__(self) -> None:
        check_choice("--size", self.size, SIZES)

    def run(self, network: Network) -> Path:
        """The folder of a network."""
        return self.folder / "networks" / network.name

    def is_finished(self, network: Network) -> bool:
        """Whether its training has ended, see `finished`."""
        return (self.run(network) / TIME_STEPPED).exists()

    def config(self, network: Network, epochs: Epochs) -> TrainConfig:
        """The settings of a training.

        Raises:
            InputError: as `TrainConfig`.
        """
        first = network.init
        return TrainConfig(
            method=network.method,
            phase="train" if first is None else "bias-removal",
            init=None if first is None else str(self.run(first)),
            dataset=self.dataset,
            data_root=self.data_root,
            limit=self.recordings,
            model="vgg9",
            width_multiplier=SIZES[self.size],
            lower_bound=network.bound,
            time_steps=TIME_STEPS,
            samples=SAMPLES,
            epochs=epochs.of(network),
            batch_size=self.batch_size,
            lr=(3e-3 if first is None else 2e-3) * math.sqrt(self.batch_size / _USUAL_BATCH),
            weight_decay=0.02,
            shift=0,
            roll=8,
            flip=True,
            seed=network.seed,
            device=self.device,
            amp=self.device.startswith("cuda"),
        )
