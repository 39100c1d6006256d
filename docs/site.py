"""A hook of mkdocs (`make docs-site`): a link out of ``docs/``, or to a script, becomes plain text with the path.

In a checkout, and where a forge shows the repository, such a link opens the file. The site has the pages alone.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any, Final

_LINK: Final = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>(?:\.\./)+[^)\s]*)\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the links of one page."""
    folder = posixpath.dirname(page.file.src_uri)

    def plain(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, match["target"].partition("#")[0]))
        if path.startswith("docs/") and not path.endswith(".py"):
            return match[0]
        text = match["text"].strip("`")
        return f"`{path}`" if text in path else f"{match['text']} (`{path}`)"

    return _LINK.sub(plain, markdown)
