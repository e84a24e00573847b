"""Measures of a set of samples against a set of real data, in a feature space: as two Gaussians, or as two clouds."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_BLOCK = 1 << 22  # distances held at a time: 32 MB


class PrecisionRecall(NamedTuple):
    """precision: share of samples that look real; recall: share of the data that the samples reach. Both in [0, 1]."""

    precision: float
    recall: float


class Neighbours(NamedTuple):
    """distances (n, k), ascending along each row, and indices (n, k) into the rows searched."""

    distances: Tensor
    indices: Tensor


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Squared Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017, equation 6).

        ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½)

    With features of another network than theirs this is no FID, and is not to be compared with one. It falls as the
    sets grow, since fitted means and covariances are noisy: compare sets of equal size.

    Args:
        features_a, features_b: (n, d) and (m, d), n and m at least 2.

    Returns:
        the distance, in squared units of the features; computed in float64.

    Raises:
        ValueError: shapes do not match, or a feature is not finite.
    """
    a, b = _cloud(features_a, "features_a", 2), _cloud(features_b, "features_b", 2)
    _same_width(a, b)
    return gaussian_frechet_distance(a.mean(0), _cov(a), b.mean(0), _cov(b))


def frechet_limit(
    features_a: Tensor, features_b: Tensor, *, repeats: int = 6, generator: torch.Generator | None = None
) -> float:
    """What the Fréchet distance would be of endlessly many examples of both kinds (Chong & Forsyth 2020, section 3).

    Sets of n examples are too far apart by about c / n, since their fitted Gaussians are noisy. So it is measured on
    parts of the sets, from half of them up, and the straight line through the distances against 1 / n is followed to
    1 / n = 0. There, by the same reckoning, two sets of one kind are 0 apart, give or take the noise.

    Args:
        features_a, features_b: (n, d) and (m, d), n and m at least 16. Parts of both are taken in proportion.
        repeats: random parts of each size.
        generator: chooses the parts.

    Returns:
        the distance in squared units of the features; below 0 only by noise.

    Raises:
        ValueError: shapes do not match, too few rows, or a feature is not finite.
    """
    a, b = _cloud(features_a, "features_a", 16), _cloud(features_b, "features_b", 16)
    _same_width(a, b)
    inverse, distances = [], []
    for share in (1.0, 0.85, 0.7, 0.6, 0.5):
        for _ in range(repeats if share < 1 else 1):
            parts = [
                x[torch.randperm(len(x), generator=generator)[: round(share * len(x))].to(x.device)] for x in (a, b)
            ]
            inverse.append(1 / share)
            distances.append(frechet_distance(*parts))
    design = torch.stack([torch.ones(len(inverse), dtype=torch.float64), torch.tensor(inverse).double()], 1)
    line = torch.linalg.lstsq(design, torch.tensor(distances).double()[:, None]).solution
    return line[0].item()


def gaussian_frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """Squared Fréchet (2-Wasserstein) distance between two Gaussians (Dowson & Landau 1982).

    Args:
        mean_a, mean_b: (d,).
        cov_a, cov_b: (d, d), symmetric and positive semi-definite; singular ones are fine.

    Raises:
        ValueError: shapes do not match.
    """
    d = mean_a.shape[-1]
    for name, value, wanted in (
        ("mean_a", mean_a, (d,)),
        ("mean_b", mean_b, (d,)),
        ("cov_a", cov_a, (d, d)),
        ("cov_b", cov_b, (d, d)),
    ):
        if tuple(value.shape) != wanted:
            raise ValueError(f"{name} must have shape {wanted}, got {tuple(value.shape)}")
    mean_a, cov_a, mean_b, cov_b = (value.detach().cpu().double() for value in (mean_a, cov_a, mean_b, cov_b))
    # Σ_a Σ_b is not symmetric, but has the eigenvalues of Σ_a^½ Σ_b Σ_a^½, which is: no complex numbers, no iteration.
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T  # Σ_a^½, (d, d)
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(0.0, distance.item())  # rounding may leave −1e-15


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019, equations 1 and 2).

    A set covers the balls around its points that reach to each point's k-th nearest neighbour in the set. Precision is
    the share of samples that the data cover, recall the share of the data that the samples cover.

    Args:
        real, fake: features, (n, d) and (m, d), each with more than k rows; use n = m to compare.
        k: the neighbour that gives the radius; 3 in the paper.

    Raises:
        ValueError: shapes do not match, k is out of range, or a feature is not finite.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    real, fake = _cloud(real, "real", k + 1), _cloud(fake, "fake", k + 1)
    _same_width(real, fake)
    return PrecisionRecall(_covered(fake, real, k), _covered(real, fake, k))


def nearest_neighbours(a: Tensor, b: Tensor, k: int = 1) -> Neighbours:
    """The k rows of `b` nearest to each row of `a`, by Euclidean distance.

    Args:
        a, b: (n, ...) and (m, ...), vectors or images; images count as vectors of pixels.
        k: how many, at most m.

    Returns:
        distances (n, k), nearest first, and indices (n, k) into `b`, on the device of `a`.

    Raises:
        ValueError: shapes do not match, or k is out of range.
    """
    device = a.device
    a, b = _cloud(a.flatten(1), "a", 1), _cloud(b.flatten(1), "b", 1)
    _same_width(a, b)
    if not 1 <= k <= len(b):
        raise ValueError(f"k must lie in 1..{len(b)}, the rows of b, got {k}")
    found = [_squared_distances(block, b).topk(k, dim=1, largest=False) for block in _blocks(a, b)]
    squared = torch.cat([block.values for block in found])
    indices = torch.cat([block.indices for block in found])
    return Neighbours(squared.sqrt().to(device, torch.float32), indices.to(device))


def _covered(points: Tensor, centres: Tensor, k: int) -> float:
    """Share of `points` within the k-th neighbour's distance of at least one of the `centres`."""
    # The nearest row to a centre is itself, at distance 0: the k-th neighbour comes k + 1 in order.
    nearest = [_squared_distances(block, centres).kthvalue(k + 1, dim=1).values for block in _blocks(centres, centres)]
    reach = torch.cat(nearest) * (1 + 1e-9)  # a point right on the sphere is inside, whichever way it rounds
    inside = [(_squared_distances(block, centres) <= reach).any(1) for block in _blocks(points, centres)]
    return torch.cat(inside).double().mean().item()


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """‖a_i − b_j‖² = ‖a_i‖² + ‖b_j‖² − 2 a_i·b_j, (n, m): one matrix product. In float64 only equal rows give 0."""
    centre = b.mean(0)  # near the origin the norms cancel least
    a, b = a - centre, b - centre
    norms = a.square().sum(1)[:, None] + b.square().sum(1)
    squared = norms - 2 * a @ b.T
    return torch.where(squared > 1e-12 * norms, squared, 0.0)


def _blocks(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    return a.split(max(1, _BLOCK // len(b)))


def _cov(features: Tensor) -> Tensor:
    centred = features - features.mean(0)
    return centred.T @ centred / (len(features) - 1)


def _cloud(features: Tensor, name: str, least: int) -> Tensor:
    """Features (n, d) as float64, on their device where it has float64."""
    if features.ndim != 2 or len(features) < least or features.shape[1] == 0:
        raise ValueError(f"{name} must have shape (n, d) with n at least {least}, got {tuple(features.shape)}")
    features = features.detach()
    features = features.cpu().double() if features.device.type == "mps" else features.double()
    if not features.isfinite().all():
        raise ValueError(f"{name} must be finite, but holds infinite values or NaN")
    return features


def _same_width(a: Tensor, b: Tensor) -> None:
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"both sets must have features of one width, got {a.shape[1]} and {b.shape[1]}")
    if a.device != b.device:
        raise ValueError(f"both sets must be on one device, got {a.device} and {b.device}")
