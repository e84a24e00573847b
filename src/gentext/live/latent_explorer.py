"""`LatentExplorer` (chapter 5): a slider for each latent of a VAE; encode a sign or a drawing; walk; change β."""

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from gentext import zoo
from gentext.data import ImageSet
from gentext.live import posters, protocol, signs
from gentext.live.base import Contents, LiveFigure
from gentext.live.network import Network

# The published figure: this model of the zoo, those beside it that differ in β alone, and the one that is told the
# script. β = 1/16 stays out: to the eye its pictures are those of 0.25, and with it the networks would weigh over 4 MB.
ZOO_MODEL = "vae-glyphs"
ZOO_VARIANTS = "vae-glyphs-beta-"
ZOO_LEFT_OUT = ("vae-glyphs-beta-0.0625",)
ZOO_CONDITIONAL = "cvae-glyphs"

RANGE = 3.0  # a slider's reach, in standard deviations of the prior
ALT = (
    "Left: one sign, and what the variational autoencoder makes of it. Right: the same code with one latent at a time "
    f"moved from −{RANGE:.0f} to +{RANGE:.0f} prior standard deviations, a row for each of the five latents that carry "
    "most. Each row changes the drawing smoothly, in a way of its own."
)


class PosteriorNetwork(nn.Module):
    """Images x (n, 1, S, S) -> mean and log variance, (n, latent_dim) each.

    A conditional model is told the labels (n,), which arrive as floats because the protocol knows no other numbers.
    """

    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        posterior = self.model.encode(x) if label is None else self.model.encode(x, label.long())
        return posterior.mean, posterior.log_var


class LikelihoodNetwork(nn.Module):
    """Codes z (n, latent_dim), and labels (n,) as above -> pixel means (n, 1, S, S)."""

    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return self.model.decode(z) if label is None else self.model.decode(z, label.long())


class LatentExplorer(LiveFigure):
    """Move through the latent space of a VAE.

    Args:
        model: a VAE of yours, or several as {name: VAE} with the same latents, between which a slider changes. Anything
            with `encode(x) -> (mean, log_var)` as attributes and `decode(z)` will do. None: the book's own models.
        images: what can be encoded; the test glyphs when None.

    Raises ValueError where models and images do not fit together.
    """

    figure = "latent_explorer"

    def __init__(
        self, model: nn.Module | Mapping[Any, nn.Module] | None = None, images: ImageSet | None = None
    ) -> None:
        if model is None:
            if images is not None:
                raise ValueError("Pass the model that belongs to the images: LatentExplorer(my_vae, images).")
            super().__init__(self.published(), own=False)
        else:
            models = dict(model) if isinstance(model, Mapping) else {_name(model): model}
            super().__init__(contents(models, images), own=True)

    @classmethod
    def published(cls) -> Contents:
        """The book's VAEs in order of β, and the conditional one."""
        names = [name for name in zoo.names() if name == ZOO_MODEL or name.startswith(ZOO_VARIANTS)]
        names = [name for name in names if name not in ZOO_LEFT_OUT]
        if ZOO_MODEL not in names:
            raise ValueError(f"The zoo has no {ZOO_MODEL}; train it with `gentext train {ZOO_MODEL}`.")
        models: list[Any] = sorted((zoo.load(name) for name in names), key=lambda model: model.config.beta)
        named = {_name(model): model for model in models}
        if ZOO_CONDITIONAL in zoo.names():
            named["told the script"] = zoo.load(ZOO_CONDITIONAL)
        return contents(named, None)


def _name(model: nn.Module) -> str:
    beta = getattr(getattr(model, "config", None), "beta", None)
    return "model" if beta is None else f"β = {beta:g}"


def contents(models: Mapping[Any, nn.Module], images: ImageSet | None) -> Contents:
    """Networks, state and poster for models with equally many latents.

    Names become the labels of the β slider; a conditional model among others gets a switch of its own.
    """
    if not models:
        raise ValueError("LatentExplorer needs at least one model.")
    first = next(iter(models.values()))
    shown = signs.choose(signs.for_model(first, images), limit=150, per_class=8)
    networks: dict[str, Network] = {}
    entries: list[dict[str, Any]] = []
    for index, (name, model) in enumerate(models.items()):
        encoder, decoder, entry = _describe(model, shown)
        if entries and entry["latents"] != entries[0]["latents"]:
            wanted, has = entries[0]["latents"], entry["latents"]
            raise ValueError(f"All models need the same number of latents; {name} has {has}, not {wanted}.")
        networks |= {f"encoder-{index}": encoder, f"decoder-{index}": decoder}
        entries.append({"name": str(name), "encoder": f"encoder-{index}", "decoder": f"decoder-{index}", **entry})
    start = _start(models, entries)
    sign = signs.opening(shown)
    initial = _initial(networks, entries[start], shown, sign)
    state = {
        "size": shown.images.shape[-1],
        "range": RANGE,
        "models": entries,
        "signs": signs.state(shown),
        "initial": {
            "model": start,
            "sign": sign,
            **{key: protocol.encode_array(value) for key, value in initial.items()},
        },
    }
    conditional = bool(entries[start]["classes"])
    label = int(shown.labels[sign]) if conditional else None

    def poster() -> Figure:
        return draw_poster(networks[entries[start]["decoder"]], shown.images[sign, 0], initial, entries[start], label)

    return Contents(networks, state, poster, ALT)


def _start(models: Mapping[Any, nn.Module], entries: list[dict[str, Any]]) -> int:
    """The model to open with: β = 1 where there is one, else the first."""
    betas = [getattr(getattr(model, "config", None), "beta", None) for model in models.values()]
    return betas.index(1.0) if 1.0 in betas else 0


def _describe(model: nn.Module, shown: ImageSet) -> tuple[Network, Network, dict[str, Any]]:
    """The two networks of one model, and what the front end must know of it: its latents, which carry most first."""
    for method in ("encode", "decode"):
        if not callable(getattr(model, method, None)):
            raise ValueError(
                f"LatentExplorer needs a model with encode and decode; {type(model).__name__} has no {method}."
            )
    classes = getattr(getattr(model, "config", None), "num_classes", 0)
    extra: dict[str, tuple[int, ...]] = {"label": ()} if classes else {}
    size = shown.images.shape[-1]
    encoder = Network(PosteriorNetwork(model), {"x": (1, size, size), **extra}, ("mean", "log_var"))
    inputs = {"x": shown.images} | ({"label": shown.labels.float()} if classes else {})
    if classes and classes < len(shown.label_names):
        raise ValueError(f"The model knows {classes} classes, the images have {len(shown.label_names)}.")
    posterior = encoder.run(inputs)
    kl = kl_per_latent(posterior["mean"], posterior["log_var"]).mean(0)  # (latent_dim,)
    decoder = Network(LikelihoodNetwork(model), {"z": (len(kl), *()), **extra}, ("image",))
    entry = {
        "latents": len(kl),
        "order": kl.argsort(descending=True).tolist(),
        "kl": [round(value, 4) for value in kl.tolist()],
        "classes": list(shown.label_names[:classes]) if classes else [],
    }
    return encoder, decoder, entry


def kl_per_latent(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, var) ‖ N(0, 1)) of each latent in nats, same shape (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var)


def _initial(networks: Mapping[str, Network], entry: dict[str, Any], shown: ImageSet, sign: int) -> dict[str, Tensor]:
    """What the figure shows before its first call: one sign encoded and decoded."""
    label = {"label": shown.labels[sign : sign + 1].float()} if entry["classes"] else {}
    posterior = networks[entry["encoder"]].run({"x": shown.images[sign : sign + 1], **label})
    decoded = networks[entry["decoder"]].run({"z": posterior["mean"], **label})
    return {**posterior, **decoded}


def draw_poster(
    decoder: Network, sign: Tensor, initial: dict[str, Tensor], entry: dict[str, Any], label: int | None
) -> Figure:
    """The sign (S, S), its reconstruction, and the five latents that carry most, each through the slider's range."""
    rows = min(5, entry["latents"])
    steps = torch.linspace(-RANGE, RANGE, 7)
    codes = initial["mean"].repeat(rows * len(steps), 1)  # (rows * 7, latent_dim)
    for row in range(rows):
        codes[row * len(steps) : (row + 1) * len(steps), entry["order"][row]] = steps
    inputs = {"z": codes} | ({"label": torch.full((len(codes),), float(label))} if label is not None else {})
    walks = decoder.run(inputs)["image"][:, 0].unflatten(0, (rows, len(steps)))  # (rows, 7, S, S)
    figure = posters.blank(6.4, 0.62 * rows + 0.5)
    sides: Any = figure.subfigures(1, 2, width_ratios=[1, 3.4])  # an array of two; its stub says otherwise
    left, right = sides
    above, below = left.subplots(2, 1)
    posters.draw_sign(above, sign, "sign")
    posters.draw_sign(below, initial["image"][0, 0], "decoded")
    grid = right.subplots(rows, len(steps), squeeze=False)
    for row in range(rows):
        for column, step in enumerate(steps.tolist()):
            heading = (f"{step:+.0f}σ".replace("-", "−") if step else "0") if row == 0 else None
            posters.draw_sign(grid[row, column], walks[row, column], heading)
        grid[row, 0].set_ylabel(f"$z_{{{entry['order'][row] + 1}}}$", rotation=0, labelpad=12, fontsize=9, va="center")
    return figure
