"""Where no time step holds more than one instant, the time-stepped network and the event-driven run are the same."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import mtt_brian as mb  # noqa: E402
from mtt_brian import snn  # noqa: E402
from mtt_brian.neuron import IF  # noqa: E402
from tests import random_networks  # noqa: E402
from tests.engines import simulator  # noqa: E402

STEP_US = 1000
STEPS = 60


def network(seed, **rule):
    """The zoo's network on a small sensor; weights are multiples of 1/64, so float32 sums are exact in any order."""
    torch.manual_seed(seed)
    model = mb.models.nmnist_3c1fc(sensor_size=(2, 12, 14), num_classes=4, neuron=IF(**rule))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.round(parameter * 64 * 2 * rule.get("threshold", 1.0)) / 64)
    return model


def recording(seed):
    """Events on the last microsecond of a step, many of them together."""
    events = random_networks.recording(seed, (2, 12, 14), events=400)
    steps = np.random.default_rng(seed).integers(0, STEPS, len(events))
    events["t"] = np.sort(steps) * STEP_US + STEP_US - 1
    return events


@pytest.mark.parametrize("engine", ["exact", "brian2"])
@pytest.mark.parametrize(
    "rule",
    [
        {"spikes": "many", "lower_bound": -1.0},
        {"spikes": "many"},
        {"spikes": "many", "threshold": 2.0, "lower_bound": -0.5},
        {"reset": "zero", "lower_bound": -1.0},
        {"reset": "zero", "v_reset": -0.25},
    ],
    ids=str,
)
def test_one_instant_per_step(engine, rule):
    model = network(0, **rule)
    graph = mb.export.to_nir(model)
    played = [recording(seed) for seed in range(3)]
    results = list(simulator(graph, engine).run(played))
    frames = torch.from_numpy(mb.events.frames_batch(played, STEPS, (2, 12, 14), STEPS * STEP_US))
    logits, counts = snn.spike_counts(model, frames, STEPS)
    total = 0
    for k, result in enumerate(results):
        for name, expected in counts.items():
            assert result.counts[name].tolist() == expected[k].to(torch.int64).tolist(), name
            # The readout is a sum of weights, a multiple of 1/64; the time mean divides it by the steps.
            assert result.readout.tolist() == ((logits[k].double() * STEPS * 64).round() / 64).tolist()
        total += result.counts["spikes3"].sum()
    assert total > 30, "nothing reached the last population"
