"""Label-keeping changes: the same sign, cut a little differently. And dynamic binarisation."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from gentext.data.tensors import check_images, uniform


def augment(
    images: Tensor,
    generator: Generator | None = None,
    *,
    rotate: float = 8.0,
    shear: float = 0.12,
    scale: float = 0.1,
    shift: float = 0.04,
    stroke: float = 0.5,
) -> Tensor:
    """Each picture under its own small affine map and stroke width. Its label still holds.

    Drawn evenly from minus to plus: `rotate` in degrees, `shear` (sideways, per unit of height), `scale` (logarithm of
    the size, so 0.1 is about 10 percent), `shift` (part of the side, both ways), `stroke` (1 moves the outline by one
    pixel of 32; plus is thicker). All at 0 returns the pictures unchanged. One `grid_sample`, on any device.

    Args:
        images: (n, 1, height, width) in [0, 1].
        generator: source of all draws; on another device than the images it still works, a little slower.

    Returns:
        The changed pictures, same shape, type and device, in [0, 1].

    Raises:
        ValueError: pictures of another shape, type or range; a negative amount.
    """
    check_images(images)
    for name, value in (("rotate", rotate), ("shear", shear), ("scale", scale), ("shift", shift), ("stroke", stroke)):
        if not value >= 0:
            raise ValueError(f"{name} must be 0 or more, not {value}.")
    if len(images) == 0:
        return images.clone()  # affine_grid refuses an empty batch
    draws = 2 * uniform((6, len(images)), images, generator) - 1  # (6, n) in [-1, 1)
    if rotate == shear == scale == shift == 0:
        moved = images.clone()
    else:
        theta = _affine(draws, math.radians(rotate), shear, scale, shift).to(images.dtype)  # (n, 2, 3)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)  # (n, height, width, 2)
        moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False).clamp(0, 1)
    return moved if stroke == 0 else change_stroke(moved, stroke * draws[5])


def _affine(draws: Tensor, rotate: float, shear: float, scale: float, shift: float) -> Tensor:
    """The maps (n, 2, 3) from a place in the result to a place in the picture, as `affine_grid` wants them.

    Coordinates run from -1 to 1, so a shift by the whole side is 2.
    """
    angle, lean, shrink = rotate * draws[0], shear * draws[1], torch.exp(-scale * draws[2])
    cos, sin = shrink * torch.cos(angle), shrink * torch.sin(angle)
    across, down = 2 * shift * draws[3], 2 * shift * draws[4]
    top = torch.stack([cos, lean * cos - sin, across], dim=-1)  # rotation @ [[1, lean], [0, 1]]
    bottom = torch.stack([sin, lean * sin + cos, down], dim=-1)
    return torch.stack([top, bottom], dim=1)


def change_stroke(images: Tensor, amount: Tensor) -> Tensor:
    """Move the outlines of `images` (n, 1, height, width) outwards (`amount` (n,) > 0) or inwards (< 0).

    Grey dilation and erosion with a plus of five pixels, mixed in by the size of `amount`; at 1 by one pixel of 32.
    """
    thick, thin = images, images
    for _ in range(max(1, round(images.shape[-1] / 32))):  # twice at 64 pixels: the same change to the eye
        thick, thin = _plus_max(thick), 1 - _plus_max(1 - thin)
    amount = amount.clamp(-1, 1).to(images.dtype)[:, None, None, None]  # (n, 1, 1, 1)
    return torch.lerp(images, torch.where(amount >= 0, thick, thin), amount.abs()).clamp(0, 1)


def _plus_max(images: Tensor) -> Tensor:
    """The largest value among each pixel and its four neighbours; the edge repeats itself outwards."""
    wide = F.pad(images, (1, 1, 1, 1), mode="replicate")
    across = torch.maximum(wide[..., 1:-1, :-2], wide[..., 1:-1, 2:])
    down = torch.maximum(wide[..., :-2, 1:-1], wide[..., 2:, 1:-1])
    return torch.maximum(images, torch.maximum(across, down))


def binarise(images: Tensor, generator: Generator | None = None) -> Tensor:
    """Black or white: each pixel is 1 with the probability that its grey value names, drawn anew at every call.

    Drawing anew for each epoch is the dynamic binarisation of Salakhutdinov & Murray (2008) and Burda et al. (2016).

    Args:
        images: (n, 1, height, width) in [0, 1].
        generator: source of the draws.

    Returns:
        Zeros and ones, same shape, type and device.

    Raises:
        ValueError: pictures of another shape, type or range.
    """
    check_images(images)
    return (uniform(tuple(images.shape), images, generator) < images).to(images.dtype)
