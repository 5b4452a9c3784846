"""Random graphs and recordings whose every number is a small multiple of a power of two.

Sums of such numbers are exact in any order, so engines that add in different orders must still agree to the last bit.
"""

import nir
import numpy as np


def weights(rng, *shape):
    return rng.integers(-10, 16, shape) / 16


def neuron(rng, shape, leaky, highest_bound):
    metadata = {"reset": str(rng.choice(["subtract", "zero"])), "spikes": str(rng.choice(["one", "many"]))}
    if rng.random() < 0.6:
        metadata["lower_bound"] = float(rng.choice([-1.0, -0.75, -0.25, highest_bound]))
    per_neuron = rng.random() < 0.3
    draw = lambda values: rng.choice(values, shape) if per_neuron else np.full(shape, rng.choice(values))  # noqa: E731
    threshold, v_reset = draw([0.5, 1.0, 2.0]), draw([0.0, -0.25])
    if metadata["reset"] == "subtract":
        v_reset = np.zeros(shape)
    if not leaky:
        return nir.IF(r=draw([1.0, 0.5]), v_threshold=threshold, v_reset=v_reset, metadata=metadata)
    # r is a power of two times tau, so that jumps are exact.
    tau = np.full(shape, 2.0**-7) if not per_neuron else rng.choice([2.0**-7, 2.0**-5], shape)
    return nir.LIF(
        tau=tau, r=tau * 2, v_leak=draw([0.0, 0.25]), v_threshold=threshold, v_reset=v_reset, metadata=metadata
    )


def graph(seed, leaky=False, highest_bound=-0.25):
    """Convolution, pooling, a residual branch, flattening and a linear readout or a firing last population.

    ``leaky``: whether the three populations are; None: the second one is. Resets go to -0.25 at the lowest; a lower
    bound above that is for the exact engine only.
    """
    rng = np.random.default_rng(seed)
    height, width = rng.integers(4, 7, 2)
    groups = int(rng.choice([1, 2]))
    stride, padding, dilation = int(rng.integers(1, 3)), int(rng.integers(0, 3)), int(rng.integers(1, 3))
    leak = [False, True, False] if leaky is None else [leaky] * 3
    size = lambda n: (n + 2 * padding - dilation - 1) // stride + 1  # noqa: E731
    first = (4, size(height), size(width))
    pool = nir.SumPool2d if rng.random() < 0.5 else nir.AvgPool2d
    kernel = np.array([1, 2])
    pooled = (4, first[1], (first[2] + 2 - 2) // 2 + 1)
    flat = int(np.prod(pooled))
    nodes = {
        "input": nir.Input(input_type=np.array([2, height, width])),
        "conv": nir.Conv2d(
            input_shape=(int(height), int(width)), weight=weights(rng, 4, 2 // groups, 2, 2), stride=stride,
            padding=padding, dilation=dilation, groups=groups, bias=np.zeros(4),
        ),
        "0": neuron(rng, first, leak[0], highest_bound),
        "pool": pool(kernel_size=kernel, stride=kernel, padding=np.array([0, 1])),
        "scale": nir.Scale(scale=rng.choice([0.5, 1.0, -1.0, 2.0], pooled)),
        "flatten": nir.Flatten(input_type=np.array(pooled), start_dim=0),
        "dense": nir.Linear(weight=weights(rng, 6, flat)),
        "1": neuron(rng, (6,), leak[1], highest_bound),
        "skip": nir.Linear(weight=weights(rng, 5, flat)),
        "direct": nir.Linear(weight=weights(rng, 5, 6)),
        "2": neuron(rng, (5,), leak[2], highest_bound),
        "readout": nir.Linear(weight=weights(rng, 3, 5)),
        "output": nir.Output(output_type=np.array([3])),
    }  # fmt: skip
    edges = [
        ("input", "conv"), ("conv", "0"), ("0", "pool"), ("pool", "scale"), ("scale", "flatten"), ("flatten", "dense"),
        ("dense", "1"), ("1", "direct"), ("direct", "2"), ("flatten", "skip"), ("skip", "2"),
    ]  # fmt: skip
    if rng.random() < 0.3:
        nodes.pop("readout")
        nodes["output"] = nir.Output(output_type=np.array([5]))
        edges.append(("2", "output"))
    else:
        edges += [("2", "readout"), ("readout", "output")]
    return nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)


def recording(seed, shape, events=120, instants=60):
    """Events on few instants, so that many coincide, some of them on one pixel."""
    rng = np.random.default_rng(seed)
    array = np.zeros(events, dtype=[("t", np.int64), ("x", np.int16), ("y", np.int16), ("p", np.int8)])
    array["t"] = np.sort(rng.choice(rng.integers(0, 50_000, instants), events))
    for axis, size in zip(("p", "y", "x"), shape, strict=True):
        array[axis] = rng.integers(0, size, events)
    return array
