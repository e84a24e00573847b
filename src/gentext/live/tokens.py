"""A tokenizer in a figure's state, so that `tokenizer.mjs` encodes and decodes in the page as Python does."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from gentext.tokenizer import Tokenizer


def state(tokenizer: Tokenizer) -> dict[str, Any]:
    """What `tokenizer.save` writes, as a dictionary for `createTokenizer`."""
    with tempfile.TemporaryDirectory() as folder:
        content: dict[str, Any] = json.loads(tokenizer.save(Path(folder) / "tokenizer.json").read_text("utf-8"))
    return content
