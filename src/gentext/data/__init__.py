"""Pictures and texts for every chapter behind one `load`.

Glyphs are in the package and inscriptions are written on the spot; MNIST, Fashion-MNIST and Tiny Shakespeare come from
`$GENTEXT_DATA`.
"""

from __future__ import annotations

from typing import Literal, overload

from gentext.data.augment import augment, binarise
from gentext.data.damage import DAMAGE_KINDS, damage
from gentext.data.downloads import DataUnavailable, folder
from gentext.data.glyphs import load_glyphs
from gentext.data.images import SPLITS, ImageSet
from gentext.data.inscriptions import Inscriptions, InscriptionsConfig
from gentext.data.mnist import SOURCES, load_mnist
from gentext.data.text import TEXT_NAMES, TextSet, load_text

NAMES: tuple[str, ...] = ("glyphs", *SOURCES, *TEXT_NAMES)


@overload
def load(  # type: ignore[overload-overlap]  # all other names mean pictures
    name: Literal["inscriptions", "tiny_shakespeare"], split: str = "train", size: int | None = None
) -> TextSet: ...


@overload
def load(name: str, split: str = "train", size: int | None = None) -> ImageSet: ...


def load(name: str, split: str = "train", size: int | None = None) -> ImageSet | TextSet:
    """One split of a data set: pictures on the CPU, or texts.

    Args:
        name: "glyphs" (signs of 29 ancient scripts, in the package), "mnist" or "fashion_mnist" (from `folder()`,
            downloaded when they are not there); "inscriptions" (of an invented land, written by a grammar) or
            "tiny_shakespeare" (from `folder()` or downloaded).
        split: "train", "validation" or "test". No picture is in two of them. Tiny Shakespeare has no "test".
        size: side in pixels: 32 (default) or 64 for the glyphs, 28 (default) or 32 for the other pictures. For
            "inscriptions" their number: 20,000 for training and 2,000 for each of the others by default.

    Raises:
        ValueError: there is no such set, split or size.
        DataUnavailable: a file is missing or damaged and cannot be downloaded; the message says what to do.
    """
    if name not in NAMES:
        raise ValueError(f"There is no data set {name!r}; the names are {', '.join(NAMES)}.")
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}; the splits are {', '.join(SPLITS)}.")
    if name == "glyphs":
        return load_glyphs(split, 32 if size is None else size)
    if name in TEXT_NAMES:
        return load_text(name, split, size)
    return load_mnist(name, split, 28 if size is None else size)


__all__ = [
    "DAMAGE_KINDS",
    "NAMES",
    "SPLITS",
    "DataUnavailable",
    "ImageSet",
    "Inscriptions",
    "InscriptionsConfig",
    "TextSet",
    "augment",
    "binarise",
    "damage",
    "folder",
    "load",
]
