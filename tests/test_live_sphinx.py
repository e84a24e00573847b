"""How stored outputs become part of a page: a small book built by Sphinx with myst-nb and `GentextRenderer`."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from docutils import nodes
from nbformat import v4

pytest.importorskip("myst_nb")
from myst_nb.core.render import MimeData

from gentext.live.sphinx import GentextRenderer, sibling

# One transparent pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
WIDGET = "application/vnd.jupyter.widget-view+json"
PLOTLY = "application/vnd.plotly.v1+json"
LIVE = '<div class="gentext-live" data-figure="latent_explorer"><img alt="A sign."></div>'
SPEC = {"data": [{"x": [1, 2], "y": [3, 4], "name": "</script><!-- <b>"}], "layout": {"title": {"text": "ß"}}}


def output(data: dict, metadata: dict | None = None):
    return v4.new_output("display_data", data=data, metadata=metadata or {})


OUTPUTS = {
    "picture": output({"image/png": PNG, "text/plain": "<Figure>"}, {"image/png": {"alt": 'A "curve" < 1.'}}),
    "bare picture": output({"image/png": PNG, "text/plain": "<Figure>"}),
    "live": output({"text/plain": "<LatentExplorer>", "text/html": LIVE, WIDGET: {"model_id": "abc"}}),
    "plot": output(
        {"text/plain": "<Figure>", "image/png": PNG, PLOTLY: SPEC}, {"image/png": {"alt": "A rising line."}}
    ),
    "plot alone": output({PLOTLY: SPEC}, {PLOTLY: {"alt": "Nothing to see."}}),
}


def build(folder: Path, builder: str, names: list[str]) -> Path:
    """Build a page with these outputs by `sphinx-build -W`, in a process of its own: Sphinx keeps global registers."""
    source = folder / "source"
    source.mkdir()
    cells = [v4.new_markdown_cell("# Title")]
    for number, name in enumerate(names, start=1):
        code = v4.new_code_cell("1", outputs=[OUTPUTS[name]], execution_count=number)
        cells += [v4.new_markdown_cell(f"## {name}"), code]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
    nbformat.write(v4.new_notebook(cells=cells, metadata=metadata), source / "index.ipynb")
    (source / "conf.py").write_text("extensions = ['myst_nb']\nnb_execution_mode = 'off'\n", encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", builder, str(source), str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> dict[str, str]:
    """The HTML of each output, by the heading above it."""
    html = (build(tmp_path_factory.mktemp("html"), "html", list(OUTPUTS)) / "index.html").read_text(encoding="utf-8")
    parts = re.split(r"<h2>(.*?)<a", html)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_a_picture_has_its_text_alternative(page):
    assert 'alt="A &quot;curve&quot; &lt; 1."' in page["picture"]
    assert len(re.findall("<img", page["picture"])) == 1
    assert "&lt;Figure&gt;" not in page["picture"]


def test_a_picture_without_alternative_is_left_to_myst(page):
    assert len(re.findall("<img", page["bare picture"])) == 1


def test_a_live_figure_is_its_html_not_its_widget(page):
    assert LIVE in page["live"]
    assert WIDGET not in page["live"]
    assert "model_id" not in page["live"]


@pytest.mark.parametrize(("name", "alt"), [("plot", "A rising line."), ("plot alone", None)])
def test_a_plot_is_its_picture_and_its_data(page, name, alt):
    part = page[name]
    assert 'class="gentext-plotly' in part
    assert re.findall(r'<img alt="([^"]*)"', part) == ([alt] if alt else [])
    [data] = re.findall(r'<script type="application/json">(.*?)</script>', part, re.DOTALL)
    assert "<" not in data
    assert json.loads(data) == SPEC
    assert part.index("<script") < part.index("</section>")


def test_a_builder_for_print_takes_the_picture(tmp_path):
    folder = build(tmp_path, "latex", ["picture", "live", "plot"])
    tex = next(folder.glob("*.tex")).read_text(encoding="utf-8")
    assert tex.count("includegraphics") >= 2
    assert "gentext-live" not in tex


# ---- the plug-in by itself, with what myst-nb would hand it ----


class Renderer:
    """As much of myst-nb's element renderer as the plug-in touches."""

    def __init__(self, found):
        notebook = v4.new_notebook(cells=[v4.new_code_cell("1", outputs=[found])])
        self.renderer = SimpleNamespace(nb_client=SimpleNamespace(notebook=notebook))

    def render_image(self, data):
        return [nodes.image(uri="picture.png")]


def handle(name: str, mime_type: str, inline: bool = False):
    found = OUTPUTS[name]
    data = MimeData(
        mime_type, found["data"][mime_type], output_metadata=found["metadata"], cell_index=0, output_index=0
    )
    return GentextRenderer.handle_mime(Renderer(found), data, inline)


def test_the_plug_in_gives_pictures_their_alternative():
    [image] = handle("picture", "image/png")
    assert image["alt"] == 'A "curve" < 1.'
    [image] = handle("bare picture", "image/png")
    assert "alt" not in image


def test_the_plug_in_joins_a_plot_with_its_picture():
    [container] = handle("plot", PLOTLY)
    image, script = container.children
    assert image["alt"] == "A rising line."
    assert json.loads(re.sub("<.*?>", "", script.astext())) == SPEC
    [container] = handle("plot alone", PLOTLY)
    assert len(container.children) == 1


def test_the_plug_in_leaves_the_rest_to_myst():
    assert handle("live", "text/html") is None
    assert handle("picture", "image/png", inline=True) is None
    assert sibling(Renderer(OUTPUTS["plot"]), MimeData(PLOTLY, SPEC), "image/png") is None
