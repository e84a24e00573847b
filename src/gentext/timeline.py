"""The history that this book stands on, as a table one can compute with (chapter 3).

Three parts, read from the top:

    the table    `Event` and `load`: 1943 to today, every entry with its source, checked when it is read
    the graph    which idea is in which: `children`, `ancestors`, `descendants`, `longest_chain`
    the growth   `fit_growth`: a straight line through the logarithm of training compute, with intervals that say how
                 far to trust it; `bootstrap_rates` and `leave_one_out` to check those

An edge from one event to another says that the earlier idea is part of the later one. It is a judgement of this book's.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

TABLE = Path(__file__).with_name("timeline_events.toml")
FIRST_YEAR, LAST_YEAR = 1943, 2026
LAST_CHAPTER = 21

FAMILIES: dict[str, str] = {
    "foundations": "Foundations and training",
    "latent": "Likelihood and latent variables",
    "adversarial": "Adversarial",
    "diffusion": "Diffusion and scores",
    "language": "Attention and language",
    "vision-language": "Vision and language",
}


# The table


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """A published number and where it stands.

    value: parameters, or floating-point operations of the training run.
    cite: key of the source in the bibliography; where: the place in it.
    by: "authors" when those who trained the model say so, "estimate" when somebody else has reckoned it.
    """

    value: float
    cite: str
    where: str
    by: Literal["authors", "estimate"] = "authors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One idea or model. `timeline_events.toml` says what each field means."""

    id: str
    name: str
    year: int
    month: int | None
    authors: tuple[str, ...]
    family: str
    idea: str
    parents: tuple[str, ...]
    cite: str
    chapter: int | None = None
    parameters: Quantity | None = None
    compute: Quantity | None = None

    @property
    def time(self) -> float:
        """The date as a number of years: the middle of the month, or of the year where the month is not known."""
        return self.year + (0.5 if self.month is None else (self.month - 0.5) / 12)

    @property
    def date(self) -> str:
        """ "2017-06", or "1960" where the month is not known."""
        return str(self.year) if self.month is None else f"{self.year}-{self.month:02d}"


def event(**entry: Any) -> Event:
    """An event from the fields of one block of the table: `event(id="my-idea", date="2026-11", ...)`.

    Raises ValueError for a field that is missing, unknown, or not of its kind.
    """
    name = entry.get("id", "an event without id")
    wanted = {"id", "name", "date", "authors", "family", "idea", "parents", "cite"}
    known = wanted | {"chapter", "parameters", "compute"}
    if missing := sorted(wanted - entry.keys()):
        raise ValueError(f"{name}: {missing[0]} is missing; every event needs {', '.join(sorted(wanted))}.")
    if unknown := sorted(entry.keys() - known):
        raise ValueError(f"{name}: there is no field {unknown[0]}; the fields are {', '.join(sorted(known))}.")
    entry = dict(entry)
    for field in ("id", "name", "family", "idea", "cite"):
        if not isinstance(entry[field], str) or not entry[field].strip():
            raise ValueError(f"{name}: {field} must be a text that says something, not {entry[field]!r}.")
    for field in ("authors", "parents"):
        if isinstance(entry[field], str) or not all(isinstance(item, str) and item for item in entry[field]):
            raise ValueError(f"{name}: {field} must be a list of texts, not {entry[field]!r}.")
        entry[field] = tuple(entry[field])
    entry["year"], entry["month"] = _date(name, entry.pop("date"))
    for field in ("parameters", "compute"):
        if entry.get(field) is not None:
            entry[field] = _quantity(f"{name}: {field}", entry[field])
    return Event(**entry)


def _date(name: str, date: Any) -> tuple[int, int | None]:
    year, _, month = date.partition("-") if isinstance(date, str) else ("", "", "")
    if not (year.isdecimal() and FIRST_YEAR <= int(year) <= LAST_YEAR) or not (month == "" or month.isdecimal()):
        raise ValueError(f'{name}: date must be "YYYY" or "YYYY-MM" from {FIRST_YEAR} to {LAST_YEAR}, not {date!r}.')
    if month and not 1 <= int(month) <= 12:
        raise ValueError(f"{name}: a month lies between 01 and 12, not {month}.")
    return int(year), int(month) if month else None


def _quantity(name: str, entry: Any) -> Quantity:
    if isinstance(entry, Quantity):
        return entry
    must, may = {"value", "cite", "where"}, {"value", "cite", "where", "by"}
    if not isinstance(entry, dict) or not must <= entry.keys() <= may:
        raise ValueError(f'{name} must be {{value, cite, where}}, and may say by = "authors" or "estimate".')
    value = entry["value"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, not {value!r}.")
    if entry.get("by", "authors") not in ("authors", "estimate"):
        raise ValueError(f'{name} is by "authors" or an "estimate", not {entry["by"]!r}.')
    if not entry["cite"] or not entry["where"]:
        raise ValueError(f"{name} needs its source: cite and where.")
    return Quantity(**{**entry, "value": float(value)})


def validate(events: Iterable[Event]) -> tuple[Event, ...]:
    """The events, oldest first, once they are known to fit together.

    Raises ValueError where an id comes twice, a family or chapter is unknown, no author or source is given, or a
    parent is missing or not earlier. Since every parent is earlier, nothing is its own ancestor.
    """
    table: dict[str, Event] = {}
    for item in events:
        if item.id in table:
            raise ValueError(f"Two events have the id {item.id}; give one of them another.")
        table[item.id] = item
        if item.family not in FAMILIES:
            raise ValueError(f"{item.id}: there is no family {item.family!r}; choose one of {', '.join(FAMILIES)}.")
        if not item.authors or not item.cite:
            raise ValueError(f"{item.id}: an event needs its authors and its source.")
        if item.chapter is not None and not 1 <= item.chapter <= LAST_CHAPTER:
            raise ValueError(f"{item.id}: chapters run from 1 to {LAST_CHAPTER}, not {item.chapter}.")
        if len(set(item.parents)) < len(item.parents):
            raise ValueError(f"{item.id}: a parent is named twice.")
    for item in table.values():
        for parent in item.parents:
            if parent not in table:
                raise ValueError(f"{item.id}: its parent {parent} is not in the table.")
            if not table[parent].time < item.time:
                raise ValueError(
                    f"{item.id} ({item.date}) is no later than its parent {parent} ({table[parent].date})."
                )
    return tuple(sorted(table.values(), key=lambda item: item.time))


def load(path: Path | None = None) -> tuple[Event, ...]:
    """The events of a table, oldest first; of the book's own when no path is given.

    Raises ValueError for a table that breaks a rule (see `event` and `validate`).
    """
    if path is None:
        return _book_table()
    with Path(path).open("rb") as file:
        content = tomllib.load(file)
    if content.keys() != {"event"}:
        raise ValueError(f"A table of events is a list of [[event]] blocks; {Path(path).name} has {sorted(content)}.")
    return validate(event(**entry) for entry in content["event"])


@cache
def _book_table() -> tuple[Event, ...]:
    return load(TABLE)


def select(
    events: Iterable[Event],
    *,
    start: float = FIRST_YEAR,
    end: float = LAST_YEAR + 1,
    families: Iterable[str] | None = None,
) -> tuple[Event, ...]:
    """The events from `start` to `end` (years; both ends belong to it) that are of one of the families (None: any).

    Raises ValueError for an unknown family or a window that ends before it starts.
    """
    wanted = set(FAMILIES if families is None else families)
    if unknown := sorted(wanted - FAMILIES.keys()):
        raise ValueError(f"There is no family {unknown[0]!r}; choose from {', '.join(FAMILIES)}.")
    if not start <= end:
        raise ValueError(f"The window must not end before it starts, got {start} to {end}.")
    return tuple(item for item in events if start <= item.time <= end and item.family in wanted)


# The graph


def find(events: Iterable[Event], id: str) -> Event:
    """The event with this id. Raises ValueError when there is none."""
    for item in events:
        if item.id == id:
            return item
    raise ValueError(f"There is no event {id!r} in the table.")


def children(events: Iterable[Event], id: str) -> tuple[str, ...]:
    """The ids of the events that name this one as a parent, in the table's order."""
    return tuple(item.id for item in events if id in item.parents)


def ancestors(events: Sequence[Event], id: str) -> frozenset[str]:
    """Everything that the event was built on, directly or through others: ids. Raises ValueError for an unknown id."""
    parents = {item.id: item.parents for item in events}
    return _reach(parents.__getitem__, find(events, id).id)


def descendants(events: Sequence[Event], id: str) -> frozenset[str]:
    """Everything that was built on the event, directly or through others: ids. Raises ValueError for an unknown id."""
    below: dict[str, list[str]] = {item.id: [] for item in events}
    for item in events:
        for parent in item.parents:
            below[parent].append(item.id)
    return _reach(below.__getitem__, find(events, id).id)


def _reach(step: Callable[[str], Iterable[str]], start: str) -> frozenset[str]:
    seen: set[str] = set()
    waiting = list(step(start))
    while waiting:
        here = waiting.pop()
        if here not in seen:
            seen.add(here)
            waiting.extend(step(here))
    return frozenset(seen)


def longest_chain(events: Sequence[Event], start: str, end: str | None = None) -> tuple[str, ...]:
    """The longest line of descent from `start` (to `end`, or to whichever event is farthest), both included.

    Of several equally long ones, that whose last steps come first in the table. Empty when no line leads there.
    """
    first = find(events, start)
    if end is not None:
        find(events, end)
    best: dict[str, tuple[str, ...]] = {first.id: (first.id,)}
    for item in events:  # the parents of an event stand before it in the table
        lines = [best[parent] for parent in item.parents if parent in best]
        if lines:
            best[item.id] = (*max(lines, key=len), item.id)
    return best.get(end, ()) if end is not None else max(best.values(), key=len)


# The growth of training compute


def compute_points(events: Iterable[Event], by: str | None = None) -> tuple[Tensor, Tensor]:
    """Times in years (n,) and training compute in FLOP (n,), float64, of the events whose compute is published.

    by: "authors" or "estimate" for only those; None for both.
    """
    points = [(e.time, e.compute.value) for e in events if e.compute and by in (None, e.compute.by)]
    times, flops = zip(*points, strict=True) if points else ((), ())
    return torch.tensor(times, dtype=torch.float64), torch.tensor(flops, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Growth:
    """A straight line through log2 of training compute: log2 C = intercept + rate · (t − centre) + error.

    rate: doublings a year; standard_error: its own; scatter: standard deviation of the errors, in doublings (n − 2 in
    the denominator); spread: Σ (t − centre)²; n points. `level` is the confidence of every interval.
    """

    rate: float
    standard_error: float
    intercept: float
    centre: float
    scatter: float
    spread: float
    n: int
    level: float

    @property
    def rate_interval(self) -> tuple[float, float]:
        """Doublings a year: rate ± t · standard error, exact where the errors are Gaussian and independent."""
        half = student_quantile(self.level, self.n - 2) * self.standard_error
        return self.rate - half, self.rate + half

    @property
    def doubling_months(self) -> float:
        """Months to double; negative when compute shrinks."""
        return 12 / self.rate

    @property
    def doubling_interval(self) -> tuple[float, float]:
        """Months to double at the two ends of `rate_interval`: 12 / rate turns their order round.

        Infinite at the far end when a rate of zero lies in the interval: the data then do not show growth.
        """
        low, high = self.rate_interval
        return (12 / high if high > 0 else math.inf), (12 / low if low > 0 else math.inf)

    def predict(self, time: float) -> tuple[float, float, float]:
        """FLOP at a time: (the line's, low, high), the range in which one more model falls with probability `level`."""
        middle = self.intercept + self.rate * (time - self.centre)
        error = self.scatter * math.sqrt(1 + 1 / self.n + (time - self.centre) ** 2 / self.spread)
        half = student_quantile(self.level, self.n - 2) * error
        return 2.0**middle, 2.0 ** (middle - half), 2.0 ** (middle + half)


def fit_growth(times: Tensor, flops: Tensor, level: float = 0.95) -> Growth:
    """Least squares of log2 FLOP on time.

    Args:
        times: years (n,); flops: positive (n,).
        level: confidence of the intervals, between 0 and 1.

    Raises ValueError for shapes that do not fit, fewer than three points, one date only, or FLOP that are not positive.
    """
    if times.dim() != 1 or times.shape != flops.shape or len(times) < 3:
        shapes = f"{tuple(times.shape)} and {tuple(flops.shape)}"
        raise ValueError(f"A fit needs at least 3 times and as many FLOP counts, got shapes {shapes}.")
    if not (flops > 0).all() or not flops.isfinite().all() or not times.isfinite().all():
        raise ValueError("Training compute must be positive and finite, and so must dates.")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}.")
    times, doublings = times.double(), flops.double().log2()
    centred = times - times.mean()  # (n,)
    spread = centred.square().sum().item()
    if spread == 0:
        raise ValueError("All models are of one date; a rate needs at least two dates.")
    rate = (centred @ doublings).item() / spread
    residuals = doublings - doublings.mean() - rate * centred
    scatter = math.sqrt(residuals.square().sum().item() / (len(times) - 2))
    return Growth(
        rate=rate, standard_error=scatter / math.sqrt(spread), intercept=doublings.mean().item(),
        centre=times.mean().item(), scatter=scatter, spread=spread, n=len(times), level=level,
    )  # fmt: skip


@cache
def student_quantile(level: float, dof: int) -> float:
    """The t that encloses a share `level` of Student's distribution: P(−t < T < t) = level, for whole `dof` ≥ 1.

    With t = √dof · tan θ the share is ∫₀^θ cos^(dof−1) / ∫₀^(π/2) cos^(dof−1), a finite sum (Abramowitz and Stegun
    1964, 26.7.3 and 26.7.4), inverted by bisection.
    """
    if dof < 1 or not 0 < level < 1:
        raise ValueError(f"Student's t needs dof of at least 1 and a level in (0, 1), got {dof} and {level}.")

    def share(theta: float) -> float:
        # ∫₀^θ cos^k is sin θ cos^(k−1) θ / k + (k − 1) / k ∫₀^θ cos^(k−2); the same at π/2 has no first term.
        odd = dof % 2
        part, whole = (theta, math.pi / 2) if odd else (math.sin(theta), 1.0)  # k = 0, k = 1
        for k in range(2 if odd else 3, dof, 2):
            part = math.sin(theta) * math.cos(theta) ** (k - 1) / k + (k - 1) / k * part
            whole *= (k - 1) / k
        return part / whole

    low, high = 0.0, math.pi / 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) < level else (low, middle)
    return math.sqrt(dof) * math.tan((low + high) / 2)


def bootstrap_rates(times: Tensor, flops: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Doublings a year, refitted to `draws` resamples of the points with replacement, (draws,).

    Nothing is assumed of the errors except that the points are exchangeable. A resample of one date only is left out.
    """
    fit_growth(times, flops)  # refuses what cannot be fitted
    index = torch.randint(len(times), (draws, len(times)), generator=generator, device=generator.device).cpu()
    t, y = times.double().cpu()[index], flops.double().cpu().log2()[index]  # (draws, n)
    t = t - t.mean(1, keepdim=True)
    spread = t.square().sum(1)
    return ((t * y).sum(1) / spread)[spread > 0]


def leave_one_out(times: Tensor, flops: Tensor) -> Tensor:
    """Doublings a year, refitted without each of the points in turn, (n,)."""
    keep = ~torch.eye(len(times), dtype=torch.bool)
    return torch.tensor([fit_growth(times.cpu()[row], flops.cpu()[row]).rate for row in keep], dtype=torch.float64)
