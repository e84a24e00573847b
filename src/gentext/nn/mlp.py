"""Multilayer perceptrons."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from torch import nn


def mlp(sizes: Sequence[int], activation: Callable[[], nn.Module] = nn.SiLU) -> nn.Sequential:
    """Linear layers of the given sizes, with an activation between each two and none after the last.

    `mlp([784, 500, 20])` maps (n, 784) -> (n, 20) through one hidden layer of 500 units.
    """
    if len(sizes) < 2:
        raise ValueError(f"an MLP needs at least an input and an output size, got {list(sizes)}")
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        if index:
            layers.append(activation())
        layers.append(nn.Linear(fan_in, fan_out))
    return nn.Sequential(*layers)
