"""Recordings and durations from Python: correct values, or one line that states what is accepted."""

import zipfile
from fractions import Fraction
from pathlib import Path

import nir
import numpy as np
import pytest

import mtt_brian as mb
from mtt_brian.circuit.spikes import durations_for, input_spikes, pair_with_durations
from mtt_brian.cli.recording_files import open_recording
from mtt_brian.errors import InputError

#: The readout shows the inputs of the events: 1 for input 0, 10 for input 1.
GRAPH = nir.NIRGraph.from_list(nir.Linear(weight=np.array([[1.0, 10.0]])))
GOOD = mb.events.make_recording([10, 20], x=[0, 1])


def events(t, x=(0, 1), t_type="i8", x_type="i8", **more):
    array = np.zeros(len(t), dtype=[("t", t_type), ("x", x_type), *((name, "i8") for name in more)])
    array["t"], array["x"] = t, x
    for name, values in more.items():
        array[name] = values
    return array


def with_y_and_p(recording):
    array = np.zeros(len(recording), dtype=[*recording.dtype.descr, ("y", "i8"), ("p", "i8")])
    for name in recording.dtype.names:
        array[name] = recording[name]
    return array


NO_INTEGERS = {
    "float seconds": (events([0.01, 0.02], t_type="f8"), "the field t must hold integers, not float64 (t[0] = 0.01)"),
    "float32 seconds": (events([0.5, 0.75], t_type="f4"), "the field t must hold integers, not float32 (t[0] = 0.5)"),
    "whole float seconds": (events([1.0, 2.0], t_type="f8"), "must hold integers, not float64 (t[0] = 1.0)"),
    "milliseconds": (events([10.25, 20.5], t_type="f8"), "must hold integers, not float64 (t[0] = 10.25)"),
    "not a number": (events([np.nan, np.inf], t_type="f8"), "must hold integers, not float64 (t[0] = nan)"),
    "timedelta": (events([10, 20], t_type="m8[ms]"), "integers, not timedelta64[ms] (t[0] = 10 milliseconds)"),
    "text": (events(["5", "6"], t_type="U3"), "the field t must hold integers, not <U3 (t[0] = 5)"),
    "complex": (events([1j, 2j], t_type="c16"), "the field t must hold integers, not complex128 (t[0] = 1j)"),
    "bool": (events([False, True], t_type="?"), "the field t must hold integers, not bool (t[0] = False)"),
    "object": (events([1, 2], t_type="O"), "the field t must hold integers, not object (t[0] = 1)"),
    "x between pixels": (
        events([1, 2], [0.6, 1.0], x_type="f8"),
        "must hold integers, not float64 (x[0] = 0.6)",
    ),
    "x bool": (events([1, 2], x_type="?"), "the field x must hold integers, not bool (x[0] = False)"),
    "pairs": (np.zeros(2, dtype=[("t", "i8", 2), ("x", "i8")]), "the field t must hold one integer per event"),
}


@pytest.mark.parametrize("kind", NO_INTEGERS)
def test_arrays_must_hold_integers_in_memory_and_in_files(kind, tmp_path):
    recording, message = NO_INTEGERS[kind]
    with pytest.raises(InputError) as from_python:
        mb.simulate(GRAPH, recording, engine="exact")
    with pytest.raises(InputError) as as_frames:
        mb.events.to_frames(with_y_and_p(recording), 1, (1, 1, 2))
    said = [from_python, as_frames]
    if kind != "object":  # such files are not opened at all
        np.save(tmp_path / "a.npy", recording)
        with pytest.raises(InputError) as from_file:
            open_recording(str(tmp_path / "a.npy"), None, {})
        said.append(from_file)
    for error in said:
        assert message in str(error.value)
        assert ("t counts microseconds" in str(error.value)) == ("field t" in str(error.value))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("p", [np.array([True, False]), np.array([1, 0], "u1"), np.array([1, 0], ">i2")])
def test_every_integer_type_is_taken_and_bool_polarities(p):
    recording = np.zeros(2, dtype=[("x", "<u2"), ("t", ">u8"), ("p", p.dtype), ("y", "i1")])
    recording["t"], recording["p"] = [3, 9], p
    train = input_spikes(recording, (2, 1, 1))
    assert train.t.tolist() == [3e-6, 9e-6]
    assert train.i.tolist() == [1, 0]


TIMES = {
    "wraps in int64": (events([5, 2**63 - 1, -(2**63) + 3], 0), "at event 2 (-9223372036854775805 us)"),
    "above 2^63": (events([5, 2**63 + 5], t_type="u8"), "event 1 has t = 9223372036854775813; t counts microseconds"),
    "back in uint64": (events([2**63 + 5, 5], t_type="u8"), "time goes backwards or is negative at event 1 (5 us)"),
    "negative": (events([-1, 5]), "time goes backwards or is negative at event 0 (-1 us)"),
    "beyond float64": (
        events([1, 2**53 + 1]),
        "event 1 has t = 9007199254740993; t counts microseconds from",
    ),
}


@pytest.mark.parametrize("kind", TIMES)
@pytest.mark.parametrize("duration", [None, 0.01])
def test_times_are_compared_without_wrapping(kind, duration):
    recording, message = TIMES[kind]
    with pytest.raises(InputError) as error:
        input_spikes(recording, (2,), duration)
    assert message in str(error.value)
    assert "t counts microseconds" in str(error.value)


def test_frames_do_not_wrap_either():
    with pytest.raises(InputError, match="the last event has t = 9223372036854775813; times fit 64-bit integers"):
        mb.events.to_frames(with_y_and_p(events([5, 2**63 + 5], t_type="u8")), 2, (1, 1, 2))


def test_the_last_time_that_float64_holds_is_exact():
    last = 2**32 * 10**6
    t = input_spikes(events([last - 2, last - 1, last], x=(0, 1, 0)), (2,)).t
    assert t.tolist() == [(last - 2) / 1e6, (last - 1) / 1e6, last / 1e6]
    assert len(set(t.tolist())) == 3


def test_wild_coordinates_are_named_as_they_are():
    with pytest.raises(InputError, match=r"event 1 has x = 9223372036854775809; .* allows 0\.\.1"):
        input_spikes(events([1, 2], [0, 2**63 + 1], x_type="u8"), (2,))
    signs = mb.events.make_recording([1, 2], [0, 0], p=[1, -1])
    with pytest.raises(InputError, match=r"event 1 has p = -1; .*polarities are counted from 0 \(OFF 0, ON 1\)"):
        input_spikes(signs, (2, 1, 1))
    with pytest.raises(InputError, match=r"event 1 has p = -1, .*polarities are counted from 0 \(OFF 0, ON 1\)"):
        mb.events.to_frames(signs, 1, (2, 1, 1))


class Table:
    """As much of a pandas DataFrame as counts."""

    columns = ("t", "x")

    def to_records(self): ...

    def __iter__(self):
        return iter(self.columns)


def images():
    return mb.events.Images(
        name="a", title="A", split="test", classes=["b"], sensor_size=(1, 1, 1), ids=["1"], labels=np.array([0]),
        pixels=np.zeros((1, 1, 1, 1), np.uint8), mean=(0.0,), std=(1.0,),
    )  # fmt: skip


def data_set(**changed):
    return mb.events.Recordings(
        **{
            "name": "a", "title": "A", "split": "test", "classes": ["b", "c"], "sensor_size": (1, 1, 2),
            "ids": ["1", "2"], "labels": np.array([0, 1]), "duration_us": 20,
            "read": lambda identifier: GOOD, **changed,
        }
    )  # fmt: skip


NO_RECORDING = {
    "pair": ((GOOD, 3), "a pair (recording, label)"),
    "pair in a list": ([GOOD, 3], "a pair (recording, label)"),
    "dict": ({"t": [1], "x": [0]}, "a dict of 't', 'x'; events.make_recording"),
    "tuples": ([(10, 0), (20, 1)], "a list of 2; events.make_recording"),
    "empty list": ([], "a list of 0"),
    "several": ([GOOD, GOOD], "a list of recordings; Simulator(graph).run"),
    "table": (Table(), "a table (Table)"),
    "data set": (data_set(), "a data set: data[0] is one recording"),
    "images": (images(), "a data set of still images"),
    "path": (Path("a.csv"), "not the name of a file"),
    "text": ("a.csv", "'a.csv'; a recording is an array, not the name of a file"),
    "None": (None, "is None"),
    "number": (3, "is a int"),
    "generator": ((r for r in [GOOD]), "a generator"),
    "plain": (np.zeros((2, 4)), "lacks t, x, y, p: it is an array of float64 of shape (2, 4)"),
    "two axes": (GOOD[None], "has the shape (1, 2)"),
    "no axis": (GOOD.reshape(())[()] if GOOD.size == 1 else GOOD[0], "a single event"),
    "masked": (np.ma.array(GOOD, mask=[True, False]), "a masked array"),
}


@pytest.mark.parametrize("kind", NO_RECORDING)
def test_what_is_no_recording_is_named(kind):
    thing, message = NO_RECORDING[kind]
    calls = [lambda: mb.events.to_frames(thing, 1, (1, 1, 2))]
    if not isinstance(thing, str | Path):  # simulate takes names of recordings
        calls.append(lambda: mb.simulate(GRAPH, thing, engine="exact"))
    for call in calls:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_fields_that_are_missing_are_named():
    with pytest.raises(InputError, match=r"has no field 'x': it lacks x; needed are t, x, there are \['t'\]"):
        input_spikes(np.zeros(1, dtype=[("t", "i8")]), (2,))


@pytest.mark.parametrize(
    "several",
    [
        [GOOD, GOOD[:1]],
        (GOOD, GOOD[:1]),
        iter([GOOD, GOOD[:1]]),
        (r for r in [GOOD, GOOD[:1]]),
        dict(enumerate([GOOD, GOOD[:1]])).values(),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_any_iterable_of_recordings_runs(several):
    results = mb.Simulator(GRAPH, engine="exact").run(several)
    assert [result.readout.tolist() for result in results] == [[11.0], [1.0]]


def test_arrays_and_data_sets_of_recordings_run():
    both = np.empty(2, dtype=object)
    both[:] = [GOOD, GOOD[:1]]
    run = mb.Simulator(GRAPH, engine="exact").run
    assert [r.readout.tolist() for r in run(both)] == [[11.0], [1.0]]
    assert [r.readout.tolist() for r in run(np.stack([GOOD, GOOD]))] == [[11.0], [11.0]]
    assert [r.readout.tolist() for r in run(data_set())] == [[11.0], [11.0]]
    assert list(run([])) == []


NO_RECORDINGS = {
    "one": (GOOD, "this is one recording; put it into a list: [recording]"),
    "pair": ((GOOD, 3), "a pair (recording, label)"),
    "pairs": ([(GOOD, 3)], "recording 0: .*a pair (recording, label)"),
    "dict": ({"a": GOOD}, "a dict of 'a'"),
    "table": (Table(), "a table (Table)"),
    "images": (images(), "still images"),
    "text": ("a.csv", "not the name of a file"),
    "None": (None, "is None"),
    "number": (3, "is a int"),
    "plain": (np.zeros((2, 4)), "an array of float64 of shape (2, 4)"),
    "three axes": (GOOD[None, None], "has the shape (1, 1, 2)"),
    "class": (list, "is a type"),
    "a bad one": ([GOOD, None], "recording 1: .*is None"),
}


@pytest.mark.parametrize("kind", NO_RECORDINGS)
def test_what_are_no_recordings_is_named(kind):
    thing, message = NO_RECORDINGS[kind]
    with pytest.raises(InputError) as error:
        list(mb.Simulator(GRAPH, engine="exact").run(thing))
    for part in message.split(".*"):
        assert part in str(error.value)


# ----------------------------------------------------------------------------------------------------- dropped fields

CAMERA = mb.events.make_recording([10, 20, 30], x=[1, 2, 3], y=[0, 3, 2], p=[0, 1, 1])


@pytest.mark.parametrize(
    ("shape", "lost"),
    [((32,), "x only, and y and p would be dropped"), ((4, 4), "y and x only, and p would be dropped")],
)
def test_a_field_that_the_input_would_drop_is_named(shape, lost):
    with pytest.raises(InputError, match=f"takes {lost}"):
        input_spikes(CAMERA, shape)


def test_what_the_refusal_offers_works():
    flat = CAMERA.copy()
    flat["x"] = CAMERA["x"] + 4 * (CAMERA["y"] + 4 * CAMERA["p"])
    flat["y"] = flat["p"] = 0
    assert input_spikes(flat, (32,)).i.tolist() == input_spikes(CAMERA, (2, 4, 4)).i.tolist() == [1, 30, 27]
    summed = CAMERA.copy()
    summed["p"] = 0
    assert input_spikes(summed, (4, 4)).i.tolist() == [1, 14, 11]


@pytest.mark.parametrize("shape", [(700,), (1, 700), (1, 1, 700)])
def test_a_field_of_one_value_may_be_dropped(shape):
    cochlea = mb.events.make_recording([10, 20], x=[699, 5])  # as SHD: y and p are 0
    assert input_spikes(cochlea, shape).i.tolist() == [699, 5]
    assert input_spikes(cochlea[["t", "x"]], shape).i.tolist() == [699, 5]


@pytest.mark.parametrize(("shape", "missing"), [((2, 1, 700), "p"), ((1, 2, 700), "y"), ((2, 700), "y")])
def test_a_coordinate_is_not_guessed(shape, missing):
    channels = mb.events.make_recording([10, 20], x=[699, 5])[["t", "x"]]
    with pytest.raises(InputError, match=f"recording has no field '{missing}': it lacks {missing}; needed are t, "):
        input_spikes(channels, shape)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 4, 4), "event 1 has p = 1"), ((1, 4), "p would be dropped"), ((4, 1, 1), "event 1 has y = 3")],
)
def test_axes_of_size_1_drop_nothing_either(shape, message):
    with pytest.raises(InputError, match=message):
        input_spikes(CAMERA, shape)


def test_other_fields_are_not_dropped_either(tmp_path):
    stereo = events([1, 2], camera=[0, 1])
    with pytest.raises(InputError, match="the field 'camera' holds different values and would be dropped"):
        input_spikes(stereo, (2,))
    with pytest.raises(InputError, match="the field 'camera'"):
        mb.events.to_frames(events([1, 2], y=0, p=0, camera=[0, 1]), 1, (1, 1, 2))
    assert input_spikes(events([1, 2], camera=[1, 1]), (2,)).i.tolist() == [0, 1]
    (tmp_path / "a.csv").write_text("t,x,camera\n1,0,0\n2,1,1\n")
    np.savez(tmp_path / "a.npz", t=[1, 2], x=[0, 1], camera=[0, 1])
    np.save(tmp_path / "a.npy", stereo)
    for name in ("a.csv", "a.npz", "a.npy"):
        with pytest.raises(InputError, match=rf"{name}: the field 'camera' holds different values"):
            open_recording(str(tmp_path / name), None, {})
    np.savez(tmp_path / "b.npz", t=[1, 2], x=[0, 1], label=3, note=["a", "b", "c"])  # describe no events
    assert open_recording(str(tmp_path / "b.npz"), None, {}).events.tolist() == [(1, 0), (2, 1)]


@pytest.mark.parametrize("arrays", [{"t": [1], "x": [0]}, {}])
def test_what_is_no_array_in_an_archive_is_refused(arrays, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("README.txt", "hello")
    with pytest.raises(InputError, match=r"a\.npz: 'README\.txt' in it is no array"):
        open_recording(str(tmp_path / "a.npz"), None, {})


# ---------------------------------------------------------------------------------------------------------- durations


def test_a_duration_in_microseconds_loses_no_event():
    times = np.unique(np.random.default_rng(0).integers(1, 2**40, 2000))
    lost = [t for t in times.tolist() if len(input_spikes(events([t], [0]), (2,), t * 1e-6).t) != 1]
    assert lost == []
    assert sum(t / 1e6 > t * 1e-6 for t in times) > 100  # these would be


@pytest.mark.parametrize(
    ("duration", "inside", "seconds"),
    [
        (0.1 + 0.2, 1, 0.3),  # 0.30000000000000004
        (3 * 100_000 * 1e-6, 1, 0.3),
        (np.float32(0.3), 1, 0.3),
        (np.array(0.3), 1, 0.3),
        (Fraction(3, 10), 1, 0.3),
        (1, 2, 1.0),
        (np.int64(1), 2, 1.0),
        (0.2999995, 0, 0.2999995),
        (0.3000005, 1, 0.3000005),
        (0, 0, 0.0),
    ],
)
def test_an_event_is_inside_up_to_the_duration_itself(duration, inside, seconds):
    recording = events([300_000, 300_001])
    train = input_spikes(recording, (2,), duration)
    assert (len(train.t), len(train.order), train.duration) == (inside, inside, seconds)
    assert mb.simulate(GRAPH, recording, "exact", duration).duration == seconds


NO_DURATION = [
    -1,
    -1e-9,
    np.nan,
    np.inf,
    1e300,
    10**400,
    "1",
    b"1",
    True,
    np.True_,
    1j,
    np.timedelta64(1, "s"),
    np.datetime64("2020"),
]


@pytest.mark.parametrize("duration", NO_DURATION, ids=repr)
def test_what_is_no_duration_is_refused(duration):
    for call in (
        lambda: mb.simulate(GRAPH, GOOD, "exact", duration),
        lambda: list(mb.Simulator(GRAPH, "exact").run([GOOD], duration)),
        lambda: list(mb.Simulator(GRAPH, "exact").run([GOOD], [duration])),
        lambda: input_spikes(GOOD, (2,), duration),
    ):
        with pytest.raises(InputError, match="the duration must be a number of seconds >= 0"):
            call()


def test_a_brian2_time_is_refused_with_the_remedy():
    brian2 = pytest.importorskip("brian2")
    with pytest.raises(InputError, match=r"divide a Brian2 time by brian2\.second"):
        mb.simulate(GRAPH, GOOD, "exact", 10 * brian2.ms)


@pytest.mark.parametrize(
    ("durations", "expected"),
    [
        (None, [20e-6, 10e-6]),
        (0.5, [0.5, 0.5]),
        (np.array(0.5), [0.5, 0.5]),
        ([0.5, None], [0.5, 10e-6]),
        (np.array([0.5, 1]), [0.5, 1.0]),
        ((1, 2), [1.0, 2.0]),
    ],
)
def test_durations_for_all_or_for_each(durations, expected):
    for several in ([GOOD, GOOD[:1]], iter([GOOD, GOOD[:1]])):
        results = mb.Simulator(GRAPH, engine="exact").run(several, durations)
        assert [result.duration for result in results] == expected


@pytest.mark.parametrize(
    ("durations", "message"),
    [
        ([0.5], "2 recordings need as many durations, not 1"),
        ([0.5] * 3, "2 recordings need as many durations, not 3"),
        (np.zeros((2, 1)), r"durations must be a number or one for each recording, not an array \(2, 1\)"),
        ("12", "durations: the duration must be a number of seconds >= 0, not '12'"),
        ({0: 1, 1: 2}, "durations: the duration must be a number"),
        ([0.5, "1"], "recording 1: the duration must be a number of seconds >= 0, not '1'"),
        ([[0.5], [0.5]], "recording 0: the duration must be a number"),
    ],
)
def test_durations_of_another_kind_or_number(durations, message):
    with pytest.raises(InputError, match=message):
        list(mb.Simulator(GRAPH, engine="exact").run([GOOD, GOOD], durations))


@pytest.mark.parametrize(
    ("durations", "message"), [([1], "more recordings than durations"), ([1] * 3, "2 recordings need")]
)
def test_durations_of_recordings_without_a_length(durations, message):
    given, count = pair_with_durations(iter([GOOD, GOOD]), durations)
    assert count is None
    with pytest.raises(InputError, match=message):
        list(given)
    assert len(list(durations_for([1, None], 2))) == 2


# ------------------------------------------------------------------------------------------------ Brian2's networks


def test_brian2_networks_check_the_same(monkeypatch):
    brian2 = pytest.importorskip("brian2")
    firing = nir.NIRGraph.from_list(
        nir.Linear(weight=np.ones((1, 2))),
        nir.IF(r=np.ones(1), v_threshold=np.ones(1), metadata={"reset": "subtract", "spikes": "many"}),
    )
    bad = (
        NO_INTEGERS["float seconds"],
        NO_RECORDING["pair"],
        NO_RECORDING["None"],
        (CAMERA, "y and p would be dropped"),
    )
    for translate in (mb.translate.to_brian2, mb.translate.to_clock_driven):
        for thing, message in bad:
            with pytest.raises(InputError) as error:
                translate(firing, thing)
            assert message in str(error.value)
        with pytest.raises(InputError, match="the duration must be a number of seconds >= 0, not '1'"):
            translate(firing, GOOD, duration="1")
    monkeypatch.setitem(brian2.prefs, "codegen.target", "numpy")
    for given, spikes in ((GOOD, [2]), ([GOOD, GOOD[:1]], [2, 1]), (iter([GOOD] * 3), [2, 2, 2])):
        network = mb.translate.to_clock_driven(firing, given, dt=10 * brian2.us, duration=1e-4)
        network.run(network.duration)
        assert [int(network.trains(copy)["if"].n.sum()) for copy in range(network.batch_size)] == spikes


# ---------------------------------------------------------------------------------------------------------- data sets


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": np.array([0, 2])}, r"item 1 \(2\) has the label 2; the 2 classes have the labels 0\.\.1"),
        ({"labels": np.array([-1, 0])}, r"item 0 \(1\) has the label -1"),
        ({"labels": np.array([0])}, r"2 ids need as many labels, not an array \(1,\)"),
        ({"labels": np.array([[0, 1]])}, r"not an array \(1, 2\)"),
        ({"labels": np.array([0.0, 1.0])}, "labels must be integers, not float64"),
        ({"labels": ["b", "c"]}, "labels must be integers, not <U1"),
        ({"labels": [True, False]}, "labels must be integers, not bool"),
        ({"ids": ["1", "1"]}, "ids must differ; '1' is there more than once"),
        ({"sensor_size": (1, 2)}, r"sensor_size must be three whole numbers >= 1 .*, not \(1, 2\)"),
        ({"sensor_size": (1, 1, 2.5)}, "sensor_size must be three whole numbers"),
        ({"sensor_size": (0, 1, 2)}, "sensor_size must be three whole numbers"),
        ({"sensor_size": 34}, "sensor_size must be three whole numbers .*, not 34"),
        ({"duration_us": 0}, "duration_us must be at least 1, not 0"),
        ({"duration_us": 0.3}, r"duration_us must be a whole number, not 0\.3"),
        ({"read": [GOOD]}, "read must be a function"),
    ],
)
def test_hand_made_data_sets_are_checked(changed, message):
    with pytest.raises(InputError, match=f"A: .*{message}"):
        data_set(**changed)


def test_labels_may_be_a_list():
    labels = data_set(labels=[1, 0]).labels
    assert labels.dtype == np.int64
    assert labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([2], "there is no item 2; 2 items have the numbers from 0"),
        ([-3], "there is no item -3"),
        ([0.5], r"an index must be a whole number, not 0\.5"),
        ([True, False], "give indices, not a mask"),
        ([0, 0], "ids must differ"),
    ],
)
def test_subsets_of_items_that_are_not_there(indices, message):
    two = {"ids": ["1", "2"], "labels": np.zeros(2, int), "pixels": np.zeros((2, 1, 1, 1), np.uint8)}
    for data in (data_set(), mb.events.Images(**{**vars(images()), **two})):
        with pytest.raises(InputError, match=message):
            data.subset(indices)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pixels": np.zeros((1, 1, 1, 1))}, r"pixels must be an array uint8 \(1, 1, 1, 1\), not float64"),
        ({"pixels": np.zeros((2, 1, 1, 1), np.uint8)}, r"pixels must be an array uint8 \(1, 1, 1, 1\), not uint8 \(2,"),
        ({"std": (0.0,)}, r"std must be finite and > 0, not \(0\.0,\)"),
        ({"mean": (0.0, 0.0)}, "mean needs one number for each of 1 channels"),
        ({"labels": np.array([1])}, r"has the label 1; the 1 classes have the labels 0\.\.0"),
    ],
)
def test_hand_made_images_are_checked(changed, message):
    with pytest.raises(InputError, match=message):
        mb.events.Images(**{**vars(images()), **changed})


@pytest.mark.parametrize("side", [0, -3, 2.5, "2", None, True])
def test_impossible_resolutions_are_refused(side):
    with pytest.raises(InputError, match=f"resolution must be (a whole number|at least 1), not {side!r}"):
        mb.events.at_resolution(data_set(), side)
    with pytest.raises(InputError, match="a ndarray has no events"):
        mb.events.at_resolution(GOOD, 1)


def test_validation_splits_check_what_they_are_given():
    for arguments, message in (
        ((data_set(), "0.5", 0), "the validation fraction must be a number, not '0.5'"),
        ((data_set(), 0.5, -1), "seed of the validation split must be at least 0, not -1"),
        ((data_set(), 0.5, 1.5), "seed of the validation split"),
        (([GOOD], 0.5, 0), "a data set .* can be split, not a list"),
    ):
        with pytest.raises(InputError, match=message):
            mb.events.split_validation(*arguments)


@pytest.mark.parametrize("size", [(1, 2), (1, 1, 2.5), None, "112", (1, 1, -2)])
def test_frames_need_a_sensor_of_three_sizes(size):
    for call in (lambda: mb.events.to_frames(GOOD, 1, size), lambda: mb.events.frames_batch([GOOD], 1, size)):
        with pytest.raises(InputError, match="sensor_size must be three whole numbers >= 1"):
            call()


# -------------------------------------------------------------------------------------------------------------- files

TABLES = {
    "two columns t": ("t,x,t\n1,0,5\n", "there are 2 columns named 't'"),
    "above 2^53": ("t,x\n9007199254740993,0\n", "t[0] = 9007199254740992.0: float64 does not hold every whole number"),
    "not finite": ("t,x\ninf,0\n", "t[0] = inf: not a whole number"),
    "a comment": ("t,x\n1,0 # first\n2,1\n", "cannot be read as a CSV table with the header t,x: line 2 is '1,0 #"),
    "a line as a comment": ("t,x\n1,0\n# 2,1\n", "cannot be read as a CSV table with the header t,x: line 3 is '# 2"),
    "more columns": ("t,x\n1,0,1\n", "the header names 2 columns, and the lines below have 3"),
    "fewer columns": ("t,x,y,p\n1,0\n2,1\n", "the header names 4 columns, and the lines below have 2"),
    "seconds": ("t,x\n0.25,0\n", "t[0] = 0.25: not a whole number that fits int64; t counts microseconds"),
    "semicolons": (
        "t;x\n1;0\n",
        "events need t (microseconds) and x, as a rule y and p; there are 't;x'; the fir",
    ),
    "no header": ("1,0\n2,1\n", "events need t (microseconds) and x, as a rule y and p; there are '1', '0'; the first"),
    "a decimal comma": (
        't,x\n1,0\n"2,5",0\n',
        "cannot be read as a CSV table with the header t,x: line 3 is '\"2,5\",0'; accepted are 2 numbers separated by",
    ),
    "a missing value": ("t,x\n\n1,0\n,1\n", "cannot be read as a CSV table with the header t,x: line 4 is ',1';"),
    "a short line": ("t,x\n1,0\n2\n", "cannot be read as a CSV table with the header t,x: line 3 is '2'; accepted are"),
    "truth values": ("t,x,p\n1,0,True\n", "cannot be read as a CSV table with the header t,x,p: line 2 is '1,0,True';"),
    "a polarity of 255": (
        "t,x,p\n1,0,255\n",
        "p[0] = 255.0: not a whole number that fits int8; polarities are",
    ),
    "a column beyond 16 bits": ("t,x\n1,40000\n", "x[0] = 40000.0: not a whole number that fits int16"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_that_would_change_are_refused(kind, tmp_path):
    text, message = TABLES[kind]
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError) as error:
        open_recording(str(tmp_path / "a.csv"), None, {})
    assert f"a.csv: {message}" in str(error.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"t": ["5"], "x": 0}, r"the field t must hold whole numbers, not <U1 \(t\[0\] = 5\)"),
        ({"t": np.array([1], "m8[us]"), "x": 0}, "must hold whole numbers, not timedelta64"),
        ({"t": [True], "x": 0}, "must hold whole numbers, not bool"),
        ({"t": [1j], "x": 0}, "must hold whole numbers, not complex128"),
        ({"t": [2**70], "x": 0}, "must hold whole numbers, not object"),
        ({"t": [[1, 2]], "x": 0}, "must have one length"),
        ({"t": [[1], [1, 2]], "x": 0}, "the field t must hold whole numbers, not object"),
        ({"t": np.array([2**24 + 2], "f4"), "x": 0}, "float32 does not hold every whole number from 16777216 on"),
        (
            {"t": np.array([2**63 + 5], "u8"), "x": 0},
            r"t\[0\] = 9223372036854775813: not a whole number",
        ),
        ({"t": np.ma.array([1, 2], mask=[0, 1]), "x": 0}, "t has masked values"),
        ({"t": [1, 2, 3], "x": [4]}, r"must have one length \(or be single numbers\), not t \(3,\), x \(1,\)"),
        ({"t": [], "x": [4]}, r"must have one length \(or be single numbers\), not t \(0,\), x \(1,\)"),
        ({"t": [4], "x": [1, 2]}, r"must have one length \(or be single numbers\), not t \(1,\), x \(2,\)"),
    ],
)
def test_columns_are_whole_numbers(columns, message):
    with pytest.raises(InputError, match=message):
        mb.events.make_recording(**columns)


def test_single_numbers_count_for_all_events_and_lists_of_one_do_not(tmp_path):
    assert mb.events.make_recording([1, 2], 7, p=np.array(1)).tolist() == [(1, 7, 0, 1), (2, 7, 0, 1)]
    assert mb.events.make_recording(5, 1).tolist() == [(5, 1, 0, 0)]
    assert mb.events.make_recording([5], [1], [2], [0]).tolist() == [(5, 1, 2, 0)]
    np.savez(tmp_path / "a.npz", t=np.arange(3), x=np.array([1]), y=np.zeros(3, int), p=np.zeros(3, int))
    with pytest.raises(InputError, match=r"a\.npz: t, x, y and p must have one length"):
        mb.events.read(tmp_path / "a.npz")


def test_times_with_a_unit_are_refused():
    """Seconds in base units were taken for microseconds."""
    brian2 = pytest.importorskip("brian2")
    with pytest.raises(InputError, match=r"t has a unit, .*; give whole numbers; np\.rint\(t / brian2\.usecond\) are"):
        mb.events.make_recording([1, 2] * brian2.second, [0, 1])
    seven = np.rint([7, 8] * brian2.usecond / brian2.usecond)
    assert mb.events.make_recording(seven, [0, 1])["t"].tolist() == [7, 8]
    torch = pytest.importorskip("torch")
    assert mb.events.make_recording(torch.tensor([1, 2]), torch.tensor([0, 1]))["x"].tolist() == [0, 1]
    with pytest.raises(InputError) as error:
        mb.simulate(GRAPH, GOOD, duration=torch.tensor(1.0))
    assert "Brian2" not in str(error.value)


def test_a_table_may_have_quotation_marks(tmp_path):
    """As R and csv.QUOTE_ALL write it."""
    (tmp_path / "a.csv").write_text('"t","x", "p"\n"1","2","0"\n3,"4",1\n')
    assert mb.events.read(tmp_path / "a.csv").tolist() == [(1, 2, 0), (3, 4, 1)]


def test_files_of_numpy_with_another_ending_or_content_are_named(tmp_path):
    np.savez(tmp_path / "archive", t=[1], x=[0])
    (tmp_path / "archive.npz").rename(tmp_path / "a.npy")
    np.save(tmp_path / "single", GOOD)
    (tmp_path / "single.npy").rename(tmp_path / "b.npz")
    np.save(tmp_path / "c.npy", np.array([None]), allow_pickle=True)
    np.savez(tmp_path / "d.npz", t=[1], x=[0], more=np.array([None]))
    np.save(tmp_path / "e.npy", np.array([(1, 0)], [("timestamp", "i8"), ("x", "i2")]))
    for name, message in (
        ("a.npy", "it is an archive of arrays; give it the ending .npz"),
        ("b.npz", "it is a single array, not an archive; give it the ending .npy"),
        ("c.npy", "it is no file of numpy, or holds Python objects, which are not read; save integers"),
        ("d.npz", "it is no file of numpy, or holds Python objects, which are not read; save integers"),
        ("e.npy", "events need t (microseconds) and x, as a rule y and p; there are 'timestamp', 'x'"),
    ):
        with pytest.raises(InputError) as error:
            mb.events.read(tmp_path / name)
        assert str(error.value) == f"{tmp_path / name}: {message}"


def test_what_follows_an_array_in_its_file_is_not_lost(tmp_path):
    with open(tmp_path / "a.npy", "wb") as file:
        np.save(file, GOOD)
        np.save(file, GOOD)
    size = (tmp_path / "a.npy").stat().st_size
    with pytest.raises(InputError, match=rf"a\.npy: {size // 2} bytes follow the array; accepted is a file with one"):
        mb.events.read(tmp_path / "a.npy")


def test_whole_floats_make_a_recording():
    assert mb.events.make_recording(np.rint(1e6 * np.array([0.01, 0.02])), x=[0.0, 1.0], p=[True, False]).tolist() == [
        (10_000, 0, 0, 1),
        (20_000, 1, 0, 0),
    ]


def test_two_arrays_of_one_name_in_a_file_are_refused(tmp_path):
    import warnings
    import zipfile

    np.savez(tmp_path / "a.npz", t=[1], x=[0])
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("t.npy", archive.read("t.npy"))
    with pytest.raises(InputError, match=r"a\.npz: there are 2 arrays named 't'"):
        open_recording(str(tmp_path / "a.npz"), None, {})


@pytest.mark.parametrize("span", [1, 3, 40, 5000])
@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 5, 6)])
def test_events_of_one_pixel_at_one_instant_are_merged(span, shape):
    rng = np.random.default_rng(span)
    for count in (0, 1, 2, 150):
        t = np.sort(rng.integers(0, span, count))
        place = [rng.integers(0, size, count) for size in shape]
        train = input_spikes(mb.events.make_recording(t, **dict(zip("pyx"[-len(shape) :], place, strict=True))), shape)
        single = list(zip(t.tolist(), np.ravel_multi_index(place, shape).tolist(), strict=True))
        rows = sorted(set(single))
        assert train.t.tolist() == [us / 1e6 for us, _ in rows]
        assert train.i.tolist() == [pixel for _, pixel in rows]
        assert train.n.tolist() == [single.count(row) for row in rows]
        assert train.order.tolist() == [rows.index(event) for event in single]
        assert {array.dtype for array in train[1:4]} == {np.dtype(np.int64)}


def halves(**changes):
    fields = {
        "name": "halves",
        "title": "halves",
        "split": "train",
        "classes": ["a", "b"],
        "sensor_size": (1, 2, 2),
        "duration_us": 100,
        "ids": ["x", "y"],
        "labels": [0, 1],
        "read": lambda name: mb.events.make_recording([1, 2], [0, 1]),
    }
    return mb.events.Recordings(**fields | changes)


def fails_on_y(name):
    """As numpy does for a damaged line."""
    return mb.events.make_recording([1], [int("1.5" if name == "y" else "1")])


def test_what_a_reader_raises_names_the_recording():
    recordings = halves(read=fails_on_y)
    assert len(recordings[0]) == 1
    with pytest.raises(InputError, match=r"^halves: y: cannot be read \(ValueError: invalid literal .* '1\.5'\)$"):
        recordings[1]
    with pytest.raises(InputError, match=r"^halves: x: cannot be read \(/none/x: No such file or directory\)$"):
        halves(read=lambda name: np.load(f"/none/{name}"))[0]
    good = recordings.readable()
    assert (good.ids, [name for name, _ in good.bad]) == (["x"], ["y"])


def test_a_data_set_whose_first_recording_cannot_be_read_is_shown():
    assert "halves" in halves(read=lambda name: 1 / 0)._repr_html_()


@pytest.mark.parametrize("name", ["ids", "classes"])
def test_names_may_be_any_list(name):
    given = ["x", "y"]
    for values in (given, tuple(given), iter(given), np.array(given)):
        assert getattr(halves(**{name: values}), name) == given
    for values in (2, "xy", b"xy", None):
        with pytest.raises(InputError, match=f"halves: {name} must be a list of names, not "):
            halves(**{name: values})


def test_a_data_set_does_not_change_with_the_lists_it_was_made_of():
    ids, classes, labels = ["x", "y"], ["a", "b"], np.array([0, 1])
    recordings = halves(ids=ids, classes=classes, labels=labels)
    ids[0] = classes[0] = "changed"
    labels[:] = 1
    assert (recordings.ids, recordings.classes, recordings.labels.tolist()) == (["x", "y"], ["a", "b"], [0, 1])


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (mb.events.RecordingIndex(["1"], [0.7], len), "labels must be integers, not float64"),
        (mb.events.RecordingIndex(["1"], ["0"], len), "labels must be integers, not <U1"),
        ((["1"], [0], len), r"own: its function open must return RecordingIndex, not \("),
        (None, "own: its function open must return RecordingIndex, not None"),
        (ValueError("not in tuple"), r"own: its function open failed on .*, test \(ValueError: not in tuple\)"),
    ],
)
def test_what_the_function_of_a_data_set_returns(found, message, tmp_path):
    """A label of 0.7 was class 0."""

    def find(folder, split):
        if isinstance(found, Exception):
            raise found
        return found

    own = mb.events.EventDataset(
        name="own", title="own", sensor_size=(1, 2, 2), classes=("a", "b"), duration_us=100, open=find
    )
    mb.events.register(own)
    try:
        with pytest.raises(InputError, match=message):
            mb.events.load("own", tmp_path, "test")
    finally:
        mb.events.unregister("own")
