"""What every chapter needs around its code: one set-up call, source shown in the page, numbers with a tolerance."""

from __future__ import annotations

import inspect
import os
import random
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from IPython.display import display

from gentext import plots
from gentext._device import device

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # where Linux says how much time a container gets


def setup(seed: int = 0) -> torch.device:
    """Prepare a notebook: the book's style, seeded generators, as many threads as there are cores to use.

    The seeds matter for what draws from global generators, such as the first weights of a layer; everything of ours
    draws from the generator it is given. Nothing is silenced: warnings come through.

    Returns:
        the device to compute on, as `gentext.device()` picks it.
    """
    plots.use_style()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (libraries that draw from numpy's global state)
    torch.manual_seed(seed)
    if "OMP_NUM_THREADS" not in os.environ:  # a reader's own setting stands
        torch.set_num_threads(usable_cores())
    return device()


def usable_cores() -> int:
    """The cores that this process may use: in a container often fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_LIMIT.read_text().split()  # "200000 100000" is two cores; "max 100000", no limit
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def show_source(*objects: Any) -> None:
    """Display the source of functions and classes as it stands in the package, highlighted, with its docstring.

    Raises:
        ValueError: nothing was passed, or something that has no Python source.
    """
    if not objects:
        raise ValueError("pass at least one function or class to show, e.g. show_source(VAE.elbo)")
    source = "\n\n\n".join(_source(item) for item in objects)
    display({"text/plain": source, "text/markdown": f"```python\n{source}\n```"}, raw=True)


def _source(item: Any) -> str:
    if isinstance(item, property) and item.fget is not None:
        item = item.fget
    try:
        return textwrap.dedent(inspect.getsource(item)).strip()
    except (TypeError, OSError) as error:
        raise ValueError(f"{item!r} has no Python source to show: pass a function, method, class or module") from error


def report(name: str, value: float, book: float, within: float, unit: str = "") -> None:
    """Print a measured number so that two computers which agree up to rounding print the same line.

    A number that came out of training differs in its late digits from one processor to the next. If `value` lies
    within `within` of the number in the book, the book's number is printed with that tolerance; if not, the
    measured one, and that the book has another.

    Args:
        name: what was measured.
        value: the number just measured.
        book: the number in the book's prose, to the digits meant.
        within: how far apart the two may lie.
        unit: e.g. "nats".

    Raises:
        ValueError: `within` is negative or not a number.
    """
    if not within >= 0:
        raise ValueError(f"within must be a tolerance of at least 0, got {within}")
    value = float(value)
    space = f" {unit}" if unit else ""
    slack = 1e-12 * (abs(book) + within)  # 1.1 − 1.0 is a little more than 0.1 in floating point
    if abs(value - book) <= within + slack:
        print(f"{name}: {book}{space} (± {within})")
    else:
        print(f"{name}: {value:.6g}{space}; the book has {book}{space} (± {within})")
