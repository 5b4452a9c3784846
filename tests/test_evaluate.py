"""Metrics and reports, with numbers one can check on paper."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtt_brian import evaluate
from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Dense
from mtt_brian.circuit.spikes import Spikes
from mtt_brian.engines.result import Result
from mtt_brian.errors import InputError
from mtt_brian.evaluate import (
    Estimate,
    EventDriven,
    EventDrivenAccumulator,
    Flexibility,
    Report,
    RunReport,
    TimeStepped,
    TimeSteppedAccumulator,
    report_tables,
    write_report,
)
from mtt_brian.evaluate.sign_test import SignTest
from mtt_brian.evaluate.temporal_flexibility import TIME_STEPS
from mtt_brian.neuron import IF

# Two inputs, three hidden neurons, two classes. Input 0 reaches all three hidden neurons, input 1 the last one only.
HIDDEN = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
READOUT = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 1.0]])
CIRCUIT = Circuit(
    input="input",
    input_shape=(2,),
    populations=(
        Population("hidden", (3,), IF()),
        Population("readout", (2,), IF(threshold=None)),
    ),
    connections=(
        Connection("input", "hidden", (Dense(HIDDEN, (2,)),), ("w",), 2),
        Connection("hidden", "readout", (Dense(READOUT, (3,)),), ("v",), 3),
    ),
    output="readout",
)


def result(t, i, n=None, duration=1.0):
    """A run in which the hidden neurons ``i`` fired at ``t``, and each input five times."""
    t, i = np.asarray(t, dtype=float), np.asarray(i, dtype=np.int64)
    n = np.ones(len(t), dtype=np.int64) if n is None else np.asarray(n)
    hidden = np.bincount(i, weights=n, minlength=3).astype(np.int64)
    counts = {"input": np.array([5, 5]), "hidden": hidden}
    return Result(
        spikes={"hidden": Spikes(t, i, n)},
        counts=counts,
        readout=READOUT @ hidden,
        synops=CIRCUIT.synops(counts),
        duration=duration,
        engine="test",
        circuit=CIRCUIT,
    )


class TestAccuracy:
    def test_binomial_standard_error(self):
        # 3 of 4 right: sqrt(0.75 * 0.25 / 4)
        assert evaluate.accuracy([1, 2, 3, 0], [1, 2, 3, 3]) == Estimate(
            0.75, pytest.approx(math.sqrt(0.75 * 0.25 / 4))
        )

    def test_perfect_predictions_have_no_error_bar(self):
        assert evaluate.accuracy([1, 2], [1, 2]) == (1.0, 0.0)
        assert evaluate.accuracy(np.array([1.0, 2.0]), [1, 2]) == (1.0, 0.0)
        assert evaluate.accuracy([True, False], [True, True]).value == 0.5

    def test_refuses_what_cannot_be_compared(self):
        with pytest.raises(InputError, match="without a recording"):
            evaluate.accuracy([], [])
        with pytest.raises(InputError, match=r"\(2,\).*\(3,\)"):
            evaluate.accuracy([0, 1], [0, 1, 2])

    def test_ties_go_to_the_lowest_class(self):
        assert evaluate.predictions([[0, 2, 2], [0, 0, 0], [-3, -1, -2]]).tolist() == [1, 0, 1]

    def test_confusion_matrix_rows_are_the_truth(self):
        matrix = evaluate.confusion_matrix(predicted=[0, 1, 1, 2], labels=[0, 0, 1, 2], classes=3)
        assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


class TestSpikeDifference:
    def test_formula(self):
        # |4-3| + |0-1| + |6-6| over 10
        assert evaluate.spike_difference([4, 0, 6], [3, 1, 6]) == pytest.approx(0.2)

    def test_is_relative_to_the_reference(self):
        assert evaluate.spike_difference([1, 1], [2, 2]) == 1.0
        assert evaluate.spike_difference([2, 2], [1, 1]) == 0.5

    def test_silence(self):
        assert evaluate.spike_difference([0, 0], [0, 0]) == 0.0
        assert evaluate.spike_difference([0, 0], [0, 1]) == math.inf

    def test_readout_with_negative_values(self):
        # |-2 - -1| + |3 - 5| over |-2| + |3|
        assert evaluate.spike_difference([-2.0, 3.0], [-1.0, 5.0]) == pytest.approx(3 / 5)

    def test_shapes_must_agree(self):
        # Broadcasting would hold every recording against every other one.
        with pytest.raises(InputError, match=r"\(2, 1\).*\(2,\)"):
            evaluate.spike_difference(np.zeros(2), np.zeros((2, 1)))

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
    def test_adding_pairs_one_by_one_gives_the_total(self, pairs):
        s0, s = np.array(pairs).T
        total = evaluate.SpikeDifference()
        for part in pairs:
            total.add([part[0]], [part[1]])
        assert total.value == evaluate.spike_difference(s0, s)


class TestSynops:
    def test_every_spike_counts_its_synapses(self):
        # Fan-out: inputs reach 3 and 1 hidden neurons; hidden neurons reach 1, 1 and 2 classes.
        counts = {"input": np.array([[1, 0], [2, 5]]), "hidden": np.array([[0, 0, 0], [1, 1, 3]])}
        assert evaluate.synops(counts, CIRCUIT.fan_out).tolist() == [3, 2 * 3 + 5 + 1 + 1 + 3 * 2]

    def test_agrees_with_the_circuit(self):
        counts = {"input": np.array([3, 4]), "hidden": np.array([1, 0, 2])}
        assert evaluate.synops({n: c[None] for n, c in counts.items()}, CIRCUIT.fan_out)[0] == CIRCUIT.synops(counts)

    def test_a_population_without_counts_is_refused(self):
        with pytest.raises(InputError, match="'hidden'"):
            evaluate.synops({"input": np.zeros((1, 2))}, CIRCUIT.fan_out)


class TestOverTime:
    def test_accuracy_over_time(self):
        readouts = np.array([[[0, 0], [0, 1]], [[0, 0], [2, 1]]])  # [recordings, times, classes]
        assert evaluate.accuracy_over_time(readouts, [1, 0]).tolist() == [0.5, 1.0]

    def test_decision_time_is_the_last_change_to_the_correct_prediction(self):
        times, readouts = [0.0, 0.1, 0.2, 0.3], np.array([[0, 1], [1, 0], [0, 1], [0, 2]])
        assert evaluate.decision_time(times, readouts, 1) == 0.2
        assert evaluate.decision_time(times, readouts, 0) == math.inf

    def test_a_prediction_that_is_correct_from_the_start(self):
        assert evaluate.decision_time([0.0, 0.1], np.array([[1, 0], [2, 0]]), 0) == 0.0
        assert evaluate.decision_time([0.0], np.array([[0]]), 0) == 0.0  # there is one class

    @pytest.mark.parametrize("label", [0, 1])
    def test_equal_readouts_are_no_decision(self, label):
        """Whatever the number of the class: nothing is decided in front of the first event, or if none follows."""
        readouts = np.zeros((3, 2))
        assert evaluate.decision_time([0.0, 0.1, 0.2], readouts, label) == math.inf
        readouts[1:, label] = 1
        assert evaluate.decision_time([0.0, 0.1, 0.2], readouts, label) == 0.1
        readouts[2] = 1, 1
        assert evaluate.decision_time([0.0, 0.1, 0.2], readouts, label) == math.inf

    def test_readout_trace_has_one_row_per_instant(self):
        # Hidden 0 adds (2, 0), hidden 2 twice adds (-2, 2), hidden 1 in the same instant adds (0, 1).
        times, readouts = evaluate.readout_trace(result([0.1, 0.4, 0.4], [0, 1, 2], [1, 1, 2]))
        assert times.tolist() == [0, 0.1, 0.4]
        assert readouts.tolist() == [[0, 0], [2, 0], [0, 3]]

    def test_a_run_without_the_needed_spikes_is_refused(self):
        run = result([], [])
        bare = Result({}, run.counts, run.readout, run.synops, run.duration, "test", CIRCUIT)
        with pytest.raises(InputError, match="record='output'"):
            evaluate.readout_trace(bare)


class TestAccumulators:
    def test_event_driven(self):
        accumulator = EventDrivenAccumulator(np.array([0.05, 0.2, 0.5]), "sum")
        accumulator.compile_seconds = 7.0
        # First recording: class 0 until 0.4, then class 1, which is right. Time-stepped: one hidden spike fewer.
        accumulator.add(
            result([0.1, 0.4, 0.4], [0, 1, 2], [1, 1, 2]), 1, {"hidden": np.array([1, 1, 1])}, np.array([1, 2]), 0.002
        )
        # Second: silent, prediction class 0, which is wrong. Time-stepped: also silent.
        accumulator.add(result([], []), 1, {"hidden": np.zeros(3)}, np.zeros(2), 0.004)
        found = accumulator.compute()
        assert found.order == "sum"
        assert found.accuracy == Estimate(0.5, pytest.approx(math.sqrt(0.125)))
        assert found.spike_difference == {"hidden": pytest.approx(1 / 4), "output": pytest.approx((1 + 1) / 3)}
        assert found.spikes_per_recording == {"input": 10, "hidden": 2}
        # Inputs: 5 * 3 + 5 * 1 in both recordings. Hidden: 1 + 1 + 2 * 2 in the first.
        assert found.synops_per_recording == (20 + 6 + 20) / 2
        assert found.milliseconds_per_recording == pytest.approx(3.0)
        assert found.compile_seconds == 7.0
        assert found.accuracy_over_time.tolist() == [0, 0, 0.5]
        assert found.median_decision_time == 0.4  # the wrong one does not count
        assert found.confusion_matrix.tolist() == [[0, 0], [1, 1]]
        assert found.change is None
        assert accumulator.compute([False, True]).change == SignTest(lost=1, gained=1, p=1.0)
        with pytest.raises(InputError, match="same recordings twice"):
            accumulator.compute([True])

    def test_event_driven_needs_every_population(self):
        with pytest.raises(InputError, match="'hidden'"):
            EventDrivenAccumulator(np.zeros(1), "sum").add(result([], []), 0, {"other": np.zeros(3)}, np.zeros(2), 0.0)

    def test_time_stepped(self):
        accumulator = TimeSteppedAccumulator(time_steps=10)
        accumulator.add_correct(10, np.array([True, False]))
        accumulator.add_correct(1, np.array([True, True]))
        counts = {"input": np.array([[1, 0], [0, 1]]), "hidden": np.array([[0, 0, 2], [0, 0, 0]])}
        accumulator.add_spikes(counts, np.array([7.0, 1.0]), seconds=0.01)
        found = accumulator.compute()
        assert list(found.accuracy) == [1, 10]
        assert found.accuracy[1].value == 1.0
        assert found.accuracy[10].value == 0.5
        assert found.spikes_per_recording == {"input": 1, "hidden": 1}
        assert found.synops_per_recording == 4
        assert found.milliseconds_per_recording == pytest.approx(5.0)

    @pytest.mark.parametrize("accumulator", [TimeSteppedAccumulator(10), EventDrivenAccumulator(np.zeros(1), "sum")])
    def test_nothing_added(self, accumulator):
        with pytest.raises(InputError, match="without a recording"):
            accumulator.compute()


def report(*orders, spike_difference=0.25):
    runs = tuple(
        RunReport(
            run=name,
            method=name,
            seed=3,
            n_recordings=150,
            flexibility=Flexibility(0.871, 0.84, 0.9) if name == "sdt" else None,
            time_stepped=TimeStepped(
                time_steps=t_max,
                accuracy={1: Estimate(0.5, 0.04), t_max: Estimate(0.89, 0.026)},
                spikes_per_recording={"input": 4000.0},
                synops_per_recording=2e6,
                milliseconds_per_recording=3.0,
            ),
            event_driven=tuple(
                EventDriven(
                    order=order,
                    accuracy=Estimate(0.81, 0.032),
                    spike_difference={"hidden": spike_difference, "output": 0.5},
                    spikes_per_recording={"input": 4000.0},
                    synops_per_recording=1.5e6,
                    milliseconds_per_recording=0.6,
                    compile_seconds=1.0,
                    times=np.array([0.0, 0.3]),
                    accuracy_over_time=np.array([0.1, 0.81]),
                    median_decision_time=0.12,
                    confusion_matrix=np.eye(2, dtype=np.int64),
                    change=SignTest(13, 1, 0.002) if name == "sdt" else None,
                )
                for order in orders
            ),
        )
        for name, t_max in (("sdt", 10), ("mtt", 20))
    )
    return Report("digits", "test", "exact", {"numpy": "2"}, "python x.py", "digits (simulated)", runs)


class TestReport:
    def test_json_round_trip(self, tmp_path):
        write_report(report("sum", "fifo"), tmp_path / "new" / "folder")
        content = json.loads((tmp_path / "new" / "folder" / "report.json").read_text())
        assert [run["run"] for run in content["runs"]] == ["sdt", "mtt"]
        run = content["runs"][0]
        assert run["flexibility"] == {"value": 0.871, "low": 0.84, "high": 0.9}
        assert content["runs"][1]["flexibility"] is None
        assert run["time_stepped"]["10"] == {"value": 0.89, "standard_error": 0.026}
        assert run["event_driven"]["order"] == "sum"
        assert run["event_driven"]["change"] == {"lost": 13, "gained": 1, "p": 0.002}
        assert content["runs"][1]["event_driven"]["change"] is None
        assert run["event_driven"]["spike_difference"] == {"hidden": 0.25, "output": 0.5}
        assert run["event_driven_fifo"]["order"] == "fifo"
        assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == ["report.json", "report.md"]

    def test_one_convention_has_no_second_entry(self):
        run = report("fifo").to_dict()["runs"][0]
        assert run["event_driven"]["order"] == "fifo"
        assert not any(key.startswith("event_driven_") for key in run)

    def test_infinity_is_null(self, tmp_path):
        write_report(report("sum", spike_difference=math.inf), tmp_path)
        content = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
        assert content["runs"][0]["event_driven"]["spike_difference"]["hidden"] is None

    @pytest.mark.parametrize("spike_difference", [0.25, math.inf])
    @pytest.mark.parametrize("orders", [["sum"], ["fifo"], ["sum", "fifo"]])
    def test_json_is_read_back(self, orders, spike_difference):
        written = report(*orders, spike_difference=spike_difference)
        read = Report.from_json(written.json())
        assert read.json() == written.json()
        assert read.runs[0].time_stepped.accuracy == written.runs[0].time_stepped.accuracy
        first = read.runs[0].event_driven[0]
        assert (first.order, first.accuracy) == (orders[0], Estimate(0.81, 0.032))
        assert [run.event_driven[0].change for run in read.runs] == [SignTest(13, 1, 0.002), None]
        assert first.spike_difference == {"hidden": spike_difference, "output": 0.5}
        assert first.confusion_matrix.tolist() == [[1, 0], [0, 1]]
        assert report_tables.markdown_text(read) == report_tables.markdown_text(written)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda content: content.pop("runs"), "no 'runs'"),
            (lambda content: content["runs"][0]["event_driven"].pop("accuracy"), "no 'accuracy'"),
            (lambda content: content["runs"][0].update(time_stepped={"1": 0.5}), "not the report"),
            (lambda content: content["runs"][0]["event_driven"].update(order="lifo"), "order must be .* 'lifo'"),
            (lambda content: content.update(runs=[3]), "not the report"),
        ],
    )
    def test_what_is_no_report_is_refused(self, change, message):
        content = report("sum").to_dict()
        change(content)
        with pytest.raises(InputError, match=message):
            Report.from_json(json.dumps(content))
        with pytest.raises(InputError, match="not the report"):
            Report.from_json(json.dumps(content)[:-9])

    def test_tables_are_side_by_side_with_standard_errors(self):
        found = report("sum", "fifo")
        accuracies, layers, costs = report_tables.all_tables(found)
        assert [column.title for column in accuracies.columns] == ["", "sdt", "mtt"]
        rows = {str(name): list(map(str, cells)) for table in (accuracies, costs) for name, *cells in table.rows}
        assert rows["time-stepped, T = 1"] == ["50.0 ± 4.0"] * 2
        assert rows["time-stepped, T = 10"] == ["89.0 ± 2.6", "-"]
        assert rows["time-stepped, T = 20"] == ["-", "89.0 ± 2.6"]
        assert rows["event-driven, fifo"] == ["81.0 ± 3.2"] * 2
        assert rows["SynOps per recording, sum"] == ["1,500,000"] * 2
        assert rows["median decision time, ms, sum"] == ["120.0"] * 2
        headings = [column.heading for column in layers.columns]
        assert headings[-1] == "spike difference of T_max in %, from fifo"
        assert [str(row[-1]) for row in layers.rows][:3] == ["-", "25.0", "50.0"]
        for text in (accuracies.markdown(), accuracies.terminal()):
            assert len({len(line) for line in text.splitlines()}) == 1

    def test_the_summary_has_the_rows_that_answer_the_question(self):
        found = report("sum", "fifo")
        summary = report_tables.summary(found)
        assert [column.title for column in summary.columns] == ["", "sdt", "mtt"]
        assert {str(name): list(map(str, cells)) for name, *cells in summary.rows} == {
            "accuracy in %, time-stepped, T_max": ["89.0 ± 2.6"] * 2,
            "accuracy in %, time-stepped, T = 20": ["-", "89.0 ± 2.6"],
            "accuracy in %, event-driven, sum": ["81.0 ± 3.2"] * 2,
            "accuracy in %, event-driven, fifo": ["81.0 ± 3.2"] * 2,
            "temporal flexibility": ["0.87 (0.84 to 0.90)", "-"],
            "SynOps, time-stepped, T_max": ["2,000,000"] * 2,
            "SynOps, event-driven": ["1,500,000"] * 2,
            "median decision time, ms, event-driven": ["120.0"] * 2,
        }
        brief, verbose = (report_tables.terminal_text(found, verbose) for verbose in (False, True))
        for text in (brief, verbose):
            assert text.startswith("Without time steps sdt loses 8.0 points (89.0 -> 81.0 %), mtt loses ")
        assert "spike difference" not in brief
        assert "spike difference" in verbose

    def test_markdown_states_the_measurement(self):
        text = report_tables.markdown_text(report("sum"))
        for part in ("digits (simulated), test", "python x.py", "Engine `exact`", "numpy 2", "sqrt(p (1 - p) / n)"):
            assert part in text

    def test_a_failed_write_leaves_the_old_report(self, tmp_path):
        write_report(report("sum"), tmp_path)
        before = (tmp_path / "report.json").read_text()
        with pytest.raises(ValueError, match="Out of range"):  # NaN is no JSON
            write_report(replace(report("sum"), versions={"numpy": math.nan}), tmp_path)
        assert (tmp_path / "report.json").read_text() == before


@pytest.mark.parametrize(
    ("predicted", "labels", "message"),
    [
        ([0, -1], [0, 1], "the prediction -1 is no class from 0 to 2"),
        ([0, 1], [0, 3], "the label 3 is no class from 0 to 2"),
        ([np.nan], [0], r"predictions must be classes, whole numbers \[N\], not \[nan\]"),
        ([0], [np.inf], r"labels must be classes, whole numbers \[N\], not \[inf\]"),
        ([0.5], [0], r"predictions must be classes, whole numbers \[N\], not \[0.5\]"),
        ([True], [0], r"predictions must be classes, whole numbers \[N\] like the others, not \[True\]"),
        ([1], [True], r"labels must be classes, whole numbers \[N\] like the others, not \[True\]"),
        ([0, 1], [0], r"labels must have the shape \(2,\), a class for each recording, not \(1,\)"),
    ],
)
def test_a_confusion_matrix_is_of_classes(predicted, labels, message):
    """-1 counted for the last class."""
    with pytest.raises(InputError, match=message):
        evaluate.confusion_matrix(predicted, labels, 3)


READOUTS = np.zeros((3, 4, 2))
RISING, TWO_CLASSES = [0.0, 1.0], [[1.0, 0.0], [0.0, 1.0]]
ONE_SPIKE = Spikes(np.array([1.0]), np.array([0]), np.array([1]))
RIGHT = {t: [True, False] for t in TIME_STEPS}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        # Silently 0, or a wrong value, once.
        (
            lambda: evaluate.accuracy([1, 2], ["1", "2"]),
            r"labels must be classes.*, not \['1', '2'\]",
        ),
        (lambda: evaluate.accuracy([1.5], [1]), "predictions must be classes"),
        (lambda: evaluate.accuracy([None], [None]), "predictions must be classes"),
        (lambda: evaluate.accuracy(np.ma.array([1, 2], mask=[0, 1]), [1, 2]), "predictions must be classes"),
        (lambda: evaluate.predictions([[math.nan, 1.0]]), "readout holds NaN"),
        (lambda: evaluate.predictions(np.zeros((2, 0))), "readout must have at least one class"),
        (lambda: evaluate.predictions([[1], [1, 2]]), "readout must be numbers"),
        (lambda: evaluate.accuracy_over_time(READOUTS[:1], [0, 1, 2]), r"labels must have the shape \(1,\)"),
        (lambda: evaluate.accuracy_over_time(READOUTS, [[0], [0], [0]]), r"labels must have the shape \(3,\)"),
        (lambda: evaluate.accuracy_over_time(READOUTS[:0], []), r"readouts must have the shape \[N, K, classes\]"),
        (lambda: evaluate.accuracy_over_time(READOUTS[0], [0] * 4), r"readouts must have the shape \[N, K, classes\]"),
        (lambda: evaluate.decision_time(RISING, TWO_CLASSES, "1"), "label must be a whole number, not '1'"),
        (lambda: evaluate.decision_time(RISING, TWO_CLASSES, 2), "label must be at most 1, not 2"),
        (lambda: evaluate.decision_time(RISING, TWO_CLASSES, -1), "label must be at least 0, not -1"),
        (lambda: evaluate.decision_time(RISING[::-1], TWO_CLASSES, 1), "times must be rising"),
        (lambda: evaluate.decision_time([0.0], TWO_CLASSES, 1), "times must be rising, one for each of"),
        (lambda: evaluate.spike_difference(["1"], [1]), r"the reference must be numbers, not \['1'\]"),
        (lambda: evaluate.spike_difference(None, None), "the reference must be numbers, not None"),
        (lambda: evaluate.spike_difference([1], [math.inf]), "counts must be finite"),
        (
            lambda: evaluate.synops({"a": [[1, 2, 3], [1, 2, 3]]}, {"a": np.ones(2)}),
            "counts of 'a' must have",
        ),
        (
            lambda: evaluate.synops({"a": [[1], [2]], "b": [[1]]}, {"a": [1], "b": [1]}),
            "need the same recordings",
        ),
        (lambda: evaluate.synops(None, {"a": [1]}), "counts must be arrays by source name, not None"),
        (lambda: evaluate.flexibility(RIGHT, [3, 0]), "event_driven must be truth values"),
        (lambda: evaluate.flexibility(RIGHT, [0.5, 0.1]), "event_driven must be truth values"),
        (lambda: evaluate.flexibility(RIGHT, [True, False], 0), "resamples must be at least 1, not 0"),
        (lambda: evaluate.flexibility(None, [True]), "time_stepped must be truth values by number of time steps"),
        (lambda: evaluate.confusion_matrix([0], [0], 10**9), "classes must be at most"),
        (lambda: evaluate.confusion_matrix([0], [0], 1.5), "classes must be a whole number"),
        (lambda: evaluate.compare_spikes(ONE_SPIKE, ([1.0], [0], [1])), "spikes must be Spikes"),
        (lambda: evaluate.compare_spikes(ONE_SPIKE, ONE_SPIKE._replace(t=[math.nan])), "t = nan s, i = 0, n = 1"),
        (lambda: evaluate.compare_spikes(ONE_SPIKE, ONE_SPIKE._replace(i=[0.5])), "i and n integers"),
        (lambda: evaluate.spike_time_differences(ONE_SPIKE, ONE_SPIKE._replace(i=[-1])), "i = -1"),
        (lambda: evaluate.spike_time_differences(ONE_SPIKE, ONE_SPIKE._replace(n=[2**40])), "can be compared"),
        (lambda: evaluate.predict_event_driven(CIRCUIT, []), "there is nothing to predict: no recordings"),
        (lambda: evaluate.EventDrivenAccumulator([0.0], "x"), "an accumulator needs times"),
    ],
)
def test_what_cannot_be_evaluated(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_counts_may_have_more_axes_in_front_of_the_neurons():
    fan_out = {"a": np.array([[1, 2]])}
    assert evaluate.synops({"a": np.ones((3, 4, 1, 2))}, fan_out).tolist() == [3.0] * 12
    assert evaluate.synops({"a": np.ones((1, 2))}, fan_out).tolist() == [3.0]
