"""A small U-Net that looks at a noisy picture and says what is in it (Ronneberger et al. 2015; Ho et al. 2020).

Down: each stage halves the side and widens. Middle: every place attends to every other. Up: the same in reverse, and
each block sees what the way down had at its resolution, so that fine strokes need not go through the narrow middle.
A picture may be cut into small patches first: the widest and dearest stage then falls away (Hoogeboom et al. 2023).

Reads from top to bottom: configuration, residual block, attention, network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gentext.nn.checks import check_images
from gentext.nn.conditioning import Conditioning


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Shape of a U-Net.

    Attributes:
        num_classes: 0 for an unconditional network.
        patch: side of the squares whose pixels become the channels of one place; 1 for pixels as they are.
        widths: channels of each stage; every stage but the last is followed by a halving of the side.
        num_blocks: residual blocks of a stage on the way down; on the way up there is one more.
        groups: of the group norms (Wu & He 2018); must divide every width.
        head_dim: width of an attention head in the middle; must divide the last width.
        condition_width: of the vector that tells noise level and class.
        dropout: within residual blocks.
    """

    image_size: int = 32
    channels: int = 1
    num_classes: int = 0
    patch: int = 1
    widths: tuple[int, ...] = (32, 64, 128)
    num_blocks: int = 1
    groups: int = 8
    head_dim: int = 32
    condition_width: int = 128
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # a configuration read back from JSON brings a list
        if not self.widths or min(self.groups, self.head_dim, *self.widths) < 1:
            raise ValueError(
                f"widths, groups and head_dim must be positive, got {self.widths}, {self.groups} and {self.head_dim}"
            )
        if any(width % self.groups for width in self.widths) or self.widths[-1] % self.head_dim:
            raise ValueError(
                f"groups must divide every width and head_dim the last, got {self.groups} and {self.head_dim} for "
                f"widths {self.widths}"
            )
        if self.patch < 1:
            raise ValueError(f"patch must be at least 1, got {self.patch}")
        unit = self.patch * 2 ** (len(self.widths) - 1)
        if self.image_size < 1 or self.image_size % unit:
            raise ValueError(
                f"image_size must be a multiple of {unit} for so many stages and patches of {self.patch}, "
                f"got {self.image_size}"
            )
        if self.channels < 1 or self.num_classes < 0 or self.num_blocks < 1 or self.condition_width < 1:
            raise ValueError(
                "channels, num_blocks and condition_width must be at least 1 and num_classes not negative, got "
                f"{self.channels}, {self.num_blocks}, {self.condition_width} and {self.num_classes}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")


class ResidualBlock(nn.Module):
    """x + two convolutions of x: (n, fan_in, H, W) -> (n, fan_out, H, W).

    Between the two, the condition scales and shifts each channel (Perez et al. 2018; Nichol & Dhariwal 2021): a shift
    alone can only add something of a class to a picture, a scale can also take away what is of the others.
    """

    def __init__(self, fan_in: int, fan_out: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(config.groups, fan_in)
        self.conv_1 = nn.Conv2d(fan_in, fan_out, kernel_size=3, padding=1)
        self.condition = nn.Linear(config.condition_width, 2 * fan_out)
        self.norm_2 = nn.GroupNorm(config.groups, fan_out)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_2 = nn.Conv2d(fan_out, fan_out, kernel_size=3, padding=1)
        self.skip = nn.Conv2d(fan_in, fan_out, kernel_size=1) if fan_in != fan_out else nn.Identity()
        zero(self.conv_2)  # at the start the block passes its input on, whatever stands above and below it

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))
        scale, shift = self.condition(F.silu(condition))[:, :, None, None].chunk(2, dim=1)  # (n, fan_out, 1, 1)
        h = self.norm_2(h) * (1 + scale) + shift
        h = self.conv_2(self.dropout(F.silu(h)))
        return self.skip(x) + h


class PictureAttention(nn.Module):
    """x + attention between all places of a picture: (n, width, H, W) -> the same."""

    def __init__(self, width: int, config: UNetConfig) -> None:
        super().__init__()
        self.num_heads = width // config.head_dim
        self.norm = nn.GroupNorm(config.groups, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.output = zero(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x).flatten(2).transpose(1, 2)  # (n, H W, width)
        q, k, v = self.qkv(h).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # each (n, heads, H W, d)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (n, H W, width)
        return x + self.output(h).transpose(1, 2).unflatten(2, x.shape[2:])


def way_down(config: UNetConfig) -> nn.ModuleList:
    """From widths[0] channels to the narrow end: the blocks of each stage, between them halvings of the side."""
    layers, width = nn.ModuleList(), config.widths[0]
    for stage, wanted in enumerate(config.widths):
        if stage:
            layers.append(nn.Conv2d(width, width, kernel_size=3, stride=2, padding=1))
        for _ in range(config.num_blocks):
            layers.append(ResidualBlock(width, wanted, config))
            width = wanted
    return layers


class UNet(nn.Module):
    """Noisy pictures (n, C, S, S), log-SNRs (n,) and classes (n,) -> a prediction for each pixel (n, C, S, S)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, last = config.widths, len(config.widths) - 1
        self.conditioning = Conditioning(widths[0], config.condition_width, config.num_classes)
        pixels = config.channels * config.patch**2  # numbers at one place
        self.input = nn.Conv2d(pixels, widths[0], kernel_size=3, padding=1)

        self.down = way_down(config)
        kept = [widths[0]]  # channels of everything the way up will see again
        for stage, wanted in enumerate(widths):
            kept += [wanted] * (config.num_blocks + (stage < last))
        width = widths[-1]

        self.middle_1 = ResidualBlock(width, width, config)
        self.attention = PictureAttention(width, config)
        self.middle_2 = ResidualBlock(width, width, config)

        self.up = nn.ModuleList()
        for stage, wanted in reversed(list(enumerate(widths))):
            for _ in range(config.num_blocks + 1):
                self.up.append(ResidualBlock(width + kept.pop(), wanted, config))
                width = wanted
            if stage:
                self.up.append(nn.Conv2d(width, width, kernel_size=3, padding=1))

        self.norm = nn.GroupNorm(config.groups, width)
        self.output = zero(nn.Conv2d(width, pixels, kernel_size=3, padding=1))

    def forward(self, x: Tensor, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        check_images(x, self.config.channels, self.config.image_size)
        condition = self.conditioning(log_snr, label)  # (n, condition_width)
        x = self.input(F.pixel_unshuffle(x, self.config.patch))  # (n, widths[0], S / patch, S / patch)
        kept = [x]
        for layer in self.down:
            x = layer(x, condition) if isinstance(layer, ResidualBlock) else layer(x)
            kept.append(x)
        x = self.middle_2(self.attention(self.middle_1(x, condition)), condition)
        for layer in self.up:
            if isinstance(layer, ResidualBlock):
                x = layer(torch.cat([x, kept.pop()], dim=1), condition)
            else:
                x = layer(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return F.pixel_shuffle(self.output(F.silu(self.norm(x))), self.config.patch)


def zero(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """The layer, its weights and biases set to 0."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
