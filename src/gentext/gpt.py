"""GPT (Radford et al. 2019; Touvron et al. 2023), chapter 15: predict the next token, in two forms.

                    GPT-2                     LLaMA
    norm            layer norm                root mean square
    positions       learned, added once       rotary, in every layer
    MLP             GELU, 4 × width           SwiGLU, 8/3 × width
    heads           keys as many as queries   keys may be shared
    bias, tied      yes, yes                  no, no

Reads from top to bottom: configuration, cache, MLP and block, network, initialisation, objective, sampler.
`gentext.gpt_sampling` has the filters of the sampler, `gentext.gpt_pretrained` reads published weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gentext.attention import AttentionConfig, MultiHeadAttention, Trace
from gentext.gpt_sampling import draw, next_token_probabilities
from gentext.nn import Linear, Loss, RMSNorm, check_head_mask, check_tokens, next_token_loss


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """Shape of a GPT.

    Attributes:
        context: tokens it can see.
        num_kv_heads: heads of keys and values; None for as many as there are queries.
        mlp_width: hidden units of the MLP; None for 4 × width ("gelu") or 8/3 × width rounded up to eights ("swiglu"),
            which takes as many weights in three matrices as the other in two.
        tied: the matrix that reads tokens in also reads them out.
        init_std: standard deviation of the initial weights (`GPT.initialise`).
        embedding_std: of the vectors that tokens are read in with; `init_std` if None. As long as what the blocks add
            to them, tokens stay audible from the first step on, and heads that copy form early.
        near_sighted: deviation for `MultiHeadAttention.start_near_sighted` in the first block; 0 for biases from 0.
    """

    vocab_size: int
    context: int = 256
    num_layers: int = 4
    num_heads: int = 4
    num_kv_heads: int | None = None
    width: int = 128
    mlp_width: int | None = None
    norm: Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-5
    activation: Literal["gelu", "swiglu"] = "gelu"
    positions: Literal["learned", "rotary"] = "learned"
    rotary_base: float = 10_000.0
    bias: bool = True
    tied: bool = True
    dropout: float = 0.0
    init_std: float = 0.02
    embedding_std: float | None = None
    near_sighted: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed in (
            ("norm", ("layer", "rms")),
            ("activation", ("gelu", "swiglu")),
            ("positions", ("learned", "rotary")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if min(self.vocab_size, self.context, self.num_layers, self.hidden) < 1:
            raise ValueError(
                "vocab_size, context, num_layers and mlp_width must be at least 1, got "
                f"{self.vocab_size}, {self.context}, {self.num_layers} and {self.mlp_width}"
            )
        positive = {name: getattr(self, name) for name in ("norm_eps", "rotary_base", "init_std", "embedding_std")}
        if not all(value is None or value > 0 for value in positive.values()):
            raise ValueError(f"{', '.join(positive)} must be positive, got {', '.join(map(str, positive.values()))}")
        if self.tied and self.embedding_std is not None:
            raise ValueError("embedding_std needs tied=False: tied vectors are read out as they are read in")
        if self.near_sighted < 0 or (self.near_sighted and not (self.bias and self.positions == "rotary")):
            raise ValueError(
                f"near_sighted must not be negative and needs biases and rotary positions, got {self.near_sighted}"
            )
        layer = self.layer(0)  # refuses heads that do not fit
        if self.positions == "rotary" and layer.head_dim % 2:
            raise ValueError(f"rotary positions need an even width of the heads, got {layer.head_dim}")

    @classmethod
    def gpt2(cls, vocab_size: int, **changes: Any) -> GPTConfig:
        """GPT-2's form; any attribute may be changed by name."""
        return cls(vocab_size=vocab_size, **changes)

    @classmethod
    def llama(cls, vocab_size: int, **changes: Any) -> GPTConfig:
        """LLaMA's form; any attribute may be changed by name."""
        form = {"norm": "rms", "activation": "swiglu", "positions": "rotary", "bias": False, "tied": False}
        return cls(**{"vocab_size": vocab_size, **form, **changes})

    @property
    def hidden(self) -> int:
        """Hidden units of the MLP."""
        if self.mlp_width is not None:
            return self.mlp_width
        return 4 * self.width if self.activation == "gelu" else 8 * math.ceil(self.width / 3)

    def layer(self, index: int) -> AttentionConfig:
        return AttentionConfig(
            width=self.width,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            bias=self.bias,
            dropout=self.dropout,
            context=self.context,
            rotary_base=self.rotary_base if self.positions == "rotary" else None,
            layer=index,
        )


class Cache:
    """Keys and values of the tokens that a GPT has read, so that each token is read once.

    All of the memory is taken at the start. How many tokens it holds stands here and not in the model: two texts can be
    read by turns. `position` may be set back to forget the last tokens. A full cache refuses more tokens;
    `generate` says what it does then.

    Attributes:
        keys, values: (layers, B, H_kv, capacity, d_k); after `position` there is nothing yet.
        position: tokens read.
    """

    def __init__(
        self,
        config: GPTConfig,
        batch_size: int = 1,
        capacity: int | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """A cache for `batch_size` texts of at most `capacity` tokens (the model's context if None)."""
        capacity = config.context if capacity is None else capacity
        if batch_size < 1 or not 1 <= capacity <= config.context:
            raise ValueError(
                f"a cache needs a batch_size of at least 1 and a capacity in 1..{config.context}, the model's context, "
                f"got {batch_size} and {capacity}"
            )
        layer = config.layer(0)
        shape = (config.num_layers, batch_size, layer.kv_heads, capacity, layer.head_dim)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)
        self.position = 0

    @property
    def batch_size(self) -> int:
        return self.keys.shape[1]

    @property
    def capacity(self) -> int:
        return self.keys.shape[3]

    def check(self, batch_size: int, num_tokens: int) -> None:
        """Raise ValueError unless so many tokens of so many texts may come next."""
        if batch_size != self.batch_size:
            raise ValueError(f"the cache is for {self.batch_size} texts at a time, got {batch_size}")
        if self.position + num_tokens > self.capacity:
            raise ValueError(
                f"the cache holds at most {self.capacity} tokens and has {self.position}, got {num_tokens} more: "
                "start a new one with the end of the text"
            )

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put keys and values (B, H_kv, T, d_k) at `position` and return all up to them: (B, H_kv, position + T, d_k).

        `position` stays: the model moves it on when all layers are done.
        """
        stop = self.position + k.shape[2]
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, self.position : stop] = k
        values[:, :, self.position : stop] = v
        return keys[:, :, :stop], values[:, :, :stop]


class MLP(nn.Module):
    """What each token does by itself: two matrices around a GELU, or SwiGLU's three (Shazeer 2020)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.gated = config.activation == "swiglu"
        # With a gate, two matrices in one product: the first half is the gate.
        self.up = Linear(config.width, config.hidden * (2 if self.gated else 1), bias=config.bias)
        self.output = Linear(config.hidden, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) -> (B, T, width)."""
        if self.gated:
            gate, h = self.up(x).chunk(2, dim=-1)  # (B, T, hidden)
            return self.output(F.silu(gate) * h)
        return self.output(F.gelu(self.up(x), approximate="tanh"))


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)): the sum itself is never normalised on its way up."""

    def __init__(self, config: GPTConfig, index: int) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = MultiHeadAttention(config.layer(index))
        self.mlp_norm = make_norm(config)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, cache: Cache | None, head_mask: Tensor | None, return_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        mixed, weights = self.attention(
            self.attention_norm(x), cache=cache, head_mask=head_mask, return_weights=return_weights
        )
        x = x + self.dropout(mixed)
        return x + self.dropout(self.mlp(self.mlp_norm(x))), weights


def make_norm(config: GPTConfig) -> nn.Module:
    if config.norm == "rms":
        return RMSNorm(config.width, config.norm_eps)
    return nn.LayerNorm(config.width, config.norm_eps, bias=config.bias)


class GPT(nn.Module):
    """A decoder-only Transformer."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Embedding(config.context, config.width) if config.positions == "learned" else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.num_layers))
        self.norm = make_norm(config)
        self.head = Linear(config.width, config.vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.token_embedding.weight
        self.initialise()

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """All initial weights, in one place (Radford et al. 2019, section 2.3).

        Matrices and embeddings: normal with `init_std`; biases 0, gains of norms 1. The two matrices of a block that
        write into the running sum are smaller by √(2 layers): that many terms are added up, and the sum keeps its size.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.normal_(std=self.config.init_std, generator=generator)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()
        if self.config.embedding_std is not None:
            self.token_embedding.weight.normal_(std=self.config.embedding_std, generator=generator)
        for block in self.blocks:
            for output in (block.attention.output, block.mlp.output):  # type: ignore[union-attr]
                std = self.config.init_std / math.sqrt(2 * self.config.num_layers)
                output.weight.normal_(std=std, generator=generator)  # type: ignore[union-attr, operator]
        if self.config.near_sighted:
            self.blocks[0].attention.start_near_sighted(self.config.near_sighted, generator)  # type: ignore[union-attr, operator]

    @property
    def num_params(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    # ---- network -------------------------------------------------------------------------------------------------

    def forward(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        *,
        head_mask: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Logits of the next token, at every place: (B, T) -> (B, T, vocab_size).

        Args:
            cache: what was read before; the tokens are put into it.
            head_mask: (layers, H) or (B, layers, H) factors for the heads' outputs: 0 switches a head off.
            last_only: only the logits after the last token, (B, 1, vocab_size).

        Raises:
            ValueError: ids outside the vocabulary, more tokens than the context or the cache holds, wrong shapes.
        """
        x, _ = self.run(tokens, cache, head_mask, return_weights=False)
        return self.head(self.norm(x[:, -1:] if last_only else x))

    def trace(self, tokens: Tensor, *, head_mask: Tensor | None = None) -> Trace:
        """The logits, and the attention weights of all heads: tokens (B, T)."""
        x, weights = self.run(tokens, None, head_mask, return_weights=True)
        return Trace(self.head(self.norm(x)), torch.stack(weights, dim=1))

    def run(
        self, tokens: Tensor, cache: Cache | None, head_mask: Tensor | None, return_weights: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """The sum after the last block (B, T, width), and each block's attention weights if asked for."""
        config = self.config
        start = 0 if cache is None else cache.position
        check_tokens(tokens, config.vocab_size, config.context, start)
        if cache is not None:
            cache.check(*tokens.shape)
        check_head_mask(head_mask, config.num_layers, config.num_heads)
        x = self.token_embedding(tokens)  # (B, T, width)
        if self.position_embedding is not None:
            x = x + self.position_embedding.weight[start : start + tokens.shape[1]]
        x = self.dropout(x)
        kept: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x, weights = block(x, cache, None if head_mask is None else head_mask[..., index, :], return_weights)
            if weights is not None:
                kept.append(weights)
        if cache is not None:
            cache.position += tokens.shape[1]
        return x, kept

    def new_cache(self, batch_size: int = 1, capacity: int | None = None) -> Cache:
        """An empty cache on the model's device, in its dtype."""
        weight = self.token_embedding.weight
        return Cache(self.config, batch_size, capacity, device=weight.device, dtype=weight.dtype)

    # ---- objective -----------------------------------------------------------------------------------------------

    def loss(self, batch: tuple[Tensor, ...], *, generator: torch.Generator | None = None) -> Loss:
        """Cross-entropy of the next token in nats per token; batch = (tokens (B, T + 1),), or with a mask of them.

        A mask (B, T + 1) says which tokens are to be predicted: see `gentext.nn.next_token_loss`.
        """
        return next_token_loss(self(batch[0][:, :-1]), batch)


# ---- sampler ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def generate(
    model: GPT,
    prompt: Tensor,
    num_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    generator: torch.Generator | None = None,
    stop: Sequence[int] | int = (),
    on_token: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Continue each text of a prompt by up to `num_tokens` tokens: (B, T) -> (B, T + n), n ≤ `num_tokens`.

    Every row draws its own tokens. The same seed draws the same text. A cache holds what was read; when it is full, the
    newer half of the context is read again from position 0 and the rest is forgotten, so that a text can be longer than
    the model sees. A prompt longer than the context is refused.

    Args:
        temperature, top_k, top_p, min_p, repetition_penalty: as for `next_token_probabilities`.
        generator: on the device where the prompt is, for a temperature above 0.
        stop: tokens that end a row. It is filled up with that token until all rows have ended; then n is smaller.
        on_token: called with the tokens (B,) of each step, to show text as it comes.

    Raises:
        ValueError: a setting or the prompt is out of range.
    """
    if num_tokens < 0:
        raise ValueError(f"num_tokens must not be negative, got {num_tokens}")
    if prompt.ndim != 2 or 0 in prompt.shape:
        raise ValueError(
            f"the prompt must have shape (batch, tokens) with at least one token, got {tuple(prompt.shape)}"
        )
    settings: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    settings["repetition_penalty"] = repetition_penalty
    ends = torch.tensor([stop] if isinstance(stop, int) else list(stop), device=prompt.device, dtype=prompt.dtype)
    batch, length = prompt.shape
    text = torch.cat([prompt, prompt.new_zeros(batch, num_tokens)], dim=1)  # (B, T + num_tokens)
    ended = torch.zeros(batch, dtype=torch.bool, device=prompt.device)
    was_training = model.training
    model.eval()
    try:
        cache = model.new_cache(batch, min(model.config.context, length + num_tokens))
        unread = prompt
        for place in range(length, length + num_tokens):
            logits = read(model, unread, text[:, :place], cache)
            probabilities = next_token_probabilities(logits, text[:, :place], **settings)
            token = probabilities.argmax(-1) if temperature == 0 else draw(probabilities, generator)
            if len(ends):
                token = torch.where(ended, text[:, place - 1], token)
                ended = ended | torch.isin(token, ends)
            text[:, place] = token
            unread = token[:, None]
            if on_token is not None:
                on_token(token)
            if len(ends) and bool(ended.all()):
                return text[:, : place + 1]
    finally:
        model.train(was_training)
    return text


def read(model: GPT, unread: Tensor, text: Tensor, cache: Cache) -> Tensor:
    """Logits (B, V) after the text (B, T), of which `unread` is the end that is not in the cache yet."""
    if cache.position and cache.position + unread.shape[1] > cache.capacity:
        cache.position = 0
        unread = text[:, -max(1, model.config.context // 2) :]
    logits = model(unread, cache, last_only=True)[:, -1]
    return logits if logits.dtype == torch.float64 else logits.float()
