"""Recipes: named, typed, complete descriptions of a training run, and the registry that finds them.

@recipe("vae-glyphs")
def vae_glyphs() -> Recipe:
    return Recipe(name="vae-glyphs", ...)
"""

from __future__ import annotations

import difflib
import importlib.metadata
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from gentext._device import device as pick_device
from gentext.train.config import FitConfig
from gentext.train.loop import FitResult, History, fit
from gentext.train.tensors import TensorData
from gentext.zoo import Card, Measurement, round_weights, save, thin_curve

Metrics = dict[str, Measurement]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All there is to know about one set of weights.

    Attributes:
        name: of the recipe, of its weights file and in the zoo.
        chapter: the chapter that shows it.
        build: makes the untrained model; initial weights come from torch's global generator, seeded with `fit.seed`.
        data: makes (train, validation).
        measure: (model, quick) -> named measurements on held-out data, with fixed seeds. `quick` may use fewer examples
            or samples, within the tolerance that the measurement states.
        on_step: (model) -> a function called before each step with the number of steps done, e.g. to warm up a weight.
        data_note: what the data is, for the card.
        half: store the weights as float16.
        solve: (model, training data) -> curves for the card; computes a model that has a closed form. Then nothing is
            trained, and `fit` gives the seed alone: it asks for one step.
    """

    name: str
    summary: str
    chapter: int
    build: Callable[[], nn.Module]
    data: Callable[[], tuple[TensorData, TensorData]]
    fit: FitConfig
    measure: Callable[[nn.Module, bool], Metrics]
    on_step: Callable[[nn.Module], Callable[[int], None]] | None = None
    data_note: str = ""
    half: bool = True
    solve: Callable[[nn.Module, TensorData], History] | None = None

    def __post_init__(self) -> None:
        if self.solve is not None and self.fit.num_steps != 1:
            raise ValueError(f"{self.name} has a closed form: it takes one step, not {self.fit.num_steps}")


_RECIPES: dict[str, Callable[[], Recipe]] = {}


def recipe(name: str) -> Callable[[Callable[[], Recipe]], Callable[[], Recipe]]:
    """Decorator: register a function that returns the recipe `name`. Raises ValueError if the name is taken."""

    def register(function: Callable[[], Recipe]) -> Callable[[], Recipe]:
        if name in _RECIPES:
            raise ValueError(f"there are two recipes called {name!r}")
        _RECIPES[name] = function
        return function

    return register


def get(name: str) -> Recipe:
    """The recipe called `name`. Raises ValueError, with the nearest name, if there is none."""
    if name not in _RECIPES:
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names()) or 'none'}"
        raise ValueError(f"no recipe is called {name!r}; {hint}")
    found = _RECIPES[name]()
    if found.name != name:
        raise ValueError(f"the recipe registered as {name!r} calls itself {found.name!r}")
    return found


def names() -> list[str]:
    """Names of all registered recipes, sorted."""
    return sorted(_RECIPES)


def run(
    recipe: Recipe,
    out: str | Path,
    resume: bool = True,
    steps: int | None = None,
    *,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Path:
    """Train a recipe, measure the rounded weights, and write `out/<name>.safetensors` with its card inside.

    The checkpoint lives in `out/checkpoints/<name>`; a run stopped there goes on unless `resume` is false. Of several
    processes (`accelerate launch` for GPUs, `torchrun` for CPUs too) the first measures and writes, the others wait.

    Args:
        steps: train this many steps instead of the recipe's.

    Raises:
        KeyboardInterrupt: Ctrl-C; the checkpoint is written, the weights are not.
        ValueError, FloatingPointError, OSError: as `fit` and `zoo.save`.
    """
    from accelerate import PartialState  # here, as in `Loop`

    config = recipe.fit if steps is None else replace(recipe.fit, num_steps=steps)
    out = Path(out)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        model = recipe.build()
    train, validation = recipe.data()
    if recipe.solve is not None:
        result = solved(recipe, model, train, config, device)
    else:
        result = fit(
            model,
            train,
            config,
            validation=validation,
            directory=out / "checkpoints" / recipe.name,
            resume=resume,
            on_step=recipe.on_step(model) if recipe.on_step is not None else None,
            progress=progress,
            device=device,
        )
    path = out / f"{recipe.name}.safetensors"
    if result.interrupted:
        raise KeyboardInterrupt
    if is_first_process():
        if recipe.half:
            round_weights(result.model)
        save(path, result.model, make_card(recipe, config, train, result), half=recipe.half)
    PartialState().wait_for_everyone()
    return path


def solved(
    recipe: Recipe, model: nn.Module, train: TensorData, config: FitConfig, device: torch.device | str | None
) -> FitResult:
    """A closed form's result in the shape of a training's. ValueError if other than one step was asked for."""
    assert recipe.solve is not None
    if config.num_steps != 1:
        raise ValueError(f"{recipe.name} has a closed form and is not trained: leave the number of steps out")
    chosen = pick_device(str(device) if device is not None else None)
    began = time.perf_counter()
    history = recipe.solve(model.to(chosen), train)
    return FitResult(model.eval(), history, 1, time.perf_counter() - began, chosen, interrupted=False)


def is_first_process() -> bool:
    """True also where there is only one. The launchers number their processes in the environment."""
    return int(os.environ.get("RANK", "0")) == 0


def make_card(recipe: Recipe, config: FitConfig, train: TensorData, result: FitResult) -> Card:
    """Measure the model and write down what it is. `kind` and `config` are filled in by `zoo.save`."""
    shapes = ", ".join("×".join(map(str, tensor.shape)) for tensor in train.tensors)
    return Card(
        name=recipe.name,
        summary=recipe.summary,
        fit=asdict(config),
        data=recipe.data_note or f"tensors {shapes}",
        seed=config.seed,
        steps=result.steps,
        wall_seconds=round(result.wall_seconds, 1),
        device=describe(result.device),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        gentext=importlib.metadata.version("gentext"),
        metrics=recipe.measure(result.model, False),
        curve=thin_curve(result.history),
    )


def describe(device: torch.device) -> str:
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type
