"""The small convolutional encoder and decoder that the image chapters share.

Each stage halves (or doubles) the side with a 4×4 convolution of stride 2 and doubles (or halves) the channels,
as in DCGAN (Radford et al. 2016). A kernel size that is a multiple of the stride covers every pixel equally often,
so the decoder draws no checkerboard (Odena et al. 2016).
"""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

SMALLEST_SIDE = 4


def stage_widths(image_size: int, width: int) -> list[int]:
    """Channels after each halving from `image_size` down to 4: [width, 2 width, 4 width, ...]."""
    num_stages = round(math.log2(image_size / SMALLEST_SIDE)) if image_size > 0 else 0
    if num_stages < 1 or SMALLEST_SIDE * 2**num_stages != image_size:
        raise ValueError(f"image_size must be 8, 16, 32, 64, ..., got {image_size}; pad the images first")
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    return [width * 2**stage for stage in range(num_stages)]


class ConvEncoder(nn.Module):
    """Images (n, in_channels, S, S) -> vectors (n, out_features)."""

    def __init__(self, in_channels: int, image_size: int, width: int, out_features: int) -> None:
        super().__init__()
        widths = [in_channels, *stage_widths(image_size, width)]
        self.stages = nn.Sequential()
        for fan_in, fan_out in itertools.pairwise(widths):
            self.stages.append(nn.Conv2d(fan_in, fan_out, kernel_size=4, stride=2, padding=1))
            self.stages.append(nn.SiLU())
        self.head = nn.Linear(widths[-1] * SMALLEST_SIDE**2, out_features)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stages(x)  # (n, 4 width, 4, 4)
        return self.head(h.flatten(1))


class ConvDecoder(nn.Module):
    """Vectors (n, in_features) -> logits of images (n, out_channels, S, S)."""

    def __init__(self, in_features: int, out_channels: int, image_size: int, width: int) -> None:
        super().__init__()
        widths = [*reversed(stage_widths(image_size, width)), out_channels]
        self.foot = nn.Linear(in_features, widths[0] * SMALLEST_SIDE**2)
        self.stages = nn.Sequential()
        for fan_in, fan_out in itertools.pairwise(widths):
            self.stages.append(nn.SiLU())
            self.stages.append(nn.ConvTranspose2d(fan_in, fan_out, kernel_size=4, stride=2, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        h = self.foot(z).unflatten(1, (-1, SMALLEST_SIDE, SMALLEST_SIDE))  # (n, 4 width, 4, 4)
        return self.stages(h)
