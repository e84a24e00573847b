"""Chapters 10 and 11's recipes: diffusion of signs, told the script; the same taught damaged signs; a guide."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gentext import data, zoo
from gentext.data.images import ImageSet
from gentext.diffusion import DiffusionConfig, GaussianDiffusion
from gentext.diffusion_classifier import NoisyClassifier, NoisyClassifierConfig
from gentext.diffusion_sampling import dpm_solver_2m, karras_grid, starting_noise
from gentext.metrics import frechet_distance, frechet_limit, glyph_features
from gentext.nn import UNetConfig
from gentext.train.config import FitConfig
from gentext.train.recipe import Metrics, Recipe, recipe
from gentext.train.recipe_parts import fresh_glyphs, in_chunks, mean_measurement
from gentext.train.tensors import TensorData
from gentext.zoo import Measurement

GREYS = 61  # levels of a 32-pixel sign: averages of four pixels of 4 bits
GUIDANCE = 1.5
NUM_STEPS = 20  # of the sampler
NUM_TIMES = 20  # strata of the bound
NOISE_LEVELS = (0.05, 0.5, 1.0, 2.0, 4.0)  # σ
STRENGTH = (0.2, 0.7)  # of damage, drawn evenly


def held_out() -> ImageSet:
    return data.load("glyphs", "test", size=32)


def unseen_signs() -> ImageSet:
    """Test and validation signs together: the network learned from neither, and a distance wants many."""
    test, validation = held_out(), data.load("glyphs", "validation", size=32)
    return ImageSet(
        torch.cat([test.images, validation.images]), torch.cat([test.labels, validation.labels]), test.label_names
    )


def draw_signs(model: GaussianDiffusion, labels: Tensor, guidance: float, seed: int, size: int = 128) -> Tensor:
    """One sign for each label (n,), (n, 1, 32, 32) in [0, 1] on the CPU, by twenty steps of DPM-Solver++(2M)."""
    device, shape = next(model.parameters()).device, model.config.shape
    lowest = model.schedule.sigma(torch.ones(1)).item()  # the first step of the chain that it was trained on
    sigmas = karras_grid(NUM_STEPS, sigma_min=lowest)
    drawn = []
    for part, label in enumerate(labels.split(size)):
        generator, label = torch.Generator().manual_seed(seed + part), label.to(device)
        picture = (len(label), shape.channels, shape.image_size, shape.image_size)
        x = starting_noise(picture, sigmas, generator=generator).to(device)  # on the CPU: the same on every device

        def denoiser(x: Tensor, sigma: Tensor, label: Tensor = label) -> Tensor:
            return model.denoise(x, sigma, label, guidance)

        drawn.append(model.pixels(dpm_solver_2m(denoiser, x, sigmas)).cpu())
    return torch.cat(drawn)


@torch.no_grad()
def velocity_error(model: GaussianDiffusion, images: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of v at eight times spread evenly over the chain, the same noise every time: (n,)."""
    device, generator = next(model.parameters()).device, torch.Generator().manual_seed(0)
    x0, errors = model.centred(images), []
    for share in torch.linspace(0.05, 0.95, 8).tolist():
        t = torch.full((len(x0),), round(share * model.schedule.num_steps))
        noise = torch.randn(x0.shape, generator=generator)
        x_t = model.noised(x0, t, noise)
        log_snr = model.schedule.log_snr(t)
        estimate, _ = model.predict(x_t.to(device), log_snr.to(device), labels.to(device))
        squared = (estimate.cpu() - x0).square().flatten(1).mean(1)
        errors.append(squared * model.weight(t, "velocity"))
    return torch.stack(errors).mean(0)


def measure_diffusion(model: nn.Module, quick: bool) -> Metrics:
    """The error of v on held-out signs; then, unless `quick`, the bound, and what signs it draws.

    Those are drawn in the scripts of the unseen signs, as many of each: the Fréchet distance compares like with like.
    """
    assert isinstance(model, GaussianDiffusion)
    test, device = held_out(), next(model.parameters()).device
    every = slice(None, None, 4)
    errors = velocity_error(model, test.images[every], test.labels[every])
    metrics = {"velocity_error": mean_measurement(errors, "per pixel", "every fourth test sign", tolerance=0.002)}
    if quick:
        return metrics
    levels = (test.images * (GREYS - 1)).round() / (GREYS - 1)
    bits = torch.cat(
        [
            model.bound(
                x.to(device), label.to(device), num_times=NUM_TIMES, generator=torch.Generator(device).manual_seed(0)
            ).total.cpu()
            for x, label in zip(levels.split(128), test.labels.split(128), strict=True)
        ]
    )
    metrics["bits_per_dim"] = mean_measurement(bits, f"bits per pixel of {GREYS} greys", "test", tolerance=0.02)
    unseen = unseen_signs()
    real = glyph_features(unseen.images)
    for name, guidance in (("", 1.0), ("_guided", GUIDANCE)):
        signs = draw_signs(model, unseen.labels, guidance, seed=0)
        metrics |= distances(name, real, glyph_features(signs))
        metrics[f"class_consistency{name}"] = consistency(signs, unseen.labels)
    return metrics


def distances(name: str, real: Tensor, drawn: Tensor) -> Metrics:
    """Fréchet distance and its limit between glyph features (n, F) of unseen and of drawn signs, called `name`."""
    distance = frechet_distance(real, drawn)
    limit = frechet_limit(real, drawn, generator=torch.Generator().manual_seed(0))
    return {
        f"{metric}{name}": Measurement(
            value=value,
            unit="squared units of glyph features",
            split="test and validation",
            count=len(drawn),
            tolerance=0.1 * distance,
        )
        for metric, value in (("frechet", distance), ("frechet_limit", limit))
    }


def consistency(signs: Tensor, labels: Tensor) -> Measurement:
    """Share of drawn signs (n, 1, 32, 32) that the zoo's classifier takes for the scripts they were drawn in, (n,)."""
    classifier = zoo.load("glyph-classifier")
    with torch.no_grad():
        right = 100 * (classifier(signs).argmax(1) == labels).double()
    return mean_measurement(right, "%", "signs drawn in the unseen scripts", 2.0)


# ---- damaged signs ---------------------------------------------------------------------------------------------------


def worn(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture (n, 1, S, S) with one kind of damage: a quarter of the batch has each, at a strength of its own."""
    parts = images.tensor_split(len(data.DAMAGE_KINDS))
    low, high = STRENGTH
    strength = low + (high - low) * torch.rand(len(images), generator=generator, device=generator.device)
    strengths = strength.to(images.device).tensor_split(len(parts))
    kinds = zip(parts, data.DAMAGE_KINDS, strengths, strict=True)
    return torch.cat([data.damage(part, kind, strength, generator) for part, kind, strength in kinds])


def damaged_glyphs(count: int) -> tuple[TensorData, TensorData]:
    """`fresh_glyphs` with fresh damage on every sign of every batch; the validation signs are damaged once."""
    train, validation = fresh_glyphs(count)
    cut = train.transform
    assert cut is not None

    def spoil(batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        images, label = cut(batch, generator)
        return worn(images, generator), label

    images, labels = shuffled(*validation.tensors)
    return TensorData(train.tensors, spoil), TensorData((worn(images, torch.Generator().manual_seed(0)), labels))


def shuffled(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """In an order that is always the same. The data are sorted by script, and damage goes by the place in the batch."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order], labels[order]


def damaged_unseen() -> tuple[Tensor, Tensor]:
    """The unseen signs, each with damage that is always the same: pictures (n, 1, 32, 32) and labels (n,)."""
    unseen = unseen_signs()
    images, labels = shuffled(unseen.images, unseen.labels)
    return worn(images, torch.Generator().manual_seed(0)), labels


def measure_damaged(model: nn.Module, quick: bool) -> Metrics:
    """The error of v on damaged signs; then, unless `quick`, how far what it draws is from damaged and whole signs."""
    assert isinstance(model, GaussianDiffusion)
    images, labels = damaged_unseen()
    every = slice(None, None, 8)
    errors = velocity_error(model, images[every], labels[every])
    metrics = {"velocity_error": mean_measurement(errors, "per pixel", "every eighth unseen sign, damaged", 0.002)}
    if quick:
        return metrics
    signs = draw_signs(model, labels, 1.0, seed=0)
    drawn = glyph_features(signs)
    metrics |= distances("", glyph_features(images), drawn)
    metrics |= distances("_whole", glyph_features(unseen_signs().images), drawn)
    metrics["class_consistency"] = consistency(signs, labels)
    return metrics


# ---- a classifier of noisy signs -------------------------------------------------------------------------------------


@torch.no_grad()
def measure_noisy_classifier(model: nn.Module, quick: bool) -> Metrics:
    """How many scripts of test signs it names at some levels of noise, and how surely: the same noise every time."""
    assert isinstance(model, NoisyClassifier)
    test, device = held_out(), next(model.parameters()).device
    generator, x0, metrics = torch.Generator().manual_seed(0), 2 * test.images - 1, {}
    for sigma in NOISE_LEVELS:
        x = x0 + sigma * torch.randn(x0.shape, generator=generator)
        levels = torch.full((len(x),), sigma)
        each = in_chunks(lambda x, levels: model.log_probs(x.to(device), levels.to(device)).cpu(), x, levels)
        right = 100 * (each.argmax(1) == test.labels).float()
        metrics[f"accuracy_at_{sigma:g}"] = mean_measurement(right, "%", f"test, noise {sigma:g}", tolerance=1.0)
        nats = -each.gather(1, test.labels[:, None])[:, 0]
        metrics[f"cross_entropy_at_{sigma:g}"] = mean_measurement(
            nats, "nats per sign", f"test, noise {sigma:g}", tolerance=0.01
        )
    return metrics


# ---- the recipes -----------------------------------------------------------------------------------------------------


@recipe("diffusion-glyphs")
def diffusion_glyphs() -> Recipe:
    num_scripts = len(data.load("glyphs", "validation", size=32).label_names)
    unet = UNetConfig(patch=2, widths=(48, 72, 96), condition_width=64, num_classes=num_scripts)
    return Recipe(
        name="diffusion-glyphs",
        summary="Diffusion of signs, told the script: a U-Net that says v on a cosine schedule of 1000 steps.",
        chapter=10,
        # Channels last: a CPU convolves twice as fast.
        build=lambda: GaussianDiffusion(DiffusionConfig(unet=unet, num_levels=GREYS)).to(
            memory_format=torch.channels_last
        ),
        data=lambda: fresh_glyphs(42_000),
        fit=FitConfig(
            num_steps=7500, batch_size=48, learning_rate=1e-3, warmup_steps=200, clip_norm=1.0, ema_decay=0.999
        ),
        measure=measure_diffusion,
        data_note="glyphs, 32 pixels, cut anew for every batch from 64, scripts by the root of their size",
    )


@recipe("diffusion-damaged-glyphs")
def diffusion_damaged_glyphs() -> Recipe:
    return Recipe(
        name="diffusion-damaged-glyphs",
        summary="The zoo's diffusion of signs, taught on with damaged ones: it draws worn, cracked and broken signs.",
        chapter=10,
        build=lambda: zoo.load("diffusion-glyphs").train().to(memory_format=torch.channels_last),
        data=lambda: damaged_glyphs(42_000),
        fit=FitConfig(
            num_steps=1500, batch_size=48, learning_rate=3e-4, warmup_steps=50, clip_norm=1.0, ema_decay=0.99
        ),
        measure=measure_damaged,
        data_note="glyphs, 32 pixels, cut anew for every batch from 64, each with damage of strength 0.2 to 0.7",
    )


@recipe("noisy-glyph-classifier")
def noisy_glyph_classifier() -> Recipe:
    num_scripts = len(data.load("glyphs", "validation", size=32).label_names)
    shape = UNetConfig(patch=2, widths=(48, 96, 128), condition_width=64)
    return Recipe(
        name="noisy-glyph-classifier",
        summary="Tells the script of a sign at every level of noise: the guide of classifier guidance.",
        chapter=11,
        build=lambda: NoisyClassifier(NoisyClassifierConfig(num_classes=num_scripts, shape=shape)).to(
            memory_format=torch.channels_last
        ),
        data=lambda: fresh_glyphs(42_000, light=False),
        fit=FitConfig(
            num_steps=2500,
            batch_size=96,
            learning_rate=1.5e-3,
            weight_decay=0.05,
            warmup_steps=100,
            clip_norm=1.0,
            ema_decay=0.998,
        ),
        measure=measure_noisy_classifier,
        data_note="glyphs, 32 pixels, cut anew for every batch from 64 and turned, with noise from the whole chain",
    )
