"""Measures of single pictures: how near a reconstruction is, how sharp a sample."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def psnr(x: Tensor, x_hat: Tensor) -> Tensor:
    """Peak signal-to-noise ratio −10 log₁₀(mean squared error) of each image, in decibels; the peak is 1.

    Args:
        x, x_hat: images and their reconstructions in [0, 1], one shape (n, ...).

    Returns:
        (n,); infinite where the two are equal. 10 dB more is a tenth of the squared error.

    Raises:
        ValueError: the shapes differ or hold no image.
    """
    if x.shape != x_hat.shape or x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"x and x_hat must have one shape (n, ...), got {tuple(x.shape)} and {tuple(x_hat.shape)}")
    return -10 * (x - x_hat).square().flatten(1).mean(1).log10()


def sharpness(images: Tensor) -> Tensor:
    """Variance of the image after a Laplace filter (as in Tolstikhin et al. 2018): blur makes it small.

    Noise makes it large, and so does contrast: compare it among pictures of one kind, beside that of the data.

    Args:
        images: (n, 1, H, W) with H and W at least 3.

    Returns:
        (n,), in squared grey values.

    Raises:
        ValueError: the images have another shape.
    """
    if images.ndim != 4 or images.shape[1] != 1 or min(images.shape[2:]) < 3 or len(images) == 0:
        raise ValueError(f"images must have shape (n, 1, H, W) with H and W at least 3, got {tuple(images.shape)}")
    kernel = torch.tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=images.dtype, device=images.device)
    return F.conv2d(images, kernel[None, None]).flatten(1).var(1, correction=0)
