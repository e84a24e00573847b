"""`NextTokenExplorer` (chapter 15): a prompt of the reader's own, what may come next, and ways to go on.

The page keeps the keys and values (the cache); the network reads some tokens after those that the cache holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from gentext import data, plots, zoo
from gentext.attention import attention
from gentext.gpt import GPT
from gentext.gpt_sampling import next_token_probabilities
from gentext.live import posters, protocol, tokens
from gentext.live.base import Computed, Contents, LiveFigure
from gentext.live.network import Network
from gentext.tokenizer import END_OF_TEXT, BytePairTokenizer, CharTokenizer
from gentext.train.lessons import inscriptions_tokenizer

ZOO_MODEL = "gpt-inscriptions"
SHOWN = 10  # candidates in the list
TOP_K = (1, 2, 3, 5, 8, 13, 20, 50, 100, 200, 500)
CHUNK = 64  # tokens that are read in one call
ALT = (
    "The beginning of an inscription, and the ten tokens that a language model finds most likely to come next, as "
    "bars. A few tokens share most of the probability, and the hundreds of others share the rest."
)


class StepNetwork(nn.Module):
    """A GPT that reads T tokens after those whose keys and values it is given.

    tokens, positions (B, T), keys and values (B, layers, H_kv, 1 + P, d_k) -> logits after the last token (B, V), the
    keys and values of the T tokens (B, layers, H_kv, T, d_k), and all attention weights (B, layers, H, T, 1 + P + T).
    The first of the keys is a place holder, so that the arrays are never empty: nobody looks at it.
    """

    model: Any

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, positions: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        model, place = self.model, positions.long()
        x = model.token_embedding(tokens.long())  # (B, T, width)
        if model.position_embedding is not None:
            x = x + model.position_embedding.weight[place]
        past, new = keys.shape[3], tokens.shape[1]
        key = torch.arange(past + new, device=x.device)
        allowed = (key >= 1) & (key <= past + torch.arange(new, device=x.device)[:, None])  # (T, 1 + P + T)
        kept: tuple[list[Tensor], ...] = ([], [], [])
        for index, block in enumerate(model.blocks):
            layer = block.attention
            q, k, v = (layer.heads(part) for part in layer.project(block.attention_norm(x), None))
            if layer.rotary is not None:
                q, k = turn(layer.rotary, q, place), turn(layer.rotary, k, place)
            mixed, weights = attention(
                q, torch.cat([keys[:, index], k], dim=2), torch.cat([values[:, index], v], dim=2), mask=allowed
            )
            x = x + layer.output(mixed.transpose(1, 2).flatten(2))
            x = x + block.mlp(block.mlp_norm(x))
            for parts, part in zip(kept, (k, v, weights), strict=True):
                parts.append(part)
        logits = model.head(model.norm(x[:, -1]))
        return (logits, *(torch.stack(parts, dim=1) for parts in kept))


def turn(rotary: Any, x: Tensor, place: Tensor) -> Tensor:
    """What `Rotary` does, for positions (B, T) that need not follow each other: x (B, H, T, d_k)."""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return x * rotary.cos[place][:, None] + turned * rotary.sin[place][:, None]


class NextTokenExplorer(LiveFigure):
    """Ask a language model what comes next, shape its answer, take it, and see where it looked.

    Args:
        model: a GPT of yours; the book's own when None.
        tokenizer: the one that the model was trained with.
        prompt: what stands there at the beginning; some beginnings of inscriptions when None.

    Raises ValueError where these do not fit together.
    """

    figure = "next_token"

    def __init__(
        self,
        model: GPT | None = None,
        tokenizer: BytePairTokenizer | CharTokenizer | None = None,
        prompt: str | None = None,
    ) -> None:
        if model is None:
            if tokenizer is not None or prompt is not None:
                raise ValueError("Pass the model too: NextTokenExplorer(my_gpt, tokenizer, prompt).")
            super().__init__(self.published(), own=False)
            return
        if tokenizer is None:
            raise ValueError("Pass the tokenizer that belongs to the model: NextTokenExplorer(my_gpt, tokenizer).")
        prompts = beginnings() if prompt is None else {"your prompt": prompt}
        super().__init__(contents(model, tokenizer, prompts), own=True)

    @classmethod
    def published(cls) -> Contents:
        """The book's GPT on Inscriptions, and a beginning of each of their forms."""
        if ZOO_MODEL not in zoo.names():
            raise ValueError(f"The zoo has no {ZOO_MODEL}; train it with `gentext train {ZOO_MODEL}`.")
        model: Any = zoo.load(ZOO_MODEL)
        return contents(model, inscriptions_tokenizer(), beginnings())


def beginnings() -> dict[str, str]:
    """For each form of inscription the first lines of a test text, up to the middle."""
    grammar = data.Inscriptions()
    found: dict[str, str] = {}
    for text in data.load("inscriptions", "test", size=60).texts:
        lines = text.split("\n")
        found.setdefault(grammar.parse(text).kind, "\n".join(lines[: len(lines) // 2]) + "\n")
    return {kind: found[kind] for kind in grammar.kinds if kind in found}


def contents(model: GPT, tokenizer: BytePairTokenizer | CharTokenizer, prompts: Mapping[str, str]) -> Contents:
    """Network, state and poster for one model."""
    if not isinstance(model, GPT):
        raise ValueError(f"NextTokenExplorer needs a gentext.gpt.GPT, not {type(model).__name__}.")
    config = model.config
    if tokenizer.vocab_size != config.vocab_size:
        raise ValueError(
            f"The model knows {config.vocab_size} tokens and the tokenizer {tokenizer.vocab_size}: they do not belong "
            "together."
        )
    start = tokenizer.special_ids.get(END_OF_TEXT)
    first = [] if start is None else [start]
    name, prompt = next(iter(prompts.items()))
    ids = [*first, *tokenizer.encode(prompt)]
    if not 1 <= len(ids) < config.context:
        raise ValueError(f"The prompt {name!r} must have 1 to {config.context - 1} tokens, got {len(ids)}.")
    layer = config.layer(0)
    shape: tuple[int | str, ...] = (config.num_layers, layer.kv_heads, "held", layer.head_dim)
    network = Network(
        StepNetwork(model),
        {"tokens": ("tokens",), "positions": ("tokens",), "keys": shape, "values": shape},
        ("logits", "keys_out", "values_out", "attention"),
        axes={"tokens": config.context, "held": config.context + 1},
    )
    answer = network.run(opening(network, ids))
    state = {
        "tokenizer": tokens.state(tokenizer),
        "start": start,
        "context": config.context,
        "chunk": CHUNK,
        "layers": config.num_layers,
        "heads": config.num_heads,
        "kv_heads": layer.kv_heads,
        "head_dim": layer.head_dim,
        "shown": min(SHOWN, config.vocab_size),
        "top_k": [k for k in TOP_K if k < config.vocab_size],
        "prompts": [{"name": name, "text": text} for name, text in prompts.items()],
        "initial": {
            "ids": ids,
            "logits": protocol.encode_array(answer["logits"][0]),
            "attention": protocol.encode_array(
                answer["attention"][0, :, :, -1, 1:]
            ),  # (layers, H, T) of the last token
        },
    }

    def poster() -> Figure:
        return draw_poster(answer["logits"][0], prompt, tokenizer)

    return Contents({"step": network}, state, poster, ALT, twins(tokenizer))


def opening(network: Network, ids: list[int]) -> dict[str, Tensor]:
    """Inputs that read `ids` with an empty cache: nothing but the place holder."""
    layers, heads, _, head_dim = network.inputs["keys"]
    holder = torch.zeros(1, int(layers), int(heads), 1, int(head_dim))
    row = torch.tensor([ids], dtype=torch.float32)
    return {"tokens": row, "positions": torch.arange(len(ids)).float()[None], "keys": holder, "values": holder}


# ---- what the page computes, by the package --------------------------------------------------------------------------


def twins(tokenizer: BytePairTokenizer | CharTokenizer) -> dict[str, Computed]:
    def encode(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        text = bytes(given["bytes"].long().tolist()).decode()
        return {"ids": torch.tensor(tokenizer.encode(text), dtype=torch.float64)}

    return {"filter": compute_filter, "draw": compute_draw, "encode": encode}


def compute_filter(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Logits (V,) after temperature, top-k (0 for all) and top-p: the probabilities (V,) that are drawn from."""
    top_k = int(given["top_k"])
    probabilities = next_token_probabilities(
        given["logits"][None], temperature=given["temperature"].item(), top_k=top_k or None, top_p=given["top_p"].item()
    )
    return {"probabilities": probabilities[0]}


def compute_draw(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The token at which the sum of the probabilities first exceeds u in [0, 1)."""
    total = given["probabilities"].cumsum(0)
    token = int((total <= given["u"] * total[-1]).sum())
    return {"token": torch.tensor([float(token)], dtype=torch.float64)}


# ---- the still picture -----------------------------------------------------------------------------------------------


def draw_poster(logits: Tensor, prompt: str, tokenizer: BytePairTokenizer | CharTokenizer) -> Figure:
    """The prompt's end, and the ten most probable next tokens."""
    probabilities = logits.double().softmax(0)
    best = probabilities.topk(min(SHOWN, len(probabilities)))
    names = [label(tokenizer.decode([int(token)])) for token in best.indices]
    figure = posters.blank(6.4, 3.4)
    above, below = figure.subplots(2, 1, height_ratios=[1, 2.4])
    lines = prompt.rstrip("\n").split("\n")[-4:]
    above.text(
        0, 0.5, "\n".join([*lines, "…"]), fontsize=9, va="center", family="DejaVu Sans", transform=above.transAxes
    )
    above.axis("off")
    below.barh(range(len(names)), best.values.numpy(), color=plots.COLORS["blue"])
    below.set_yticks(range(len(names)), names, fontsize=9)
    below.invert_yaxis()
    below.set_xlim(0, max(0.1, math.ceil(10 * best.values[0].item()) / 10))
    below.set_xlabel("probability of the next token", fontsize=9)
    below.grid(False, axis="y")
    return figure


def label(text: str) -> str:
    """A token for a person: blanks that can be seen, as in the page."""
    shown = text.replace(" ", "␣").replace("\n", "↵").replace("$", r"\$")
    return "".join([c if c.isprintable() else "·" for c in shown])
