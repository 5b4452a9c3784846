"""Memory of frames: channels innermost on a CPU, through all layers; what is freed is kept."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from mtt_brian import mtt
from mtt_brian.snn import models, staged
from mtt_brian.snn.ops.memory_format import to_channels_last


def poisson(*shape: int) -> torch.Tensor:
    return torch.poisson(torch.full(shape, 0.3), generator=torch.Generator().manual_seed(0))


def test_channels_are_innermost() -> None:
    frames = poisson(5, 4, 3, 7, 6)
    same = to_channels_last(frames, torch.float64)
    assert torch.equal(same, frames.double())
    # A step in x passes 3 channels, one in y a row of 6, one in N a frame of 42, one in T a batch of 4.
    assert same.stride() == (4 * 42 * 3, 42 * 3, 1, 6 * 3, 3)
    assert to_channels_last(same, torch.float64).data_ptr() == same.data_ptr()


@pytest.mark.parametrize("shape", [(5, 4, 6), (5, 4, 1, 7, 6)])
def test_other_frames_are_left_alone(shape: tuple[int, ...]) -> None:
    frames = poisson(*shape)
    assert to_channels_last(frames, torch.float32) is frames


@pytest.mark.parametrize("name", ["nmnist_3c1fc", "resnet18_dvs"])
@pytest.mark.parametrize("steps", [(10, 3, 7), (2, 9, 9), (4, 4, 4)])
def test_no_convolution_permutes_its_frames(name: str, steps: tuple[int, ...]) -> None:
    """Fewer, more and equally many time steps than the stage before."""
    model = models.build(name, sensor_size=(2, 32, 32), num_classes=10, width_multiplier=0.25)
    seen: list[torch.Tensor] = []
    for _, layer in model.layers():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    frames = mtt.FrameSet(poisson(3, 10, 2, 32, 32).to(torch.uint8), torch.arange(3)).batch(np.arange(3))[0]
    some = (*steps, *[steps[-1]] * (model.num_stages - 3))
    model.readouts(frames, some)
    assert len(seen) >= 3
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)


@pytest.mark.parametrize("name", ["nmnist_3c1fc", "resnet18_dvs", "vggsnn"])
def test_the_order_in_memory_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readouts and gradients in float64, of networks with norms, pools and strided shortcuts of one pixel too."""
    torch.manual_seed(0)
    model = models.build(name, sensor_size=(2, 24, 24), num_classes=3, width_multiplier=0.25).double()
    frames = poisson(6, 4, 2, 24, 24).double()
    steps = [2, 5, 3, *[4] * (model.num_stages - 3)]

    def found() -> list[torch.Tensor]:
        model.zero_grad()
        readouts = model.readouts(frames, steps)
        readouts.square().sum().backward()
        return [readouts.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    ours = found()
    monkeypatch.setattr(staged, "to_channels_last", lambda x, dtype: x.to(dtype))
    for a, b in zip(ours, found(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_a_strided_kernel_of_one_pixel_has_the_gradients_of_its_definition() -> None:
    """In float32 and with fewer channels than a vector holds: where oneDNN's own gradient destroys memory."""
    model = models.resnet18_dvs(norm=False, width_multiplier=0.125)
    shortcut = next(
        layer for _, layer in model.layers() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)
    )
    assert shortcut.stride == (2, 2)
    x = to_channels_last(torch.randn(1, 80, 8, 48, 48), torch.float32)[0].requires_grad_()
    y = staged.run(nn.Sequential(shortcut), x.unsqueeze(0))[0]
    weight = torch.randn_like(y)
    (y * weight).sum().backward()
    assert shortcut.weight.grad is not None
    picked = x.detach()[..., ::2, ::2]
    torch.testing.assert_close(y.detach(), torch.einsum("nchw,oc->nohw", picked, shortcut.weight[:, :, 0, 0].detach()))
    by_definition = torch.einsum("nchw,nohw->oc", picked.double(), weight.double()).float()
    torch.testing.assert_close(shortcut.weight.grad[:, :, 0, 0], by_definition, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("change", [mtt.Augmentation(shift=3), mtt.Augmentation(roll=3), mtt.Augmentation(shift=30)])
def test_augmentations_keep_the_order(change: mtt.Augmentation) -> None:
    frames = poisson(4, 3, 9, 8, 2).permute(0, 1, 4, 2, 3).to(torch.uint8)
    changed = change(frames, np.random.default_rng(0))
    assert changed.stride() == frames.stride()
    assert torch.equal(changed, change(frames.contiguous(), np.random.default_rng(0)))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_kept() -> None:
    """160 MiB in 40 tensors, 20 times over: the system hands out the pages for the first time, and then no more."""
    script = """if True:
        import resource, sys, torch
        from mtt_brian.machine import keep_freed_memory
        if sys.argv[1] == "keep":
            keep_freed_memory()
        torch.ones(1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            tensors = [torch.ones(2**20) for _ in range(40)]
            del tensors
        pages = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize()
        print(pages / (160 * 2**20))
    """

    def times(how: str) -> float:
        command = [sys.executable, "-c", script, how]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    if times("give back") < 2:
        pytest.skip("this system's allocator keeps memory by itself")
    assert times("keep") < 2
