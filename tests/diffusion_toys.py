"""Data whose denoiser is known in closed form: Gaussians and mixtures of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gentext.diffusion_schedule import Prediction, from_x0_and_noise, scales


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class GaussianData:
    """x₀ ~ N(mean, cov) in d dimensions, float64; x = x₀ + σ ε."""

    def __init__(self, mean: Tensor, cov: Tensor) -> None:
        self.mean, self.cov = mean.double(), cov.double()
        self.eigenvalues, self.eigenvectors = torch.linalg.eigh(self.cov)

    @classmethod
    def example(cls, d: int = 2, seed: int = 0) -> GaussianData:
        root = torch.randn(d, d, generator=seeded(seed), dtype=torch.float64) / d**0.5
        cov = 0.15 * (root @ root.T) + 0.05 * torch.eye(d, dtype=torch.float64)
        return cls(0.4 * torch.randn(d, generator=seeded(seed + 1), dtype=torch.float64), cov)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(n, len(self.mean), generator=generator, dtype=torch.float64)
        return self.mean + (noise * self.eigenvalues.sqrt()) @ self.eigenvectors.T

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x₀ ∣ x] = μ + Σ (Σ + σ² I)⁻¹ (x − μ)."""
        shrink = self.eigenvalues / (self.eigenvalues + sigma[:, None] ** 2)  # (n, d)
        return self.mean + ((x - self.mean) @ self.eigenvectors * shrink) @ self.eigenvectors.T

    def log_prob(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(x) of x = x₀ + σ ε, (n,)."""
        var = self.eigenvalues + sigma[:, None] ** 2
        along = (x - self.mean) @ self.eigenvectors
        return -0.5 * (along.square() / var + (2 * torch.pi * var).log()).sum(1)

    def flow(self, x: Tensor, start: float, stop: float) -> Tensor:
        """Where the probability-flow ODE carries x from level `start` to level `stop`."""
        stretch = ((self.eigenvalues + stop**2) / (self.eigenvalues + start**2)).sqrt()
        return self.mean + ((x - self.mean) @ self.eigenvectors * stretch) @ self.eigenvectors.T


class MixtureData:
    """A mixture of Gaussians; the class y is the component."""

    def __init__(self, parts: list[GaussianData], shares: Tensor) -> None:
        self.parts, self.shares = parts, shares.double()

    def log_joint(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(y) p(x∣y) for each component, (n, K)."""
        return torch.stack([part.log_prob(x, sigma) for part in self.parts], 1) + self.shares.log()

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        weights = self.log_joint(x, sigma).softmax(1)  # p(y∣x)
        estimates = torch.stack([part.denoise(x, sigma) for part in self.parts], 1)  # (n, K, d)
        return (weights[:, :, None] * estimates).sum(1)


class ExactNetwork(nn.Module):
    """A network that knows: answers with the exact E[x₀ ∣ x_t], said as ε, x₀ or v. Images are rows of pixels."""

    def __init__(self, data: GaussianData, prediction: Prediction, shift: float = 0.0) -> None:
        super().__init__()
        self.data, self.prediction = data, prediction
        self.shift = nn.Parameter(torch.tensor(shift, dtype=torch.float64))  # 0 is right; else it is wrong by so much

    def forward(self, x_t: Tensor, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        rows = x_t.flatten(1)
        signal, noise_scale = scales(log_snr, rows)
        x0 = self.data.denoise(rows / signal, (-0.5 * log_snr).exp()) + self.shift
        noise = (rows - signal * x0) / noise_scale
        return from_x0_and_noise(x0, noise, self.prediction, log_snr).view_as(x_t)
