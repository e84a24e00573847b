"""Points as rows of a tensor: what the densities of chapter 1 ask of them, and how they draw."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def index_at(weights: Tensor, u: Tensor) -> Tensor:
    """The inverse of a cumulative distribution: u (n,) in [0, 1) -> indices (n,), each as likely as its weight."""
    cdf = weights.cumsum(0)
    return torch.searchsorted(cdf, u * cdf[-1], right=True).clamp(max=len(weights) - 1)


def draw_index(weights: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One index drawn with the given weights (m,), (1,) int64."""
    return index_at(weights, uniform_like(weights, (1,), generator))


def check_count(n: int) -> None:
    if n < 1:
        raise ValueError(f"the number of samples must be at least 1, got {n}")


def check_points(x: Tensor, d: int | None = None) -> None:
    """Raise ValueError unless x is (n, d) with n ≥ 1: finite floating-point numbers, a point in each row."""
    wanted = f"(n, {'d' if d is None else d})"
    if not isinstance(x, Tensor) or x.dim() != 2 or len(x) < 1 or x.shape[1] < 1 or (d is not None and x.shape[1] != d):
        found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"points must be a tensor of shape {wanted}, one point a row, got {found}")
    if not x.is_floating_point():
        raise ValueError(f"points must be floating-point numbers, got {x.dtype}; convert with .float() or .double()")
    if not x.isfinite().all():
        raise ValueError("points must be finite numbers, some are NaN or infinite")


def uniform_like(like: Tensor, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    return torch.rand(tuple(shape), generator=generator, dtype=like.dtype, device=like.device)


def normal_like(like: Tensor, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    return torch.randn(tuple(shape), generator=generator, dtype=like.dtype, device=like.device)
