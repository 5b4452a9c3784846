"""The paper's residual networks."""

from mtt_brian.snn.models.builder import Layout
from mtt_brian.snn.models.model import model


@model((3, 32, 32), norm=True)
def resnet18(net: Layout) -> None:
    """ResNet-18 for small static images (He et al. 2016, CIFAR stem; MTT paper, from the authors' code).

    A 3x3 convolution with 64 channels, then two residual blocks each of 64, 128, 256 and 512 channels, halving the map
    with every change, then the mean over all pixels and the readout. Any number of channels, 28x28 too. At 3x32x32 and
    10 classes: 11,164,352 weights, besides 9,600 parameters of norms.

    Eight blocks: the residual ones, the first convolution with the first of them.
    """
    _resnet(net, (64, 64, 128, 128, 256, 256, 512, 512))


@model((2, 48, 48), norm=True)
def resnet18_dvs(net: Layout) -> None:
    """`resnet18` for two polarities and frames of 48x48 (CIFAR10-DVS, N-Caltech101).

    At 48x48 and 10 classes: 11,163,776 weights, besides 9,600 parameters of norms. Eight blocks.
    """
    _resnet(net, (64, 64, 128, 128, 256, 256, 512, 512))


@model((3, 32, 32), norm=True)
def resnet19(net: Layout) -> None:
    """ResNet-19 for small static images (Zheng et al. 2021, tdBN).

    A 3x3 convolution with 128 channels, then residual blocks: three of 128, three of 256, two of 512 channels, halving
    the map with every change, then the mean over all pixels, a linear layer of 256 with its population, and the
    readout. (The authors of MTT leave out that linear layer.) Any number of channels, 28x28 too. At 3x32x32 and 10
    classes: 12,687,232 weights, besides 10,496 parameters of norms.

    Eight blocks: the residual ones, the first convolution with the first and the last linear layers with the last.
    """
    _resnet(net, (128, 128, 128, 256, 256, 256, 512, 512))
    net.hidden(256)


def _resnet(net: Layout, blocks: tuple[int, ...]) -> None:
    net.conv(blocks[0])
    for before, channels in zip((blocks[0], *blocks), blocks, strict=False):
        net.residual(channels, stride=1 if channels == before else 2)
    net.pool(max(net.size[1:]))
