"""Recordings, their checks and their binning, with numbers to check on paper."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtt_brian import events, machine
from mtt_brian.errors import InputError, MachineError
from mtt_brian.events.binning import bin_recordings
from mtt_brian.events.frames import bin_index

SENSOR = (2, 3, 4)


def test_make_recording_broadcasts_single_numbers():
    recording = events.make_recording([0, 5, 5], x=[1, 2, 3], p=1)
    assert recording.dtype == events.EVENT_DTYPE
    assert recording.tolist() == [(0, 1, 0, 1), (5, 2, 0, 1), (5, 3, 0, 1)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"t": [0, 1], "x": [0, 1, 2]}, "one length"),
        ({"t": [0, 1], "x": [0, 40_000]}, r"x\[1\] = 40000"),
        ({"t": [0, 1.5], "x": 0}, r"t\[1\] = 1.5"),
        ({"t": [np.nan], "x": 0}, r"t\[0\] = nan"),
    ],
)
def test_make_recording_refuses_what_it_cannot_hold(columns, message):
    with pytest.raises(InputError, match=message):
        events.make_recording(**columns)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"t": [0, 1], "x": [0, 4]}, r"event 1 has x = 4, outside the sensor's 0\.\.3"),
        ({"t": [0, 1], "x": 0, "y": [-1, 0]}, r"event 0 has y = -1, outside the sensor's 0\.\.2"),
        ({"t": [0, 1], "x": 0, "p": [0, 2]}, r"event 1 has p = 2, outside the sensor's 0\.\.1"),
        ({"t": [-3, 1], "x": 0}, r"event 0 has t = -3"),
        ({"t": [0, 7, 6, 9], "x": 0}, r"backwards at event 2 \(t = 6 after 7 us\)"),
    ],
)
def test_check_recording_names_the_recording_the_event_and_the_range(columns, message):
    with pytest.raises(InputError, match=f"file.bin: .*{message}"):
        events.check_recording(events.make_recording(**columns), SENSOR, "file.bin")


def test_check_recording_refuses_other_arrays():
    with pytest.raises(InputError, match="lacks y, p"):
        events.check_recording(np.zeros(3, dtype=[("t", int), ("x", int)]), SENSOR)
    with pytest.raises(InputError, match="lacks t, x, y, p"):
        events.check_recording(np.zeros((3, 4)), SENSOR)
    with pytest.raises(InputError, match="t must hold integers, not float64"):
        events.check_recording(np.zeros(3, dtype=[("t", float), ("x", int), ("y", int), ("p", int)]), SENSOR)


def test_other_integer_types_are_recordings_too():
    foreign = np.zeros(2, dtype=[("x", "<u2"), ("y", "<u2"), ("t", "<u8"), ("p", "?")])
    foreign["t"], foreign["x"], foreign["p"] = [3, 9], [1, 2], [True, False]
    events.check_recording(foreign, SENSOR)
    ours = events.make_recording([3, 9], x=[1, 2], p=[1, 0])
    assert np.array_equal(events.to_frames(foreign, 2, SENSOR), events.to_frames(ours, 2, SENSOR))


def test_an_event_at_a_border_belongs_to_the_later_bin():
    # D = 10, T = 4: bins start at 0, 2.5, 5 and 7.5 us
    recording = events.make_recording([0, 2, 3, 4, 5, 7, 8, 9], x=0)
    assert events.to_frames(recording, 4, (1, 1, 1), duration_us=10).ravel().tolist() == [2, 2, 2, 2]


def test_frames_put_every_event_at_its_channel_row_and_column():
    recording = events.make_recording([0, 0, 99], x=[3, 3, 1], y=[2, 2, 0], p=[1, 1, 0])
    frames = events.to_frames(recording, 2, SENSOR)  # D = 100
    assert frames.dtype == np.float32
    assert frames.shape == (2, *SENSOR)
    assert frames[0, 1, 2, 3] == 2
    assert frames[1, 0, 0, 1] == 1
    assert frames.sum() == 3


def test_the_last_event_is_in_the_last_bin_without_a_duration():
    frames = events.to_frames(events.make_recording([0, 12_345], x=0), 7, (1, 1, 1)).ravel()
    assert frames.tolist() == [1, 0, 0, 0, 0, 0, 1]


def test_binning_is_exact_where_floating_point_is_not():
    # floor(t T / D) = floor(7 - 7/D) = 6; in float64 (D-1)/D rounds to 1 and the event falls out of the last bin
    duration = 2**60
    recording = events.make_recording([duration - 1], x=0)
    assert events.to_frames(recording, 7, (1, 1, 1), duration_us=duration).ravel().tolist() == [0] * 6 + [1]
    with pytest.raises(InputError, match="overflow"):
        events.to_frames(recording, 100, (1, 1, 1), duration_us=duration)


@given(
    times=st.lists(st.integers(0, 10**7), max_size=60).map(sorted),
    time_steps=st.integers(1, 400),
    beyond=st.integers(1, 1000),
    data=st.data(),
)
def test_every_event_falls_in_exactly_one_bin(times, time_steps, beyond, data):
    n = len(times)
    x, y, p = (data.draw(st.lists(st.integers(0, size - 1), min_size=n, max_size=n)) for size in SENSOR[::-1])
    recording = events.make_recording(times, x, y, p) if n else np.zeros(0, events.EVENT_DTYPE)
    duration = data.draw(st.sampled_from([None, (times[-1] if n else 0) + beyond]))
    expected = np.zeros((time_steps, *SENSOR))
    used = duration or (times[-1] + 1 if n else 1)
    for event in zip(times, p, y, x, strict=True):
        expected[(event[0] * time_steps // used, *event[1:])] += 1  # Python's integers have no limit
    assert np.array_equal(events.to_frames(recording, time_steps, SENSOR, duration), expected)


def test_frames_batch_stacks_along_axis_1():
    first = events.make_recording([0, 9], x=[0, 1])
    second = events.make_recording([0, 99], x=[2, 3])
    batch = events.frames_batch([first, second], 5, SENSOR)
    assert batch.shape == (5, 2, *SENSOR)
    assert batch.dtype == np.float32
    for n, recording in enumerate([first, second]):
        assert np.array_equal(batch[:, n], events.to_frames(recording, 5, SENSOR))
    with pytest.raises(InputError, match="recording 1: the last event comes at 99 us"):
        events.frames_batch([first, second], 5, SENSOR, duration_us=50)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time_steps": 0}, "time_steps must be at least 1, not 0"),
        ({"time_steps": 2.5}, "time_steps must be a whole number"),
        ({"time_steps": 2, "duration_us": 9}, "last event comes at 9 us, outside the duration of 9 us"),
        ({"time_steps": 2, "duration_us": 0}, "duration_us must be at least 1"),
        ({"time_steps": 2, "sensor_size": (1, 1, 1)}, r"x = 3, outside the sensor's 0\.\.0"),
    ],
)
def test_to_frames_refuses(arguments, message):
    recording = events.make_recording([0, 9], x=[0, 3])
    with pytest.raises(InputError, match=message):
        events.to_frames(recording, **{"sensor_size": SENSOR, **arguments})


@pytest.mark.parametrize("kind", ["u1", "u2", "i4"])
def test_ends_of_time_steps_fit_times_of_few_bits(kind):
    """The end of the last bin, 256 us, was 0 us in 8 bits."""
    last = 255 if kind == "u1" else 300
    recording = np.array([(0, 0, 0, 0), (last, 1, 0, 0)], [("t", kind), ("x", "i2"), ("y", "i2"), ("p", "i1")])
    moved = events.on_time_steps(recording, 2, (1, 1, 2), None if kind == "u1" else 4_000_000_000)
    expected = [128, 256] if kind == "u1" else [2_000_000_000, 2_000_000_000]
    assert moved["t"].tolist() == expected
    assert moved["x"].tolist() == [0, 1]


def test_a_truth_value_is_no_number_of_time_steps():
    with pytest.raises(InputError, match="time_steps must be a whole number, not True"):
        events.to_frames(events.make_recording([1], [0]), True, (1, 1, 1))


@pytest.mark.parametrize("steps", [10**7, 10**12, 2**40])
def test_frames_that_do_not_fit_the_memory_are_refused_by_their_number(steps, monkeypatch):
    """They ended in a MemoryError, ValueError or OverflowError of numpy."""
    monkeypatch.setattr(machine, "available_bytes", lambda: 2**34)
    sensor = (2, 34, 34)
    one = events.make_recording([0, 9], x=[0, 3])
    data = events.Recordings(
        name="a", title="A", split="train", classes=["a"], sensor_size=sensor, ids=["0"], labels=np.zeros(1, int),
        duration_us=10, read=lambda _: one,
    )  # fmt: skip
    message = rf"time_steps = {steps:,}: the frames of \(2, 34, 34\).* would take [\d,]+ bytes; 17,179,869,184 bytes of"
    for make in (
        lambda: events.to_frames(one, steps, sensor),
        lambda: events.frames_batch([one, one], steps, sensor),
        lambda: bin_recordings(data, steps),
    ):
        with pytest.raises(MachineError, match=message):
            make()


def test_the_index_of_an_event_does_not_overflow():
    """It was a negative number, or that of another bin and pixel."""
    recording = events.make_recording([0, 9], x=[0, 30_000])
    assert bin_index(recording, 10**9, (1, 1, 32_000)).tolist() == [0, 900_000_000 * 32_000 + 30_000]
    with pytest.raises(InputError, match=r"frames of .* have more numbers than 64-bit integers count"):
        bin_index(recording, 10**15, (1, 1, 32_000))


def test_frames_of_more_than_the_disk_are_refused(monkeypatch):
    monkeypatch.setattr(machine, "available_bytes", lambda: 2**80)
    data = events.Recordings(
        name="a", title="A", split="train", classes=["a"], sensor_size=(1, 1, 1), ids=["0"], labels=np.zeros(1, int),
        duration_us=10, read=lambda _: events.make_recording([0], x=[0]),
    )  # fmt: skip
    with pytest.raises(MachineError, match=r"no room for .* GB of frames under .*: "):
        bin_recordings(data, 2**62)
