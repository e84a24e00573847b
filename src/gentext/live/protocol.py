"""The messages between a figure's front end and the host that answers it.

A front end asks for one network call; the answer is its outputs, or one sentence saying what was wrong:

    {"kind": "call", "id": 7, "network": "decoder", "inputs": {"z": ARRAY}}
    {"kind": "result", "id": 7, "outputs": {"image": ARRAY}}
    {"kind": "error", "id": 7, "message": "decoder: input z has 3 numbers a row, 16 are needed."}

ARRAY is `{"shape": [1, 16], "data": TEXT}`, TEXT being little-endian float32 in base64. Arrays travel as text because
Colab's widget manager loses binary buffers when a figure opens. `host.mjs` speaks the same protocol in the browser.
"""

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gentext.live.network import Network

GREYS = (15, 60, 255)  # the numbers of grey steps that images in the book come in


def encode_array(array: Tensor) -> dict[str, Any]:
    """Turn a tensor of any shape into a JSON-able ARRAY of float32."""
    values = array.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4")
    return {"shape": list(values.shape), "data": base64.b64encode(values.tobytes()).decode("ascii")}


def decode_array(message: Mapping[str, Any]) -> Tensor:
    """Turn an ARRAY back into a float32 tensor. Raises ValueError where shape and data do not fit."""
    try:
        shape = [int(size) for size in message["shape"]]
        raw = base64.b64decode(message["data"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise ValueError("an array needs a shape (whole numbers) and data (base64 text).") from None
    count = int(np.prod(shape, dtype=np.int64)) if all(size >= 0 for size in shape) else -1
    if count * 4 != len(raw):
        raise ValueError(f"an array of shape {shape} does not hold the {len(raw)} bytes that came with it.")
    return torch.from_numpy(np.frombuffer(raw, dtype="<f4").astype(np.float32).reshape(shape))


def pack_images(images: Tensor) -> dict[str, Any]:
    """Pack images (n, 1, H, W) in [0, 1] for a figure's state: one byte a pixel, deflated, base64.

    A byte counts greys up to `levels`, which is white's number. Signs are drawn with 15 greys, and at 32 pixels average
    four of them; photographs of bytes have 255: all these come back exactly. `unpackImages` in `common.mjs` reads it.
    """
    if images.dim() != 4 or images.shape[1] != 1:
        raise ValueError(f"images must have shape (n, 1, height, width), not {tuple(images.shape)}.")
    values = images.detach().to("cpu", torch.float32).clamp(0, 1)
    exact = (
        levels for levels in GREYS if torch.allclose(values * levels, (values * levels).round(), atol=1e-4, rtol=0)
    )
    levels = next(exact, 255)
    pixels = (values * levels).round().to(torch.uint8).numpy()
    data = base64.b64encode(zlib.compress(pixels.tobytes(), 9)).decode("ascii")
    return {"shape": [images.shape[0], images.shape[2], images.shape[3]], "levels": levels, "deflate": data}


def answer(networks: Mapping[str, Network], message: Any) -> dict[str, Any]:
    """Answer one message. Never raises: whatever is wrong with the request becomes an `error` message."""
    identifier = message.get("id") if isinstance(message, Mapping) else None
    try:
        if not isinstance(message, Mapping) or message.get("kind") != "call":
            raise ValueError('a request is a message of kind "call".')
        name, inputs = message.get("network"), message.get("inputs")
        if not isinstance(name, str) or name not in networks:
            raise ValueError(f"there is no network {name!r}; this figure has {', '.join(sorted(networks))}.")
        if not isinstance(inputs, Mapping):
            raise ValueError(f"{name}: inputs must map each input's name to an array.")
        try:
            outputs = networks[name].run({key: decode_array(value) for key, value in inputs.items()})
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    except Exception as error:  # a reader's model may raise anything; the figure shows it and lives on
        return {"kind": "error", "id": identifier, "message": str(error) or type(error).__name__}
    return {"kind": "result", "id": identifier, "outputs": {key: encode_array(value) for key, value in outputs.items()}}
