"""Repair for a target with a lower bound: scales, training in the loop, the report and the command, by hand."""

import dataclasses
import importlib
import json
import shutil
import subprocess
import sys
import warnings

import nir
import numpy as np
import pytest
import torch

import mtt_brian as mb
from mtt_brian import export
from mtt_brian.cli import repair as command
from mtt_brian.errors import CacheWarning, Diverged, InputError
from mtt_brian.events import Recordings, perturb
from mtt_brian.experiments import (
    engine_in_the_loop,
    inference,
    loop_search,
    perturb_networks,
    repair,
    repair_report,
    run_folder,
)
from mtt_brian.experiments.engine_in_the_loop import EngineInTheLoop, counted
from mtt_brian.experiments.gap import Rule, Target
from mtt_brian.experiments.loop_search import LoopSearch
from mtt_brian.experiments.repair import AT_TARGET, OTHER_ORDER, STEPPED, UNBOUNDED, Repair, Score
from mtt_brian.experiments.repair_report import RepairReport, Scales
from mtt_brian.mtt import in_the_loop
from mtt_brian.mtt.in_the_loop import LoopConfig, Measured, Outcome
from mtt_brian.neuron import IF
from mtt_brian.snn import Spiking, Staged
from mtt_brian.translate.conventions import Conventions
from mtt_brian.translate.stated import stated
from tests.test_gap_attribution import STUDIES

CONVENTIONS = Conventions(reset="subtract")


def network(inhibition=-3.0, excitation=1.0):
    """Two inputs, one neuron, and the sum of its spikes as class 1; without metadata, as of another tool."""
    return nir.NIRGraph(
        nodes={
            "input": nir.Input({"input": np.array([1, 1, 2])}),
            "flat": nir.Flatten({"input": np.array([1, 1, 2])}, start_dim=0, end_dim=-1),
            "w": nir.Linear(np.array([[inhibition, excitation]])),
            "a": nir.IF(r=np.ones(1), v_threshold=np.ones(1)),
            "out": nir.Linear(np.array([[0.0], [1.0]])),
            "output": nir.Output({"output": np.array([2])}),
        },
        edges=[("input", "flat"), ("flat", "w"), ("w", "a"), ("a", "out"), ("out", "output")],
        type_check=False,
    )


def two_neurons():
    """The same neuron, and one that counts the events of the first input for class 0."""
    graph = network()
    graph.nodes["w"] = nir.Linear(np.array([[-3.0, 1.0], [1.0, 0.0]]))
    graph.nodes["a"] = nir.IF(r=np.ones(2), v_threshold=np.ones(2))
    graph.nodes["out"] = nir.Linear(np.array([[0.0, 1.0], [1.0, 0.0]]))
    return graph


#: Inhibition in front of three excitations cancels them without a bound; eight excitations are class 1.
BALANCED, EXCITED = [0, 1, 1, 1], [1] * 8


def recordings(copies=2):
    def read(name):
        x = np.array(BALANCED if name[0] == "0" else EXCITED)
        return mb.events.make_recording(100 * np.arange(1, len(x) + 1), x, 0 * x, 0 * x)

    labels = np.arange(2 * copies) % 2
    return Recordings(
        name="two",
        title="two",
        split="train",
        classes=["balanced", "excited"],
        sensor_size=(1, 1, 2),
        duration_us=1000,
        ids=[f"{label}-{k}" for k, label in enumerate(labels)],
        labels=labels,
        read=read,
    )


def task(graph=None, target=None):
    target = target or Target(order="fifo", lower_bound="-1.0 thresholds")
    return Repair(graph or network(), "digest", CONVENTIONS, Rule(bins=2), target)


class TestScales:
    def test_weights_and_biases_are_scaled(self):
        graph = nir.NIRGraph(
            {"c": nir.Affine(np.array([[2.0, -4.0]]), np.array([6.0]), metadata={"bias_per_step": np.array([1.0])})},
            [],
            type_check=False,
        )
        scaled = perturb_networks.scaled_weights(graph, {"c": 0.25}).nodes["c"]
        assert scaled.weight.tolist() == [[0.5, -1.0]]
        assert scaled.bias.tolist() == [1.5]
        assert scaled.metadata["bias_per_step"].tolist() == [0.25]
        assert graph.nodes["c"].weight.tolist() == [[2.0, -4.0]]

    def test_integers_become_fractions(self):
        """As integers, 3 times 0.85 would be 2, and 127 times 1.25 would be -98."""
        graph = network()
        graph.nodes["w"].weight = np.array([[3, 127]], dtype=np.int8)
        scaled = perturb_networks.scaled_weights(graph, {"w": 1.25}).nodes["w"].weight
        assert (scaled.dtype, scaled.tolist()) == (np.float32, [[3.75, 158.75]])
        (noise,) = perturb_networks.noisy_weights(graph, 0.1, np.random.default_rng(0)).nodes["w"].weight - [3, 127]
        assert np.all(noise % 1 != 0)
        assert np.all(np.abs(noise) < 30)
        case = task(graph)
        model = engine_in_the_loop.trainable(case, graph, recordings())
        with torch.no_grad():
            dict(model.layers())["w"].weight += 0.5
        assert export.with_weights(graph, model).nodes["w"].weight.tolist() == [[3.5, 127.5]]

    def test_many_bits_of_half_precision(self):
        """In float16 itself 2^19 - 1 steps are infinite."""
        graph = network()
        graph.nodes["w"].weight = np.array([[0.25, -0.5]], dtype=np.float16)
        weight = perturb_networks.quantised_weights(graph, 20).nodes["w"].weight
        assert weight.tolist() == [pytest.approx([0.25, -0.5], abs=0.5 / 2**19)]
        assert weight.dtype == np.float32  # float16 does not hold these steps

    def test_weights_of_populations(self):
        assert perturb_networks.weights_of_populations(network()) == {"a": ["w"]}

    def test_a_network_without_operations_is_refused(self):
        graph = network(0.0, 0.0)
        graph.nodes["out"].weight[:] = 0
        with pytest.raises(InputError, match="4 training recordings cause no synaptic operation"):
            repair.operations_without_bound(task(graph), recordings())

    def test_weights_of_two_populations_are_refused(self):
        graph = network()
        graph.nodes["b"] = nir.IF(r=np.ones(1), v_threshold=np.ones(1))
        graph.edges.append(("w", "b"))
        with pytest.raises(InputError, match="the weights of node 'w' lead to two populations, 'a' and 'b'"):
            perturb_networks.weights_of_populations(graph)

    def test_graphs_that_cannot_be_scaled_are_refused(self):
        nested = nir.NIRGraph({"inner": network()}, [], type_check=False)
        with pytest.raises(InputError, match="node 'inner' is a nested graph"):
            perturb_networks.weights_of_populations(nested)
        shortcut = network()
        shortcut.nodes["b"] = nir.IF(r=np.ones(1), v_threshold=np.ones(1))
        shortcut.edges += [("a", "b")]
        with pytest.raises(InputError, match="spikes of 'a' reach 'b' without weights, which cannot be scaled"):
            perturb_networks.weights_of_populations(shortcut)
        with pytest.raises(InputError, match="no population fires, so that there is nothing to scale"):
            perturb_networks.weights_of_populations(nir.NIRGraph({"w": network().nodes["w"]}, [], type_check=False))

    def test_bound_in_the_metadata(self):
        graph = network()
        graph.nodes["a"].v_threshold = np.array([2.0])
        bounded = perturb_networks.with_bound(graph, "-1.5 thresholds")
        assert bounded.nodes["a"].metadata == {"lower_bound": -3.0}
        assert perturb_networks.with_bound(bounded, -0.25).nodes["a"].metadata == {"lower_bound": -0.25}
        assert perturb_networks.with_bound(bounded, "none").nodes["a"].metadata == {}
        assert graph.nodes["a"].metadata == {}

    def test_the_choice_by_hand(self):
        """Times f, the balanced recording ends at max(-3 f, -1) + 3 f: it fires if f >= 2/3, by error.

        The excited one fires floor(8 f) times: 4, 4, 3, 2 and 2 for f = 0.6 .. 0.3. Every event is one operation, and
        so is every spike, since one of the two weights behind the neuron is 0. Then 0.8 and 1.25 times 0.35: 2 and 3
        spikes, neither better.
        """
        factors, tried = repair.choose_scales(task(), recordings())
        assert factors == {"a": 0.35}
        expected = [(1.0, 2, 7), (0.85, 2, 6.5), (0.7, 2, 6), (0.6, 4, 4), (0.5, 4, 4), (0.42, 4, 3.5), (0.35, 4, 3)]
        by_factor = {t["factors"]["a"]: (t["correct"], t["synops"] - 6) for t in tried}
        spikes = {1.0: (2, 8), 0.85: (1, 6), 0.7: (1, 5), 0.6: (0, 4), 0.5: (0, 4), 0.42: (0, 3), 0.35: (0, 2)}
        for factor, correct, _ in expected:
            assert by_factor[factor] == (correct, np.mean(spikes[factor]))
        assert len(tried) == len(repair.FACTORS) + 2

    def test_the_largest_factor_within_a_budget(self):
        """Six events on average, and half of 10, 7 and 6 spikes for 1, 0.85 and 0.7: 11, 9.5 and 9 operations."""
        factors, tried = repair.scale_to_budget(task(), recordings(), 9)
        assert factors == {"a": 0.7}
        assert [(t["factors"]["a"], t["synops"]) for t in tried] == [(1.0, 11), (0.85, 9.5), (0.7, 9)]
        factors, tried = repair.scale_to_budget(task(), recordings(), 1)
        assert factors == {"a": repair.FACTORS[-1]}
        assert len(tried) == len(repair.FACTORS)

    def test_the_scaled_network(self):
        scaled = repair.scaled(network(), {"a": 0.5})
        assert scaled.nodes["w"].weight.tolist() == [[-1.5, 0.5]]
        assert scaled.nodes["out"].weight.tolist() == [[0], [1]]


class TestForeignNetworks:
    def test_the_metadata_state_what_the_caller_says(self):
        graph = stated(network(), Conventions(reset="subtract", lower_bound=-0.5))
        assert graph.nodes["a"].metadata == {"reset": "subtract", "spikes": "many", "lower_bound": -0.5}
        model = export.from_nir(stated(network(), CONVENTIONS))
        assert vars(model.populations()["a"].rule) == vars(IF(threshold=1.0, reset="subtract", spikes="many"))
        frames = torch.tensor([[[[[0.0, 2.0]]]], [[[[1.0, 4.0]]]]])
        assert model.readouts(frames, 2).tolist() == [[[0, 2]], [[0, 1]]]

    def test_a_spike_that_moves_the_membrane_by_another_amount_is_refused(self):
        with pytest.raises(InputError, match=r"node 'a': a spike of weight 1 moves the membrane by 0\.001"):
            stated(network(), Conventions(reset="subtract", spike_integral=1e-3))

    def test_weights_go_back_into_the_graph(self):
        graph = network()
        model = export.from_nir(stated(graph, CONVENTIONS))
        with torch.no_grad():
            dict(model.layers())["w"].weight += 1
        again = export.with_weights(graph, model)
        assert again.nodes["w"].weight.tolist() == [[-2.0, 2.0]]
        assert again.nodes["w"].weight.dtype == graph.nodes["w"].weight.dtype
        assert graph.nodes["w"].weight.tolist() == [[-3.0, 1.0]]


def one_neuron(weight=0.75, out=2.0):
    layers = {
        "w": torch.nn.Linear(1, 1, bias=False),
        "a": Spiking(IF(spikes="many")),
        "out": torch.nn.Linear(1, 1, bias=False),
    }
    model = Staged(layers, (1,))
    with torch.no_grad():
        layers["w"].weight.fill_(weight)
        layers["out"].weight.fill_(out)
    return model, layers


class TestInTheLoop:
    def test_spikes_of_the_target_with_the_surrogate_gradient(self):
        """Membranes 0.75 and 1.5 (one spike); the target fired 0 and 3 times."""
        model, layers = one_neuron()
        frames = torch.ones(2, 1, 1)
        measured = Measured({"a": torch.tensor([[[0.0]], [[3.0]]])}, torch.tensor([7.0]))
        readouts, through = in_the_loop.with_measured(model, frames, measured)
        assert readouts.flatten().tolist() == [0, 6]
        synops = in_the_loop.operations(measured, through, {"a": torch.tensor([5.0])})
        assert synops.item() == 7
        (readouts.sum() + 0 * synops).backward(retain_graph=True)
        assert layers["out"].weight.grad.item() == 3
        # dn1/dw = s1; v2 = 2 w - n1, so that dn2/dw = (2 - s1) s2; s = exp(-2 distance): 0.25 to 1, 0.5 to 2.
        s1, s2 = np.exp(-0.5), np.exp(-1)
        assert layers["w"].weight.grad.item() == pytest.approx(2 * (s1 + (2 - s1) * s2))
        layers["w"].weight.grad = None
        synops.backward()
        assert layers["w"].weight.grad.item() == pytest.approx(5 * (s1 + (2 - s1) * s2))

    def test_hooks_are_removed(self):
        model, _ = one_neuron()
        frames = torch.ones(2, 1, 1)
        before = model(frames, 2)
        in_the_loop.with_measured(model, frames, Measured({"a": torch.full((2, 1, 1), 9.0)}, torch.zeros(1)))
        assert torch.equal(model(frames, 2), before)

    def test_counts_in_the_bins_of_frames(self):
        """Copies of the input through weights 1 fire at every event: counts are frames."""
        rng = np.random.default_rng(0)
        t = np.sort(rng.integers(0, 1000, 200))
        given = [mb.events.make_recording(t, rng.integers(0, 2, 200), 0 * t, 0 * t), recordings()[0]]
        graph = network()
        graph.nodes["w"] = nir.Linear(np.eye(2))
        graph.nodes["a"] = nir.IF(r=np.ones(2), v_threshold=np.ones(2))
        graph.nodes["out"] = nir.Linear(np.eye(2))
        results = list(mb.Simulator(graph, reset="subtract", order="fifo").run(given))
        for steps in (1, 3, 7):
            frames = mb.events.frames_batch(given, steps, (1, 1, 2))
            assert np.array_equal(counted("a", (2,), results, given, steps), frames.reshape(steps, 2, 2))

    def test_the_readout_is_that_of_the_engine(self):
        """Under the bound the balanced recording fires twice, on two time steps once: max(-3 + 1, -1) + 2."""
        case, given = task(), recordings(1)
        model = engine_in_the_loop.trainable(case, case.graph, given)
        measured = EngineInTheLoop(case, case.graph, 2).run(model, list(given))
        frames = in_the_loop.frames_of(model, list(given), 2, given.sensor_size)
        readouts, _ = in_the_loop.with_measured(model, frames, measured)
        engine = list(mb.Simulator(network(), reset="subtract", lower_bound=-1.0, order="fifo").run(given))
        assert readouts.sum(0).tolist() == [list(r.readout) for r in engine] == [[0, 2], [0, 8]]
        assert measured.synops.tolist() == [r.synops for r in engine]
        assert model.readouts(frames, 2).sum(0)[0].tolist() == [0, 1]

    def test_it_learns_what_time_steps_do_not_show(self):
        """Right on time steps from the start; on the target only after it was in the loop."""
        case, given = task(two_neurons()), recordings(4)
        before = repair.measure(case, case.graph, given, given.labels)
        assert before[STEPPED]["right"] == before[UNBOUNDED]["right"] == "1" * 8
        assert before[AT_TARGET]["right"] == "01" * 4
        config = LoopConfig(epochs=3, batch_size=4, lr=0.05, time_steps=2, shift=0)
        graph, history = engine_in_the_loop.tune(case, case.graph, given, config, None)
        assert repair.measure(case, graph, given, given.labels)[AT_TARGET]["right"] == "1" * 8
        assert [epoch["epoch"] for epoch in history] == [1, 2, 3]
        assert (history[0]["accuracy"], history[-1]["accuracy"]) == (0.625, 1.0)
        # -3 + 1 in the first step lies below the bound, so that inhibition has no gradient.
        (inhibition, excitation), _ = graph.nodes["w"].weight
        assert inhibition == -3
        assert excitation < 1
        again, _ = engine_in_the_loop.tune(case, case.graph, given, config, None)
        assert np.array_equal(again.nodes["w"].weight, graph.nodes["w"].weight)

    def test_operations_beyond_the_budget_are_avoided(self):
        case, given = task(network(inhibition=-0.5)), recordings(4)
        config = LoopConfig(epochs=6, batch_size=4, lr=0.1, time_steps=2, shift=0)
        free, limited = (engine_in_the_loop.tune(case, case.graph, given, config, budget)[1] for budget in (None, 8.0))
        assert free[0]["synops"] > 8
        assert limited[-1]["synops"] < free[-1]["synops"]

    def test_a_loss_that_is_not_finite_is_reported(self):
        model, _ = one_neuron()
        with pytest.raises(Diverged, match="epoch 1: the loss is nan"):
            in_the_loop.fine_tune(
                model,
                recordings(),
                LoopConfig(shift=0),
                lambda batch, labels, done: Outcome(torch.tensor(np.nan), torch.zeros(len(labels), 2)),
            )

    def test_a_network_that_a_step_has_made_impossible_is_a_matter_of_the_learning_rate(self):
        """The given network is not: its own message stays."""
        model, _ = one_neuron()

        def outcome(batch, labels, done):
            if done >= limit:
                raise InputError("population 'a': more spikes than can be counted")
            return Outcome(model.readouts(torch.zeros(1, len(labels), 1), 1).sum(), torch.zeros(len(labels), 2))

        config = LoopConfig(shift=0, batch_size=2, epochs=2)
        limit = 0
        with pytest.raises(InputError, match=r"^population 'a': more spikes"):
            in_the_loop.fine_tune(model, recordings(), config, outcome)
        limit = 0.5
        with pytest.raises(
            Diverged, match=r"^epoch 2: population 'a': more spikes than can be counted; lower lr = 0.03"
        ):
            in_the_loop.fine_tune(model, recordings(), config, outcome)

    @pytest.mark.parametrize("field", ["epochs", "batch_size", "time_steps", "lr", "shift", "synops_weight"])
    def test_bad_settings(self, field):
        with pytest.raises(InputError, match=f"{field} must be at least [01], not -1"):
            LoopConfig(**{field: -1})

    def test_half_an_epoch_is_refused(self):
        with pytest.raises(InputError, match=r"in the loop: epochs must be a whole number, not 1\.5"):
            LoopConfig(epochs=1.5)


class TestSearch:
    """Learning rate and epoch, on 20 held-back recordings of which the start has half right."""

    @staticmethod
    def search(rates, graph=None, epochs=3, copies=4, **options):
        case = task(graph or two_neurons())
        config = LoopConfig(epochs=epochs, batch_size=4, time_steps=2, shift=0)
        return LoopSearch(case, case.graph, recordings(copies), recordings(10), config, rates, **options)

    def test_the_rate_with_the_lowest_loss_of_the_first_epoch(self, tmp_path):
        """0.001 changes too little: its loss is above that of 0.05, and nothing smaller is tried."""
        lines = []
        graph, history = self.search((100.0, 0.05, 0.001, 0.0001)).run(tmp_path / "state.pt", lines.append)
        assert [(e["lr"], e["epoch"], e["held_back"], e["kept"]) for e in history] == [
            *[(100.0, 1, 10, False), (0.05, 1, 20, True), (0.001, 1, 20, False)],
            *[(0.05, 2, 20, False), (0.05, 3, 20, False)],
        ]
        assert history[1]["loss"] < min(history[0]["loss"], history[2]["loss"])
        assert lines[1] == (
            f"learning rate 0.05, epoch 1 of 3: loss {history[1]['loss']:.3f}; of 20 held-back recordings 20 right, 10 "
            "at the start; 21 SynOps"
        )
        # The weights are those of the first epoch at 0.05, as counted in a run of its own.
        case = task(two_neurons())
        at_target = repair.measure(case, graph, recordings(4), recordings(4).labels)[AT_TARGET]
        assert (at_target["right"], at_target["synops_per_recording"]) == ("1" * 8, history[1]["held_back_synops"])
        # The other epochs are those of a training with this rate alone.
        alone, others = self.search((0.05,)).run(tmp_path / "alone.pt", print)
        assert [e["loss"] for e in others] == [history[k]["loss"] for k in (1, 3, 4)]
        assert np.array_equal(alone.nodes["w"].weight, graph.nodes["w"].weight)

    def test_the_start_is_kept_where_all_epochs_are_worse(self, tmp_path):
        search = self.search((100.0,), epochs=2, copies=8)
        graph, history = search.run(tmp_path / "state.pt", print)
        assert graph is search.graph
        assert [(e["held_back"], e["kept"]) for e in history] == [(0, False), (0, False)]

    @pytest.mark.parametrize(("lost", "gained", "kept"), [(5, 0, True), (6, 0, False), (8, 2, True), (10, 2, False)])
    def test_worse_is_what_the_sign_test_shows(self, tmp_path, monkeypatch, lost, gained, kept):
        """5 of 5: p = 2 / 2^5 = 0.06; 6 of 6: 0.03; 8 of 10: 2 (1 + 10 + 45) / 2^10 = 0.11; 10 of 12: 0.04."""
        search = self.search((0.05,), epochs=1)
        scores = iter(
            [Score("1" * 10 + "0" * 10, 9), Score("0" * lost + "1" * (10 - lost + gained) + "0" * (10 - gained), 9)]
        )
        monkeypatch.setattr(repair, "score", lambda *arguments: next(scores))
        graph, (only,) = search.run(tmp_path / "state.pt", print)
        assert (only["held_back"], only["kept"]) == (10 - lost + gained, kept)
        assert (graph is search.graph) == (not kept)

    @pytest.mark.parametrize(("budget", "kept"), [(19, False), (20, True)])
    def test_a_network_within_the_budget_is_preferred(self, tmp_path, budget, kept):
        """The start needs 12 operations and has half right; the epoch needs 20 and has all right."""
        search = self.search((0.05,), epochs=2, budget=budget)
        graph, (first, _) = search.run(tmp_path / "state.pt", print)
        assert (first["held_back"], first["held_back_synops"], first["kept"]) == (20, 20, kept)
        assert (graph is search.graph) == (not kept)

    @pytest.mark.parametrize(
        ("losses", "higher"),
        [([1, 2, 3], False), ([1, 3, 3], False), ([1, 3, 4], True), ([2, 3, 4], True), ([0, 2, 3.5], False)],
    )
    def test_one_standard_error(self, losses, higher):
        """Above [1, 2, 3] by 0, 1, 0: 1/3 with the error 1/3; by 0, 1, 1: 2/3 with 1/3; by -1, 0, 0.5: less."""
        assert loop_search._is_higher([9, *losses], [9, 1, 2, 3]) == higher
        assert not loop_search._is_higher([9], [9])
        assert loop_search._is_higher([9, 1.5], [9, 1])

    def test_the_smallest_rate_within_the_error(self, tmp_path, monkeypatch):
        monkeypatch.setattr(loop_search, "_is_higher", lambda losses, lowest: False)
        _, history = self.search((0.05, 0.04, 0.03), epochs=1).run(tmp_path / "state.pt", print)
        assert [e["kept"] for e in history] == [False, False, True]

    @pytest.mark.parametrize("stopped_after", [1, 2, 3, 4, 5])
    def test_a_stopped_search_goes_on_to_the_same_network(self, tmp_path, stopped_after):
        rates = (100.0, 0.05, 0.001)
        whole, history = self.search(rates).run(tmp_path / "whole.pt", print)
        lines = []

        def stop(line):
            lines.append(line)
            if len(lines) == stopped_after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.search(rates).run(tmp_path / "state.pt", stop)
        more = []
        graph, again = self.search(rates).run(tmp_path / "state.pt", more.append)
        assert again == history
        assert np.array_equal(graph.nodes["w"].weight, whole.nodes["w"].weight)
        # Only the epoch of the stop is trained once more.
        assert len(more) == len(history) - stopped_after + 1
        assert self.search(rates).run(tmp_path / "state.pt", pytest.fail)[1] == history

    def test_a_damaged_state_begins_anew(self, tmp_path):
        (tmp_path / "state.pt").write_bytes(b"no state")
        with pytest.warns(CacheWarning, match=r"state\.pt: not the state of a training in the loop \(\w+\); it begins"):
            _, history = self.search((0.05,)).run(tmp_path / "state.pt", print)
        assert [e["held_back"] for e in history] == [20, 20, 20]

    @staticmethod
    def diverging(monkeypatch, epoch, rates):
        """Trainings with these rates diverge in this epoch."""
        usual = in_the_loop.FineTuning._epoch

        def diverge(training, number):
            if number == epoch and training._config.lr in rates:
                raise Diverged(f"the loss is nan; lower lr = {training._config.lr:g}")
            return usual(training, number)

        monkeypatch.setattr(in_the_loop.FineTuning, "_epoch", diverge)

    def test_a_rate_that_diverges_in_its_first_epoch_is_left(self, tmp_path, monkeypatch):
        self.diverging(monkeypatch, 1, (0.1, 0.05))
        lines = []
        _, history = self.search((0.1, 0.05, 0.03), epochs=1).run(tmp_path / "state.pt", lines.append)
        assert lines[:2] == ["the loss is nan; lower lr = 0.1", "the loss is nan; lower lr = 0.05"]
        assert [e["lr"] for e in history] == [0.03]
        with pytest.raises(Diverged, match=r"lower lr = 0\.05"):
            self.search((0.1, 0.05)).run(tmp_path / "other.pt", print)

    def test_a_training_that_diverges_later(self, tmp_path, monkeypatch):
        """The best epoch before is kept, if there is one."""
        self.diverging(monkeypatch, 2, (100.0, 0.05))
        lines = []
        _, history = self.search((0.05,)).run(tmp_path / "state.pt", lines.append)
        assert [(e["epoch"], e["kept"]) for e in history] == [(1, True)]
        assert lines[-1] == "the loss is nan; lower lr = 0.05; the best epoch before is kept"
        with pytest.raises(Diverged, match="lower lr = 100"):
            self.search((100.0,), copies=8).run(tmp_path / "other.pt", print)


def test_shifted_events():
    given = mb.events.make_recording([0, 1, 2, 3], [0, 1, 2, 2], [0, 1, 1, 0], [0, 0, 0, 0])
    moved = perturb.shifted(given, down=1, right=-1, sensor_size=(1, 2, 3))
    assert moved.tolist() == [(3, 1, 1, 0)]
    assert given["x"].tolist() == [0, 1, 2, 2]
    assert perturb.shifted(given, 0, 0, (1, 2, 3)).tolist() == given.tolist()


# ----- the report


def cell(right, synops=100.0):
    return {"right": right, "synops_per_recording": synops}


def report(after="1111111110", synops=90.0, budget=1.0):
    rules = task().rules
    before = {AT_TARGET: cell("1100000000", 300.0), OTHER_ORDER: cell("1" * 10), UNBOUNDED: cell("1111111110")}
    return RepairReport(
        "net",
        "two, test",
        rules,
        before | {STEPPED: cell("1111100000")},
        {name: cell(after, synops) for name in rules},
        budget,
        Scales({"a": 0.5}, [], cell("1111100000", 80.0)),
        [epoch(1, 8, kept=True), epoch(2, 7)],
    )


def epoch(number, held_back, kept=False):
    """A record of `LoopSearch.run`."""
    trained = {"epoch": number, "loss": 0.5, "accuracy": 0.75, "synops": 95.0, "lr": 0.03}
    return {**trained, "held_back": held_back, "held_back_synops": 90.0, "kept": kept}


class TestReport:
    def test_rules(self):
        words = [repair_report.in_words(rule) for rule in task().rules.values()]
        assert words == ["fifo, bound -1 thresholds", "sum, bound -1 thresholds", "fifo, no bound", "2 time steps"]
        assert OTHER_ORDER not in task(target=Target(order="sum", lower_bound=-0.5)).rules

    def test_verdict(self):
        found = report()
        assert found.is_repaired is True
        assert found.verdict == (
            "Repaired: on 10 recordings the accuracy under 'fifo, bound -1 thresholds' goes from 20.0 ± 12.6 to 90.0 ± "
            "9.5 % (0 lost, 7 gained, sign test p = 0.016). Before, it was 90.0 ± 9.5 % under 'fifo, no bound': +0.0 ± "
            "0.0 points from there (0 lost, 0 gained, p = 1.000). SynOps: 0.90 times those without a bound before "
            "(allowed: 1)."
        )
        assert found.steps == [
            "Weights in front of each population times a: 0.5; this alone gives 50.0 ± 15.8 % at 80 SynOps.",
            "Epoch 1 in the loop, learning rate 0.03: loss 0.500, training accuracy 75.0 %, 95 SynOps; at its end 8 "
            "held-back recordings right, 90 SynOps (kept).",
            "Epoch 2 in the loop, learning rate 0.03: loss 0.500, training accuracy 75.0 %, 95 SynOps; at its end 7 "
            "held-back recordings right, 90 SynOps.",
        ]

    def test_no_epoch_is_kept(self):
        found = dataclasses.replace(report(), history=[epoch(1, 7)])
        assert found.steps[-1].startswith("No epoch is kept: each is worse than the start")

    def test_too_many_operations_are_no_repair(self):
        assert report(synops=101.0).is_repaired is False
        assert report(synops=101.0, budget=None).is_repaired is True

    def test_a_loss_from_the_best_before_is_no_repair(self):
        """Seven gained on the target, and six lost from the accuracy without a bound: p = 2 / 64."""
        losing = report(after="1110000000")
        assert losing.test == (6, 0, 2 / 64)
        assert losing.is_repaired is False
        assert losing.verdict.startswith("Not repaired: ")

    def test_too_little_is_shown(self):
        """Five of ten: three gained on the target and four lost from the best, p = 1/4 and 1/8."""
        found = report(after="1111100000")
        assert (found.change.p, found.test.p) == (0.25, 0.125)
        assert found.is_repaired is None
        assert found.verdict.startswith("No difference is shown: ")


# ----- the command


def test_a_run_is_repaired(three_runs, tmp_path, capsys):
    run = three_runs / "runs" / "sdt-0"
    options = ["--epochs", "1", "--batch-size", "4", "--lr", "0.01", "--out", str(tmp_path)]
    command.main([str(run), *options])
    written = json.loads((tmp_path / "repair.json").read_text())
    assert written["verdict"] in capsys.readouterr().out
    assert written["verdict"].split(" (")[0] in (tmp_path / "repair.md").read_text().replace("&#39;", "'")
    repaired = run_folder.load(tmp_path)
    assert repaired.config["lower_bound"] == -1
    assert (repaired.config["epochs"], repaired.config["init"]) == (3, str(run))
    # The numbers are those of the file that was written.
    data = mb.events.load("nmnist", root=three_runs / "data", split="test")
    for model, cells in ((run / "model.nir", written["before"]), (repaired.model, written["after"])):
        for mode, rule in (("fifo", AT_TARGET), ("sum", OTHER_ORDER)):
            found = inference.predict(model, data, mode, 3)
            assert cells[rule]["right"] == "".join("01"[int(c)] for c in found.correct(data.labels))
            assert cells[rule]["synops_per_recording"] == pytest.approx(found.synops.mean())
        stepped = inference.predict(model, data, "time-stepped", 3)
        assert cells[STEPPED]["predictions"] == stepped.classes.tolist()
    assert written["scales"]["factors"].keys() == {"spikes1", "spikes2", "spikes3"}


def test_scales_of_a_foreign_network(three_runs, tmp_path):
    """Without a run there is no config.json; the bound is in the metadata, and so is what they said before."""
    graph = nir.read(three_runs / "runs" / "sdt-0" / "model.nir", type_check=False)
    for node in graph.nodes.values():
        node.metadata = {}
    nir.write(tmp_path / "foreign.nir", graph)
    said = ["--tool", "sinabs", "--lower-bound", "none", "--time-per-step", "0.1"]
    data = ["--dataset", "nmnist", "--data-root", str(three_runs / "data")]
    command.main([str(tmp_path / "foreign.nir"), *said, *data, "--epochs", "0", "--out", str(tmp_path / "out")])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["model.nir", "repair.json", "repair.md"]
    after = nir.read(tmp_path / "out" / "model.nir", type_check=False)
    factors = json.loads((tmp_path / "out" / "repair.json").read_text())["scales"]["factors"]
    for population, layer in (("spikes1", "conv1"), ("spikes2", "conv2"), ("spikes3", "conv3")):
        assert after.nodes[population].metadata == {"lower_bound": -1.0}
        np.testing.assert_allclose(
            after.nodes[layer].weight, graph.nodes[layer].weight * np.float32(factors[population]), rtol=1e-6
        )
    assert np.array_equal(after.nodes["readout"].weight, graph.nodes["readout"].weight)


@pytest.mark.slow
def test_scales_without_torch(three_runs, tmp_path):
    """In a process that has no torch."""
    asked = ["repair", str(three_runs / "runs" / "sdt-0"), "--epochs", "0", "--out", str(tmp_path / "o")]
    call = f"import sys; sys.modules['torch'] = None; from mtt_brian import cli; sys.exit(cli.entry_point({asked!r}))"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o" / "model.nir").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--target-bound", "none"], "--target-bound none: without a lower bound there is nothing to repair"),
        (["--target-bound", "low"], "lower_bound must be a potential"),
        (["--target-bits", "1"], "the bits of a signed weight must be at least 2, not 1"),
        (["--epochs", "-1"], "--epochs must be at least 0, not -1"),
        (["--no-scales", "--epochs", "0"], "--no-scales with --epochs 0 leaves nothing to do"),
        (["--synops", "0"], r"--synops must be a number from 1e-06 to 1e\+06, or none, not 0.0"),
        (["--synops", "1e-300"], "--synops must be a number from 1e-06"),
        (["--synops", "nan"], "--synops must be a number from 1e-06"),
        (["--threads", "1025"], "--threads must be at most 1024, not 1025"),
        (["--train-limit", "0"], "--train-limit must be at least 1"),
        (["--lr", "-1"], "lr must be at least 0, not -1.0"),
        (["--lr", "nan"], "in the loop: lr must be finite, not nan"),
        (["--lr", "1e300"], r"in the loop: lr must be at most 1000000.0, not 1e\+300"),
        (["--epochs", "10000000000"], "in the loop: epochs must be at most 1000000, not 10000000000"),
        (["--gradient-steps", "100000000"], "--gradient-steps must be at most 100000, not 100000000"),
        (["--step", "1.5e-6"], "--step must be a whole number of microseconds"),
    ],
)
def test_bad_input(three_runs, tmp_path, more, message):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=message):
        command.main([str(three_runs / "runs" / "sdt-0"), *more, "--out", str(out)])
    assert not out.exists()


def test_a_network_without_a_data_set(tmp_path):
    nir.write(tmp_path / "net.nir", network())
    with pytest.raises(InputError, match=r"which recordings. --dataset names a data set with labels"):
        command.main([str(tmp_path / "net.nir"), "--reset", "subtract", "--step", "1e-3"])


def test_a_stop_while_the_files_are_written_leaves_no_other_network(three_runs, tmp_path, monkeypatch, capsys):
    """That of an earlier repair would be taken for the network of the new report."""
    asked = [str(three_runs / "runs" / "sdt-0"), "--limit", "1", "--train-limit", "2", "--epochs", "0"]
    command.main([*asked, "--out", str(tmp_path)])

    def stop(path, text):
        raise KeyboardInterrupt

    monkeypatch.setattr(repair_report, "write_text", stop)
    capsys.readouterr()
    with pytest.raises(KeyboardInterrupt):
        command.main([*asked, "--out", str(tmp_path)])
    assert not (tmp_path / "model.nir").exists()
    # What was measured is on the screen all the same.
    assert "on 1 recording the accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_stopped_repair_goes_on(three_runs, tmp_path, monkeypatch, capsys, step):
    """The files are those of a repair that was not stopped; other settings are refused."""
    asked = [str(three_runs / "runs" / "sdt-0"), "--limit", "4", "--train-limit", "10", "--epochs", "2"]
    command.main([*asked, "--out", str(tmp_path / "whole")])
    calls, usual = [], repair.score if step == 4 else repair.measure

    def stop(*arguments):
        calls.append(1)
        # 4: while the second epoch is scored, after start, scales and the first epoch.
        if len(calls) == (stops_at if step == 4 else step):
            raise KeyboardInterrupt
        return usual(*arguments)

    scored = len(json.loads((tmp_path / "whole" / "repair.json").read_text())["scales"]["tried"])
    stops_at = scored + 3
    with monkeypatch.context() as patched:
        patched.setattr(repair, "score" if step == 4 else "measure", stop)
        with pytest.raises(KeyboardInterrupt):
            command.main([*asked, "--out", str(tmp_path / "out")])
    if step > 1:
        with pytest.raises(InputError, match=r"repair\.jsonl holds results of other settings: --seed was 0, is 1\."):
            command.main([*asked, "--seed", "1", "--out", str(tmp_path / "out")])
    command.main([*asked, "--out", str(tmp_path / "out")])
    whole, again = (
        {p.name: p.read_text() for p in (tmp_path / n).iterdir() if p.suffix != ".nir"} for n in ("whole", "out")
    )
    assert sorted(again) == ["config.json", "repair.json", "repair.md"]
    for name, text in again.items():
        assert text.replace(str(tmp_path / "out"), str(tmp_path / "whole")) == whole[name]
    first, second = (nir.read(tmp_path / n / "model.nir", type_check=False) for n in ("whole", "out"))
    for layer in ("conv1", "conv2", "conv3", "readout"):
        assert np.array_equal(first.nodes[layer].weight, second.nodes[layer].weight)


def test_a_state_without_its_steps_is_not_used(three_runs, tmp_path):
    """It is of another repair, or of one whose steps were damaged."""
    asked = [str(three_runs / "runs" / "sdt-0"), "--limit", "1", "--train-limit", "5", "--epochs", "1"]
    (tmp_path / "in_the_loop.pt").write_bytes(b"of another repair")
    with warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        command.main([*asked, "--out", str(tmp_path)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.nir", "repair.json", "repair.md"]


def test_one_recording_cannot_be_trained_on_and_held_back(three_runs, tmp_path):
    with pytest.raises(InputError, match="one recording to train on and one to choose by are needed; there is one"):
        command.main([str(three_runs / "runs" / "sdt-0"), "--train-limit", "1", "--out", str(tmp_path / "out")])


def test_files_of_no_repair_are_kept(three_runs, tmp_path):
    """The network to repair, another run, a config.json without a network; what a repair wrote is replaced."""

    def repair_into(out, network=three_runs / "runs" / "sdt-0"):
        command.main([str(network), "--limit", "1", "--train-limit", "2", "--epochs", "0", "--out", str(out)])

    run, alone, out = tmp_path / "run", tmp_path / "alone", tmp_path / "out"
    shutil.copytree(three_runs / "runs" / "sdt-0", run)
    alone.mkdir()
    (alone / "config.json").write_text("mine")
    for folder, name in ((run, "model.nir"), (alone, "config.json")):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(InputError, match=rf"{name} is of no repair, and would be replaced; name another folder"):
            repair_into(folder)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(InputError, match=r"model\.nir is the network to repair, and would be replaced"):
        repair_into(run, network=run)
    repair_into(out)
    repair_into(out)
    with pytest.raises(InputError, match=r"model\.nir is the network to repair, and would be replaced"):
        repair_into(out, network=out / "model.nir")


def test_a_network_that_cannot_be_trained_is_refused_before_anything_is_written(tmp_path):
    graph = network()
    graph.nodes["flat"] = nir.Scale(np.ones((1, 1, 2)))
    graph.nodes["w"] = nir.Linear(np.ones((4, 2)))
    nir.write(tmp_path / "net.nir", graph)
    asked = [str(tmp_path / "net.nir"), "--reset", "subtract", "--step", "1e-3", "--dataset", "digits"]
    with pytest.raises(InputError, match=r"net\.nir: "):
        command.main([*asked, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


# ----- the study


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(STUDIES)
    return importlib.import_module("bound_remedies")


def test_the_worst_order_by_hand(study):
    """Inhibition of 3 and excitation of 3 in one step: max(-3, -1) + 3 fires twice and cuts 2; without a bound 0."""
    model = export.from_nir(stated(network(), CONVENTIONS))
    frames = torch.tensor([[[[[1.0, 3.0]]]], [[[[0.0, 0.0]]]]])
    readouts, cut = study.in_worst_order(model, frames, -1.0)
    assert (readouts.flatten().tolist(), cut.item()) == ([0, 2, 0, 0], 2)
    readouts, cut = study.in_worst_order(model, frames, None)
    assert (readouts.flatten().tolist(), cut.item()) == ([0, 0, 0, 0], 2)
    cut.backward()
    assert dict(model.layers())["w"].weight.grad.tolist() == [[-1.0, 0.0]]


def test_the_study(study, three_runs, tmp_path):
    asked = [str(three_runs / "runs" / "sdt-0"), "--epochs", "1", "--train-limit", "4", "--limit", "4"]
    study.main([*asked, "--only", "none", "worst", "annealed", "--out", str(tmp_path)])
    written = json.loads((tmp_path / "report.json").read_text())["remedies"]
    assert set(written) == {
        f"sdt-0: {remedy} + {rule}"
        for remedy in ("none", "worst", "annealed")
        for rule in (AT_TARGET, OTHER_ORDER, UNBOUNDED)
    }
    table = (tmp_path / "report.md").read_text()
    assert table.count("\n| ") == 2 + 3
    assert "| worst " in table


@pytest.mark.slow
def test_all_remedies_of_the_study(study, three_runs, tmp_path):
    asked = [str(three_runs / "runs" / "sdt-0"), "--epochs", "1", "--train-limit", "4", "--limit", "4"]
    study.main([*asked, "--out", str(tmp_path)])
    written = json.loads((tmp_path / "report.json").read_text())["remedies"]
    assert len(written) == 3 * len(study.REMEDIES)
