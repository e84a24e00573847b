"""Ways back from noise, chapter 11: samplers as functions of a denoiser, which is all they know of a model.

    denoiser(x, σ) -> E[x₀ ∣ x],    x = x₀ + σ ε,    x (n, ...), σ (n,)

Such an x is chapter 10's x_t divided by √ᾱ_t; every sampler below is the same in those units, only longer to write. All
take a grid of falling noise levels σ_0 > … > σ_N, most often with σ_N = 0, and walk along it. The line from one level
to the next is the probability-flow ODE (Song et al. 2021; Karras et al. 2022, equation 1 with σ(t) = t, s = 1):

    dx/dσ = (x − D(x; σ)) / σ

The numbers of a grid enter as Python floats, so that they are exact whatever the dtype and device of x.

Reads from top to bottom: grids and starts, samplers, guidance, inpainting.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gentext.diffusion_schedule import karras_sigmas

Denoiser = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Step:
    """A step of a sampler, for figures.

    Attributes:
        index: 1..N.
        sigma: the noise level of x now.
        x: (n, ...) in units of the datum; chapter 10's x_t is x / √(1 + σ²).
        x0: (n, ...) the estimate that led there.
    """

    index: int
    sigma: float
    x: Tensor
    x0: Tensor


OnStep = Callable[[Step], None]


class Sampler(Protocol):
    """What all samplers share: from x (n, ...) at level sigmas[0] to x at level sigmas[-1]."""

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        *,
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor: ...


# ---- grids and starts ------------------------------------------------------------------------------------------------


def karras_grid(num_steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """`num_steps` levels from σ_max to σ_min, even in σ^(1/ρ), and 0: (num_steps + 1,) float64 (Karras et al. 2022)."""
    return torch.cat([karras_sigmas(num_steps, sigma_min, sigma_max, rho), torch.zeros(1, dtype=torch.float64)])


def log_snr_grid(num_steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0) -> Tensor:
    """`num_steps` levels from σ_max to σ_min, even in log σ, and 0: (num_steps + 1,) float64 (Lu et al. 2022)."""
    karras_sigmas(num_steps, sigma_min, sigma_max, 1.0)  # refuses what does not fit
    levels = torch.linspace(math.log(sigma_max), math.log(sigma_min), num_steps, dtype=torch.float64).exp()
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])


def starting_noise(
    shape: tuple[int, ...],
    sigmas: Tensor,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draw x ~ N(0, (1 + σ_0²) I), where a sampler starts: chapter 10's x_T ~ N(0, I) in the units of the datum."""
    levels = check_grid(sigmas)
    noise = torch.randn(shape, generator=generator, device=device, dtype=dtype)
    return math.sqrt(1 + levels[0] ** 2) * noise


def start_from(
    x0: Tensor, sigmas: Tensor, strength: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Image to image (Meng et al. 2022): cover a picture with noise part of the way, and let a sampler walk back.

    Args:
        x0: (n, ...), centred as the model's data are.
        strength: share of the grid's steps that are walked, in (0, 1]. More forgets more of the picture.

    Returns:
        a start x (n, ...), and the end of the grid, which begins at its noise.
    """
    check_grid(sigmas)
    if not 0 < strength <= 1:
        raise ValueError(f"strength is a share of the steps, in (0, 1], got {strength}")
    skipped = min(round((1 - strength) * (len(sigmas) - 1)), len(sigmas) - 2)
    rest = sigmas[skipped:]
    return x0 + float(rest[0]) * noise_like(x0, generator), rest


# ---- samplers --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def ancestral(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: torch.Generator | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Draw from the posterior at every step (Ho et al. 2020, algorithm 2, with the variance β̃). One call a step.

    From the estimate x₀ at distance σ to x, the next point keeps a share σ'²/σ² of the way and draws noise anew:
    q(x'∣x, x₀) = N(x₀ + σ'²/σ² (x − x₀), σ'² (1 − σ'²/σ²)), which is their equation 7 in units of the datum.
    """
    levels = check_grid(sigmas)
    for index in range(1, len(levels)):
        before, sigma = levels[index - 1], levels[index]
        x0 = denoiser(x, level(before, x))
        kept = (sigma / before) ** 2
        x = x0 + kept * (x - x0)
        if sigma > 0:
            x = x + sigma * math.sqrt(1 - kept) * noise_like(x, generator)
        tell(on_step, index, sigma, x, x0)
    return x


@torch.no_grad()
def ddim(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Straight towards the estimate (Song et al. 2020, equation 12). One call a step, of first order.

    η = 0 draws no noise: (x − x₀) / σ is the noise that the model sees, and the next point has a smaller σ' of the
    same. That is Euler's step along the ODE. η = 1 replaces as much of it as `ancestral`, and is that sampler.
    """
    levels = check_grid(sigmas)
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie between 0, no new noise, and 1, ancestral sampling, got {eta}")
    for index in range(1, len(levels)):
        before, sigma = levels[index - 1], levels[index]
        x0 = denoiser(x, level(before, x))
        fresh = eta * sigma * math.sqrt(1 - (sigma / before) ** 2)  # equation 16
        x = x0 + math.sqrt(sigma**2 - fresh**2) / before * (x - x0)
        if fresh > 0:
            x = x + fresh * noise_like(x, generator)
        tell(on_step, index, sigma, x, x0)
    return x


@torch.no_grad()
def heun(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: torch.Generator | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Euler's step, then once more with the mean of the slopes at both ends (Karras et al. 2022, algorithm 1).

    Of second order, with two calls a step, and one for a last step to σ = 0, where there is no slope. Draws no noise.
    """
    levels = check_grid(sigmas)
    for index in range(1, len(levels)):
        before, sigma = levels[index - 1], levels[index]
        x0 = denoiser(x, level(before, x))
        slope = (x - x0) / before
        ahead = x + (sigma - before) * slope
        if sigma > 0:
            x0 = denoiser(ahead, level(sigma, x))
            ahead = x + (sigma - before) * 0.5 * (slope + (ahead - x0) / sigma)
        x = ahead
        tell(on_step, index, sigma, x, x0)
    return x


@torch.no_grad()
def dpm_solver_2m(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: torch.Generator | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2): of second order with one call a step. Draws no noise.

    In λ = −log σ the ODE is dx/dλ = D − x: its linear part is solved exactly, and D is continued in a straight line
    through this estimate and the one before. The first step has no earlier estimate; a step to σ = 0 is infinitely
    long and takes D as it is.
    """
    levels = check_grid(sigmas)
    earlier, width_before = x, 0.0  # of the step before
    for index in range(1, len(levels)):
        before, sigma = levels[index - 1], levels[index]
        x0 = denoiser(x, level(before, x))
        width = math.log(before / sigma) if sigma > 0 else math.inf  # h = λ' − λ
        line = x0
        if index > 1 and sigma > 0:
            line = x0 + width / (2 * width_before) * (x0 - earlier)  # 1 / 2r of the paper, r = h_before / h
        x = sigma / before * x - math.expm1(-width) * line
        earlier, width_before = x0, width
        tell(on_step, index, sigma, x, x0)
    return x


SAMPLERS: dict[str, Sampler] = {"ancestral": ancestral, "ddim": ddim, "heun": heun, "dpm-solver++2m": dpm_solver_2m}


# ---- guidance: a denoiser made of others -----------------------------------------------------------------------------


def classifier_free_guidance(conditional: Denoiser, unconditional: Denoiser, weight: float) -> Denoiser:
    """unconditional + w (conditional − unconditional) (Ho & Salimans 2022, equation 6): two calls for one.

    `GaussianDiffusion.denoise` does the same in one call of twice the batch.
    """

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        without = unconditional(x, sigma)
        return without + weight * (conditional(x, sigma) - without)

    return guided


def classifier_guidance(
    denoiser: Denoiser, log_prob: Callable[[Tensor, Tensor], Tensor], weight: float = 1.0
) -> Denoiser:
    """D + w σ² ∇_x log p(y∣x): a classifier bends the way (Dhariwal & Nichol 2021, section 4).

    By Tweedie's formula the score is (D − x) / σ², so a term of the score is σ² of it in D. With the exact posterior of
    y and w = 1 this is the exact denoiser of x₀ given y, by Bayes.

    Args:
        log_prob: (x (n, ...), σ (n,)) -> log p(y∣x) of the wanted class, (n,). It must have learned to read x at every
            σ; one that knows clean pictures only may be asked about the denoiser's estimate instead.
    """

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            value = log_prob(point, sigma)
            if value.shape != sigma.shape:
                raise ValueError(f"log_prob must give one number an example, (n,), got shape {tuple(value.shape)}")
            slope = torch.autograd.grad(value.sum(), point)[0]
        return denoiser(x, sigma) + weight * broadcast(sigma.square(), x) * slope

    return guided


# ---- inpainting ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def inpaint(
    denoiser: Denoiser,
    x0: Tensor,
    known: Tensor,
    sigmas: Tensor,
    *,
    resample: int = 10,
    x: Tensor | None = None,
    generator: torch.Generator | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Fill in what is not known of a picture (RePaint, Lugmayr et al. 2022, algorithm 1). `resample` calls a step.

    Ancestral steps; after each the known part is put back, with the noise of that level. One pass gives parts that do
    not agree, since the known part never heard of the other. So each step is undone, by adding the noise it took away,
    and taken again, until `resample` times: what was filled in is drawn anew, now beside what is known.

    Args:
        x0: (n, ...), centred; what stands where `known` is false does not matter.
        known: bool, of the shape of x0 or broadcast to it.
        x: a start at level sigmas[0]; drawn if None.

    Returns:
        (n, ...), equal to x0 where known if the grid ends at 0.
    """
    levels = check_grid(sigmas)
    if known.dtype != torch.bool or not fits(known.shape, x0.shape):
        raise ValueError(
            f"known must be a bool mask that fits {tuple(x0.shape)}, got {tuple(known.shape)} of {known.dtype}"
        )
    if resample < 1:
        raise ValueError(f"resample must be at least 1, got {resample}")
    if x is None:
        x = math.sqrt(1 + levels[0] ** 2) * noise_like(x0, generator)
    for index in range(1, len(levels)):
        before, sigma = levels[index - 1], levels[index]
        kept = (sigma / before) ** 2
        for repeat in range(resample, 0, -1):
            estimate = denoiser(x, level(before, x))
            drawn = estimate + kept * (x - estimate)  # as in `ancestral`
            given = x0
            if sigma > 0:
                drawn = drawn + sigma * math.sqrt(1 - kept) * noise_like(x, generator)
                given = x0 + sigma * noise_like(x0, generator)
            x = torch.where(known, given, drawn)
            if repeat > 1:  # back up: x at level σ plus this noise has the level before
                x = x + math.sqrt(before**2 - sigma**2) * noise_like(x, generator)
        tell(on_step, index, sigma, x, estimate)
    return x


# ---- small parts -----------------------------------------------------------------------------------------------------


def check_grid(sigmas: Tensor) -> list[float]:
    """The levels of a grid as Python floats. Raises ValueError unless they fall, the last not below 0."""
    levels = sigmas.tolist() if sigmas.ndim == 1 else []
    falling = all(high > low for high, low in itertools.pairwise(levels))
    if len(levels) < 2 or not falling or not (levels[-1] >= 0 and levels[0] < math.inf):
        raise ValueError("sigmas must be a row of at least two noise levels that fall, the last not below 0")
    return levels


def level(sigma: float, x: Tensor) -> Tensor:
    """One noise level for each example of x (n, ...): (n,), in its dtype and on its device."""
    return torch.full(x.shape[:1], sigma, dtype=x.dtype, device=x.device)


def fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a tensor of one shape can be broadcast to the other."""
    ends = zip(reversed(shape), reversed(wanted), strict=False)
    return len(shape) <= len(wanted) and all(size in (1, whole) for size, whole in ends)


def noise_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def broadcast(value: Tensor, like: Tensor) -> Tensor:
    return value.view(-1, *[1] * (like.ndim - 1))


def tell(on_step: OnStep | None, index: int, sigma: float, x: Tensor, x0: Tensor) -> None:
    if on_step is not None:
        on_step(Step(index, sigma, x, x0))
