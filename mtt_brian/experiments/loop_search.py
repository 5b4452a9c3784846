"""The learning rate and the epoch of a training in the loop, chosen without test recordings.

A rate that suits a small network destroys a deep one within an epoch. The first epoch is trained with one rate after
another, from large to small, until its mean loss rises: every batch is measured before it is trained on, in the same
order for all rates, so that a rate that is too large loses, and so does one that is too small. The training goes on
with the smallest rate whose loss is at most one standard error above the lowest (Breiman et al., Classification and
Regression Trees, 1984, section 3.4.3; the error is that of the differences of the batches). Of its epochs, the best on
held-back recordings is kept, and the start if the sign test shows that all are worse. (The start was usually trained on
these recordings, so that a few more that are right with it mean little.)

After every epoch the state is written to a file, from which the same search goes on to the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch

from mtt_brian import export
from mtt_brian.errors import Diverged
from mtt_brian.evaluate.factorial import from_bits
from mtt_brian.evaluate.sign_test import sign_test
from mtt_brian.events import Recordings
from mtt_brian.experiments import repair as repairs
from mtt_brian.experiments.engine_in_the_loop import EngineInTheLoop, trainable
from mtt_brian.experiments.repair import Repair, Score
from mtt_brian.files import replacing, warn
from mtt_brian.mtt import in_the_loop
from mtt_brian.mtt.in_the_loop import LoopConfig
from mtt_brian.progress import progress_bar
from mtt_brian.snn import Staged

#: Learning rates, the usual one first.
RATES = (0.03, 0.01, 0.003, 0.001)


@dataclass(frozen=True, eq=False)
class LoopSearch:
    """A search for the best network that a training in the loop gives.

    Attributes:
        repair: the target.
        graph: the network to start from.
        train: recordings to train on.
        held_back: recordings to choose by.
        config: the settings; the learning rate is one of `rates`.
        rates: learning rates in the order in which they are tried.
        budget: see `mtt.in_the_loop.on_target`; no network that needs more is kept in place of one that does not.
    """

    repair: Repair
    graph: nir.NIRGraph
    train: Recordings
    held_back: Recordings
    config: LoopConfig
    rates: Sequence[float] = RATES
    budget: float | None = None

    def run(self, state: Path, show: Callable[[str], None]) -> tuple[nir.NIRGraph, list[dict[str, Any]]]:
        """The best network, and the history of all epochs.

        Args:
            state: the file from which this search goes on if it exists, and to which every epoch is written; it must
                be that of the same search.
            show: called with a line for every epoch.

        Returns:
            the graph, the given one if no epoch is kept; and for every epoch what `mtt.in_the_loop.FineTuning.epochs`
            yields, its ``"lr"``, the ``"held_back"`` recordings that are right and their mean
            ``"held_back_synops"``, and whether it is ``"kept"``.

        Raises:
            InputError: as `engine_in_the_loop.trainable`.
            Diverged: if the loss is not finite in the first epoch with all rates, or later and no epoch is kept.
        """
        found = self._read(state)
        if found is None:
            found = _State(self._score(self.graph, "held-back recordings, at the start"))
        while found.tried < len(self.rates) and not found.loss_rose:
            self._try_next_rate(found, show)
            found.write(state)
        self._train_on(found, state, show)
        if found.best is None:
            return self.graph, found.history
        model = self._model()
        model.load_state_dict(found.best)
        return export.with_weights(self.graph, model), found.history

    def _try_next_rate(self, found: _State, show: Callable[[str], None]) -> None:
        """The first epoch with the next rate."""
        lr = self.rates[found.tried]
        found.tried += 1
        model, training = self._training(lr)
        try:
            epoch = next(training.epochs())
        except Diverged as error:
            if found.tried == len(self.rates) and found.training is None:
                raise
            show(str(error))
            found.loss_rose = found.training is not None
            return
        value = self._score(export.with_weights(self.graph, model), f"held-back recordings, learning rate {lr:g}")
        if found.training is None or not _is_higher(training.losses, found.lowest):
            if found.training is None or np.mean(training.losses) < np.mean(found.lowest):
                found.lowest = training.losses
            found.lr, found.training = lr, training.state()
            found.keep(None)
        else:
            found.loss_rose = True
        self._add(found, {**epoch, "lr": lr}, value, model)
        show(self._line(found, value))

    def _train_on(self, found: _State, state: Path, show: Callable[[str], None]) -> None:
        """The other epochs with the chosen rate."""
        model, training = self._training(found.lr)
        assert found.training is not None  # there was a first epoch
        training.go_on_from(found.training)
        try:
            for epoch in training.epochs():
                name = f"held-back recordings, epoch {epoch['epoch']}"
                value = self._score(export.with_weights(self.graph, model), name)
                self._add(found, {**epoch, "lr": found.lr}, value, model)
                show(self._line(found, value))
                found.training = training.state()
                found.write(state)
        except Diverged as error:
            if found.best is None:
                raise
            show(f"{error}; the best epoch before is kept")

    def _training(self, lr: float) -> tuple[Staged, in_the_loop.FineTuning]:
        config, model = replace(self.config, lr=lr), self._model()
        return model, in_the_loop.on_target(model, self.train, self._target, config, self.budget)

    @cached_property
    def _target(self) -> EngineInTheLoop:
        """One for all rates: it counts the synapses of the network once."""
        return EngineInTheLoop(self.repair, self.graph, self.config.time_steps)

    def _add(self, found: _State, epoch: dict[str, Any], value: Score, model: Staged) -> None:
        """Adds an epoch to the history, and keeps its weights if they are the best of their rate."""
        if epoch["lr"] != found.lr:
            kept = False
        elif found.best is None:
            kept = not _is_worse(found.start, value) and self._is_within(value) >= self._is_within(found.start)
        else:
            kept = self._key(value) > self._key(found.best_score)
        if kept:
            found.keep({name: tensor.clone() for name, tensor in model.state_dict().items()})
            found.best_score = value
        found.history.append({**epoch, "held_back": value.correct, "held_back_synops": value.synops, "kept": kept})

    def _is_within(self, value: Score) -> bool:
        return self.budget is None or value.synops <= self.budget

    def _key(self, value: Score) -> tuple[bool, int, float]:
        """A larger one is better."""
        return self._is_within(value), *value.key

    def _line(self, found: _State, value: Score) -> str:
        epoch = found.history[-1]
        allowed = "" if self.budget is None else f" (allowed: {self.budget:,.0f})"
        return (
            f"learning rate {epoch['lr']:g}, epoch {epoch['epoch']} of {self.config.epochs}: loss {epoch['loss']:.3f}; "
            f"of {len(self.held_back)} held-back recordings {value.correct} right, {found.start.correct} at the start; "
            f"{value.synops:,.0f} SynOps{allowed}"
        )

    def _model(self) -> Staged:
        return trainable(self.repair, self.graph, self.train)

    def _score(self, graph: nir.NIRGraph, description: str) -> Score:
        with progress_bar(total=len(self.held_back), description=description, unit="runs", lines=1, leave=False) as bar:
            return repairs.score(self.repair, graph, self.held_back, bar)

    def _read(self, path: Path) -> _State | None:
        """The state of a file; None if there is none, or it is damaged."""
        if not path.exists():
            return None
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            found = _State(Score(*content.pop("start")))
            found.best_score = Score(*content.pop("best_score"))
            vars(found).update({name: content[name] for name in vars(found) if name not in ("start", "best_score")})
        except Exception as error:  # torch raises exceptions of many types
            warn(f"{path}: not the state of a training in the loop ({type(error).__name__}); it begins anew")
            return None
        return found


def _is_higher(losses: Sequence[float], lowest: Sequence[float]) -> bool:
    """Whether losses are more than one standard error above those of the same batches at another rate, in the mean.

    Without the first batch, whose loss is that of the start.
    """
    above = np.subtract(losses, lowest)[1:]
    if not above.size:
        return False
    error = above.std(ddof=1) / math.sqrt(len(above)) if len(above) > 1 else 0.0
    return bool(above.mean() > error)


def _is_worse(start: Score, value: Score) -> bool:
    """Whether the sign test shows it."""
    return sign_test(from_bits(start.right), from_bits(value.right)).is_loss


class _State:
    """Of a search between two epochs.

    Attributes:
        start: score of the network to start from.
        tried: number of learning rates with a first epoch.
        loss_rose: whether the loss of the last one is above the lowest one.
        lowest: losses of the batches of the first epoch with the lowest mean.
        lr: the smallest rate that is not above it; NaN before the first one.
        training: state of its training.
        best: weights of its best epoch; None: the start is kept.
        best_score: of these.
        history: of all epochs.
    """

    def __init__(self, start: Score) -> None:
        self.start = self.best_score = start
        self.tried, self.loss_rose = 0, False
        self.lowest: list[float] = []
        self.lr = math.nan
        self.training: dict[str, Any] | None = None
        self.best: dict[str, torch.Tensor] | None = None
        self.history: list[dict[str, Any]] = []

    def keep(self, weights: dict[str, torch.Tensor] | None) -> None:
        """These weights instead of those that were kept."""
        self.best = weights
        self.history = [{**epoch, "kept": False} for epoch in self.history]

    def write(self, path: Path) -> None:
        """Write the file; an older one is kept until the new one is complete."""
        content = {**vars(self), "start": tuple(self.start), "best_score": tuple(self.best_score)}
        with replacing(path) as temporary:
            torch.save(content, temporary)
