"""Saving models as weights files and building them again."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from gentext.zoo.card import Card
from gentext.zoo.files import read_about, read_tensors, write_tensors

WEIGHTS = Path(__file__).parent / "weights"

# kind -> (module, model class, configuration class). A file can name only these, so it cannot make us import or call
# anything else. Modules are imported when a model of the kind is asked for: the zoo stands below the chapters.
KINDS: dict[str, tuple[str, str, str]] = {
    "attention-model": ("gentext.attention_model", "AttentionModel", "AttentionModelConfig"),
    "autoencoder": ("gentext.autoencoder", "Autoencoder", "AutoencoderConfig"),
    "diffusion": ("gentext.diffusion", "GaussianDiffusion", "DiffusionConfig"),
    "gaussian-images": ("gentext.gaussian_images", "GaussianImages", "GaussianImagesConfig"),
    "glyph-classifier": ("gentext.nn", "GlyphClassifier", "ClassifierConfig"),
    "gpt": ("gentext.gpt", "GPT", "GPTConfig"),
    "noisy-classifier": ("gentext.diffusion_classifier", "NoisyClassifier", "NoisyClassifierConfig"),
    "vae": ("gentext.vae", "VAE", "VAEConfig"),
}


def names() -> list[str]:
    """Names of the weights that come with the package."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def card(name: str | Path) -> Card:
    """The card of shipped weights, or of a .safetensors file of yours. Errors as `load`."""
    path = find(name)
    return _card(path, read_about(path))


def load(name: str | Path, device: torch.device | str | None = None) -> nn.Module:
    """A trained model in evaluation mode, its weights float32.

    Args:
        name: one of `names()`, or the path of a .safetensors file made by `save`.
        device: where to put it; the CPU if None.

    Raises:
        ValueError: no such weights; or the file is damaged, of a newer gentext, or does not fit its model.
    """
    path = find(name)
    tensors, about = read_tensors(path)
    found = _card(path, about)
    if found.kind not in KINDS:
        raise ValueError(
            f"{path} holds a model of kind {found.kind!r} and this gentext knows {', '.join(sorted(KINDS))}: "
            f"it was probably made by a newer gentext"
        )
    model_class, config_class = resolve(found.kind)
    try:
        config = from_entries(config_class, found.config)
        with torch.random.fork_rng(devices=[]):  # initial values are overwritten: leave the caller's randomness alone
            model = model_class(config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not fit this gentext's {found.kind!r} model: {error}") from error
    load_state(model, tensors, str(path))
    return model.to(device or "cpu").eval()


def save(path: str | Path, model: nn.Module, card: Card, *, half: bool = True) -> Path:
    """Write a model and its card; `kind`, `config` and `dtype` of the card are filled in from the model.

    Args:
        path: ends in .safetensors; its folder is made if need be.
        half: store floating-point weights as float16. Call `round_weights` before measuring: the card shall be true.

    Raises:
        ValueError: the model's class is not in `KINDS`, a weight is not finite or does not fit float16, or a bad path.
        OSError: the disk refused; an existing file is as it was before.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"weights go into a .safetensors file, got {path}")
    kind = kind_of(model)
    tensors = unique_state(model)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"the weights {name!r} are not finite: this model is not worth keeping")
    if half:
        tensors = {name: to_half(name, tensor) for name, tensor in tensors.items()}
    config: Any = model.config
    card = replace(card, kind=kind, config=asdict(config), dtype="float16" if half else "float32")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, card.to_json())
    return path


@torch.no_grad()
def round_weights(model: nn.Module) -> nn.Module:
    """Round a model's floating-point weights to float16 in place: exactly the model that `load` gives after `save`."""
    for name, tensor in unique_state(model).items():
        if tensor.is_floating_point():
            tensor.copy_(to_half(name, tensor))
    return model


def to_half(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    if tensor.numel() and float(tensor.abs().max()) > torch.finfo(torch.float16).max:
        raise ValueError(f"the weights {name!r} do not fit float16 (largest is {float(tensor.abs().max()):.3g})")
    return tensor.half()


def unique_state(model: nn.Module) -> dict[str, Tensor]:
    """`state_dict` with tensors that share their memory (tied weights) listed once, under their first name."""
    seen: set[tuple[Any, ...]] = set()
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        state[name] = tensor
    return state


@torch.no_grad()
def load_state(model: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Copy `tensors` into the model. Raises ValueError unless names and shapes are just the model's own."""
    state = unique_state(model)
    missing, unknown = sorted(set(state) - set(tensors)), sorted(set(tensors) - set(state))
    if missing or unknown:
        what = f"lacks {missing[0]!r}" if missing else f"has {unknown[0]!r}, which the model has not"
        raise ValueError(f"{source} does not fit the model {type(model).__name__}: it {what}")
    for name, tensor in state.items():
        if tensor.shape != tensors[name].shape:
            raise ValueError(
                f"{source} does not fit the model {type(model).__name__}: {name!r} has shape "
                f"{tuple(tensors[name].shape)}, the model's is {tuple(tensor.shape)}"
            )
    for name, tensor in state.items():
        tensor.copy_(tensors[name])


def find(name: str | Path) -> Path:
    """The file of shipped weights, or a path that ends in .safetensors as it is."""
    if Path(name).suffix == ".safetensors":
        return Path(name)
    path = WEIGHTS / f"{name}.safetensors"
    if str(name) not in names():
        close = difflib.get_close_matches(str(name), names(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names()) or 'none'}"
        raise ValueError(f"no weights are called {str(name)!r}; {hint} (or give the path of a .safetensors file)")
    return path


def kind_of(model: nn.Module) -> str:
    for kind, (_, class_name, _) in KINDS.items():
        if type(model).__name__ == class_name and type(model) is resolve(kind)[0]:
            return kind
    raise ValueError(
        f"{type(model).__name__} is not a kind of model the zoo knows ({', '.join(sorted(KINDS))}): "
        f"add it to gentext.zoo.KINDS"
    )


def resolve(kind: str) -> tuple[type, type]:
    """The model and configuration classes of a kind."""
    module_name, model_name, config_name = KINDS[kind]
    module = importlib.import_module(module_name)
    return getattr(module, model_name), getattr(module, config_name)


def from_entries(config_class: Any, entries: dict[str, Any]) -> Any:
    """A configuration dataclass from JSON: lists become tuples, nested dataclasses are built by their type."""
    hints = get_type_hints(config_class)
    known = {entry.name for entry in fields(config_class)}
    unknown = sorted(set(entries) - known)
    if unknown:
        raise ValueError(f"{config_class.__name__} has no entry {unknown[0]!r}")
    return config_class(**{name: _plain(value, hints[name]) for name, value in entries.items()})


def _plain(value: Any, hint: Any) -> Any:
    if isinstance(value, dict) and is_dataclass(hint):
        return from_entries(hint, value)
    if isinstance(value, list):
        return tuple(_plain(item, None) for item in value)
    return value


def _card(path: Path, about: dict[str, Any]) -> Card:
    try:
        return Card.from_json(about)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
