"""What damage and augmentation share: the check at the door, and random numbers that follow their generator."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def check_images(images: Tensor) -> None:
    """Refuse anything that is not a batch of grey pictures (n, 1, height, width) in [0, 1]."""
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"images must be (n, 1, height, width), not {tuple(images.shape)}.")
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point in [0, 1], not {images.dtype}.")
    if images.numel() and not (images.amin() >= 0 and images.amax() <= 1):  # also catches NaN
        raise ValueError("images must lie in [0, 1], with ink 1 on a ground of 0.")


def uniform(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    """Numbers from [0, 1), float32, on the device of `like`.

    They are drawn where the generator lives, so a CPU generator gives the same numbers for every device.
    """
    device = like.device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=device).to(like.device)


def normal(shape: tuple[int, ...], like: Tensor, generator: Generator | None) -> Tensor:
    """Standard normal numbers, float32, under the same rule as `uniform`."""
    device = like.device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device).to(like.device)
