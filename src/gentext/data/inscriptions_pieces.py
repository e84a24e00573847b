"""What a grammar's templates are made of: tables to draw from, and the pieces that write, remember and choose.

A piece that chooses has a table for each combination of values that it depends on, and checks it: no two choices may
look alike to a reader who goes from left to right.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Value: TypeAlias = str | int
Values: TypeAlias = dict[str, Value]  # what the variables of a text are, so far
Weight: TypeAlias = float | Callable[..., float]


class Table:
    """Values with their probabilities.

    Raises:
        ValueError: there is no value, or a weight is negative or not finite, or all are 0.
    """

    def __init__(self, weights: Mapping[Any, float]) -> None:
        if not all(0 <= weight < math.inf for weight in weights.values()) or not sum(weights.values()) > 0:
            raise ValueError(f"a table needs weights of at least 0 that are not all 0, got {dict(weights)}")
        total = math.fsum(weights.values())
        self.probabilities = {value: weight / total for value, weight in weights.items() if weight > 0}
        self.values = list(self.probabilities)
        self.by_text = {str(value): value for value in self.values}
        if len(self.by_text) < len(self.values):
            raise ValueError(f"two values of a table are written alike: {self.values}")
        self.lengths = sorted({len(text) for text in self.by_text}, reverse=True)
        self.cumulative = list(itertools.accumulate(self.probabilities.values()))[:-1]
        self.entropy = -math.fsum(p * math.log(p) for p in self.probabilities.values())  # nats
        self.mean_length = math.fsum(p * len(str(value)) for value, p in self.probabilities.items())

    def draw(self, uniform: float) -> Value:
        """The value at `uniform`, a number in [0, 1)."""
        return self.values[bisect_right(self.cumulative, uniform)]

    def read(self, text: str, start: int) -> str | None:
        """The longest of the values that stands in `text` at `start`, as written there."""
        for length in self.lengths:
            if (found := text[start : start + length]) in self.by_text:
                return found
        return None


def zipf(values: Sequence[Value], exponent: float = 1.0) -> Table:
    """Values in the order of their frequency: the k-th has weight k^(−exponent), as words in a language do."""
    return Table({value: (rank + 1) ** -exponent for rank, value in enumerate(values)})


# ---- the pieces of a template ----------------------------------------------------------------------------------------

Piece: TypeAlias = "Literal | Show | Remember | Draw | Branch"
Pieces: TypeAlias = "tuple[Piece, ...]"


@dataclass(frozen=True, eq=False)
class Literal:
    """Fixed words."""

    text: str


@dataclass(frozen=True, eq=False)
class Show:
    """Something that earlier choices determine, written."""

    function: Callable[..., Value]
    given: tuple[str, ...]

    def compute(self, values: Values) -> Value:
        return self.function(*[values[name] for name in self.given])


@dataclass(frozen=True, eq=False)
class Remember:
    """Something that earlier choices determine, not written."""

    name: str
    function: Callable[..., Value]
    given: tuple[str, ...]

    def compute(self, values: Values) -> Value:
        return self.function(*[values[name] for name in self.given])


@dataclass(eq=False)
class Draw:
    """A value from a table. `after` are the strings with which the text can go on."""

    name: str
    make: Table | Callable[..., Table]
    given: tuple[str, ...]
    after: tuple[str, ...] = ()
    cache: dict[tuple[Value, ...], Table] = field(default_factory=dict)

    def table(self, values: Values) -> Table:
        """The table for these values of what it depends on, checked when it is first made.

        Raises ValueError where one value could be taken for another: it begins with it, and what follows does not help.
        """
        key = tuple([values[name] for name in self.given])
        found = self.cache.get(key)
        if found is None:
            found = self.make if isinstance(self.make, Table) else self.make(*key)
            for short, long in prefixes(found.by_text):
                if any(clash(short + opening, long) for opening in self.after):
                    raise ValueError(f"{self.name} could be {short!r} or {long!r}: the text does not tell.")
            self.cache[key] = found
        return found


@dataclass(eq=False)
class Branch:
    """One of several ways to go on. `openings[k]` are the strings with which way k can begin."""

    rule: str
    ways: tuple[Pieces, ...]
    weights: tuple[Weight, ...]
    given: tuple[str, ...]
    openings: list[tuple[str, ...]] = field(default_factory=list)
    cache: dict[tuple[Value, ...], Table] = field(default_factory=dict)

    def table(self, values: Values) -> Table:
        """The numbers of the ways with their probabilities, checked when the table is first made.

        Raises ValueError where two of the ways could begin with the same text.
        """
        key = tuple([values[name] for name in self.given])
        found = self.cache.get(key)
        if found is None:
            weights = [weight(*key) if callable(weight) else weight for weight in self.weights]
            found = Table(dict(enumerate(weights)))
            for one, other in itertools.combinations(found.values, 2):
                for a, b in itertools.product(self.openings[int(one)], self.openings[int(other)]):
                    if clash(a, b):
                        raise ValueError(f"Two ways of [{self.rule}] could begin alike, with {a!r} and with {b!r}.")
            self.cache[key] = found
        return found


def prefixes(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The pairs of texts of which the first is the beginning of the second: after sorting they stand close together."""
    ordered = sorted(texts)
    for k, short in enumerate(ordered):
        for long in ordered[k + 1 :]:
            if not long.startswith(short):
                break
            yield short, long


def clash(one: str, other: str) -> bool:
    """Whether one of the strings is the beginning of the other."""
    return one.startswith(other) or other.startswith(one)
