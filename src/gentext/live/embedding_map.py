"""`EmbeddingMap` (chapter 4): walk over the plane of two-number codes and decode; change the size of the bottleneck."""

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from gentext import plots, zoo
from gentext.data import ImageSet
from gentext.live import posters, protocol, signs
from gentext.live.base import Contents, LiveFigure
from gentext.live.network import Network

# The published figure: these models of the zoo, one of each kind for each size of the code.
ZOO_SIZES = (2, 4, 8, 16, 32)
ZOO_MODELS = {"nonlinear": "ae-glyphs-{size}", "linear": "linear-ae-glyphs-{size}"}

KIND_NAMES = {"nonlinear": "Non-linear", "linear": "Linear"}
COLOURED = 5  # classes with a colour of their own on the map: the largest ones
GRID = 11  # signs along one side of the poster's decoded plane
ALT = (
    "Left: the two-number codes of the test signs as points in the plane, coloured by script. Right: what the decoder "
    "draws at the points of a grid laid over the same plane. Neighbours look alike; most are blurs between signs."
)


class EncoderNetwork(nn.Module):
    """Images x (n, 1, S, S) -> codes h (n, latent_dim)."""

    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.encode(x)


class DecoderNetwork(nn.Module):
    """Codes h (n, latent_dim) -> images x̂ (n, 1, S, S)."""

    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, h: Tensor) -> Tensor:
        return self.model.decode(h)


class EmbeddingMap(LiveFigure):
    """Walk over a two-dimensional embedding, and see what a wider or narrower code keeps of a sign.

    Args:
        model: an autoencoder of yours, or several as {latent_dim: autoencoder}; `encode(x) -> h (n, latent_dim)` and
            `decode(h) -> images` are what it must have. A model of two latents gets a map. None: the book's own models.
        linear: the same for linear autoencoders, to compare with.
        images: the signs to show; the test glyphs when None.

    Raises ValueError where models and images do not fit together.
    """

    figure = "embedding_map"

    def __init__(
        self,
        model: nn.Module | Mapping[int, nn.Module] | None = None,
        linear: nn.Module | Mapping[int, nn.Module] | None = None,
        images: ImageSet | None = None,
    ) -> None:
        if model is None:
            if linear is not None or images is not None:
                raise ValueError("Pass your model first: EmbeddingMap(my_autoencoder, linear=..., images=...).")
            super().__init__(self.published(), own=False)
        else:
            kinds = {"nonlinear": model} | ({} if linear is None else {"linear": linear})
            models = {kind: list(m.values() if isinstance(m, Mapping) else [m]) for kind, m in kinds.items()}
            super().__init__(contents(models, images), own=True)

    @classmethod
    def published(cls) -> Contents:
        """The book's autoencoders: every size that the zoo has of both kinds."""
        have = set(zoo.names())
        sizes = [size for size in ZOO_SIZES if all(name.format(size=size) in have for name in ZOO_MODELS.values())]
        if 2 not in sizes:
            missing = [name.format(size=2) for name in ZOO_MODELS.values() if name.format(size=2) not in have]
            raise ValueError(f"The zoo has no {missing[0]}; train it with `gentext train {missing[0]}`.")
        models = {kind: [zoo.load(name.format(size=size)) for size in sizes] for kind, name in ZOO_MODELS.items()}
        return contents(models, None)


def contents(models: Mapping[str, list[nn.Module]], images: ImageSet | None) -> Contents:
    """Networks, state and poster for autoencoders of each kind ("nonlinear", "linear")."""
    for model in (model for family in models.values() for model in family):
        for method in ("encode", "decode"):
            if not callable(getattr(model, method, None)):
                raise ValueError(
                    f"EmbeddingMap needs models with encode and decode; {type(model).__name__} has no {method}."
                )
    shown = signs.choose(signs.for_model(models["nonlinear"][0], images), limit=500)
    networks: dict[str, Network] = {}
    codes: dict[str, Tensor] = {}  # of every shown sign, by model: (n, latent_dim)
    for kind, family in models.items():
        for model in family:
            encoder = Network(EncoderNetwork(model), {"x": tuple(shown.images.shape[1:])}, ("h",))
            h = encoder.run({"x": shown.images})["h"]
            name = f"{kind}-{h.shape[1]}"
            if name in codes:
                raise ValueError(
                    f"There are two {KIND_NAMES[kind].lower()} models of {h.shape[1]} latents; one is enough."
                )
            decoder = Network(DecoderNetwork(model), {"h": (h.shape[1],)}, ("image",))
            networks |= {f"{name}-encoder": encoder, f"{name}-decoder": decoder}
            codes[name] = h
    sizes = {kind: sorted(int(name.split("-")[1]) for name in codes if name.startswith(f"{kind}-")) for kind in models}
    if sizes.get("linear", sizes["nonlinear"]) != sizes["nonlinear"]:
        raise ValueError(f"Both kinds need the same code sizes; they are {sizes['nonlinear']} and {sizes['linear']}.")
    sign = signs.opening(shown)
    maps = {kind: codes[f"{kind}-2"] for kind in models if f"{kind}-2" in codes}
    groups = largest_classes(shown)
    start = sizes["nonlinear"][0]
    reconstructions = {}
    for kind in models:
        image = networks[f"{kind}-{start}-decoder"].run({"h": codes[f"{kind}-{start}"][sign : sign + 1]})["image"]
        reconstructions[kind] = protocol.encode_array(image)
    state = {
        "size": shown.images.shape[-1],
        "sizes": sizes["nonlinear"],
        "kinds": [{"kind": kind, "name": KIND_NAMES[kind] if len(models) > 1 else "Your model"} for kind in models],
        "maps": {kind: {"codes": protocol.encode_array(h), "range": plane(h)} for kind, h in maps.items()},
        "groups": groups,
        "signs": signs.state(shown),
        "initial": {"sign": sign, "size": start, "reconstructions": reconstructions},
    }

    def poster() -> Figure:
        if maps:
            return draw_map(networks["nonlinear-2-decoder"], maps["nonlinear"], shown, groups)
        return draw_copies(networks, models, shown, sizes["nonlinear"])

    return Contents(networks, state, poster, ALT if maps else ALT_COPIES)


ALT_COPIES = "Signs in the first row; in each row below, the same signs after a code of the size that the row names."


def plane(h: Tensor) -> list[list[float]]:
    """The part of the plane to show for codes h (n, 2): [[low, high], [low, high]], with a margin.

    A few far-off codes must not squeeze all others into a corner: the range leaves out one in a hundred at each end.
    """
    low, high = h.quantile(0.01, dim=0), h.quantile(0.99, dim=0)
    margin = 0.08 * (high - low).clamp(min=0.01)
    return [[round(a, 4), round(b, 4)] for a, b in zip((low - margin).tolist(), (high + margin).tolist(), strict=True)]


def largest_classes(shown: ImageSet) -> list[int]:
    """The labels that get a colour of their own: the largest classes, largest first; ties in label order."""
    counts = torch.bincount(shown.labels.cpu(), minlength=len(shown.label_names))
    order = counts.argsort(descending=True, stable=True)
    return [label for label in order.tolist()[:COLOURED] if counts[label] > 0]


def draw_map(decoder: Network, codes: Tensor, shown: ImageSet, groups: list[int]) -> Figure:
    """Codes (n, 2) as points on the left; on the right what the decoder draws on a grid over the same plane."""
    (x_low, x_high), (y_low, y_high) = plane(codes)
    figure = posters.blank(6.4, 3.8)
    left, right = figure.subplots(1, 2)
    others = ~torch.isin(shown.labels.cpu(), torch.tensor(groups))
    left.scatter(*codes[others].T.numpy(), s=7, color=plots.GREY, alpha=0.6, linewidths=0, label="all others")
    for index, label in enumerate(groups):
        points = codes[shown.labels.cpu() == label]
        left.scatter(*points.T.numpy(), s=9, color=plots.color(index), linewidths=0, label=shown.label_names[label])
    left.set(xlim=(x_low, x_high), ylim=(y_low, y_high), xlabel="h₁", ylabel="h₂")
    left.set_box_aspect(1)
    figure.legend(fontsize=9, loc="outside upper left", ncols=3, handletextpad=0.2, columnspacing=1, frameon=False)

    xs, ys = torch.linspace(x_low, x_high, GRID), torch.linspace(y_high, y_low, GRID)  # rows from the top down
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1).flatten(0, 1)  # (GRID * GRID, 2)
    drawn = decoder.run({"h": grid})["image"][:, 0]  # (GRID * GRID, S, S)
    size = drawn.shape[-1]
    sheet = drawn.view(GRID, GRID, size, size).permute(0, 2, 1, 3).reshape(GRID * size, GRID * size)
    posters.draw_sign(right, sheet)
    right.set_box_aspect(1)
    return figure


def draw_copies(
    networks: Mapping[str, Network], models: Mapping[str, list[nn.Module]], shown: ImageSet, sizes: list[int]
) -> Figure:
    """Eight signs, and a row of copies for each model."""
    few = signs.choose(shown, limit=8)
    rows = [("sign", few.images)]
    for kind in models:
        for size in sizes:
            codes = networks[f"{kind}-{size}-encoder"].run({"x": few.images})["h"]
            rows.append((f"{kind}, {size}", networks[f"{kind}-{size}-decoder"].run({"h": codes})["image"]))
    figure = posters.blank(6.4, 0.75 * len(rows))
    grid = figure.subplots(len(rows), len(few), squeeze=False)
    for row, (name, images) in enumerate(rows):
        for column in range(len(few)):
            posters.draw_sign(grid[row, column], images[column, 0])
        grid[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return figure
