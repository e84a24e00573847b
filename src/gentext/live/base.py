"""`LiveFigure`: a widget that says its piece as a picture where nothing runs, and comes alive where something does."""

import base64
import html
import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import anywidget
import matplotlib.pyplot as plt
import traitlets
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from gentext import plots
from gentext.live import front, protocol
from gentext.live.network import Network

Computed = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]

NOTE = "Served over http, this figure moves: in the published book, and in a running notebook with your own model."
NOTE_OWN = "This figure holds a model made in the notebook above. Run the notebook to move it."


@dataclass(frozen=True)
class Contents:
    """All that a figure is made of.

    networks: what the front end may call.
    state: JSON-able; everything else that the front end needs (test signs, their codes, names).
    poster: draws the picture that stands in for the figure.
    alt: what a sighted reader would conclude from that picture; the same on every machine (no measured numbers).
    computed: what the front end works out by itself, by name, as the package works it out: {name: array} in, the same
        out, in float64. No message asks for these; tests hold the two against each other.
    """

    networks: dict[str, Network]
    state: dict[str, Any]
    poster: Callable[[], Figure]
    alt: str
    computed: dict[str, Computed] = field(default_factory=dict)


class LiveFigure(anywidget.AnyWidget):
    """A live figure in a running kernel: answers its front end's calls with torch.

    A subclass names its front-end file in `figure`, and gives the contents of the published figure in `published`.
    """

    figure: ClassVar[str] = ""  # "latent_explorer" means latent_explorer.mjs
    _esm: str = "export default { render() {} }"  # each subclass: `front.bundle(figure)`
    _css: str = front.style()
    # ipywidgets 7 (Colab) would show itself through this method and never ask for `_repr_mimebundle_`; 8 has none.
    _ipython_display_ = None

    state = traitlets.Dict().tag(sync=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "figure" in vars(cls):  # not the classes that traitlets makes of ours when it adds a trait
            cls._esm = front.bundle(cls.figure)
        super().__init_subclass__(**kwargs)

    def __init__(self, contents: Contents, *, own: bool) -> None:
        """`own`: the networks are the reader's, so that a published page has none to run."""
        self._contents = contents
        self._own = own
        super().__init__(state=contents.state)
        self.on_msg(self._on_message)

    @classmethod
    def published(cls) -> Contents:
        """The contents of the figure as the published page shows it, from the zoo."""
        raise NotImplementedError

    def _on_message(self, _widget: Any, message: Any, _buffers: Any) -> None:
        self.send(protocol.answer(self._contents.networks, message))

    def __repr__(self) -> str:  # stored in notebooks, so it must not change when the zoo grows
        return f"<{type(self).__name__}>"

    def to_html(self) -> str:
        """The stored output: a poster, its text alternative, and what `host.mjs` needs to start the figure.

        The same on every machine, the poster's own bytes aside.
        """
        buffer = io.BytesIO()
        with plt.rc_context():  # the book's style for the poster, whatever the notebook has set
            plots.use_style()
            self._contents.poster().savefig(
                buffer,
                format="png",
                dpi=144,
                transparent=True,
                bbox_inches="tight",
                pad_inches=0.05,
            )
        # 128 colours are plenty for ink on paper, and a third of the bytes that a notebook has to carry.
        picture = io.BytesIO()
        Image.open(buffer).quantize(128, method=Image.Quantize.FASTOCTREE).save(picture, format="png", optimize=True)
        image = base64.b64encode(picture.getvalue()).decode("ascii")
        alt = html.escape(self._contents.alt)
        hosted = "own" if self._own else "published"
        return (
            f'<div class="gentext-live" data-figure="{self.figure}" data-model="{hosted}" data-state="poster">\n'
            f'<img class="gentext-poster" style="max-width: 100%; height: auto" alt="{alt}" '
            f'src="data:image/png;base64,{image}">\n'
            f'<p class="gentext-live-note">{NOTE_OWN if self._own else NOTE}</p>\n'
            "</div>"
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        data = {**data, "text/plain": repr(self)}
        # Colab picks among representations by a rule of its own; there the widget must win, and nothing is published.
        if "google.colab" not in sys.modules:
            data["text/html"] = self.to_html()
        return data, metadata
