"""What the figures of chapters 10 and 11 share in Python: whose model, the network, its pictures, the page's noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gentext import zoo
from gentext.data import ImageSet
from gentext.diffusion import GaussianDiffusion
from gentext.live import signs
from gentext.live.base import Contents, LiveFigure
from gentext.live.network import Network

ZOO_MODEL = "diffusion-glyphs"
NAME = "denoiser"  # of the network, in every figure that has it


class DiffusionFigure(LiveFigure):
    """A figure with the reader's diffusion model or the book's. A subclass says in `contents` what it makes of one.

    Args:
        model: a `GaussianDiffusion` of yours; the book's own when None.
        images: signs that belong to the model; the test glyphs when None.

    Raises ValueError where model and images do not fit together.
    """

    def __init__(self, model: GaussianDiffusion | None = None, images: ImageSet | None = None) -> None:
        if model is None:
            if images is not None:
                name = type(self).__name__
                raise ValueError(f"Pass the model that belongs to the images: {name}(my_diffusion, images).")
            super().__init__(self.published(), own=False)
        else:
            super().__init__(self.contents(model, images), own=True)

    @classmethod
    def published(cls) -> Contents:
        """The book's diffusion model of signs."""
        if ZOO_MODEL not in zoo.names():
            raise ValueError(f"The zoo has no {ZOO_MODEL}; train it with `gentext train {ZOO_MODEL}`.")
        model: Any = zoo.load(ZOO_MODEL)
        return cls.contents(model, None)

    @classmethod
    def contents(cls, model: GaussianDiffusion, images: ImageSet | None) -> Contents:
        """Network, state and poster for one model."""
        raise NotImplementedError


class DenoiserNetwork(nn.Module):
    """x_t (n, 1, S, S), log-SNRs (n,) and labels (n,) -> the estimate of x₀ (n, 1, S, S), not clipped.

    Labels arrive as floats because the protocol knows no other numbers; the model's `num_classes` is the null class.
    Given x_t, the estimates of x₀, ε and v are linear in each other, so guidance may mix any of them; clipping is not
    linear, and comes after it.
    """

    model: Any

    def __init__(self, model: GaussianDiffusion) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_t: Tensor, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        return self.model.predict(x_t, log_snr, None if label is None else label.long())[0]


def network(model: GaussianDiffusion) -> Network:
    """The denoiser as a figure calls it. One that knows no classes has no input `label`."""
    shape = model.config.shape
    told: dict[str, tuple[int | str, ...]] = {"label": ()} if shape.num_classes else {}
    picture = (shape.channels, shape.image_size, shape.image_size)
    return Network(DenoiserNetwork(model), {"x_t": picture, "log_snr": (), **told}, ("x0",))


def pictures(model: Any, images: ImageSet | None, figure: str) -> ImageSet:
    """The images that a figure with this model shows: the given ones, else the test glyphs.

    Raises ValueError where the model is no diffusion model of grey pictures, or does not fit the images.
    """
    if not isinstance(model, GaussianDiffusion):
        raise ValueError(f"{figure} needs a gentext.diffusion.GaussianDiffusion, not {type(model).__name__}.")
    shape = model.config.shape
    if shape.channels != 1:
        raise ValueError(f"{figure} draws grey pictures; the model makes {shape.channels} channels.")
    sized: Any = SimpleNamespace(config=shape)
    found = signs.for_model(sized, images)
    if shape.num_classes and shape.num_classes != len(found.label_names):
        raise ValueError(f"The model knows {shape.num_classes} classes, the images have {len(found.label_names)}.")
    return found


# ---- noise -----------------------------------------------------------------------------------------------------------


def seeded_noise(seed: int, count: int) -> Tensor:
    """The first `count` normal numbers of `createRandom(seed)` in diffusion_math.mjs: (count,) float32.

    Mulberry32 hashes a counter, so that all its words can be had at once; Box and Muller (1958) make two normal numbers
    of two words.
    """
    mask = 0xFFFFFFFF
    pairs = (count + 1) // 2
    state = (
        seed + 0x6D2B79F5 * torch.arange(1, 2 * pairs + 1)
    ) & mask  # int64: products wrap, their low bits are right
    t = ((state ^ (state >> 15)) * (state | 1)) & mask
    t = ((t + (t ^ (t >> 7)) * (t | 61)) & mask) ^ t
    words = (t ^ (t >> 14)).double().view(pairs, 2)
    radius = (-2 * ((words[:, 0] + 1) / 2**32).log()).sqrt()
    angle = 2 * math.pi * words[:, 1] / 2**32
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1).flatten()[:count].float()


class GivenNoise(TorchFunctionMode):
    """Within this context `torch.randn` returns the given tensors, one after the other, in the asked shape and type.

    So a sampler of the package can be asked what it makes of the noise that a page has drawn.
    """

    def __init__(self, noises: Sequence[Tensor]) -> None:
        super().__init__()
        self.noises = iter(noises)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not torch.randn:
            return func(*args, **kwargs)
        shape = args[0] if len(args) == 1 and not isinstance(args[0], int) else args
        return next(self.noises).reshape(shape).to(kwargs.get("dtype") or torch.get_default_dtype())
