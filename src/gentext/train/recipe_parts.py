"""What several chapters' recipes share: augmented signs, means with their errors, evaluation in chunks."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from gentext import data
from gentext.train.tensors import TensorData
from gentext.zoo import Measurement

LIGHT = {"rotate": 3.0, "shear": 0.05, "scale": 0.05, "shift": 0.015, "stroke": 0.3}
MOVE = 2  # pixels of 64, either way; around every sign at least four are empty


@functools.lru_cache(maxsize=2)
def glyph_variants(count: int, *, light: bool, balanced: bool = False) -> tuple[TensorData, TensorData]:
    """About `count` augmented variants of the training signs, drawn once, and the validation signs as they are.

    Drawing them in every step anew would take as long as the step itself on a CPU. A sign has as many variants as any
    other, unless `balanced`: then a script's share of the variants grows with the square root of its number of signs.
    Without that, every second sign is cuneiform or Egyptian and the alphabets drown.
    """
    train, validation = data.load("glyphs", "train", size=32), data.load("glyphs", "validation", size=32)
    same = torch.full_like(train.labels, max(1, round(count / len(train))))
    copies = copies_by_root(train.labels, count) if balanced else same  # (n,)
    chosen = torch.arange(len(train)).repeat_interleave(copies)
    images = data.augment(train.images[chosen], torch.Generator().manual_seed(0), **(LIGHT if light else {}))
    return TensorData((images, train.labels[chosen])), TensorData((validation.images, validation.labels))


def copies_by_root(labels: Tensor, count: int) -> Tensor:
    """How often each example (n,) stands among about `count`: a class's share grows with the root of its size."""
    share = labels.bincount()[labels].double().rsqrt()  # (n,)
    return (count * share / share.sum()).round().long().clamp(min=1)


def fresh_glyphs(count: int, *, light: bool = True) -> tuple[TensorData, TensorData]:
    """Training signs that are cut anew for every batch, from their 64-pixel pictures, and stay as sharp as the data.

    An epoch is about `count` long; scripts by the root of their size. Each sign is moved by whole pixels of 64, every
    second one is turned and leant a little first. Averaged down to 32 pixels after that, a stroke keeps its edge;
    turned at 32 pixels it is smeared over two, and a model of such signs draws smeared ones. A classifier has nothing
    to draw, and may see all of them turned farther, with thinner and thicker strokes: `light=False`.
    """
    train, validation = data.load("glyphs", "train", size=64), data.load("glyphs", "validation", size=32)
    chosen = torch.arange(len(train)).repeat_interleave(copies_by_root(train.labels, count))

    def cut(batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
        place, label = batch
        images = train.images[place.cpu()].to(place.device)  # (n, 1, 64, 64)
        if light:
            turned = data.augment(images, generator, **{**LIGHT, "shift": 0.0, "stroke": 0.0})
            every_second = torch.rand(len(place), generator=generator, device=place.device) < 0.5
            images = torch.where(every_second[:, None, None, None], turned, images)
        else:
            images = data.augment(images, generator, shift=0.0)
        down, right = torch.randint(-MOVE, MOVE + 1, (2, len(place)), generator=generator, device=place.device)
        return F.avg_pool2d(shifted(images, down, right), 2), label

    return TensorData((chosen, train.labels[chosen]), cut), TensorData((validation.images, validation.labels))


def shifted(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Each picture (n, 1, H, W) moved by whole pixels (n,); what leaves at one side comes in at the other."""
    rows = (torch.arange(images.shape[2], device=images.device) - down[:, None]) % images.shape[2]  # (n, H)
    columns = (torch.arange(images.shape[3], device=images.device) - right[:, None]) % images.shape[3]
    images = images.gather(2, rows[:, None, :, None].expand_as(images))
    return images.gather(3, columns[:, None, None, :].expand_as(images))


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
