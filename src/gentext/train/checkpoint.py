"""Checkpoints of a fit: all that the next step depends on, in one file that is replaced in one step."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gentext.train.shard import whole
from gentext.zoo.files import read_tensors, write_tensors
from gentext.zoo.store import load_state

FILE_NAME = "checkpoint.safetensors"


@dataclass
class Progress:
    """Where a fit stands, apart from its tensors. `count` steps have been summed up since the last record."""

    step: int
    wall_seconds: float
    history: dict[str, dict[str, list[float]]]
    terms: list[str]
    count: int


def prepare_directory(directory: Path) -> Path:
    """Make the folder, see that it can be written, and clear what a killed run left half-written.

    Raises:
        ValueError: it cannot be made or written.
    """
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in directory.glob(f".{FILE_NAME}.*.tmp"):
            leftover.unlink(missing_ok=True)
        probe = directory / f".writable.{os.getpid()}"  # several processes may look at the same time
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"checkpoints cannot be written to {directory} ({error.strerror}): name another folder"
        ) from None
    return directory


def collect(
    state: dict[str, Tensor], optimizer: torch.optim.Optimizer, average: list[Tensor] | None, sums: Tensor | None
) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, `state` being the model's. Sharded ones are put together."""
    tensors = {f"model.{name}": tensor for name, tensor in state.items()}
    for index, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": whole(value) for name, value in entry.items()}
    for index, tensor in enumerate(average or []):
        tensors[f"average.{index}"] = whole(tensor)
    if sums is not None:
        tensors["sums"] = sums
    return tensors


def save_checkpoint(directory: Path, tensors: dict[str, Tensor], progress: Progress, identity: dict[str, Any]) -> None:
    """Write the checkpoint. OSError if the disk refuses; an older checkpoint is then still whole."""
    write_tensors(directory / FILE_NAME, tensors, {"identity": identity, "progress": vars(progress)})


def load_checkpoint(
    directory: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: list[Tensor] | None,
    identity: dict[str, Any],
) -> tuple[Progress, Tensor | None] | None:
    """Put the folder's checkpoint into model, optimiser and average; None if there is no checkpoint.

    Raises:
        ValueError: it is damaged, or belongs to another run (model, data or settings differ).
    """
    path = directory / FILE_NAME
    if not path.exists():
        return None
    try:
        tensors, about = read_tensors(path)
        progress = Progress(**about["progress"])
        found = about["identity"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a checkpoint of this gentext: delete it or pass resume=False") from error
    except ValueError as error:
        raise ValueError(f"{error}, or pass resume=False to start afresh") from error
    # What an older gentext did not write down cannot be compared.
    difference = first_difference(found, {name: entry for name, entry in identity.items() if name in found})
    if difference:
        raise ValueError(
            f"the checkpoint in {directory} is of another run ({difference}): "
            f"name another folder, or pass resume=False to start afresh"
        )
    load_state(model, part(tensors, "model"), str(path))
    restore_optimizer(optimizer, part(tensors, "optimizer"), path)
    for index, tensor in enumerate(average or []):
        tensor.copy_(tensors[f"average.{index}"])
    return progress, tensors.get("sums")


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], path: Path) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    try:
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    except (ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"the optimiser's state in {path} does not fit: delete it or pass resume=False") from error


def part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def first_difference(found: Any, wanted: Any, name: str = "") -> str:
    """Say where two JSON values differ first, in words; empty if nowhere."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(set(found) | set(wanted)):
            difference = first_difference(found.get(key), wanted.get(key), f"{name} {key}".strip())
            if difference:
                return difference
        return ""
    return "" if found == wanted else f"{name} is {found!r} there and {wanted!r} here"
