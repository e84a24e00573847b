"""`DensityPlayground` (chapter 1): dots to move, three models of them, and their density and samples at once."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from gentext import data, metrics, plots
from gentext.density import GaussianMixture, Histogram, KernelDensity
from gentext.density_mixture import COVARIANCES, EMConfig
from gentext.live import posters, protocol
from gentext.live.base import Computed, Contents, LiveFigure

Density = Histogram | KernelDensity | GaussianMixture
SIGNS = {
    "the ink of a star": "EGYPTIAN HIEROGLYPH N014",
    "the ink of an ankh": "EGYPTIAN HIEROGLYPH S034",
    "the ink of a deer": "LINEAR B IDEOGRAM B104 DEER",
}
MOST, HELD_OUT = 400, 300  # dots of a published set to learn from, and to judge by
FEWEST = 8  # that a reader's own set may have
OWN_MOST = 1000
BINS = [1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 24, 28, 32, 36, 40]
BANDWIDTHS = [0.3 * (0.002 / 0.3) ** (step / 30) for step in range(31)]  # parts of the box, from wide to narrow
COMPONENTS = list(range(1, 21))
SPREAD_FLOORS = [0.001 * 10 ** (step / 5) for step in range(11)]  # parts of the box
ALT = (
    "Three models of the same two hundred dots, drawn from the ink of a star. Above, the dots over each model's "
    "density: square cells for the histogram, a soft star for the kernel estimate, a star of ellipses for the mixture. "
    "Below, as many fresh samples of each: all three look like a star, and none repeats the dots."
)
ALT_OWN = (
    "Three models of the same dots. Above, the dots over each model's density: square cells for the histogram, soft "
    "hills for the kernel estimate, ellipses for the mixture. Below, as many fresh samples of each."
)


class DensityPlayground(LiveFigure):
    """Move dots in the plane and watch a histogram, a kernel estimate and a Gaussian mixture follow.

    Args:
        points: dots of yours, (n, 2) with n from 8 to 1000, to learn from; the book's own sets when None.
        held_out: (m, 2), others of the same kind to judge by. Without them every fourth of the points is held out.

    Raises ValueError where these are no such tensors.
    """

    figure = "density_playground"

    def __init__(self, points: Tensor | None = None, held_out: Tensor | None = None) -> None:
        if points is None:
            if held_out is not None:
                raise ValueError("Pass the points to learn from too: DensityPlayground(points, held_out).")
            super().__init__(self.published(), own=False)
        else:
            super().__init__(own_contents(points, held_out), own=True)

    @classmethod
    def published(cls) -> Contents:
        """The book's sets: the ink of three signs, and three shapes whose density is known too."""
        presets = []
        for seed, (name, truth) in enumerate({**inks(), **shapes()}.items()):
            generator = torch.Generator().manual_seed(seed)
            drawn = truth.sample(MOST + HELD_OUT, generator=generator).clamp(0, 1)
            best = -truth.entropy().item() if isinstance(truth, Histogram) else negative_entropy(truth)
            presets.append(preset(name, drawn[:MOST], drawn[MOST:], best))
        return contents(presets, low=[0.0, 0.0], side=1.0, count=200, alt=ALT)


# ---- sets of dots ----------------------------------------------------------------------------------------------------


def inks() -> dict[str, Histogram]:
    """The ink of the book's signs as densities on the unit square."""
    images = {
        name: image
        for split in data.SPLITS
        for signs in [data.load("glyphs", split, size=64)]
        for name, image in zip(signs.names, signs.images, strict=True)
    }
    return {name: Histogram.of_image(images[sign][0].double()) for name, sign in SIGNS.items()}


def shapes() -> dict[str, KernelDensity | GaussianMixture]:
    """A ring, two crescents and three heaps in the unit square."""
    turn = torch.linspace(0, 2 * math.pi, 361, dtype=torch.float64)[:360, None]
    half = turn[::2] / 2  # 0..π
    circle = torch.cat([turn.cos(), turn.sin()], dim=1)  # (360, 2)
    arch = torch.cat([half.cos(), half.sin()], dim=1)  # (180, 2)
    crescents = torch.cat([arch + torch.tensor([-0.5, -0.25]), torch.tensor([0.5, 0.25]) - arch])
    covs = torch.tensor([[[8, 5], [5, 6]], [[6, -4], [-4, 6]], [[1.5, 0], [0, 1.5]]], dtype=torch.float64)
    heaps = GaussianMixture(
        weights=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
        means=torch.tensor([[0.3, 0.35], [0.7, 0.65], [0.3, 0.8]], dtype=torch.float64),
        covs=1e-3 * covs,
    )
    return {
        "a ring": KernelDensity.fit(0.5 + 0.32 * circle, bandwidth=0.03),
        "two crescents": KernelDensity.fit(0.5 + 0.26 * crescents, bandwidth=0.03),
        "three heaps": heaps,
    }


def negative_entropy(truth: KernelDensity | GaussianMixture, count: int = 200) -> float:
    """E[log p(x)] of a density on the unit square, by the midpoint rule: what no model can beat on average."""
    axis = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    log_prob = truth.log_prob(torch.cartesian_prod(axis, axis))
    return (log_prob.exp() * log_prob).sum().item() / count**2


def preset(name: str, points: Tensor, held_out: Tensor, best: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "points": protocol.encode_array(points),
        "held_out": protocol.encode_array(held_out),
        "best": best,
    }


def own_contents(points: Tensor, held_out: Tensor | None) -> Contents:
    """The figure on a reader's own dots, in a square box around all of them."""
    for name, tensor in (("points", points), ("held_out", held_out)):
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor) or tensor.dim() != 2 or tensor.shape[1] != 2 or not tensor.isfinite().all():
            raise ValueError(f"{name} must be a tensor of shape (n, 2) of finite numbers, a dot in each row.")
    points = points.detach().double().cpu()
    if held_out is None:
        every = torch.arange(len(points)) % 4 == 3
        points, held_out = points[~every], points[every]
    held_out = held_out.detach().double().cpu()
    if not FEWEST <= len(points) <= OWN_MOST or not 1 <= len(held_out) <= OWN_MOST:
        raise ValueError(
            f"DensityPlayground needs {FEWEST} to {OWN_MOST} dots to learn from and 1 to {OWN_MOST} to judge by, "
            f"got {len(points)} and {len(held_out)}."
        )
    both = torch.cat([points, held_out])
    low, high = both.amin(0), both.amax(0)
    side = 1.16 * (high - low).max().item() or 1.0  # all dots in one place: a box of one unit around it
    corner = (low + high) / 2 - side / 2
    return contents(
        [preset("your dots", points, held_out, None)], low=corner.tolist(), side=side, count=len(points), alt=ALT_OWN
    )


def contents(presets: list[dict[str, Any]], *, low: list[float], side: float, count: int, alt: str) -> Contents:
    state = {
        "presets": presets,
        "low": low,
        "side": side,
        "bins": BINS,
        "bandwidths": [side * width for width in BANDWIDTHS],
        "components": COMPONENTS,
        "spread_floors": [side * width for width in SPREAD_FLOORS],
        "digits": max(0, 3 - round(math.log10(side))),  # decimals of a distance
        "full": 4 / side**2,  # density drawn half as strong as can be
        "fewest": min(FEWEST, count),
        "most": OWN_MOST,
        "initial": {"kind": "kernel", "at": {"histogram": 7, "kernel": 15, "mixture": 4}, "floor": 4, "count": count},
    }
    first = presets[0]

    def poster() -> Figure:
        return draw_poster(protocol.decode_array(first["points"])[:count].double(), low, side)

    return Contents({}, state, poster, alt, COMPUTED)


# ---- what the page computes, by the package --------------------------------------------------------------------------


def compute(model: Density, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All that the page asks of a fitted model: density on a grid, scores, samples, how near they come to the dots."""
    points, held_out, low, side = (given[name] for name in ("points", "held_out", "low", "side"))
    count = int(given["count"])
    middle = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    up, across = torch.meshgrid(middle, middle, indexing="ij")  # rows from the bottom up
    where = low + side * torch.stack([across, up], dim=-1).view(-1, 2)  # (count², 2)
    unseen = model.log_prob(held_out)
    error = unseen.std() / math.sqrt(len(unseen)) if len(unseen) > 1 else torch.zeros(())
    samples = model.push(given["u"], given["noise"])
    near = [metrics.nearest_neighbours(a, points).distances[:, 0].median() for a in (samples, held_out)]
    return {
        "density": model.log_prob(where).exp().view(count, count),
        "train": model.log_prob(points).mean().view(1),
        "held_out": torch.stack([unseen.mean(), error]),
        "samples": samples,
        "distances": torch.stack(near),
    }


def compute_histogram(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One dot in all is spread evenly over the cells, so that none is impossible."""
    bins, low = int(given["bins"]), given["low"]
    high = low + given["side"]
    return compute(Histogram.fit(given["points"], bins=bins, low=low, high=high, pseudo_count=1 / bins**2), given)


def compute_kernel(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return compute(KernelDensity.fit(given["points"], bandwidth=given["bandwidth"].item()), given)


def compute_mixture(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """EM for a given number of steps from given parameters."""
    model = GaussianMixture(weights=given["weights"], means=given["means"], covs=given["covs"])
    covariance, floor = COVARIANCES[int(given["covariance"])], given["var_floor"].item()
    for _ in range(int(given["steps"])):
        model = model.m_step(given["points"], model.e_step(given["points"])[0], covariance, floor)
    return {**compute(model, given), "weights": model.weights, "means": model.means, "covs": model.covs}


COMPUTED: dict[str, Computed] = {"histogram": compute_histogram, "kernel": compute_kernel, "mixture": compute_mixture}


# ---- the still picture -----------------------------------------------------------------------------------------------


def draw_poster(points: Tensor, low: list[float], side: float) -> Figure:
    """The three models of the points (n, 2) in their box: density and dots above, fresh samples below."""
    corner = torch.tensor(low, dtype=torch.float64)
    config = EMConfig(num_components=5, var_floor=(0.006 * side) ** 2, restarts=8)
    models: dict[str, Density] = {
        "histogram": Histogram.fit(points.clamp(corner, corner + side), bins=12, low=corner, high=corner + side),
        "kernels": KernelDensity.fit(points, bandwidth=0.025 * side),
        "mixture": GaussianMixture.fit(points, config, generator=torch.Generator().manual_seed(1)),
    }
    figure = posters.blank(6.4, 4.35)
    grid = figure.subplots(2, len(models), squeeze=False)
    middle = (torch.arange(120, dtype=torch.float64) + 0.5) / 120
    up, across = torch.meshgrid(middle, middle, indexing="ij")
    where = corner + side * torch.stack([across, up], dim=-1).view(-1, 2)
    shade = LinearSegmentedColormap.from_list("shade", [plots.PAPER, plots.COLORS["orange"]])
    for column, (name, model) in enumerate(models.items()):
        density = model.log_prob(where).exp().view(120, 120)
        above, below = grid[0, column], grid[1, column]
        draw_plane(above, points, plots.INK, corner, side)
        extent = (low[0], low[0] + side, low[1], low[1] + side)
        strength = density / (density + 4 / side**2)
        above.imshow(strength.numpy(), origin="lower", extent=extent, cmap=shade, vmin=0, vmax=1, zorder=0)
        above.set_title(name, fontsize=9, fontweight="normal", loc="center")
        samples = model.sample(len(points), generator=torch.Generator().manual_seed(column))
        draw_plane(below, samples, plots.COLORS["blue"], corner, side)
        below.imshow([[0.0]], extent=extent, cmap=shade, vmin=0, vmax=1, zorder=0)  # paper
    grid[0, 0].set_ylabel("density", fontsize=9)
    grid[1, 0].set_ylabel("samples", fontsize=9)
    return figure


def draw_plane(axes: Axes, points: Tensor, color: str, corner: Tensor, side: float) -> None:
    axes.scatter(points[:, 0].numpy(), points[:, 1].numpy(), s=4, color=color, linewidths=0, zorder=2)
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.set_xlim(corner[0].item(), corner[0].item() + side)
    axes.set_ylim(corner[1].item(), corner[1].item() + side)
    axes.spines[:].set_visible(False)
    axes.grid(False)
