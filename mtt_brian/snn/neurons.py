"""Spiking neurons over many time steps, as one fused differentiable operation."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mtt_brian.errors import InputError, check_number
from mtt_brian.neuron import IF, LIF, decay_per_step
from mtt_brian.snn.ops.choice import Kernels, jumps, kernels_for, norm_kernels
from mtt_brian.snn.ops.reference import Step
from mtt_brian.snn.ops.time_plan import RoomPlan, TimePlan
from mtt_brian.snn.surrogate import PeriodicExponential, Surrogate

#: For "one" and "many" spikes per step.
DEFAULT_SURROGATE: Surrogate = PeriodicExponential()


class _SpikeTrain(torch.autograd.Function):
    """All time steps of a population; see `Spiking` for the rule and its gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, plan: TimePlan | RoomPlan, steps: Sequence[Step], surrogate: Surrogate, kernels: Kernels
    ) -> Tensor:
        ctx.known, ctx.kernels = (plan, steps, len(x), surrogate), kernels
        membrane, spikes = kernels.forward(x, plan, steps)
        if membrane is not None:
            ctx.save_for_backward(membrane)  # before the reset: all that the backward pass needs
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor, None, None, None, None]:
        (membrane,) = ctx.saved_tensors
        return ctx.kernels.backward(grad_spikes, membrane, *ctx.known), None, None, None, None


class _NormedSpikeTrain(torch.autograd.Function):
    """As `_SpikeTrain`, with the batch norm in front of the population; ``kernels``: the module `ops.gpu`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        norm: nn.Module,
        plan: TimePlan | RoomPlan,
        steps: Sequence[Step],
        surrogate: Surrogate,
        kernels: Any,
    ) -> Tensor:
        keep = any(ctx.needs_input_grad)
        membrane, spikes, normed = kernels.normed_forward(x, norm, plan, steps, keep)
        ctx.known, ctx.kernels = (plan, steps, len(x), surrogate), kernels
        if keep:
            ctx.training = normed.training
            ctx.save_for_backward(membrane, normed.x, normed.numbers)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        membrane, x, numbers = ctx.saved_tensors
        normed = ctx.kernels.Normed(x, numbers, ctx.training)
        return *ctx.kernels.normed_backward(grad_spikes, membrane, normed, *ctx.known), *[None] * 5


class Spiking(nn.Module):
    """A population of spiking neurons, run over all time steps at once; no state outlives a call.

    In every step (the rule of `mtt_brian.neuron`, the step being the instant):

    1. ``v = decay * v + (1 - decay) * v_leak + x`` (``decay = 1`` without leak), from v = 0 before the first step;
       ``v = max(v, lower_bound)``;
    2. where ``v >= threshold``: ``n = floor(v / threshold)`` spikes ("many" and "subtract") or one;
    3. ``v -= n * threshold`` ("subtract"), or ``v = v_reset`` ("zero").

    Every step is an arrival, x = 0 included: a neuron above its threshold after "one" spike fires again in the next
    step. In continuous time it is silent until the next spike arrives.

    An input of 1 moves the membrane by 1: weights are jumps, whatever the time constant.

    Gradient: dn/dv is the surrogate, through the spikes **and** through the reset; it is 0 where v equals the lower
    bound. The whole loop is one autograd function, which stores one tensor of x's size.

    Args:
        rule: `IF`, or `LIF` with ``tau`` in seconds; plain numbers, no bias, no refractory period, ``r = 1``.
        surrogate: the derivative dn/dv of the backward pass.
        decay_per_step: with an `IF` rule, the decay 0 < d < 1 of the membrane per step, for any number of steps (the
            paper's LIF).
        duration: with a `LIF` rule, the seconds that all steps cover together: T steps decay by
            ``exp(-duration / (T * tau))`` each, so that the neuron is the same for any T.

    Attributes:
        compile_steps: True: `torch.compile` compiles all time steps into one kernel, for every T, in some seconds each.
            It needs a C++ compiler. Spikes and gradients are the same up to rounding. On a GPU with Triton kernels (see
            `ops.choice`) it changes nothing.

    Shape:
        x: [T, N, *] jumps -> [T, N, *] spike counts, in x's floating-point type, float32 at least; under autocast on a
        GPU in x's type, to which the next layer would round them. Membranes are float32 at least. With a ``plan``
        there may be several segments, each of which starts from v = 0; x has the frames before ``plan.repeat``, and
        the result is summed by ``plan.sums``. With a ``norm``, which `contains` must accept, x is the norm's input, and
        its output are the jumps.

    Raises:
        InputError: for a rule that cannot be trained.
    """

    def __init__(
        self,
        rule: IF,
        surrogate: Surrogate = DEFAULT_SURROGATE,
        *,
        decay_per_step: float | None = None,
        duration: float | None = None,
    ) -> None:
        super().__init__()
        _check(rule, decay_per_step, duration)
        self.rule = rule
        self.surrogate = surrogate
        self.decay_per_step = decay_per_step
        self.duration = duration
        self.compile_steps = False

    def decay(self, steps: int) -> float:
        """Decay factor of the membrane in one of ``steps`` time steps (1 without leak)."""
        if self.decay_per_step is not None:
            return self.decay_per_step
        if isinstance(self.rule, LIF):
            assert self.duration is not None
            return decay_per_step(float(self.rule.tau), steps, self.duration)
        return 1.0

    def step(self, steps: int) -> Step:
        """The rule of one of ``steps`` time steps."""
        rule = self.rule
        assert rule.threshold is not None
        return Step(
            threshold=float(rule.threshold),
            subtract=rule.reset == "subtract",
            many=rule.spikes == "many",
            lower_bound=None if rule.lower_bound is None else float(rule.lower_bound),
            v_reset=float(rule.v_reset),
            decay=self.decay(steps),
            v_leak=float(rule.v_leak) if isinstance(rule, LIF) else 0.0,
        )

    def contains(self, x: Tensor, norm: nn.Module) -> bool:
        """Whether the kernels of this population can contain a batch norm in front of it, for its input ``x``."""
        return norm_kernels(x, norm, self.surrogate) is not None

    def forward(self, x: Tensor, plan: TimePlan | RoomPlan | None = None, norm: nn.Module | None = None) -> Tensor:
        x, plan = jumps(x, self.surrogate), plan or TimePlan((len(x),))
        steps = [self.step(t) for t in plan.lengths]
        if norm is not None:
            kernels = norm_kernels(x, norm, self.surrogate)
            return _NormedSpikeTrain.apply(x, norm.weight, norm.bias, norm, plan, steps, self.surrogate, kernels)
        kernels = kernels_for(x, self.surrogate, self.compile_steps, plan)
        return _SpikeTrain.apply(x, plan, steps, self.surrogate, kernels)

    def extra_repr(self) -> str:
        options = {"decay_per_step": self.decay_per_step, "duration": self.duration}
        return ", ".join(
            [repr(self.rule), repr(self.surrogate), *(f"{k}={v}" for k, v in options.items() if v is not None)]
        )


def _check(rule: IF, decay: float | None, duration: float | None) -> None:
    kind = type(rule).__name__
    for name, value in (("decay_per_step", decay), ("duration", duration)):
        if value is not None:
            check_number(name, value, most=sys.float_info.max)
    if type(rule) not in (IF, LIF):
        raise InputError(f"{kind} neurons cannot be trained; use IF or LIF")
    if not rule.fires:
        raise InputError(f"{kind}: a population without a threshold cannot be trained; end with a linear layer instead")
    for name, value in vars(rule).items():
        if np.ndim(value) > 0:
            raise InputError(f"{kind}.{name} must be one number for the whole population, not an array")
    for name, only in (("bias", 0.0), ("refractory", 0.0), ("r", 1.0)):
        if getattr(rule, name) != only:
            raise InputError(f"{kind}.{name} must be {only:g} in training, not {getattr(rule, name):g}")
    if isinstance(rule, LIF):
        if decay is not None:
            raise InputError("a LIF rule has its time constant in seconds; give decay_per_step with an IF rule instead")
        if duration is None or not duration > 0:
            raise InputError(f"a LIF rule in seconds needs the duration of a recording in seconds, > 0, not {duration}")
    elif decay is not None and not 0 < decay < 1:
        raise InputError(f"a decay per step must lie between 0 and 1, not {decay}")
