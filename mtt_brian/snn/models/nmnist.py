"""The paper's network for N-MNIST."""

from mtt_brian.snn.models.builder import Layout
from mtt_brian.snn.models.model import model


@model((2, 34, 34), norm=False)
def nmnist_3c1fc(net: Layout) -> None:
    """Three convolutions and one linear layer, without biases: the paper's N-MNIST network, 6,160 parameters.

    The paper states the number of parameters but not the layers: 2-8-16-16 channels, 3x3 kernels, stride 2, padding 1,
    1 and 0 give this number at 34x34. A larger sensor is average-pooled to at most 34 pixels a side first; the last
    convolution pads where a map is smaller than its kernel. At most 6,160 parameters for 10 classes and any sensor.

    Layers: (pool1), conv1, spikes1, conv2, spikes2, conv3, spikes3, flatten, readout. A block is one convolution with
    its population; the readout belongs to the last stage.
    """
    net.pool(-(-max(net.size[1:]) // 34))
    net.conv(8, stride=2)
    net.conv(16, stride=2)
    net.conv(16, stride=2, padding=0)
