"""The documentation: its examples run, its links lead somewhere, and the commands in it exist."""

import contextlib
import doctest
import functools
import importlib
import io
import re
import runpy
import sys
from pathlib import Path
from unittest import mock

import pytest

import mtt_brian as mb
from mtt_brian import cli

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
#: Modules of the package with examples in their docstrings that are not just to be read.
EXAMPLE = re.compile(r"^ *>>> (?!.*doctest: \+SKIP)", re.MULTILINE)
MODULES = [path for path in sorted((ROOT / "mtt_brian").rglob("*.py")) if EXAMPLE.search(path.read_text("utf-8"))]
#: Options in running text that belong to other programs, or to every one.
OF_OTHERS = {
    "--help", "--extra-index-url", "--fmad", "--max-restarts", "--memory-limit", "--nworkers", "--nthreads",
    "--rdzv-backend", "--master-addr", "--node-rank", "--strict",
}  # fmt: skip
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def name(path):
    return str(path.relative_to(ROOT))


def text(path):
    return path.read_text(encoding="utf-8")


def pages_with(pattern):
    return [pytest.param(page, id=name(page)) for page in PAGES if re.search(pattern, text(page), re.MULTILINE)]


@pytest.fixture
def as_found(monkeypatch):
    """What examples change for good is put back."""
    pytest.importorskip("torch")
    import brian2

    from mtt_brian.snn import models

    monkeypatch.setattr(models, "MODELS", dict(models.MODELS))
    target = brian2.prefs["codegen.target"]
    yield
    brian2.prefs["codegen.target"] = target


@pytest.mark.parametrize("page", pages_with(r"^>>> "))
def test_examples(page, as_found):
    """All examples of a page in a row. A fence would be taken for output: an empty line stands in its place."""
    examples = doctest.DocTestParser().get_doctest(re.sub(r"(?m)^```.*$", "", text(page)), {}, name(page), str(page), 0)
    failures = io.StringIO()
    result = doctest.DocTestRunner(verbose=False).run(examples, out=failures.write)
    assert result.attempted, "no example was found"
    assert not result.failed, failures.getvalue()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_examples_in_docstrings(path):
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


# ----- links


#: Behind the name of an image: the site shows it in light or in dark mode only.
ONLY_IN_A_MODE = {"only-light", "only-dark"}


def anchors(page):
    """What the headings of a page are called in links: as Python-Markdown does it, which makes the site.

    On pages of the reference also the public names of the modules that they show (``::: module``).
    """
    headings = re.findall(r"(?m)^#+ +(.+)$", FENCED.sub("", text(page)))
    plain = [re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in headings]
    modules = re.findall(r"(?m)^::: ([\w.]+)$", text(page))
    public = {f"{module}.{n}" for module in modules for n in getattr(importlib.import_module(module), "__all__", ())}
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain} | public


@pytest.mark.parametrize("page", pages_with(r"\]\("))
def test_links(page):
    links = re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", text(page)))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{name(page)} links to {link}"
        known = ONLY_IN_A_MODE if target.suffix == ".png" else anchors(target) if anchor else set()
        assert not anchor or anchor in known, f"{name(page)} links to {link}"


def test_files_that_are_named_exist():
    pattern = re.compile(r"(?:benchmarks|docs|mtt_brian|studies|tests|training)/[\w/-]*\w\.(?:py|toml|ipynb|md|png)\b")
    named = {(name(page), file) for page in PAGES for file in pattern.findall(text(page))}
    assert named
    assert not [(page, file) for page, file in sorted(named) if not (ROOT / file).is_file()]


# ----- commands

#: How a command is called in a line of the shell, and the words that start it here.
CALL = re.compile(
    r"(mtt-brian|(?:-m )mtt_brian|(?:[\w/.-]*/)?(?:studies|benchmarks|training)/\w+\.py)(?: ((?:study )?[a-z]\S*))?(.*)"
)


@functools.cache
def help_of(*words):
    """The output of ``--help``."""
    said, script = io.StringIO(), ROOT / words[0]
    with (
        mock.patch.object(sys, "argv", [str(script), "--help"]),
        mock.patch.object(sys, "path", [str(script.parent), *sys.path]),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        if words[0] == "mtt-brian":
            cli.entry_point([*words[1:], "--help"])
        else:
            runpy.run_path(str(script), run_name="__main__")
    return said.getvalue()


def options_of(*words):
    return set(OPTION.findall(help_of(*words)))


def calls(page):
    """Commands of this repository in a page's shell examples: (line, words, options)."""
    for block in re.findall(r"(?ms)^```sh\n(.*?)^```$", text(page)):
        for line in block.replace("\\\n", " ").splitlines():
            call = CALL.search(line.partition(" #")[0])
            if call is None:
                continue
            program, word, rest = call.groups(default="")
            if program.endswith("mtt_brian") or program == "mtt-brian":
                yield line, ("mtt-brian", *word.split()), set(OPTION.findall(rest))
            else:
                script = re.search(r"(studies|benchmarks|training)/\w+\.py$", program)[0]
                yield line, (script,), set(OPTION.findall(f"{word} {rest}"))


@pytest.mark.parametrize("page", pages_with(r"^```sh$"))
def test_commands_have_their_options(page):
    pytest.importorskip("torch")
    for line, words, options in calls(page):
        if words[0] == "mtt-brian" and len(words) > 1:
            assert words[1] in cli.COMMANDS, line
        if options:
            assert options <= options_of(*words), line


def test_options_in_running_text_exist():
    pytest.importorskip("torch")
    called = {words for page in PAGES for _, words, options in calls(page) if options}
    known = OF_OTHERS | {option for words in called for option in options_of(*words)}
    for page in PAGES:
        running = FENCED.sub("", text(page))
        mentioned = {option for code in re.findall(r"`([^`\n]+)`", running) for option in OPTION.findall(code)}
        assert mentioned <= known, name(page)


def test_the_citation_names_this_version():
    assert f"\nversion: {mb.__version__}\n" in text(ROOT / "CITATION.cff")
