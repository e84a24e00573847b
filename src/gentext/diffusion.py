"""Denoising diffusion (Sohl-Dickstein et al. 2015; Ho et al. 2020), chapter 10.

A fixed chain drowns a datum in noise, x₀ → x₁ → … → x_T. A network learns to say what was there, and walks back:

    −log p_θ(x₀)  ≤  KL(q(x_T∣x₀) ‖ p(x_T))                                     prior
                     +  Σ_{t>1} E_q KL(q(x_{t−1}∣x_t, x₀) ‖ p_θ(x_{t−1}∣x_t))   transitions
                     −  E_q log p_θ(x₀∣x₁)                                      decoder      (equation 5 of Ho et al.)

Reads from top to bottom: configuration, network, the chain forward and back, objective, bound, sampler. Schedule and
parameterisations are in `gentext.diffusion_schedule`, faster samplers in `gentext.diffusion_sampling`.

Images are in [0, 1] outside; within the chain they are centred, 2x − 1, so that noise of unit variance suits them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gentext.diffusion_schedule import (
    PREDICTIONS,
    NoiseSchedule,
    Prediction,
    convert,
    from_x0_and_noise,
    scales,
    x0_and_noise,
)
from gentext.nn import DiagonalGaussian, DiT, DiTConfig, Loss, UNet, UNetConfig

__all__ = ["Bound", "DiffusionConfig", "GaussianDiffusion", "NoiseSchedule", "Prediction", "convert", "x0_and_noise"]

Weighting = Literal["noise", "x0", "velocity", "min-snr", "bound"]
MIN_SNR = 5.0  # Hang et al. 2023


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Chain, network and objective of a diffusion model.

    Attributes:
        network: which of `unet` and `dit` is built; that configuration also has the size and classes of the images.
        prediction: what the network says: ε, x₀ or v.
        weighting: of the squared error of x₀ at log-SNR λ. "x0": 1. "noise": SNR, the squared error of ε, Ho's
            L_simple. "velocity": SNR + 1, the squared error of v. "min-snr": min(SNR, 5) (Hang et al. 2023). "bound":
            what the variational bound asks for, so that the total estimates it, in nats per pixel.
        variance: of p_θ(x_{t−1}∣x_t): "posterior", β̃_t, or "beta", β_t (Ho et al. 2020, section 3.2).
        label_dropout: probability that a class is not told in training, for classifier-free guidance.
        clip: keep the estimate of x₀ between −1 and 1, where pixels are, when sampling and in the bound.
        num_levels: grey values that a pixel can have, for the bound's decoder.
    """

    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)
    network: Literal["unet", "dit"] = "unet"
    unet: UNetConfig = field(default_factory=UNetConfig)
    dit: DiTConfig = field(default_factory=DiTConfig)
    prediction: Prediction = "velocity"
    weighting: Weighting = "velocity"
    variance: Literal["posterior", "beta"] = "posterior"
    label_dropout: float = 0.1
    clip: bool = True
    num_levels: int = 256

    def __post_init__(self) -> None:
        for name, allowed in (
            ("network", ("unet", "dit")),
            ("prediction", PREDICTIONS),
            ("weighting", get_args(Weighting)),
            ("variance", ("posterior", "beta")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if not 0 <= self.label_dropout <= 1:
            raise ValueError(f"label_dropout is a probability, got {self.label_dropout}")
        if self.num_levels < 2:
            raise ValueError(f"num_levels must be at least 2, got {self.num_levels}")

    @property
    def shape(self) -> UNetConfig | DiTConfig:
        """Configuration of the network that is built."""
        return self.unet if self.network == "unet" else self.dit


@dataclass(frozen=True)
class Bound:
    """The variational bound and its terms, in bits per dimension (pixel and channel).

    Attributes:
        total, prior, decoder: (n,); total = prior + transitions.sum(1) + decoder.
        transitions: (n, K), from t = 2 upwards. If K < T − 1, each stands for all steps of its stratum.
        times: (n, K), the steps t of 2..T that were looked at.
    """

    total: Tensor
    prior: Tensor
    transitions: Tensor
    decoder: Tensor
    times: Tensor


class GaussianDiffusion(nn.Module):
    """A diffusion model of images, conditional on a class or not.

    Args:
        network: another network than the configuration's: called with x_t (n, ...), log-SNRs (n,) and labels (n,) or
            None, it returns a prediction (n, ...) of the configured kind. Data may then have any shape.
    """

    def __init__(self, config: DiffusionConfig, network: nn.Module | None = None) -> None:
        super().__init__()
        self.config, self.schedule = config, config.schedule
        if network is None:
            network = UNet(config.unet) if config.network == "unet" else DiT(config.dit)
        self.network = network

    # ---- network -------------------------------------------------------------------------------------------------

    def predict(
        self, x_t: Tensor, log_snr: Tensor, label: Tensor | None = None, guidance: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """The network's estimates of x₀ and ε in x_t (n, ...) at log-SNRs (n,): both (n, ...).

        `guidance` w ≠ 1 asks twice, with the class and without, and goes from the answer without it w times as far as
        the class goes (Ho & Salimans 2022, equation 6): w = 1 is the conditional model, 0 the unconditional.
        """
        if label is None or not self.config.shape.num_classes or guidance == 1:
            value = self.network(x_t, log_snr, label)
        else:
            null = torch.full_like(label, self.config.shape.num_classes)
            both = self.network(torch.cat([x_t, x_t]), torch.cat([log_snr, log_snr]), torch.cat([label, null]))
            conditional, unconditional = both.chunk(2)
            value = unconditional + guidance * (conditional - unconditional)
        return x0_and_noise(value.to(x_t.dtype), self.config.prediction, x_t, log_snr)

    def denoise(self, x: Tensor, sigma: Tensor, label: Tensor | None = None, guidance: float = 1.0) -> Tensor:
        """The estimate of x₀ in x = x₀ + σ ε (n, ...) at noise levels σ (n,): what the samplers of chapter 11 call.

        Dividing by √(1 + σ²) makes x an x_t, with the log-SNR −2 log σ.
        """
        log_snr = -2 * sigma.log()
        signal, _ = scales(log_snr, x)
        return self.clipped(self.predict(signal * x, log_snr, label, guidance)[0])

    def clipped(self, x0: Tensor) -> Tensor:
        return x0.clamp(-1, 1) if self.config.clip else x0

    # ---- the chain, forward and back -----------------------------------------------------------------------------

    def noised(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t of data (n, ...) and noise of the same shape, at times (n,): t steps in one (equation 4 of Ho et al.)."""
        signal, noise_scale = scales(self.schedule.log_snr(t), x0)
        return signal * x0 + noise_scale * noise

    def posterior(self, x0: Tensor, x_t: Tensor, t: Tensor, s: Tensor | None = None) -> DiagonalGaussian:
        """q(x_s∣x_t, x₀) at times s < t, (n,); s = t − 1 if None (equations 6 and 7 of Ho et al.).

        Bayes: x_s is seen twice, from x₀ with variance 1 − ᾱ_s, and from x_t = √(ᾱ_t/ᾱ_s) x_s + noise of variance
        β = 1 − ᾱ_t/ᾱ_s. Precisions add up; the mean is their weighted mean.
        """
        s = t - 1 if s is None else s
        if t.device.type == "cpu" and not bool((s < t).all()):  # a GPU would have to wait
            raise ValueError("the posterior is of an earlier time: s must be less than t")
        log_t, log_s = self.schedule.log_alpha_bar(t), self.schedule.log_alpha_bar(s)
        beta = -torch.expm1(log_t - log_s)
        var_t, var_s = -torch.expm1(log_t), -torch.expm1(log_s)  # 1 − ᾱ
        weight_x0 = (0.5 * log_s).exp() * beta / var_t
        weight_x_t = (0.5 * (log_t - log_s)).exp() * var_s / var_t
        mean = expand(weight_x0, x0) * x0 + expand(weight_x_t, x_t) * x_t
        return DiagonalGaussian(mean, expand((beta * var_s / var_t).log(), x0).expand_as(mean))

    def reverse(self, x_t: Tensor, t: Tensor, label: Tensor | None = None, guidance: float = 1.0) -> DiagonalGaussian:
        """p_θ(x_{t−1}∣x_t): the posterior, with the network's guess in the place of x₀. Times (n,) from 1 to T.

        At t = 1 the posterior's variance is 0: nothing but x₀ itself is left. There the variance is β_1 in any case.
        """
        x0 = self.clipped(self.predict(x_t, self.schedule.log_snr(t), label, guidance)[0])
        posterior = self.posterior(x0, x_t, t)
        log_beta = expand(self.schedule.beta(t).log(), x_t).expand_as(x_t)
        if self.config.variance == "beta":
            return DiagonalGaussian(posterior.mean, log_beta)
        return DiagonalGaussian(posterior.mean, torch.where(expand(t, x_t) == 1, log_beta, posterior.log_var))

    # ---- objective -----------------------------------------------------------------------------------------------

    def weight(self, t: Tensor, weighting: Weighting | None = None) -> Tensor:
        """Weight of the squared error of x₀ at times (n,) of 1..T: (n,). See `DiffusionConfig.weighting`.

        "bound": KL(q ‖ p_θ) = ½ (SNR_{t−1} − SNR_t) ‖x₀ − x̂₀‖² at t > 1 (Kingma et al. 2021, section 4), and the
        decoder's −log N(x₀; x̂₀, β_1) without its constant at t = 1; T times, as one of T steps is drawn.
        """
        weighting = weighting or self.config.weighting
        snr = self.schedule.log_snr(t).exp()
        if weighting == "x0":
            return torch.ones_like(snr)
        if weighting == "noise":
            return snr
        if weighting == "velocity":
            return snr + 1
        if weighting == "min-snr":
            return snr.clamp(max=MIN_SNR)
        before = self.schedule.log_snr((t - 1).clamp(min=1)).exp()
        first = snr + 1  # 1 / (1 − ᾱ_1) = 1 / β_1
        return 0.5 * self.schedule.num_steps * torch.where(t == 1, first, before - snr)

    def loss(self, batch: tuple[Tensor, Tensor] | tuple[Tensor], *, generator: torch.Generator | None = None) -> Loss:
        """Weighted squared error at one random step of each image, averaged over pixels and batch.

        In squared units of what the weighting is named after; with "bound" in nats per pixel. Terms: `x0_error` and
        `noise_error`, the mean squares of the errors of x₀ and ε.

        Args:
            batch: images (n, ...) in [0, 1], and labels (n,) for a conditional model.

        Raises:
            ValueError: a conditional model and no labels, or images that are bytes.
        """
        images, *labels = batch
        if self.config.shape.num_classes and not labels:
            raise ValueError("this model is class-conditional: a batch needs labels beside its images")
        x0, count = self.centred(images), len(images)
        t = 1 + (torch.rand(count, generator=generator, device=x0.device) * self.schedule.num_steps).long()
        t = t.clamp(max=self.schedule.num_steps)  # float32 can round up to T
        noise = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
        label = self.dropped(labels[0], generator) if self.config.shape.num_classes else None
        log_snr, prediction = self.schedule.log_snr(t), self.config.prediction
        value = self.network(self.noised(x0, t, noise), log_snr, label)
        target = from_x0_and_noise(x0, noise, prediction, log_snr)
        # All errors are one error in different units: the factor of the own one is divided out, not computed through.
        error = (value.to(x0.dtype) - target).square().flatten(1).mean(1)  # (n,), in units of the prediction
        x0_error = error / self.weight(t, prediction).to(x0.dtype)
        total = (error * (self.weight(t) / self.weight(t, prediction)).to(x0.dtype)).mean()
        terms = {"x0_error": x0_error.mean(), "noise_error": (x0_error * log_snr.exp().to(x0.dtype)).mean()}
        return Loss(total, {name: term.detach() for name, term in terms.items()})

    def dropped(self, label: Tensor, generator: torch.Generator | None) -> Tensor:
        """Labels (n,), each with the configured probability replaced by the null class."""
        hidden = torch.rand(len(label), generator=generator, device=label.device) < self.config.label_dropout
        return torch.where(hidden, self.config.shape.num_classes, label)

    # ---- bound ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def bound(
        self,
        images: Tensor,
        label: Tensor | None = None,
        *,
        num_times: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Bound:
        """The bound on −log₂ p_θ(x₀) per dimension, term by term, of images (n, ...) whose pixels are grey levels.

        One draw of noise a term. The sum over all T − 1 transitions takes T network calls; with `num_times` K the steps
        are cut into K strata, and one step drawn from each, for each image anew, stands for all of it: unbiased, with
        more noise.

        Raises:
            ValueError: pixels off the `num_levels` levels k / (num_levels − 1), or K out of range.
        """
        last, highest = self.schedule.num_steps, self.config.num_levels - 1
        num_times = last - 1 if num_times is None else num_times
        if not 1 <= num_times <= last - 1:
            raise ValueError(f"num_times must lie in 1..{last - 1}, got {num_times}")
        if not torch.allclose(images * highest, (images * highest).round(), atol=1e-3) or not in_unit_range(images):
            raise ValueError(
                f"the bound is for pixels k / {highest} with k = 0..{highest}: round them first, "
                f"(x * {highest}).round() / {highest}"
            )
        x0, count = self.centred(images), len(images)
        bits = 1 / (math.log(2) * math.prod(x0.shape[1:]))

        def draw(t: Tensor) -> Tensor:
            return self.noised(x0, t, torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype))

        at_last = torch.full((count,), last, device=x0.device)
        signal, noise_scale = scales(self.schedule.log_snr(at_last), x0)
        prior = DiagonalGaussian(signal * x0, (2 * noise_scale.log()).expand_as(x0)).kl_per_latent()
        first = torch.ones_like(at_last)
        decoder = self.reverse(draw(first), first, label)
        transitions, times = [], []
        # Most of the bound lies near the datum: strata grow with t, and hold at least one step.
        edges = [max(2 + i, 2 + round((last - 1) * (i / num_times) ** 2)) for i in range(num_times + 1)]
        for low, high in itertools.pairwise(edges):
            t = low + (torch.rand(count, generator=generator, device=x0.device) * (high - low)).long()
            t = t.clamp(max=high - 1)
            x_t = draw(t)
            kl = self.posterior(x0, x_t, t).kl(self.reverse(x_t, t, label))  # summed over the last dimension
            transitions.append((high - low) * bits * kl.reshape(count, -1).sum(1))
            times.append(t)
        parts = bits * prior.flatten(1).sum(1), torch.stack(transitions, 1), -bits * self.log_level(x0, decoder)
        return Bound(parts[0] + parts[1].sum(1) + parts[2], *parts, torch.stack(times, 1))

    def log_level(self, x0: Tensor, decoder: DiagonalGaussian) -> Tensor:
        """log probability of grey levels (n, ...) in nats, (n,): a Gaussian's mass within half a level of each pixel
        (Ho et al. 2020, equation 13); the lowest and highest level have the tails too.
        """
        half = 1 / (self.config.num_levels - 1)  # levels lie 2 / (num_levels − 1) apart in [−1, 1]
        low = torch.where(x0 < -1 + half, -math.inf, (x0 - half - decoder.mean) / decoder.std)
        high = torch.where(x0 > 1 - half, math.inf, (x0 + half - decoder.mean) / decoder.std)
        # log(Φ(b) − Φ(a)) = log(Φ(−a) − Φ(−b)): on the left, where Φ is small, no digits are lost.
        right = low + high > 0
        low, high = torch.where(right, -high, low), torch.where(right, -low, high)
        log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
        return (log_high + torch.log1p(-(log_low - log_high).exp())).flatten(1).sum(1)

    # ---- sampler -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def ancestral_step(
        self,
        x_t: Tensor,
        t: int,
        label: Tensor | None = None,
        guidance: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw x_{t−1} ~ p_θ(x_{t−1}∣x_t), (n, ...); the last step, t = 1, gives the mean (Ho et al., algorithm 2)."""
        if not 1 <= t <= self.schedule.num_steps:
            raise ValueError(f"a step back starts at t in 1..{self.schedule.num_steps}, got {t}")
        step = self.reverse(x_t, torch.full((len(x_t),), t, device=x_t.device), label, guidance)
        return step.sample(generator) if t > 1 else step.mean

    @torch.no_grad()
    def sample(
        self,
        n: int,
        label: Tensor | None = None,
        guidance: float = 1.0,
        generator: torch.Generator | None = None,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        """Walk back from noise over all T steps: n images (n, C, S, S) in [0, 1].

        Args:
            label: (n,) classes; None for the unconditional model.
            on_step: called with t − 1 and the centred x_{t−1} after each step.

        Raises:
            ValueError: n is not positive, or there is not one label for each image.
        """
        if n < 1 or (label is not None and label.shape != (n,)):
            given = None if label is None else tuple(label.shape)
            raise ValueError(f"n must be at least 1, with one label for each image or none, got {n} and {given}")
        shape, weight = self.config.shape, next(self.network.parameters())
        size = (n, shape.channels, shape.image_size, shape.image_size)
        x = torch.randn(size, generator=generator, device=weight.device, dtype=weight.dtype)
        for t in range(self.schedule.num_steps, 0, -1):
            x = self.ancestral_step(x, t, label, guidance, generator)
            if on_step is not None:
                on_step(t - 1, x)
        return self.pixels(x)

    @staticmethod
    def centred(images: Tensor) -> Tensor:
        """Pixels in [0, 1] -> [−1, 1], where the chain works."""
        if not images.is_floating_point():
            raise ValueError(f"images must be floating point in [0, 1], got {images.dtype}; divide bytes by 255 first")
        return 2 * images - 1

    @staticmethod
    def pixels(x: Tensor) -> Tensor:
        """[−1, 1] -> pixels in [0, 1], cut off there."""
        return ((x + 1) / 2).clamp(0, 1)


def expand(value: Tensor, like: Tensor) -> Tensor:
    """One number an example (n,), shaped to multiply `like` (n, ...); fractions in its dtype."""
    value = value.to(like.dtype) if value.is_floating_point() else value
    return value.view(-1, *[1] * (like.ndim - 1))


def in_unit_range(images: Tensor) -> bool:
    low, high = images.aminmax()
    return bool(low > -1e-6) and bool(high < 1 + 1e-6)
