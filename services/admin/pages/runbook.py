"""The runbook as a page: what to do about each alarm."""

import re
from itertools import pairwise

from markdown_it import MarkdownIt
from markupsafe import Markup

from services.admin.pages.page import Shown, Visit

#: A link to another file, which the page does not serve.
_OTHER_FILE = re.compile(r"\[([^]]+)\]\((?!#|https?:)[^)]+\)")


async def runbook(visit: Visit) -> Shown:
    """``GET /runbook``."""
    return Shown("runbook.html", own={"html": visit.site.runbook})


def to_html(markdown: str) -> Markup:
    """Markdown as HTML: headings have anchors as on GitHub, HTML in the text is escaped."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(_OTHER_FILE.sub(r"\1", markdown))
    for opening, content in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", anchor(content.content))
    return Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704  # the parser escapes


def anchor(heading: str) -> str:
    """The anchor of a heading, as on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
