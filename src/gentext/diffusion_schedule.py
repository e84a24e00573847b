"""How fast a datum drowns in noise, and three ways to say what was drowned. Chapters 10 and 11.

    x_t = √ᾱ_t x₀ + √(1 − ᾱ_t) ε,     ε ~ N(0, I),     log-SNR λ_t = log ᾱ_t / (1 − ᾱ_t)

t counts steps: 0 is the datum, T all noise. The sum of squares of both factors is 1, so x_t keeps its size; divided by
√ᾱ_t it is x₀ + σ ε with σ = e^(−λ/2), the units of Karras et al. (2022) and of the samplers of chapter 11.

Reads from top to bottom: schedule, then the parameterisations ε, x₀ and v.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["noise", "x0", "velocity"]
PREDICTIONS: tuple[Prediction, ...] = ("noise", "x0", "velocity")


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """ᾱ_t for t = 0..T, in float64. Between whole steps noise comes in at a constant rate: log ᾱ is linear in t there.

    Attributes:
        kind: "linear": β_t rises in a straight line (Ho et al. 2020, section 4). "cosine": √ᾱ_t falls like a quarter
            of a cosine (Nichol & Dhariwal 2021, equation 17). "edm": σ_t^(1/ρ) rises in a straight line (Karras et al.
            2022, equation 5).
        num_steps: T.
        beta_first, beta_last: of "linear", β_1 and β_T. Ho's are for T = 1000: with fewer steps some datum stays.
        offset, max_beta: of "cosine", s and the largest β_t allowed.
        sigma_min, sigma_max, rho: of "edm", σ_1, σ_T and ρ.
    """

    kind: Literal["linear", "cosine", "edm"] = "cosine"
    num_steps: int = 1000
    beta_first: float = 1e-4
    beta_last: float = 0.02
    offset: float = 0.008
    max_beta: float = 0.999
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "cosine", "edm"):
            raise ValueError(f"kind must be one of linear, cosine, edm, got {self.kind!r}")
        if self.num_steps < 2:
            raise ValueError(f"num_steps must be at least 2, got {self.num_steps}")
        if not 0 < self.beta_first <= self.beta_last < 1:
            raise ValueError(
                "beta_first and beta_last must lie between 0 and 1 and not fall, "
                f"got {self.beta_first} and {self.beta_last}"
            )
        if not (0 <= self.offset < math.inf and 0 < self.max_beta < 1):
            raise ValueError(
                "offset must not be negative and max_beta must lie between 0 and 1, "
                f"got {self.offset} and {self.max_beta}"
            )
        karras_sigmas(2, self.sigma_min, self.sigma_max, self.rho)  # refuses what does not fit

    # ---- the table, and functions of t ---------------------------------------------------------------------------

    def log_alpha_bar(self, t: Tensor) -> Tensor:
        """log ᾱ_t for times t in [0, T], whole or not, any shape. Float64, but float32 on devices that have no other.

        Raises:
            ValueError: a time lies outside (asked on the CPU only: a GPU would have to wait).
        """
        table = log_alpha_bar_table(self, t.device)  # (T + 1,)
        if t.device.type == "cpu" and t.numel() and not (t.min() >= 0 and t.max() <= self.num_steps):
            raise ValueError(f"times must lie in 0..{self.num_steps}, got {t.min():g}..{t.max():g}")
        before = t.floor().clamp(max=self.num_steps - 1).long()
        share = t.to(table.dtype) - before  # of the step that has begun
        return (1 - share) * table[before] + share * table[before + 1]

    def alpha_bar(self, t: Tensor) -> Tensor:
        """ᾱ_t, the share of the datum in the variance of x_t."""
        return self.log_alpha_bar(t).exp()

    def beta(self, t: Tensor) -> Tensor:
        """β_t = 1 − ᾱ_t / ᾱ_{t−1}, for t in [1, T]."""
        return -torch.expm1(self.log_alpha_bar(t) - self.log_alpha_bar(t - 1))

    def signal_scale(self, t: Tensor) -> Tensor:
        """√ᾱ_t, the factor of the datum."""
        return (0.5 * self.log_alpha_bar(t)).exp()

    def noise_scale(self, t: Tensor) -> Tensor:
        """√(1 − ᾱ_t), the factor of the noise. No digit is lost where ᾱ_t is nearly 1."""
        return (-torch.expm1(self.log_alpha_bar(t))).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        """λ_t = log ᾱ_t / (1 − ᾱ_t), the logarithm of the signal-to-noise ratio; infinite at t = 0."""
        log_alpha_bar = self.log_alpha_bar(t)
        return log_alpha_bar - (-torch.expm1(log_alpha_bar)).log()

    def sigma(self, t: Tensor) -> Tensor:
        """σ_t = √((1 − ᾱ_t) / ᾱ_t) = e^(−λ_t/2), noise for one unit of datum."""
        return torch.expm1(-self.log_alpha_bar(t)).sqrt()

    def time(self, sigma: Tensor) -> Tensor:
        """The time at which the noise is σ: the inverse of `sigma`. Noise beyond σ_T counts as T."""
        table = -log_alpha_bar_table(self, sigma.device)  # rises from 0
        wanted = torch.log1p(sigma.to(table.dtype).square())
        after = torch.searchsorted(table, wanted).clamp(1, self.num_steps)
        step = (wanted - table[after - 1]) / (table[after] - table[after - 1])
        return (after - 1 + step).clamp(max=self.num_steps)

    def sigmas(self, num_steps: int) -> Tensor:
        """σ at num_steps + 1 times evenly spaced from T to 0: a grid for the samplers of chapter 11, float64."""
        if not 1 <= num_steps <= self.num_steps:
            raise ValueError(f"num_steps must lie in 1..{self.num_steps}, the chain's, got {num_steps}")
        return self.sigma(torch.linspace(self.num_steps, 0, num_steps + 1, dtype=torch.float64))


@functools.lru_cache(maxsize=64)
def log_alpha_bar_table(schedule: NoiseSchedule, device: torch.device) -> Tensor:
    """log ᾱ_0..log ᾱ_T, (T + 1,): computed in float64 on the CPU once, then kept on each device."""
    if schedule.kind == "edm":
        sigma = karras_sigmas(schedule.num_steps, schedule.sigma_min, schedule.sigma_max, schedule.rho).flip(0)
        log_alpha_bar = -torch.log1p(sigma.square())  # ᾱ = 1 / (1 + σ²)
    elif schedule.kind == "linear":
        beta = torch.linspace(schedule.beta_first, schedule.beta_last, schedule.num_steps, dtype=torch.float64)
        log_alpha_bar = torch.log1p(-beta).cumsum(0)  # ᾱ_t = ∏ (1 − β_s)
    else:
        t = torch.arange(schedule.num_steps + 1, dtype=torch.float64) / schedule.num_steps
        fall = torch.cos((t + schedule.offset) / (1 + schedule.offset) * math.pi / 2).square()
        beta = (1 - fall[1:] / fall[:-1]).clamp(max=schedule.max_beta)  # the last would be 1: nothing could be undone
        log_alpha_bar = torch.log1p(-beta).cumsum(0)
    table = torch.cat([torch.zeros(1, dtype=torch.float64), log_alpha_bar])
    return table.to(device, torch.float32 if device.type == "mps" else torch.float64)


def karras_sigmas(num_steps: int, sigma_min: float, sigma_max: float, rho: float) -> Tensor:
    """`num_steps` noise levels from σ_max down to σ_min, evenly spaced in σ^(1/ρ), float64 (Karras et al. 2022, eq. 5).

    ρ = 1 spaces them evenly; a larger ρ takes shorter steps where there is little noise.
    """
    if num_steps < 2 or not (0 < sigma_min < sigma_max < math.inf and 0 < rho < math.inf):
        raise ValueError(
            "a grid needs at least 2 steps, 0 < sigma_min < sigma_max and a positive rho, got "
            f"{num_steps}, {sigma_min}, {sigma_max} and {rho}"
        )
    share = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (high + share * (low - high)) ** rho


# ---- ε, x₀ and v -----------------------------------------------------------------------------------------------------


def scales(log_snr: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """√ᾱ and √(1 − ᾱ) of log-SNRs (n,), shaped to multiply `like` (n, ...), in its dtype."""
    if log_snr.shape != like.shape[:1]:
        raise ValueError(
            f"there must be one time or noise level for each example, got {tuple(log_snr.shape)} for {len(like)}"
        )
    shape = (-1, *[1] * (like.ndim - 1))
    # √ᾱ = √sigmoid(λ), written out: where the networks run in a page, sigmoid is not exact below −18, and λ_T is.
    signal, noise_scale = (1 + (-log_snr).exp()).rsqrt(), (1 + log_snr.exp()).rsqrt()
    return signal.to(like.dtype).view(shape), noise_scale.to(like.dtype).view(shape)


def x0_and_noise(value: Tensor, kind: Prediction, x_t: Tensor, log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """Datum and noise, when one of ε, x₀, v and their mixture x_t are known. Both (n, ...), as the value and x_t.

    Two numbers, x₀ and ε, and one equation between them, x_t = √ᾱ x₀ + √(1−ᾱ) ε: whichever is told gives the other.
    v = √ᾱ ε − √(1−ᾱ) x₀ (Salimans & Ho 2022, section 4) is x_t turned by a right angle, and gives both without a
    division: it says something at either end, where one of x₀ and ε can no longer be read from the other.
    """
    if value.shape != x_t.shape:
        raise ValueError(f"what is predicted must have the shape of x_t, {tuple(x_t.shape)}, got {tuple(value.shape)}")
    signal, noise_scale = scales(log_snr, x_t)
    if kind == "noise":
        return (x_t - noise_scale * value) / signal, value
    if kind == "x0":
        return value, (x_t - signal * value) / noise_scale
    if kind == "velocity":
        return signal * x_t - noise_scale * value, noise_scale * x_t + signal * value
    raise ValueError(f"a prediction must be one of {', '.join(PREDICTIONS)}, got {kind!r}")


def from_x0_and_noise(x0: Tensor, noise: Tensor, kind: Prediction, log_snr: Tensor) -> Tensor:
    """ε, x₀ or v of a datum and its noise, (n, ...)."""
    if kind == "noise":
        return noise
    if kind == "x0":
        return x0
    if kind == "velocity":
        signal, noise_scale = scales(log_snr, x0)
        return signal * noise - noise_scale * x0
    raise ValueError(f"a prediction must be one of {', '.join(PREDICTIONS)}, got {kind!r}")


def convert(value: Tensor, x_t: Tensor, log_snr: Tensor, source: Prediction, target: Prediction) -> Tensor:
    """Say in terms of `target` what `value` says in terms of `source`; log-SNRs (n,), the rest (n, ...)."""
    return from_x0_and_noise(*x0_and_noise(value, source, x_t, log_snr), target, log_snr)
