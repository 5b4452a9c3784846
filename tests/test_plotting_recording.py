"""Event clouds and time surfaces."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from mtt_brian import events, plotting
from mtt_brian.errors import InputError
from tests.plots import legend, lines

#: Three pixels of a sensor of 2 polarities, 3 rows and 4 columns; the last event repeats the first pixel.
RECORDING = events.make_recording([1_000, 2_000, 3_000, 5_000], x=[0, 3, 1, 0], y=[0, 2, 1, 0], p=[1, 0, 1, 1])
SENSOR = (2, 3, 4)


class TestEventCloud:
    @pytest.fixture
    def ax(self):
        return Figure().add_subplot(projection="3d")

    def test_every_event_is_a_dot_in_time_x_and_y(self, ax):
        assert plotting.event_cloud(RECORDING, ax=ax) is ax
        dots = lines(ax)
        assert np.transpose(dots["ON"].get_data_3d()).tolist() == [[1, 0, 0], [3, 1, 1], [5, 0, 0]]
        assert np.transpose(dots["OFF"].get_data_3d()).tolist() == [[2, 3, 2]]
        assert dots["ON"].get_color() != dots["OFF"].get_color()
        assert legend(ax) == ["OFF", "ON"]
        assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_zlabel()) == ("time (ms)", "x", "y")

    def test_row_0_is_on_top(self, ax):
        plotting.event_cloud(RECORDING, sensor_size=(2, 11, 21), ax=ax)
        assert ax.get_zlim() == pytest.approx((10.5, -0.5))
        assert ax.get_ylim() == pytest.approx((-0.5, 20.5))

    def test_channels_that_are_no_polarities(self, ax):
        plotting.event_cloud(events.make_recording([1, 2], x=0, p=[0, 2]), ax=ax)
        assert list(lines(ax)) == ["channel 0", "channel 2"]

    def test_an_empty_recording(self, ax):
        plotting.event_cloud(RECORDING[:0], sensor_size=SENSOR, ax=ax)
        assert len(ax.lines) == 0

    def test_makes_its_own_axes(self):
        import matplotlib.pyplot as plt

        plt.switch_backend("Agg")
        axes = plotting.event_cloud(RECORDING)
        assert (axes.name, axes.figure) == ("3d", plt.gcf())
        plt.close(axes.figure)

    def test_refuses_flat_axes(self):
        with pytest.raises(InputError, match='projection="3d"'):
            plotting.event_cloud(RECORDING, ax=Figure().subplots())

    def test_refuses_events_outside_the_sensor(self, ax):
        with pytest.raises(InputError, match="x = 3, outside"):
            plotting.event_cloud(RECORDING, sensor_size=(2, 3, 3), ax=ax)

    def test_refuses_what_is_no_recording(self, ax):
        with pytest.raises(InputError, match="lacks p"):
            plotting.event_cloud(RECORDING[["t", "x", "y"]], ax=ax)


class TestTimeSurface:
    @pytest.fixture
    def ax(self):
        return Figure().subplots()

    def test_values_by_the_formula(self):
        values = plotting.time_surface_values(RECORDING, SENSOR, time=0.003, tau=0.002)
        expected = np.zeros(SENSOR)
        expected[1, 0, 0] = np.exp(-1)  # 2 ms ago; the event at 5 ms has not happened yet
        expected[0, 2, 3] = np.exp(-0.5)
        expected[1, 1, 1] = 1  # right now
        assert np.allclose(values, expected, rtol=1e-12, atol=0)

    def test_the_latest_event_of_a_pixel_counts(self):
        assert plotting.time_surface_values(RECORDING, SENSOR, 0.006, 0.001)[1, 0, 0] == pytest.approx(np.exp(-1))

    def test_nothing_before_the_first_event(self):
        assert not plotting.time_surface_values(RECORDING, SENSOR, 0.0, 1.0).any()

    def test_against_tonic(self):
        to_timesurface = pytest.importorskip("tonic.functional").to_timesurface_numpy
        rng = np.random.default_rng(0)
        t = np.concatenate([[0], np.sort(rng.integers(1, 100_000, 500))])
        recording = events.make_recording(
            t, *(np.append(0, rng.integers(0, size, 500)) for size in (SENSOR[2], SENSOR[1], SENSOR[0]))
        )
        theirs = to_timesurface(recording, SENSOR[::-1], dt=10_000, tau=20_000, include_incomplete=True)
        for k, surface in enumerate(theirs[:-1], 1):
            # Their slices leave out an event at their end, which comes a whole microsecond after the last one inside.
            before = recording[recording["t"] < 10_000 * k]
            assert np.allclose(surface, plotting.time_surface_values(before, SENSOR, 0.01 * k, 0.02))
        assert len(theirs) > 5

    def test_image_of_one_polarity(self, ax):
        assert plotting.time_surface(RECORDING, time=0.003, tau=0.002, polarity=0, sensor_size=SENSOR, ax=ax) is ax
        (image,) = ax.images
        expected = np.zeros(SENSOR[1:])
        expected[2, 3] = np.exp(-0.5)
        assert np.allclose(image.get_array(), expected)
        assert image.get_clim() == (0, 1)
        assert ax.get_ylim()[0] > ax.get_ylim()[1]  # row 0 on top
        assert ax.get_title() == "3 ms"
        (bar,) = [other for other in ax.figure.axes if other is not ax]
        assert "2 ms" in bar.get_ylabel()

    def test_image_of_both_at_the_last_event(self, ax):
        plotting.time_surface(RECORDING, tau=0.002, ax=ax)
        expected = np.zeros(SENSOR[1:])  # all of it, as the recording reaches every edge
        expected[0, 0], expected[2, 3], expected[1, 1] = np.exp([0, -1.5, -1])
        assert np.allclose(ax.images[0].get_array(), expected)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"polarity": 2}, "polarity must be at most 1, not 2"),
            ({"tau": 0.0}, "must be > 0 seconds and finite, not 0.0"),
            ({"sensor_size": (2, 2, 4)}, "y = 2, outside"),
        ],
    )
    def test_refuses(self, options, message, ax):
        with pytest.raises(InputError, match=message):
            plotting.time_surface(RECORDING, **options, ax=ax)
