"""Chapter 2's recipes: Gaussians of handwritten digits. Nothing is trained; the closed form is computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gentext import data
from gentext.gaussian import CLASSIFIERS
from gentext.gaussian_images import GaussianImages, GaussianImagesConfig
from gentext.metrics import learning_curves
from gentext.train.config import FitConfig
from gentext.train.recipe import Metrics, Recipe, recipe
from gentext.train.tensors import TensorData
from gentext.zoo import Measurement

EXAMPLES = (30, 50, 100, 300, 1000, 3000, 10_000, 55_000)  # of the digits' learning curves
Curves = dict[str, dict[str, list[float]]]


def digits() -> tuple[TensorData, TensorData]:
    train, validation = data.load("mnist", "train"), data.load("mnist", "validation")
    return TensorData((train.images, train.labels)), TensorData((validation.images, validation.labels))


def measure_digits(model: nn.Module, quick: bool) -> Metrics:
    """Test error, and the mean log density of the test set's features; exact, so `quick` measures the same."""
    assert isinstance(model, GaussianImages)
    test = data.load("mnist", "test")
    labels = test.labels.to(model.cov.device)
    log_joint = model.gaussian.log_joint(model.features(test.images))  # (n, classes)
    wrong = 100 * (log_joint.argmax(dim=1) != labels).double()
    log_prob = log_joint.logsumexp(dim=1)

    def mean(values: torch.Tensor, unit: str, tolerance: float) -> Measurement:
        return Measurement(
            value=values.mean().item(),
            unit=unit,
            split="test",
            count=len(values),
            standard_error=(values.std() / len(values) ** 0.5).item(),
            tolerance=tolerance,
        )

    return {"error": mean(wrong, "%", 0.03), "log_prob": mean(log_prob, "nats per image", 0.01)}


def solve(model: nn.Module, train: TensorData) -> Curves:
    """Fit with the shrinkage that Ledoit and Wolf estimate. The "curve" is one point: training error after one step."""
    assert isinstance(model, GaussianImages)
    images, labels = train.tensors
    model.fit(images, labels, shrinkage="ledoit-wolf")
    wrong = (model.predict(images) != labels.to(model.cov.device)).double().mean()
    return {"train": {"step": [1], "error": [100 * wrong.item()]}}


def solve_with_learning_curves(model: nn.Module, train: TensorData) -> Curves:
    """The same, and the test error on the model's features of LDA, QDA and logistic regression from fewer images."""
    assert isinstance(model, GaussianImages)
    curves = solve(model, train)
    images, labels = train.tensors
    test = data.load("mnist", "test")
    shares = [count / len(images) for count in EXAMPLES]
    rows, test_rows = model.features(images).cpu(), model.features(test.images).cpu()
    return curves | learning_curves(CLASSIFIERS, rows, labels.cpu(), test_rows, test.labels, shares)


def digits_recipe(name: str, summary: str, how: Any, **config: Any) -> Recipe:
    return Recipe(
        name=name,
        summary=summary,
        chapter=2,
        build=lambda: GaussianImages(GaussianImagesConfig(num_classes=10, image_size=28, **config)),
        data=digits,
        fit=FitConfig(num_steps=1),
        solve=how,
        measure=measure_digits,
        data_note="MNIST, 28 pixels, 55,000 images",
        half=False,
    )


@recipe("lda-mnist")
def lda_mnist() -> Recipe:
    return digits_recipe(
        "lda-mnist", "Linear discriminant analysis of MNIST: a Gaussian a digit over 784 pixels, one covariance.", solve
    )


@recipe("pca-qda-mnist")
def pca_qda_mnist() -> Recipe:
    return digits_recipe(
        "pca-qda-mnist",
        "Quadratic discriminant analysis of MNIST: a Gaussian a digit over 40 principal components.",
        solve_with_learning_curves,
        num_components=40,
        covariance="full",
    )
