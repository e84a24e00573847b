"""The feature space of the book's distances between sets of signs: what the glyph classifier in the zoo sees."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from gentext import zoo
from gentext.nn import GlyphClassifier


@torch.no_grad()
def glyph_features(images: Tensor, batch_size: int = 256) -> Tensor:
    """The last hidden layer of the zoo's glyph classifier, for `frechet_distance` and `precision_recall`.

    It is a small network that tells scripts apart, not Inception: distances in this space are no FIDs.

    Args:
        images: (n, 1, 32, 32) in [0, 1], ink = 1 on ground 0.
        batch_size: images computed at a time; the features do not depend on it.

    Returns:
        (n, 128), on the device of the images.

    Raises:
        ValueError: the images have another shape, or batch_size is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images must have shape (n, 1, 32, 32) with n at least 1, got {tuple(images.shape)}")
    classifier = _classifier(images.device)
    return torch.cat([classifier.features(batch) for batch in images.split(batch_size)])


@lru_cache(maxsize=2)
def _classifier(device: torch.device) -> GlyphClassifier:
    model = zoo.load("glyph-classifier", device=device)
    if not isinstance(model, GlyphClassifier):
        raise ValueError(f"the zoo's glyph-classifier must be a GlyphClassifier, got {type(model).__name__}")
    return model
