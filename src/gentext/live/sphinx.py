"""How a stored output becomes part of a page: pictures with their text alternative, plotly plots, live figures.

`GentextRenderer` is registered as a `myst_nb.mime_renderers` plug-in in `pyproject.toml`, so every build uses it.
"""

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from docutils import nodes
from myst_nb.core.render import MimeData, NbElementRenderer

PLOTLY = "application/vnd.plotly.v1+json"
WEB_BUILDERS = ("html", "dirhtml", "singlehtml")


class GentextRenderer:
    """Gives a picture the `alt` of its output metadata, and a plotly plot its picture and its data.

    On web pages `text/html` goes before a widget view: a live figure's HTML starts without a kernel, its widget view
    does not. Other builders (PDF) take the picture, as ever.
    """

    mime_priority_overrides: ClassVar[Sequence[tuple[str, str, int | None]]] = [
        *((builder, "text/html", 4) for builder in WEB_BUILDERS),
        *((builder, PLOTLY, 3) for builder in WEB_BUILDERS),
    ]

    @staticmethod
    def handle_mime(renderer: NbElementRenderer, data: MimeData, inline: bool) -> list[nodes.Element] | None:
        """The docutils nodes of one representation of an output; None leaves it to myst-nb."""
        if inline:
            return None
        if data.mime_type == "image/png":
            return picture(renderer, data)
        if data.mime_type == PLOTLY:
            return plot(renderer, data)
        return None


def picture(renderer: NbElementRenderer, data: MimeData) -> list[nodes.Element]:
    """myst-nb's image node, with the text alternative that `plots.show` stored beside the picture."""
    rendered = renderer.render_image(data)
    alt = text_alternative(data)
    for image in rendered:
        if alt:
            image["alt"] = alt
    return rendered


def text_alternative(data: MimeData) -> str:
    """The `alt` in the output metadata, whichever representation it stands beside; "" where there is none."""
    return next(
        (entry["alt"] for entry in data.output_metadata.values() if isinstance(entry, dict) and entry.get("alt")), ""
    )


def plot(renderer: NbElementRenderer, data: MimeData) -> list[nodes.Element]:
    """A plotly plot: its poster, and its JSON in a script element that no browser runs.

    `plot.mjs` draws it with the local plotly.js at the first touch.
    """
    container = nodes.container(classes=["gentext-plotly"])
    poster = sibling(renderer, data, "image/png")
    if poster is not None:
        container += picture(renderer, poster)
    spec = json.dumps(data.content if isinstance(data.content, dict) else json.loads(data.string), ensure_ascii=False)
    # In a script element only "</script" and "<!--" end or change the reading; as JSON escapes they mean the same.
    spec = spec.replace("<", "\\u003c")
    container += nodes.raw(text=f'<script type="application/json">{spec}</script>', format="html")
    return [container]


def sibling(renderer: NbElementRenderer, data: MimeData, mime_type: str) -> MimeData | None:
    """Another representation of the same output. myst-nb hands a plug-in one at a time; the rest is in the notebook."""
    if data.cell_index is None or data.output_index is None:
        return None
    output: Any = renderer.renderer.nb_client.notebook.cells[data.cell_index].outputs[data.output_index]
    content = output.get("data", {}).get(mime_type)
    if content is None:
        return None
    return MimeData(
        mime_type,
        content,
        cell_metadata=data.cell_metadata,
        output_metadata=data.output_metadata,
        cell_index=data.cell_index,
        output_index=data.output_index,
        line=data.line,
    )
