"""The card of a set of weights: what they are, how they were made, and what was measured on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

CURVE_POINTS = 200


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One measured number.

    Attributes:
        value: the number, in `unit`.
        unit: "nats per image", "%", "" for a bare ratio...
        split: the data it was measured on: "validation", "test", or what was done instead.
        count: number of examples behind it.
        standard_error: of `value` over the examples, where that makes sense.
        tolerance: how far a repeated measurement of the same weights may lie from `value`.
    """

    value: float
    unit: str
    split: str
    count: int
    standard_error: float | None = None
    tolerance: float = 0.0

    def __str__(self) -> str:
        error = "" if self.standard_error is None else f" ± {self.standard_error:.2g}"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.value:.6g}{error}{unit} ({self.split}, {self.count:,} examples)"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What stands in the header of a weights file.

    Attributes:
        kind: a key of `gentext.zoo.KINDS`; `config` builds the model, `dtype` is how its tensors are stored.
        fit: the `FitConfig` it was trained with; `steps` and `wall_seconds` what it took.
        metrics: measured on the weights as they are stored, after rounding to `dtype`.
        curve: the training history, at most 200 points a curve.
    """

    name: str
    summary: str
    kind: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    fit: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    seed: int | None = None
    steps: int = 0
    wall_seconds: float = 0.0
    device: str = ""
    threads: int = 0
    torch: str = ""
    gentext: str = ""
    metrics: dict[str, Measurement] = field(default_factory=dict)
    curve: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, entries: dict[str, Any]) -> Card:
        """Raises ValueError if entries are missing, unknown or of the wrong kind."""
        known = {entry.name for entry in fields(cls)}
        unknown = sorted(set(entries) - known)
        if unknown:
            raise ValueError(f"a card has no entry {', '.join(unknown)}: it was probably written by a newer gentext")
        try:
            metrics = {name: Measurement(**values) for name, values in entries.get("metrics", {}).items()}
            return cls(**{**entries, "metrics": metrics})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"the card cannot be read: {error}") from error


def thin_curve(history: dict[str, dict[str, list[float]]], points: int = CURVE_POINTS) -> dict[str, Any]:
    """At most `points` of each curve of a fit's history, evenly spaced, first and last kept, six digits each."""
    return {
        part: {
            name: [_shorten(values[i]) for i in thin_indices(len(values), points)] for name, values in curves.items()
        }
        for part, curves in history.items()
    }


def thin_indices(length: int, points: int) -> Iterable[int]:
    if length <= points:
        return range(length)
    return (round(i * (length - 1) / (points - 1)) for i in range(points))


def _shorten(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.6g}")
