"""How well a language model knows a text: nats, perplexity, bits per character."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Logits = Callable[[Tensor], Tensor]  # tokens (B, T) -> (B, T, vocab_size)


def perplexity(nats_per_token: float) -> float:
    """e^nats: among how many equally likely tokens the model is as unsure as it is here."""
    return math.exp(nats_per_token)


def bits_per_character(nats: float, num_characters: int) -> float:
    """Bits per character of a text whose −log p is `nats` in all. Unlike perplexity it compares tokenizers."""
    if num_characters < 1:
        raise ValueError(f"num_characters must be at least 1, got {num_characters}")
    return nats / math.log(2) / num_characters


@torch.no_grad()
def stream_nats(model: Logits, tokens: Tensor, context: int, batch_size: int = 64) -> Tensor:
    """−log p in nats of every token of one long text but the first: (n,) -> (n − 1,), float64.

    The text is cut into windows of `context` predictions side by side; the last may be shorter. Each window is read
    from nothing, so tokens near its beginning are judged by little context: the plain way, and the one to compare with.

    Raises:
        ValueError: fewer than two tokens.
    """
    if tokens.ndim != 1 or len(tokens) < 2 or context < 1 or batch_size < 1:
        raise ValueError(f"tokens must be a row of at least two, got shape {tuple(tokens.shape)}")
    whole = (len(tokens) - 1) // context
    nats = []
    inputs, targets = (tokens[i : i + whole * context].view(-1, context) for i in (0, 1))  # (windows, context)
    for x, y in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
        nats.append(F.cross_entropy(model(x).flatten(0, 1).double(), y.flatten(), reduction="none"))
    rest = tokens[whole * context :]
    if len(rest) > 1:
        nats.append(F.cross_entropy(model(rest[None, :-1])[0].double(), rest[1:], reduction="none"))
    return torch.cat(nats)


@torch.no_grad()
def text_nats(model: Logits, texts: Sequence[Sequence[int]], start: int, batch_size: int = 32) -> Tensor:
    """−log p(text) in nats for each of many texts, each read from its beginning: (texts,), float64.

    Args:
        texts: ids of each text, with the token that ends it if the model is to be asked for the end too.
        start: the token that stands before a text; it is read and not predicted.

    Raises:
        ValueError: an empty text.
    """
    if not texts or not all(len(text) for text in texts):
        raise ValueError("text_nats needs at least one text, and at least one token in each")
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # texts of like length together: less padding
    result = torch.zeros(len(texts), dtype=torch.float64)
    device = next(model.parameters()).device if isinstance(model, torch.nn.Module) else None
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        longest = len(texts[chosen[-1]])
        rows = torch.tensor([[start, *texts[i], *[start] * (longest - len(texts[i]))] for i in chosen], device=device)
        lengths = torch.tensor([len(texts[i]) for i in chosen], device=device)
        nats = F.cross_entropy(model(rows[:, :-1]).transpose(1, 2).double(), rows[:, 1:], reduction="none")
        counted = torch.arange(longest, device=device) < lengths[:, None]  # not the padding
        result[chosen] = (nats * counted).sum(1).cpu()
    return result
