"""Pages of the site that are files of the repository's root (a hook, named in mkdocs.yml).

A page with ``include: FILE`` on top shows that file; read in the repository it is a link to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **options: Any) -> str:
    """The text of a page: its own, or that of the file it names, whose pictures lie beside the page."""
    if "include" not in page.meta:
        return markdown
    text = Path(config.config_file_path).with_name(page.meta["include"]).read_text(encoding="utf-8")
    return text.replace("](docs/", "](")
