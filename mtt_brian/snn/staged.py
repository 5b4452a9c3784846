"""Networks cut into stages, each of which runs with its own number of time steps."""

from __future__ import annotations

import itertools
import operator
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtt_brian.errors import InputError
from mtt_brian.snn import temporal
from mtt_brian.snn.neurons import Spiking

#: Name under which the input appears beside the populations, here and in the NIR graph.
INPUT = "input"
OUTPUT = "output"


class Staged(nn.Module):
    """A feed-forward spiking network whose stage i runs with t_i time steps (MTT paper, section 4).

    Before each stage the frames are transformed to its number of time steps (`temporal.transform`), the input frames
    included. The network ends with linear layers: its logits are the mean over the last stage's time steps of what
    they give. No state outlives a call.

    Args:
        layers: all layers by name, in order: `Spiking` populations and modules that act on single frames
            [N, *] (convolutions, pools, linear layers). A population's name is that of its node in the NIR graph.
        input_shape: of one frame, for instance (C, H, W).
        blocks_per_stage: g; a block ends with a population, a stage holds g blocks (the last one perhaps fewer), the
            layers behind the last population belong to the last stage. None: one stage, which is NMT's network.
        transform: variant of the temporal transformation, "hard", "soft" or "trim".

    Attributes:
        stages: one `nn.Sequential` per stage.
        input_shape: as given.
        shapes: shape of one frame behind every layer, by name.
        config: from what `models.from_config` rebuilds the network, a JSON-able dict; empty if it was not made there.

    Raises:
        InputError: for layers that do not fit, bad names, or no population at all.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        input_shape: Sequence[int],
        *,
        blocks_per_stage: int | None = 1,
        transform: str = "hard",
    ) -> None:
        super().__init__()
        if transform not in temporal.VARIANTS:
            raise InputError(f"transform must be one of {', '.join(temporal.VARIANTS)}, not {transform!r}")
        self.input_shape = tuple(int(n) for n in input_shape)
        self.transform = transform
        self.stages = nn.ModuleList(nn.Sequential(OrderedDict(s)) for s in _stages(layers, blocks_per_stage))
        self.shapes = self._infer_shapes()
        self.config: dict[str, object] = {}

    @property
    def num_stages(self) -> int:
        """How many stages, hence how many numbers ``time_steps`` may have."""
        return len(self.stages)

    def layers(self) -> Iterator[tuple[str, nn.Module]]:
        """All layers with their names, from input to output."""
        for stage in self.stages:
            yield from stage.named_children()

    def populations(self) -> dict[str, Spiking]:
        """The spiking populations by name, from input to output."""
        return {name: layer for name, layer in self.layers() if isinstance(layer, Spiking)}

    def steps(self, time_steps: int | Sequence[int]) -> tuple[int, ...]:
        """``time_steps`` as one number per stage.

        Raises:
            InputError: for numbers below 1 or not whole, or another count than one or one per stage.
        """
        try:
            steps = (operator.index(time_steps),) * self.num_stages  # type: ignore[arg-type]
        except TypeError:
            try:
                steps = tuple(operator.index(t) for t in time_steps)  # type: ignore[union-attr]
            except TypeError:
                raise InputError(f"time_steps must be a whole number or one per stage, not {time_steps!r}") from None
        if len(steps) != self.num_stages:
            raise InputError(f"this network has {self.num_stages} stages; time_steps names {len(steps)}: {list(steps)}")
        if min(steps) < 1:
            raise InputError(f"the number of time steps must be at least 1, not {min(steps)}")
        return steps

    def forward(self, frames: Tensor, time_steps: int | Sequence[int]) -> Tensor:
        """Logits of a batch.

        Shape:
            frames: [T, N, *input_shape], event counts of any real type; T may differ from all ``time_steps``.
            Returns [N, classes].

        Raises:
            InputError: for frames of another shape, or bad ``time_steps``.
        """
        steps = self.steps(time_steps)
        x = self._first(frames, steps[0])
        for stage, t in zip(self.stages, steps, strict=True):
            x = _run(stage, temporal.transform(x, t, self.transform))
        return x.mean(0)

    def _first(self, frames: Tensor, t: int) -> Tensor:
        """The input frames as the first stage sees them, in the weights' type."""
        if frames.ndim < 3 or frames.shape[2:] != self.input_shape or len(frames) < 1:
            wanted = ", ".join(map(str, self.input_shape))
            raise InputError(f"frames must have the shape [T, N, {wanted}], not {list(frames.shape)}")
        dtype = next((p.dtype for p in self.parameters()), torch.get_default_dtype())
        return temporal.transform(frames.to(dtype), t, self.transform)

    def _infer_shapes(self) -> dict[str, tuple[int, ...]]:
        x = torch.empty(1, *self.input_shape, device="meta")
        shapes = {}
        for name, layer in self.layers():
            if not isinstance(layer, Spiking):
                state = {k: v.to("meta") for k, v in [*layer.named_parameters(), *layer.named_buffers()]}
                try:
                    x = functional_call(layer, state, x.to(next((v.dtype for v in state.values()), x.dtype)))
                except (RuntimeError, ValueError) as error:
                    raise InputError(
                        f"layer {name!r} does not fit frames of shape {tuple(x.shape[1:])}: {error}"
                    ) from None
            shapes[name] = tuple(x.shape[1:])
        return shapes


def _stages(layers: Mapping[str, nn.Module], blocks_per_stage: int | None) -> list[list[tuple[str, nn.Module]]]:
    for name in layers:
        if not name or "." in name or "/" in name or name in (INPUT, OUTPUT):
            raise InputError(
                f"{name!r} cannot name a layer: it must not hold '.' or '/' nor be {INPUT!r} or {OUTPUT!r}"
            )
    blocks: list[list[tuple[str, nn.Module]]] = [[]]
    for name, layer in layers.items():
        blocks[-1].append((name, layer))
        if isinstance(layer, Spiking):
            blocks.append([])
    tail = blocks.pop()
    if not blocks or not tail:
        raise InputError("a staged network needs a spiking population, and a linear layer behind the last one")
    g = len(blocks) if blocks_per_stage is None else blocks_per_stage
    if g < 1:
        raise InputError(f"blocks_per_stage must be at least 1, not {blocks_per_stage}")
    stages = [list(itertools.chain(*blocks[i : i + g])) for i in range(0, len(blocks), g)]
    stages[-1] += tail
    return stages


def _run(stage: nn.Module, x: Tensor) -> Tensor:
    """One stage on [T, N, *]: modules without time see the folded [T * N, *]."""
    t_n = x.shape[:2]
    for layer in stage.children():
        x = layer(x) if isinstance(layer, Spiking) else layer(x.flatten(0, 1)).unflatten(0, t_n)
    return x


@torch.no_grad()
def spike_counts(model: Staged, frames: Tensor, time_steps: int | Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits of a batch, and how often every neuron fired.

    Shape:
        frames: [T, N, *input_shape]. Returns logits [N, classes] and, by population name and under "input", float
        counts [N, *shape]. The input counts are those the first stage sees (with more steps than frames, repeated).

    Raises:
        InputError: as `Staged.forward`.
    """
    counts = {INPUT: model._first(frames, model.steps(time_steps)[0]).sum(0)}

    def count(name: str):  # type: ignore[no-untyped-def]
        return lambda module, arguments, spikes: counts.__setitem__(name, spikes.sum(0))

    hooks = [layer.register_forward_hook(count(name)) for name, layer in model.populations().items()]
    try:
        return model(frames, time_steps), counts
    finally:
        for hook in hooks:
            hook.remove()
