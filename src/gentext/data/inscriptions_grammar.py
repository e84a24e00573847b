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

Tables are checked for that when they are first used. The expectation needs no samples: see `inscriptions_entropy`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch

from gentext.data.inscriptions_entropy import Score, expectation
from gentext.data.inscriptions_pieces import (
    Branch,
    Draw,
    Literal,
    Piece,
    Pieces,
    Remember,
    Show,
    Table,
    Value,
    Values,
    Weight,
)

Rules: TypeAlias = Mapping[str, Sequence[tuple[Weight, str]]]


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
        ValueError: a template names something that does not exist or has no value yet, or a rule contains itself.
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
        _check_names(self.program, frozenset())
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
                pieces.append(Show(_itself, (copied,)))
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
                written.append(str(piece.compute(values)))
            else:
                values[piece.name] = piece.compute(values)

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
                yield from go_on(rest, values, text + str(piece.compute(values)), probability)
            elif isinstance(piece, Remember):
                yield from go_on(rest, values | {piece.name: piece.compute(values)}, text, probability)
            else:
                for value, p in piece.table(values).probabilities.items():
                    if isinstance(piece, Branch):
                        yield from go_on(piece.ways[int(value)] + rest, values, text, probability * p)
                    else:
                        yield from go_on(rest, values | {piece.name: value}, text + str(value), probability * p)

        yield from go_on(self.program, {}, "", 1.0)

    # ---- reading -----------------------------------------------------------------------------------------------------

    def derive(self, text: str) -> tuple[list[Step], Values] | None:
        """The choices that made `text`, and all variables at its end; None if the grammar cannot write it."""
        steps: list[Step] = []
        values: Values = {}
        end = self._read(self.program, values, text, 0, steps)
        return (steps, values) if end == len(text) else None

    def _read(self, pieces: Pieces, values: Values, text: str, start: int, steps: list[Step]) -> int | None:
        """Where the `pieces` that stand in `text` at `start` end, or None if they do not stand there."""
        for piece in pieces:
            if isinstance(piece, Literal | Show):
                written = piece.text if isinstance(piece, Literal) else str(piece.compute(values))
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
                values[piece.name] = piece.compute(values)
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
        return math.fsum(factor.value({}) for factor in expectation(self.program, [], score))


def _check_names(pieces: Pieces, known: frozenset[str]) -> frozenset[str]:
    """The variables that have a value after `pieces`, if `known` have one before. ValueError for one used too early."""
    for piece in pieces:
        if not isinstance(piece, Literal):
            for name in piece.given:
                if name not in known:
                    raise ValueError(f"The variable {name!r} is used where it need not have a value yet.")
        if isinstance(piece, Draw | Remember):
            known |= {piece.name}
        elif isinstance(piece, Branch):
            known = frozenset.intersection(*(_check_names(way, known) for way in piece.ways))
    return known


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


def _itself(value: Value) -> Value:
    return value
