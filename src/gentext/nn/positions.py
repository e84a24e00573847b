"""Positions for attention, which by itself cannot tell the first token from the last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def angles(length: int, width: int, base: float = 10_000.0) -> Tensor:
    """s · base^(−2i/width) for positions s and pairs i: (length, width / 2), float64 on the CPU.

    One clock hand per pair of coordinates: the first turns by one radian a token, the last hardly at all.

    Raises:
        ValueError: `width` is odd, or a number is not positive.
    """
    if length < 1 or width < 2 or width % 2 or not base > 0:
        raise ValueError(
            f"positions need a length of at least 1, an even width and a positive base, got {length}, {width}, {base}"
        )
    frequency = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)  # (width / 2,)
    return torch.arange(length, dtype=torch.float64)[:, None] * frequency


def sinusoidal_positions(length: int, width: int, base: float = 10_000.0) -> Tensor:
    """Sines in the even columns, cosines in the odd ones (Vaswani et al. 2017, section 3.5): (length, width), float64.

    Moving on by n tokens turns every pair of columns by a fixed angle: a linear map, the same wherever one is.
    """
    angle = angles(length, width, base)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class Rotary(nn.Module):
    """Rotary positions (Su et al. 2021): turn each pair of a query's or key's coordinates by an angle that grows with
    its position. Products of turned queries and keys then depend on the distance between them only.

    Pair i is made of coordinates i and i + head_dim / 2, as in the published LLaMA weights on the Hugging Face hub.

    Args:
        head_dim: width of a head, even.
        context: positions 0..context − 1 are known.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, context: int, base: float = 10_000.0) -> None:
        super().__init__()
        self.head_dim, self.context, self.base = head_dim, context, base
        angles(1, head_dim, base)  # refuses an odd width here, not at the first step
        self.register_buffer("cos", torch.empty(context, head_dim), persistent=False)
        self.register_buffer("sin", torch.empty(context, head_dim), persistent=False)
        self.fill()

    def fill(self) -> None:
        angle = angles(self.context, self.head_dim, self.base).repeat(1, 2)  # (context, head_dim)
        self.cos.copy_(angle.cos())
        self.sin.copy_(angle.sin())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        module = super()._apply(fn, recurse)
        self.fill()  # `model.double()` would keep float32's rounding
        return module

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Turn x (..., tokens, head_dim), whose tokens stand at positions start, start + 1, ..."""
        half = self.head_dim // 2
        stop = start + x.shape[-2]
        turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)  # each pair by a quarter
        return x * self.cos[start:stop] + turned * self.sin[start:stop]
