"""Ours beside a reference, in one process and in turn: a ratio that survives a busy machine.

Absolute times hang on the machine and on what else it does. So both are timed in one process, round after round, and
each round gives one ratio: whatever slows the machine down for longer than a round slows both. The order turns
from round to round (ours first, reference first, ...), so that neither always runs on the other's warm caches.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """Seconds per call of both, round by round.

    Attributes:
        calls: calls per timing, over which the seconds are averaged.
    """

    name: str
    ours: list[float]
    reference: list[float]
    calls: tuple[int, int]

    @property
    def ratios(self) -> np.ndarray:
        """Time of ours over time of the reference, one a round; below 1 ours is faster."""
        return np.array(self.ours) / np.array(self.reference)

    @property
    def ratio(self) -> float:
        return float(np.median(self.ratios))

    def interval(self, level: float = 0.95, resamples: int = 2000) -> tuple[float, float]:
        """Bootstrap interval of the median ratio: where it would lie had other rounds been drawn."""
        draws = np.random.default_rng(0).choice(self.ratios, (resamples, len(self.ratios)))
        tail = (1 - level) / 2
        low, high = np.quantile(np.median(draws, axis=1), [tail, 1 - tail])
        return float(low), float(high)

    def quartiles(self) -> tuple[float, float]:
        """The middle half of the rounds' ratios: how unquiet the machine was."""
        low, high = np.quantile(self.ratios, [0.25, 0.75])
        return float(low), float(high)

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "ours_seconds": float(np.median(self.ours)),
            "reference_seconds": float(np.median(self.reference)),
            "ratio": self.ratio,
            "interval_95": self.interval(),
            "quartiles": self.quartiles(),
            "rounds": len(self.ours),
            "calls_per_round": self.calls,
        }


def compare(
    name: str,
    ours: Work,
    reference: Work,
    *,
    rounds: int = 20,
    warmup: int = 2,
    seconds_per_timing: float = 0.05,
    device: torch.device | None = None,
) -> Comparison:
    """Time two pieces of work in turn.

    Args:
        ours, reference: do the same work; called without arguments.
        rounds: timings of each.
        warmup: calls of each beforehand, not counted.
        seconds_per_timing: short work is repeated within a timing until it takes about so long.
        device: on a GPU the clock stops only when the queued work is done.

    Raises:
        ValueError: `rounds` or `warmup` is not positive.
    """
    if rounds < 1 or warmup < 1:
        raise ValueError(f"rounds and warmup must be at least 1, got {rounds} and {warmup}")
    wait = _waiter(device)
    calls = []
    for work in (ours, reference):
        once = min(_timed(work, 1, wait) for _ in range(warmup))
        calls.append(max(1, math.ceil(seconds_per_timing / max(once, 1e-7))))
    times: tuple[list[float], list[float]] = ([], [])
    collecting = gc.isenabled()
    gc.disable()  # a collection in the middle of one timing would count against the wrong one
    gc.freeze()  # what is alive now stays; collecting between rounds is then quick
    try:
        for index in range(rounds):
            for which in (0, 1) if index % 2 == 0 else (1, 0):
                work = (ours, reference)[which]
                times[which].append(_timed(work, calls[which], wait))
            gc.collect()
    finally:
        gc.unfreeze()
        if collecting:
            gc.enable()
    return Comparison(name, times[0], times[1], (calls[0], calls[1]))


def _timed(work: Work, calls: int, wait: Callable[[], None]) -> float:
    """Seconds per call."""
    wait()
    began = time.perf_counter()
    for _ in range(calls):
        work()
    wait()
    return (time.perf_counter() - began) / calls


def _waiter(device: torch.device | None) -> Callable[[], None]:
    if device is not None and device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    if device is not None and device.type == "mps":
        return torch.mps.synchronize
    return lambda: None


@dataclass
class Report:
    """What a benchmark prints: where it ran, then a table."""

    title: str
    device: torch.device
    comparisons: list[Comparison] = field(default_factory=list)

    def environment(self) -> dict[str, object]:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else platform.machine()
        return {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "device": f"{self.device.type} ({name})",
            "threads": torch.get_num_threads(),
        }

    def table(self) -> str:
        where = self.environment()
        rounds = len(self.comparisons[0].ours) if self.comparisons else 0
        lines = [
            self.title,
            f"{where['device']}, {where['threads']} thread{'s' * (where['threads'] != 1)}, torch {where['torch']}, "
            f"Python {where['python']}, medians of {rounds} rounds",
            "",
        ]
        rows = [("", "ours", "reference", "ours / reference", "95 % interval", "middle half")]
        for item in self.comparisons:
            rows.append(
                (
                    item.name,
                    _duration(float(np.median(item.ours))),
                    _duration(float(np.median(item.reference))),
                    f"{item.ratio:.2f}",
                    "{:.2f} to {:.2f}".format(*item.interval()),
                    "{:.2f} to {:.2f}".format(*item.quartiles()),
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("   ".join([row[0].ljust(len(first)), *others]))
        return "\n".join(lines)

    def as_json(self) -> dict[str, object]:
        return {
            "benchmark": self.title,
            "environment": self.environment(),
            "comparisons": [item.as_json() for item in self.comparisons],
        }

    def deliver(self, to: str | None) -> None:
        """Print the table; with `to`, write JSON to that file, or with "-" print JSON instead."""
        if to == "-":
            json.dump(self.as_json(), sys.stdout, indent=2)
            print()
            return
        print(self.table())
        if to is not None:
            with open(to, "w", encoding="utf-8") as file:
                json.dump(self.as_json(), file, indent=2)


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    options = argparse.ArgumentParser(
        description=description.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=20, help="timings of each, in turn")
    options.add_argument("--batch-size", type=int, default=128, help="examples in a batch")
    options.add_argument("--device", default=None, help="cpu, cuda or mps; the best one present if not given")
    options.add_argument("--json", metavar="FILE", default=None, help="also write JSON to FILE; '-' prints it instead")
    return options


def parse(options: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the options; wrong ones end with a sentence and exit status 2."""
    arguments = options.parse_args(argv)
    for name in ("rounds", "batch_size"):
        if getattr(arguments, name) < 1:
            options.error(f"--{name.replace('_', '-')} must be at least 1, got {getattr(arguments, name)}")
    return arguments


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
