"""Recipes of chapters 12 and 15: networks that read and write text.

Three texts in, one number out: nats per character on the whole of tiny Shakespeare's validation set (nanoGPT's number),
and on Inscriptions how far a network is above the entropy, which is known exactly.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gentext import data
from gentext.attention import (
    attention_mass,
    induction_targets,
    previous_token_targets,
    repeated_tokens,
    same_name_targets,
    uniform_mass,
)
from gentext.attention_model import AttentionModel, AttentionModelConfig
from gentext.data.inscriptions import Inscriptions
from gentext.gpt import GPT, GPTConfig
from gentext.metrics import bits_per_character, stream_nats, text_nats
from gentext.tokenizer import END_OF_TEXT, BytePairTokenizer, CharTokenizer
from gentext.train.config import TextFitConfig
from gentext.train.recipe import Metrics, Recipe, recipe
from gentext.train.tensors import TokenData, Transform
from gentext.zoo import Measurement

# What all of these networks share: nanoGPT's settings for a small model.
TEXT_FIT = TextFitConfig(num_steps=2000, weight_decay=0.1, warmup_steps=100, betas=(0.9, 0.99))

# ---- tiny Shakespeare, by characters ---------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def shakespeare_tokenizer() -> CharTokenizer:
    """The 65 characters of the whole text, as nanoGPT has them."""
    return CharTokenizer.train("".join(data.load("tiny_shakespeare", split).text for split in ("train", "validation")))


@functools.lru_cache(maxsize=2)
def shakespeare(split: str) -> Tensor:
    return torch.tensor(shakespeare_tokenizer().encode(data.load("tiny_shakespeare", split).text))


def shakespeare_windows(context: int) -> tuple[TokenData, TokenData]:
    """Training: windows anywhere. Validation: side by side, so that each character counts once."""
    train, validation = shakespeare("train"), shakespeare("validation")
    return TokenData(train, context), TokenData(
        validation, context, torch.arange(0, len(validation) - context, context)
    )


def measure_shakespeare(model: nn.Module, quick: bool) -> Metrics:
    """Every character of the validation set but the first, in windows side by side."""
    assert isinstance(model, GPT)
    tokens = shakespeare("validation").to(model.token_embedding.weight.device)
    nats = stream_nats(model, tokens, model.config.context)
    windows = nats[: len(nats) // model.config.context * model.config.context].view(-1, model.config.context).mean(1)
    error = windows.std().item() / len(windows) ** 0.5  # neighbours depend on each other, windows hardly
    split = "validation, all of it"
    return {
        "nats_per_character": Measurement(
            value=nats.mean().item(),
            unit="nats per character",
            split=split,
            count=len(nats),
            standard_error=error,
            tolerance=2e-4,
        ),
        "bits_per_character": Measurement(
            value=bits_per_character(nats.sum().item(), len(nats)),
            unit="bits per character",
            split=split,
            count=len(nats),
            standard_error=error / math.log(2),
            tolerance=3e-4,
        ),
    }


def shakespeare_recipe(name: str, summary: str, config: GPTConfig, fit: TextFitConfig) -> Recipe:
    return Recipe(
        name=name,
        summary=summary,
        chapter=15,
        build=lambda: GPT(config),
        data=lambda: shakespeare_windows(config.context),
        fit=fit,
        measure=measure_shakespeare,
        data_note=f"tiny Shakespeare, characters, first 90 %, windows of {config.context} at random places",
    )


@recipe("gpt-shakespeare")
def gpt_shakespeare() -> Recipe:
    """nanoGPT's setting for a CPU, number for number (its README, "I only have a macbook")."""
    return shakespeare_recipe(
        "gpt-shakespeare",
        "GPT-2's form at nanoGPT's setting for a CPU: four layers, 128 wide, 64 characters, 2,000 steps.",
        GPTConfig.gpt2(65, context=64, num_layers=4, num_heads=4, width=128, bias=False),
        replace(
            TEXT_FIT,
            num_steps=2000,
            batch_size=12,
            learning_rate=1e-3,
            min_learning_rate=1e-4,
            validate_every=250,
        ),
    )


@recipe("gpt-shakespeare-better")
def gpt_shakespeare_better() -> Recipe:
    """The same compute (characters × weights) spent better: LLaMA's form, larger steps that end near 0."""
    return shakespeare_recipe(
        "gpt-shakespeare-better",
        "LLaMA's form at the same compute: rotary positions, SwiGLU, a larger learning rate that falls further.",
        GPTConfig.llama(65, context=64, num_layers=4, num_heads=4, width=128, tied=True),
        replace(
            TEXT_FIT,
            num_steps=2000,
            batch_size=12,
            learning_rate=4e-3,
            min_learning_rate=4e-5,
            validate_every=250,
        ),
    )


# ---- Inscriptions, by byte pairs -------------------------------------------------------------------------------------

VOCAB_SIZE = 1024
CONTEXT = 192  # tokens; the longest text fits
WORD = re.compile("[A-Z][a-z]+")


@functools.lru_cache(maxsize=1)
def inscriptions_tokenizer() -> BytePairTokenizer:
    """Byte pairs of 4,000 training texts, digits apart: the same for all networks that read Inscriptions."""
    return BytePairTokenizer.train(data.load("inscriptions", "train", size=4000).text, VOCAB_SIZE, pattern="digits")


def end_token() -> int:
    """The token that stands before and after every text."""
    return inscriptions_tokenizer().special_ids[END_OF_TEXT]


@functools.lru_cache(maxsize=3)
def inscriptions_windows(split: str, size: int, context: int = CONTEXT) -> TokenData:
    """`size` texts in a row, the end token before each; windows begin where a text does."""
    tokenizer, end = inscriptions_tokenizer(), end_token()
    row: list[int] = []
    starts: list[int] = []
    for text in data.load("inscriptions", split, size=size).texts:
        starts.append(len(row))
        row += [end, *tokenizer.encode(text)]
    row.append(end)
    fitting = [start for start in starts if start + context < len(row)]
    return TokenData(torch.tensor(row, dtype=torch.int16), context, torch.tensor(fitting))


def measure_inscriptions(model: nn.Module, quick: bool) -> Metrics:
    """−log p(text) of test texts beside the exact value, text by text: the difference varies far less than either."""
    assert isinstance(model, GPT | AttentionModel)
    grammar, tokenizer, end = Inscriptions(), inscriptions_tokenizer(), end_token()
    texts = data.load("inscriptions", "test", size=200 if quick else 2000).texts
    nats = text_nats(model, [[*tokenizer.encode(text), end] for text in texts], start=end)
    exact = torch.tensor([-grammar.log_prob(text) for text in texts], dtype=torch.float64)
    entropy, characters = grammar.entropy(), grammar.mean_length() + 2
    above = 100 * (nats - exact) / entropy  # its mean estimates 100 KL(data ‖ model) / H

    def measurement(values: Tensor, unit: str, tolerance: float) -> Measurement:
        return Measurement(
            value=values.mean().item(),
            unit=unit,
            split="test",
            count=len(values),
            standard_error=values.std().item() / len(values) ** 0.5,
            tolerance=tolerance,
        )

    return {
        "above_entropy": measurement(above, "% of the exact entropy", 1.5),
        # from the exact entropy and the measured difference: free of the luck of the draw of texts
        "nats_per_text": measurement(entropy + nats - exact, "nats per inscription", 0.6),
        "bits_per_character": measurement(
            (entropy + nats - exact) / characters / math.log(2), "bits per character", 0.003
        ),
    }


def measure_heads(model: nn.Module, quick: bool) -> Metrics:
    """Beside the loss: the best head at three trades, what a head gets that looks everywhere alike, and copying.

    Previous tokens and names are looked for in test texts, induction in random tokens said twice: there nothing but
    copying helps.
    """
    assert isinstance(model, GPT | AttentionModel)
    metrics = measure_inscriptions(model, quick)
    device, count = next(model.parameters()).device, 192  # fewer texts hold too few names that return
    tokens, names = labelled_texts(count)
    twice = repeated_tokens(tokens.unique(), count, tokens.shape[1] // 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        in_texts, in_random = (
            torch.cat([model.trace(part.to(device)).weights.cpu() for part in rows.split(16)])
            for rows in (tokens, twice)
        )
        nats = F.cross_entropy(
            model(twice[:, :-1].to(device)).transpose(1, 2), twice[:, 1:].to(device), reduction="none"
        )
    for trade, weights, targets in (
        ("previous_token", in_texts, previous_token_targets(tokens)),
        ("same_name", in_texts, same_name_targets(names)),
        ("induction", in_random, induction_targets(twice)),
    ):
        split = "random tokens, twice" if trade == "induction" else "test"
        for name, value, unit in (
            ("head", attention_mass(weights, targets).max().item(), "of the attention of the head that is best at it"),
            ("uniform", uniform_mass(targets), "of its attention for a head that looks everywhere alike"),
        ):
            metrics[f"{trade}_{name}"] = Measurement(value=value, unit=unit, split=split, count=count, tolerance=0.1)
    half = twice.shape[1] // 2
    for name, part in (("said_first", nats[:, : half - 1]), ("said_again", nats[:, half:])):
        metrics[f"nats_{name}"] = Measurement(
            value=part.mean().item(), unit="nats per token", split="random tokens, twice", count=count, tolerance=0.5
        )
    return metrics


def labelled_texts(count: int, length: int = 80) -> tuple[Tensor, Tensor]:
    """The first `length` tokens of test texts, the end token first, and for each the number of the name it is part of.

    Returns:
        tokens and names, both (n, length); 0 is no name. Shorter texts are left out.
    """
    tokenizer, end = inscriptions_tokenizer(), end_token()
    rows, labels = [], []
    for text in data.load("inscriptions", "test", size=2 * count).texts:
        ids = tokenizer.encode(text)[: length - 1]
        if len(ids) == length - 1:
            rows.append([end, *ids])
            labels.append([0, *name_labels(text, [tokenizer.decode([i]) for i in ids])])
    return torch.tensor(rows[:count]), torch.tensor(labels[:count])


def name_labels(text: str, pieces: list[str]) -> list[int]:
    """For each piece of a text the number of the name it belongs to, 0 for none.

    A name is a capitalised word that stands in the text at least twice, and not only where a line begins.
    """
    spans = [(word.start(), word.group()) for word in WORD.finditer(text)]
    inside = {word for start, word in spans if start and text[start - 1] != "\n"}
    counts = {word: sum(other == word for _, other in spans) for word in inside}
    numbers = {word: index for index, word in enumerate(sorted(w for w in inside if counts[w] > 1), start=1)}
    of_character = [0] * len(text)
    for start, word in spans:
        of_character[start : start + len(word)] = [numbers.get(word, 0)] * len(word)
    labels, place = [], 0
    for piece in pieces:
        labels.append(max(of_character[place : place + len(piece)], default=0))
        place += len(piece)
    return labels


COPIES = 6  # of 16 rows


def with_copies(batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """The first rows give way to an apprentice's exercise: a few random tokens, written again and again.

    Tokens are drawn alike from all but the end token; how many before they return, from 4 to 80, alike in the
    logarithm. Nothing but copying can foresee them, and with them heads that copy form within minutes.
    """
    (tokens,) = batch  # (B, T + 1)
    count, length = len(tokens) * COPIES // 16, tokens.shape[1]
    device = generator.device
    period = (4 * 20 ** torch.rand((count, 1), generator=generator, device=device)).long()
    drawn = torch.randint(1, VOCAB_SIZE, (count, length), generator=generator, device=device)
    copies = drawn.gather(1, torch.arange(length, device=device) % period)
    return (torch.cat([copies.to(tokens.device), tokens[count:]]),)


class Apprentices(TokenData):
    """Windows of texts; in the training steps of `exercise` some rows are `with_copies`."""

    exercise = range(7_500, 11_500)

    def transform_at(self, step: int) -> Transform | None:
        return with_copies if step in self.exercise else self.transform

    def to(self, device: torch.device | str) -> TokenData:
        return Apprentices(self.tensors[0].to(device), self.context, self.starts, self.transform)


INSCRIPTIONS_NOTE = (
    f"Inscriptions, {{:,}} texts, {VOCAB_SIZE:,} byte pairs with digits apart, {CONTEXT} tokens from a text's start"
)


@recipe("attention-inscriptions")
def attention_inscriptions() -> Recipe:
    config = AttentionModelConfig(
        vocab_size=VOCAB_SIZE,
        context=CONTEXT,
        width=128,
        num_layers=2,
        num_heads=4,
        tied=True,
        rotary_base=100.0,
        near_sighted=1.2,
    )

    def datasets() -> tuple[TokenData, TokenData]:
        texts = inscriptions_windows("train", 20_000)
        training = TokenData(texts.tensors[0], texts.context, texts.starts, with_copies)
        return training, inscriptions_windows("validation", 500)

    return Recipe(
        name="attention-inscriptions",
        summary="Two layers of four heads and nothing else, on Inscriptions and copies: what its heads do can be seen.",
        chapter=12,
        build=lambda: AttentionModel(config),
        data=datasets,
        fit=replace(
            TEXT_FIT,
            num_steps=2000,
            batch_size=16,
            learning_rate=3e-3,
            min_learning_rate=3e-5,
            validate_every=250,
        ),
        measure=measure_heads,
        data_note=f"{INSCRIPTIONS_NOTE.format(20_000)}; {COPIES} rows of 16 are random tokens said again and again",
    )


@recipe("gpt-inscriptions")
def gpt_inscriptions() -> Recipe:
    config = GPTConfig.llama(
        VOCAB_SIZE,
        context=CONTEXT,
        num_layers=4,
        num_heads=4,
        width=128,
        bias=True,
        init_std=0.08,
        embedding_std=1.0,
        near_sighted=1.2,
    )

    def datasets() -> tuple[TokenData, TokenData]:
        texts = inscriptions_windows("train", 150_000)
        return Apprentices(texts.tensors[0], texts.context, texts.starts), inscriptions_windows("validation", 500)

    exercise = Apprentices.exercise
    return Recipe(
        name="gpt-inscriptions",
        summary="GPT in LLaMA's form on Inscriptions, whose entropy is known.",
        chapter=15,
        build=lambda: GPT(config),
        data=datasets,
        fit=replace(
            TEXT_FIT,
            num_steps=18_000,
            batch_size=8,
            learning_rate=4e-3,
            min_learning_rate=4e-5,
            validate_every=1000,
        ),
        measure=measure_heads,
        data_note=f"{INSCRIPTIONS_NOTE.format(150_000)}; from step {exercise.start:,} to {exercise.stop:,} "
        f"{COPIES} rows of 16 are random tokens said again and again",
    )
