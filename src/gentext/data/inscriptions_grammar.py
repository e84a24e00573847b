"""A grammar that knows how likely each of its texts is.

A text grows from templates. In a template

    <name:table>         draws a value from a table, writes it and remembers it as `name`
    <name:table|a,b>     the same, with a table that depends on what `a` and `b` are
    <name>               writes again what was drawn: agreement over any distance
    <function(a,b)>      writes something computed from earlier values
    <name=function(a,b)> remembers it without writing
    [rule]  [rule|a,b]   goes on with one of the rule's templates, chosen by weight

Every choice shows in the text at once: the ways in which it can go on are a prefix code, none the beginning of another.
So whoever reads a text from left to right can undo each choice, a text has exactly one derivation, and

    log p(text) = Σ log p(choice),        H[text] = Σ E H[choice | what it depends on].

Tables are checked for that when they are first used. The expectation needs no samples: `_expectation` computes it.
"""

from __future__ import annotations

import itertools
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import torch

Value: TypeAlias = str | int
Values: TypeAlias = dict[str, Value]
Weight: TypeAlias = float | Callable[..., float]
Rules: TypeAlias = Mapping[str, Sequence[tuple[Weight, str]]]


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


@dataclass(frozen=True, eq=False)
class Remember:
    """Something that earlier choices determine, not written."""

    name: str
    function: Callable[..., Value]
    given: tuple[str, ...]


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
            for short, long in _prefixes(found.by_text):
                if any(_clash(short + opening, long) for opening in self.after):
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
                    if _clash(a, b):
                        raise ValueError(f"Two ways of [{self.rule}] could begin alike, with {a!r} and with {b!r}.")
            self.cache[key] = found
        return found


class Step(NamedTuple):
    """One choice in a text: `text[start:end]` is where it shows, `nats` is −log of its probability."""

    name: str  # of the variable, or of the rule in brackets
    value: Value  # or the number of the way that was chosen
    start: int
    end: int
    nats: float


_TOKEN = re.compile(r"<(\w+):(\w+)(?:\|([\w,]+))?>|<(?:(\w+)=)?(\w+)\(([\w,]*)\)>|<(\w+)>|\[(\w+)(?:\|([\w,]+))?\]")


class Grammar:
    """Texts from `rules[start]`.

    Args:
        rules: for each rule its ways to go on, (weight, template). A weight may be a function of what the rule's
            choice depends on.
        tables: the tables, or functions that give one for the values of what it depends on.
        functions: for what templates compute.

    Raises:
        ValueError: a template names something that does not exist, or a rule contains itself.
    """

    def __init__(
        self,
        rules: Rules,
        tables: Mapping[str, Table | Callable[..., Table]],
        functions: Mapping[str, Callable[..., Value]] | None = None,
        start: str = "text",
    ) -> None:
        self._rules, self._tables, self._functions = rules, tables, functions or {}
        self.program = self._expand(start, (), ())
        _find_openings(self.program, ("",))
        self._most_draws = _most_draws(self.program)

    # ---- reading the templates ---------------------------------------------------------------------------------------

    def _expand(self, rule: str, given: tuple[str, ...], above: tuple[str, ...]) -> Pieces:
        if rule not in self._rules:
            raise ValueError(f"There is no rule {rule!r}; the rules are {', '.join(self._rules)}.")
        if rule in above:
            raise ValueError(f"The rule {rule!r} contains itself: a text could go on for ever.")
        ways = tuple(self._pieces(template, (*above, rule)) for _, template in self._rules[rule])
        weights = tuple(weight for weight, _ in self._rules[rule])
        return ways[0] if len(ways) == 1 else (Branch(rule, ways, weights, given),)

    def _pieces(self, template: str, above: tuple[str, ...]) -> Pieces:
        pieces: list[Piece] = []
        end = 0
        for match in _TOKEN.finditer(template):
            pieces += self._literal(template[end : match.start()], template)
            end = match.end()
            name, table, given, target, function, arguments, copied, rule, conditions = match.groups()
            if rule:
                pieces += self._expand(rule, _names(conditions), above)
            elif table:
                pieces.append(Draw(name, _find(self._tables, table, template), _names(given)))
            elif copied:
                pieces.append(Show(_same, (copied,)))
            elif target:
                pieces.append(Remember(target, _find(self._functions, function, template), _names(arguments)))
            else:
                pieces.append(Show(_find(self._functions, function, template), _names(arguments)))
        return (*pieces, *self._literal(template[end:], template))

    @staticmethod
    def _literal(text: str, template: str) -> list[Literal]:
        if set(text) & set("<>[]"):
            raise ValueError(f"{text!r} in the template {template!r} is no proper piece: see the top of this module.")
        return [Literal(text)] if text else []

    # ---- writing -----------------------------------------------------------------------------------------------------

    def sample(self, generator: torch.Generator) -> str:
        """One text."""
        uniforms = iter(torch.rand(self._most_draws, generator=generator, dtype=torch.float64).tolist())
        written: list[str] = []
        self._write(self.program, {}, written, uniforms)
        return "".join(written)

    def _write(self, pieces: Pieces, values: Values, written: list[str], uniforms: Iterator[float]) -> None:
        for piece in pieces:
            if isinstance(piece, Literal):
                written.append(piece.text)
            elif isinstance(piece, Draw):
                value = values[piece.name] = piece.table(values).draw(next(uniforms))
                written.append(str(value))
            elif isinstance(piece, Branch):
                self._write(piece.ways[int(piece.table(values).draw(next(uniforms)))], values, written, uniforms)
            elif isinstance(piece, Show):
                written.append(str(_compute(piece, values)))
            else:
                values[piece.name] = _compute(piece, values)

    def enumerate(self) -> Iterator[tuple[str, float]]:
        """Every text with its probability. Only for small grammars."""

        def go_on(pieces: Pieces, values: Values, text: str, probability: float) -> Iterator[tuple[str, float]]:
            if not pieces:
                yield text, probability
                return
            piece, rest = pieces[0], pieces[1:]
            if isinstance(piece, Literal):
                yield from go_on(rest, values, text + piece.text, probability)
            elif isinstance(piece, Show):
                yield from go_on(rest, values, text + str(_compute(piece, values)), probability)
            elif isinstance(piece, Remember):
                yield from go_on(rest, values | {piece.name: _compute(piece, values)}, text, probability)
            else:
                for value, p in piece.table(values).probabilities.items():
                    if isinstance(piece, Branch):
                        yield from go_on(piece.ways[int(value)] + rest, values, text, probability * p)
                    else:
                        yield from go_on(rest, values | {piece.name: value}, text + str(value), probability * p)

        yield from go_on(self.program, {}, "", 1.0)

    # ---- reading -----------------------------------------------------------------------------------------------------

    def derive(self, text: str) -> list[Step] | None:
        """The choices that made `text`, in order; None if the grammar cannot write it."""
        steps: list[Step] = []
        end = self._read(self.program, {}, text, 0, steps)
        return steps if end == len(text) else None

    def _read(self, pieces: Pieces, values: Values, text: str, start: int, steps: list[Step]) -> int | None:
        """Where the `pieces` that stand in `text` at `start` end, or None if they do not stand there."""
        for piece in pieces:
            if isinstance(piece, Literal | Show):
                written = piece.text if isinstance(piece, Literal) else str(_compute(piece, values))
                if not text.startswith(written, start):
                    return None
                start += len(written)
            elif isinstance(piece, Draw):
                table = piece.table(values)
                found = table.read(text, start)
                if found is None:
                    return None
                value = values[piece.name] = table.by_text[found]
                nats = -math.log(table.probabilities[value])
                steps.append(Step(piece.name, value, start, start + len(found), nats))
                start += len(found)
            elif isinstance(piece, Remember):
                values[piece.name] = _compute(piece, values)
            else:
                chances = piece.table(values).probabilities
                way = next((w for w in chances if text.startswith(piece.openings[int(w)], start)), None)
                if way is None:
                    return None
                steps.append(Step(f"[{piece.rule}]", way, start, start, -math.log(chances[way])))
                end = self._read(piece.ways[int(way)], values, text, start, steps)
                if end is None:
                    return None
                start = end
        return start

    # ---- expectations ------------------------------------------------------------------------------------------------

    def entropy(self) -> float:
        """E[−log p(text)] in nats: the mean of every choice's entropy given what it depends on (chain rule)."""
        return self._mean(Score(lambda text: 0.0, lambda table: table.entropy, lambda table: table.entropy))

    def mean_length(self) -> float:
        """E[len(text)] in characters."""
        return self._mean(Score(len, lambda table: table.mean_length, lambda table: 0.0))

    def _mean(self, score: Score) -> float:
        return math.fsum(factor.value({}) for factor in _expectation(self.program, [], score))


class Score(NamedTuple):
    """What a piece adds to a sum over the text: written words, a value drawn from a table, a way chosen from one."""

    text: Callable[[str], float]
    draw: Callable[[Table], float]
    way: Callable[[Table], float]


class Factor(NamedTuple):
    """A number that depends on the values of the variables in `scope` and on nothing else."""

    scope: frozenset[str]
    value: Callable[[Values], float]


def _expectation(pieces: Pieces, after: list[Factor], score: Score) -> list[Factor]:
    """The expected sum of scores over `pieces` and all that follows them, as a sum of factors; `after` is what follows.

    It goes from the last piece to the first. A factor that depends on a choice is replaced by its mean over the choice,
    and so depends on what the choice depends on. Factors stay apart, each with its few variables: a sum's
    expectation is the sum of theirs, and a text has far too many variables to tabulate together.
    """
    factors = after
    for piece in reversed(pieces):
        if isinstance(piece, Literal):
            words = piece.text
            factors = _merge([*factors, _factor((), lambda values, words=words: score.text(words))])
        elif isinstance(piece, Show):
            own = _factor(piece.given, lambda values, piece=piece: score.text(str(_compute(piece, values))))
            factors = _merge([*factors, own])
        elif isinstance(piece, Branch):
            factors = _branch_mean(piece, [_expectation(way, factors, score) for way in piece.ways], score)
        else:
            mean = _set if isinstance(piece, Remember) else _draw_mean
            changed = [mean(factor, piece) if piece.name in factor.scope else factor for factor in factors]
            if isinstance(piece, Draw):
                changed.append(_factor(piece.given, lambda values, piece=piece: score.draw(piece.table(values))))
            factors = _merge(changed)
    return factors


def _set(factor: Factor, piece: Remember) -> Factor:
    """`factor` before the piece, which gives one of its variables a value."""
    scope = (factor.scope - {piece.name}).union(piece.given)
    return _factor(scope, lambda values: factor.value(values | {piece.name: _compute(piece, values)}))


def _draw_mean(factor: Factor, piece: Draw) -> Factor:
    """The mean of `factor` over the draw."""

    def mean(values: Values) -> float:
        chances = piece.table(values).probabilities
        return math.fsum(p * factor.value(values | {piece.name: value}) for value, p in chances.items())

    return _factor((factor.scope - {piece.name}).union(piece.given), mean)


def _branch_mean(piece: Branch, ways: list[list[Factor]], score: Score) -> list[Factor]:
    """The mean over the ways, each a sum of factors. A factor that is in all of them stays as it is."""
    shared = set(map(id, ways[0])).intersection(*(map(id, way) for way in ways[1:]))
    factors = [factor for factor in ways[0] if id(factor) in shared]
    factors.append(_factor(piece.given, lambda values: score.way(piece.table(values))))
    changed = [(way, factor) for way, of_way in enumerate(ways) for factor in of_way if id(factor) not in shared]
    for scope in {factor.scope for _, factor in changed}:
        same = [(way, factor.value) for way, factor in changed if factor.scope == scope]

        def mean(values: Values, same: list[tuple[int, Callable[[Values], float]]] = same) -> float:
            chances = piece.table(values).probabilities
            return math.fsum(chances[way] * value(values) for way, value in same if way in chances)

        factors.append(_factor(scope.union(piece.given), mean))
    return _merge(factors)


def _merge(factors: list[Factor]) -> list[Factor]:
    """The same sum with one factor for each scope."""
    by_scope: dict[frozenset[str], list[Factor]] = {}
    for factor in factors:
        by_scope.setdefault(factor.scope, []).append(factor)
    return [
        same[0]
        if len(same) == 1
        else _factor(scope, lambda values, same=same: math.fsum(f.value(values) for f in same))
        for scope, same in by_scope.items()
    ]


def _factor(scope: Iterable[str], value: Callable[[Values], float]) -> Factor:
    """A factor that computes each of its values once."""
    names = tuple(sorted(scope))
    cache: dict[tuple[Value, ...], float] = {}

    def cached(values: Values) -> float:
        key = tuple([values[name] for name in names])
        if key not in cache:
            cache[key] = value({name: values[name] for name in names})
        return cache[key]

    return Factor(frozenset(names), cached)


# ---- the prefix code -------------------------------------------------------------------------------------------------


def _find_openings(pieces: Pieces, after: tuple[str, ...]) -> tuple[str, ...]:
    """The strings with which `pieces` can begin, "" where that is not known; `after`: those of what follows them."""
    for piece in reversed(pieces):
        if isinstance(piece, Literal):
            after = (piece.text,)
        elif isinstance(piece, Show):
            after = ("",)
        elif isinstance(piece, Draw):
            piece.after = after
            after = tuple(piece.make.by_text) if isinstance(piece.make, Table) else ("",)
        elif isinstance(piece, Branch):
            piece.openings = [_find_openings(way, after) for way in piece.ways]
            after = tuple(opening for way in piece.openings for opening in way)
    return after


def _prefixes(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The pairs of texts of which the first is the beginning of the second: after sorting they stand close together."""
    ordered = sorted(texts)
    for k, short in enumerate(ordered):
        for long in ordered[k + 1 :]:
            if not long.startswith(short):
                break
            yield short, long


def _clash(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


# ---- small helpers ---------------------------------------------------------------------------------------------------


def _compute(piece: Show | Remember, values: Values) -> Value:
    return piece.function(*[values[name] for name in piece.given])


def _same(value: Value) -> Value:
    return value


def _names(listed: str | None) -> tuple[str, ...]:
    return tuple(listed.split(",")) if listed else ()


def _find(shelf: Mapping[str, Any], name: str, template: str) -> Any:
    if name not in shelf:
        raise ValueError(f"The template {template!r} asks for {name!r}; there are {', '.join(shelf)}.")
    return shelf[name]


def _most_draws(pieces: Pieces) -> int:
    """The number of choices in the text that has most."""
    return sum(
        1 + max(map(_most_draws, piece.ways)) if isinstance(piece, Branch) else int(isinstance(piece, Draw))
        for piece in pieces
    )
