"""Data as tensors on the device, and the order in which batches are taken from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Transform = Callable[[tuple[Tensor, ...], torch.Generator], tuple[Tensor, ...]]

# Streams of random numbers within one step: see `step_seed`.
ORDER, NOISE, VALIDATION, DROPOUT = 0, 1, 2, 3


@dataclass
class TensorData:
    """A data set whose tensors share their first dimension; the batch is a tuple of their rows.

    At the sizes of this book one `index_select` a batch beats a DataLoader with its workers and collation.

    Attributes:
        tensors: e.g. (images (n, 1, S, S), labels (n,)).
        transform: applied to each batch with a generator of the run: augmentation, dynamic binarisation...
    """

    tensors: tuple[Tensor, ...]
    transform: Transform | None = None

    def __post_init__(self) -> None:
        self.tensors = tuple(self.tensors)
        if not self.tensors or not all(isinstance(tensor, Tensor) and tensor.ndim for tensor in self.tensors):
            raise ValueError("TensorData needs a tuple of at least one tensor, each with a first dimension to count by")
        lengths = [len(tensor) for tensor in self.tensors]
        if min(lengths) != max(lengths) or not lengths[0]:
            raise ValueError(f"tensors of one data set must have the same, positive length, got lengths {lengths}")
        devices = {str(tensor.device) for tensor in self.tensors}
        if len(devices) > 1:
            raise ValueError(f"tensors of one data set must be on one device, got {', '.join(sorted(devices))}")

    def __len__(self) -> int:
        return len(self.tensors[0])

    @property
    def device(self) -> torch.device:
        return self.tensors[0].device

    def to(self, device: torch.device | str) -> TensorData:
        return TensorData(tuple(tensor.to(device) for tensor in self.tensors), self.transform)

    def transform_at(self, step: int) -> Transform | None:
        """The transform of the batch of a training step: `transform`, unless a subclass has a plan of lessons."""
        return self.transform

    def rows(self, indices: Tensor) -> tuple[Tensor, ...]:
        """The examples at `indices` (b,), untransformed."""
        return tuple(tensor.index_select(0, indices) for tensor in self.tensors)

    def shapes(self) -> list[list[object]]:
        """Shape and type of each tensor, to tell one data set from another."""
        return [[*tensor.shape, str(tensor.dtype)] for tensor in self.tensors]


class TokenData(TensorData):
    """Windows of one long row of tokens; the batch is (tokens (b, context + 1),): what is read, and what comes next.

    Without `starts` a window may begin anywhere. An epoch, which sees every window once, is then `context` times as
    long as the text, and most runs end in the first: batches at random places, as is usual for language models.

    Args:
        tokens: (n,) ids of any integer type; a small one saves memory.
        context: tokens read; a window has one more.
        starts: (m,) where windows may begin, e.g. `torch.arange(0, n - context, context)` for each token once, or where
            texts begin.

    Raises:
        ValueError: not such tokens, or a window that does not fit.
    """

    def __init__(
        self, tokens: Tensor, context: int, starts: Tensor | None = None, transform: Transform | None = None
    ) -> None:
        if tokens.ndim != 1 or tokens.is_floating_point() or context < 1 or len(tokens) <= context:
            raise ValueError(
                f"TokenData needs one row of more than {context} whole numbers, got {tuple(tokens.shape)} of "
                f"{tokens.dtype}"
            )
        super().__init__((tokens,), transform)
        self.context = context
        self.starts = None if starts is None else starts.to(tokens.device, torch.int64)
        if self.starts is not None:
            last = len(tokens) - context - 1
            if self.starts.ndim != 1 or not len(self.starts) or self.starts.min() < 0 or self.starts.max() > last:
                raise ValueError(
                    f"starts must be a row of places in 0..{last}, where windows of {context} + 1 tokens fit"
                )

    def __len__(self) -> int:
        return len(self.tensors[0]) - self.context if self.starts is None else len(self.starts)

    def to(self, device: torch.device | str) -> TokenData:
        return TokenData(self.tensors[0].to(device), self.context, self.starts, self.transform)

    def rows(self, indices: Tensor) -> tuple[Tensor, ...]:
        starts = indices if self.starts is None else self.starts[indices]
        window = torch.arange(self.context + 1, device=indices.device)
        return (self.tensors[0][starts[:, None] + window].long(),)

    def shapes(self) -> list[list[object]]:
        return [*super().shapes(), ["context", self.context, "windows", len(self)]]


class BatchOrder:
    """Which examples step t sees: epochs one after the other, each in its own random order.

    A function of (seed, step) only, so a resumed run needs no memory of where it was.
    """

    def __init__(self, length: int, batch_size: int, seed: int, device: torch.device) -> None:
        self.length, self.batch_size, self.seed, self.device = length, batch_size, seed, device
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def indices(self, step: int) -> Tensor:
        """(batch_size,) int64 on the device; a batch may end one epoch and begin the next."""
        position, parts, wanted = step * self.batch_size, [], self.batch_size
        while wanted:
            epoch, start = divmod(position, self.length)
            part = self.epoch(epoch)[start : start + wanted]
            parts.append(part)
            position, wanted = position + len(part), wanted - len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def epoch(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(step_seed(self.seed, ORDER, epoch))
            self._permutation = torch.randperm(self.length, generator=generator).to(self.device)
            self._epoch = epoch
        return self._permutation


def in_order(length: int, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """Indices of all examples from the first to the last, a batch at a time."""
    for start in range(0, length, batch_size):
        yield torch.arange(start, min(start + batch_size, length), device=device)


def step_seed(seed: int, stream: int, step: int) -> int:
    """A 32-bit seed for one stream of random numbers at one step.

    Reseeding every step costs a microsecond and makes resuming exact: no generator has a state worth saving. The mixing
    (the finaliser of MurmurHash3) is a bijection, so no two steps of a stream share a seed in the first 2³⁰ steps;
    torch's CPU generator looks at 32 bits only.
    """
    mixed = (step * 4 + stream + mix(seed & 0xFFFFFFFF) + mix(seed >> 32 & 0xFFFFFFFF)) & 0xFFFFFFFF
    return mix(mixed)


def mix(value: int) -> int:
    value = (value ^ value >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    value = (value ^ value >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return value ^ value >> 16
