"""One look for every picture in the book, and the few kinds of picture that come up again and again.

The pages have a light and a dark mode, but a notebook stores a picture once. So pictures are drawn for the light page
on a transparent ground, and the dark page turns them over with the CSS filter `invert(1) hue-rotate(180deg)`. In sRGB
that filter moves every colour along the grey axis until its luma is flipped, and leaves its hue. The colours below
keep at least 3:1 against either page, lie at least 0.1 apart in OKLab on both for normal sight, protanopia,
deuteranopia and tritanopia, and never take each other's hue, so that prose may say "the orange curve" (a test
computes all of it).
"""

from __future__ import annotations

import base64
import io
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from cycler import cycler
from IPython.display import display
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from PIL import Image

from gentext._stored import compact_png, plain

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure

# In the order in which curves take them; any first few are as far apart as the whole set allows.
COLORS: dict[str, str] = {
    "blue": "#0051ba",
    "orange": "#ee6e32",
    "teal": "#21a790",
    "rose": "#b53568",
    "violet": "#ba66e9",
    "olive": "#555300",
}
GREY = "#767676"  # for what is there only to compare with
TEXT = "#2b2b2b"
INK, PAPER = "#16161a", "#f4f2ec"  # signs are dark ink on this ground
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # with six colours: 42 groups, told apart without colour too

WIDTH = 5.8  # inches: the text column. On a phone it shrinks to 60 %, and 11 pt type can still be read.
_CSS_DPI = 110  # CSS pixels per inch on the page
_FINE_BELOW = 760  # figures up to this many CSS pixels wide are stored at twice the resolution


def color(index: int) -> str:
    """The colour of group `index`, going round after the sixth."""
    return list(COLORS.values())[index % len(COLORS)]


def marker(index: int) -> str:
    """The marker of group `index`: the shape changes each time the colours have gone round."""
    return MARKERS[(index // len(COLORS)) % len(MARKERS)]


def ink_map() -> Colormap:
    """The colour map of signs: 0 is paper, 1 is ink. For `imshow(image, cmap=plots.ink_map(), vmin=0, vmax=1)`."""
    return LinearSegmentedColormap.from_list("ink", [PAPER, INK])


def use_style() -> None:
    """Set matplotlib to the book's style. `gentext.notebook.setup` calls it."""
    plt.rcParams.update(
        {
            "figure.figsize": (WIDTH, 3.4),
            "figure.dpi": _CSS_DPI,
            "figure.facecolor": "none",
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "none",
            "savefig.edgecolor": "none",
            "axes.facecolor": "none",
            "axes.prop_cycle": cycler(color=list(COLORS.values())),
            "axes.edgecolor": TEXT,
            "axes.labelcolor": TEXT,
            "axes.titlecolor": TEXT,
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "axes.grid": True,
            "grid.color": GREY,
            "grid.alpha": 0.25,
            "grid.linewidth": 0.7,
            "lines.linewidth": 2.0,
            "lines.markersize": 5,
            "font.size": 11,
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib, so the pictures are the same everywhere
            "text.color": TEXT,
            "xtick.color": TEXT,
            "ytick.color": TEXT,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "legend.frameon": False,
            "legend.fontsize": 10,
            "image.cmap": "cividis",
            "image.interpolation": "nearest",
        }
    )


# Showing


def show(fig: Figure, alt: str) -> None:
    """Display a matplotlib figure once, as a PNG on a transparent ground, and close it.

    Args:
        fig: the figure.
        alt: the text alternative, in words: what a sighted reader would conclude. It goes into the output's metadata,
            from where the page takes it.

    Raises:
        ValueError: `alt` is empty.
    """
    data, metadata = _poster(fig, alt)
    # The plain text is the same for every figure: it is compared when the book is tested, and `alt` may hold a number.
    display({"text/plain": "<Figure>", "image/png": data}, raw=True, metadata={"image/png": metadata})


def interactive(plotly_figure: PlotlyFigure, poster: Figure, alt: str) -> None:
    """Display a plotly figure together with a picture of it for where plotly cannot run (print, e-book, no script).

    Numbers are stored as plain JSON lists to five significant digits, not as plotly 6's packed arrays: every version of
    plotly.js reads them, and a test can compare them.

    Args:
        plotly_figure: the figure to draw, from plotly 5 or later. It is copied, not changed.
        poster: a matplotlib figure that says the same; it is closed.
        alt: the text alternative of both.

    Raises:
        ValueError: `alt` is empty.
    """
    data, metadata = _poster(poster, alt)
    spec = plain(plotly_figure.to_plotly_json())
    spec["layout"] = {**spec.get("layout", {}), "template": plotly_template()}
    spec["config"] = {"displaylogo": False, "responsive": True}
    bundle = {"text/plain": "<Figure>", "image/png": data, "application/vnd.plotly.v1+json": spec}
    if "google.colab" in sys.modules:  # Colab draws plotly from HTML only
        import plotly.io

        bundle |= plotly.io.renderers["colab"].to_mimebundle({key: spec[key] for key in ("data", "layout")})
    display(bundle, raw=True, metadata={"image/png": metadata, "application/vnd.plotly.v1+json": {"alt": alt}})


def plotly_template() -> dict[str, Any]:
    """The book's style as a plotly template: colours, type, transparent grounds, room for a phone."""
    axis = {
        "gridcolor": "rgba(118, 118, 118, 0.25)",
        "linecolor": TEXT,
        "showline": True,
        "zeroline": False,
        "automargin": True,
    }
    layout = {
        "colorway": list(COLORS.values()),
        "font": {"family": "DejaVu Sans, Verdana, sans-serif", "size": 14, "color": TEXT},
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "margin": {"l": 50, "r": 10, "t": 45, "b": 45},
        "title": {"x": 0, "xref": "paper", "font": {"size": 16}},
        "legend": {"orientation": "h", "y": -0.2},
        "xaxis": axis,
        "yaxis": axis,
    }
    return {"layout": layout}


def _poster(fig: Figure, alt: str) -> tuple[str, dict[str, Any]]:
    """The figure as base64 PNG, and its metadata {alt, width, height} in CSS pixels."""
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError("a figure needs a text alternative: say in `alt` what a sighted reader would conclude from it")
    scale = 2 if fig.get_figwidth() * _CSS_DPI <= _FINE_BELOW else 1
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=_CSS_DPI * scale, transparent=True, bbox_inches="tight", pad_inches=0.05)
    plt.close(fig)
    png, (width, height) = compact_png(Image.open(buffer).convert("RGBA"))
    metadata = {"alt": alt.strip(), "width": round(width / scale), "height": round(height / scale)}
    return base64.b64encode(png).decode("ascii"), metadata


# Kinds of picture


def image_grid(
    images: torch.Tensor | np.ndarray,
    *,
    columns: int,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    """Images side by side, row after row, as dark ink on a light ground.

    Args:
        images: (n, 1, H, W) or (n, H, W), ink = 1 on ground 0; values outside [0, 1] are cut off.
        columns: images in a row; the last row may be short.
        row_labels, column_labels: one for each row or column.
        title: the finding.

    Raises:
        ValueError: the images are not (n, 1, H, W) or none, or the labels do not match the rows or columns.
    """
    pixels = _pixels(images)
    count, height, width = pixels.shape
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    for labels, wanted, name in ((row_labels, rows, "row_labels"), (column_labels, columns, "column_labels")):
        if labels is not None and len(labels) != wanted:
            raise ValueError(
                f"{name} must have {wanted} entries ({count} images in {columns} columns), got {len(labels)}"
            )

    # One picture for the whole grid: quicker to draw than an axes for each image, and no seams.
    gap = max(1, round(width / 16))
    canvas = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4))
    for index in range(count):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = ink_map()(pixels[index])

    room = 0.085 * max((len(label) for label in row_labels), default=0) if row_labels else 0.0
    across = min(max(WIDTH - room, WIDTH / 2), 0.75 * columns)  # inches for the images alone
    down = max(across * canvas.shape[0] / canvas.shape[1], 0.25 * rows * bool(row_labels))  # a row holds its label
    fig, ax = plt.subplots(figsize=(across + room, down + 0.35 * bool(column_labels) + 0.4 * bool(title)))
    ax.imshow(canvas, interpolation="nearest", aspect="equal")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False, left=False)
    ax.set_yticks([(height + gap) * row + height / 2 for row in range(rows)] if row_labels else [], row_labels or [])
    ax.set_xticks([(width + gap) * c + width / 2 for c in range(columns)] if column_labels else [], column_labels or [])
    if title:
        ax.set_title(title)
    return fig


def learning_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    ylabel: str,
    xlabel: str = "training step",
    title: str | None = None,
    log_x: bool = False,
    log_y: bool = False,
) -> Figure:
    """Curves over training, one line each, named in a legend.

    Args:
        curves: name -> (steps, values), e.g. from the history of `train.fit` or a zoo card. A name that contains
            "validation" is drawn dashed.
        ylabel: what is measured, with its unit: "−ELBO (nats)".

    Raises:
        ValueError: no curves, or steps and values of different length.
    """
    if not curves:
        raise ValueError("there are no curves to draw: pass a mapping from names to (steps, values)")
    fig, ax = plt.subplots()
    for name, (steps, values) in curves.items():
        if len(steps) != len(values):
            raise ValueError(f"the curve {name!r} needs as many steps as values, got {len(steps)} and {len(values)}")
        ax.plot(steps, values, label=name, linestyle="--" if "validation" in name else "-")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if log_x:
        ax.set_xscale("log")
    if log_y:
        ax.set_yscale("log")
    if title:
        ax.set_title(title)
    if len(curves) > 1:
        ax.legend()
    return fig


def thumbnail_map(
    points: torch.Tensor | np.ndarray,
    images: torch.Tensor | np.ndarray,
    *,
    labels: torch.Tensor | np.ndarray | None = None,
    max_thumbnails: int = 120,
    xlabel: str = "first coordinate",
    ylabel: str = "second coordinate",
    title: str | None = None,
) -> Figure:
    """A scatter map in which as many points as have room are drawn as the signs they stand for.

    Every point is a dot. Then, in the given order, a point gets its sign if it would not cover a sign already drawn.

    Args:
        points: (n, 2) positions.
        images: (n, 1, H, W) or (n, H, W), ink = 1 on ground 0.
        labels: (n,) integers that colour dots and ink, in the order of `COLORS`; all are blue without.
        max_thumbnails: at most so many signs.

    Raises:
        ValueError: shapes do not match.
    """
    positions = np.asarray(torch.as_tensor(points).detach().cpu(), dtype=float)
    pixels = _pixels(images)
    if positions.ndim != 2 or positions.shape[1] != 2 or len(positions) != len(pixels):
        raise ValueError(f"points must have shape ({len(pixels)}, 2), one for each image, got {tuple(positions.shape)}")
    groups = np.zeros(len(pixels), dtype=int)
    if labels is not None:
        groups = np.asarray(torch.as_tensor(labels).detach().cpu(), dtype=int)
        if groups.shape != (len(pixels),):
            raise ValueError(f"labels must have shape ({len(pixels)},), one for each image, got {groups.shape}")

    fig, ax = plt.subplots(figsize=(WIDTH, WIDTH * 0.9))
    ax.scatter(positions[:, 0], positions[:, 1], c=[color(group) for group in groups], s=7, alpha=0.45, linewidths=0)
    low, high = positions.min(0), positions.max(0)
    span = np.maximum(high - low, 1e-9)
    size = 0.052  # a thumbnail's side as a fraction of the map
    taken: list[np.ndarray] = []
    for index, position in enumerate((positions - low) / span):
        if len(taken) >= max_thumbnails:
            break
        if taken and np.abs(np.stack(taken) - position).max(1).min() < size:
            continue
        taken.append(position)
        rgba = np.empty((*pixels[index].shape, 4))
        rgba[..., :3] = to_rgb(color(groups[index]))
        rgba[..., 3] = pixels[index]  # the ink alone: the ground stays clear
        zoom = size * WIDTH * 72 / pixels.shape[-1]
        ax.add_artist(AnnotationBbox(OffsetImage(rgba, zoom=zoom), tuple(positions[index]), frameon=False, pad=0))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(False)
    ax.margins(0.04)
    if title:
        ax.set_title(title)
    return fig


def _pixels(images: torch.Tensor | np.ndarray) -> np.ndarray:
    """Images as a float array (n, H, W) in [0, 1]."""
    pixels = np.asarray(torch.as_tensor(images).detach().cpu().float())
    if pixels.ndim == 4 and pixels.shape[1] == 1:
        pixels = pixels[:, 0]
    if pixels.ndim != 3 or len(pixels) == 0:
        raise ValueError(f"images must have shape (n, 1, H, W) with n at least 1, got {tuple(images.shape)}")
    return pixels.clip(0.0, 1.0)
