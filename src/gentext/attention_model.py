"""A small network of little but attention: what chapter 12 takes apart.

Two layers are enough for a head that finds what came next the last time (Olsson et al. 2022): the first layer tells
every token what stands before it, the second looks for a token that was told the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gentext.attention import AttentionConfig, MultiHeadAttention, Trace
from gentext.nn import Loss, check_head_mask, check_tokens, next_token_loss, sinusoidal_positions

POSITIONS = ("rotary", "learned", "sinusoidal", "none")


@dataclass(frozen=True, kw_only=True)
class AttentionModelConfig:
    """Shape of a network whose layers are attention.

    Attributes:
        context: tokens it can see.
        mlp_width: hidden units after each attention; 0 for a network of nothing but attention.
        positions: "rotary" in every layer, or "learned" or "sinusoidal" ones added to the tokens, or "none".
        tied: read tokens out by the vectors they are read in with, times √width on the way in (Vaswani et al. 2017,
            section 3.4). To say a token again is then the same small task for all tokens.
        rotary_base: of rotary positions; the slowest hand turns once in 2π · rotary_base tokens.
        near_sighted: deviation for `MultiHeadAttention.start_near_sighted` in the first layer; 0 for biases from 0.
    """

    vocab_size: int
    context: int = 256
    width: int = 128
    num_layers: int = 2
    num_heads: int = 4
    mlp_width: int = 0
    positions: Literal["rotary", "learned", "sinusoidal", "none"] = "rotary"
    tied: bool = False
    rotary_base: float = 10_000.0
    near_sighted: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if min(self.vocab_size, self.context, self.num_layers) < 1 or self.mlp_width < 0:
            raise ValueError(
                "vocab_size, context and num_layers must be at least 1 and mlp_width not negative, got "
                f"{self.vocab_size}, {self.context}, {self.num_layers} and {self.mlp_width}"
            )
        if self.positions not in POSITIONS:
            raise ValueError(f"positions must be one of {', '.join(POSITIONS)}, got {self.positions!r}")
        self.layer(0)  # refuses a width that the heads cannot share

    def layer(self, index: int) -> AttentionConfig:
        return AttentionConfig(
            width=self.width,
            num_heads=self.num_heads,
            dropout=self.dropout,
            context=self.context,
            rotary_base=self.rotary_base if self.positions == "rotary" else None,
            layer=index,
        )


class AttentionLayer(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)) if there is one."""

    def __init__(self, config: AttentionModelConfig, index: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.attention = MultiHeadAttention(config.layer(index))
        self.mlp = None
        if config.mlp_width:
            self.mlp = nn.Sequential(
                nn.LayerNorm(config.width),
                nn.Linear(config.width, config.mlp_width),
                nn.GELU(approximate="tanh"),
                nn.Linear(config.mlp_width, config.width),
            )

    def forward(self, x: Tensor, head_mask: Tensor | None, return_weights: bool) -> tuple[Tensor, Tensor | None]:
        mixed, weights = self.attention(self.norm(x), head_mask=head_mask, return_weights=return_weights)
        x = x + mixed
        return (x if self.mlp is None else x + self.mlp(x)), weights


class AttentionModel(nn.Module):
    """Predicts the next token from those before it."""

    sinusoids: Tensor

    def __init__(self, config: AttentionModelConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.context, config.width)
        if config.positions == "sinusoidal":
            table = sinusoidal_positions(config.context, config.width).float()
            self.register_buffer("sinusoids", table, persistent=False)
        self.layers = nn.ModuleList(AttentionLayer(config, index) for index in range(config.num_layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = None if config.tied else nn.Linear(config.width, config.vocab_size, bias=False)
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Every token of the sum that runs through the layers starts at length one per coordinate or less."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=1.0 if module is self.token_embedding else 0.3)
        if self.config.near_sighted:
            first: Any = self.layers[0]
            first.attention.start_near_sighted(self.config.near_sighted)
        if self.config.tied:
            self.token_embedding.weight /= math.sqrt(self.config.width)

    def forward(self, tokens: Tensor, head_mask: Tensor | None = None) -> Tensor:
        """Logits of the next token: (B, T) -> (B, T, vocab_size). `head_mask` ([B,] layers, H): 0 is a head off."""
        return self.run(tokens, head_mask, return_weights=False)[0]

    def trace(self, tokens: Tensor, head_mask: Tensor | None = None) -> Trace:
        """The logits, and the weights of all heads: tokens (B, T)."""
        logits, weights = self.run(tokens, head_mask, return_weights=True)
        return Trace(logits, torch.stack(weights, dim=1))

    def run(self, tokens: Tensor, head_mask: Tensor | None, return_weights: bool) -> tuple[Tensor, list[Tensor]]:
        config = self.config
        check_tokens(tokens, config.vocab_size, config.context)
        check_head_mask(head_mask, config.num_layers, config.num_heads)
        x = self.token_embedding(tokens) * (math.sqrt(config.width) if config.tied else 1.0)  # (B, T, width)
        if config.positions == "learned":
            x = x + self.position_embedding.weight[: tokens.shape[1]]
        elif config.positions == "sinusoidal":
            x = x + self.sinusoids[: tokens.shape[1]]
        kept: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            x, weights = layer(x, None if head_mask is None else head_mask[..., index, :], return_weights)
            if weights is not None:
                kept.append(weights)
        x = self.norm(x)
        return (F.linear(x, self.token_embedding.weight) if self.head is None else self.head(x)), kept

    def loss(self, batch: tuple[Tensor, ...], *, generator: torch.Generator | None = None) -> Loss:
        """Cross-entropy of the next token in nats per token; batch = (tokens (B, T + 1),)."""
        return next_token_loss(self(batch[0][:, :-1]), batch)
