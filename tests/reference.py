"""A plain, slow simulator to compare the engines with. It shares no code with the package.

It reads the NIR graph itself, writes every path between two populations out as a dense matrix by pushing unit vectors
through loops over the node's definition, and walks from instant to instant. No drift, no delays.
"""

import math
from collections import deque

import numpy as np


def conv2d(x, weight, stride, padding, dilation, groups):
    """Cross-correlation written from its definition. x [N, C, H, W], weight [O, C / groups, kh, kw]."""
    (c_out, c_group, kh, kw), (n, _, height, width) = weight.shape, x.shape
    out_h = (height + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    out_w = (width + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    out = np.zeros((n, c_out, out_h, out_w))
    for o, oy, ox in np.ndindex(out.shape[1:]):
        group = o // (c_out // groups)
        for c, i, j in np.ndindex(c_group, kh, kw):
            y, z = oy * stride[0] - padding[0] + i * dilation[0], ox * stride[1] - padding[1] + j * dilation[1]
            if 0 <= y < height and 0 <= z < width:
                out[:, o, oy, ox] += weight[o, c, i, j] * x[:, group * c_group + c, y, z]
    return out


def apply(node, x):
    """What a linear NIR node does to a stack of arrays [N, *shape]."""
    pair = lambda value: tuple(int(v) for v in np.broadcast_to(value, 2))  # noqa: E731
    match type(node).__name__:
        case "Conv2d":
            return conv2d(x, node.weight, pair(node.stride), pair(node.padding), pair(node.dilation), int(node.groups))
        case "Linear" | "Affine":
            return x @ node.weight.T
        case "Scale":
            return x * node.scale
        case "Flatten":
            return x.reshape(*x.shape[: 1 + node.start_dim], -1)
        case "SumPool2d" | "AvgPool2d" as kind:
            kernel = np.ones((x.shape[1], 1, *pair(node.kernel_size)))
            if kind == "AvgPool2d":
                kernel /= kernel[0].size
            return conv2d(x, kernel, pair(node.stride), pair(node.padding), (1, 1), x.shape[1])
        case "Output":
            return x


def merged(spikes):
    """Sorted by (t, i); what one neuron fires at one instant is one entry (in a queue it may fire several times)."""
    total = {}
    for t, i, n in spikes:
        total[t, int(i)] = total.get((t, int(i)), 0) + n
    return [(*key, n) for key, n in sorted(total.items())]


class Population:
    def __init__(self, name, node, shape):
        self.name, self.kind, self.shape = name, type(node).__name__, shape
        size = int(np.prod(shape))
        self.v, self.last = np.zeros(size), np.zeros(size)
        self.spikes = []  # (t, i, n)
        self.silent = self.kind not in ("IF", "LIF")
        field = lambda name: np.broadcast_to(getattr(node, name), shape).ravel()  # noqa: E731
        self.r = field("r") if hasattr(node, "r") else np.ones(size)
        self.tau = field("tau") if hasattr(node, "tau") else None
        self.leak = field("v_leak") if hasattr(node, "v_leak") else np.zeros(size)
        if not self.silent:
            self.theta, self.v_reset = field("v_threshold"), field("v_reset")
            self.reset = node.metadata["reset"]
            self.many = node.metadata.get("spikes", "one") == "many"
        self.bound = node.metadata.get("lower_bound", -math.inf) if node.metadata else -math.inf

    def arrive(self, i, drive, t, many=None):
        """The sum of weights that arrives at neuron i; returns how many spikes that makes."""
        many = self.many if many is None and not self.silent else many
        if self.tau is None:
            jump = self.r[i] * drive
        else:
            jump = self.r[i] * drive / self.tau[i]
            self.v[i] = self.leak[i] + (self.v[i] - self.leak[i]) * math.exp(-(t - self.last[i]) / self.tau[i])
            self.last[i] = t
        self.v[i] = max(self.v[i] + jump, self.bound)
        if self.silent or self.v[i] < self.theta[i]:
            return 0
        if self.reset == "zero":
            n, self.v[i] = 1, self.v_reset[i]
        else:
            n = math.floor(self.v[i] / self.theta[i]) if many else 1
            self.v[i] -= n * self.theta[i]
        self.spikes.append((t, i, n))
        return n

    def settle(self, t):
        if self.tau is not None:
            self.v = self.leak + (self.v - self.leak) * np.exp(-(t - self.last) / self.tau)


class Reference:
    """``Reference(graph).run(recording)``; afterwards ``spikes[name]`` is a list of (t, i, n), ``readout`` an array."""

    NEURONS = ("IF", "LIF", "I", "LI")

    def __init__(self, graph):
        self.graph = graph
        self.sources = {name: [a for a, b in graph.edges if b == name] for name in graph.nodes}
        self.shapes = {"input": tuple(int(n) for n in graph.nodes["input"].input_type["input"])}
        self.populations = {}
        self.paths = []  # (source, target, dense matrix, dense 0/1 matrix of its synapses)
        for name in self.order():
            node = graph.nodes[name]
            if type(node).__name__ in self.NEURONS:
                self.shapes[name] = self.shapes[self.sources[name][0]]
                self.populations[name] = Population(name, node, self.shapes[name])
            elif name != "input":
                self.shapes[name] = apply(node, np.zeros((1, *self.shapes[self.sources[name][0]]))).shape[1:]
        if type(graph.nodes[self.sources["output"][0]]).__name__ not in self.NEURONS:
            self.populations["output"] = Population("output", graph.nodes["output"], self.shapes["output"])
        for name in self.populations:
            for source in self.sources[name]:
                self.trace(source, name, [])

    def order(self):
        """Node names, sources first."""
        done = ["input"]
        while len(done) < len(self.graph.nodes):
            ready = [n for n in self.graph.nodes if n not in done and all(s in done for s in self.sources[n])]
            assert ready, "the graph has a cycle"
            done += ready
        return done

    def trace(self, name, target, chain):
        if name == "input" or name in self.populations:
            shape = self.shapes[name]
            size = int(np.prod(shape))
            x = np.eye(size).reshape(size, *shape)
            for node in chain:
                x = apply(node, x)
            matrix = x.reshape(size, -1).T
            self.paths.append((name, target, matrix, (matrix != 0).astype(int)))
            return
        for source in self.sources[name]:
            self.trace(source, target, [self.graph.nodes[name], *chain])

    def run(self, recording, duration=None, order="sum"):
        shape = self.shapes["input"]
        pixel = np.zeros(len(recording), dtype=int)
        for axis, size in zip(("p", "y", "x")[3 - len(shape) :], shape, strict=True):
            pixel = pixel * size + recording[axis]
        events = [(int(t), int(i)) for t, i in zip(recording["t"], pixel, strict=True)]
        end = duration if duration is not None else (events[-1][0] / 1e6 if events else 0.0)
        events = [(t, i) for t, i in events if t / 1e6 <= end]
        self.synops = 0
        if order == "sum":
            for instant in sorted({t for t, _ in events}):
                self.instant(
                    instant / 1e6, np.bincount([i for t, i in events if t == instant], minlength=np.prod(shape))
                )
        else:
            for t, i in events:
                self.single(t / 1e6, i)
        for population in self.populations.values():
            population.settle(end)
        last = "output" if "output" in self.populations else self.sources["output"][0]
        readout = self.populations[last]
        self.readout = (
            readout.v
            if readout.silent
            else np.bincount([i for _, i, _ in readout.spikes], [n for *_, n in readout.spikes], len(readout.v))
        )
        self.spikes = {name: merged(p.spikes) for name, p in self.populations.items() if not p.silent}
        return self

    def instant(self, t, inputs):
        fired = {"input": inputs}
        for name, population in self.populations.items():
            drive, touched = np.zeros(len(population.v)), np.zeros(len(population.v), dtype=bool)
            for source, target, matrix, synapses in self.paths:
                if target == name:
                    drive += matrix @ fired[source]
                    touched |= synapses @ fired[source] > 0
                    self.synops += int((synapses @ fired[source]).sum())
            fired[name] = np.array([population.arrive(i, drive[i], t) if touched[i] else 0 for i in range(len(drive))])

    def single(self, t, i):
        """One input event and all that follows from it, first in, first out; one spike per neuron and event."""
        queue = deque([("input", i)])
        while queue:
            source, k = queue.popleft()
            for name, population in self.populations.items():
                for a, b, matrix, synapses in self.paths:
                    if (a, b) == (source, name):
                        for j in np.nonzero(synapses[:, k])[0]:
                            self.synops += 1
                            if population.arrive(j, matrix[j, k], t, many=False):
                                queue.append((name, j))
