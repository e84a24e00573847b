"""Tensors in one safetensors file, written whole or not at all, with a checksum and JSON in its header.

Weights and training checkpoints share this. Nothing here can execute code from a file: no pickle.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

HEADER_KEY = "gentext"
FORMAT = 1  # raised when an older gentext could not read what a newer one writes


def write_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write `tensors` and the JSON-able `about` to `path` in one step: the old file stays until the new one is on disk.

    Raises:
        OSError: the disk refused; `path` is as it was before.
    """
    path = Path(path)
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    header = {"format": FORMAT, "checksum": checksum(plain), "about": about}
    payload = save(plain, {HEADER_KEY: json.dumps(header, allow_nan=False)})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and the `about` of a file written by `write_tensors`.

    Raises:
        ValueError: the file is missing, damaged, not ours, or written by a newer gentext.
    """
    header, path = read_header(path), Path(path)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ValueError(damaged(path, error)) from error
    if checksum(tensors) != header["checksum"]:
        raise ValueError(damaged(path, "its numbers do not match their checksum"))
    return tensors, header["about"]


def read_about(path: Path) -> dict[str, Any]:
    """Only the `about` of a file written by `write_tensors`, without reading its tensors. Errors as `read_tensors`."""
    return read_header(path)["about"]


def read_header(path: Path) -> dict[str, Any]:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(damaged(path, error)) from error
    if HEADER_KEY not in metadata:
        raise ValueError(f"{path} was not written by gentext: its header has no {HEADER_KEY!r} entry")
    try:
        header = json.loads(metadata[HEADER_KEY])
        version = int(header["format"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(damaged(path, "its header cannot be read")) from error
    if version > FORMAT:
        raise ValueError(
            f"{path} has file format {version} and this gentext reads up to {FORMAT}: upgrade gentext to use it"
        )
    if not isinstance(header.get("about"), dict) or not isinstance(header.get("checksum"), int):
        raise ValueError(damaged(path, "its header is incomplete"))
    return header


def damaged(path: Path, why: object) -> str:
    why = str(why).splitlines()[0] if str(why) else "unreadable"
    return f"{path} is damaged or not a safetensors file ({why}): delete it and make or fetch it again"


def checksum(tensors: dict[str, Tensor]) -> int:
    """CRC-32 over names, shapes, types and bytes, in the order of the names."""
    total = 0
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total = zlib.crc32(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode(), total)
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, total)
    return total


def sync_directory(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the system allows opening folders (not on Windows)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:  # some network file systems refuse; the rename itself is done
        pass
    finally:
        os.close(handle)
