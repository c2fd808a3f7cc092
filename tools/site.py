"""Hooks of mkdocs (`make docs`): files outside of docs/ become pages, their links follow, and no page loads anything
from the network.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from tools import api_pages

ROOT = Path(__file__).resolve().parent.parent
# Page of the site -> file of the repository.
MOUNTED = {
    "index.md": "README.md",
    "changes.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "license.txt": "LICENSE",
    "tflite_ops.md": "tflite_ops/README.md",
    "android.md": "tflite_ops/android/README.md",
    **{f"examples/{path.parent.name}.md": f"examples/{path.parent.name}/README.md"
       for path in sorted(ROOT.glob("examples/*/README.md"))},
}  # fmt: skip
LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)")
LOADED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")


def on_files(files: Any, config: Any) -> Any:
    """Adds the mounted files."""
    from mkdocs.structure.files import File

    for page, source in MOUNTED.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Relative links as they are in the repository become links between pages."""
    return api_pages.expanded(relinked(markdown, page.file.src_uri))


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Raises where a page would load something from another server."""
    loaded = LOADED.findall(output)
    if loaded:
        raise ValueError(f"{page.file.src_uri}: expected a page that loads nothing from the network, got {loaded[0]}")
    return output


def relinked(markdown: str, page: str) -> str:
    """The text with its links made relative to the page's place in the site."""
    folder = posixpath.dirname(MOUNTED.get(page, f"docs/{page}"))
    return LINK.sub(lambda link: _target(link[1], folder, posixpath.dirname(page)), markdown)


def _target(link: str, folder: str, page_folder: str) -> str:
    """A link from a file in `folder` of the repository, as one from a page in `page_folder` of the site."""
    path = posixpath.normpath(posixpath.join(folder, link))
    pages = {source: page for page, source in MOUNTED.items()}
    goal = pages.get(path, path.removeprefix("docs/"))
    return posixpath.relpath(goal, page_folder or ".")
