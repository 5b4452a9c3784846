"""What all figures have in common: the style, and that every plot draws something that is seen."""

import inspect
import itertools
import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from mtt_brian import events, plotting
from mtt_brian.engines.exact.trace import membrane_trace
from mtt_brian.errors import InputError
from mtt_brian.evaluate import Estimate
from mtt_brian.neuron import IF
from mtt_brian.plotting.style import cycle, line_style
from tests.plots import train

RECORDING = events.make_recording([1_000, 2_000, 3_000], x=[0, 3, 1], y=[0, 2, 1], p=[1, 0, 1])
SPIKES = {"input": train([0.1, 0.2], [0, 1]), "out": train([0.15], [1])}
SIZES = {"input": 2, "out": 2}
ESTIMATES = [Estimate(0.5, 0.1), Estimate(0.9, 0.05)]
BOWL = np.add.outer(np.arange(-1, 2) ** 2, np.arange(-1, 2) ** 2) + 0.1

#: One call of every function that draws.
EXAMPLES = {
    "accuracy_against": lambda ax: plotting.accuracy_against(["none", 1], ESTIMATES, ax=ax),
    "accuracy_bars": lambda ax: plotting.accuracy_bars(["T = 1", "T = 2"], {"mtt": ESTIMATES}, ax=ax),
    "accuracy_over_time": lambda ax: plotting.accuracy_over_time([0, 0.3], [0.1, 0.9], ax=ax),
    "change_matrix": lambda ax: plotting.change_matrix(["a", "b"], [[0.5, 0.2], [0.2, 0.1]], ax=ax),
    "confusion_matrix": lambda ax: plotting.confusion_matrix([[3, 1], [0, 2]], ax=ax),
    "early_exit": lambda ax: plotting.early_exit([1e3, 2e3], ESTIMATES, name="SynOps", ax=ax),
    "event_cloud": lambda ax: plotting.event_cloud(RECORDING, ax=ax),
    "loss_line": lambda ax: plotting.loss_line([-1, 0, 1], BOWL, ax=ax),
    "loss_surface": lambda ax: plotting.loss_surface([-1, 0, 1], BOWL, [0.5, 1.5], ax=ax),
    "membrane": lambda ax: plotting.membrane(membrane_trace(IF(), [0.1, 0.2], [0.6, 0.6], 0.3), ax=ax),
    "raster": lambda ax: plotting.raster(SPIKES, sizes=SIZES, ax=ax),
    "rates": lambda ax: plotting.rates(SPIKES, sizes=SIZES, bin_width=0.05, ax=ax),
    "readout": lambda ax: plotting.readout([0, 0.1], [[0, 0], [1, 2]], ax=ax),
    "spike_time_differences": lambda ax: plotting.spike_time_differences(SPIKES, SPIKES, ax=ax),
    "time_step_sweep": lambda ax: plotting.time_step_sweep([1, 10], ESTIMATES, ax=ax),
    "time_surface": lambda ax: plotting.time_surface(RECORDING, tau=0.002, ax=ax),
    "training_curve": lambda ax: plotting.training_curve([{"loss": 2.0, "accuracy": 0.5}] * 2, ax=ax),
    "waterfall": lambda ax: plotting.waterfall(["start", "+ a"], ESTIMATES, ESTIMATES[:1], ax=ax),
}


def test_every_plot_has_an_example():
    functions = {name: getattr(plotting, name) for name in plotting.__all__}
    drawing = {n for n, f in functions.items() if inspect.isfunction(f) and "ax" in inspect.signature(f).parameters}
    assert drawing == set(EXAMPLES)


@pytest.mark.parametrize("background", ["light", "dark"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_artist_is_visible(name, background):
    """The picture changes with every artist that is left out: none is empty, white, outside the axes or too small."""
    styles = ["dark_background", plotting.STYLE] if background == "dark" else [plotting.STYLE]
    with style.context(styles), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        figure = Figure(layout="none", dpi=100)
        canvas = FigureCanvasAgg(figure)
        ax = figure.add_subplot(projection="3d" if name == "event_cloud" else None)
        assert EXAMPLES[name](ax) is ax
        complete = pixels(canvas)
        artists = [*ax.lines, *ax.patches, *ax.collections, *ax.images]
        assert artists
        for artist in artists:
            artist.set_visible(False)
            assert np.any(pixels(canvas) != complete, axis=-1).sum() > 3, artist
            artist.set_visible(True)


def pixels(canvas):
    canvas.draw()
    return np.array(canvas.buffer_rgba())


class TestStyle:
    def test_importing_and_drawing_change_nothing_for_others(self):
        code = """
import sys, matplotlib, matplotlib.figure
before = matplotlib.rcParams.copy()
from mtt_brian import plotting
plotting.accuracy_over_time([0, 1], [0, 1], ax=matplotlib.figure.Figure().subplots())
sys.exit(matplotlib.rcParams != before or 'matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)
"""
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0

    def test_the_file_has_the_cycle_that_plots_use(self):
        with style.context(plotting.STYLE):
            assert matplotlib.rcParams["axes.prop_cycle"] == cycle()[:7]
        assert len(plotting.COLORS) == 7

    def test_the_first_lines_are_distinct_in_grey(self):
        lightness = [cie_lab(linear_rgb(color))[0] for color in plotting.COLORS]
        assert smallest_distance(lightness[:3]) > 20
        assert smallest_distance(lightness[:4]) > 10
        assert max(lightness) < 75  # white paper has 100

    @pytest.mark.parametrize("sight", ["usual", "protanopia", "deuteranopia", "tritanopia"])
    def test_colours_are_distinct_for_colour_blind_readers(self, sight):
        seen = [cie_lab(SIGHT[sight] @ linear_rgb(color)) for color in plotting.COLORS]
        assert smallest_distance(seen) > 15

    def test_lines_are_light_on_a_dark_background(self):
        with style.context("dark_background"):
            lightness = [cie_lab(linear_rgb(line_style(k)["color"]))[0] for k in range(7)]
        assert min(lightness) > 40  # black has 0

    def test_lines_differ_in_dash_and_marker(self):
        styles = [line_style(k) for k in range(49)]
        assert len({style["linestyle"] for style in styles[:7]}) == len({s["marker"] for s in styles[:7]}) == 7
        assert len({(style["color"], style["linestyle"]) for style in styles}) == 49

    def test_makes_its_own_axes_for_a_notebook(self):
        import matplotlib.pyplot as plt

        plt.switch_backend("Agg")
        axes = plotting.accuracy_over_time([0, 1], [0, 1])
        assert axes.figure is plt.gcf()
        plt.close(axes.figure)


class TestFigure:
    def test_is_written_in_the_style_and_in_inches(self, tmp_path):
        before = matplotlib.rcParams.copy()
        with plotting.figure(tmp_path / "a.png", (2, 1)) as figure:
            ax = plotting.accuracy_over_time([0, 1], [0, 1], ax=figure.subplots())
        assert imread(tmp_path / "a.png").shape[:2] == (300, 600)
        assert not ax.spines["top"].get_visible()
        assert ax.xaxis.get_ticklines()[0].get_markersize() == 2.5  # ticks are made as late as in the saving
        assert matplotlib.rcParams == before

    def test_fits_a_column_by_default(self, tmp_path):
        with plotting.figure(tmp_path / "a.png") as figure:
            pass
        assert figure.get_figwidth() == 3.5

    def test_fonts_in_a_pdf_are_fonts(self, tmp_path):
        with plotting.figure(tmp_path / "a.pdf") as figure:
            figure.subplots().set_xlabel("time (ms)")
        content = (tmp_path / "a.pdf").read_bytes()
        assert b"CIDFontType2" in content
        assert b"Type3" not in content

    @pytest.mark.parametrize("name", ["a", "a.xyz", ".png"])
    def test_a_name_without_the_ending_of_a_format(self, name, tmp_path):
        with pytest.raises(InputError, match=rf"{name}: the name of a figure must end in one of .*\.pdf, .*\.png"):
            plotting.figure(tmp_path / name).__enter__()

    def test_what_cannot_be_written_names_the_figure_alone(self, tmp_path):
        path = tmp_path / "none" / "a.png"
        with pytest.raises(FileNotFoundError, match=r": '[^>]*a.png'$"), plotting.figure(path):
            pass

    def test_an_error_leaves_no_file_and_no_style(self, tmp_path):
        before = matplotlib.rcParams.copy()
        with pytest.raises(ZeroDivisionError), plotting.figure(tmp_path / "a.png"):
            _ = 1 / 0
        assert list(tmp_path.iterdir()) == []
        assert matplotlib.rcParams == before


#: Linear RGB as it is seen: Machado, Oliveira, Fernandes, IEEE TVCG 15(6), 2009, severity 1.
SIGHT = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear_rgb(color):
    """sRGB without its gamma."""
    rgb = np.asarray(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def cie_lab(linear):
    """CIE 1976 L*a*b* with white at 100; L* is what a grey print keeps, and a difference of 2 is just noticed."""
    to_xyz = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])
    relative = to_xyz @ np.clip(linear, 0, 1) / to_xyz.sum(axis=1)
    x, y, z = np.where(relative > 0.008856, np.cbrt(relative), 7.787 * relative + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def smallest_distance(points):
    return min(np.linalg.norm(np.subtract(a, b)) for a, b in itertools.combinations(points, 2))
