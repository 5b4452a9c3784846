"""Names from outside in figures, Markdown and HTML: they are shown as they stand and do nothing."""

import html
import re
import warnings

import numpy as np
import pytest

from mtt_brian import plotting
from mtt_brian.engines import Spikes
from mtt_brian.evaluate import Estimate
from mtt_brian.evaluate.tables import (
    MISSING,
    Cell,
    Column,
    Table,
    code_block,
    in_percent,
    markdown,
    markdown_table,
    words,
)
from mtt_brian.plotting.axes import literal
from mtt_brian.text import number_of, one_line, printable, shortened, shown
from tests import plots

#: A name, and what stands in a figure.
NAMES = {
    r"a$\foo$b": r"a$\foo$b",
    r"$x$ \$ \\": r"$x$ \$ \\",
    "_hidden": " _hidden",
    "": '""',
    "a\tb\x00\x1b[31m": r"a\tb\x00\x1b[31m",
    "\u202etxt.exe": r"\u202etxt.exe",
    "not \udc80 UTF-8": r"not \udc80 UTF-8",
    "مرحبا 😀 層": "مرحبا 😀 層",
    "n" * 5000: "n" * 29 + "..." + "n" * 28,
    "ordinary_name-1 (2)": "ordinary_name-1 (2)",
}


@pytest.mark.parametrize(
    "draw",
    [
        lambda names, ax: plotting.accuracy_bars(names, {name: [(0.5, 0.1)] * len(names) for name in names}, ax=ax),
        lambda names, ax: [plotting.accuracy_against(names, [(0.5, 0.1)] * len(names), label=n, ax=ax) for n in names],
        lambda names, ax: [plotting.accuracy_over_time([0], [1], label=name, ax=ax) for name in names],
        lambda names, ax: [plotting.loss_line([0, 1], [[1, 2]], label=name, ax=ax) for name in names],
        lambda names, ax: [plotting.time_step_sweep([1], [(0.5, 0.1)], label=name, ax=ax) for name in names],
        lambda names, ax: [plotting.early_exit([1], [(0.5, 0)], name=n, label=n, ax=ax) for n in names],
        lambda names, ax: plotting.rates(_spikes(names), sizes=dict.fromkeys(names, 1), ax=ax),
        lambda names, ax: plotting.spike_time_differences(_spikes(names), _spikes(names), ax=ax),
        lambda names, ax: plotting.change_matrix(names, np.eye(len(names)), ax=ax),
        lambda names, ax: plotting.confusion_matrix(np.eye(len(names)), names, ax=ax),
        lambda names, ax: plotting.raster(_spikes(names), highlight={names[2]: [0]}, ax=ax),
    ],
)
def test_any_name_is_drawn_as_it_stands(draw, tmp_path):
    path = tmp_path / "figure.svg"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with plotting.figure(path, (8, 8)) as figure:
            draw(list(NAMES), figure.subplots())
    drawn = html.unescape(" ".join(re.findall("<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))))
    for shown_as in list(NAMES.values())[:-2]:
        assert shown_as.strip() in drawn


def _spikes(names):
    return {name: Spikes(np.array([0.1]), np.array([0]), np.array([1])) for name in names}


@pytest.mark.parametrize(("name", "drawn"), NAMES.items())
def test_a_legend_has_an_entry_for_every_name(name, drawn):
    ax = plotting.accuracy_over_time([0], [1], label=name)
    assert len(plots.legend(ax)) == 1
    if len(name) < 60:
        assert plots.legend(ax)[0].replace(r"\$", "$") == drawn


def test_where_no_text_is_mathtext_nothing_is_escaped():
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):
        assert literal("$x$") == "$x$"
    with matplotlib.rc_context({"text.usetex": True}):
        assert literal(r"\input{a_b}") == r"\textbackslash{}input\{a\_b\}"


@pytest.mark.parametrize("name", ["digits-mtt-0-001", "a_b", "mtt, samples 5", "conv1.0 (2)", "Zürich", "T = 10"])
def test_ordinary_names_stay_as_they_are_in_markdown(name):
    assert markdown(name) == printable(name) == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("<img src=x onerror=alert(1)>", "&#60;img src=x onerror=alert(1)&#62;"),
        ("a|b\\", "a&#124;b&#92;"),
        ("**bold** _x_ `code`", "&#42;&#42;bold&#42;&#42; &#95;x&#95; &#96;code&#96;"),
        ("[a](http://b)", "&#91;a&#93;(http&#58;//b)"),
        ("a\n# b", "a&#92;n&#35; b"),
        ("&lt; www.b.c @me", "&#38;lt; www&#46;b.c &#64;me"),
    ],
)
def test_nothing_acts_in_markdown(name, text):
    assert markdown(name) == text
    assert html.unescape(text) == printable(name)


def test_text_of_a_cell_cannot_end_the_cell():
    table = markdown_table([["name", "n"], ["a|b\n| c |", "1"], ["\x1b[31m", "2"]]).splitlines()
    assert [line.count("|") for line in table] == [3, 3, 3, 3]
    assert table[3].startswith("| \\x1b[31m ")


def test_a_table_shows_all_texts_as_they_stand():
    table = Table.of_rows("t", ["*run*", "a|b"], [["x\ny", in_percent(Estimate(0.5, 0.25))], ["\x1b[31m", MISSING]])
    assert [[str(cell) for cell in row] for row in table.rows] == [["x\ny", "50.0 ± 25.0"], ["\x1b[31m", "-"]]
    head, _, first, second = table.markdown().splitlines()
    assert head.split(" | ")[0].rstrip() == "| &#42;run&#42;"
    assert [line.count("|") for line in (head, first, second)] == [3, 3, 3]
    head, _, first, second = table.terminal().splitlines()
    assert head.startswith("| *run*")
    assert first.startswith(r"| x\ny")
    assert second.startswith(r"| \x1b[31m")


def test_a_table_without_rows_keeps_its_header():
    assert Table.of_rows("t", ["a", "b"], []).terminal().splitlines()[0] == "| a | b |"


def test_a_transposed_table_names_rows_by_both_headings():
    columns = [words("network", ["sdt", "mtt"]), Column("event-driven", "sum", [Cell("1"), Cell("2")])]
    turned = Table("t", columns).transposed()
    assert [column.heading for column in turned.columns] == ["", "sdt", "mtt"]
    assert [[cell.text for cell in row] for row in turned.rows] == [["event-driven, sum", "1", "2"]]


def test_a_block_of_code_holds_all_lines():
    assert code_block("a 'b\n# c'\x1b") == "    a 'b\n    # c'\\x1b"


def test_numbers_of_things():
    assert [number_of(n, "recording") for n in (0, 1, 2000)] == ["0 recordings", "1 recording", "2,000 recordings"]


def test_values_in_messages_are_short():
    assert shown(3) == "3"
    assert shown("a\n") == r"'a\n'"
    assert shown(10**5000) == "a whole number of 16610 bits"
    assert shown([10**5000]) == "such a list"
    assert re.fullmatch(r"\[0, 1, 2, .*\.\.\..*, 998, 999\]", shown(list(range(1000))))
    assert len(shown(list(range(1000)))) == 80


def test_messages_of_others_become_one_line():
    assert one_line(ValueError("a\n\tb \x1b")) == r"a b \x1b"
    assert one_line(AssertionError()) == "AssertionError"
    assert shortened("abcdefghij", 7) == "ab...ij"
