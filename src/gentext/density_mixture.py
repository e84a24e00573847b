"""The Gaussian mixture and its training by expectation-maximisation (EM), the last of chapter 1's densities.

Import it from `gentext.density`. Reads from top to bottom: configuration, model, the two steps, the density.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gentext._points import check_count, check_points, draw_index, index_at, normal_like, uniform_like

Covariance = Literal["full", "diagonal", "spherical"]
COVARIANCES: tuple[Covariance, ...] = ("full", "diagonal", "spherical")


@dataclass(frozen=True, kw_only=True)
class EMConfig:
    """How to fit a Gaussian mixture.

    Attributes:
        covariance: "full" ellipses in any direction, "diagonal" upright ones, "spherical" circles.
        var_floor: no variance along any direction may fall below this, in squared units of the axes. Without a floor
            the likelihood has no maximum: a component may shrink onto a single point (Bishop 2006, section 9.2.1).
        max_steps: EM steps at most.
        tolerance: stop when a step gains less than this, in nats per point.
        restarts: starts to try; the one with the highest likelihood of the training points is kept.
    """

    num_components: int
    covariance: Covariance = "full"
    var_floor: float = 1e-6
    max_steps: int = 200
    tolerance: float = 1e-6
    restarts: int = 1

    def __post_init__(self) -> None:
        if self.covariance not in COVARIANCES:
            raise ValueError(f"covariance must be one of {', '.join(COVARIANCES)}, got {self.covariance!r}")
        if self.num_components < 1 or self.max_steps < 1 or self.restarts < 1:
            raise ValueError(
                "num_components, max_steps and restarts must be at least 1, "
                f"got {self.num_components}, {self.max_steps} and {self.restarts}"
            )
        if not (0 < self.var_floor < math.inf) or not (0 <= self.tolerance < math.inf):
            raise ValueError(
                f"var_floor must be positive and tolerance at least 0, got {self.var_floor} and {self.tolerance}"
            )


@dataclass(frozen=True, kw_only=True)
class GaussianMixture:
    """p(x) = Σ_k w_k N(x; μ_k, Σ_k): a latent z = k says which component a point comes from.

    Attributes:
        weights: (k,), p(z), not negative, sum 1.
        means: (k, d).
        covs: (k, d, d), symmetric and positive definite, whatever their kind.
    """

    weights: Tensor
    means: Tensor
    covs: Tensor

    def __post_init__(self) -> None:
        check_points(self.means)
        k, d = self.means.shape
        if self.weights.shape != (k,) or self.covs.shape != (k, d, d):
            raise ValueError(
                f"for means of shape {(k, d)} weights must have shape {(k,)} and covs {(k, d, d)}, "
                f"got {tuple(self.weights.shape)} and {tuple(self.covs.shape)}"
            )
        if not (self.weights >= 0).all() or not math.isclose(self.weights.sum().item(), 1, abs_tol=1e-4):
            raise ValueError("weights must not be negative and must sum to 1")

    @classmethod
    def fit(
        cls,
        x: Tensor,
        config: EMConfig,
        *,
        generator: torch.Generator | None = None,
        start: GaussianMixture | None = None,
    ) -> GaussianMixture:
        """Climb the likelihood of the points x (n, d) by EM (Dempster, Laird & Rubin 1977), from `start` if given.

        A component that has lost its points is put onto the point explained worst, if the climb from there ends higher.
        """
        check_points(x)
        best, best_score = None, -math.inf
        for _ in range(config.restarts if start is None else 1):
            model = start if start is not None else cls.start(x, config, generator=generator)
            model, score = _climb(model, x, config)
            for _ in range(config.num_components):
                moved = model.reseed(x)
                if moved is model:
                    break
                moved, moved_score = _climb(moved, x, config)
                if moved_score <= score:
                    break
                model, score = moved, moved_score
            if best is None or score > best_score:
                best, best_score = model, score
        assert best is not None
        return best

    @classmethod
    def start(cls, x: Tensor, config: EMConfig, *, generator: torch.Generator | None = None) -> GaussianMixture:
        """Where EM sets out from: means far apart by k-means++ (Arthur & Vassilvitskii 2007), one covariance for all.

        Each next centre is a point drawn with the probability of its squared distance to the nearest centre so far.
        Then every point goes to its nearest centre, and the covariance is the mean one around the groups' means.
        """
        check_points(x)
        centres = x[draw_index(torch.ones_like(x[:, 0]), generator)]  # (1, d)
        while len(centres) < config.num_components:
            distance = torch.cdist(x, centres, compute_mode="donot_use_mm_for_euclid_dist").amin(1).square()  # (n,)
            weights = distance if distance.sum() > 0 else torch.ones_like(distance)  # all points are centres already
            centres = torch.cat([centres, x[draw_index(weights, generator)]])
        group = torch.cdist(x, centres, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)  # (n,)
        one_hot = F.one_hot(group, config.num_components).to(x.dtype)  # (n, k)
        unit = torch.eye(x.shape[1], dtype=x.dtype, device=x.device).expand(len(centres), -1, -1)
        empty = cls(weights=one_hot.mean(0), means=centres, covs=unit)
        groups = empty.m_step(x, one_hot, config.covariance, config.var_floor)
        pooled = (groups.weights[:, None, None] * groups.covs).sum(0, keepdim=True)  # (1, d, d)
        return cls(weights=groups.weights, means=groups.means, covs=pooled.expand_as(groups.covs))

    # ---- the two steps ---------------------------------------------------------------------------------------------

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, z = k) = log w_k + log N(x; μ_k, Σ_k) of points (n, d), (n, k)."""
        check_points(x, self.means.shape[1])
        factor, info = torch.linalg.cholesky_ex(self.covs)  # Σ = L Lᵀ, (k, d, d)
        if info.any():
            raise ValueError("a covariance is not positive definite; fit with a larger var_floor")
        centred = (x - self.means[:, None]).transpose(1, 2)  # (k, d, n)
        white = torch.linalg.solve_triangular(factor, centred, upper=False)  # L⁻¹ (x − μ), (k, d, n)
        log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)  # (k,)
        log_normal = -0.5 * (white.square().sum(1) + (log_det + x.shape[1] * math.log(2 * math.pi))[:, None])
        return (self.weights.log()[:, None] + log_normal).T

    def e_step(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Responsibilities p(z = k ∣ x), (n, k), and log p(x), (n,) (Bishop 2006, equation 9.23)."""
        log_joint = self.log_joint(x)
        log_prob = log_joint.logsumexp(1)
        return (log_joint - log_prob[:, None]).exp(), log_prob

    def m_step(
        self, x: Tensor, responsibilities: Tensor, covariance: Covariance = "full", var_floor: float = 1e-6
    ) -> GaussianMixture:
        """The mixture that raises the bound most for responsibilities (n, k) (Bishop 2006, equations 9.24 to 9.26).

        Covariances are the best with no variance below the floor. A component without points keeps its place.
        """
        counts = responsibilities.sum(0)  # (k,), points that each component answers for
        alive = counts > 1e-8
        share = responsibilities / counts.clamp(min=1e-8)  # (n, k), columns sum to 1
        means = torch.where(alive[:, None], share.T @ x, self.means)
        centred = x - means[:, None]  # (k, n, d)
        covs = (share.T[:, :, None] * centred).transpose(1, 2) @ centred  # (k, d, d)
        covs = torch.where(alive[:, None, None], floored(covs, covariance, var_floor), self.covs)
        return GaussianMixture(weights=counts / counts.sum(), means=means, covs=covs)

    def bound(self, x: Tensor, q: Tensor) -> Tensor:
        """E_q[log p(x, z) − log q(z)] in nats, (n,), for any distributions q (n, k) over the components.

        It never exceeds log p(x), and equals it where q is the responsibilities: log p(x) = bound + KL(q ‖ p(z∣x)).
        """
        return (torch.where(q > 0, q * self.log_joint(x), 0.0) - torch.xlogy(q, q)).sum(1)

    def reseed(self, x: Tensor) -> GaussianMixture:
        """Put each component that answers for less than half a point onto one of the points (n, d) explained worst.

        It gets an equal share of the weight and a small round covariance, from where EM may carry it on. Returns `self`
        where no component is empty, or all are.
        """
        k, d = self.means.shape
        empty = (self.weights * len(x) < 0.5).nonzero()[:, 0]
        if len(empty) == 0 or len(empty) >= min(k, len(x)):
            return self
        weights, means, covs = self.weights.clone(), self.means.clone(), self.covs.clone()
        weights[empty] = 1 / k
        means[empty] = x[self.log_prob(x).topk(len(empty), largest=False).indices]
        spread = (self.weights @ self.covs.diagonal(dim1=1, dim2=2)).mean() / k  # a k-th of the mean variance
        covs[empty] = spread * torch.eye(d, dtype=x.dtype, device=x.device)
        return GaussianMixture(weights=weights / weights.sum(), means=means, covs=covs)

    # ---- the density -----------------------------------------------------------------------------------------------

    def log_prob(self, x: Tensor) -> Tensor:
        """log density of points (n, d) in nats per volume, (n,): the latent is summed out."""
        return self.log_joint(x).logsumexp(1)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """n points (n, d) in the order of the story (ancestral sampling): a component by its weight, then a point."""
        check_count(n)
        u = uniform_like(self.weights, (n,), generator)
        return self.push(u, normal_like(self.means, (n, self.means.shape[1]), generator))

    def push(self, u: Tensor, noise: Tensor) -> Tensor:
        """Turn noise into points (n, d): u (n,), uniform, picks z = k; noise (n, d), normal, becomes μ + L noise."""
        z = index_at(self.weights, u)
        factor = torch.linalg.cholesky(self.covs)[z]  # Σ = L Lᵀ, (n, d, d)
        return self.means[z] + (factor @ noise[:, :, None])[:, :, 0]


def floored(covs: Tensor, covariance: Covariance, var_floor: float) -> Tensor:
    """Sample covariances (k, d, d) -> the most likely ones of this kind with no variance below the floor, (k, d, d).

    Lifting the small eigenvalues to the floor is the exact maximum under that condition, so EM still never descends.
    """
    variances = covs.diagonal(dim1=1, dim2=2)  # (k, d)
    if covariance == "spherical":
        variances = variances.mean(1, keepdim=True).expand_as(variances)
    if covariance != "full":
        return torch.diag_embed(variances.clamp(min=var_floor))
    values, vectors = torch.linalg.eigh(0.5 * (covs + covs.transpose(1, 2)))
    lifted = (vectors * values.clamp(min=var_floor)[:, None]) @ vectors.transpose(1, 2)
    return torch.where((values[:, :1] < var_floor)[..., None], lifted, covs)


def _climb(model: GaussianMixture, x: Tensor, config: EMConfig) -> tuple[GaussianMixture, float]:
    """EM steps until one gains too little, and the mean log-likelihood of the model returned."""
    score = -math.inf
    for _ in range(config.max_steps):
        responsibilities, log_prob = model.e_step(x)
        last, score = score, log_prob.mean().item()
        if score - last < config.tolerance:
            return model, score
        model = model.m_step(x, responsibilities, config.covariance, config.var_floor)
    return model, model.log_prob(x).mean().item()
