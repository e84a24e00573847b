"""Label-keeping changes: the same sign, cut a little differently. And dynamic binarisation."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def check_images(images: Tensor) -> None:
    """Refuse anything that is not a batch of grey pictures (n, 1, height, width) in [0, 1]."""
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"images must be (n, 1, height, width), not {tuple(images.shape)}.")
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point in [0, 1], not {images.dtype}.")
    if images.numel() and not (images.amin() >= 0 and images.amax() <= 1):
        raise ValueError("images must lie in [0, 1], with ink 1 on a ground of 0.")


def uniform(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    """Numbers from [0, 1), float32 on the device of `like`. A generator on another device is drawn from there and copied over."""
    device = like.device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=device).to(like.device)


def normal(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    """Standard normal numbers, under the same rule as `uniform`."""
    device = like.device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device).to(like.device)


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
    """Each picture of `images` (n, 1, height, width) under its own small affine map and stroke width. The label still holds.

    Drawn evenly from minus to plus: `rotate` degrees, `shear` (sideways, per unit of height), `scale` (log of the size, so 0.1 is
    about 10 percent), `shift` (part of the side), `stroke` (1 moves the outline by about one pixel of 32: outwards when positive).
    All at 0 returns the pictures unchanged. One `grid_sample`; any device; values stay in [0, 1].
    """
    check_images(images)
    for name, value in (("rotate", rotate), ("shear", shear), ("scale", scale), ("shift", shift), ("stroke", stroke)):
        if value < 0:
            raise ValueError(f"{name} must be 0 or more, not {value}.")
    if rotate == shear == scale == shift == stroke == 0:
        return images.clone()
    n = len(images)
    draws = 2 * uniform((6, n), images, generator) - 1  # (6, n) in [-1, 1)
    turn, lean, grow = draws[0] * math.radians(rotate), draws[1] * shear, torch.exp(-draws[2] * scale)
    cos, sin = torch.cos(turn) * grow, torch.sin(turn) * grow
    # Output coordinates to input coordinates, as grid_sample wants them: rotation times shear, then a shift. Sides are 2 units long.
    theta = torch.stack(
        [
            torch.stack([cos, lean * cos - sin, 2 * shift * draws[3]], dim=-1),
            torch.stack([sin, lean * sin + cos, 2 * shift * draws[4]], dim=-1),
        ],
        dim=1,
    )  # (n, 2, 3)
    grid = F.affine_grid(theta.to(images.dtype), list(images.shape), align_corners=False)  # (n, height, width, 2)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if stroke == 0:
        return moved.clamp(0, 1)
    return change_stroke(moved, stroke * draws[5])


def change_stroke(images: Tensor, amount: Tensor) -> Tensor:
    """Move the outlines of `images` (n, 1, height, width) outwards (`amount` (n,) > 0) or inwards (< 0).

    Grey dilation and erosion with a 3x3 plus, mixed with the picture by the size of `amount`; at 1 outlines move one pixel of 32.
    """
    rounds = max(1, round(images.shape[-1] / 32))  # the same change for the eye at 64 pixels
    amount = amount.clamp(-1, 1).to(images.dtype)[:, None, None, None]
    thick, thin = images, images
    for _ in range(rounds):
        thick, thin = _plus_max(thick), 1 - _plus_max(1 - thin)
    target = torch.where(amount >= 0, thick, thin)
    return torch.lerp(images, target, amount.abs()).clamp(0, 1)


def _plus_max(images: Tensor) -> Tensor:
    """Largest value among a pixel and its four neighbours."""
    across = F.max_pool2d(images, (1, 3), stride=1, padding=(0, 1))
    down = F.max_pool2d(images, (3, 1), stride=1, padding=(1, 0))
    return torch.maximum(across, down)


def binarise(images: Tensor, generator: Generator | None = None) -> Tensor:
    """Black or white: each pixel is 1 with the probability that its grey value names, drawn anew at every call.

    `images` (n, 1, height, width) in [0, 1]; the result has the same shape, type and device, with values 0 and 1. Drawing anew for each
    epoch is the "dynamic binarisation" of Salakhutdinov & Murray (2008) and Burda et al. (2016).
    """
    check_images(images)
    return (uniform(tuple(images.shape), images, generator) < images).to(images.dtype)
