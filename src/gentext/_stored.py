"""What a picture becomes in a notebook's outputs: a small PNG, and JSON that any plotly.js reads."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image


def compact_png(image: Image.Image, max_error: float = 24) -> tuple[bytes, tuple[int, int]]:
    """The picture as PNG bytes, and its (width, height).

    A plot has few colours, and many shades between them along its edges. With a palette of 256 the file is a third as
    large and looks the same. A picture that would be off by more than `max_error` of 255 anywhere keeps its colours.
    """
    pixels = np.asarray(image)  # (height, width, 4)
    values, index, counts = np.unique(pixels.view(np.uint32), return_inverse=True, return_counts=True)
    colours = values[:, None].view(np.uint8)  # (colours, 4)
    # What is seen is the colour over a white page and over a black one: compare there.
    shade = colours[:, :3] * (colours[:, 3:] / 255.0)
    seen = np.concatenate([shade, shade + 255 - colours[:, 3:]], axis=1)  # (colours, 6)
    frequent = np.argsort(-counts, kind="stable")[:128]
    palette: list[int] = []
    error, nearest = np.full(len(seen), np.inf), np.zeros(len(seen), dtype=np.uint8)
    while len(palette) < min(256, len(seen)):  # first the frequent colours, then whatever is worst served
        chosen = int(frequent[len(palette)]) if len(palette) < len(frequent) else int(np.argmax(error))
        distance = np.abs(seen - seen[chosen]).max(1)
        nearest[distance < error] = len(palette)
        error = np.minimum(error, distance)
        palette.append(chosen)
    if error.max() <= max_error:
        image = Image.fromarray(nearest[index].reshape(pixels.shape[:2]), mode="P")
        image.putpalette(colours[palette, :3].tobytes())
        image.info["transparency"] = colours[palette, 3].tobytes()
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue(), image.size


def plain(value: Any) -> Any:
    """A plotly figure's dictionary as plain JSON: every array a list, every float to five significant digits."""
    if isinstance(value, Mapping):
        if set(value) >= {"dtype", "bdata"}:  # plotly 6 and later pack arrays so
            array = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
            shape = value.get("shape")
            return plain(array.reshape([int(n) for n in str(shape).split(",")]) if shape else array)
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None  # JSON has no infinity
    return json.loads(json.dumps(value, default=str))
