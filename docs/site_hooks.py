"""Hooks of the documentation site: the README is its first page, and links to files of the repository become plain names.

The pages are written to be read in the repository, where they link to code. The site holds the pages alone, so such a link is
replaced by its text; one to a file that does not exist stays, and the strict build fails on it.
"""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README as the first page; its links are written from the root of the repository."""
    files.append(File.generated(config, "index.md", content=from_docs((ROOT / "README.md").read_text(encoding="utf-8"))))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - MkDocs names them
    """Replace the links that leave the pages by their texts."""
    return LINK.sub(lambda link: within_pages(link, (ROOT / "docs" / page.file.src_uri).parent), markdown)


def from_docs(markdown: str) -> str:
    """The README with its links as written from docs/."""
    return LINK.sub(lambda link: f"[{link[1]}]({os.path.relpath(link[2], 'docs')}{link[3] or ''})", markdown)


def within_pages(link: "re.Match[str]", directory: Path) -> str:
    """The link where it leads to a page or to nothing; its text where it leads to another file of the repository."""
    target: Any = (directory / link[2]).resolve()
    inside = target.is_relative_to(ROOT / "docs") and target.suffix == ".md"
    return link[1] if target.exists() and not inside else link[0]
