"""What the figures' posters share: a sign as dark ink on a paper tile, in the book's colours."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from gentext import plots

INK_ON_PAPER = LinearSegmentedColormap.from_list("ink", [plots.PAPER, plots.INK])


def blank(width: float, height: float) -> Figure:
    """A figure of this size in inches, unknown to pyplot, so that no notebook shows it a second time."""
    figure = plt.figure(figsize=(width, height), layout="constrained")
    plt.close(figure)
    return figure


def draw_sign(axes: Axes, image: Tensor, title: str | None = None) -> None:
    """One image (S, S) in [0, 1], without axes."""
    axes.imshow(image.numpy(), cmap=INK_ON_PAPER, vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.grid(False)
    if title is not None:
        axes.set_title(title, fontsize=9, fontweight="normal", loc="center")
