"""`TextSet`: texts in the order in which they were written, and the two sets of them that the book uses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from gentext.data import downloads
from gentext.data.inscriptions import SEPARATOR, Inscriptions

TEXT_NAMES = ("inscriptions", "tiny_shakespeare")
SIZES = {"train": 20_000, "validation": 2_000, "test": 2_000}  # inscriptions in a split, unless told otherwise
SEEDS = {"train": 1, "validation": 2, "test": 3}  # each split is drawn by a generator of its own

SHAKESPEARE = "tinyshakespeare/input.txt"
_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
_ADDRESSES = ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",)
TRAIN_SHARE = 0.9  # of the characters, as nanoGPT cuts it


@dataclass(frozen=True)
class TextSet:
    """Texts of one split.

    Attributes:
        texts: one string for each inscription; a single one where a set is one long text.
        name, split: which set this is.
    """

    texts: tuple[str, ...]
    name: str
    split: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", tuple(self.texts))
        if not self.texts or not all(isinstance(text, str) for text in self.texts):
            raise ValueError("A text set needs at least one text, and all of them must be strings.")

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def text(self) -> str:
        """All texts in a row with an empty line between them."""
        return SEPARATOR.join(self.texts)


def load_text(name: str, split: str, size: int | None = None) -> TextSet:
    """One split of "inscriptions" (`size` of them, freshly written) or of "tiny_shakespeare". Errors as `data.load`."""
    if name == "inscriptions":
        if size is not None and size < 1:
            raise ValueError(f"size is the number of inscriptions, at least 1, not {size}.")
        return TextSet(_inscriptions(split, size or SIZES[split]), name, split)
    if split == "test":
        raise ValueError(
            "tiny_shakespeare has no test split: it is cut into train (9 tenths) and validation (1 tenth)."
        )
    if size is not None:
        raise ValueError(f"tiny_shakespeare is one text and comes whole: leave size out, not {size}.")
    text = downloads.read(SHAKESPEARE, _SHA256, lambda: _ADDRESSES).decode("ascii")
    cut = int(TRAIN_SHARE * len(text))
    return TextSet((text[:cut] if split == "train" else text[cut:],), name, split)


@lru_cache(maxsize=8)
def _inscriptions(split: str, size: int) -> tuple[str, ...]:
    return tuple(Inscriptions().sample(size, torch.Generator().manual_seed(SEEDS[split])))
