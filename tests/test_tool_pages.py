"""The pages for users of other tools: what they export runs, and so do the commands below it, where the tool is."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from mtt_brian import cli

DOCS = Path(__file__).parents[1] / "docs"
#: Page by the module of the tool.
PAGES = {
    "snntorch": "from_snntorch.md",
    "norse": "from_norse.md",
    "sinabs": "from_sinabs.md",
    "spikingjelly": "from_spikingjelly.md",
    "rockpool": "from_rockpool.md",
}


def blocks(page, language):
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text)


def commands(page):
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("page", PAGES.values())
def test_every_page_exports_and_runs(page):
    (export,) = blocks(page, "python")
    assert "net.nir" in export
    compile(export, page, "exec")
    assert [words[0] for words in commands(page)] == ["info", "simulate", "gap"]
    assert page in (DOCS / "tools.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(("tool", "page"), PAGES.items())
def test_a_page_runs(tool, page, tmp_path, monkeypatch, capsys):
    pytest.importorskip(tool, reason=f"{tool} is not installed")
    monkeypatch.chdir(tmp_path)
    (export,) = blocks(page, "python")
    exec(compile(export, page, "exec"), {})
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 100_000, 400))
    np.savetxt("events.csv", np.stack([t, rng.integers(0, 16, 400)], axis=1), "%d", ",", header="t,x", comments="")
    for words in commands(page):
        assert cli.entry_point(words) == 0, (words, capsys.readouterr().err)
    assert "assumed: " in capsys.readouterr().out
