"""A small diffusion transformer (Peebles & Xie 2023): patches of a noisy picture as tokens, and one vector, made of
noise level and class, that moves the norms of every block.

Reads from top to bottom: configuration, block, network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gentext.nn.checks import check_images
from gentext.nn.conditioning import Conditioning
from gentext.nn.positions import sinusoidal_positions


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Shape of a diffusion transformer.

    Attributes:
        num_classes: 0 for an unconditional network.
        patch: side of a patch; a token each.
        width: of a token; a multiple of 4, for rows and columns, and of `num_heads`.
        mlp_ratio: hidden units of a block's MLP for each of its inputs.
    """

    image_size: int = 32
    channels: int = 1
    num_classes: int = 0
    patch: int = 4
    width: int = 128
    num_layers: int = 6
    num_heads: int = 4
    mlp_ratio: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if min(self.image_size, self.channels, self.patch, self.num_layers, self.num_heads, self.mlp_ratio) < 1:
            raise ValueError("image_size, channels, patch, num_layers, num_heads and mlp_ratio must be at least 1")
        if self.image_size % self.patch:
            raise ValueError(f"patches of side {self.patch} do not fill images of side {self.image_size}")
        if self.width < 4 or self.width % 4 or self.width % self.num_heads:
            raise ValueError(f"width must be a multiple of 4 and of num_heads, got {self.width} and {self.num_heads}")
        if self.num_classes < 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"num_classes must not be negative and dropout lie in [0, 1), got {self.num_classes}, {self.dropout}"
            )

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (1 + scale) + shift: tokens (n, T, width), moved alike by vectors (n, width)."""
    return x * (1 + scale[:, None]) + shift[:, None]


class DiTBlock(nn.Module):
    """Attention and MLP; the condition moves their norms and weighs their outputs (adaLN-Zero, figure 3)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.norm_1 = nn.LayerNorm(config.width, elementwise_affine=False, eps=1e-6)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.output = nn.Linear(config.width, config.width)
        self.norm_2 = nn.LayerNorm(config.width, elementwise_affine=False, eps=1e-6)
        self.up = nn.Linear(config.width, config.mlp_ratio * config.width)
        self.down = nn.Linear(config.mlp_ratio * config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.modulation = nn.Linear(config.width, 6 * config.width)
        # The "Zero": all six vectors start at 0, so both gates are shut and every block begins as the identity.
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Tokens (n, T, width) and conditions (n, width) -> (n, T, width)."""
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(F.silu(condition)).chunk(6, dim=1)
        x = x + gate_1[:, None] * self.dropout(self.attention(modulate(self.norm_1(x), shift_1, scale_1)))
        h = self.down(F.gelu(self.up(modulate(self.norm_2(x), shift_2, scale_2)), approximate="tanh"))
        return x + gate_2[:, None] * self.dropout(h)

    def attention(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # each (n, heads, T, d)
        return self.output(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class DiT(nn.Module):
    """Noisy pictures (n, C, S, S), log-SNRs (n,) and classes (n,) -> a prediction for each pixel (n, C, S, S)."""

    positions: Tensor

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        width, patch = config.width, config.patch
        self.conditioning = Conditioning(width, width, config.num_classes)
        self.input = nn.Conv2d(config.channels, width, kernel_size=patch, stride=patch)
        # Half of the coordinates tell the row of a patch, half the column.
        place = sinusoidal_positions(config.grid, width // 2)  # (grid, width / 2)
        rows = place[:, None].expand(-1, config.grid, -1)
        columns = place[None].expand(config.grid, -1, -1)
        positions = torch.cat([rows, columns], dim=2).flatten(0, 1).to(torch.get_default_dtype())
        self.register_buffer("positions", positions, persistent=False)  # (tokens, width)
        self.blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, config.channels * patch**2)
        for layer in (self.modulation, self.output):  # the network starts by saying 0
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        config = self.config
        check_images(x, config.channels, config.image_size)
        condition = self.conditioning(log_snr, label)  # (n, width)
        x = self.input(x).flatten(2).transpose(1, 2) + self.positions  # (n, tokens, width)
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.modulation(F.silu(condition)).chunk(2, dim=1)
        x = self.output(modulate(self.norm(x), shift, scale))  # (n, tokens, C patch²)
        x = x.unflatten(2, (config.channels, config.patch, config.patch))  # (n, tokens, C, patch, patch)
        x = x.unflatten(1, (config.grid, config.grid)).permute(0, 3, 1, 4, 2, 5)  # (n, C, grid, patch, grid, patch)
        return x.reshape(-1, config.channels, config.image_size, config.image_size)
