"""Gaussians that classify and that generate (chapter 2).

Give every class a Gaussian, p(x∣y = k) = N(x; μ_k, Σ_k), and a share of the data, p(y = k) = π_k. Then Bayes' rule
classifies (linear and quadratic discriminant analysis, naive Bayes), and drawing y, then x, generates. With no classes
and few latent numbers the same arithmetic is probabilistic PCA, the plainest latent-variable model.

- `ClassConditionalGaussian` on rows of features, with `shrink` and `ledoit_wolf` for when examples are few;
- `ProbabilisticPCA`, in closed form and by EM, on top of `PCA`.

`gentext.gaussian_images` wraps features and Gaussians into one model that takes and gives pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from gentext.nn import PCA, LogisticRegression, check_codes, check_labels

LOG_TWO_PI = math.log(2 * math.pi)
Covariance = Literal["shared", "full", "diagonal"]
COVARIANCES: tuple[Covariance, ...] = ("shared", "full", "diagonal")


def shrink(cov: Tensor, intensity: Tensor | float) -> Tensor:
    """(1 − λ) Σ + λ (tr Σ / d) I: pull covariances towards the round one of the same total variance.

    The eigenvectors stay, each eigenvalue e becomes (1 − λ) e + λ ē, where ē is the mean eigenvalue.

    Args:
        cov: (..., d, d); or variances (G, d) of diagonal covariances.
        intensity: λ in [0, 1], one number or one for each covariance.
    """
    intensity = torch.as_tensor(intensity, dtype=cov.dtype, device=cov.device)
    if bool((intensity < 0).any()) or not bool((intensity <= 1).all()):
        raise ValueError(f"shrinkage must lie between 0 and 1, got {intensity.tolist()}")
    if cov.ndim == 2:  # variances
        weight = intensity.reshape(-1, 1)
        return (1 - weight) * cov + weight * cov.mean(dim=1, keepdim=True)
    weight = intensity.reshape(-1, 1, 1)
    mean = cov.diagonal(dim1=1, dim2=2).mean(dim=1).reshape(-1, 1, 1)  # ē of each
    return (1 - weight) * cov + weight * mean * torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device)


def ledoit_wolf(residuals: Tensor) -> float:
    """The shrinkage that is asymptotically best in squared error, from the data alone (Ledoit & Wolf 2004).

    λ = b² / d²: how far single products x xᵀ scatter about their mean S, over n, against how far S is from round.

    Args:
        residuals: (n, d), rows less their mean.
    """
    n = len(residuals)
    cov = residuals.T @ residuals / n  # S, (d, d)
    mean = cov.diagonal().mean()
    distance = cov.square().sum() - len(cov) * mean.square()  # ‖S − ē I‖²
    scatter = (residuals.square().sum(1).square().mean() - cov.square().sum()) / n  # Σ ‖x xᵀ − S‖² / n²
    return 1.0 if distance <= 0 else float((scatter / distance).clamp(0, 1))


@dataclass(frozen=True, kw_only=True)
class ClassConditionalGaussian:
    """p(y = k) = π_k and p(x∣y = k) = N(x; μ_k, Σ_k): a classifier and a generator in one.

    A shared Σ gives linear discriminant analysis, one for each class quadratic discriminant analysis, diagonal ones
    Gaussian naive Bayes.

    Attributes:
        mean: (K, d).
        cov: (1, d, d) shared, (K, d, d) full, or (K, d) variances, diagonal; shrinkage is in it.
        log_prior: (K,), log π_k.
        shrinkage: the intensity that was used, (1,) for a shared covariance, else (K,).
    """

    mean: Tensor
    cov: Tensor
    log_prior: Tensor
    shrinkage: Tensor

    @classmethod
    def fit(
        cls,
        rows: Tensor,
        labels: Tensor,
        covariance: Covariance = "shared",
        *,
        shrinkage: float | Literal["ledoit-wolf"] = 0.0,
        unbiased: bool = False,
    ) -> ClassConditionalGaussian:
        """Maximum likelihood: class means, class shares, and the mean square about the class means; then shrunk.

        Works in the dtype it is given; pass float64 for the last digits.

        Args:
            rows: (n, d), floating point.
            labels: (n,) integers 0..K−1 with an example of every class.
            covariance: "shared", "full" or "diagonal".
            shrinkage: λ in [0, 1] as in `shrink`, or "ledoit-wolf" for the estimate (not for "diagonal").
            unbiased: divide by the degrees of freedom, n − K or n_k − 1, instead of n or n_k.

        Raises:
            ValueError: shapes, types or labels do not fit, or a class has too few examples.
        """
        check_rows(rows, labels)
        if covariance not in COVARIANCES:
            raise ValueError(f"covariance must be one of {', '.join(COVARIANCES)}, got {covariance!r}")
        if shrinkage == "ledoit-wolf" and covariance == "diagonal":
            raise ValueError('shrinkage="ledoit-wolf" is for covariance="shared" or "full": give a number')
        counts = labels.bincount()  # (K,)
        mean = torch.zeros(len(counts), rows.shape[1], dtype=rows.dtype, device=rows.device)
        mean = mean.index_add(0, labels, rows) / counts[:, None]
        residuals = rows - mean[labels]  # (n, d)
        groups = [residuals] if covariance == "shared" else [residuals[labels == k] for k in range(len(counts))]
        lost = (len(counts) if covariance == "shared" else 1) if unbiased else 0  # degrees of freedom
        if min(len(group) for group in groups) <= lost:
            raise ValueError(f"every covariance needs more than {lost} examples to be unbiased; drop unbiased=True")
        if covariance == "diagonal":
            cov = torch.stack([group.square().sum(0) / (len(group) - lost) for group in groups])
        else:
            cov = torch.stack([group.T @ group / (len(group) - lost) for group in groups])
        chosen = [ledoit_wolf(group) if shrinkage == "ledoit-wolf" else shrinkage for group in groups]
        intensity = torch.tensor(chosen, dtype=rows.dtype, device=rows.device)
        log_prior = (counts.to(rows.dtype) / len(rows)).log()
        return cls(mean=mean, cov=shrink(cov, intensity), log_prior=log_prior, shrinkage=intensity)

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Standard deviations (G, d) along the principal directions, largest first, and those directions.

        The directions are the columns of (G, d, d); G is 1 for a shared covariance, else K. Each points so that its
        largest entry is positive. Of diagonal covariances they are the axes, in the axes' order.
        """
        if self.cov.ndim == 2:
            return self.cov.sqrt(), torch.eye(self.cov.shape[1], dtype=self.cov.dtype, device=self.cov.device)[None]
        values, vectors = torch.linalg.eigh(self.cov)  # rising
        values, vectors = values.flip(1).clamp(min=0), vectors.flip(2)
        largest = vectors.abs().argmax(dim=1, keepdim=True)
        return values.sqrt(), vectors * vectors.gather(1, largest).sign()

    def check_density(self) -> None:
        """Raise ValueError if a covariance is singular: all its mass lies on a sheet, and no density exists."""
        variance = self.spectrum[0].square()  # (G, d)
        floor = variance.shape[1] * torch.finfo(variance.dtype).eps * variance.amax(dim=1, keepdim=True)
        flat = (variance <= floor).sum(dim=1)  # (G,)
        if bool(flat.any()):
            place = int(flat.argmax())
            whose = "the shared covariance" if len(flat) == 1 else f"the covariance of class {place}"
            raise ValueError(
                f"{whose} is singular: {int(flat[place])} of its {variance.shape[1]} directions have no variance, so "
                "there is no density; fit with shrinkage above 0, or to fewer features"
            )

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(x∣y = k) in nats of rows x (n, d) under every class: (n, K). Raises ValueError if Σ is singular."""
        check_codes(x, self.mean.shape[1], name="x")
        self.check_density()
        std, directions = self.spectrum
        centre = self.mean.mean(dim=0)  # far from 0, small deviations would lose digits
        scores: list[Tensor] = []
        for k, mean in enumerate(self.mean - centre):
            group = min(k, len(std) - 1)
            if group == k:  # a covariance of its own, or the first class of a shared one
                whiten = directions[min(k, len(directions) - 1)] / std[k]  # (d, d)
                white = (x - centre) @ whiten  # (n, d), of unit variance in all directions
            distance = (white - mean @ whiten).square().sum(dim=1)  # (n,)
            log_volume = std[group].log().sum() + 0.5 * x.shape[1] * LOG_TWO_PI
            scores.append(-0.5 * distance - log_volume)
        return torch.stack(scores, dim=1)

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, y = k) = log π_k + log p(x∣y = k) in nats, (n, K)."""
        return self.log_prior + self.log_likelihood(x)

    def log_prob(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """log p(x∣y = label) of each row in nats, (n,); without labels log p(x), the classes summed out."""
        if label is None:
            return self.log_joint(x).logsumexp(dim=1)
        check_labels(label, len(x), len(self.mean))
        return self.log_likelihood(x).gather(1, label[:, None])[:, 0]

    def log_posterior(self, x: Tensor) -> Tensor:
        """log p(y = k∣x) by Bayes' rule, (n, K)."""
        return self.log_joint(x).log_softmax(dim=1)

    def predict(self, x: Tensor) -> Tensor:
        """The most probable class of each row, (n,)."""
        return self.log_joint(x).argmax(dim=1)

    def linear_form(self) -> tuple[Tensor, Tensor]:
        """Of a shared covariance: W = Σ⁻¹ μᵀ (d, K) and b_k = log π_k − ½ μ_kᵀ Σ⁻¹ μ_k (K,).

        With them the posterior is softmax(xᵀ W + b), the form of logistic regression. Raises ValueError for others.
        """
        if len(self.cov) != 1 or self.cov.ndim == 2:
            raise ValueError("only a shared covariance makes the posterior linear in x")
        self.check_density()
        std, directions = self.spectrum
        weight = directions[0] / std[0].square() @ (directions[0].T @ self.mean.T)  # (d, K)
        return weight, self.log_prior - 0.5 * (self.mean.T * weight).sum(dim=0)

    def sample_labels(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n classes drawn from the prior, (n,)."""
        return torch.multinomial(self.log_prior.exp(), n, replacement=True, generator=generator)

    def sample(self, n: int, label: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """n rows x (n, d): y from the prior, or `label` (n,), then x from N(μ_y, Σ_y)."""
        label = self.sample_labels(n, generator) if label is None else label
        noise = torch.randn(n, self.mean.shape[1], generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        return self.push(noise, label)

    def push(self, noise: Tensor, label: Tensor) -> Tensor:
        """Turn standard normal noise ε (n, d) into rows x = μ_y + Σ_y^½ ε of classes `label` (n,).

        The symmetric root, so that the same noise gives the same row however the directions are turned. A singular
        covariance may be drawn from too: the rows lie on its sheet.
        """
        check_codes(noise, self.mean.shape[1], name="noise")
        check_labels(label, len(noise), len(self.mean))
        std, directions = self.spectrum
        if self.cov.ndim == 2:
            return self.mean[label] + std[label] * noise
        roots = (directions * std[:, None, :]) @ directions.mT  # (G, d, d)
        if len(roots) == 1:
            return self.mean[label] + noise @ roots[0]
        x = torch.empty_like(noise)
        for k in label.unique().tolist():
            x[label == k] = self.mean[k] + noise[label == k] @ roots[k]
        return x


def check_rows(rows: Tensor, labels: Tensor | None = None) -> None:
    """Raise ValueError unless rows (n, d) are finite floats, with labels 0..K−1 of which none is missing."""
    if rows.ndim != 2 or not rows.is_floating_point() or len(rows) == 0:
        raise ValueError(
            f"rows must be a floating-point matrix (n, d), got {tuple(rows.shape)} of {rows.dtype}; "
            "images become rows by x.flatten(1)"
        )
    if not bool(rows.isfinite().all()):
        raise ValueError("rows must be finite; some entries are NaN or infinite")
    if labels is None:
        return
    if labels.shape != rows.shape[:1] or labels.is_floating_point() or int(labels.min()) < 0:
        raise ValueError(f"labels must be {len(rows)} integers from 0 on, got {tuple(labels.shape)} of {labels.dtype}")
    missing = (labels.bincount() == 0).nonzero()[:, 0].tolist()
    if missing:
        raise ValueError(f"class {missing[0]} has no example; leave it out and number the others from 0 on")


@dataclass(frozen=True)
class ProbabilisticPCA:
    """x = W z + μ + noise, z ~ N(0, I), noise ~ N(0, σ² I) (Tipping & Bishop 1999).

    Attributes:
        mean: μ, (d,).
        weight: W, (d, num_latents).
        noise_var: σ², a tensor of no dimension.
    """

    mean: Tensor
    weight: Tensor
    noise_var: Tensor

    @classmethod
    def fit(cls, rows: Tensor, num_latents: int) -> ProbabilisticPCA:
        """The maximum of the likelihood in closed form.

        W = U (Λ − σ² I)^½ of the leading eigenvectors U and eigenvalues Λ of the covariance (divided by n); σ² is the
        mean of the eigenvalues left out. Raises ValueError if nothing is left out.
        """
        check_rows(rows)
        pca = PCA.fit(rows, num_latents)
        variance = pca.variance * ((len(rows) - 1) / len(rows))
        left = (rows - pca.mean).square().sum() / len(rows) - variance.sum()
        noise_var = left / max(1, rows.shape[1] - num_latents)
        floor = max(rows.shape) * torch.finfo(rows.dtype).eps * variance[0]
        if num_latents >= rows.shape[1] or not bool(noise_var > floor):
            raise ValueError(f"{num_latents} latents leave no variance for the noise; take fewer")
        return cls(pca.mean, pca.components.T * (variance - noise_var).clamp(min=0).sqrt(), noise_var)

    @classmethod
    def fit_em(
        cls,
        rows: Tensor,
        num_latents: int,
        *,
        generator: torch.Generator | None = None,
        num_steps: int = 200,
        tolerance: float = 1e-9,
    ) -> tuple[ProbabilisticPCA, list[float]]:
        """The same by expectation maximisation from a random W: what a model without a closed form would need.

        Stops when a step gains less than `tolerance` nats a row. Returns the model and the mean log-likelihood in nats
        a row, before the first step and after each.
        """
        check_rows(rows)
        if not 1 <= num_latents < min(rows.shape):
            raise ValueError(f"num_latents must lie in 1..{min(rows.shape) - 1}, got {num_latents}")
        mean, noise_var = rows.mean(dim=0), rows.var(dim=0, correction=0).mean()
        weight = (
            torch.randn(rows.shape[1], num_latents, generator=generator, dtype=rows.dtype, device=rows.device)
            * (noise_var / num_latents).sqrt()
        )
        model = cls(mean, weight, noise_var)
        history = [float(model.log_prob(rows).mean())]
        for _ in range(num_steps):
            model = model.em_step(rows)
            history.append(float(model.log_prob(rows).mean()))
            if history[-1] - history[-2] < tolerance:
                break
        return model, history

    def em_step(self, rows: Tensor) -> ProbabilisticPCA:
        """One step of EM, both halves in one (Tipping & Bishop 1999, appendix B); the d × d S is never formed."""
        centred = rows - self.mean
        reach = centred.T @ (centred @ self.weight) / len(rows)  # S W, (d, num_latents)
        inner = torch.linalg.solve(self.precision, self.weight.T @ reach)  # M⁻¹ Wᵀ S W
        eye = torch.eye(len(inner), dtype=inner.dtype, device=inner.device)
        weight = torch.linalg.solve(self.noise_var * eye + inner, reach, left=False)  # S W (σ² I + M⁻¹ Wᵀ S W)⁻¹
        left = centred.square().sum() / len(rows) - (torch.linalg.solve(self.precision, reach.T) * weight.T).sum()
        return ProbabilisticPCA(self.mean, weight, left / rows.shape[1])

    @property
    def precision(self) -> Tensor:
        """M = Wᵀ W + σ² I, (num_latents, num_latents); the posterior's precision is M / σ²."""
        eye = torch.eye(self.weight.shape[1], dtype=self.weight.dtype, device=self.weight.device)
        return self.weight.T @ self.weight + self.noise_var * eye

    @property
    def cov(self) -> Tensor:
        """Of x, the latents summed out: W Wᵀ + σ² I, (d, d)."""
        eye = torch.eye(len(self.mean), dtype=self.mean.dtype, device=self.mean.device)
        return self.weight @ self.weight.T + self.noise_var * eye

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) = log N(x; μ, W Wᵀ + σ² I) in nats of rows (n, d): (n,).

        By the identities of Woodbury and Sylvester only M is inverted: num_latents numbers a side, not d.
        """
        check_codes(x, len(self.mean), name="x")
        centred, (d, num_latents) = x - self.mean, self.weight.shape
        inner = centred @ self.weight  # (n, num_latents)
        explained = (inner * torch.linalg.solve(self.precision, inner.T).T).sum(dim=1)
        distance = (centred.square().sum(dim=1) - explained) / self.noise_var
        log_det = (d - num_latents) * self.noise_var.log() + torch.linalg.slogdet(self.precision)[1]
        return -0.5 * (distance + log_det + d * LOG_TWO_PI)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """p(z∣x) = N(M⁻¹ Wᵀ (x − μ), σ² M⁻¹): means (n, num_latents) and the covariance that all rows share."""
        check_codes(x, len(self.mean), name="x")
        inverse = torch.linalg.inv(self.precision)
        return (x - self.mean) @ self.weight @ inverse, self.noise_var * inverse

    def encode(self, x: Tensor) -> Tensor:
        """The posterior mean of z, (n, num_latents)."""
        return self.posterior(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """W z + μ, the mean of x given z: (n, num_latents) -> (n, d)."""
        check_codes(z, self.weight.shape[1])
        return z @ self.weight.T + self.mean

    def sample(self, n: int, *, generator: torch.Generator | None = None, noise: bool = True) -> Tensor:
        """n rows x (n, d); without `noise` only their means W z + μ."""
        options: dict = {"generator": generator, "dtype": self.mean.dtype, "device": self.mean.device}
        x = self.decode(torch.randn(n, self.weight.shape[1], **options))
        return x + self.noise_var.sqrt() * torch.randn(n, len(self.mean), **options) if noise else x


# What the chapter compares, each fitted to (rows, labels): two generative classifiers and two discriminative ones.
CLASSIFIERS: dict[str, Callable[[Tensor, Tensor], ClassConditionalGaussian | LogisticRegression]] = {
    "LDA": lambda x, y: ClassConditionalGaussian.fit(x, y, "shared", shrinkage="ledoit-wolf"),
    "QDA": lambda x, y: ClassConditionalGaussian.fit(x, y, "full", shrinkage="ledoit-wolf"),
    "logistic, C = 1": lambda x, y: LogisticRegression.fit(x, y),
    "logistic, C = 100": lambda x, y: LogisticRegression.fit(x, y, inverse_penalty=100.0),
}
