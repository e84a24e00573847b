"""A small classifier of signs by script: the eye with which the book judges its generators.

Its last hidden layer is the feature space of the book's Fréchet distances (`gentext.metrics.glyph_features`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gentext.nn.checks import check_images
from gentext.nn.convnet import ConvEncoder
from gentext.nn.loss import Loss


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    num_classes: int
    image_size: int = 32
    channels: int = 1
    width: int = 24
    num_features: int = 128
    dropout: float = 0.3
    label_smoothing: float = 0.05


class GlyphClassifier(nn.Module):
    """Images (n, 1, S, S) -> logits over scripts (n, num_classes)."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        if config.num_classes < 2:
            raise ValueError(f"a classifier needs at least 2 classes, got {config.num_classes}")
        self.config = config
        self.encoder = ConvEncoder(config.channels, config.image_size, config.width, config.num_features)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.num_features, config.num_classes)

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer after its activation, (n, num_features)."""
        config = self.config
        return F.silu(self.encoder(check_images(x, config.channels, config.image_size)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(x)))

    def loss(self, batch: tuple[Tensor, Tensor], *, generator: torch.Generator | None = None) -> Loss:
        """Cross-entropy in nats with label smoothing. Dropout draws from torch's global generator, as in torch."""
        images, labels = batch
        logits = self(images)
        total = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        accuracy = (logits.argmax(1) == labels).float().mean()
        return Loss(total, {"cross_entropy": total.detach(), "accuracy": accuracy})
