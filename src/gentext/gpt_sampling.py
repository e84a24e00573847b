"""Which tokens a language model may say next, chapter 15: filters of its distribution.

A filter takes logits (..., V) and sets those of tokens that shall not be drawn to −∞; what is left is renormalised by
the softmax. Each has a value that does nothing, and is skipped at it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Only the k most probable tokens (Fan et al. 2018), and those tied with the last of them."""
    if k < 1:
        raise ValueError(f"top_k must be at least 1, got {k}")
    if k >= logits.shape[-1]:
        return logits
    least = logits.topk(k, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """The nucleus: the fewest most probable tokens whose probabilities sum to p or more (Holtzman et al. 2020).

    Among equals the smaller id goes first. The most probable token always stays.
    """
    if not 0 < p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], got {p}")
    if p == 1:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities  # what the more probable ones sum to
    drop = before >= p
    drop[..., 0] = False
    return logits.masked_fill(torch.zeros_like(drop).scatter(-1, order, drop), -math.inf)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Only tokens at least p times as probable as the most probable one (Nguyen et al. 2024)."""
    if not 0 <= p <= 1:
        raise ValueError(f"min_p must lie in [0, 1], got {p}")
    if p == 0:
        return logits
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(p), -math.inf)


def penalise_repetition(logits: Tensor, previous: Tensor, penalty: float) -> Tensor:
    """Make tokens that were there before less likely: their positive logits are divided by the penalty, their negative
    ones multiplied with it (Keskar et al. 2019, section 4.1).

    Args:
        logits: (B, V).
        previous: (B, T) the text so far.
    """
    if not 0 < penalty < math.inf:
        raise ValueError(f"repetition_penalty must be positive, 1 for none, got {penalty}")
    if penalty == 1:
        return logits
    found = logits.gather(1, previous)  # (B, T)
    return logits.scatter(1, previous, torch.where(found > 0, found / penalty, found * penalty))


def next_token_probabilities(
    logits: Tensor,
    previous: Tensor | None = None,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
) -> Tensor:
    """The distribution that the next token is drawn from: logits (B, V) -> probabilities (B, V).

    In this order: repetition penalty, temperature, top-k, top-p, min-p. Temperature 0 puts all on the most probable
    token (the first of equals), whatever the other filters say.

    Args:
        previous: (B, T) the text so far; needed by the repetition penalty only.

    Raises:
        ValueError: a setting out of its range.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be a number of at least 0, got {temperature}")
    if repetition_penalty != 1:
        if previous is None:
            raise ValueError("a repetition penalty needs the text so far")
        logits = penalise_repetition(logits, previous, repetition_penalty)
    if temperature == 0:
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.zeros_like(logits).scatter(-1, best, 1.0)
    logits = logits / temperature
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    logits = keep_min_p(keep_top_p(logits, top_p), min_p)
    return logits.softmax(dim=-1)


def draw(probabilities: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One token for each row of probabilities (B, V), drawn independently: (B,)."""
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]
