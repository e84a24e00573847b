"""`DiffusionSteps` (chapter 10): a sign under the noise of any time t, the network's guess of it, and the walk back.

The page puts the noise on and draws each step back by itself; the network says what it takes a noisy sign to be.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gentext.data import ImageSet
from gentext.diffusion import GaussianDiffusion
from gentext.live import denoiser, posters, protocol, signs
from gentext.live.base import Computed, Contents
from gentext.live.network import Network

STEPS = (10, 25, 50, 100, 250)  # times that a walk over the whole chain can visit
OPENING_STEPS = 50
OPENING_TIME = 0.6  # share of T: much is hidden, and the guess still right in the main
POSTER_TIMES = (0.1, 0.3, 0.5, 0.65, 0.8, 1.0)
SEED = 1
ALT = (
    "Upper row: one sign under more and more noise, until nothing but noise is to be seen. Lower row: what the network "
    "takes each picture to be. While the strokes can be made out it gives the sign back, later a blurred mixture of "
    "the signs that it might be, and of pure noise no more than a grey spot in the middle."
)


class DiffusionSteps(denoiser.DiffusionFigure):
    """Slide through the chain of a diffusion model, and walk back through it.

    `images` are what noise can be put on; model and errors as in `DiffusionFigure`.
    """

    figure = "diffusion_steps"

    @classmethod
    def contents(cls, model: GaussianDiffusion, images: ImageSet | None) -> Contents:
        return contents(model, images)


def contents(model: GaussianDiffusion, images: ImageSet | None) -> Contents:
    """Network, state and poster for one model."""
    shown = signs.choose(denoiser.pictures(model, images, "DiffusionSteps"), limit=150, per_class=8)
    network = denoiser.network(model)
    last, num_classes = model.schedule.num_steps, model.config.shape.num_classes
    size = shown.images.shape[-1]
    sign, time = signs.opening(shown), round(OPENING_TIME * last)
    label = shown.labels[sign : sign + 1] if num_classes else None
    x0 = model.centred(shown.images[sign : sign + 1].float())
    noise = denoiser.seeded_noise(SEED, size * size).view(1, 1, size, size)
    steps = [count for count in STEPS if count <= last] or [last]
    state = {
        "size": size,
        "log_alpha_bar": protocol.encode_array(model.schedule.log_alpha_bar(torch.arange(last + 1))),
        "clip": model.config.clip,
        "classes": list(shown.label_names) if num_classes else [],
        "steps": steps,
        "signs": signs.state(shown),
        "initial": {
            "sign": sign,
            "t": time,
            "seed": SEED,
            "steps": min(steps, key=lambda count: abs(count - OPENING_STEPS)),
            "guess": protocol.encode_array(look(model, network, x0, torch.tensor([time]), noise, label)[1][0, 0]),
        },
    }

    def poster() -> Figure:
        return draw_poster(model, network, x0, noise, label)

    return Contents({denoiser.NAME: network}, state, poster, ALT, twins(model))


def look(
    model: GaussianDiffusion, network: Network, x0: Tensor, t: Tensor, noise: Tensor, label: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One datum and one noise (1, 1, S, S) at times (n,): x_t, and what the network takes it to be, (n, 1, S, S)."""
    x_t = model.noised(x0.expand(len(t), -1, -1, -1), t, noise.expand(len(t), -1, -1, -1))
    told = {} if label is None else {"label": label.float().expand(len(t))}
    found = network.run({"x_t": x_t, "log_snr": model.schedule.log_snr(t).float(), **told})
    return x_t, model.clipped(found["x0"])


# ---- what the page computes, by the package --------------------------------------------------------------------------


def twins(model: GaussianDiffusion) -> dict[str, Computed]:
    def noised(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """x₀, noise (1, 1, S, S) and t (1,) -> x_t and its log-SNR."""
        t = given["t"].long()
        return {"x_t": model.noised(given["x0"], t, given["noise"]), "log_snr": model.schedule.log_snr(t)}

    def step_back(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A guess of x₀, x_t, noise (1, 1, S, S), and t > s (1,) -> a draw of x_s from the posterior."""
        posterior = model.posterior(given["x0"], given["x_t"], given["t"].long(), given["s"].long())
        return {"x_s": posterior.mean + posterior.std * given["noise"]}

    return {"noised": noised, "step_back": step_back}


# ---- the still picture -----------------------------------------------------------------------------------------------


def draw_poster(model: GaussianDiffusion, network: Network, x0: Tensor, noise: Tensor, label: Tensor | None) -> Figure:
    """The sign under the noise of six times, and the network's guess at each."""
    last = model.schedule.num_steps
    times = torch.tensor([max(1, round(share * last)) for share in POSTER_TIMES])
    noisy, guesses = look(model, network, x0, times, noise, label)
    figure = posters.blank(6.6, 2.2)
    grid = figure.subplots(2, len(times) + 1)
    posters.draw_sign(grid[0, 0], model.pixels(x0)[0, 0], "the sign")
    grid[1, 0].text(0.5, 0.5, "the network's\nguess", ha="center", va="center", fontsize=9)
    grid[1, 0].axis("off")
    for column, t in enumerate(times.tolist(), start=1):
        posters.draw_sign(grid[0, column], model.pixels(noisy)[column - 1, 0], f"t = {t}")
        posters.draw_sign(grid[1, column], model.pixels(guesses)[column - 1, 0])
    return figure
