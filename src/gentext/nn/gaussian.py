"""The diagonal Gaussian, which encoders return and priors are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LOG_TWO_PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mean, diag(exp(log_var))) over vectors, one per row.

    torch.distributions.Normal draws from the global random state; this one draws from the generator it is given.

    Attributes:
        mean: (n, latent_dim).
        log_var: (n, latent_dim), logarithm of the variance.
    """

    mean: Tensor
    log_var: Tensor

    def __post_init__(self) -> None:
        if self.mean.shape != self.log_var.shape:
            raise ValueError(
                f"mean and log_var must have one shape, got {tuple(self.mean.shape)} and {tuple(self.log_var.shape)}"
            )

    @property
    def std(self) -> Tensor:
        return (0.5 * self.log_var).exp()

    def sample(self, generator: torch.Generator | None = None, num_samples: int | None = None) -> Tensor:
        """Draw z = μ + σ ε with ε ~ N(0, I), so that gradients reach μ and σ (Kingma & Welling 2014, section 2.4).

        Returns (n, latent_dim), or (num_samples, n, latent_dim) when `num_samples` is given.
        """
        shape = self.mean.shape if num_samples is None else (num_samples, *self.mean.shape)
        noise = torch.randn(shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + self.std * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """log N(z; mean, var) in nats, summed over latents: (..., n, latent_dim) -> (..., n)."""
        return -0.5 * (LOG_TWO_PI + self.log_var + (z - self.mean).square() * (-self.log_var).exp()).sum(-1)

    def kl_per_latent(self) -> Tensor:
        """KL(N(μ_j, σ_j²) ‖ N(0, 1)) = ½ (μ_j² + σ_j² − 1 − log σ_j²) in nats, (n, latent_dim).

        Kingma & Welling 2014, appendix B. Diagonal Gaussians factorise, so the latents' terms add up.
        """
        return 0.5 * (self.mean.square() + self.log_var.exp() - 1 - self.log_var)

    def kl(self, other: DiagonalGaussian | None = None) -> Tensor:
        """KL(self ‖ other) in nats, (n,). `other` defaults to the standard normal prior."""
        if other is None:
            return self.kl_per_latent().sum(-1)
        ratio = (self.log_var - other.log_var).exp()  # σ₁² / σ₂²
        shift = (self.mean - other.mean).square() * (-other.log_var).exp()
        return 0.5 * (ratio + shift - 1 - (self.log_var - other.log_var)).sum(-1)


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """log N(z; 0, I) in nats, summed over the last dimension: (..., latent_dim) -> (...)."""
    return -0.5 * (LOG_TWO_PI + z.square()).sum(-1)
