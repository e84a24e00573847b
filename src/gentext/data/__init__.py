"""Pictures for every chapter behind one `load`: glyphs in the package, MNIST and Fashion-MNIST from `$GENTEXT_DATA`."""

from gentext.data.augment import augment, binarise
from gentext.data.damage import DAMAGE_KINDS, damage
from gentext.data.glyphs import load_glyphs
from gentext.data.images import SPLITS, ImageSet

NAMES = ("glyphs",)


def load(name: str, split: str = "train", size: int | None = None) -> ImageSet:
    """The pictures of `name` in `split`: "train", "validation" or "test"."""
    if name not in NAMES:
        raise ValueError(f"There is no data set {name!r}; the names are {', '.join(NAMES)}.")
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}; the splits are {', '.join(SPLITS)}.")
    return load_glyphs(split, 32 if size is None else size)


__all__ = ["DAMAGE_KINDS", "NAMES", "SPLITS", "ImageSet", "augment", "binarise", "damage", "load"]
