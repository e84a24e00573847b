"""Attention (Bahdanau et al. 2015; Vaswani et al. 2017), chapter 12.

Every token asks a question (query), every token offers a topic (key) and a content (value):

    output = softmax(Q Kᵀ / √d_k) V.

Reads from top to bottom: masks, attention written out, the same without the table of weights, several heads, and what
the heads of a trained network do, as numbers. `gentext.attention_model` is a small network made of little else.
Shapes: B texts, H heads, T queries, S keys, d_k wide.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gentext.nn import Linear, Rotary

# ---- attention -------------------------------------------------------------------------------------------------------


def causal_mask(queries: int, keys: int, device: torch.device | str | None = None) -> Tensor:
    """Who may look where, (T, S) of True and False: no token sees a later one.

    Fewer queries than keys are the last ones: the keys before them come from a cache.
    """
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention, written out (Vaswani et al. 2017, equation 1).

    Args:
        q: (B, H, T, d_k).
        k, v: (B, H_kv, S, d_k) and (B, H_kv, S, d_v). H is a multiple of H_kv: each key and value head serves H / H_kv
            queries in a row (grouped queries, Ainslie et al. 2023).
        mask: broadcasts to (B, H, T, S); True where a query may look, or numbers that are added to the scores.
        causal: no query sees a later key (`causal_mask`).
        scale: of the scores; 1 / √d_k if None.
        dropout: share of the weights that is dropped; draws from torch's global generator, as every dropout does.

    Returns:
        the output (B, H, T, d_v), and the weights (B, H, T, S): each row sums to 1, or to 0 if it may look nowhere.

    Raises:
        ValueError: shapes that do not go together.
    """
    k, v = check_heads(q, k, v)
    scores = q @ k.transpose(-2, -1) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)  # (B, H, T, S)
    if causal:
        scores = scores.masked_fill(~causal_mask(q.shape[-2], k.shape[-2], q.device), -math.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    weights = scores.softmax(dim=-1)
    if mask is not None:  # a row of −∞ has the softmax 0/0
        weights = weights.masked_fill((scores == -math.inf).all(-1, keepdim=True), 0.0)
    if dropout:
        weights = F.dropout(weights, dropout)
    return weights @ v, weights


def fast_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """The output of `attention` alone, by torch's fused kernel: it never holds the table of weights."""
    k, v = check_heads(q, k, v)
    queries, keys = q.shape[-2], k.shape[-2]
    if causal and queries == 1:
        causal = False  # the last token sees all
    if causal and (mask is not None or queries != keys):  # the kernel's own causal mask counts from the first key
        allowed = causal_mask(queries, keys, q.device)
        if mask is None:
            mask = allowed
        else:
            mask = mask & allowed if mask.dtype == torch.bool else mask.masked_fill(~allowed, -math.inf)
        causal = False
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale)


def prefers_written_out(q: Tensor, k: Tensor) -> bool:
    """Whether `attention` is the faster of the two: for short texts in bf16 on a CPU with tiles for it (AMX)."""
    return q.device.type == "cpu" and q.dtype == torch.bfloat16 and k.shape[2] <= 256 and has_bf16_tiles()


@functools.cache
def has_bf16_tiles() -> bool:
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def check_heads(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values with as many heads as the queries, repeated if need be; ValueError if they do not go together."""
    if q.ndim != 4 or k.ndim != 4 or v.ndim != 4:
        raise ValueError(
            "queries, keys and values must have shape (batch, heads, tokens, head_dim), got "
            f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
    if k.shape[:3] != v.shape[:3] or q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3] or q.shape[1] % k.shape[1]:
        raise ValueError(
            "keys and values must match each other and the queries (same batch and head_dim, heads a divisor), got "
            f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
    group = q.shape[1] // k.shape[1]
    return (k, v) if group == 1 else (k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1))


def online_softmax_attention(q: Tensor, k: Tensor, v: Tensor, *, block: int = 16) -> Tensor:
    """Attention a block of keys at a time, never holding a row of weights (Milakov & Gimelshein 2018; Dao et al. 2022).

    The running maximum m, sum and output are those of the softmax over the keys seen so far. A larger maximum shrinks
    what was summed under the old one by e^(m_old − m_new).

    Args:
        q, k, v: (B, H, T, d_k), (B, H, S, d_k) and (B, H, S, d_v).
    """
    m = q.new_full((*q.shape[:-1], 1), -math.inf)  # (B, H, T, 1)
    total, output = torch.zeros_like(m), q.new_zeros((*q.shape[:-1], v.shape[-1]))
    for keys, values in zip(k.split(block, dim=-2), v.split(block, dim=-2), strict=True):
        scores = q @ keys.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, block)
        new_m = torch.maximum(m, scores.amax(-1, keepdim=True))
        weights, shrink = (scores - new_m).exp(), (m - new_m).exp()
        total = shrink * total + weights.sum(-1, keepdim=True)
        output = shrink * output + weights @ values
        m = new_m
    return output / total


# ---- several heads ---------------------------------------------------------------------------------------------------


class KeyValueStore(Protocol):
    """What a layer needs of a cache: how many tokens it holds, and a way to add keys and values and get all back."""

    @property
    def position(self) -> int: ...

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Shape of a layer of attention.

    Attributes:
        num_kv_heads: heads of keys and values; None for as many as there are queries, 1 is "multi-query".
        causal: no token sees a later one.
        context, rotary_base: with a base the layer turns queries and keys by their positions 0..context − 1 (`Rotary`).
        layer: the layer's number in its network, under which a cache keeps its keys and values.
    """

    width: int
    num_heads: int
    num_kv_heads: int | None = None
    causal: bool = True
    bias: bool = True
    dropout: float = 0.0
    context: int = 1024
    rotary_base: float | None = None
    layer: int = 0

    def __post_init__(self) -> None:
        if self.width < 1 or self.num_heads < 1 or self.width % self.num_heads:
            raise ValueError(f"width must be a positive multiple of num_heads, got {self.width} and {self.num_heads}")
        if self.kv_heads < 1 or self.num_heads % self.kv_heads:
            raise ValueError(f"num_kv_heads must divide num_heads, got {self.num_kv_heads} and {self.num_heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")

    @property
    def kv_heads(self) -> int:
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def head_dim(self) -> int:
        return self.width // self.num_heads


class MultiHeadAttention(nn.Module):
    """H attentions side by side, each in its own d_k = width / H coordinates (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.config = config
        # One product for queries, keys and values: three small ones would take longer.
        self.sizes = (config.width, config.kv_heads * config.head_dim, config.kv_heads * config.head_dim)
        self.query_key_value = Linear(config.width, sum(self.sizes), bias=config.bias)
        self.output = Linear(config.width, config.width, bias=config.bias)
        self.rotary = Rotary(config.head_dim, config.context, config.rotary_base) if config.rotary_base else None

    @torch.no_grad()
    def start_near_sighted(self, std: float, generator: torch.Generator | None = None) -> None:
        """Draw the key biases with this deviation, and let each query's bias start equal to its key's.

        Turned apart by rotary positions, their product is largest at distance 0: the heads begin by looking at the last
        few tokens. From biases that are 0 no gradient leads there.
        """
        if self.rotary is None or not self.config.bias:
            raise ValueError("only a layer with biases and rotary positions can start near-sighted")
        query, key, _ = self.query_key_value.bias.split(self.sizes)
        key.normal_(std=std, generator=generator)
        groups = self.config.num_heads // self.config.kv_heads
        query.copy_(key.unflatten(0, (-1, self.config.head_dim)).repeat_interleave(groups, 0).flatten())

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        cache: KeyValueStore | None = None,
        head_mask: Tensor | None = None,
        return_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Mix information between tokens: x (B, T, width) -> (B, T, width), and the weights (B, H, T, S) if asked for.

        Args:
            context: (B, S, width), where keys and values come from (cross attention); x itself if None.
            mask: as for `attention`.
            cache: keys and values of the tokens before x.
            head_mask: (H,) or (B, H) factors for the heads' outputs: 0 switches a head off.
        """
        config = self.config
        if x.ndim != 3 or x.shape[2] != config.width:
            raise ValueError(f"x must have shape (batch, tokens, {config.width}), got {tuple(x.shape)}")
        q, k, v = (self.heads(part) for part in self.project(x, context))  # (B, H or H_kv, T or S, d_k)
        start = 0 if cache is None else cache.position
        if self.rotary is not None:
            if start + x.shape[1] > config.context:
                raise ValueError(f"rotary positions go up to {config.context}, token {start + x.shape[1]} was given")
            q, k = self.rotary(q, start), self.rotary(k, start)
        if cache is not None:
            k, v = cache.extend(config.layer, k, v)
        dropout = config.dropout if self.training else 0.0
        weights = None
        if return_weights or prefers_written_out(q, k):
            mixed, weights = attention(q, k, v, mask=mask, causal=config.causal, dropout=dropout)
        else:
            mixed = fast_attention(q, k, v, mask=mask, causal=config.causal, dropout=dropout)
        if head_mask is not None:
            mixed = mixed * head_mask.to(mixed.dtype)[..., None, None]
        return self.output(mixed.transpose(1, 2).flatten(2)), weights if return_weights else None

    def project(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, ...]:
        """Queries of x, keys and values of `context`: (B, T, width) and twice (B, S, H_kv · d_k)."""
        if context is None:
            return self.query_key_value(x).split(self.sizes, dim=-1)
        if self.config.causal or self.rotary is not None:
            raise ValueError("cross attention needs causal=False and no rotary_base: two texts share no positions")
        weight, bias, width = self.query_key_value.weight, self.query_key_value.bias, self.config.width
        q = F.linear(x, weight[:width], None if bias is None else bias[:width])
        k, v = F.linear(context, weight[width:], None if bias is None else bias[width:]).chunk(2, dim=-1)
        return q, k, v

    def heads(self, x: Tensor) -> Tensor:
        """(B, T, heads · d_k) -> (B, heads, T, d_k)."""
        return x.unflatten(2, (-1, self.config.head_dim)).transpose(1, 2)


@dataclass(frozen=True)
class Trace:
    """What a network did on the way.

    Attributes:
        logits: (B, T, vocab_size).
        weights: (B, layers, H, T, T), rows of queries, columns of keys.
    """

    logits: Tensor
    weights: Tensor


# ---- what heads do ---------------------------------------------------------------------------------------------------


def attention_mass(weights: Tensor, targets: Tensor) -> Tensor:
    """How much of its attention each head pays to the targets: the mean over all queries that have one.

    Args:
        weights: (B, ..., T, T), e.g. (B, layers, H, T, T).
        targets: (B, T, T), True where key s is a target of query t.

    Returns:
        (...) in 0..1, e.g. (layers, H). `uniform_mass` is what a head gets that looks everywhere alike.

    Raises:
        ValueError: shapes do not match, or no query has a target.
    """
    if targets.ndim != 3 or weights.ndim < 3 or weights.shape[:1] + weights.shape[-2:] != targets.shape:
        raise ValueError(
            f"targets must have shape (B, T, T) for weights (B, ..., T, T), got {tuple(targets.shape)} and "
            f"{tuple(weights.shape)}"
        )
    counted = targets.any(-1)  # (B, T)
    if not bool(counted.any()):
        raise ValueError("no query has a target here: give longer texts, or such that repeat themselves")
    between = [1] * (weights.ndim - 3)
    mass = (weights * targets.view(len(targets), *between, *targets.shape[1:])).sum(-1)  # (B, ..., T)
    total = (mass * counted.view(len(counted), *between, -1)).movedim(-1, 1).flatten(0, 1).sum(0)
    return total / counted.sum()


def uniform_mass(targets: Tensor) -> float:
    """`attention_mass` of a causal head that looks at every token up to its own alike: what is no finding."""
    tokens = targets.shape[-1]
    looks = causal_mask(tokens, tokens, targets.device) / torch.arange(1, tokens + 1, device=targets.device)[:, None]
    return float(attention_mass(looks.expand(len(targets), 1, -1, -1), targets)[0])


def previous_token_targets(tokens: Tensor) -> Tensor:
    """Query t has the target t − 1: (B, T) -> (B, T, T)."""
    length = tokens.shape[1]
    return torch.ones(length, length, device=tokens.device).tril(-1).triu(-1).bool().expand(len(tokens), -1, -1)


def induction_targets(tokens: Tensor) -> Tensor:
    """Query t has as targets the tokens that came after earlier copies of token t: (B, T) -> (B, T, T).

    In "... A B ... A" the last A should look at B, since B came next the last time (Olsson et al. 2022).
    """
    earlier = (tokens[:, :, None] == tokens[:, None, :]).tril(-1)  # (B, t, s): token s is the same, and before t
    return F.pad(earlier[:, :, :-1], (1, 0))  # what came after s


def repeated_tokens(choices: Tensor, count: int, length: int, generator: torch.Generator) -> Tensor:
    """Rows that say the same random tokens twice, (count, 2 · length): only copying can foresee the second half.

    Args:
        choices: (m,) tokens to draw from; the more, the rarer a token returns by chance.
    """
    chosen = torch.randint(len(choices), (count, length), generator=generator, device=generator.device)
    return choices.to(generator.device)[chosen].repeat(1, 2)


def same_name_targets(names: Tensor) -> Tensor:
    """To predict a name that was mentioned before, look there: targets of names (B, T) -> (B, T, T).

    Args:
        names: the number of the name that token t belongs to, 0 for none.

    A query counts if the *next* token belongs to a name with an earlier mention; its targets are all tokens of that
    name's earlier mentions. Tokens of one name in a row are one mention.
    """
    mention = F.pad((names[:, 1:] != names[:, :-1]).long().cumsum(1), (1, 0))  # (B, T), numbered from the left
    name, number = names.roll(-1, 1), mention.roll(-1, 1)  # of the next token
    same = (name[:, :, None] == names[:, None, :]) & (name[:, :, None] > 0)
    targets = same & (mention[:, None, :] < number[:, :, None])
    targets[:, -1] = False  # nothing comes next
    return targets
