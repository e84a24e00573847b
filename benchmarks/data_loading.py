"""Taking batches: gentext's indexed tensors against torch's DataLoader, one epoch of signs with the same transform.

The reference keeps the data in memory too, so the comparison is of indexing against item-by-item collation, not of
disks. It is timed as most people write it, the transform in the dataset's `__getitem__`, and in its best form, with
the transform applied to the collated batch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

import gentext
from gentext import data
from gentext.train import TensorData
from gentext.train.tensors import BatchOrder

if __package__:
    from .harness import Report, compare, parse, parser
else:  # python benchmarks/data_loading.py
    from harness import Report, compare, parse, parser

Batch = tuple[Tensor, ...]
Transform = Callable[[Batch, torch.Generator], Batch]


def binarise(batch: Batch, generator: torch.Generator) -> Batch:
    """Dynamic binarisation of the images of a batch, as the binarised-MNIST recipe has it."""
    images, *others = batch
    return (data.binarise(images, generator), *others)


def augment(batch: Batch, generator: torch.Generator) -> Batch:
    """Small random changes that keep the label."""
    images, *others = batch
    return (data.augment(images, generator), *others)


class TransformedItems(Dataset):
    """A dataset as tutorials write it: one item at a time, transformed as it is taken."""

    def __init__(self, tensors: Batch, transform: Transform, generator: torch.Generator) -> None:
        self.tensors, self.transform, self.generator = tensors, transform, generator

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> Batch:
        item = tuple(tensor[index : index + 1] for tensor in self.tensors)
        return tuple(tensor[0] for tensor in self.transform(item, self.generator))


def indexed_epoch(train: TensorData, batch_size: int) -> Callable[[], int]:
    """One pass over the data as `fit` takes it, the last short batch left out."""
    order = BatchOrder(len(train), batch_size, seed=0, device=train.device)
    generator = torch.Generator(train.device).manual_seed(0)
    count = len(train) // batch_size
    epoch = 0

    def run() -> int:
        nonlocal epoch
        seen = 0
        for step in range(epoch * count, (epoch + 1) * count):
            batch = train.rows(order.indices(step))
            if train.transform is not None:
                batch = train.transform(batch, generator)
            seen += len(batch[0])
        epoch += 1
        return seen

    return run


def loader_epoch(
    tensors: Batch, batch_size: int, transform: Transform | None, *, per_item: bool = False, workers: int = 0
) -> Callable[[], int]:
    """One pass over the data with a DataLoader, the last short batch left out."""
    device = tensors[0].device
    generator = torch.Generator(device).manual_seed(0)
    items: Dataset = TensorDataset(*tensors)
    if transform is not None and per_item:
        items = TransformedItems(tensors, transform, generator)
    loader = DataLoader(
        items, batch_size=batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )

    def run() -> int:
        seen = 0
        for batch in loader:
            if transform is not None and not per_item:
                batch = transform(tuple(batch), generator)
            seen += len(batch[0])
        return seen

    return run


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--workers", type=int, default=0, help="processes of the DataLoader (CPU only)")
    options.add_argument("--signs", type=int, default=None, help="use only so many signs; all if not given")
    arguments = parse(options, argv)
    device, size = gentext.device(arguments.device), arguments.batch_size
    if arguments.workers and device.type != "cpu":
        options.error("--workers needs --device cpu: worker processes cannot share tensors on a GPU")
    signs = data.load("glyphs", "train", size=32).to(device)
    tensors = (signs.images[: arguments.signs], signs.labels[: arguments.signs])
    if size > len(tensors[0]):
        options.error(f"--batch-size must be at most {len(tensors[0])}, the signs in use, got {size}")

    report = Report(f"One epoch of {len(tensors[0])} signs, 32×32, batches of {size}", device)
    cases: list[tuple[str, Transform | None, bool]] = [
        ("no transform", None, False),
        ("binarise, reference by batch", binarise, False),
        ("binarise, reference by item", binarise, True),
        ("augment, reference by batch", augment, False),
    ]
    for name, transform, per_item in cases:
        ours = indexed_epoch(TensorData(tensors, transform), size)
        reference = loader_epoch(tensors, size, transform, per_item=per_item, workers=arguments.workers)
        assert ours() == reference()  # both hand out as many examples
        report.comparisons.append(compare(name, ours, reference, rounds=arguments.rounds, device=device))
    report.deliver(arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
