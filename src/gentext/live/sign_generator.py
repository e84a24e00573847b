"""`SignGenerator` (chapter 11): sixteen signs form from noise; damaged signs are restored.

The page walks (`diffusion_math.mjs`) and asks the network for nothing but estimates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from gentext.data import ImageSet
from gentext.diffusion import GaussianDiffusion
from gentext.diffusion_sampling import (
    SAMPLERS,
    Denoiser,
    Step,
    classifier_free_guidance,
    dpm_solver_2m,
    inpaint,
    karras_grid,
)
from gentext.live import denoiser, posters, protocol, signs
from gentext.live.base import Computed, Contents
from gentext.live.network import Network

OPENING_SCRIPT = "Runic"
COUNT = 16  # signs
STREAMS = 1000  # a seed's streams of noise: one for each sign, one for the restoration
GUIDANCE = 1.5
NUM_STEPS = 20
HIGHEST = 80.0  # σ of the noisiest level, where the chain reaches so far
SAMPLER_NAMES = {
    "ancestral": "ancestral",
    "ddim": "DDIM",
    "heun": "Heun",
    "dpm-solver++2m": "DPM-Solver++(2M)",
}
ALT = (
    "Sixteen signs in two rows. A diffusion model was told one script, and drew each from noise of its own: most "
    "differ from one another, and all share the weight of their strokes and the manner of the script."
)


class SignGenerator(denoiser.DiffusionFigure):
    """Ask for signs of a script and watch sixteen of them form; erase a part of a sign and have it filled in.

    `images` are the signs to damage and restore, which also name the classes; model and errors as in `DiffusionFigure`.
    """

    figure = "sign_generator"

    @classmethod
    @cache  # the opening signs take some seconds
    def published(cls) -> Contents:
        return super().published()

    @classmethod
    def contents(cls, model: GaussianDiffusion, images: ImageSet | None) -> Contents:
        return contents(model, images)


def contents(model: GaussianDiffusion, images: ImageSet | None = None) -> Contents:
    """Network, state, poster and twins for one model."""
    found = denoiser.pictures(model, images, "SignGenerator")
    shown = signs.choose(found, limit=110, per_class=5)
    network = denoiser.network(model)
    classes = list(found.label_names) if model.config.shape.num_classes else []
    levels = model.schedule.sigma(torch.tensor([1.0, model.schedule.num_steps])).tolist()
    label = (classes.index(OPENING_SCRIPT) if OPENING_SCRIPT in classes else 0) if classes else None
    settings: dict[str, Any] = {
        "label": label,
        "guidance": GUIDANCE if classes else 1.0,
        "sampler": "dpm-solver++2m",
        "steps": NUM_STEPS,
        "seed": 1,
    }
    size = model.config.shape.image_size
    state: dict[str, Any] = {
        "size": size,
        "classes": classes,
        "levels": [levels[0], min(levels[1], HIGHEST)],
        "clip": model.config.clip,
        "streams": STREAMS,
        "samplers": [[name, SAMPLER_NAMES[name]] for name in SAMPLERS],
        "signs": signs.state(shown),
        "initial": {**settings, "sign": signs.opening(shown)},
    }
    opening = opening_signs(model, network, state)  # (COUNT, 1, S, S)
    state["initial"]["pictures"] = protocol.pack_images(opening)

    def poster() -> Figure:
        return draw_poster(opening, None if label is None else classes[label])

    return Contents({denoiser.NAME: network}, state, poster, ALT, twins(model))


def opening_signs(model: GaussianDiffusion, network: Network, state: Mapping[str, Any]) -> Tensor:
    """The signs that the page makes of its opening settings: (COUNT, 1, S, S) in [0, 1]."""
    settings, size = state["initial"], state["size"]
    sigmas = karras_grid(settings["steps"], *state["levels"])
    noise = torch.stack(
        [denoiser.seeded_noise(STREAMS * settings["seed"] + sign, size * size) for sign in range(COUNT)]
    )
    x = math.sqrt(1 + sigmas[0].item() ** 2) * noise.view(COUNT, 1, size, size)
    asked = asking(network, settings["label"])
    if settings["guidance"] != 1:
        asked = classifier_free_guidance(asked, asking(network, model.config.shape.num_classes), settings["guidance"])
    return model.pixels(dpm_solver_2m(lambda x, sigma: model.clipped(asked(x, sigma)), x, sigmas))


def asking(network: Network, label: int | None) -> Denoiser:
    """The network as a sampler calls it: with one label for all pictures, or none if it knows no classes."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        inputs = {"x_t": x / (1 + sigma.square()).sqrt().view(-1, 1, 1, 1), "log_snr": -2 * sigma.log()}
        if label is not None:
            inputs["label"] = torch.full_like(sigma, label)
        return network.run(inputs)["x0"]

    return denoise


# ---- what the page computes, by the package --------------------------------------------------------------------------


def twins(model: GaussianDiffusion) -> dict[str, Computed]:
    """The page's arithmetic. Pictures are rows of P = S² numbers; what the network said comes along, call by call."""

    def sample(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """From a start (P,) along `sigmas` with sampler number `sampler`: x after each step, (N, P)."""
        found: list[Tensor] = []
        sampler = list(SAMPLERS.values())[int(given["sampler"])]
        with denoiser.GivenNoise(list(given["noise"])):
            sampler(replayed(given, model), given["start"][None], given["sigmas"], on_step=keep(found))
        return {"x": torch.cat(found)}

    def restore(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """From a start, a picture and what is known of it, (P,) each, every step `resample` times: (N, P)."""
        found: list[Tensor] = []
        with denoiser.GivenNoise(list(given["noise"])):
            inpaint(
                replayed(given, model),
                given["picture"][None],
                given["known"][None] > 0,
                given["sigmas"],
                resample=int(given["resample"]),
                x=given["start"][None],
                on_step=keep(found),
            )
        return {"x": torch.cat(found)}

    return {"noise": compute_noise, "plan": compute_plan, "sample": sample, "restore": restore}


def keep(found: list[Tensor]) -> Any:
    def on_step(step: Step) -> None:
        found.append(step.x)

    return on_step


def replayed(given: Mapping[str, Tensor], model: GaussianDiffusion) -> Denoiser:
    """A denoiser that answers with what the page's network said, told the class (K, P) and not told (K, P).

    Where one of the two was never asked it is (0, P), and the other is the answer; else they are guided.
    """

    def answering(name: str) -> Denoiser:
        answers = iter(given[name])
        return lambda x, sigma: next(answers)[None]

    if len(given["told"]) and len(given["untold"]):
        asked = classifier_free_guidance(answering("told"), answering("untold"), given["guidance"].item())
    else:
        asked = answering("told" if len(given["told"]) else "untold")
    return lambda x, sigma: model.clipped(asked(x, sigma))


def compute_noise(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The first `count` numbers of a seed."""
    return {"noise": denoiser.seeded_noise(int(given["seed"]), int(given["count"])).double()}


def compute_plan(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The grid of a number of steps between two levels, (N + 1,), and how often a sampler calls its denoiser on it.

    A sampler number beyond the last is inpainting, each step `resample` times.
    """
    low, high = given["levels"].tolist()
    sigmas = karras_grid(int(given["steps"]), low, high)
    calls, x = [0], torch.zeros(1, 1, dtype=torch.float64)

    def counting(x: Tensor, sigma: Tensor) -> Tensor:
        calls[0] += 1
        return x

    index = int(given["sampler"])
    if index < len(SAMPLERS):
        list(SAMPLERS.values())[index](counting, x, sigmas, generator=torch.Generator())
    else:
        inpaint(counting, x, x > 0, sigmas, resample=int(given["resample"]), generator=torch.Generator())
    return {"sigmas": sigmas, "calls": torch.tensor(calls, dtype=torch.float64)}


# ---- the still picture -----------------------------------------------------------------------------------------------


def draw_poster(pictures: Tensor, script: str | None) -> Figure:
    """The opening signs (16, 1, S, S) in two rows."""
    figure = posters.blank(6.4, 2.0)
    grid: Any = figure.subplots(2, COUNT // 2)
    for axes, picture in zip(grid.flat, pictures, strict=True):
        posters.draw_sign(axes, picture[0])
    if script is not None:
        figure.suptitle(f"asked for: {script}", fontsize=9, fontweight="normal")
    return figure
