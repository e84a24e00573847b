"""`AttentionExplorer` (chapter 12): type a line, see where every head looks, switch heads off, see what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor, nn

from gentext import plots, zoo
from gentext.attention import (
    attention_mass,
    induction_targets,
    previous_token_targets,
    repeated_tokens,
    same_name_targets,
)
from gentext.live import posters, protocol, tokens
from gentext.live.base import Contents, LiveFigure
from gentext.live.network import Network
from gentext.tokenizer import END_OF_TEXT, Tokenizer

ZOO_MODEL = "attention-inscriptions"
LENGTH = 64  # tokens that the page reads at once
LINES = {  # one that begins with a blank goes on from what nobody has seen
    "nonsense, twice": " Karum moon lamp year palace barley ox Karum moon lamp year palace barley",
    "a name that returns": "To Hadul, lord of the forge,\nPerushka, daughter of Upadim, the merchant of Dibar,\n"
    "brought a white ox\nas she had vowed.\nIt was under king Ilkamar, in his year 9.\nMay Hadul keep the house of Up",
    "nothing repeated": "To Marat, lady of the orchard, Zereti, daughter of Odekur, gave ten measures of oil",
}
ALT = (
    "Eight small square maps, one for each head of the network, of where each token of a line looks among the tokens "
    "before it. In one map the dark cells lie just beside the diagonal: this head looks at the token before. The line "
    "says everything twice, and where the second saying begins other maps have a second dark stripe further from it."
)
ALT_OWN = "A small square map for each head of the network: where each token of a line looks among those before it."


class AttentionNetwork(nn.Module):
    """Tokens (n, T), the chosen place (n, T), heads (n, layers · H) -> weights, log_probs, nats.

    Tokens arrive as floats because the protocol knows no other numbers; the place is 1 where the chosen token stands
    and 0 elsewhere; a head's number is 1 or 0, on or off. A text shorter than T may go on with anything: no token sees
    a later one.
    """

    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        config: Any = model.config
        self.heads = (config.num_layers, config.num_heads)

    def forward(self, tokens: Tensor, place: Tensor, heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """weights (n, layers, H, T, T), log_probs (n, vocab) at the place, nats (n, T − 1) of tokens 1..T − 1."""
        ids = tokens.long()
        trace = self.model.trace(ids, head_mask=heads.unflatten(1, self.heads))
        log_probs = trace.logits.log_softmax(dim=-1)  # (n, T, vocab)
        nats = -log_probs[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
        return trace.weights, (place[:, :, None] * log_probs).sum(dim=1), nats


class AttentionExplorer(LiveFigure):
    """Every head of a network that predicts the next token, on lines that a reader types.

    Args:
        model: a causal network of yours with `trace(tokens, head_mask=...)`, such as `AttentionModel` or `GPT`. None:
            the book's own.
        tokenizer: what turns text into the model's tokens.
        lines: texts to choose from, {name: text} or a row of texts.

    Raises ValueError where model and tokenizer do not fit together.
    """

    figure = "attention_explorer"

    def __init__(
        self,
        model: nn.Module | None = None,
        tokenizer: Tokenizer | None = None,
        lines: Mapping[str, str] | Sequence[str] | None = None,
    ) -> None:
        if model is None or tokenizer is None:
            if model is not None or tokenizer is not None or lines is not None:
                raise ValueError("Pass a model and its tokenizer: AttentionExplorer(my_model, my_tokenizer).")
            super().__init__(self.published(), own=False)
        else:
            super().__init__(contents(model, tokenizer, lines or LINES, ALT_OWN), own=True)

    @classmethod
    def published(cls) -> Contents:
        """The book's two layers of four heads, trained on Inscriptions."""
        return _published()


@cache
def _published() -> Contents:
    from gentext.train.lessons import inscriptions_tokenizer, labelled_texts  # learns its merges: seconds

    if ZOO_MODEL not in zoo.names():
        raise ValueError(f"The zoo has no {ZOO_MODEL}; train it with `gentext train {ZOO_MODEL}`.")
    model: Any = zoo.load(ZOO_MODEL)
    texts, names = labelled_texts(48)
    with torch.no_grad():
        weights = model.trace(texts).weights
    trades = {"same name": attention_mass(weights, same_name_targets(names))}
    return contents(model, inscriptions_tokenizer(), LINES, ALT, trades)


def contents(
    model: nn.Module,
    tokenizer: Tokenizer,
    lines: Mapping[str, str] | Sequence[str],
    alt: str,
    trades: Mapping[str, Tensor] | None = None,
) -> Contents:
    """Network, state and poster. `trades`: more scores of the heads, (layers, H) each, than those measured here."""
    config: Any = getattr(model, "config", None)
    if not callable(getattr(model, "trace", None)) or not all(
        hasattr(config, name) for name in ("num_layers", "num_heads", "vocab_size", "context")
    ):
        raise ValueError(f"AttentionExplorer needs a model with trace, such as GPT; got {type(model).__name__}.")
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(f"The tokenizer has {tokenizer.vocab_size} tokens, the model knows {config.vocab_size}.")
    named = dict(lines) if isinstance(lines, Mapping) else {_short(line): line for line in lines}
    length, start = min(LENGTH, config.context), tokenizer.special_ids.get(END_OF_TEXT)
    rows = {
        name: ([] if start is None or line.startswith(" ") else [start]) + tokenizer.encode(line)
        for name, line in named.items()
    }
    rows = {name: row[:length] for name, row in rows.items()}
    if not rows or min(map(len, rows.values())) < 2 or length < 4:
        raise ValueError("AttentionExplorer needs at least one line, each of two tokens or more.")
    network = Network(
        AttentionNetwork(model),
        {"tokens": (length,), "place": (length,), "heads": (config.num_layers * config.num_heads,)},
        ("weights", "log_probs", "nats"),
    )
    opening = next(iter(rows.values()))
    answer = ask(network, opening, len(opening) - 1)
    count = len(opening)
    initial = {
        "weights": answer["weights"][0, :, :, :count, :count],
        "log_probs": answer["log_probs"][0],
        "nats": answer["nats"][0, : count - 1],
    }
    scores = head_scores(model, length) | dict(trades or {})
    state = {
        "tokenizer": tokens.state(tokenizer),
        "start": start,
        "length": length,
        "layers": config.num_layers,
        "heads": config.num_heads,
        "vocab": config.vocab_size,
        "lines": [{"name": name, "text": text} for name, text in named.items()],
        "trades": [{"name": name, "scores": _rounded(values)} for name, values in scores.items()],
        "initial": {name: protocol.encode_array(values) for name, values in initial.items()},
    }
    labels = [show_token(tokenizer, token, start) for token in opening]

    def poster() -> Figure:
        return draw_poster(initial["weights"], labels)

    return Contents({"attention": network}, state, poster, alt)


def ask(network: Network, row: Sequence[int], place: int, heads: Tensor | None = None) -> dict[str, Tensor]:
    """The network's answer for one row of tokens, all heads on unless `heads` (layers · H,) says otherwise."""
    (length,), (count,) = network.inputs["tokens"], network.inputs["heads"]
    padded = torch.zeros(1, int(length))
    padded[0, : len(row)] = torch.tensor(row, dtype=torch.float32)
    chosen = torch.zeros(1, int(length))
    chosen[0, place] = 1
    on = torch.ones(1, int(count)) if heads is None else heads.reshape(1, -1).float()
    return network.run({"tokens": padded, "place": chosen, "heads": on})


def head_scores(model: Any, length: int) -> dict[str, Tensor]:
    """How much each head looks at the token before, at what followed last time and at itself, in random tokens."""
    choices = torch.arange(model.config.vocab_size)
    twice = repeated_tokens(choices, 16, length // 2, torch.Generator().manual_seed(0))
    training = model.training
    model.eval()
    with torch.no_grad():
        weights = model.trace(twice.to(next(model.parameters()).device)).weights.float().cpu()
    model.train(training)
    return {
        "token before": attention_mass(weights, previous_token_targets(twice)),
        "what followed last time": attention_mass(weights, induction_targets(twice)),
        "itself": attention_mass(weights, torch.eye(twice.shape[1], dtype=torch.bool).expand(len(twice), -1, -1)),
    }


def show_token(tokenizer: Tokenizer, token: int, start: int | None) -> str:
    """A token as the figure writes it: blanks that can be seen, and a sign for the start of the text."""
    if token == start:
        return "▷"
    return tokenizer.decode([token]).replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")


def draw_poster(weights: Tensor, labels: Sequence[str]) -> Figure:
    """A map for each head (layers, H, n, n), and the line below them."""
    layers, heads = weights.shape[:2]
    figure = posters.blank(6.4, 1.75 * layers + 0.5)
    grid: Any = figure.subplots(layers, heads, squeeze=False)
    ink = LinearSegmentedColormap.from_list("weights", [plots.PAPER, "#0b6384"])
    for layer in range(layers):
        for head in range(heads):
            axes = grid[layer, head]
            axes.imshow(weights[layer, head].sqrt().numpy(), cmap=ink, vmin=0, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"head {layer + 1}.{head + 1}", fontsize=9, fontweight="normal", loc="center")
            axes.spines[:].set_visible(False)
    figure.supxlabel("".join(labels).replace("␣", " ").replace("↵", " ").replace("▷", ""), fontsize=9)
    return figure


def _short(line: str) -> str:
    return line if len(line) <= 40 else f"{line[:39]}…"


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 3) for value in values.flatten().tolist()]
