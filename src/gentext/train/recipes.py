"""The recipes: how every set of weights in the zoo was made. `gentext train NAME` makes it again.

One section a chapter. A recipe is a complete description: model, data, schedule, and what is measured at the end.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gentext import data, zoo
from gentext.autoencoder import Autoencoder, AutoencoderConfig, squared_error
from gentext.metrics import active_units
from gentext.nn import ClassifierConfig, GlyphClassifier
from gentext.train import recipes_diffusion, recipes_gaussian, recipes_text  # noqa: F401  (registers their recipes)
from gentext.train.config import FitConfig
from gentext.train.recipe import Metrics, Recipe, get, names, recipe
from gentext.train.recipe_parts import glyph_variants, in_chunks, mean_measurement
from gentext.train.tensors import TensorData
from gentext.vae import VAE, VAEConfig
from gentext.zoo import Measurement

__all__ = ["get", "names"]

BOTTLENECKS = (2, 4, 8, 16, 32)
BETAS = (0.0625, 0.25, 1.0, 4.0, 16.0)


# ---- the eye of the book -----------------------------------------------------------------------------------------


def measure_classifier(model: nn.Module, quick: bool) -> Metrics:
    assert isinstance(model, GlyphClassifier)
    test = data.load("glyphs", "test", size=32)
    device = next(model.parameters()).device
    logits = in_chunks(lambda x, _: model(x.to(device)).cpu(), test.images, test.labels)
    right = (logits.argmax(1) == test.labels).float()
    cross_entropy = F.cross_entropy(logits, test.labels, reduction="none")
    return {
        "accuracy": mean_measurement(100 * right, "%", "test", tolerance=0.5),
        "cross_entropy": mean_measurement(cross_entropy, "nats per sign", "test", tolerance=0.005),
    }


@recipe("glyph-classifier")
def glyph_classifier() -> Recipe:
    num_scripts = len(data.load("glyphs", "validation", size=32).label_names)
    return Recipe(
        name="glyph-classifier",
        summary="Tells the script of a sign. Its last hidden layer is what the book's Fréchet distance compares.",
        chapter=4,
        build=lambda: GlyphClassifier(ClassifierConfig(num_classes=num_scripts)),
        data=lambda: glyph_variants(56_000, light=False),
        fit=FitConfig(num_steps=4000, learning_rate=2e-3, weight_decay=0.05, clip_norm=5.0, ema_decay=0.998),
        measure=measure_classifier,
        data_note="glyphs, 32 pixels, 56,000 augmented variants of the training signs",
    )


# ---- chapter 4: autoencoders -------------------------------------------------------------------------------------


def measure_autoencoder(model: nn.Module, quick: bool) -> Metrics:
    assert isinstance(model, Autoencoder)
    test = data.load("glyphs", "test", size=32)
    device = next(model.parameters()).device

    def error(seen: Tensor, wanted: Tensor) -> Tensor:
        return squared_error(wanted, model(seen.to(device)).cpu())

    clean = in_chunks(lambda x, _: error(x, x), test.images, test.labels)
    metrics = {"squared_error": mean_measurement(clean, "squared ink per sign", "test", tolerance=0.05)}
    if model.config.corruption:
        damaged = model.corrupt(test.images, torch.Generator().manual_seed(1))
        metrics["squared_error_damaged"] = mean_measurement(
            error(damaged, test.images).detach(), "squared ink per sign", "test, damaged", tolerance=0.2
        )
    return metrics


def autoencoder_recipe(name: str, summary: str, config: AutoencoderConfig, fit: FitConfig) -> Recipe:
    return Recipe(
        name=name,
        summary=summary,
        chapter=4,
        build=lambda: Autoencoder(config),
        data=lambda: glyph_variants(42_000, light=True),
        fit=fit,
        measure=measure_autoencoder,
        data_note="glyphs, 32 pixels, 42,000 lightly augmented variants of the training signs",
    )


def convolutional_autoencoder(latent_dim: int) -> Recipe:
    # Two or four numbers are soon spent on telling training signs apart; a short run keeps to what signs share.
    num_steps = 3000 if latent_dim <= 4 else 5000
    return autoencoder_recipe(
        f"ae-glyphs-{latent_dim}",
        f"Convolutional autoencoder of signs with {latent_dim} numbers in its code.",
        AutoencoderConfig(network="conv", width=16, latent_dim=latent_dim),
        FitConfig(
            num_steps=num_steps, batch_size=64, learning_rate=2e-3, weight_decay=0.05, clip_norm=50.0, ema_decay=0.998
        ),
    )


def linear_autoencoder(latent_dim: int) -> Recipe:
    return autoencoder_recipe(
        f"linear-ae-glyphs-{latent_dim}",
        f"Linear autoencoder of signs with {latent_dim} numbers in its code: PCA by gradient descent.",
        AutoencoderConfig(network="linear", latent_dim=latent_dim, tied=True),
        FitConfig(num_steps=5000, batch_size=256, learning_rate=5e-3, clip_norm=None, ema_decay=0.99),
    )


for size in BOTTLENECKS:
    recipe(f"ae-glyphs-{size}")(functools.partial(convolutional_autoencoder, size))
    recipe(f"linear-ae-glyphs-{size}")(functools.partial(linear_autoencoder, size))


@recipe("denoising-ae-glyphs")
def denoising_autoencoder() -> Recipe:
    # As many numbers in the code as pixels in the picture: the damage, not a bottleneck, keeps it from copying.
    return autoencoder_recipe(
        "denoising-ae-glyphs",
        "Autoencoder with a wide rectified code that sees damaged signs and must give back whole ones.",
        AutoencoderConfig(network="mlp", hidden=(), latent_dim=1024, nonnegative=True, corruption=data.DAMAGE_KINDS),
        FitConfig(num_steps=8000, learning_rate=1e-3, weight_decay=0.05, clip_norm=50.0, ema_decay=0.998),
    )


# ---- chapter 5: variational autoencoders -------------------------------------------------------------------------


def measure_bound(model: nn.Module, images: Tensor, labels: Tensor, tolerance: float) -> Metrics:
    """−ELBO, its two parts and the number of active units on test images, with fixed noise."""
    assert isinstance(model, VAE)
    device = next(model.parameters()).device
    generator = torch.Generator(device=device).manual_seed(0)

    def bound(x: Tensor, label: Tensor) -> Tensor:
        result = model.elbo(x.to(device), label.to(device), generator)
        return torch.stack([-result.elbo, -result.log_likelihood, result.kl], dim=1).cpu()

    values = in_chunks(bound, images, labels)
    metrics = {
        name: mean_measurement(values[:, index], "nats per image", "test", tolerance)
        for index, name in enumerate(("negative_elbo", "distortion", "rate"))
    }
    means = in_chunks(lambda x, label: model.encode(x.to(device), label.to(device)).mean.cpu(), images, labels)
    metrics["active_units"] = Measurement(
        value=float(active_units(means)), unit="latents", split="test", count=len(means), tolerance=1.0
    )
    return metrics


def measure_glyph_vae(model: nn.Module, quick: bool) -> Metrics:
    test = data.load("glyphs", "test", size=32)
    return measure_bound(model, test.images, test.labels, tolerance=0.5)


def glyph_vae(name: str, summary: str, config: VAEConfig, num_steps: int, start: str | None = None) -> Recipe:
    """A convolutional VAE of signs. Grey ink counts as the probability of ink, so the bound is an average over draws.

    `start` names weights of the zoo to continue from; only β may differ.
    """

    def build() -> VAE:
        model = VAE(config)
        if start is not None:
            model.load_state_dict(zoo.load(start, device="cpu").state_dict())
        return model

    learning_rate = 2e-3 if start is None else 1e-3
    return Recipe(
        name=name,
        summary=summary,
        chapter=5,
        build=build,
        data=lambda: glyph_variants(42_000, light=True, balanced=True),
        fit=FitConfig(
            num_steps=num_steps, batch_size=64, learning_rate=learning_rate, clip_norm=100.0, ema_decay=0.999
        ),
        measure=measure_glyph_vae,
        data_note="glyphs, 32 pixels, 42,000 light variants of the training signs, scripts by the root of their size",
    )


GLYPH_VAE = VAEConfig(latent_dim=32, width=16)


@recipe("vae-glyphs")
def vae_glyphs() -> Recipe:
    return glyph_vae("vae-glyphs", "Convolutional VAE of signs with 32 latents, β = 1.", GLYPH_VAE, num_steps=20000)


def beta_vae_glyphs(beta: float) -> Recipe:
    summary = f"The VAE of signs, trained further with β = {beta:g}."
    config = replace(GLYPH_VAE, beta=beta)
    return glyph_vae(f"vae-glyphs-beta-{beta:g}", summary, config, num_steps=6000, start="vae-glyphs")


for weight in BETAS:
    if weight != 1:
        recipe(f"vae-glyphs-beta-{weight:g}")(functools.partial(beta_vae_glyphs, weight))


@recipe("cvae-glyphs")
def cvae_glyphs() -> Recipe:
    num_scripts = len(data.load("glyphs", "validation", size=32).label_names)
    config = replace(GLYPH_VAE, num_classes=num_scripts)
    return glyph_vae(
        "cvae-glyphs", "Convolutional VAE of signs, told the script, 32 latents, β = 1.", config, num_steps=12000
    )


def binarised(batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Dynamic binarisation: every time an image is seen, its pixels are drawn anew (Burda et al. 2016, section 5)."""
    images, labels = batch
    return data.binarise(images, generator), labels


def mnist_data() -> tuple[TensorData, TensorData]:
    train, validation = data.load("mnist", "train"), data.load("mnist", "validation")
    return (
        TensorData((train.images, train.labels), binarised),
        TensorData((validation.images, validation.labels), binarised),
    )


def measure_mnist(model: nn.Module, quick: bool) -> Metrics:
    """−ELBO and importance-weighted bounds on the whole binarised test set.

    K = 5000 on 10,000 images would take half an hour on a CPU. So K = 50 is measured on all of them, and what K = 5000
    gains over it on the first 1,000, where both are known; the gain varies little from image to image.
    """
    assert isinstance(model, VAE)
    test = data.load("mnist", "test")
    images = data.binarise(test.images, torch.Generator().manual_seed(0))
    metrics = measure_bound(model, images, test.labels, tolerance=0.2)
    device = next(model.parameters()).device

    def negative_bound(num_samples: int, count: int) -> Tensor:
        generator = torch.Generator(device=device).manual_seed(0)

        def bound(x: Tensor, _: Tensor) -> Tensor:
            return -model.iwae_bound(x.to(device), num_samples, generator=generator).cpu()

        return in_chunks(bound, images[:count], test.labels[:count], size=100).double()

    at_50 = negative_bound(50, len(images))
    metrics["negative_iwae_50"] = mean_measurement(at_50, "nats per image", "test", tolerance=0.2)
    if not quick:
        gain = at_50[:1000] - negative_bound(5000, 1000)
        variance = at_50.var() / len(at_50) + gain.var() / len(gain)
        metrics["negative_iwae_5000"] = Measurement(
            value=(at_50.mean() - gain.mean()).item(),
            unit="nats per image",
            split="test; the gain over K = 50 from its first 1,000 images",
            count=len(at_50),
            standard_error=variance.sqrt().item(),
            tolerance=0.2,
        )
    return metrics


@recipe("vae-mnist")
def vae_mnist() -> Recipe:
    return Recipe(
        name="vae-mnist",
        summary="VAE on binarised MNIST: two hidden layers of 400 units, 50 latents, one stochastic layer.",
        chapter=5,
        build=lambda: VAE(VAEConfig(image_size=28, network="mlp", hidden=(400, 400), latent_dim=50)),
        data=mnist_data,
        fit=FitConfig(
            num_steps=100_000,
            learning_rate=1e-3,
            clip_norm=100.0,
            ema_decay=0.9995,
            checkpoint_every=5000,
            validate_every=5000,
            record_every=500,
        ),
        measure=measure_mnist,
        data_note="MNIST, 28 pixels, 55,000 images, binarised anew every time they are seen",
    )
