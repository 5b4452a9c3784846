"""From time steps to an event-driven target: steps, plans, statistics by hand, and the command."""

import dataclasses
import json

import nir
import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure

import mtt_brian as mb
from mtt_brian import cli, plotting, translate
from mtt_brian.cli import gap as command
from mtt_brian.errors import InputError
from mtt_brian.evaluate import factorial, gap_tables
from mtt_brian.evaluate.metrics import Estimate
from mtt_brian.evaluate.sign_test import sign_test
from mtt_brian.evaluate.temporal_flexibility import TIME_STEPS
from mtt_brian.experiments import backend, gap
from mtt_brian.experiments.gap import GapTask, GivenRecordings, Rule, Target
from mtt_brian.experiments.result_store import ResultStore
from mtt_brian.translate.conventions import Conventions
from tests.browser import Window

RNG = np.random.default_rng(5)
#: Multiples of 1/64, so that sums are exact.
FIRST, SECOND = RNG.integers(-40, 48, (12, 6)) / 64, RNG.integers(-40, 48, (3, 12)) / 64


def network(threshold=1.0, tau=None):
    """Six inputs, twelve neurons, three outputs that add up; no metadata, as of another tool."""

    def neurons(n):
        ones = np.ones(n)
        if tau is None:
            return nir.IF(r=ones, v_threshold=threshold * ones)
        return nir.LIF(tau=tau * ones, r=tau * ones, v_leak=0 * ones, v_threshold=threshold * ones)

    return nir.NIRGraph(
        nodes={
            "input": nir.Input({"input": np.array([6])}),
            "w1": nir.Linear(FIRST),
            "a": neurons(12),
            "w2": nir.Linear(SECOND),
            "output": nir.Output({"output": np.array([3])}),
        },
        edges=[("input", "w1"), ("w1", "a"), ("a", "w2"), ("w2", "output")],
    )


def recording(seed, events=300, end=50_000):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, end, events))
    t[-1] = end
    return mb.events.make_recording(t, x=rng.integers(0, 6, events))


def task(rules, graph=None, **conventions):
    conventions = Conventions(**{"reset": "subtract"} | conventions)
    return GapTask(graph or network(), "digest", conventions, tuple(rules.items()))


class TestSteps:
    def test_by_hand(self):
        stepped = gap.on_steps(mb.events.make_recording([0, 999, 1000, 2500], x=[0, 1, 2, 3]), Rule(step_us=1000))
        assert stepped["t"].tolist() == [0, 0, 1000, 2000]
        assert stepped["x"].tolist() == [0, 1, 2, 3]

    def test_bins_are_those_of_frames(self):
        given = recording(1)
        columns = {"x": given["x"], "y": 0 * given["x"], "p": 0 * given["x"]}
        frames = mb.events.to_frames(mb.events.make_recording(given["t"], **columns), 7, (1, 1, 6))
        stepped = gap.on_steps(given, Rule(bins=7))
        times = np.unique(stepped["t"])
        assert len(times) == 7
        for t, frame in zip(times, frames, strict=True):
            assert np.bincount(stepped["x"][stepped["t"] == t], minlength=6).tolist() == frame.ravel().tolist()
        assert np.all(stepped["t"] <= given["t"])

    def test_without_steps_nothing_changes(self):
        given = recording(1)
        assert gap.on_steps(given, Rule(order="fifo")) is given

    @pytest.mark.parametrize("bound", [None, -0.5])
    def test_for_if_it_is_the_time_stepped_network(self, bound):
        """Against a loop over steps that shares nothing with the engine."""
        given, step = recording(2), 2000
        frames = np.zeros((26, 6))
        np.add.at(frames, (given["t"] // step, given["x"]), 1)
        v, counts, output = np.zeros(12), np.zeros(12), np.zeros(3)
        for frame in frames:
            v += FIRST @ frame
            if bound is not None:
                v = np.maximum(v, bound)
            spikes = np.maximum(np.floor(v), 0)
            v -= spikes
            counts += spikes
            output += SECOND @ spikes
        rule = Rule(step_us=step, lower_bound="none" if bound is None else bound)
        circuit = task({"base": rule}).circuit(rule)
        result = mb.simulate(circuit, gap.on_steps(given, rule), duration=0.05)
        assert result.counts["a"].tolist() == counts.tolist()
        assert counts.sum() > 50
        assert result.readout.tolist() == output.tolist()

    def test_for_a_network_of_this_package_it_equals_torch(self, three_runs):
        pytest.importorskip("torch")
        from mtt_brian.experiments import inference

        graph = nir.read(three_runs / "runs" / "mtt-0" / "model.nir", type_check=False)
        data = mb.events.load("nmnist", root=three_runs / "data", split="test")
        stepped = inference.predict(graph, data, "time-stepped", 3)
        rule = Rule(bins=3)
        circuit = task({"base": rule}, graph, reset=None).circuit(rule)
        for k, given in enumerate(data):
            result = mb.simulate(circuit, gap.on_steps(given, rule), duration=int(given["t"][-1]) / 1e6)
            for name, counts in result.counts.items():
                assert np.array_equal(counts, stepped.counts[name][k]), name
            np.testing.assert_allclose(result.readout, stepped.readouts[k], atol=1e-4)

    @pytest.mark.parametrize(
        ("rule", "message"),
        [
            (Rule(step_us=60_000), "digit 3: its last event comes at 50000 us, within the first step of 60000 us"),
            (Rule(bins=60_000), "digit 3: 50001 us are too short for 60000 steps"),
        ],
    )
    def test_too_short(self, rule, message):
        with pytest.raises(InputError, match=message):
            gap.on_steps(recording(1), rule, "digit 3")


class TestPlan:
    def test_single_events(self):
        circuit = translate.read_nir(network(), reset="subtract")
        target = gap.usual_target(circuit, None)
        assert target == Target(order="fifo", spikes="one", lower_bound="-1.0 thresholds", bits=8)
        plan = gap.plan(circuit, Rule(step_us=1000), target, [100, 1000])
        bound = "bound -1 thresholds"
        assert list(plan.changes) == ["instants", "fifo", "one spike", bound, "8 bit"]
        assert plan.path == ((), ("instants",), ("fifo",), ("fifo", bound), ("fifo", bound, "8 bit"))
        assert len(plan.combinations) == 20
        assert plan.swept == [(), (bound, "8 bit")]
        rules = dict(plan.named_rules)
        assert len(rules) == len(plan.named_rules) == 24
        assert rules["time-stepped"] == Rule(step_us=1000)
        assert rules[f"fifo + {bound}"] == Rule(order="fifo", lower_bound="-1.0 thresholds")
        assert rules["time-stepped, steps of 100 us"] == Rule(step_us=100)

    def test_sums_with_what_the_network_has(self):
        circuit = translate.read_nir(network(), reset="subtract", spikes="one", lower_bound=-0.5)
        target = gap.usual_target(circuit, "sum")
        assert target == Target(order="sum", spikes="many", lower_bound="none", bits=8)
        plan = gap.plan(circuit, Rule(bins=5), dataclasses.replace(target, bits=None), [])
        assert plan.path == ((), ("instants",), ("instants", "many spikes"), ("instants", "many spikes", "no bound"))
        assert plan.rule(("instants",)) == Rule()

    def test_no_single_events_where_neurons_cross_between_arrivals(self):
        graph = network(tau=0.01)
        graph.nodes["a"].v_leak = np.full(12, 1.5)
        circuit = translate.read_nir(graph, reset="zero")
        assert gap.usual_target(circuit, None) == Target(order="sum", lower_bound="-1.0 thresholds", bits=8)
        assert gap.crossing_between_steps(circuit) == gap.decaying(circuit) == ["a"]
        with pytest.raises(InputError, match="order='fifo' needs neurons that fire at arrivals only"):
            gap.usual_target(circuit, "fifo")

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ({"spikes": "one"}, "all populations fire one per update already"),
            ({"lower_bound": "none"}, "all populations have no bound already"),
        ],
    )
    def test_changes_that_are_there_already(self, target, message):
        circuit = translate.read_nir(network(), reset="subtract", spikes="one")
        with pytest.raises(InputError, match=message):
            gap.plan(circuit, Rule(bins=5), Target(order="sum", **target), [])

    def test_many_spikes_need_a_reset_by_subtraction(self):
        circuit = translate.read_nir(network(), reset="zero")
        with pytest.raises(InputError, match=r"population 'a' resets .* spikes='many' needs reset='subtract'"):
            gap.plan(circuit, Rule(bins=5), Target(order="sum", spikes="many"), [])


class TestRules:
    def test_what_they_do_to_the_network(self):
        circuit = task({}).circuit(Rule(spikes="one", lower_bound="-2 thresholds", bits=3))
        rule = circuit.population["a"].rule
        assert (rule.spikes, rule.lower_bound) == ("one", -2.0)
        weights = circuit.connections[0].matrix.toarray()
        assert len(np.unique(np.abs(weights))) <= 4
        assert np.abs(weights).max() == np.abs(FIRST).max()
        assert circuit.readout.rule.lower_bound is None

    def test_results_do_not_depend_on_shards(self, tmp_path):
        plan = gap.plan(
            translate.read_nir(network(), reset="subtract"),
            Rule(step_us=5000),
            Target(order="fifo", spikes="one", bits=2),
            [10_000],
        )
        asked = task(dict(plan.named_rules))
        given = GivenRecordings("some", list("abcde"), [recording(k) for k in range(5)])
        merged = []
        for size in (2, 5):
            store = ResultStore(tmp_path / f"{size}.jsonl", asked.settings())
            merged.append(
                gap.merge(gap.evaluate(backend.divide("n", asked, given, size), store, backend.evaluate_here), None)
            )
        assert merged[0] == merged[1]
        cells = merged[0]
        assert cells["time-stepped"]["right"] == "11111"
        assert set(cells["time-stepped"]["spike_difference"].values()) == {0}
        fifo = [mb.simulate(asked.circuit(Rule()), r, order="fifo") for r in given]
        assert cells["fifo"]["synops"] == [r.synops for r in fifo]
        assert cells["fifo"]["predictions"] == [int(np.argmax(r.readout)) for r in fifo]


class TestStatistics:
    def test_sign_test(self):
        before, after = np.array([1, 1, 1, 1, 1, 0, 1]), np.array([0, 0, 0, 0, 0, 0, 1])
        assert sign_test(before, after) == (5, 0, pytest.approx(2 / 2**5))
        assert sign_test(after, before) == (0, 5, pytest.approx(2 / 2**5))
        assert sign_test(before, before) == (0, 0, 1.0)
        # One against two: every outcome is at least as uneven.
        assert sign_test([1, 0, 0], [0, 1, 1]) == (1, 2, pytest.approx(1.0))
        with pytest.raises(InputError, match="the same recordings twice"):
            sign_test([1, 0], [1])

    def test_against_scipy(self):
        from scipy.stats import binomtest

        for lost, gained in ((0, 1), (3, 3), (3, 4), (36, 4), (2, 11)):
            before, after = np.repeat([1, 0], [lost, gained]), np.repeat([0, 1], [lost, gained])
            assert sign_test(before, after).p == pytest.approx(binomtest(lost, lost + gained).pvalue)
            interval = binomtest(lost, lost + gained).proportion_ci(0.95, "exact")
            assert factorial.share(lost, lost + gained)[1:] == pytest.approx(interval)

    def test_share(self):
        value, low, high = factorial.share(0, 20)
        assert (value, low) == (0, 0)
        assert high == pytest.approx(1 - 0.025 ** (1 / 20))
        assert factorial.share(20, 20).low == pytest.approx(0.025 ** (1 / 20))
        with pytest.raises(InputError, match="3 of 2"):
            factorial.share(3, 2)

    def test_steps_that_agree(self):
        exact = {"predictions": [0] * 1000, "right": "1" * 1000}

        def at(step, others):
            cell = {"predictions": [1] * others + [0] * (1000 - others), "right": "0" * others + "1" * (1000 - others)}
            return gap_tables.step_agreement(step, cell, exact, 0.01)

        steps = [at(1000, 4), at(10, 0), at(100, 2), at(10_000, 10), at(100_000, 30)]
        assert [step.agrees for step in steps] == [None, True, True, None, False]
        assert steps[2].agreement.value == steps[2].accuracy.value == 0.998
        assert gap_tables.coarsest_that_agrees(steps) == 100
        assert gap_tables.finest_that_does_not(steps) == 100_000
        assert gap_tables.coarsest_that_agrees([at(10, 20)]) is None
        said = gap_tables.sentence_on_steps("own rule", steps, 0.01)
        assert "100 us is the longest step that agrees" in said
        assert "100 ms is the shortest that differs" in said

    @pytest.fixture
    def cells(self):
        rules = {"time-stepped": "1" * 20, "instants": "0" + "1" * 19, "instants + x": "0" * 8 + "1" * 12}
        return {f"net: {rule}": {"right": right, "synops_per_recording": 10.0} for rule, right in rules.items()}

    def test_verdict(self, cells):
        path = [(), ("instants",), ("instants", "x")]
        said = gap_tables.verdict(cells, "net", path, "accuracy")
        assert said.startswith(
            "From time steps to 'instants + x' the accuracy on 20 recordings goes from 100.0 ± 0.0 to 60.0"
        )
        assert (
            "(8 lost, 0 gained, sign test p = 0.008); the largest single loss is -35.0 ± 10.7 points, by '+ x'." in said
        )
        said = gap_tables.verdict(cells, "net", path[:2], "accuracy")
        assert said.endswith("p = 1.000): no difference that so many recordings can show.")
        said = gap_tables.verdict(cells, "net", path, "agreement")
        assert "Of 20 recordings 40.0 % (95 % interval 19.1 to 63.9 %) get another prediction" in said

    def test_the_way_to_the_target(self, cells):
        table = gap_tables.path("way", {"": ["net"]}, cells, [(), ("instants",), ("instants", "x")], "accuracy")
        rows = [[cell.text for cell in row] for row in table.rows]
        assert rows == [
            ["time-stepped", "100.0", "-", "-", "-", "-", "10.00"],
            ["+ instants", "95.0", "-5.0", "1", "0", "1.000", "10.00"],
            ["+ x", "60.0", "-35.0", "7", "0", "0.016", "10.00"],
        ]


def test_waterfall():
    ax = Figure().subplots()
    values = [Estimate(0.9, 0.01), Estimate(0.7, 0.02), Estimate(0.75, 0.02)]
    plotting.waterfall(["start", "+ a", "+ b"], values, [Estimate(-0.2, 0.01), Estimate(0.05, 0.01)], ax=ax)
    bars = [(bar.get_y(), bar.get_height()) for bar in ax.patches]
    assert bars == [pytest.approx((0.7, 0.2)), pytest.approx((0.7, 0.05))]
    assert [text.get_text() for text in ax.texts] == ["-20.0\n± 1.0", "+5.0\n± 1.0", "90.0", "75.0"]
    labels = dict(zip(ax.get_xticks(), (label.get_text() for label in ax.get_xticklabels()), strict=True))
    points = [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_marker() == "o"]
    assert [(labels[x], y) for x, y in points] == [("start", 0.9), ("all changes", 0.75)]
    assert ax.get_ylabel() == "accuracy (axis from 60%)"
    assert ax.get_ylim() == pytest.approx((0.6, 1.064))
    assert max(ax.get_yticks()) == pytest.approx(1)  # there is no accuracy above
    with pytest.raises(InputError, match="do not fit"):
        plotting.waterfall(["start"], values, [])


# ----- the command


@pytest.fixture
def foreign(tmp_path):
    """A network without metadata, and four recordings."""
    nir.write(tmp_path / "net.nir", network())
    for k in range(4):
        given = recording(k)
        np.savetxt(
            tmp_path / f"{k}.csv", np.stack([given["t"], given["x"]], axis=1), "%d", ",", header="t,x", comments=""
        )
    return tmp_path


def arguments(folder, *more):
    files = [str(folder / f"{k}.csv") for k in range(4)]
    return [str(folder / "net.nir"), *files, "--reset", "subtract", "--step", "2e-3", *more]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_its_window_and_its_figures_are_legible(width, scheme, foreign, browser):
    out = foreign / "out"
    command.main(arguments(foreign, "--steps", "1e-3", "1e-2", "--out", str(out)))
    shown = Window(browser, viewport={"width": width, "height": 800}, color_scheme=scheme)
    shown.open(out / "gap.html")
    assert shown.tab.evaluate("document.documentElement.scrollWidth") == width
    sizes = shown.font_sizes()
    assert len(sizes) == 2
    assert min(sizes) >= 9
    assert shown.console == []


def test_files_without_labels(foreign, capsys):
    out = foreign / "out"
    command.main(arguments(foreign, "--steps", "1e-3", "1e-2", "--shard", "3", "--out", str(out)))
    report = json.loads((out / "gap.json").read_text())
    assert report["what"] == "agreement"
    assert report["flexibility"] is None  # no labels
    assert report["path"][-1] == "fifo + bound -1 thresholds + 8 bit"
    assert len(report["results"]) == 20 + 4
    assert report["results"]["time-stepped"]["right"] == "1111"
    assert [len(cell["predictions"]) for cell in report["results"].values()] == [4] * 24
    assert [step["step_us"] for step in report["steps"]["own rule"]] == [1000, 10_000]
    text = (out / "gap.md").read_text()
    said = capsys.readouterr().out
    assert said.splitlines()[0].endswith(f" -> {out}")  # what is kept after a stop is there
    for sentence in report["verdict"]:
        assert sentence in said
        assert sentence.split(" % (")[0].removesuffix(" get") in text.replace("&#39;", "'")
    assert "Assumed: spikes='many' is assumed" in text.replace("&#39;", "'")
    page = (out / "gap.html").read_text()
    assert page.count("<img ") == 2
    assert page.count("<table ") == 7
    for name in ("waterfall.png", "steps.png"):
        assert image.imread(out / name).std() > 0.05
    assert not (out / "gap.jsonl").exists()


def test_a_run_of_this_package(three_runs, tmp_path):
    run = three_runs / "runs" / "mtt-0"
    options = ["--out", str(tmp_path), "--steps", "--target-order", "sum", "--target-bits", "keep", "--limit", "5"]
    command.main([str(run), *options])
    report = json.loads((tmp_path / "gap.json").read_text())
    assert (report["name"], report["what"]) == ("mtt-0", "accuracy")
    assert report["rules"]["time-stepped"]["bins"] == 3
    assert report["path"][-1] == "instants + one spike + no bound"
    assert len(report["ids"]) == 5
    assert not (tmp_path / "steps.png").exists()
    assert any("fifo" in note for note in report["notes"])

    # The exact engine on T bins is the time-stepped network, so that the score is that of mtt-brian eval.
    pytest.importorskip("torch")
    from mtt_brian import mtt

    data = mb.events.load("nmnist", root=three_runs / "data", split="test")
    data = data.subset([data.ids.index(name) for name in report["ids"]])
    model = mtt.load_model(run)
    accuracies = []
    for t in TIME_STEPS:
        right = mtt.predict(model, data, t).argmax(1) == data.labels
        assert report["results"][f"T = {t}"]["right"] == factorial.as_bits(right)
        accuracies.append(np.mean(right))
    accuracies.append(np.mean([bit == "1" for bit in report["results"]["instants"]["right"]]))
    assert report["flexibility"]["value"] == pytest.approx(np.mean(accuracies) / np.max(accuracies))
    assert f"Temporal flexibility {report['flexibility']['value']:.2f} (" in (tmp_path / "gap.md").read_text()
    decided = report["results"]["instants"]["median_decision_seconds"]
    assert 0 < decided <= max(int(recording["t"][-1]) for recording in data) / 1e6


@pytest.mark.parametrize(("settled", "median"), [([None, 0.2, 0.4], 0.3), ([None] * 3, None)])
def test_recordings_without_a_decision_are_not_in_its_median(settled, median):
    part = {"base": {"predictions": [0, 1, 0], "settled": settled, "synops": [1, 1, 1], "difference": {}}}
    assert gap.merge([part], np.array([0, 1, 0]))["base"]["median_decision_seconds"] == pytest.approx(median)


def test_a_silent_network_has_no_decision(foreign):
    nir.write(foreign / "net.nir", network(threshold=1e6))
    command.main(arguments(foreign, "--target-bits", "keep", "--steps", "--out", str(foreign / "out")))
    results = json.loads((foreign / "out" / "gap.json").read_text())["results"]
    assert {cell["median_decision_seconds"] for cell in results.values()} == {None}


def test_it_continues_after_a_stop(foreign, monkeypatch):
    out = str(foreign / "out")
    asked = arguments(foreign, "--steps", "--shard", "2", "--out", out)
    computed = []
    evaluate = gap.GapEvaluator.evaluate

    def stop_at(most):
        def counting(self, recordings, progress):
            if len(computed) == most:
                raise KeyboardInterrupt
            computed.append(list(recordings.ids))
            return evaluate(self, recordings, progress)

        monkeypatch.setattr(gap.GapEvaluator, "evaluate", counting)

    stop_at(1)
    with pytest.raises(KeyboardInterrupt):
        command.main(asked)
    first = list(computed)
    stop_at(9)
    command.main(asked)
    assert first == [[str(foreign / "0.csv"), str(foreign / "1.csv")]]
    assert computed == [*first, [str(foreign / "2.csv"), str(foreign / "3.csv")]]
    whole = str(foreign / "whole")
    command.main([*asked[:-1], whole])
    results = [json.loads((foreign / name / "gap.json").read_text())["results"] for name in ("out", "whole")]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--step", "1.5e-6"], "--step must be a whole number of microseconds"),
        (["--step", "0.06"], r"0.csv: its last event comes at 50000 us, within the first step of 60000 us"),
        (["--steps", "0.5"], r"0.csv: its last event comes at 50000 us, within the first step of 500000 us"),
        (["--target-bound", "none"], "all populations have no bound already"),
        (["--target-bound", "low"], "lower_bound must be a potential"),
        (["--target-bound", "1.5 thresholds"], "must lie below the threshold"),
        (["--target-spikes", "many"], "all populations fire many per update already"),
        (["--target-bits", "1"], "the bits of a signed weight must be at least 2, not 1"),
        (["--within", "200"], "--within must be a percentage"),
        (["--shard", "0"], "--shard must be at least 1"),
        (["--limit", "3"], "pass recordings, or --dataset and --limit, not both"),
        (["--tool", "snntorch"], "node 'a' is a IF, which snnTorch does not write"),
    ],
)
def test_bad_input(foreign, more, message):
    out = foreign / "out"
    with pytest.raises(InputError, match=message):
        command.main(arguments(foreign, *more, "--out", str(out)))
    assert not out.exists()


def test_bad_input_of_other_kinds(foreign):
    net = str(foreign / "net.nir")
    for kind, magic, shape in (("images-idx3", 2051, (1, 28, 28)), ("labels-idx1", 2049, (1,))):
        header = np.array([magic, *shape], dtype=">u4").tobytes()
        (foreign / f"t10k-{kind}-ubyte").write_bytes(header + bytes(int(np.prod(shape))))
    with pytest.raises(InputError, match="which recordings"):
        command.main([net, "--reset", "subtract"])
    with pytest.raises(InputError, match="how long is a time step"):
        command.main([net, str(foreign / "0.csv"), "--reset", "subtract"])
    with pytest.raises(InputError, match=r"net.nir: made for recordings of shape \(6,\); "):
        command.main([net, "--reset", "subtract", "--step", "1e-3", "--dataset", "digits"])
    with pytest.raises(InputError, match="still images"):
        command.main([net, "--reset", "subtract", "--step", "1e-3", "--dataset", "mnist", "--data-root", str(foreign)])


@pytest.mark.slow
def test_without_torch(foreign):
    """The command and its report, in a process that has no torch."""
    import subprocess
    import sys

    asked = ["gap", *arguments(foreign, "--steps", "--out", str(foreign / "o"))]
    call = f"import sys; sys.modules['torch'] = None; from mtt_brian import cli; sys.exit(cli.entry_point({asked!r}))"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (foreign / "o" / "gap.html").is_file()


@pytest.mark.slow
def test_dask_gives_the_same(foreign):
    pytest.importorskip("distributed")
    for name, more in (("here", []), ("there", ["--dask"])):
        command.main(arguments(foreign, "--steps", "--shard", "1", *more, "--out", str(foreign / name)))
    results = [json.loads((foreign / name / "gap.json").read_text())["results"] for name in ("here", "there")]
    assert results[0] == results[1]


def test_the_command_is_known():
    assert {"gap", "conformance"} <= set(cli.COMMANDS)
