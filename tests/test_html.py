"""The report as one HTML file: read as text, and opened in a real browser where there is one."""

import base64
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from mtt_brian import plotting
from mtt_brian.errors import InputError
from mtt_brian.evaluate import Estimate, EventDriven, Flexibility, Report, RunReport, TimeStepped, write_report
from mtt_brian.evaluate.html import ReportFigure, write_html
from mtt_brian.experiments import report_files
from mtt_brian.plotting import ModeRun
from tests.browser import Window
from tests.plots import result, train

WILD = """<b>&"'<script>alert(1)</script>"""
FLEXIBLE = "0.92 (0.85 to 0.95)"
CLASSES = ["cat", "dog", "<i>"]


def event_driven(order, accuracy, synops, decision=0.12, **changes):
    measured = EventDriven(
        order=order,
        accuracy=Estimate(accuracy, 0.03),
        spike_difference={"hidden": 0.25, "output": 1 / 3},
        spikes_per_recording={"input": 4000.0, "hidden": 97.25},
        synops_per_recording=synops,
        milliseconds_per_recording=0.6,
        compile_seconds=1.0,
        times=np.array([0.0, 0.3]),
        accuracy_over_time=np.array([0.1, accuracy]),
        median_decision_time=decision,
        confusion_matrix=np.array([[9, 1, 0], [0, 3, 0], [0, 0, 0]]),
    )
    return replace(measured, **changes)


def run(name, accuracies, t_max, *conventions, seed=3):
    return RunReport(
        run=name,
        method="mtt",
        seed=seed,
        n_recordings=13,
        time_stepped=TimeStepped(
            time_steps=t_max,
            accuracy={t: Estimate(a, 0.04) for t, a in accuracies.items()},
            spikes_per_recording={"hidden": 80.5, "input": 4000.0},
            synops_per_recording=2e6,
            milliseconds_per_recording=3.0,
        ),
        event_driven=conventions,
        network="nmnist_3c1fc",
        flexibility=Flexibility(0.923, 0.85, 0.95) if t_max == 10 else None,
    )


#: Numbers that sort otherwise as text: 0.125 and 0.96; 9,999 and 1,500,000; run-2 and run-10; nothing, and infinity.
REPORT = Report(
    dataset="digits",
    split="test",
    engine="exact",
    versions={"python": "3.11.7", "numpy": "2.3.5"},
    command="python x.py '<run>' --limit 13",
    title="digits (simulated)",
    date="2026-11-26",
    runs=(
        run("run-10", {1: 0.5, 10: 0.89}, 10, event_driven("sum", 0.125, 9999.0), event_driven("fifo", 0.8, 1.5e6)),
        run("run-2", {1: 0.7, 20: 0.1}, 20, event_driven("sum", 1.0, 1.5e6, decision=math.inf), seed=None),
        run(
            WILD,
            {1: 0.6, 10: 0.88},
            10,
            event_driven("sum", 0.96, 812.5, decision=0.009, spike_difference={"hidden": math.inf, "output": 2.0}),
            event_driven("fifo", 0.85, 99.0),
        ),
    ),
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Folder with report.html and the two pictures in it."""
    folder = tmp_path_factory.mktemp("report")
    pictures = []
    for name, size in (("bars", (3, 2)), ("raster", (6, 3))):
        figure = Figure(figsize=size, dpi=100)
        figure.subplots().plot([1, 3, 2])
        figure.savefig(folder / f"{name}.png")
        pictures.append(ReportFigure(folder / f"{name}.png", f'A "picture" of {name}', f"<{name}> & more"))
    write_html(REPORT, pictures, folder / "report.html", CLASSES)
    return folder


class Page(HTMLParser):
    """The elements of a page with their attributes, its text, and its tables as rows of cells."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.tables, self.text, self.cell, self.shown = [], {}, "", None, True
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        self.shown = tag not in ("style", "script")
        if tag == "table":
            self.rows = self.tables[attributes["id"]] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.cell = {"text": "", "value": None}
            self.rows[-1].append(self.cell)
        elif tag == "data":
            self.cell["value"] = json.loads(attributes["value"])

    def handle_endtag(self, tag):
        self.shown = True
        if tag in ("td", "th"):
            self.cell = None

    def handle_data(self, data):
        if self.shown:
            self.text += data
        if self.cell:
            self.cell["text"] += data

    def texts(self, table):
        return [[cell["text"] for cell in row] for row in self.tables[table]]

    def values(self, table):
        """The numbers behind the cells of the body, None where there is none."""
        return [[cell["value"] for cell in row] for row in self.tables[table][2:]]

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(written):
    return Page(written / "report.html")


def decoded(uri, kind):
    start = f"data:{kind};base64,"
    assert uri.startswith(start)
    return base64.b64decode(uri.removeprefix(start), validate=True)


class TestFile:
    def test_needs_nothing_else(self, written, page):
        for tag, attributes in page.elements:
            for name in ("src", "srcset", "href", "action", "data", "poster", "background"):
                assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
        assert {"link", "style", "script", "img"} <= {tag for tag, _ in page.elements}
        text = re.sub(r"data:[a-z/]+;base64,[A-Za-z0-9+/=]+", "", (written / "report.html").read_text())
        assert not re.search(r"https?:|url\(|@import|\bimport\b|fetch|XMLHttp", text)

    def test_pictures_and_their_words(self, written, page):
        bars, raster = page.all("img")
        for image, name, size in ((bars, "bars", (300, 200)), (raster, "raster", (600, 300))):
            assert decoded(image["src"], "image/png") == (written / f"{name}.png").read_bytes()
            assert (int(image["width"]), int(image["height"])) == size
            assert image["alt"] == f'A "picture" of {name}'
            assert f"<{name}> & more" in page.text

    def test_report_json_is_in_it(self, written, page, tmp_path):
        write_report(REPORT, tmp_path)
        (link,) = (link for link in page.all("a") if "download" in link)
        assert link["download"] == "report.json"
        assert decoded(link["href"], "application/json") == (tmp_path / "report.json").read_bytes()

    def test_states_the_measurement_and_the_method(self, page):
        words = (
            "Without time steps run-10 loses 76.5 points (89.0 → 12.5 %), run-2 gains 90.0 points",
            "network nmnist_3c1fc data digits (simulated), test recordings 13 engine exact date 2026-11-26",
            "python x.py '<run>' --limit 13",
            "numpy 2.3.5",
            "their jumps are added up",
            "each event is applied alone",
            "√(p (1 − p) / n)",
            "Σ |s₀ − s| / Σ s₀",
            "Decision time",
        )
        text = " ".join(page.text.split())
        assert not [part for part in words if part not in text]

    def test_names_are_text(self, page):
        assert [row[0]["text"] for row in page.tables["accuracies"][2:]] == ["run-10", "run-2", WILD]
        assert f"{WILD}, event-driven, fifo" in page.text
        assert not page.all("i")
        assert len(page.all("script")) == 1

    def test_is_the_same_every_time(self, written, tmp_path):
        pictures = [
            ReportFigure(written / f"{n}.png", f'A "picture" of {n}', f"<{n}> & more") for n in ("bars", "raster")
        ]
        write_html(REPORT, pictures, tmp_path / "again.html", CLASSES)
        assert (tmp_path / "again.html").read_bytes() == (written / "report.html").read_bytes()

    def test_without_pictures_and_names_of_classes(self, tmp_path):
        write_html(REPORT, [], tmp_path / "report.html")
        page = Page(tmp_path / "report.html")
        assert not page.all("img")
        assert "Figures" not in page.text
        assert page.texts("confusion-1")[1] == ["true class", "0", "1", "2", "recordings", "correct, %"]

    @pytest.mark.parametrize(
        ("content", "message"), [(None, r"bars\.png: No such file"), (b"GIF89a", r"bars\.png: not a PNG or SVG file")]
    )
    def test_pictures_that_are_none(self, content, message, tmp_path):
        path = tmp_path / "bars.png"
        if content:
            path.write_bytes(content)
        (tmp_path / "report.html").write_text("older")
        with pytest.raises(InputError, match=message):
            write_html(REPORT, [ReportFigure(path, "", "")], tmp_path / "report.html")
        assert (tmp_path / "report.html").read_text() == "older"

    def test_a_report_of_an_earlier_version_has_no_date(self, tmp_path):
        content = json.loads(REPORT.json())
        del content["date"]
        for of_run in content["runs"]:
            del of_run["network"]
        write_html(Report.from_json(json.dumps(content)), [], tmp_path / "report.html", CLASSES)
        facts = " ".join(Page(tmp_path / "report.html").text.split())
        assert "data digits (simulated), test recordings 13 engine exact Accuracy" in facts

    def test_the_tables_of_a_single_run_are_turned(self, tmp_path):
        write_html(replace(REPORT, runs=REPORT.runs[:1]), [], tmp_path / "report.html", CLASSES)
        page = Page(tmp_path / "report.html")
        rows = page.texts("accuracies")
        assert rows[1:4] == [["", "run-10"], ["method", "mtt"], ["seed", "3"]]
        assert ["event-driven, sum", "12.5 ± 3.0"] in rows
        assert page.texts("costs")[2] == ["SynOps per recording, T_max", "2,000,000"]

    def test_an_svg_keeps_its_size_in_points(self, tmp_path):
        figure = Figure(figsize=(4, 2))
        figure.subplots()
        figure.savefig(tmp_path / "drawn.svg")
        write_html(REPORT, [ReportFigure(tmp_path / "drawn.svg", "", "")], tmp_path / "report.html")
        (image,) = Page(tmp_path / "report.html").all("img")
        assert (image["width"], image["height"]) == ("288", "144")
        assert decoded(image["src"], "image/svg+xml") == (tmp_path / "drawn.svg").read_bytes()

    def test_outputs_without_a_name_have_numbers(self, tmp_path):
        write_html(REPORT, [], tmp_path / "report.html", CLASSES[:2])
        titles = Page(tmp_path / "report.html").texts("confusion-1")[1]
        assert titles == ["true class", "cat", "dog", "2", "recordings", "correct, %"]


class TestTables:
    def test_accuracies(self, page):
        assert page.texts("accuracies") == [
            ["", "event-driven", "time-stepped", ""],
            [
                "network",
                "method",
                "seed",
                "sum",
                "fifo",
                "T = 1",
                "T = 10",
                "T = 20",
                "flexibility",
                "T_max",
                "recordings",
            ],
            ["run-10", "mtt", "3", "12.5 ± 3.0", "80.0 ± 3.0", "50.0 ± 4.0", "89.0 ± 4.0", "-", FLEXIBLE, "10", "13"],
            ["run-2", "mtt", "-", "100.0 ± 3.0", "-", "70.0 ± 4.0", "-", "10.0 ± 4.0", "-", "20", "13"],
            [WILD, "mtt", "3", "96.0 ± 3.0", "85.0 ± 3.0", "60.0 ± 4.0", "88.0 ± 4.0", "-", FLEXIBLE, "10", "13"],
        ]

    def test_accuracies_are_those_of_report_json(self, page):
        for row, run in zip(page.values("accuracies"), REPORT.to_dict()["runs"], strict=True):
            estimates = [
                run[mode]["accuracy"] if mode in run else None for mode in ("event_driven", "event_driven_fifo")
            ]
            estimates += [run["time_stepped"].get(t) for t in ("1", "10", "20")]
            values = [estimate and estimate["value"] for estimate in estimates]
            values.append(run["flexibility"] and run["flexibility"]["value"])
            assert row[2:] == [run["seed"], *values, run["time_stepped_at_t_max"]["time_steps"], run["n_recordings"]]

    def test_layers_go_from_the_input_to_the_output(self, page):
        assert page.texts("layers") == [
            ["", "spikes per recording", "spike difference of T_max in %"],
            ["network", "layer", "T_max", "sum", "fifo", "from sum", "from fifo"],
            ["run-10", "input", "4,000", "4,000", "4,000", "-", "-"],
            ["run-10", "hidden", "80.50", "97.25", "97.25", "25.0", "25.0"],
            ["run-10", "output", "-", "-", "-", "33.3", "33.3"],
            ["run-2", "input", "4,000", "4,000", "-", "-", "-"],
            ["run-2", "hidden", "80.50", "97.25", "-", "25.0", "-"],
            ["run-2", "output", "-", "-", "-", "33.3", "-"],
            [WILD, "input", "4,000", "4,000", "4,000", "-", "-"],
            [WILD, "hidden", "80.50", "97.25", "97.25", "∞", "25.0"],
            [WILD, "output", "-", "-", "-", "200.0", "33.3"],
        ]

    def test_layers_are_those_of_report_json(self, page):
        rows = iter(page.values("layers"))
        for run in REPORT.to_dict()["runs"]:
            conventions = [run["event_driven"], run.get("event_driven_fifo", {})]
            for place, name in enumerate(("input", "hidden", "output")):
                spikes = [m.get("spikes_per_recording", {}).get(name) for m in conventions]
                differences = [m.get("spike_difference", {}).get(name) for m in conventions]
                stepped = run["time_stepped_at_t_max"]["spikes_per_recording"].get(name)
                shown = [None if value == math.inf else value for value in next(rows)]
                assert shown == [None, place, stepped, *spikes, *differences]

    def test_costs(self, page):
        assert page.texts("costs") == [
            [
                "",
                "SynOps per recording",
                "milliseconds per recording",
                "compilation, seconds",
                "median decision time, ms",
            ],
            ["network", "T_max", "sum", "fifo", "T_max", "sum", "fifo", "sum", "fifo", "sum", "fifo"],
            ["run-10", "2,000,000", "9,999", "1,500,000", "3.00", "0.60", "0.60", "1.00", "1.00", "120.0", "120.0"],
            ["run-2", "2,000,000", "1,500,000", "-", "3.00", "0.60", "-", "1.00", "-", "-", "-"],
            [WILD, "2,000,000", "812", "99.00", "3.00", "0.60", "0.60", "1.00", "1.00", "9.0", "120.0"],
        ]
        for row, run in zip(page.values("costs"), REPORT.to_dict()["runs"], strict=True):
            expected = [run["time_stepped_at_t_max"]["synops_per_recording"]]
            expected += [run[m]["synops_per_recording"] for m in ("event_driven", "event_driven_fifo") if m in run]
            assert [value for value in row[1:4] if value is not None] == expected

    def test_confusion_matrix(self, page):
        assert page.texts("confusion-1") == [
            ["", "predicted class", ""],
            ["true class", "cat", "dog", "<i>", "recordings", "correct, %"],
            ["cat", "9", "1", "", "10", "90.0"],
            ["dog", "", "3", "", "3", "100.0"],
            ["<i>", "", "", "", "0", "-"],
        ]
        assert len([name for name in page.tables if name.startswith("confusion")]) == 5

    def test_shades_are_parts_of_the_class(self, page):
        styles = [cell["style"] for cell in page.all("td") if "style" in cell][:3]
        assert styles == ["--share:0.90", "--share:0.10", "--share:1.00"]


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """A report with the figures that an evaluation draws."""
    folder = tmp_path_factory.mktemp("figures")
    png, svg = folder / "png", folder / "svg"
    png.mkdir()
    svg.mkdir()
    report_files.plot_accuracies(replace(REPORT, runs=(REPORT.runs[0], REPORT.runs[2])), [png, svg])
    spikes = {"input": train([0.1, 0.2], [0, 5]), "hidden": train([0.2], [3]), "out": train([], [])}
    shapes = {"input": (2, 34, 34), "hidden": (2312,), "out": (3,)}
    readouts = np.array([[0.0, 0.0, 0.0], [2.0, 1.0, -3.0]])
    pair = [ModeRun(name, result(spikes, shapes), None, np.array([0.0, 0.2]), readouts) for name in ("a", "b")]
    with report_files.screen_figure([png, svg], "raster", 4.9) as drawn:
        plotting.raster_pair(drawn, pair, 1)
    pictures = [ReportFigure(svg / f"{name}.svg", alt, text) for name, alt, text in report_files.FIGURES]
    write_html(REPORT, pictures, folder / "report.html", CLASSES)
    return folder / "report.html"


@pytest.fixture(scope="module")
def window(browser):
    """One for all tests without special options: opening one takes longer than a test."""
    return Window(browser)


@pytest.fixture
def shown(window, written):
    """The report, opened again."""
    window.open(written / "report.html")
    return window


@pytest.mark.slow
class TestInABrowser:
    def test_shows_the_figures_without_requests(self, shown, written):
        sizes = shown.tab.eval_on_selector_all("img", "all => all.map(i => [i.naturalWidth, i.naturalHeight])")
        assert sizes == [[300, 200], [600, 300]]
        assert shown.console == []
        assert [url for url in shown.requests if not url.startswith("data:")] == [(written / "report.html").as_uri()]

    @pytest.mark.parametrize(
        "smuggled",
        [
            '<img src="http://127.0.0.1:9/pixel.png">',
            '<script src="http://127.0.0.1:9/script.js"></script>',
            "<style>@import 'http://127.0.0.1:9/style.css';</style>",
            "<script>fetch('http://127.0.0.1:9/data.json')</script>",
        ],
    )
    def test_its_policy_lets_nothing_be_fetched(self, smuggled, window, written, tmp_path):
        page = (written / "report.html").read_text()
        (tmp_path / "kept.html").write_text(page.replace("</main>", smuggled + "</main>"))
        window.open(tmp_path / "kept.html")
        assert any("violates the following Content Security Policy directive" in message for message in window.console)

        policy = re.compile('<meta http-equiv="Content-Security-Policy".*>')
        assert policy.search(page)
        (tmp_path / "free.html").write_text(policy.sub("", page).replace("</main>", smuggled + "</main>"))
        window.open(tmp_path / "free.html")
        assert any(url.startswith("http") for url in window.requests)  # it would be noticed

    @pytest.mark.parametrize(
        ("table", "column", "rising"),
        [
            ("accuracies", 3, ["12.5 ± 3.0", "96.0 ± 3.0", "100.0 ± 3.0"]),
            ("accuracies", 2, ["3", "3", "-"]),
            ("accuracies", 7, ["10.0 ± 4.0", "-", "-"]),
            ("costs", 2, ["812", "9,999", "1,500,000"]),
            ("costs", 3, ["99.00", "1,500,000", "-"]),
            ("costs", 9, ["9.0", "120.0", "-"]),
            ("layers", 5, ["25.0", "25.0", "33.3", "33.3", "200.0", "∞", "-", "-", "-"]),
            ("confusion-1", 1, ["", "", "9"]),
            ("confusion-1", 5, ["90.0", "100.0", "-"]),
            ("accuracies", 0, [WILD, "run-2", "run-10"]),
            ("layers", 1, ["input"] * 3 + ["hidden"] * 3 + ["output"] * 3),
        ],
    )
    def test_a_click_sorts(self, table, column, rising, shown):
        heading = shown.heading(table, column)
        heading.get_by_role("button").click()
        assert shown.column(table, column) == rising
        assert heading.get_attribute("aria-sort") == "ascending"
        heading.get_by_role("button").click()
        full = [text for text in rising if text != "-"]
        assert shown.column(table, column) == full[::-1] + ["-"] * (len(rising) - len(full))
        assert heading.get_attribute("aria-sort") == "descending"

    def test_rows_stay_together(self, shown):
        rows = shown.tab.locator("#accuracies tbody tr")
        before = rows.all_text_contents()
        for column in (0, 3, 7):
            shown.heading("accuracies", column).get_by_role("button").click()
            after = rows.all_text_contents()
            assert after != before
            assert sorted(after) == sorted(before)
            before = after
        assert shown.tab.locator("#accuracies [aria-sort]").count() == 1
        assert shown.tab.locator("#costs [aria-sort]").count() == 0

    @pytest.mark.parametrize("key", ["Enter", "Space"])
    def test_a_key_sorts(self, key, shown):
        for _ in range(40):
            shown.tab.keyboard.press("Tab")
            if shown.tab.evaluate("document.activeElement.matches('#accuracies th:nth-child(4) button')"):
                break
        shown.tab.keyboard.press(key)
        assert shown.column("accuracies", 3) == ["12.5 ± 3.0", "96.0 ± 3.0", "100.0 ± 3.0"]
        shown.tab.keyboard.press(key)
        assert shown.column("accuracies", 3) == ["100.0 ± 3.0", "96.0 ± 3.0", "12.5 ± 3.0"]

    def test_names_are_text(self, shown):
        assert shown.column("accuracies", 0) == ["run-10", "run-2", WILD]
        assert shown.tab.locator("td b, th b, h3 b, pre b, table i").count() == 0

    def test_gives_report_json(self, shown, tmp_path):
        write_report(REPORT, tmp_path)
        with shown.tab.expect_download() as download:
            shown.tab.get_by_text("report.json").click()
        assert download.value.suggested_filename == "report.json"
        assert download.value.path().read_bytes() == (tmp_path / "report.json").read_bytes()

    def test_without_scripts_all_is_there_to_read(self, browser, written):
        shown = Window(browser, java_script_enabled=False)
        shown.open(written / "report.html")
        assert shown.tab.locator("button").count() == 0
        assert not shown.tab.locator(".hint").is_visible()
        assert shown.heading("accuracies", 3).text_content() == "sum"
        assert shown.column("accuracies", 3) == ["12.5 ± 3.0", "100.0 ± 3.0", "96.0 ± 3.0"]

    def test_fits_a_narrow_screen(self, browser, written):
        shown = Window(browser, viewport={"width": 400, "height": 800})
        shown.open(written / "report.html")
        assert shown.tab.evaluate("document.documentElement.scrollWidth") == 400
        assert shown.tab.evaluate("document.querySelector('#costs').offsetWidth") > 400  # scrolls in its own frame

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [1280, 400])
    def test_nothing_scrolls_sideways(self, width, scheme, browser, figures):
        shown = Window(browser, viewport={"width": width, "height": 800}, color_scheme=scheme)
        shown.open(figures)
        assert shown.tab.evaluate("document.documentElement.scrollWidth") == width
        assert shown.console == []

    def test_the_texts_of_figures_are_legible_on_a_phone(self, browser, figures):
        shown = Window(browser, viewport={"width": 400, "height": 800})
        shown.open(figures)
        sizes = shown.font_sizes()
        assert len(sizes) == 4
        assert min(sizes) >= 9

    def test_figures_follow_the_colour_scheme(self, browser, figures):
        shown = Window(browser)
        shown.open(figures)
        filters = []
        for scheme in ("light", "dark"):
            shown.tab.emulate_media(color_scheme=scheme)
            filters.append(shown.tab.evaluate("getComputedStyle(document.querySelector('img')).filter"))
        assert filters[0] == "none"
        assert filters[1].startswith("invert(")

    def test_the_command_can_be_copied(self, browser, written):
        shown = Window(browser, permissions=["clipboard-read", "clipboard-write"])
        shown.open(written / "report.html")
        button = shown.tab.locator(".command button")
        button.click()
        shown.tab.get_by_text("Copied").wait_for()
        assert shown.tab.evaluate("navigator.clipboard.readText()") == REPORT.command

    def test_light_dark_and_paper(self, browser, written):
        shown = Window(browser)
        shown.open(written / "report.html")

        def paper(**media):
            """Lightness of the background, 0 to 765."""
            shown.tab.emulate_media(**media)
            color = shown.tab.evaluate("getComputedStyle(document.body).backgroundColor")
            return sum(map(int, re.findall(r"\d+", color)[:3]))

        assert paper(media="screen", color_scheme="light") > 700
        assert paper(media="screen", color_scheme="dark") < 100
        assert shown.tab.locator("nav").is_visible()
        assert paper(media="print", color_scheme="dark") > 700
        assert not shown.tab.locator("nav").is_visible()
