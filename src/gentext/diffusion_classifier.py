"""A classifier that reads noisy pictures, p(y∣x_t): its slope guides a diffusion model (Dhariwal & Nichol 2021).

The way down of a U-Net, told how much noise there is, and then one vote of all places. It learns from the same x_t as
the diffusion model, at all levels of noise, so that it has a slope wherever a sampler walks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gentext.diffusion import GaussianDiffusion
from gentext.diffusion_schedule import NoiseSchedule, scales
from gentext.nn import Conditioning, Loss, UNetConfig, check_images
from gentext.nn.unet import PictureAttention, ResidualBlock, way_down


@dataclass(frozen=True, kw_only=True)
class NoisyClassifierConfig:
    """Classes, chain and network.

    Attributes:
        schedule: whose levels of noise it is trained on, all steps alike.
        shape: of the U-Net whose way down this is. Its own `num_classes` stays 0: the class is asked, not told.
        dropout: of what the vote is taken on.
    """

    num_classes: int
    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)
    shape: UNetConfig = field(default_factory=UNetConfig)
    dropout: float = 0.3

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"a classifier needs at least 2 classes, got {self.num_classes}")
        if self.shape.num_classes:
            raise ValueError(
                f"this network is not told the class: shape.num_classes must be 0, not {self.shape.num_classes}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")


class NoisyClassifier(nn.Module):
    """Noisy pictures x_t (n, C, S, S), centred, and log-SNRs (n,) -> logits over classes (n, num_classes)."""

    def __init__(self, config: NoisyClassifierConfig) -> None:
        super().__init__()
        self.config, self.schedule = config, config.schedule
        shape = config.shape
        self.conditioning = Conditioning(shape.widths[0], shape.condition_width, 0)
        width = shape.widths[0]
        self.input = nn.Conv2d(shape.channels * shape.patch**2, width, kernel_size=3, padding=1)
        self.down, width = way_down(shape), shape.widths[-1]
        self.attention = PictureAttention(width, shape)
        self.last = ResidualBlock(width, width, shape)
        self.norm = nn.GroupNorm(shape.groups, width)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(width, config.num_classes)

    def forward(self, x_t: Tensor, log_snr: Tensor) -> Tensor:
        shape = self.config.shape
        check_images(x_t, shape.channels, shape.image_size)
        condition = self.conditioning(log_snr)
        h = self.input(F.pixel_unshuffle(x_t, shape.patch))
        for layer in self.down:
            h = layer(h, condition) if isinstance(layer, ResidualBlock) else layer(h)
        h = self.last(self.attention(h), condition)
        return self.head(self.dropout(F.silu(self.norm(h)).mean((2, 3))))

    def log_probs(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(y∣x) in nats, (n, num_classes), of x = x₀ + σ ε (n, ...) at levels σ (n,): samplers' units."""
        log_snr = -2 * sigma.log()
        signal, _ = scales(log_snr, x)
        return self(signal * x, log_snr).log_softmax(1)

    def log_prob(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        """log p(label∣x) in nats, (n,), for labels (n,): what `classifier_guidance` wants."""
        return self.log_probs(x, sigma).gather(1, label[:, None])[:, 0]

    def loss(self, batch: tuple[Tensor, Tensor], *, generator: torch.Generator | None = None) -> Loss:
        """Cross-entropy in nats, each image (n, ...) in [0, 1] at one random step of the chain.

        Dropout draws from torch's global generator, as in torch.

        Raises:
            ValueError: images that are bytes, or of another shape.
        """
        images, label = batch
        x0, last = GaussianDiffusion.centred(images), self.schedule.num_steps
        t = 1 + (torch.rand(len(x0), generator=generator, device=x0.device) * last).long().clamp(max=last - 1)
        log_snr = self.schedule.log_snr(t)
        signal, noise_scale = scales(log_snr, x0)
        noise = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
        logits = self(signal * x0 + noise_scale * noise, log_snr)
        total = F.cross_entropy(logits, label)
        accuracy = (logits.argmax(1) == label).float().mean()
        return Loss(total, {"cross_entropy": total.detach(), "accuracy": accuracy})
