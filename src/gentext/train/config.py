"""How to train: the settings of a fit, its learning-rate schedule and its arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class FitConfig:
    """Settings of one training run. AdamW (Loshchilov & Hutter 2019) with the learning rate moved by a schedule.

    Attributes:
        num_steps: optimiser steps in all.
        batch_size: examples per step, over all processes together.
        learning_rate: reached after the warm-up.
        weight_decay: applied to weights with two or more dimensions, not to biases and norms.
        warmup_steps: the learning rate grows from 0 in a straight line.
        schedule: then "constant", or half a "cosine" down to 0 at the last step (Loshchilov & Hutter 2017).
        clip_norm: longest allowed gradient (all parameters as one vector); None for no limit.
        ema_decay: keep an exponential moving average of the weights and return it; None for none. Early on the decay
            is smaller, (1 + step) / (10 + step), so that the average forgets the initial weights.
        precision: "fp32", "bf16" (autocast), or "auto": bf16 where the hardware has it.
        checkpoint_every, validate_every, record_every: in steps. Terms of the loss are averaged between records.
        seed: every draw of the run (batch order, transforms, loss) follows from it and the step's number.
    """

    num_steps: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup_steps: int = 100
    schedule: Literal["constant", "cosine"] = "cosine"
    clip_norm: float | None = 1.0
    ema_decay: float | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_every: int = 500
    validate_every: int = 500
    record_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "checkpoint_every", "validate_every", "record_every"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number, at least 1, got {value!r}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must not be negative, got {self.warmup_steps}")
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise ValueError(f"clip_norm must be positive or None, got {self.clip_norm}")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1) or be None, got {self.ema_decay}")
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule must be 'constant' or 'cosine', got {self.schedule!r}")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision must be 'auto', 'fp32' or 'bf16', got {self.precision!r}")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of step `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.learning_rate
        progress = (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps)
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))  # from 1 to 0
        return self.lowest_learning_rate + (self.learning_rate - self.lowest_learning_rate) * fall

    def ema_decay_at(self, step: int) -> float:
        """The decay used after step `step`, counted from 0."""
        return min(self.ema_decay or 0.0, (1 + step) / (10 + step))

    @property
    def adam_betas(self) -> tuple[float, float]:
        """Decay of AdamW's averages of the gradient and of its square."""
        return (0.9, 0.999)

    @property
    def lowest_learning_rate(self) -> float:
        """Where the cosine ends."""
        return 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TextFitConfig(FitConfig):
    """What language models are usually trained with: AdamW that forgets faster, a schedule that does not end at 0.

    A class of its own, because the settings of a run are part of its checkpoint and of its card.

    Attributes:
        betas: decay of AdamW's averages of the gradient and of its square.
        min_learning_rate: where the cosine ends.
    """

    betas: tuple[float, float] = (0.9, 0.95)
    min_learning_rate: float = 0.0

    def __post_init__(self) -> None:
        FitConfig.__post_init__(self)
        object.__setattr__(self, "betas", tuple(self.betas))  # a configuration read back from JSON brings a list
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {self.betas}")
        if not 0 <= self.min_learning_rate <= self.learning_rate:
            raise ValueError(
                f"min_learning_rate must lie between 0 and the learning rate, got {self.min_learning_rate}"
            )

    @property
    def adam_betas(self) -> tuple[float, float]:
        return self.betas

    @property
    def lowest_learning_rate(self) -> float:
        return self.min_learning_rate


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """bfloat16 if the run shall compute in it, else None (float32)."""
    if precision == "bf16" or (precision == "auto" and has_fast_bf16(device)):
        return torch.bfloat16
    return None


def has_fast_bf16(device: torch.device) -> bool:
    """GPUs from Ampere on (a T4 only emulates it, though torch says yes) and CPUs with AMX tiles."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and "amx_bf16" in cpu_flags()


def cpu_flags() -> set[str]:
    """What the processor can do, where the system says (Linux); empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return set(flags.partition(":")[2].split())
