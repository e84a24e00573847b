"""`GaussianSigns` (chapter 2): a Gaussian for each script; slide along its directions, shrink it, and classify."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gentext import data
from gentext.data import ImageSet
from gentext.gaussian import PCA, ClassConditionalGaussian, shrink
from gentext.live import posters, protocol, signs
from gentext.live.base import Contents, LiveFigure

SIZES = (8, 16, 32)  # numbers that a sign is described by
OPENING_SCRIPT = "Runic"
SHRINKAGE = 0.2
RANGE = 3.0  # a slider's reach, in standard deviations
SLIDERS = 6
LEVELS = 32767  # of a component's entry, in 16 bits
ALT = (
    "Rows: the four directions in which signs of one script vary most. Columns: from three standard deviations below "
    "the mean sign to three above. The middle column is the same grey blur in every row; to both sides strokes come "
    "forth, dark on one side where they are light on the other."
)


class GaussianSigns(LiveFigure):
    """Generate signs of a script from its Gaussian, and classify signs by all of them.

    Args:
        images: pictures of yours to fit the Gaussians to, at least two of every class. None: the training glyphs.
        test: pictures to classify; `images` themselves when None.
        sizes: how many principal components a picture may be described by; between these a reader chooses.

    Raises ValueError where pictures and sizes do not fit together.
    """

    figure = "gaussian_signs"

    def __init__(
        self, images: ImageSet | None = None, test: ImageSet | None = None, sizes: Sequence[int] = SIZES
    ) -> None:
        if images is None:
            if test is not None or tuple(sizes) != SIZES:
                raise ValueError("Pass the images to fit to first: GaussianSigns(my_images, test=..., sizes=...).")
            super().__init__(self.published(), own=False)
        else:
            super().__init__(contents(images, images if test is None else test, sizes), own=True)

    @classmethod
    def published(cls) -> Contents:
        """The book's figure: Gaussians of the training glyphs, test glyphs to classify."""
        return _published()


@dataclass(frozen=True)
class Parts:
    """What the front end is given, in float64, and what it does with it, by the package.

    picture: (pixels,) the mean picture. components: (d, pixels). model: Gaussians of d coordinates, one covariance for
    each class, not shrunk. A leading part of the coordinates has a leading part of the means and covariances.
    """

    picture: Tensor
    components: Tensor
    model: ClassConditionalGaussian

    @cached_property
    def shared(self) -> Tensor:
        """The covariance about the class means of all pictures, (1, d, d)."""
        return (self.model.log_prior.exp()[:, None, None] * self.model.cov).sum(dim=0, keepdim=True)

    def gaussian(self, size: int, shrinkage: float, shared: bool) -> ClassConditionalGaussian:
        """The model of the first `size` coordinates, shrunk."""
        cov = (self.shared if shared else self.model.cov)[:, :size, :size]
        return ClassConditionalGaussian(
            mean=self.model.mean[:, :size],
            cov=shrink(cov, shrinkage),
            log_prior=self.model.log_prior,
            shrinkage=torch.full((len(cov),), shrinkage, dtype=cov.dtype),
        )

    def encode(self, image: Tensor, size: int) -> Tensor:
        return (image.reshape(1, -1) - self.picture) @ self.components[:size].T  # (1, size)

    def decode(self, code: Tensor) -> Tensor:
        return code @ self.components[: code.shape[1]] + self.picture  # (n, pixels)

    def signs(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the figure shows: a sign of noise, and what the Gaussians take it for.

        Args:
            inputs: noise (size,), script, shrinkage, shared (0 or 1), classify (0 or 1); where another picture is to be
                classified in place of the generated one, judged (pixels,).

        Returns:
            image (pixels,); of another picture what `size` coordinates keep, kept (pixels,); if asked to classify,
            posterior (classes,). ValueError if there is no density to classify by.
        """
        noise = inputs["noise"].reshape(1, -1)  # (1, size)
        size = noise.shape[1]
        model = self.gaussian(size, float(inputs["shrinkage"]), bool(inputs["shared"]))
        image = self.decode(model.push(noise, inputs["script"].long().reshape(1)))[0]
        outputs = {"image": image}
        code = self.encode(inputs.get("judged", image), size)
        if "judged" in inputs:
            outputs["kept"] = self.decode(code)[0]
        if inputs["classify"]:
            outputs["posterior"] = model.log_posterior(code)[0].exp()
        return outputs


@cache
def _published() -> Contents:
    return contents(data.load("glyphs", "train"), data.load("glyphs", "test"), SIZES)


def contents(images: ImageSet, test: ImageSet, sizes: Sequence[int]) -> Contents:
    """State, poster and twins for Gaussians fitted to `images`."""
    sizes = sorted(set(sizes))
    if images.images.shape[-2:] != test.images.shape[-2:] or images.label_names != test.label_names:
        raise ValueError("images and test must have pictures of one size and the same classes.")
    if images.images.shape[-1] != images.images.shape[-2] or len(test) == 0:
        raise ValueError("GaussianSigns needs square pictures, and at least one to classify.")
    counts = torch.bincount(images.labels.cpu(), minlength=len(images.label_names))
    if int(counts.min()) < 2:
        raise ValueError(f"The class {images.label_names[int(counts.argmin())]} needs at least two pictures.")
    if len(counts) < 2 or not sizes or sizes[0] < 1:
        raise ValueError("GaussianSigns needs two classes or more, and sizes of at least 1.")
    rows = images.images.flatten(1).cpu().double()
    pca = PCA.fit(rows, sizes[-1])

    # The front end gets rounded numbers. Round first and fit then, so that there is nothing to tell the two apart.
    scale = float(pca.components.abs().max()) / LEVELS
    steps = (pca.components / scale).round()
    picture = pca.mean.float().double()
    components = steps * scale
    found = ClassConditionalGaussian.fit((rows - picture) @ components.T, images.labels.cpu(), "full")
    lower = torch.tril_indices(sizes[-1], sizes[-1])
    cov = found.cov.float().double()
    model = ClassConditionalGaussian(
        mean=found.mean.float().double(), cov=cov, log_prior=found.log_prior, shrinkage=found.shrinkage
    )
    parts = Parts(picture, components, model)
    shown = signs.choose(test, limit=150, per_class=4)
    names = list(images.label_names)
    script = names.index(OPENING_SCRIPT) if OPENING_SCRIPT in names else 0
    state = {
        "side": images.images.shape[-1],
        "sizes": sizes,
        "range": RANGE,
        "sliders": SLIDERS,
        "classes": names,
        "counts": counts.tolist(),
        "picture": protocol.encode_array(picture),
        "components": {
            "shape": list(steps.shape),
            "scale": scale,
            "data": base64.b64encode(steps.numpy().astype("<i2").tobytes()).decode("ascii"),
        },
        "mean": protocol.encode_array(model.mean),
        "cov": protocol.encode_array(cov[:, lower[0], lower[1]]),
        "signs": signs.state(shown),
        "initial": {"script": script, "size": sizes[-1], "shrinkage": SHRINKAGE, "sign": signs.opening(shown)},
    }

    def poster() -> Figure:
        return draw_poster(parts, sizes[-1], script, images.images.shape[-1])

    return Contents({}, state, poster, ALT, computed={"signs": parts.signs})


def draw_poster(parts: Parts, size: int, script: int, side: int) -> Figure:
    """The first four directions of one class, a row each, through the slider's range."""
    model = parts.gaussian(size, SHRINKAGE, shared=False)
    std, directions = model.spectrum
    steps = torch.linspace(-RANGE, RANGE, 7, dtype=torch.float64)
    figure = posters.blank(6.4, 3.6)
    rows = min(4, size)
    grid: Any = figure.subplots(rows, len(steps), squeeze=False)
    for row in range(rows):
        reach = steps[:, None] * std[script, row] * directions[script, :, row]  # (7, size)
        pictures = parts.decode(model.mean[script] + reach).reshape(len(steps), side, side).clamp(0, 1)
        for column, step in enumerate(steps.tolist()):
            heading = ("mean" if step == 0 else f"{step:+.0f}σ".replace("-", "−")) if row == 0 else None
            posters.draw_sign(grid[row, column], pictures[column].float(), heading)
        grid[row, 0].set_ylabel(f"direction {row + 1}", rotation=0, labelpad=32, fontsize=9, va="center")
    return figure
