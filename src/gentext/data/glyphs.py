"""The glyph set: signs of ancient scripts, shipped inside the package. GLYPHS.md is its data card."""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib.resources import files

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from gentext.data.images import ImageSet
from gentext.data.scripts import SCRIPTS

SIZES = (32, 64)
_CELL = 64  # pixels, the side of a sign on the sheet
_INK = 15  # the grey level of full ink on the sheet, 4 bits


@lru_cache(maxsize=1)
def _sheet() -> Tensor:
    """All signs of all splits, (n, 1, 64, 64) uint8 with values 0 to 15, in the order of `_table`."""
    with files("gentext.data").joinpath("glyphs.png").open("rb") as file, Image.open(file) as picture:
        pixels = np.array(picture)  # (rows * 64, columns * 64)
    rows, columns = (side // _CELL for side in pixels.shape)
    cells = pixels.reshape(rows, _CELL, columns, _CELL).swapaxes(1, 2).reshape(-1, 1, _CELL, _CELL)
    return torch.from_numpy(np.ascontiguousarray(cells[: len(_table())]))


@lru_cache(maxsize=1)
def _table() -> tuple[dict[str, str], ...]:
    """One row for each sign: codepoint, script, split, name, description."""
    text = files("gentext.data").joinpath("glyphs.tsv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


def load_glyphs(split: str, size: int = 32) -> ImageSet:
    """The signs of one split at 32 or 64 pixels; the 32-pixel signs are 2x2 averages of the 64-pixel ones."""
    if size not in SIZES:
        raise ValueError(f"Glyphs come in sizes 32 and 64, not {size}.")
    rows = _table()
    chosen = [place for place, row in enumerate(rows) if row["split"] == split]
    images = _sheet()[chosen].float() / _INK  # (n, 1, 64, 64)
    if size < _CELL:
        images = F.avg_pool2d(images, _CELL // size)
    label_names = tuple(script.name for script in SCRIPTS)
    label_of = {name: label for label, name in enumerate(label_names)}
    return ImageSet(
        images=images,
        labels=torch.tensor([label_of[rows[place]["script"]] for place in chosen]),
        label_names=label_names,
        names=tuple(rows[place]["name"] for place in chosen),
        codepoints=tuple(int(rows[place]["codepoint"], 16) for place in chosen),
        descriptions=tuple(rows[place]["description"] for place in chosen),
    )
