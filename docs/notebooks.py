"""Writes the notebooks as pages of this site, below notebooks/: python docs/notebooks.py

A page holds the texts, the code and the outputs; figures become small PNGs beside it.
"""

from __future__ import annotations

import io
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image

DOCS = Path(__file__).parent
NOTEBOOKS = DOCS.parent / "studies" / "notebooks"
PAGES = DOCS / "notebooks"
#: So many colours suffice for a plot, and make its file a third as large.
COLORS = 48
#: What stands in formulas, in characters.
_FORMULA = {r"\\text\{([^}]*)\}": r"\1", r"\\cdot": "·", r"\\vartheta": "ϑ", r"\\;": " "}


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its figures (PNG) by the names of their files."""
    parts, figures = [], {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(_formulas(cell.source))
            continue
        parts.append(f"``` {{ .python }}\n{cell.source}\n```")
        printed = ""  # texts behind each other are one block
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                printed, name = "", f"{path.stem}_{len(figures) + 1}.png"
                figures[name] = b64decode(data["image/png"])
                parts.append(f"![Figure {len(figures)} of this notebook]({name})")
            elif text := output.get("text", data.get("text/plain", "")):
                if printed:
                    parts.pop()
                printed += text
                parts.append(f"```text\n{printed.rstrip()}\n```")
    title, *rest = parts
    heading, _, lead = title.partition("\n")
    source = f"*This page is a notebook of the repository: `studies/notebooks/{path.name}`.*"
    return "\n\n".join([heading, source, lead.strip(), *rest]) + "\n", figures


def _formulas(text: str) -> str:
    """Formulas between double dollars as plain text: this site loads no scripts for them."""

    def plain(formula: re.Match[str]) -> str:
        found = formula[1].strip()
        for pattern, character in _FORMULA.items():
            found = re.sub(pattern, character, found)
        return f"```text\n{re.sub(' +', ' ', found)}\n```"

    return re.sub(r"\$\$(.*?)\$\$", plain, text, flags=re.DOTALL)


def small(figure: bytes) -> bytes:
    """The same PNG with few colours."""
    content = io.BytesIO()
    Image.open(io.BytesIO(figure)).convert("RGB").quantize(COLORS).save(content, "PNG", optimize=True)
    return content.getvalue()


def main() -> None:
    """Write all pages, and remove the figures of earlier ones."""
    PAGES.mkdir(exist_ok=True)
    wanted: dict[str, Any] = {}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        text, figures = page(path)
        wanted[f"{path.stem}.md"] = text.encode()
        wanted |= {name: small(figure) for name, figure in figures.items()}
    for old in PAGES.iterdir():
        if old.name not in wanted:
            old.unlink()
    for name, content in wanted.items():
        (PAGES / name).write_bytes(content)


if __name__ == "__main__":
    main()
