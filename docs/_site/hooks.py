"""Pages of wide tables have the room of the table of contents too, and addresses in them break at slashes."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.structure.pages import Page

WIDE = frozenset({"calls.md", "guides/error-codes.md"})

_REQUEST = re.compile(r"(?<=<td><code>)[A-Z]+ /[^<]*(?=</code>)")


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Leave the contents out where they are no use."""
    if page.file.src_uri in WIDE:
        page.meta["hide"] = ["toc"]
    return markdown


def on_page_content(html: str, *, page: Page, **_: Any) -> str:
    """Let addresses break."""
    if page.file.src_uri not in WIDE:
        return html
    return _REQUEST.sub(lambda found: found[0].replace("/", "/<wbr>"), html)
