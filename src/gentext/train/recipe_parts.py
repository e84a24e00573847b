"""What several chapters' recipes share: augmented signs, means with their errors, evaluation in chunks."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from gentext import data
from gentext.train.tensors import TensorData
from gentext.zoo import Measurement

LIGHT = {"rotate": 3.0, "shear": 0.05, "scale": 0.05, "shift": 0.015, "stroke": 0.3}


@functools.lru_cache(maxsize=2)
def glyph_variants(count: int, *, light: bool, balanced: bool = False) -> tuple[TensorData, TensorData]:
    """About `count` augmented variants of the training signs, drawn once, and the validation signs as they are.

    Drawing them in every step anew would take as long as the step itself on a CPU. A sign has as many variants as any
    other, unless `balanced`: then a script's share of the variants grows with the square root of its number of signs.
    Without that, every second sign is cuneiform or Egyptian and the alphabets drown.
    """
    train, validation = data.load("glyphs", "train", size=32), data.load("glyphs", "validation", size=32)
    size_of_script = train.labels.bincount()[train.labels].double()  # (n,)
    share = size_of_script.rsqrt() if balanced else torch.ones_like(size_of_script)
    copies = (count * share / share.sum()).round().long().clamp(min=1)  # (n,)
    chosen = torch.arange(len(train)).repeat_interleave(copies)
    images = data.augment(train.images[chosen], torch.Generator().manual_seed(0), **(LIGHT if light else {}))
    return TensorData((images, train.labels[chosen])), TensorData((validation.images, validation.labels))


def mean_measurement(values: Tensor, unit: str, split: str, tolerance: float) -> Measurement:
    """The mean of one value per example, with its standard error."""
    error = values.double().std().item() / len(values) ** 0.5
    return Measurement(
        value=values.double().mean().item(),
        unit=unit,
        split=split,
        count=len(values),
        standard_error=error,
        tolerance=tolerance,
    )


def in_chunks(function: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor, size: int = 500) -> Tensor:
    """`function` of (images, labels), a chunk at a time, so that memory stays bounded."""
    pieces = zip(images.split(size), labels.split(size), strict=True)
    with torch.no_grad():
        return torch.cat([function(image, label) for image, label in pieces])
