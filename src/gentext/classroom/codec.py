"""Values between the grader and a submission's process: JSON, with tensors as bytes. Nothing is unpickled, ever.

What is neither number, text, tensor nor a container of those stays where it is, and goes over as a reference.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

LARGEST = 64 << 20  # bytes of a message
DEPTH = 20  # of containers in containers
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (
    torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.bool, torch.complex64, torch.complex128,
)}  # fmt: skip


class Nonsense(ValueError):
    """A message that no honest process sends."""


def encode(value: Any, refer: Callable[[Any], dict[str, Any]], depth: int = 0) -> Any:
    """Plain JSON data for `value`. refer: what stands for an object that cannot travel, e.g. {"object": 3}."""
    if depth > DEPTH:
        raise ValueError("containers are nested too deeply")
    if value is None or isinstance(value, (bool, str)) or type(value) is int:
        return value
    if isinstance(value, float):
        return {"float": value.hex()}  # NaN and infinity too, and no digit lost
    if value is ...:
        return {"ellipsis": True}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.Generator):
        return {"generator": encode(value.get_state(), refer)}
    if isinstance(value, torch.Tensor) and str(value.dtype).removeprefix("torch.") in DTYPES and not value.is_sparse:
        array = value.detach().cpu().contiguous().numpy()
        return {"tensor": pack(array), "dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
    if isinstance(value, np.generic):
        return encode(value.item(), refer, depth)
    if isinstance(value, np.ndarray) and value.dtype.name in DTYPES:
        return {"array": pack(np.ascontiguousarray(value)), "dtype": value.dtype.name, "shape": list(value.shape)}
    if type(value) in (list, tuple, set, frozenset):
        return {type(value).__name__: [encode(item, refer, depth + 1) for item in value]}
    if type(value) is dict:
        pairs = [[encode(k, refer, depth + 1), encode(v, refer, depth + 1)] for k, v in value.items()]
        return {"dict": pairs}
    return refer(value)


def pack(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def decode(data: Any, resolve: Callable[[dict[str, Any]], Any], depth: int = 0) -> Any:
    """The value of `encode`. resolve: what a reference stands for here. Raises Nonsense for anything else."""
    if depth > DEPTH + 2:
        raise Nonsense("containers are nested too deeply")
    if data is None or isinstance(data, (bool, int, str)):
        return data
    if not isinstance(data, dict) or not data:
        raise Nonsense(f"a {type(data).__name__} where a value was expected")
    kind = next(iter(data))
    try:
        if kind == "float":
            return float.fromhex(data["float"])
        if kind == "ellipsis":
            return ...
        if kind == "dtype":
            return DTYPES[data["dtype"]]
        if kind == "generator":
            generator = torch.Generator()
            generator.set_state(decode(data["generator"], resolve))
            return generator
        if kind in ("tensor", "array"):
            return unpack(data, kind)
        if kind in ("list", "tuple", "set", "frozenset"):
            items = [decode(item, resolve, depth + 1) for item in data[kind]]
            return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind](items)
        if kind == "dict":
            return {decode(k, resolve, depth + 1): decode(v, resolve, depth + 1) for k, v in data["dict"]}
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise Nonsense(f"a broken {kind}: {error}") from None
    return resolve(data)


def unpack(data: dict[str, Any], kind: str) -> Any:
    dtype, shape = DTYPES[data["dtype"]], [int(side) for side in data["shape"]]
    if any(side < 0 for side in shape):
        raise ValueError("a negative side")
    raw = base64.b64decode(data[kind], validate=True)
    array = np.frombuffer(raw, dtype=data["dtype"]).reshape(shape).copy()
    return torch.from_numpy(array).to(dtype) if kind == "tensor" else array


def frame(message: Any) -> bytes:
    """One message: its length in four bytes, then JSON. Raises ValueError if it is too long."""
    text = json.dumps(message, allow_nan=False).encode()
    if len(text) > LARGEST:
        raise ValueError(f"an answer of {len(text) >> 20} MB: at most {LARGEST >> 20} MB can be looked at")
    return struct.pack(">I", len(text)) + text


def receive(read: Callable[[int], bytes]) -> Any:
    """The next message. `read(n)` returns exactly n bytes or raises. Raises Nonsense for what is no message."""
    (length,) = struct.unpack(">I", read(4))
    if length > LARGEST:
        raise Nonsense(f"a message of {length >> 20} MB")
    try:
        return json.loads(read(length))
    except (ValueError, RecursionError) as error:
        raise Nonsense(f"no JSON: {error}") from None
