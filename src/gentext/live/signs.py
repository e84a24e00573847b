"""The test signs that a figure carries: which ones, and how they travel to the front end."""

from typing import Any

import torch
from torch import Tensor, nn

from gentext import data
from gentext.data import ImageSet
from gentext.live import protocol

# Both figures open on this sign: a sedge, which a reader can recognise in what the networks make of it.
OPENING = "EGYPTIAN HIEROGLYPH M023"


def opening(images: ImageSet) -> int:
    """The index of the sign that a figure opens on: OPENING where the images have it, else the first."""
    return images.names.index(OPENING) if OPENING in images.names else 0


def choose(images: ImageSet, limit: int, per_class: int | None = None) -> ImageSet:
    """At most `limit` images, at most `per_class` of each class, evenly spaced, in their order; and the opening sign.

    No chance in it: the same images give the same choice.
    """
    keep = torch.arange(len(images))
    if per_class is not None:
        groups = [keep[images.labels.cpu() == label] for label in images.labels.unique().tolist()]
        keep = torch.cat([_spaced(group, per_class) for group in groups]).sort().values
    chosen = torch.cat([_spaced(keep, limit), torch.tensor([opening(images)])[: int(OPENING in images.names)]])
    return images.subset(chosen.unique())


def _spaced(indices: Tensor, count: int) -> Tensor:
    if len(indices) <= count:
        return indices
    return indices[torch.arange(count) * len(indices) // count]


def for_model(model: nn.Module, images: ImageSet | None) -> ImageSet:
    """The images to show with a model: those given, or the test glyphs in the model's size.

    Raises ValueError where the two do not fit, or where the model's size is none that the glyphs come in.
    """
    config = getattr(model, "config", None)
    size = getattr(config, "image_size", None)
    if images is None:
        if size is not None and size not in (32, 64):
            raise ValueError(f"Glyphs come in 32 and 64 pixels, the model takes {size}: pass images=data.load(...).")
        return data.load("glyphs", "test", size=size)
    if len(images) == 0:
        raise ValueError("images must hold at least one image.")
    if size is not None and images.images.shape[-1] != size:
        raise ValueError(f"The model takes images of {size} pixels, the given ones have {images.images.shape[-1]}.")
    return images


def state(images: ImageSet) -> dict[str, Any]:
    """The images as a front end reads them: packed pixels, class of each, a short name and one in full words."""
    if any(images.descriptions):
        words = list(images.descriptions)
        names = [text.split(",")[0] for text in words]  # "Egyptian hieroglyph M23", less ", trees and plants"
    else:
        names = [name or f"image {index}" for index, name in enumerate(images.names or [""] * len(images))]
        words = [f"{name} ({images.label_names[label]})" for name, label in zip(names, images.labels, strict=True)]
    return {
        "images": protocol.pack_images(images.images),
        "labels": images.labels.tolist(),
        "classes": list(images.label_names),
        "names": names,
        "words": words,
    }
