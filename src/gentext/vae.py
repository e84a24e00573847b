"""The variational autoencoder (Kingma & Welling 2014; Rezende et al. 2014), chapter 5.

An encoder q_φ(z∣x) proposes codes, a decoder p_θ(x∣z) draws from them, and one bound trains both:

    log p_θ(x)  ≥  E_q[log p_θ(x∣z)] − KL(q_φ(z∣x) ‖ p(z)),      p(z) = N(0, I).

Reads from top to bottom: configuration, network, likelihood, bounds, objective, sampler. All in nats per image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gentext.nn import (
    ConvDecoder,
    ConvEncoder,
    DiagonalGaussian,
    Loss,
    check_codes,
    check_images,
    check_labels,
    mlp,
    standard_normal_log_prob,
)

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"silu": nn.SiLU, "tanh": nn.Tanh}


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Shape and objective of a VAE.

    Attributes:
        hidden: widths of the hidden layers; for "conv" the one layer between convolutions and code.
        width: channels of the first convolution ("conv" only).
        likelihood: "bernoulli" for ink or no ink, "gaussian" for grey values with one learned standard deviation.
        num_classes: 0 for an unconditional model; otherwise encoder and decoder are told the class.
        beta: weight of the KL term (Higgins et al. 2017); 1 is the bound itself.
        free_bits: nats per latent that cost nothing (Kingma et al. 2016, appendix C.8).
    """

    image_size: int = 32
    channels: int = 1
    latent_dim: int = 16
    network: Literal["conv", "mlp"] = "conv"
    hidden: tuple[int, ...] = (128,)
    width: int = 16
    activation: Literal["silu", "tanh"] = "silu"
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    num_classes: int = 0
    beta: float = 1.0
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))  # a configuration read back from JSON brings a list
        for name, allowed in (
            ("network", ("conv", "mlp")),
            ("activation", tuple(ACTIVATIONS)),
            ("likelihood", ("bernoulli", "gaussian")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if self.latent_dim < 1 or not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"latent_dim and hidden must be positive, got {self.latent_dim} and {self.hidden}")
        if self.image_size < 1 or self.channels < 1 or self.num_classes < 0:
            raise ValueError(
                "image_size and channels must be at least 1 and num_classes not negative, "
                f"got {self.image_size}, {self.channels} and {self.num_classes}"
            )
        if self.network == "conv" and len(self.hidden) != 1:
            raise ValueError(f"the convolutional network has one hidden layer, got hidden={self.hidden}")
        if not (0 <= self.beta < math.inf and 0 <= self.free_bits < math.inf):  # refuses NaN too
            raise ValueError(f"beta and free_bits must be numbers of at least 0, got {self.beta} and {self.free_bits}")


@dataclass(frozen=True)
class Elbo:
    """The bound and its two forces, nats per image. `elbo = log_likelihood − kl`.

    Attributes:
        elbo, log_likelihood, kl: (n,).
        kl_per_latent: (n, latent_dim), sums to `kl`.
    """

    elbo: Tensor
    log_likelihood: Tensor
    kl: Tensor
    kl_per_latent: Tensor


class VAE(nn.Module):
    """A VAE with a diagonal Gaussian posterior and a standard normal prior."""

    log_std: Tensor

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.kl_weight = config.beta  # `kl_warmup` moves it during training
        shape = (config.channels, config.image_size, config.image_size)
        activation = ACTIVATIONS[config.activation]
        code = config.latent_dim + config.num_classes
        if config.network == "conv":
            hidden = config.hidden[0]
            self.encoder = nn.Sequential(
                ConvEncoder(config.channels, config.image_size, config.width, hidden), activation()
            )
            self.decoder = nn.Sequential(
                mlp([code, hidden], activation),
                activation(),
                ConvDecoder(hidden, config.channels, config.image_size, config.width),
            )
        else:
            sizes = [math.prod(shape), *config.hidden]
            self.encoder = nn.Sequential(nn.Flatten(), mlp(sizes, activation), activation())
            self.decoder = nn.Sequential(mlp([code, *reversed(sizes)], activation), nn.Unflatten(1, shape))
        self.posterior_head = nn.Linear(config.hidden[-1] + config.num_classes, 2 * config.latent_dim)
        if config.likelihood == "gaussian":
            self.log_std = nn.Parameter(torch.tensor(-1.0))

    # ---- network -------------------------------------------------------------------------------------------------

    def encode(self, x: Tensor, label: Tensor | None = None) -> DiagonalGaussian:
        """The posterior q_φ(z∣x): images (n, C, S, S) in [0, 1] -> a Gaussian over (n, latent_dim)."""
        config = self.config
        h = self.encoder(check_images(x, config.channels, config.image_size))  # (n, hidden)
        mean, log_var = self.posterior_head(self._with_class(h, label)).chunk(2, dim=1)
        return DiagonalGaussian(mean, log_var)

    def decode_logits(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Codes (n, latent_dim) -> the decoder's last layer (n, C, S, S), before any squashing."""
        return self.decoder(self._with_class(check_codes(z, self.config.latent_dim), label))

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Codes (n, latent_dim) -> the mean of p_θ(x∣z), (n, C, S, S)."""
        logits = self.decode_logits(z, label)
        return logits.sigmoid() if self.config.likelihood == "bernoulli" else logits

    def _with_class(self, h: Tensor, label: Tensor | None) -> Tensor:
        # h.shape[0], not len(h): that would fix the batch size of the exported graph
        label = check_labels(label, h.shape[0], self.config.num_classes)
        if label is None:
            return h
        return torch.cat([h, F.one_hot(label, self.config.num_classes).to(h.dtype)], dim=1)

    # ---- likelihood and bounds -----------------------------------------------------------------------------------

    def log_likelihood(self, x: Tensor, z: Tensor, label: Tensor | None = None) -> Tensor:
        """log p_θ(x∣z) in nats per image, (n,): the pixels are independent given z, so their terms add up.

        The Bernoulli likelihood is linear in x, so a grey pixel scores the average over its binarisations.
        """
        check_images(x, self.config.channels, self.config.image_size)
        if len(x) != len(z):
            raise ValueError(f"log_likelihood needs one code for each image, got {len(x)} images and {len(z)} codes")
        logits = self.decode_logits(z, label)
        if self.config.likelihood == "bernoulli":
            low, high = x.aminmax()
            if low < 0 or high > 1:
                raise ValueError(f"a Bernoulli decoder needs pixels in [0, 1], got {low:.3g}..{high:.3g}; rescale them")
            return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)
        error = (x - logits) * (-self.log_std).exp()
        return -(0.5 * error.square() + self.log_std + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)

    def elbo(self, x: Tensor, label: Tensor | None = None, generator: torch.Generator | None = None) -> Elbo:
        """One-sample estimate of the evidence lower bound (Kingma & Welling 2014, equation 10), KL in closed form."""
        posterior = self.encode(x, label)
        log_likelihood = self.log_likelihood(x, posterior.sample(generator), label)
        kl_per_latent = posterior.kl_per_latent()
        kl = kl_per_latent.sum(1)
        return Elbo(log_likelihood - kl, log_likelihood, kl, kl_per_latent)

    def iwae_bound(
        self,
        x: Tensor,
        num_samples: int,
        label: Tensor | None = None,
        generator: torch.Generator | None = None,
        chunk: int = 50,
    ) -> Tensor:
        """Importance-weighted bound log (1/K) Σ_k p(x, z_k) / q(z_k∣x) in nats, (n,) (Burda et al. 2016, equation 8).

        K = 1 is the ELBO with a sampled KL term; K → ∞ is log p_θ(x). `chunk` samples are decoded at a time: it bounds
        the memory and does not change the answer.
        """
        if num_samples < 1 or chunk < 1:
            raise ValueError(f"num_samples and chunk must be at least 1, got {num_samples} and {chunk}")
        posterior = self.encode(x, label)
        total = torch.full((len(x),), -math.inf, device=x.device, dtype=posterior.mean.dtype)
        for start in range(0, num_samples, chunk):
            count = min(chunk, num_samples - start)
            # One draw after the other, so that the stream of random numbers does not depend on `chunk`.
            z = torch.stack([posterior.sample(generator) for _ in range(count)])  # (count, n, latent_dim)
            repeated = None if label is None else label.repeat(count)
            log_p = self.log_likelihood(x.repeat(count, 1, 1, 1), z.flatten(0, 1), repeated).view(count, -1)
            log_weight = log_p + standard_normal_log_prob(z) - posterior.log_prob(z)  # (count, n)
            total = torch.logaddexp(total, log_weight.logsumexp(0))
        return total - math.log(num_samples)

    @torch.no_grad()
    def log_prob(
        self,
        x: Tensor,
        label: Tensor | None = None,
        num_samples: int = 1000,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """log p_θ(x) in nats per image, (n,), estimated from below by the importance-weighted bound."""
        return self.iwae_bound(x, num_samples, label, generator)

    # ---- objective -----------------------------------------------------------------------------------------------

    def loss(self, batch: tuple[Tensor, Tensor], *, generator: torch.Generator | None = None) -> Loss:
        """distortion + β Σ_j max(λ, KL_j), nats per image, averaged over the batch.

        β is `kl_weight`, λ is `free_bits`, and KL_j the batch mean for latent j. With β = 1 and λ = 0 this is −ELBO.
        """
        images, labels = batch
        bound = self.elbo(images, labels, generator)
        distortion = -bound.log_likelihood.mean()
        kl_per_latent = bound.kl_per_latent.mean(0)  # (latent_dim,)
        cost = kl_per_latent.clamp(min=self.config.free_bits) if self.config.free_bits else kl_per_latent
        total = distortion + self.kl_weight * cost.sum()
        rate = kl_per_latent.sum()
        terms = {"negative_elbo": distortion + rate, "distortion": distortion, "rate": rate}
        return Loss(total, {name: term.detach() for name, term in terms.items()})

    # ---- sampler -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self,
        n: int,
        label: Tensor | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw z ~ N(0, τ² I) and decode: n pixel means (n, C, S, S). `temperature` τ = 1 is the model itself."""
        if n < 1 or temperature < 0:
            raise ValueError(f"n must be at least 1 and temperature not negative, got {n} and {temperature}")
        weight = self.posterior_head.weight
        z = torch.randn(n, self.config.latent_dim, generator=generator, device=weight.device, dtype=weight.dtype)
        return self.decode(temperature * z, label)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Decode the posterior mean: (n, C, S, S) -> (n, C, S, S)."""
        return self.decode(self.encode(x, label).mean, label)


def kl_warmup(model: VAE, num_steps: int) -> Callable[[int], None]:
    """A rule for the KL weight: from 0 to β in a straight line over `num_steps` steps (Bowman et al. 2016).

    Returns a function of the step number, to be called before each step.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")

    def set_weight(step: int) -> None:
        model.kl_weight = model.config.beta * min(1.0, step / num_steps)

    return set_weight
