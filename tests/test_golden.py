"""Networks that other tools exported, with the tools' own spike trains on the same events.

The files lie in ``../shared/data/golden`` (its README says how they were made). A tool steps on a time grid, so that
where neurons leak or have a synaptic current its spikes differ by a few from continuous time; how many is written here.
"""

from pathlib import Path

import numpy as np
import pytest

import mtt_brian as mb

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "golden"
ZERO, SOFT = {"reset": "zero"}, {"reset": "subtract"}

#: Name -> options one by one; options besides the preset that the file cannot contain; and for each layer: by how
#: many spikes the neurons' counts differ in all, and how many of the tool's spikes come in the very step (None: where a
#: grid moves spikes, they are compared by their number only).
NETWORKS = {
    "norse_iaf": (ZERO, {"file_time_per_step": 1e-4}, [(0, 134), (0, 107)]),
    "norse_lif_bias": (
        ZERO | {"spike_integral": 0.008, "bias": "per-step", "file_time_per_step": 2.5e-5},
        {"file_time_per_step": 2.5e-5},
        [(0, None), (1, None)],
    ),
    "norse_lifbox_bias": (ZERO | {"spike_integral": 1e-4}, {"file_time_per_step": 1e-4}, [(0, 161), (0, 111)]),
    "norse_lifbox_batched": (ZERO | {"spike_integral": 1e-4}, {"file_time_per_step": 1e-4}, [(0, 146), (0, 111)]),
    # Exported with the default dt=0.001, which multiplies all times.
    "norse_lifbox_default": (
        ZERO | {"spike_integral": 1e-7, "time_per_step": 1e-4},
        {"time_per_step": 1e-4, "file_time_per_step": 1e-7},
        [(0, 146), (0, 111)],
    ),
    "rockpool_lif_bias": (
        SOFT | {"spike_integral": 0.008, "bias": "per-step", "file_time_per_step": 2.5e-5},
        {},
        [(0, None), (0, None)],
    ),
    "rockpool_lifneuron": (SOFT | {"spike_integral": 2.5e-5}, {}, [(3, None), (14, None)]),
    # These networks were made without a lower bound; sinabs reads files with one.
    "sinabs_iaf": (SOFT, {"lower_bound": "none"}, [(0, 197), (0, 255)]),
    "sinabs_iaf_bias": (SOFT, {"lower_bound": "none"}, [(0, None), (0, None)]),
    "sinabs_lif": (SOFT, {}, [(0, 202), (0, None)]),
    # norm_input=False: a spike moves the membrane by its weight; tau is 200 steps.
    "sinabs_lif_nonorm": (SOFT | {"spike_integral": 200.0}, {"spike_integral": 200.0}, [(0, 202), (0, 257)]),
    "sj_cuba": (ZERO | {"spike_integral": 2.5e-5}, {}, [(0, None), (0, None)]),
    "sj_cuba_bias": (ZERO | {"spike_integral": 2.5e-5}, {}, [(0, None), (1, None)]),
    "sj_if": (ZERO | {"spike_integral": 1e-4}, {}, [(0, 134), (0, 107)]),
    "sj_lif_bias": (ZERO | {"spike_integral": 1e-4}, {}, [(0, 161), (0, 111)]),
    "sj_lif_decay_bias": (ZERO | {"spike_integral": 1e-4}, {}, [(0, 161), (0, 111)]),
    "snn_conv": (SOFT | {"spike_integral": "infer"}, {}, [(0, 103), (0, 14)]),
    "snn_leaky": (ZERO | {"spike_integral": "infer"}, ZERO, [(0, 146), (0, 111)]),
    "snn_leaky_bias": (ZERO | {"spike_integral": 1e-4}, ZERO, [(0, 162), (0, 108)]),
    "snn_leaky_subtract_default": (SOFT | {"spike_integral": 1e-4}, {}, [(0, None), (2, None)]),
    "snn_rleaky": (ZERO | {"spike_integral": 1e-4, "loop_delay": 1e-4}, ZERO, [(0, 203), (0, 43)]),
    "snn_synaptic": (ZERO | {"spike_integral": 1e-4}, ZERO, [(0, None), (0, None)]),
}
TOOLS = {"snn": "snntorch", "sj": "spikingjelly"}


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the networks of other tools are not here: ../shared/data/golden")
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "said", ["by options", "by tool", pytest.param("by tool, recorded at 1 ms per step", marks=pytest.mark.slow)]
)
def test_the_spikes_of_the_tool_that_wrote_the_file(name, said):
    options, beside, expected = NETWORKS[name]
    with np.load(FOLDER / f"{name}.npz") as told:
        told = dict(told)
    step_us = int(told["step_us"])
    if said != "by options":
        prefix = name.split("_")[0]
        options = {"tool": TOOLS.get(prefix, prefix)} | beside
    if "1 ms" in said:
        options = {"file_time_per_step": step_us / 1e6} | options | {"time_per_step": 1e-3}
        told["t_us"], step_us = told["t_us"].astype(np.int64) // step_us * 1000, 1000
    circuit = mb.translate.read_nir(FOLDER / f"{name}.nir", **options)
    step = step_us / 1e6
    axes = np.unravel_index(told["x"], circuit.input_shape)
    columns = dict(zip(("p", "y", "x")[-len(axes) :], axes, strict=True))
    events = mb.events.make_recording(told["t_us"], **columns)
    result = mb.simulate(circuit, events, duration=int(told["steps"]) * step)
    for layer, (off, same_step) in zip(told["layers"].tolist(), expected, strict=True):
        (population,) = (key for key in result.spikes if key == layer or key.startswith(f"{layer}."))
        spikes, size = result.spikes[population], circuit.population[population].size
        theirs = np.bincount(told[f"i_{layer}"], told[f"n_{layer}"], minlength=size)
        assert np.abs(result.counts[population].ravel() - theirs).sum() == off, layer
        if same_step is not None:
            ours = set(
                zip(np.rint(spikes.t / step).astype(int).tolist(), spikes.i.tolist(), spikes.n.tolist(), strict=True)
            )
            tools = set(zip(*(told[f"{field}_{layer}"].tolist() for field in ("step", "i", "n")), strict=True))
            assert sum(n for _, _, n in ours & tools) == same_step == theirs.sum()
