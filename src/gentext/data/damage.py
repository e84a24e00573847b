"""What time does to an inscription: wear, cracks, lost pieces, a pitted surface. Each has a strength from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from gentext.data.tensors import check_images, normal, uniform

NUM_CRACKS = 5
CRACK_WIDTH = 0.045  # of the side, half the width of the widest crack at strength 1
CRACK_SHADE = 0.3  # how dark a crack shows on bare ground
MAX_MISSING = 0.6  # part of the picture that is gone at strength 1


def damage(images: Tensor, kind: str, strength: float | Tensor, generator: Generator | None = None) -> Tensor:
    """Each picture with damage of its own.

    The kinds: "erosion" (edges soften and strokes fade where the surface has worn), "cracks" (jagged lines that take
    the ink with them), "missing" (a piece has broken off along a rough edge, to 60 percent of the picture), "noise"
    (a grainy, pitted surface).

    Args:
        images: (n, 1, height, width) in [0, 1].
        kind: one of `DAMAGE_KINDS`.
        strength: one number in [0, 1], or (n,) numbers, one for each picture. 0 leaves a picture exactly as it is.
        generator: source of all draws. A CPU generator gives the same damage on every device.

    Returns:
        The damaged pictures, same shape, type and device, in [0, 1].

    Raises:
        ValueError: an unknown kind; a strength outside [0, 1]; pictures of another shape, type or range.
    """
    check_images(images)
    if kind not in _KINDS:
        raise ValueError(f"There is no damage {kind!r}; the kinds are {', '.join(DAMAGE_KINDS)}.")
    amount = torch.as_tensor(strength, dtype=torch.float32, device=images.device)
    if amount.shape not in ((), images.shape[:1]):
        raise ValueError(f"strength must be one number or ({len(images)},) numbers, not {tuple(amount.shape)}.")
    if amount.numel() and not (amount.amin() >= 0 and amount.amax() <= 1):
        raise ValueError("strength must lie in [0, 1].")
    amount = amount.expand(len(images))[:, None, None, None]  # (n, 1, 1, 1)
    damaged = _KINDS[kind](images.float(), amount, generator).clamp(0, 1).to(images.dtype)
    return torch.where(amount > 0, damaged, images)  # to the last bit, in double precision too


def erode(images: Tensor, amount: Tensor, generator: Generator | None) -> Tensor:
    """Wear: blur the picture, then keep only what rises above a threshold that varies slowly over the surface.

    Worn stone loses fine edges first and whole strokes where the weather reached them. `images` (n, 1, H, W),
    `amount` (n, 1, 1, 1); the same holds for the other kinds below.
    """
    soft = _blur(images, images.shape[-1] / 32)
    wear = torch.sigmoid(1.5 * _smooth_field(images, 4, generator))  # (n, 1, H, W) in (0, 1)
    threshold = 1.1 * amount * wear
    worn = ((soft - threshold) / (1.05 - 0.75 * threshold)).clamp(0, 1)
    return torch.lerp(images, worn, (2 * amount).clamp(max=1))


def crack(images: Tensor, amount: Tensor, generator: Generator | None) -> Tensor:
    """Cracks: jagged lines across the picture that open one after the other and widen as `amount` grows."""
    n, width = len(images), images.shape[-1]
    y, x = _coordinates(images)  # each (H, W) in [-1, 1]
    angle, offset, thin = (part[..., None, None] for part in uniform((3, n, NUM_CRACKS), images, generator).unbind())
    cos, sin = torch.cos(math.pi * angle), torch.sin(math.pi * angle)  # (n, cracks, 1, 1)
    along, aside = x * cos + y * sin, y * cos - x * sin - 1.4 * (offset - 0.5)  # (n, cracks, H, W)
    # A crack wanders off its line: by a random step at each of a few knots, and straight from knot to knot.
    knots = 12
    kinks = 0.09 * normal((n, NUM_CRACKS, knots + 1), images, generator)  # (n, cracks, knots + 1)
    place = ((along / 2**1.5 + 0.5) * knots).clamp(0, knots - 1e-3)
    before = place.long()
    flat = before.flatten(2)
    left, right = (kinks.gather(2, flat + step).view_as(place) for step in (0, 1))
    distance = (aside - torch.lerp(left, right, place - before)).abs()  # (n, cracks, H, W), in half sides
    order = torch.arange(NUM_CRACKS, device=images.device)[:, None, None]
    opened = (amount * (NUM_CRACKS + 1) / 2 - order / 2).clamp(0, 1)  # crack k starts at strength k / (cracks + 1)
    half_width = 2 * CRACK_WIDTH * opened * (0.4 + 0.6 * thin)
    pixel = 2 / width
    depth = ((half_width - distance) / pixel + 0.5).clamp(0, 1)  # (n, cracks, H, W), soft over one pixel
    gap = (depth * (half_width / pixel).clamp(max=1)).amax(1, keepdim=True)  # a hairline is faint, 0 at 0
    return torch.lerp(images, torch.full_like(images, CRACK_SHADE), gap)


def break_off(images: Tensor, amount: Tensor, generator: Generator | None) -> Tensor:
    """A lost piece: everything beyond a rough edge. The lost part of the picture is exactly MAX_MISSING * amount."""
    n, _, height, width = images.shape
    y, x = _coordinates(images)
    angle = 2 * math.pi * uniform((n, 1, 1, 1), images, generator)
    slope = x * torch.cos(angle) + y * torch.sin(angle)  # (n, 1, H, W): rises towards the side that breaks off
    rough = 0.3 * _smooth_field(images, 4, generator) + 0.12 * _smooth_field(images, 11, generator)
    surface = slope + rough
    ranked = surface.flatten(1).sort(dim=1).values  # (n, H * W)
    keep = (1 - MAX_MISSING * amount.flatten()) * (height * width - 1)
    edge = ranked.gather(1, keep.round().long()[:, None])[..., None, None]  # (n, 1, 1, 1)
    gone = ((surface - edge) * width / 3).clamp(0, 1)  # soft over a pixel or two
    return images * (1 - gone)


def pit(images: Tensor, amount: Tensor, generator: Generator | None) -> Tensor:
    """A rough surface: fine grain, coarser grain, and pits that read as ink or take ink away."""
    grain = normal(tuple(images.shape), images, generator)
    coarse = _smooth_field(images, max(2, images.shape[-1] // 3), generator)
    pits = uniform(tuple(images.shape), images, generator)
    shade = uniform(tuple(images.shape), images, generator)
    pitted = torch.where(pits < 0.25 * amount, torch.lerp(images, shade, (2 * amount).clamp(max=1)), images)
    return pitted + amount * (0.25 * grain + 0.25 * coarse)


_KINDS: dict[str, Callable[[Tensor, Tensor, Generator | None], Tensor]] = {
    "erosion": erode,
    "cracks": crack,
    "missing": break_off,
    "noise": pit,
}
DAMAGE_KINDS: tuple[str, ...] = tuple(_KINDS)


def _coordinates(images: Tensor) -> tuple[Tensor, Tensor]:
    """y and x of every pixel's centre, each (H, W), from -1 to 1 across the picture."""
    height, width = images.shape[-2:]
    y = (torch.arange(height, device=images.device) + 0.5) * (2 / height) - 1
    x = (torch.arange(width, device=images.device) + 0.5) * (2 / width) - 1
    return tuple(torch.meshgrid(y, x, indexing="ij"))  # type: ignore[return-value]


def _smooth_field(images: Tensor, cells: int, generator: Generator | None) -> Tensor:
    """A random surface (n, 1, H, W) of about unit variance with hills about H / cells pixels wide."""
    coarse = normal((len(images), 1, cells, cells), images, generator)
    return F.interpolate(coarse, size=images.shape[-2:], mode="bicubic", align_corners=True)


def _blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur with standard deviation `sigma` pixels; the edge repeats itself outwards."""
    reach = max(1, math.ceil(2 * sigma))
    steps = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = kernel / kernel.sum()
    wide = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(wide, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
