"""Refusing bad input at the door, with a sentence that says what would be right."""

from __future__ import annotations

import torch
from torch import Tensor


def check_images(x: Tensor, channels: int, image_size: int) -> Tensor:
    """Return `x` if it is a batch of images (n, channels, image_size, image_size) of floats, else raise ValueError."""
    wanted = (channels, image_size, image_size)
    if x.ndim != 4 or tuple(x.shape[1:]) != wanted:
        raise ValueError(
            f"images must have shape (n, {channels}, {image_size}, {image_size}), got {tuple(x.shape)}"
            + ("; add the batch dimension with x[None]" if tuple(x.shape) == wanted else "")
        )
    if not x.is_floating_point():
        raise ValueError(
            f"images must be floating point in [0, 1], got {x.dtype}; divide by 255 first if they are bytes"
        )
    return x


def check_codes(z: Tensor, width: int, name: str = "z") -> Tensor:
    """Return `z` if it is a batch of vectors (n, width), else raise ValueError."""
    if z.ndim != 2 or z.shape[1] != width:
        raise ValueError(f"{name} must have shape (n, {width}), got {tuple(z.shape)}")
    return z


def check_labels(label: Tensor | None, count: int, num_classes: int) -> Tensor | None:
    """Return class labels (n,) fit for a model with `num_classes` classes (0: unconditional, labels are ignored)."""
    if num_classes == 0:
        return None
    if label is None:
        raise ValueError(f"this model is class-conditional: pass one label in 0..{num_classes - 1} per image")
    if label.shape != (count,):
        raise ValueError(f"label must have shape ({count},), got {tuple(label.shape)}")
    if torch.compiler.is_compiling():  # a traced graph cannot branch on values; its caller has checked them
        return label
    if label.is_floating_point() or label.min() < 0 or label.max() >= num_classes:
        raise ValueError(
            f"labels must be integers in 0..{num_classes - 1}, got {label.min()}..{label.max()} of {label.dtype}"
        )
    return label
