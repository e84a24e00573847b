"""`ImageSet`: pictures with their labels and names, all as tensors that can live on any device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class ImageSet:
    """Grey pictures in the order of their metadata. Ink is 1 on a ground of 0, as in MNIST.

    `names`, `codepoints` and `descriptions` have one entry for each picture, or none where the set has no such thing.
    """

    images: Tensor  # (n, 1, size, size) float32 in [0, 1]
    labels: Tensor  # (n,) int64, an index into label_names
    label_names: tuple[str, ...]  # one for each class, also for classes that are absent here
    names: tuple[str, ...] = ()  # Unicode names, "EGYPTIAN HIEROGLYPH A001"
    codepoints: tuple[int, ...] = ()
    descriptions: tuple[str, ...] = ()  # "Egyptian hieroglyph A1, man and his occupations"

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[1] != 1:
            raise ValueError(f"images must be (n, 1, height, width), not {tuple(self.images.shape)}.")
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"{len(self.images)} images need labels of shape ({len(self.images)},), not {tuple(self.labels.shape)}."
            )
        for field in ("names", "codepoints", "descriptions"):
            if len(getattr(self, field)) not in (0, len(self.images)):
                raise ValueError(f"{field} must have one entry for each of the {len(self.images)} images, or none.")

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> ImageSet:
        """The same set with images and labels on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def subset(self, indices: Tensor | Iterable[int]) -> ImageSet:
        """The pictures at `indices` (n,), integers or a boolean mask over the set, in that order.

        Raises ValueError for an index outside the set, a mask of another length, or numbers that are neither.
        """
        index = torch.as_tensor(indices if isinstance(indices, Tensor) else list(indices), device=self.labels.device)
        if index.dtype == torch.bool:
            if index.shape != self.labels.shape:
                raise ValueError(f"A mask over this set needs {len(self)} entries, not {tuple(index.shape)}.")
            index = index.nonzero()[:, 0]
        elif index.numel() and (index.is_floating_point() or index.is_complex()):
            raise ValueError(f"Indices must be integers or a boolean mask, not {index.dtype}.")
        index = index.long().reshape(-1)
        if len(index) and not (-len(self) <= int(index.min()) and int(index.max()) < len(self)):
            raise ValueError(f"Indices must lie between 0 and {len(self) - 1}.")
        places = index.tolist()

        def pick(values: tuple) -> tuple:
            return tuple(values[place] for place in places) if values else ()

        return replace(
            self,
            images=self.images[index],
            labels=self.labels[index],
            names=pick(self.names),
            codepoints=pick(self.codepoints),
            descriptions=pick(self.descriptions),
        )
