"""The simulated event camera, with crossing times worked out on paper."""

from dataclasses import replace

import numpy as np
import pytest

from mtt_brian import events, machine
from mtt_brian.errors import InputError, MachineError
from mtt_brian.events.camera.camera import Camera
from mtt_brian.events.camera.pixel_kernel import Pixels, crossings, order_of


def found(times, log_intensity, on=1.0, off=1.0, refractory=0, sign=1.0):
    """(pixel, t, p) of the events of P pixels with these log intensities [K, P], those of a pixel in their order."""
    light = np.exp(np.array(log_intensity, dtype=np.float64))
    pixels = Pixels(np.full(light.shape[1], on), np.full(light.shape[1], off), float(refractory), sign)
    events = crossings(np.array(times), np.arange(len(times)), light, pixels)
    return sorted(zip(events.pixel.tolist(), events.t.tolist(), events.p.tolist(), strict=True), key=lambda e: e[:2])


def one_pixel(times, log_intensity, **parameters):
    return [(t, p) for _, t, p in found(times, np.transpose([log_intensity]), **parameters)]


def test_a_ramp_crosses_its_levels_at_equal_intervals():
    # 3.5 in 7000 us: one unit each 2000 us
    assert one_pixel([0, 7000], [0, 3.5]) == [(2000, 1), (4000, 1), (6000, 1)]


def test_reaching_the_level_is_a_crossing():
    assert np.log(np.exp([1.0, 0.9999999999999998])).tolist() == [1.0, 0.9999999999999998]
    assert one_pixel([0, 1000], [0, 1.0]) == [(1000, 1)]
    assert one_pixel([0, 1000], [0, 0.9999999999999998]) == []
    assert one_pixel([0, 1000], [0, 1.0], sign=-1.0) == [(1000, 0)]
    assert one_pixel([0, 1000], [0, 0.9999999999999998], sign=-1.0) == []


def test_on_and_off_have_separate_thresholds_from_the_last_level():
    # up to 2.5: ON at 1 (400 us) and 2 (800 us). Down: OFF 0.5 below the level 2, not below the peak: at 1.5, 1, 0.5, 0
    up_and_down = one_pixel([0, 1000, 2000], [0, 2.5, 0], off=0.5)
    assert up_and_down == [(400, 1), (800, 1), (1400, 0), (1600, 0), (1800, 0), (2000, 0)]


def test_a_change_below_the_threshold_adds_up_over_samples():
    # 0.4 per 100 us: level 1 at 250 us, in the middle of the third interval
    assert one_pixel([0, 100, 200, 300], [0, 0.4, 0.8, 1.2]) == [(250, 1)]


def test_times_are_rounded_to_microseconds():
    assert one_pixel([0, 8], [0, 3.0]) == [(3, 1), (5, 1), (8, 1)]  # 2.67, 5.33, 8


def test_the_refractory_period_swallows_events_but_not_the_change():
    # levels at 1000, 2000, ..., 6000 us; after each event 1500 us of silence: every second one is lost
    assert one_pixel([0, 6000], [0, 6.0], refractory=1500) == [(1000, 1), (3000, 1), (5000, 1)]
    # an event exactly at the end of the silence is sent
    assert one_pixel([0, 6000], [0, 6.0], refractory=2000) == [(1000, 1), (3000, 1), (5000, 1)]
    # the change during the silence is forgotten: coming back from 1.9 to 0 crosses one level from 1, not two
    assert one_pixel([0, 100, 10_000], [0, 2.0, 0.9], refractory=1000) == [(50, 1), (9100, 0)]


def test_pixels_are_independent():
    events = found([0, 1100], [[0, 0, 5], [2.2, -1.5, 5]])
    assert events == [(0, 500, 1), (0, 1000, 1), (1, 733, 0)]
    # as many pixels as are passed over at once, and one more: each has its event at its own time
    ramps = np.linspace(2, 3.5, 17)
    expected = [
        (x, t, 1) for x, ramp in enumerate(ramps) for t in [round(1000 / ramp * k) for k in range(1, int(ramp) + 1)]
    ]
    assert found([0, 1000], [np.zeros(17), ramps]) == expected


def test_more_events_than_the_first_guess_of_their_number():
    # 1000 levels up at 1, 2, ... us, and down again
    events = one_pixel([0, 1000, 2000], [0, 100.05, -0.05], on=0.1, off=0.1)
    assert len(events) == 2000
    assert events[:3] == [(1, 1), (2, 1), (3, 1)]
    assert sorted(p for _, p in events) == [0] * 1000 + [1] * 1000


def test_a_place_that_is_seen_again_has_the_same_intensity():
    pixels = Pixels(np.ones(1), np.ones(1), 0.0, 1.0)
    events = crossings(np.array([0, 10, 20, 30, 40]), np.array([0, 1, 1, 0, 1]), np.exp([[0.0], [1.25]]), pixels)
    assert list(zip(events.t.tolist(), events.p.tolist(), strict=True)) == [(8, 1), (30, 0), (38, 1)]


def test_events_are_sorted_as_by_a_stable_sort():
    rng = np.random.default_rng(0)
    for most in (1, 3, 2**11, 2**11 + 1, 2**35, 2**62):
        key = rng.integers(most, size=1000)
        assert np.array_equal(order_of(key), np.argsort(key, kind="stable"))
    assert len(order_of(np.zeros(0, np.int64))) == 0


def test_no_change_no_events():
    events = crossings(np.array([0, 10]), np.array([0, 1]), np.ones((2, 4)), Pixels(np.ones(4), np.ones(4), 0.0, 1.0))
    assert events.t.dtype == events.pixel.dtype == np.int64
    assert events.p.dtype == np.int8
    assert [len(field) for field in events] == [0, 0, 0]
    assert len(Camera(noise_hz=0).record(np.zeros((8, 8)))) == 0


def test_the_path_is_a_triangle_of_three_saccades_with_rests_between():
    camera = Camera(
        corners=((-4, -3), (0, 3), (4, -3)),
        saccades_us=((10_000, 90_000), (100_000, 200_000), (200_000, 300_000)),
    )
    path = dict(zip(camera.sample_times.tolist(), camera.path.tolist(), strict=True))
    assert [path[t] for t in (0, 10_000, 90_000, 100_000)] == [[-4, -3], [-4, -3], [0, 3], [0, 3]]
    assert [path[t] for t in (200_000, 300_000)] == [[4, -3], [-4, -3]]
    assert path[50_000] == pytest.approx([-2, 0])
    assert path[150_000] == pytest.approx([2, 0])
    speed = np.linalg.norm(np.diff(camera.path, axis=0), axis=1)
    assert speed[:100].argmax() in (49, 50)
    assert speed[[0, 99, 100, 199, 200, 299]].max() < 0.01 * speed.max()  # at rest at the corners


def test_a_path_of_constant_speed_has_any_number_of_straight_pieces():
    camera = Camera(
        corners=((0, 0), (3, 4)), saccades_us=((1000, 11_000), (11_000, 16_000)), constant_speed=True, sample_us=500
    )
    assert camera.duration_us == 16_000
    path = dict(zip(camera.sample_times.tolist(), camera.path.tolist(), strict=True))
    assert [path[t] for t in (0, 1000, 6000, 11_000, 16_000)] == [[0, 0], [0, 0], [1.5, 2], [3, 4], [0, 0]]
    speed = np.linalg.norm(np.diff(camera.path, axis=0), axis=1) / 0.5  # pixels per ms: 5 in 10 ms, then 5 in 5 ms
    assert speed == pytest.approx([0] * 2 + [0.5] * 20 + [1.0] * 10)


def test_events_of_a_moved_image_are_at_its_new_position():
    # one bright image pixel per sensor pixel: the spline spreads it 1/6, 2/3, 1/6 along each axis
    camera = Camera(height=5, width=7, image_pixels=1, corners=((0, 0),) * 3, dark=0.1)
    still = np.exp(camera.log_intensity(np.ones((1, 1)))[0]) - 0.1
    assert still[2, 3] == pytest.approx(4 / 9)
    assert still[2, 2] == still[2, 4] == pytest.approx(1 / 9)
    assert still.sum() == pytest.approx(1)
    moved = replace(camera, corners=((-2, -1), (0, 0), (0, 0)))  # starts two columns left and one row above the centre
    seen = np.exp(moved.log_intensity(np.ones((1, 1)))[0]) - 0.1
    assert np.unravel_index(seen.argmax(), seen.shape) == (1, 1)


def test_a_bright_edge_that_arrives_is_on_and_off_in_the_negative():
    camera = Camera(image_pixels=8, corners=((-6, 0), (0, 0), (-6, 0)), threshold_off=0.064, noise_hz=0, negative=False)
    positive = camera.record(np.ones((8, 8)))
    first = positive[positive["t"] < 95_000]  # to the right: light comes to the right, leaves on the left
    assert np.all(first["x"][first["p"] == 1] > first["x"][first["p"] == 0].max())
    image_negative = replace(camera, negative=True, mismatch=0).record(np.ones((8, 8)))
    image_positive = replace(camera, mismatch=0).record(np.ones((8, 8)))
    image_positive["p"] = 1 - image_positive["p"]
    assert np.array_equal(image_negative, image_positive)


def test_an_even_image_keeps_its_brightness_at_any_magnification():
    for image_pixels in (5, 16, 64):  # finer than, as fine as and coarser than the sensor's pixels
        camera = Camera(height=16, width=16, image_pixels=64, corners=((0, 0),) * 3)
        image = np.full((image_pixels, image_pixels), 0.5)
        seen = np.exp(camera.log_intensity(image)) - camera.dark
        assert seen == pytest.approx(np.full((len(camera.sample_times), 16, 16), 0.5), abs=1e-3)


def test_an_image_too_small_to_see_gives_no_events():
    for image_pixels in (1e-5, 5e-324):
        assert len(Camera(image_pixels=image_pixels, noise_hz=0.0).record(np.ones((8, 8)))) == 0


def test_recordings_fit_the_sensor_and_have_both_polarities():
    camera = Camera(height=20, width=30, image_pixels=12)
    image = np.zeros((6, 9))
    image[2:4, 2:7] = 1
    recording = camera.record(image)
    events.check_recording(recording, camera.sensor_size)
    assert recording["t"][-1] < camera.duration_us == 300_000
    assert 0.4 < recording["p"].mean() < 0.6
    same_time = np.diff(recording["t"]) == 0
    pixel = recording["y"].astype(int) * 30 + recording["x"]
    assert np.all(np.diff(pixel)[same_time] >= 0)


def plain_record(camera, image):
    """What the camera's definition says, pixel by pixel: (t, y, x, p)."""
    pitch = camera.image_pixels / max(image.shape)
    blur = max(pitch, 1)

    def weight(sensor_pixels, image_pixels, i, j, shift):
        at = (i - (sensor_pixels - 1) / 2 - shift) - (j - (image_pixels - 1) / 2) * pitch
        d = abs(at) / blur
        spline = 2 / 3 - d**2 + d**3 / 2 if d < 1 else max(2 - d, 0) ** 3 / 6
        return spline * pitch / blur

    found = []
    on, off = camera.thresholds
    for y in range(camera.height):
        for x in range(camera.width):
            light = []
            for shift_x, shift_y in camera.path:
                rows = [weight(camera.height, image.shape[0], y, j, shift_y) for j in range(image.shape[0])]
                columns = [weight(camera.width, image.shape[1], x, j, shift_x) for j in range(image.shape[1])]
                light.append((-1 if camera.negative else 1) * np.log(rows @ image @ columns + camera.dark))
            reference, last = light[0], -np.inf
            for k in range(1, len(light)):
                while light[k] >= reference + on[y, x] or light[k] <= reference - off[y, x]:
                    rising = light[k] > light[k - 1]
                    reference += on[y, x] if rising else -off[y, x]
                    t = camera.sample_us * (k - 1 + (reference - light[k - 1]) / (light[k] - light[k - 1]))
                    if t - last >= camera.refractory_us:
                        found.append((round(t), y, x, int(rising)))
                        last = t
    return sorted(event for event in found if event[0] < camera.duration_us)


@pytest.mark.parametrize(
    ("parameters", "shape"),
    [
        ({"negative": False}, (4, 3)),
        ({"refractory_us": 100}, (4, 3)),
        ({"constant_speed": True, "width": 8}, (3, 4)),
        ({"width": 17, "height": 3, "dark": 0.01}, (3, 3)),
        ({"image_pixels": 6, "threshold_on": 0.01, "dark": 0.5}, (9, 9)),  # finer than the sensor
        ({"image_pixels": 50, "dark": 0.1}, (9, 9)),  # the sensor sees a small part
    ],
)
def test_events_are_those_of_the_definition(parameters, shape):
    camera = Camera(**{"height": 6, "width": 7, "image_pixels": 8, "sample_us": 10_000, "noise_hz": 0.0} | parameters)
    image = np.random.default_rng(1).random(shape)
    recording = camera.record(image)
    expected = plain_record(camera, image)
    assert len(expected) > 20
    assert list(zip(*(recording[field].tolist() for field in "tyxp"), strict=True)) == expected


def test_many_recordings_have_their_numbers_as_seeds():
    images = np.random.default_rng(0).random((3, 4, 4))
    camera = Camera(noise_hz=5.0, image_pixels=10)
    for n, recording in enumerate(camera.record_many(images, progress=False)):
        assert np.array_equal(recording, camera.record(images[n], seed=n))


def test_thresholds_differ_from_pixel_to_pixel_by_the_mismatch():
    on, off = Camera(height=100, width=100, threshold_on=0.4, threshold_off=0.2, mismatch=0.1).thresholds
    assert [on.mean(), off.mean()] == pytest.approx([0.4, 0.2], rel=0.01)
    assert [on.std(), off.std()] == pytest.approx([0.04, 0.02], rel=0.05)
    assert abs(np.corrcoef(on.ravel(), off.ravel())[0, 1]) < 0.05
    assert np.all(Camera(mismatch=5.0).thresholds[0] > 0)
    assert not np.array_equal(Camera(seed=1).thresholds[0], Camera(seed=2).thresholds[0])


def test_noise_has_its_rate_both_polarities_and_a_seed():
    camera = Camera(noise_hz=10.0)
    noise = camera.record(np.zeros((2, 2)), seed=3)
    expected = 10 * 0.3 * 34 * 34
    assert abs(len(noise) - expected) < 5 * expected**0.5
    assert 0.45 < noise["p"].mean() < 0.55
    events.check_recording(noise, camera.sensor_size)
    assert np.array_equal(noise, camera.record(np.zeros((2, 2)), seed=3))
    assert not np.array_equal(noise[:50], camera.record(np.zeros((2, 2)), seed=4)[:50])


def test_the_hash_depends_on_every_parameter():
    camera = Camera()
    assert camera.parameter_hash == Camera().parameter_hash == Camera(height=34.0).parameter_hash
    other = {name: value * 2 or 1 for name, value in vars(camera).items()}
    other |= {"corners": ((0, 0),) * 3, "saccades_us": ((0, 1000), (1000, 2000), (2000, 3000))}
    other |= {"constant_speed": True, "negative": False}
    changed = [replace(camera, **{name: value}) for name, value in other.items()]
    assert len({c.parameter_hash for c in [camera, *changed]}) == len(changed) + 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"threshold_on": 0.0}, "threshold_on must be > 0"),
        ({"noise_hz": -1.0}, "noise_hz must be >= 0"),
        ({"dark": np.nan}, "dark must be > 0"),
        ({"sample_us": 70_000}, "must divide 300000"),
        ({"corners": ((0, 0), (1, 1))}, "corners must be 3 pairs"),
        ({"corners": ((0, 0), (1, 1), (np.nan, 0))}, "corners must be 3 pairs"),
        ({"corners": None}, "corners must be 3 pairs"),
        ({"saccades_us": ((0, 9), (8, 10), (10, 20))}, "saccades_us must be pairs .* in order"),
        ({"saccades_us": ((0, 9), (9, 9), (10, 20))}, "saccades_us must be pairs .* in order"),
        ({"saccades_us": ((0, 9), (9, 20))}, "corners must be 2 pairs"),
        ({"saccades_us": ((0, 9), (9, 20), (20, np.nan))}, "saccades_us must be pairs"),
        ({"saccades_us": ((0, 9), (9, 20), (20, 10**30))}, "saccades_us must be pairs"),
        ({"saccades_us": ((0, 9), (9, 20.5), (21, 30))}, "saccades_us must be pairs"),
        ({"saccades_us": ((-1, 9),)}, "saccades_us must be pairs"),
        ({"saccades_us": ()}, "saccades_us must be pairs"),
        ({"saccades_us": "now"}, "saccades_us must be pairs"),
        ({"constant_speed": 1}, "constant_speed must be True or False, not 1"),
        ({"height": "34"}, "height must be a number, not '34'"),
        ({"height": True}, "height must be a number, not True"),
        ({"height": 10**30}, "height must be at most 32767"),
        ({"width": 2.5}, "width must be a whole number, not 2.5"),
        ({"height": 30_000, "width": 30_000}, "Camera: 301 samples of 30000 x 30000 pixels are more than"),
        ({"sample_us": 1, "height": 1000}, "Camera: 300,001 samples of 1000 x 34 pixels are more than"),
        ({"sample_us": 0.5}, "sample_us must be a whole number"),
        ({"threshold_on": 1e-300}, "would cross its threshold .* times"),
        ({"dark": 1e-300, "threshold_off": 1e-3}, "would cross its threshold 690,.* times"),
        ({"noise_hz": 1e8}, "noise_hz = 1e\\+08 would add"),
        ({"noise_hz": np.inf}, "noise_hz must be at most"),
        ({"seed": -1}, "seed must be >= 0"),
        ({"seed": 0.5}, "seed must be a whole number"),
        ({"negative": "no"}, "negative must be True or False"),
    ],
)
def test_impossible_cameras_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        Camera(**parameters)


def test_impossible_images_are_refused():
    with pytest.raises(InputError, match=r"0\.\.1"):
        Camera().record(np.full((8, 8), 16.0))
    for look in (Camera().record, Camera().log_intensity):
        with pytest.raises(InputError, match="height, width"):
            look(np.zeros((1, 8, 8)))
        with pytest.raises(InputError, match=r"0\.\.1"):
            look(np.full((8, 8), -1.0))
        for image in (np.full((8, 8), 1j), "abc", [[1, 2], [3]], None):
            with pytest.raises(InputError, match="an image must be intensities, not "):
                look(image)
    with pytest.raises(InputError, match="images must be a list, not None"):
        Camera().record_many(None)
    for seed in (-1, 1.5, "a"):
        with pytest.raises(InputError, match="the seed must be a whole number >= 0 or a list of such numbers, not"):
            Camera().record(np.ones((8, 8)), seed)


@pytest.mark.parametrize("shape", [(2, 10**6), (10**6, 2)])
def test_an_image_that_the_memory_cannot_hold_before_the_camera_is_refused(shape, monkeypatch):
    """The system ended the process: the weights of a million pixels are 80 GB."""
    monkeypatch.setattr(machine, "available_bytes", lambda: 2**34)
    with pytest.raises(
        MachineError, match=f"an image of {shape[0]:,} x {shape[1]:,} pixels before the camera would take"
    ):
        Camera().record(np.zeros(shape))
