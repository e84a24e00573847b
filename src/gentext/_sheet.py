"""Samples of a model as one picture."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

MARGIN, SCALE = 2, 3  # pixels of ground around each sample, and screen pixels for each of its pixels


def draw(model: nn.Module, n: int, seed: int, label: int | None, temperature: float) -> Tensor:
    """n samples (n, channels, H, W) on the CPU. A model of classes gets `label`, or classes drawn at random.

    Raises:
        ValueError: the model does not sample images, or not by class or temperature though that was asked for.
    """
    sampler: Any = getattr(model, "sample", None)
    if sampler is None:
        raise ValueError(f"a {type(model).__name__} does not sample: choose a generative model")
    accepted = inspect.signature(sampler).parameters
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    options: dict[str, Any] = {}
    num_classes = getattr(getattr(model, "config", None), "num_classes", 0)
    if "label" in accepted and num_classes:
        if label is not None and label >= num_classes:
            raise ValueError(f"label must be below {num_classes}, got {label}")
        drawn = torch.randint(num_classes, (n,), generator=generator, device=device)
        options["label"] = drawn if label is None else torch.full_like(drawn, label)
    elif label is not None:
        raise ValueError("this model knows no classes: leave the label out")
    if "temperature" in accepted:
        options["temperature"] = temperature
    elif temperature != 1:
        raise ValueError(f"a {type(model).__name__} has no temperature: leave it out")
    images = sampler(n, generator=generator, **options)
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"a {type(model).__name__} does not sample images, and only images go on a sheet")
    return images.detach().float().cpu()


def write_sheet(images: Tensor, path: Path) -> None:
    """Write images (n, 1 or 3, H, W) in [0, 1] as a nearly square sheet. One channel is ink: 1 is drawn dark."""
    from matplotlib.image import imsave

    n, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    pixels = (1 - images if channels == 1 else images).clamp(0, 1).expand(n, 3, height, width)
    padded = torch.ones(rows * columns, 3, height + 2 * MARGIN, width + 2 * MARGIN)
    padded[:n, :, MARGIN:-MARGIN, MARGIN:-MARGIN] = pixels
    sheet = padded.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # (H, W, 3)
    sheet = sheet.repeat_interleave(SCALE, 0).repeat_interleave(SCALE, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    imsave(path, sheet.numpy())
