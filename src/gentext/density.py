"""Densities learned from points (chapter 1): a histogram, a kernel density estimate, a Gaussian mixture trained by EM.

Each is a frozen record of tensors with the three verbs of a generative model:

    model = KernelDensity.fit(x, bandwidth=0.1)     learn a density from points (n, d)
    model.log_prob(x)                               say how probable points are, in nats, (n,)
    model.sample(100, generator=generator)          make new points, (100, d)

Points are rows of a floating-point tensor; a model lives on the device and in the precision of the points it was
fitted to. A density has the unit "per volume", so its logarithm depends on the unit of the axes and may be positive.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gentext._points import check_count, check_points, index_at, normal_like, uniform_like
from gentext.density_mixture import EMConfig, GaussianMixture

__all__ = ["EMConfig", "GaussianMixture", "Histogram", "KernelDensity", "rule_of_thumb"]

MAX_CELLS = 2**62  # a cell's number must fit into an int64


# ---- histogram -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """A density that is constant on the cells of a grid, and zero outside the grid's box.

    Only the cells that hold something are stored, so the number of dimensions is limited by the length of a cell's
    number and not by memory.

    Attributes:
        low, high: (d,), corners of the box. Cells are half open; the box's upper faces belong to the last cells.
        bins: cells along each of the d axes.
        cells: (m,) int64, sorted numbers of the occupied cells, the last axis counting fastest.
        mass: (m,), share of the points in each; sums to 1.
        uniform: weight of the uniform density on the box that is mixed in, in [0, 1]; 0 leaves empty cells impossible.
    """

    low: Tensor
    high: Tensor
    bins: tuple[int, ...]
    cells: Tensor
    mass: Tensor
    uniform: float = 0.0

    @classmethod
    def fit(
        cls,
        x: Tensor,
        *,
        bins: int | Sequence[int],
        low: float | Sequence[float] | Tensor | None = None,
        high: float | Sequence[float] | Tensor | None = None,
        pseudo_count: float = 0.0,
    ) -> Histogram:
        """The histogram that makes the points x (n, d) most probable among all with these cells: mass = share.

        Args:
            bins: cells along each axis, one number for all axes or one for each.
            low, high: corners of the box; the smallest box around the points where they are not given.
            pseudo_count: points (or part of one) added to every cell. It mixes in the uniform density with weight
                a K / (n + a K), K being the number of cells, so that no cell in the box is impossible
                (Bishop 2006, section 2.2.1).

        Raises:
            ValueError: x is no (n, d) tensor of finite numbers, a point lies outside the box, the box has no width, or
                there are more than 2^62 cells.
        """
        check_points(x)
        d = x.shape[1]
        bins = (bins,) * d if isinstance(bins, int) else tuple(bins)
        low_ = x.amin(0) if low is None else torch.as_tensor(low, dtype=x.dtype, device=x.device).expand(d)
        high_ = x.amax(0) if high is None else torch.as_tensor(high, dtype=x.dtype, device=x.device).expand(d)
        if len(bins) != d or min(bins) < 1:
            raise ValueError(f"bins must be a positive number for each of the {d} axes, got {bins}")
        if math.prod(bins) > MAX_CELLS:
            raise ValueError(f"a grid of {math.prod(bins):.1e} cells cannot be numbered; use fewer bins or dimensions")
        if not (low_ < high_).all():
            raise ValueError("the box has no width along some axis: pass low and high with low < high")
        if not (0 <= pseudo_count < math.inf):
            raise ValueError(f"pseudo_count must be at least 0, got {pseudo_count}")
        if not ((x >= low_) & (x <= high_)).all():
            raise ValueError("a point lies outside the box: choose low and high around all points")
        share = pseudo_count * math.prod(bins) / (len(x) + pseudo_count * math.prod(bins))
        empty = torch.zeros(0, dtype=torch.int64, device=x.device)
        grid = cls(low=low_, high=high_, bins=bins, cells=empty, mass=x.new_zeros(0), uniform=share)
        cells, counts = torch.unique(grid.cell_of(x), return_counts=True)
        return cls(low=low_, high=high_, bins=bins, cells=cells, mass=counts.to(x.dtype) / len(x), uniform=share)

    @classmethod
    def of_image(cls, image: Tensor) -> Histogram:
        """A picture (H, W) as a density of ink on the unit square: a pixel is a cell, its share of the ink the mass.

        Axis 0 runs from left to right, axis 1 from the bottom up. Raises ValueError where there is no ink, or not
        one picture.
        """
        if image.dim() != 2 or not image.is_floating_point() or not (image >= 0).all() or not image.sum() > 0:
            raise ValueError("of_image needs one picture (H, W) of ink ≥ 0 with some ink in it")
        height, width = image.shape
        ink = image.flip(0).T.flatten()  # (W H,), columns from the left, each from the bottom up
        cells = ink.nonzero()[:, 0]
        low = image.new_zeros(2)
        return cls(low=low, high=low + 1, bins=(width, height), cells=cells, mass=ink[cells] / ink.sum())

    @property
    def log_cell_volume(self) -> Tensor:
        return (self.high - self.low).log().sum() - math.log(math.prod(self.bins))

    def cell_of(self, x: Tensor) -> Tensor:
        """Number of the cell that each point of x (n, d) lies in, (n,) int64; −1 outside the box."""
        number = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        for axis, count in enumerate(self.bins):
            part = (x[:, axis] - self.low[axis]) / (self.high[axis] - self.low[axis])  # (n,), 0..1 in the box
            number = number * count + (part * count).long().clamp(0, count - 1)
        inside = ((x >= self.low) & (x <= self.high)).all(1)
        return torch.where(inside, number, -1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log density of points (n, d) in nats per volume, (n,): −∞ off the box, and in empty cells if uniform is 0."""
        check_points(x, len(self.bins))
        number = self.cell_of(x)
        place = torch.searchsorted(self.cells, number).clamp(max=len(self.cells) - 1)
        mass = torch.where(self.cells[place] == number, self.mass[place], 0.0)  # (n,)
        mass = (1 - self.uniform) * mass + self.uniform / math.prod(self.bins)
        return torch.where(number >= 0, mass, 0.0).log() - self.log_cell_volume

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n points (n, d): uniform noise, pushed into the cells."""
        check_count(n)
        u = uniform_like(self.low, (n,), generator)
        return self.push(u, uniform_like(self.low, (n, len(self.bins)), generator))

    def push(self, u: Tensor, place: Tensor) -> Tensor:
        """Turn uniform noise into points (n, d): u (n,) picks a cell by its mass, place (n, d) a place in it."""
        anywhere = u < self.uniform
        number = self.cells[index_at(self.mass, ((u - self.uniform) / (1 - self.uniform)).clamp(min=0))]  # (n,)
        corner = torch.empty_like(place)
        for axis in reversed(range(len(self.bins))):
            corner[:, axis] = (number % self.bins[axis]).to(corner.dtype)
            number = number // self.bins[axis]
        counts = torch.tensor(self.bins, dtype=corner.dtype, device=corner.device)
        part = torch.where(anywhere[:, None], place, (corner + place) / counts)  # (n, d) in [0, 1]
        return self.low + (self.high - self.low) * part

    def entropy(self) -> Tensor:
        """−E[log p(x)] in nats, exact, a number: what the best model scores on average on points of this density."""
        cells = math.prod(self.bins)
        occupied = (1 - self.uniform) * self.mass + self.uniform / cells
        rest = torch.full_like(occupied[:1], self.uniform / cells)
        return (
            self.log_cell_volume
            - torch.xlogy(occupied, occupied).sum()
            - (cells - len(self.cells)) * torch.xlogy(rest, rest).sum()
        )


# ---- kernel density estimate -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class KernelDensity:
    """A Gaussian hill of one width on every point: p(x) = (1/n) Σ_i N(x; x_i, h² I) (Rosenblatt 1956; Parzen 1962).

    Attributes:
        points: (n, d), the training points; the model is nothing else.
        bandwidth: h, standard deviation of every hill along every axis, in the unit of the axes.
    """

    points: Tensor
    bandwidth: float

    def __post_init__(self) -> None:
        check_points(self.points)
        if not (0 < self.bandwidth < math.inf):
            raise ValueError(f"the bandwidth must be a positive number, got {self.bandwidth}")

    @classmethod
    def fit(cls, x: Tensor, *, bandwidth: float | Literal["scott", "silverman"]) -> KernelDensity:
        """Keep the points x (n, d). A bandwidth may be named by a rule: see `rule_of_thumb`."""
        if isinstance(bandwidth, str):
            bandwidth = rule_of_thumb(x, bandwidth)
        return cls(points=x, bandwidth=float(bandwidth))

    @classmethod
    def select(cls, x: Tensor, held_out: Tensor, bandwidths: Iterable[float]) -> KernelDensity:
        """The estimate on x whose bandwidth, among those given, makes the held-out points (m, d) most probable."""
        models = [cls.fit(x, bandwidth=bandwidth) for bandwidth in bandwidths]
        if not models:
            raise ValueError("select needs at least one bandwidth to choose from")
        return max(models, key=lambda model: model.log_prob(held_out).mean().item())

    def log_prob(self, x: Tensor, *, chunk: int = 1024) -> Tensor:
        """log density of points (m, d) in nats per volume, (m,), `chunk` of them at a time to bound the memory."""
        check_points(x, self.points.shape[1])
        return torch.cat([self._log_kernels(part).logsumexp(1) for part in x.split(chunk)]) - math.log(len(self.points))

    def log_prob_left_out(self) -> Tensor:
        """log density of every training point under the estimate from the n − 1 others, (n,)."""
        if len(self.points) < 2:
            raise ValueError("to leave one point out takes at least two points")
        log_kernels = self._log_kernels(self.points)  # (n, n)
        return log_kernels.fill_diagonal_(-math.inf).logsumexp(1) - math.log(len(self.points) - 1)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n points (n, d): a training point by a fair draw, moved by Gaussian noise of the bandwidth."""
        check_count(n)
        u = uniform_like(self.points, (n,), generator)
        return self.push(u, normal_like(self.points, (n, self.points.shape[1]), generator))

    def push(self, u: Tensor, noise: Tensor) -> Tensor:
        """Turn noise into points (n, d): u (n,), uniform, picks a training point, noise (n, d), normal, moves it."""
        return self.points[index_at(torch.ones_like(self.points[:, 0]), u)] + self.bandwidth * noise

    def _log_kernels(self, x: Tensor) -> Tensor:
        """log N(x_j; x_i, h² I) for every pair, (m, n)."""
        # Differences, not the expanded square: with a narrow kernel the cancellation would be all that is left.
        distance = torch.cdist(x, self.points, compute_mode="donot_use_mm_for_euclid_dist") / self.bandwidth
        return -0.5 * distance.square() - x.shape[1] * (math.log(self.bandwidth) + 0.5 * math.log(2 * math.pi))


def rule_of_thumb(x: Tensor, rule: str) -> float:
    """A bandwidth from the spread and the number of points x (n, d) alone. It suits points of one Gaussian heap.

    With σ² the mean variance of the axes, "scott" is σ n^(−1/(d+4)) (Scott 1992, section 6.3), and "silverman" is
    that times (4/(d+2))^(1/(d+4)), best for a Gaussian truth (Silverman 1986, section 4.3.2).
    """
    check_points(x)
    n, d = x.shape
    factors = {"scott": 1.0, "silverman": (4 / (d + 2)) ** (1 / (d + 4))}
    if rule not in factors:
        raise ValueError(f"there is no rule {rule!r}; the rules are scott and silverman")
    if n < 2:
        raise ValueError("a rule of thumb takes at least two points")
    return factors[rule] * n ** (-1 / (d + 4)) * x.var(0).mean().sqrt().item()
