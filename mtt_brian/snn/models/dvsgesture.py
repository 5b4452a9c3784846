"""The paper's network for DVS-Gesture."""

from mtt_brian.snn.models.builder import Layout
from mtt_brian.snn.models.model import model


@model((2, 128, 128), norm=True)
def dvsgesture_net(net: Layout) -> None:
    """Four convolutions and two linear layers, for event-driven DVS-Gesture (MTT paper, from the authors' code).

    Average pool 2, convolution 8 (stride 2), pool 2, convolution 16, pool 2, convolution 32, pool 2, convolution 32,
    linear 64, readout. At 128x128 and 11 classes: 48,592 weights, besides 176 parameters of norms.

    Three blocks, as in the authors' code: two convolutions, two convolutions, the linear layers.
    """
    net.pool(2)
    net.conv(8, stride=2)
    net.pool(2)
    net.conv(16)
    net.end_block()
    net.pool(2)
    net.conv(32)
    net.pool(2)
    net.conv(32)
    net.end_block()
    net.hidden(64)
    net.end_block()
