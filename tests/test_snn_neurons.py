"""Spiking neurons over time: hand-computed traces, and the fused gradient against two independent ones."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from mtt_brian.errors import InputError
from mtt_brian.neuron import IF, LIF, CubaLIF
from mtt_brian.snn import Spiking, temporal
from mtt_brian.snn.ops import cpu, reference
from mtt_brian.snn.ops.time_plan import FrameMap, TimePlan
from mtt_brian.snn.surrogate import Exponential, PeriodicExponential, Triangular
from mtt_brian.snn.temporal import apply_map


def spikes(rule: IF, jumps: list[float], **options: float) -> list[float]:
    """Spike counts of one neuron, step by step."""
    return Spiking(rule, **options)(torch.tensor(jumps, dtype=torch.float32)[:, None, None]).flatten().tolist()


# ----- traces one can do on paper


def test_many_spikes_per_step_keep_the_remainder() -> None:
    # 2.5 -> 2 spikes, 0.5 left; 0.5 + 0.5 is an exact hit.
    assert spikes(IF(spikes="many"), [2.5, 0, 0.5]) == [2, 0, 1]


def test_one_spike_per_step_fires_the_rest_in_the_next_steps() -> None:
    # A step is an arrival even when its input is zero: 2.5 -> 1.5 -> 0.5.
    assert spikes(IF(spikes="one"), [2.5, 0, 0]) == [1, 1, 0]


@pytest.mark.parametrize("per_update", ["one", "many"])
def test_reset_to_zero_fires_once_and_forgets(per_update: str) -> None:
    assert spikes(IF(reset="zero", spikes=per_update), [2.5, 0, 0.75, 0.25]) == [1, 0, 0, 1]


def test_reset_to_v_reset() -> None:
    # -0.5 + 1.25 = 0.75; 0.75 + 0.25 = 1.
    assert spikes(IF(reset="zero", v_reset=-0.5), [3, 1.25, 0.25, 1.25]) == [1, 0, 1, 0]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7, 1.1])
@pytest.mark.parametrize("per_update", ["one", "many"])
def test_an_exact_hit_fires(threshold: float, per_update: str) -> None:
    for dtype in (torch.float32, torch.float64):
        jump = torch.full((1, 1, 1), threshold, dtype=dtype)
        assert Spiking(IF(threshold=threshold, spikes=per_update))(jump).item() == 1


def test_threshold_other_than_one() -> None:
    # 5 = 2 * 2 + 1; 1 + 1 = 2.
    assert spikes(IF(threshold=2, spikes="many"), [5, 1, -3, 4.5]) == [2, 1, 0, 0]


def test_lower_bound_forgets_what_lies_below() -> None:
    assert spikes(IF(lower_bound=-1.0), [-5, 1.75, 0.25]) == [0, 0, 1]
    assert spikes(IF(), [-5, 1.75, 0.25]) == [0, 0, 0]


def test_jumps_of_one_step_are_summed_before_the_bound() -> None:
    # One step with -5 + 6 = 1 fires; the same in two steps meets the bound: -1 + 6 = 5.
    rule = IF(spikes="many", lower_bound=-1.0)
    assert spikes(rule, [-5.0 + 6.0]) == [1]
    assert spikes(rule, [-5.0, 6.0]) == [0, 5]


def test_decay_per_step() -> None:
    # 0.75 / 2 + 0.625 = 1; then from 0 again.
    assert spikes(IF(), [0.75, 0.625, 0.75, 0.5], decay_per_step=0.5) == [0, 1, 0, 0]


def test_leak_in_seconds_towards_v_leak() -> None:
    # exp(-0.3 / (3 tau)) = 1/2, so 0 -> 0.25 -> 0.375 -> 0.4375 towards 0.5.
    rule = LIF(tau=0.1 / np.log(2), v_leak=0.5)
    assert spikes(rule, [0, 0, 0.57], duration=0.3) == [0, 0, 1]
    assert spikes(rule, [0, 0, 0.55], duration=0.3) == [0, 0, 0]


def test_all_numbers_of_steps_mean_the_same_neuron() -> None:
    layer = Spiking(LIF(tau=0.05), duration=0.3)
    assert layer.decay(10) == pytest.approx(np.exp(-0.3 / (10 * 0.05)))
    assert layer.decay(20) == pytest.approx(np.sqrt(layer.decay(10)))
    assert Spiking(IF(), decay_per_step=0.5).decay(20) == 0.5
    assert Spiking(IF()).decay(7) == 1


def test_no_state_outlives_a_call_and_neurons_do_not_mix() -> None:
    layer = Spiking(IF(spikes="many", lower_bound=-1.0))
    a, b = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    first = layer(a), layer(b)
    second = layer(b), layer(a)
    assert torch.equal(first[0], second[1])
    assert torch.equal(first[1], second[0])
    assert torch.equal(layer(a[:, 1:2, 2:3]), first[0][:, 1:2, 2:3])


def test_the_input_is_left_alone() -> None:
    x = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    Spiking(IF(lower_bound=-1.0))(x)
    assert torch.equal(x, before)


def test_membranes_are_float32_at_least() -> None:
    layer = Spiking(IF(spikes="many"))
    for dtype in (torch.bfloat16, torch.float16, torch.uint8, torch.int64):
        out = layer(torch.full((3, 1, 1), 2, dtype=dtype))
        assert out.dtype == torch.float32
        assert out.flatten().tolist() == [2, 2, 2]
    # 256 + 1 is 256 in bfloat16; the membrane must not stop there.
    ones = torch.ones(300, 1, 1, dtype=torch.bfloat16)
    assert Spiking(IF(threshold=300.0))(ones).sum() == 1


# ----- gradients

RULES = [
    IF(threshold=threshold, reset=reset, spikes=per_update, lower_bound=bound, v_reset=v_reset)
    for threshold, (reset, v_reset), per_update, bound in product(
        [1.0, 0.7], [("subtract", 0.0), ("zero", 0.0), ("zero", -0.3)], ["one", "many"], [None, -0.4]
    )
]
RULES += [
    LIF(tau=0.2, v_leak=v_leak, reset=reset, spikes=per_update, lower_bound=-0.4)
    for v_leak, reset, per_update in product([0.0, 0.3], ["subtract", "zero"], ["one", "many"])
]


def name(value: object) -> str:
    """The parameters that are not the default."""
    return ", ".join([type(value).__name__, *(f"{k}={v}" for k, v in vars(value).items() if v not in (None, 0.0, 1.0))])


SURROGATES = [Triangular(), Triangular(0.6), Exponential(), Exponential(2.5), PeriodicExponential()]


def layer_of(rule: IF, surrogate: object, per_step: bool = False) -> Spiking:
    if per_step:
        return Spiking(rule, surrogate, decay_per_step=0.8)
    return Spiking(rule, surrogate, duration=0.3 if isinstance(rule, LIF) else None)


class Fire(torch.autograd.Function):
    """A spike count whose derivative is the surrogate: what autograd needs and nothing more."""

    @staticmethod
    def forward(ctx, v: Tensor, layer: Spiking) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(v)
        ctx.layer = layer
        rule = layer.rule
        if rule.spikes == "many" and rule.reset == "subtract":
            return torch.where(v >= rule.threshold, torch.floor(v / rule.threshold), 0.0)
        return torch.where(v >= rule.threshold, 1.0, 0.0).to(v)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (v,) = ctx.saved_tensors
        return grad * ctx.layer.surrogate(v, ctx.layer.rule.threshold), None


def one_step(layer: Spiking, v: Tensor, x: Tensor, steps: int, fire) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
    """The rule of one step, written down once more; gives the new membrane and the spikes."""
    rule, decay = layer.rule, layer.decay(steps)
    v = decay * v + (1 - decay) * getattr(rule, "v_leak", 0.0) + x
    if rule.lower_bound is not None:
        v = torch.where(v > rule.lower_bound, v, torch.full_like(v, rule.lower_bound))
    n = fire(v)
    return (v - n * rule.threshold if rule.reset == "subtract" else n * rule.v_reset + (1 - n) * v), n


def stepwise(layer: Spiking, x: Tensor) -> Tensor:
    """The plain loop, differentiated by autograd."""
    v, out = torch.zeros_like(x[0]), []
    for x_t in x:
        v, n = one_step(layer, v, x_t, len(x), lambda v: Fire.apply(v, layer))
        out.append(n)
    return torch.stack(out)


@pytest.mark.parametrize(
    ("rule", "surrogate"),
    [*product(RULES, [PeriodicExponential()]), *product(RULES[:2], SURROGATES[:-1])],
    ids=name,
)
def test_the_fused_gradient_is_that_of_the_plain_loop(rule: IF, surrogate: object) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(9, 4, 5, dtype=torch.float64, generator=generator)
    for per_step in (False, True) if not isinstance(rule, LIF) else (False,):
        layer = layer_of(rule, surrogate, per_step)
        results = []
        for run in (layer, lambda x, layer=layer: stepwise(layer, x)):
            # Mostly jumps, some of them large, and some silent steps at the lower bound.
            x = 1.2 * torch.randn(9, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
            x = (x * (x.abs() > 0.3)).requires_grad_()
            out = run(x)
            (out * weight).sum().backward()
            results.append((out.detach(), x.grad))
        (spikes_a, grad_a), (spikes_b, grad_b) = results
        assert torch.equal(spikes_a, spikes_b)
        assert spikes_a.sum() > 10
        torch.testing.assert_close(grad_a, grad_b, rtol=1e-12, atol=1e-14)
        assert grad_a.abs().max() > 0.1


@pytest.mark.parametrize("rule", RULES, ids=name)
def test_the_compiler_receives_the_same_rule(rule: IF, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the compiler: its own work is the next test's business."""
    monkeypatch.setattr(reference, "compiled", lambda function: function)
    for per_step in (False, True) if not isinstance(rule, LIF) else (False,):
        layer = layer_of(rule, PeriodicExponential(), per_step)
        compare_compiled(
            layer,
            1.2 * torch.randn(9, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
            rtol=1e-12,
            atol=1e-14,
        )


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("rule", "surrogate"),
    [*product(RULES, [PeriodicExponential()]), *product(RULES[:2], SURROGATES[:-1])],
    ids=name,
)
def test_the_kernels_are_the_same_rule(rule: IF, surrogate: object, threads: int) -> None:
    """Compiled loops for float32 on a CPU, against the plain expressions in float32."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for per_step in (False, True) if not isinstance(rule, LIF) else (False,):
            layer = layer_of(rule, surrogate, per_step)
            # More neurons than a block of the kernel holds, and no multiple of it; channels last, as convolutions may
            # leave them, in every second frame format.
            jumps = 1.2 * torch.randn(9, 5, 7, 10, 11, generator=torch.Generator().manual_seed(1))
            assert cpu.fits(jumps, surrogate)
            channels_last = jumps.movedim(-1, 2).contiguous().movedim(2, -1)
            for x, lengths, seen in (
                (jumps, [9], None),
                (channels_last, [2, 6, 1], None),
                (jumps.transpose(0, 1), [5], None),
                (jumps[:1], [1], None),
                (jumps[:4], [2, 6, 1], [0, 1, 2, 2, 2, 2, 2, 2, 3]),
                (channels_last[:6], [6, 5], [0, 0, 0, 1, 1, 2, 3, 4, 4, 5, 5]),
            ):
                each = tuple(range(sum(lengths)))
                repeat = None if seen is None else FrameMap(tuple(seen), each, len(each))
                steps = [layer.step(t) for t in lengths]
                for sums in (None, FrameMap(each, tuple(t // 2 for t in each), (len(each) + 1) // 2)):
                    plan = TimePlan(tuple(lengths), repeat, sums)
                    ours, theirs = (m.forward(x, plan, steps) for m in (cpu, reference))
                    assert torch.equal(ours[1], theirs[1])
                    assert ours[1].sum() > 10
                    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-6, atol=1e-6)
                    weight = torch.randn(ours[1].shape, generator=torch.Generator().manual_seed(2))
                    known = weight, theirs[0].contiguous(), plan, steps, len(x), surrogate
                    gradients = (m.backward(*known) for m in (cpu, reference))
                    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", RULES, ids=name)
def test_segments_are_independent(rule: IF, dtype: torch.dtype) -> None:
    """By the kernels and the plain expressions; a leak in seconds differs from segment to segment."""
    layer = layer_of(rule, PeriodicExponential(), False)
    parts = [2.0 * torch.randn(t, 4, 5, generator=torch.Generator().manual_seed(t)).to(dtype) for t in (3, 1, 6)]
    whole = torch.cat(parts).requires_grad_()
    spikes = layer(whole, TimePlan((3, 1, 6)))
    (spikes * torch.arange(5)).sum().backward()
    alone = [part.requires_grad_() for part in parts]
    expected = torch.cat([layer(part) for part in alone])
    (expected * torch.arange(5)).sum().backward()
    assert torch.equal(spikes, expected)
    assert whole.grad is not None
    assert torch.equal(whole.grad, torch.cat([part.grad for part in alone]))
    assert spikes.sum() > 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_repetitions_before_and_sums_behind_are_part_of_it(dtype: torch.dtype) -> None:
    """Two segments: 2 frames in 3 time steps and out in 3 sums, 3 in 5 and out in 2."""
    layer = Spiking(IF(spikes="many", lower_bound=-1.0))
    x = (2 * torch.randn(5, 4, 5, 5, 2, generator=torch.Generator().manual_seed(0))).to(dtype).permute(0, 1, 4, 2, 3)
    repeat, sums = temporal.frame_map([2, 3], [3, 5]), temporal.frame_map([3, 5], [3, 2])
    assert repeat is not None
    assert sums is not None
    weight = torch.randn(5, 4, 2, 5, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    at_once, apart = x.clone().requires_grad_(), x.clone().requires_grad_()
    spikes = layer(at_once, TimePlan((3, 5), repeat, sums))
    expected = apply_map(layer(apply_map(apart, repeat), TimePlan((3, 5))), sums)
    assert torch.equal(spikes, expected)
    assert spikes.stride() == expected.stride() == x.stride()
    (spikes * weight).sum().backward()
    (expected * weight).sum().backward()
    assert at_once.grad is not None
    torch.testing.assert_close(at_once.grad, apart.grad)
    assert spikes.sum() > 10


def test_the_kernels_hide_no_nan() -> None:
    jumps = torch.full((3, 1, 2), 0.5)
    jumps[1, 0, 0] = torch.nan
    spikes = Spiking(IF(spikes="many", lower_bound=-1.0))(jumps)
    assert torch.isnan(spikes).flatten().tolist() == [False, False, True, False, True, False]


def test_the_exponential_of_the_kernels() -> None:
    u = np.concatenate([np.linspace(0, 90, 2_001), [200.0, 1e30, np.inf]]).astype(np.float32)
    ours = np.array([cpu._exp_minus.py_func(x) for x in u])
    np.testing.assert_allclose(ours, np.exp(-u.astype(np.float64)), rtol=3e-7, atol=2e-38)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_steps_to_be_compiled_give_the_same_spikes_and_gradients(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default without the compiler."""
    if not compiled:
        monkeypatch.setattr(reference, "compiled", lambda function: function)
    layer = Spiking(IF(spikes="many", lower_bound=-1.0))
    compare_compiled(layer, torch.randn(3, 8, 50), rtol=1e-5, atol=1e-6)


def compare_compiled(layer: Spiking, jumps: Tensor, **tolerances: float) -> None:
    results = []
    for layer.compile_steps in (False, True):
        x = (jumps * (jumps.abs() > 0.3)).requires_grad_()
        out = layer(x)
        (out * torch.arange(jumps.shape[-1])).sum().backward()
        results.append((out.detach(), x.grad))
    (spikes_a, grad_a), (spikes_b, grad_b) = results
    assert torch.equal(spikes_a, spikes_b)
    assert spikes_a.sum() > 10
    torch.testing.assert_close(grad_a, grad_b, **tolerances)


def primitive(surrogate: Triangular | Exponential, v: Tensor, threshold: float) -> Tensor:
    """An antiderivative of the surrogate."""
    d = v - threshold
    if isinstance(surrogate, Triangular):
        u = (d / surrogate.width).clamp(-1, 1)
        return u - u * u.abs() / 2
    return d.sign() * (1 - torch.exp(-surrogate.scale * d.abs())) / surrogate.scale


@pytest.mark.parametrize("surrogate", [Triangular(), Exponential(2.0)], ids=name)
@pytest.mark.parametrize("rule", RULES[::3], ids=name)
def test_the_gradient_is_a_finite_difference_of_the_smoothed_network(rule: IF, surrogate: object) -> None:
    """Put n(v0) + S(v) - S(v0) for the spike count: smooth, with slope S' and the true spikes where v = v0."""
    layer, steps, eps = layer_of(rule, surrogate), 6, 1e-6
    x = torch.randn(steps, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    out = layer(x)
    weight = torch.arange(1.0, steps + 1, dtype=torch.float64)[:, None]
    (out * weight).sum().backward()

    def loss(x: Tensor, anchors: list[Tensor], record: bool = False) -> Tensor:
        v, total = torch.zeros_like(x[0]), torch.zeros_like(x[0])
        for t, x_t in enumerate(x):

            def fire(v: Tensor, t: int = t) -> Tensor:
                if record:
                    anchors.append(v)
                s = primitive(surrogate, v, rule.threshold) - primitive(surrogate, anchors[t], rule.threshold)
                return out[t] + s

            v, n = one_step(layer, v, x_t, steps, fire)
            total = total + weight[t] * n
        return total

    with torch.no_grad():
        anchors: list[Tensor] = []
        loss(x, anchors, record=True)
        for t in range(steps):
            nudge = torch.zeros_like(x)
            nudge[t] = eps
            difference = (loss(x + nudge, anchors) - loss(x - nudge, anchors)) / (2 * eps)
            torch.testing.assert_close(x.grad[t], difference, rtol=1e-4, atol=1e-4)


# ----- surrogates


def test_surrogates_by_hand() -> None:
    v = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
    assert Triangular()(v, 1.0).tolist() == [0, 0.5, 1, 0.5, 0, 0]
    assert Triangular(0.5)(v, 1.0).tolist() == [0, 0, 2, 0, 0, 0]
    e = np.exp
    assert Exponential(2.0)(v, 1.0).tolist() == pytest.approx([e(-2), e(-1), 1, e(-1), e(-2), e(-4)], rel=1e-6)
    # Below the threshold the distance to it, above it the distance to the nearest multiple.
    assert PeriodicExponential()(v, 1.0).tolist() == pytest.approx([e(-2), e(-1), 1, e(-1), 1, 1], rel=1e-6)
    # In multiples of another threshold: 3 lies half-way between 2 and 4.
    assert PeriodicExponential(1.0)(v, 2.0)[[0, 4, 5]].tolist() == pytest.approx([e(-2) / 2, 0.5, e(-1) / 2], rel=1e-6)


def test_surrogates_leave_the_membrane_alone() -> None:
    v = torch.linspace(-2, 3, 11)
    for surrogate in SURROGATES:
        before = v.clone()
        surrogate(v, 1.0)
        assert torch.equal(v, before)


# ----- what cannot be trained


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        (IF(threshold=None), {}, "threshold"),
        (IF(bias=0.1), {}, "IF.bias must be 0"),
        (IF(refractory=1e-3), {}, "IF.refractory must be 0"),
        (IF(r=2.0), {}, "IF.r must be 1"),
        (IF(threshold=np.ones(3)), {}, "IF.threshold must be one number"),
        (CubaLIF(tau=0.1, tau_syn=0.1), {}, "CubaLIF neurons cannot be trained"),
        (LIF(tau=0.1), {}, "duration"),
        (LIF(tau=0.1), {"duration": -1.0}, "duration"),
        (LIF(tau=0.1), {"duration": 0.3, "decay_per_step": 0.5}, "decay_per_step with an IF rule"),
        (IF(), {"decay_per_step": 1.0}, "between 0 and 1"),
        (IF(), {"decay_per_step": -0.5}, "between 0 and 1"),
    ],
)
def test_rules_that_cannot_be_trained_are_refused(rule: IF, options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Spiking(rule, **options)
