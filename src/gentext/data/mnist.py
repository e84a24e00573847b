"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017), from the files that torchvision also uses."""

from __future__ import annotations

import gzip
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gentext.data import downloads
from gentext.data.images import ImageSet

SIZES = (28, 32)
HELD_OUT = 5_000  # the last of the 60,000 training pictures are the validation split


@dataclass(frozen=True)
class Source:
    """One set: torchvision's name for it, what its classes are called, the SHA-256 checksums of its files."""

    name: str
    label_names: tuple[str, ...]
    checksums: dict[str, str]


SOURCES = {
    "mnist": Source(
        "MNIST",
        tuple("0123456789"),
        {
            "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ),
    "fashion_mnist": Source(
        "FashionMNIST",
        ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "trainer", "bag", "ankle boot"),
        {
            "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    ),
}


def load_mnist(name: str, split: str, size: int = 28) -> ImageSet:
    """The pictures of "mnist" or "fashion_mnist" at 28 pixels, or at 32 with two pixels of ground on every side.

    "train" is the first 55,000 of the training file, "validation" its last 5,000, "test" the test file.
    """
    if size not in SIZES:
        raise ValueError(f"{name} comes in sizes 28 and 32, not {size}.")
    source = SOURCES[name]
    part = "t10k" if split == "test" else "train"
    images = _read(source, f"{part}-images-idx3-ubyte")  # (n, 28, 28) uint8
    labels = _read(source, f"{part}-labels-idx1-ubyte")  # (n,) uint8
    chosen = {"train": slice(0, -HELD_OUT), "validation": slice(-HELD_OUT, None), "test": slice(None)}[split]
    images, labels = images[chosen], labels[chosen]
    margin = (size - 28) // 2
    nameless = ("",) * len(labels)
    return ImageSet(
        images=F.pad(images[:, None].float() / 255, (margin, margin, margin, margin)),
        labels=labels.long(),
        label_names=source.label_names,
        names=nameless,
        descriptions=nameless,
    )


def _read(source: Source, file: str) -> Tensor:
    """The array in one of the set's files: two zero bytes, type, rank, the sizes in four bytes each, the values."""
    content = downloads.read(f"{source.name}/raw/{file}.gz", source.checksums[file], lambda: _addresses(source, file))
    array = gzip.decompress(content)
    rank = array[3]
    shape = np.frombuffer(array, dtype=">i4", count=rank, offset=4)
    values = np.frombuffer(array, dtype=np.uint8, offset=4 + 4 * rank).reshape(shape)
    return torch.from_numpy(values.copy())  # from_numpy shares memory, and bytes must not change


def _addresses(source: Source, file: str) -> list[str]:
    """Where torchvision finds the file."""
    from torchvision import datasets

    return [f"{mirror}{file}.gz" for mirror in getattr(datasets, source.name).mirrors]
