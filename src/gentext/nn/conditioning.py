"""What a denoising network is told beside the picture: how much noise there is, and of which class it is."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sinusoidal_embedding(value: Tensor, features: int, base: float = 10_000.0) -> Tensor:
    """Cosines and sines of real numbers at `features` / 2 frequencies, from 1 down to nearly 1 / base.

    The positions of a Transformer (Vaswani et al. 2017, section 3.5) for numbers that are not whole: (n,) ->
    (n, features), all cosines first.
    """
    if features < 2 or features % 2:
        raise ValueError(f"features must be an even number of at least 2, got {features}")
    half = features // 2
    frequency = torch.exp(-math.log(base) * torch.arange(half, device=value.device, dtype=value.dtype) / half)
    angle = value[:, None] * frequency  # (n, half)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class Conditioning(nn.Module):
    """log-SNR (n,) and class (n,) -> one vector for each example (n, width).

    The noise is told as its log-SNR and not as a step number: it means the same in every schedule, and a sampler may
    stop anywhere. Class `num_classes` is the null class of an example whose class is not told (Ho & Salimans 2022).

    Args:
        num_classes: 0 for an unconditional network; labels are then ignored.
    """

    SCALE = 10.0  # log-SNRs lie between −20 and 15: tenths shall be far apart in the fastest cosine

    def __init__(self, features: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.features, self.num_classes = features, num_classes
        self.input = nn.Linear(features, width)
        self.output = nn.Linear(width, width)
        if num_classes:
            # Of unit variance, as torch draws it: rare classes are far apart before they have been seen often.
            self.label_embedding = nn.Embedding(num_classes + 1, width)

    def forward(self, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        value = self.SCALE * log_snr.to(self.input.weight.dtype)
        h = self.output(F.silu(self.input(sinusoidal_embedding(value, self.features))))
        if not self.num_classes:
            return h
        if label is None:
            label = torch.full_like(log_snr, self.num_classes, dtype=torch.int64)
        return h + self.label_embedding(check_null_labels(label, log_snr, self.num_classes))


def check_null_labels(label: Tensor, log_snr: Tensor, num_classes: int) -> Tensor:
    """Return labels (n,) in 0..num_classes, the last being the null class, else raise ValueError."""
    if label.shape != log_snr.shape or label.is_floating_point():
        raise ValueError(
            f"label must be whole numbers of shape {tuple(log_snr.shape)}, got {tuple(label.shape)} of {label.dtype}"
        )
    # A GPU would have to wait for the answer; there a label out of range fails in the embedding.
    if label.device.type == "cpu" and label.numel() and not torch.compiler.is_compiling():
        low, high = int(label.min()), int(label.max())
        if low < 0 or high > num_classes:
            raise ValueError(
                f"labels must lie in 0..{num_classes - 1}, or be {num_classes} for none, got {low}..{high}"
            )
    return label
