"""The Triton kernels: interpreted on a CPU, compiled without running, and on a real GPU where there is one."""

import copy
import logging
import math
from functools import partial
from itertools import product
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtt_brian import mtt
from mtt_brian.mtt.iteration import Batch, Iteration
from mtt_brian.mtt.optimizer import make_optimizer
from mtt_brian.neuron import IF, LIF
from mtt_brian.snn import Spiking, models, temporal
from mtt_brian.snn.ops import choice, memory_format, reference
from mtt_brian.snn.ops.time_plan import TimePlan
from mtt_brian.snn.residual import run
from mtt_brian.snn.surrogate import Exponential, PeriodicExponential, Surrogate
from tests.test_snn_neurons import RULES, SURROGATES, layer_of, name
from tests.triton_kernels import interpreted

# Triton's interpreter does it.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim:DeprecationWarning")
#: Where the kernels run: in Triton's interpreter, or compiled.
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


#: Every rule and every surrogate; the interpreter is slow, so that most cases are too.
CASES = [
    case if i % 7 == 0 else pytest.param(*case, marks=pytest.mark.slow)
    for i, case in enumerate([*product(RULES, [PeriodicExponential()]), *product(RULES[:2], SURROGATES[:-1])])
]


def kernels(device: str) -> ModuleType:
    if device == "cpu":
        return interpreted()
    from mtt_brian.snn.ops import gpu

    return gpu


def jumps(*shape: int, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    """Mostly jumps, some of them large, and some silent steps."""
    x = 1.2 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return (x * (x.abs() > 0.3)).to(device, dtype)


def plans(few: bool = False) -> list[tuple[int, TimePlan]]:
    """Numbers of frames, with plans for them: one step; one and several segments; frames repeated and spikes summed."""
    several = temporal.frame_map([2, 1, 3], [4, 1, 6]), temporal.frame_map([4, 1, 6], [3, 1, 4])
    both = [(6, TimePlan((4, 1, 6), *several))]
    if few:
        return both
    return [
        (1, TimePlan((1,))),
        (9, TimePlan((9,))),
        (7, TimePlan((2, 4, 1))),
        (6, TimePlan((4, 1, 6), several[0])),
        (11, TimePlan((4, 1, 6), None, several[1])),
        *both,
    ]


def rounding(device: str) -> float:
    """Relative error of a number in bfloat16: 8 bits, where Triton's interpreter cuts the others off."""
    return 2**-7 if device == "cpu" else 2**-8


def compare(found: ModuleType, layer: Spiking, x: Tensor, plan: TimePlan) -> None:
    """Membranes, spikes and gradients of the kernels and of the plain expressions."""
    real = torch.promote_types(x.dtype, torch.float32)
    steps = [layer.step(t) for t in plan.lengths]
    membrane, spikes = found.forward(x, plan, steps)
    expected_membrane, expected = reference.forward(x.to(real), plan, steps)
    assert spikes.dtype == x.dtype
    assert membrane.dtype == real
    assert spikes.stride()[1:] == membrane.stride()[1:] == memory_format.dense(x).stride()[1:]
    assert torch.equal(spikes.to(real), expected)
    close = {"rtol": 1e-12, "atol": 1e-12} if real == torch.float64 else {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(membrane, expected_membrane, **close)

    nothing, same = found.forward(x, plan, steps, keep=False)
    assert nothing is None
    assert torch.equal(same, spikes)

    grad = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(2)).to(x.device, x.dtype)
    known = plan, steps, len(x), layer.surrogate
    ours = found.backward(grad, membrane, *known)
    theirs = reference.backward(grad.to(real), expected_membrane.contiguous(), *known)
    assert ours.dtype == x.dtype
    assert ours.stride() == spikes.stride()
    if real == torch.float32:
        close = {"rtol": 1e-5, "atol": 1e-5}
    if x.dtype == torch.bfloat16:
        close = {"rtol": rounding(x.device.type), "atol": 1e-5}
    torch.testing.assert_close(ours.to(real), theirs, **close)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("rule", "surrogate"), CASES, ids=name)
def test_the_kernels_are_the_same_rule(rule: IF, surrogate: Surrogate, dtype: torch.dtype, device: str) -> None:
    """In float32 and float64, whose results are compared to 1e-12, and with inputs and spikes in bfloat16."""
    for per_step in (False, True) if not isinstance(rule, LIF) else (False,):
        layer = layer_of(rule, surrogate, per_step)
        for frames, plan in plans(few=True):
            compare(kernels(device), layer, jumps(frames, 3, 5, device=device, dtype=dtype), plan)


@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        ("cpu", torch.float32),
        pytest.param("cpu", torch.bfloat16, marks=pytest.mark.slow),
        *(pytest.param("cuda", dtype, marks=pytest.mark.gpu) for dtype in (torch.float32, torch.bfloat16)),
    ],
)
def test_any_plan_size_and_memory_format(dtype: torch.dtype, device: str) -> None:
    """One neuron, a block and one more, and frames with channels or recordings innermost."""
    layer = Spiking(IF(spikes="many", lower_bound=-1.0))
    for frames, plan in plans():
        x = partial(jumps, device=device, dtype=dtype)
        compare(kernels(device), layer, x(frames, 1, 1), plan)
        compare(kernels(device), layer, x(frames, 41, 25), plan)
        compare(kernels(device), layer, x(frames, 2, 5, 6, 3).permute(0, 1, 4, 2, 3), plan)
        compare(kernels(device), layer, x(2, frames, 7).transpose(0, 1), plan)
        compare(kernels(device), layer, x(2 * frames, 3, 4)[::2], plan)


@pytest.mark.parametrize("device", DEVICES)
def test_many_steps(device: str) -> None:
    compare(kernels(device), layer_of(RULES[-1], Exponential()), jumps(80, 2, 3, device=device), TimePlan((80,)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_maps_sum_repeat_and_leave_out_frames(dtype: torch.dtype, device: str) -> None:
    x = jumps(10, 2, 5, 6, 3, device=device, dtype=dtype).permute(0, 1, 4, 2, 3)
    maps = [
        temporal.frame_map([10], [4]),
        temporal.frame_map([10], [13]),
        temporal.frame_map([4, 6], [5, 2]),
        temporal.map_of(((10, 3), (10, 12)), trim=True, shared=True),  # trim, the same frames for both segments
    ]
    for frame_map in maps:
        assert frame_map is not None
        for one, inner in ((frame_map, x), (frame_map.transposed(10), x.repeat(5, 1, 1, 1, 1)[: frame_map.frames])):
            ours = kernels(device).apply_map(inner, one)
            expected = reference.apply_map(inner.float(), one).to(dtype)
            torch.testing.assert_close(
                ours, expected, rtol=rounding(device) if dtype == torch.bfloat16 else 1e-6, atol=0
            )
            assert ours.stride()[1:] == memory_format.dense(inner).stride()[1:]


def test_no_nan_is_hidden() -> None:
    x = torch.full((3, 1, 2), 0.5)
    x[1, 0, 0] = torch.nan
    layer = Spiking(IF(spikes="many", lower_bound=-1.0))
    _, spikes = interpreted().forward(x, TimePlan((3,)), [layer.step(3)])
    assert torch.isnan(spikes).flatten().tolist() == [False, False, True, False, True, False]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7, 1.1])
@pytest.mark.parametrize("device", DEVICES)
def test_an_exact_hit_fires(threshold: float, device: str) -> None:
    for per_update, dtype in product(["one", "many"], [torch.float32, torch.float64]):
        layer = Spiking(IF(threshold=threshold, spikes=per_update))
        x = torch.full((1, 1, 1), threshold, dtype=dtype, device=device)
        assert kernels(device).forward(x, TimePlan((1,)), [layer.step(1)])[1].item() == 1


# ----- with the batch norm in front


def batch_norm(channels: int, dtype: torch.dtype, device: str, *, images: bool = True) -> nn.BatchNorm2d:
    generator = torch.Generator().manual_seed(3)
    norm = (nn.BatchNorm2d if images else nn.BatchNorm1d)(channels)
    with torch.no_grad():
        for tensor, low, high in ((norm.weight, 0.5, 2), (norm.bias, -0.3, 0.5), (norm.running_mean, -0.1, 0.1)):
            tensor.copy_(low + (high - low) * torch.rand(channels, generator=generator))
    return norm.to(device, dtype)


def run_with(found: ModuleType | None, norm: nn.Module, layer: Spiking, x: Tensor, plan: TimePlan) -> list[Tensor]:
    """Spikes and gradients of a norm and a population, and the norm's statistics afterwards."""
    norm, x = copy.deepcopy(norm), x.clone().requires_grad_()
    with mock.patch.object(choice, "_triton_for", return_value=found):
        assert layer.contains(x, norm) == (found is not None)
        spikes = run([norm, layer], x, plan)
    weight = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(4)).to(x.device, x.dtype)
    (spikes * weight).sum().backward()
    assert x.grad is not None
    assert x.grad.stride() == x.stride()
    return [spikes.detach(), x.grad, norm.weight.grad, norm.bias.grad, *(b.double() for b in norm.buffers())]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("rule", "few"), [(RULES[1], True), pytest.param(RULES[-2], False, marks=pytest.mark.slow)])
def test_a_norm_in_front_is_the_same_inside(rule: IF, few: bool, training: bool, device: str) -> None:
    """In float64: segments with statistics of their own, in which repeated frames count again; fixed statistics."""
    layer = layer_of(rule, PeriodicExponential())
    for frames, plan in plans(few):
        for images in (True, False):
            norm = batch_norm(8, torch.float64, device, images=images).train(training)
            x = jumps(frames, 3, 5, 2, 8, device=device, dtype=torch.float64).permute(0, 1, 4, 2, 3)
            x = x if images else x[..., 0, 0].contiguous()
            ours, theirs = (run_with(found, norm, layer, x, plan) for found in (kernels(device), None))
            assert torch.equal(ours[0], theirs[0])
            assert ours[0].sum() > 0
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), DEVICES[1]])
def test_a_norm_over_many_blocks(device: str) -> None:
    """More blocks than programs on a GPU; float32, whose sums are rounded: few spikes may differ."""
    layer = Spiking(IF(spikes="many", lower_bound=-1.0))
    side = 4 if device == "cpu" else 40
    for channels in (2, 128):
        norm = batch_norm(channels, torch.float32, device)
        x = 3 + jumps(6, 2, side, side + 3, channels, device=device).permute(0, 1, 4, 2, 3)
        (frames, plan), *_ = plans(few=True)
        assert frames == len(x)
        ours, theirs = (run_with(found, norm, layer, x, plan) for found in (kernels(device), None))
        assert (ours[0] != theirs[0]).double().mean() < 1e-3
        for a, b in zip(ours[1:], theirs[1:], strict=True):
            assert (a - b).norm() < 1e-2 * b.norm()


@pytest.mark.parametrize("device", DEVICES)
def test_a_norm_in_bfloat16(device: str) -> None:
    """The jumps are rounded in torch, and not in the kernels; both are near the result in float64."""
    layer, norm = Spiking(IF(spikes="many", lower_bound=-1.0)), batch_norm(8, torch.float32, device)
    (_, plan), *_ = plans(few=True)
    x = jumps(6, 5, 4, 3, 8, device=device, dtype=torch.bfloat16).permute(0, 1, 4, 2, 3)
    with torch.autocast(device, torch.bfloat16):
        ours = run_with(kernels(device), norm, layer, x, plan)
    exact = run_with(None, copy.deepcopy(norm).double(), layer, x.double(), plan)
    assert ours[0].dtype == ours[1].dtype == torch.bfloat16
    assert ours[2].dtype == torch.float32
    assert (ours[0] != exact[0]).double().mean() < 0.01
    for a, b in zip(ours[1:], exact[1:], strict=True):
        assert (a.double() - b).norm() < 0.05 * b.norm()


def test_norms_that_stay_outside() -> None:
    x = torch.zeros(2, 3, 5, 5, 8).permute(0, 1, 4, 2, 3)
    found = interpreted()
    assert found.fits_norm(x, nn.BatchNorm2d(8))
    assert not found.fits_norm(x.contiguous(), nn.BatchNorm2d(8))
    assert not found.fits_norm(x, nn.BatchNorm2d(8, affine=False))
    assert not found.fits_norm(x, nn.BatchNorm2d(8, track_running_stats=False))
    assert not found.fits_norm(x, nn.BatchNorm2d(8, momentum=None))
    assert not found.fits_norm(x, nn.BatchNorm2d(8).double())
    assert not found.fits_norm(x, nn.SyncBatchNorm(8))
    assert not found.fits_norm(x[:, :, :6], nn.BatchNorm2d(6))
    assert not found.fits_norm(x[:, :1, :, :1, :1], nn.BatchNorm2d(8))


# ----- pools


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("windows", [2, (1, 3), (2, 1)])
def test_pools(windows: int | tuple[int, int], device: str) -> None:
    layer = nn.AvgPool2d(windows)
    for dtype, channels in ((torch.float64, 3), (torch.float32, 16), (torch.bfloat16, 32)):
        x = jumps(4, 6, 12, channels, device=device, dtype=dtype).permute(0, 3, 1, 2)
        results = []
        for found in (kernels(device), None):
            given = x.clone(memory_format=torch.preserve_format).requires_grad_()
            with mock.patch.object(choice, "_triton_for", return_value=found):
                means = run([layer], given.unsqueeze(0))[0]
            weight = jumps(*means.shape, device=device, dtype=dtype)
            means.backward(weight.contiguous(memory_format=torch.channels_last))
            assert given.grad is not None
            assert means.dtype == given.grad.dtype == dtype
            assert means.is_contiguous(memory_format=torch.channels_last)
            assert given.grad.stride() == x.stride()
            results.append((means.detach(), given.grad))
        close = {"rtol": rounding(device), "atol": 1e-6} if dtype == torch.bfloat16 else {"rtol": 1e-6, "atol": 1e-7}
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, **close)


def test_pools_that_torch_computes() -> None:
    found, x = interpreted(), torch.zeros(2, 4, 4, 3).permute(0, 3, 1, 2)
    assert found.fits_pool(x, (2, 2))
    assert not found.fits_pool(x, (3, 2))
    assert not found.fits_pool(x.contiguous(), (2, 2))
    with mock.patch.object(choice, "_triton_for", side_effect=AssertionError):
        for layer in (nn.AvgPool2d(2, stride=1), nn.AvgPool2d(2, padding=1), nn.AvgPool2d(2, divisor_override=1)):
            assert run([layer], x.unsqueeze(0)).shape[:3] == (1, 2, 3)


# ----- which implementation runs


class _Other:
    """A surrogate that no kernel has."""

    def __call__(self, v: Tensor, threshold: float) -> Tensor:
        return 1 / (1 + (v - threshold) ** 2)


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """CPU tensors have the interpreted kernels; the list gets the surrogate of every population that runs."""
    asked: list[Any] = []

    def triton_for(x: Tensor, surrogate: Surrogate | None) -> ModuleType | None:
        asked.append(surrogate)
        return interpreted() if interpreted().fits(x, surrogate) else None

    monkeypatch.setattr(choice, "_triton_for", triton_for)
    return asked


def gradients(model: nn.Module, frames: Tensor, labels: Tensor, configurations: list[Any]) -> list[Tensor]:
    model.zero_grad()
    readouts = model.readouts_of_each(frames, configurations)
    torch.stack([mtt.cross_entropy(r, labels) for r in readouts]).sum().backward()
    return [*(r.detach() for r in readouts), *(p.grad.clone() for p in model.parameters())]


@pytest.mark.parametrize("transform", ["hard", *(pytest.param(t, marks=pytest.mark.slow) for t in ("soft", "trim"))])
def test_a_network_has_the_same_gradients(transform: str, on_cpu: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = models.nmnist_3c1fc((2, 8, 8), 3, norm=True, width_multiplier=1 / 16, transform=transform).double()
    frames = torch.poisson(torch.full((4, 3, 2, 8, 8), 0.6, dtype=torch.float64))
    labels = torch.tensor([0, 1, 2])
    configurations = [(3, 1, 2), (1, 3, 3)]
    ours = gradients(model, frames, labels, configurations)
    assert on_cpu.count(PeriodicExponential()) >= 3
    monkeypatch.undo()
    for a, b in zip(ours, gradients(model, frames, labels, configurations), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
        assert a.abs().max() > 0


def test_under_autocast_spikes_have_the_type_of_the_jumps(on_cpu: list[Any]) -> None:
    layer = Spiking(IF(threshold=300.0))
    ones = torch.ones(300, 1, 1, dtype=torch.bfloat16, requires_grad=True)
    assert layer(ones).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        spikes = layer(ones)
    # 256 + 1 is 256 in bfloat16; the membrane must not stop there.
    assert spikes.dtype == torch.bfloat16
    assert spikes.sum() == 1
    spikes.sum().backward()
    assert ones.grad is not None
    assert ones.grad.dtype == torch.bfloat16


def test_a_surrogate_without_kernel_is_computed_by_torch(on_cpu: list[Any]) -> None:
    x = torch.full((2, 1, 1), 0.75, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        spikes = Spiking(IF(), _Other())(x)
    assert spikes.dtype == torch.float32
    assert spikes.flatten().tolist() == [0, 1]


def test_without_triton_one_warning_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    choice.triton_kernels.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert choice.triton_kernels(torch.device("cuda", 0)) is None
            assert choice.triton_kernels(torch.device("cuda", 0)) is None
    finally:
        choice.triton_kernels.cache_clear()
    (record,) = caplog.records
    assert "no Triton kernels on cuda:0" in record.getMessage()
    assert "plain torch operations" in record.getMessage()


# ----- compiled for a GPU, which need not be there


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_the_kernels_compile(capability: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to PTX, with loads and stores of 16 bytes where the frames allow it."""
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from mtt_brian.snn.ops.gpu import frame_map, norm, pooling, population

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    real = triton.language.float32
    rule = {"threshold": 0.7, "bound": -math.inf, "v_reset": 0.0, "leaks": True}
    slope = {"exponential": True, "periodic": True, "rate": 2.0, "height": 1.0}
    shared = {"real": real, "block": 1024}
    sums = {"training": True, "tile": 8, "rows": 256}
    windows = {"rows": 2, "columns": 2, **shared}
    whole = {"size": "i32", "row": "i32", "segments": "i32", "programs": "i32", "channels": "i32", "per_step": "i32"}
    whole |= {"frames": "i32", "width": "i32", "table": "*i32", "sources": "*i32", "batches": "*i64"}
    for subtract, half, channels in product([True, False], ["*bf16", "*fp32"], [0, 64]):
        rules = {**rule, "subtract": subtract, "channels": channels, "repeats": True, **shared}
        rules["room"] = half == "*bf16"
        kinds = {
            population._forward: {**rules, "many": subtract, "keep": True, "sums": True},
            population._backward: {**rules, **slope, "sums_spikes": True},
        }
        if subtract and channels:  # the others do not depend on the rule
            kinds |= {
                norm._moments: {"channels": channels, "repeats": True, **shared},
                norm._norm_numbers: {"eps": 1e-5, "momentum": 0.1, **sums},
                norm._norm_gradients: sums,
                norm._norm_input_gradient: {"channels": channels, "training": True, **shared},
                norm._norm_apply: {"channels": channels, **shared},
                norm._norm_sums: {"channels": channels, **shared},
                frame_map._apply_map: shared,
                pooling._pool: windows,
                pooling._spread: windows,
            }
        frames = {"x", "y", "spikes", "grad_spikes", "grad_x", "grad", "grad_y", "mapped", "large", "small"}
        for kernel, constants in kinds.items():
            types = {n: half if n in frames else whole.get(n, "*fp32") for n in kernel.arg_names}
            signature = {n: "constexpr" if n in constants else kind for n, kind in types.items()}
            aligned = {
                (i,): [["tt.divisibility", 16]]
                for i, (n, kind) in enumerate(signature.items())
                if kind.startswith("*") or (n in ("size", "channels") and kind != "constexpr")
            }
            values = {(kernel.arg_names.index(n),): value for n, value in constants.items()}
            source = ASTSource(kernel, signature, values, aligned)
            code = triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"]
            if frames & set(kernel.arg_names):
                assert "ld.global.v4.b32" in code
            if (frames - {"x", "grad_y"}) & set(kernel.arg_names):
                assert "st.global.v4.b32" in code


# ----- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("model", ["vggsnn", "resnet18_dvs", "nmnist_3c1fc"])
def test_a_network_on_the_gpu_has_the_gradients_of_the_cpu(model: str) -> None:
    torch.manual_seed(0)
    network = models.build(model, sensor_size=(2, 24, 24), num_classes=3, width_multiplier=0.125).double()
    frames = torch.poisson(torch.full((4, 3, 2, 24, 24), 0.4, dtype=torch.float64))
    labels = torch.tensor([0, 1, 2])
    configurations = [tuple(row) for row in np.random.default_rng(0).integers(1, 6, (3, network.num_stages)).tolist()]
    expected = gradients(network, frames, labels, configurations)
    network.cuda()
    ours = gradients(network, frames.cuda(), labels.cuda(), configurations)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-7, atol=1e-10)


@pytest.mark.gpu
@pytest.mark.parametrize("method", [mtt.SDT(4), mtt.MTT(4)], ids=["sdt", "mtt"])
def test_mixed_precision_trains_on_the_gpu(method: mtt.Sampler) -> None:
    """Twenty steps on one batch: the loss falls, no iteration synchronises more than once, and nothing is permuted."""
    torch.manual_seed(0)
    network = models.vggsnn((2, 24, 24), 3, width_multiplier=0.25).cuda()
    optimizer = make_optimizer(network, mtt.TrainConfig(lr=1e-3))
    generator = torch.Generator().manual_seed(0)
    frames = torch.poisson(torch.full((4, 12, 2, 24, 24), 0.3), generator=generator).cuda()
    labels = (torch.arange(12) % 3).cuda()
    rng = np.random.default_rng(0)
    losses = []
    for i in range(20):
        configurations = method.sample(rng, network.num_stages)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("warn" if i == 0 else "error")
        try:
            with torch.profiler.record_function("iteration"):
                done = _one_wait(network, optimizer, frames, labels, configurations)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        losses.append(done.loss)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def _one_wait(network: Any, optimizer: Any, *batch: Any) -> Iteration:
    """An iteration whose one transfer to the host is allowed to wait."""

    class Allowed(Batch):
        def means(self, values: Tensor) -> list[float]:
            torch.cuda.set_sync_debug_mode("default")
            return super().means(values)

    return mtt.train_iteration(network, optimizer, *batch, mtt.StepOptions(amp=True), Allowed())


@pytest.mark.gpu
def test_a_step_that_is_not_finite_is_not_taken_on_the_gpu() -> None:
    network = models.nmnist_3c1fc((2, 12, 12), 3, width_multiplier=0.25).cuda()
    optimizer = make_optimizer(network, mtt.TrainConfig())
    before = [p.detach().clone() for p in network.parameters()]
    frames = torch.full((2, 2, 2, 12, 12), torch.nan, device="cuda")
    with pytest.raises(mtt.Diverged, match="the loss is nan with time steps"):
        mtt.train_iteration(network, optimizer, frames, torch.tensor([0, 1]).cuda(), [(2, 2, 2)])
    for a, b in zip(before, network.parameters(), strict=True):
        assert torch.equal(a, b)
