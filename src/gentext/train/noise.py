"""The same noise for N processes as for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SIZED = {torch.randn, torch.rand}  # f(*size, generator=...)
ELEMENTWISE = {
    torch.bernoulli,
    torch.Tensor.bernoulli_,
    torch.Tensor.normal_,
    torch.Tensor.uniform_,
    torch.Tensor.exponential_,
}


class SharedNoise(TorchFunctionMode):
    """While entered, draws from `generator` are this process's rows of the draw that one process would make.

    A loss that draws noise for its batch asks for (rows, ...) or (samples, rows, ...) numbers. Were each process to
    draw its own, N processes would train on other noise than one. So the whole batch's numbers are drawn, by every
    process the same, and each keeps its own rows; drawing costs little beside a training step. Draws whose first two
    sizes are not `rows` belong to no example and are the same everywhere.

    Args:
        rows: examples in this process's part of the batch; process `rank` of `world`.
    """

    def __init__(self, generator: torch.Generator, rank: int, world: int, rows: int) -> None:
        super().__init__()
        self.generator, self.rank, self.world, self.rows = generator, rank, world, rows

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("generator") is not self.generator:
            return func(*args, **kwargs)
        if func in SIZED:
            given = kwargs.pop("size", None) or args
            size = tuple(given[0]) if len(given) == 1 and not isinstance(given[0], int) else tuple(given)
            axis = self.batch_axis(size)
            if axis is None:
                return func(size, **kwargs)
            whole = (*size[:axis], size[axis] * self.world, *size[axis + 1 :])
            return self.own(func(whole, **kwargs), axis).contiguous()
        if func in ELEMENTWISE:
            tensor, *rest = args
            axis = self.batch_axis(tuple(tensor.shape))
            if axis is None:
                return func(*args, **kwargs)
            # The other rows' values do not matter: each element takes one draw, whatever its parameter.
            drawn = self.own(func(torch.cat([tensor] * self.world, axis), *rest, **kwargs), axis)
            return tensor.copy_(drawn) if func.__name__.endswith("_") else drawn.contiguous()
        return func(*args, **kwargs)

    def batch_axis(self, size: tuple[int, ...]) -> int | None:
        return next((axis for axis in range(min(2, len(size))) if size[axis] == self.rows), None)

    def own(self, whole: Tensor, axis: int) -> Tensor:
        return whole.narrow(axis, self.rank * self.rows, self.rows)
