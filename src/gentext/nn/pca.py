"""Principal component analysis: features for Gaussians (chapter 2), the yardstick of autoencoders (chapter 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gentext.nn.checks import check_codes


@dataclass(frozen=True)
class PCA:
    """Principal component analysis: the best linear code of a given size, in closed form.

    Attributes:
        mean: (pixels,) the average row.
        components: (num_components, pixels) orthonormal rows, by falling variance, the largest entry of each positive.
        variance: (num_components,) variance along each component, per degree of freedom (n − 1).
    """

    mean: Tensor
    components: Tensor
    variance: Tensor

    @classmethod
    def fit(cls, rows: Tensor, num_components: int) -> PCA:
        """PCA of rows (n, pixels), by a singular value decomposition of the centred rows.

        Works in the dtype it is given; pass float64 for the last digits. Raises ValueError if the rows cannot carry
        `num_components` directions.
        """
        if rows.ndim != 2 or not rows.is_floating_point():
            raise ValueError(
                f"rows must be a floating-point matrix (n, pixels), got {tuple(rows.shape)} of {rows.dtype}; "
                "images become rows by x.flatten(1)"
            )
        most = min(len(rows) - 1, rows.shape[1])
        if not 1 <= num_components <= most:
            raise ValueError(
                f"num_components must lie in 1..{most} for {len(rows)} rows of {rows.shape[1]}, got {num_components}"
            )
        mean = rows.mean(dim=0)
        _, singular, components = torch.linalg.svd(rows - mean, full_matrices=False)
        components = components[:num_components]
        # A singular vector is known up to its sign. Fix it, or pictures of it flip from machine to machine.
        largest = components.abs().argmax(dim=1, keepdim=True)
        components = components * components.gather(1, largest).sign()
        return cls(mean, components, singular[:num_components].square() / (len(rows) - 1))

    def encode(self, rows: Tensor) -> Tensor:
        """Coordinates (n, num_components) of rows (n, pixels)."""
        check_codes(rows, len(self.mean), name="rows")
        return (rows - self.mean) @ self.components.T

    def decode(self, h: Tensor) -> Tensor:
        """Rows (n, pixels) of coordinates h (n, num_components)."""
        check_codes(h, len(self.components), name="h")
        return h @ self.components + self.mean

    def reconstruct(self, rows: Tensor) -> Tensor:
        """The projection of rows (n, pixels) onto the mean plus the span of the components."""
        return self.decode(self.encode(rows))
