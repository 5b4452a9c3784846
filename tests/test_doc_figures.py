"""The scripts that draw the figures of the documentation: they read RESULTS.md, and the gallery shows their code."""

import re
import runpy
from pathlib import Path

import pytest

from mtt_brian.evaluate import Estimate

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def figures():
    return runpy.run_path(str(DOCS / "figures.py"))


def test_the_sweep_is_that_of_results(figures):
    curves = list(figures["sweep_curves"]())
    assert [curve.label.split(":")[0] for curve in curves] == ["SDT", "NMT", "MTT"]
    text = (DOCS.parent / "RESULTS.md").read_text(encoding="utf-8")
    for curve in curves:
        assert curve.time_steps == [1, 5, 10, 50, 200]
        for value, error in (*curve.accuracy, curve.event_driven):
            assert f"{100 * value:.1f} ± {100 * error:.1f}" in text
    # The printed gap is the difference of the printed accuracies.
    gap = re.search(r"\| SDT \|.*\| ([+-][\d.]+) ±", text)
    assert gap
    assert 100 * (curves[0].accuracy[-1].value - curves[0].event_driven.value) == pytest.approx(float(gap[1]), abs=0.11)


def test_the_bounds_are_those_of_results(figures):
    validation, test = figures["bound_panels"]()
    for panel in (validation, test):
        assert list(panel.levels) == ["none", "-4", "-1", "-0.25"]
        assert len(panel.lines) == 4
        assert all(len(line.accuracy) == 4 for line in panel.lines)
    stepped, event_driven = validation.lines[:2]
    assert stepped.label == "SDT: fixed time steps, time-stepped"
    assert event_driven.label == "SDT: fixed time steps, event-driven"
    assert event_driven.accuracy[0].value < stepped.accuracy[0].value


def test_cells_with_several_estimates(figures):
    found = figures["estimates"]("94.7 ± 0.9 / **92.7 ± 1.5** / -")
    assert found == [Estimate(pytest.approx(0.947), pytest.approx(0.009)), Estimate(pytest.approx(0.927), 0.015)]


def test_the_gallery_shows_every_thumbnail_and_its_code():
    code = (DOCS / "gallery.py").read_text(encoding="utf-8")
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    names = re.findall(r'with thumbnail\("(\w+)"', code)
    assert len(names) == 10
    assert sorted(path.stem for path in (DOCS / "gallery").iterdir()) == sorted(names)
    for name in names:
        assert f'--8<-- "docs/gallery.py:{name}"' in page
        assert page.count(f"gallery/{name}.png") == 2


@pytest.mark.slow
def test_the_thumbnails_can_be_drawn(tmp_path, monkeypatch):
    module = runpy.run_path(str(DOCS / "gallery.py"))
    monkeypatch.setitem(module["main"].__globals__, "FOLDER", tmp_path)
    module["main"]()
    assert len(list(tmp_path.iterdir())) == 10
