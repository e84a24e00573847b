"""Inscriptions as lessons: windows of tokens, and two exercises that teach a network to copy.

The names of kings are few and each is one token: a network copies them early. Other names are rare and of several
tokens. What copies those copies anything; it forms slowly where little asks for it. The exercises ask for nothing else.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from gentext import data
from gentext.tokenizer import END_OF_TEXT, BytePairTokenizer
from gentext.train.tensors import TokenData, Transform

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
    """`windows` of that many texts of a split."""
    return windows(data.load("inscriptions", split, size=size).texts, context)


def windows(texts: Sequence[str], context: int = CONTEXT) -> TokenData:
    """Texts in a row, the end token before each; windows begin where a text does."""
    tokenizer, end = inscriptions_tokenizer(), end_token()
    row: list[int] = []
    starts: list[int] = []
    for text in texts:
        starts.append(len(row))
        row += [end, *tokenizer.encode(text)]
    row.append(end)
    fitting = [start for start in starts if start + context < len(row)]
    return TokenData(torch.tensor(row, dtype=torch.int16), context, torch.tensor(fitting))


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


def returning_names(text: str) -> list[str]:
    """The names of a text that return: capitalised words that stand in it at least twice, and not only where a line
    begins; sorted."""
    spans = [(word.start(), word.group()) for word in WORD.finditer(text)]
    inside = {word for start, word in spans if start and text[start - 1] != "\n"}
    return sorted(word for word in inside if sum(other == word for _, other in spans) > 1)


def name_labels(text: str, pieces: list[str]) -> list[int]:
    """For each piece of a text the number of the returning name it belongs to, from 1; 0 for none."""
    numbers = {word: index for index, word in enumerate(returning_names(text), start=1)}
    of_character = [0] * len(text)
    for word in WORD.finditer(text):
        of_character[word.start() : word.end()] = [numbers.get(word.group(), 0)] * len(word.group())
    labels, place = [], 0
    for piece in pieces:
        labels.append(max(of_character[place : place + len(piece)], default=0))
        place += len(piece)
    return labels


# ---- exercises -------------------------------------------------------------------------------------------------------

COPIES = 6  # of 16 rows give way to an exercise


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


SYLLABLES = [onset + vowel + coda for onset in "bdfghklmnprstvwz" for vowel in "aeiou" for coda in ("", *"lmnrst")]


def with_foreign_names(text: str, generator: torch.Generator) -> str:
    """A text in which every name that returns has given way to one of three random syllables, wherever it stands."""
    names = returning_names(text)
    drawn = torch.randint(len(SYLLABLES), (len(names), 3), generator=generator).tolist()
    foreign = {name: "".join(SYLLABLES[i] for i in row).capitalize() for name, row in zip(names, drawn, strict=True)}
    return WORD.sub(lambda word: foreign.get(word.group(), word.group()), text)


@functools.lru_cache(maxsize=1)
def foreign_windows(size: int = 20_000) -> TokenData:
    """Windows of training texts with foreign names."""
    generator = torch.Generator().manual_seed(0)
    return windows(
        [with_foreign_names(text, generator) for text in data.load("inscriptions", "train", size=size).texts]
    )


def with_strangers(batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """The first rows give way to texts with foreign names: unforeseen the first time, then there to be copied."""
    (tokens,) = batch  # (B, T + 1)
    strangers, count = foreign_windows(), len(tokens) * COPIES // 16
    chosen = torch.randint(len(strangers), (count,), generator=generator, device=generator.device)
    return (torch.cat([strangers.rows(chosen.cpu())[0].to(tokens.device), tokens[count:]]),)


class Apprentices(TokenData):
    """Windows of texts; in some steps some of the rows are `with_copies`, in others `with_strangers`."""

    copying = range(7_500, 11_500)
    meeting = range(13_500, 15_500)

    def transform_at(self, step: int) -> Transform | None:
        if step in self.copying:
            return with_copies
        return with_strangers if step in self.meeting else self.transform

    def to(self, device: torch.device | str) -> TokenData:
        return Apprentices(self.tensors[0].to(device), self.context, self.starts, self.transform)
