"""Pictures for every chapter behind one `load`: glyphs in the package, MNIST and Fashion-MNIST from `$GENTEXT_DATA`."""

from __future__ import annotations

from gentext.data.augment import augment, binarise
from gentext.data.damage import DAMAGE_KINDS, damage
from gentext.data.downloads import DataUnavailable, folder
from gentext.data.glyphs import load_glyphs
from gentext.data.images import SPLITS, ImageSet
from gentext.data.mnist import SOURCES, load_mnist

NAMES: tuple[str, ...] = ("glyphs", *SOURCES)


def load(name: str, split: str = "train", size: int | None = None) -> ImageSet:
    """The pictures of one split of a data set, on the CPU.

    Args:
        name: "glyphs" (signs of 29 ancient scripts, in the package), "mnist" or "fashion_mnist" (from `folder()`,
            downloaded when they are not there).
        split: "train", "validation" or "test". No picture is in two of them.
        size: side in pixels: 32 (default) or 64 for the glyphs, 28 (default) or 32 for the others.

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
    return load_mnist(name, split, 28 if size is None else size)


__all__ = [
    "DAMAGE_KINDS",
    "NAMES",
    "SPLITS",
    "DataUnavailable",
    "ImageSet",
    "augment",
    "binarise",
    "damage",
    "folder",
    "load",
]
