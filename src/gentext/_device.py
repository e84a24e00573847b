"""Which device to compute on."""

from __future__ import annotations

import torch


def device(name: str | None = None) -> torch.device:
    """The best device present: a CUDA GPU, else Apple's (mps), else the CPU. A `name` overrides the choice.

    Raises:
        ValueError: the named device does not exist here.
    """
    if name is None:
        if torch.cuda.is_available():
            name = "cuda"
        elif torch.backends.mps.is_available():
            name = "mps"
        else:
            name = "cpu"
    try:
        chosen = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}: use 'cpu', 'cuda', 'cuda:0' or 'mps'") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA GPU is available here: use 'cpu', or change the runtime type in Colab")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("no Apple GPU (mps) is available here: use 'cpu'")
    return chosen
