"""What a person meets at a prompt or in a notebook: completion, short texts for objects, tables, progress, notices."""

import base64
import dataclasses
import html.parser
import importlib
import inspect
import io
import logging
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

import mtt_brian as mb
from mtt_brian import events, html_repr, progress
from mtt_brian.cli import demo
from tests.test_cli import graph

PUBLIC = ("circuit", "engines", "evaluate", "events", "export", "mtt", "neuron", "plotting", "snn", "translate")
RECORDING = events.make_recording([100, 2_000, 250_000], [3, 4, 5], [1, 2, 33], [0, 1, 1])


def recordings(label=1, title="some"):
    return events.Recordings(
        name="some", title=title, split="test", classes=["left", "<b>right</b>"], sensor_size=(2, 34, 34),
        ids=["a", "b"], labels=np.array([0, label]), duration_us=300_000, read=lambda name: RECORDING,
    )  # fmt: skip


@pytest.fixture(scope="module")
def result():
    return mb.simulate(graph(), RECORDING, duration=0.3)


@pytest.mark.parametrize("name", [*(f"mtt_brian.{name}" for name in PUBLIC), "mtt_brian.snn.models", "mtt_brian"])
def test_completion_offers_the_public_names(name):
    if name.rpartition(".")[2] in ("export", "models", "mtt", "snn"):
        pytest.importorskip("torch")
    module = importlib.import_module(name)
    assert dir(module) == sorted(module.__all__)
    for public in module.__all__:
        assert getattr(module, public) is not None


# ----- short texts


def test_objects_are_one_short_line(result):
    simulator = mb.Simulator(graph(), order="fifo")
    synapses = sum(int(f.sum()) for f in simulator.circuit.fan_out.values())
    assert repr(simulator) == f"Simulator(exact, fifo, 2 populations, {synapses:,} synapses)"
    assert repr(simulator.circuit) == "Circuit(2x34x34 inputs, 2 populations, 5 neurons)"
    assert repr(simulator.circuit.connections[0]) == "Connection('input' -> 'spikes1', Dense)"
    spikes = int(result.counts["spikes1"].sum())
    assert spikes > 0
    predicted = result.readout.argmax()
    assert repr(result) == f"Result(exact, 0.3 s, {spikes} spikes, prediction {predicted}, {result.synops:,} SynOps)"
    silent = mb.simulate(graph(), RECORDING[:0], duration=0.1)
    assert repr(silent) == "Result(exact, 0.1 s, 0 spikes, no prediction, 0 SynOps)"


# ----- tables and rasters


class Page(html.parser.HTMLParser):
    """Cells of all rows, images, and whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.images, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes))
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def pixels(image):
    kind, _, content = image["src"].partition(",")
    assert kind == "data:image/png;base64"
    return imread(io.BytesIO(base64.b64decode(content)))


def test_a_result_is_a_table_and_a_raster(result):
    page = Page(result._repr_html_())
    assert repr(result) in page.text
    assert page.rows[0][0] == "population"
    assert [row[0] for row in page.rows[1:]] == ["input", "spikes1", "all"]
    assert page.rows[-1][-1] == f"{result.synops:,}"
    (image,) = page.images
    assert "spikes1" in image["alt"]
    drawn = pixels(image)[..., 3] > 0.3
    columns = np.unique(np.flatnonzero(drawn[:-1].any(axis=0)))
    expected = np.unique((result.spikes["spikes1"].t * 420 / 0.3).astype(int))
    assert np.array_equal(columns, expected)


def test_a_circuit_is_a_table():
    circuit = mb.translate.read_nir(graph())
    page = Page(circuit._repr_html_())
    assert [row[0] for row in page.rows] == ["population", "spikes1", "output"]
    assert page.rows[1][1:3] == ["3", "IF"]
    assert page.rows[2][2] == "IF, never fires, the readout"
    assert page.rows[2][4] == str(circuit.into("output")[0].matrix.nnz)
    assert repr(circuit) in Page(mb.Simulator(circuit)._repr_html_()).text


def test_a_data_set_is_its_classes_and_its_first_recording():
    some = recordings(title="<script>")
    text = some._repr_html_()
    assert "<script>" not in text
    page = Page(text)
    assert page.rows == [["class", "number"], ["left", "1"], ["<b>right</b>", "1"]]
    drawn = pixels(page.images[0])[..., 3] > 0.3
    assert [int(drawn[band : band + 39].sum()) for band in (0, 40)] == [1, 2]


def test_a_recording_that_cannot_be_read_has_no_raster():
    def fails(name):
        raise mb.InputError(f"{name}: damaged")

    broken = events.Recordings(**{**vars(recordings()), "read": fails})
    assert not Page(broken._repr_html_()).images
    assert not Page(recordings().subset([])._repr_html_()).images


def test_a_raster_of_nothing_is_nothing():
    assert html_repr.raster({}, 1.0) == ""
    assert html_repr.raster({"a": (np.zeros(0), np.zeros(0, int), 3)}, 0.0) == ""


# ----- recordings by name


def test_a_recording_can_be_named(tmp_path, result):
    file = tmp_path / "some.csv"
    file.write_text("t,x,y,p\n" + "".join(f"{t},{x},{y},{p}\n" for t, x, y, p in RECORDING.tolist()))
    for given in (file, str(file)):
        assert np.array_equal(mb.simulate(graph(), given, duration=0.3).readout, result.readout)
    both = list(mb.Simulator(graph()).run([str(file), RECORDING], 0.3))
    assert np.array_equal(both[0].readout, both[1].readout)


def test_a_recording_can_be_named_by_its_place_in_a_data_set():
    test = events.load("digits", split="test", progress=False)
    assert np.array_equal(mb.simulate(graph(), "digits:test:3").readout, mb.simulate(graph(), test[3]).readout)
    with pytest.raises(mb.InputError, match=r"^digits:test:355: digits \(simulated\) has 355 test recordings here"):
        mb.simulate(graph(), "digits:test:355")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (recordings(), r"this one is a data set: data\[0\] is one recording, Simulator\(graph\)\.run\(data\) runs all"),
        ([RECORDING, RECORDING], r"a list of recordings; Simulator\(graph\)\.run\(recordings\) runs several"),
        ("nowhere.csv", r"nowhere\.csv: no such file"),
        ("some.text", r"some\.text: a recording is a file that ends in \.bin.*, or DATASET:SPLIT:NUMBER"),
        ("digitz:test:0", r"'digitz'"),
        (3, "a recording is a one-dimensional structured array"),
    ],
)
def test_what_is_not_one_recording_is_refused_in_one_line(given, message):
    with pytest.raises(mb.InputError, match=message) as refused:
        mb.simulate(graph(), given)
    assert "\n" not in str(refused.value)


def test_events_outside_the_network_name_the_file(tmp_path):
    (tmp_path / "wide.csv").write_text("t,x,y,p\n5,99,0,0\n")
    with pytest.raises(mb.InputError, match=r"wide\.csv: event 0 has x = 99"):
        mb.simulate(graph(), tmp_path / "wide.csv")


# ----- progress


def test_without_a_terminal_progress_is_a_line_per_tenth(capsys):
    assert list(progress.progress_bar(range(25), description="work", unit="things")) == list(range(25))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "work: 3 of 25 things"
    assert lines[-1] == "work: 25 of 25 things"


def test_a_line_for_every_epoch_with_what_is_known(capsys):
    with progress.progress_bar(total=9, initial=3, description="training", unit="it", lines=3) as bar:
        for epoch in (2, 3):
            bar.set_description(f"epoch {epoch}/3")
            for k in range(3):
                bar.set_postfix(loss=f"{k}", refresh=False)
                bar.update()
    assert capsys.readouterr().err == "epoch 2/3: 6 of 9 it, loss=2\nepoch 3/3: 9 of 9 it, loss=2\n"


def test_the_last_line_is_printed_again_with_what_was_stored(capsys):
    with progress.progress_bar(total=12, description="evaluating", unit="run", lines=2) as bar:
        for shard in range(1, 13):
            bar.update()
            bar.set_postfix_str(f"{shard} of 12 shards")
    assert capsys.readouterr().err.splitlines() == [
        "evaluating: 6 of 12 run, 5 of 12 shards",
        "evaluating: 12 of 12 run, 11 of 12 shards",
        "evaluating: 12 of 12 run, 12 of 12 shards",
    ]


def test_in_a_terminal_progress_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    list(progress.progress_bar(range(3), description="work", unit="things"))
    assert "\r" in (said := capsys.readouterr().err)
    assert "3/3" in said


def test_no_progress_on_request(capsys):
    with progress.progress_bar(range(3), description="work", unit="things", show=False) as bar:
        assert list(bar) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_no_other_module_draws_bars():
    package = demo.DATA.parent
    users = [str(path.relative_to(package)) for path in package.rglob("*.py") if "tqdm" in path.read_text("utf-8")]
    assert users == ["progress.py"]


def in_a_process(code, **more):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **more)


def test_importing_the_engines_loads_no_progress_bars():
    code = "import sys, mtt_brian as mb; mb.simulate; print('tqdm' in sys.modules)"
    assert in_a_process(code).stdout == "False\n"


# ----- notices


def test_a_notice_uses_logging_if_it_is_set_up(caplog, capsys):
    with caplog.at_level(logging.INFO, "mtt_brian"):
        progress.notice("compiling")
    assert caplog.messages == ["compiling"]
    assert capsys.readouterr().err == ""


def test_without_logging_a_notice_is_for_those_who_look_on():
    code = "from mtt_brian import progress; import sys; sys.stderr.isatty = lambda: {}; progress.notice('compiling')"
    assert in_a_process(code.format("True")).stderr == "compiling\n"
    assert in_a_process(code.format("False")).stderr == ""


def test_a_command_always_prints_notices():
    code = (
        "from mtt_brian import progress; from mtt_brian.cli import exit_status\n"
        "exit_status.run(lambda: progress.notice('compiling')); progress.notice('again')"
    )
    assert in_a_process(code).stderr == "compiling\n"


def test_notices_can_be_silenced():
    code = (
        "from mtt_brian import progress; import logging, sys; sys.stderr.isatty = lambda: True\n"
        "logging.getLogger('mtt_brian').setLevel(logging.ERROR); progress.notice('compiling')"
    )
    assert in_a_process(code).stderr == ""


def test_signatures_list_the_facts_that_a_foreign_graph_needs():
    fields = [field.name for field in dataclasses.fields(mb.Conventions)]
    for function in (mb.translate.read_nir, mb.simulate, mb.Simulator):
        names = list(inspect.signature(function).parameters)
        assert [name for name in names if name in fields] == fields
        assert names[0] == "graph"
        assert names[-1] == "options"
