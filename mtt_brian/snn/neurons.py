"""Spiking neurons over many time steps, as one fused differentiable operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF, decay_per_step
from mtt_brian.snn import compiled
from mtt_brian.snn.surrogate import PeriodicExponential, Surrogate

#: Suits "one" and "many" spikes per step.
DEFAULT_SURROGATE: Surrogate = PeriodicExponential()


@dataclass(frozen=True)
class Step:
    """One time step of a rule, in plain numbers. ``decay`` is 1 for a membrane that does not leak."""

    threshold: float
    subtract: bool
    many: bool
    lower_bound: float | None
    v_reset: float
    decay: float
    v_leak: float


class _SpikeTrain(torch.autograd.Function):
    """All time steps of a population; see `Spiking` for the rule and its gradient.

    Masks are floating-point tensors, and what has to be zeroed is multiplied or goes through ReLU's own gradient: on a
    CPU, boolean tensors take several times as long as any of these passes.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Step, surrogate: Surrogate, compile: bool) -> Tensor:
        ctx.step, ctx.surrogate, ctx.compile = step, surrogate, compile
        if compile:
            membrane, spikes = compiled.compiled(compiled.forward)(x, step)
            ctx.save_for_backward(membrane)
            return spikes
        membrane = torch.empty_like(x)  # before the reset: all that the backward pass needs
        spikes = torch.empty_like(x)
        after = torch.zeros_like(x[0])
        # A tensor, because CUDA divides by a plain number with a rounded reciprocal: v = threshold might not fire.
        threshold = x.new_tensor(step.threshold)
        for x_t, v, n in zip(x, membrane, spikes, strict=True):
            if step.decay == 1:
                torch.add(after, x_t, out=v)
            else:
                torch.add(x_t, after, alpha=step.decay, out=v)
                if step.v_leak:
                    v.add_((1 - step.decay) * step.v_leak)
            if step.lower_bound is not None:
                v.clamp_(min=step.lower_bound)
            if step.many and step.subtract:
                torch.div(v, threshold, out=n).floor_().clamp_(min=0)
            else:
                torch.ge(v, step.threshold, out=n)
            if step.subtract:
                torch.sub(v, n, alpha=step.threshold, out=after)
            else:
                torch.addcmul(v, n, v, value=-1, out=after)  # v where n = 0; exactly 0 where n = 1
                if step.v_reset:
                    after.add_(n, alpha=step.v_reset)
        ctx.save_for_backward(membrane)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor, None, None, None]:
        step: Step = ctx.step
        (membrane,) = ctx.saved_tensors
        if ctx.compile:
            back = compiled.compiled(compiled.backward)
            return back(grad_spikes, membrane, step, ctx.surrogate), None, None, None
        grad_x = torch.empty_like(membrane)
        after = torch.zeros_like(membrane[0])  # gradient with respect to the membrane after the reset
        for t in reversed(range(len(membrane))):
            v, g = membrane[t], grad_x[t]
            slope = ctx.surrogate(v, step.threshold)
            if step.subtract:
                # v_after = v - threshold * n
                torch.sub(grad_spikes[t], after, alpha=step.threshold, out=g)
                torch.addcmul(after, g, slope, out=g)
            else:
                # v_after = n * v_reset + (1 - n) * v
                torch.addcmul(grad_spikes[t], after, step.v_reset - v, out=g)
                kept = torch.lt(v, step.threshold, out=torch.empty_like(v)).mul_(after)
                torch.addcmul(kept, g, slope, out=g)
            if step.lower_bound is not None:
                torch.ops.aten.threshold_backward.grad_input(g, v, step.lower_bound, grad_input=g)
            after = g if step.decay == 1 else g * step.decay
        return grad_x, None, None, None


class Spiking(nn.Module):
    """A population of spiking neurons, run over all time steps at once; no state outlives a call.

    In every step (the rule of `mtt_brian.neuron`, the step being the instant):

    1. ``v = decay * v + (1 - decay) * v_leak + x`` (``decay = 1`` without leak), from v = 0 before the first step;
       ``v = max(v, lower_bound)``;
    2. where ``v >= threshold``: ``n = floor(v / threshold)`` spikes ("many" and "subtract") or one;
    3. ``v -= n * threshold`` ("subtract"), or ``v = v_reset`` ("zero").

    Every step is an arrival, x = 0 included: what "one" spike per step leaves above the threshold fires in the
    next step, while in continuous time it stays silent until the next spike arrives.

    An input of 1 moves the membrane by 1: weights are jumps, whatever the time constant.

    Gradient: dn/dv is the surrogate, through the spikes **and** through the reset; the lower bound passes nothing
    where v lies on it. The whole loop is one autograd function, which keeps one tensor of x's size.

    Args:
        rule: `IF`, or `LIF` with ``tau`` in seconds; plain numbers, no bias, no refractory period, ``r = 1``.
        surrogate: what stands for dn/dv.
        decay_per_step: with an `IF` rule, the factor 0 < d < 1 that the membrane keeps from step to step, however
            many there are (the paper's LIF).
        duration: with a `LIF` rule, the seconds that all steps cover together: T steps decay by
            ``exp(-duration / (T * tau))`` each, so that any T means the same neuron.

    Attributes:
        compile_steps: True lets `torch.compile` make one kernel of all time steps, anew for every T, some seconds each
            time; it needs a C++ compiler (Triton on a GPU). The same spikes and gradients up to rounding.

    Shape:
        x: [T, N, *] jumps -> [T, N, *] spike counts, in x's floating-point type, float32 at least.

    Raises:
        InputError: for a rule that cannot be trained here.
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
        """What is left of the membrane after one of ``steps`` time steps (1 without leak)."""
        if self.decay_per_step is not None:
            return self.decay_per_step
        if isinstance(self.rule, LIF):
            assert self.duration is not None
            return decay_per_step(float(self.rule.tau), steps, self.duration)
        return 1.0

    def forward(self, x: Tensor) -> Tensor:
        rule = self.rule
        assert rule.threshold is not None
        step = Step(
            threshold=float(rule.threshold),
            subtract=rule.reset == "subtract",
            many=rule.spikes == "many",
            lower_bound=None if rule.lower_bound is None else float(rule.lower_bound),
            v_reset=float(rule.v_reset),
            decay=self.decay(len(x)),
            v_leak=float(rule.v_leak) if isinstance(rule, LIF) else 0.0,
        )
        # Membranes add up many small jumps: float32 at least, under autocast too.
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return _SpikeTrain.apply(x, step, self.surrogate, self.compile_steps)

    def extra_repr(self) -> str:
        options = {"decay_per_step": self.decay_per_step, "duration": self.duration}
        return ", ".join(
            [repr(self.rule), repr(self.surrogate), *(f"{k}={v}" for k, v in options.items() if v is not None)]
        )


def _check(rule: IF, decay: float | None, duration: float | None) -> None:
    kind = type(rule).__name__
    if isinstance(rule, CubaLIF) or not isinstance(rule, IF):
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
