"""Counting as a language model: n-grams with Witten-Bell smoothing, the line that a network has to beat."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class _Order(NamedTuple):
    """Counts for contexts of one length. A context is known by its place among the sorted grams one shorter."""

    grams: Tensor  # (g,) int64, sorted: context · vocab_size + token
    counts: Tensor  # (g,) how often each gram occurred
    total: Tensor  # (contexts,) how often each context occurred before a token
    distinct: Tensor  # (contexts,) how many different tokens followed it


class NGram:
    """p(token | the order − 1 tokens before it), from counts of all shorter contexts too.

    Each order takes a share from the counts and leaves the rest to the order below (Witten & Bell 1991, method C;
    Chen & Goodman 1999, equation 13):

        p_k(w∣h) = (c(h w) + T(h) p_{k−1}(w∣h')) / (c(h) + T(h)),

    where c counts, T(h) is the number of different tokens seen after h, and h' is h without its first token. A context
    that was followed by many different tokens will be followed by a new one; that is what T(h) says. At the bottom all
    tokens are equally likely, so no token has probability 0. Nothing has to be tuned.

    Args:
        ids: (n,) the tokens of the training text.
        vocab_size: how many tokens there are; ids lie below it.
        order: 1 for single tokens, 2 for pairs, ...

    Raises:
        ValueError: ids that are no row of integers in range, or an order below 1.
    """

    def __init__(self, ids: Tensor, vocab_size: int, order: int) -> None:
        if order < 1 or vocab_size < 1:
            raise ValueError(f"order and vocab_size must be at least 1, got {order} and {vocab_size}")
        self.order, self.vocab_size = order, vocab_size
        ids = self._checked(ids)
        if not len(ids):
            raise ValueError("an n-gram model needs at least one token to count")
        self._orders: list[_Order] = []
        context = torch.zeros_like(ids)  # (n,) the place of the context of each token; −1 where there is none
        for _ in range(order):
            inside = context >= 0
            if not inside.any():
                break  # the training text is no longer than that
            grams, place, counts = torch.unique(
                context[inside] * vocab_size + ids[inside], return_inverse=True, return_counts=True
            )
            contexts = len(self._orders[-1].grams) if self._orders else 1
            before = grams // vocab_size
            zero = torch.zeros(contexts, dtype=torch.int64, device=ids.device)
            total, distinct = zero.index_add(0, before, counts), zero.index_add(0, before, torch.ones_like(counts))
            self._orders.append(_Order(grams, counts, total, distinct))
            ended = torch.full_like(ids, -1)
            ended[inside] = place  # the gram that ends at each token is the next longer context of the token after it
            context = torch.cat([ended.new_full((1,), -1), ended[:-1]])

    def log_prob(self, ids: Tensor) -> Tensor:
        """log p of each token given those before it, nats: (n,) -> (n,) float64. The first ones have shorter contexts.

        Raises ValueError as the constructor does.
        """
        ids = self._checked(ids)
        context = torch.zeros_like(ids)
        p = torch.full(ids.shape, 1 / self.vocab_size, dtype=torch.float64, device=ids.device)
        for order in self._orders:
            p, gram = self._refine(order, context, ids, p)
            context = torch.cat([gram.new_full((1,), -1), gram[:-1]])
        return p.log()

    def cross_entropy(self, ids: Tensor) -> float:
        """−log p per token in nats, averaged over a text (n,)."""
        return -self.log_prob(ids).mean().item()

    def next_token(self, ids: Tensor) -> Tensor:
        """p of every token after the text `ids` (n,), n ≥ 0: (vocab_size,) float64."""
        ids = self._checked(ids)
        tokens = torch.arange(self.vocab_size, device=ids.device)
        p = torch.full((self.vocab_size,), 1 / self.vocab_size, dtype=torch.float64, device=ids.device)
        for length, order in enumerate(self._orders[: len(ids) + 1]):
            context = torch.zeros(1, dtype=torch.int64, device=ids.device)
            for token, shorter in zip(ids[len(ids) - length :], self._orders, strict=False):
                context = _find(shorter.grams, context * self.vocab_size + token)
                if context < 0:
                    return p  # a context that never occurred says no more than its end
            p, _ = self._refine(order, context.expand_as(tokens), tokens, p)
        return p

    def sample(self, num_tokens: int, prompt: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """`prompt` (n,), n ≥ 0, with `num_tokens` more: (n + num_tokens,)."""
        if num_tokens < 0:
            raise ValueError(f"num_tokens must be at least 0, got {num_tokens}")
        ids = self._checked(prompt)
        for _ in range(num_tokens):
            recent = ids[max(0, len(ids) - self.order + 1) :]
            ids = torch.cat([ids, torch.multinomial(self.next_token(recent), 1, generator=generator)])
        return ids

    def _refine(self, order: _Order, context: Tensor, ids: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the recursion for tokens (n,) after contexts (n,): p_k, and the places of the grams or −1."""
        known = context >= 0
        place = context.clamp(min=0)
        gram = torch.where(known, _find(order.grams, place * self.vocab_size + ids), -1)
        count = torch.where(gram >= 0, order.counts[gram.clamp(min=0)], 0)
        total, distinct = order.total[place], order.distinct[place]
        known = known & (total > 0)  # the very last context of the training text was followed by nothing
        refined = (count + distinct * p) / (total + distinct).clamp(min=1)
        return torch.where(known, refined, p), gram

    def _checked(self, ids: Tensor) -> Tensor:
        if ids.ndim != 1 or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise ValueError(f"ids must be integers of shape (n,), got {ids.dtype} of shape {tuple(ids.shape)}")
        if len(ids) and not (0 <= int(ids.min()) and int(ids.max()) < self.vocab_size):
            raise ValueError(f"ids must lie in 0..{self.vocab_size - 1}")
        return ids.long()


def _find(grams: Tensor, wanted: Tensor) -> Tensor:
    """The place of each wanted gram in the sorted ones, or −1."""
    place = torch.searchsorted(grams, wanted).clamp(max=len(grams) - 1)
    return torch.where(grams[place] == wanted, place, -1)
