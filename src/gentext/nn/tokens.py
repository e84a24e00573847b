"""What networks that predict the next token share: checks at the door, and the loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gentext.nn.loss import Loss


def check_tokens(tokens: Tensor, vocab_size: int, context: int, start: int = 0) -> Tensor:
    """Return `tokens` if they are ids (B, T) that fit after `start` earlier ones, else raise ValueError."""
    if tokens.ndim != 2 or tokens.is_floating_point():
        raise ValueError(
            f"tokens must be whole numbers of shape (batch, tokens), got {tuple(tokens.shape)} of {tokens.dtype}"
            + ("; add the batch dimension with tokens[None]" if tokens.ndim == 1 else "")
        )
    if start + tokens.shape[1] > context:
        before = f" after {start} in the cache" if start else ""
        raise ValueError(f"the model sees at most {context} tokens, got {tokens.shape[1]}{before}: cut the text")
    # Asking a GPU for the largest id would make it wait; there an id out of range fails in the embedding.
    if tokens.device.type == "cpu" and tokens.numel() and not torch.compiler.is_compiling():
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= vocab_size:
            raise ValueError(f"tokens must lie in 0..{vocab_size - 1}, got {low}..{high}: was another tokenizer used?")
    return tokens


def check_head_mask(head_mask: Tensor | None, num_layers: int, num_heads: int) -> None:
    """Raise ValueError unless the mask is None, (layers, heads) or (batch, layers, heads)."""
    if head_mask is not None and (head_mask.ndim not in (2, 3) or head_mask.shape[-2:] != (num_layers, num_heads)):
        raise ValueError(f"head_mask must have shape ({num_layers}, {num_heads}), got {tuple(head_mask.shape)}")


def next_token_loss(logits: Tensor, batch: tuple[Tensor, ...]) -> Loss:
    """Mean cross-entropy of the tokens that come next, in nats per token.

    Args:
        logits: (B, T, vocab_size), of tokens 1..T given those before.
        batch: (tokens (B, T + 1),), or with a second tensor (B, T + 1) of True and False: which tokens are to be
            predicted (the answers of a conversation, say). Without one, all but the first.

    Raises:
        ValueError: shapes do not match, or no token is to be predicted.
    """
    tokens, *rest = batch
    if rest:
        counted = rest[0]
        if counted.shape != tokens.shape or counted.dtype != torch.bool:
            raise ValueError(
                f"the mask of a batch must be bool of shape {tuple(tokens.shape)}, got {tuple(counted.shape)} of "
                f"{counted.dtype}"
            )
        counted = counted[:, 1:]
        if not bool(counted.any()):
            raise ValueError("the mask leaves no token to predict in this batch: was the answer cut off?")
        total = F.cross_entropy(logits[counted], tokens[:, 1:][counted])
    else:
        total = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    return Loss(total, {"cross_entropy": total.detach()})
