"""The paper's VGG networks."""

from mtt_brian.snn.models.builder import Layout
from mtt_brian.snn.models.model import model


@model((2, 128, 128), norm=True)
def vgg9(net: Layout) -> None:
    """Eight convolutions and a linear layer, for event-driven CIFAR10-DVS (MTT paper, from the authors' code).

    Average pool 4, then [64, 128], [256, 256], [512, 512] and [512, 512] channels, average pool 2 behind each
    pair. At 128x128 and 10 classes: 9,237,632 weights, besides 5,504 parameters of norms. A block is one pair.
    """
    net.pool(4)
    _pairs(net)


@model((2, 48, 48), norm=True)
def vggsnn(net: Layout) -> None:
    """`vgg9` without its first pool, for frames of 48x48 (CIFAR10-DVS, N-Caltech101).

    At 48x48 and 10 classes: 9,263,232 weights, besides 5,504 parameters of norms. A block is one pair of convolutions.
    """
    _pairs(net)


@model((3, 32, 32), norm=True)
def vgg14(net: Layout) -> None:
    """Thirteen convolutions and a linear layer, for static images (MTT paper, from the authors' code).

    64, 64, pool, 128, 128, pool, 256 three times, pool, 512 three times, pool, 512 three times, pool. Any number of
    channels, 28x28 too. At 3x32x32 and 10 classes: 14,715,584 weights, besides 8,448 parameters of norms. A block is
    one convolution.
    """
    for channels, times in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(times):
            net.conv(channels)
        net.pool(2)


def _pairs(net: Layout) -> None:
    for pair in ((64, 128), (256, 256), (512, 512), (512, 512)):
        for channels in pair:
            net.conv(channels)
        net.end_block()
        net.pool(2)
