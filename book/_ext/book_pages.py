"""What a page loads, and what the finished site holds.

* The host script of the live figures goes only onto pages that have a figure.
* A bibliography is announced as what it is: docutils calls it a list and puts things into it that no list may hold.
* The theme's button to the repository wears a brand's mark from a font of its own (118 KB); it gets a plain icon.
* Theme files that no page asks for (source maps, templates, the icon script, old font formats) leave the built site.
"""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

HOST_SCRIPT = "live/host.mjs"
FIGURE = re.compile(r'class="[^"]*\bgentext-(?:live|plotly)\b')
UNUSED = ("scripts/*.map", "scripts/fontawesome.js*", "styles/*.map", "vendor/*/webfonts/*.ttf", "*macros.html")


def prepare_body(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    body = context.get("body") or ""
    if FIGURE.search(body):
        app.add_js_file(HOST_SCRIPT, type="module")
    context["body"] = body.replace('<div role="list" class="citation-list">', '<div class="citation-list">')


def plain_icons(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    waiting = list(context.get("header_buttons", ()))
    while waiting:
        button = waiting.pop()
        waiting += button.get("buttons", ())
        if str(button.get("icon", "")).startswith("fab "):
            button["icon"] = "fas fa-code-branch"


def remove_unused(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.name != "html":
        return
    static = Path(app.outdir) / "_static"
    for pattern in UNUSED:
        for path in static.glob(pattern):
            path.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    # Jupyter Book sets this for sphinx_comments, which the book leaves out.
    app.add_config_value("comments_config", {}, "html")
    app.connect("html-page-context", prepare_body)
    app.connect("html-page-context", plain_icons, priority=900)  # after the theme has made its buttons
    app.connect("build-finished", remove_unused)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
