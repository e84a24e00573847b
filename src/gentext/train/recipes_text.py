"""Recipes of chapters 12 and 15: networks that read and write text.

Three texts in, one number out: nats per character on the whole of tiny Shakespeare's validation set (nanoGPT's number),
and on Inscriptions how far a network is above the entropy, which is known exactly.
"""

from __future__ import annotations

import functools
import math
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
from gentext.tokenizer import CharTokenizer
from gentext.train.config import TextFitConfig
from gentext.train.lessons import (
    CONTEXT,
    COPIES,
    VOCAB_SIZE,
    Apprentices,
    end_token,
    inscriptions_tokenizer,
    inscriptions_windows,
    labelled_texts,
    with_copies,
)
from gentext.train.recipe import Metrics, Recipe, recipe
from gentext.train.tensors import TokenData
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

    copying, meeting = Apprentices.copying, Apprentices.meeting
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
        data_note=f"{INSCRIPTIONS_NOTE.format(150_000)}; {COPIES} rows of 16 are random tokens said again and again "
        f"from step {copying.start:,} to {copying.stop:,}, and texts with foreign names from {meeting.start:,} to "
        f"{meeting.stop:,}",
    )
