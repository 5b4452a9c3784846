"""Networks cut into stages, each of which runs with its own number of time steps."""

from __future__ import annotations

import itertools
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtt_brian.errors import InputError, check_choice, check_list, check_whole
from mtt_brian.machine import MOST_TIME_STEPS
from mtt_brian.snn import temporal
from mtt_brian.snn.neurons import Spiking
from mtt_brian.snn.ops.memory_format import to_channels_last
from mtt_brian.snn.ops.time_plan import RoomMap, RoomPlan, TimePlan
from mtt_brian.snn.residual import NORMS, Residual, additive, check_layers, each_its_own, leaves, run
from mtt_brian.text import one_line, shown

#: Name under which the input appears beside the populations, here and in the NIR graph.
INPUT = "input"
OUTPUT = "output"


class StagePlan(NamedTuple):
    """How a stage runs the frames of several configurations.

    Attributes:
        once: number of leading layers that run on the shared frames, before the temporal transformation.
        before, fewer: frames of every configuration before and after the part of the transformation that sums.
        shared: the frames before it are the same in all configurations.
        groups: frames of spikes of every configuration.
        steps: repetitions, time steps, and sums of the spikes.
    """

    once: int
    before: tuple[int, ...]
    fewer: tuple[int, ...]
    shared: bool
    groups: tuple[int, ...]
    steps: TimePlan


class RoomStage(NamedTuple):
    """As `StagePlan`, with numbers that kernels read; ``first`` is the transformation of the first stage."""

    once: int
    first: RoomMap | None
    plan: RoomPlan


class Staged(nn.Module):
    """A feed-forward spiking network whose stage i runs with t_i time steps (MTT paper, section 4).

    Before each stage the frames are transformed to its number of time steps (`temporal.transform`), the input frames
    included. Its logits are the mean of the last layer's output over the time steps of the last stage: of a linear
    layer, or of a population whose spikes are counted. The network is stateless.

    Args:
        layers: all layers by name, in order: `Spiking` populations, modules that act on single frames [N, *]
            (convolutions, norms, pools, linear layers), and `Residual` connections, each with a population behind it.
            A layer's name is that of its node in the NIR graph; names within residual connections count as well. A
            layer that has several names becomes several, which share their parameters.
        input_shape: of one frame, for instance (C, H, W).
        blocks_per_stage: g; a stage holds g blocks (the last one perhaps fewer), the layers behind the last block
            belong to the last stage. None: one stage, which is NMT's network.
        block_ends: names of the populations that end a block. None: all of them, or in a network with residual
            connections those behind one. No stage ends within a residual connection.
        transform: variant of the temporal transformation, "hard", "soft" or "trim".

    Attributes:
        stages: one `nn.Sequential` per stage.
        input_shape: as given.
        shapes: shape of one frame behind every layer, by name.
        norms_locked: True keeps all batch norms in evaluation mode, in training too; see `norm.lock`.
        config: the argument of `models.from_config` that rebuilds the network, a JSON-able dict; empty for other
            networks.

    Raises:
        InputError: for layers that do not fit, bad names, or no population at all.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        input_shape: Sequence[int],
        *,
        blocks_per_stage: int | None = 1,
        block_ends: Collection[str] | None = None,
        transform: str = "hard",
    ) -> None:
        super().__init__()
        check_choice("transform", transform, temporal.VARIANTS)
        self.input_shape = tuple(
            check_whole("input_shape", n, most=2**31 - 1, least=1) for n in check_list("input_shape", input_shape)
        )
        self.transform = transform
        check_layers("layers", layers)
        block_ends = None if block_ends is None else check_list("block_ends", block_ends)
        _check_names(layers)
        blocks = _blocks(_each_its_own(layers), block_ends)
        self.stages = nn.ModuleList(nn.Sequential(OrderedDict(s)) for s in _stages(blocks, blocks_per_stage))
        self.shapes = self._infer_shapes()
        self.norms_locked = False
        self.config: dict[str, object] = {}

    @property
    def num_stages(self) -> int:
        """Number of stages, which is the largest length of ``time_steps``."""
        return len(self.stages)

    def layers(self) -> Iterator[tuple[str, nn.Module]]:
        """All layers with their names, from input to output; for a residual connection those of its branches."""
        for stage in self.stages:
            yield from leaves(stage.named_children())

    def populations(self) -> dict[str, Spiking]:
        """The spiking populations by name, from input to output."""
        return {name: layer for name, layer in self.layers() if isinstance(layer, Spiking)}

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.norms_locked:
            for layer in self.modules():
                if isinstance(layer, NORMS):
                    layer.eval()
        return self

    def steps(self, time_steps: int | Sequence[int]) -> tuple[int, ...]:
        """``time_steps`` as one number per stage.

        Raises:
            InputError: for numbers below 1 or not whole, or another count than one or one per stage.
        """
        each = [time_steps] * self.num_stages if hasattr(time_steps, "__index__") else time_steps
        if isinstance(each, str | Set) or not isinstance(each, Iterable):
            raise InputError(f"time_steps must be a whole number or one per stage, not {shown(time_steps)}")
        steps = tuple(check_whole("the number of time steps", t, most=MOST_TIME_STEPS, least=1) for t in each)
        if len(steps) != self.num_stages:
            raise InputError(f"this network has {self.num_stages} stages; time_steps names {len(steps)}: {list(steps)}")
        return steps

    def forward(self, frames: Tensor, time_steps: int | Sequence[int]) -> Tensor:
        """Logits of a batch, the mean over time of the `readouts`.

        Shape:
            frames: [T, N, *input_shape], event counts of any real type; T may differ from all ``time_steps``.
            Returns [N, classes].

        Raises:
            InputError: for frames of another shape, or bad ``time_steps``.
        """
        return self.readouts(frames, time_steps).mean(0)

    def readouts(self, frames: Tensor, time_steps: int | Sequence[int]) -> Tensor:
        """The readout in each of the last stage's t time steps: as `forward`, but [t, N, classes]."""
        return self.readouts_of_each(frames, [time_steps])[0]

    def readouts_of_each(self, frames: Tensor, configurations: Sequence[int | Sequence[int]]) -> list[Tensor]:
        """The `readouts` of the same frames in several ``time_steps``, each independent of the others.

        All are computed in one pass: a layer without time is called once, with the frames of all configurations.

        Raises:
            InputError: as `forward`.
        """
        x = self._to_channels_last(frames)
        # Hooks may observe the spikes of a single configuration; those of several are summed at once.
        plans = self.plans(len(x), configurations, summed=len(configurations) > 1)
        for stage, plan in zip(self.stages, plans, strict=True):
            layers = list(stage.children())
            x = run(layers[: plan.once], x)
            x = temporal.transform_each(x, plan.before, plan.fewer, self.transform, plan.shared)
            x = run(layers[plan.once :], x, plan.steps)
        return list(x.split(plans[-1].steps.lengths)) if len(configurations) > 1 else [x]

    def readouts_in_room(self, frames: Tensor, stages: Iterable[RoomStage]) -> Tensor:
        """As `readouts_of_each`, in one tensor [t, N, classes] with room for further time steps, see `room`."""
        x = self._to_channels_last(frames)
        for stage, (once, first, plan) in zip(self.stages, stages, strict=True):
            layers = list(stage.children())
            x = run(layers[:once], x)
            x = run(layers[once:], x if first is None else temporal.apply_map(x, first), plan)
        return x

    def plans(
        self, frames: int, configurations: Sequence[int | Sequence[int]], *, summed: bool = True
    ) -> list[StagePlan]:
        """How the stages run ``frames`` input frames in several ``time_steps``.

        Args:
            frames: their number.
            configurations: the ``time_steps``.
            summed: the populations sum their spikes for the next stage, if the transformation is "hard".

        Raises:
            InputError: as `steps`.
        """
        steps = list(zip(*(self.steps(time_steps) for time_steps in configurations), strict=True))
        before: tuple[int, ...] = (frames,) * len(configurations)
        shared = True  # the first stage has the same input frames in all configurations
        plans = []
        for stage, after, following in itertools.zip_longest(self.stages, steps, steps[1:]):
            # Sums before repetitions: fewer frames in between need less time.
            fewer = after if self.transform == "soft" else tuple(map(min, before, after))
            once = 0
            if shared and self.transform != "soft" and frames <= sum(fewer):
                once = self.shared_layers(stage)
            groups, sums = after, None
            if summed and following and self.transform == "hard":
                groups = tuple(map(min, after, following))
                sums = temporal.frame_map(after, groups)
            plan = TimePlan(after, temporal.frame_map(fewer, after), sums)
            plans.append(StagePlan(once, before, fewer, shared, groups, plan))
            before, shared = groups, False
        return plans

    def shared_layers(self, stage: nn.Module) -> int:
        """Number of leading layers that can run once on shared input frames, before the temporal transform."""
        return sum(1 for _ in itertools.takewhile(additive, stage.children()))

    def first_stage_input(self, frames: Tensor, time_steps: int | Sequence[int]) -> Tensor:
        """The input frames of the first stage, [t, N, *input_shape] in the weights' type.

        Raises:
            InputError: as `forward`.
        """
        t = self.steps(time_steps)[0]
        return temporal.transform(self._to_channels_last(frames), t, self.transform)

    def _to_channels_last(self, frames: Tensor) -> Tensor:
        wanted = ", ".join(map(str, self.input_shape))
        if not isinstance(frames, Tensor) or frames.is_complex():
            raise InputError(f"frames must be a tensor of real numbers [T, N, {wanted}], not {shown(frames)}")
        if frames.ndim < 3 or frames.shape[2:] != self.input_shape or len(frames) < 1:
            raise InputError(f"frames must have the shape [T, N, {wanted}], not {list(frames.shape)}")
        first = next(self.parameters(), frames)
        dtype = torch.get_default_dtype() if first is frames else first.dtype
        if first.device != frames.device:
            raise InputError(
                f"frames are on the device {frames.device}, the network is on {first.device}: call frames.to(device)"
                " or model.to(device)"
            )
        if dtype not in (torch.float32, torch.float64):
            raise InputError(
                f"the weights are {name_of(dtype)}, and membranes need float32 or float64: call "
                "model.float(), and torch.autocast for mixed precision"
            )
        return to_channels_last(frames, dtype)

    def _infer_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        # Two frames, because a norm in training mode has no variance of one.
        x = torch.empty(2, *self.input_shape, device="meta")
        for stage in self.stages:
            x = _through(stage, x, shapes)
        return shapes


def name_of(dtype: torch.dtype) -> str:
    """``"float32"`` for `torch.float32`."""
    return str(dtype).removeprefix("torch.")


class _Kept:
    """The own modes of modules in evaluation mode, and how many blocks need each; blocks of threads overlap."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._modes: dict[nn.Module, bool] = {}
        self._blocks: Counter[nn.Module] = Counter()

    def enter(self, model: nn.Module) -> list[nn.Module]:
        modules = list(model.modules())
        with self._lock:
            for module in modules:
                self._modes.setdefault(module, module.training)
                self._blocks[module] += 1
            model.eval()
        return modules

    def leave(self, modules: Iterable[nn.Module]) -> None:
        with self._lock:
            for module in modules:
                self._blocks[module] -= 1
                if not self._blocks[module]:
                    del self._blocks[module]
                    module.training = self._modes.pop(module)


_KEPT = _Kept()


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """The network in evaluation mode within the block; afterwards every module is in its own mode again.

    The mode belongs to the network, not to a thread: it ends with the last of the blocks that overlap.
    """
    modules = _KEPT.enter(model)
    try:
        yield
    finally:
        _KEPT.leave(modules)


def check_staged(model: Any) -> None:
    """Refuses what is no staged network.

    Raises:
        InputError: naming what it is.
    """
    if not isinstance(model, Staged):
        raise InputError(f"model must be a staged network, of mtt_brian.models for instance, not {shown(model)}")


def check_one_kind(model: nn.Module) -> None:
    """Refuses parameters of several types or on several devices, which torch does not multiply.

    Raises:
        InputError: names them.
    """
    types = {name_of(weight.dtype) for weight in model.parameters()}
    if len(types) > 1:
        raise InputError(f"the weights are {' and '.join(sorted(types))}: call model.float() or model.double()")
    devices = {str(weight.device) for weight in model.parameters()}
    if len(devices) > 1:
        raise InputError(f"the weights are on the devices {' and '.join(sorted(devices))}: call model.to(device)")


def _check_names(layers: Mapping[str, nn.Module]) -> None:
    inner = [name for item in layers.items() if isinstance(item[1], Residual) for name, _ in leaves([item])]
    for name, count in Counter([*layers, *inner]).items():
        if count > 1:
            raise InputError(f"{name!r} names {count} layers; every name may be used once")
        if not name or "." in name or "/" in name or name in (INPUT, OUTPUT):
            raise InputError(
                f"{name!r} cannot name a layer: it must not hold '.' or '/' nor be {INPUT!r} or {OUTPUT!r}"
            )


def _each_its_own(layers: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """As `residual.each_its_own`, for the layers within residual connections too."""
    seen: set[nn.Module] = set()
    for layer in layers.values():
        if isinstance(layer, Residual):
            for branch in (layer.body, layer.shortcut):
                for name, member in each_its_own(dict(branch.named_children()), seen).items():
                    setattr(branch, name, member)
    return each_its_own(layers, seen)


def check_weights(model: nn.Module) -> None:
    """Refuses weights that every pass computes: between passes they are not those of the parameters.

    Raises:
        InputError: naming the layer.
    """
    for name, layer in model.named_modules():
        stored = dict([*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)])
        for key in ("weight", "bias"):
            if key not in stored and isinstance(getattr(layer, key, None), Tensor):
                raise InputError(
                    f"layer {name.rpartition('.')[2]!r}: its {key} is no parameter, but computed in every pass; make it"
                    f" one by prune.remove, remove_weight_norm or parametrize.remove_parametrizations (layer, {key!r})"
                )


def _blocks(layers: Mapping[str, nn.Module], block_ends: Collection[str] | None) -> list[list[tuple[str, nn.Module]]]:
    """The layers of every block; layers behind the last block belong to it."""
    populations = [name for name, layer in layers.items() if isinstance(layer, Spiking)]
    behind_residual = []
    for (name, layer), follower in itertools.zip_longest(layers.items(), list(layers)[1:]):
        if isinstance(layer, Residual):
            if follower not in populations:
                raise InputError(f"behind the residual connection {name!r} there must be a spiking population")
            behind_residual.append(follower)
    if not populations:
        raise InputError("a staged network needs a spiking population")
    ends = (behind_residual or populations) if block_ends is None else block_ends
    if not ends or not set(ends) <= set(populations):
        given = ", ".join(map(str, ends)) or "nothing"
        raise InputError(f"a block can end with {', '.join(populations)}, not with {given}")
    blocks: list[list[tuple[str, nn.Module]]] = [[]]
    for name, layer in layers.items():
        blocks[-1].append((name, layer))
        if name in ends:
            blocks.append([])
    tail = blocks.pop()
    blocks[-1] += tail
    return blocks


def _stages(
    blocks: list[list[tuple[str, nn.Module]]], blocks_per_stage: int | None
) -> Iterator[list[tuple[str, nn.Module]]]:
    g = check_whole(
        "blocks_per_stage", len(blocks) if blocks_per_stage is None else blocks_per_stage, most=2**31 - 1, least=1
    )
    for i in range(0, len(blocks), g):
        yield list(itertools.chain(*blocks[i : i + g]))


def _through(layers: nn.Module, x: Tensor, shapes: dict[str, tuple[int, ...]]) -> Tensor:
    """Output for ``x``, frames [N, *] without values; adds the shape behind every layer to ``shapes``."""
    for name, layer in layers.named_children():
        try:
            if isinstance(layer, Residual):
                body, shortcut = (_through(branch, x, shapes) for branch in (layer.body, layer.shortcut))
                if body.shape != shortcut.shape:
                    raise ValueError(f"its branches give {tuple(body.shape[1:])} and {tuple(shortcut.shape[1:])}")
                x = body + shortcut
                continue
            if getattr(layer, "has_uninitialized_params", bool)():
                raise ValueError(f"{type(layer).__name__} has no weights yet; use the type with its input size")
            if not isinstance(layer, Spiking):
                state = {k: v.to("meta") for k, v in [*layer.named_parameters(), *layer.named_buffers()]}
                x = functional_call(layer, state, x.to(next((v.dtype for v in state.values()), x.dtype)))
        except InputError:
            raise
        except Exception as error:  # layers of users raise any type
            shape = tuple(x.shape[1:])
            raise InputError(f"layer {name!r} does not fit frames of shape {shape}: {one_line(error)}") from None
        shapes[name] = tuple(x.shape[1:])
    return x


def observing(model: Staged, observe: Callable[[str, Tensor], None]) -> AbstractContextManager[None]:
    """Within the block, every population calls ``observe(name, spikes [t, N, *])`` after its run."""

    def hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, arguments, spikes: observe(name, spikes)

    return hooked(model, hook)


@contextmanager
def hooked(model: Staged, hook: Callable[[str], Callable[[nn.Module, Any, Tensor], Tensor | None]]) -> Iterator[None]:
    """Within the block, every population has the forward hook ``hook(name)`` of torch, which may replace its spikes.

    Passes of other threads through the same network do not call it.
    """
    thread = threading.get_ident()

    def of_this_thread(call: Callable[[nn.Module, Any, Tensor], Tensor | None]) -> Callable[..., Tensor | None]:
        return lambda *arguments: call(*arguments) if threading.get_ident() == thread else None

    hooks = [layer.register_forward_hook(of_this_thread(hook(name))) for name, layer in model.populations().items()]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


@torch.no_grad()
def spike_counts(model: Staged, frames: Tensor, time_steps: int | Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits of a batch, and the spike counts of all neurons.

    Shape:
        frames: [T, N, *input_shape]. Returns logits [N, classes] and, by population name and under "input", float
        counts [N, *shape]. The input counts are those of the first stage's input (repeated if there are more steps than
        frames).

    Raises:
        InputError: as `Staged.forward`.
    """
    check_staged(model)
    counts = {INPUT: model.first_stage_input(frames, time_steps).sum(0)}
    with observing(model, lambda name, spikes: counts.update({name: spikes.sum(0)})):
        return model(frames, time_steps), counts
