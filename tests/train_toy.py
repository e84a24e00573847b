"""A model that trains in milliseconds and has one of everything a checkpoint must not lose, and what tests do with it.

Run as a script it trains in a process of its own, for the tests that kill it, interrupt it or start two of it:
see `--help`.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gentext.nn import Loss
from gentext.train import FitConfig, FitResult, Measurement, Recipe, TensorData, fit, recipe
from gentext.zoo import KINDS

KINDS["toy"] = ("train_toy", "Toy", "ToyConfig")
SIZE = 6


@dataclass(frozen=True)
class Inner:
    """A nested part of a configuration."""

    widths: tuple[int, ...] = (8,)


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    inner: Inner = Inner()
    dropout: float = 0.0
    batch_norm: bool = False
    noise: float = 0.1


class Toy(nn.Module):
    """Denoises vectors (n, SIZE). Its loss draws, its weights are tied; with dropout and batch norm if asked."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        width = config.inner.widths[0]
        self.first = nn.Linear(SIZE, width)
        self.norm = nn.BatchNorm1d(width) if config.batch_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.last = nn.Linear(width, SIZE)
        self.tied = self.first

    def loss(self, batch: tuple[Tensor, ...], *, generator: torch.Generator | None = None) -> Loss:
        x = batch[0]
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        h = self.dropout(self.norm(self.tied(x + self.config.noise * noise)).tanh())
        error = (self.last(h) - x).square().sum(1).mean()
        return Loss(error, {"error": error, "noise": noise.mean()})


def make_model(**settings: object) -> Toy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Toy(ToyConfig(**settings))  # type: ignore[arg-type]


def shift(batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """A transform that draws."""
    x = batch[0]
    return (x + 0.05 * torch.rand(x.shape, generator=generator, device=x.device),)


def make_data(n: int = 50, transform: bool = True) -> TensorData:
    x = torch.randn(n, SIZE, generator=torch.Generator().manual_seed(7))
    return TensorData((x,), shift if transform else None)


def train_toy(
    directory: Path | None = None,
    num_steps: int = 40,
    on_step: object = None,
    settings: dict | None = None,
    **changes: object,
) -> FitResult:
    """The fit that tests compare: everything switched on, small."""
    options = {
        "batch_size": 12,
        "ema_decay": 0.9,
        "warmup_steps": 5,
        "learning_rate": 1e-2,
        "weight_decay": 0.01,
        "record_every": 7,
        "validate_every": 10,
        "checkpoint_every": 10,
        **changes,
    }
    return fit(
        make_model(**({"dropout": 0.2, "batch_norm": True} if settings is None else settings)),
        make_data(),
        FitConfig(num_steps=num_steps, **options),  # type: ignore[arg-type]
        validation=make_data(17),
        directory=directory,
        on_step=on_step,  # type: ignore[arg-type]
        progress=False,
        device="cpu",
    )


def outcome(result: FitResult) -> dict[str, Tensor]:
    """All numbers of a fit: weights, running averages and curves."""
    tensors = {name: tensor.clone() for name, tensor in result.model.state_dict().items()}
    for part, curves in result.history.items():
        for name, values in curves.items():
            tensors[f"{part}/{name}"] = torch.tensor(values, dtype=torch.float64)
    return tensors


def measure(model: torch.nn.Module, quick: bool) -> dict[str, Measurement]:
    """A number that any change of a weight changes."""
    value = sum(float(parameter.detach().double().sum()) for parameter in model.parameters())
    return {"sum": Measurement(value=value, unit="", split="none", count=1, tolerance=0.0)}


TOY = Recipe(
    name="toy",
    summary="a toy",
    chapter=0,
    build=lambda: Toy(ToyConfig()),
    data=lambda: (make_data(), make_data(9)),
    fit=FitConfig(num_steps=12, batch_size=4, record_every=4, validate_every=6, checkpoint_every=5, ema_decay=0.9),
    measure=measure,
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--wait-at", type=int, help="say so before this step, and wait there to be killed")
    parser.add_argument(
        "--die-writing", type=int, help="kill -9 ourselves in the middle of the checkpoint of this step"
    )
    parser.add_argument("--slow", type=float, default=0.0, help="seconds a step")
    parser.add_argument(
        "--plain", action="store_true", help="no dropout, no batch norm: equal in any number of processes"
    )
    parser.add_argument("--recipe", action="store_true", help="afterwards `gentext train toy`")
    arguments = parser.parse_args()

    def on_step(step: int) -> None:
        time.sleep(arguments.slow)
        if step == arguments.wait_at:
            print(f"at step {step}", flush=True)
            if not arguments.slow:
                time.sleep(600)

    if arguments.die_writing is not None:
        replace = os.replace
        written = 0

        def die(source: str, target: str) -> None:
            nonlocal written
            written += 1
            if written * 10 == arguments.die_writing:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        os.replace = die
    settings = {} if arguments.plain else None
    result = train_toy(arguments.directory, arguments.steps, on_step, settings)
    if int(os.environ.get("RANK", "0")) == 0:
        save_file({name: tensor.contiguous() for name, tensor in outcome(result).items()}, arguments.out)
    if arguments.recipe:
        from gentext import cli

        recipe.recipe("toy")(lambda: TOY)
        cli.app(["train", "toy", "--out", str(arguments.out.parent), "--quiet"], standalone_mode=False)
    print(f"interrupted={result.interrupted} steps={result.steps}", flush=True)


if __name__ == "__main__":
    import train_toy as module  # under its own name, by which the zoo knows the class

    module.main()
