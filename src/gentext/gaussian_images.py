"""`GaussianImages`: chapter 2's Gaussians with pictures at both ends, as a model that the zoo can keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gentext.gaussian import COVARIANCES, ClassConditionalGaussian, Covariance
from gentext.nn import PCA, check_images


@dataclass(frozen=True, kw_only=True)
class GaussianImagesConfig:
    """Which Gaussians to fit to which features.

    num_components: as many principal components are the features; 0 for the pixels themselves.
    covariance: "shared", "full" or "diagonal", as in `ClassConditionalGaussian`.
    """

    num_classes: int
    image_size: int = 32
    num_components: int = 0
    covariance: Covariance = "shared"

    def __post_init__(self) -> None:
        if self.covariance not in COVARIANCES:
            raise ValueError(f"covariance must be one of {', '.join(COVARIANCES)}, got {self.covariance!r}")
        if self.num_classes < 1 or self.image_size < 1 or not 0 <= self.num_components <= self.image_size**2:
            raise ValueError(
                "num_classes and image_size must be at least 1 and num_components lie in 0..image_size², got "
                f"{self.num_classes}, {self.image_size} and {self.num_components}"
            )

    @property
    def num_features(self) -> int:
        return self.num_components or self.image_size**2


class GaussianImages(nn.Module):
    """A Gaussian for each class of images (n, 1, S, S), over their pixels or their principal components.

    Nothing is trained: `fit` computes every parameter. A symmetric covariance is kept as its lower triangle, in
    float32; all arithmetic is float64 where the device has it.
    """

    def __init__(self, config: GaussianImagesConfig) -> None:
        super().__init__()
        self.config = config
        k, d, pixels = config.num_classes, config.num_features, config.image_size**2
        groups = 1 if config.covariance == "shared" else k
        entries = d if config.covariance == "diagonal" else d * (d + 1) // 2
        if config.num_components:
            self.pixel_mean = fixed(pixels)
            self.components = fixed(d, pixels)
        self.mean = fixed(k, d)
        self.cov = fixed(groups, entries)
        self.log_prior = fixed(k)
        self.shrinkage = fixed(groups)

    @torch.no_grad()
    def fit(self, images: Tensor, labels: Tensor, *, shrinkage: float | Literal["ledoit-wolf"] = 0.0) -> GaussianImages:
        """Principal components of all images, then the Gaussians of their coordinates; returns itself.

        Raises ValueError where images, labels and configuration do not fit together.
        """
        check_images(images, 1, self.config.image_size)
        rows = self.exact(images.flatten(1))  # (n, pixels)
        if self.config.num_components:
            pca = PCA.fit(rows, self.config.num_components)
            self.pixel_mean.copy_(pca.mean)
            self.components.copy_(pca.components)
        features = self.features(images)
        found = ClassConditionalGaussian.fit(features, labels, self.config.covariance, shrinkage=shrinkage)
        if len(found.mean) != self.config.num_classes:
            raise ValueError(f"the model has {self.config.num_classes} classes, the labels {len(found.mean)}")
        self.mean.copy_(found.mean)
        self.log_prior.copy_(found.log_prior)
        self.shrinkage.copy_(found.shrinkage)
        self.cov.copy_(found.cov if found.cov.ndim == 2 else found.cov[:, *self.triangle()])
        return self

    def triangle(self) -> tuple[Tensor, Tensor]:
        """Rows and columns of the lower triangle's entries, in the order in which `cov` holds them."""
        d = self.config.num_features
        rows, columns = torch.tril_indices(d, d, device=self.cov.device)
        return rows, columns

    def exact(self, values: Tensor) -> Tensor:
        """In float64 on the model's device; Apple's GPUs have only float32."""
        device = self.cov.device
        return values.detach().to(device, torch.float32 if device.type == "mps" else torch.float64)

    @property
    def gaussian(self) -> ClassConditionalGaussian:
        """The Gaussians of the features."""
        cov = self.exact(self.cov)
        if self.config.covariance != "diagonal":
            d = self.config.num_features
            square = cov.new_zeros(len(cov), d, d)
            rows, columns = self.triangle()
            square[:, rows, columns] = cov
            square[:, columns, rows] = cov
            cov = square
        return ClassConditionalGaussian(
            mean=self.exact(self.mean),
            cov=cov,
            log_prior=self.exact(self.log_prior),
            shrinkage=self.exact(self.shrinkage),
        )

    def features(self, images: Tensor) -> Tensor:
        """Pixels or principal coordinates (n, num_features) of images (n, 1, S, S)."""
        check_images(images, 1, self.config.image_size)
        rows = self.exact(images.flatten(1))
        if not self.config.num_components:
            return rows
        return (rows - self.exact(self.pixel_mean)) @ self.exact(self.components).T

    def decode(self, features: Tensor) -> Tensor:
        """Images (n, 1, S, S) of features (n, num_features); ink is not confined to [0, 1]."""
        rows = features
        if self.config.num_components:
            rows = features @ self.exact(self.components) + self.exact(self.pixel_mean)
        return rows.unflatten(1, (1, self.config.image_size, self.config.image_size))

    def log_posterior(self, images: Tensor) -> Tensor:
        """log p(y = k∣x), (n, num_classes)."""
        return self.gaussian.log_posterior(self.features(images))

    def predict(self, images: Tensor) -> Tensor:
        """The most probable class of each image, (n,)."""
        return self.log_posterior(images).argmax(dim=1)

    def sample(self, n: int, label: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """n images (n, 1, S, S): of the classes `label` (n,), or of classes drawn from the prior."""
        return self.decode(self.gaussian.sample(n, label, generator=generator)).float()


def fixed(*shape: int) -> Any:
    """A parameter that is computed, not trained: zeros for now."""
    return nn.Parameter(torch.zeros(shape), requires_grad=False)
