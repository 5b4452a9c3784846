"""The notebooks: what is committed was run from top to bottom, and still runs."""

import re
import runpy
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
DOCS, FOLDER = ROOT / "docs", ROOT / "studies" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

#: Folders of one machine, which no reader has, and addresses in its memory.
MACHINE = re.compile(r"(?<![\w.])/(?:work|tmp|root|home|Users|mnt)/| at 0x[0-9a-f]+")


def test_there_are_five() -> None:
    assert [path.name[0] for path in NOTEBOOKS] == ["0", "1", "2", "3", "4"]


@every_notebook
def test_is_a_page_of_the_documentation(path: Path) -> None:
    text, figures = runpy.run_path(str(DOCS / "notebooks.py"))["page"](path)
    assert (DOCS / "notebooks" / f"{path.stem}.md").read_text(encoding="utf-8") == text, "run docs/notebooks.py"
    assert all((DOCS / "notebooks" / name).stat().st_size < 60_000 for name in figures)
    assert "$$" not in text


@every_notebook
def test_was_run_from_top_to_bottom(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    # Progress bars and warnings go to stderr and are no result.
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


@every_notebook
def test_is_small_and_names_no_machine(path: Path) -> None:
    assert path.stat().st_size < 450_000
    for cell in nbformat.read(path, as_version=4).cells:
        texts = [cell.source]
        for output in cell.get("outputs", []):
            texts += [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
        assert not [text for text in texts if MACHINE.search(text)]


@pytest.mark.slow
@every_notebook
def test_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a temporary folder, in which it leaves no files."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook,
        timeout=None,
        startup_timeout=900,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert not list(tmp_path.iterdir())
